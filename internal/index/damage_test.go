package index

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// closedIndex returns the options of an index of b that is closed.
func closedIndex(t *testing.T, b *book) Options {
	t.Helper()
	o := testOptions(t)
	if err := indexed(t, b, o).Close(); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestFileModes looks at the modes of everything that is made.
func TestFileModes(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	b.grow(500)
	o := testOptions(t)
	x := indexed(t, b, o)
	if _, err := query(t, x, "SELECT count(*) FROM sessions", Limits{}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		dir := filepath.Dir(o.Path)
		if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if info, err := f.Info(); err != nil || info.Mode() != 0o600 {
				t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
			}
		}
		tag, err := os.ReadFile(filepath.Join(dir, cacheTag))
		if err != nil || !strings.HasPrefix(string(tag), "Signature: 8a477f597d28d172789f06886806bc55") {
			t.Errorf("tag %q, %v", tag, err)
		}
		t.Log(files)
	}
	check()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	check()
	if err := Rebuild(t.Context(), o, b.from(0, 0), nil); err != nil {
		t.Fatal(err)
	}
	openIndex(t, o)
	check()
}

// TestForeignDirectory refuses to tag a directory with other files as a cache.
func TestForeignDirectory(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(o.Path), "book.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "book.json") {
		t.Errorf("got %v, want a refusal that names the file", err)
	}
}

// TestDamagedFiles damages the file in many ways. Open, or whatever meets the
// damage later, says that the index must be made again; nothing panics.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	b.grow(1500)
	whole := closedIndex(t, b)
	content, err := os.ReadFile(whole.Path)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(5, 5))
	fill := func(c []byte) []byte {
		for i := range c {
			c[i] = byte(rnd.Uint32())
		}
		return c
	}
	type damage struct {
		name string
		do   func(c []byte) []byte
		must bool // Open must notice
	}
	tests := []damage{
		{"noise", func(c []byte) []byte { return fill(c) }, true},
		{"text", func([]byte) []byte {
			return []byte("this is no database, but it is long enough to be taken for one at first sight")
		}, true},
		{"one byte", func(c []byte) []byte { return c[:1] }, true},
		{"half", func(c []byte) []byte { return c[:len(c)/2] }, true},
		{"half a page more", func(c []byte) []byte { return c[:len(c)/2+4000] }, true},
		{"version", func(c []byte) []byte { c[63]++; return c }, true},
		{"application", func(c []byte) []byte { c[68]++; return c }, true},
	}
	for range 12 {
		tests = append(tests, damage{"a page of noise", func(c []byte) []byte {
			at := rnd.IntN(len(c)/8192) * 8192
			fill(c[at : at+8192])
			return c
		}, false})
	}
	for _, tt := range tests {
		o := testOptions(t)
		if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(o.Path, tt.do(append([]byte(nil), content...)), 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := Open(t.Context(), o)
		if err == nil {
			// A page of noise may hit one that is free.
			_, err = query(t, x, "SELECT count(*), max(text) FROM exchanges", Limits{})
			err = errors.Join(err, x.Check(t.Context()), x.Close())
			if tt.must {
				t.Errorf("%s: Open saw nothing; later: %v", tt.name, err)
			}
			if err == nil {
				continue
			}
		}
		if !errors.Is(err, ErrRebuild) || !strings.Contains(err.Error(), "gatebook index rebuild") {
			t.Errorf("%s: got %v, want ErrRebuild", tt.name, err)
		}
		if err := Rebuild(t.Context(), o, b.from(0, 0), nil); err != nil {
			t.Errorf("%s: rebuild: %v", tt.name, err)
			continue
		}
		y := openIndex(t, o)
		if y.Next() != uint64(len(b.entries)) {
			t.Errorf("%s: rebuilt to %d", tt.name, y.Next())
		}
		_ = y.Close()
	}
}

// TestForeignDatabase refuses a good database that is not an index.
func TestForeignDatabase(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	b.grow(200)
	for _, sql := range []string{
		"DROP VIEW sessions", "DROP VIEW exchanges; CREATE VIEW exchanges AS SELECT 1", "DELETE FROM state", "UPDATE state SET next = -1",
		"UPDATE state SET digest = ''", "DROP INDEX exchange_time",
	} {
		o := testOptions(t)
		x := indexed(t, b, o)
		for _, one := range strings.Split(sql, "; ") {
			if err := x.w.exec(t.Context(), one); err != nil {
				t.Fatal(err)
			}
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), o); !errors.Is(err, ErrRebuild) {
			t.Errorf("%s: got %v, want ErrRebuild", sql, err)
		}
	}
}

// TestDeletedFiles deletes files of a closed and of an open index.
func TestDeletedFiles(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	b.grow(800)
	o := killed(t, indexed(t, b, testOptions(t)).o)
	if err := os.Remove(o.Path); err != nil {
		t.Fatal(err)
	}
	x := openIndex(t, o) // the log of the lost file must not be applied
	if x.Next() != 0 {
		t.Errorf("position %d of an index that is gone", x.Next())
	}
	if _, err := x.CatchUp(t.Context(), b.from(0, 400)); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(o.Path + suffix); err != nil {
			t.Fatal(err)
		}
	}
	// An open one may go on with files that have no name; it must not panic.
	_, _ = x.CatchUp(t.Context(), b.from(x.Next(), 0))
	if _, err := query(t, x, "SELECT 1", Limits{}); err == nil {
		t.Error("a query found a file that is gone")
	}
	_ = x.Close()
	sameDump(t, dump(t, indexed(t, b, o)), dump(t, indexed(t, b, testOptions(t))))
}

// TestFull stops when there is no room, keeps what it has, and goes on when there is.
func TestFull(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	b.grow(4000)
	o := testOptions(t)
	o.MaxBytes = 800 << 10
	x := openIndex(t, o)
	var err error
	var e *sqlite.Error
	for until := uint64(200); err == nil && until <= 4000; until += 200 {
		_, err = x.CatchUp(t.Context(), b.from(x.Next(), until))
	}
	if !errors.As(err, &e) || e.Code()&0xff != sqlite3.SQLITE_FULL || errors.Is(err, ErrRebuild) {
		t.Fatalf("got %v, want SQLITE_FULL", err)
	}
	if x.Next() == 0 {
		t.Error("nothing was indexed")
	}
	if err := x.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := query(t, x, "SELECT count(*) FROM exchanges", Limits{}); err != nil {
		t.Error(err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	o.MaxBytes = 0
	sameDump(t, dump(t, caughtUp(t, b, o)), dump(t, indexed(t, b, testOptions(t))))
}

func caughtUp(t *testing.T, b *book, o Options) *Index {
	t.Helper()
	x := openIndex(t, o)
	if _, err := x.CatchUp(t.Context(), b.from(x.Next(), 0)); err != nil {
		t.Fatal(err)
	}
	return x
}

// TestRebuildThatFails leaves the old index as it was.
func TestRebuildThatFails(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	b.grow(1000)
	o := closedIndex(t, b)
	src := b.from(0, 500)
	src.fail = errKilled
	if err := Rebuild(t.Context(), o, src, nil); !errors.Is(err, errKilled) {
		t.Fatalf("got %v, want %v", err, errKilled)
	}
	x := openIndex(t, o)
	if x.Next() != uint64(len(b.entries)) {
		t.Errorf("position %d, want %d", x.Next(), len(b.entries))
	}
	if names, err := filepath.Glob(o.Path + newSuffix + "*"); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}
