package journal_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs"
)

func BenchmarkAppendWait(b *testing.B) {
	for _, waiters := range []int{1, 8, 64, 500} {
		b.Run(fmt.Sprint(waiters), func(b *testing.B) {
			d := b.TempDir() + "/j"
			if err := journal.Create(vfs.OS(), d); err != nil {
				b.Fatal(err)
			}
			l, _, err := journal.Open(vfs.OS(), d, journal.Options{})
			if err != nil {
				b.Fatal(err)
			}
			data := make([]byte, 1024)
			build := func(dst []byte, _ journal.Seq) []byte { return append(dst, data...) }
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range waiters {
				n := b.N / waiters
				if w < b.N%waiters {
					n++
				}
				wg.Go(func() {
					for range n {
						k, err := l.Append(journal.Ordinary, build)
						if err == nil {
							err = k.Wait(b.Context())
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			s := l.Stats()
			b.ReportMetric(float64(s.Entries)/float64(max(s.Batches, 1)), "entries/batch")
			b.ReportMetric(float64(s.SyncTime.Microseconds())/float64(max(s.Syncs, 1)), "us/sync")
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
