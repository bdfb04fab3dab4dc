package bookcheck

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// checkpoint is a signed note whose signature holds.
type checkpoint struct {
	size uint64
	root []byte
}

// readCheckpoints follows docs/formats/checkpoint.md. Only the last line may be torn.
func readCheckpoints(files Files, name, logKey string) ([]checkpoint, error) {
	text, err := files.Read(name)
	if err != nil {
		return nil, err
	}
	parts := strings.SplitN(strings.TrimSpace(logKey), "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("bad verifier key")
	}
	hash, err := hex.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 1 {
		return nil, errors.Join(errors.New("bad verifier key"), err)
	}
	var list []checkpoint
	for len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		var s struct {
			Size uint64
			Note string
		}
		err := json.Unmarshal(line, &s)
		if !whole || err != nil {
			if len(bytes.Trim(rest, "\x00")) > 0 {
				return nil, fmt.Errorf("line %d is damaged and others follow", len(list)+1)
			}
			break
		}
		c, err := openNote(s.Note, parts[0], hash, key[1:])
		if err == nil && (c.size != s.Size || len(list) > 0 && c.size < list[len(list)-1].size) {
			err = fmt.Errorf("it is of %d entries", c.size)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", len(list)+1, err)
		}
		list, text = append(list, *c), rest
	}
	return list, nil
}

func openNote(note, origin string, hash, key []byte) (*checkpoint, error) {
	text, signature, ok := strings.Cut(note, "\n\n")
	lines := strings.Split(text, "\n")
	line, good := strings.CutPrefix(signature, "— "+origin+" ")
	if !ok || !good || len(lines) != 3 || lines[0] != origin || !strings.HasSuffix(line, "\n") {
		return nil, errors.New("not a checkpoint of this book")
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(line, "\n"))
	if err != nil || len(raw) != 68 || !bytes.Equal(raw[:4], hash) || !ed25519.Verify(key, []byte(text+"\n"), raw[4:]) {
		return nil, errors.New("the signature does not hold")
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return nil, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	return &checkpoint{size, root}, err
}

// checkTree compares the RFC 6962 root of the headers with every checkpoint.
func (b *Book) checkTree(notes []checkpoint) error {
	type node struct {
		hash   []byte
		leaves uint64
	}
	join := func(l, r []byte) []byte {
		h := sha256.Sum256(slices.Concat([]byte{1}, l, r))
		return h[:]
	}
	var stack []node
	size := uint64(0)
	for _, c := range notes {
		if c.size > uint64(len(b.Entries)) {
			return fmt.Errorf("a checkpoint of %d entries, the journal has %d", c.size, len(b.Entries))
		}
		for ; size < c.size; size++ {
			h := sha256.Sum256(append([]byte{0}, b.Entries[size].Line...))
			stack = append(stack, node{h[:], 1})
			for n := len(stack); n > 1 && stack[n-1].leaves == stack[n-2].leaves; n-- {
				stack = append(stack[:n-2], node{join(stack[n-2].hash, stack[n-1].hash), 2 * stack[n-1].leaves})
			}
		}
		empty := sha256.Sum256(nil)
		root := empty[:]
		if len(stack) > 0 {
			root = stack[len(stack)-1].hash
			for i := len(stack) - 2; i >= 0; i-- {
				root = join(stack[i].hash, root)
			}
		}
		if !bytes.Equal(root, c.root) {
			return fmt.Errorf("the checkpoint of %d entries has another root", c.size)
		}
	}
	return nil
}

// Exchange is one intent with what came of it.
type Exchange struct {
	Session string
	Number  uint64
	Intent  *Entry
	Outcome *Entry // nil while it is open
	Answer  []byte // all bytes that the agent was given
}

// Exchanges pairs intents and outcomes and checks that nothing stands there
// twice, without its beginning, or behind its end. With closed, as after a
// recovery or a stop, nothing may be left open.
func (b *Book) Exchanges(closed bool) ([]*Exchange, error) {
	type session struct {
		begun map[uint64]*Exchange
		ended bool
	}
	sessions := map[string]*session{}
	var list []*Exchange
	for i := range b.Entries {
		e := &b.Entries[i]
		if e.Session == "" {
			continue
		}
		s := sessions[e.Session]
		fail := func(what string) error {
			return fmt.Errorf("entry %d, %s of session %s: %s", i, e.Kind, e.Session, what)
		}
		if e.Kind == "session" {
			if s != nil {
				return nil, fail("the session begins twice")
			}
			sessions[e.Session] = &session{begun: map[uint64]*Exchange{}}
			continue
		}
		if s == nil {
			return nil, fail("the session has not begun")
		}
		if s.ended {
			return nil, fail("the session is over")
		}
		x := s.begun[e.Exchange]
		if x == nil && e.Exchange != 0 && e.Kind != "intent" {
			return nil, fail("there is no intent")
		}
		if x != nil && x.Outcome != nil {
			return nil, fail("the exchange has its outcome already")
		}
		switch e.Kind {
		case "session-end":
			s.ended = true
			for n, x := range s.begun {
				if x.Outcome == nil {
					return nil, fail(fmt.Sprintf("exchange %d is open", n))
				}
			}
		case "intent":
			if x != nil {
				return nil, fail("the exchange begins twice")
			}
			x = &Exchange{Session: e.Session, Number: e.Exchange, Intent: e}
			s.begun[e.Exchange], list = x, append(list, x)
		case "answer":
			if x != nil {
				x.Answer = append(x.Answer, e.Raw...)
			}
		case "outcome":
			x.Outcome, x.Answer = e, append(x.Answer, e.Raw...)
			sum := sha256.Sum256(x.Answer)
			if want := e.Text("sha256"); want != strings.Repeat("0", 64) && want != hex.EncodeToString(sum[:]) {
				return nil, fail("the answer is not what the digest says")
			}
		}
	}
	for id, s := range sessions {
		if closed && !s.ended {
			return nil, fmt.Errorf("session %s has no end", id)
		}
	}
	return list, nil
}

// Continues says whether b begins with all that earlier held, byte for byte.
func (b *Book) Continues(earlier *Book) error {
	if len(b.Entries) < len(earlier.Entries) {
		return fmt.Errorf("%d entries, there were %d", len(b.Entries), len(earlier.Entries))
	}
	for i := range earlier.Entries {
		if !bytes.Equal(b.Entries[i].Line, earlier.Entries[i].Line) {
			return fmt.Errorf("entry %d was %s and is %s", i, earlier.Entries[i].Line, b.Entries[i].Line)
		}
	}
	return nil
}
