package postgres

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// TestStop: whatever a session is in the midst of, an operator's stop ends it within two seconds, and what ran at the target is over
// then, and recorded.
func TestStop(t *testing.T) {
	t.Parallel()
	psql(t, "DROP TABLE IF EXISTS stopped; CREATE TABLE stopped (n int, note text); GRANT ALL ON stopped TO agent")
	for _, tt := range []struct {
		name string
		mark string // in the statement that runs
		send func(c *raw)
	}{
		{"a statement", "stop plain", func(c *raw) { c.send(query("SELECT pg_sleep(60) /* stop plain */")) }},
		{"COPY from an agent that sends nothing", "stop copy", func(c *raw) {
			c.send(query("COPY stopped (n) FROM STDIN /* stop copy */"))
			c.send(pgwire.AppendFrame(nil, 'd', []byte("1\n")))
		}},
		{"COPY to an agent that does not read", "stop out", func(c *raw) {
			c.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT /* stop out */"))
		}},
		{"a target that does not read", "stop full", func(c *raw) {
			large := query("INSERT INTO stopped VALUES (2, '" + strings.Repeat("x", 1<<20) + "')")
			text := bytes.Join(append([][]byte{query("SELECT pg_sleep(60) /* stop full */")}, large, large, large, large, large, large, large, large,
				large, large, large, large, large, large, large, large, large, large, large, large), nil)
			go func() { _, _ = c.conn.Write(text) }() // the gateway resets it in the midst
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := start(t)
			c := dialRaw(t, h.addr, "default", "agents", "orders")
			tt.send(c)
			running(t, tt.mark)
			time.Sleep(500 * time.Millisecond) // until the buffers between are full
			began := time.Now()
			if n := h.gate.Suspend(enforce.Suspension{Principal: h.gate.Sessions()[0].Principal, Reason: "enough"}); n != 1 {
				t.Fatalf("%d sessions", n)
			}
			h.closed()
			if d := time.Since(began); d > 2*time.Second {
				t.Errorf("it took %v", d)
			}
			for end := began.Add(2 * time.Second); psql(t, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/* "+tt.mark+" *' || '/%'") != "0"; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("it still runs at the target")
				}
			}
			if x := h.find(tt.mark); x.outcome == nil {
				t.Error("no outcome")
			}
			cause, cancelled := "", false
			for _, e := range h.rec.Entries() {
				switch e.Kind {
				case evidence.KindSessionEnd:
					cause += string(e.Meta)
				case evidence.KindCancel:
					cancelled = strings.Contains(string(e.Meta), `"operator"`)
				}
			}
			if !strings.Contains(cause, "this identity is suspended: enough") || !cancelled {
				t.Errorf("end %s, cancelled %v", cause, cancelled)
			}
		})
	}
	t.Cleanup(func() { // after all of them
		if got := psql(t, "SELECT count(*) FROM stopped"); got != "0" {
			t.Errorf("%s rows were kept", got)
		}
	})
}
