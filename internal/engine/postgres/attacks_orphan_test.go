package postgres

import (
	"bytes"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
)

// TestPG45AgentVanishesWhileThePumpWaits: an agent whose next messages wait for
// the answers to earlier ones is seen to have left all the same, so that what it
// holds at the target is held for limits.orphan and no longer.
func TestPG45AgentVanishesWhileThePumpWaits(t *testing.T) {
	t.Parallel()
	use := bytes.Join([][]byte{bind("", "", 0, 0), execute("", 0), syncFrame}, nil)
	begin := func(rows, then string) []byte {
		return query("BEGIN; UPDATE " + rows + " SET n = n + 1; " + then + " /* orphan " + rows + " */")
	}
	cases := map[string]func(rows string) []byte{
		"a Bind in copy-in mode":   func(rows string) []byte { return append(begin(rows, "COPY "+rows+"_copy FROM STDIN"), use...) },
		"a Bind behind a Query":    func(rows string) []byte { return append(begin(rows, "SELECT pg_sleep(600)"), use...) },
		"COPY data behind a Query": func(rows string) []byte { return append(begin(rows, "SELECT pg_sleep(600)"), copyData("1\n")...) },
		"a long queue": func(rows string) []byte {
			return append(begin(rows, "SELECT pg_sleep(600)"), bytes.Repeat(query("SELECT pg_sleep(600)"), maxQueue+100)...)
		},
	}
	n := 0
	for name, send := range cases {
		for _, how := range []string{"close", "reset"} {
			n++
			rows := "pg45_" + strconv.Itoa(n)
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				h := start(t, func(_ *enforce.Target, _ *engine.Listener, l *engine.Limits) { l.Orphan = 300 * time.Millisecond })
				table(t, rows, "n int")
				table(t, rows+"_copy", "n int")
				psql(t, "INSERT INTO "+rows+" VALUES (1)")
				c := dialRaw(t, h.addr, "default", "agents", "orders")
				pid := h.backend(c)
				c.send(send(rows))
				running(t, "orphan "+rows)
				time.Sleep(100 * time.Millisecond) // until the pump waits
				began := time.Now()
				under := c.conn.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn)
				if how == "reset" {
					_ = under.SetLinger(0)
				}
				_ = under.Close()
				h.closed()
				if d := time.Since(began); d > 6*time.Second || d < 300*time.Millisecond {
					t.Errorf("the session ended after %v", d)
				}
				// The row that it had locked is free.
				psql(t, "SET lock_timeout = '2s'; UPDATE "+rows+" SET n = 5")
				if got := psql(t, "SELECT count(*) FROM "+rows+" WHERE n = 5"); got != "1" {
					t.Errorf("%s rows", got)
				}
				for end := time.Now().Add(3 * time.Second); ; time.Sleep(20 * time.Millisecond) {
					if psql(t, "SELECT count(*) FROM pg_stat_activity WHERE pid = "+strconv.Itoa(int(pid))) == "0" {
						break
					}
					if time.Now().After(end) {
						t.Error("the backend is still there")
						break
					}
				}
				for _, x := range h.agents() {
					if x.outcome == nil {
						t.Errorf("exchange %d has no outcome", x.n)
					}
				}
				if x := h.find("orphan " + rows); x.outcome == nil || strings.HasPrefix(x.outcome.Status, "ok") {
					t.Errorf("%+v", x.outcome)
				}
			})
		}
	}
}

// TestHalfClosedAgentIsAnswered: an agent that has only closed its sending side
// gets the answers to what it sent, within limits.orphan.
func TestHalfClosedAgentIsAnswered(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT pg_sleep(2)"), parse("", "SELECT 'after '||'all'"), bind("", "", 0, 0), execute("", 0), syncFrame)
	if err := c.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := c.conn.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := c.rest(); !strings.Contains(got, "after all") {
		t.Errorf("%s", got)
	}
	h.closed()
}
