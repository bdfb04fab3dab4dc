package vfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/vfstest"
)

func TestOS(t *testing.T) {
	t.Parallel()
	vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return vfs.OS(), t.TempDir() })
}

func TestOSModes(t *testing.T) {
	t.Parallel()
	d := filepath.Join(t.TempDir(), "x", "y")
	if err := vfs.OS().MkdirAll(d); err != nil {
		t.Fatal(err)
	}
	f, err := vfs.OS().Create(filepath.Join(d, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{filepath.Dir(d): 0o700, d: 0o700, filepath.Join(d, "f"): 0o600} {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := st.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
}

// TestOSSyncs checks that syncs reach the kernel, by what it refuses: a pipe
// and a directory of the process file system cannot be synced.
func TestOSSyncs(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := vfs.OS().OpenFile(pipe)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("sync of a pipe: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := vfs.OS().SyncDir("/proc/self"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("sync of /proc/self: %v", err)
	}
	if err := vfs.OS().SyncDir(t.TempDir()); err != nil {
		t.Errorf("sync of a directory: %v", err)
	}
}
