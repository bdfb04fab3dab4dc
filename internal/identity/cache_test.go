package identity

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeIssuer stands for the network in cache tests, which run on a fake clock.
type fakeIssuer struct {
	n      atomic.Int64
	mu     sync.Mutex
	err    error
	maxAge time.Duration
	delay  time.Duration
}

func (f *fakeIssuer) set(err error, maxAge, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.maxAge, f.delay = err, maxAge, delay
}

func (f *fakeIssuer) fetch(ctx context.Context) (*keySet, time.Duration, error) {
	f.n.Add(1)
	f.mu.Lock()
	err, maxAge, delay := f.err, f.maxAge, f.delay
	f.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	if err != nil {
		return nil, 0, err
	}
	return &keySet{raw: []byte("{}")}, maxAge, nil
}

func newCache(t *testing.T, f *fakeIssuer) *keyCache {
	ctx, cancel := context.WithCancel(t.Context())
	c := &keyCache{fetch: f.fetch, refresh: defaultRefresh, maxAge: defaultKeyMaxAge, base: ctx}
	t.Cleanup(func() { cancel(); c.close() })
	return c
}

func inBubble(t *testing.T, run func(t *testing.T, f *fakeIssuer, c *keyCache)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeIssuer{}
		run(t, f, newCache(t, f))
	})
}

func (f *fakeIssuer) expect(t *testing.T, what string, n int64) {
	t.Helper()
	if got := f.n.Load(); got != n {
		t.Fatalf("%s: got %d fetches, want %d", what, got, n)
	}
}

func mustKeys(t *testing.T, c *keyCache) *keySet {
	t.Helper()
	s, err := c.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCacheRefreshesWhenDue(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeIssuer, c *keyCache) {
		f.expect(t, "before use", 0)
		mustKeys(t, c)
		time.Sleep(defaultRefresh - time.Second)
		mustKeys(t, c)
		f.expect(t, "within the refresh time", 1)
		time.Sleep(time.Second)
		mustKeys(t, c)
		f.expect(t, "at the refresh time", 2)
	})
}

func TestCacheControlIsBounded(t *testing.T) {
	for _, tt := range []struct {
		name      string
		age, want time.Duration
	}{
		{"silent", 0, defaultRefresh}, {"within", 5 * time.Minute, 5 * time.Minute},
		{"too short", time.Second, minRefresh}, {"too long", 1000 * time.Hour, defaultKeyMaxAge / 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fakeIssuer, c *keyCache) {
				f.set(nil, tt.age, 0)
				mustKeys(t, c)
				time.Sleep(tt.want - time.Millisecond)
				mustKeys(t, c)
				f.expect(t, "before", 1)
				time.Sleep(time.Millisecond)
				mustKeys(t, c)
				f.expect(t, "after", 2)
			})
		})
	}
}

func TestID04CacheFailsClosedAfterMaxAge(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeIssuer, c *keyCache) {
		down := errors.New("down")
		first := mustKeys(t, c)
		f.set(down, 0, 0)
		for end := time.Now().Add(defaultKeyMaxAge - time.Second); time.Now().Before(end); time.Sleep(time.Minute - time.Second/59) {
			if mustKeys(t, c) != first {
				t.Fatal("other keys appeared while the issuer was down")
			}
		}
		time.Sleep(2 * time.Minute)
		if _, err := c.current(t.Context()); !errors.Is(err, ErrNoKeys) || !errors.Is(err, down) {
			t.Fatalf("got %v, want ErrNoKeys because of %v", err, down)
		}
		f.set(nil, 0, 0)
		time.Sleep(failurePause)
		mustKeys(t, c)
	})
}

func TestCacheFailuresPause(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeIssuer, c *keyCache) {
		f.set(errors.New("down"), 0, 0)
		for range 100 {
			if _, err := c.current(t.Context()); !errors.Is(err, ErrNoKeys) {
				t.Fatal(err)
			}
		}
		f.expect(t, "in a burst", 1)
		time.Sleep(failurePause)
		_, _ = c.current(t.Context())
		f.expect(t, "after the pause", 2)
	})
}

func TestUnknownKeyFloodCostsOneFetchAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeIssuer, c *keyCache) {
		have := mustKeys(t, c)
		f.set(nil, 0, time.Second)
		for round := range 3 {
			var wg sync.WaitGroup
			var fresh atomic.Int64
			for range 200 {
				wg.Go(func() {
					if c.newer(t.Context(), have) != nil {
						fresh.Add(1)
					}
				})
			}
			wg.Wait()
			if fresh.Load() != 200 {
				t.Errorf("round %d: %d of 200 got the newer keys", round, fresh.Load())
			}
			f.expect(t, "flood", int64(2+round))
			have = mustKeys(t, c)
			for range 200 {
				if c.newer(t.Context(), have) != nil {
					t.Fatal("newer keys out of nothing")
				}
			}
			f.expect(t, "the rest of the minute", int64(2+round))
			time.Sleep(unknownKeyPause)
		}
	})
}

func TestCacheSlowIssuer(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeIssuer, c *keyCache) {
		have := mustKeys(t, c)
		f.set(nil, 0, time.Hour) // ends at fetchTimeout
		time.Sleep(defaultRefresh)
		begin := time.Now()
		if mustKeys(t, c) != have {
			t.Error("other keys")
		}
		if d := time.Since(begin); d != refreshPatience {
			t.Errorf("waited %s with usable keys at hand, want %s", d, refreshPatience)
		}
		time.Sleep(fetchTimeout)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err == nil {
			t.Error("the fetch did not time out")
		}
	})
}

func TestCacheCallerMayLeave(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeIssuer, c *keyCache) {
		f.set(nil, 0, 3*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.current(ctx); !errors.Is(err, ErrNoKeys) {
			t.Errorf("got %v, want ErrNoKeys", err)
		}
		mustKeys(t, c) // joins the fetch that the first caller began
		f.expect(t, "two callers", 1)
	})
}

func TestFirstFetchTimesOut(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fakeIssuer, c *keyCache) {
		f.set(nil, 0, time.Hour)
		begin := time.Now()
		if _, err := c.current(t.Context()); !errors.Is(err, ErrNoKeys) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(begin); d > fetchTimeout {
			t.Errorf("waited %s", d)
		}
	})
}
