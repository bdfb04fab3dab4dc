package postgres

import (
	"os"
	"regexp"
	"testing"
)

// TestDocumentedCodes holds the error table of the documentation against the code's.
func TestDocumentedCodes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/protocols/postgres.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z-]+) \| ([0-9A-Z]{5}) \|`).FindAllStringSubmatch(string(text), -1) {
		found[m[1]] = m[2]
	}
	if len(found) != len(sqlState) {
		t.Errorf("%d codes documented, %d exist", len(found), len(sqlState))
	}
	for code, state := range sqlState {
		if found[string(code)] != state {
			t.Errorf("%s is documented as %q, not %q", code, found[string(code)], state)
		}
	}
	for name := range startupParams {
		if !regexp.MustCompile("`" + name + "`").Match(text) {
			t.Errorf("start-up parameter %s is not documented", name)
		}
	}
}
