package postgres

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// pointRead is a prepared point read and its answer.
var (
	pointRead   = bytes.Join([][]byte{bind("", "s", 0, 0, []byte("42")), describe('P', ""), execute("", 0), syncFrame}, nil)
	pointAnswer = bytes.Join([][]byte{
		frame('2', ""), description("id", "v"), rowOf("42", "some value"), frame('C', "SELECT 1\x00"), readyFrame,
	}, nil)
)

func pointReader(t testing.TB) (read func()) {
	f := startFake(t, func(f *fakeConn) {
		if !f.login() {
			return
		}
		for b := f.next(); b != nil; b = f.next() {
			switch b[0] {
			case 'P':
				f.write(frame('1', ""))
			case 'S':
				_, _ = f.conn.Write(pointAnswer)
			}
			f.seen = f.seen[:0]
		}
	})
	h := startTB(t, f.target, plaintext)
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = conn.Write(pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders"))
	_, _ = conn.Write(frame('p', "agents\x00"))
	c := &raw{t: t, conn: conn, in: pgwire.NewReader(conn, 1<<20)}
	c.until('Z')
	h.rec.Discard()
	c.send(parse("s", "SELECT id, v FROM t WHERE id = $1"), bind("", "s", 0, 0, []byte("1")), describe('P', ""), execute("", 0), syncFrame)
	c.until('Z')
	buf := make([]byte, len(pointAnswer))
	return func() {
		_, _ = conn.Write(pointRead)
		if _, err := io.ReadFull(conn, buf); err != nil {
			t.Fatal(err)
		}
	}
}

// pointReadBudget is the most allocations that one prepared point read may
// cost, both pumps, the door and the recorder in memory together.
const pointReadBudget = 10

func TestAllocationBudget(t *testing.T) {
	read := pointReader(t)
	for range 200 {
		read()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 2000
	for range n {
		read()
	}
	runtime.ReadMemStats(&after)
	allocs := float64(after.Mallocs-before.Mallocs) / n
	t.Logf("%.1f allocations, %d bytes for a prepared point read", allocs, (after.TotalAlloc-before.TotalAlloc)/n)
	if allocs > pointReadBudget {
		t.Errorf("%.1f allocations, the budget is %d", allocs, pointReadBudget)
	}
}

func BenchmarkPointRead(b *testing.B) {
	read := pointReader(b)
	b.ReportAllocs()
	for b.Loop() {
		read()
	}
}
