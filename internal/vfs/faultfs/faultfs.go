// Package faultfs wraps a file system so that a test can fail any single
// operation. Every operation, reads and closes included, has an index in the
// order of the calls, so a test can run once to count them and then once for
// each index and kind of fault.
//
// It is for tests only. It is safe for concurrent use.
package faultfs

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/gatebook/gatebook/internal/vfs"
)

// Op names an operation of vfs.FS or vfs.File.
type Op string

// The operations, of FS first and then of File.
const (
	OpCreate      Op = "create"
	OpOpenFile    Op = "openfile"
	OpOpen        Op = "open"
	OpRename      Op = "rename"
	OpRemove      Op = "remove"
	OpMkdirAll    Op = "mkdirall"
	OpList        Op = "list"
	OpSyncDir     Op = "syncdir"
	OpFreeBytes   Op = "freebytes"
	OpLock        Op = "lock"
	OpReadAt      Op = "readat"
	OpWriteAt     Op = "writeat"
	OpClose       Op = "close"
	OpSync        Op = "sync"
	OpPreallocate Op = "preallocate"
	OpTruncate    Op = "truncate"
	OpSize        Op = "size"
)

// Kind says how an operation fails.
type Kind uint8

const (
	// None lets the operation through.
	None Kind = iota
	// EIO fails it without doing it. A sync that was not done loses the
	// pages for good where the wrapped file can tell (see Loser).
	EIO
	// NoSpace fails it with ENOSPC without doing it.
	NoSpace
	// Short writes the first half, then fails with EIO. Operations other
	// than writes fail as with EIO.
	Short
	// DoneEIO does the operation and reports EIO all the same.
	DoneEIO
)

// Kinds returns every kind of fault.
func Kinds() []Kind { return []Kind{EIO, NoSpace, Short, DoneEIO} }

func (k Kind) String() string {
	switch k {
	case None:
		return "none"
	case EIO:
		return "EIO"
	case NoSpace:
		return "ENOSPC"
	case Short:
		return "short"
	case DoneEIO:
		return "done+EIO"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

func (k Kind) err(c Call) error {
	e := syscall.EIO
	if k == NoSpace {
		e = syscall.ENOSPC
	}
	return fmt.Errorf("faultfs: %s: %w", c, e)
}

// Call is one operation.
type Call struct {
	Index int
	Op    Op
	Name  string // file or directory; for a rename the old name
}

func (c Call) String() string { return fmt.Sprintf("#%d %s %s", c.Index, c.Op, c.Name) }

// Loser is implemented by files that can lose their unsynced pages as Linux
// does after a failed writeback: they stay readable, a later Sync succeeds,
// and they never reach the disk.
type Loser interface{ LoseUnsynced() }

// FS is the wrapper.
type FS struct {
	inner vfs.FS

	mu    sync.Mutex
	calls []Call
	plan  func(Call) Kind
	fired int
	free  *uint64
}

var _ vfs.FS = (*FS)(nil)

// New wraps inner. Nothing fails until Plan or FailAt is called.
func New(inner vfs.FS) *FS { return &FS{inner: inner} }

// Plan makes f decide over every following call; nil stops all faults. f runs
// under a lock and must not call back.
func (s *FS) Plan(f func(Call) Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = f
}

// FailAt fails the one call with this index.
func (s *FS) FailAt(index int, k Kind) {
	s.Plan(func(c Call) Kind {
		if c.Index == index {
			return k
		}
		return None
	})
}

// FailOp fails every call of op whose name match accepts; a nil match accepts all.
func (s *FS) FailOp(op Op, k Kind, match func(name string) bool) {
	s.Plan(func(c Call) Kind {
		if c.Op == op && (match == nil || match(c.Name)) {
			return k
		}
		return None
	})
}

// SetFree makes FreeBytes report n.
func (s *FS) SetFree(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = &n
}

// Count returns the number of calls so far.
func (s *FS) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// Calls returns a copy of all calls so far.
func (s *FS) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.calls...)
}

// Fired returns how many calls were failed so far.
func (s *FS) Fired() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fired
}

func (s *FS) next(op Op, name string) (Kind, Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Call{Index: len(s.calls), Op: op, Name: name}
	s.calls = append(s.calls, c)
	k := None
	if s.plan != nil {
		k = s.plan(c)
	}
	if k != None {
		s.fired++
	}
	return k, c
}

// do runs call under the plan.
func (s *FS) do(op Op, name string, call func() error) error {
	k, c := s.next(op, name)
	switch k {
	case None:
		return call()
	case DoneEIO:
		return errors.Join(call(), k.err(c))
	default:
		return k.err(c)
	}
}

func (s *FS) open(op Op, name string, call func(string) (vfs.File, error)) (vfs.File, error) {
	var f vfs.File
	err := s.do(op, name, func() error {
		var err error
		f, err = call(name)
		return err
	})
	if err != nil {
		if f != nil {
			_ = f.Close() // the caller was told that there is no file
		}
		return nil, err
	}
	return &file{fs: s, name: name, inner: f}, nil
}

// Create implements vfs.FS.
func (s *FS) Create(name string) (vfs.File, error) { return s.open(OpCreate, name, s.inner.Create) }

// OpenFile implements vfs.FS.
func (s *FS) OpenFile(name string) (vfs.File, error) {
	return s.open(OpOpenFile, name, s.inner.OpenFile)
}

// Open implements vfs.FS.
func (s *FS) Open(name string) (vfs.File, error) { return s.open(OpOpen, name, s.inner.Open) }

// Rename implements vfs.FS.
func (s *FS) Rename(oldName, newName string) error {
	return s.do(OpRename, oldName, func() error { return s.inner.Rename(oldName, newName) })
}

// Remove implements vfs.FS.
func (s *FS) Remove(name string) error {
	return s.do(OpRemove, name, func() error { return s.inner.Remove(name) })
}

// MkdirAll implements vfs.FS.
func (s *FS) MkdirAll(name string) error {
	return s.do(OpMkdirAll, name, func() error { return s.inner.MkdirAll(name) })
}

// List implements vfs.FS.
func (s *FS) List(dir string) (names []string, err error) {
	err = s.do(OpList, dir, func() error {
		names, err = s.inner.List(dir)
		return err
	})
	if err != nil {
		return nil, err
	}
	return names, nil
}

// SyncDir implements vfs.FS.
func (s *FS) SyncDir(dir string) error {
	return s.do(OpSyncDir, dir, func() error { return s.inner.SyncDir(dir) })
}

// FreeBytes implements vfs.FS.
func (s *FS) FreeBytes(dir string) (n uint64, err error) {
	err = s.do(OpFreeBytes, dir, func() error {
		n, err = s.inner.FreeBytes(dir)
		return err
	})
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free != nil {
		n = *s.free
	}
	return n, nil
}

// Lock implements vfs.FS.
func (s *FS) Lock(name string) (c io.Closer, err error) {
	err = s.do(OpLock, name, func() error {
		c, err = s.inner.Lock(name)
		return err
	})
	if err != nil {
		if c != nil {
			_ = c.Close() // the caller was told that there is no lock
		}
		return nil, err
	}
	return c, nil
}

type file struct {
	fs    *FS
	name  string
	inner vfs.File
}

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.fs.do(OpReadAt, f.name, func() error {
		n, err = f.inner.ReadAt(p, off)
		return err
	})
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (n int, err error) {
	k, c := f.fs.next(OpWriteAt, f.name)
	switch k {
	case None:
		return f.inner.WriteAt(p, off)
	case Short:
		n, err = f.inner.WriteAt(p[:len(p)/2], off)
		return n, errors.Join(err, k.err(c))
	case DoneEIO:
		n, err = f.inner.WriteAt(p, off)
		return n, errors.Join(err, k.err(c))
	default:
		return 0, k.err(c)
	}
}

func (f *file) Sync() error {
	k, c := f.fs.next(OpSync, f.name)
	switch k {
	case None:
		return f.inner.Sync()
	case DoneEIO:
		return errors.Join(f.inner.Sync(), k.err(c))
	default:
		if l, ok := f.inner.(Loser); ok {
			l.LoseUnsynced()
		}
		return k.err(c)
	}
}

func (f *file) Preallocate(size int64) error {
	return f.fs.do(OpPreallocate, f.name, func() error { return f.inner.Preallocate(size) })
}

func (f *file) Truncate(size int64) error {
	return f.fs.do(OpTruncate, f.name, func() error { return f.inner.Truncate(size) })
}

func (f *file) Size() (n int64, err error) {
	err = f.fs.do(OpSize, f.name, func() error {
		n, err = f.inner.Size()
		return err
	})
	return n, err
}

// Close always closes the wrapped file: a descriptor is gone even when the
// system call reports an error.
func (f *file) Close() error {
	k, c := f.fs.next(OpClose, f.name)
	err := f.inner.Close()
	if k != None {
		err = errors.Join(err, k.err(c))
	}
	return err
}
