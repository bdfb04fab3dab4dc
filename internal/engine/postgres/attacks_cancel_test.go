package postgres

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// askCancel sends a CancelRequest, over TLS or not, and waits until the gateway is through with it.
func (h *harness) askCancel(secure bool, pid uint32, key []byte) {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if secure {
		_, _ = conn.Write(pgwire.AppendRequest(nil, pgwire.SSLRequestCode))
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			h.t.Fatal(err)
		}
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test's agent
	}
	_, _ = conn.Write(pgwire.AppendCancel(nil, pid, key))
	if n, _ := conn.Read(make([]byte, 1)); n != 0 {
		h.t.Error("a cancel request was answered")
	}
}

func (c *raw) cancelKey() (pid uint32, key []byte) { return binary.BigEndian.Uint32(c.key), c.key[4:] }

// TestPG15KeyOfAnother: one agent's key does not reach another agent's
// statement, over TLS or without; each one's own does.
func TestPG15KeyOfAnother(t *testing.T) {
	t.Parallel()
	h := start(t)
	a, b := dialRaw(t, h.addr, "default", "agents", "orders"), dialRaw(t, h.addr, "default", signedToken, "orders/bench")
	pidA, keyA := a.cancelKey()
	pidB, keyB := b.cancelKey()
	if pidA == h.backend(a) || string(keyA) == string(keyB) {
		t.Error("the key is not the gateway's own")
	}
	for _, secure := range []bool{false, true} {
		a.send(query("SELECT pg_sleep(60) /* of a */"))
		running(t, "of a")
		h.askCancel(secure, pidA, keyB)
		h.askCancel(secure, pidB, keyA)
		h.askCancel(secure, pidA, nil)
		h.askCancel(secure, pidB, keyB) // right, and nothing of b's runs
		running(t, "of a")
		h.askCancel(secure, pidA, keyA)
		if got := show(a.until('Z')); !strings.Contains(got, "57014") {
			t.Errorf("%s", got)
		}
	}
	effects := ""
	for _, c := range bodies[evidence.Cancel](h, evidence.KindCancel) {
		effects += c.Effect + " "
		if c.By != "agent" || !strings.HasPrefix(c.Source, "127.0.0.1:") {
			t.Errorf("recorded as %+v", c)
		}
	}
	if effects != "nothing-running forwarded nothing-running forwarded " || h.refusedEntries() != 6 {
		t.Errorf("recorded %q and %d refusals", effects, h.refusedEntries())
	}
}

// TestPG15CancelHitsItsOwnStatement holds a cancel back on its way: what the
// agent sends meanwhile waits at the gateway, so that it cannot be hit.
func TestPG15CancelHitsItsOwnStatement(t *testing.T) {
	t.Parallel()
	arrived, answer, let := make(chan struct{}), make(chan struct{}), make(chan struct{})
	f := startFake(t, func(f *fakeConn) {
		if !f.login() {
			close(arrived) // the cancel
			<-let
			return
		}
		f.next()
		<-answer
		f.write(oneRow("first"))
		f.next()
		f.write(oneRow("second"))
		f.next()
	})
	h := start(t, f.target)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT 'first'"))
	h.await(func([]memrec.Entry) bool { return strings.Contains(f.saw(), "first") })
	pid, key := c.cancelKey()
	go h.askCancel(false, pid, key)
	<-arrived
	close(answer) // the statement ends before the cancel does its work
	c.until('Z')
	c.send(query("SELECT 'second'"))
	time.Sleep(50 * time.Millisecond) // long enough for bytes that should not be there
	if strings.Contains(f.saw(), "second") {
		t.Error("the next statement went to the target while a cancel was on its way")
	}
	close(let)
	if got := show(c.until('Z')); !strings.Contains(got, "second") {
		t.Errorf("%s", got)
	}
}

// TestPG15Flood: beyond a number a minute the requests of one source are not
// looked at, and do not fill the book.
func TestPG15Flood(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	pid, key := c.cancelKey()
	c.send(query("SELECT pg_sleep(60) /* flooded */"))
	running(t, "flooded")
	for range cancelsPerMinute + 5 {
		h.askCancel(false, pid, []byte("nope"))
	}
	h.askCancel(false, pid, key) // one too many
	time.Sleep(20 * time.Millisecond)
	running(t, "flooded")
	if n := h.refusedEntries(); n == 0 || n > 40 {
		t.Errorf("%d entries about refusals", n)
	}
	h.gate.EndSession(h.gate.Sessions()[0].ID, "enough")
	h.closed()
}
