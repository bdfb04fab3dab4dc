package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/access"
)

// TestHostileRequests: what an agent can put into a request makes no rule
// panic, run long, or count for the allowing side.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	many := &access.Action{Understood: true, Effects: access.EffectRead, Statements: make([]access.Statement, 100)}
	for i := range many.Statements {
		s := &many.Statements[i]
		s.Verb, s.Effects, s.Understood = "SELECT", access.EffectRead, true
		for j := range 100 {
			s.Objects = append(s.Objects, object("relation", "public", fmt.Sprintf("t%d_%d", i, j), access.EffectRead))
			s.Columns = append(s.Columns, fmt.Sprintf("public.t%d_%d.c", i, j))
		}
	}
	deep := strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)
	requests := map[string]*Input{
		"huge text":       {Action: &access.Action{Understood: true, Effects: access.EffectRead, Text: strings.Repeat("SELECT 1;", 1<<20)}},
		"10,000 objects":  {Action: many},
		"invalid UTF-8":   {Action: &access.Action{Text: "\xff\xfe\x00'\"\\", Statements: []access.Statement{{Verb: "\xff", Columns: []string{"\xc3"}}}}},
		"nil claims":      {Principal: &access.Principal{}},
		"broken claims":   {Principal: &access.Principal{Claims: []byte(`{"a":`)}},
		"claims no map":   {Principal: &access.Principal{Claims: []byte(`[1]`)}},
		"claims null":     {Principal: &access.Principal{Claims: []byte(`null`)}},
		"claims deep":     {Principal: &access.Principal{Claims: []byte(deep)}},
		"claims huge":     {Principal: &access.Principal{Claims: []byte(`{"n":1e999,"m":123456789012345678901234567890}`)}},
		"unknown effects": {Action: &access.Action{Understood: true, Effects: 1<<15 | access.EffectRead}},
		"odd parameters":  {Action: &access.Action{Parameters: []any{nil, 7, []any{"x"}, struct{}{}, strings.Repeat("x", 1<<20), []byte(nil), "\xff"}}},
	}
	rules := append([]string{
		`action.text.contains("DROP")`, `action.text.matches("(?i)drop\\s+table")`, `action.text.lowerAscii().replace("e", "ee").size() > 3`, `action.text.split(";").size() > 2`,
		`action.objects.all(o, o.schema == "public")`, `action.objects.all(o, action.objects.all(p, o.name != p.name))`, `action.relations.exists(r, r == "x")`,
		`action.columns.all(c, c.startsWith("p"))`, `action.statements.all(s, s.objects.all(o, "read" in o.effects))`, `"public.t99_99" in action.relations`,
		`principal.claims.a == 1`, `principal.claims.n > 1.0`, `principal.claims.m == 1`, `principal.claims == {}`, `action.parameters.exists(p, p == "x")`,
		`action.parameters.map(p, string(p)).size() > 0`, `action.effects.all(e, e in ["read"])`, `"read" in action.effects`, `action.privileged`,
	}, variableCases...)
	for _, when := range rules {
		allow, deny := mustCompile(t, nil, rule("r", when, access.Allow)), mustCompile(t, nil, rule("a", "true", access.Allow), rule("r", when, access.Denied))
		for name, in := range requests {
			began := time.Now()
			a, d := allow.Explain(in), deny.Explain(in)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s: %s took %v", name, when, took)
			}
			if failed := a.Rules[0].Err != nil; failed && (a.Decision.Verdict != access.Denied || d.Decision.Verdict != access.Denied) {
				t.Errorf("%s: %s failed with %v and was allowed: %v, %v", name, when, a.Rules[0].Err, a.Decision, d.Decision)
			}
			if err := a.Rules[0].Err; err != nil && strings.Contains(err.Error(), "internal error") {
				t.Errorf("%s: %s panicked: %v", name, when, err)
			}
			if err := a.Rules[0].Err; err != nil && len(err.Error()) > 1000 {
				t.Errorf("%s: %s: a message of %d bytes", name, when, len(err.Error()))
			}
		}
	}
	// An effect without a name is not a read.
	if d := mustCompile(t, []string{"read-only"}).Decide(requests["unknown effects"]); d.Verdict != access.Denied {
		t.Errorf("got %+v", d)
	}
	if d := mustCompile(t, nil, rule("a", `action.relations.size() == 10000 && "public.t99_99" in action.relations`, access.Allow)).Decide(requests["10,000 objects"]); d.Verdict != access.Allow {
		t.Errorf("got %+v", d)
	}
}

// TestTooLargeForRules: a rule cannot read what is past the largest tier; one
// that does not read it is not concerned.
func TestTooLargeForRules(t *testing.T) {
	t.Parallel()
	n := largest.list + 1
	many := &access.Action{Understood: true, Effects: access.EffectRead, Parameters: make([]any, n), Text: strings.Repeat("x", largest.text+1), Statements: make([]access.Statement, n)}
	for i := range many.Statements {
		many.Statements[i] = access.Statement{
			Verb: fmt.Sprint("V", i), Columns: []string{fmt.Sprint(i)},
			Objects: []access.Object{object("relation", "", fmt.Sprint(i), 0), object("function", "", fmt.Sprint(i), 0)},
		}
	}
	one := &access.Action{Understood: true, Effects: access.EffectRead, Statements: []access.Statement{{Objects: make([]access.Object, n), Columns: make([]string, n)}}}
	long := &access.Action{Understood: true, Effects: access.EffectRead, Parameters: []any{"a", strings.Repeat("x", largest.text+1), make([]byte, largest.text+1)}}
	for _, tt := range []struct {
		a     *access.Action
		when  string
		fails bool
	}{
		{many, `action.text != ""`, true}, {many, `action.verbs != []`, true}, {many, `action.statements != []`, true}, {many, `action.objects != []`, true},
		{many, `action.relations != []`, true}, {many, `action.functions != []`, true}, {many, `action.columns != []`, true}, {many, `action.parameters != []`, true},
		{one, `action.statements[0].objects != []`, true}, {one, `action.statements[0].columns != []`, true}, {one, `action.objects != []`, true},
		{long, `action.parameters[1] != ""`, true}, {long, `action.parameters[2] != b""`, true}, {long, `action.parameters.exists(p, p == "b")`, true},
		{long, `action.parameters[0] == "a"`, false}, {long, `action.parameters.exists(p, p == "a")`, false},
		{many, `action.effects == ["read"]`, false}, {many, `action.op == ""`, false}, {many, `action.privileged`, false},
	} {
		x := mustCompile(t, nil, rule("a", "true", access.Allow), rule("r", tt.when, access.Denied)).Explain(&Input{Action: tt.a})
		if x.Decision.Rule != "r" || (x.Rules[1].Err != nil) != tt.fails {
			t.Errorf("%s: got %+v, %v", tt.when, x.Decision, x.Rules[1].Err)
		}
		if err := x.Rules[1].Err; err != nil && !strings.Contains(err.Error(), "too large for a rule") {
			t.Errorf("%s: got %v", tt.when, err)
		}
	}
}

// TestCostIsBounded: a rule that is too costly for a request cannot be
// evaluated, and what that means is the refusing side.
func TestCostIsBounded(t *testing.T) {
	t.Parallel()
	in := sampleInput()
	in.Action.Statements[0].Columns = make([]string, 500)
	for i := range in.Action.Statements[0].Columns {
		in.Action.Statements[0].Columns[i] = fmt.Sprint("c", i)
	}
	when := `action.columns.all(a, action.columns.all(b, a != "x" && b != "x"))`
	x := mustCompile(t, nil, rule("a", when, access.Allow)).Explain(in)
	if x.Decision.Verdict != access.Denied || !strings.Contains(fmt.Sprint(x.Rules[0].Err), "cost limit") {
		t.Errorf("got %+v", x)
	}
	for _, then := range []access.Verdict{access.Denied, access.Hold} {
		x := mustCompile(t, nil, rule("a", "true", access.Allow), rule("r", "!"+when, then)).Explain(in)
		if x.Decision.Verdict != then || x.Decision.Rule != "r" {
			t.Errorf("got %+v", x)
		}
	}
}

func FuzzPolicyCompile(f *testing.F) {
	for _, when := range variableCases {
		f.Add("r", when, "")
	}
	for _, p := range Packs() {
		for _, r := range p.Rules {
			f.Add(r.Name, r.When, p.Name)
		}
	}
	for _, tt := range problemCases {
		f.Add("r", tt.when, "read-only")
	}
	in := sampleInput()
	f.Fuzz(func(t *testing.T, name, when, pack string) {
		src := Source{Rules: []Rule{{Name: name, When: when, Then: access.Allow, File: "f", Line: 1}}}
		if pack != "" {
			src.Packs = []string{pack}
		}
		began := time.Now()
		defer func() {
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		}()
		p, err := Compile(src)
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatal(err)
			}
			for _, problem := range problems {
				if problem.Message == "" || len(problem.String()) > 2000 {
					t.Errorf("got %q", problem.String())
				}
			}
			return
		}
		x := p.Explain(in)
		if x.Rules[0].Err != nil && x.Rules[0].Matched {
			t.Errorf("an allow that cannot be evaluated matched: %v", x.Rules[0].Err)
		}
		if err := x.Rules[0].Err; err != nil && strings.Contains(err.Error(), "internal error") {
			t.Errorf("panic: %v", err)
		}
	})
}

// TestCountingDoesNotMatter: a rule says the same of a request whether its cost
// is counted or not.
func TestCountingDoesNotMatter(t *testing.T) {
	t.Parallel()
	in := sampleInput()
	for _, when := range append([]string{`principal.claims.absent == 1`, `principal.claims.team`}, variableCases...) {
		p := mustCompile(t, nil, rule("r", when, access.Allow))
		v := view{in: in}
		a, errA := p.rules[0].counted.EvalActivation(&v)
		b, errB := p.rules[0].uncounted.EvalActivation(&v)
		if a != b || (errA == nil) != (errB == nil) {
			t.Errorf("%s: %v, %v counted, %v, %v not", when, a, errA, b, errB)
		}
	}
}

func TestTiers(t *testing.T) {
	t.Parallel()
	statements := func(n, objects, columns int) *access.Action {
		a := &access.Action{Statements: make([]access.Statement, n)}
		for i := range a.Statements {
			a.Statements[i] = access.Statement{Objects: make([]access.Object, objects), Columns: make([]string, columns)}
		}
		return a
	}
	for _, tt := range []struct {
		a    *access.Action
		want int
	}{
		{nil, 0}, {&access.Action{}, 0}, {statements(64, 1, 1), 0}, {statements(65, 0, 0), 1}, {statements(33, 2, 0), 1}, {statements(33, 0, 2), 1},
		{&access.Action{Parameters: make([]any, 1025)}, 2}, {&access.Action{Text: strings.Repeat("x", 1<<20)}, 3}, {&access.Action{Text: strings.Repeat("x", 1<<20+1)}, 4},
		{statements(2, 8192, 0), 3}, {statements(1, 16385, 0), 4},
	} {
		if got := tierOf(tt.a); got != tt.want {
			t.Errorf("%d statements, text of %d: got %d, want %d", len(tt.a.Statements), len(tt.a.Text), got, tt.want)
		}
	}
	for when, want := range map[string]int{
		`"write" in action.effects`:    4,
		`target.name == "x"`:           4,
		`"agents" in principal.groups`: 4,
		`action.effects.all(e, e in ["read", "transaction", "session"])`:     4,
		`action.relations.exists(r, r == "x")`:                               3,
		`action.text.contains("x")`:                                          3,
		`action.statements.exists(s, "write" in s.effects && !s.has_filter)`: 2,
		`action.statements.exists(s, s.objects.exists(o, o.name == "x"))`:    0,
		`principal.claims.groups.exists(g, g == "x")`:                        -1,
	} {
		if got := mustCompile(t, nil, rule("r", when, access.Allow)).rules[0].free; got != want {
			t.Errorf("%s: got %d, want %d", when, got, want)
		}
	}
}
