package faultfs_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
	"github.com/gatebook/gatebook/internal/vfs/vfstest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return faultfs.New(vfs.OS()), t.TempDir() })
}

// TestEveryOperation fails each operation once in each way.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	for _, k := range faultfs.Kinds() {
		want := syscall.EIO
		if k == faultfs.NoSpace {
			want = syscall.ENOSPC
		}
		fsys := faultfs.New(crashfs.New(nil, 1))
		if err := fsys.MkdirAll("/d"); err != nil {
			t.Fatal(err)
		}
		f, err := fsys.Create("/d/f")
		if err != nil {
			t.Fatal(err)
		}
		b := []byte("abcd")
		for op, call := range map[faultfs.Op]func() error{
			faultfs.OpCreate:      func() error { _, err := fsys.Create("/d/new"); return err },
			faultfs.OpOpenFile:    func() error { _, err := fsys.OpenFile("/d/f"); return err },
			faultfs.OpOpen:        func() error { _, err := fsys.Open("/d/f"); return err },
			faultfs.OpRename:      func() error { return fsys.Rename("/d/f", "/d/g") },
			faultfs.OpRemove:      func() error { return fsys.Remove("/d/f") },
			faultfs.OpMkdirAll:    func() error { return fsys.MkdirAll("/d") },
			faultfs.OpList:        func() error { _, err := fsys.List("/d"); return err },
			faultfs.OpSyncDir:     func() error { return fsys.SyncDir("/d") },
			faultfs.OpFreeBytes:   func() error { _, err := fsys.FreeBytes("/d"); return err },
			faultfs.OpLock:        func() error { _, err := fsys.Lock("/d/l"); return err },
			faultfs.OpReadAt:      func() error { _, err := f.ReadAt(b, 0); return err },
			faultfs.OpWriteAt:     func() error { _, err := f.WriteAt(b, 0); return err },
			faultfs.OpSync:        f.Sync,
			faultfs.OpPreallocate: func() error { return f.Preallocate(9) },
			faultfs.OpTruncate:    func() error { return f.Truncate(9) },
			faultfs.OpSize:        func() error { _, err := f.Size(); return err },
		} {
			fsys.FailOp(op, k, nil)
			if err := call(); !errors.Is(err, want) {
				t.Errorf("%v %v: %v", op, k, err)
			}
			if calls := fsys.Calls(); calls[len(calls)-1].Op != op {
				t.Errorf("%v is recorded as %v", op, calls[len(calls)-1])
			}
		}
		fsys.FailAt(fsys.Count(), k)
		if err := f.Close(); !errors.Is(err, want) {
			t.Errorf("close %v: %v", k, err)
		}
		if fsys.Fired() != 17 {
			t.Errorf("%d faults, want 17", fsys.Fired())
		}
	}
}

func TestShortAndDone(t *testing.T) {
	t.Parallel()
	for k, want := range map[faultfs.Kind]string{
		faultfs.EIO: "", faultfs.NoSpace: "", faultfs.Short: "ab", faultfs.DoneEIO: "abcd",
	} {
		inner := crashfs.New(nil, 1)
		fsys := faultfs.New(inner)
		f, err := fsys.Create("f")
		if err != nil {
			t.Fatal(err)
		}
		fsys.FailOp(faultfs.OpWriteAt, k, func(name string) bool { return name == "f" })
		n, err := f.WriteAt([]byte("abcd"), 0)
		if n != len(want) || err == nil {
			t.Errorf("%v: wrote %d, %v", k, n, err)
		}
		if !vfstest.Same(t, inner, "f", []byte(want)) {
			t.Errorf("%v: content differs", k)
		}
	}
}

// TestLostSync checks that a sync that was not done loses the pages for good.
func TestLostSync(t *testing.T) {
	t.Parallel()
	for _, k := range []faultfs.Kind{faultfs.EIO, faultfs.DoneEIO} {
		inner := crashfs.New(nil, 1)
		fsys := faultfs.New(inner)
		f, err := fsys.Create("f")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("abcd"), 0); err != nil {
			t.Fatal(err)
		}
		fsys.FailOp(faultfs.OpSync, k, nil)
		if err := f.Sync(); err == nil {
			t.Fatal("sync did not fail")
		}
		fsys.Plan(nil)
		if err := errors.Join(f.Sync(), fsys.SyncDir(".")); err != nil {
			t.Fatal(err)
		}
		want := "\x00\x00\x00\x00"
		if k == faultfs.DoneEIO {
			want = "abcd"
		}
		for seed := range uint64(20) {
			if !vfstest.Same(t, inner.Crash(seed), "f", []byte(want)) {
				t.Fatalf("%v: content after a crash differs", k)
			}
		}
	}
}
