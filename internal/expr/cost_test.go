package expr

import (
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
)

// TestWorst: an evaluation costs no more than was estimated, however large the
// values are whose size does not matter; the estimate says where one does.
func TestWorst(t *testing.T) {
	t.Parallel()
	e, err := New([]Var{{"l", Strings}, {"big", Strings}, {"s", String}, {"m", Map}, {"t", Timestamp}})
	if err != nil {
		t.Fatal(err)
	}
	sizes := func(path []string) (uint64, bool) { return 12, len(path) == 1 && path[0] == "l" }
	twelve := strings.Split(strings.Repeat("abcdefgh ", 12), " ")[:12]
	vars := map[string]any{
		"l": twelve, "big": strings.Split(strings.Repeat("x ", 5000), " "), "s": strings.Repeat("y", 1<<20), "t": "",
		"m": map[string]any{"list": make([]any, 5000), "s": strings.Repeat("z", 1<<20)},
	}
	for src, want := range map[string]bool{
		`true`:                      true,
		`s == "x"`:                  true,
		`s.startsWith("yyyy")`:      true,
		`m.s == "x" || has(m.x)`:    true,
		`"x" in l`:                  true,
		`l == ["a", "b"]`:           true,
		`l.all(e, e in ["a", "b"])`: true,
		`l.all(a, l.all(b, a != "x" && b in ["abcdefgh"]))`: true,
		`s.contains("x")`:                false,
		`s.matches("x")`:                 false,
		`s == m.s`:                       false,
		`s + s == "x"`:                   false,
		`"x" in big`:                     false,
		`big.all(e, e == "x")`:           false,
		`"x" in m.list`:                  false,
		`m.all(k, k == "x")`:             false,
		`l.all(e, s.contains(e))`:        false,
		`s.replace("", s).contains("x")`: false,
		`l.all(a, l.all(b, l.all(c, l.all(d, a != "x"))))`: false,
	} {
		p, err := Compile[bool](e, src)
		if err != nil {
			t.Fatal(err)
		}
		worst := p.Worst(sizes)
		if got := worst <= maxCost; got != want {
			t.Errorf("%s: at most %d was estimated", src, worst)
		}
		if !want {
			continue
		}
		uncounted, err := p.Uncounted()
		if err != nil {
			t.Fatal(err)
		}
		a, errA := p.Eval(vars)
		b, errB := uncounted.Eval(vars)
		if a != b || errA != nil || errB != nil {
			t.Errorf("%s: %v, %v counted, %v, %v not", src, a, errA, b, errB)
		}
		prg, err := e.env.Program(p.tree, cel.CostTracking(nil))
		if err != nil {
			t.Fatal(err)
		}
		_, details, err := prg.Eval(vars)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		if cost := details.ActualCost(); *cost > worst {
			t.Errorf("%s: cost %d, at most %d was estimated", src, *cost, worst)
		}
	}
}

func TestLimited(t *testing.T) {
	t.Parallel()
	e := claimsEnv(t)
	const src = "claims.many.all(x, x != 'a')"
	for _, tt := range []struct {
		e  *Env
		ok bool
	}{{e, true}, {e.Limited(1000), false}} {
		p, err := Compile[bool](tt.e, src)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Eval(sample); (err == nil) != tt.ok {
			t.Errorf("got %v, want ok %v", err, tt.ok)
		}
	}
}
