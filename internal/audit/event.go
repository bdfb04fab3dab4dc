// Package audit turns what the door saw into entry bodies, on the formats of
// package evidence.
//
// A body is one JSON object (Meta), alone or followed by a newline and exact
// bytes (Raw). The encoders of the hot path append without reflection; the
// others marshal the body types of package evidence. Nothing here touches a disk or a clock.
package audit

import (
	"encoding/json"

	"github.com/gatebook/gatebook/evidence"
)

// Event is one entry to be: what the door knows, before index, time, salt and
// commitment are added by the ledger. The ledger does not retain Meta or Raw.
type Event struct {
	Kind     evidence.Kind
	Exchange uint64
	Decision string
	// Meta is one JSON object without a newline; Raw the exact bytes that
	// belong to it, or nil.
	Meta []byte
	Raw  []byte
	// Closing events may use the disk space reserved for them: what ends
	// something that was begun, and what operators need to mend a full disk
	// (starts, configurations, their own reads).
	Closing bool
}

// New builds an event whose body is a marshalled body type of package evidence.
// It panics if body cannot be marshalled, which no body type of evidence can cause.
func New(kind evidence.Kind, body any) *Event {
	meta, err := json.Marshal(body)
	if err != nil {
		panic("audit: body of " + string(kind) + " does not marshal: " + err.Error())
	}
	return &Event{Kind: kind, Meta: meta}
}

// NewClosing is New for an event that may use the reserved disk space.
func NewClosing(kind evidence.Kind, body any) *Event {
	e := New(kind, body)
	e.Closing = true
	return e
}
