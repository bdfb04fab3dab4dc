package approval

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gatebook/gatebook/evidence"
)

// Limits of a Desk.
const (
	// maxOpen bounds the open tickets of one principal, so that nobody drowns those who rule.
	maxOpen = 20
	// keep is how long a ticket that has ended can still be shown.
	keep = time.Hour
	// maxKept bounds the ended tickets that are kept.
	maxKept = 1000
)

// Refusals of rulings. A ruling that is refused leaves its ticket as it was.
var (
	ErrNoTicket  = errors.New("no such ticket")
	ErrFinal     = errors.New("the ticket is decided already")
	ErrAgent     = errors.New("an agent can never rule")
	ErrSelf      = errors.New("who is behind a request cannot rule on it")
	ErrNobody    = errors.New("the person behind the request is not known, so nobody can tell that you are another: name an owner in the configuration")
	ErrNotYours  = errors.New("none of your groups may rule on this ticket")
	ErrSignIn    = errors.New("this proof is not enough")
	ErrTwice     = errors.New("you have ruled on this ticket already")
	ErrTooMany   = errors.New("too many requests of this principal wait already")
	ErrNoQuorum  = errors.New("nobody may rule on this request")
	ErrStanding  = errors.New("its agent does not wait, so breaking the glass would run nothing: do it when the agent asks again")
	ErrGlass     = errors.New("none of your groups may break the glass for all that hold this request")
	ErrReason    = fmt.Errorf("who breaks the glass says why, in %d characters or more", minGlassReason)
	errVerdict   = errors.New("a ruling approves, denies or breaks the glass")
	errOtherText = errors.New("the ruling is about another ticket")
)

// A Listener hears of every change, in the order in which each ticket changes. Its methods must not block, and not call the desk.
type Listener interface {
	// Ticket is called once a ticket is open, and with each state that it reaches, when its entry is durable.
	Ticket(t *Ticket, s State)
	// Alert is called once an alert is durable, before what it is about goes on.
	Alert(a *evidence.Alert)
}

// Desk keeps the tickets of a running gateway. Safe for concurrent use.
type Desk struct {
	log      *slog.Logger
	listener Listener
	book     Recorder // takes entries about tickets that stand; nil lets none stand

	mu      sync.Mutex
	tickets map[evidence.ID]*Ticket
	ended   []*Ticket // oldest first
	watch   map[chan *Ticket]bool
}

// NewDesk returns an empty desk.
func NewDesk(log *slog.Logger) *Desk {
	return &Desk{log: log, tickets: make(map[evidence.ID]*Ticket), watch: make(map[chan *Ticket]bool)}
}

// Listen names who hears of changes. It is called once, before the first ticket.
func (d *Desk) Listen(l Listener) { d.listener = l }

// Open opens a ticket and waits until its entry is durable. An error refuses the request.
func (d *Desk) Open(ctx context.Context, a Asked) (*Ticket, error) {
	if len(a.Requirements) == 0 || slices.ContainsFunc(a.Requirements, func(r Requirement) bool { return len(r.Groups) == 0 }) {
		return nil, ErrNoQuorum
	}
	t := &Ticket{ID: evidence.NewID(), Opened: time.Now().UTC().Truncate(time.Microsecond), Asked: a, desk: d, done: make(chan struct{}), state: Open, rec: a.Recorder}
	t.Asked.Bound.Ticket, t.Asked.Bound.Nonce = t.ID.String(), evidence.NewID().String()
	t.Asked.Bound.Expires = a.Expires.UTC().Truncate(time.Microsecond)
	if err := t.bind(); err != nil {
		return nil, err
	}
	t.ruling.Lock() // nobody rules before the ticket is recorded
	defer t.ruling.Unlock()
	if err := d.enter(t); err != nil {
		return nil, err
	}
	if err := t.rec.Record(ctx, evidence.KindTicket, t.body()); err != nil {
		d.leave(t)
		t.mu.Lock()
		t.state, t.cause = Void, "not recorded"
		t.mu.Unlock()
		return nil, err
	}
	d.changed(t, Open)
	d.tell(t, Open)
	t.mu.Lock()
	t.timer = time.AfterFunc(time.Until(a.Expires), func() { t.expire(context.Background()) })
	t.mu.Unlock()
	return t, nil
}

// enter takes a ticket up, unless its principal has too many.
func (d *Desk) enter(t *Ticket) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, other := range d.tickets {
		if other.Asked.Bound.Principal == t.Asked.Bound.Principal && other.isOpen() {
			n++
		}
	}
	if n >= maxOpen {
		return ErrTooMany
	}
	d.tickets[t.ID] = t
	return nil
}

func (t *Ticket) isOpen() bool {
	s, _ := t.State()
	return s == Open
}

func (d *Desk) leave(t *Ticket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tickets, t.ID)
}

// tell tells the listener of a state that a ticket has reached.
func (d *Desk) tell(t *Ticket, s State) {
	if d.listener != nil {
		d.listener.Ticket(t, s)
	}
}

// changed tells those who watch, and forgets tickets that ended long ago.
func (d *Desk) changed(t *Ticket, state State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if state != Open && state != Approved {
		d.ended = append(d.ended, t)
	}
	for len(d.ended) > maxKept || len(d.ended) > 0 && time.Since(d.ended[0].Opened) > keep+24*time.Hour {
		delete(d.tickets, d.ended[0].ID)
		d.ended = d.ended[1:]
	}
	for c := range d.watch {
		select {
		case c <- t:
		default: // who does not read asks for the list again
		}
	}
}

// Watch sends tickets that open or change until stop is called. One who does not keep up misses some.
func (d *Desk) Watch() (changes <-chan *Ticket, stop func()) {
	c := make(chan *Ticket, 64)
	d.mu.Lock()
	d.watch[c] = true
	d.mu.Unlock()
	return c, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.watch, c)
	}
}

// List returns the tickets, the oldest first.
func (d *Desk) List() []*Ticket {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*Ticket, 0, len(d.tickets))
	for _, t := range d.tickets {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *Ticket) int {
		if c := a.Opened.Compare(b.Opened); c != 0 {
			return c
		}
		return strings.Compare(a.ID.String(), b.ID.String())
	})
	return list
}

// Get returns a ticket by its name.
func (d *Desk) Get(id evidence.ID) (*Ticket, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.tickets[id]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("ticket %s: %w", id, ErrNoTicket)
}

// Rule takes one person's ruling, whose proof the caller has verified over the ticket's digest. It returns when the ruling is
// durable, and the state that it led to. The end of ctx does not stop it: a ruling in the book counts.
func (d *Desk) Rule(ctx context.Context, id evidence.ID, digest string, r Ruling) (State, error) {
	ctx = context.WithoutCancel(ctx)
	t, err := d.Get(id)
	if err != nil {
		return "", err
	}
	if digest != t.Digest {
		return "", errOtherText
	}
	t.ruling.Lock()
	defer t.ruling.Unlock()
	if err := t.may(&r); err != nil {
		return "", err
	}
	if err := t.rec.Record(ctx, evidence.KindRuling, t.said(&r)); err != nil {
		return "", fmt.Errorf("the ruling cannot be recorded, so it does not count: %w", err)
	}
	if r.Verdict == BreakGlass {
		if err := t.alarm(ctx, &r); err != nil {
			return "", fmt.Errorf("the alert cannot be recorded, so the ruling does not count: %w", err)
		}
	}
	t.mu.Lock()
	t.rulings = append(t.rulings, r)
	met := t.met()
	t.mu.Unlock()
	switch {
	case r.Verdict == Deny:
		if !t.end(ctx, Open, Denied, "by "+r.Person.Name) {
			t.end(ctx, Approved, Denied, "by "+r.Person.Name)
		}
		defer d.refused(ctx, t, r.Person.Name)
	case met || r.Verdict == BreakGlass:
		t.turn(Open, Approved, "", func() {})
	default:
		d.changed(t, Open)
	}
	state, _ := t.State()
	return state, nil
}

// refused ends what stands of the same request as one that a person has refused: an approval of its twin would let it run.
func (d *Desk) refused(ctx context.Context, t *Ticket, person string) {
	if t.Asked.Stands() == 0 {
		return
	}
	same := t.Asked.request()
	for _, o := range d.List() {
		if o == t || !o.Standing() || o.Asked.request() != same {
			continue
		}
		go func() { // a ruling on it may be under way, which waits for nobody else's
			o.ruling.Lock()
			defer o.ruling.Unlock()
			if !o.Standing() {
				return
			}
			cause := person + " refused the same request (ticket " + t.ID.String() + ")"
			if !o.end(ctx, Open, Withdrawn, cause) {
				o.end(ctx, Approved, Withdrawn, cause)
			}
		}()
	}
}

// alarm records that a person breaks the glass, and tells the listener once that is durable.
func (t *Ticket) alarm(ctx context.Context, r *Ruling) error {
	b := &t.Asked.Bound
	a := &evidence.Alert{
		Alert: evidence.NewID().String(), What: evidence.AlertBreakGlass, Ticket: t.ID.String(), Person: r.Person.Name, Principal: b.Principal, Target: b.Target,
		Text: fmt.Sprintf("%s broke the glass for a request of %s on %s (rules: %s)", r.Person.Name, b.Principal, b.Target, strings.Join(b.Rules, ", ")),
	}
	if err := t.rec.Record(ctx, evidence.KindAlert, a); err != nil {
		return err
	}
	if l := t.desk.listener; l != nil {
		l.Alert(a)
	}
	return nil
}

// may says why a person cannot rule on a ticket, nil if the person can.
func (t *Ticket) may(r *Ruling) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &r.Person
	switch {
	case t.state != Open && (r.Verdict != Deny || t.state != Approved || !t.standing): // what nobody has taken up can still be refused
		return fmt.Errorf("%w: it is %s", ErrFinal, t.state)
	case p.Agent || p.Name == "":
		return ErrAgent
	case t.standing && r.Verdict == BreakGlass:
		return ErrStanding
	case p.Name == t.Asked.Requester || slices.Contains(t.Asked.Behind, p.Name):
		return ErrSelf
	}
	if err := t.entitled(r); err != nil {
		return err
	}
	for i := range t.rulings {
		if t.rulings[i].Person.Name == p.Name {
			return ErrTwice
		}
	}
	return nil
}

// entitled says why a person's groups do not suffice for a verdict, nil if they do. One who approves or denies is asked by one
// of the rules that hold; one who breaks the glass may do so for all of them.
func (t *Ticket) entitled(r *Ruling) error {
	if _, ok := ParseVerdict(string(r.Verdict)); !ok {
		return errVerdict
	}
	useful, glass := false, true
	for _, q := range t.Asked.Requirements {
		if t.Asked.Requester == "" && !q.UnknownOwner && r.Verdict != Deny {
			return ErrNobody
		}
		asked := holdsOne(r.Person.Groups, q.Groups)
		useful = useful || asked
		glass = glass && holdsOne(r.Person.Groups, q.BreakGlass)
		if err := r.SignIn.Satisfies(&q, r.At); err != nil && r.Verdict != Deny && (asked || r.Verdict == BreakGlass) {
			return fmt.Errorf("%w: %w", ErrSignIn, err)
		}
	}
	switch {
	case r.Verdict != BreakGlass && !useful:
		return ErrNotYours
	case r.Verdict == BreakGlass && !glass:
		return ErrGlass
	case r.Verdict == BreakGlass && utf8.RuneCountInString(strings.TrimSpace(r.Reason)) < minGlassReason:
		return ErrReason
	}
	return nil
}
