package journal

import (
	"math/bits"
	"time"
)

// Stats is a picture of a Log at one moment.
type Stats struct {
	Segments int
	Bytes    int64 // in segments, as far as they count
	Queued   int   // bytes that wait to be written
	Free     int64 // free space of the file system when last asked
	Full     bool  // Ordinary appends are refused for want of space

	Batches  uint64 // since Open
	Entries  uint64 // since Open
	MaxBatch int    // most payloads in one batch

	Syncs    uint64
	SyncTime time.Duration // of all syncs
	MaxSync  time.Duration
	// SyncHist counts syncs by duration: element i those below 2^i
	// microseconds and not below 2^(i-1), the last one all longer ones.
	SyncHist [24]uint64

	Err error // why the journal stopped, or nil
}

func (s *Stats) sync(took time.Duration) {
	s.Syncs++
	s.SyncTime += took
	s.MaxSync = max(s.MaxSync, took)
	i := bits.Len64(uint64(took.Microseconds())) //nolint:gosec // time does not run backwards
	s.SyncHist[min(i, len(s.SyncHist)-1)]++
}

func (s *Stats) batch(b *batch) {
	s.Batches++
	s.Entries += uint64(b.count) //nolint:gosec // never negative
	s.MaxBatch = max(s.MaxBatch, b.count)
	s.Bytes += int64(len(b.buf) - headerSize)
}

// Stats returns counters and the state of the disk space.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Queued = l.queued() - batchHead
	s.Free, s.Full, s.Err = l.space.free, l.space.full, l.err
	l.cat.mu.Lock()
	defer l.cat.mu.Unlock()
	s.Segments = len(l.cat.segs)
	return s
}
