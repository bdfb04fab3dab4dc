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

	held       int        // bytes remembered of what is open
	earliest   *heldToken // first log-in token to expire of those withheld
	latest     *heldToken // last to expire of those disclosed
	boundActor bool       // an entry binds the filter's pseudonym to its principal
	boundGoal  bool       // the same for the target
	unclean    bool       // the entry before a boot was no stop
	boots      int
	beatS      int  // heartbeat interval in force, seconds
	stopped    bool // the last boot was ended by a stop entry
	sync       map[string]bool
	counts     map[Kind]uint64
	withheld   map[string]uint64
	open       map[ID]*openSession
	tickets    map[string]string      // where each stands
	standing   map[string]*openTicket // those whose requests are over
	people     map[string]*identity
	issuerKeys map[string]uint64 // sessions by issuer URL and key thumbprint
	others     map[string]uint64 // entries by actor outside of the filter
	stats      Stats
	issues     []Exception
	problems   []Problem
	claim      *CellClaim // of the verifier, nil if nothing is asked
	answer     *CellAnswer
	scan       func(text []byte) (kinds []string) // of the verifier, nil for not
	residual   []Residual
}

// Stats are the totals of a range.
type Stats struct {
	Entries    uint64            `json:"entries"`
	Disclosed  uint64            `json:"bodies_disclosed"`
	Sessions   uint64            `json:"sessions"`
	Exchanges  uint64            `json:"exchanges"`
	Allowed    uint64            `json:"allowed"`
	Denied     uint64            `json:"denied"`
	Held       uint64            `json:"held"` // of these Released, and the others among the denied
	Released   uint64            `json:"released"`
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
	// Decisions: does the policy text in force give the recorded decisions?
	Decisions Aspect = "decisions"
	// Anchoring: does the log agree with what was seen of it outside?
	Anchoring Aspect = "anchoring"
)

// maxListed bounds the exceptions and problems that are listed one by one.
const maxListed = 1000

// openSession is what the builder keeps of a session until its end.
type openSession struct {
	id         ID
	actor      Pseudonym
	target     Pseudonym
	held       int  // bytes counted in Builder.held
	identified bool // an identity entry was there
	unproven   bool // one of them is withheld
	first      uint64
	leaf       string
	began      time.Time
	body       *Session
	disclosed  bool
	level      string // of the identity's proof
	exchanges  uint64
	intents    map[uint64]*openIntent
	list       *openList   // whose statements may come now
	lists      []*openList // all of the session
	views      map[uint64]*answerView
}

type openIntent struct {
	index    uint64
	leaf     string
	time     time.Time
	decision string
	ticket   *openTicket // of a held request, once people are asked
	asks     string      // digest of the list that it asks for
	due      *openList   // it is the next statement of this list, at position
	listed   *openList   // it was let through as that
	position int
	body     *Intent
	shown    string // its text, as it is shown
	cells    uint64 // bytes of commitments to masked cells
	kept     []byte // those, where they are asked for
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
		withheld: make(map[string]uint64), open: make(map[ID]*openSession), tickets: make(map[string]string), standing: make(map[string]*openTicket), people: make(map[string]*identity),
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
		if reason == WithheldErased {
			b.exception(h.Index, "erased", "the body was erased")
		}
		text := append(strconv.AppendUint(append(b.line[:0], `{"i":`...), h.Index, 10), `,"reason":"`...)
		if err := b.sink.Append(fileWithheld, append(append(text, reason...), "\"}\n"...)); err != nil {
			return err
		}
	default:
		if !h.Session.IsZero() {
			id := h.Actor.String()
			if b.others[id]++; b.others[id] == 1 {
				if err := b.hold(128); err != nil {
					return err
				}
			}
		}
	}
	return b.view(line, h, d, reason)
}

// maxHeld bounds what a Builder remembers of sessions, requests and people, in
// bytes: a package of a million sessions that never end is refused.
const maxHeld = 1 << 30

func (b *Builder) hold(n int) error {
	if b.held += n; b.held > maxHeld {
		return fmt.Errorf("more than %d bytes of open sessions, requests and principals", maxHeld)
	}
	return nil
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
		beat, known := b.beatS, "heartbeats are due every %d s"
		if beat <= 0 {
			// A range from the midst of a book may hold no start that says it.
			beat, known = defaultBeat, "no start in the range says how often heartbeats are due; %d s is the default"
		}
		if limit := 2 * time.Duration(beat) * time.Second; gap > limit && (!b.stopped || h.Kind != KindBoot) {
			b.exception(h.Index, "gap", "no entry for %v ("+known+")", gap.Round(time.Second), beat)
		}
	}
	b.unclean = h.Kind == KindBoot && b.seen > 1 && !b.stopped
	if b.seen == 1 {
		b.begins(h)
	}
	b.last = h.Time
	b.stopped = h.Kind == KindStop
}

// defaultBeat is the heartbeat interval of a book that says nothing else, in seconds.
const defaultBeat = 30

// begins checks that the range begins no later than the scope says: an
// exporter could leave out the time before it.
func (b *Builder) begins(h *Header) {
	switch from := b.scope.From; {
	case b.scope.First == 0:
		if h.Kind != KindBoot {
			b.exception(h.Index, "no-boot", "the book's first entry is no start")
		}
	case from.IsZero():
		b.problem(Completeness, fileScope, "the range begins at entry %d although all from the book's begin is asked for", b.scope.First)
	case h.Time.After(from.Add(clockSlack)):
		b.problem(Completeness, fileScope, "the range begins at %s, after the begin that is asked for", h.Time.Format(time.RFC3339))
	}
}

// clockSlack is the difference that rounding of times may make.
const clockSlack = time.Second

// ends notes a range that ends before the end that was asked for.
func (b *Builder) ends() {
	beat := b.beatS
	if beat <= 0 {
		beat = defaultBeat
	}
	if until := b.scope.Until; !until.IsZero() && b.last.Add(2*time.Duration(beat)*time.Second).Before(until) && !b.last.IsZero() {
		b.exception(b.scope.Size, "ends-early", "the last entry is of %s, before the end that was asked for (%s)",
			b.last.Format(time.RFC3339), until.UTC().Format(time.RFC3339))
	}
}

// filterTarget checks what the filter's target pseudonym stands for.
func (b *Builder) filterTarget(h *Header, name string) {
	b.boundGoal = true
	if name != b.scope.Filter.Target {
		b.problem(Completeness, fileScope, "the filter says target %q, but its pseudonym stands for %q (entry %d)", b.scope.Filter.Target, name, h.Index)
	}
}

// filtered notes a filter whose pseudonym nothing in the range explains.
func (b *Builder) filtered() {
	f := &b.scope.Filter
	if f.ActorID != "" && !b.boundActor {
		b.exception(b.scope.First, "filter-unproven", "no entry says that pseudonym %s stands for principal %q: that it has no sessions here is the exporter's word",
			f.ActorID, f.Principal)
	}
	if f.TargetID != "" && !b.boundGoal {
		b.exception(b.scope.First, "filter-unproven", "no entry says that pseudonym %s stands for target %q: that it has no sessions here is the exporter's word",
			f.TargetID, f.Target)
	}
}

// view makes the readable forms of an entry.
func (b *Builder) view(line []byte, h *Header, d *Disclosed, reason string) error {
	leaf := LeafHash(line)
	if h.Session.IsZero() {
		if d == nil {
			if h.Kind == KindBoot && b.unclean {
				b.exception(h.Index, "crash", "the gateway started without having recorded its stop")
			}
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
			id: h.Session, actor: h.Actor, target: h.Target, first: h.Index, leaf: hex.EncodeToString(leaf[:]), began: h.Time,
			intents: make(map[uint64]*openIntent), views: make(map[uint64]*answerView), level: "withheld",
		}
		b.open[h.Session] = s
		if s.held = 512; b.hold(s.held) != nil {
			return b.hold(0)
		}
	}
	if s == nil {
		if b.scope.First == 0 {
			b.problem(Integrity, at(h.Index), "%s entry of session %s, which is not open", h.Kind, h.Session)
		} else if !b.scope.From.IsZero() && h.Time.After(b.scope.From.Add(clockSlack)) {
			b.problem(Completeness, at(h.Index), "session %s was open at the begin that is asked for, and its own begin is not in the range", h.Session)
		}
		return nil // it began before the range
	}
	return b.session(s, h, d, reason, hex.EncodeToString(leaf[:]))
}

// eventLine writes one line of a session's events.jsonl.
func (b *Builder) eventLine(h *Header, body []byte) error {
	meta, raw := SplitBody(body)
	meta = shownBody(h.Kind, meta)
	out := append(b.line[:0], `{"index":`...)
	out = strconv.AppendUint(out, h.Index, 10)
	out = append(out, `,"time":"`...)
	out = AppendTime(out, h.Time)
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
