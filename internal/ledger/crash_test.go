package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/testkit/bookcheck"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
)

// on makes the fixture's book anew on another file system.
func (f *fixture) on(t *testing.T, fsys vfs.FS) {
	t.Helper()
	f.dir = "/book"
	if err := errors.Join(fsys.MkdirAll(f.dir), fsys.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	if err := Create(fsys, f.dir, origin, f.kek); err != nil {
		t.Fatal(err)
	}
}

// witness is what somebody outside of the book saw of it.
type witness struct {
	mu     sync.Mutex
	waited map[string]bool // entries whose receipts were waited for
	marks  []Stored
	err    error // the first that anybody was told
}

func newWitness() *witness { return &witness{waited: make(map[string]bool)} }

func (w *witness) copy() *witness {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &witness{waited: maps.Clone(w.waited), marks: slices.Clone(w.marks)}
}

func sessionEvent(s enforce.SessionRecorder) *audit.Event {
	return audit.New(evidence.KindSession, &evidence.Session{
		Origin: "gateway", Principal: evidence.Principal{Issuer: "ci", Name: "ana", ActorID: s.ActorID().String()},
		Target: evidence.Target{TargetID: s.TargetID().String(), Name: "orders", Protocol: "postgres"},
	})
}

func (w *witness) told(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// work runs a session that may be cut anywhere; an error ends it.
func (w *witness) work(l *Ledger, rng *rand.Rand) {
	s, err := l.OpenSession(ana, orders)
	if err != nil {
		w.told(err)
		return
	}
	add := func(e *audit.Event) bool {
		r, err := s.Append(e)
		if err == nil && rng.IntN(3) > 0 {
			return true // nobody waits for this one
		}
		if err == nil {
			err = r.Wait(context.Background())
		}
		if err != nil {
			w.told(err)
			return false
		}
		w.mu.Lock()
		w.waited[fmt.Sprintf("%s of %s/%d", e.Kind, s.ID(), e.Exchange)] = true
		w.mu.Unlock()
		return true
	}
	if !add(sessionEvent(s)) {
		return
	}
	mark := func() {
		cp, err := l.Checkpoint(context.Background())
		if err != nil {
			w.told(err)
			return
		}
		w.mu.Lock()
		w.marks = append(w.marks, cp)
		w.mu.Unlock()
	}
	n := uint64(rng.IntN(5))
	for i := uint64(1); i <= n; i++ {
		in := evidence.Intent{Op: "query", Text: "SELECT 1"}
		out := evidence.Outcome{Status: "ok"}
		if !add(&audit.Event{Kind: evidence.KindIntent, Exchange: i, Decision: "allow", Meta: audit.AppendIntent(nil, &in)}) {
			return
		}
		empty := sha256.Sum256(nil)
		if !add(&audit.Event{Kind: evidence.KindOutcome, Exchange: i, Closing: true, Meta: audit.AppendOutcome(nil, &out, &empty)}) {
			return
		}
		if rng.IntN(4) == 0 {
			mark()
		}
	}
	add(audit.NewClosing(evidence.KindSessionEnd, &evidence.SessionEnd{Exchanges: n}))
	if rng.IntN(2) == 0 {
		mark()
	}
}

// reread reads the book with the second reader, which shares no code with
// this package, and checks that what was waited for is there, each once.
func (w *witness) reread(t *testing.T, f *fixture, disk vfs.FS, recovered bool) *bookcheck.Book {
	t.Helper()
	b, err := bookcheck.Read(bookcheck.On(disk), f.dir, f.kek.Reveal(), f.opts.PublicKeys.Log)
	if err != nil {
		t.Fatalf("the second reader, recovered %v: %v", recovered, err)
	}
	if _, err := b.Exchanges(recovered); err != nil {
		t.Fatalf("the second reader, recovered %v: %v", recovered, err)
	}
	have := make(map[string]int)
	for i := range b.Entries {
		e := &b.Entries[i]
		have[fmt.Sprintf("%s of %s/%d", e.Kind, e.Session, e.Exchange)]++
	}
	for name := range w.waited {
		if have[name] != 1 {
			t.Fatalf("%s was acknowledged and is %d times in the book, recovered %v", name, have[name], recovered)
		}
	}
	for _, m := range w.marks {
		if m.Size > b.Covered {
			t.Fatalf("a checkpoint of %d entries was given out, the last one in the book covers %d", m.Size, b.Covered)
		}
	}
	return b
}

// reopen reads a book as a crash left it, opens it, and checks that it begins
// with what was there and is whole.
func (w *witness) reopen(t *testing.T, f *fixture, disk vfs.FS) *Ledger {
	t.Helper()
	before := w.reread(t, f, disk, false)
	l, err := Open(t.Context(), disk, f.dir, f.opts)
	if err != nil {
		t.Fatalf("the book does not open: %v", err)
	}
	if err := w.reread(t, f, disk, true).Continues(before); err != nil {
		t.Fatalf("after recovery: %v", err)
	}
	return l
}

// verify checks that a package of the book verifies, with each checkpoint
// that was seen as bookmark.
func (w *witness) verify(t *testing.T, l *Ledger, keys evidence.Signer, trust string) {
	t.Helper()
	headers, root := read(t, l)
	cp, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if have, err := l.Root(cp.Size); err != nil || cp.Size == uint64(len(headers)) && have != root {
		t.Fatalf("root %v (%v), recomputed %v", have, err, root)
	}
	pkg := pack(t, l, Query{}, keys)
	for _, m := range append(w.marks, Stored{}) {
		r := verify(t, pkg, trust, []byte(m.Note)[:len(m.Note):len(m.Note)])
		if m.Note == "" {
			r = verify(t, pkg, trust, nil)
		}
		for _, p := range r.Problems {
			t.Fatalf("bookmark of %d entries: [%s] %s: %s", m.Size, p.Aspect, p.Where, p.What)
		}
	}
}

// TestCrashes takes the power away at moments that nobody chose, hundreds of
// times, and follows one book through several of them.
func TestCrashes(t *testing.T) {
	t.Parallel()
	seeds := 60
	if n, err := strconv.Atoi(os.Getenv("GATEBOOK_CRASHES")); err == nil {
		seeds = n
	}
	keys, trust := packKeys(t)
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 7))
			f := newFixture(t)
			f.opts.Journal.SegmentBytes = 4 << 10
			disk := crashfs.New(nil, seed)
			f.on(t, disk)
			if seed%4 == 3 {
				f.opts.Journal.Mode, f.opts.Journal.Interval = journal.SyncInsecureInterval, time.Millisecond
			}
			seen := newWitness()
			for range 6 {
				l := seen.reopen(t, f, disk)
				seen.verify(t, l, keys, trust+"log "+f.opts.PublicKeys.Log+"\n")
				var wg sync.WaitGroup
				for range 1 + rng.IntN(3) {
					r := rand.New(rand.NewPCG(rng.Uint64(), 1))
					wg.Go(func() { seen.work(l, r) })
				}
				for range rng.IntN(20) {
					if _, err := l.Checkpoint(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if rng.IntN(2) == 0 {
					wg.Wait()
				}
				promised := seen.copy()
				if f.opts.Journal.Mode == journal.SyncInsecureInterval {
					clear(promised.waited) // only checkpoints survive a loss of power for certain
				}
				after := disk.Crash(rng.Uint64())
				wg.Wait()
				if err := l.release(); err != nil {
					t.Fatal(err)
				}
				disk, seen = after, promised
			}
		})
	}
}

// TestTornCheckpoint leaves any part of the last line of the checkpoints
// behind: the book opens. A damaged line before a good one is refused.
func TestTornCheckpoint(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.open(t)
	exchange(t, l, 2)
	if err := l.Close(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
	name := f.dir + "/" + checkpointFile
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	line := len(text) - 1
	for line > 0 && text[line-1] != '\n' {
		line--
	}
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, torn := range [][]byte{
		text[:len(text)-1], text[:line+1], text[:line],
		append(append(append([]byte{}, text[:line]...), make([]byte, 40)...), text[line+40:]...),
		append(append([]byte{}, text...), "{\"size\":99,"...), append(append([]byte{}, text...), make([]byte, 100)...),
	} {
		write(torn)
		l := f.open(t)
		if err := l.Close(context.Background(), "test"); err != nil {
			t.Fatal(err)
		}
		l = f.open(t)
		if err := l.Close(context.Background(), "test"); err != nil {
			t.Fatal(err)
		}
	}
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	good[3] = 0
	write(good)
	if l, err := Open(t.Context(), vfs.OS(), f.dir, f.opts); err == nil {
		_ = l.release()
		t.Error("a damaged line before good ones was accepted")
	}
}

// TestFullDisk: without room requests are refused and what ends them is not.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	faulty := faultfs.New(vfs.OS())
	f.opts.Journal.LowWater, f.opts.Journal.Reserve = 1<<20, 1<<20
	l, err := Open(t.Context(), faulty, f.dir, f.opts)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.OpenSession(ana, orders)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(audit.New(evidence.KindSession, &evidence.Session{})); err != nil {
		t.Fatal(err)
	}
	faulty.SetFree(0)
	intent := &audit.Event{Kind: evidence.KindIntent, Exchange: 1, Decision: "allow", Meta: []byte("{}")}
	for until := time.Now().Add(5 * time.Second); ; {
		if _, err = s.Append(intent); err != nil || time.Now().After(until) {
			break
		}
		time.Sleep(time.Millisecond) // the free space is asked for now and then
	}
	if !errors.Is(err, journal.ErrFull) {
		t.Fatalf("a request on a full disk: %v", err)
	}
	r, err := s.Append(audit.NewClosing(evidence.KindSessionEnd, &evidence.SessionEnd{}))
	if err == nil {
		err = r.Wait(t.Context())
	}
	if err != nil {
		t.Errorf("the end of a session on a full disk: %v", err)
	}
	if err := l.Close(context.Background(), "test"); err != nil {
		t.Errorf("close on a full disk: %v", err)
	}
}

// TestClockSetBack: no entry is older than the one before it, whatever the
// clock did between two starts.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.open(t)
	l.mu.Lock()
	l.lastTime = time.Now().Add(time.Hour) // the clock was an hour ahead
	ahead := l.lastTime
	l.mu.Unlock()
	exchange(t, l, 1)
	if err := l.Close(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
	l = f.open(t)
	headers, _ := read(t, l)
	if last := headers[len(headers)-1].Time; last.Before(ahead.Truncate(time.Microsecond)) {
		t.Errorf("the last entry is of %v, an earlier one of %v", last, ahead)
	}
	if err := l.Close(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
}

// TestAppendAllocations bounds what an entry costs in memory.
func TestAppendAllocations(t *testing.T) {
	f := newFixture(t)
	l := f.open(t)
	s, err := l.OpenSession(ana, orders)
	if err != nil {
		t.Fatal(err)
	}
	e := &audit.Event{Kind: evidence.KindNote, Meta: []byte(`{"what":"x"}`)}
	n := testing.AllocsPerRun(500, func() {
		if _, err := s.Append(e); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%.1f allocations an entry", n)
	if n > 8 {
		t.Errorf("%v allocations an entry", n)
	}
	if err := l.Close(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
}
