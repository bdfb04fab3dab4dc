package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/testkit/bookcheck"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
)

// stride is 1 for every single fault. Without GATEBOOK_CRASHES the tests of
// faults take every n-th, beginning elsewhere for each kind of fault.
func stride(n int) int {
	if os.Getenv("GATEBOOK_CRASHES") != "" {
		return 1
	}
	return n
}

// crashed returns the image of a book whose power went while two sessions
// were open, with a tail that recovery has to copy, and what was promised of it.
func crashed(t *testing.T, f *fixture) (*crashfs.FS, *witness) {
	t.Helper()
	f.opts.Journal.SegmentBytes = 4 << 10
	disk := crashfs.New(nil, 1)
	f.on(t, disk)
	l, err := Open(t.Context(), disk, f.dir, f.opts)
	if err != nil {
		t.Fatal(err)
	}
	seen := newWitness()
	seen.work(l, rand.New(rand.NewPCG(1, 1)))
	for range 2 {
		s, err := l.OpenSession(ana, orders)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []*audit.Event{
			sessionEvent(s),
			{Kind: evidence.KindIntent, Exchange: 1, Decision: "allow", Meta: audit.AppendIntent(nil, &evidence.Intent{Op: "query"})},
		} {
			r, err := s.Append(e)
			if err == nil {
				err = r.Wait(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			seen.waited[fmt.Sprintf("%s of %s/%d", e.Kind, s.ID(), e.Exchange)] = true
		}
	}
	image := disk.Crash(1)
	if err := l.release(); err != nil {
		t.Fatal(err)
	}
	return image, seen
}

// life opens the book, works in it, and closes it, whatever fails. It returns
// the first error.
func (w *witness) life(t *testing.T, f *fixture, fsys vfs.FS, seed uint64) error {
	t.Helper()
	l, err := Open(t.Context(), fsys, f.dir, f.opts)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 3))
	for range 4 {
		w.work(l, rng)
	}
	_, err = l.Checkpoint(context.Background())
	if stopped := l.Err(); stopped != nil {
		err = stopped
		if s, err := l.OpenSession(ana, orders); err == nil {
			if _, err = s.Append(audit.New(evidence.KindSession, &evidence.Session{})); err == nil {
				t.Errorf("a session was opened after %v", stopped)
			}
		}
	}
	if w.err == nil {
		w.err = err
	}
	if err := l.Close(context.Background(), "test"); w.err == nil {
		w.err = err
	}
	return w.err
}

// TestFaultMatrix fails every single operation on every file of the book
// (journal, key store, checkpoints, tree) in every way: while it is recovered, written
// to through several segments and checkpoints, and closed. A failed write or sync is
// told; a stopped journal admits nobody; then the process ends, or the power goes on
// top of it, and the book opens, holds all that was promised, once, and goes on.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	keys, trust := packKeys(t)
	f := newFixture(t)
	image, before := crashed(t, f)
	probe := faultfs.New(image.Crash(2))
	if err := before.copy().life(t, f, probe, 0); err != nil {
		t.Fatal(err)
	}
	ops := probe.Count()
	counts := make(map[string]int)
	fired, step := 0, stride(9)
	for k, kind := range faultfs.Kinds() {
		for at := k; at < ops; at += step {
			disk := image.Crash(uint64(at))
			faulty := faultfs.New(disk)
			faulty.FailAt(at, kind)
			seen := before.copy()
			err := seen.life(t, f, faulty, 0)
			if faulty.Fired() == 0 {
				if err != nil {
					t.Fatalf("%v at %d did not happen, and yet: %v", kind, at, err)
				}
				continue
			}
			fired++
			call := faulty.Calls()[at]
			name := fmt.Sprintf("%v at %v", kind, call)
			counts[string(call.Op)]++
			if err == nil && mustTell(faulty.Calls()[:at+1], kind) {
				t.Errorf("%s: nobody was told", name)
			}
			t.Run(name, func(t *testing.T) {
				for i, after := range []*crashfs.FS{disk, disk.Crash(uint64(at))} {
					l := seen.reopen(t, f, after)
					again := seen.copy()
					again.work(l, rand.New(rand.NewPCG(uint64(at), 4)))
					if i == 1 && at%4 == 0 {
						again.verify(t, l, keys, trust+"log "+f.opts.PublicKeys.Log+"\n")
					}
					if err := l.Close(context.Background(), "test"); err != nil {
						t.Fatal(err)
					}
					again.reread(t, f, after, true)
				}
			})
			if t.Failed() {
				return
			}
		}
	}
	t.Logf("%d operations, %d faults: %v", ops, fired, counts)
	if fired < 3*ops/step {
		t.Errorf("only %d faults of %d operations happened", fired, ops)
	}
	for _, op := range []faultfs.Op{faultfs.OpSync, faultfs.OpSyncDir, faultfs.OpWriteAt, faultfs.OpRename, faultfs.OpReadAt} {
		if counts[string(op)] == 0 {
			t.Errorf("no %s was failed", op)
		}
	}
}

// mustTell says whether nobody may go on after the fault of the last of calls without hearing
// of it. Files that are prepared ahead hold nothing, and the tree's file is derived.
func mustTell(calls []faultfs.Call, k faultfs.Kind) bool {
	c := calls[len(calls)-1]
	switch c.Op {
	case faultfs.OpSync, faultfs.OpWriteAt, faultfs.OpRename, faultfs.OpSyncDir:
	default:
		return false
	}
	base := path.Base(c.Name)
	switch {
	case base == treeFile && c.Op == faultfs.OpWriteAt, base == "open.tmp" && k == faultfs.NoSpace:
		return false
	case strings.HasPrefix(base, "spare-"), strings.HasPrefix(base, "reserve-"):
		return c.Op != faultfs.OpSync || slices.ContainsFunc(calls, func(w faultfs.Call) bool {
			return w.Op == faultfs.OpWriteAt && w.Name == c.Name
		})
	}
	return true
}

// TestCreate fails every operation of making a book, and takes the power away
// after each: there is no book, or a whole one.
func TestCreate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.dir = "/data/book"
	create := func(fsys vfs.FS) error { return Create(fsys, f.dir, origin, f.kek) }
	fresh := func(seed uint64) *crashfs.FS {
		disk := crashfs.New(nil, seed)
		if err := disk.MkdirAll(f.dir); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{"/", "/data"} {
			if err := disk.SyncDir(d); err != nil {
				t.Fatal(err)
			}
		}
		return disk
	}
	whole := func(t *testing.T, disk *crashfs.FS) {
		l := newWitness().reopen(t, f, disk)
		if err := l.Close(t.Context(), "test"); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(100) {
		disk := fresh(seed)
		if err := create(disk); err != nil {
			t.Fatal(err)
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { whole(t, disk.Crash(seed)) })
	}
	probe := faultfs.New(fresh(1))
	if err := create(probe); err != nil {
		t.Fatal(err)
	}
	for _, kind := range faultfs.Kinds() {
		for at := range probe.Count() {
			disk := fresh(uint64(at))
			faulty := faultfs.New(disk)
			faulty.FailAt(at, kind)
			err := create(faulty)
			call := faulty.Calls()[at]
			if err == nil && mustTell(faulty.Calls()[:at+1], kind) {
				t.Errorf("%v at %v: nobody was told", kind, call)
			}
			if err == nil {
				t.Run(fmt.Sprintf("%v at %v", kind, call), func(t *testing.T) { whole(t, disk.Crash(uint64(at))) })
			}
		}
	}
}

// TestSecondReaderNotices changes single bytes of a closed book: the reader that the
// tests of crashes and faults rely on must see each that counts.
func TestSecondReaderNotices(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.open(t)
	exchange(t, l, 2)
	if err := l.Close(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
	read := func() (*bookcheck.Book, error) {
		return bookcheck.Read(bookcheck.OS{}, f.dir, f.kek.Reveal(), f.opts.PublicKeys.Log)
	}
	whole, err := read()
	if err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(f.dir + "/journal/*.seg")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, name := range append(segments, f.dir+"/"+keysFile, f.dir+"/"+checkpointFile) {
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		used := len(bytes.TrimRight(good, "\x00"))
		for range 60 {
			bad := bytes.Clone(good)
			at := rng.IntN(used)
			bad[at] ^= 1 << rng.IntN(8)
			if err := os.WriteFile(name, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := read()
			if strings.HasSuffix(name, checkpointFile) && bytes.LastIndex(good[:at], []byte(`"note":"`)) <= bytes.LastIndexByte(good[:at], '\n') {
				continue // of a checkpoint only the note is signed
			}
			// What is in the last line or batch may count as torn.
			if err == nil && !b.Torn && b.Checkpoints == whole.Checkpoints {
				t.Errorf("%s: a flipped bit at offset %d of %d goes unseen", name, at, used)
			}
		}
		if err := os.WriteFile(name, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCheckpointSyncs: a checkpoint covers what was recorded before it also where
// syncs come at intervals: the journal is synced for it.
func TestCheckpointSyncs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	disk := crashfs.New(nil, 1)
	f.on(t, disk)
	f.opts.Journal.Mode, f.opts.Journal.Interval = journal.SyncInsecureInterval, time.Hour
	l, err := Open(t.Context(), disk, f.dir, f.opts)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, l, 3)
	n := l.Entries()
	cp, err := l.Checkpoint(t.Context())
	if err != nil || cp.Size != n {
		t.Errorf("a checkpoint of %d entries, %d were recorded: %v", cp.Size, n, err)
	}
	seen := newWitness()
	seen.marks = append(seen.marks, cp)
	for seed := range uint64(20) {
		seen.reread(t, f, disk.Crash(seed), false)
	}
	if err := l.Close(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
}

// TestOpenWaits: a book is not open before the record of its start is durable,
// and its last checkpoint covers the record of its stop.
func TestOpenWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.open(t)
	if durable, written := l.Entries(), uint64(l.log.Next()); durable != written {
		t.Errorf("%d of the %d entries of a start are durable", durable, written)
	}
	if err := l.Close(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	b, err := bookcheck.Read(bookcheck.OS{}, f.dir, f.kek.Reveal(), f.opts.PublicKeys.Log)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(b.Entries); b.Entries[n-1].Kind != "stop" || b.Covered != uint64(n) {
		t.Errorf("of %d entries, the last a %s, the last checkpoint covers %d", n, b.Entries[n-1].Kind, b.Covered)
	}
}

// TestBeatWaits: an export that begins with a heartbeat, and a stop, fail where
// their entries are not durable.
func TestBeatWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	disk := faultfs.New(vfs.OS())
	l, err := Open(t.Context(), disk, f.dir, f.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	disk.FailOp(faultfs.OpSync, faultfs.EIO, nil)
	if err := l.Beat(t.Context()); !errors.Is(err, journal.ErrStopped) {
		t.Errorf("a heartbeat that is not durable: %v", err)
	}
	if err := l.Close(context.Background(), "test"); err == nil {
		t.Error("the book closed as if nothing had happened")
	}
}
