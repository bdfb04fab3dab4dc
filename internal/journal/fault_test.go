package journal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
)

// work opens, appends over several rotations, and closes, until something
// fails. It returns how many payloads the journal said are safe, and how many
// it was given.
func work(fsys vfs.FS, t testing.TB, o journal.Options, from, n int) (safe, given int, err error) {
	l, rec, err := journal.Open(fsys, dir, o)
	if err != nil {
		return from, from, err
	}
	if int(rec.Entries) < from {
		t.Errorf("recovered %d entries, %d were promised", rec.Entries, from)
	}
	safe, given = int(rec.Entries), int(rec.Entries)
	for i := 0; i < n; i++ {
		k, aerr := l.Append(journal.Closing, func(dst []byte, seq journal.Seq) []byte {
			return append(dst, payload(seq)...)
		})
		if aerr != nil {
			err = aerr
			break
		}
		given = int(k.Seq()) + 1
		if i%3 == 2 {
			continue // somebody else will write it
		}
		if err = k.Wait(t.Context()); err != nil {
			if next, e := l.Append(journal.Closing, func(dst []byte, _ journal.Seq) []byte { return dst }); e == nil {
				t.Errorf("append %d accepted after %v", next.Seq(), err)
			}
			break
		}
		safe = given
	}
	err = errors.Join(err, l.Close())
	if err == nil {
		safe = given
	}
	return safe, given, err
}

// recoverAndCheck opens the journal in whatever state it is and checks that
// all that was promised is there, and nothing that was never given.
func recoverAndCheck(t testing.TB, fsys vfs.FS, safe, given int) int {
	t.Helper()
	l, rec, err := journal.Open(fsys, dir, small())
	if err != nil {
		t.Fatalf("reopen with %d safe: %v", safe, err)
	}
	if int(rec.Entries) < safe || int(rec.Entries) > given {
		t.Fatalf("recovered %d entries, %d were safe, %d given", rec.Entries, safe, given)
	}
	checkAll(t, all(t, l.Read(0)), int(rec.Entries))
	put(t, l, payload(rec.Entries))
	closeLog(t, l)
	checkAll(t, readBack(t, fsys), int(rec.Entries)+1)
	return int(rec.Entries) + 1
}

// TestFaultMatrix fails every single operation of opening (with a torn tail to
// repair), appending, rotating and closing, in every way, and then takes the
// power away on top.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	o := small()
	o.SegmentBytes = 1 << 10
	base := crashfs.New(nil, 1)
	create(t, base)
	if _, _, err := work(base, t, o, 0, 5); err != nil {
		t.Fatal(err)
	}
	dirty, _ := open(t, base, o)
	for i := range 4 {
		put(t, dirty, payload(journal.Seq(5+i)))
	}
	image := base.Crash(2) // before its close mark, so that a tail is to be copied
	closeLog(t, dirty)

	probe := faultfs.New(image.Crash(3))
	if _, _, err := work(probe, t, o, 9, 20); err != nil {
		t.Fatal(err)
	}
	ops := probe.Count() + 8 // the order of background operations varies a little
	fired := 0
	for _, kind := range faultfs.Kinds() {
		for i := range ops {
			disk := image.Crash(uint64(i))
			fsys := faultfs.New(disk)
			fsys.FailAt(i, kind)
			safe, given, err := work(fsys, t, o, 9, 20)
			if t.Failed() {
				t.Fatalf("%v at %d", kind, i)
			}
			name := fmt.Sprintf("%v at %d", kind, i)
			if fsys.Fired() > 0 {
				fired++
				name += ": " + fsys.Calls()[i].String()
			}
			t.Run(name, func(t *testing.T) {
				if err != nil && fsys.Fired() == 0 {
					t.Fatalf("failed without a fault: %v", err)
				}
				after := disk.Crash(uint64(i) * 7)
				recoverAndCheck(t, disk, safe, given)
				recoverAndCheck(t, after, safe, given)
			})
		}
	}
	if fired < 2*ops {
		t.Fatalf("only %d of %d faults happened", fired, 4*ops)
	}
}

func TestStopsAfterFailedSync(t *testing.T) {
	t.Parallel()
	disk := crashfs.New(nil, 1)
	create(t, disk)
	fsys := faultfs.New(disk)
	o := small()
	told := make(chan error, 2)
	o.OnFailure = func(err error) { told <- err }
	l, _ := open(t, fsys, o)
	put(t, l, payload(0))
	fsys.FailOp(faultfs.OpSync, faultfs.EIO, nil)
	k, other := add(t, l, payload(1)), add(t, l, payload(2))
	for _, k := range []journal.Ticket{other, k} {
		if err := k.Wait(t.Context()); !errors.Is(err, journal.ErrStopped) {
			t.Fatalf("wait after a failed sync: %v", err)
		}
	}
	if err := <-told; !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("told %v", err)
	}
	fsys.Plan(nil)
	before := fsys.Count()
	if _, err := l.Append(journal.Closing, nil); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("append: %v", err)
	}
	if err := l.Sync(t.Context()); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("sync: %v", err)
	}
	if err := l.Close(); !errors.Is(err, journal.ErrStopped) {
		t.Fatalf("close: %v", err)
	}
	for _, c := range fsys.Calls()[before:] {
		if c.Op == faultfs.OpWriteAt || c.Op == faultfs.OpSync {
			t.Errorf("after the failure: %v", c)
		}
	}
	if l.Durable() != 1 {
		t.Fatalf("durable %d, want 1", l.Durable())
	}
	// The pages of 1 and 2 are in the page cache alone. Recovery finds and
	// keeps them, and from then on they must survive.
	n := recoverAndCheck(t, disk, 1, 3)
	if n != 4 {
		t.Fatalf("%d entries, want 4", n)
	}
	recoverAndCheck(t, disk.Crash(5), n, n)
}

// TestSpaceShowsBeforeUse: where a preallocation finds out only at its sync that
// the disk is full (as with delayed allocation or quotas), that must show while
// a file is prepared and refuse what is new, not stop the journal in the midst of a batch.
func TestSpaceShowsBeforeUse(t *testing.T) {
	t.Parallel()
	disk := crashfs.New(nil, 1)
	create(t, disk)
	fsys := faultfs.New(disk)
	o := small()
	o.SegmentBytes = 1 << 10
	var full atomic.Bool
	synced := make(map[string]bool)
	fsys.Plan(func(c faultfs.Call) faultfs.Kind {
		if c.Op != faultfs.OpSync || synced[c.Name] {
			return faultfs.None
		}
		if full.Load() {
			return faultfs.NoSpace // the first sync of a file finds no room for it
		}
		synced[c.Name] = true
		return faultfs.None
	})
	l, _ := open(t, fsys, o)
	full.Store(true)
	safe := 0
	var err error
	for range 200 {
		var k journal.Ticket
		k, err = l.Append(journal.Ordinary, func(dst []byte, seq journal.Seq) []byte { return append(dst, payload(seq)...) })
		if err != nil {
			break
		}
		ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err = k.Wait(ctx)
		stop()
		if err != nil {
			break
		}
		safe++
	}
	if errors.Is(err, journal.ErrStopped) || l.Err() != nil || err == nil {
		t.Fatalf("after %d payloads: %v, %v", safe, err, l.Err())
	}
	full.Store(false) // what was taken already gets its place within a second or so
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	if n := len(readBack(t, disk)); n < safe {
		t.Fatalf("%d payloads, %d were safe", n, safe)
	}
}

// heldFS fails the syncs of spare files, once it is let go.
type heldFS struct {
	vfs.FS
	hit, let chan struct{}
}

type heldFile struct {
	vfs.File
	fs heldFS
}

func (h heldFS) Create(name string) (vfs.File, error) {
	f, err := h.FS.Create(name)
	if err == nil && strings.Contains(name, "spare-") {
		f = heldFile{f, h}
	}
	return f, err
}

func (h heldFile) Sync() error {
	h.fs.hit <- struct{}{}
	<-h.fs.let
	return syscall.EIO
}

// TestCloseTells: a journal that stops while it is being closed says so.
func TestCloseTells(t *testing.T) {
	t.Parallel()
	disk := crashfs.New(nil, 1)
	create(t, disk)
	fsys := heldFS{disk, make(chan struct{}, 1), make(chan struct{})}
	l, _ := open(t, fsys, small())
	put(t, l, payload(0))
	<-fsys.hit
	go func() {
		time.Sleep(20 * time.Millisecond) // Close waits for the file that is being prepared
		close(fsys.let)
	}()
	if err := l.Close(); !errors.Is(err, journal.ErrStopped) || !errors.Is(err, syscall.EIO) {
		t.Errorf("close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
	recoverAndCheck(t, disk, 1, 1)
}
