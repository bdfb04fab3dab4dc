package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gatebook/gatebook/internal/vfs"
)

const (
	segmentSuffix = ".seg"
	tempSuffix    = ".tmp"
	indexEvery    = 256 << 10 // bytes between two index points
)

func segmentName(first Seq) string { return fmt.Sprintf("%020d%s", uint64(first), segmentSuffix) }

// parseSegmentName returns the first sequence number of a segment's name.
func parseSegmentName(name string) (Seq, error) {
	n, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 10, 64)
	if err != nil || segmentName(Seq(n)) != name {
		return 0, fmt.Errorf("%q is not the name of a segment", name)
	}
	return Seq(n), nil
}

// CorruptError is the detail of ErrCorrupt: where the damage is, and that the
// payloads below Known had been durable.
type CorruptError struct {
	File   string
	Offset int64
	Index  Seq // the first payload that cannot be read
	Known  Seq
	Err    error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("journal: corrupt: %s at offset %d, payload %d of %d known to have been durable: %v; "+
		"do not repair it in place: keep the directory as it is, restore the file from a copy of this very journal, "+
		"and if there is none, begin a successor book that names the loss", e.File, e.Offset, e.Index, e.Known, e.Err)
}

// Unwrap makes errors.Is find both ErrCorrupt and the cause.
func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }

// point says where a batch starts, so that a reader need not walk a whole segment.
type point struct {
	first Seq
	off   int64
}

// segment is what the process knows of a segment file. first, id and name
// never change; the rest is guarded by catalog.mu.
type segment struct {
	first Seq
	id    uint64
	name  string // with directory
	end   int64  // offset up to which the bytes are safe to read
	index []point
}

func (s *segment) addPoint(p point) {
	if n := len(s.index); n == 0 || p.off-s.index[n-1].off >= indexEvery {
		s.index = append(s.index, p)
	}
}

// catalog is the list of segments that readers use. Its lock is the innermost
// one: nothing else is locked or called while it is held.
type catalog struct {
	fs  vfs.FS
	dir string

	mu   sync.Mutex
	segs []*segment
	safe Seq // payloads below may be read
}

// view is where a reader finds a payload.
type view struct {
	seg   *segment
	end   int64 // safe bytes of the segment
	limit Seq   // payloads of the segment that count and are safe end here
	start point
	safe  Seq
}

// find returns a view of the segment that holds seq.
func (c *catalog) find(seq Seq) (view, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := view{safe: c.safe}
	if seq >= c.safe {
		return v, false
	}
	i, found := slices.BinarySearchFunc(c.segs, seq, func(s *segment, q Seq) int {
		return compareSeq(s.first, q)
	})
	if !found {
		i--
	}
	v.seg, v.end, v.limit = c.segs[i], c.segs[i].end, c.safe
	if i+1 < len(c.segs) {
		v.limit = c.segs[i+1].first
	}
	v.start = point{first: v.seg.first, off: headerSize}
	j, found := slices.BinarySearchFunc(v.seg.index, seq, func(p point, q Seq) int {
		return compareSeq(p.first, q)
	})
	if !found {
		j--
	}
	if j >= 0 {
		v.start = v.seg.index[j]
	}
	return v, true
}

func compareSeq(a, b Seq) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// listed is what a directory holds.
type listed struct {
	segments []Seq
	temps    []string
}

func list(fsys vfs.FS, dir string) (l listed, err error) {
	names, err := fsys.List(dir)
	if err != nil {
		return l, fmt.Errorf("list journal: %w", err)
	}
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, tempSuffix):
			l.temps = append(l.temps, name)
		case strings.HasSuffix(name, segmentSuffix):
			first, err := parseSegmentName(name)
			if err != nil {
				return l, &CorruptError{File: path.Join(dir, name), Err: err}
			}
			l.segments = append(l.segments, first)
		}
	}
	if len(l.segments) == 0 {
		return l, fmt.Errorf("open journal in %s: it holds no segment: %w", dir, fs.ErrNotExist)
	}
	return l, nil
}

// window reads a file through a buffer. The bytes that it returns are valid
// until the next call.
type window struct {
	f    io.ReaderAt
	size int64 // bytes from here on are never read
	base int64
	buf  []byte
}

const windowSize = 256 << 10

var errShort = errors.New("file ends")

// bytes returns n bytes at off. It takes no more memory than the file is long.
func (w *window) bytes(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > w.size || n > w.size-off {
		return nil, errShort
	}
	if off >= w.base && off+n <= w.base+int64(len(w.buf)) {
		return w.buf[off-w.base:][:n], nil
	}
	want := min(max(n, windowSize), w.size-off)
	if int64(cap(w.buf)) < want {
		w.buf = make([]byte, want)
	}
	w.buf, w.base = w.buf[:want], off
	if m, err := w.f.ReadAt(w.buf, off); m < int(want) {
		w.buf = w.buf[:0]
		if err == nil || errors.Is(err, io.EOF) {
			err = errShort
		}
		return nil, err
	}
	return w.buf[:n], nil
}
