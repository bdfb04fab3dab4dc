package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/secret"
)

// Ticket is a request that waits, or waited, for people.
type Ticket struct {
	ID        string               `json:"id"`
	Digest    string               `json:"digest"` // SHA-256 of Bound
	State     string               `json:"state"`
	Standing  bool                 `json:"standing,omitempty"` // its agent does not wait; it runs once the agent sends it again
	Cause     string               `json:"cause,omitempty"`
	Opened    time.Time            `json:"opened"`
	Expires   time.Time            `json:"expires"`
	Requester string               `json:"requester,omitempty"` // the person behind it
	Behind    []string             `json:"behind,omitempty"`    // further persons who act in it
	Requires  []evidence.Approvers `json:"requires"`
	Rulings   []TicketRuling       `json:"rulings"`
	// Bound is the exact text of what a ruling covers: the JSON of an evidence.TicketBound.
	Bound string `json:"bound"`
}

// TicketRuling is what a person said.
type TicketRuling struct {
	Person  string    `json:"person"`
	Verdict string    `json:"verdict"` // "approve", "deny" or "break-glass"
	Reason  string    `json:"reason,omitempty"`
	Time    time.Time `json:"time"`
}

func ticketOf(t *approval.Ticket) *Ticket {
	state, cause := t.State()
	out := &Ticket{
		ID: t.ID.String(), Digest: t.Digest, State: string(state), Standing: t.Standing(), Cause: cause, Opened: t.Opened, Expires: t.Asked.Bound.Expires,
		Requester: t.Asked.Requester, Behind: t.Asked.Behind, Requires: t.Asked.Requires(), Bound: t.Bound, Rulings: []TicketRuling{},
	}
	for _, r := range t.Rulings() {
		out.Rulings = append(out.Rulings, TicketRuling{r.Person.Name, string(r.Verdict), r.Reason, r.At})
	}
	return out
}

// MayRule reports whether a person is one of those who may rule on the ticket, as far as groups and persons go.
func (t *Ticket) MayRule(p *approval.Person) bool {
	return !t.isOf(p) && slices.ContainsFunc(t.Requires, func(q evidence.Approvers) bool {
		return slices.ContainsFunc(q.Groups, func(g string) bool { return slices.Contains(p.Groups, g) })
	})
}

// Request names what is asked for: tickets of the same state and name differ in their session and time alone, and are one for the eye.
func (t *Ticket) Request(b *evidence.TicketBound) string {
	return strings.Join([]string{t.State, b.Principal, b.Target, b.Role, b.Database, b.Text, string(b.Detail)}, "\x00")
}

// EffectText says for people what a request would do, as far as that could be seen safely.
func EffectText(e *evidence.Effect) string {
	if e == nil {
		return ""
	}
	if !e.Computed {
		return "it cannot be computed safely: " + e.Reason
	}
	var parts []string
	if e.Count != nil {
		parts = append(parts, fmt.Sprintf("%d rows of %s, counted when it was asked for", *e.Count, e.Relation))
	}
	if e.Estimate != nil {
		parts = append(parts, fmt.Sprintf("the planner's estimate, which may be far off, is %d rows", *e.Estimate))
	}
	if e.Reason != "" {
		parts = append(parts, "not counted: "+e.Reason)
	}
	return strings.Join(parts, "; ")
}

// SignIn returns what a sign-in for a ruling must be asked for: classes of which one will do, and the greatest age.
func (t *Ticket) SignIn() (acr []string, maxAge time.Duration) {
	for _, q := range t.Requires {
		acr = append(acr, q.ACR...)
		if age := time.Duration(q.MaxAuthAge) * time.Second; age > 0 && (maxAge == 0 || age < maxAge) {
			maxAge = age
		}
	}
	return acr, maxAge
}

// MayBreak reports whether a person may break the glass, as far as groups and persons go.
func (t *Ticket) MayBreak(p *approval.Person) bool {
	return !t.isOf(p) && !t.Standing && len(t.Requires) > 0 && !slices.ContainsFunc(t.Requires, func(q evidence.Approvers) bool {
		return !slices.ContainsFunc(q.BreakGlass, func(g string) bool { return slices.Contains(p.Groups, g) })
	})
}

// isOf reports whether a person is behind the request.
func (t *Ticket) isOf(p *approval.Person) bool {
	return p.Name == t.Requester || slices.Contains(t.Behind, p.Name)
}

// shown reports whether a caller may see the ticket: an operator, those who may rule on it, and those whose request it is.
func (t *Ticket) shown(c *Caller) bool {
	return c.Person == nil || t.isOf(c.Person) || t.MayRule(c.Person) || t.MayBreak(c.Person)
}

// Tickets lists the tickets of this run of the gateway, the oldest first.
func (s *Service) Tickets(ctx context.Context, c Caller) ([]*Ticket, error) {
	if s.Desk == nil {
		return nil, ErrNotRunning
	}
	if err := s.note(ctx, c, "ticket-list", nil); err != nil {
		return nil, err
	}
	list := []*Ticket{}
	for _, t := range s.Desk.List() {
		if out := ticketOf(t); out.shown(&c) {
			list = append(list, out)
		}
	}
	return list, nil
}

// WatchTickets gives every ticket that is open, and then each that opens or changes, until ctx ends.
func (s *Service) WatchTickets(ctx context.Context, c Caller, out func(*Ticket) error) error {
	if s.Desk == nil {
		return ErrNotRunning
	}
	if err := s.note(ctx, c, "ticket-watch", nil); err != nil {
		return err
	}
	changes, stop := s.Desk.Watch()
	defer stop()
	show := func(t *approval.Ticket) error {
		if t := ticketOf(t); t.shown(&c) {
			return out(t)
		}
		return nil
	}
	for _, t := range s.Desk.List() {
		if state, _ := t.State(); state == approval.Open {
			if err := show(t); err != nil {
				return err
			}
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case t := <-changes:
			if err := show(t); err != nil {
				return err
			}
		}
	}
}

// Ticket returns one.
func (s *Service) Ticket(ctx context.Context, c Caller, id string) (*Ticket, error) {
	sid, err := evidence.ParseID(id)
	if err != nil {
		return nil, err
	}
	if s.Desk == nil {
		return nil, ErrNotRunning
	}
	if err := s.note(ctx, c, "ticket-show", map[string]string{"ticket": id}); err != nil {
		return nil, err
	}
	t, err := s.Desk.Get(sid)
	if err != nil {
		return nil, err
	}
	out := ticketOf(t)
	if !out.shown(&c) { // as if it were not there
		return nil, fmt.Errorf("ticket %s: %w", id, approval.ErrNoTicket)
	}
	return out, nil
}

// RuleRequest is a ruling with its proof: an SSH signature of the statement (approval.Statement) by a key of a person, or an ID
// token of a person that was made for the nonce over the statement and a random part (approval.Nonce).
type RuleRequest struct {
	Statement string `json:"statement"`
	Signature string `json:"signature,omitempty"`
	Token     string `json:"token,omitempty"`
	Random    string `json:"random,omitempty"`
}

// ErrNoPerson refuses a proof that is nobody's.
var ErrNoPerson = errors.New("is nobody's: list it under people in the configuration")

// SignIn records that a person signed in to the console, before they see anything.
func (s *Service) SignIn(ctx context.Context, c Caller) error {
	return s.note(ctx, c, "sign-in", map[string]string{"identity": c.Person.Identity})
}

// SignedIn is whose an ID token is, and how the person authenticated.
type SignedIn struct {
	Identity string // "issuer|name"
	SignIn   approval.SignIn
	KeySet   []byte // the issuer's, by which the token was verified
}

// proof checks a ruling's proof and says whose it is.
func (s *Service) proof(ctx context.Context, r *RuleRequest) (who string, signIn *approval.SignIn, proof evidence.RulingProof, err error) {
	switch {
	case (r.Signature == "") == (r.Token == ""):
		return "", nil, proof, errors.New("a ruling needs one proof: an SSH signature, or an ID token")
	case r.Signature != "":
		var key string
		who, key, err = approval.VerifySSH(r.Statement, r.Signature)
		return who, nil, evidence.RulingProof{Kind: "ssh", Statement: r.Statement, Signature: r.Signature, Key: key}, err
	case s.SignedIn == nil:
		return "", nil, proof, errors.New("no issuer for people is configured, so no ID token can be checked")
	}
	nonce, err := approval.Nonce(r.Statement, r.Random)
	if err != nil {
		return "", nil, proof, err
	}
	in, err := s.SignedIn(ctx, secret.New(r.Token), nonce)
	if err != nil {
		return "", nil, proof, err
	}
	return in.Identity, &in.SignIn, evidence.RulingProof{
		Kind: "oidc", Statement: r.Statement, Token: r.Token, Random: r.Random, KeySet: json.RawMessage(in.KeySet),
	}, nil
}

// RuleTicket takes a ruling. Who rules is what the proof says, whoever brings it.
func (s *Service) RuleTicket(ctx context.Context, c Caller, id string, r RuleRequest) (*Ticket, error) {
	sid, err := evidence.ParseID(id)
	if err != nil {
		return nil, err
	}
	if s.Desk == nil || s.PersonOf == nil {
		return nil, ErrNotRunning
	}
	said, err := approval.ParseStatement(r.Statement)
	if err != nil {
		return nil, err
	}
	if said.Ticket != id {
		return nil, fmt.Errorf("the ruling is about ticket %s", said.Ticket)
	}
	who, signIn, proof, err := s.proof(ctx, &r)
	if err != nil {
		return nil, err
	}
	person := s.PersonOf(who)
	if person == nil {
		return nil, fmt.Errorf("%s %w", who, ErrNoPerson)
	}
	if err := s.note(ctx, c, "ticket-rule", map[string]string{"ticket": id, "person": person.Name}); err != nil {
		return nil, err
	}
	_, err = s.Desk.Rule(ctx, sid, said.Digest, approval.Ruling{
		Person: *person, Verdict: said.Verdict, Reason: said.Reason, At: time.Now().UTC(), SignIn: signIn, Proof: proof,
	})
	if err != nil {
		return nil, err
	}
	t, err := s.Desk.Get(sid)
	if err != nil {
		return nil, err
	}
	return ticketOf(t), nil
}

// Covers reads what a ruling covers.
func (t *Ticket) Covers() (b evidence.TicketBound, err error) {
	err = json.Unmarshal([]byte(t.Bound), &b)
	return b, err
}
