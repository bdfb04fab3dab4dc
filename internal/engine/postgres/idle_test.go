package postgres

import (
	"runtime"
	"testing"
)

// TestIdleSessions asserts what an idle session costs, buffers of both sides'
// pumps and the TLS of the test's own agent and target included.
func TestIdleSessions(t *testing.T) {
	f := startFake(t, echo)
	h := start(t, f.target)
	const n = 200
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	conns := make([]*raw, n)
	for i := range conns {
		conns[i] = dialRaw(t, h.addr, "default", "agents", "orders")
		conns[i].send(query("SELECT 1"))
		conns[i].until('Z')
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapInuse + after.StackInuse - before.HeapInuse - before.StackInuse) / n
	t.Logf("%d KiB for an idle session, its agent and its target", each>>10)
	if each > 160<<10 {
		t.Errorf("%d bytes for an idle session", each)
	}
	runtime.KeepAlive(conns)
}
