package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// rest reads until the connection ends and returns everything.
func (c *raw) rest() string {
	list, _ := c.read(func([]byte) bool { return false })
	return show(list)
}

// running waits until a statement of the agent's runs at the server.
func running(t *testing.T, what string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		out, err := server.PSQL("postgres", "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%"+what+"%' AND pid <> pg_backend_pid()")
		if err != nil || time.Now().After(end) {
			t.Fatalf("%q does not run: %v", what, err)
		}
		if strings.TrimSpace(out) == "1" {
			return
		}
	}
}

func (h *harness) find(text string) *exchange {
	h.t.Helper()
	for _, x := range h.agents() {
		if strings.Contains(x.intent.Text, text) {
			return x
		}
	}
	h.t.Fatalf("no exchange %q", text)
	return nil
}

func TestID10Expiry(t *testing.T) {
	t.Parallel()
	h := start(t)
	idle := dialRaw(t, h.addr, "default", "short", "orders")
	busy := dialRaw(t, h.addr, "default", "short", "orders")
	busy.send(query("SELECT pg_sleep(1.3) /* drains */"))
	// The idle session ends at the expiry, the busy one when its statement is done.
	if got := idle.rest(); !strings.Contains(got, "57P01") {
		t.Errorf("idle: %s", got)
	}
	got := busy.rest()
	if !strings.Contains(got, `C"SELECT 1`) || !strings.Contains(got, "57P01") {
		t.Errorf("busy: %s", got)
	}
	h.closed()
	if x := h.find("drains"); x.outcome == nil || x.outcome.Status != "ok" {
		t.Errorf("%+v", x.outcome)
	}
}

func TestID10ExpiryDrain(t *testing.T) {
	t.Parallel()
	h := start(t) // expiry_drain is 2 s
	c := dialRaw(t, h.addr, "default", "short", "orders")
	began := time.Now()
	c.send(query("SELECT pg_sleep(30) /* too long */"))
	time.Sleep(1100 * time.Millisecond)
	c.send(query("SELECT 'after'")) // begins after the expiry
	got := c.rest()
	if !strings.Contains(got, "57P01") || strings.Contains(got, "after") || time.Since(began) > 8*time.Second {
		t.Errorf("after %v: %s", time.Since(began), got)
	}
	h.closed()
	if x := h.find("too long"); x.outcome == nil || x.outcome.Code != "57014" {
		t.Errorf("%+v", x.outcome)
	}
	if x := h.find("'after'"); !x.deny || x.outcome.Status != "denied" {
		t.Errorf("%+v", x.outcome)
	}
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "short", "orders")
	h.tokens.mu.Lock()
	h.tokens.ttl = time.Hour
	h.tokens.mu.Unlock()
	c.send(query("SET gatebook.token = 'others'")) // another identity
	if got := show(c.until('Z')); !strings.Contains(got, "28P01") {
		t.Errorf("another identity: %s", got)
	}
	c.send(parse("", " set Gatebook.Token to 'short2';"), bind("", "", 0, 0), execute("", 0), syncFrame)
	if got := show(c.until('Z')); !strings.Contains(got, `C"SET`) {
		t.Errorf("renewal: %s", got)
	}
	h.tokens.mu.Lock()
	h.tokens.ttl = 2 * time.Hour
	h.tokens.mu.Unlock()
	c.send(query("SET SESSION gatebook.token = 'short2'"))
	if got := show(c.until('Z')); !strings.Contains(got, `C"SET`) {
		t.Errorf("renewal: %s", got)
	}
	time.Sleep(1100 * time.Millisecond)
	c.send(query("SELECT 'outlived', current_setting('gatebook'||'.token', true)"))
	if got := show(c.until('Z')); !strings.Contains(got, "outlived") || strings.Contains(got, "short2") {
		t.Errorf("%s", got)
	}
	identities := 0
	for _, e := range h.rec.Entries() {
		if e.Kind == evidence.KindIdentity {
			identities++ // the only place where the token may stand
			continue
		}
		if bytes.Contains(e.Meta, []byte("short2")) || bytes.Contains(e.Raw, []byte("short2")) {
			t.Errorf("the token is in the record: %s %s", e.Kind, e.Meta)
		}
	}
	if identities != 3 {
		t.Errorf("%d identity entries", identities)
	}
	if log, err := os.ReadFile(server.Log); err != nil || bytes.Contains(log, []byte("short2")) {
		t.Errorf("the target's log: %v", err)
	}
}

func TestID12EndSession(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT pg_sleep(60) /* ended */"))
	running(t, "ended")
	began := time.Now()
	if !h.gate.EndSession(h.gate.Sessions()[0].ID, "enough") {
		t.Fatal("no session")
	}
	if got := c.rest(); !strings.Contains(got, "57P01") || !strings.Contains(got, "enough") {
		t.Errorf("%s", got)
	}
	h.closed()
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("it took %v", d)
	}
	if x := h.find("ended"); x.outcome == nil || x.outcome.Status != "error" || x.outcome.Code != "57014" {
		t.Errorf("%+v", x.outcome)
	}
}

func TestEndSessionOfAgentThatDoesNotRead(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000) /* unread */"))
	time.Sleep(500 * time.Millisecond) // until the buffers between are full
	began := time.Now()
	h.gate.EndSession(h.gate.Sessions()[0].ID, "enough")
	h.closed()
	if d := time.Since(began); d > 6*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	h := start(t)
	idle, busy := dialRaw(t, h.addr, "default", "agents", "orders"), dialRaw(t, h.addr, "default", "agents", "orders")
	busy.send(query("SELECT pg_sleep(0.5) /* drained */"))
	running(t, "drained")
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	if err := h.gate.Shutdown(ctx, ctx); err != nil {
		t.Error(err)
	}
	if got := busy.rest(); !strings.Contains(got, `C"SELECT 1`) || !strings.Contains(got, "57P01") {
		t.Errorf("busy: %s", got)
	}
	if got := idle.rest(); !strings.Contains(got, "57P01") {
		t.Errorf("idle: %s", got)
	}
	if x := h.find("drained"); x.outcome == nil || x.outcome.Status != "ok" {
		t.Errorf("%+v", x.outcome)
	}
}

func TestPG45AgentVanishes(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT pg_sleep(0.7) /* orphan */"))
	running(t, "orphan")
	_ = c.conn.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn).SetLinger(0)
	_ = c.conn.(interface{ NetConn() net.Conn }).NetConn().Close()
	h.closed()
	if x := h.find("orphan"); x.outcome == nil || x.outcome.Status != "ok" || x.outcome.Tag != "SELECT 1" {
		t.Errorf("%+v", x.outcome)
	}
}

func TestOrphanLimit(t *testing.T) {
	t.Parallel()
	h := start(t, func(_ *enforce.Target, _ *engine.Listener, l *engine.Limits) { l.Orphan = 200 * time.Millisecond })
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT pg_sleep(60) /* long orphan */"))
	running(t, "long orphan")
	_ = c.conn.Close()
	h.closed()
	if x := h.find("long orphan"); x.outcome == nil || x.outcome.Code != "57014" {
		t.Errorf("%+v", x.outcome)
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	h := start(t, func(_ *enforce.Target, _ *engine.Listener, l *engine.Limits) {
		l.Stall, l.Orphan = 300*time.Millisecond, 5*time.Second
	})
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 300000) /* stalled */"))
	h.closed()
	x := h.find("stalled")
	if x.outcome == nil || x.outcome.Status == "unknown" {
		t.Errorf("%+v", x.outcome)
	}
	if len(x.answer) > 64<<20 {
		t.Errorf("%d bytes were recorded that nobody got", len(x.answer))
	}
}

// TestTargetStopsReading has a target that takes no requests.
func TestTargetStopsReading(t *testing.T) {
	t.Parallel()
	block := make(chan struct{})
	f := startFake(t, func(f *fakeConn) {
		if f.login() {
			<-block
		}
	})
	defer close(block)
	h := start(t, f.target, func(_ *enforce.Target, _ *engine.Listener, l *engine.Limits) { l.Stall = 300 * time.Millisecond })
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	go func() {
		big := query("SELECT '" + strings.Repeat("x", 1<<20) + "'")
		for range 40 {
			if _, err := c.conn.Write(big); err != nil {
				return
			}
		}
	}()
	if got := c.rest(); !strings.Contains(got, "08001") {
		t.Errorf("%s", got)
	}
	h.closed()
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	h := start(t, func(t *enforce.Target, _ *engine.Listener, _ *engine.Limits) { t.IdleTimeout = time.Second })
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT pg_sleep(1.3)"))
	c.until('Z')
	if got := c.rest(); !strings.Contains(got, "57P01") || !strings.Contains(got, "idle") {
		t.Errorf("%s", got)
	}
}

func TestSessionsQueue(t *testing.T) {
	t.Parallel()
	h := start(t, func(t *enforce.Target, _ *engine.Listener, _ *engine.Limits) {
		t.Sessions, t.QueueTimeout = 1, 500*time.Millisecond
	})
	first := dialRaw(t, h.addr, "default", "agents", "orders")
	if _, err := loginRaw(h.addr, "default", "agents", "orders"); err == nil || !strings.Contains(err.Error(), "53300") {
		t.Errorf("second session: %v", err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = first.conn.Close() })
	c, err := loginRaw(h.addr, "default", "agents", "orders")
	if err != nil {
		t.Fatalf("the place was not passed on: %v", err)
	}
	_ = c.conn.Close()
}

func TestPG16ApplicationName(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "agents", "orders", "application_name", "mine")
	seen := func() string {
		c.send(query("SELECT 'name=' || application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"))
		return show(c.until('Z'))
	}
	prefix := "gb:" + h.gate.Sessions()[0].ID.String()
	if got := seen(); !strings.Contains(got, "name="+prefix+" mine") {
		t.Errorf("%s", got)
	}
	c.send(query("SET application_name = 'other agent'"))
	if got := show(c.until('Z')); !strings.Contains(got, `S"application_name\x00other agent`) {
		t.Errorf("%s", got)
	}
	if got := seen(); !strings.Contains(got, "name="+prefix+" other agent") || strings.Contains(got, "S\"") {
		t.Errorf("%s", got)
	}
	c.send(query("RESET application_name"))
	if got := show(c.until('Z')); !strings.Contains(got, `S"application_name\x00mine`) {
		t.Errorf("%s", got)
	}
}

// TestPG15CancelKeys is PG-15.
func TestPG15CancelKeys(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	cancel := func(pid uint32, key []byte) {
		conn, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write(pgwire.AppendCancel(nil, pid, key))
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, _ := conn.Read(make([]byte, 1)); n != 0 {
			t.Error("a cancel request was answered")
		}
	}
	pid, key := binary.BigEndian.Uint32(c.key), c.key[4:]
	cancel(pid, key) // nothing runs: the next statement survives
	c.send(query("SELECT 'survives'"))
	if got := show(c.until('Z')); !strings.Contains(got, "survives") {
		t.Errorf("%s", got)
	}
	c.send(query("SELECT pg_sleep(60) /* cancelled */"))
	running(t, "cancelled")
	cancel(pid, []byte("nope"))
	cancel(pid+1, key)
	cancel(h.backend(c), key)
	cancel(pid, key[:len(key)-1])
	cancel(pid, append(bytes.Clone(key), 0))
	running(t, "cancelled")
	cancel(pid, key)
	if got := show(c.until('Z')); !strings.Contains(got, "57014") {
		t.Errorf("%s", got)
	}
	var refused, cancelled int
	for _, e := range h.rec.Entries() {
		switch e.Kind {
		case evidence.KindRefused:
			refused++
		case evidence.KindCancel:
			cancelled++
		}
	}
	if refused != 5 || cancelled != 2 {
		t.Errorf("%d refused, %d cancel entries", refused, cancelled)
	}
}

// TestBackendEnds has the server end the connection.
func TestBackendEnds(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, text := range []string{"SELECT pg_terminate_backend(pg_backend_pid())", "DO $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); END $$"} {
		c := dialRaw(t, h.addr, "default", "agents", "orders")
		c.send(query(text))
		if got := c.rest(); !strings.Contains(got, "57P01") || strings.Contains(got, "gatebook: ") {
			t.Errorf("%s", got)
		}
	}
	h.closed()
	for _, x := range h.agents() {
		if x.outcome == nil || x.outcome.Code != "57P01" {
			t.Errorf("%q: %+v", x.intent.Text, x.outcome)
		}
	}
}
