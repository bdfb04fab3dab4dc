package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatebook/gatebook/internal/access"
)

func mustCompile(t testing.TB, packs []string, rules ...Rule) *Policy {
	t.Helper()
	p, err := Compile(Source{Rules: rules, Packs: packs})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rule(name, when string, then access.Verdict) Rule {
	return Rule{Name: name, When: when, Then: then, File: "policy.yaml", Line: 3}
}

// object returns a relation with what is done to it.
func object(kind, schema, name string, e access.Effects) access.Object {
	return access.Object{Kind: kind, Schema: schema, Name: name, Effects: e}
}

func sampleInput() *Input {
	began := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC) // a Monday
	return &Input{
		Principal: &access.Principal{
			Issuer: "ci", Subject: "repo:acme/orders", Name: "orders-bot", Groups: []string{"agents", "readers"}, Actor: []string{"planner"},
			Owner: "ana", Claims: []byte(`{"team":"core","level":7,"ratio":0.5,"big":9007199254740993,"nested":{"on":true},"tags":["a","b"],"none":null}`),
		},
		Target:  &access.Target{Name: "orders", Protocol: access.Postgres, Address: "10.0.0.1:5432", Labels: map[string]string{"env": "prod"}},
		Session: Session{Role: "default", Database: "shop", Address: "192.0.2.7", Began: began},
		Time:    began.Add(90 * time.Minute),
		Usage: access.Usage{
			Minute: access.Counts{Requests: 1, Rows: 2, Bytes: 3}, Hour: access.Counts{Requests: 4, Rows: 5, Bytes: 6},
			Day: access.Counts{Requests: 7, Rows: 8, Bytes: math.MaxUint64},
		},
		Action: &access.Action{
			Found: map[string]uint64{"email": 2}, Infers: []string{"mails"},
			Op: "query", Text: "UPDATE orders SET n = $1 WHERE id = $2; SELECT lower(name) FROM public.people", Understood: true,
			Effects: access.EffectRead | access.EffectWrite, Fingerprint: "18:ab", Parameters: []any{"x", []byte{1, 2}, nil},
			Statements: []access.Statement{
				{
					Verb: "UPDATE", Effects: access.EffectWrite, HasFilter: true, Understood: true, Columns: []string{"orders.n", "orders.id"},
					Objects: []access.Object{object("relation", "", "orders", access.EffectWrite)},
				},
				{
					Verb: "SELECT", Effects: access.EffectRead, Understood: true, Columns: []string{"public.people.name"},
					Objects: []access.Object{
						object("relation", "public", "people", access.EffectRead), object("function", "pg_catalog", "lower", 0), object("relation", "", "orders", access.EffectRead),
					},
				},
			},
		},
	}
}

// variableCases are conditions that hold for sampleInput.
var variableCases = []string{
	`principal.name == "orders-bot"`, `principal.issuer == "ci"`, `principal.subject.startsWith("repo:acme/")`, `principal.id == "ci|orders-bot"`,
	`principal.groups == ["agents", "readers"] && "agents" in principal.groups`, `principal.actor[0] == "planner"`, `principal.owner == "ana"`,
	`principal.claims.team == "core"`, `principal.claims["level"] == 7 && principal.claims.level > 6`, `principal.claims.ratio == 0.5`,
	`principal.claims.big == 9007199254740993 && principal.claims.big != 9007199254740992`, `principal.claims.nested.on`,
	`"b" in principal.claims.tags`, `principal.claims.none == null`, `!has(principal.claims.absent) && has(principal.claims.team)`,
	`principal.claims.?absent.orValue("x") == "x"`,
	`target.name == "orders"`, `target.protocol == "postgres"`, `target.labels.env == "prod" && target.labels["env"] == "prod"`,
	`!has(target.labels.data) && target.labels.?data.orValue("none") == "none" && target.labels == {"env": "prod"}`,
	`session.role == "default"`, `session.database == "shop"`, `session.address == "192.0.2.7"`, `session.age == duration("90m") && session.age < duration("2h")`,
	`action.op == "query"`, `action.text.contains("UPDATE")`, `action.effects == ["read", "write"]`, `["read", "write"] == action.effects`,
	`"write" in action.effects && !("schema" in action.effects)`, `action.effects.exists(e, e == "write")`, `action.effects[1] == "write"`,
	`action.effects.size() == 2`, `action.effects.filter(e, e != "read") == ["write"]`, `action.effects + ["x"] == ["read", "write", "x"]`,
	`action.verbs == ["UPDATE", "SELECT"]`, `action.statements.size() == 2`,
	`action.statements[0].verb == "UPDATE" && action.statements.exists(s, s.verb == "SELECT")`, `action.statements.all(s, s.effects.size() == 1)`,
	`action.statements.exists(s, s.objects.exists(o, o.name == "people"))`, `action.statements[1].columns == ["public.people.name"]`,
	`action.statements[0].has_filter && !action.statements[1].has_filter`, `action.statements.all(s, !s.opaque)`,
	`action.objects.size() == 4 && action.objects[0].kind == "relation"`, `action.objects.exists(o, o.schema == "public" && o.name == "people" && o.effects == ["read"])`,
	`action.objects.exists(o, o.kind == "function" && o.effects == [])`,
	`action.relations == ["orders", "public.people"]`, `action.functions == ["pg_catalog.lower"]`,
	`action.columns == ["orders.n", "orders.id", "public.people.name"]`,
	`action.parameters.size() == 3 && action.parameters[0] == "x" && action.parameters[1] == b"\x01\x02" && action.parameters[2] == null`,
	`action.infers == ["mails"]`, `action.personal_data["email"] == 2 && !("card" in action.personal_data) && size(action.personal_data) == 1`, `!action.has_filter`, `!action.opaque`, `action.fingerprint == "18:ab"`, `!action.privileged`,
	`time == timestamp("2026-03-02T10:30:00Z")`, `time.getHours() == 10 && time.getHours("UTC") == 10 && time.getDayOfWeek() == 1`,
	`time.getHours("Europe/Berlin") == 11 && time.getHours("+02:00") == 12 && time.getMinutes("-03:30") == 0 && time.getHours("-03:30") == 7`,
	`time.getFullYear("UTC") == 2026 && time.getMonth("UTC") == 2 && time.getDayOfYear("UTC") == 60 && time.getDayOfMonth("UTC") == 1`,
	`time.getDate("UTC") == 2 && time.getDayOfWeek("UTC") == 1 && time.getSeconds("UTC") == 0 && time.getMilliseconds("UTC") == 0`,
	`usage.requests_minute == 1 && usage.rows_minute == 2 && usage.bytes_minute == 3 && usage.requests_hour == 4 && usage.rows_hour == 5`,
	`usage.bytes_hour == 6 && usage.requests_day == 7 && usage.rows_day == 8 && usage.bytes_day == 9223372036854775807`,
	// Values behind dyn() are read by name, and compared by content.
	`dyn(action.statements[0]).verb == "UPDATE" && dyn(action.objects[0])["name"] == "orders"`, `has(action.statements[0].verb)`,
	`action.statements[0] == action.statements[0] && action.statements[0] != action.statements[1]`, `action.objects[0] != action.objects[1]`,
	`type(action.statements[0]) == type(action.statements[1])`, `action.statements[0].?verb.orValue("") == "UPDATE"`,
}

func TestVariables(t *testing.T) {
	t.Parallel()
	in := sampleInput()
	for _, when := range variableCases {
		x := mustCompile(t, nil, rule("r", when, access.Allow)).Explain(in)
		if x.Decision.Verdict != access.Allow {
			t.Errorf("%s does not hold: %v", when, x.Rules[0].Err)
		}
	}
	all := strings.Join(variableCases, "\n")
	for _, v := range variables {
		if !strings.Contains(all, v.name) {
			t.Errorf("%s is not tested", v.name)
		}
	}
	for _, f := range elementFields() {
		if !strings.Contains(all, "."+f) {
			t.Errorf("field %s is not tested", f)
		}
	}
	if len(variables) > maxVariables {
		t.Errorf("%d variables, a view has place for %d", len(variables), maxVariables)
	}
}

// TestNothingGiven: what is not given is empty, and the action opaque.
func TestNothingGiven(t *testing.T) {
	t.Parallel()
	for _, when := range []string{
		`principal.name == "" && principal.id == "|" && principal.groups == [] && principal.actor == []`, `principal.claims == {}`, `target.labels == {}`, `target.name == ""`,
		`action.opaque && action.privileged && action.effects == [] && action.statements == [] && action.objects == [] && action.relations == []`,
		`session.role == "" && action.parameters == [] && action.columns == [] && action.verbs == []`,
	} {
		x := mustCompile(t, nil, rule("r", when, access.Allow)).Explain(&Input{})
		if x.Decision.Verdict != access.Allow {
			t.Errorf("%s does not hold: %v", when, x.Rules[0].Err)
		}
	}
	var none *Policy
	empty := mustCompile(t, nil)
	for _, d := range []access.Decision{none.Decide(&Input{}), none.Decide(nil), empty.Decide(sampleInput()), empty.Decide(nil)} {
		if diff := cmp.Diff(access.Decision{Rule: "default", Reason: noRule}, d); diff != "" {
			t.Error(diff)
		}
	}
	if none.Rules() != nil || none.Volatile() != (Volatile{}) || len(none.Explain(nil).Rules) != 0 {
		t.Error("the nil policy has rules")
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	yes, no, fails := `true`, `false`, `principal.claims.absent == "x"`
	r := func(name, when string, then access.Verdict) Rule {
		return Rule{Name: name, When: when, Then: then, Reason: "because " + name, Hint: "try " + name}
	}
	tests := []struct {
		name    string
		rules   []Rule
		want    access.Verdict
		rule    string
		matched []string
	}{
		{"allow", []Rule{r("a", yes, access.Allow)}, access.Allow, "a", []string{"a"}},
		{"no match", []Rule{r("a", no, access.Allow), r("d", no, access.Denied), r("h", no, access.Hold)}, access.Denied, "default", nil},
		{"hold beats allow", []Rule{r("a", yes, access.Allow), r("h", yes, access.Hold)}, access.Hold, "h", []string{"a", "h"}},
		{"deny beats both", []Rule{r("a", yes, access.Allow), r("h", yes, access.Hold), r("d", yes, access.Denied)}, access.Denied, "d", []string{"a", "h", "d"}},
		{"first deny speaks", []Rule{r("a", yes, access.Allow), r("d1", no, access.Denied), r("d2", yes, access.Denied), r("d3", yes, access.Denied)}, access.Denied, "d2", []string{"a", "d2", "d3"}},
		{"first allow speaks", []Rule{r("a1", yes, access.Allow), r("a2", yes, access.Allow)}, access.Allow, "a1", []string{"a1", "a2"}},
		{"error in allow", []Rule{r("a", fails, access.Allow)}, access.Denied, "default", nil},
		{"error in hold", []Rule{r("a", yes, access.Allow), r("h", fails, access.Hold)}, access.Hold, "h", []string{"a", "h"}},
		{"error in deny", []Rule{r("a", yes, access.Allow), r("d", fails, access.Denied)}, access.Denied, "d", []string{"a", "d"}},
		{"error in allow beside another", []Rule{r("a1", fails, access.Allow), r("a2", yes, access.Allow)}, access.Allow, "a2", []string{"a2"}},
		{"no bool", []Rule{r("a", yes, access.Allow), r("d", "principal.claims.team", access.Denied)}, access.Denied, "d", []string{"a", "d"}},
		{"no bool, allow", []Rule{r("a", "principal.claims.team", access.Allow)}, access.Denied, "default", nil},
		{"error that the other side decides", []Rule{r("a", fails+" || true", access.Allow), r("d", fails+" && false", access.Denied)}, access.Allow, "a", []string{"a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := access.Decision{Verdict: tt.want, Rule: tt.rule, Reason: "because " + tt.rule, Hint: "try " + tt.rule, Matched: tt.matched}
			if tt.rule == DefaultRule {
				want.Reason, want.Hint = noRule, ""
			}
			if d := cmp.Diff(want, mustCompile(t, nil, tt.rules...).Decide(sampleInput())); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, []string{"no-opaque"}, rule("a", "true", access.Allow), rule("n", "false", access.Allow), rule("d", `principal.claims.absent == "x"`, access.Denied))
	x := p.Explain(sampleInput())
	if x.Decision.Verdict != access.Denied || x.Decision.Reason != notEvaluated {
		t.Errorf("got %+v", x.Decision)
	}
	var got []string
	for _, r := range x.Rules {
		got = append(got, fmt.Sprintf("%s %v %v", r.Rule.Name, r.Matched, r.Err != nil))
	}
	if d := cmp.Diff([]string{"a true false", "n false false", "d true true", "no-opaque/opaque false false"}, got); d != "" {
		t.Error(d)
	}
	if err := x.Rules[2].Err; !strings.Contains(err.Error(), "no such key: absent") {
		t.Errorf("got %v", err)
	}
	if d := cmp.Diff(x.Decision, p.Decide(sampleInput())); d != "" {
		t.Error(d)
	}
	if rules := p.Rules(); len(rules) != 4 || rules[3].File != "pack no-opaque" {
		t.Errorf("got %v", rules)
	}
}

// TestOrderDoesNotMatter: any order of the rules gives the same verdict, and
// it is the strictest of those that match.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	in := sampleInput()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 6).Draw(t, "rules")
		want := access.Verdict(0)
		var rules []Rule
		any := false
		for i := range n {
			then := rapid.SampledFrom([]access.Verdict{access.Denied, access.Hold, access.Allow}).Draw(t, "then")
			when := rapid.SampledFrom([]string{"true", "false", "principal.claims.absent"}).Draw(t, "when")
			rules = append(rules, Rule{Name: fmt.Sprintf("r%d", i), When: when, Then: then})
			if when == "true" || when != "false" && then != access.Allow {
				if !any || then < want {
					want = then
				}
				any = true
			}
		}
		rules = rapid.Permutation(rules).Draw(t, "order")
		p, err := Compile(Source{Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		d := p.Decide(in)
		if d.Verdict != want || (d.Rule == DefaultRule) == any || any != (len(d.Matched) > 0) {
			t.Fatalf("got %+v, want %v", d, want)
		}
		if any && !slices.ContainsFunc(rules, func(r Rule) bool { return r.Name == d.Rule && r.Then == want }) {
			t.Fatalf("rule %s does not say %v", d.Rule, want)
		}
	})
}

func TestVolatile(t *testing.T) {
	t.Parallel()
	for when, want := range map[string]Volatile{
		`"write" in action.effects && session.role == "default"`: {},
		`time.getHours() > 8`:                               {Time: true},
		`session.age > duration("1h")`:                      {Age: true},
		`action.parameters.exists(p, p == "x")`:             {Parameters: true},
		`.action.text == "x"`:                               {Text: true},
		`false && time > timestamp("2026-01-01T00:00:00Z")`: {Time: true},
		`action.text == "x" || session.age > duration("1s") || time.getHours() == 1 || action.parameters == [] || usage.rows_day > 5`: {true, true, true, true, true},
		`usage.requests_minute > 5`: {Usage: true},
	} {
		if got := mustCompile(t, nil, rule("r", when, access.Allow)).Volatile(); got != want {
			t.Errorf("%s: got %+v, want %+v", when, got, want)
		}
	}
	if got := mustCompile(t, []string{"office-hours", "read-only"}).Volatile(); got != (Volatile{Time: true}) {
		t.Errorf("packs: got %+v", got)
	}
}

// TestTimesNotGiven: a rule that asks for a time that the caller did not give
// counts for the refusing side.
func TestTimesNotGiven(t *testing.T) {
	t.Parallel()
	in := sampleInput()
	in.Time = time.Time{}
	for _, when := range []string{"time.getHours() >= 0", `session.age >= duration("0s")`} {
		if d := mustCompile(t, nil, rule("r", when, access.Allow)).Decide(in); d.Verdict != access.Denied {
			t.Errorf("%s: %+v", when, d)
		}
		if d := mustCompile(t, nil, rule("a", "true", access.Allow), rule("r", "!("+when+")", access.Denied)).Decide(in); d.Rule != "r" {
			t.Errorf("%s: %+v", when, d)
		}
	}
}

func TestConcurrentDecisions(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, nil, rule("mine", `principal.name == target.name && action.statements.exists(s, s.verb == principal.name) && principal.claims.n == principal.name`, access.Allow))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			name := fmt.Sprint("p", g)
			other := fmt.Sprint("p", g+1)
			for range 200 {
				in := &Input{
					Principal: &access.Principal{Name: name, Claims: []byte(`{"n":"` + name + `"}`)}, Target: &access.Target{Name: name},
					Action: &access.Action{Statements: []access.Statement{{Verb: name}}},
				}
				if d := p.Decide(in); d.Verdict != access.Allow {
					t.Errorf("%s: %+v", name, d)
				}
				in.Target = &access.Target{Name: other}
				if d := p.Decide(in); d.Verdict != access.Denied {
					t.Errorf("%s: %+v", other, d)
				}
			}
		})
	}
	wg.Wait()
}
