package journal

import "time"

// background writes payloads that nobody waits for and, in
// SyncInsecureInterval, syncs. It sleeps without a timer while nothing is
// appended, and ticks while something is: cheaper than a timer for each batch.
func (l *Log) background() {
	tick := lazyFlush / 2
	if l.o.Mode == SyncInsecureInterval {
		tick = l.o.Interval
	}
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-l.eager:
			l.flush(true, 0)
			continue
		case <-l.kick:
		}
		seen := Seq(0)
		for armed := true; armed; {
			timer.Reset(tick)
			select {
			case <-l.stop:
				return
			case <-l.eager:
				l.flush(true, 0)
			case <-timer.C:
				seen, armed = l.tick(seen)
			}
		}
	}
}

// tick looks after the queue once and says whether there is need to go on.
// seen is the first payload that was queued at the last tick, plus one.
func (l *Log) tick(seen Seq) (Seq, bool) {
	first := l.flush(l.o.Mode == SyncInsecureInterval, seen)
	if l.o.Mode == SyncInsecureInterval {
		_ = l.syncWritten() // a failure stops the journal, which tells everybody
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.space.asked) > spaceRefresh {
		l.requestSpace()
	}
	idle := l.cur.count == 0 && l.flying == nil && l.synced.Load() == uint64(l.next)
	// Staying for one quiet tick saves a wake-up when one client appends again
	// and again.
	if l.err != nil || idle && first == seen {
		l.armed = false
	}
	return first, l.armed
}

// flush leads if nobody does and the queue is not empty, provided that now is
// true or the queue is the one of which seen speaks. It returns what seen is
// to be at the next tick.
func (l *Log) flush(now bool, seen Seq) Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.cur.first + 1
	if l.cur.count > 0 && !l.leading && !l.parked && l.err == nil && (now || first == seen) {
		l.leading = true
		l.lead()
	}
	return first
}
