package expr

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func claimsEnv(t testing.TB) *Env {
	t.Helper()
	e, err := Claims()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var sample = map[string]any{"claims": map[string]any{
	"sub": "repo:acme/orders", "groups": []any{"b", "a"}, "mixed": []any{"a", int64(1)}, "n": int64(7),
	"ok": true, "nested": map[string]any{"team": "core"}, "nothing": nil,
	"long": strings.Repeat("a", 4000), "many": make([]any, maxList+1),
	"roles": map[string]any{"gatebook": map[string]any{"roles": []any{"agent"}}},
}}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	e := claimsEnv(t)
	asString := func(s string) error { _, err := Compile[string](e, s); return err }
	asList := func(s string) error { _, err := Compile[[]string](e, s); return err }
	asBool := func(s string) error { _, err := Compile[bool](e, s); return err }
	tests := []struct {
		name, src string
		compile   func(string) error
		want      string
		line, col int
	}{
		{"unknown variable", "clams.sub", asString, "undeclared reference to 'clams'", 1, 1},
		{"unknown function", "claims.sub.frob()", asString, "undeclared reference to 'frob'", 1, 16},
		{"syntax", "claims.sub +", asString, "Syntax error", 1, 13},
		{"second line", "claims.sub\n  + 1 + clams", asString, "undeclared reference", 2, 9},
		{"bool for string", "claims.sub == 'x'", asString, "the result is bool, want string", 1, 1},
		{"string for bool", "'x'", asBool, "the result is string, want bool", 1, 1},
		{"string for list", "'x'", asList, "the result is string, want list(string)", 1, 1},
		{"list of int", "[1, 2]", asList, "the result is list(int), want list(string)", 1, 1},
		{"empty", "  ", asString, "empty", 0, 0},
		{"regular expression", "claims.sub.matches('(')", asBool, "invalid matches argument", 1, 20},
		{"regular expression too large", "claims.sub.matches('((a{100}){10}){10}')", asBool, "invalid matches argument", 1, 20},
		{"regular expression too large, expanded", "claims.sub.matches('(a{100}b{100}){9}')", asBool, "too large", 1, 20},
		{"pattern from a claim", "claims.sub.matches(claims.ok)", asBool, "must be a literal", 1, 26},
		{"pattern from a claim, as function", "matches(claims.sub, 'a' + claims.ok)", asBool, "must be a literal", 1, 25},
		{"too deep", strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300), asBool, "recursion", 0, 0},
		{"too long", "'" + strings.Repeat("x", maxSource) + "'", asString, "size", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var ee *Error
			if err := tt.compile(tt.src); !errors.As(err, &ee) {
				t.Fatalf("err = %v, want an *Error", err)
			}
			if !strings.Contains(ee.Error(), tt.want) {
				t.Errorf("got %q, want it to contain %q", ee, tt.want)
			}
			if p := ee.Problems[0]; tt.line > 0 && (p.Line != tt.line || p.Column != tt.col) {
				t.Errorf("got place %d:%d, want %d:%d (%s)", p.Line, p.Column, tt.line, tt.col, ee)
			}
			if len(ee.Error()) > 1000 {
				t.Errorf("the message is %d bytes long", len(ee.Error()))
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Compile[bool](claimsEnv(t), "clams.a == 1 && clms.b == 2")
	var ee *Error
	if !errors.As(err, &ee) || len(ee.Problems) != 2 {
		t.Fatalf("got %v, want two problems", err)
	}
	if want := `"clams.a == 1 && clms.b == 2"`; !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want the expression %s in it", err, want)
	}
}

func TestEvalString(t *testing.T) {
	t.Parallel()
	runEval(t, []evalCase[string]{
		{"claim", "claims.sub", "repo:acme/orders", ""},
		{"index", `claims["sub"]`, "repo:acme/orders", ""},
		{"nested", "claims.nested.team", "core", ""},
		{"strings extension", "claims.sub.split(':')[1].upperAscii()", "ACME/ORDERS", ""},
		{"absent with has", "has(claims.team) ? claims.team : 'none'", "none", ""},
		{"absent with orValue", "claims.?team.orValue('none')", "none", ""},
		{"absent", "claims.team", "", "no such key"},
		{"absent in nested", "claims.nested.x", "", "no such key"},
		{"number", "claims.n", "", "the result is int, want string"},
		{"number converted", "string(claims.n)", "7", ""},
		{"null", "claims.nothing", "", "the result is null_type, want string"},
		{"out of range", "claims.sub.split(':')[5]", "", "index out of bounds"},
		{"too costly", "claims.many.map(x, claims.many.map(y, 'a').size()).size() > 0 ? 'a' : 'b'", "", "cost limit"},
	})
}

func TestEvalList(t *testing.T) {
	t.Parallel()
	runEval(t, []evalCase[[]string]{
		{"claim", "claims.groups", []string{"b", "a"}, ""},
		{"empty", "[]", []string{}, ""},
		{"built", "['x', claims.sub]", []string{"x", "repo:acme/orders"}, ""},
		{"default", "claims.?teams.orValue([])", []string{}, ""},
		{"deep", "claims.roles.gatebook.roles", []string{"agent"}, ""},
		{"one string is no list", "claims.sub", nil, "the result is string, want list(string)"},
		{"mixed", "claims.mixed", nil, "element 1 of the result: the result is int, want string"},
		{"too many", "claims.many", nil, "more than 1024 elements"},
		{"map", "claims.nested", nil, "the result is map, want list(string)"},
	})
}

func TestEvalBool(t *testing.T) {
	t.Parallel()
	runEval(t, []evalCase[bool]{
		{"true", "claims.sub.startsWith('repo:acme/')", true, ""},
		{"counted repetition", "claims.sub.matches('^repo:[a-z]{2,40}/')", true, ""},
		{"in", "'a' in claims.groups", true, ""},
		{"dynamic", "claims.ok", true, ""},
		{"string is no bool", "claims.sub", false, "the result is string, want bool"},
		{"error decided by the other side", "claims.absent == 'x' || claims.ok", true, ""},
		{"error", "claims.absent == 'x'", false, "no such key"},
	})
}

type evalCase[T Result] struct {
	name, src string
	want      T
	err       string
}

func runEval[T Result](t *testing.T, tests []evalCase[T]) {
	t.Helper()
	e := claimsEnv(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := Compile[T](e, tt.src)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Eval(sample)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, %v; want an error with %q", got, err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	e := claimsEnv(t)
	for src, want := range map[string][]string{
		"claims.a == 'x'":                                  {"a"},
		"claims['a'] == 'x' && claims.b.c == 'y'":          {"a", "b"},
		"has(claims.a)":                                    {"a"},
		"claims.?a.orValue('') == 'x'":                     {"a"},
		"'a' in claims":                                    {"a"},
		"['x'].exists(v, v == claims.a)":                   {"a"},
		"claims['a' + 'b'] == 'x'":                         {},
		"true":                                             {},
		"{'claims': {'z': 1}}.claims.z == 1":               {},
		"claims.map(k, k).exists(k, k == 'x' && claims.a)": {"a"},
	} {
		p, err := Compile[bool](e, src)
		if err != nil {
			t.Fatal(err)
		}
		w := map[string]bool{}
		for _, f := range want {
			w[f] = true
		}
		if d := cmp.Diff(w, p.Fields("claims")); d != "" {
			t.Errorf("%s: %s", src, d)
		}
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	e, err := New([]Var{{"d", Dyn}, {"m", Map}, {"s", String}, {"b", Bool}, {"i", Int}, {"l", Strings}, {"t", Timestamp}, {"u", Duration}})
	if err != nil {
		t.Fatal(err)
	}
	for _, ok := range []string{"d.x == 1", "m.x == 1", "s == ''", "b", "i > 1", "l[0] == ''", "t.getHours() > 8", "u > duration('1s')"} {
		if _, err := Compile[bool](e, ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"s == 1", "b == ''", "i == ''", "l == [1]", "t == 1", "u == 1"} {
		if _, err := Compile[bool](e, bad); err == nil {
			t.Errorf("%s: compiled", bad)
		}
	}
}

// BenchmarkEvalAtTheLimit shows what the cost limit means in time.
func BenchmarkEvalAtTheLimit(b *testing.B) {
	p, err := Compile[bool](claimsEnv(b), "claims.many.all(x, claims.many.all(y, claims.sub != 'x'))")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := p.Eval(sample); err == nil {
			b.Fatal("within the limit")
		}
	}
}

func BenchmarkEval(b *testing.B) {
	p, err := Compile[bool](claimsEnv(b), "claims.sub.startsWith('repo:acme/') && 'a' in claims.groups")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := p.Eval(sample); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
