package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
)

const (
	headerSize = 128
	commitSize = 88
	frameSize  = 16 // head of a data frame
	chainSize  = 16
	version    = 1

	segmentMagic = "GBJRNL\r\n"
	commitMagic  = "GBcf"
)

var le = binary.LittleEndian

// castagnoli is never written after start.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type chain [chainSize]byte

// header is the start of a segment.
type header struct {
	journal [16]byte
	id      uint64
	first   Seq
	prevID  uint64
	prevSeq Seq
	prevEnd int64
	prev    chain
}

func (h *header) put(b []byte) {
	b = b[:headerSize]
	clear(b)
	copy(b, segmentMagic)
	le.PutUint32(b[8:], version)
	copy(b[16:], h.journal[:])
	le.PutUint64(b[32:], h.id)
	le.PutUint64(b[40:], uint64(h.first))
	le.PutUint64(b[48:], h.prevID)
	le.PutUint64(b[56:], uint64(h.prevSeq))
	le.PutUint64(b[64:], uint64(h.prevEnd)) //nolint:gosec // never negative
	copy(b[72:], h.prev[:])
	le.PutUint32(b[124:], crc32.Checksum(b[:124], castagnoli))
}

var (
	errMagic    = errors.New("no magic number")
	errChecksum = errors.New("checksum does not match")
)

func parseHeader(b []byte) (h header, err error) {
	switch {
	case len(b) < headerSize:
		return h, errors.New("file is shorter than a segment header")
	case string(b[:8]) != segmentMagic:
		return h, fmt.Errorf("segment header: %w", errMagic)
	case crc32.Checksum(b[:124], castagnoli) != le.Uint32(b[124:]):
		return h, fmt.Errorf("segment header: %w", errChecksum)
	case le.Uint32(b[8:]) != version:
		return h, fmt.Errorf("segment header: version %d is unknown", le.Uint32(b[8:]))
	}
	copy(h.journal[:], b[16:])
	h.id = le.Uint64(b[32:])
	h.first = Seq(le.Uint64(b[40:]))
	h.prevID = le.Uint64(b[48:])
	h.prevSeq = Seq(le.Uint64(b[56:]))
	h.prevEnd = int64(le.Uint64(b[64:])) //nolint:gosec // checked below
	copy(h.prev[:], b[72:])
	if h.prevEnd < 0 || h.prevSeq > h.first {
		return h, errors.New("segment header: numbers out of order")
	}
	return h, nil
}

// commit is the frame at the head of a batch.
type commit struct {
	segment uint64
	off     int64
	first   Seq
	durable Seq
	count   uint32
	size    int64 // of the data frames
	prev    chain
	sum     chain
}

// put writes c. The chain value is computed from it and heads, the heads of
// the data frames.
func (c *commit) put(b []byte, h *chainer, heads []byte) {
	b = b[:commitSize]
	copy(b, commitMagic)
	le.PutUint64(b[8:], c.segment)
	le.PutUint64(b[16:], uint64(c.off)) //nolint:gosec // never negative
	le.PutUint64(b[24:], uint64(c.first))
	le.PutUint64(b[32:], uint64(c.durable))
	le.PutUint32(b[40:], c.count)
	le.PutUint32(b[44:], 0)
	le.PutUint64(b[48:], uint64(c.size)) //nolint:gosec // never negative
	copy(b[56:], c.prev[:])
	h.start(b)
	h.Write(heads)
	c.sum = h.end()
	copy(b[72:], c.sum[:])
	le.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
}

// chainer computes checksums and chain values. It keeps its buffers, because
// buffers on the stack would move to the heap for every frame.
type chainer struct {
	hash.Hash
	out  [sha256.Size]byte
	head [20]byte // of frameSum
}

func newChainer() *chainer { return &chainer{Hash: sha256.New()} }

// start begins the chain value of the batch whose commit frame is b. The heads
// of the data frames are written next.
func (h *chainer) start(b []byte) {
	h.Reset()
	h.Write(b[56:72])
	h.Write(b[8:56])
}

func (h *chainer) end() (c chain) {
	copy(c[:], h.Sum(h.out[:0]))
	return c
}

func parseCommit(b []byte) (c commit, err error) {
	switch {
	case len(b) < commitSize:
		return c, errors.New("commit frame: file ends")
	case string(b[:4]) != commitMagic:
		return c, fmt.Errorf("commit frame: %w", errMagic)
	case crc32.Checksum(b[8:commitSize], castagnoli) != le.Uint32(b[4:]):
		return c, fmt.Errorf("commit frame: %w", errChecksum)
	}
	c.segment = le.Uint64(b[8:])
	c.off = int64(le.Uint64(b[16:])) //nolint:gosec // compared with the true offset
	c.first = Seq(le.Uint64(b[24:]))
	c.durable = Seq(le.Uint64(b[32:]))
	c.count = le.Uint32(b[40:])
	c.size = int64(le.Uint64(b[48:])) //nolint:gosec // checked below
	copy(c.prev[:], b[56:])
	copy(c.sum[:], b[72:])
	// Every data frame takes at least its head, so a lying count cannot make
	// a reader work or allocate more than the size allows.
	if c.size < int64(c.count)*frameSize || c.size%8 != 0 || c.durable > c.first {
		return c, errors.New("commit frame: numbers out of order")
	}
	return c, nil
}

// pad returns n rounded up to 8.
func pad(n int) int { return (n + 7) &^ 7 }

// frameSum computes the checksum of a whole data frame, padding included.
func (h *chainer) frameSum(segment uint64, frame []byte) uint32 {
	le.PutUint64(h.head[:], segment)
	copy(h.head[8:], frame[8:16])
	copy(h.head[16:], frame[:4])
	return crc32.Update(crc32.Update(0, castagnoli, h.head[:]), castagnoli, frame[frameSize:])
}

// checkFrame says whether frame, head, payload and padding, is payload seq of
// the segment.
func (h *chainer) checkFrame(segment uint64, seq Seq, frame []byte) error {
	if got := h.frameSum(segment, frame); got != le.Uint32(frame[4:]) {
		return fmt.Errorf("data frame: %w", errChecksum)
	}
	if got := Seq(le.Uint64(frame[8:])); got != seq {
		return fmt.Errorf("data frame: has index %d, want %d", got, seq)
	}
	return nil
}
