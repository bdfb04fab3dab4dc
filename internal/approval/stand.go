package approval

import (
	"context"
	"encoding/json"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

// StateStanding is the state of a ticket-end entry that says that the request's agent does not wait any more, and that
// people can still rule. The ticket itself stays Open or Approved.
const StateStanding = "standing"

// Book names what takes the entries about tickets that stand without an agent: those of no session. It is called once, before the
// first ticket; without it no ticket stands.
func (d *Desk) Book(r Recorder) { d.book = r }

// Stands returns how long after a request came its ticket stands although the agent could not wait, 0 if it ends with the wait: all
// rules that hold must let it stand. A list never does, nor a request whose session has a setting that is not known.
func (a *Asked) Stands() (d time.Duration) {
	if len(a.Bound.List) > 0 || a.Bound.Altered != "" { // nobody could tell whether another session is as this one
		return 0
	}
	for i, r := range a.Requirements {
		if r.Resubmit <= 0 {
			return 0
		}
		if i == 0 || r.Resubmit < d {
			d = r.Resubmit
		}
	}
	return d
}

// Standing reports whether the ticket's agent does not wait, and the ticket is there all the same.
func (t *Ticket) Standing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stands()
}

// stands says the same. Callers hold t.mu.
func (t *Ticket) stands() bool { return t.standing && (t.state == Open || t.state == Approved) }

// Stand leaves a ticket to people although its request is gone: until it expires they can rule on it, and the same request that
// comes again takes it up. It reports whether the ticket stands; one that does not is as it was.
func (t *Ticket) Stand(ctx context.Context, cause string) bool {
	t.ruling.Lock()
	defer t.ruling.Unlock()
	t.mu.Lock()
	ok := t.desk.book != nil && t.Asked.Stands() > 0 && !t.standing && (t.state == Open || t.state == Approved && !t.broken())
	t.mu.Unlock()
	if !ok || !time.Now().Before(t.Asked.Bound.Expires) {
		return false
	}
	if err := t.rec.Record(ctx, evidence.KindTicketEnd, &evidence.TicketEnd{
		Ticket: t.ID.String(), Digest: t.Digest, State: StateStanding, Cause: cause,
	}); err != nil {
		t.desk.log.Error("a ticket cannot stand, since that is not recorded", "ticket", t.ID.String(), "err", err)
		return false
	}
	t.rec = t.desk.book
	t.mu.Lock()
	t.standing = true
	state := t.state
	t.mu.Unlock()
	t.desk.changed(t, state)
	return true
}

// broken reports whether somebody broke the glass. Callers hold t.mu.
func (t *Ticket) broken() bool {
	for i := range t.rulings {
		if t.rulings[i].Verdict == BreakGlass {
			return true
		}
	}
	return false
}

// request is what two requests have in common if the one takes up the other's ticket: all that is asked for, by the same principal
// under the same configuration. What is seen of the target is compared at the release.
func (a *Asked) request() string {
	b := a.Bound
	b.Ticket, b.Nonce, b.Session, b.Exchange, b.Expires, b.Effect, b.Meaning = "", "", "", 0, time.Time{}, nil, ""
	text, err := json.Marshal([]any{b, a.Requires(), a.Requester, a.Behind})
	if err != nil {
		return a.Bound.Nonce // like no other
	}
	return string(text)
}

// Resume gives a request the ticket of an earlier one that stands, with what people have said of it, and waits until that is
// durable beside the request; nil if there is none. An error refuses the request.
func (d *Desk) Resume(ctx context.Context, a *Asked) (*Ticket, error) {
	if a.Stands() == 0 {
		return nil, nil
	}
	want := a.request()
	for _, t := range d.List() {
		if !t.Standing() || t.Asked.request() != want {
			continue
		}
		if taken, err := t.resume(ctx, a.Recorder); taken || err != nil {
			return t, err
		}
	}
	return nil, nil
}

// resume repeats the ticket and its rulings beside the request that takes it up. It reports whether the ticket was still there.
func (t *Ticket) resume(ctx context.Context, rec Recorder) (taken bool, err error) {
	t.ruling.Lock()
	defer t.ruling.Unlock()
	t.mu.Lock()
	ok, state := t.stands(), t.state
	t.mu.Unlock()
	if !ok || !time.Now().Before(t.Asked.Bound.Expires) {
		return false, nil
	}
	body := t.body()
	body.Resubmitted = true
	if err := rec.Record(ctx, evidence.KindTicket, body); err != nil {
		return false, err
	}
	t.rec = rec
	t.mu.Lock()
	t.standing = false
	t.mu.Unlock()
	for _, r := range t.Rulings() {
		said := t.said(&r)
		said.At = r.At.UTC()
		if err := rec.Record(ctx, evidence.KindRuling, said); err != nil {
			return false, err
		}
	}
	t.desk.changed(t, state)
	return true, nil
}

// expire ends a ticket whose time is over, unless it is about to be released.
func (t *Ticket) expire(ctx context.Context) {
	t.ruling.Lock()
	defer t.ruling.Unlock()
	if t.end(ctx, Open, Expired, "nobody ruled in time") {
		return
	}
	if t.Standing() {
		t.end(ctx, Approved, Expired, "approved, and its agent did not send it again in time")
	}
}

// EndStanding ends the tickets that stand and are of a principal ("" for every one).
func (d *Desk) EndStanding(ctx context.Context, principal, cause string) {
	for _, t := range d.List() {
		if principal == "" || t.Asked.Bound.Principal == principal {
			t.endStanding(ctx, cause)
		}
	}
}

func (t *Ticket) endStanding(ctx context.Context, cause string) {
	t.ruling.Lock()
	defer t.ruling.Unlock()
	if t.Standing() {
		state, _ := t.State()
		t.end(ctx, state, Withdrawn, cause)
	}
}

// body is what its entry says.
func (t *Ticket) body() *evidence.Ticket {
	a := &t.Asked
	return &evidence.Ticket{Ticket: t.ID.String(), Digest: t.Digest, Bound: t.Bound, Requires: a.Requires(), Requester: a.Requester, Behind: a.Behind}
}

// said is what a ruling's entry says.
func (t *Ticket) said(r *Ruling) *evidence.Ruling {
	return &evidence.Ruling{
		Ticket: t.ID.String(), Digest: t.Digest, Person: r.Person.Name, Identity: r.Person.Identity, Groups: r.Person.Groups,
		Verdict: string(r.Verdict), Reason: r.Reason, Proof: r.Proof,
	}
}
