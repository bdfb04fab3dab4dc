package enforce

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/access"
)

// TestUsageAgainstAList compares the windows with a list of everything that was counted: never less than what happened in the
// window, never more than what happened in it and one slot before.
func TestUsageAgainstAList(t *testing.T) {
	t.Parallel()
	type event struct {
		at time.Time
		c  access.Counts
	}
	lengths := [3]time.Duration{time.Minute, time.Hour, 24 * time.Hour}
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		var u usage
		var list []event
		now := time.Unix(1_800_000_000, 0)
		for range 2000 {
			now = now.Add(time.Duration(r.Int64N(int64([]time.Duration{time.Millisecond, time.Second, time.Minute, 3 * time.Hour, 40 * time.Hour}[min(r.IntN(12), 4)]))))
			switch r.IntN(4) {
			case 0:
				c := access.Counts{Rows: uint64(r.IntN(100)), Bytes: uint64(r.IntN(1000))}
				u.add(now, c)
				list = append(list, event{now, c})
				continue
			case 1: // refused
				u.begin(now)
				u.takeBack(now)
				continue
			}
			seen := u.begin(now)
			for i, got := range []access.Counts{seen.Minute, seen.Hour, seen.Day} {
				var least, most access.Counts
				for _, e := range list {
					age := now.Sub(e.at)
					if age < lengths[i] {
						least = access.Counts{Requests: least.Requests + e.c.Requests, Rows: least.Rows + e.c.Rows, Bytes: least.Bytes + e.c.Bytes}
					}
					if age < lengths[i]+slotsOf[i].step {
						most = access.Counts{Requests: most.Requests + e.c.Requests, Rows: most.Rows + e.c.Rows, Bytes: most.Bytes + e.c.Bytes}
					}
				}
				if got.Requests < least.Requests || got.Rows < least.Rows || got.Bytes < least.Bytes || got.Requests > most.Requests || got.Rows > most.Rows || got.Bytes > most.Bytes {
					t.Fatalf("window %d: %+v, want between %+v and %+v", i, got, least, most)
				}
			}
			list = append(list, event{now, access.Counts{Requests: 1}})
			if len(list) > 600 {
				list = list[1:]
				if now.Sub(list[0].at) < 25*time.Hour { // the list must hold a day
					list = list[:0]
					u = usage{}
				}
			}
		}
	}
}

// TestUsageOfRequestsAtOnce: of requests that come at once, each sees another number before it.
func TestUsageOfRequestsAtOnce(t *testing.T) {
	t.Parallel()
	var u usage
	const n = 200
	seen := make([]uint64, n)
	now := time.Now()
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { seen[i] = u.begin(now).Minute.Requests })
	}
	group.Wait()
	got := map[uint64]bool{}
	for _, s := range seen {
		got[s] = true
	}
	if len(got) != n {
		t.Errorf("%d requests saw %d numbers", n, len(got))
	}
}
