package journal_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
)

// TestLazyFlush checks that a payload nobody waits for is on the disk soon.
func TestLazyFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(nil, 1)
		create(t, fsys)
		l, _ := open(t, fsys, small())
		defer closeLog(t, l)
		for range 3 {
			k := add(t, l, payload(0))
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			if !k.Done() || l.Synced() != l.Next() {
				t.Fatal("not synced after 10 ms")
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestInsecureInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New(nil, 1)
		create(t, fsys)
		o := small()
		o.Mode, o.Interval = journal.SyncInsecureInterval, 20*time.Millisecond
		l, _ := open(t, fsys, o)
		defer closeLog(t, l)
		put(t, l, payload(0))
		if l.Durable() != 1 || l.Synced() != 0 {
			t.Fatalf("durable %d, synced %d", l.Durable(), l.Synced())
		}
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if l.Synced() != 1 {
			t.Fatal("not synced after the interval")
		}
		put(t, l, payload(1))
		if err := l.Sync(t.Context()); err != nil || l.Synced() != 2 {
			t.Fatalf("sync: %v, synced %d", err, l.Synced())
		}
	})
}

// gateFS blocks syncs of the first segment until the test lets them go on.
type gateFS struct {
	vfs.FS

	enter, leave chan struct{}
}

type gateFile struct {
	vfs.File
	g *gateFS
}

func (g *gateFS) Create(name string) (vfs.File, error) {
	f, err := g.FS.Create(name)
	if err != nil || !strings.Contains(name, "open") {
		return f, err
	}
	return gateFile{File: f, g: g}, nil
}

func (f gateFile) Sync() error {
	if f.g.enter != nil {
		f.g.enter <- struct{}{}
		<-f.g.leave
	}
	return f.File.Sync()
}

// TestCancelledWaiters cancels a leader in the middle of its sync, and the
// only follower of the next batch: neither may leave the journal without a
// leader, and the cancelled ones must say so.
func TestCancelledWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New(nil, 1)
		create(t, disk)
		g := &gateFS{FS: disk}
		l, _ := open(t, g, journal.Options{SegmentBytes: 1 << 20, LowWater: -1})
		g.enter, g.leave = make(chan struct{}), make(chan struct{})
		cause := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		first := add(t, l, payload(0))
		led := make(chan error, 1)
		go func() { led <- first.Wait(ctx) }()
		<-g.enter // the leader syncs

		second := add(t, l, payload(1))
		waited := make(chan error, 3)
		go func() { waited <- second.Wait(ctx) }() // waits for the next batch
		go func() { waited <- first.Wait(ctx) }()  // waits for this one
		synctest.Wait()
		cancel(cause)
		for range 2 {
			if err := <-waited; !errors.Is(err, cause) {
				t.Fatalf("cancelled waiter: %v", err)
			}
		}
		g.leave <- struct{}{}
		if err := <-led; err != nil {
			t.Fatalf("leader: %v", err)
		}
		<-g.enter // nobody waits for the second: the background writes it
		go func() { waited <- second.Wait(t.Context()) }()
		g.leave <- struct{}{}
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		if err := add(t, l, payload(2)).Wait(ctx); !errors.Is(err, cause) {
			t.Fatalf("wait with a context that ended: %v", err)
		}
		go func() {
			for range g.enter {
				g.leave <- struct{}{}
			}
		}()
		closeLog(t, l)
		close(g.enter)
		checkAll(t, readBack(t, disk), 3)
	})
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(nil, 1)
	create(t, fsys)
	o := small()
	o.SegmentBytes = 64 << 10
	l, _ := open(t, fsys, o)
	const writers, each = 50, 40
	stop := make(chan struct{})
	var readers, wg sync.WaitGroup
	for range 3 {
		readers.Go(func() { follow(t, l, writers*each, stop) })
	}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				ctx, cancel := context.WithCancel(t.Context())
				k := add2(t, l)
				if w%5 == 0 && i%3 == 0 {
					go cancel()
				}
				if err := k.Wait(ctx); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				if k.Done() != (l.Durable() > k.Seq()) && !k.Done() {
					t.Error("Done and Durable disagree")
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(stop)
	readers.Wait()
	closeLog(t, l)
	checkAll(t, readBack(t, fsys), writers*each)
}

func add2(t testing.TB, l *journal.Log) journal.Ticket {
	k, err := l.Append(journal.Ordinary, func(dst []byte, seq journal.Seq) []byte { return append(dst, payload(seq)...) })
	if err != nil {
		t.Error(err)
	}
	return k
}

// follow reads beside the writers until it has seen everything.
func follow(t testing.TB, l *journal.Log, total int, stop <-chan struct{}) {
	r := l.Read(0)
	defer func() { _ = r.Close() }()
	for want := journal.Seq(0); ; {
		seq, p, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			select {
			case <-stop:
				if int(want) < total && l.Durable() == want {
					t.Errorf("reader saw %d of %d", want, total)
				}
				if int(want) == total {
					return
				}
			default:
			}
		case err != nil:
			t.Error(err)
			return
		case seq != want || string(p) != string(payload(seq)):
			t.Errorf("read %d, want %d", seq, want)
			return
		default:
			want++
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	disk := crashfs.New(nil, 1)
	create(t, disk)
	g := &gateFS{FS: faultfs.New(disk)}
	o := small()
	o.SegmentBytes, o.QueueBytes, o.MaxPayload = 1<<20, 4000, 5000
	l, _ := open(t, g, o)
	if _, err := tryAppend(l, journal.Ordinary, 5001); !errors.Is(err, journal.ErrTooLarge) {
		t.Fatalf("too large: %v", err)
	}
	if l.Next() != 0 {
		t.Fatal("a refused payload used up a number")
	}
	g.enter, g.leave = make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	k := add(t, l, make([]byte, 4000))
	go func() { done <- k.Wait(t.Context()) }()
	<-g.enter
	if _, err := tryAppend(l, journal.Ordinary, 1); !errors.Is(err, journal.ErrBusy) {
		t.Fatalf("queue is full: %v", err)
	}
	if _, err := tryAppend(l, journal.Closing, 1); err != nil {
		t.Fatalf("closing append: %v", err)
	}
	go func() {
		for range g.enter {
			g.leave <- struct{}{}
		}
	}()
	g.leave <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	close(g.enter)
}

// TestLargeBatch gives a batch that no segment holds a segment of its own.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(nil, 1)
	create(t, fsys)
	l, _ := open(t, fsys, small())
	big := make([]byte, 100<<10)
	put(t, l, big) // takes the place of the empty segment
	put(t, l, payload(1))
	put(t, l, big)
	put(t, l, payload(3))
	if got := all(t, l.Read(0)); len(got) != 4 || len(got[2]) != len(big) {
		t.Fatalf("read %d payloads", len(got))
	}
	closeLog(t, l)
	got := readBack(t, fsys)
	if len(got) != 4 || len(got[2]) != len(big) || len(got[0]) != len(big) {
		t.Fatalf("read %d payloads", len(got))
	}
}

func TestAllocations(t *testing.T) {
	d := t.TempDir() + "/j"
	if err := journal.Create(vfs.OS(), d); err != nil {
		t.Fatal(err)
	}
	l, _, err := journal.Open(vfs.OS(), d, journal.Options{SegmentBytes: 8 << 20, LowWater: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer closeLog(t, l)
	data := make([]byte, 500)
	build := func(dst []byte, _ journal.Seq) []byte { return append(dst, data...) }
	ctx := t.Context()
	n := testing.AllocsPerRun(200, func() {
		k, err := l.Append(journal.Ordinary, build)
		if err == nil {
			err = k.Wait(ctx)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if n > 1 {
		t.Fatalf("%v allocations for an append, want at most 1", n)
	}
}
