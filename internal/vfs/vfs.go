// Package vfs is the seam between Gatebook's durable files and the operating
// system. Everything that promises durability (journal, key store,
// checkpoints) reaches the disk through FS, so that tests can fail any single
// operation (faultfs) and take away whatever was not synced (crashfs).
//
// It must never buffer: a WriteAt that returned has been handed to the
// operating system, and only Sync makes it durable. An FS and its files are safe for
// concurrent use; whether concurrent WriteAt calls to one range make sense is
// the caller's affair.
package vfs

import (
	"errors"
	"io"
)

// ErrLocked is returned by FS.Lock when another process holds the lock.
var ErrLocked = errors.New("vfs: locked by another process")

// File is an open file. Offsets are bytes from the start of the file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer

	// Sync makes the data written so far, and the size needed to read it
	// back, durable (fdatasync). After Sync failed the state of every page
	// written since the last good Sync is unknown: the caller must not retry.
	Sync() error
	// Preallocate reserves disk space for the first size bytes and extends
	// the file to size; new bytes read as zero. It never shrinks a file.
	Preallocate(size int64) error
	// Truncate sets the size.
	Truncate(size int64) error
	// Size returns the current size.
	Size() (int64, error)
}

// FS is the set of operations the durable packages need. Names are slash
// separated paths; a relative name is relative to the process.
type FS interface {
	// Create makes a new file with mode 0600 for reading and writing. It
	// fails with an error matching fs.ErrExist if the name is taken. The
	// name is durable only after SyncDir of its directory.
	Create(name string) (File, error)
	// OpenFile opens an existing file for reading and writing.
	OpenFile(name string) (File, error)
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// Rename replaces newName atomically; durable after SyncDir.
	Rename(oldName, newName string) error
	// Remove deletes a file; durable after SyncDir.
	Remove(name string) error
	// MkdirAll makes a directory with mode 0700 and its parents.
	MkdirAll(name string) error
	// List returns the names (not paths) of the files in a directory in
	// ascending order.
	List(dir string) ([]string, error)
	// SyncDir makes creations, renames and removals in dir durable.
	SyncDir(dir string) error
	// FreeBytes returns the bytes an unprivileged writer can still allocate
	// on the file system that holds dir.
	FreeBytes(dir string) (uint64, error)
	// Lock takes an exclusive advisory lock on name, creating it if needed,
	// until the returned Closer is closed or the process ends. It returns
	// ErrLocked at once if another process has it.
	Lock(name string) (io.Closer, error)
}
