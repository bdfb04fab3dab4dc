package evidence

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strconv"
	"time"
)

// A Sink takes the files that a Builder makes, piece by piece in any order of files.
type Sink interface {
	Append(name string, piece []byte) error
}

// A Builder turns the entries of a range, in order, into everything under
// data/ that follows from them: headers, bodies, populations, readable views
// and the summary. The exporter feeds it from the book and the verifier from the package, so that
// a view that was changed does not match. Used by one goroutine.
type Builder struct {
	scope Scope
	sink  Sink
	line  []byte
	seen  uint64
	last  time.Time

	boots      int
	beatS      int  // heartbeat interval in force, seconds
	stopped    bool // the last boot was ended by a stop entry
	sync       map[string]bool
	counts     map[Kind]uint64
	withheld   map[string]uint64
	open       map[ID]*openSession
	people     map[string]*identity
	issuerKeys map[string]uint64 // sessions by issuer URL and key thumbprint
	others     map[string]uint64 // entries by actor outside of the filter
	stats      Stats
	issues     []Exception
	problems   []Problem
}

// Stats are the totals of a range.
type Stats struct {
	Entries    uint64            `json:"entries"`
	Disclosed  uint64            `json:"bodies_disclosed"`
	Sessions   uint64            `json:"sessions"`
	Exchanges  uint64            `json:"exchanges"`
	Allowed    uint64            `json:"allowed"`
	Denied     uint64            `json:"denied"`
	OwnGateway uint64            `json:"gateway_own"`
	Errors     uint64            `json:"errors"`
	Unknown    uint64            `json:"outcome_unknown"`
	NotRun     uint64            `json:"not_run"`
	Refused    uint64            `json:"refused_logins"`
	Rows       uint64            `json:"rows"`
	Bytes      uint64            `json:"answer_bytes"`
	Identity   map[string]uint64 `json:"identity"` // sessions by strength of the identity's proof
}

// Exception is something an auditor should look at although nothing was
// tampered with.
type Exception struct {
	Index uint64 `json:"index"`
	Code  string `json:"code"`
	What  string `json:"what"`
}

// Problem is something that must not be in an untampered package.
type Problem struct {
	Aspect Aspect `json:"aspect"`
	Where  string `json:"where"`
	What   string `json:"what"`
}

// Aspect is one of the questions that verification answers apart.
type Aspect string

// Aspects.
const (
	// Container: is the file one that can be read safely, complete by its own manifest?
	Container Aspect = "container"
	// Signer: was it packed by somebody whom the trust file names?
	SignerTrust Aspect = "signer"
	// Integrity: is every entry the one that the signed log holds?
	Integrity Aspect = "integrity"
	// Completeness: is anything missing that should be there?
	Completeness Aspect = "completeness"
	// IdentityProof: do the recorded identities follow from their issuers' signatures?
	IdentityProof Aspect = "identity"
	// Anchoring: does the log agree with what was seen of it outside?
	Anchoring Aspect = "anchoring"
)

// maxListed bounds the exceptions and problems that are listed one by one.
const maxListed = 1000

// openSession is what the builder keeps of a session until its end.
type openSession struct {
	id        ID
	first     uint64
	leaf      string
	began     time.Time
	body      *Session
	disclosed bool
	level     string // of the identity's proof
	exchanges uint64
	intents   map[uint64]*openIntent
	views     map[uint64]*answerView
}

type openIntent struct {
	index    uint64
	leaf     string
	time     time.Time
	decision string
	body     *Intent
	chunks   uint64
	requests uint64
	bytes    uint64
	digest   hash.Hash
}

// identity collects what the range says of one principal.
type identity struct {
	first    uint64
	leaf     string
	time     time.Time
	body     Principal
	sessions uint64
	levels   map[string]uint64
}

// NewBuilder returns a builder for a scope.
func NewBuilder(scope Scope, sink Sink) *Builder {
	b := &Builder{
		scope: scope, sink: sink, sync: make(map[string]bool), counts: make(map[Kind]uint64),
		withheld: make(map[string]uint64), open: make(map[ID]*openSession), people: make(map[string]*identity),
		issuerKeys: make(map[string]uint64), others: make(map[string]uint64),
	}
	b.stats.Identity = make(map[string]uint64)
	return b
}

func (b *Builder) problem(aspect Aspect, where, format string, args ...any) {
	if len(b.problems) < maxListed {
		b.problems = append(b.problems, Problem{Aspect: aspect, Where: where, What: fmt.Sprintf(format, args...)})
	}
}

func (b *Builder) exception(index uint64, code, format string, args ...any) {
	if len(b.issues) < maxListed {
		b.issues = append(b.issues, Exception{Index: index, Code: code, What: fmt.Sprintf(format, args...)})
	}
}

// Disclosed is the body of an entry with its salt.
type Disclosed struct {
	Salt [SaltSize]byte
	Body []byte
}

// Entry takes the next entry: its exact header line, and its body or the
// reason why there is none ("" for entries outside of the filter).
func (b *Builder) Entry(line []byte, h *Header, d *Disclosed, reason string) error {
	b.seen++
	b.counts[h.Kind]++
	b.stats.Entries++
	b.line = append(append(b.line[:0], line...), '\n')
	if err := b.sink.Append(fileHeaders, b.line); err != nil {
		return err
	}
	if want := b.scope.First + b.seen - 1; h.Index != want {
		b.problem(Completeness, at(h.Index), "index %d where %d is due", h.Index, want)
	}
	b.continuity(h)
	switch {
	case d != nil:
		b.stats.Disclosed++
		if err := b.sink.Append(fileBodies, appendBodyLine(b.line[:0], h.Index, d)); err != nil {
			return err
		}
	case reason != "":
		b.withheld[reason]++
		text := append(strconv.AppendUint(append(b.line[:0], `{"i":`...), h.Index, 10), `,"reason":"`...)
		if err := b.sink.Append(fileWithheld, append(append(text, reason...), "\"}\n"...)); err != nil {
			return err
		}
	default:
		if !h.Session.IsZero() {
			b.others[h.Actor.String()]++
		}
	}
	return b.view(line, h, d)
}

func at(index uint64) string { return "entry " + strconv.FormatUint(index, 10) }

// appendBodyLine appends a line of bodies.jsonl.
func appendBodyLine(dst []byte, index uint64, d *Disclosed) []byte {
	dst = append(dst, `{"i":`...)
	dst = strconv.AppendUint(dst, index, 10)
	dst = append(dst, `,"salt":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, d.Salt[:])
	dst = append(dst, `","body":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, d.Body)
	return append(dst, "\"}\n"...)
}

// continuity checks that time does not run backwards and that no time is
// silent: a gap of more than two heartbeats must lie between a stop and a boot.
func (b *Builder) continuity(h *Header) {
	if !b.last.IsZero() {
		gap := h.Time.Sub(b.last)
		if gap < 0 {
			b.problem(Integrity, at(h.Index), "time runs backwards by %v", -gap)
		}
		if limit := 2 * time.Duration(b.beatS) * time.Second; b.beatS > 0 && gap > limit && !(b.stopped && h.Kind == KindBoot) {
			b.exception(h.Index, "gap", "no entry for %v (heartbeats are due every %d s)", gap.Round(time.Second), b.beatS)
		}
	}
	b.last = h.Time
	b.stopped = h.Kind == KindStop
}

// view makes the readable forms of an entry.
func (b *Builder) view(line []byte, h *Header, d *Disclosed) error {
	leaf := LeafHash(line)
	if h.Session.IsZero() {
		if d == nil {
			return nil
		}
		return b.control(h, d.Body, hex.EncodeToString(leaf[:]))
	}
	s := b.open[h.Session]
	if h.Kind == KindSession {
		if s != nil {
			b.problem(Integrity, at(h.Index), "session %s begins twice", h.Session)
		}
		s = &openSession{
			id: h.Session, first: h.Index, leaf: hex.EncodeToString(leaf[:]), began: h.Time,
			intents: make(map[uint64]*openIntent), views: make(map[uint64]*answerView), level: "withheld",
		}
		b.open[h.Session] = s
	}
	if s == nil {
		if b.scope.First == 0 {
			b.problem(Integrity, at(h.Index), "%s entry of session %s, which is not open", h.Kind, h.Session)
		}
		return nil // it began before the range
	}
	return b.session(s, h, d, hex.EncodeToString(leaf[:]))
}

// eventLine writes one line of a session's events.jsonl.
func (b *Builder) eventLine(h *Header, body []byte) error {
	meta, raw := SplitBody(body)
	out := append(b.line[:0], `{"index":`...)
	out = strconv.AppendUint(out, h.Index, 10)
	out = append(out, `,"time":"`...)
	out = h.Time.AppendFormat(out, headerTime)
	out = append(out, `","kind":"`...)
	out = append(out, h.Kind...)
	out = append(out, '"')
	if h.Exchange != 0 {
		out = append(out, `,"exchange":`...)
		out = strconv.AppendUint(out, h.Exchange, 10)
	}
	if h.Decision != "" {
		out = append(out, `,"decision":"`...)
		out = append(out, h.Decision...)
		out = append(out, '"')
	}
	if len(raw) > 0 {
		out = append(out, `,"bytes":`...)
		out = strconv.AppendInt(out, int64(len(raw)), 10)
	}
	out = append(out, `,"body":`...)
	if json.Valid(meta) {
		out = append(out, meta...)
	} else {
		out = append(out, "null"...)
		b.problem(Integrity, at(h.Index), "the body is not JSON")
	}
	out = append(out, "}\n"...)
	b.line = out
	return b.sink.Append("data/sessions/"+h.Session.String()+"/events.jsonl", out)
}

func sum(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}
