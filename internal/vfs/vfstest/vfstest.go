// Package vfstest is the conformance suite of vfs.FS. Every implementation
// runs it; it is imported from tests only.
package vfstest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"testing"

	"github.com/gatebook/gatebook/internal/vfs"
)

// Run checks an implementation. open returns a file system and an existing,
// empty directory in it, fresh for every call.
func Run(t *testing.T, open func(t *testing.T) (vfs.FS, string)) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, vfs.FS, string)
	}{
		{"read and write", readWrite},
		{"sizes", sizes},
		{"create twice", createTwice},
		{"missing files", missing},
		{"read only", readOnly},
		{"rename", rename},
		{"remove open file", removeOpen},
		{"directories", directories},
		{"lock", lock},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys, dir := open(t)
			c.test(t, fsys, dir)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, fsys vfs.FS, name, content string) vfs.File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.WriteAt([]byte(content), 0)
	must(t, err)
	return f
}

func content(t *testing.T, f vfs.File) string {
	t.Helper()
	n, err := f.Size()
	must(t, err)
	b := make([]byte, n)
	if m, err := f.ReadAt(b, 0); m != int(n) || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("read %d of %d bytes: %v", m, n, err)
	}
	return string(b)
}

func readWrite(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	f := create(t, fsys, name, "hello")
	_, err := f.WriteAt([]byte("world"), 1000)
	must(t, err)
	want := "hello" + string(make([]byte, 995)) + "world"
	if got := content(t, f); got != want {
		t.Errorf("content %q", got)
	}
	b := make([]byte, 10)
	if n, err := f.ReadAt(b, 1000); n != 5 || !errors.Is(err, io.EOF) {
		t.Errorf("read across the end: %d, %v", n, err)
	}
	if n, err := f.ReadAt(b, 2000); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read behind the end: %d, %v", n, err)
	}
	must(t, f.Sync())
	must(t, f.Close())
	must(t, fsys.SyncDir(dir))
	g, err := fsys.Open(name)
	must(t, err)
	if got := content(t, g); got != want {
		t.Errorf("content after reopening %q", got)
	}
	must(t, g.Close())
}

func sizes(t *testing.T, fsys vfs.FS, dir string) {
	f := create(t, fsys, path.Join(dir, "a"), "hello")
	want := func(n int64, s string) {
		t.Helper()
		if got, err := f.Size(); err != nil || got != n {
			t.Errorf("size %d, %v, want %d", got, err, n)
		}
		if got := content(t, f); got != s {
			t.Errorf("content %q, want %q", got, s)
		}
	}
	must(t, f.Preallocate(2))
	want(5, "hello")
	must(t, f.Preallocate(8))
	want(8, "hello\x00\x00\x00")
	must(t, f.Truncate(2))
	want(2, "he")
	must(t, f.Preallocate(4))
	want(4, "he\x00\x00")
	must(t, f.Truncate(6))
	want(6, "he\x00\x00\x00\x00")
	must(t, f.Close())
}

func createTwice(t *testing.T, fsys vfs.FS, dir string) {
	f := create(t, fsys, path.Join(dir, "a"), "x")
	must(t, f.Close())
	if _, err := fsys.Create(path.Join(dir, "a")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second create: %v", err)
	}
}

func missing(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "none")
	for op, call := range map[string]func() error{
		"open":     func() error { _, err := fsys.Open(name); return err },
		"openfile": func() error { _, err := fsys.OpenFile(name); return err },
		"rename":   func() error { return fsys.Rename(name, name+"2") },
		"remove":   func() error { return fsys.Remove(name) },
		"list":     func() error { _, err := fsys.List(name); return err },
		"syncdir":  func() error { return fsys.SyncDir(name) },
		"create":   func() error { _, err := fsys.Create(path.Join(name, "a")); return err },
	} {
		if err := call(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func readOnly(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	f := create(t, fsys, name, "x")
	must(t, f.Close())
	r, err := fsys.Open(name)
	must(t, err)
	if _, err := r.WriteAt([]byte("y"), 0); err == nil {
		t.Error("wrote to a file opened for reading")
	}
	must(t, r.Close())
	w, err := fsys.OpenFile(name)
	must(t, err)
	_, err = w.WriteAt([]byte("y"), 1)
	must(t, err)
	if got := content(t, w); got != "xy" {
		t.Errorf("content %q", got)
	}
	must(t, w.Close())
	if _, err := w.WriteAt([]byte("z"), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if err := w.Sync(); err == nil {
		t.Error("sync after close")
	}
}

func rename(t *testing.T, fsys vfs.FS, dir string) {
	a, b := path.Join(dir, "a"), path.Join(dir, "b")
	fa, fb := create(t, fsys, a, "of a"), create(t, fsys, b, "of b")
	must(t, fsys.Rename(a, b))
	_, err := fa.WriteAt([]byte("OF"), 0)
	must(t, err)
	must(t, fa.Sync())
	must(t, fsys.SyncDir(dir))
	g, err := fsys.Open(b)
	must(t, err)
	if got := content(t, g); got != "OF a" {
		t.Errorf("content of the new name %q", got)
	}
	if got := content(t, fb); got != "of b" {
		t.Errorf("content of the replaced file %q", got)
	}
	for _, f := range []vfs.File{fa, fb, g} {
		must(t, f.Close())
	}
	if _, err := fsys.Open(a); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name: %v", err)
	}
}

func removeOpen(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	f := create(t, fsys, name, "x")
	must(t, fsys.Remove(name))
	if got := content(t, f); got != "x" {
		t.Errorf("content of the removed file %q", got)
	}
	g := create(t, fsys, name, "new")
	must(t, f.Sync())
	must(t, fsys.SyncDir(dir))
	if got := content(t, g); got != "new" {
		t.Errorf("content of the new file %q", got)
	}
	must(t, errors.Join(f.Close(), g.Close()))
}

func directories(t *testing.T, fsys vfs.FS, dir string) {
	sub := path.Join(dir, "x", "y")
	must(t, fsys.MkdirAll(sub))
	must(t, fsys.MkdirAll(sub))
	for _, n := range []string{"b", "c", "a"} {
		must(t, create(t, fsys, path.Join(sub, n), n).Close())
	}
	got, err := fsys.List(sub)
	must(t, err)
	if !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("list %q", got)
	}
	must(t, fsys.SyncDir(sub))
	if free, err := fsys.FreeBytes(sub); err != nil || free == 0 {
		t.Errorf("free bytes %d, %v", free, err)
	}
}

func lock(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "lock")
	c, err := fsys.Lock(name)
	must(t, err)
	if _, err := fsys.Lock(name); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	must(t, c.Close())
	c, err = fsys.Lock(name)
	must(t, err)
	must(t, c.Close())
}

// Same reports whether a file holds want; for tests of single implementations.
func Same(t *testing.T, fsys vfs.FS, name string, want []byte) bool {
	t.Helper()
	f, err := fsys.Open(name)
	must(t, err)
	defer func() { _ = f.Close() }()
	return bytes.Equal([]byte(content(t, f)), want)
}
