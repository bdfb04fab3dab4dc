package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// session takes the next entry of an open session.
func (b *Builder) session(s *openSession, h *Header, d *Disclosed, reason, leaf string) error {
	if h.Actor != s.actor || h.Target != s.target {
		b.problem(Integrity, at(h.Index), "session %s: this entry names another principal or target than the session's first", s.id)
	}
	var body []byte
	if d != nil {
		body = d.Body
		if h.Kind != KindIdentity { // a token belongs to data/identities alone
			if err := b.eventLine(h, body); err != nil {
				return err
			}
		}
	}
	switch h.Kind {
	case KindSession:
		return b.sessionBegins(s, h, body)
	case KindIdentity:
		return b.identity(s, h, body, reason)
	case KindIntent:
		return b.intent(s, h, body, leaf)
	case KindRequest, KindAnswer:
		return b.chunk(s, h, body)
	case KindOutcome:
		return b.outcome(s, h, body, leaf)
	case KindTicket, KindRuling, KindRelease, KindTicketEnd:
		return b.ticket(s, h, body, leaf)
	case KindAlert:
		b.alert(s, h, body)
	case KindSessionEnd:
		return b.sessionEnds(s, h, body)
	}
	return nil
}

// decode reads a body into one of the body types and reports whether it could.
func (b *Builder) decode(h *Header, body []byte, into any) bool {
	if body == nil {
		return false
	}
	if err := DecodeBody(body, into); err != nil {
		b.problem(Integrity, at(h.Index), "%v", err)
		return false
	}
	return true
}

func (b *Builder) sessionBegins(s *openSession, h *Header, body []byte) error {
	b.stats.Sessions++
	var v Session
	if !b.decode(h, body, &v) {
		return nil
	}
	s.body, s.disclosed = &v, true
	if v.Origin == "" {
		s.level = "asserted"
	} else {
		s.level = "gateway"
	}
	if v.Principal.ActorID != h.Actor.String() {
		b.problem(Integrity, at(h.Index), "the session's principal has another pseudonym than its header")
	}
	if v.Target.TargetID != h.Target.String() {
		b.problem(Integrity, at(h.Index), "the session's target has another pseudonym than its header")
	}
	if b.scope.Filter.TargetID != "" && v.Target.TargetID == b.scope.Filter.TargetID {
		b.filterTarget(h, v.Target.Name)
	}
	if err := b.hold(len(body)); err != nil {
		return err
	}
	s.held += len(body)
	return b.person(&v.Principal, h, s, s.leaf)
}

// person notes a principal for the population of identities.
func (b *Builder) person(p *Principal, h *Header, s *openSession, leaf string) error {
	if b.scope.Filter.ActorID != "" && p.ActorID == b.scope.Filter.ActorID {
		b.boundActor = true
		if name := p.Issuer + "|" + p.Name; name != b.scope.Filter.Principal {
			b.problem(Completeness, fileScope, "the filter says %q, but its pseudonym stands for %q (entry %d)", b.scope.Filter.Principal, name, h.Index)
		}
	}
	known := b.people[p.ActorID]
	if known == nil {
		known = &identity{first: h.Index, leaf: leaf, time: h.Time, body: *p, levels: make(map[string]uint64)}
		known.body.Claims = nil // large, and not part of the population
		b.people[p.ActorID] = known
		if err := b.hold(256 + len(p.ActorID) + len(p.Subject) + len(p.Name)); err != nil {
			return err
		}
	} else if known.body.Issuer != p.Issuer || known.body.Name != p.Name {
		b.problem(Integrity, at(h.Index), "pseudonym %s stands for two principals (the other in entry %d)", p.ActorID, known.first)
	}
	if s != nil {
		known.sessions++
	}
	return nil
}

func (b *Builder) intent(s *openSession, h *Header, body []byte, leaf string) error {
	if s.intents[h.Exchange] != nil || h.Exchange != s.exchanges+1 {
		b.problem(Completeness, at(h.Index), "session %s: exchange %d begins where %d is due", s.id, h.Exchange, s.exchanges+1)
	}
	if s.exchanges == 0 && s.disclosed && s.body.Origin == "" && !s.identified {
		b.problem(Completeness, at(h.Index), "session %s: its first exchange comes before the entry that holds its token", s.id)
	}
	s.exchanges = max(s.exchanges, h.Exchange)
	in := &openIntent{index: h.Index, leaf: leaf, time: h.Time, decision: h.Decision}
	s.intents[h.Exchange] = in
	if err := b.hold(maxCell); err != nil {
		return err
	}
	s.held += maxCell
	b.stats.Exchanges++
	switch h.Decision {
	case "deny":
		b.stats.Denied++
	case "hold":
		b.stats.Held++
	default:
		b.stats.Allowed++
	}
	var v Intent
	if b.decode(h, body, &v) {
		if v.Early {
			b.early(h, &v)
		}
		s.follow(in, &v)
		if len(v.List) > 0 {
			in.asks = listDigest(v.List)
		}
		// Only what the population shows is kept until the outcome.
		in.shown = cutCell(v.Sensitive.Shown(v.Text))
		v.Text, v.Detail, v.List, v.Sensitive = cutCell(v.Text), nil, nil, nil
		in.body = &v
		if v.Origin != "" {
			b.stats.OwnGateway++
		}
	} else {
		s.follow(in, nil)
	}
	return nil
}

// early checks a request that was forwarded before its entry was durable: only reads are, in the mode for it.
func (b *Builder) early(h *Header, in *Intent) {
	var does Action
	if err := json.Unmarshal(in.Action, &does); err != nil || in.Opaque || h.Decision != "allow" || len(does.Statements) != 1 ||
		does.Statements[0].Verb != "SELECT" || len(does.Effects) > 1 || len(does.Effects) == 1 && does.Effects[0] != "read" {
		b.problem(Integrity, at(h.Index), "it was forwarded before it was recorded, and is no read")
	}
	if len(b.sync) > 0 && !b.sync["release"] {
		b.problem(Integrity, at(h.Index), "it was forwarded before it was recorded, which the sync mode of its start does not do")
	}
}

func (b *Builder) chunk(s *openSession, h *Header, body []byte) error {
	in := s.intents[h.Exchange]
	if h.Exchange != 0 && in == nil {
		b.problem(Completeness, at(h.Index), "session %s: bytes of exchange %d, which is not open", s.id, h.Exchange)
		return nil
	}
	if in != nil && h.Kind == KindAnswer {
		in.chunks++
	} else if in != nil {
		in.requests++
	}
	var v Chunk
	if !b.decode(h, body, &v) {
		return nil
	}
	_, raw := SplitBody(body)
	if in != nil {
		if want := in.chunks; h.Kind == KindAnswer && v.Seq != want {
			b.problem(Completeness, at(h.Index), "session %s, exchange %d: answer chunk %d where %d is due", s.id, h.Exchange, v.Seq, want)
		}
		if want := in.requests; h.Kind == KindRequest && v.Seq != want {
			b.problem(Completeness, at(h.Index), "session %s, exchange %d: request chunk %d where %d is due", s.id, h.Exchange, v.Seq, want)
		}
	}
	if in != nil {
		in.cells += uint64(len(v.Cells))
		if b.asks(s, h.Exchange) {
			in.kept = append(in.kept, v.Cells...)
		}
	}
	if h.Kind == KindRequest {
		if len(v.Found) > 0 {
			return b.hide(s, h.Exchange, v.Found)
		}
		return b.rows(s, h.Exchange, "request", raw)
	}
	if in != nil {
		if in.digest == nil {
			in.digest = sha256.New()
		}
		in.digest.Write(raw)
		in.bytes += uint64(len(raw))
	}
	return b.rows(s, h.Exchange, "", raw)
}

func (b *Builder) outcome(s *openSession, h *Header, body []byte, leaf string) error {
	in := s.intents[h.Exchange]
	if in == nil {
		b.problem(Completeness, at(h.Index), "session %s: outcome of exchange %d, which is not open", s.id, h.Exchange)
		return nil
	}
	delete(s.intents, h.Exchange)
	b.held -= maxCell
	s.held -= maxCell
	var v Outcome
	if !b.decode(h, body, &v) {
		return nil
	}
	_, raw := SplitBody(body)
	if v.SHA256 != zeroDigest {
		digest := in.digest
		if digest == nil {
			digest = sha256.New()
		}
		digest.Write(raw)
		if got := hex.EncodeToString(digest.Sum(nil)); got != v.SHA256 || in.bytes+uint64(len(raw)) != v.Bytes {
			b.problem(Integrity, at(h.Index), "session %s, exchange %d: the answer's bytes are not those of its outcome", s.id, h.Exchange)
		}
		if in.chunks != v.Chunks || in.requests != v.Request {
			b.problem(Completeness, at(h.Index), "session %s, exchange %d: %d answer and %d request chunks, the outcome says %d and %d",
				s.id, h.Exchange, in.chunks, in.requests, v.Chunks, v.Request)
		}
	}
	b.count(s, h, &v)
	if in.decision == "deny" && v.Status != "denied" && v.Status != "not-run" {
		b.problem(Integrity, at(h.Index), "session %s, exchange %d: it was refused, and its outcome is %q", s.id, h.Exchange, v.Status)
	}
	in.listed.ran(&v)
	if in.decision == "hold" {
		if err := b.heldOutcome(s, in, h, &v); err != nil {
			return err
		}
	}
	if err := b.rows(s, h.Exchange, "", raw); err != nil {
		return err
	}
	if err := b.masking(s, in, h, &v, s.views[h.Exchange<<1], leaf); err != nil {
		return err
	}
	b.residue(s, h, s.views[h.Exchange<<1])
	if err := b.personal(s, in, h, &v, leaf); err != nil {
		return err
	}
	delete(s.views, h.Exchange<<1)
	delete(s.views, h.Exchange<<1|1)
	return b.action(s, in, h, &v, leaf)
}

// zeroDigest is what an outcome says whose answer is not known.
const zeroDigest = "0000000000000000000000000000000000000000000000000000000000000000"

func (b *Builder) count(s *openSession, h *Header, v *Outcome) {
	b.stats.Rows += v.Rows
	b.stats.Bytes += v.Bytes
	switch v.Status {
	case "error":
		b.stats.Errors++
	case "unknown":
		b.stats.Unknown++
		b.exception(h.Index, "outcome-unknown", "session %s, exchange %d may have run: %s", s.id, h.Exchange, v.Cause)
	case "not-run":
		b.stats.NotRun++
	}
}

func (b *Builder) sessionEnds(s *openSession, h *Header, body []byte) error {
	delete(b.open, s.id)
	b.held -= s.held
	for _, n := range slices.Sorted(maps.Keys(s.intents)) {
		in := s.intents[n]
		b.problem(Completeness, at(in.index), "session %s ended without an outcome of exchange %d", s.id, n)
	}
	var v SessionEnd
	if !b.decode(h, body, &v) {
		return nil
	}
	if v.Recovered {
		b.exception(h.Index, "session-recovered", "session %s was cut off: %s", s.id, v.Cause)
	} else if v.Exchanges != s.exchanges {
		b.problem(Completeness, at(h.Index), "session %s had %d exchanges, its end says %d", s.id, s.exchanges, v.Exchanges)
	}
	return b.sessionDone(s, h, &v)
}

// sessionDone writes what is known of a session once it is over, or once the
// range is (end nil).
func (b *Builder) sessionDone(s *openSession, h *Header, end *SessionEnd) error {
	if s.body == nil {
		return nil
	}
	b.stats.Identity[s.level]++
	if p := b.people[s.body.Principal.ActorID]; p != nil {
		p.levels[s.level]++
	}
	doc := struct {
		Session    string      `json:"session"`
		FirstIndex uint64      `json:"first_index"`
		LastIndex  uint64      `json:"last_index,omitempty"`
		Began      time.Time   `json:"began"`
		Ended      time.Time   `json:"ended,omitzero"`
		Identity   string      `json:"identity"`
		Open       *Session    `json:"opening"`
		End        *SessionEnd `json:"end,omitempty"`
	}{Session: s.id.String(), FirstIndex: s.first, Began: s.began, Identity: s.level, Open: s.body, End: end}
	if h != nil {
		doc.LastIndex, doc.Ended = h.Index, h.Time
	}
	text, err := json.MarshalIndent(&doc, "", "  ")
	if err != nil {
		return err
	}
	if err := b.sink.Append("data/sessions/"+s.id.String()+"/session.json", append(text, '\n')); err != nil {
		return err
	}
	for _, l := range s.lists {
		if err := b.listRow(l); err != nil {
			return err
		}
	}
	return b.sessionRow(s, h, end)
}

// personal writes the row of a request that carried personal or secret values.
func (b *Builder) personal(s *openSession, in *openIntent, h *Header, v *Outcome, leaf string) error {
	if len(v.PersonalData) == 0 || s.body == nil || in.body == nil {
		return nil
	}
	kinds := (&Sensitive{Found: v.PersonalData}).Kinds()
	return b.row(&popPersonal, in.index, h.Index, leaf, in.time, s.id.String(), strconv.FormatUint(h.Exchange, 10), s.body.Principal.Issuer+"|"+s.body.Principal.Name,
		s.body.Target.Name, strings.Join(kinds, ", "), in.decision, in.body.Rule, v.Status, in.shown)
}
