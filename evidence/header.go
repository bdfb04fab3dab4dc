package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// HeaderVersion is the version that AppendHeader writes.
const HeaderVersion = 1

// MaxHeader is the largest header line in bytes. It stays far below the 65,535
// bytes that C2SP tlog-tiles allows for a leaf.
const MaxHeader = 1024

// Kind says what an entry records.
type Kind string

// Kinds of entries. The first group belongs to the book, the second to a session.
const (
	KindBoot      Kind = "boot"      // the gateway started: version, configuration, previous head
	KindStop      Kind = "stop"      // the gateway stopped in order
	KindHeartbeat Kind = "heartbeat" // nothing else was written for a while
	KindConfig    Kind = "config"    // a configuration came into force
	KindKey       Kind = "key"       // keys came into force
	KindAdmin     Kind = "admin"     // somebody read evidence, exported, or intervened
	KindGate      Kind = "gate"      // low disk, closed, reopened, recovered
	KindPrincipal Kind = "principal" // binds an actor pseudonym to an identity
	KindTarget    Kind = "target"    // binds a target pseudonym to a name
	KindRefused   Kind = "refused"   // log-ins and cancels that led to no session
	KindAlert     Kind = "alert"     // something that somebody should look at soon; also in a session

	KindSession    Kind = "session"     // a principal opened a session
	KindUpstream   Kind = "upstream"    // the session reached its target
	KindIdentity   Kind = "identity"    // a fresh token prolonged the session
	KindIntent     Kind = "intent"      // an exchange was asked for and decided
	KindRequest    Kind = "request"     // a further chunk of the request (COPY data)
	KindAnswer     Kind = "answer"      // a chunk of the answer, or frames without a request (exchange 0)
	KindOutcome    Kind = "outcome"     // what came of an intent; exactly one each
	KindTicket     Kind = "ticket"      // a held request waits for people
	KindRuling     Kind = "ruling"      // what a person said of it
	KindRelease    Kind = "release"     // it is let through
	KindTicketEnd  Kind = "ticket-end"  // it is not let through
	KindCancel     Kind = "cancel"      // the agent or an administrator cancelled
	KindNote       Kind = "note"        // something the gateway did in the session
	KindSessionEnd Kind = "session-end" // the session is over
)

// kinds gives the constant for a kind's name, so that reading one allocates nothing.
var kinds = func() map[string]Kind {
	m := make(map[string]Kind)
	for _, k := range []Kind{
		KindBoot, KindStop, KindHeartbeat, KindConfig, KindKey, KindAdmin, KindGate, KindPrincipal, KindTarget, KindRefused, KindAlert,
		KindSession, KindUpstream, KindIdentity, KindIntent, KindRequest, KindAnswer, KindOutcome, KindTicket, KindRuling, KindRelease, KindTicketEnd, KindCancel, KindNote, KindSessionEnd,
	} {
		m[string(k)] = k
	}
	return m
}()

// Pseudonym stands for a target or an actor in headers: the first 16 bytes of
// HMAC-SHA-256 under the book's epoch key. The zero value means "none".
type Pseudonym [16]byte

// String returns 32 hexadecimal digits, or "" for the zero value.
func (p Pseudonym) String() string {
	if p == (Pseudonym{}) {
		return ""
	}
	return hex.EncodeToString(p[:])
}

// Header is the public part of an entry. It holds no free text and no personal
// data. On disk and in packages it is one line of JSON with these keys in this order,
// those with zero values left out, except "v", "i", "t", "k", "n" and "c".
type Header struct {
	Index    uint64    // "i": dense from 0, the leaf's place in the tree
	Time     time.Time // "t": UTC with microseconds; never runs backwards within a book
	Kind     Kind      // "k"
	Session  ID        // "s"
	Exchange uint64    // "x": 1.. within the session; 0 is what comes without a request
	Decision string    // "d": "allow", "hold" or "deny", on intents
	BodyLen  uint64    // "n": bytes of the plain, uncompressed body
	Target   Pseudonym // "g"
	Actor    Pseudonym // "a"
	Commit   [32]byte  // "c": SHA-256(salt ‖ body)
}

const headerTime = "2006-01-02T15:04:05.000000Z"

// AppendHeader appends the header's line, without a newline. It does not
// allocate when dst has room.
func AppendHeader(dst []byte, h *Header) []byte {
	dst = append(dst, `{"v":1,"i":`...)
	dst = strconv.AppendUint(dst, h.Index, 10)
	dst = append(dst, `,"t":"`...)
	dst = AppendTime(dst, h.Time)
	dst = append(dst, `","k":"`...)
	dst = append(dst, h.Kind...)
	if !h.Session.IsZero() {
		dst = append(dst, `","s":"`...)
		dst = idEncoding.AppendEncode(dst, h.Session[:])
	}
	dst = append(dst, '"')
	if h.Exchange != 0 {
		dst = append(dst, `,"x":`...)
		dst = strconv.AppendUint(dst, h.Exchange, 10)
	}
	if h.Decision != "" {
		dst = append(dst, `,"d":"`...)
		dst = append(dst, h.Decision...)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"n":`...)
	dst = strconv.AppendUint(dst, h.BodyLen, 10)
	if h.Target != (Pseudonym{}) {
		dst = append(dst, `,"g":"`...)
		dst = hex.AppendEncode(dst, h.Target[:])
		dst = append(dst, '"')
	}
	if h.Actor != (Pseudonym{}) {
		dst = append(dst, `,"a":"`...)
		dst = hex.AppendEncode(dst, h.Actor[:])
		dst = append(dst, '"')
	}
	dst = append(dst, `,"c":"`...)
	dst = hex.AppendEncode(dst, h.Commit[:])
	return append(dst, `"}`...)
}

type wireHeader struct {
	V uint64 `json:"v"`
	I uint64 `json:"i"`
	T string `json:"t"`
	K Kind   `json:"k"`
	S string `json:"s"`
	X uint64 `json:"x"`
	D string `json:"d"`
	N uint64 `json:"n"`
	G string `json:"g"`
	A string `json:"a"`
	C string `json:"c"`
}

// ErrHeader is matched by every refusal of ParseHeader.
var ErrHeader = errors.New("malformed entry header")

// ParseHeader reads one line without its newline. Only the exact bytes that
// AppendHeader would write are accepted, so that one header has one form.
func ParseHeader(line []byte) (Header, error) {
	if h, ok := scanHeader(line); ok {
		return h, nil
	}
	return explainHeader(line)
}

// explainHeader parses a line by way of its JSON, to say what is wrong with it.
func explainHeader(line []byte) (Header, error) {
	var h Header
	if len(line) > MaxHeader {
		return h, fmt.Errorf("%w: %d bytes, at most %d", ErrHeader, len(line), MaxHeader)
	}
	var w wireHeader
	if err := json.Unmarshal(line, &w); err != nil {
		return h, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if w.V != HeaderVersion {
		return h, fmt.Errorf("%w: version %d, this program reads %d", ErrHeader, w.V, HeaderVersion)
	}
	if kinds[string(w.K)] == "" {
		return h, fmt.Errorf("%w: unknown kind %q", ErrHeader, w.K)
	}
	if w.D != "" && w.D != "allow" && w.D != "hold" && w.D != "deny" {
		return h, fmt.Errorf("%w: unknown decision %q", ErrHeader, w.D)
	}
	h = Header{Index: w.I, Kind: w.K, Exchange: w.X, Decision: w.D, BodyLen: w.N}
	var err error
	if h.Time, err = time.Parse(headerTime, w.T); err != nil {
		return h, fmt.Errorf("%w: time: %w", ErrHeader, err)
	}
	if h.Session, err = ParseID(w.S); err != nil {
		return h, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if err := parseHex(h.Target[:], w.G, true); err != nil {
		return h, fmt.Errorf("%w: target: %w", ErrHeader, err)
	}
	if err := parseHex(h.Actor[:], w.A, true); err != nil {
		return h, fmt.Errorf("%w: actor: %w", ErrHeader, err)
	}
	if err := parseHex(h.Commit[:], w.C, false); err != nil {
		return h, fmt.Errorf("%w: commitment: %w", ErrHeader, err)
	}
	var buf [MaxHeader]byte
	if !bytes.Equal(AppendHeader(buf[:0], &h), line) {
		return h, fmt.Errorf("%w: not in canonical form", ErrHeader)
	}
	return h, nil
}

// scanHeader reads the exact form that AppendHeader writes, and reports whether
// the line has it.
func scanHeader(line []byte) (Header, bool) {
	c := headerCursor{rest: line, ok: len(line) <= MaxHeader}
	var h Header
	c.literal(`{"v":1,"i":`)
	h.Index = c.number()
	c.literal(`,"t":"`)
	h.Time = c.time()
	c.literal(`","k":"`)
	h.Kind = c.kind()
	if c.has(`","s":"`) {
		id, err := ParseID(string(c.take(idEncoding.EncodedLen(len(h.Session)))))
		c.ok = c.ok && err == nil
		h.Session = id
	}
	c.literal(`"`)
	if c.has(`,"x":`) {
		h.Exchange = c.number()
	}
	switch {
	case c.has(`,"d":"allow"`):
		h.Decision = "allow"
	case c.has(`,"d":"hold"`):
		h.Decision = "hold"
	case c.has(`,"d":"deny"`):
		h.Decision = "deny"
	}
	c.literal(`,"n":`)
	h.BodyLen = c.number()
	if c.has(`,"g":"`) {
		c.hex(h.Target[:])
	}
	if c.has(`,"a":"`) {
		c.hex(h.Actor[:])
	}
	c.literal(`,"c":"`)
	c.hex(h.Commit[:])
	c.literal(`}`)
	if !c.ok || len(c.rest) > 0 {
		return Header{}, false
	}
	// Whatever was read too generously above shows here.
	var buf [MaxHeader]byte
	return h, bytes.Equal(AppendHeader(buf[:0], &h), line)
}

// headerCursor walks through a header line. Once ok is false it stays so.
type headerCursor struct {
	rest []byte
	ok   bool
}

// has takes s off if it stands next.
func (c *headerCursor) has(s string) bool {
	if len(c.rest) < len(s) || string(c.rest[:len(s)]) != s {
		return false
	}
	c.rest = c.rest[len(s):]
	return true
}

func (c *headerCursor) literal(s string) { c.ok = c.has(s) && c.ok }

func (c *headerCursor) take(n int) []byte {
	if len(c.rest) < n {
		c.ok = false
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *headerCursor) number() uint64 {
	n := 0
	for n < len(c.rest) && n < 20 && c.rest[n] >= '0' && c.rest[n] <= '9' {
		n++
	}
	x, err := strconv.ParseUint(string(c.take(n)), 10, 64)
	c.ok = c.ok && err == nil
	return x
}

func (c *headerCursor) kind() Kind {
	n := max(0, bytes.IndexByte(c.rest, '"'))
	k, ok := kinds[string(c.take(n))]
	c.ok = c.ok && ok
	return k
}

func (c *headerCursor) hex(dst []byte) {
	_, err := hex.Decode(dst, c.take(2*len(dst)))
	c.ok = c.ok && err == nil
	c.literal(`"`)
}

// time reads the form headerTime.
func (c *headerCursor) time() time.Time {
	b := c.take(len(headerTime))
	if !c.ok {
		return time.Time{}
	}
	n := func(from, to int) (x int) {
		for _, d := range b[from:to] {
			x = x*10 + int(d-'0')
		}
		return x
	}
	return time.Date(n(0, 4), time.Month(n(5, 7)), n(8, 10), n(11, 13), n(14, 16), n(17, 19), n(20, 26)*1000, time.UTC)
}

// AppendTime appends t in UTC in the form that headers have, which cuts it to microseconds. Package time would
// format it at several times the cost.
func AppendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(dst, headerTime)
	}
	hour, minute, second := t.Clock()
	us := t.Nanosecond() / 1000
	two := func(x int, mark byte) { dst = append(dst, byte('0'+x/10), byte('0'+x%10), mark) }
	dst = append(dst, byte('0'+year/1000), byte('0'+year/100%10))
	two(year%100, '-')
	two(int(month), '-')
	two(day, 'T')
	two(hour, ':')
	two(minute, ':')
	two(second, '.')
	dst = append(dst, byte('0'+us/100000), byte('0'+us/10000%10), byte('0'+us/1000%10), byte('0'+us/100%10))
	two(us%100, 'Z')
	return dst
}

func parseHex(dst []byte, s string, empty bool) error {
	if s == "" && empty {
		return nil
	}
	if len(s) != 2*len(dst) {
		return fmt.Errorf("%d hexadecimal digits, want %d", len(s), 2*len(dst))
	}
	_, err := hex.Decode(dst, []byte(s))
	return err
}

// SaltSize is the size of an entry's salt in bytes.
const SaltSize = 32

// Commitment returns SHA-256(salt ‖ body), over the plain, uncompressed body.
func Commitment(salt *[SaltSize]byte, body []byte) [32]byte {
	d := sha256.New()
	d.Write(salt[:])
	d.Write(body)
	var c [32]byte
	d.Sum(c[:0])
	return c
}

// LeafHash returns the RFC 6962 leaf hash of a header line, SHA-256(0x00 ‖ line).
func LeafHash(line []byte) tlog.Hash { return tlog.RecordHash(line) }
