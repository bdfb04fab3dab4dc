package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatebook/gatebook/internal/access"
)

// problemCases are conditions that do not compile; want is what a problem says.
var problemCases = []struct{ when, want string }{
	{`principl.name == "x"`, "1:1 no such variable or function 'principl'; did you mean 'principal'?"},
	{`acton.effects == []`, "1:1 no such variable or function 'acton'; did you mean 'action'?"},
	{`tme.getHours() > 8`, "1:1 no such variable or function 'tme'; did you mean 'time'?"},
	{`"x" in principal.group`, "1:8 no such field 'group' of 'principal'; did you mean 'groups'?"},
	{`"write" in action.efects`, "1:12 no such field 'efects' of 'action'; did you mean 'effects'?"},
	{`target.lables.env == "prod"`, "1:1 no such field 'lables' of 'target'; did you mean 'labels'?"},
	{`target.address == "x"`, "1:1 no such field 'address' of 'target'"},
	{`session.db == "x"`, "1:1 no such field 'db' of 'session'"},
	{`session . adddress == "x"`, "1:1 no such field 'adddress' of 'session'; did you mean 'address'?"},
	{"true &&\n  \"write\" in action.effect", "2:14 no such field 'effect' of 'action'; did you mean 'effects'?"},
	{`action.statements.exists(s, s.vreb == "DROP")`, "1:30 no such field 'vreb'; did you mean 'verb'?"},
	{`action.statements.exists(s, s.objects.exists(o, o.shema == "x"))`, "1:50 no such field 'shema'; did you mean 'schema'?"},
	{`action.objects[0].nam == "x"`, "1:18 no such field 'nam'; did you mean 'name'?"},
	{`action.verbs.exist("x")`, "no such variable or function 'exist'; did you mean 'exists'?"},
	{`action.text.contain("x")`, "1:20 no such variable or function 'contain'; did you mean 'contains'?"},
	{`time.getHour() > 1`, "1:13 no such variable or function 'getHour'; did you mean 'getHours'?"},
	{`has(action.text)`, "'action.text' is always there"},
	{`action.?text.orValue("") == ""`, "'action.text' is always there"},
	{`has(action.texts)`, "no such field 'texts' of 'action'; did you mean 'text'?"},
	{`action == 1`, "1:1 'action' is no value: name one of its fields"},
	{`[session].size() > 0`, "1:2 'session' is no value"},
	{`"shema" in action.effects`, `1:1 no effect is named "shema"; did you mean 'schema'?`},
	{`action.effects == ["raed"]`, `1:20 no effect is named "raed"; did you mean 'read'?`},
	{`action.effects.all(e, e in ["read", "transactions"])`, `1:37 no effect is named "transactions"; did you mean 'transaction'?`},
	{`action.effects.exists(e, e == "Write")`, `1:31 no effect is named "Write"; did you mean 'write'?`},
	{`action.effects[0] != "reed"`, `no effect is named "reed"`},
	{`action.statements.exists(s, "ddl" in s.effects)`, `1:29 no effect is named "ddl"`},
	{`action.objects.exists(o, o.effects == ["wirte"])`, `no effect is named "wirte"; did you mean 'write'?`},
	{`action.op == 1`, "1:11 found no matching overload for '==' applied to '(string, int)'"},
	{`1 in action.effects`, "1:3 found no matching overload for 'in' applied to '(int, list(string))'"},
	{`!action.op`, "found no matching overload for '!' applied to '(string)'"},
	{`action.op`, "the result is string, want bool"},
	{`action.op == `, "Syntax error"},
	{``, `the rule has no condition (when); "true" always holds`},
	{" \n ", `the rule has no condition`},
	{`time.getHours("Europe/Berln") > 8`, `no time zone is named "Europe/Berln"`},
	{`time.getHours("Local") > 8`, `no time zone is named "Local"`},
	{`time.getHours("") > 8`, `no time zone is named ""`},
	{`time.getHours("25:00") > 8`, `is no offset from UTC`},
	{`time.getHours(target.labels.zone) > 8`, "the time zone must be a literal"},
	{`dyn(time).getHours(dyn("Local")) > 8`, "the time zone must be a literal"},
	{`statement{verb: "x"} == action.statements[0]`, ""},
	{`action.text.matches("(")`, "invalid matches argument"},
	{`action.text.matches(principal.name)`, "the pattern of matches must be a literal"},
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range problemCases {
		if tt.want == "" {
			continue
		}
		t.Run(tt.when, func(t *testing.T) {
			t.Parallel()
			_, err := Compile(Source{Rules: []Rule{{Name: "r", When: tt.when, Then: access.Allow, File: "policy.yaml", Line: 11}}})
			var problems Problems
			if !errors.As(err, &problems) || len(problems) != 1 {
				t.Fatalf("got %v, want one problem", err)
			}
			p := problems[0]
			want := tt.want
			var line, column int
			if n, _ := fmt.Sscanf(want, "%d:%d ", &line, &column); n == 2 {
				want = want[strings.Index(want, " ")+1:]
				if p.Line != 10+line || p.Column != column {
					t.Errorf("got place %d:%d, want %d:%d", p.Line, p.Column, 10+line, column)
				}
			}
			if p.File != "policy.yaml" || p.Rule != "r" || p.Line < 11 {
				t.Errorf("got %+v", p)
			}
			if !strings.Contains(p.String(), want) {
				t.Errorf("got %q, want %q in it", p, want)
			}
		})
	}
}

// TestNoFalseProblems: what only looks like a mistake compiles.
func TestNoFalseProblems(t *testing.T) {
	t.Parallel()
	for _, when := range []string{
		`action.effects.all(e, e in ["read"]) && action.verbs.exists(e, e == "SELECT")`,
		`action.effects.exists(e, action.verbs.exists(e, e == "SELECT"))`,
		`action.effects.exists(e, e == "read" && action.verbs.exists(v, v == "SELECT"))`,
		`action.verbs.exists(v, v == "anything") || "other" in action.relations`,
		`principal.claims.effects == ["sound"]`,
		`principal.claims.map(k, k).exists(action, action == "x")`,
		`[1, 2].exists(time, time > 1)`,
		`action.effects.exists(e, e in principal.groups)`,
	} {
		mustCompile(t, nil, rule("r", when, access.Allow))
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	rules := []Rule{
		{Name: "one", When: "acton.op == \"x\" ||\n  target.nme == \"y\"", File: "b.yaml", Line: 20},
		{Name: "two", When: "true", File: "a.yaml", Line: 5},
		{Name: "two", When: "true", File: "a.yaml", Line: 9},
		{Name: "no-opaque/opaque", When: "true", File: "a.yaml", Line: 10},
		{Name: "mine/opaque", When: "true", File: "a.yaml", Line: 11},
		{Name: "default", When: "true", File: "a.yaml", Line: 12},
		{When: "true", File: "a.yaml", Line: 13},
		{Name: "three", When: "true", Then: 7, File: "a.yaml", Line: 14},
		{Name: "four", When: "true", Reason: "a\x00b", Hint: strings.Repeat("x", maxWords+1), File: "a.yaml", Line: 15},
		{Name: "five", When: "true", Reason: "\xff", File: "a.yaml", Line: 16},
	}
	_, err := Compile(Source{Rules: rules, Packs: []string{"read-olny", "no-opaque", "no-opaque", "nonsense-that-is-far"}})
	if err == nil {
		t.Fatal("no problem")
	}
	want := []string{
		`no pack is named "read-olny"; did you mean 'read-only'?`,
		`the pack "no-opaque" is listed twice`,
		`no pack is named "nonsense-that-is-far"`,
		`a.yaml:9: rule "two": the name is taken by another rule (a.yaml:5)`,
		`a.yaml:10: rule "no-opaque/opaque": this is the name of a rule of a pack; name a copy differently`,
		`a.yaml:11: rule "mine/opaque": "mine/opaque" is not a name of letters, digits, '.', '_' and '-'`,
		`a.yaml:12: rule "default": "default" is what a decision names where no rule matched`,
		`a.yaml:13: the rule has no name`,
		`a.yaml:14: rule "three": then must be allow, deny or hold`,
		`a.yaml:15: rule "four": the reason has a control character`,
		`a.yaml:15: rule "four": the hint has more than 1000 characters`,
		`a.yaml:16: rule "five": the reason is not valid UTF-8`,
		`b.yaml:20: rule "one": no such variable or function 'acton'; did you mean 'action'?`,
		`b.yaml:21: rule "one": no such field 'nme' of 'target'; did you mean 'name'?`,
	}
	if d := cmp.Diff(want, strings.Split(err.Error(), "\n")); d != "" {
		t.Error(d)
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"read", "write", "schema", "transaction"}
	for word, want := range map[string]string{
		"raed": "read", "READ": "read", "reads": "read", "shema": "schema", "transactoin": "transaction", "": "", "zzzz": "", "x": "", "größe": "", "wr\xff": "",
	} {
		if got := Nearest(word, words); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
