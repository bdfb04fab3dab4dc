package journal

import (
	"errors"
	"fmt"
	"io"

	"github.com/gatebook/gatebook/internal/vfs"
)

// Reader reads payloads in order, beside the writer. It checks everything it
// reads and never returns a payload that is not yet safe. It belongs to one
// goroutine.
type Reader struct {
	cat  *catalog
	next Seq
	at   view
	f    vfs.File // of at.seg; nil when none is open
	cur  cursor
	err  error // sticky; not io.EOF
}

// Read returns a reader whose first payload is from, which may lie ahead. It
// must be closed, and may outlive the Log.
func (l *Log) Read(from Seq) *Reader { return l.cat.read(from) }

func (c *catalog) read(from Seq) *Reader {
	return &Reader{cat: c, next: from, cur: cursor{h: newChainer()}}
}

// Next returns the next payload, which is valid until the next call. At the
// end of what is safe it returns io.EOF, and later calls may return more.
// Damage is an error that matches ErrCorrupt; like every error but io.EOF it
// is final.
func (r *Reader) Next() (Seq, []byte, error) {
	if r.err != nil {
		return 0, nil, r.err
	}
	payload, err := r.advance()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			r.err = err
		}
		return 0, nil, err
	}
	seq := r.next
	r.next++
	return seq, payload, nil
}

func (r *Reader) advance() ([]byte, error) {
	if r.f == nil || r.next >= r.at.limit {
		if err := r.move(); err != nil {
			return nil, err
		}
	}
	for {
		if r.cur.left == 0 {
			if err := r.cur.begin(); err != nil {
				return nil, r.explain(err)
			}
			continue
		}
		skip := r.cur.next < r.next
		payload, err := r.cur.frame(skip)
		if err != nil {
			return nil, r.explain(err)
		}
		if !skip {
			return payload, nil
		}
	}
}

// move looks where the next payload is and opens its segment if it is not
// open. It gives up the window, whose end may have been read too early.
func (r *Reader) move() error {
	v, ok := r.cat.find(r.next)
	if !ok {
		return io.EOF
	}
	if r.f != nil && v.seg == r.at.seg {
		r.at = v
		r.cur.win.size = v.end
		return nil
	}
	if err := r.Close(); err != nil {
		return err
	}
	f, err := r.cat.fs.Open(v.seg.name)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	r.f, r.at = f, v
	h := r.cur.h
	r.cur = cursor{
		win: &window{f: f, size: v.end}, segment: v.seg.id, h: h,
		off: v.start.off, next: v.start.first,
	}
	return nil
}

func (r *Reader) explain(err error) error {
	if d := (damage{}); errors.As(err, &d) {
		return &CorruptError{
			File: r.at.seg.name, Offset: r.cur.off, Index: r.cur.next, Known: r.at.limit, Err: d.err,
		}
	}
	return fmt.Errorf("read segment: %w", err)
}

// Close releases the file. The reader opens it again if it is used further.
func (r *Reader) Close() error {
	if r.f == nil {
		return nil
	}
	f := r.f
	r.f = nil
	return f.Close()
}
