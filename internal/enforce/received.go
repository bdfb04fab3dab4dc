package enforce

import (
	"bytes"
	"hash/maphash"
	"sync"

	"github.com/gatebook/gatebook/internal/access"
)

// received remembers values of masked columns that a principal got unmasked, since the mask is not for it: so that it can be told when
// they are sent on. What is kept are digests of 64 bits under a key that is made anew with the process.
type received struct {
	mu    sync.Mutex
	seed  maphash.Seed
	masks map[uint64]string
	ring  []uint64 // in the order in which they came
	next  int
}

const (
	// maxReceived is how many values of a principal are remembered; a new one takes the place of the oldest.
	maxReceived = 1 << 16
	// minReceived is the shortest value that is remembered, in bytes: shorter ones are sent on by accident.
	minReceived = 5
	// maxReceivedValue is the longest.
	maxReceivedValue = 1 << 10
)

func (r *received) add(mask string, v []byte) {
	v = bytes.TrimSpace(v)
	if len(v) < minReceived || len(v) > maxReceivedValue {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.masks == nil {
		r.seed, r.masks = maphash.MakeSeed(), map[uint64]string{}
	}
	d := maphash.Bytes(r.seed, v)
	if _, known := r.masks[d]; known {
		return
	}
	if len(r.ring) < maxReceived {
		r.ring = append(r.ring, d)
	} else {
		delete(r.masks, r.ring[r.next])
		r.ring[r.next] = d
		r.next = (r.next + 1) % maxReceived
	}
	r.masks[d] = mask
}

// any reports whether anything is remembered.
func (r *received) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.masks) > 0
}

// of returns the mask whose value it is, "" if it is none.
func (r *received) of(v []byte) string {
	v = bytes.TrimSpace(v)
	if len(v) < minReceived || len(v) > maxReceivedValue {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.masks[maphash.Bytes(r.seed, v)]
}

// Received remembers that the agent got a value of a column that a mask names, unmasked.
func (s *Session) Received(mask string, v []byte) { s.budget.received.add(mask, v) }

// receivedKind is the kind of a value that was received before.
func receivedKind(mask string) string { return "received:" + mask }

// findReceived looks in a request for values that its principal received before: its quoted constants, and what is bound to it.
func (s *Session) findReceived(a *access.Action) {
	r := &s.budget.received
	if !r.any() {
		return
	}
	text := []byte(a.Text)
	for from := 0; from < len(text); {
		at := bytes.IndexByte(text[from:], '\'')
		if at < 0 {
			break
		}
		at += from
		end := at + 1
		for end < len(text) && (text[end] != '\'' || end+1 < len(text) && text[end+1] == '\'') {
			if text[end] == '\'' {
				end++
			}
			end++
		}
		if end >= len(text) {
			break
		}
		if mask := r.of(bytes.ReplaceAll(text[at+1:end], []byte("''"), []byte("'"))); mask != "" {
			note(a, receivedKind(mask))
			a.HiddenText = append(a.HiddenText, access.HiddenPart{From: at, To: end + 1, What: mask})
		}
		from = end + 1
	}
	values, err := a.Bound()
	if err != nil {
		return
	}
	for i, v := range values {
		raw, _ := v.([]byte)
		if text, ok := v.(string); ok {
			raw = []byte(text)
		}
		if mask := r.of(raw); mask != "" {
			note(a, receivedKind(mask))
			a.HiddenParams = append(a.HiddenParams, access.HiddenParam{N: i + 1, What: mask})
		}
	}
}

// receivedIn counts values that were received before among the fields of data that the agent sends.
func (r *received) receivedIn(data []byte, count func(kind string)) {
	if !r.any() {
		return
	}
	for _, field := range bytes.FieldsFunc(data, func(c rune) bool {
		return c == '\t' || c == '\n' || c == '\r' || c == ',' || c == ';' || c == '|' || c == '"' || c < ' '
	}) {
		if mask := r.of(field); mask != "" {
			count(receivedKind(mask))
		}
	}
}
