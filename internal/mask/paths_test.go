package mask

import (
	"strings"
	"testing"
)

// TestJSONPaths: what stands at the paths of a rule is masked, all below them too, and nothing else.
func TestJSONPaths(t *testing.T) {
	t.Parallel()
	r := &Rule{Name: "a", Columns: []string{"a.b.c"}, JSON: []string{"contact.email", "items.*.name", "*.secret"}, Method: Redact, Inference: Refuse}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		`{"contact":{"email":"a","id":1.50},"email":"b"}`:           `{"contact":{"email":"[masked]","id":1.50},"email":"b"}`,
		`{"contact":{"email":["a",{"x":"b","y":3}]}}`:               `{"contact":{"email":["[masked]",{"x":"[masked]","y":"[masked]"}]}}`,
		`{"contact":[{"email":"a"},{"email":null}]}`:                `{"contact":[{"email":"[masked]"},{"email":null}]}`,
		`{"items":[{"name":"a","n":1},{"name":"b"}],"contact":"c"}`: `{"contact":"c","items":[{"n":1,"name":"[masked]"},{"name":"[masked]"}]}`,
		`{"items":{"x":{"name":true}}}`:                             `{"items":{"x":{"name":"[masked]"}}}`,
		`{"a":{"secret":12345678901234567890}}`:                     `{"a":{"secret":"[masked]"}}`,
		`{"contact":{"email":"a","email":"b"}}`:                     `{"contact":{"email":"[masked]"}}`,
		`"text"`:                                                    `"text"`, `[1,2]`: `[1,2]`, `{"contact":{"\u0065mail":"a<b"}}`: `{"contact":{"email":"[masked]"}}`,
	} {
		for _, binaryFormat := range []bool{false, true} {
			v := in
			if binaryFormat {
				v = "\x01" + in
			}
			out, null := r.Apply([]byte(v), typeJSONB, binaryFormat, true)
			got := strings.TrimPrefix(string(out), "\x01")
			if null || got != want || binaryFormat && out[0] != 1 {
				t.Errorf("%s: %s, want %s", in, got, want)
			}
		}
	}
	for _, bad := range []string{`{`, ``, `{} {}`, `{"a":}`} {
		if out, null := r.Apply([]byte(bad), typeJSON, false, true); !null {
			t.Errorf("%s: %s", bad, out)
		}
	}
	if out, _ := r.Apply([]byte(`{"contact":{"email":"a"}}`), typeJSONB, false, false); string(out) != `"[masked]"` {
		t.Errorf("what is computed: %s", out)
	}
	part := &Rule{Name: "a", Columns: []string{"a.b.c"}, JSON: []string{"m"}, Method: Partial, KeepDomain: true, Inference: Refuse}
	if err := part.Check(); err != nil {
		t.Fatal(err)
	}
	if out, _ := part.Apply([]byte(`{"m":"anna@example.com","n":[]}`), typeJSON, false, true); string(out) != `{"m":"***@example.com","n":[]}` {
		t.Errorf("%s", out)
	}
	for _, wrong := range []Rule{{Columns: []string{"a.b.c"}, JSON: []string{"a..b"}, Method: Redact}, {Kinds: []string{"email"}, JSON: []string{"a"}, Method: Redact}} {
		wrong.Inference = Refuse
		if err := wrong.Check(); err == nil {
			t.Errorf("%+v passes", wrong)
		}
	}
}
