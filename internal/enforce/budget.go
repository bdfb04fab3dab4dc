package enforce

import (
	"sync"
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

// budget is one principal's use in the current window.
type budget struct {
	mu        sync.Mutex
	since     time.Time
	exchanges uint64
	bytes     uint64
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
		u = &budget{since: time.Now()}
		b.use[id] = u
	}
	return u
}

// add counts an exchange, or further bytes of one.
func (u *budget) add(exchanges, bytes int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now(); now.Sub(u.since) >= budgetWindow {
		u.since, u.exchanges, u.bytes = now, 0, 0
	}
	u.exchanges += uint64(exchanges)
	u.bytes += uint64(bytes)
}

// check returns the refusal of a principal that has used up what it may in
// this window. The exchange that runs over is still finished.
func (u *budget) check(s *Snapshot) *access.DenyError {
	if s.PrincipalExchanges == 0 && s.PrincipalBytes == 0 {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Since(u.since) >= budgetWindow {
		return nil
	}
	deny := &access.DenyError{
		Code: access.CodeBudget, Reason: "this identity has used up its budget for the hour",
		Hint: "Wait for the next hour, or ask the operator for a larger budget.",
	}
	switch {
	case s.PrincipalExchanges > 0 && u.exchanges >= uint64(s.PrincipalExchanges):
		deny.Rule = "limits.principal_exchanges"
	case s.PrincipalBytes > 0 && u.bytes >= uint64(s.PrincipalBytes):
		deny.Rule = "limits.principal_bytes"
	default:
		return nil
	}
	return deny
}
