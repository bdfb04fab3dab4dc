package ledger

import (
	"errors"
	"fmt"
	"io"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/seal"
)

// Entry is an entry as it stands in the book. Line and Sealed are valid until
// the scanner's next call.
type Entry struct {
	Header evidence.Header
	Line   []byte // the exact header line
	Sealed []byte
}

// Scanner reads entries in order. It is used by one goroutine.
type Scanner struct {
	l    *Ledger
	r    *journal.Reader
	keys map[evidence.ID]*seal.Key
}

// Scan returns a scanner that begins with entry number from. It sees durable
// entries only; at their end Next returns io.EOF, and may return more later.
func (l *Ledger) Scan(from uint64) *Scanner {
	return &Scanner{l: l, r: l.log.Read(journal.Seq(from)), keys: make(map[evidence.ID]*seal.Key)}
}

// Close ends the scan.
func (s *Scanner) Close() error { return s.r.Close() }

// Next returns the next entry.
func (s *Scanner) Next() (Entry, error) {
	seq, payload, err := s.r.Next()
	if err != nil {
		return Entry{}, err
	}
	return parseEntry(uint64(seq), payload)
}

// ErrEntry is matched when the journal holds something that is not an entry.
var ErrEntry = errors.New("not an entry")

func parseEntry(index uint64, payload []byte) (Entry, error) {
	if len(payload) < 2 {
		return Entry{}, fmt.Errorf("payload %d: %w: %d bytes", index, ErrEntry, len(payload))
	}
	n := int(payload[0]) | int(payload[1])<<8
	if n > len(payload)-2 {
		return Entry{}, fmt.Errorf("payload %d: %w: header of %d bytes in %d", index, ErrEntry, n, len(payload))
	}
	e := Entry{Line: payload[2 : 2+n], Sealed: payload[2+n:]}
	var err error
	if e.Header, err = evidence.ParseHeader(e.Line); err != nil {
		return Entry{}, fmt.Errorf("payload %d: %w", index, err)
	}
	if e.Header.Index != index {
		return Entry{}, fmt.Errorf("payload %d: %w: its header says %d", index, ErrEntry, e.Header.Index)
	}
	return e, nil
}

// Body opens an entry's sealed body and checks it against the header's
// commitment. The error matches seal.ErrNoKey when the data key is gone.
func (s *Scanner) Body(e *Entry) (salt [evidence.SaltSize]byte, body []byte, err error) {
	id, err := seal.KeyID(e.Sealed)
	if err != nil {
		return salt, nil, fmt.Errorf("entry %d: %w", e.Header.Index, err)
	}
	key := s.keys[id]
	if key == nil {
		if key, err = s.l.keys.Key(id); err != nil {
			return salt, nil, fmt.Errorf("entry %d: %w", e.Header.Index, err)
		}
		if len(s.keys) >= 1024 {
			clear(s.keys)
		}
		s.keys[id] = key
	}
	if salt, body, err = key.Open(e.Sealed); err != nil {
		return salt, nil, fmt.Errorf("entry %d: %w", e.Header.Index, err)
	}
	if evidence.Commitment(&salt, body) != e.Header.Commit {
		return salt, nil, fmt.Errorf("entry %d: the body is not the one its header commits to", e.Header.Index)
	}
	return salt, body, nil
}

// each calls f for the entries from number from to the durable end.
func (l *Ledger) each(from uint64, f func(*Scanner, *Entry) error) error {
	s := l.Scan(from)
	defer func() { _ = s.Close() }()
	for {
		e, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(s, &e); err != nil {
			return err
		}
	}
}
