package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS returns the file system of the operating system. Files are made with
// mode 0600 and directories with 0700, whatever the umask allows beyond that.
func OS() FS { return osFS{} }

type osFS struct{}

var _ FS = osFS{}

func (osFS) Create(name string) (File, error) {
	return openOS(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (osFS) OpenFile(name string) (File, error) { return openOS(name, os.O_RDWR) }

func (osFS) Open(name string) (File, error) { return openOS(name, os.O_RDONLY) }

func (osFS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) MkdirAll(name string) error { return os.MkdirAll(name, 0o700) }

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// SyncDir uses fsync, not fdatasync: names are metadata.
func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) FreeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(dir, &st) }); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return st.Bavail * uint64(st.Bsize), nil //nolint:gosec // a block size is positive
}

// Lock uses flock, which the kernel releases when the process ends in
// whatever way, so a crash leaves no stale lock behind.
func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
		}
		return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
	}
	return f, nil
}

// osFile adds to os.File the calls it lacks. fdatasync goes through one
// prepared closure, since a closure per call would be an allocation for every
// group commit.
type osFile struct {
	*os.File

	mu       sync.Mutex // held during fdatasync; guards syncErr
	conn     syscall.RawConn
	syncErr  error
	syncCall func(fd uintptr)
}

func openOS(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	o := &osFile{File: f}
	o.conn, err = f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	o.syncCall = func(fd uintptr) {
		for {
			o.syncErr = unix.Fdatasync(int(fd))
			if !errors.Is(o.syncErr, unix.EINTR) {
				return
			}
		}
	}
	return o, nil
}

func (o *osFile) Sync() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.conn.Control(o.syncCall); err != nil {
		return err
	}
	if o.syncErr != nil {
		return &fs.PathError{Op: "fdatasync", Path: o.Name(), Err: o.syncErr}
	}
	return nil
}

func (o *osFile) Preallocate(size int64) error {
	old, err := o.Size()
	if err != nil || size <= 0 {
		return err
	}
	// Mode 0 extends the file as well, but never shrinks it.
	call := func(fd uintptr) {
		err = retry(func() error { return unix.Fallocate(int(fd), 0, 0, size) })
	}
	if cerr := o.conn.Control(call); cerr != nil {
		return cerr
	}
	if err == nil {
		return nil
	}
	if size > old {
		// Give back what a fallocate that ran out of space had taken.
		_ = o.Truncate(old)
	}
	return &fs.PathError{Op: "fallocate", Path: o.Name(), Err: err}
}

func (o *osFile) Size() (int64, error) {
	st, err := o.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
