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
	errOtherText = errors.New("the ruling is about another ticket")
)

// Desk keeps the tickets of a running gateway. Safe for concurrent use.
type Desk struct {
	log *slog.Logger

	mu      sync.Mutex
	tickets map[evidence.ID]*Ticket
	ended   []*Ticket // oldest first
	watch   map[chan *Ticket]bool
}

// NewDesk returns an empty desk.
func NewDesk(log *slog.Logger) *Desk {
	return &Desk{log: log, tickets: make(map[evidence.ID]*Ticket), watch: make(map[chan *Ticket]bool)}
}

// Open opens a ticket and waits until its entry is durable. An error refuses the request.
func (d *Desk) Open(ctx context.Context, a Asked) (*Ticket, error) {
	if len(a.Requirements) == 0 || slices.ContainsFunc(a.Requirements, func(r Requirement) bool { return len(r.Groups) == 0 }) {
		return nil, ErrNoQuorum
	}
	t := &Ticket{ID: evidence.NewID(), Opened: time.Now().UTC().Truncate(time.Microsecond), Asked: a, desk: d, done: make(chan struct{}), state: Open}
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
	body := evidence.Ticket{Ticket: t.ID.String(), Digest: t.Digest, Bound: t.Bound, Requires: a.Requires(), Requester: a.Requester, Behind: a.Behind}
	if err := a.Recorder.Record(ctx, evidence.KindTicket, &body); err != nil {
		d.leave(t)
		t.mu.Lock()
		t.state, t.cause = Void, "not recorded"
		t.mu.Unlock()
		return nil, err
	}
	t.mu.Lock()
	t.timer = time.AfterFunc(time.Until(a.Expires), func() { t.end(context.Background(), Open, Expired, "nobody ruled in time") })
	t.mu.Unlock()
	d.changed(t)
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

// changed tells those who watch, and forgets tickets that ended long ago.
func (d *Desk) changed(t *Ticket) {
	state, _ := t.State()
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
// durable, and the state that it led to.
func (d *Desk) Rule(ctx context.Context, id evidence.ID, digest string, r Ruling) (State, error) {
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
	err = t.Asked.Recorder.Record(ctx, evidence.KindRuling, &evidence.Ruling{
		Ticket: t.ID.String(), Digest: t.Digest, Person: r.Person.Name, Identity: r.Person.Identity, Groups: r.Person.Groups,
		Verdict: r.Verdict(), Reason: r.Reason, Proof: r.Proof,
	})
	if err != nil {
		return "", fmt.Errorf("the ruling cannot be recorded, so it does not count: %w", err)
	}
	t.mu.Lock()
	t.rulings = append(t.rulings, r)
	met := t.met()
	t.mu.Unlock()
	switch {
	case !r.Approve:
		t.end(ctx, Open, Denied, "by "+r.Person.Name)
	case met:
		t.turn(Open, Approved, "", func() {})
	default:
		d.changed(t)
	}
	state, _ := t.State()
	return state, nil
}

// may says why a person cannot rule on a ticket, nil if the person can.
func (t *Ticket) may(r *Ruling) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &r.Person
	switch {
	case t.state != Open:
		return fmt.Errorf("%w: it is %s", ErrFinal, t.state)
	case p.Agent || p.Name == "":
		return ErrAgent
	case p.Name == t.Asked.Requester || slices.Contains(t.Asked.Behind, p.Name):
		return ErrSelf
	}
	useful := false
	for _, q := range t.Asked.Requirements {
		if t.Asked.Requester == "" && !q.UnknownOwner && r.Approve {
			return ErrNobody
		}
		if !holdsOne(p.Groups, q.Groups) {
			continue
		}
		useful = true
		if err := r.SignIn.Satisfies(&q, r.At); err != nil && r.Approve {
			return fmt.Errorf("%w: %w", ErrSignIn, err)
		}
	}
	if !useful {
		return ErrNotYours
	}
	for i := range t.rulings {
		if t.rulings[i].Person.Name == p.Name {
			return ErrTwice
		}
	}
	return nil
}
