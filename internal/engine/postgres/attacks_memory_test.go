package postgres

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
)

// TestOpenStatementsAreCounted: the texts that open statements hold come out of
// the memory that all sessions share, and go back with them.
func TestOpenStatementsAreCounted(t *testing.T) {
	t.Parallel()
	h := start(t, func(_ *enforce.Target, _ *engine.Listener, l *engine.Limits) { l.Memory = 1 << 20 })
	c := dialRaw(t, h.addr, "default", "agents", "orders")
	text := "SELECT 1 /*" + strings.Repeat("y", 50_000) + "*/"
	fill := func() (n int) {
		for ; n < 100; n++ {
			c.send(parse("s"+strconv.Itoa(n), text), syncFrame)
			if got := show(c.until('Z')); strings.Contains(got, "C54000") {
				return n
			}
		}
		return n
	}
	first := fill()
	if first < 15 || first > 21 {
		t.Fatalf("%d statements of 50 KB in 1 MB", first)
	}
	// Closed, replaced, skipped and failed ones give back; portals hold on.
	for i := range first {
		c.send(frame('C', "Ss"+strconv.Itoa(i)+"\x00"), syncFrame)
		c.until('Z')
	}
	for range 60 {
		c.send(parse("", text), bind("", "", 0, 0), execute("", 0), parse("", "SELECT 1/0 FROM"+text), parse("never", text), syncFrame)
		c.until('Z')
		c.send(query("SELECT 1"))
		c.until('Z')
	}
	if again := fill(); again != first {
		t.Errorf("%d statements, then %d", first, again)
	}
	_ = c.conn.Close()
	h.closed()
	for end := time.Now().Add(5 * time.Second); !h.driver.budget.Take(1 << 20); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("an ended session holds memory")
		}
	}
}
