package pgwire

import (
	"errors"
	"io"
)

const (
	// minRead is the buffer of a Reader that has little to do, so that idle
	// sessions hold little memory; readSize what it grows to while reads fill it.
	minRead  = 8 << 10
	readSize = 64 << 10
	// quiet is how many small reads in a row make the buffer small again.
	quiet = 16
)

// Reader takes frames off a stream. Frames that fit in its buffer are given
// whole; longer ones piece by piece. What it returns is valid until the next
// call. A Reader is used by one goroutine.
type Reader struct {
	r     io.Reader
	buf   []byte
	start int // of what is unread
	end   int
	limit int  // largest body of any frame
	left  int  // bytes of a frame given in pieces that are still to come
	small int  // reads in a row that would have fitted in minRead
	full  bool // the last read filled the buffer
}

// NewReader returns a Reader whose frames may have bodies of at most limit bytes.
func NewReader(r io.Reader, limit int) *Reader {
	return &Reader{r: r, buf: make([]byte, minRead), limit: limit}
}

// Buffered reports whether a whole frame can be had without reading.
func (r *Reader) Buffered() bool {
	have := r.end - r.start
	if have < FrameHeader {
		return false
	}
	n, err := BodyLength(r.buf[r.start:], r.limit)
	return err == nil && have >= FrameHeader+n
}

// fill reads until at least n bytes are unread, moving or growing the buffer.
func (r *Reader) fill(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	if r.start > 0 && (r.start == r.end || len(r.buf)-r.start < n) {
		copy(r.buf, r.buf[r.start:r.end])
		r.end -= r.start
		r.start = 0
	}
	want := n
	switch {
	case r.full && len(r.buf) < readSize:
		want = max(n, min(4*len(r.buf), readSize))
	case r.start == r.end && len(r.buf) > minRead && n <= minRead && r.small >= quiet:
		r.buf, r.small = make([]byte, minRead), 0
	}
	r.full = false
	if len(r.buf) < want {
		bigger := make([]byte, want)
		copy(bigger, r.buf[r.start:r.end])
		r.end -= r.start
		r.start = 0
		r.buf = bigger
	}
	for r.end-r.start < n {
		m, err := r.r.Read(r.buf[r.end:])
		r.end += m
		r.full = r.end == len(r.buf)
		if r.end-r.start <= minRead/2 {
			r.small++
		} else {
			r.small = 0
		}
		if r.end-r.start >= n {
			return nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) && r.end > r.start {
				return io.ErrUnexpectedEOF
			}
			return err
		}
		if m == 0 {
			return io.ErrNoProgress
		}
	}
	return nil
}

// Peek returns the type and the body length of the next frame.
func (r *Reader) Peek() (typ byte, n int, err error) {
	if r.left > 0 {
		panic("pgwire: Peek inside a frame that is read in pieces")
	}
	if err := r.fill(FrameHeader); err != nil {
		return 0, 0, err
	}
	n, err = BodyLength(r.buf[r.start:], r.limit)
	return r.buf[r.start], n, err
}

// Next returns the next frame whole, header included. Callers that must bound
// their memory Peek first.
func (r *Reader) Next() ([]byte, error) {
	_, n, err := r.Peek()
	if err != nil {
		return nil, err
	}
	if err := r.fill(FrameHeader + n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	frame := r.buf[r.start : r.start+FrameHeader+n]
	r.start += FrameHeader + n
	return frame, nil
}

// Shrink gives back a buffer that one long frame made large.
func (r *Reader) Shrink() {
	if len(r.buf) <= 4*readSize || r.end-r.start > readSize {
		return
	}
	smaller := make([]byte, readSize)
	r.end = copy(smaller, r.buf[r.start:r.end])
	r.start = 0
	r.buf = smaller
}

// Run returns as many whole frames of the next frame's type as are buffered,
// together, at least one, and how many. The next frame must be buffered.
func (r *Reader) Run() (frames []byte, count int) {
	begin := r.start
	typ := r.buf[begin]
	for r.end-r.start >= FrameHeader && r.buf[r.start] == typ {
		n, err := BodyLength(r.buf[r.start:], r.limit)
		if err != nil || r.end-r.start < FrameHeader+n {
			break
		}
		r.start += FrameHeader + n
		count++
	}
	return r.buf[begin:r.start], count
}

// Piece returns the next piece of a frame that is read in pieces, header
// included in the first one. more is false with the last piece.
func (r *Reader) Piece() (piece []byte, more bool, err error) {
	if r.left == 0 {
		_, n, err := r.Peek()
		if err != nil {
			return nil, false, err
		}
		r.left = FrameHeader + n
	}
	if r.start == r.end {
		if err := r.fill(1); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, false, err
		}
	}
	n := min(r.left, r.end-r.start)
	piece = r.buf[r.start : r.start+n]
	r.start += n
	r.left -= n
	return piece, r.left > 0, nil
}

// Skip discards the next frame.
func (r *Reader) Skip() error {
	for {
		_, more, err := r.Piece()
		if err != nil || !more {
			return err
		}
	}
}
