package app

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/index"
	"github.com/gatebook/gatebook/internal/ledger"
	"github.com/gatebook/gatebook/internal/seal"
)

// follower keeps the query tables up with the book. Whatever happens to them,
// the gate goes on. It implements admin.Index.
type follower struct {
	l   *ledger.Ledger
	o   index.Options
	log *slog.Logger

	mu        sync.Mutex
	x         *index.Index // nil while the tables cannot be used
	err       error        // why
	following bool
	restart   chan struct{} // tells run that x was replaced

	asked atomic.Int64  // who waits for the tables to catch up
	nudge chan struct{} // tells Follow that somebody asks
	// Of the last call of share; used by Follow's goroutine.
	seen   uint64
	seenAt time.Time
	pace   float64
}

const (
	// busyEntries is how many entries a second make a busy gate, whose
	// processors the query tables must not take.
	busyEntries = 2000
	// busyShare is the part of one processor that they take then, until they are
	// busyLag entries behind; from four times that on they take all of one.
	busyShare = 0.05
	busyLag   = 1 << 20
)

// share implements index.Options.Share.
func (f *follower) share() float64 {
	if f.asked.Load() > 0 {
		return 1
	}
	if took := time.Since(f.seenAt); took > time.Second {
		n := f.l.Entries()
		rate := float64(n-f.seen) / took.Seconds()
		f.seen, f.seenAt = n, time.Now()
		lag := f.lag()
		switch {
		case rate < busyEntries || lag > 4*busyLag:
			f.pace = 1
		case lag > busyLag:
			f.pace = 0.5
		default:
			f.pace = busyShare
		}
	}
	return f.pace
}

func openIndex(ctx context.Context, l *ledger.Ledger, dir string, text bool, log *slog.Logger) (*follower, error) {
	f := &follower{
		l: l, log: log, restart: make(chan struct{}, 1), nudge: make(chan struct{}, 1), pace: 1, seen: l.Entries(), seenAt: time.Now(),
		o: index.Options{Path: filepath.Join(dir, "index", "index.sqlite"), Origin: l.Origin(), Text: text, Log: log},
	}
	f.o.Share = f.share
	f.x, f.err = index.Open(ctx, f.o)
	if f.err != nil {
		if !errors.Is(f.err, index.ErrRebuild) {
			return nil, f.err
		}
		log.Error("the query tables cannot be used", "err", f.err)
	}
	return f, nil
}

func (f *follower) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.x == nil {
		return nil
	}
	return f.x.Close()
}

func (f *follower) current() (*index.Index, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.x, f.err
}

// run follows until ctx ends. A failure is logged, and the tables wait for a
// rebuild or another try; the gate is not concerned.
func (f *follower) run(ctx context.Context) error {
	f.mu.Lock()
	f.following = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.following = false
		f.mu.Unlock()
	}()
	for ctx.Err() == nil {
		x, _ := f.current()
		if x != nil {
			err := x.Follow(ctx, f.source, f.nudge)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil && !errors.Is(err, index.ErrClosed) {
				f.log.Error("the query tables do not follow the book", "err", err)
				if errors.Is(err, index.ErrRebuild) {
					f.drop(x, err)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-f.restart:
		case <-time.After(5 * time.Second):
		}
	}
	return nil
}

func (f *follower) drop(x *index.Index, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.x == x {
		_ = x.Close()
		f.x, f.err = nil, err
	}
}

// lag returns how many entries the tables are behind.
func (f *follower) lag() uint64 {
	n := f.l.Entries()
	if x, _ := f.current(); x != nil {
		if have := x.Next(); have < n {
			return n - have
		}
		return 0
	}
	return n
}

// source adapts a scan of the book.
func (f *follower) source(from uint64) (index.Source, error) { return &source{f.l.Scan(from)}, nil }

type source struct{ sc *ledger.Scanner }

// Next implements index.Source.
func (s *source) Next() (h evidence.Header, body []byte, erased bool, err error) {
	e, err := s.sc.Next()
	if err != nil || !index.Reads(e.Header.Kind) {
		return e.Header, nil, false, err
	}
	_, body, err = s.sc.Body(&e)
	if errors.Is(err, seal.ErrNoKey) {
		return e.Header, nil, true, nil
	}
	return e.Header, body, false, err
}

// Close implements index.Source.
func (s *source) Close() error { return s.sc.Close() }

// CaughtUp implements admin.Index.
func (f *follower) CaughtUp(ctx context.Context, n uint64) error {
	f.asked.Add(1)
	defer f.asked.Add(-1)
	select {
	case f.nudge <- struct{}{}:
	default:
	}
	for {
		f.mu.Lock()
		x, err, following := f.x, f.err, f.following
		f.mu.Unlock()
		switch {
		case x == nil:
			return err
		case x.Next() >= n:
			return nil
		case !following:
			next := x.Next()
			if next > 0 {
				next-- // so that the index can compare where it stopped
			}
			src, err := f.source(next)
			if err != nil {
				return err
			}
			_, err = x.CatchUp(ctx, src)
			return errors.Join(err, src.Close())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Query implements admin.Index.
func (f *follower) Query(ctx context.Context, sql string, row func([]string, []any) error) error {
	x, err := f.current()
	if x == nil {
		return err
	}
	begun := false
	return x.Query(ctx, sql, index.Limits{}, func(columns []string, values []any) error {
		if !begun {
			begun = true
			if err := row(columns, nil); err != nil {
				return err
			}
		}
		if values == nil {
			return nil
		}
		for i, v := range values {
			if b, ok := v.([]byte); ok {
				values[i] = string(b)
			}
		}
		return row(columns, values)
	})
}

// Span implements admin.Index.
func (f *follower) Span(ctx context.Context, id evidence.ID) (first, last uint64, err error) {
	x, err := f.current()
	if x == nil {
		return 0, 0, err
	}
	s, err := x.Session(ctx, id)
	return s.FirstEntry, s.LastEntry, err
}

// Rebuild implements admin.Index.
func (f *follower) Rebuild(ctx context.Context, progress func(uint64)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.x != nil {
		if err := f.x.Close(); err != nil {
			f.log.Warn("close the query tables", "err", err)
		}
		f.x, f.err = nil, errors.New("the query tables are being made anew")
	}
	err := index.Rebuild(ctx, f.o, &source{f.l.Scan(0)}, progress)
	if err == nil {
		f.x, err = index.Open(ctx, f.o)
	}
	f.err = err
	select {
	case f.restart <- struct{}{}:
	default:
	}
	return err
}
