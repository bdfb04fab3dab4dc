package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
)

// echo answers every Query with one row and every pipeline with nothing but
// the completions that pipelined makes up.
func echo(f *fakeConn) {
	if !f.login() {
		return
	}
	for b := f.next(); b != nil; b = f.next() {
		switch b[0] {
		case 'Q':
			f.write(oneRow("v"))
		case 'P':
			f.write(frame('1', ""))
		case 'B':
			f.write(frame('2', ""))
		case 'E':
			f.write(frame('C', "INSERT 0 1\x00"))
		case 'S':
			f.write(readyFrame)
		}
	}
}

// TestIntentBeforeForward holds durability back: no byte of a request may be
// at the target before its intent is durable.
func TestIntentBeforeForward(t *testing.T) {
	t.Parallel()
	f := startFake(t, echo)
	h := start(t, f.target)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	pipeline := bytes.Join([][]byte{
		parse("", "INSERT 1"), bind("", "", 0, 0), execute("", 0), parse("", "INSERT 2"), bind("", "", 0, 0), execute("", 0), syncFrame,
	}, nil)
	for _, message := range [][]byte{query("SELECT 1"), pipeline} {
		before := len(f.saw())
		h.rec.Hold()
		n := len(h.rec.Entries())
		c.send(message)
		h.await(func(list []memrec.Entry) bool {
			return len(list) > n && list[len(list)-1].Kind == evidence.KindIntent
		})
		time.Sleep(20 * time.Millisecond) // long enough for bytes that should not be there
		if got := f.saw()[before:]; got != "" {
			t.Errorf("the target saw %q before the intent was durable", got)
		}
		h.rec.Release()
		c.until('Z')
	}
	for _, x := range h.agents() {
		if x.outcome == nil {
			t.Errorf("exchange %d has no outcome", x.n)
		}
	}
}

// TestOutcomeBeforeRelease holds durability back once the request is at the
// target: the closing frame may not reach the agent before the outcome is durable.
func TestOutcomeBeforeRelease(t *testing.T) {
	t.Parallel()
	go1 := make(chan struct{})
	f := startFake(t, func(f *fakeConn) {
		if !f.login() {
			return
		}
		for b := f.next(); b != nil; b = f.next() {
			<-go1
			f.write(oneRow("v"))
		}
	})
	h := start(t, f.target)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT 1"))
	h.await(func([]memrec.Entry) bool { return strings.Contains(f.saw(), "SELECT 1") })
	h.rec.Hold()
	close(go1)
	h.await(func(list []memrec.Entry) bool { return list[len(list)-1].Kind == evidence.KindOutcome })
	_ = c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	list, err := c.read(func([]byte) bool { return false })
	if err == nil || strings.Contains(show(list), "SELECT 1") {
		t.Errorf("the agent got %s before the outcome was durable", show(list))
	}
	h.rec.Release()
}

// TestReleaseAhead lets a large answer run while nothing becomes durable: the
// agent gets at most 256 KiB of it.
func TestReleaseAhead(t *testing.T) {
	t.Parallel()
	go1 := make(chan struct{})
	f := startFake(t, func(f *fakeConn) {
		if !f.login() {
			return
		}
		for b := f.next(); b != nil; b = f.next() {
			<-go1
			f.write(description("c"))
			row := rowOf(strings.Repeat("x", 1000))
			for range 2000 {
				f.write(row)
			}
			f.write(frame('C', "SELECT 2000\x00"), readyFrame)
		}
	})
	h := start(t, f.target)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT big"))
	h.await(func([]memrec.Entry) bool { return strings.Contains(f.saw(), "SELECT big") })
	h.rec.Hold()
	close(go1)
	_ = c.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	got, buf := 0, make([]byte, 1<<16)
	for {
		n, err := c.conn.Read(buf)
		if got += n; err != nil {
			break
		}
	}
	if got > 256<<10 {
		t.Errorf("%d bytes were released ahead of the record", got)
	}
	t.Logf("%d bytes ahead", got)
	h.rec.Release()
}

func (h *harness) await(match func([]memrec.Entry) bool) {
	h.t.Helper()
	for end := time.Now().Add(10 * time.Second); !match(h.rec.Entries()); {
		if time.Now().After(end) {
			h.t.Fatal("what was awaited did not happen")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestPG26Names holds the book's idea of statement and portal names against what
// the target ran (PG-26).
func TestPG26Names(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	run := func(messages ...[]byte) {
		c.send(append(messages, syncFrame)...)
		c.until('Z')
	}
	last := func() *exchange { list := h.agents(); return list[len(list)-1] }
	text := func(want string) {
		t.Helper()
		if got := last().intent.Text; got != want {
			t.Errorf("recorded %q, want %q", got, want)
		}
	}
	run(parse("a", "SELECT 'one'"), parse("b", "SELECT 'two'"), bind("pa", "a", 0, 0), bind("pb", "b", 0, 0), execute("pa", 0))
	text("SELECT 'one'")
	// A Parse of an existing name fails: the name keeps its statement.
	c.send(parse("a", "SELECT 'three'"), syncFrame, bind("", "a", 0, 0), execute("", 0), syncFrame)
	c.until('Z')
	c.until('Z')
	text("SELECT 'one'")
	// Closed and made again in one pipeline.
	c.send(closing('S', "a"), parse("a", "SELECT 'four'"), syncFrame, bind("", "a", 0, 0), execute("", 0), syncFrame)
	c.until('Z')
	c.until('Z')
	text("SELECT 'four'")
	// A Parse that is skipped does not count.
	c.send(parse("", "nonsense"), parse("n", "SELECT 'five'"), syncFrame, bind("", "n", 0, 0), execute("", 0), syncFrame)
	c.until('Z')
	c.until('Z')
	if x := last(); !strings.Contains(string(x.intent.Detail), `"unresolved":true`) || x.outcome.Code != "26000" {
		t.Errorf("%s %+v", x.intent.Detail, x.outcome)
	}
	run(closing('S', "b"), parse("b", "SELECT 'two'"))
	// SQL behind the protocol's back makes names uncertain until they are parsed again.
	run(bind("", "b", 0, 0), execute("", 0))
	if strings.Contains(string(last().intent.Detail), "uncertain") {
		t.Errorf("%s", last().intent.Detail)
	}
	c.send(query("DeAllocate b; PREPARE b AS SELECT 'changed'"))
	c.until('Z')
	run(bind("", "b", 0, 0), execute("", 0))
	if !strings.Contains(string(last().intent.Detail), `"uncertain":true`) {
		t.Errorf("%s", last().intent.Detail)
	}
	run(closing('S', "b"), parse("b", "SELECT 6"), bind("", "b", 0, 0), execute("", 0))
	if strings.Contains(string(last().intent.Detail), "uncertain") {
		t.Errorf("%s", last().intent.Detail)
	}
	// Parsed and run through the extended protocol counts too.
	run(parse("", "DISCARD ALL"), bind("", "", 0, 0), execute("", 0))
	run(bind("", "b", 0, 0), execute("", 0))
	if !strings.Contains(string(last().intent.Detail), `"uncertain":true`) {
		t.Errorf("%s", last().intent.Detail)
	}
	// The unnamed statement falls away with a Query.
	run(parse("", "SELECT 7"))
	c.send(query("SELECT 8"))
	c.until('Z')
	run(bind("", "", 0, 0), execute("", 0))
	if !strings.Contains(string(last().intent.Detail), `"unresolved":true`) {
		t.Errorf("%s", last().intent.Detail)
	}
}

// TestPG27HundredUnnamed is PG-27.
func TestPG27HundredUnnamed(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	var messages [][]byte
	for i := range 100 {
		messages = append(messages, parse("", fmt.Sprintf("SELECT %d, $1::text", i)), bind("", "", 0, 0, fmt.Append(nil, "v", i)), execute("", 0))
	}
	c.send(append(messages, syncFrame)...)
	c.until('Z')
	list := h.agents()
	if len(list) != 100 {
		t.Fatalf("%d exchanges", len(list))
	}
	for i, x := range list {
		if want := fmt.Sprintf("SELECT %d, $1::text", i); x.intent.Text != want || x.n != list[0].n+uint64(i) {
			t.Errorf("exchange %d is %q", i, x.intent.Text)
		}
		if !bytes.Contains(x.answer, fmt.Append(nil, "v", i)) || x.outcome.Tag != "SELECT 1" || x.outcome.Rows != 1 {
			t.Errorf("exchange %d: %q %+v", i, x.answer, x.outcome)
		}
	}
}

// TestParams holds the recorded parameters against what was sent.
func TestParams(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(parse("", "SELECT $1::text, $2::text", 25, 25), bind("p", "", 0, 1, []byte("é\"\n"), nil), describe('P', "p"), execute("p", 5), syncFrame)
	c.until('Z')
	c.send(parse("", "SELECT $1::bytea"), bind("", "", 1, 0, []byte{0, 1, 255}), execute("", 0), syncFrame)
	c.until('Z')
	list := h.agents()
	want := []string{
		`{"messages":"PBDE","portal":"p","types":[25,25],"params":["é\"\n",null],"formats":[0],"result_formats":[1],"max_rows":5}`,
		`{"messages":"PBE","params":[{"b64":"AAH/"}],"formats":[1],"result_formats":[0]}`,
	}
	for i, w := range want {
		if got := string(list[i].intent.Detail); got != w {
			t.Errorf("got  %s\nwant %s", got, w)
		}
		if !json.Valid(list[i].intent.Detail) {
			t.Errorf("not JSON: %s", list[i].intent.Detail)
		}
	}
}

// TestRecorderFails ends sessions whose exchanges cannot be recorded; nothing
// unrecorded passes.
func TestRecorderFails(t *testing.T) {
	t.Parallel()
	f := startFake(t, echo)
	h := start(t, f.target)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT 1"))
	c.until('Z')
	h.rec.Fail(errors.New("disk on fire"))
	c.send(query("SELECT secret"))
	list, err := c.read(func(f []byte) bool { return f[0] == 'Z' })
	if err == nil || !strings.Contains(show(list), "58030") || strings.Contains(show(list), "fire") {
		t.Errorf("%v %s", err, show(list))
	}
	if strings.Contains(f.saw(), "secret") {
		t.Errorf("the target saw %q", f.saw())
	}
	if _, err := loginRaw(h.addr, "default", "agents", "orders"); err == nil {
		t.Error("the gate let a session in")
	}
	h.closed()
}

// TestRecorderFailsInAnswer fails the recorder while the statement runs.
func TestRecorderFailsInAnswer(t *testing.T) {
	t.Parallel()
	go1 := make(chan struct{})
	f := startFake(t, func(f *fakeConn) {
		if f.login() && f.next() != nil {
			<-go1
			f.write(oneRow("v"))
			f.next()
		}
	})
	h := start(t, f.target)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT 1"))
	h.await(func([]memrec.Entry) bool { return f.saw() != "" })
	h.rec.Fail(errors.New("disk on fire"))
	close(go1)
	list, err := c.read(func(f []byte) bool { return f[0] == 'Z' })
	if err == nil || strings.Contains(show(list), `C"SELECT 1`) {
		t.Errorf("%v %s", err, show(list))
	}
	h.closed()
}

// TestLargeValues sends a large row both ways and asserts that it was not held in
// memory more often than it must be.
func TestLargeValues(t *testing.T) {
	h := start(t)
	c := h.connect("agents")
	ctx, stop := context.WithTimeout(t.Context(), 60*time.Second)
	defer stop()
	const size = 64<<20 - 4096
	if _, err := c.Exec(ctx, "CREATE TEMP TABLE big (v text)"); err != nil {
		t.Fatal(err)
	}
	heap := watchHeap(t)
	if _, err := c.PgConn().CopyFrom(ctx, strings.NewReader(strings.Repeat("x", size)+"\n"), "COPY big FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := c.QueryRow(ctx, "SELECT length(v) FROM big").Scan(&n); err != nil || n != size {
		t.Fatalf("%d %v", n, err)
	}
	mrr := c.PgConn().Exec(ctx, "SELECT v FROM big")
	for mrr.NextResult() {
		for mrr.ResultReader().NextRow() {
			n -= len(mrr.ResultReader().Values()[0])
		}
	}
	if err := mrr.Close(); err != nil || n != 0 {
		t.Fatalf("%d bytes missing, %v", n, err)
	}
	// The recorder keeps every byte twice over (request and answer), the test's
	// agent holds the value; the gateway itself must not.
	peak := heap()
	t.Logf("peak heap %d MiB", peak>>20)
	if peak > 6*size {
		t.Errorf("peak heap %d bytes", peak)
	}
}

// TestLongPipelines sends more messages than may wait for their answers,
// behind a good and behind a bad first one.
func TestLongPipelines(t *testing.T) {
	t.Parallel()
	h := start(t)
	const n = 5000
	for first, want := range map[string]string{"SELECT 1": "ok", "nonsense": "not-run"} {
		c := dialRaw(t, h.addr, "default", "agents", "orders")
		messages := parse("", first)
		for range n {
			messages = append(messages, parse("", "SELECT 2")...)
			messages = append(messages, bind("", "", 0, 0)...)
			messages = append(messages, execute("", 0)...)
		}
		before := len(h.agents())
		go func() { _, _ = c.conn.Write(append(messages, syncFrame...)) }()
		list, err := c.read(func(f []byte) bool { return f[0] == 'Z' })
		if err != nil || want == "ok" && len(list) != 1+4*n+1 || want != "ok" && len(list) != 2 {
			t.Fatalf("%s: %d frames, %v", first, len(list), err)
		}
		got := h.agents()[before:]
		if len(got) != n+1 {
			t.Fatalf("%d exchanges", len(got))
		}
		for _, x := range got[1:] {
			if x.outcome == nil || x.outcome.Status != want {
				t.Fatalf("exchange %d: %+v, want %s", x.n, x.outcome, want)
			}
		}
	}
}
