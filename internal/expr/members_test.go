package expr

import (
	"slices"
	"testing"
)

func TestMembers(t *testing.T) {
	t.Parallel()
	env, err := New([]Var{{Name: "l", Kind: Strings}, {Name: "s", Kind: String}, {Name: "b", Kind: Bool}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		src  string
		only bool
		want []string
	}{
		{`"a" in l`, true, []string{"a"}}, {`b && !("a" in l) || "b" in l`, true, []string{"a", "b"}}, {`b`, true, nil},
		{`l.all(e, e in ["a", "b"])`, true, []string{"a", "b"}}, {`l.exists(e, e == "a" || "b" != e && b)`, true, []string{"a", "b"}},
		{`l == ["a"] || ["b", "c"] != l`, true, []string{"a", "b", "c"}}, {`l == []`, true, nil}, {`.l != []`, true, nil},
		{`["a"].exists(l, l == "a")`, false, nil}, // another l, but that is not looked at
		{`s in l`, false, nil}, {`l.size() == 1`, false, nil}, {`l[0] == "a"`, false, nil}, {`l.all(e, e == s)`, false, nil},
		{`l.all(e, e.startsWith("a"))`, false, nil}, {`l.exists_one(e, e == "a")`, false, nil}, {`l.filter(e, e == "a") == []`, false, nil},
		{`l.map(e, e == "a") == [true]`, false, nil}, {`l.all(e, l.exists(f, e == f))`, false, nil}, {`l == [s]`, false, nil}, {`l == l`, false, nil},
		{`"a" in l && l.size() > 1`, false, nil}, {`l.all(e, e in ["a", s])`, false, nil}, {`l.all(e, e in l)`, false, nil}, {`[l] == [["a"]]`, false, nil},
		{`l.all(e, ["a"].exists(f, e == f))`, false, nil}, {`l + ["a"] == ["a"]`, false, nil}, {`["b"].exists(e, e in l)`, false, nil},
	} {
		p, err := Compile[bool](env, tt.src)
		if err != nil {
			t.Fatal(err)
		}
		got, only := p.Members("l")
		slices.Sort(got)
		if only != tt.only || only && !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, %v, want %q, %v", tt.src, got, only, tt.want, tt.only)
		}
	}
}
