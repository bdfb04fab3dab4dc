package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// raw is a scripted agent: frames in, frames out.
type raw struct {
	t    testing.TB
	conn net.Conn
	in   *pgwire.Reader
	key  []byte // body of BackendKeyData
	got  []byte // every frame after the log-in
}

// dialRaw logs in with a password over TLS.
func dialRaw(t testing.TB, addr, user, password, database string, params ...string) *raw {
	t.Helper()
	c, err := loginRaw(addr, user, password, database, params...)
	if err != nil {
		t.Fatal(err)
	}
	c.t = t
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

func loginRaw(addr, user, password, database string, params ...string) (*raw, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := conn.Write(pgwire.AppendRequest(nil, pgwire.SSLRequestCode)); err != nil {
		return nil, err
	}
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil || b[0] != 'S' {
		return nil, fmt.Errorf("no TLS: %q %w", b, err)
	}
	c := &raw{conn: tls.Client(conn, &tls.Config{InsecureSkipVerify: true})} //nolint:gosec // a test's agent
	c.in = pgwire.NewReader(c.conn, 1<<30)
	words := append([]string{"user", user, "database", database, "client_encoding", "UTF8"}, params...)
	if _, err := c.conn.Write(pgwire.AppendStartup(nil, 0, words...)); err != nil {
		return nil, err
	}
	for {
		frame, err := c.in.Next()
		if err != nil {
			return nil, err
		}
		switch frame[0] {
		case 'R':
			if frame[8] == 3 {
				if _, err := c.conn.Write(pgwire.AppendFrame(nil, 'p', append([]byte(password), 0))); err != nil {
					return nil, err
				}
			}
		case 'K':
			c.key = bytes.Clone(frame[5:])
		case 'E':
			return nil, fmt.Errorf("refused: %q", frame)
		case 'Z':
			return c, nil
		}
	}
}

func (c *raw) send(b ...[]byte) {
	c.t.Helper()
	if _, err := c.conn.Write(bytes.Join(b, nil)); err != nil {
		c.t.Errorf("send: %v", err)
	}
}

// until reads frames up to one of this type and returns all of them.
func (c *raw) until(typ byte) [][]byte {
	c.t.Helper()
	list, err := c.read(func(frame []byte) bool { return frame[0] == typ })
	if err != nil {
		c.t.Fatalf("waiting for %q after %s: %v", typ, show(list), err)
	}
	return list
}

func (c *raw) read(last func([]byte) bool) ([][]byte, error) {
	var list [][]byte
	for {
		frame, err := c.in.Next()
		if err != nil {
			return list, err
		}
		frame = bytes.Clone(frame)
		c.got = append(c.got, frame...)
		list = append(list, frame)
		if last(frame) {
			return list, nil
		}
	}
}

func show(list [][]byte) string {
	var b strings.Builder
	for _, f := range list {
		text := f[5:]
		if len(text) > 120 {
			text = text[:120]
		}
		fmt.Fprintf(&b, "%c%q ", f[0], text)
	}
	return b.String()
}

// dialDirect logs in to the server itself.
func dialDirect(t testing.TB, database string) *raw {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), fmt.Sprintf(
		"host=127.0.0.1 port=%d user=agent password=upstream-secret dbname=%s sslmode=require client_encoding=UTF8", server.Port, database))
	if err != nil {
		t.Fatal(err)
	}
	hijacked, err := c.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	key := append(binary.BigEndian.AppendUint32(nil, hijacked.PID), hijacked.SecretKey...)
	t.Cleanup(func() { _ = hijacked.Conn.Close() })
	return &raw{t: t, conn: hijacked.Conn, in: pgwire.NewReader(hijacked.Conn, 1<<30), key: key}
}

// Message builders.

func query(text string) []byte { return pgwire.AppendQuery(nil, text) }

func parse(name, text string, oids ...uint32) []byte {
	out, at := pgwire.BeginFrame(nil, 'P')
	out = append(out, name+"\x00"+text+"\x00"...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(oids)))
	for _, o := range oids {
		out = binary.BigEndian.AppendUint32(out, o)
	}
	return pgwire.EndFrame(out, at)
}

// bind makes a Bind; a nil value is NULL, formats are for all values and all results.
func bind(portal, name string, format, result int, values ...[]byte) []byte {
	out, at := pgwire.BeginFrame(nil, 'B')
	out = append(out, portal+"\x00"+name+"\x00\x00\x01\x00"...)
	out = append(out, byte(format))
	out = binary.BigEndian.AppendUint16(out, uint16(len(values)))
	for _, v := range values {
		if v == nil {
			out = append(out, 255, 255, 255, 255)
			continue
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(v)))
		out = append(out, v...)
	}
	out = append(out, 0, 1, 0, byte(result))
	return pgwire.EndFrame(out, at)
}

func describe(what byte, name string) []byte {
	return pgwire.AppendFrame(nil, 'D', []byte(string(what)+name+"\x00"))
}

func closing(what byte, name string) []byte {
	return pgwire.AppendFrame(nil, 'C', []byte(string(what)+name+"\x00"))
}

func execute(portal string, rows int) []byte {
	return pgwire.AppendFrame(nil, 'E', binary.BigEndian.AppendUint32([]byte(portal+"\x00"), uint32(rows)))
}

func copyData(text string) []byte { return pgwire.AppendFrame(nil, 'd', []byte(text)) }

var copyDone = []byte{'c', 0, 0, 0, 4}

func copyFail(why string) []byte { return pgwire.AppendFrame(nil, 'f', []byte(why+"\x00")) }

// pipeline makes up messages that end with ReadyForQuery from both a direct
// and a relayed connection.
type pipeline struct {
	rng *rand.Rand
}

func (p *pipeline) pick(list ...string) string { return list[p.rng.IntN(len(list))] }

func (p *pipeline) text() string {
	n := strconv.Itoa(p.rng.IntN(20))
	return p.pick(
		"SELECT "+n, "SELECT $1::int + "+n, "SELECT $1::text, $2::int", "INSERT INTO d VALUES ("+n+", 'x')",
		"INSERT INTO d VALUES ($1, $2) RETURNING id", "UPDATE d SET v = v || 'u' WHERE id < "+n, "DELETE FROM d WHERE id = "+n,
		"SELECT id, v FROM d ORDER BY id, v", "SELECT generate_series(1, "+n+")", "SELECT 1/0", "nonsense "+n, "", ";",
		"SELECT no_such_column", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "SHOW work_mem",
		"DO $$ BEGIN RAISE NOTICE 'n"+n+"'; END $$", "SET application_name = 'app"+n+"'", "SET LOCAL application_name = 'loc"+n+"'",
		"SET work_mem = '"+strconv.Itoa(64+p.rng.IntN(100))+"kB'", "RESET application_name",
		"PREPARE q"+n+" AS SELECT 1", "EXECUTE q"+n, "DEALLOCATE ALL", "DISCARD ALL",
		"DECLARE c CURSOR FOR SELECT generate_series(1,5)", "FETCH 2 FROM c", "CLOSE c", "LISTEN ch", "NOTIFY ch, 'p"+n+"'", "UNLISTEN *",
		"COPY d TO STDOUT", "COPY (SELECT 1 WHERE false) TO STDOUT (FORMAT binary)", "INSERT INTO def VALUES ("+n+")",
		"SET CONSTRAINTS ALL IMMEDIATE", "SET TimeZone = 'UTC'", "SELECT FROM d", "VACUUM nosuch", "EXPLAIN (COSTS OFF) SELECT 1",
	)
}

func (p *pipeline) simple() string {
	texts := make([]string, 1+p.rng.IntN(3))
	for i := range texts {
		texts[i] = p.text()
	}
	return strings.Join(texts, ";")
}

var copyTexts = []string{
	"COPY d FROM STDIN", "COPY d (id) FROM STDIN", "COPY dview FROM STDIN", "COPY nosuch FROM STDIN", "COPY trig FROM STDIN",
}

func (p *pipeline) copyMessages() [][]byte {
	var list [][]byte
	for range p.rng.IntN(4) {
		list = append(list, copyData(p.pick("1\tone\n", "2\ttwo\n3\tthree\n", "bad\tx\n", "4\tfo", "ur\n", "\\.\n", "5\n")))
	}
	return append(list, [][]byte{copyDone, copyFail("stop")}[p.rng.IntN(2)])
}

// extended returns messages of the extended protocol without the Sync.
func (p *pipeline) extended() [][]byte {
	name, portal := p.pick("", "", "s1", "s2"), p.pick("", "", "p1", "p2")
	values := func() [][]byte {
		list := make([][]byte, p.rng.IntN(3))
		for i := range list {
			if p.rng.IntN(4) > 0 {
				list[i] = []byte(strconv.Itoa(p.rng.IntN(30)))
			}
		}
		return list
	}
	switch p.rng.IntN(12) {
	case 0:
		return [][]byte{parse(name, p.text())}
	case 1:
		return [][]byte{bind(portal, name, 0, p.rng.IntN(2), values()...)}
	case 2:
		return [][]byte{describe('S', name)}
	case 3:
		return [][]byte{describe('P', portal)}
	case 4:
		return [][]byte{execute(portal, p.rng.IntN(3))}
	case 5:
		return [][]byte{closing([]byte("SP")[p.rng.IntN(2)], p.pick(name, portal))}
	case 6:
		return [][]byte{flushFrame}
	case 7:
		list := [][]byte{parse("", copyTexts[p.rng.IntN(len(copyTexts))]), bind("", "", 0, 0), execute("", 0)}
		if p.rng.IntN(2) == 0 {
			list = append(list, syncFrame)
		}
		return append(append(list, p.copyMessages()...), syncFrame)
	default:
		text := p.text()
		n := strings.Count(text, "$")
		if strings.Contains(text, "$$") {
			n = 0
		}
		args := make([][]byte, n)
		for i := range args {
			args[i] = []byte(strconv.Itoa(p.rng.IntN(30)))
		}
		list := [][]byte{parse(name, text), bind(portal, name, 0, p.rng.IntN(2), args...)}
		if name != "" && p.rng.IntN(2) == 0 {
			list = append([][]byte{closing('S', name)}, list...)
		}
		if p.rng.IntN(2) == 0 {
			list = append(list, describe('P', portal))
		}
		list = append(list, execute(portal, p.rng.IntN(4)))
		if p.rng.IntN(4) == 0 {
			list = append(list, execute(portal, 0))
		}
		return list
	}
}

// round returns the messages of one round, which ends with ReadyForQuery for a
// marker that the last message asks for.
func (p *pipeline) round() []byte {
	var list [][]byte
	for range 1 + p.rng.IntN(6) {
		switch p.rng.IntN(8) {
		case 0:
			list = append(list, query(p.simple()))
		case 1:
			list = append(list, query(copyTexts[p.rng.IntN(len(copyTexts))]))
			list = append(list, p.copyMessages()...)
		case 2:
			list = append(list, pgwire.AppendFrame(nil, 'F', p.call()))
		case 3:
			list = append(list, p.copyMessages()...)
		default:
			for range 1 + p.rng.IntN(4) {
				list = append(list, p.extended()...)
			}
			if p.rng.IntN(3) > 0 {
				list = append(list, syncFrame)
			}
		}
	}
	return bytes.Join(append(list, syncFrame, query("ROLLBACK; SELECT 'marker'")), nil)
}

func (p *pipeline) call() []byte {
	oid := uint32(p.rng.IntN(2)*1315 + 2) // 1317 is length(text)
	body := binary.BigEndian.AppendUint32(nil, oid)
	body = append(body, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3)
	body = append(body, "abc"...)
	return append(body, 0, byte(p.rng.IntN(2)))
}

const differentialTables = `DROP TABLE IF EXISTS d, def, trig CASCADE; CREATE TABLE d (id int, v text);
	CREATE VIEW dview AS SELECT * FROM d; CREATE TABLE def (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE trig (id int, v text);
	CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no copy'; END $$;
	CREATE TRIGGER t BEFORE INSERT ON trig FOR EACH STATEMENT EXECUTE FUNCTION refuse();`

// normal takes out of frames what differs between two backends by nature.
func normal(list [][]byte, pid uint32) string {
	var b strings.Builder
	for _, f := range list {
		if f[0] == 'A' && binary.BigEndian.Uint32(f[5:]) == pid {
			copy(f[5:], "self")
		}
		if f[0] == 'T' {
			at := 7
			for range int(f[5])<<8 | int(f[6]) {
				at += bytes.IndexByte(f[at:], 0) + 1
				clear(f[at : at+4]) // the table's OID
				at += 18
			}
		}
		if f[0] == 'E' || f[0] == 'N' {
			f = lineNumber.ReplaceAll(f, nil)
		}
		fmt.Fprintf(&b, "%q\n", f)
	}
	return b.String()
}

var lineNumber = regexp.MustCompile(`L[0-9]+\x00`)

func TestDifferential(t *testing.T) {
	t.Parallel()
	rounds := 300
	if n, err := strconv.Atoi(os.Getenv("GATEBOOK_ROUNDS")); err == nil {
		rounds = n
	}
	if testing.Short() {
		rounds = 50
	}
	seed, _ := strconv.ParseUint(os.Getenv("GATEBOOK_SEED"), 10, 64)
	h := start(t)
	for _, db := range []string{"diff_a", "diff_b"} {
		if _, err := server.PSQL("postgres", "CREATE DATABASE "+db+" OWNER agent"); err != nil {
			t.Fatal(err)
		}
	}
	var direct, relayed *raw
	for i := range rounds {
		p := &pipeline{rng: rand.New(rand.NewPCG(seed, uint64(i)))} //nolint:gosec // a test's sequence
		if i%10 == 0 || direct == nil {
			if direct != nil {
				h.checkAnswers(relayed)
				_ = direct.conn.Close()
				_ = relayed.conn.Close()
			}
			direct = dialDirect(t, "diff_a")
			relayed = dialRaw(t, h.addr, "default", "agents", "orders/diff_b")
			for _, c := range []*raw{direct, relayed} {
				c.send(query(differentialTables))
				c.until('Z')
			}
		}
		messages := p.round()
		a, fatalA := exchangeRound(t, direct, messages, binary.BigEndian.Uint32(direct.key))
		b, fatalB := exchangeRound(t, relayed, messages, h.backend(relayed))
		if a != b || fatalA != fatalB {
			t.Fatalf("seed %d, round %d: sent %q\ndirect:\n%s\nrelayed:\n%s", seed, i, messages, a, b)
		}
		if fatalA {
			direct, relayed = nil, nil
			continue
		}
		const tables = "SELECT * FROM d ORDER BY 1, 2; SELECT * FROM def ORDER BY 1; SELECT * FROM trig"
		var contents [2]string
		for k, c := range []*raw{direct, relayed} {
			c.send(query(tables))
			contents[k] = normal(c.until('Z'), 0)
		}
		if contents[0] != contents[1] {
			t.Fatalf("seed %d, round %d: sent %q\ntables: direct:\n%s\nrelayed:\n%s", seed, i, messages, contents[0], contents[1])
		}
	}
	h.idle()
	for _, x := range h.agents() {
		if x.outcome == nil {
			t.Errorf("exchange %d (%s %q) has no outcome", x.n, x.intent.Op, x.intent.Text)
		}
	}
}

// exchangeRound sends one round's messages and returns the frames that came back.
func exchangeRound(t *testing.T, c *raw, messages []byte, pid uint32) (frames string, fatal bool) {
	t.Helper()
	c.send(messages)
	_ = c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	marker := false
	list, err := c.read(func(frame []byte) bool {
		fatal = frame[0] == 'E' && bytes.Contains(frame, []byte("VFATAL"))
		marker = marker || frame[0] == 'D' && bytes.HasSuffix(frame, []byte("marker"))
		return fatal || marker && frame[0] == 'Z'
	})
	if err != nil {
		t.Fatalf("%v after %s\nsent %q", err, show(list), messages)
	}
	return normal(list, pid), fatal
}

// checkAnswers compares what the agent got with what the book says it got.
func (h *harness) checkAnswers(c *raw) {
	h.t.Helper()
	h.driver.mu.Lock()
	r := h.driver.cancels[binary.BigEndian.Uint32(c.key)]
	h.driver.mu.Unlock()
	if r == nil {
		h.t.Fatal("no such session")
	}
	var book []byte
	own := map[uint64]bool{}
	greeted := false
	for _, e := range h.rec.Entries() {
		if e.Session != r.s.ID() {
			continue
		}
		switch e.Kind {
		case evidence.KindIntent:
			own[e.Exchange] = bytes.Contains(e.Meta, []byte(`"origin":"gateway"`))
		case evidence.KindAnswer, evidence.KindOutcome:
			switch {
			case e.Exchange == 0 && !greeted:
				greeted = true // the parameters at the log-in
			case e.Exchange == 0 || !own[e.Exchange]:
				book = append(book, e.Raw...)
			}
		}
	}
	var got []byte
	for rest := c.got; len(rest) > 0; {
		n := 1 + int(binary.BigEndian.Uint32(rest[1:]))
		if rest[0] != 'Z' {
			got = append(got, rest[:n]...)
		}
		rest = rest[n:]
	}
	if !bytes.Equal(got, book) {
		h.t.Errorf("the agent got %d bytes, the book has %d:\n%q\n%q", len(got), len(book), got, book)
	}
}

// backend returns the process id of the backend that serves a relayed connection.
func (h *harness) backend(c *raw) uint32 {
	h.driver.mu.Lock()
	defer h.driver.mu.Unlock()
	if r := h.driver.cancels[binary.BigEndian.Uint32(c.key)]; r != nil {
		return r.up.pid
	}
	return 0
}

// idle waits until no session is open any more, then closes nothing: the book is complete.
func (h *harness) idle() {
	h.t.Helper()
	ctx, stop := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer stop()
	for h.gate.Counters().OpenExchanges > 0 {
		if ctx.Err() != nil {
			h.t.Fatal("exchanges stay open")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
