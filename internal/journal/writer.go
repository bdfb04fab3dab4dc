package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"syscall"

	"github.com/gatebook/gatebook/internal/vfs"
)

// writer is the end of the open segment. It belongs to whoever leads.
type writer struct {
	h     header
	f     vfs.File
	name  string // empty until the segment has its name
	size  int64  // preallocated
	off   int64
	chain chain

	sums  *chainer
	heads []byte
}

// spareFile is a preallocated file without content. Its owner closes it.
type spareFile struct {
	f    vfs.File
	name string
	size int64
}

// makeSpare creates and preallocates a file. It syncs it, so that running out
// of space shows now and the first sync of the segment has less to do.
func makeSpare(fsys vfs.FS, name string, size int64) (*spareFile, error) {
	f, err := fsys.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	if err = f.Preallocate(size); err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close() // it is empty
		_ = fsys.Remove(name)
		return nil, fmt.Errorf("preallocate %s: %w", name, err)
	}
	return &spareFile{f: f, name: name, size: size}, nil
}

// drop closes and removes the file. It holds nothing, and Open removes what is
// left over, so errors do not matter.
func (s *spareFile) drop(fsys vfs.FS) {
	if s != nil {
		_ = s.f.Close()
		_ = fsys.Remove(s.name)
	}
}

// noSpace says whether err means a full disk and not a broken one.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func randomID() uint64 {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // never fails
		if id := le.Uint64(b[:]); id != 0 {
			return id
		}
	}
}

// newWriter returns a writer at the start of a fresh file.
func newWriter(h header, s *spareFile, sums *chainer) *writer {
	return &writer{h: h, f: s.f, size: s.size, off: headerSize, chain: h.prev, sums: sums}
}

// next returns the header of the segment that follows w and begins at first.
// If w holds no payload, the new segment takes its name and so its place.
func (w *writer) next(first Seq) header {
	h := w.h
	h.id, h.first = randomID(), first
	if first > w.h.first {
		h.prevID, h.prevSeq, h.prevEnd, h.prev = w.h.id, w.h.first, w.off, w.chain
	}
	return h
}

// seal makes b, whose first 88 bytes are free and whose data frames have
// length and index, a batch for the place where w stands. durable is the mark.
func (w *writer) seal(b []byte, first Seq, count int, durable Seq) commit {
	w.heads = w.heads[:0]
	for off := commitSize; off < len(b); {
		end := off + frameSize + pad(int(le.Uint32(b[off:])))
		le.PutUint32(b[off+4:], w.sums.frameSum(w.h.id, b[off:end]))
		w.heads = append(w.heads, b[off:off+frameSize]...)
		off = end
	}
	c := commit{
		segment: w.h.id, off: w.off, first: first, durable: durable,
		count: uint32(count), size: int64(len(b) - commitSize), prev: w.chain, //nolint:gosec // bounded by the queue
	}
	c.put(b, w.sums, w.heads)
	return c
}

// advance accounts for a batch that was written.
func (w *writer) advance(c commit) {
	w.off += commitSize + c.size
	w.chain = c.sum
}

// publish syncs the file and gives it the name of its segment. Only then may
// anything in it count as safe. The name comes after the sync, so that a
// segment with a name always has a whole header.
func (w *writer) publish(fsys vfs.FS, dir, temp string) error {
	if err := w.f.Sync(); err != nil {
		return fmt.Errorf("sync new segment: %w", err)
	}
	name := path.Join(dir, segmentName(w.h.first))
	if err := fsys.Rename(temp, name); err != nil {
		return fmt.Errorf("name new segment: %w", err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("sync journal directory: %w", err)
	}
	w.name = name
	return nil
}

// retire gives back what was preallocated and not used, and closes the file.
func (w *writer) retire() error {
	err := w.f.Truncate(w.off)
	if err := errors.Join(err, w.f.Close()); err != nil {
		return fmt.Errorf("close sealed segment: %w", err)
	}
	return nil
}

// copyTail writes the batches of tail, read from win, into w.
func (w *writer) copyTail(win *window, tail []kept) error {
	for _, k := range tail {
		b, err := win.bytes(k.off, commitSize)
		if err != nil {
			return err
		}
		m, err := parseCommit(b)
		if err != nil {
			return err
		}
		b, err = win.bytes(k.off, commitSize+m.size)
		if err != nil {
			return err
		}
		c := w.seal(b, m.first, int(m.count), w.h.first)
		if _, err := w.f.WriteAt(b, w.off); err != nil {
			return fmt.Errorf("copy batch: %w", err)
		}
		w.advance(c)
	}
	return nil
}
