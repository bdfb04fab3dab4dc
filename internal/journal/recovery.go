package journal

import (
	"errors"
	"fmt"
	"path"

	"github.com/gatebook/gatebook/internal/vfs"
)

// Recovery says what Open found and did.
type Recovery struct {
	// Entries is the number of payloads in the journal.
	Entries Seq
	// Known is how many of them the files or the caller knew to have been durable.
	Known Seq
	// Copied is the number of payloads above every mark in the files; Open
	// wrote them again into a new segment. 0 after a clean Close.
	Copied Seq
	// CutBytes is the length of what was cut off, from CutOffset of CutFile
	// to the last byte that is not zero. 0 means that nothing was cut.
	CutBytes int64
	// CutFile is the segment with the torn tail.
	CutFile string
	// CutOffset is where in CutFile the whole batches end.
	CutOffset int64
	// CutReason says what is wrong there; nil when nothing was cut.
	CutReason error
}

// found is a segment file as survey saw it.
type found struct {
	segment
	header
	size int64
}

// survey is the result of reading a journal's files, without any change.
type survey struct {
	segs []found
	last *scanned // of the last segment
	rec  Recovery
	base string // directory
}

// takeStock reads dir and applies the rules about damage. It writes nothing.
func takeStock(fsys vfs.FS, dir string, segments []Seq, o *Options) (*survey, error) {
	s := &survey{segs: make([]found, len(segments)), base: dir}
	for i, first := range segments {
		if err := s.readHeader(fsys, i, first); err != nil {
			return nil, err
		}
	}
	for i := range s.segs {
		if err := s.check(fsys, i, o); err != nil {
			return nil, err
		}
	}
	lastSeg := &s.segs[len(s.segs)-1]
	known := max(s.last.known, o.KnownDurable)
	if s.last.next < known {
		return nil, s.corruptTail(lastSeg, known, o)
	}
	s.rec = Recovery{Entries: s.last.next, Known: known}
	if s.last.junk > 0 {
		s.rec.CutBytes, s.rec.CutFile = s.last.junk, lastSeg.name
		s.rec.CutOffset, s.rec.CutReason = s.last.end, s.last.why
	}
	return s, nil
}

func (s *survey) corruptTail(f *found, known Seq, o *Options) error {
	why := s.last.why
	if why == nil {
		why = errors.New("the journal ends")
	}
	switch {
	case s.last.known > s.last.next:
		why = fmt.Errorf("%w, and the commit frame at offset %d proves that it was whole", why, s.last.behind)
	case known == o.KnownDurable:
		why = fmt.Errorf("%w, and the caller knows that it went on", why)
	}
	return &CorruptError{File: f.name, Offset: s.last.end, Index: s.last.next, Known: known, Err: why}
}

// readHeader reads the header of segment i and checks its link to the one
// before. A segment gets its name only after its header was synced, so a bad
// header is damage and never a torn tail.
func (s *survey) readHeader(fsys vfs.FS, i int, first Seq) error {
	f := &s.segs[i]
	f.segment = segment{first: first, name: path.Join(s.base, segmentName(first))}
	corrupt := func(err error) error {
		return &CorruptError{File: f.name, Index: first, Known: first, Err: err}
	}
	var h header
	err := withFile(fsys, f.name, func(win *window) error {
		f.size = win.size
		b, err := win.bytes(0, min(headerSize, win.size))
		if err != nil {
			return err
		}
		if h, err = parseHeader(b); err != nil {
			return corrupt(err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.header, f.segment.id = h, h.id
	if h.first != first {
		return corrupt(fmt.Errorf("header says that it begins at %d", h.first))
	}
	if i == 0 {
		if first != 0 || h.prevID != 0 {
			return corrupt(errors.New("the segments before it are missing"))
		}
		return nil
	}
	switch p := &s.segs[i-1]; {
	case h.journal != p.journal:
		return corrupt(errors.New("it belongs to another journal"))
	case h.prevID != p.header.id || h.prevSeq != p.header.first:
		return corrupt(errors.New("the segment before it is missing or is another one"))
	case h.prevEnd > p.size:
		return &CorruptError{
			File: p.name, Offset: p.size, Index: p.header.first, Known: first,
			Err: fmt.Errorf("it is shorter than the %d bytes that the next segment counts on", h.prevEnd),
		}
	}
	return nil
}

// check reads segment i as far as it counts.
func (s *survey) check(fsys vfs.FS, i int, o *Options) error {
	f := &s.segs[i]
	sealed := i+1 < len(s.segs)
	stop := int64(-1)
	if sealed {
		next := &s.segs[i+1].header
		stop = next.prevEnd
		f.end = stop
		if next.first <= o.SkipVerifyBelow {
			return nil
		}
	}
	return withFile(fsys, f.name, func(win *window) error {
		sc, err := scan(win, f.header, stop)
		if err != nil {
			return err
		}
		f.end, f.index = sc.end, sc.index
		if !sealed {
			s.last = sc
			return nil
		}
		next := &s.segs[i+1].header
		if sc.end == stop && sc.next == next.first && sc.chain == next.prev {
			return nil
		}
		why := sc.why
		if why == nil {
			why = errors.New("it does not end as the next segment says")
		}
		return &CorruptError{File: f.name, Offset: sc.end, Index: sc.next, Known: next.first, Err: why}
	})
}

// withFile opens a file for reading and calls fn with a window on all of it.
func withFile(fsys vfs.FS, name string, fn func(*window) error) error {
	f, err := fsys.Open(name)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("size of segment: %w", err)
	}
	if err := fn(&window{f: f, size: size}); err != nil {
		if !errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("read segment %s: %w", name, err)
		}
		return err
	}
	return nil
}

// catalogue returns the segments for readers.
func (s *survey) catalogue() []*segment {
	segs := make([]*segment, len(s.segs))
	for i := range s.segs {
		segs[i] = &s.segs[i].segment
	}
	return segs
}

// successor returns the header of the segment that continues the journal, and
// the batches that must be copied into it. If no payload of the last segment
// was known durable, the new one takes its name and so its place.
func (s *survey) successor() (h header, tail []kept) {
	last := &s.segs[len(s.segs)-1]
	w := writer{h: last.header, off: s.last.end, chain: s.last.chain}
	first := s.last.next
	tail = s.last.tail
	if len(tail) > 0 {
		first, w.off, w.chain = tail[0].first, tail[0].off, tail[0].prev
	}
	return w.next(first), tail
}
