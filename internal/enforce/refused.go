package enforce

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

const (
	// refusalsPerMinute is how many refusals of one source within a minute get
	// an entry each; the rest become one counting entry.
	refusalsPerMinute = 10
	// refusalSources bounds the sources counted apart; beyond it they share one
	// counter, so that a flood from many addresses takes bounded memory.
	refusalSources = 4096
)

// refusals keeps strangers from filling the disk.
type refusals struct {
	gate *Gate

	mu      sync.Mutex
	sources map[string]*sourceCount
}

type sourceCount struct {
	since  time.Time
	n      int              // seen in this window
	hidden int              // of those, without an entry of their own
	last   evidence.Refused // the latest of the hidden ones
}

func sourceHost(source string) string {
	if host, _, err := net.SplitHostPort(source); err == nil {
		return host
	}
	return source
}

func (r *refusals) add(ctx context.Context, f evidence.Refused, now time.Time) {
	key := f.What + " " + sourceHost(f.Source)
	r.mu.Lock()
	if r.sources == nil {
		r.sources = make(map[string]*sourceCount)
	}
	c := r.sources[key]
	if c == nil {
		if len(r.sources) >= refusalSources {
			key = f.What + " others"
			c = r.sources[key]
		}
		if c == nil {
			c = &sourceCount{since: now}
			r.sources[key] = c
		}
	}
	var due *evidence.Refused
	if now.Sub(c.since) >= time.Minute {
		due = c.collect()
		*c = sourceCount{since: now}
	}
	c.n++
	own := c.n <= refusalsPerMinute
	if !own {
		c.hidden++
		c.last = f
	}
	r.mu.Unlock()

	if due != nil {
		r.gate.control(evidence.KindRefused, due)
	}
	if !own {
		return
	}
	f.Count = 1
	if receipt := r.gate.control(evidence.KindRefused, &f); receipt != nil {
		// The refusal stands whether or not the wait succeeds.
		_ = receipt.Wait(ctx)
	}
}

// collect returns the counting entry that is due, nil if none. Callers hold r.mu.
func (c *sourceCount) collect() *evidence.Refused {
	if c.hidden == 0 {
		return nil
	}
	f := c.last
	f.Count = c.hidden
	return &f
}

// expire writes the counting entries of windows that are over.
func (r *refusals) expire(ctx context.Context, now time.Time) {
	r.collectAll(ctx, func(c *sourceCount) bool { return now.Sub(c.since) >= time.Minute })
}

// flush writes all counting entries and waits for them.
func (r *refusals) flush(ctx context.Context) {
	r.collectAll(ctx, func(*sourceCount) bool { return true })
}

func (r *refusals) collectAll(ctx context.Context, over func(*sourceCount) bool) {
	var due []*evidence.Refused
	r.mu.Lock()
	for key, c := range r.sources {
		if over(c) {
			if f := c.collect(); f != nil {
				due = append(due, f)
			}
			delete(r.sources, key)
		}
	}
	r.mu.Unlock()
	var last Receipt
	for _, f := range due {
		if receipt := r.gate.control(evidence.KindRefused, f); receipt != nil {
			last = receipt
		}
	}
	if last != nil {
		_ = last.Wait(ctx)
	}
}
