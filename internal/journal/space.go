package journal

import (
	"fmt"
	"path"
	"sync"
	"time"
)

// space is what is preallocated and what is free. It is guarded by Log.mu.
//
// Accepted payloads always fit into space that is already allocated, or at
// worst wait for it: lack of space shows while a file is preallocated, never
// in a write. The reserve is a file like a spare one, only smaller and used
// last; with it, what is open can be closed on a full disk.
type space struct {
	room      int64      // left in the open segment
	spare     *spareFile // the next segment
	reserve   *spareFile
	free      int64 // bytes free in the file system
	asked     time.Time
	full      bool  // Ordinary appends are refused
	exhausted bool  // the last attempt to preallocate found no space
	want      int64 // size of the segment that a leader waits for
	preparing bool
	made      int // files made, for their names

	request chan struct{}
	cond    *sync.Cond // preparing or leading became false
}

func (s *space) init(mu *sync.Mutex) {
	s.cond = sync.NewCond(mu)
	s.request = make(chan struct{}, 1)
}

func (f *spareFile) room() int64 {
	if f == nil {
		return 0
	}
	return f.size
}

// measure takes note of the free space and says whether it is below the mark.
func (s *space) measure(free uint64, mark int64) (low bool) {
	s.free, s.asked = int64(min(free, 1<<62)), time.Now() //nolint:gosec // bounded
	return s.free < mark
}

// holds says whether a queue of n bytes can surely be written.
func (s *space) holds(n int) bool {
	return !s.exhausted || int64(n) <= s.room+s.spare.room()+s.reserve.room()
}

// ensureRoom finds a place for the batch being filled: the open segment (nil),
// or a preallocated file that it hands out. It returns false if there is none
// and the batch must wait for space. mu is held, but not all the time.
func (l *Log) ensureRoom() (*spareFile, bool) {
	s := &l.space
	for l.err == nil {
		if int64(len(l.cur.buf)-headerSize) <= l.w.size-l.w.off {
			return nil, true
		}
		need := int64(len(l.cur.buf))
		if s.spare.room() >= need {
			f := s.spare
			s.spare = nil
			return f, true
		}
		l.wantSpare(need)
		if s.spare.room() >= need || l.err != nil || int64(len(l.cur.buf)) > need {
			continue // the queue may have grown meanwhile
		}
		if s.reserve.room() >= need {
			f := s.reserve
			s.reserve, s.full = nil, true
			return f, true
		}
		l.parked, s.full = true, true
		if l.closing {
			l.fail(ErrFull) // Close must end, and nothing here was promised to anybody
		}
		return nil, false
	}
	return nil, false
}

// wantSpare asks the preparer for a spare file of need bytes and waits until
// it made one or found no space.
func (l *Log) wantSpare(need int64) {
	s := &l.space
	for s.preparing && l.err == nil {
		s.cond.Wait()
	}
	if l.err != nil || s.spare.room() >= need {
		return
	}
	s.want = need
	l.requestSpace()
	for s.preparing && l.err == nil {
		s.cond.Wait()
	}
}

// requestSpace wakes the preparer. mu is held.
func (l *Log) requestSpace() {
	if !l.space.preparing {
		l.space.preparing = true
		signal(l.space.request)
	}
}

// preparer keeps a spare segment and the reserve ready, so that neither
// rotation nor a full disk waits for the file system.
func (l *Log) preparer() {
	retry := time.NewTimer(spaceRefresh)
	defer retry.Stop()
	for {
		var again <-chan time.Time
		l.mu.Lock()
		if l.space.full && l.err == nil {
			retry.Reset(spaceRefresh)
			again = retry.C
		}
		l.mu.Unlock()
		select {
		case <-l.stop:
			return
		case <-l.space.request:
		case <-again:
			l.mu.Lock()
			l.space.preparing = true
			l.mu.Unlock()
		}
		l.mu.Lock()
		want := l.space.want
		l.mu.Unlock()
		l.prepare(want)
	}
}

// prepare makes one pass: ask for the free space, make what is missing, judge.
func (l *Log) prepare(want int64) {
	free, err := l.cat.fs.FreeBytes(l.cat.dir)
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.space.cond.Broadcast()
	s := &l.space
	defer func() { s.preparing = false }()
	if l.err != nil {
		return
	}
	if err != nil {
		l.fail(fmt.Errorf("free space: %w", err))
		return
	}
	low := s.measure(free, l.o.LowWater)
	s.exhausted = false
	if l.parked {
		want = max(want, int64(len(l.cur.buf)))
	}
	if s.reserve == nil && l.o.Reserve > 0 {
		s.reserve = l.make("reserve", l.o.Reserve+batchHead)
	}
	if want > s.spare.room() {
		s.spare.drop(l.cat.fs)
		s.spare = nil
	}
	// Below the low-water mark nothing is taken ahead of need.
	if s.spare == nil && (!low || want > 0) && l.err == nil {
		s.spare = l.make("spare", max(l.o.SegmentBytes, want))
	}
	s.want = 0
	s.full = low || s.exhausted
	if l.parked && max(s.spare.room(), s.reserve.room()) >= int64(len(l.cur.buf)) {
		l.parked = false
		signal(l.eager)
	}
}

// make creates a preallocated file without holding mu. It returns nil if there
// is no space or the journal stopped.
func (l *Log) make(kind string, size int64) *spareFile {
	l.space.made++
	name := path.Join(l.cat.dir, fmt.Sprintf("%s-%d%s", kind, l.space.made, tempSuffix))
	l.mu.Unlock()
	f, err := makeSpare(l.cat.fs, name, size)
	l.mu.Lock()
	switch {
	case noSpace(err):
		l.space.exhausted = true
	case err != nil:
		l.fail(err)
	}
	return f
}
