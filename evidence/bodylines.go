package evidence

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// bodyReader gives the bodies of bodies.jsonl by ascending index.
type bodyReader struct {
	lines *lines
	index uint64
	next  *Disclosed
	done  bool
	spare Disclosed
}

func (v *verifier) bodyLines() (*bodyReader, error) {
	l, err := v.c.lines(fileBodies)
	if err != nil {
		return nil, err
	}
	return &bodyReader{lines: l}, nil
}

// at returns the body of an entry, nil if there is none. It is valid until the
// call after next.
func (r *bodyReader) at(index uint64) (*Disclosed, error) {
	if r.next == nil && !r.done {
		if err := r.read(); err != nil {
			return nil, err
		}
	}
	if r.next == nil || r.index != index {
		return nil, nil
	}
	d := r.next
	r.next = nil
	return d, nil
}

// left reports whether bodies remain that no header asked for.
func (r *bodyReader) left() bool {
	if r.next == nil && !r.done && r.read() != nil {
		return true
	}
	return r.next != nil
}

func (r *bodyReader) read() error {
	line, err := r.lines.next()
	if errors.Is(err, io.EOF) {
		r.done = true
		return nil
	}
	if err != nil {
		return err
	}
	index, salt, body, ok := splitBodyLine(line)
	if !ok {
		return fmt.Errorf("%s: malformed line", fileBodies)
	}
	var raw [SaltSize + 4]byte
	if n, err := base64.StdEncoding.Decode(raw[:], salt); err != nil || n != SaltSize {
		return fmt.Errorf("%s: entry %d: malformed salt", fileBodies, index)
	}
	copy(r.spare.Salt[:], raw[:])
	r.spare.Body, err = base64.StdEncoding.AppendDecode(r.spare.Body[:0], body)
	if err != nil {
		return fmt.Errorf("%s: entry %d: malformed body", fileBodies, index)
	}
	r.index, r.next = index, &r.spare
	return nil
}

// splitBodyLine reads the one form that appendBodyLine writes.
func splitBodyLine(line []byte) (index uint64, salt, body []byte, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"i":`))
	if !ok {
		return 0, nil, nil, false
	}
	number, rest, ok := bytes.Cut(rest, []byte(`,"salt":"`))
	if !ok {
		return 0, nil, nil, false
	}
	index, err := strconv.ParseUint(string(number), 10, 63)
	if err != nil || strconv.FormatUint(index, 10) != string(number) {
		return 0, nil, nil, false
	}
	salt, rest, ok = bytes.Cut(rest, []byte(`","body":"`))
	if !ok || len(salt) != base64.StdEncoding.EncodedLen(SaltSize) {
		return 0, nil, nil, false
	}
	body, ok = bytes.CutSuffix(rest, []byte(`"}`))
	return index, salt, body, ok
}

// withheldReader gives the reasons of withheld.jsonl by ascending index.
type withheldReader struct {
	lines  *lines
	index  uint64
	reason string
	done   bool
}

func (v *verifier) withheldLines() (*withheldReader, error) {
	l, err := v.c.lines(fileWithheld)
	if err != nil {
		return nil, err
	}
	return &withheldReader{lines: l}, nil
}

func (r *withheldReader) at(index uint64) (string, error) {
	if r.reason == "" && !r.done {
		if err := r.read(); err != nil {
			return "", err
		}
	}
	if r.reason == "" || r.index != index {
		return "", nil
	}
	reason := r.reason
	r.reason = ""
	return reason, nil
}

func (r *withheldReader) read() error {
	line, err := r.lines.next()
	if errors.Is(err, io.EOF) {
		r.done = true
		return nil
	}
	if err != nil {
		return err
	}
	rest, ok := bytes.CutPrefix(line, []byte(`{"i":`))
	number, rest, ok2 := bytes.Cut(rest, []byte(`,"reason":"`))
	reason, ok3 := bytes.CutSuffix(rest, []byte(`"}`))
	n, err := strconv.ParseUint(string(number), 10, 63)
	if !ok || !ok2 || !ok3 || err != nil || (string(reason) != WithheldToken && string(reason) != WithheldErased) {
		return fmt.Errorf("%s: malformed line", fileWithheld)
	}
	r.index, r.reason = n, string(reason)
	return nil
}

// left reports whether reasons remain that no header asked for.
func (r *withheldReader) left() bool {
	if r.reason == "" && !r.done && r.read() != nil {
		return true
	}
	return r.reason != ""
}
