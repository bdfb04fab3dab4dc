package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
)

const dir = "/data/journal"

// small options make rotation frequent.
func small() journal.Options {
	return journal.Options{SegmentBytes: 4 << 10, LowWater: -1, Reserve: 2 << 10}
}

func create(t testing.TB, fsys vfs.FS) {
	t.Helper()
	if err := errors.Join(fsys.MkdirAll("/data"), fsys.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	if err := journal.Create(fsys, dir); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, fsys vfs.FS, o journal.Options) (*journal.Log, *journal.Recovery) {
	t.Helper()
	l, rec, err := journal.Open(fsys, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return l, rec
}

func closeLog(t testing.TB, l *journal.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// add appends p and does not wait.
func add(t testing.TB, l *journal.Log, p []byte) journal.Ticket {
	t.Helper()
	k, err := l.Append(journal.Ordinary, func(dst []byte, _ journal.Seq) []byte { return append(dst, p...) })
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// put appends p and waits.
func put(t testing.TB, l *journal.Log, p []byte) {
	t.Helper()
	if err := add(t, l, p).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// payload is what tests store under seq; its length varies with it.
func payload(seq journal.Seq) []byte {
	b := fmt.Appendf(nil, "payload %d:", seq)
	for i := range int(seq*37) % 300 {
		b = append(b, byte(int(seq)+i))
	}
	return b
}

func all(t testing.TB, r *journal.Reader) (got [][]byte) {
	t.Helper()
	defer func() { _ = r.Close() }()
	for {
		_, p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, append([]byte(nil), p...))
	}
}

// checkAll checks that got begins with payload(0), payload(1) and so on.
func checkAll(t testing.TB, got [][]byte, want int) {
	t.Helper()
	if len(got) != want {
		t.Fatalf("read %d payloads, want %d", len(got), want)
	}
	for i, p := range got {
		if string(p) != string(payload(journal.Seq(i))) {
			t.Fatalf("payload %d is %q", i, p)
		}
	}
}

func TestAppendReadReopen(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(nil, 1)
	create(t, fsys)
	total := 0
	for round := range 5 {
		l, rec := open(t, fsys, small())
		if int(rec.Entries) != total || rec.Copied != 0 || rec.CutBytes != 0 {
			t.Fatalf("round %d: recovery %+v, want %d entries, nothing copied, nothing cut", round, rec, total)
		}
		for range 40 {
			put(t, l, payload(journal.Seq(total)))
			total++
		}
		checkAll(t, all(t, l.Read(0)), total)
		closeLog(t, l)
	}
	s, err := journal.OpenReadOnly(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	checkAll(t, all(t, s.Read(0)), total)
	if got := all(t, s.Read(150)); len(got) != total-150 || string(got[0]) != string(payload(150)) {
		t.Fatalf("reading from 150 gave %d payloads", len(got))
	}
}

func TestOpenMissing(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(nil, 1)
	if err := fsys.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, _, err := journal.Open(fsys, dir, small()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open of a missing journal: %v", err)
	}
	create(t, fsys)
	if err := journal.Create(fsys, dir); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second create: %v", err)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(nil, 1)
	create(t, fsys)
	l, _ := open(t, fsys, small())
	put(t, l, payload(0))
	closeLog(t, l)
	closeLog(t, l)
	_, err := l.Append(journal.Closing, func(dst []byte, _ journal.Seq) []byte { return dst })
	if !errors.Is(err, journal.ErrStopped) || !errors.Is(err, journal.ErrClosed) {
		t.Fatalf("append after close: %v", err)
	}
	if !errors.Is(l.Err(), journal.ErrStopped) {
		t.Fatalf("Err after close: %v", l.Err())
	}
	if err := l.Sync(context.WithoutCancel(t.Context())); err != nil && !errors.Is(err, journal.ErrStopped) {
		t.Fatal(err)
	}
}
