package postgres

import (
	"bytes"
	"strconv"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
)

// TestQueuedEndWithoutAFreeConnection: when the role's connection limit leaves the gateway
// no connection over which to end the backend, what is queued does not begin after the end either.
func TestQueuedEndWithoutAFreeConnection(t *testing.T) {
	t.Parallel()
	psql(t, "DROP TABLE IF EXISTS queued_full; DROP ROLE IF EXISTS agent_full; CREATE ROLE agent_full LOGIN PASSWORD 'upstream-secret' CONNECTION LIMIT 1; "+
		"CREATE TABLE queued_full (n int); GRANT ALL ON queued_full TO agent_full")
	h := start(t, func(target *enforce.Target, _ *engine.Listener, _ *engine.Limits) {
		r := target.Roles["default"]
		r.User = "agent_full"
		target.Roles["default"] = r
	})
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	var all [][]byte
	all = append(all, query("SELECT pg_sleep(60) /* queued full */"))
	for i := range 200 {
		all = append(all, query("INSERT INTO queued_full VALUES ("+strconv.Itoa(i)+")"), query("SELECT pg_sleep(0.05)"))
	}
	c.send(bytes.Join(all, nil))
	running(t, "queued full")
	time.Sleep(200 * time.Millisecond) // so that all of it is at the target
	began := time.Now()
	h.gate.EndSession(h.gate.Sessions()[0].ID, "enough")
	h.closed()
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
	for end := time.Now().Add(5 * time.Second); psql(t, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent_full'") != "0"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the backend is still there")
		}
	}
	if got := psql(t, "SELECT count(*) FROM queued_full"); got != "0" {
		t.Errorf("%s queued inserts ran after the session had ended", got)
	}
	for _, x := range h.book() {
		if x.outcome == nil {
			t.Errorf("exchange %d has no outcome", x.n)
		}
	}
}
