package enforce

import (
	"context"
	"sync"
	"time"

	"github.com/gatebook/gatebook/internal/access"
)

// places bounds the open sessions per key (a target, a principal). Waiting
// log-ins are served in order of arrival.
type places struct {
	mu   sync.Mutex
	keys map[string]*placeQueue
}

type placeQueue struct {
	used    int
	waiting []chan struct{}
}

// take gets a place, waiting at most patience for one. The returned function
// gives it back and must be called exactly once.
func (p *places) take(ctx context.Context, key string, limit int, patience time.Duration) (func(), error) {
	if limit <= 0 {
		return func() {}, nil
	}
	p.mu.Lock()
	if p.keys == nil {
		p.keys = make(map[string]*placeQueue)
	}
	q := p.keys[key]
	if q == nil {
		q = &placeQueue{}
		p.keys[key] = q
	}
	if q.used < limit {
		q.used++
		p.mu.Unlock()
		return func() { p.give(key) }, nil
	}
	if patience <= 0 {
		p.mu.Unlock()
		return nil, errNoPlace()
	}
	turn := make(chan struct{})
	q.waiting = append(q.waiting, turn)
	p.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-turn:
		return func() { p.give(key) }, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range q.waiting {
		if w == turn {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			return nil, errNoPlace()
		}
	}
	// The place came in the same moment: pass it on.
	p.giveLocked(key)
	return nil, errNoPlace()
}

func errNoPlace() error {
	return &access.DenyError{
		Code: access.CodeLimit, Rule: "limits.sessions", Reason: "too many open sessions",
		Hint: "Close sessions that are not needed, or ask the operator for a higher limit.",
	}
}

func (p *places) give(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.giveLocked(key)
}

func (p *places) giveLocked(key string) {
	q := p.keys[key]
	if len(q.waiting) > 0 {
		close(q.waiting[0])
		q.waiting = q.waiting[1:]
		return
	}
	q.used--
	if q.used == 0 {
		delete(p.keys, key)
	}
}
