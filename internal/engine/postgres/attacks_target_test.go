package postgres

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
)

// Hostile targets beyond TestHostileTarget and TestHostileLogin: too much, too
// often, and at the wrong time.

// floods are frames that a target may send at any time, as often as it likes.
var floods = map[string][]byte{
	"notices":       frame('N', "SNOTICE\x00VNOTICE\x00C00000\x00Mmore\x00\x00"),
	"parameters":    frame('S', "DateStyle\x00ISO, MDY\x00"),
	"names":         frame('S', "application_name\x00of the target's choice\x00"),
	"notifications": frame('A', "\x00\x00\x00\x01channel\x00payload\x00"),
}

// TestHostileFloods: endless notices, parameters and notifications take
// bounded memory, whether the agent reads them or not, and do not outlive the session.
func TestHostileFloods(t *testing.T) {
	heap := watchHeap(t)
	t.Run("all", func(t *testing.T) {
		for name, one := range floods {
			t.Run(name+" to an agent that reads", func(t *testing.T) {
				t.Parallel()
				h, c := flooded(t, one)
				got := int64(1 << 20)
				if name == "names" {
					got = 0 // of its name the agent hears once, behind everything that came with it
					time.Sleep(100 * time.Millisecond)
				}
				if _, err := io.CopyN(io.Discard, c.conn, got); err != nil {
					t.Error(err)
				}
				h.gate.EndSession(h.gate.Sessions()[0].ID, "enough")
				go func() { _, _ = io.Copy(io.Discard, c.conn) }()
				h.closed()
			})
			t.Run(name+" to an agent that does not read", func(t *testing.T) {
				t.Parallel()
				h, _ := flooded(t, one)
				if name == "names" { // nothing more is released that could stall
					time.Sleep(300 * time.Millisecond)
					h.gate.EndSession(h.gate.Sessions()[0].ID, "enough")
				}
				h.closed()
			})
		}
	})
	if peak := heap(); peak > 128<<20 {
		t.Errorf("heap of %d MiB", peak>>20)
	}
}

// flooded starts a session whose target answers its first request with one
// frame, without end. The book keeps nothing any more.
func flooded(t *testing.T, one []byte) (*harness, *raw) {
	t.Helper()
	many := bytes.Repeat(one, 64<<10/len(one))
	f := startFake(t, func(f *fakeConn) {
		if !f.login() || f.next() == nil {
			return
		}
		for {
			if _, err := f.conn.Write(many); err != nil {
				return
			}
		}
	})
	h := start(t, f.target, func(_ *enforce.Target, _ *engine.Listener, l *engine.Limits) {
		l.Stall, l.Orphan = 200*time.Millisecond, 200*time.Millisecond
	})
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	h.rec.Discard()
	c.send(query("SELECT 'flooded'"))
	t.Cleanup(func() {
		if n := h.gate.Counters().OpenExchanges; n != 0 {
			t.Errorf("%d exchanges without an outcome", n)
		}
	})
	return h, c
}

// TestHostileNames: a target that says the same name again and again does not
// fill the book with it.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	f := startFake(t, func(f *fakeConn) {
		if f.login() && f.next() != nil {
			f.write(bytes.Repeat(floods["names"], 500), oneRow("v"))
			f.next()
		}
	})
	h := start(t, f.target)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT 1"))
	c.until('Z')
	if n := len(bodies[evidence.Note](h, evidence.KindNote)); n != 1 {
		t.Errorf("%d notes", n)
	}
}

// TestHostileFrames: what a target sends too much of ends the session with a
// clear error and an outcome, and its memory is not taken.
func TestHostileFrames(t *testing.T) {
	claim := func(typ byte, n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{typ}, n) }
	extended := bytes.Join([][]byte{parse("", "SELECT 1"), bind("", "", 0, 0), describe('P', ""), execute("", 0), syncFrame}, nil)
	first := bytes.Join([][]byte{description("c"), rowOf("good"), frame('C', "SELECT 1\x00"), readyFrame}, nil)
	tests := []struct {
		name   string
		send   []byte // a Query if nil
		answer []byte
		code   string
	}{
		{"a ReadyForQuery too many", nil, append(bytes.Clone(first), readyFrame...), "08P01"},
		{"a ReadyForQuery too many before an answer", nil, bytes.Join([][]byte{first, readyFrame, oneRow("CANARY")}, nil), "08P01"},
		{"a whole answer too many", nil, append(bytes.Clone(first), oneRow("CANARY")...), "08P01"},
		{"an error too many", nil, append(bytes.Clone(first), frame('T', "\x00\x00")...), "08P01"},
		{"description of 1 GiB", nil, claim('T', 1<<30), "08P01"},
		{"error of 1 GiB", nil, claim('E', 1<<30), "08P01"},
		{"notice of 1 GiB", nil, claim('N', 1<<30), "08P01"},
		{"parameter of 1 GiB", nil, claim('S', 1<<30), "08P01"},
		{"notification of 1 GiB", nil, claim('A', 1<<30), "08P01"},
		{"tag of 1 GiB", nil, claim('C', 1<<30), "08P01"},
		{"row of 2 GiB", nil, append(description("c"), claim('D', 1<<31)...), "08P01"},
		{"row of 1 GiB and more", nil, append(description("c"), claim('D', 3<<29)...), "08P01"},
		{"row before its description", nil, append(rowOf("CANARY"), description("c")...), "08P01"},
		{"fewer fields in the second row", nil, bytes.Join([][]byte{description("a", "b"), rowOf("1", "2"), rowOf("CANARY")}, nil), "08P01"},
		{"more fields in the second row", nil, bytes.Join([][]byte{description("a"), rowOf("1"), rowOf("1", "CANARY")}, nil), "08P01"},
		{"two descriptions", nil, bytes.Join([][]byte{description("a"), description("CANARY")}, nil), "08P01"},
		{"65535 fields in a short description", nil, frame('T', "\xff\xffCANARY"), "08P01"},
		{"BindComplete before ParseComplete", extended, append(frame('2', ""), frame('1', "")...), "08P01"},
		{"ReadyForQuery before CommandComplete", extended, bytes.Join([][]byte{frame('1', ""), frame('2', ""), frame('n', ""), readyFrame}, nil), "08P01"},
		{"CommandComplete before its description", extended, bytes.Join([][]byte{frame('1', ""), frame('2', ""), frame('C', "SELECT 1\x00")}, nil), "08P01"},
		{"more fields than described to an Execute", extended, bytes.Join([][]byte{
			frame('1', ""), frame('2', ""), description("a"), rowOf("1", "CANARY"),
		}, nil), "08P01"},
		{"suspended twice", extended, bytes.Join([][]byte{frame('1', ""), frame('2', ""), frame('n', ""), frame('s', ""), frame('s', "CANARY")}, nil), "08P01"},
		{"log-in once more", nil, append([]byte("R\x00\x00\x00\x08\x00\x00\x00\x00"), greeting...), "08P01"},
		{"TLS bytes", nil, []byte("\x16\x03\x01\x00\x05hello"), "08P01"},
		{"the end", nil, nil, "08001"},
	}
	heap := watchHeap(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t, func(f *fakeConn) {
				if f.login() && f.next() != nil {
					f.write(tt.answer)
					if tt.answer != nil {
						f.next()
					}
				}
			})
			h := start(t, f.target)
			c := dialRaw(t, h.addr, "default", "agents", "orders")
			if tt.send == nil {
				tt.send = query("SELECT 1")
			}
			c.send(tt.send)
			if got := c.rest(); !strings.Contains(got, "VFATAL") || !strings.Contains(got, "C"+tt.code) || bytes.Contains(c.got, []byte("CANARY")) {
				t.Errorf("the agent got %s", got)
			}
			h.closed()
			for _, x := range h.agents() {
				if x.outcome == nil || x.outcome.Status == "" {
					t.Errorf("exchange %d has no outcome", x.n)
				}
			}
			ends := bodies[evidence.SessionEnd](h, evidence.KindSessionEnd)
			if len(ends) != 1 || ends[0].Cause == "" || strings.HasPrefix(ends[0].Cause, "agent") {
				t.Errorf("the session ends with %+v", ends)
			}
		})
	}
	if peak := heap(); peak > 96<<20 {
		t.Errorf("heap of %d MiB", peak>>20)
	}
}
