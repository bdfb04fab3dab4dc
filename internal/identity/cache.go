package identity

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// defaultRefresh is the age at which keys are fetched again when the
	// issuer's Cache-Control does not say.
	defaultRefresh = 15 * time.Minute
	// minRefresh is the least that Cache-Control can ask for.
	minRefresh = time.Minute
	// defaultKeyMaxAge is the age past which keys are not used any more.
	defaultKeyMaxAge = time.Hour
	// unknownKeyPause is the least time between two fetches that tokens with
	// unknown keys caused: anybody can make such tokens.
	unknownKeyPause = time.Minute
	// failurePause is the least time between a failed fetch and the next.
	failurePause = 10 * time.Second
	// fetchTimeout bounds discovery and keys together.
	fetchTimeout = 10 * time.Second
	// refreshPatience bounds how long a verification waits for a refresh while
	// the keys at hand may still be used.
	refreshPatience = 2 * time.Second
)

// fetchFunc gets the issuer's keys; maxAge is what Cache-Control says, or 0.
type fetchFunc func(ctx context.Context) (set *keySet, maxAge time.Duration, err error)

// keyCache holds one issuer's keys. At most one fetch runs at a time, on a
// context of the cache's own: a caller that gives up does not fail the others.
type keyCache struct {
	fetch   fetchFunc
	refresh time.Duration // immutable
	maxAge  time.Duration // immutable
	base    context.Context
	wg      sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	set      *keySet // nil before the first success
	fetched  time.Time
	next     time.Time     // when set is due for a refresh
	failed   time.Time     // of the last fetch, if it failed
	err      error         // of the last fetch
	unknown  time.Time     // of the last fetch that an unknown key caused
	inFlight chan struct{} // closed when the fetch under way ends
}

// current returns keys that may be used now, fetching them when they are due.
// Keys that are due but within maxAge are used while the issuer is slow or
// down; past it the answer is ErrNoKeys.
func (c *keyCache) current(ctx context.Context) (*keySet, error) {
	c.mu.Lock()
	now := time.Now()
	if c.set != nil && now.Before(c.next) {
		defer c.mu.Unlock()
		return c.set, nil
	}
	usable := c.usable(now)
	if c.inFlight == nil && !c.failed.IsZero() && now.Sub(c.failed) < failurePause {
		defer c.mu.Unlock()
		return c.usableOrErr(now)
	}
	done := c.start()
	c.mu.Unlock()

	patience := fetchTimeout
	if usable {
		patience = refreshPatience
	}
	wait(ctx, done, patience)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.usableOrErr(time.Now())
}

// newer returns keys fetched after have, because have does not verify a
// token: those of a fetch that is under way or, once a minute, of one that it
// starts. It returns nil when there are none.
func (c *keyCache) newer(ctx context.Context, have *keySet) *keySet {
	c.mu.Lock()
	if c.set != have {
		defer c.mu.Unlock()
		return c.set
	}
	done, busy := (<-chan struct{})(c.inFlight), c.inFlight != nil
	if now := time.Now(); !busy && (c.unknown.IsZero() || now.Sub(c.unknown) >= unknownKeyPause) {
		c.unknown = now
		done = c.start()
	}
	c.mu.Unlock()
	if done == nil {
		return nil
	}
	wait(ctx, done, fetchTimeout)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set == have {
		return nil
	}
	return c.set
}

// probe fetches now, or joins the fetch under way, and returns its error.
func (c *keyCache) probe(ctx context.Context) error {
	c.mu.Lock()
	done := c.start()
	c.mu.Unlock()
	wait(ctx, done, fetchTimeout)
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-done:
		return c.err
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.New("the issuer did not answer in time")
}

func wait(ctx context.Context, done <-chan struct{}, patience time.Duration) {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
	case <-ctx.Done():
	case <-t.C:
	}
}

// usable reports whether the keys may be used. The caller holds mu.
func (c *keyCache) usable(now time.Time) bool {
	return c.set != nil && now.Sub(c.fetched) < c.maxAge
}

func (c *keyCache) usableOrErr(now time.Time) (*keySet, error) {
	switch {
	case c.usable(now):
		return c.set, nil
	case c.err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoKeys, c.err)
	}
	return nil, fmt.Errorf("%w: no answer yet", ErrNoKeys)
}

// start begins a fetch unless one is under way, and returns the channel that
// closes when it ends. The caller holds mu.
func (c *keyCache) start() <-chan struct{} {
	if c.inFlight != nil {
		return c.inFlight
	}
	done := make(chan struct{})
	if c.closed {
		c.err = errors.New("the verifier is closed")
		close(done)
		return done
	}
	c.inFlight = done
	c.wg.Go(func() {
		ctx, cancel := context.WithTimeout(c.base, fetchTimeout)
		defer cancel()
		set, maxAge, err := c.fetch(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.store(set, maxAge, err)
		c.inFlight = nil
		close(done)
	})
	return done
}

// store takes the result of a fetch. A failure leaves the keys at hand as
// they are: they age until maxAge.
func (c *keyCache) store(set *keySet, maxAge time.Duration, err error) {
	now := time.Now()
	if c.err = err; err != nil {
		c.failed = now
		return
	}
	c.set, c.fetched, c.failed = set, now, time.Time{}
	if maxAge == 0 {
		maxAge = c.refresh
	}
	c.next = now.Add(min(max(maxAge, minRefresh), c.maxAge/2))
}

// close ends a fetch under way through base, which the caller has cancelled,
// and waits for it.
func (c *keyCache) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
}
