package enforce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/audit"
)

// noticeEvery is how often an agent that waits hears of it, well within the idle limits on its way.
const noticeEvery = 15 * time.Second

// People says who stands behind principals.
type People interface {
	// Behind returns the person who answers for a principal, "" if nobody knows, and further persons who act in it.
	Behind(p *access.Principal) (requester string, others []string)
}

// Holding is what an engine knows while a request waits.
type Holding struct {
	// InTransaction: locks are held at the target meanwhile.
	InTransaction bool
	// SearchPath in force at the target, "" if it is not known.
	SearchPath string
	// Settings are those of the agent's session at the target as far as they are known, Altered is one that is not, "" for none.
	Settings map[string]string
	Altered  string
	// Notice tells the agent that it waits. An error withdraws the request.
	Notice func(Waiting) error
	// Preview looks at what the request would do, without running any of it; nil where there is no way to.
	Preview func(ctx context.Context) *evidence.Effect
	// Meaning returns a digest of all that the meaning of a text hangs on at the target, "" if that is not known; nil says the same.
	Meaning func(ctx context.Context, text string) string
	// Gone delivers why the agent does not wait any more (it left, or cancelled).
	Gone <-chan string
}

// Waiting is what an agent may know of its request.
type Waiting struct {
	Ticket  evidence.ID
	Rule    string
	Reason  string
	Expires time.Time // the end of the wait
	Stands  time.Time // until when people can rule although the agent does not wait, zero for the same
	Link    string    // where people rule, "" if there is no such page
	First   bool
}

// Held reports whether the exchange waits for a person, or for what comes before it in a list that people approved: Await must
// be called before Ready.
func (x *Exchange) Held() bool { return x.hold != nil || x.due != nil }

// errHeld is what Ready says of a request that nobody awaited.
var errHeld = &access.DenyError{Code: access.CodeApproval, Rule: "gate", Reason: "a person must approve this"}

// Await holds the exchange until people have ruled on it, its time is over, or its agent does not wait any more. When it
// returns, Denied says what came of it; if that is nil, the release is durable and Ready does not block. a is
// what Begin was given.
func (x *Exchange) Await(ctx context.Context, a *access.Action, h *Holding) {
	deny, over := x.awaitListed(ctx, a, h)
	if !over && x.hold != nil {
		deny = x.await(ctx, a, h)
	}
	if deny != nil {
		x.s.budget.recent.takeBack(x.began)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hold, x.due, x.deny = nil, nil, deny
}

func (x *Exchange) await(ctx context.Context, a *access.Action, h *Holding) *access.DenyError {
	d, s := x.hold, x.s
	refuse := func(reason string, cause error) *access.DenyError {
		return &access.DenyError{Code: access.CodeApproval, Rule: d.Rule, Reason: reason, Hint: d.Hint, Cause: cause}
	}
	within, ok := patience(d.Approvers, h.InTransaction)
	ok = ok && (a.List == nil || !h.InTransaction)
	if !ok {
		return refuse(orElse(d.Reason, "a person must approve this")+"; it cannot wait inside of a transaction", nil)
	}
	p := s.Principal()
	until := time.Now().Add(within)
	asked := x.asked(p, a, d, h, until)
	t, err := s.gate.desk.Resume(ctx, &asked)
	if t == nil && err == nil {
		h.look(ctx, a, &asked.Bound)
		if why := asked.Compares(); why != "" {
			return refuse(why, nil)
		}
		t, err = s.gate.desk.Open(ctx, asked)
	}
	if err != nil {
		why := "the request cannot wait for a person"
		if errors.Is(err, approval.ErrTooMany) || errors.Is(err, approval.ErrNoQuorum) {
			why = err.Error()
		}
		return refuse(why, err)
	}
	if deny := x.wait(ctx, t, d, h, until); deny != nil {
		return deny
	}
	state, cause := t.State()
	switch state {
	case approval.Approved:
		return x.release(ctx, t, a, h)
	case approval.Denied:
		return refuse("a person refused this"+because(t), nil)
	case approval.Expired:
		return refuse("nobody ruled on this in time", nil)
	}
	return refuse("the request was withdrawn: "+cause, nil)
}

// because returns what the person who said no has written for the agent.
func because(t *approval.Ticket) string {
	for _, r := range t.Rulings() {
		if r.Verdict == approval.Deny && r.Reason != "" {
			return ": " + shorten(r.Reason, 500)
		}
	}
	return ""
}

// patience is how long a request may wait; not ok says that it may not wait at all.
func patience(list []access.Approvers, inTransaction bool) (d time.Duration, ok bool) {
	for i, a := range list {
		within := a.Within
		if inTransaction {
			within = min(within, a.InTransaction)
		}
		if within <= 0 {
			return 0, false
		}
		if i == 0 || within < d {
			d = within
		}
	}
	return d, len(list) > 0
}

// asked is what a ticket says of the request.
func (x *Exchange) asked(p *access.Principal, a *access.Action, d *access.Decision, h *Holding, expires time.Time) approval.Asked {
	s := x.s
	account := a.Account
	if account == nil {
		account = audit.Account(a)
	}
	asked := approval.Asked{
		Bound: evidence.TicketBound{
			Session: s.ID().String(), Exchange: x.n, Principal: p.ID(), Subject: p.Subject, Actor: p.Actor, Target: s.target.Name,
			Address: s.target.Address, Role: s.roleKey, Database: s.database, SearchPath: h.SearchPath, Settings: h.Settings, Altered: h.Altered, Op: a.Op, Text: a.Text, Sensitive: sensitiveOf(a),
			Detail: json.RawMessage(a.Detail), Action: account, Reason: a.Asked, Config: x.config,
		},
		Requirements: d.Approvers, Expires: expires, Recorder: ticketEntries{x},
	}
	for _, l := range a.List {
		asked.Bound.List = append(asked.Bound.List, listedOf(l))
	}
	for _, r := range d.Approvers {
		asked.Bound.Rules = append(asked.Bound.Rules, r.Rule)
	}
	if s.gate.people != nil {
		asked.Requester, asked.Behind = s.gate.people.Behind(p)
	}
	if stands := time.Now().Add(asked.Stands()); stands.After(asked.Expires) {
		asked.Expires = stands
	}
	return asked
}

// Forgo gives up on a held request that would not run anyway, before anybody was asked.
func (x *Exchange) Forgo(reason string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.Held() {
		return
	}
	x.deny = &access.DenyError{Code: access.CodeApproval, Rule: "gate", Reason: reason}
	if x.hold != nil {
		x.deny.Rule = x.hold.Rule
	}
	if x.due != nil {
		x.recordEnd(x.due.end(reason))
	}
	x.hold, x.due = nil, nil
}

// wait blocks until the ticket is decided, or until a time if it stands without the agent. Whatever else ends the wait from this
// side withdraws it; only an agent that cannot wait may leave it standing.
func (x *Exchange) wait(ctx context.Context, t *approval.Ticket, d *access.Decision, h *Holding, until time.Time) *access.DenyError {
	s := x.s
	over := context.WithoutCancel(ctx)
	withdraw := func(cause string, deny *access.DenyError) *access.DenyError {
		if !t.Withdraw(over, cause) {
			<-t.Done()                                             // its end is being recorded, and stands before the outcome
			if state, _ := t.State(); state == approval.Approved { // it was decided in this moment, too late
				t.Void(over, cause)
			}
		}
		return deny
	}
	leave := func(cause string, deny *access.DenyError) *access.DenyError {
		switch {
		case !t.Stand(over, cause):
			return withdraw(cause, deny)
		case deny != errLeft:
			return deny
		}
		return &access.DenyError{
			Code: access.CodeApproval, Rule: d.Rule, Reason: fmt.Sprintf("nobody waits for this any more (%s); people can rule on it until %s",
				cause, t.Asked.Bound.Expires.Format(time.RFC3339)), Hint: "Send exactly the same again.",
		}
	}
	if !s.setWaiting(true) {
		return leave("the identity expired", errExpired())
	}
	defer s.setWaiting(false)
	waiting := Waiting{Ticket: t.ID, Rule: d.Rule, Reason: d.Reason, Expires: t.Asked.Bound.Expires, First: true}
	var patience <-chan time.Time
	if t.Asked.Stands() > 0 && until.Before(waiting.Expires) {
		waiting.Stands, waiting.Expires = waiting.Expires, until
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		patience = timer.C
	}
	if s.gate.ticketURL != nil {
		waiting.Link = s.gate.ticketURL(t.ID.String())
	}
	select {
	case <-t.Done(): // while it stood
		return nil
	default:
	}
	again := time.NewTicker(noticeEvery)
	defer again.Stop()
	for {
		if err := h.Notice(waiting); err != nil {
			return withdraw("the agent does not take notices", errLeft)
		}
		waiting.First = false
		select {
		case <-t.Done():
			return nil
		case cause := <-h.Gone:
			return leave(cause, errLeft)
		case <-patience:
			return leave("nobody ruled while it waited", errLeft)
		case <-s.ctx.Done():
			if why := s.over(); why.Code == access.CodeExpired {
				return leave("the identity expired", why)
			}
			return withdraw("the session ended", s.over())
		case <-ctx.Done():
			return withdraw("the session ended", s.over())
		case <-again.C:
		}
	}
}

// setWaiting notes whether a request of the session is held. It reports whether the identity is still in force.
func (s *Session) setWaiting(held bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = held
	return !s.expired
}

// errLeft refuses what nobody waits for.
var errLeft = &access.DenyError{Code: access.CodeApproval, Rule: "gate", Reason: "the request was withdrawn"}

// release judges an approved request again and records that it is let through.
func (x *Exchange) release(ctx context.Context, t *approval.Ticket, a *access.Action, h *Holding) *access.DenyError {
	s := x.s
	over := context.WithoutCancel(ctx)
	snap := s.gate.snap.Load()
	now := time.Now()
	used := s.budget.recent.now(now)
	_, deny, hold := s.decide(a, s.Principal(), snap.Policy, now, moment(now), &used)
	switch {
	case deny != nil:
		t.Void(over, "judged again, it is refused: "+deny.Error())
		return deny
	case snap.SHA256 != t.Asked.Bound.Config:
		t.Void(over, "the configuration has changed since")
		return &access.DenyError{
			Code: access.CodeApproval, Rule: "gate", Reason: "the configuration has changed since this was asked for", Hint: "Ask again.",
		}
	case hold == nil:
		t.Void(over, "judged again, it needs no approval")
		return &access.DenyError{Code: access.CodeApproval, Rule: "gate", Reason: "the request is judged otherwise now", Hint: "Ask again."}
	}
	fingerprint, changed := h.changed(ctx, t)
	if changed != "" {
		t.Void(over, changed)
		return &access.DenyError{Code: access.CodeApproval, Rule: "gate", Reason: changed, Hint: "Ask again."}
	}
	if err := t.Release(ctx, snap.SHA256, fingerprint); err != nil {
		return errClosed(err)
	}
	if a.List != nil {
		s.begin(t)
	}
	return nil
}

// look puts into a ticket what the request would do and what its meaning hangs on.
func (h *Holding) look(ctx context.Context, a *access.Action, b *evidence.TicketBound) {
	if h.Preview != nil {
		b.Effect = h.Preview(ctx)
	}
	switch {
	case h.Meaning == nil:
	case a.List == nil:
		b.Meaning = h.Meaning(ctx, a.Text)
	default:
		for _, l := range a.List {
			b.Meanings = append(b.Meanings, h.Meaning(ctx, l.Text))
			if l.Redefines() { // what the ones behind it stand for is not known yet
				break
			}
		}
	}
}

// changed says what is not as it was when people were asked, "" if all is; fingerprint is that of the rows now, where a rule compares them.
func (h *Holding) changed(ctx context.Context, t *approval.Ticket) (fingerprint, what string) {
	b := &t.Asked.Bound
	if b.Meaning != "" && h.Meaning(ctx, b.Text) != b.Meaning {
		return "", "what the request stands for at the target has changed since this was asked for"
	}
	if !t.Asked.BeforeImage() {
		return "", ""
	}
	now := h.Preview(ctx)
	if now == nil || now.Fingerprint == "" || now.Fingerprint != b.Effect.Fingerprint {
		return "", "the rows have changed since this was asked for"
	}
	return now.Fingerprint, ""
}

// ticketEntries records a ticket's entries beside its exchange.
type ticketEntries struct{ x *Exchange }

// Record implements approval.Recorder.
func (r ticketEntries) Record(ctx context.Context, kind evidence.Kind, body any) error {
	e := audit.NewClosing(kind, body)
	e.Exchange = r.x.n
	receipt, err := r.x.s.rec.Append(e)
	if err == nil {
		err = receipt.Wait(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s entry: %w", kind, err)
	}
	return nil
}
