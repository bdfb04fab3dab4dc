package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

// Source gives the book's entries in order. It is used by one goroutine.
type Source interface {
	// Next returns the next durable entry: its header and its opened body, or
	// erased when the body's data key is gone. At the present end it returns
	// io.EOF, and may return more later. The body is valid until the next call.
	// Bodies of kinds for which Reads is false may be nil.
	Next() (h evidence.Header, body []byte, erased bool, err error)
	Close() error
}

// Opener returns a source that begins with entry number from.
type Opener func(from uint64) (Source, error)

// Reads reports whether the index looks into the bodies of a kind of entry.
// A source need not open the others: they are the largest.
func Reads(k evidence.Kind) bool {
	switch k {
	case evidence.KindAnswer, evidence.KindRequest, evidence.KindKey:
		return false
	}
	return true
}

const (
	// A batch is one transaction. It ends with whichever comes first, so that
	// a busy book costs few transactions and a quiet one is followed closely.
	batchEntries = 2000
	batchTime    = 200 * time.Millisecond
	batchBytes   = 16 << 20 // of bodies; their texts wait in memory
	// pollEvery is how often Follow looks for entries when nothing wakes it.
	pollEvery = 500 * time.Millisecond
)

// state is the position, kept in the same transactions as the rows.
type state struct {
	Origin     string
	Text       bool
	Next       uint64
	Digest     string
	LastUS     int64 // of the last entry, for finding gaps
	LastKind   evidence.Kind
	HeartbeatS int64 // promised by the last boot entry
}

func readState(ctx context.Context, c *conn) (state, error) {
	row, err := c.row(ctx, "SELECT origin, text, next, digest, last_us, last_kind, heartbeat_s FROM state WHERE id = 1")
	if err != nil {
		return state{}, err
	}
	var st state
	if len(row) != 7 {
		return st, rebuild("it has no position")
	}
	ints, strs := [7]int64{}, [7]string{}
	for i, v := range row {
		ints[i], _ = v.(int64)
		strs[i], _ = v.(string)
	}
	st = state{
		Origin: strs[0], Text: ints[1] != 0, Next: uint64(ints[2]), Digest: strs[3],
		LastUS: ints[4], LastKind: evidence.Kind(strs[5]), HeartbeatS: ints[6],
	}
	if ints[2] < 0 || (st.Next == 0) != (st.Digest == "") {
		return st, rebuild("its position is impossible")
	}
	return st, nil
}

// Follow takes in entries as they come until ctx ends, and then returns nil.
// It begins one entry before the position, and its error matches ErrRebuild
// when the book does not hold that entry. wake may be nil; a value on it means
// that there may be entries. Any other error leaves the index as it was after
// the last whole batch, and Follow may be called again.
func (x *Index) Follow(ctx context.Context, source Opener, wake <-chan struct{}) error {
	err := x.followFrom(ctx, source, wake)
	if ctx.Err() != nil && !errors.Is(err, ErrRebuild) {
		return nil
	}
	return err
}

func (x *Index) followFrom(ctx context.Context, source Opener, wake <-chan struct{}) error {
	from := x.Next()
	src, err := source(max(from, 1) - 1)
	if err != nil {
		return fmt.Errorf("follow the book: %w", err)
	}
	defer func() { _ = src.Close() }()
	if from > 0 {
		if err := x.verify(src); err != nil {
			return err
		}
	}
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	for {
		rest, err := x.step(ctx, src)
		if err != nil {
			return err
		}
		if rest <= 0 {
			continue
		}
		timer.Reset(rest)
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-wake:
			if !ok {
				wake = nil
			}
		case <-timer.C:
		}
	}
}

// step takes in one batch, a short one if the share of time is less than the
// whole, and returns how long to rest before the next.
func (x *Index) step(ctx context.Context, src Source) (rest time.Duration, err error) {
	x.follow.Lock()
	defer x.follow.Unlock()
	share, atMost := 1.0, batchTime
	if x.o.Share != nil {
		if share = x.o.Share(); share < 1 {
			share, atMost = max(share, 0.01), batchTime/10
		}
	}
	began := time.Now()
	n, end, err := x.batch(ctx, src, atMost)
	switch {
	case err != nil:
		return 0, asRebuild(err)
	case end && n == 0:
		return pollEvery, nil
	}
	return time.Duration(float64(time.Since(began)) * (1/share - 1)), nil
}

// verify compares the source's first entry with the last one that is in.
func (x *Index) verify(src Source) error {
	b := x.Book()
	h, _, _, err := src.Next()
	switch {
	case errors.Is(err, io.EOF):
		return rebuild("it holds %d entries, the book fewer", b.Next)
	case err != nil:
		return fmt.Errorf("follow the book: %w", err)
	case h.Index != b.Next-1 || digest(&h) != b.Digest:
		return rebuild("entry %d is not the one that was indexed", b.Next-1)
	}
	return nil
}

// digest names an entry by its leaf hash.
func digest(h *evidence.Header) string {
	var buf [evidence.MaxHeader]byte
	hash := evidence.LeafHash(evidence.AppendHeader(buf[:0], h))
	return fmt.Sprintf("%x", hash[:])
}

// CatchUp takes in entries to the source's present end and returns how many.
// The source's first entry must be number Next, or Next-1, which is then
// compared with the one that was indexed.
func (x *Index) CatchUp(ctx context.Context, src Source) (uint64, error) {
	x.follow.Lock()
	defer x.follow.Unlock()
	var total uint64
	for {
		n, end, err := x.batch(ctx, src, batchTime)
		total += n
		if end || err != nil {
			return total, asRebuild(err)
		}
	}
}

// batch takes in one transaction's worth of entries. end reports that the
// source has no more for now.
func (x *Index) batch(ctx context.Context, src Source, atMost time.Duration) (n uint64, end bool, err error) {
	x.mu.Lock()
	closed := x.closed
	x.mu.Unlock()
	if closed {
		return 0, false, ErrClosed
	}
	// Nothing is locked before there is an entry: the source may be waiting.
	h, body, erased, err := src.Next()
	if errors.Is(err, io.EOF) {
		return 0, true, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read the book: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return 0, false, ErrClosed
	}
	if h.Index+1 == x.st.Next {
		if digest(&h) != x.st.Digest {
			return 0, false, rebuild("entry %d is not the one that was indexed", h.Index)
		}
		return 0, false, nil
	}
	// A transaction is finished even when ctx ends: it is short, and an
	// interrupted statement could leave it half open.
	tx := context.WithoutCancel(ctx)
	if err := x.w.run(tx, "BEGIN IMMEDIATE"); err != nil {
		return 0, false, err
	}
	b := newBatch(tx, x.w, x.st)
	began, size := time.Now(), 0
	for {
		if err = b.add(&h, body, erased); err != nil {
			break
		}
		n++
		size += len(body)
		if n >= batchEntries || size >= batchBytes || time.Since(began) >= atMost || ctx.Err() != nil {
			break
		}
		if h, body, erased, err = src.Next(); errors.Is(err, io.EOF) {
			end, err = true, nil
			break
		} else if err != nil {
			err = fmt.Errorf("read the book: %w", err)
			break
		}
	}
	if err == nil {
		err = b.finish()
	}
	if err == nil {
		err = x.w.run(tx, "COMMIT")
	}
	if err != nil {
		// The error may have ended the transaction already.
		_ = x.w.run(tx, "ROLLBACK")
		return 0, false, err
	}
	x.st = b.st
	if b.bad > 0 {
		x.o.Log.Warn("index: entries whose bodies are not what their kind says", "count", b.bad, "before", b.st.Next)
	}
	if ctx.Err() != nil {
		return n, true, context.Cause(ctx)
	}
	return n, end, nil
}
