package journal

import (
	"errors"
	"time"
)

// Seq is the number of a payload: dense, from 0, the leaf index of the
// Merkle tree above.
type Seq uint64

// Class says which space an append may use.
type Class uint8

const (
	// Ordinary appends are refused with ErrFull when space is low.
	Ordinary Class = iota
	// Closing appends, such as outcomes and session ends, may use the
	// reserved space, and a little more of the queue.
	Closing
)

// Mode says when a payload counts as safe.
type Mode uint8

const (
	// SyncAlways makes Wait return after fdatasync.
	SyncAlways Mode = iota
	// SyncInsecureInterval makes Wait return after the write; a sync follows
	// every Options.Interval. It survives a crash of the process and not one
	// of the computer.
	SyncInsecureInterval
)

// Errors that callers test for.
var (
	// ErrFull refuses an append for want of disk space. It ends by itself
	// when there is space again.
	ErrFull = errors.New("journal: disk is full")
	// ErrBusy refuses an append because too many bytes wait to be written.
	ErrBusy = errors.New("journal: queue is full")
	// ErrTooLarge refuses a payload above Options.MaxPayload.
	ErrTooLarge = errors.New("journal: payload is too large")
	// ErrStopped says that the journal stopped for good; the cause is wrapped
	// beside it.
	ErrStopped = errors.New("journal: stopped")
	// ErrClosed is the cause beside ErrStopped after Close.
	ErrClosed = errors.New("journal: closed")
	// ErrCorrupt says that something known to have been durable is damaged or
	// missing. It must never be answered by cutting it off. See CorruptError.
	ErrCorrupt = errors.New("journal: corrupt")
)

// DefaultLowWater is the default of Options.LowWater, in bytes.
const DefaultLowWater = 256 << 20

// Options configures a Log. A zero value means the default, a negative size
// means none.
type Options struct {
	// Mode says when Wait returns. Default SyncAlways.
	Mode Mode
	// Interval is the time between syncs in SyncInsecureInterval. Default 10 ms.
	Interval time.Duration
	// SegmentBytes is the size of a segment. Default 64 MiB. A batch that is
	// larger gets a segment of its own size.
	SegmentBytes int64
	// QueueBytes bounds what waits to be written. Default 64 MiB. Closing
	// appends may go beyond it by a quarter.
	QueueBytes int
	// LowWater is the free space of the file system below which Ordinary
	// appends are refused. Default 256 MiB.
	LowWater int64
	// Reserve is the size of a file that is kept for Closing appends. Default 16 MiB.
	Reserve int64
	// MaxPayload bounds one payload. Default 80 MiB; above 1 GiB is not possible.
	MaxPayload int
	// KnownDurable is the number of payloads that the caller knows to have
	// been durable, say from a signed checkpoint. Fewer are ErrCorrupt.
	KnownDurable Seq
	// SkipVerifyBelow leaves out reading all sealed segments that end at or
	// below this number: only their headers and lengths are checked. Readers
	// check what they read all the same.
	SkipVerifyBelow Seq
	// OnFailure is called once, from a goroutine of its own, after the
	// journal stopped for good because of err. Close does not wait for it.
	OnFailure func(err error)
}

const (
	lazyFlush    = 10 * time.Millisecond // longest wait of a payload that nobody waits for
	spaceRefresh = time.Second           // age at which the free space is asked for again
	eagerFlush   = 1 << 20               // queued bytes that are not kept for the lazy flush
	keepBuffer   = 4 << 20               // a larger buffer is given back after use
	maxPayload   = 1 << 30
)

func (o Options) withDefaults() Options {
	setDefault(&o.Interval, 5*time.Millisecond)
	setDefault(&o.SegmentBytes, 64<<20)
	setDefault(&o.QueueBytes, 64<<20)
	setDefault(&o.LowWater, DefaultLowWater)
	setDefault(&o.Reserve, 16<<20)
	setDefault(&o.MaxPayload, 80<<20)
	o.MaxPayload = min(o.MaxPayload, maxPayload)
	o.SegmentBytes = max(o.SegmentBytes, headerSize+commitSize)
	return o
}

func setDefault[T ~int | ~int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
	*v = max(*v, 0)
}

// queueLimit returns how many bytes may wait when an append of class c comes.
func (o *Options) queueLimit(c Class) int {
	if c == Closing {
		return o.QueueBytes + o.QueueBytes/4
	}
	return o.QueueBytes
}
