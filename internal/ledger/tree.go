package ledger

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatebook/gatebook/internal/vfs"
)

// tree keeps the hashes of the RFC 6962 tree in the order of
// tlog.StoredHashIndex in a flat file. The file is derived: it is never
// synced, checked against the last checkpoint at start, and made again from the journal if it does not fit.
type tree struct {
	f    vfs.File
	n    int64       // leaves in the tree
	have int64       // stored hashes in the file
	tail []tlog.Hash // hashes after those, not yet written
}

func openTree(f vfs.File) *tree { return &tree{f: f} }

func (t *tree) close() error { return errors.Join(t.flush(), t.f.Close()) }

// resume takes the file's hashes for a tree of n leaves as given.
func (t *tree) resume(n int64) error {
	t.n, t.have, t.tail = n, tlog.StoredHashCount(n), nil
	size, err := t.f.Size()
	if err != nil {
		return err
	}
	if size < t.have*tlog.HashSize {
		return fmt.Errorf("tree file has %d bytes, %d leaves need %d", size, n, t.have*tlog.HashSize)
	}
	return nil
}

// ReadHashes implements tlog.HashReader.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		switch {
		case x < t.have:
			if _, err := t.f.ReadAt(hashes[i][:], x*tlog.HashSize); err != nil {
				return nil, err
			}
		case x < t.have+int64(len(t.tail)):
			hashes[i] = t.tail[x-t.have]
		default:
			return nil, fmt.Errorf("tree has no hash %d", x)
		}
	}
	return hashes, nil
}

// add appends leaves.
func (t *tree) add(leaves []tlog.Hash) error {
	for _, h := range leaves {
		hashes, err := tlog.StoredHashesForRecordHash(t.n, h, t)
		if err != nil {
			return err
		}
		t.tail = append(t.tail, hashes...)
		t.n++
		if len(t.tail) >= 1<<15 {
			if err := t.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes the tail to the file.
func (t *tree) flush() error {
	if len(t.tail) == 0 {
		return nil
	}
	buf := make([]byte, 0, len(t.tail)*tlog.HashSize)
	for i := range t.tail {
		buf = append(buf, t.tail[i][:]...)
	}
	if _, err := t.f.WriteAt(buf, t.have*tlog.HashSize); err != nil {
		return err
	}
	t.have += int64(len(t.tail))
	t.tail = t.tail[:0]
	return nil
}

// root returns the root of the first n leaves.
func (t *tree) root(n int64) (tlog.Hash, error) {
	return tlog.TreeHash(n, t)
}
