package postgres

import (
	"runtime/metrics"
	"testing"
	"time"
)

// watchHeap samples the heap until the returned function is called, which
// returns the largest reading.
func watchHeap(t *testing.T) func() uint64 {
	t.Helper()
	done, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
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
	return func() uint64 { close(done); return <-peak }
}
