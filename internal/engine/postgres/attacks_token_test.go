package postgres

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// withoutToken checks that the token stands in no entry but identities, and not in the target's log.
func (h *harness) withoutToken() {
	h.t.Helper()
	sig := []byte(signedToken[strings.LastIndexByte(signedToken, '.')+1:])
	for _, e := range h.rec.Entries() {
		if e.Kind != evidence.KindIdentity && (bytes.Contains(e.Meta, sig) || bytes.Contains(e.Raw, sig)) {
			h.t.Errorf("a %s entry has the token: %s %q", e.Kind, e.Meta, e.Raw)
		}
	}
	if log, err := os.ReadFile(server.Log); err != nil || bytes.Contains(log, sig) {
		h.t.Errorf("the target's log has the token: %v", err)
	}
}

// TestID22TokenInNames: a name that is the session's token is not on record,
// not even with the request that is refused for it.
func TestID22TokenInNames(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", signedToken, "orders")
	const n = signedToken
	for _, m := range [][]byte{
		parse(n, "SELECT 1"), parse("", "SELECT '"+n+"'"), bind(n, "", 0, 0), bind("", n, 0, 0), describe('S', n), describe('P', n), execute(n, 0),
		frame('C', "S"+n+"\x00"), frame('C', "P"+n+"\x00"), parse(n, "SET gatebook . token = 'x'"), parse(n, "SELECT '\xff'"),
	} {
		c.send(m, syncFrame)
		if got := show(c.until('Z')); !strings.Contains(got, "08P01") && !strings.Contains(got, "0A000") {
			t.Errorf("%q: %s", m, got)
		}
	}
	c.send(parse(n, "SELECT 1"), bind(n, n, 0, 0), describe('P', n), execute(n, 0), frame('C', "S"+n+"\x00"), syncFrame)
	c.until('Z')
	h.withoutToken()
}

// TestID22TokenAtStartUp: a start-up packet that holds the token that comes behind it leads nowhere.
func TestID22TokenAtStartUp(t *testing.T) {
	t.Parallel()
	h := start(t, plaintext)
	sig := signedToken[strings.LastIndexByte(signedToken, '.')+1:]
	for _, params := range [][]string{
		{"user", "default", "database", "orders", "application_name", signedToken},
		{"user", "default", "database", "orders", "application_name", "x" + sig + "y"},
		{"user", "default", "database", "orders", "options", "-c application_name=" + signedToken},
		{"user", "default", "database", "orders", "options", "-c application_name=" + sig[:10] + "\\" + sig[10:]},
		{"user", signedToken, "database", "orders"},
		{"user", sig, "database", "orders"},
		{"user", "default", "database", "orders/" + sig[:20], "timezone", sig},
		{"user", "default", "database", "orders", sig, "x"},
		{"user", "default", "database", "orders", "_pq_." + sig, "x"},
	} {
		got := h.say(pgwire.AppendStartup(nil, 0, params...), frame('p', signedToken+"\x00"), query("SELECT 'let '||'in'"), []byte{'X', 0, 0, 0, 4})
		if strings.Contains(got, "let in") || !strings.Contains(got, "C08P01") && !strings.Contains(got, "C0A000") {
			t.Errorf("%q: %q", params, got)
		}
	}
	if n := len(bodies[evidence.Session](h, evidence.KindSession)); n != 0 {
		t.Errorf("%d sessions", n)
	}
	if got := h.say(pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders"), frame('p', signedToken+"\x00"),
		query("SELECT 'let '||'in'"), []byte{'X', 0, 0, 0, 4}); !strings.Contains(got, "let in") {
		t.Errorf("without it: %q", got)
	}
	h.withoutToken()
}

// TestID22TokenInCopy: COPY data or a CopyFail that holds the token does not pass.
func TestID22TokenInCopy(t *testing.T) {
	t.Parallel()
	h := start(t)
	table(t, "id22", "v text")
	c := dialRaw(t, h.addr, "default", signedToken, "orders")
	long := strings.Repeat(strings.Repeat("x", 99)+"\n", 3000)
	for _, send := range [][]byte{
		copyFail("because " + signedToken),
		append(copyData("one\n"+signedToken+"\n"), copyDone...),
		bytes.Join([][]byte{copyData("one\n"), copyData(signedToken + "\n"), copyData("three\n"), copyDone}, nil),
		append(copyData(signedToken+"\n"+long), copyDone...),
		append(copyData(long+signedToken+"\n"+long), copyDone...),
	} {
		c.send(query("COPY id22 FROM STDIN"))
		c.until('G')
		c.send(send)
		// A message that was begun goes on with zeros, which the target may refuse itself.
		if got := show(c.until('Z')); !strings.Contains(got, "57014") && !strings.Contains(got, "22021") || strings.Contains(got, signedToken) {
			t.Errorf("%.60q: %s", send, got)
		}
		c.send(parse("", "COPY id22 FROM STDIN"), bind("", "", 0, 0), execute("", 0), send, syncFrame)
		if got := show(c.until('Z')); !strings.Contains(got, "57014") && !strings.Contains(got, "22021") {
			t.Errorf("extended: %.60q: %s", send, got)
		}
	}
	c.send(query("COPY id22 FROM STDIN"), copyData("fine\n"), copyDone)
	if got := show(c.until('Z')); !strings.Contains(got, "COPY 1") {
		t.Errorf("%s", got)
	}
	if got := psql(t, "SELECT string_agg(v, ',') FROM id22"); got != "fine" {
		t.Errorf("in the table: %.200q", got)
	}
	for _, x := range h.agents() {
		if x.outcome == nil || x.intent.Text == "COPY id22 FROM STDIN" && x.outcome.Status == "unknown" {
			t.Errorf("%q: %+v", x.intent.Text, x.outcome)
		}
	}
	h.withoutToken()
}
