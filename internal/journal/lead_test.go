package journal

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
)

// These tests hold the lock of a Log to put it into states that last only for
// a moment otherwise.

func openForTest(t *testing.T, fsys vfs.FS) *Log {
	t.Helper()
	if err := Create(fsys, "/j"); err != nil {
		t.Fatal(err)
	}
	l, _, err := Open(fsys, "/j", Options{SegmentBytes: 1 << 16, LowWater: -1, Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func appendForTest(t *testing.T, l *Log) Ticket {
	t.Helper()
	k, err := l.Append(Closing, func(dst []byte, _ Seq) []byte { return append(dst, "payload"...) })
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// waitBeside waits for k in a goroutine and returns when it does so.
func waitBeside(ctx context.Context, k Ticket) <-chan error {
	result := make(chan error, 1)
	go func() { result <- k.Wait(ctx) }()
	synctest.Wait()
	return result
}

// TestCallToTheCancelled calls a waiter to lead that has just been cancelled.
// Leadership must come back.
func TestCallToTheCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := openForTest(t, crashfs.New(nil, 1))
		l.mu.Lock()
		l.leading = true
		l.mu.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		k := appendForTest(t, l)
		result := waitBeside(ctx, k)
		l.mu.Lock()
		cancel() // the waiter has made its choice and comes for the lock
		l.cur.lead <- struct{}{}
		l.mu.Unlock()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled waiter: %v", err)
		}
		time.Sleep(2 * lazyFlush)
		synctest.Wait()
		if !k.Done() {
			t.Error("nobody wrote the payload")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCallAfterParking lets a called leader find no room and go back to
// waiting; it must not be counted twice, or a later call would be lost.
func TestCallAfterParking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := openForTest(t, crashfs.New(nil, 1))
		l.mu.Lock()
		l.leading = true
		l.parked = true
		l.mu.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		k := appendForTest(t, l)
		result := waitBeside(ctx, k)
		l.mu.Lock()
		l.err = ErrFull // stands for a leader that could not write
		l.cur.lead <- struct{}{}
		l.mu.Unlock()
		<-result
		l.mu.Lock()
		if l.cur.waiters != 0 || l.leading {
			t.Errorf("%d waiters, leading %v", l.cur.waiters, l.leading)
		}
		l.err, l.parked = nil, false
		l.mu.Unlock()
		cancel()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCallBeforeFailure stops the journal while a call to lead is on its way
// and nobody takes it. Close must not wait for that leader.
func TestCallBeforeFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := openForTest(t, crashfs.New(nil, 1))
		l.mu.Lock()
		l.leading = true
		l.mu.Unlock()
		appendForTest(t, l)
		cause := errors.New("broken")
		l.mu.Lock()
		l.cur.lead <- struct{}{}
		l.fail(cause)
		l.mu.Unlock()
		if err := l.Close(); !errors.Is(err, cause) {
			t.Fatalf("close: %v", err)
		}
	})
}

// slowFS stops each sync of a batch until it is let go.
type slowFS struct {
	vfs.FS

	entered, leave chan struct{}
}

type slowFile struct {
	vfs.File
	s *slowFS
}

func (s *slowFS) Create(name string) (vfs.File, error) {
	f, err := s.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return slowFile{File: f, s: s}, nil
}

func (f slowFile) Sync() error {
	if f.s.entered != nil {
		f.s.entered <- struct{}{}
		<-f.s.leave
	}
	return f.File.Sync()
}

// TestFailureBesideLeader stops the journal while a leader syncs: its batch
// must not count as safe any more.
func TestFailureBesideLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slowFS{FS: crashfs.New(nil, 1)}
		l := openForTest(t, s)
		synctest.Wait() // the first spare file is there
		s.entered, s.leave = make(chan struct{}), make(chan struct{})
		k := appendForTest(t, l)
		result := waitBeside(t.Context(), k)
		<-s.entered
		cause := errors.New("broken")
		l.mu.Lock()
		l.fail(cause)
		l.mu.Unlock()
		s.leave <- struct{}{}
		if err := <-result; !errors.Is(err, ErrStopped) || !errors.Is(err, cause) || k.Done() {
			t.Fatalf("wait: %v, done %v", err, k.Done())
		}
		if err := l.Close(); !errors.Is(err, cause) {
			t.Fatalf("close: %v", err)
		}
	})
}
