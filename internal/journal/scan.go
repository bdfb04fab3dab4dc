package journal

import (
	"bytes"
	"errors"
	"fmt"
)

// cursor walks the batches and payloads of one segment and checks every byte
// of them. Recovery and readers share it, so both judge alike.
type cursor struct {
	win     *window
	segment uint64
	h       *chainer

	off    int64 // of the next frame
	next   Seq
	linked bool  // chain is known
	chain  chain // after the last whole batch

	batch    commit // the batch being read
	batchOff int64
	left     uint32
}

// errCut marks damage, as opposed to a file that cannot be read: an input
// error must never make recovery throw bytes away.
type damage struct{ err error }

func (d damage) Error() string { return d.err.Error() }
func (d damage) Unwrap() error { return d.err }

func (c *cursor) bytes(off, n int64) ([]byte, error) {
	b, err := c.win.bytes(off, n)
	if errors.Is(err, errShort) {
		return nil, damage{err}
	}
	return b, err
}

// begin reads the commit frame at the cursor.
func (c *cursor) begin() error {
	b, err := c.bytes(c.off, commitSize)
	if err != nil {
		return err
	}
	m, err := parseCommit(b)
	switch {
	case err != nil:
		return damage{err}
	case m.segment != c.segment || m.off != c.off:
		return damage{errors.New("commit frame: belongs to another place")}
	case m.first != c.next:
		return damage{fmt.Errorf("commit frame: begins at %d, want %d", m.first, c.next)}
	case c.linked && m.prev != c.chain:
		return damage{errors.New("commit frame: does not continue the chain")}
	case m.size > c.win.size-c.off-commitSize:
		return damage{errors.New("commit frame: batch is longer than the file")}
	}
	c.h.start(b)
	c.batch, c.batchOff, c.left = m, c.off, m.count
	c.off += commitSize
	return c.finish()
}

// frame reads the next payload of the batch, or skips it unread except for
// its head.
func (c *cursor) frame(skip bool) ([]byte, error) {
	head, err := c.bytes(c.off, frameSize)
	if err != nil {
		return nil, err
	}
	n := int64(le.Uint32(head))
	size := frameSize + int64(pad(int(n)))
	if c.off+size > c.batchOff+commitSize+c.batch.size {
		return nil, damage{errors.New("data frame: longer than its batch")}
	}
	c.h.Write(head)
	var payload []byte
	if !skip {
		b, err := c.bytes(c.off, size)
		if err != nil {
			return nil, err
		}
		if err := c.h.checkFrame(c.segment, c.next, b); err != nil {
			return nil, damage{err}
		}
		payload = b[frameSize : frameSize+n]
	}
	c.off += size
	c.next++
	c.left--
	return payload, c.finish()
}

// finish checks the chain value when the batch is complete.
func (c *cursor) finish() error {
	if c.left > 0 {
		return nil
	}
	if c.off != c.batchOff+commitSize+c.batch.size {
		return damage{errors.New("batch: length does not match")}
	}
	if c.h.end() != c.batch.sum {
		return damage{errors.New("batch: chain value does not match")}
	}
	c.chain, c.linked = c.batch.sum, true
	return nil
}

// kept is a whole batch that recovery may have to copy.
type kept struct {
	point
	next Seq
	prev chain
}

// scanned is what a segment holds.
type scanned struct {
	end    int64 // behind the last whole batch
	next   Seq
	chain  chain
	known  Seq    // highest mark, also of whole commit frames behind the damage
	tail   []kept // whole batches at or above the highest mark found in order
	index  []point
	why    error // what ended the scan; nil when only zero bytes follow
	junk   int64 // bytes from end to the last one that is not zero
	behind int64 // offset of the commit frame that proves known, 0 if it is in order
}

// scan reads a segment from its first batch to stop (an offset, or negative
// for as far as it is whole). Only an error of reading is returned.
func scan(win *window, h header, stop int64) (*scanned, error) {
	c := &cursor{
		win: win, segment: h.id, h: newChainer(),
		off: headerSize, next: h.first, chain: h.prev, linked: true,
	}
	s := &scanned{end: headerSize, next: h.first, chain: h.prev, known: h.first}
	points := segment{}
	for stop < 0 || s.end < stop {
		at := kept{point: point{first: c.next, off: c.off}, prev: c.chain}
		err := c.batchWhole()
		if d := (damage{}); errors.As(err, &d) {
			s.why = d.err
			break
		}
		if err != nil {
			return nil, err
		}
		at.next = c.next
		points.addPoint(at.point)
		s.known = max(s.known, c.batch.durable)
		s.tail = append(dropBelow(s.tail, s.known), at)
		s.end, s.next, s.chain = c.off, c.next, c.chain
	}
	s.tail = dropBelow(s.tail, s.known)
	s.index = points.index
	if stop >= 0 {
		return s, nil
	}
	return s, s.searchBehind(win, h)
}

func dropBelow(tail []kept, known Seq) []kept {
	for len(tail) > 0 && tail[0].next <= known {
		tail = tail[1:]
	}
	return tail
}

func (c *cursor) batchWhole() error {
	if err := c.begin(); err != nil {
		return err
	}
	for c.left > 0 {
		if _, err := c.frame(false); err != nil {
			return err
		}
	}
	return nil
}

// searchBehind looks at all bytes behind the last whole batch. A commit frame
// there, written later, may know that what is damaged here was durable.
func (s *scanned) searchBehind(win *window, h header) error {
	for off := s.end; off < win.size; {
		n := min(int64(windowSize), win.size-off)
		b, err := win.bytes(off, n)
		if err != nil {
			return err
		}
		if last := lastNonZero(b); last >= 0 {
			s.junk = off + int64(last) + 1 - s.end
		}
		b = bytes.Clone(b) // inspect reads through the same window
		for i := 0; ; i++ {
			j := bytes.Index(b[i:], []byte(commitMagic))
			if j < 0 {
				break
			}
			i += j
			if err := s.inspect(win, h, off+int64(i)); err != nil {
				return err
			}
		}
		// A magic number that lies across the border is aligned, so it cannot.
		off += n
	}
	if s.junk == 0 {
		s.why = nil
	}
	return nil
}

func (s *scanned) inspect(win *window, h header, off int64) error {
	if off%8 != 0 || off == s.end && s.why == nil {
		return nil
	}
	b, err := win.bytes(off, commitSize)
	if errors.Is(err, errShort) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := parseCommit(b)
	if err != nil || m.off != off || h.id != 0 && m.segment != h.id || m.durable <= s.known {
		return nil //nolint:nilerr // what does not parse here is no mark, and damage is found elsewhere
	}
	s.known, s.behind = m.durable, off
	return nil
}

func lastNonZero(b []byte) int {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0 {
			return i
		}
	}
	return -1
}
