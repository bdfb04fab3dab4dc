// Package approval holds requests until people rule on them: tickets, rulings,
// and the one final state that each ticket reaches.
//
// A Desk keeps the tickets of a running gateway. They do not outlive it: a
// request waits on its agent's own connection, and that ends with the gateway.
// What counts is in the book: a ticket, each ruling and the end are entries
// before anybody acts on them.
package approval

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
)

// State is where a ticket stands. All but Open are final, and Approved becomes Released or Void.
type State string

// States of a ticket. One that stands without its agent is Open or Approved.
const (
	Open      State = "open"
	Approved  State = "approved"  // enough people approved; the request is about to be judged again
	Released  State = "released"  // it was let through, once
	Denied    State = "denied"    // somebody said no
	Expired   State = "expired"   // nobody ruled in time
	Withdrawn State = "withdrawn" // the agent left or cancelled, or its session ended
	Void      State = "void"      // approved, and then judged otherwise: policy, identity or session have changed
)

// Requirement is what one rule asks for: so many distinct people of certain groups.
type Requirement = access.Approvers

// Person is somebody who rules.
type Person struct {
	// Name is the person's across all identities.
	Name string
	// Groups that the person holds now.
	Groups []string
	// Identity is what was verified: "issuer|name", or the fingerprint of a key.
	Identity string
	// Agent: the identity is one of an issuer for agents, which can never rule.
	Agent bool
}

// Verdict is what a ruling comes to, as entries and statements have it.
type Verdict string

// Verdicts.
const (
	Approve Verdict = "approve"
	Deny    Verdict = "deny"
	// BreakGlass lets the request through in an emergency, whatever quorum is asked for. It is alarmed.
	BreakGlass Verdict = "break-glass"
)

// ParseVerdict reads a verdict in its one form.
func ParseVerdict(text string) (v Verdict, ok bool) {
	v = Verdict(text)
	return v, v == Approve || v == Deny || v == BreakGlass
}

// SignIn is how a person authenticated for a ruling, as the issuer says.
type SignIn struct {
	// At is when, zero if the issuer does not say.
	At time.Time
	// ACR is the class and AMR are the methods (OpenID Connect Core 1.0 section 2).
	ACR string
	AMR []string
}

// Satisfies returns why a sign-in is not what a requirement asks for at a time, nil if it is. s is nil for a ruling that is
// proven otherwise than by signing in.
func (s *SignIn) Satisfies(q *Requirement, now time.Time) error {
	switch {
	case len(q.ACR) == 0 && len(q.AMR) == 0 && q.MaxAuthAge == 0:
		return nil
	case s == nil:
		return fmt.Errorf("rule %s asks for a sign-in at your issuer: rule from the page", q.Rule)
	case len(q.ACR) > 0 && !slices.Contains(q.ACR, s.ACR):
		return fmt.Errorf("rule %s asks for a sign-in of the class (acr) %s, yours is %q", q.Rule, strings.Join(q.ACR, " or "), s.ACR)
	case q.MaxAuthAge > 0 && s.At.IsZero():
		return fmt.Errorf("rule %s asks when you signed in, and your issuer does not say (auth_time)", q.Rule)
	case q.MaxAuthAge > 0 && now.Sub(s.At) > q.MaxAuthAge:
		return fmt.Errorf("rule %s asks for a sign-in of the last %s, yours was %s ago: sign in again", q.Rule, q.MaxAuthAge, now.Sub(s.At).Round(time.Second))
	}
	for _, m := range q.AMR {
		if !slices.Contains(s.AMR, m) {
			return fmt.Errorf("rule %s asks for a sign-in by %s (amr), yours was by %q", q.Rule, strings.Join(q.AMR, " and "), strings.Join(s.AMR, " "))
		}
	}
	return nil
}

// Ruling is what one person says of one ticket.
type Ruling struct {
	Person  Person
	Verdict Verdict
	SignIn  *SignIn // nil if the person did not sign in for it
	Reason  string
	Proof   evidence.RulingProof
	At      time.Time
}

// A Recorder appends entries to the session of a ticket's request and waits until they are durable.
type Recorder interface {
	Record(ctx context.Context, kind evidence.Kind, body any) error
}

// Asked is what a ticket is about. Everything that a ruling covers stands in Bound.
type Asked struct {
	Bound evidence.TicketBound
	// Requirements must all be met.
	Requirements []Requirement
	// Requester is the person behind the request, "" if nobody knows. Behind are further persons who act in it.
	Requester string
	Behind    []string
	// Expires is when the ticket ends by itself.
	Expires time.Time
	// Recorder takes the ticket's entries.
	Recorder Recorder
}

// BeforeImage reports whether a rule compares the rows of before with those at the release.
func (a *Asked) BeforeImage() bool {
	return slices.ContainsFunc(a.Requirements, func(r Requirement) bool { return r.BeforeImage })
}

// Compares returns why the rows cannot be compared although a rule asks for it, "" if they can or no rule does.
func (a *Asked) Compares() string {
	e := a.Bound.Effect
	switch {
	case !a.BeforeImage() || e != nil && e.Fingerprint != "":
		return ""
	case e == nil || e.Reason == "":
		return "the rule compares the rows that are there now with those at the release, and they cannot be looked at"
	}
	return "the rule compares the rows that are there now with those at the release, and they cannot be looked at safely: " + e.Reason
}

// Requires returns the requirements as entries have them.
func (a *Asked) Requires() (list []evidence.Approvers) {
	for _, r := range a.Requirements {
		list = append(list, RequirementEntry(&r))
	}
	return list
}

// RequirementEntry returns what one rule asks for as entries have it.
func RequirementEntry(r *Requirement) evidence.Approvers {
	return evidence.Approvers{
		Rule: r.Rule, Groups: r.Groups, Quorum: max(r.Quorum, 1), UnknownOwner: r.UnknownOwner, BreakGlass: r.BreakGlass,
		BeforeImage: r.BeforeImage, Resubmit: int64(r.Resubmit / time.Second), ACR: r.ACR, AMR: r.AMR, MaxAuthAge: int64(r.MaxAuthAge / time.Second),
	}
}

// Ticket is a request that waits. All methods are safe for concurrent use.
type Ticket struct {
	ID     evidence.ID
	Digest string // hexadecimal SHA-256 over Bound's exact text
	Bound  string // JSON of an evidence.TicketBound
	Opened time.Time
	Asked  Asked

	desk *Desk
	done chan struct{} // closed at the first state other than Open

	// ruling is held while rulings, their alerts, and the end or release become durable: one comes after the other. It guards rec, to which
	// the entries go: that of the request, or the book's own while the ticket stands.
	ruling sync.Mutex
	rec    Recorder

	mu       sync.Mutex
	state    State
	cause    string
	rulings  []Ruling
	timer    *time.Timer
	standing bool // its agent does not wait
	listed   int  // statements of its list that were let through
	over     bool // no further one is
}

// State returns where the ticket stands, and why.
func (t *Ticket) State() (State, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state, t.cause
}

// Rulings returns those so far.
func (t *Ticket) Rulings() []Ruling {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.rulings)
}

// Done is closed when the ticket is not open any more.
func (t *Ticket) Done() <-chan struct{} { return t.done }

// turn moves an open ticket to a final state, or an approved one to Released or Void, after which it calls then. It reports
// whether it did. Those who wait for the ticket's end go on afterwards.
func (t *Ticket) turn(from, to State, cause string, then func()) bool {
	t.mu.Lock()
	if t.state != from {
		t.mu.Unlock()
		return false
	}
	t.state, t.cause = to, cause
	if to != Approved { // which still expires if it stands
		t.timer.Stop()
	}
	t.mu.Unlock()
	then()
	t.desk.changed(t, to)
	t.desk.tell(t, to) // before anybody goes on from here: changes are told in their order
	if from == Open {
		close(t.done)
	}
	return true
}

// end makes a ticket that is not released final, and records that. An end that cannot be recorded counts all the
// same: nothing is released by it. Callers hold t.ruling.
func (t *Ticket) end(ctx context.Context, from, to State, cause string) bool {
	return t.turn(from, to, cause, func() { t.recordEnd(ctx, to, cause) })
}

func (t *Ticket) recordEnd(ctx context.Context, to State, cause string) {
	if err := t.rec.Record(ctx, evidence.KindTicketEnd, &evidence.TicketEnd{
		Ticket: t.ID.String(), Digest: t.Digest, State: string(to), Cause: cause,
	}); err != nil {
		t.desk.log.Error("the end of a ticket is not recorded", "ticket", t.ID.String(), "err", err)
	}
}

// Withdraw ends an open ticket whose request is gone. It reports whether the ticket was open.
func (t *Ticket) Withdraw(ctx context.Context, cause string) bool {
	return t.endOpen(ctx, Withdrawn, cause)
}

// endOpen ends an open ticket from outside of a ruling. It lets one that is becoming durable finish: no ruling, and no alert of
// one, stands behind the end.
func (t *Ticket) endOpen(ctx context.Context, to State, cause string) bool {
	t.ruling.Lock()
	defer t.ruling.Unlock()
	return t.end(ctx, Open, to, cause)
}

// Void ends an approved ticket that was judged otherwise at the release.
func (t *Ticket) Void(ctx context.Context, cause string) bool {
	t.ruling.Lock()
	defer t.ruling.Unlock()
	return t.end(ctx, Approved, Void, cause)
}

// Release records that the request is let through and waits until that is durable. fingerprint is that of the rows now, "" where no
// rule asks. It succeeds once, and not while the ticket stands without its agent. After an error nothing may be forwarded.
func (t *Ticket) Release(ctx context.Context, config, fingerprint string) error {
	t.ruling.Lock()
	defer t.ruling.Unlock()
	if t.Standing() {
		return fmt.Errorf("ticket %s: nobody waits for it", t.ID)
	}
	r := evidence.Release{Ticket: t.ID.String(), Digest: t.Digest, Config: config, Fingerprint: fingerprint, List: len(t.Asked.Bound.List)}
	for _, ruling := range t.Rulings() {
		switch ruling.Verdict {
		case Approve:
			r.Persons = append(r.Persons, ruling.Person.Name)
		case BreakGlass:
			r.BreakGlass = ruling.Person.Name
		}
	}
	var err error
	if !t.turn(Approved, Released, "", func() { err = t.rec.Record(ctx, evidence.KindRelease, &r) }) {
		state, _ := t.State()
		return fmt.Errorf("ticket %s is %s", t.ID, state)
	}
	return err
}

// open makes a ticket's identity: the digest over exactly what a ruling covers.
func (t *Ticket) bind() error {
	text, err := json.Marshal(&t.Asked.Bound)
	if err != nil {
		return err
	}
	d := sha256.Sum256(text)
	t.Bound, t.Digest = string(text), hex.EncodeToString(d[:])
	return nil
}

// met reports whether every requirement has its quorum of distinct people. Callers hold t.mu.
func (t *Ticket) met() bool {
	for _, r := range t.Asked.Requirements {
		people := make(map[string]bool)
		for i := range t.rulings {
			if p := &t.rulings[i].Person; t.rulings[i].Verdict == Approve && holdsOne(p.Groups, r.Groups) {
				people[p.Name] = true
			}
		}
		if len(people) < max(r.Quorum, 1) {
			return false
		}
	}
	return len(t.Asked.Requirements) > 0
}

func holdsOne(have, want []string) bool {
	return slices.ContainsFunc(have, func(g string) bool { return slices.Contains(want, g) })
}
