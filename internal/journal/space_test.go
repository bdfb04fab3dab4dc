package journal_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
)

func tryAppend(l *journal.Log, c journal.Class, n int) (journal.Ticket, error) {
	return l.Append(c, func(dst []byte, _ journal.Seq) []byte { return append(dst, make([]byte, n)...) })
}

func TestLowWater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New(crashfs.New(nil, 1))
		create(t, fsys)
		o := small()
		o.LowWater = 1 << 20
		fsys.SetFree(2 << 20)
		l, _ := open(t, fsys, o)
		defer closeLog(t, l)
		synctest.Wait() // the first spare files are there
		put(t, l, payload(0))

		fsys.SetFree(1<<20 - 1)
		put(t, l, payload(1)) // the answer of a second ago still holds
		time.Sleep(2 * time.Second)
		put(t, l, payload(2)) // wakes the watch
		time.Sleep(100 * time.Millisecond)
		if _, err := tryAppend(l, journal.Ordinary, 1); !errors.Is(err, journal.ErrFull) {
			t.Fatalf("ordinary append below the low-water mark: %v", err)
		}
		if !l.Stats().Full {
			t.Error("stats do not say full")
		}
		k, err := tryAppend(l, journal.Closing, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		fsys.SetFree(1 << 20)
		time.Sleep(2 * time.Second)
		if _, err := tryAppend(l, journal.Ordinary, 1); err != nil {
			t.Fatalf("after space came back: %v", err)
		}
	})
}

// TestNoSpace lets every preallocation fail: it means full, not stopped, and
// what was accepted becomes durable.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New(nil, 1)
		create(t, disk)
		fsys := faultfs.New(disk)
		l, _ := open(t, fsys, small())
		synctest.Wait() // the first spare files are there
		fsys.FailOp(faultfs.OpPreallocate, faultfs.NoSpace, nil)
		var n [2]int
		for c := range n {
			for {
				k, err := tryAppend(l, journal.Class(c), 300)
				if errors.Is(err, journal.ErrFull) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := k.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				n[c]++
				synctest.Wait()
			}
		}
		if n[journal.Ordinary] == 0 || n[journal.Closing] < 5 {
			t.Fatalf("accepted %d ordinary and %d closing appends", n[0], n[1])
		}
		if err := l.Err(); err != nil {
			t.Fatalf("stopped: %v", err)
		}
		fsys.Plan(nil)
		time.Sleep(2 * time.Second)
		for range 30 {
			put(t, l, make([]byte, 300))
		}
		closeLog(t, l)
		if got := readBack(t, disk); len(got) != n[0]+n[1]+30 {
			t.Fatalf("%d payloads, want %d", len(got), n[0]+n[1]+30)
		}
	})
}

// TestParked queues more than all allocated space can hold: the waiters wait
// for space, and Close does not.
func TestParked(t *testing.T) {
	t.Parallel()
	for _, back := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			disk := crashfs.New(nil, 1)
			create(t, disk)
			fsys := faultfs.New(disk)
			l, _ := open(t, fsys, small())
			synctest.Wait() // the first spare files are there
			fsys.FailOp(faultfs.OpPreallocate, faultfs.NoSpace, nil)
			k, err := tryAppend(l, journal.Ordinary, 20<<10)
			if err != nil {
				t.Fatal(err)
			}
			result := make(chan error, 2)
			for range 2 {
				go func() { result <- k.Wait(t.Context()) }()
			}
			time.Sleep(10 * time.Second)
			if len(result) != 0 || l.Err() != nil {
				t.Fatalf("did not wait: %v, %v", len(result), l.Err())
			}
			if back {
				fsys.Plan(nil)
				time.Sleep(2 * time.Second)
				for range 2 {
					if err := <-result; err != nil {
						t.Fatal(err)
					}
				}
				closeLog(t, l)
				return
			}
			if err := l.Close(); !errors.Is(err, journal.ErrFull) {
				t.Fatalf("close: %v", err)
			}
			for range 2 {
				if err := <-result; !errors.Is(err, journal.ErrStopped) {
					t.Fatalf("wait: %v", err)
				}
			}
		})
	}
}

func TestOpenOnFullDisk(t *testing.T) {
	t.Parallel()
	fsys := faultfs.New(crashfs.New(nil, 1))
	create(t, fsys)
	o := small()
	o.LowWater = 1 << 20
	fsys.SetFree(0)
	l, _ := open(t, fsys, o)
	defer closeLog(t, l)
	if _, err := tryAppend(l, journal.Ordinary, 1); !errors.Is(err, journal.ErrFull) {
		t.Fatalf("ordinary append: %v", err)
	}
	if _, err := tryAppend(l, journal.Closing, 1); err != nil {
		t.Fatalf("closing append: %v", err)
	}
}
