package enforce

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatebook/gatebook/internal/access"
)

// budgetWindow is the time over which a principal's use is counted.
const budgetWindow = time.Hour

// budgets counts what each principal has caused to be recorded, over all its
// sessions, so that nobody fills the disk for the others.
type budgets struct {
	mu  sync.Mutex
	use map[string]*budget
}

// budget is one principal's use in the current window. It takes no lock: its
// sessions share it on every exchange. A count that comes in while the window
// turns may fall into either.
type budget struct {
	since     atomic.Int64 // Unix time in nanoseconds
	exchanges atomic.Uint64
	bytes     atomic.Uint64
	recent    usage // what rules may ask about
	received  received
}

// of returns a principal's budget, which lives as long as the gate.
func (b *budgets) of(id string) *budget {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.use == nil {
		b.use = make(map[string]*budget)
	}
	u := b.use[id]
	if u == nil {
		u = &budget{}
		u.since.Store(time.Now().UnixNano())
		b.use[id] = u
	}
	return u
}

// add counts an exchange, or further bytes of one.
func (u *budget) add(at time.Time, exchanges, bytes int) {
	now, since := at.UnixNano(), u.since.Load()
	if now-since >= int64(budgetWindow) && u.since.CompareAndSwap(since, now) {
		u.exchanges.Store(0)
		u.bytes.Store(0)
	}
	u.exchanges.Add(uint64(exchanges))
	u.bytes.Add(uint64(bytes))
}

// check returns the refusal of a principal that has used up what it may in
// this window. The exchange that runs over is still finished.
func (u *budget) check(now time.Time, s *Snapshot) *access.DenyError {
	if s.PrincipalExchanges == 0 && s.PrincipalBytes == 0 {
		return nil
	}
	if now.UnixNano()-u.since.Load() >= int64(budgetWindow) {
		return nil
	}
	deny := &access.DenyError{
		Code: access.CodeBudget, Reason: "this identity has used up its budget for the hour",
		Hint: "Wait for the next hour, or ask the operator for a larger budget.",
	}
	switch {
	case s.PrincipalExchanges > 0 && u.exchanges.Load() >= uint64(s.PrincipalExchanges):
		deny.Rule = "limits.principal_exchanges"
	case s.PrincipalBytes > 0 && u.bytes.Load() >= uint64(s.PrincipalBytes):
		deny.Rule = "limits.principal_bytes"
	default:
		return nil
	}
	return deny
}
