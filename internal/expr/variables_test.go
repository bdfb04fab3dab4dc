package expr

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVariables(t *testing.T) {
	t.Parallel()
	e, err := New([]Var{{"a.b", String}, {"a.c", Strings}, {"m", Map}, {"t", Timestamp}})
	if err != nil {
		t.Fatal(err)
	}
	for src, want := range map[string][]string{
		"true":                                   {},
		"a.b == 'x'":                             {"a.b"},
		".a.b == 'x'":                            {"a.b"},
		"a.b == 'x' || a.c.exists(x, x == 'y')":  {"@result", "a.b", "a.c", "x"},
		"a.c.all(t, t == 'y')":                   {"@result", "a.c", "t"},
		"has(m.x) && m.?y.orValue('') == 'z'":    {"m"},
		"t.getHours() > 8 && string(1) == '1'":   {"t"},
		"type(a.b) == string && m['x'] == 'a.c'": {"a.b", "m", "string"},
	} {
		p, err := Compile[bool](e, src)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for name := range p.Variables() {
			got = append(got, name)
		}
		slices.Sort(got)
		if d := cmp.Diff(append([]string(nil), want...), got); d != "" {
			t.Errorf("%s: %s", src, d)
		}
	}
}
