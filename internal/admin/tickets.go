package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/approval"
)

// Ticket is a request that waits, or waited, for people.
type Ticket struct {
	ID        string               `json:"id"`
	Digest    string               `json:"digest"` // SHA-256 of Bound
	State     string               `json:"state"`
	Cause     string               `json:"cause,omitempty"`
	Opened    time.Time            `json:"opened"`
	Expires   time.Time            `json:"expires"`
	Requester string               `json:"requester,omitempty"` // the person behind it
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
		ID: t.ID.String(), Digest: t.Digest, State: string(state), Cause: cause, Opened: t.Opened, Expires: t.Asked.Bound.Expires,
		Requester: t.Asked.Requester, Requires: t.Asked.Requires(), Bound: t.Bound, Rulings: []TicketRuling{},
	}
	for _, r := range t.Rulings() {
		out.Rulings = append(out.Rulings, TicketRuling{r.Person.Name, string(r.Verdict), r.Reason, r.At})
	}
	return out
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
		list = append(list, ticketOf(t))
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
	for _, t := range s.Desk.List() {
		if state, _ := t.State(); state == approval.Open {
			if err := out(ticketOf(t)); err != nil {
				return err
			}
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case t := <-changes:
			if err := out(ticketOf(t)); err != nil {
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
	return ticketOf(t), nil
}

// RuleRequest is a ruling with its proof: an SSH signature of the statement (approval.Statement) by a key of a person.
type RuleRequest struct {
	Statement string `json:"statement"`
	Signature string `json:"signature"`
}

// ErrNoPerson refuses a proof that is nobody's.
var ErrNoPerson = errors.New("is nobody's: list it under people in the configuration")

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
	fingerprint, key, err := approval.VerifySSH(r.Statement, r.Signature)
	if err != nil {
		return nil, err
	}
	person := s.PersonOf(fingerprint)
	if person == nil {
		return nil, fmt.Errorf("the key %s %w", fingerprint, ErrNoPerson)
	}
	if err := s.note(ctx, c, "ticket-rule", map[string]string{"ticket": id, "person": person.Name}); err != nil {
		return nil, err
	}
	_, err = s.Desk.Rule(ctx, sid, said.Digest, approval.Ruling{
		Person: *person, Verdict: said.Verdict, Reason: said.Reason, At: time.Now().UTC(),
		Proof: evidence.RulingProof{Kind: "ssh", Statement: r.Statement, Signature: r.Signature, Key: key},
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
