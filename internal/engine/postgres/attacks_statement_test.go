package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
)

// The rows of docs/attacks.md about the statement phase that are not in a file
// of their own.

// table makes a table of the agent's for one test.
func table(t *testing.T, name, columns string) {
	t.Helper()
	if _, err := server.PSQL("postgres", "DROP TABLE IF EXISTS "+name+"; CREATE TABLE "+name+" ("+columns+"); ALTER TABLE "+name+" OWNER TO agent"); err != nil {
		t.Fatal(err)
	}
}

func psql(t *testing.T, sql string) string {
	t.Helper()
	out, err := server.PSQL("postgres", sql)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// TestPG21SeveralStatements: a text of several statements has the outcome of
// each on record, and one that may not pass stops all of them, wherever it stands.
func TestPG21SeveralStatements(t *testing.T) {
	t.Parallel()
	h := start(t)
	table(t, "pg21", "n int")
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("INSERT INTO pg21 VALUES (1), (2); SELECT n FROM pg21 WHERE n > 1; UPDATE pg21 SET n = 3"))
	c.until('Z')
	c.send(query("SELECT 1; SELECT 1/0; INSERT INTO pg21 VALUES (9)"))
	c.until('Z')
	for want, text := range map[string]string{
		`{"statements":[{"tag":"INSERT 0 2","rows":2},{"tag":"SELECT 1","rows":1},{"tag":"UPDATE 2","rows":2}]}`: "INSERT INTO pg21 VALUES (1)",
		`{"statements":[{"tag":"SELECT 1","rows":1},{"code":"22012","rows":0}]}`:                                 "SELECT 1/0",
	} {
		if got := string(h.find(text).outcome.Detail); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", text, got, want)
		}
	}
	const insert, bad = "INSERT INTO pg21 VALUES (100)", "SET client_encoding = 'SJIS'"
	for _, list := range [][]string{
		{bad, insert, insert}, {insert, bad, insert}, {insert, insert, bad}, {"SET client_encoding = 'UTF8'", insert, bad},
		{insert, "SET NAMES 'UTF8'", "RESET client_encoding", bad, insert},
	} {
		text := strings.Join(list, "; ")
		c.send(query(text))
		if got := show(c.until('Z')); !strings.Contains(got, "0A000") {
			t.Errorf("%s: %s", text, got)
		}
		if x := h.agents()[len(h.agents())-1]; x.intent.Text != text || !x.deny || x.outcome.Status != "denied" {
			t.Errorf("recorded %q %v %+v", x.intent.Text, x.deny, x.outcome)
		}
	}
	if got := psql(t, "SELECT count(*), min(n), max(n) FROM pg21"); got != "2|3|3" {
		t.Errorf("in the table: %s", got)
	}
}

// TestPG24BytesThatTwoReadersReadDifferently: what is not UTF-8 or holds a zero
// byte does not pass; what only looks like something else passes and is recorded as it is.
func TestPG24BytesThatTwoReadersReadDifferently(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, text := range []string{
		"SELECT '\xff'", "SELECT '\x83\\'", "SELECT '\xbf\\' OR 1=1", "SELECT '\xc0\xa7'", "SELECT '\xed\xa0\x80'", "SELECT '\xf4\x90\x80\x80'", "SELECT '\xe3\x81",
	} {
		c := dialRaw(t, h.addr, "default", "agents", "orders")
		c.send(query(text))
		if got := show(c.until('Z')); !strings.Contains(got, "08P01") {
			t.Errorf("%q: %s", text, got)
		}
		c.send(parse("", text), syncFrame)
		if got := show(c.until('Z')); !strings.Contains(got, "08P01") {
			t.Errorf("%q parsed: %s", text, got)
		}
		_ = c.conn.Close()
	}
	for _, x := range h.agents() {
		if !x.deny || x.outcome.Status != "denied" {
			t.Errorf("%q: %+v", x.intent.Text, x.outcome)
		}
	}
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(frame('Q', "SELECT 1\x00; SELECT 'behind the zero'\x00"))
	if got := c.rest(); !strings.Contains(got, "08P01") || strings.Contains(got, "behind") {
		t.Errorf("a zero byte: %s", got)
	}
	c = dialRaw(t, h.addr, "default", "agents", "orders")
	const odd = "SELECT 'u\u200bsers', '\u0430dmin', '\ufeff', '\u202etxt' AS \"\u0441ount\""
	c.send(query(odd))
	if got := c.until('Z'); !bytes.Contains(bytes.Join(got, nil), []byte("\u0441ount")) {
		t.Errorf("%s", show(got))
	}
	if x := h.agents()[len(h.agents())-1]; x.intent.Text != odd || x.outcome.Status != "ok" {
		t.Errorf("recorded %q %+v", x.intent.Text, x.outcome)
	}
}

// TestPG31SuspendedPortal: every Execute of a portal has its own record with
// the rows it gave and the exchange that holds the parameters.
func TestPG31SuspendedPortal(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("BEGIN"), parse("", "SELECT i, $1::text FROM generate_series(1, 5) i"), bind("p", "", 0, 0, []byte("v")),
		execute("p", 2), execute("p", 2), syncFrame, execute("p", 2), execute("p", 2), syncFrame, query("COMMIT"))
	for range 4 {
		c.until('Z')
	}
	list := h.agents()
	if len(list) != 6 {
		t.Fatalf("%d exchanges", len(list))
	}
	first := list[1].n
	for i, want := range []struct {
		tag  string
		rows uint64
	}{{"(suspended)", 2}, {"(suspended)", 2}, {"SELECT 1", 1}, {"SELECT 0", 0}} {
		x := list[1+i]
		if x.outcome.Tag != want.tag || x.outcome.Rows != want.rows || uint64(bytes.Count(x.answer, []byte("\x00\x00\x00\x01v"))) != want.rows {
			t.Errorf("execute %d: %+v, answer %q", i, x.outcome, x.answer)
		}
		detail := string(x.intent.Detail)
		if !strings.Contains(x.intent.Text, "generate_series(1, 5)") || !strings.Contains(detail, `"max_rows":2`) ||
			i > 0 && !strings.Contains(detail, fmt.Sprintf(`"bound_in":%d`, first)) {
			t.Errorf("execute %d: %q %s", i, x.intent.Text, detail)
		}
	}
	// A cursor over many rows, taken in pieces.
	const rows, piece = 200_000, 50_000
	c.send(query("BEGIN"), parse("", fmt.Sprintf("SELECT i FROM generate_series(1, %d) i", rows)), bind("big", "", 0, 0), syncFrame)
	c.until('Z')
	c.until('Z')
	for range rows/piece + 1 {
		c.send(execute("big", piece), syncFrame)
		if _, err := c.readFrames('Z'); err != nil {
			t.Fatal(err)
		}
	}
	total := uint64(0)
	for _, x := range h.agents()[8:] {
		total += x.outcome.Rows
	}
	if total != rows {
		t.Errorf("%d rows on record", total)
	}
}

// readFrames is read without keeping what came.
func (c *raw) readFrames(last byte) (n int, err error) {
	for {
		f, err := c.in.Next()
		if err != nil {
			return n, err
		}
		if n++; f[0] == last {
			return n, nil
		}
	}
}

// TestPG33TableChangedUnderTheStatement: what the agent gets is what is on
// record, whether or not it asked for a description, and whatever became of the table.
func TestPG33TableChangedUnderTheStatement(t *testing.T) {
	t.Parallel()
	h := start(t)
	table(t, "pg33", "a text")
	psql(t, "INSERT INTO pg33 VALUES ('plain')")
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(parse("s", "SELECT * FROM pg33"), describe('S', "s"), syncFrame)
	c.until('Z')
	psql(t, "ALTER TABLE pg33 ADD COLUMN b text DEFAULT 'added'")
	c.send(bind("", "s", 0, 0), execute("", 0), syncFrame)
	if got := show(c.until('Z')); !strings.Contains(got, "0A000") || strings.Contains(got, "added") {
		t.Errorf("%s", got)
	}
	// Without a Describe, and with columns that belong to no table.
	c.send(parse("", "SELECT a || '!', b, 1+1 FROM pg33"), bind("", "", 0, 0), execute("", 0), syncFrame)
	got := c.until('Z')
	list := h.agents()
	if x := list[len(list)-2]; x.outcome.Code != "0A000" || x.outcome.Rows != 0 {
		t.Errorf("%+v", x.outcome)
	}
	x := list[len(list)-1]
	if x.outcome.Rows != 1 || !bytes.Equal(x.answer, bytes.Join(got[:len(got)-1], nil)) || !bytes.Contains(x.answer, []byte("plain!")) {
		t.Errorf("recorded %q, the agent got %s", x.answer, show(got))
	}
}

// TestPG34CopyIsRecorded: COPY data is on record byte for byte, both ways, with
// how it ended; what the role may not do is on record too.
func TestPG34CopyIsRecorded(t *testing.T) {
	t.Parallel()
	h := start(t)
	table(t, "pg34", "n int, v text")
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	in := bytes.Join([][]byte{copyData("1\tone\n2\t"), copyData("two\n"), copyDone}, nil)
	c.send(query("COPY pg34 FROM STDIN"), in)
	c.until('Z')
	failed := append(copyData("3\tthree\n"), copyFail("changed my mind")...)
	c.send(parse("", "COPY pg34 FROM STDIN (FORMAT text)"), bind("", "", 0, 0), execute("", 0), failed, syncFrame)
	c.until('Z')
	c.send(query("COPY pg34 TO STDOUT"))
	out := c.until('Z')
	if x := h.find("COPY pg34 FROM STDIN"); !bytes.Equal(x.request, in) || x.outcome.Tag != "COPY 2" || x.outcome.Rows != 2 {
		t.Errorf("recorded %q, %+v", x.request, x.outcome)
	}
	if x := h.find("(FORMAT text)"); !bytes.Equal(x.request, failed) || x.outcome.Code != "57014" || !strings.Contains(x.outcome.Message, "changed my mind") {
		t.Errorf("recorded %q, %+v", x.request, x.outcome)
	}
	if x := h.find("COPY pg34 TO STDOUT"); !bytes.Equal(x.answer, bytes.Join(out[:len(out)-1], nil)) || !bytes.Contains(x.answer, []byte("2\ttwo\n")) {
		t.Errorf("recorded %q, the agent got %s", x.answer, show(out))
	}
	for _, text := range []string{"COPY pg34 TO PROGRAM 'cat'", "COPY pg34 FROM PROGRAM 'id'", "COPY pg34 FROM '/etc/passwd'", "COPY pg34 TO '/tmp/pg34'"} {
		c.send(query(text))
		if got := show(c.until('Z')); !strings.Contains(got, "42501") {
			t.Errorf("%s: %s", text, got)
		}
		if x := h.find(text); x.outcome.Code != "42501" {
			t.Errorf("%s: %+v", text, x.outcome)
		}
	}
	if got := psql(t, "SELECT count(*) FROM pg34"); got != "2" {
		t.Errorf("%s rows", got)
	}
}

// TestPG34CopyDoneWaits holds durability back: the frame that makes the target
// act on COPY data goes only after the data is durable.
func TestPG34CopyDoneWaits(t *testing.T) {
	t.Parallel()
	for _, end := range [][]byte{copyDone, copyFail("x")} {
		f := startFake(t, func(f *fakeConn) {
			if f.login() && f.next() != nil {
				f.write(frame('G', "\x00\x00\x00"))
				for b := f.next(); b != nil; b = f.next() {
					if b[0] == 'c' || b[0] == 'f' {
						f.write(frame('C', "COPY 1\x00"), readyFrame)
					}
				}
			}
		})
		h := start(t, f.target)
		c := dialRaw(t, h.addr, "default", "agents", "orders")
		c.send(query("COPY t FROM STDIN"))
		c.until('G')
		h.rec.Hold()
		c.send(copyData("1\n"), end)
		h.await(func(list []memrec.Entry) bool { return bytes.HasSuffix(list[len(list)-1].Raw, end) })
		time.Sleep(20 * time.Millisecond) // long enough for bytes that should not be there
		if strings.HasSuffix(f.saw(), string(end)) {
			t.Errorf("%q went before it was durable", end)
		}
		h.rec.Release()
		c.until('Z')
	}
}

// TestPG39IdentityStays: whatever role the agent takes on at the target, the
// record has its own identity, and the target its session.
func TestPG39IdentityStays(t *testing.T) {
	t.Parallel()
	h := start(t)
	psql(t, `DROP ROLE IF EXISTS pg39_other; CREATE ROLE pg39_other; GRANT pg39_other TO agent; GRANT CREATE ON SCHEMA public TO agent;
		CREATE OR REPLACE FUNCTION pg39() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text'; GRANT EXECUTE ON FUNCTION pg39() TO agent`)
	c := dialRaw(t, h.addr, "default", "agents", "orders", "application_name", "mine")
	session := h.gate.Sessions()[0].ID
	texts := []string{
		"SET ROLE pg39_other", "SELECT current_user", "SELECT pg39()", "RESET ROLE", "SET SESSION AUTHORIZATION postgres", "SET SESSION AUTHORIZATION DEFAULT",
		"SET ROLE pg39_other", "DISCARD ALL", "RESET ALL", "SET application_name TO 'others'", "RESET ALL", "DISCARD ALL",
	}
	for _, text := range texts {
		c.send(query(text))
		c.until('Z')
	}
	c.send(query("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"))
	if got := show(c.until('Z')); !strings.Contains(got, "gb:"+session.String()+" mine") {
		t.Errorf("at the target: %s", got)
	}
	_ = c.conn.Close()
	h.closed()
	var recorded []string
	for _, x := range h.agents() {
		recorded = append(recorded, x.intent.Text)
	}
	if !slices.Equal(recorded[:len(texts)], texts) {
		t.Errorf("recorded %q", recorded)
	}
	for _, e := range h.rec.Entries() {
		if e.Session != session {
			t.Errorf("a %s entry of another session", e.Kind)
		}
	}
	for _, s := range bodies[evidence.Session](h, evidence.KindSession) {
		if s.Principal.Name != "agents" {
			t.Errorf("recorded as %+v", s.Principal)
		}
	}
	for _, i := range bodies[evidence.Identity](h, evidence.KindIdentity) {
		if i.Principal.Name != "agents" || i.Renewal {
			t.Errorf("recorded as %+v", i.Principal)
		}
	}
}

// TestPG42NothingCarriesOver: the next session finds nothing of the one before.
func TestPG42NothingCarriesOver(t *testing.T) {
	t.Parallel()
	h := start(t)
	a := dialRaw(t, h.addr, "default", "agents", "orders")
	pid := h.backend(a)
	a.send(query("CREATE TEMP SEQUENCE pg42; SELECT nextval('pg42'); CREATE TEMP TABLE pg42_t (n int); PREPARE pg42_s AS SELECT 1; " +
		"SET work_mem = '77MB'; SET ROLE NONE; SELECT pg_advisory_lock(4242); LISTEN pg42_ch; SELECT setseed(0.5)"))
	if got := show(a.until('Z')); strings.Contains(got, "E\"") {
		t.Fatalf("%s", got)
	}
	a.send(parse("pg42_p", "SELECT 2"), query("BEGIN"))
	a.until('Z')
	_ = a.conn.Close()
	h.closed()
	b := dialRaw(t, h.addr, "default", "agents", "orders")
	if h.backend(b) == pid {
		t.Error("the same backend")
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) { // the backend hears of the end a moment later
		b.send(query("SELECT 'lock ' || pg_try_advisory_lock(4242)"))
		if got := show(b.until('Z')); strings.Contains(got, "lock true") {
			break
		}
		if time.Now().After(end) {
			t.Error("the lock of the session before is still held")
			break
		}
	}
	for text, want := range map[string]string{
		"SELECT currval('pg42')": "42P01", "SELECT * FROM pg42_t": "42P01", "EXECUTE pg42_s": "26000", "SHOW work_mem": "4MB",
		"SELECT 'prepared ' || count(*) FROM pg_prepared_statements": "prepared 0", "SELECT 'listens ' || count(*) FROM pg_listening_channels()": "listens 0",
		"COMMIT": "no transaction",
	} {
		b.send(query(text))
		if got := show(b.until('Z')); !strings.Contains(got, want) {
			t.Errorf("%s: %s", text, got)
		}
	}
	b.send(bind("", "pg42_p", 0, 0), execute("", 0), syncFrame)
	if got := show(b.until('Z')); !strings.Contains(got, "26000") {
		t.Errorf("%s", got)
	}
	_ = b.conn.Close()
	h.closed()
}

// TestPG45OutcomeUnknown: a target that is gone after it got the request leaves
// an outcome that says so; what never went out says that.
func TestPG45OutcomeUnknown(t *testing.T) {
	t.Parallel()
	f := startFake(t, func(f *fakeConn) {
		if f.login() {
			f.next()
		}
	})
	h := start(t, f.target)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT 'reached the target'"))
	if got := c.rest(); !strings.Contains(got, "08001") {
		t.Errorf("%s", got)
	}
	h.closed()
	if x := h.find("reached the target"); x.outcome == nil || x.outcome.Status != "unknown" {
		t.Errorf("%+v", x.outcome)
	}
	// The book stops before the intent is durable.
	h = start(t, f.target)
	c = dialRaw(t, h.addr, "default", "agents", "orders")
	h.rec.Hold()
	c.send(query("SELECT 'never went out'"))
	h.await(func(list []memrec.Entry) bool { return list[len(list)-1].Kind == evidence.KindIntent })
	h.gate.EndSession(h.gate.Sessions()[0].ID, "enough")
	h.await(func(list []memrec.Entry) bool { return list[len(list)-1].Kind == evidence.KindSessionEnd })
	h.rec.Release()
	h.closed()
	if x := h.find("never went out"); x.outcome == nil || x.outcome.Status != "not-run" {
		t.Errorf("%+v", x.outcome)
	}
	if strings.Contains(f.saw(), "never") {
		t.Error("the target saw it")
	}
}

// TestEV07RecorderFailsInCopy fails the book in the middle of COPY data: the
// target does not get the frame that would make it count.
func TestEV07RecorderFailsInCopy(t *testing.T) {
	t.Parallel()
	h := start(t)
	table(t, "ev07", "n int")
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("COPY ev07 FROM STDIN"))
	c.until('G')
	c.send(copyData("1\n"))
	h.rec.Fail(errors.New("disk on fire"))
	c.send(copyDone)
	if got := c.rest(); strings.Contains(got, "COPY 1") || strings.Contains(got, "fire") {
		t.Errorf("%s", got)
	}
	h.closed()
	if got := psql(t, "SELECT count(*) FROM ev07"); got != "0" {
		t.Errorf("%s rows", got)
	}
}
