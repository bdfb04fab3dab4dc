package index

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatebook/gatebook/evidence"
)

// dump is every row of every table, in order of their keys, and what the
// search table finds.
func dump(t testing.TB, x *Index) []string {
	t.Helper()
	ctx := t.Context()
	c, err := x.connect(ctx, x.o.Path, "ro")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	var out []string
	each := func(label, sql string) {
		rows, err := c.c.QueryContext(ctx, sql, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		for row := make([]driver.Value, len(rows.Columns())); rows.Next(row) == nil; {
			out = append(out, fmt.Sprint(label, " ", row))
		}
	}
	for _, name := range objects() {
		switch {
		case strings.HasSuffix(name, "_row"), name == "statement", name == "state":
			each(name, "SELECT * FROM "+name+" ORDER BY 1, 2")
		}
	}
	for _, word := range append(testTables, "SELECT", "delete", "id", "spasse") {
		each("search "+word, "SELECT rowid FROM search('"+word+"') ORDER BY 1")
	}
	return out
}

func sameDump(t *testing.T, got, want []string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the indexes differ (-want +got):\n%.4000s", d)
	}
}

var errKilled = errors.New("killed")

// TestFollowedEqualsRebuilt takes random books in by random pieces, with
// sources that fail, transactions that are lost and restarts in between.
func TestFollowedEqualsRebuilt(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		b := newBook(seed)
		b.grow(3000)
		o := testOptions(t)
		rnd := rand.New(rand.NewPCG(seed, 2))
		x := openIndex(t, o)
		for x.Next() < uint64(len(b.entries)) {
			from := x.Next()
			until := min(from+1+rnd.Uint64N(700), uint64(len(b.entries)))
			src := b.from(max(from, 1)-1, until)
			switch rnd.IntN(4) {
			case 0: // the batch is lost with its transaction
				src.fail = errKilled
				if _, err := x.CatchUp(t.Context(), src); !errors.Is(err, errKilled) {
					t.Fatalf("got %v, want %v", err, errKilled)
				}
				// On a slow machine a batch may have ended before the failure.
				if x.Next() >= until {
					t.Fatalf("position %d after a batch that was lost at %d", x.Next(), until)
				}
			case 1: // a kill: what the files hold without an orderly close
				if _, err := x.CatchUp(t.Context(), src); err != nil {
					t.Fatal(err)
				}
				o = killed(t, o)
				x = openIndex(t, o)
			default:
				if _, err := x.CatchUp(t.Context(), src); err != nil {
					t.Fatal(err)
				}
			}
		}
		r := testOptions(t)
		if err := Rebuild(t.Context(), r, b.from(0, 0), nil); err != nil {
			t.Fatal(err)
		}
		y := openIndex(t, r)
		sameDump(t, dump(t, x), dump(t, y))
		if err := errors.Join(x.Check(t.Context()), y.Check(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// killed copies the files of an index that is open, as a killed process would leave them.
func killed(t *testing.T, o Options) Options {
	t.Helper()
	n := o
	n.Path = filepath.Join(t.TempDir(), "index", "index.db")
	if err := os.Mkdir(filepath.Dir(n.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		text, err := os.ReadFile(o.Path + suffix)
		if err == nil {
			err = os.WriteFile(n.Path+suffix, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestLogCutAnywhere cuts the log at random places: a position must never be
// there without its rows.
func TestLogCutAnywhere(t *testing.T) {
	t.Parallel()
	b := newBook(3)
	b.grow(1500)
	o := testOptions(t)
	x := openIndex(t, o)
	for until := uint64(100); until <= 1500; until += 100 {
		if _, err := x.CatchUp(t.Context(), b.from(x.Next(), until)); err != nil {
			t.Fatal(err)
		}
	}
	want := dump(t, indexed(t, b, testOptions(t)))
	log, err := os.ReadFile(o.Path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(9, 9))
	for range 8 {
		n := killed(t, o)
		if err := os.WriteFile(n.Path+"-wal", log[:rnd.IntN(len(log))], 0o600); err != nil {
			t.Fatal(err)
		}
		y, err := Open(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := y.CatchUp(t.Context(), b.from(y.Next(), 0)); err != nil {
			t.Fatal(err)
		}
		sameDump(t, dump(t, y), want)
		if err := y.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestForgetEqualsRebuilt compares an index that forgot a session with one
// that was made after the erasure.
func TestForgetEqualsRebuilt(t *testing.T) {
	t.Parallel()
	b := newBook(5)
	b.grow(1000)
	o := testOptions(t)
	x := indexed(t, b, o)
	secret := b.session("bot-a", "orders")
	secret.outcome(secret.intent("SELECT sekretword FROM vault", "allow"), evidence.Outcome{Status: "error", Code: "42P01", Rows: 2, Bytes: 9})
	b.grow(2000)
	if _, err := x.CatchUp(t.Context(), b.from(x.Next(), 0)); err != nil {
		t.Fatal(err)
	}
	for id := range map[evidence.ID]bool{secret.h.Session: true, b.entries[5].h.Session: true} {
		b.erased[id] = true
		if err := x.Forget(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	secret.outcome(secret.intent("SELECT more", "deny"), evidence.Outcome{Status: "ok"})
	if _, err := x.CatchUp(t.Context(), b.from(x.Next(), 0)); err != nil {
		t.Fatal(err)
	}
	sameDump(t, dump(t, x), dump(t, indexed(t, b, testOptions(t))))
	s, err := x.Session(t.Context(), secret.h.Session)
	if err != nil || s.Body != bodyErased || s.Exchanges != 2 || s.Principal != "" {
		t.Errorf("erased session %+v, %v", s, err)
	}
	if err := x.Forget(t.Context(), evidence.NewID()); err != nil {
		t.Error(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	noCanary(t, o, "sekretword", "sekret")
}

// noCanary searches the index's files for texts.
func noCanary(t *testing.T, o Options, texts ...string) {
	t.Helper()
	files, err := os.ReadDir(filepath.Dir(o.Path))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(filepath.Dir(o.Path), f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if strings.Contains(string(content), text) {
				t.Errorf("%s holds %q", f.Name(), text)
			}
		}
	}
}

// TestWhatStaysOut looks for tokens, claims, parameters and answers in the
// files, and for statements where their text is off.
func TestWhatStaysOut(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		b := newBook(11)
		b.grow(2000)
		o := testOptions(t)
		o.Text = on
		x := indexed(t, b, o)
		noCanary(t, o, canary)
		if !on {
			noCanary(t, o, "customer_id", "interval", "spasse")
		}
		list, err := x.Exchanges(t.Context(), Filter{Op: "execute", Limit: 1})
		if err != nil || len(list) != 1 || (list[0].Text != "") != on || list[0].TextBytes == 0 || list[0].Parameters != 3 {
			t.Errorf("text %v: %+v, %v", on, list, err)
		}
	}
}

// TestFollow takes entries in while they are added, and ends with its context.
func TestFollow(t *testing.T) {
	t.Parallel()
	b := newBook(4)
	b.grow(500)
	total := uint64(len(b.entries))
	x := openIndex(t, testOptions(t))
	ctx, cancel := context.WithCancel(t.Context())
	wake, done := make(chan struct{}, 1), make(chan error, 1)
	src := &gated{bookSource: b.from(0, 0), more: make(chan uint64, 10)}
	go func() { done <- x.Follow(ctx, func(uint64) (Source, error) { return src, nil }, wake) }()
	for n := uint64(100); n <= total; n += 100 {
		src.more <- n
		wake <- struct{}{}
		for deadline := time.Now().Add(10 * time.Second); x.Next() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("position %d, want %d", x.Next(), n)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if err := x.Follow(t.Context(), b.open, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Follow after Close: %v", err)
	}
}

// gated shows only the entries that more allows.
type gated struct {
	*bookSource
	more chan uint64
}

func (g *gated) Next() (evidence.Header, []byte, bool, error) {
	if g.until == uint64(len(g.b.entries)) && g.next == 0 {
		g.until = 0
	}
	select {
	case g.until = <-g.more:
	default:
	}
	return g.bookSource.Next()
}

// TestOtherBook notices a book that is not the one that was indexed.
func TestOtherBook(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	b.grow(300)
	o := testOptions(t)
	x := indexed(t, b, o)
	if got := x.Book(); got.Origin != testOrigin || got.Next != uint64(len(b.entries)) || len(got.Digest) != 64 {
		t.Errorf("book %+v", got)
	}
	other := newBook(2)
	other.grow(500)
	rolledBack := newBook(1)
	rolledBack.grow(200)
	for name, b := range map[string]*book{"other": other, "rolled back": rolledBack} {
		if err := x.Follow(t.Context(), b.open, nil); !errors.Is(err, ErrRebuild) {
			t.Errorf("%s: got %v, want ErrRebuild", name, err)
		}
	}
	if _, err := x.CatchUp(t.Context(), other.from(x.Next()-1, 0)); !errors.Is(err, ErrRebuild) {
		t.Errorf("got %v, want ErrRebuild", err)
	}
	if _, err := x.CatchUp(t.Context(), other.from(x.Next()+1, 0)); err == nil {
		t.Error("a gap was taken in")
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"origin": func(o *Options) { o.Origin = "other.test/book" },
		"text":   func(o *Options) { o.Text = false },
	} {
		changed := o
		change(&changed)
		if _, err := Open(t.Context(), changed); !errors.Is(err, ErrRebuild) {
			t.Errorf("%s: got %v, want ErrRebuild", name, err)
		}
	}
}
