package index

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/gatebook/gatebook/internal/vfs"
)

// Rebuild makes the index again from a source that begins with entry 0, in a
// file beside the old one, which it then replaces. progress, if not nil, is
// told how many entries are in. When Rebuild returns an error the old index is
// as it was. The index must not be open: an open one would go on with a file
// that is gone.
func Rebuild(ctx context.Context, o Options, src Source, progress func(n uint64)) error {
	fresh := o
	fresh.Path += newSuffix
	fsys := vfs.OS()
	if err := prepareDir(fsys, o.Path); err != nil {
		return err
	}
	remove(fsys, fresh.Path)
	if err := fill(ctx, fresh, src, progress); err != nil {
		remove(fsys, fresh.Path)
		return err
	}
	// The old log goes before its database is replaced: SQLite would apply it
	// to the new one. A crash in between leaves an older index, or none, and
	// both are followed from where they stand.
	remove(fsys, o.Path)
	if err := fsys.Rename(fresh.Path, o.Path); err != nil {
		return fmt.Errorf("put the new index in place: %w", err)
	}
	return fsys.SyncDir(filepath.Dir(o.Path))
}

// Remove deletes an index that is not open. The next Open makes an empty one,
// which follows the book from its beginning.
func Remove(path string) error {
	fsys := vfs.OS()
	remove(fsys, path)
	remove(fsys, path+newSuffix)
	return fsys.SyncDir(filepath.Dir(path))
}

// remove deletes a database; the one that others are applied to goes first.
func remove(fsys vfs.FS, path string) {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		_ = fsys.Remove(path + suffix)
	}
}

// fill makes a new index and closes it.
func fill(ctx context.Context, o Options, src Source, progress func(n uint64)) (err error) {
	x, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	// Nothing is lost if this file does not survive a crash, and it takes the
	// place of the old one only when it is whole.
	if err := x.w.exec(ctx, "PRAGMA synchronous=OFF"); err != nil {
		return err
	}
	x.follow.Lock()
	defer x.follow.Unlock()
	for {
		_, end, err := x.batch(ctx, src, batchTime)
		if err != nil {
			return asRebuild(err)
		}
		if progress != nil {
			progress(x.Next())
		}
		if end {
			break
		}
	}
	return x.settle(ctx)
}

// settle moves everything from the log into the database, merges the search
// tables and syncs.
func (x *Index) settle(ctx context.Context) error {
	for _, sql := range []string{
		"INSERT INTO search (search) VALUES ('optimize')", "PRAGMA synchronous=FULL", "PRAGMA wal_checkpoint(TRUNCATE)",
	} {
		if err := x.w.exec(ctx, sql); err != nil {
			return err
		}
	}
	f, err := x.fs.Open(x.o.Path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
