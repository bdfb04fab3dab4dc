package journal

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// Group commit is led by a waiter: whoever waits while nobody writes takes the
// whole batch, writes and syncs it in its own goroutine, and wakes the others.
// A lone client thus never waits for another goroutine. Payloads that come
// meanwhile fill the second batch; when the leader is done it calls one of
// that batch's waiters to lead, so that nobody serves others for long.

// await blocks until seq is safe (true), the journal stopped (error), or
// cancel is closed (false).
func (l *Log) await(seq Seq, cancel <-chan struct{}) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.durable.Load() > uint64(seq):
			return true, nil
		case l.err != nil:
			return false, l.err
		case seq < l.cur.first: // being written
			if !l.sleep(l.flying.wakeup(), cancel) {
				return false, nil
			}
		case !l.leading && !l.parked:
			l.leading = true
			l.lead()
		case l.parked && l.closing:
			l.fail(ErrFull) // Close must end, and nothing here was promised to anybody
		default:
			if !l.follow(cancel) {
				return false, nil
			}
		}
	}
}

// sleep waits outside the lock. It returns false if cancel came.
func (l *Log) sleep(done, cancel <-chan struct{}) bool {
	l.mu.Unlock()
	defer l.mu.Lock()
	select {
	case <-done:
	case <-cancel:
		return false
	}
	return true
}

// follow waits until the batch being filled is done, or leads when called to.
func (l *Log) follow(cancel <-chan struct{}) bool {
	b := l.cur
	b.waiters++
	done := b.wakeup()
	l.mu.Unlock()
	select {
	case <-done:
		l.mu.Lock()
		return true
	case <-b.lead:
		l.mu.Lock()
		// The call stands for leadership, which is ours now. If our batch was
		// done meanwhile, the call was for the one now being filled.
		if b == l.cur && b.done == done {
			b.waiters--
		}
		l.lead()
		return true
	case <-cancel:
		l.mu.Lock()
	}
	if b != l.cur || b.done != done {
		return false // being written or done; nobody counts on us
	}
	b.waiters--
	if b.waiters == 0 {
		l.takeBackCall(b)
	}
	return false
}

// takeBackCall gives up leadership that nobody is left to accept; the
// background goroutine writes the batch.
func (l *Log) takeBackCall(b *batch) {
	select {
	case <-b.lead:
		l.unlead()
		signal(l.eager)
	default:
	}
}

func (l *Log) unlead() {
	l.leading = false
	l.space.cond.Broadcast()
}

// lead writes the batch being filled and passes leadership on. It is called
// with mu held and leading set, and lets go of mu while it writes.
func (l *Log) lead() {
	if l.err == nil && l.cur.count > 0 {
		l.gather()
		if spare, ok := l.ensureRoom(); ok {
			l.commit(spare)
		}
	}
	if l.err == nil && !l.parked && l.cur.count > 0 && l.cur.waiters > 0 {
		l.cur.lead <- struct{}{} // has room: there is one call at a time
		return
	}
	l.unlead()
}

// gather lets those whom the last batch has just woken append before the next
// one is cut. Without it clients fall into two halves that take turns, and
// each sync carries only half of what it could. It costs one pass of the
// scheduler's run queue, and nothing when few were woken.
func (l *Log) gather() {
	if l.woken < 2 {
		return
	}
	l.woken = 0
	l.mu.Unlock()
	runtime.Gosched()
	l.mu.Lock()
}

// commit swaps the batches and writes the full one, into spare if there is no
// room in the open segment.
func (l *Log) commit(spare *spareFile) {
	b := l.cur
	l.cur, l.idle, l.flying = l.idle, nil, b
	l.cur.reset(l.next)
	l.mu.Unlock()
	took, err := l.write(b, spare)
	l.mu.Lock()
	l.flying, l.idle = nil, b
	l.space.room = l.w.size - l.w.off
	if err != nil || l.err != nil { // the sync beside us may have failed meanwhile
		l.fail(err)
		if b.done != nil {
			close(b.done)
		}
		return
	}
	if spare != nil {
		l.requestSpace()
	}
	if l.o.Mode == SyncAlways || spare != nil {
		l.stats.sync(took)
		l.synced.Store(uint64(l.cur.first))
	}
	l.stats.batch(b)
	l.durable.Store(uint64(l.cur.first))
	if b.done != nil {
		l.woken = b.count
		close(b.done)
	}
}

// write brings one batch to the disk. It runs without mu, in the leader.
func (l *Log) write(b *batch, spare *spareFile) (took time.Duration, err error) {
	if spare != nil {
		return l.rotate(b, spare)
	}
	w := l.w
	frames := b.buf[headerSize:]
	c := w.seal(frames, b.first, b.count, l.Synced())
	if n, err := w.f.WriteAt(frames, w.off); err != nil || n < len(frames) {
		return 0, fmt.Errorf("write batch: %w", errOr(err, n))
	}
	if l.o.Mode == SyncAlways {
		start := time.Now()
		if err := w.f.Sync(); err != nil {
			return 0, fmt.Errorf("sync batch: %w", err)
		}
		took = time.Since(start)
	}
	w.advance(c)
	l.cat.extend(w, c)
	return took, nil
}

func errOr(err error, n int) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("short write of %d bytes", n)
}

// rotate begins a new segment in spare with b as its first batch.
func (l *Log) rotate(b *batch, spare *spareFile) (took time.Duration, err error) {
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	start := time.Now()
	old := l.w
	if l.Synced() < b.first {
		// The header of the new segment says that all before it is durable.
		if err := old.f.Sync(); err != nil {
			return 0, fmt.Errorf("sync sealed segment: %w", err)
		}
	}
	w := newWriter(old.next(b.first), spare, old.sums)
	w.heads = old.heads
	w.h.put(b.buf)
	c := w.seal(b.buf[headerSize:], b.first, b.count, b.first)
	n, err := w.f.WriteAt(b.buf, 0)
	if err != nil || n < len(b.buf) {
		return 0, errors.Join(fmt.Errorf("write first batch: %w", errOr(err, n)), w.f.Close())
	}
	if err := w.publish(l.cat.fs, l.cat.dir, spare.name); err != nil {
		return 0, errors.Join(err, w.f.Close())
	}
	w.advance(c)
	err = old.retire()
	l.mu.Lock()
	l.w = w
	l.mu.Unlock()
	if err != nil {
		return 0, err
	}
	l.cat.begin(w, c)
	return time.Since(start), nil
}

// extend makes a batch that was just written visible to readers.
func (c *catalog) extend(w *writer, b commit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.segs[len(c.segs)-1]
	s.addPoint(point{first: b.first, off: b.off})
	s.end = w.off
	c.safe = b.first + Seq(b.count)
}

// begin does so for the first batch of a new segment, which may have taken the
// place of an empty one.
func (c *catalog) begin(w *writer, b commit) {
	c.mu.Lock()
	if n := len(c.segs); c.segs[n-1].first == w.h.first {
		c.segs = c.segs[:n-1]
	}
	c.segs = append(c.segs, &segment{first: w.h.first, id: w.h.id, name: w.name})
	c.mu.Unlock()
	c.extend(w, b)
}
