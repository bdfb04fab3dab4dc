package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/journal"
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
	leaves map[uint64]bool // receipts that were waited for
	marks  []Stored
}

func (w *witness) copy() *witness {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := &witness{leaves: make(map[uint64]bool, len(w.leaves)), marks: append([]Stored(nil), w.marks...)}
	for i := range w.leaves {
		n.leaves[i] = true
	}
	return n
}

// work runs sessions that may be cut anywhere; errors end it.
func (w *witness) work(l *Ledger, rng *rand.Rand) {
	s, err := l.OpenSession(ana, orders)
	if err != nil {
		return
	}
	add := func(e *audit.Event) bool {
		r, err := s.Append(e)
		if err != nil {
			return false
		}
		if rng.IntN(3) > 0 {
			return true // nobody waits for this one
		}
		if r.Wait(context.Background()) != nil {
			return false
		}
		w.mu.Lock()
		w.leaves[l.Entries()-1] = true
		w.mu.Unlock()
		return true
	}
	if !add(audit.New(evidence.KindSession, &evidence.Session{
		Principal: evidence.Principal{Issuer: "ci", Name: "ana", ActorID: s.ActorID().String()},
		Target:    evidence.Target{TargetID: s.TargetID().String(), Name: "orders", Protocol: "postgres"},
	})) {
		return
	}
	n := uint64(rng.IntN(5))
	for i := uint64(1); i <= n; i++ {
		in := evidence.Intent{Op: "query", Text: "SELECT 1"}
		out := evidence.Outcome{Status: "ok"}
		if !add(&audit.Event{Kind: evidence.KindIntent, Exchange: i, Decision: "allow", Meta: audit.AppendIntent(nil, &in)}) {
			return
		}
		empty := [32]byte{}
		if !add(&audit.Event{Kind: evidence.KindOutcome, Exchange: i, Closing: true, Meta: audit.AppendOutcome(nil, &out, &empty)}) {
			return
		}
		if rng.IntN(4) == 0 {
			if cp, err := l.Checkpoint(context.Background()); err == nil {
				w.mu.Lock()
				w.marks = append(w.marks, cp)
				w.mu.Unlock()
			}
		}
	}
	e := audit.NewClosing(evidence.KindSessionEnd, &evidence.SessionEnd{Exchanges: n})
	add(e)
	if rng.IntN(2) == 0 {
		if cp, err := l.Checkpoint(context.Background()); err == nil {
			w.mu.Lock()
			w.marks = append(w.marks, cp)
			w.mu.Unlock()
		}
	}
}

// check compares an opened book with what was seen of it, and with itself.
func (w *witness) check(t *testing.T, f *fixture, l *Ledger, keys evidence.Signer, trust string) {
	t.Helper()
	headers, root := read(t, l)
	for i := range w.leaves {
		if i >= uint64(len(headers)) {
			t.Fatalf("entry %d was acknowledged, the book has %d", i, len(headers))
		}
	}
	type state struct{ open map[uint64]bool }
	sessions := make(map[evidence.ID]*state)
	for i := range headers {
		h := &headers[i]
		if h.Index != uint64(i) || i > 0 && h.Time.Before(headers[i-1].Time) {
			t.Fatalf("entry %d is out of order", i)
		}
		switch h.Kind {
		case evidence.KindSession:
			sessions[h.Session] = &state{make(map[uint64]bool)}
		case evidence.KindIntent:
			sessions[h.Session].open[h.Exchange] = true
		case evidence.KindOutcome:
			if !sessions[h.Session].open[h.Exchange] {
				t.Fatalf("entry %d: an outcome without its intent", i)
			}
			delete(sessions[h.Session].open, h.Exchange)
		case evidence.KindSessionEnd:
			if len(sessions[h.Session].open) > 0 {
				t.Fatalf("entry %d: the session ends with open intents", i)
			}
			delete(sessions, h.Session)
		}
	}
	if len(sessions) > 0 {
		t.Fatalf("%d sessions have no end", len(sessions))
	}
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
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 7))
			f := newFixture(t)
			f.opts.Journal.SegmentBytes = 4 << 10
			disk := crashfs.New(nil, seed)
			f.on(t, disk)
			seen := &witness{leaves: make(map[uint64]bool)}
			for range 6 {
				l, err := Open(t.Context(), disk, f.dir, f.opts)
				if err != nil {
					t.Fatalf("the book does not open after a crash: %v", err)
				}
				seen.check(t, f, l, keys, trust+"log "+f.opts.PublicKeys.Log+"\n")
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

// TestFaults fails every operation on the disk in turn, from Open to Close:
// there is an error or none, never a panic, and afterwards the book opens and is whole.
func TestFaults(t *testing.T) {
	t.Parallel()
	keys, trust := packKeys(t)
	total := 0
	for _, kind := range faultfs.Kinds() {
		for at := 0; at < 400; at++ {
			f := newFixture(t)
			disk := crashfs.New(nil, uint64(at))
			f.on(t, disk)
			faulty := faultfs.New(disk)
			faulty.FailAt(at, kind)
			seen := &witness{leaves: make(map[uint64]bool)}
			l, err := Open(t.Context(), faulty, f.dir, f.opts)
			if err == nil {
				rng := rand.New(rand.NewPCG(uint64(at), 3))
				for range 3 {
					seen.work(l, rng)
				}
				_ = l.Close(context.Background(), "test")
			}
			fired := faulty.Fired() > 0
			for _, after := range []*crashfs.FS{disk, disk.Crash(uint64(at))} {
				l, err := Open(t.Context(), after, f.dir, f.opts)
				if err != nil {
					t.Fatalf("%v at %s: the book does not open afterwards: %v", kind, faulty.Calls()[at], err)
				}
				if after != disk || at%4 == 0 {
					seen.check(t, f, l, keys, trust+"log "+f.opts.PublicKeys.Log+"\n")
				}
				if err := l.release(); err != nil {
					t.Fatal(err)
				}
				if after == disk {
					continue
				}
			}
			total++
			if !fired {
				break
			}
		}
	}
	t.Logf("%d faults", total)
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
