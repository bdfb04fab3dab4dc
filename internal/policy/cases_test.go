package policy

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/gatebook/gatebook/internal/access"
)

const caseTable = `
- name: reader reads
  principal: {name: bot, issuer: ci, groups: [readers], claims: {team: core, level: 7}}
  action: {sql: SELECT}
  expect: allow
  rule: read-only/read
- name: explicit effects
  principal: {groups: [readers]}
  action: {effects: [read, write], has_filter: true}
  expect: deny
  rule: default
- name: statements
  target: {name: orders, protocol: postgres, labels: {env: prod}}
  action:
    statements:
      - {verb: DROP TABLE, effects: [schema], objects: [{kind: relation, schema: public, name: people, effects: [schema]}], columns: [a.b]}
  expect: hold
- name: session and time
  session: {role: default, database: shop, address: 192.0.2.7, age: 90m}
  time: 2026-03-02T09:00:00+01:00
  action: {op: execute, text: x, opaque: true, parameters: [a, 7, null]}
  expect: deny
  rule: old
`

var caseRules = []Rule{
	{Name: "prod", When: `target.labels.?env.orValue("") == "prod" && action.objects.exists(o, o.name == "people" && "schema" in o.effects) && action.verbs == ["DROP TABLE"] && action.columns == ["a.b"]`, Then: access.Hold},
	{Name: "old", When: `action.op == "execute" && session.age > duration("1h") && time.getHours("UTC") == 8 && action.parameters == ["a", "7", null] && session.role == "default"`},
	{Name: "team", When: `principal.claims.?level.orValue(0) == 7 && principal.claims.team != "core"`},
}

func analyse(text string) *access.Action {
	switch text {
	case "SELECT":
		return &access.Action{Understood: true, Effects: access.EffectRead, Statements: []access.Statement{{Verb: "SELECT", Effects: access.EffectRead, Understood: true}}}
	case "nil":
		return nil
	}
	return &access.Action{}
}

func TestCases(t *testing.T) {
	t.Parallel()
	var cases []Case
	if err := yaml.UnmarshalWithOptions([]byte(caseTable), &cases, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	p := mustCompile(t, []string{"read-only"}, caseRules...)
	for _, f := range p.Test(cases, analyse) {
		t.Errorf("%s: %+v", f, f.Explanation)
	}
	for i := range cases {
		cases[i].Expect = map[string]string{"allow": "hold", "deny": "allow", "hold": "deny"}[cases[i].Expect]
	}
	if got := p.Test(cases, analyse); len(got) != len(cases) {
		t.Errorf("%d of %d cases fail", len(got), len(cases))
	}
}

func TestCaseFailures(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, []string{"office-hours", "read-only"})
	tests := []struct {
		c    Case
		want string
	}{
		{Case{Expect: "allow", Action: CaseAction{Effects: []string{"write"}}, Time: "2026-03-02T09:00:00Z"}, "deny by rule default, want allow"},
		{Case{Expect: "allow", Rule: "other", Action: CaseAction{SQL: "SELECT"}}, "allow by rule read-only/read, want rule other"},
		{Case{Expect: "alow"}, `expect must be allow, deny or hold, not "alow"`},
		{Case{}, `expect must be`},
		{Case{Expect: "deny", Rule: "default", Action: CaseAction{Effects: []string{"write"}}}, "rule office-hours/closed: "},
		{Case{Expect: "deny", Time: "yesterday"}, "time must be in the form"},
		{Case{Expect: "deny", Session: CaseSession{Age: "5 minutes"}}, "session.age must be a duration"},
		{Case{Expect: "deny", Session: CaseSession{Age: "5m"}}, "session.age needs the time"},
		{Case{Expect: "deny", Action: CaseAction{Effects: []string{"raed"}}}, `no effect is named "raed"; did you mean 'read'?`},
		{Case{Expect: "deny", Action: CaseAction{Statements: []CaseStatement{{Effects: []string{"x"}}}}}, `no effect is named "x"`},
		{Case{Expect: "deny", Action: CaseAction{Statements: []CaseStatement{{Objects: []CaseObject{{Effects: []string{"x"}}}}}}}, `no effect is named "x"`},
		{Case{Expect: "deny", Action: CaseAction{SQL: "SELECT", Opaque: true}}, "action has sql, whose analysis"},
		{Case{Expect: "deny", Action: CaseAction{SQL: "nil"}}, "the analysis of sql says nothing"},
		{Case{Expect: "deny", Principal: CasePrincipal{Claims: map[string]any{"f": func() {}}}}, "the claims: "},
	}
	for _, tt := range tests {
		tt.c.Name, tt.c.File, tt.c.Line = "the case", "cases.yaml", 4
		got := p.Test([]Case{tt.c}, analyse)
		if len(got) != 1 {
			t.Errorf("%+v: %d failures, want %q", tt.c, len(got), tt.want)
			continue
		}
		if s := got[0].String(); !strings.Contains(s, tt.want) || !strings.HasPrefix(s, `cases.yaml:4: case "the case": `) {
			t.Errorf("got %q, want %q", s, tt.want)
		}
	}
	if got := p.Test([]Case{{Expect: "deny", Action: CaseAction{SQL: "SELECT"}}}, nil); len(got) != 1 || !strings.Contains(got[0].Message, "nothing to analyse") {
		t.Errorf("got %v", got)
	}
}
