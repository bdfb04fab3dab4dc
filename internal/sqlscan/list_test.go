package sqlscan

import (
	"slices"
	"strings"
	"testing"
)

// TestListRoundTrip: what is asked for is read as it was written, whatever stands in the statements.
func TestListRoundTrip(t *testing.T) {
	t.Parallel()
	want := &List{
		Statements: []string{"DELETE FROM t WHERE a = 'it''s'", "SELECT $$;'\\n$$ -- x\n, '<&>'", "SELECT \"ü\u2028\""}, Reason: "it's \"so\"\n\\",
	}
	text, err := want.Text()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseList(" " + text + " ; ")
	if err != nil || !slices.Equal(got.Statements, want.Statements) || got.Reason != want.Reason {
		t.Errorf("%+v, %v", got, err)
	}
	if !AsksForList(text) || AsksForList("SELECT 'SET gatebook.request'") || AsksForList("SET gatebook.requested = 1") {
		t.Error("AsksForList")
	}
}

// TestListLimits: a list that is not of the one form, or too large, is refused with what is wrong.
func TestListLimits(t *testing.T) {
	t.Parallel()
	many := `{"list":["SELECT 1"` + strings.Repeat(`,"SELECT 1"`, MaxList) + `]}`
	for name, tt := range map[string]struct{ literal, want string }{
		"empty":         {`'{"list":[]}'`, "is empty"},
		"empty text":    {`'{"list":["SELECT 1"," ; "]}'`, "statement 2 of the list is empty"},
		"too many":      {"'" + many + "'", "has 101 statements"},
		"too large":     {`'{"list":["SELECT '` + strings.Repeat("x", MaxListBytes) + `'"]}'`, "send exactly"},
		"large":         {`'{"list":["SELECT ` + strings.Repeat("x", MaxListBytes) + `"]}'`, "at most 262144"},
		"reason":        {`'{"list":["SELECT 1"],"reason":"` + strings.Repeat("x", maxListReason+1) + `"}'`, "the reason has"},
		"not a list":    {`'["SELECT 1"]'`, "not JSON of the form"},
		"other members": {`'{"list":["SELECT 1"],"lists":1}'`, "not JSON of the form"},
		"two values":    {`'{"list":["SELECT 1"]} {}'`, "not JSON of the form"},
		"zero":          {`'{"list":["SELECT \u0000"]}'`, "characters that no text"},
		"no text":       {`'{"list":["SELECT \ud800"]}'`, "characters that no text"},
		"behind it":     {`'{"list":["SELECT 1"]}'; SELECT 1`, "send exactly"},
		"escapes":       {`E'{"list":["SELECT 1"]}'`, "send exactly"},
	} {
		text := "SET gatebook.request = " + tt.literal
		if _, err := ParseList(text); err == nil || !strings.Contains(err.Error(), tt.want) || !AsksForList(text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSplit: statements end where PostgreSQL's grammar ends them.
func TestSplit(t *testing.T) {
	t.Parallel()
	got, err := Split("-- first\nDELETE FROM t WHERE a = ';';\n\nCREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END;;\nSELECT $x$ ; $x$ -- the end;\n")
	want := []string{
		"DELETE FROM t WHERE a = ';'", "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END", "SELECT $x$ ; $x$ -- the end;",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Split("DELETE FROM t; nonsense"); err == nil {
		t.Error("nonsense is split")
	}
}
