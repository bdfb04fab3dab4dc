package evidence

import (
	"strings"
	"testing"
	"time"
)

// holds is a policy that holds each request by the rules that its text names.
type holds struct{}

func (holds) Decide(r *Request) (Decided, error) {
	d := Decided{Decision: "hold", Rule: strings.Fields(r.Intent.Text)[0]}
	for _, rule := range strings.Fields(r.Intent.Text) {
		d.Requires = append(d.Requires, Approvers{Rule: rule})
	}
	return d, nil
}
func (holds) Ticket(*Ticket, *TicketBound) error       { return nil }
func (holds) Ruling(*Ticket, *Ruling, time.Time) error { return nil }

// TestAP01AllRulesAsked: a ticket asks for what every rule that holds its request asks for, and statements of its list are released for
// these rules alone.
func TestAP01AllRulesAsked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ asked, request, released, want string }{
		{"a b", "a b", "b", ""},
		{"a", "a b", "", "does not ask for what rule b asks for"},
		{"a b", "a b", "a c", "statement 1 is held by rule c too"},
	} {
		d := decisions{policies: map[string]*knownPolicy{strings.Repeat("c", digestPrefix): {Policy: holds{}}}}
		header := func(k Kind) *Header {
			return &Header{Kind: k, Session: ana.id, Actor: ana.actor, Target: db, Exchange: 3, Decision: "hold", Time: storyBegin}
		}
		intent := func(text string) []byte {
			return meta(t, &Intent{Op: "request", Rule: strings.Fields(text)[0], Text: text, Config: strings.Repeat("c", digestPrefix), Decided: storyBegin, Action: []byte(`{"effects":[],"has_filter":true}`)})
		}
		ticket := Ticket{Bound: string(meta(t, &TicketBound{Config: strings.Repeat("c", 64)}))}
		for _, rule := range strings.Fields(tt.asked) {
			ticket.Requires = append(ticket.Requires, Approvers{Rule: rule})
		}
		entries := []struct {
			k    Kind
			body []byte
		}{{KindSession, meta(t, &Session{})}, {KindIdentity, meta(t, &Identity{})}, {KindIntent, intent(tt.request)}, {KindTicket, meta(t, &ticket)}}
		if tt.released != "" {
			entries = append(entries, struct {
				k    Kind
				body []byte
			}{KindIntent, intent(tt.released)}, struct {
				k    Kind
				body []byte
			}{KindRelease, meta(t, &Release{Position: 1})})
		}
		var failed string
		for _, e := range entries {
			wrong, _, err := d.session(header(e.k), e.body)
			if wrong != "" {
				t.Fatal(wrong)
			}
			if err != nil {
				failed += err.Error()
			}
		}
		if tt.want == "" && failed != "" || !strings.Contains(failed, tt.want) {
			t.Errorf("%+v: %q", tt, failed)
		}
	}
}
