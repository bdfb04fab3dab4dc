package enforce

import (
	"cmp"
	"slices"
	"time"

	"github.com/gatebook/gatebook/internal/access"
)

// Suspension keeps a principal out until somebody takes it back.
type Suspension struct {
	Principal string    `json:"principal"` // "issuer|name"
	Reason    string    `json:"reason"`    // its agent reads it
	By        string    `json:"by"`
	At        time.Time `json:"at"`
}

// deny is what the principal is told.
func (s *Suspension) deny() *access.DenyError {
	return &access.DenyError{
		Code: access.CodeEnded, Rule: "suspend", Reason: "this identity is suspended: " + s.Reason,
		Hint: "Only the operator can let it in again.",
	}
}

// Suspend ends the principal's open sessions, with what they run and what waits for people, and admits none of it until
// Resume. It returns how many sessions it ended.
func (g *Gate) Suspend(s Suspension) (ended int) {
	defer g.endStanding(s.Principal, "its principal was suspended")
	g.mu.Lock()
	defer g.mu.Unlock()
	g.suspended[s.Principal] = s
	for _, open := range g.sessions {
		if open.origin == "" && open.principalID == s.Principal {
			open.cancel(s.deny())
			ended++
		}
	}
	return ended
}

// Resume admits the principal again.
func (g *Gate) Resume(principal string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.suspended, principal)
}

// Suspended lists the principals that are kept out, by name.
func (g *Gate) Suspended() []Suspension {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Suspension, 0, len(g.suspended))
	for _, s := range g.suspended {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Suspension) int { return cmp.Compare(a.Principal, b.Principal) })
	return list
}

// suspension returns why a principal is kept out, nil if it is not. Callers hold g.mu.
func (g *Gate) suspension(principal string) *access.DenyError {
	s, ok := g.suspended[principal]
	if !ok {
		return nil
	}
	return s.deny()
}
