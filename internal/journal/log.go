package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatebook/gatebook/internal/vfs"
)

// batch collects payloads until a leader writes them with one write and one
// sync. There are two, one being filled and one being written. All fields are
// guarded by Log.mu, except that buf of the flying batch belongs to the leader.
type batch struct {
	buf     []byte // room for a segment header and a commit frame, then data frames
	first   Seq
	count   int
	waiters int           // who wait for it and may be asked to lead
	done    chan struct{} // closed when it is safe or lost; made by the first who needs it
	lead    chan struct{} // holds at most the one call to lead it
}

const batchHead = headerSize + commitSize

func newBatch() *batch {
	return &batch{buf: make([]byte, batchHead), lead: make(chan struct{}, 1)}
}

func (b *batch) reset(first Seq) {
	if cap(b.buf) > keepBuffer {
		b.buf = make([]byte, batchHead)
	}
	b.buf = b.buf[:batchHead]
	b.first, b.count, b.waiters, b.done = first, 0, 0, nil
}

func (b *batch) wakeup() chan struct{} {
	if b.done == nil {
		b.done = make(chan struct{})
	}
	return b.done
}

// Log is an open journal. Locks are taken in the order syncMu, mu,
// catalog.mu. Leadership (leading) is the right to write to the file; it is
// held while no lock is.
type Log struct {
	o       Options
	cat     catalog
	durable atomic.Uint64 // payloads safe as Mode says
	synced  atomic.Uint64 // payloads synced

	syncMu sync.Mutex // held while w changes its file, and while a sync runs beside the leader

	mu      sync.Mutex
	w       *writer // fields belong to the leader
	next    Seq
	cur     *batch // being filled
	idle    *batch // the other one; nil while it flies
	flying  *batch // being written
	leading bool   // somebody leads, or a call to lead is on its way
	woken   int    // payloads of the batch before cur, whose owners may be about to append again
	parked  bool   // cur cannot be written for want of space
	closing bool
	closed  bool
	err     error       // why the journal stopped
	stopped atomic.Bool // err is set, for those who do not hold mu
	armed   bool        // the background goroutine watches cur
	space   space
	stats   Stats

	kick  chan struct{} // starts the watch over cur
	eager chan struct{} // asks for a flush now
	stop  chan struct{}
	wg    sync.WaitGroup // background and preparer
}

func newLog(fsys vfs.FS, dir string, o Options, w *writer, segs []*segment, entries Seq) *Log {
	l := &Log{
		o: o, w: w, next: entries, cur: newBatch(), idle: newBatch(),
		kick: make(chan struct{}, 1), eager: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	l.cat.fs, l.cat.dir, l.cat.segs, l.cat.safe = fsys, dir, segs, entries
	l.cur.reset(entries)
	l.durable.Store(uint64(entries))
	l.synced.Store(uint64(entries))
	l.space.init(&l.mu)
	l.space.room = w.size - w.off
	for _, s := range segs {
		l.stats.Bytes += s.end
	}
	return l
}

// start asks for the free space, so that a caller whose disk is full hears so
// from its first append, and starts the goroutines. Files are prepared beside
// the caller, since preallocating them is most of the time that Open takes.
func (l *Log) start() error {
	free, err := l.cat.fs.FreeBytes(l.cat.dir)
	if err != nil {
		return errors.Join(fmt.Errorf("free space: %w", err), l.w.f.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.space.full = l.space.measure(free, l.o.LowWater)
	l.requestSpace()
	l.wg.Go(l.background)
	l.wg.Go(l.preparer)
	return nil
}

// Next returns the number that the next append will get.
func (l *Log) Next() Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Durable returns how many payloads are safe as Mode says.
func (l *Log) Durable() Seq { return Seq(l.durable.Load()) }

// Synced returns how many payloads are known to be synced.
func (l *Log) Synced() Seq { return Seq(l.synced.Load()) }

// Err returns why the journal stopped for good, or nil. It matches ErrStopped.
func (l *Log) Err() error {
	if !l.stopped.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// fail stops the journal for good. It is called with mu held.
func (l *Log) fail(cause error) {
	if l.err != nil {
		return
	}
	l.err = fmt.Errorf("%w: %w", ErrStopped, cause)
	l.stopped.Store(true)
	if l.cur.done != nil { // the leader wakes those of the flying batch
		close(l.cur.done)
		l.cur.done = nil
	}
	l.space.cond.Broadcast()
	if l.o.OnFailure != nil && !errors.Is(cause, ErrClosed) {
		go l.o.OnFailure(l.err)
	}
}

// Sync makes everything appended so far durable, in either mode. If ctx ends
// first it returns ctx's cause.
func (l *Log) Sync(ctx context.Context) error {
	next := l.Next()
	if next == 0 {
		return l.Err()
	}
	if err := (Ticket{l: l, seq: next - 1}).Wait(ctx); err != nil {
		return err
	}
	if l.Synced() >= next {
		return nil
	}
	return l.syncWritten()
}

// syncWritten syncs beside the leader, which matters in SyncInsecureInterval only.
func (l *Log) syncWritten() error {
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	l.mu.Lock()
	f, written, err := l.w.f, l.durable.Load(), l.err
	l.mu.Unlock()
	if err != nil || l.synced.Load() >= written {
		return err
	}
	start := time.Now()
	err = f.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.fail(fmt.Errorf("sync: %w", err))
		return l.err
	}
	l.stats.sync(time.Since(start))
	l.synced.Store(max(l.synced.Load(), written))
	return nil
}

// Close writes and syncs what was appended, and releases everything. Appends
// beside it are refused. It returns the reason if the journal had stopped
// before, or stops on the way; the second call returns nil.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return nil
	}
	l.closing = true
	next := l.next
	l.mu.Unlock()
	var err error
	if next > 0 {
		_, err = l.await(next-1, nil)
	}
	if err == nil {
		err = l.syncWritten()
	}
	close(l.stop)
	l.wg.Wait()
	return errors.Join(err, l.release(err != nil))
}

// release ends what Close began; nobody leads and no goroutine is left. told
// says that the caller knows why the journal stopped, if it did.
func (l *Log) release(told bool) error {
	l.mu.Lock()
	l.takeBackCall(l.cur) // after a failure nobody may have accepted it
	for l.leading {
		l.space.cond.Wait()
	}
	l.mu.Unlock()
	// A leader may need syncMu to finish, so it is taken only now.
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	switch {
	case l.err == nil:
		err = l.closeMark()
	case !told:
		err = l.err // a file that was being prepared, say
	}
	err = errors.Join(err, l.w.f.Close())
	l.space.spare.drop(l.cat.fs)
	l.space.reserve.drop(l.cat.fs)
	l.space.spare, l.space.reserve = nil, nil
	l.closed = true
	l.fail(ErrClosed)
	return err
}

// closeMark writes an empty batch whose mark covers everything, so that the
// next Open need not copy and can tell damage of the last batch from a torn
// tail. Without room for it the next Open copies the last batch, no more.
func (l *Log) closeMark() error {
	if l.w.size-l.w.off < commitSize {
		return nil
	}
	var b [commitSize]byte
	l.w.seal(b[:], l.next, 0, l.next)
	if _, err := l.w.f.WriteAt(b[:], l.w.off); err != nil {
		return fmt.Errorf("write close mark: %w", err)
	}
	if err := l.w.f.Sync(); err != nil {
		return fmt.Errorf("sync close mark: %w", err)
	}
	return nil
}
