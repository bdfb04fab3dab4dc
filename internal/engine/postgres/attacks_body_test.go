package postgres

import (
	"strings"
	"testing"
)

// TestPG11BodiesWhereNoneAreDue: a message without fields that has a body ends
// the session, and the body passes nowhere.
func TestPG11BodiesWhereNoneAreDue(t *testing.T) {
	t.Parallel()
	h := start(t)
	table(t, "pg11", "n int")
	for name, send := range map[string][]byte{
		"Sync":            frame('S', "BODY"),
		"Flush":           frame('H', "BODY"),
		"Terminate":       frame('X', "BODY"),
		"CopyDone":        append(append(query("COPY pg11 FROM STDIN"), copyData("1\n")...), frame('c', "BODY")...),
		"CopyDone, alone": frame('c', "BODY"),
	} {
		c := dialRaw(t, h.addr, "default", "agents", "orders")
		c.send(send)
		if got := c.rest(); !strings.Contains(got, "08P01") || strings.Contains(got, "COPY 1") {
			t.Errorf("%s: %s", name, got)
		}
	}
	h.closed()
	if got := psql(t, "SELECT count(*) FROM pg11"); got != "0" {
		t.Errorf("%s rows", got)
	}
	for _, e := range h.rec.Entries() {
		if strings.Contains(string(e.Raw), "BODY") {
			t.Errorf("a %s entry: %q", e.Kind, e.Raw)
		}
	}
}
