package postgres

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
	"github.com/gatebook/gatebook/internal/testkit/pgserver"
)

// TestServerCrash kills a server of its own while a statement runs.
func TestServerCrash(t *testing.T) {
	t.Parallel()
	own, err := pgserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := own.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := own.PSQL("postgres", "CREATE ROLE agent LOGIN PASSWORD 'upstream-secret'"); err != nil {
		t.Fatal(err)
	}
	h := start(t, func(t *enforce.Target, _ *engine.Listener, _ *engine.Limits) {
		t.Address = own.Address()
		t.TLS = enforce.TargetTLS{Mode: "require", Config: func() (*tls.Config, error) {
			return &tls.Config{InsecureSkipVerify: true}, nil //nolint:gosec // a test's target
		}}
	})
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("BEGIN; SELECT pg_sleep(60) /* crash */"))
	h.await(func([]memrec.Entry) bool { return h.gate.Counters().OpenExchanges == 1 })
	time.Sleep(100 * time.Millisecond)
	if err := own.Crash(); err != nil {
		t.Fatal(err)
	}
	if got := c.rest(); !strings.Contains(got, "57P02") && !strings.Contains(got, "08001") {
		t.Errorf("%s", got)
	}
	h.closed()
	x := h.find("crash")
	if x.outcome == nil || x.outcome.Status != "error" && x.outcome.Status != "unknown" {
		t.Errorf("%+v", x.outcome)
	}
	// The next session finds the server again.
	c = dialRaw(t, h.addr, "default", "agents", "orders")
	c.send(query("SELECT 'again'"))
	if got := show(c.until('Z')); !strings.Contains(got, "again") {
		t.Errorf("%s", got)
	}
}
