package postgres

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// watchHeap samples the heap until the returned function is called, which
// returns how far it rose.
func watchHeap(t *testing.T) func() uint64 {
	t.Helper()
	// What other tests have left behind does not count.
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	done, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				metrics.Read(sample)
				most = max(most, sample[0].Value.Uint64())
			case <-done:
				peak <- most
				return
			}
		}
	}()
	return func() uint64 { close(done); return max(<-peak, before) - before }
}
