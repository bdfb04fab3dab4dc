package enforce

import (
	"testing"

	"github.com/gatebook/gatebook/internal/access"
)

// counting is a policy that is known by its number; two of one number are one policy.
type counting struct {
	n     int
	reads Reads
}

func (counting) Decide(*access.Request) access.Decision { return access.Decision{} }
func (c counting) Reads() Reads                         { return c.reads }

// TestDecisionsAreKept: a decision counts again for a request that does the same, under the same policy, principal and way of
// asking, and only where the policy cannot say otherwise.
func TestDecisionsAreKept(t *testing.T) {
	t.Parallel()
	var c decisions
	asked := 0
	ask := func(p Policy, who *access.Principal, a *access.Action) {
		c.of(p, who, a, func() access.Decision { asked++; return access.Decision{Verdict: access.Allow} })
	}
	ana, ben := &access.Principal{Name: "ana"}, &access.Principal{Name: "ana"}
	one, two := &access.Action{Text: "SELECT 1"}, &access.Action{Text: "SELECT 1"}
	steps := []struct {
		name   string
		policy Policy
		who    *access.Principal
		a      *access.Action
		want   int // times asked until then
	}{
		{"first", counting{n: 1}, ana, &access.Action{Common: one, Op: "query"}, 1},
		{"again", counting{n: 1}, ana, &access.Action{Common: one, Op: "query", Parameters: []any{"x"}}, 1},
		{"another way of asking", counting{n: 1}, ana, &access.Action{Common: one, Op: "execute"}, 2},
		{"another understanding of the text", counting{n: 1}, ana, &access.Action{Common: two, Op: "query"}, 3},
		{"not known to be the same", counting{n: 1}, ana, &access.Action{Op: "query"}, 4},
		{"not known to be the same, again", counting{n: 1}, ana, &access.Action{Op: "query"}, 5},
		{"kept", counting{n: 1}, ana, &access.Action{Common: one, Op: "query"}, 5},
		{"renewed", counting{n: 1}, ben, &access.Action{Common: one, Op: "query"}, 6},
		{"another policy", counting{n: 2}, ben, &access.Action{Common: one, Op: "query"}, 7},
		{"the first again", counting{n: 1}, ana, &access.Action{Common: one, Op: "query"}, 8},
		{"each request", counting{n: 1, reads: Reads{Each: true}}, ana, &access.Action{Common: one, Op: "query"}, 9},
		{"each request, again", counting{n: 1, reads: Reads{Each: true}}, ana, &access.Action{Common: one, Op: "query"}, 10},
	}
	for _, s := range steps {
		ask(s.policy, s.who, s.a)
		if asked != s.want {
			t.Fatalf("%s: asked %d times, want %d", s.name, asked, s.want)
		}
	}
	for range 3 * maxDecisions {
		ask(counting{n: 1}, ana, &access.Action{Common: &access.Action{}, Op: "query"})
	}
	if len(c.known) > maxDecisions {
		t.Errorf("%d decisions are kept", len(c.known))
	}
}
