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

	KindSession    Kind = "session"     // a principal opened a session
	KindUpstream   Kind = "upstream"    // the session reached its target
	KindIdentity   Kind = "identity"    // a fresh token prolonged the session
	KindIntent     Kind = "intent"      // an exchange was asked for and decided
	KindRequest    Kind = "request"     // a further chunk of the request (COPY data)
	KindAnswer     Kind = "answer"      // a chunk of the answer, or frames without a request (exchange 0)
	KindOutcome    Kind = "outcome"     // what came of an intent; exactly one each
	KindCancel     Kind = "cancel"      // the agent or an administrator cancelled
	KindNote       Kind = "note"        // something the gateway did in the session
	KindSessionEnd Kind = "session-end" // the session is over
)

var kinds = map[Kind]bool{
	KindBoot: true, KindStop: true, KindHeartbeat: true, KindConfig: true, KindKey: true, KindAdmin: true, KindGate: true,
	KindPrincipal: true, KindTarget: true, KindRefused: true, KindSession: true, KindUpstream: true, KindIdentity: true,
	KindIntent: true, KindRequest: true, KindAnswer: true, KindOutcome: true, KindCancel: true, KindNote: true, KindSessionEnd: true,
}

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
	Decision string    // "d": "allow" or "deny", on intents
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
	dst = h.Time.UTC().AppendFormat(dst, headerTime)
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
	if !kinds[w.K] {
		return h, fmt.Errorf("%w: unknown kind %q", ErrHeader, w.K)
	}
	if w.D != "" && w.D != "allow" && w.D != "deny" {
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
