package journal

import (
	"context"
	"fmt"
)

// Ticket stands for one appended payload. It is a value; copies are fine.
type Ticket struct {
	l   *Log
	seq Seq
}

// Append gives a payload the next number and its place in the order at once,
// and waits for nothing. build is called exactly once with the queue locked:
// it appends the payload to dst and returns the result, must not block, and
// must not call the Log. What it returns is copied nowhere else.
//
// ErrFull, ErrBusy, ErrTooLarge and ErrStopped refuse the payload and use up
// no number. The first two may also be found out only after build was called,
// when its size is known; its result is then dropped.
func (l *Log) Append(c Class, build func(dst []byte, seq Seq) []byte) (Ticket, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.admit(c); err != nil {
		return Ticket{}, err
	}
	b, seq := l.cur, l.next
	dst := append(b.buf, make([]byte, frameSize)...)
	out := build(dst, seq)
	n := len(out) - len(dst)
	if n < 0 {
		panic("journal: build returned less than it was given")
	}
	if n > l.o.MaxPayload {
		return Ticket{}, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, n, l.o.MaxPayload)
	}
	if !l.space.holds(l.queued() + frameSize + pad(n)) {
		return Ticket{}, ErrFull
	}
	head := out[len(b.buf):]
	le.PutUint32(head, uint32(n)) //nolint:gosec // bounded by MaxPayload
	le.PutUint64(head[8:], uint64(seq))
	b.buf = append(out, make([]byte, pad(n)-n)...)
	b.count++
	l.next++
	l.watch(len(b.buf))
	return Ticket{l: l, seq: seq}, nil
}

// admit decides before build is called.
func (l *Log) admit(c Class) error {
	switch {
	case l.err != nil:
		return l.err
	case l.closing:
		return fmt.Errorf("%w: %w", ErrStopped, ErrClosed)
	case c != Closing && l.space.full:
		return ErrFull
	case l.queued() > l.o.queueLimit(c):
		return ErrBusy
	}
	return nil
}

// queued returns the bytes that wait to be written or are being written.
func (l *Log) queued() int {
	n := len(l.cur.buf)
	if l.flying != nil {
		n += len(l.flying.buf)
	}
	return n
}

// watch makes sure that somebody writes cur even if nobody waits for it.
func (l *Log) watch(size int) {
	if !l.armed {
		l.armed = true
		signal(l.kick)
	}
	if size >= eagerFlush && !l.leading && !l.parked {
		signal(l.eager)
	}
}

// signal makes sure that c holds one value.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Seq returns the number of the payload.
func (t Ticket) Seq() Seq { return t.seq }

// Done says without blocking whether the payload is safe.
func (t Ticket) Done() bool { return t.l != nil && t.l.durable.Load() > uint64(t.seq) }

// Wait blocks until the payload is safe as Mode says. nil means that it and
// all before it are safe. An error matching ErrStopped means that it is not
// known to be. If ctx ends first, Wait returns its cause and the payload may
// still become durable. A waiter that is writing for the others finishes its
// write and sync first, however its ctx fares.
func (t Ticket) Wait(ctx context.Context) error {
	if t.Done() {
		return nil
	}
	if t.l == nil {
		return fmt.Errorf("%w: no payload was appended", ErrStopped)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	safe, err := t.l.await(t.seq, ctx.Done())
	if err == nil && !safe {
		return context.Cause(ctx)
	}
	return err
}
