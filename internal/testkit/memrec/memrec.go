// Package memrec is a recorder in memory for tests of the door and of engines:
// it keeps every event, can hold durability back, and can fail.
package memrec

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/enforce"
)

// Entry is one recorded event.
type Entry struct {
	Session evidence.ID
	audit.Event
}

// Recorder implements enforce.Recorder.
type Recorder struct {
	boot evidence.ID

	mu      sync.Mutex
	entries []Entry
	durable int
	hold    bool
	discard bool
	err     error
	changed chan struct{}
}

var _ enforce.Recorder = (*Recorder)(nil)

// New returns a recorder whose entries are durable at once.
func New() *Recorder {
	return &Recorder{boot: evidence.NewID(), changed: make(chan struct{})}
}

// Hold keeps entries from becoming durable until Release.
func (r *Recorder) Hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = true
}

// Release makes everything durable, and further entries at once.
func (r *Recorder) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = false
	r.durable = len(r.entries)
	r.wake()
}

// Fail makes the recorder stop for good.
func (r *Recorder) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	r.wake()
}

// Discard keeps no further entries, for measurements.
func (r *Recorder) Discard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.discard = true
}

func (r *Recorder) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Entries returns a copy of what was recorded so far.
func (r *Recorder) Entries() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Entry(nil), r.entries...)
}

// Await blocks until match is true of what was recorded, or ctx ends.
func (r *Recorder) Await(ctx context.Context, match func([]Entry) bool) error {
	for {
		r.mu.Lock()
		ok, changed := match(r.entries), r.changed
		r.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.New("memrec: what was awaited was not recorded in time")
		}
	}
}

func (r *Recorder) add(id evidence.ID, e *audit.Event) (enforce.Receipt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	if r.discard {
		return durable{}, nil
	}
	copied := *e
	copied.Meta, copied.Raw = bytes.Clone(e.Meta), bytes.Clone(e.Raw)
	r.entries = append(r.entries, Entry{id, copied})
	if !r.hold {
		r.durable = len(r.entries)
	}
	r.wake()
	return receipt{r, len(r.entries)}, nil
}

// durable is the receipt of what is not kept.
type durable struct{}

// Wait implements enforce.Receipt.
func (durable) Wait(context.Context) error { return nil }

type receipt struct {
	r *Recorder
	n int
}

// Wait implements enforce.Receipt.
func (t receipt) Wait(ctx context.Context) error {
	for {
		t.r.mu.Lock()
		durable, err, changed := t.r.durable, t.r.err, t.r.changed
		t.r.mu.Unlock()
		switch {
		case durable >= t.n:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// OpenSession implements enforce.Recorder.
func (r *Recorder) OpenSession(*access.Principal, *access.Target) (enforce.SessionRecorder, error) {
	if err := r.Err(); err != nil {
		return nil, err
	}
	return session{r, evidence.NewID()}, nil
}

// Control implements enforce.Recorder.
func (r *Recorder) Control(e *audit.Event) (enforce.Receipt, error) { return r.add(evidence.ID{}, e) }

// BootID implements enforce.Recorder.
func (r *Recorder) BootID() evidence.ID { return r.boot }

// Err implements enforce.Recorder.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

type session struct {
	r  *Recorder
	id evidence.ID
}

func (s session) ID() evidence.ID                                { return s.id }
func (s session) ActorID() evidence.Pseudonym                    { return evidence.Pseudonym{1} }
func (s session) TargetID() evidence.Pseudonym                   { return evidence.Pseudonym{2} }
func (s session) Close()                                         {}
func (s session) Append(e *audit.Event) (enforce.Receipt, error) { return s.r.add(s.id, e) }
