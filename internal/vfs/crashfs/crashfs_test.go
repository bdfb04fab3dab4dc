package crashfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
	"github.com/gatebook/gatebook/internal/vfs/vfstest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		vfstest.Run(t, func(t *testing.T) (vfs.FS, string) {
			f := crashfs.New(nil, 1)
			return f, mkdir(t, f, "/d")
		})
	})
	t.Run("backed", func(t *testing.T) {
		vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return crashfs.New(vfs.OS(), 1), t.TempDir() })
	})
}

func mkdir(t *testing.T, f vfs.FS, d string) string {
	t.Helper()
	if err := errors.Join(f.MkdirAll(d), f.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t *testing.T, f vfs.File, b []byte, off int64) {
	t.Helper()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, fsys vfs.FS, name string) ([]byte, bool) {
	t.Helper()
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	n, err := f.Size()
	b := make([]byte, n)
	if err == nil && n > 0 {
		_, err = f.ReadAt(b, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b, true
}

// TestWhatSurvives checks that synced bytes always survive, and that for
// unsynced ones loss, survival, tearing and reordering all happen.
func TestWhatSurvives(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(nil, 1)
	d := mkdir(t, fsys, "/d")
	f, err := fsys.Create(d + "/f")
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, bytes.Repeat([]byte("s"), 2048), 0)
	if err := errors.Join(f.Sync(), fsys.SyncDir(d)); err != nil {
		t.Fatal(err)
	}
	write(t, f, bytes.Repeat([]byte("x"), 1024), 512)
	write(t, f, []byte("y"), 600)
	seen := map[string]int{}
	for seed := range uint64(400) {
		b, ok := read(t, fsys.Crash(seed), d+"/f")
		if !ok || len(b) != 2048 || string(b[:512]) != string(bytes.Repeat([]byte("s"), 512)) || b[1600] != 's' {
			t.Fatalf("seed %d: synced bytes were lost", seed)
		}
		seen[string([]byte{b[512], b[600], b[1024]})]++
	}
	for _, want := range []string{"sss", "xyx", "xxx", "xys", "ssx"} {
		if seen[want] == 0 {
			t.Errorf("state %s never came up: %v", want, seen)
		}
	}
	if len(seen) > 6 {
		t.Errorf("impossible states: %v", seen)
	}
}

func TestDirectoryOperations(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(nil, 1)
	d := mkdir(t, fsys, "/d")
	names := []string{"/d/a", "/d/b", "/d/c"}
	f, err := fsys.Create(d + "/a")
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, []byte("one"), 0)
	if err := errors.Join(f.Sync(), fsys.SyncDir(d), fsys.Rename("/d/a", "/d/b")); err != nil {
		t.Fatal(err)
	}
	if f, err = fsys.Create("/d/c"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for seed := range uint64(200) {
		state := ""
		for _, n := range names {
			if b, ok := read(t, fsys.Crash(seed), n); ok {
				state += n[3:] + string(b) + " "
			}
		}
		seen[state] = true
	}
	for _, want := range []string{"aone ", "bone ", "aone c ", "bone c "} {
		if !seen[want] {
			t.Errorf("state %q never came up", want)
		}
	}
	if len(seen) != 4 {
		t.Errorf("states %v", seen)
	}
}

// TestNewDirectory checks that a directory goes with all that is in it unless
// the one that holds it was synced.
func TestNewDirectory(t *testing.T) {
	t.Parallel()
	for _, synced := range []bool{false, true} {
		fsys := crashfs.New(nil, 1)
		if err := fsys.MkdirAll("/a/b"); err != nil {
			t.Fatal(err)
		}
		f, err := fsys.Create("/a/b/f")
		if err != nil {
			t.Fatal(err)
		}
		write(t, f, []byte("one"), 0)
		err = errors.Join(f.Sync(), fsys.SyncDir("/a/b"), fsys.SyncDir("/a"))
		if synced {
			err = errors.Join(err, fsys.SyncDir("/"))
		}
		if err != nil {
			t.Fatal(err)
		}
		lost := 0
		for seed := range uint64(100) {
			after := fsys.Crash(seed)
			b, ok := read(t, after, "/a/b/f")
			if ok && string(b) != "one" {
				t.Fatalf("seed %d: content %q", seed, b)
			}
			if _, err := after.List("/a/b"); (err == nil) != ok {
				t.Fatalf("seed %d: the file is there: %v, its directory: %v", seed, ok, err)
			}
			if !ok {
				lost++
			}
		}
		if synced && lost > 0 || !synced && (lost == 0 || lost == 100) {
			t.Errorf("lost %d times of 100, synced: %v", lost, synced)
		}
	}
}

// TestNeverSynced checks that a synced name alone does not hold a file.
func TestNeverSynced(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(nil, 1)
	d := mkdir(t, fsys, "/d")
	if _, err := fsys.Create(d + "/f"); err != nil {
		t.Fatal(err)
	}
	if err := fsys.SyncDir(d); err != nil {
		t.Fatal(err)
	}
	lost := 0
	for seed := range uint64(100) {
		if _, ok := read(t, fsys.Crash(seed), d+"/f"); !ok {
			lost++
		}
	}
	if lost == 0 || lost == 100 {
		t.Errorf("lost %d times of 100", lost)
	}
}

// TestCutAt checks that a cut leaves in the real files what was synced, of the
// rest any part, and that all of it comes up: nothing, all, torn, a part of a file that grew, a name.
func TestCutAt(t *testing.T) {
	t.Parallel()
	type end struct{}
	seen := map[string]bool{}
	for seed := range uint64(300) {
		d := t.TempDir()
		fsys := crashfs.New(vfs.OS(), seed)
		f, err := fsys.Create(d + "/f")
		if err != nil {
			t.Fatal(err)
		}
		write(t, f, bytes.Repeat([]byte("s"), 1024), 0)
		if err := errors.Join(f.Sync(), fsys.SyncDir(d)); err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if _, ok := recover().(end); !ok {
					t.Fatal("not cut")
				}
			}()
			fsys.CutAt(3, func() { panic(end{}) })
			if _, err := fsys.Create(d + "/g"); err != nil {
				t.Fatal(err)
			}
			write(t, f, bytes.Repeat([]byte("x"), 1024), 512)
			_ = f.Sync()
			t.Fatal("synced")
		}()
		b, _ := read(t, vfs.OS(), d+"/f")
		if len(b) < 1024 || !bytes.Equal(b[:512], bytes.Repeat([]byte("s"), 512)) {
			t.Fatalf("seed %d: synced bytes were lost", seed)
		}
		state := string(b[512])
		if len(b) > 1024 {
			state += "0" + string(b[1024])
		}
		_, ok := read(t, vfs.OS(), d+"/g")
		seen[state] = true
		if ok {
			seen["name"] = true
		}
	}
	for _, want := range []string{"s", "x", "s0x", "x0x", "s0\x00", "x0\x00", "name"} {
		if !seen[want] {
			t.Errorf("state %q never came up: %v", want, seen)
		}
	}
}

// TestBacked checks that the real files hold what was synced, and of the rest
// nothing but whole sectors.
func TestBacked(t *testing.T) {
	t.Parallel()
	d := t.TempDir()
	fsys := crashfs.New(vfs.OS(), 1)
	f, err := fsys.Create(d + "/f")
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, bytes.Repeat([]byte("s"), 1024), 0)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, ok := read(t, vfs.OS(), d+"/f"); ok {
		t.Fatal("the name is real before the directory was synced")
	}
	if err := fsys.SyncDir(d); err != nil {
		t.Fatal(err)
	}
	if b, _ := read(t, vfs.OS(), d+"/f"); !bytes.Equal(b, bytes.Repeat([]byte("s"), 1024)) {
		t.Fatalf("the real file has %d bytes", len(b))
	}
	early := 0
	for range 50 {
		write(t, f, bytes.Repeat([]byte("x"), 1024), 0)
		b, _ := read(t, vfs.OS(), d+"/f")
		if b[0] == 'x' || b[512] == 'x' {
			early++
		}
		write(t, f, bytes.Repeat([]byte("s"), 1024), 0)
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if early == 0 || early == 50 {
		t.Errorf("%d of 50 writes reached the file early", early)
	}
	if err := fsys.Remove(d + "/f"); err != nil {
		t.Fatal(err)
	}
	if _, ok := read(t, vfs.OS(), d+"/f"); !ok {
		t.Fatal("removed before the directory was synced")
	}
	if err := errors.Join(fsys.SyncDir(d), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, ok := read(t, vfs.OS(), d+"/f"); ok {
		t.Fatal("not removed")
	}
}
