package ledger

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/audit"
)

// TestLargeBook measures export and verification of GATEBOOK_LARGE entries.
func TestLargeBook(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("GATEBOOK_LARGE"))
	if err != nil {
		t.Skip("set GATEBOOK_LARGE to a number of entries")
	}
	f := newFixture(t)
	f.opts.Journal.SegmentBytes = 64 << 20
	keys, trust := packKeys(t)
	l := f.open(t)
	begin := time.Now()
	raw := make([]byte, 700)
	empty := [32]byte{}
	for l.Stats(); int(l.Entries()) < n; {
		s, err := l.OpenSession(ana, orders)
		if err != nil {
			t.Fatal(err)
		}
		add := func(e *audit.Event) {
			if _, err := s.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		add(audit.New(evidence.KindSession, &evidence.Session{
			Origin: "gateway", Principal: evidence.Principal{Issuer: "ci", Name: "ana", ActorID: s.ActorID().String()},
			Target: evidence.Target{TargetID: s.TargetID().String(), Name: "orders", Protocol: "postgres"},
		}))
		for i := uint64(1); i <= 500; i++ {
			in := evidence.Intent{Op: "query", Text: "SELECT * FROM orders WHERE id = " + strconv.FormatUint(i, 10)}
			out := evidence.Outcome{Status: "ok", Bytes: 700}
			add(&audit.Event{Kind: evidence.KindIntent, Exchange: i, Decision: "allow", Meta: audit.AppendIntent(nil, &in)})
			add(&audit.Event{Kind: evidence.KindOutcome, Exchange: i, Meta: audit.AppendOutcome(nil, &out, &empty), Raw: raw})
		}
		r, err := s.Append(audit.New(evidence.KindSessionEnd, &evidence.SessionEnd{Exchanges: 500}))
		if err == nil {
			err = r.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries written in %v", l.Entries(), time.Since(begin))
	peak := watch(t)
	begin = time.Now()
	path := filepath.Join(t.TempDir(), "p.zip")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	scope, closing, err := l.Plan(Query{})
	if err != nil {
		t.Fatal(err)
	}
	spool, err := NewSpool(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Export(t.Context(), scope, closing, Query{}, spool); err != nil {
		t.Fatal(err)
	}
	if err := evidence.Pack(file, spool, evidence.Custody{Exported: time.Now()}, origin, keys); err != nil {
		t.Fatal(err)
	}
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("exported %d entries to %d bytes in %v, heap at most %d MiB", scope.Size, size, time.Since(begin), peak())
	if err := l.Close(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
	tr, err := evidence.ParseTrust([]byte(trust + "log " + f.opts.PublicKeys.Log + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	peak = watch(t)
	begin = time.Now()
	r, err := evidence.Verify(file, size, evidence.Options{Trust: tr})
	if err != nil || r.Failed() {
		t.Fatalf("%v, %v", r.Problems, err)
	}
	t.Logf("verified in %v, heap at most %d MiB", time.Since(begin), peak())
	_ = file.Close()
}

// watch follows the heap until the function it returns is called.
func watch(t *testing.T) func() uint64 {
	t.Helper()
	var most atomic.Uint64
	done := make(chan struct{})
	go func() {
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapAlloc))
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(done); return most.Load() >> 20 }
}
