package postgres

import (
	"encoding/binary"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// long enough for bytes that should not be there.
const meanwhile = 30 * time.Millisecond

// TestLoginWaits holds durability back from the moment the target is reached:
// the gateway's own statement may not go out, and the agent may not be let in.
func TestLoginWaits(t *testing.T) {
	t.Parallel()
	var rec atomic.Pointer[memrec.Recorder]
	f := startFake(t, func(f *fakeConn) {
		rec.Load().Hold()
		if f.login() {
			f.next()
		}
	})
	h := start(t, f.target)
	rec.Store(h.rec)
	in := make(chan error, 1)
	go func() {
		c, err := loginRaw(h.addr, "default", "agents", "orders")
		if err == nil {
			_ = c.conn.Close()
		}
		in <- err
	}()
	h.await(func(list []memrec.Entry) bool { return len(list) > 2 })
	time.Sleep(meanwhile)
	for _, e := range h.rec.Entries() {
		if e.Kind == evidence.KindOutcome {
			t.Error("the gateway's own statement was answered before its intent was durable")
		}
	}
	for range 5 { // let one step after the other become durable
		select {
		case err := <-in:
			t.Fatalf("the log-in ended (%v) before its record was durable: %d entries", err, len(h.rec.Entries()))
		default:
		}
		n := len(h.rec.Entries())
		if last := h.rec.Entries()[n-1]; last.Kind == evidence.KindAnswer && last.Exchange == 0 {
			break
		}
		h.rec.Release()
		h.rec.Hold()
		time.Sleep(meanwhile)
	}
	list := h.rec.Entries()
	if last := list[len(list)-1]; last.Kind != evidence.KindAnswer || last.Exchange != 0 {
		t.Fatalf("the last entry is %v", last.Kind)
	}
	select {
	case err := <-in:
		t.Errorf("the log-in ended (%v) before what the agent is told at first was durable", err)
	default:
	}
	h.rec.Release()
	if err := <-in; err != nil {
		t.Error(err)
	}
}

// TestUnaskedWaits: what comes without a request is released after its record.
func TestUnaskedWaits(t *testing.T) {
	t.Parallel()
	go1 := make(chan struct{})
	f := startFake(t, func(f *fakeConn) {
		if f.login() {
			<-go1
			f.write(frame('N', "SNOTICE\x00C00000\x00Mcanary\x00\x00"))
			f.next()
		}
	})
	h := start(t, f.target)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	h.rec.Hold()
	n := len(h.rec.Entries())
	close(go1)
	h.await(func(list []memrec.Entry) bool { return len(list) > n })
	_ = c.conn.SetReadDeadline(time.Now().Add(meanwhile))
	if list, err := c.read(func([]byte) bool { return false }); err == nil || strings.Contains(show(list), "canary") {
		t.Errorf("the agent got %s before it was durable", show(list))
	}
	h.rec.Release()
}

// TestCancelWaits: a cancel goes to the target after its record.
func TestCancelWaits(t *testing.T) {
	t.Parallel()
	var cancels atomic.Int32
	f := startFake(t, func(f *fakeConn) {
		if !f.login() {
			cancels.Add(1)
			return
		}
		f.next()
		f.next() // the statement never ends
	})
	h := start(t, f.target)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT forever"))
	h.await(func([]memrec.Entry) bool { return strings.Contains(f.saw(), "forever") })
	before := cancels.Load()
	h.rec.Hold()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(pgwire.AppendCancel(nil, binary.BigEndian.Uint32(c.key), c.key[4:])); err != nil {
		t.Fatal(err)
	}
	h.await(func(list []memrec.Entry) bool { return list[len(list)-1].Kind == evidence.KindCancel })
	time.Sleep(meanwhile)
	if n := cancels.Load() - before; n > 0 {
		t.Errorf("%d cancels went to the target before the record was durable", n)
	}
	h.rec.Release()
	h.await(func([]memrec.Entry) bool { return cancels.Load() > before })
	_ = c.conn.Close()
}
