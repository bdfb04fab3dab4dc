package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/seal"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/vfs"
)

const origin = "gatebook.test/book"

type fixture struct {
	dir  string
	kek  secret.String
	opts Options
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{dir: t.TempDir(), kek: seal.NewKEK()}
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	f.opts = Options{KEK: f.kek, Signer: signer, PublicKeys: evidence.Key{Log: vkey}, Version: "test"}
	f.opts.Journal.SegmentBytes = 1 << 20
	f.opts.Journal.LowWater, f.opts.Journal.Reserve = -1, -1
	if err := Create(vfs.OS(), f.dir, origin, f.kek); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) open(t *testing.T) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), vfs.OS(), f.dir, f.opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var (
	ana    = &access.Principal{Issuer: "ci", Name: "ana", Subject: "ana"}
	orders = &access.Target{Name: "orders", Protocol: access.Postgres, Address: "db:5432"}
)

func exchange(t *testing.T, l *Ledger, n int) {
	t.Helper()
	s, err := l.OpenSession(ana, orders)
	if err != nil {
		t.Fatal(err)
	}
	add := func(e *audit.Event) {
		t.Helper()
		r, err := s.Append(e)
		if err == nil {
			err = r.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add(audit.New(evidence.KindSession, &evidence.Session{
		Origin: "gateway", Role: "default", Principal: evidence.Principal{Issuer: "ci", Name: "ana", ActorID: s.ActorID().String()},
		Target: evidence.Target{TargetID: s.TargetID().String(), Name: "orders", Protocol: "postgres"},
	}))
	for i := 1; i <= n; i++ {
		in := evidence.Intent{Op: "query", Text: fmt.Sprintf("SELECT %d", i), Rule: "r"}
		add(&audit.Event{Kind: evidence.KindIntent, Exchange: uint64(i), Decision: "allow", Meta: audit.AppendIntent(nil, &in)})
		raw := bytes.Repeat([]byte("row "), i*1000)
		d := sha256.Sum256(raw)
		out := evidence.Outcome{Status: "ok", Bytes: uint64(len(raw))}
		add(&audit.Event{Kind: evidence.KindOutcome, Exchange: uint64(i), Meta: audit.AppendOutcome(nil, &out, &d), Raw: raw})
	}
	add(audit.New(evidence.KindSessionEnd, &evidence.SessionEnd{Exchanges: uint64(n)}))
}

// read recomputes everything from the journal alone.
func read(t *testing.T, l *Ledger) (headers []evidence.Header, root tlog.Hash) {
	t.Helper()
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(ix []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(ix))
		for i, x := range ix {
			out[i] = hashes[x]
		}
		return out, nil
	})
	err := l.each(0, func(s *Scanner, e *Entry) error {
		if _, _, err := s.Body(e); err != nil {
			return err
		}
		more, err := tlog.StoredHashesForRecordHash(int64(len(headers)), tlog.RecordHash(e.Line), reader)
		hashes = append(hashes, more...)
		headers = append(headers, e.Header)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	root, err = tlog.TreeHash(int64(len(headers)), reader)
	if err != nil {
		t.Fatal(err)
	}
	return headers, root
}

func TestBookSurvivesRestarts(t *testing.T) {
	f := newFixture(t)
	for i := range 4 {
		l := f.open(t)
		exchange(t, l, 5+i)
		cp, err := l.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		headers, root := read(t, l)
		if got, want := cp.Size, uint64(len(headers)); got != want {
			t.Errorf("checkpoint of %d entries, the journal has %d", got, want)
		}
		if have, err := l.Root(cp.Size); err != nil || have != root {
			t.Errorf("root %v (%v), recomputed %v", have, err, root)
		}
		if !strings.Contains(cp.Note, root.String()) {
			t.Errorf("the signed note does not have the root:\n%s", cp.Note)
		}
		if err := l.Close(context.Background(), "test"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPG45OpenIntentsAreClosedAfterACrash(t *testing.T) {
	f := newFixture(t)
	l := f.open(t)
	s, err := l.OpenSession(ana, orders)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []*audit.Event{
		audit.New(evidence.KindSession, &evidence.Session{}),
		{Kind: evidence.KindIntent, Exchange: 1, Decision: "allow", Meta: []byte("{}")},
		{Kind: evidence.KindIntent, Exchange: 2, Decision: "deny", Meta: []byte("{}")},
		{Kind: evidence.KindIntent, Exchange: 3, Decision: "hold", Meta: []byte("{}")}, // nobody had ruled
		{Kind: evidence.KindIntent, Exchange: 4, Decision: "hold", Meta: []byte("{}")},
		{Kind: evidence.KindRelease, Exchange: 4, Meta: []byte("{}")},
	} {
		r, err := s.Append(e)
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
	if err := l.release(); err != nil { // no stop entry: as after a crash
		t.Fatal(err)
	}
	l = f.open(t)
	statuses := make(map[uint64]string)
	ended := false
	err = l.each(0, func(sc *Scanner, e *Entry) error {
		if e.Header.Session != s.ID() {
			return nil
		}
		_, body, err := sc.Body(e)
		if err != nil {
			return err
		}
		switch e.Header.Kind {
		case evidence.KindOutcome:
			var o evidence.Outcome
			if err := evidence.DecodeBody(body, &o); err != nil {
				return err
			}
			statuses[e.Header.Exchange] = o.Status
		case evidence.KindSessionEnd:
			ended = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if statuses[1] != "unknown" || statuses[2] != "denied" || statuses[3] != "denied" || statuses[4] != "unknown" || !ended {
		t.Errorf("outcomes %v, ended %v", statuses, ended)
	}
	if err := l.Close(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
}

func TestRollbackIsRefused(t *testing.T) {
	f := newFixture(t)
	l := f.open(t)
	exchange(t, l, 3)
	if err := l.Close(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
	// The tree file is derived: damage there is mended from the journal.
	tr, err := vfs.OS().OpenFile(f.dir + "/" + treeFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.WriteAt([]byte("damage"), 40); err != nil {
		t.Fatal(err)
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	l = f.open(t)
	if err := l.Close(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
	// An emptied journal beside its checkpoints is not accepted.
	names, err := vfs.OS().List(f.dir + "/" + journalDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := vfs.OS().Remove(f.dir + "/" + journalDir + "/" + n); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := Open(t.Context(), vfs.OS(), f.dir, f.opts); err == nil {
		_ = l.release()
		t.Fatal("a book without its journal was opened")
	}
}

func TestWrongKEKIsRefused(t *testing.T) {
	f := newFixture(t)
	f.opts.KEK = seal.NewKEK()
	if _, err := Open(t.Context(), vfs.OS(), f.dir, f.opts); err == nil || !strings.Contains(err.Error(), "key-encryption key") {
		t.Errorf("opened with another key-encryption key: %v", err)
	}
}

func TestHeartbeatWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		l := f.open(t)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(5 * time.Minute) // in the bubble's time
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		headers, _ := read(t, l)
		beats := 0
		for i, h := range headers {
			if h.Kind == evidence.KindHeartbeat {
				beats++
			}
			if i > 0 && h.Time.Sub(headers[i-1].Time) > 2*DefaultHeartbeat {
				t.Errorf("gap of %v before entry %d", h.Time.Sub(headers[i-1].Time), i)
			}
		}
		if beats < 8 {
			t.Errorf("%d heartbeats in 5 minutes", beats)
		}
		if err := l.Close(context.Background(), "test"); err != nil {
			t.Fatal(err)
		}
	})
}
