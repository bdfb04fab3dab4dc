package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/gatebook/gatebook/internal/vfs"
)

// Create makes dir and a new empty journal in it. It fails with an error
// matching fs.ErrExist if there is one. When it returns nil the journal and
// the name of dir are durable.
func Create(fsys vfs.FS, dir string) error {
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("create journal: %w", err)
	}
	l, err := list(fsys, dir)
	if err == nil || errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("create journal in %s: %w", dir, fs.ErrExist)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := removeTemps(fsys, dir, l.temps); err != nil {
		return err
	}
	h := header{id: randomID()}
	_, _ = rand.Read(h.journal[:]) // never fails
	temp := path.Join(dir, "create"+tempSuffix)
	s, err := makeSpare(fsys, temp, headerSize)
	if err != nil {
		return err
	}
	w := newWriter(h, s, newChainer())
	err = w.begin(nil, nil)
	if err == nil {
		err = w.publish(fsys, dir, temp)
	}
	if err == nil {
		err = fsys.SyncDir(path.Dir(path.Clean(dir)))
	}
	if err := errors.Join(err, w.f.Close()); err != nil {
		return fmt.Errorf("create journal: %w", err)
	}
	return nil
}

// begin writes the header and the batches to copy.
func (w *writer) begin(win *window, tail []kept) error {
	var b [headerSize]byte
	w.h.put(b[:])
	if _, err := w.f.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("write segment header: %w", err)
	}
	return w.copyTail(win, tail)
}

func removeTemps(fsys vfs.FS, dir string, temps []string) error {
	for _, name := range temps {
		if err := fsys.Remove(path.Join(dir, name)); err != nil {
			return fmt.Errorf("remove left-over file: %w", err)
		}
	}
	return nil
}

// Open opens an existing journal for appending, after repairing its tail, and
// says what it found. A missing one is an error that matches fs.ErrNotExist,
// since a book must not begin by accident; damage below what was durable is
// ErrCorrupt. Open takes no lock on the directory: the caller makes sure that
// nobody else has it open for appending.
//
// When it returns, everything that Recovery counts is synced.
func Open(fsys vfs.FS, dir string, o Options) (*Log, *Recovery, error) {
	o = o.withDefaults()
	ls, err := list(fsys, dir)
	if err != nil {
		return nil, nil, err
	}
	s, err := takeStock(fsys, dir, ls.segments, &o)
	if err != nil {
		return nil, nil, err
	}
	if err := removeTemps(fsys, dir, ls.temps); err != nil {
		return nil, nil, err
	}
	w, err := s.startSegment(fsys, o.SegmentBytes, o.Reserve)
	if err != nil {
		return nil, nil, err
	}
	segs := s.catalogue()
	old := segs[len(segs)-1]
	if w.h.first == old.first {
		segs = segs[:len(segs)-1]
	} else {
		old.end = w.h.prevEnd
		trim(fsys, old.name, old.end)
	}
	open := &segment{first: w.h.first, id: w.h.id, name: w.name, end: w.off}
	if len(s.last.tail) > 0 {
		s.rec.Copied = s.rec.Entries - w.h.first
	}
	l := newLog(fsys, dir, o, w, append(segs, open), s.rec.Entries)
	if err := l.start(); err != nil {
		return nil, nil, fmt.Errorf("open journal: %w", err)
	}
	return l, &s.rec, nil
}

// startSegment makes the segment that continues the journal, with what has to
// be copied, and syncs it.
func (s *survey) startSegment(fsys vfs.FS, size, fallback int64) (*writer, error) {
	h, tail := s.successor()
	need := int64(headerSize + commitSize)
	if len(tail) > 0 {
		need += s.last.end - tail[0].off
	}
	temp := path.Join(s.base, "open"+tempSuffix)
	spare, err := makeSpare(fsys, temp, max(size, need))
	if noSpace(err) {
		// A gate on a full disk must still be able to close what is open.
		spare, err = makeSpare(fsys, temp, need+fallback)
	}
	if err != nil {
		return nil, err
	}
	w := newWriter(h, spare, newChainer())
	last := &s.segs[len(s.segs)-1]
	err = withFile(fsys, last.name, func(win *window) error { return w.begin(win, tail) })
	if err == nil {
		err = w.publish(fsys, s.base, temp)
	}
	if err != nil {
		return nil, fmt.Errorf("begin segment: %w", errors.Join(err, w.f.Close()))
	}
	return w, nil
}

// trim gives back the preallocated rest of a segment that was just superseded.
// It is about space alone, so errors do not matter.
func trim(fsys vfs.FS, name string, end int64) {
	f, err := fsys.OpenFile(name)
	if err != nil {
		return
	}
	if size, err := f.Size(); err == nil && size > end {
		_ = f.Truncate(end)
	}
	_ = f.Close()
}
