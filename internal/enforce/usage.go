package enforce

import (
	"sync"
	"time"

	"github.com/gatebook/gatebook/internal/access"
)

// usage counts what one principal does, over all its sessions, in sliding
// windows: the last minute, hour and day. It begins with the gate; a restart begins anew.
type usage struct {
	mu      sync.Mutex
	windows [3]window // minute, hour, day
}

// slotsOf are how finely each window slides. A window covers one slot more than its length, so that it never counts too little.
var slotsOf = [3]struct {
	step  time.Duration
	slots int64
}{{time.Second, 60}, {time.Minute, 60}, {15 * time.Minute, 96}}

// window is a ring of slots with their sum.
type window struct {
	slots []slot
	sum   access.Counts
	now   int64 // number of the latest slot
}

type slot struct{ access.Counts }

// at turns a window to the time's slot and returns it. A time before the latest slot counts in the latest.
func (w *window) at(i int, now time.Time) *slot {
	n := slotsOf[i].slots + 1
	if w.slots == nil {
		w.slots = make([]slot, n)
	}
	number := now.UnixNano() / int64(slotsOf[i].step)
	if gone := number - w.now; gone >= n {
		clear(w.slots)
		w.sum, w.now = access.Counts{}, number
	}
	for ; w.now < number; w.now++ {
		s := &w.slots[(w.now+1)%n]
		w.sum.Requests -= s.Requests
		w.sum.Rows -= s.Rows
		w.sum.Bytes -= s.Bytes
		*s = slot{}
	}
	return &w.slots[w.now%n]
}

// add counts.
func (u *usage) add(now time.Time, c access.Counts) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.addLocked(now, c)
}

func (u *usage) addLocked(now time.Time, c access.Counts) {
	for i := range u.windows {
		w := &u.windows[i]
		s := w.at(i, now)
		s.Requests += c.Requests
		s.Rows += c.Rows
		s.Bytes += c.Bytes
		w.sum.Requests += c.Requests
		w.sum.Rows += c.Rows
		w.sum.Bytes += c.Bytes
	}
}

// begin returns what was counted before a request, and counts it, in one step: of requests that come at once, no two see the
// same place free.
func (u *usage) begin(now time.Time) access.Usage {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.windows {
		u.windows[i].at(i, now)
	}
	seen := access.Usage{Minute: u.windows[0].sum, Hour: u.windows[1].sum, Day: u.windows[2].sum}
	u.addLocked(now, access.Counts{Requests: 1})
	return seen
}

// now returns what was counted until now.
func (u *usage) now(now time.Time) access.Usage {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.windows {
		u.windows[i].at(i, now)
	}
	return access.Usage{Minute: u.windows[0].sum, Hour: u.windows[1].sum, Day: u.windows[2].sum}
}

// takeBack uncounts a request that was refused.
func (u *usage) takeBack(at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.windows {
		w := &u.windows[i]
		n := slotsOf[i].slots + 1
		number := at.UnixNano() / int64(slotsOf[i].step)
		if w.now-number >= n {
			continue // it has left the window meanwhile
		}
		s := &w.slots[min(number, w.now)%n]
		if s.Requests > 0 {
			s.Requests--
			w.sum.Requests--
		}
	}
}
