package mask

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"
)

func rule(t testing.TB, r Rule) *Rule {
	t.Helper()
	r.Name, r.Columns, r.Key = "r", []string{"public.t.c"}, bytes.Repeat([]byte("k"), 32)
	if r.Inference == "" {
		r.Inference = Refuse
	}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	return &r
}

// TestApply: what a value looks like, by method, type and format; "NULL" for none.
func TestApply(t *testing.T) {
	t.Parallel()
	partial := Rule{Method: Partial, KeepLast: 4}
	mail := Rule{Method: Partial, KeepFirst: 1, KeepDomain: true}
	month, year, step := Rule{Method: Generalise, Unit: "month"}, Rule{Method: Generalise, Unit: "year"}, Rule{Method: Generalise, Step: 100}
	for _, tt := range []struct {
		rule   Rule
		value  string // of binary values in hexadecimal, behind "\x"
		typ    uint32
		want   string
		derive bool // it is made of values
	}{
		{Rule{Method: Redact}, "secret", typeText, "[masked]", false},
		{Rule{Method: Redact}, "secret", typeName, "[masked]", false},
		{Rule{Method: Redact}, "42", typeInt4, "NULL", false},
		{Rule{Method: Redact}, `{"a":1}`, typeJSON, `"[masked]"`, false},
		{Rule{Method: Redact}, `\x017b7d`, typeJSONB, "\x01\"[masked]\"", false},
		{Rule{Method: Redact}, `\x00`, typeUUID, "NULL", false},
		{Rule{Method: Redact}, "x", 99999, "NULL", false},
		{Rule{Method: Null}, "secret", typeText, "NULL", false},
		{partial, "5105105105104444", typeText, "***4444", false},
		{partial, "1234567", typeText, "***", false},
		{partial, "12345678", typeText, "***5678", false},
		{partial, "ünïcödé€", typeText, "***ödé€", false},
		{partial, "\\xff", typeText, "***", false},
		{partial, "5105105105104444", typeInt8, "NULL", false},
		{partial, "5105105105104444", typeText, "[masked]", true},
		{mail, "anna@example.com", typeText, "a***@example.com", false},
		{mail, "a@example.com", typeText, "***@example.com", false},
		{mail, "no address", typeText, "***", false},
		{month, "2024-05-17", typeDate, "2024-05-01", false},
		{year, "2024-05-17", typeDate, "2024-01-01", false},
		{month, "17.05.2024", typeDate, "NULL", false},
		{month, "infinity", typeDate, "NULL", false},
		{month, `\x000022bc`, typeDate, `\x000022b7`, false},
		{month, `\x7fffffff`, typeDate, "NULL", false},
		{month, "2024-05-17 10:11:12.5+02", typeTimestamptz, "2024-05-01 00:00:00+00", false},
		{month, "2024-05-17 10:11:12", typeTimestamp, "2024-05-01 00:00:00", false},
		{month, "0044-03-15 10:11:12 BC", typeTimestamp, "NULL", false},
		{month, `\x7fffffffffffffff`, typeTimestamp, "NULL", false},
		{year, `\xffffffffffffffff`, typeTimestamp, `\xffffe35173ec2000`, false},
		{month, "42", typeInt4, "NULL", false},
		{step, "1234", typeInt4, "1200", false},
		{step, "-1", typeInt4, "-100", false},
		{step, `\x000004d2`, typeInt4, `\x000004b0`, false},
		{step, `\x8001`, typeInt2, "NULL", false},
		{step, "1234.56", typeNumeric, "1200", false},
		{step, "NaN", typeNumeric, "NULL", false},
		{step, "2024-05-17", typeDate, "NULL", false},
		{Rule{Method: Hash}, "42", typeNumeric, "NULL", false},
		{Rule{Method: Tokenize}, "not a number", typeInt4, "NULL", false},
		{Rule{Method: Tokenize}, "not an id", typeUUID, "NULL", false},
	} {
		v, binary := []byte(tt.value), strings.HasPrefix(tt.value, `\x`)
		if binary {
			var err error
			if v, err = hex.DecodeString(tt.value[2:]); err != nil {
				t.Fatal(err)
			}
		}
		out, null := rule(t, tt.rule).Apply(v, tt.typ, binary && tt.typ != typeText, !tt.derive)
		got := string(out)
		switch {
		case null:
			got = "NULL"
		case strings.HasPrefix(tt.want, `\x`):
			got = `\x` + hex.EncodeToString(out)
		}
		if got != tt.want {
			t.Errorf("%s of %q (type %d): %q, want %q", tt.rule.Method, tt.value, tt.typ, got, tt.want)
		}
	}
}

// TestTokens: a token is the same for the same value in text and binary format, other for other values, scopes, methods and keys, and of
// the column's type.
func TestTokens(t *testing.T) {
	t.Parallel()
	apply := func(r *Rule, v string, typ uint32, binary bool) string {
		out, null := r.Apply([]byte(v), typ, binary, true)
		if null {
			t.Fatalf("NULL for %q", v)
		}
		return string(out)
	}
	tokens := rule(t, Rule{Method: Tokenize, Scope: "a"})
	if a, b := apply(tokens, "x", typeText, false), apply(tokens, "x", typeVarchar, true); a != b || !strings.HasPrefix(a, "tok_") || strings.Contains(a, "x@") {
		t.Errorf("%q, %q", a, b)
	}
	other := rule(t, Rule{Method: Tokenize, Scope: "b"})
	key := rule(t, Rule{Method: Tokenize, Scope: "a"})
	key.Key = bytes.Repeat([]byte("l"), 32)
	seen := map[string]bool{}
	for _, s := range []string{
		apply(tokens, "x", typeText, false), apply(tokens, "y", typeText, false), apply(other, "x", typeText, false), apply(key, "x", typeText, false),
		apply(rule(t, Rule{Method: Hash, Scope: "a"}), "x", typeText, false),
	} {
		if seen[s] {
			t.Errorf("%q twice", s)
		}
		seen[s] = true
	}
	text := apply(tokens, "7", typeInt4, false)
	binary := apply(tokens, "\x00\x00\x00\x07", typeInt4, true)
	if n, ok := integer([]byte(binary), true); !ok || n < 0 || n > math.MaxInt32 || string(appendInteger(n, 4, false)) != text {
		t.Errorf("%q is not %q", text, binary)
	}
	id := "00112233-4455-6677-8899-aabbccddeeff"
	raw, _ := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if a, b := apply(tokens, id, typeUUID, false), apply(tokens, string(raw), typeUUID, true); strings.ReplaceAll(a, "-", "") != hex.EncodeToString([]byte(b)) || a == id || len(a) != len(id) || a[14] != '8' {
		t.Errorf("%q, %x", a, b)
	}
}

// TestSet: the first rule that is about a column counts; a value of several columns is redacted unless one rule is about all; what no
// rule is about is nothing.
func TestSet(t *testing.T) {
	t.Parallel()
	list := []*Rule{
		{Name: "one", Columns: []string{"public.a.email"}, Method: Partial, KeepDomain: true, Inference: Allow},
		{Name: "all", Columns: []string{"*.*.email", "hr.people*.*"}, Method: Tokenize, Key: bytes.Repeat([]byte("k"), 32), Inference: Refuse},
	}
	for _, r := range list {
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
	}
	s := NewSet(list, nil, nil)
	for column, want := range map[string]string{
		"public.a.email": "one", "public.b.email": "all", "hr.people_old.name": "all", "hr.x.name": "", "public.a.email2": "", "public.a.b.email": "", "xpublic.a.emai": "",
	} {
		for range 2 {
			got := ""
			if r := s.Rule(column); r != nil {
				got = r.Name
			}
			if got != want {
				t.Errorf("%s: %q, want %q", column, got, want)
			}
		}
	}
	if r := s.Strictest("public.a.email", "public.b.email"); r.Method != Redact {
		t.Errorf("of two rules: %+v", r)
	}
	if r := s.Strictest("public.b.email", "public.c.email"); r.Name != "all" {
		t.Errorf("of one rule: %+v", r)
	}
	if r := s.Strictest("pg_catalog.pg_stats.histogram_bounds"); r.Method != Null {
		t.Errorf("of no rule: %+v", r)
	}
	for columns, want := range map[string]Inference{"public.a.email": Allow, "public.a.email public.b.email": Refuse, "x.y.z": Refuse} {
		if got, _ := s.Inference(strings.Fields(columns)...); got != want {
			t.Errorf("%s: %s", columns, got)
		}
	}
	if NewSet(nil, nil, nil) != nil {
		t.Error("no rules are a set")
	}
}

// TestCheck: what is wrong with a rule is said.
func TestCheck(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Rule{
		"columns must name":     {Method: Redact},
		`"a.b" is not schema`:   {Columns: []string{"a.b"}, Method: Redact},
		`"a..c" is not schema`:  {Columns: []string{"a..c"}, Method: Redact},
		"partial needs":         {Columns: []string{"a.b.c"}, Method: Partial},
		"partial needs keep":    {Columns: []string{"a.b.c"}, Method: Partial, KeepFirst: -1, KeepDomain: true},
		"hash needs mask_key":   {Columns: []string{"a.b.c"}, Method: Hash, Key: []byte("short")},
		"generalise needs":      {Columns: []string{"a.b.c"}, Method: Generalise},
		"generalise needs unit": {Columns: []string{"a.b.c"}, Method: Generalise, Unit: "week"},
		`"paint" is none of`:    {Columns: []string{"a.b.c"}, Method: "paint"},
		`"perhaps" is none of`:  {Columns: []string{"a.b.c"}, Method: Redact, Inference: "perhaps"},
	} {
		if err := r.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// FuzzApply: whatever a value is, no method fails on it, none but partial and generalise keeps anything of it, and partial keeps no more
// than half.
func FuzzApply(f *testing.F) {
	for _, v := range []string{"", "anna@example.com", "2024-05-17", "1234", "\x00\x00\x00\x07", "5105105105104444", "\xff\xfe", "@", "0044-03-15 BC"} {
		f.Add([]byte(v), uint32(typeText), false)
		f.Add([]byte(v), uint32(typeDate), true)
		f.Add([]byte(v), uint32(typeTimestamptz), true)
	}
	rules := []*Rule{
		rule(f, Rule{Method: Redact}), rule(f, Rule{Method: Hash}), rule(f, Rule{Method: Tokenize}), rule(f, Rule{Method: Partial, KeepFirst: 2, KeepLast: 2}),
		rule(f, Rule{Method: Generalise, Unit: "year", Step: 7}), rule(f, Rule{Method: Null}),
	}
	f.Fuzz(func(t *testing.T, v []byte, typ uint32, binary bool) {
		for _, r := range rules {
			for _, plain := range []bool{true, false} {
				out, null := r.Apply(v, typ, binary, plain)
				switch {
				case null && out != nil:
					t.Errorf("%s: NULL with a value", r.Method)
				case r.Method == Partial && isText(typ) && plain && len(v) > 0 && bytes.Equal(out, v) && string(v) != hidden:
					t.Errorf("%q is kept", v)
				case len(v) >= 12 && r.Method != Generalise && bytes.Contains(out, v) && !bytes.Contains(v, []byte("masked")):
					t.Errorf("%s keeps %q", r.Method, v)
				}
			}
		}
	})
}
