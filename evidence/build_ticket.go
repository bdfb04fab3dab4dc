package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// openTicket is what the builder keeps of a held request.
type openTicket struct {
	index   uint64
	leaf    string
	header  Header
	body    Ticket
	bound   TicketBound
	rulings map[string]Ruling // by person
	order   []string
	end     string // "released", "denied" and so on; "" while it waits
	cause   string
	alarmed string      // who broke the glass, by the alert
	before  *openTicket // the same of the earlier request whose ticket this takes up
	// Of the request, for the row.
	session, principal, target string
	last                       uint64
	status                     string
}

// minGlassReason is how many characters the reason has with which somebody breaks the glass.
const minGlassReason = 10

// ticket takes an entry of a held request. The order is: intent, ticket, rulings, release or end, outcome.
func (b *Builder) ticket(s *openSession, h *Header, body []byte, leaf string) error {
	in := s.intents[h.Exchange]
	if done := b.listEntry(s, in, h, body); done {
		return nil
	}
	if in == nil || in.decision != "hold" {
		b.problem(Integrity, at(h.Index), "session %s: a %s entry of exchange %d, which is not held", s.id, h.Kind, h.Exchange)
		return nil
	}
	t := in.ticket
	if t != nil && t.end == stateStanding {
		b.problem(Integrity, at(h.Index), "session %s, exchange %d: a %s entry after its ticket was left standing", s.id, h.Exchange, h.Kind)
		return nil
	}
	if (t == nil) != (h.Kind == KindTicket) {
		b.problem(Integrity, at(h.Index), "session %s, exchange %d: a %s entry out of order", s.id, h.Exchange, h.Kind)
		return nil
	}
	switch h.Kind {
	case KindTicket:
		return b.ticketOpens(s, in, h, body, leaf)
	case KindRuling:
		var v Ruling
		if b.decode(h, body, &v) {
			b.ruled(t, h, &v)
		}
	case KindRelease:
		b.released(s, t, h, body)
	case KindTicketEnd:
		var v TicketEnd
		if !b.decode(h, body, &v) {
			return nil
		}
		b.sameTicket(t, h, v.Ticket, v.Digest)
		b.ticketEnds(t, h, v.State, v.Cause)
		if v.State == stateStanding {
			return b.stands(t, h)
		}
	}
	return nil
}

func (b *Builder) ticketOpens(s *openSession, in *openIntent, h *Header, body []byte, leaf string) error {
	t := &openTicket{index: h.Index, leaf: leaf, header: *h, rulings: make(map[string]Ruling)}
	in.ticket = t
	if err := b.hold(len(body)); err != nil {
		return err
	}
	s.held += len(body)
	if !b.decode(h, body, &t.body) {
		return nil
	}
	d := sha256.Sum256([]byte(t.body.Bound))
	if hex.EncodeToString(d[:]) != t.body.Digest {
		b.problem(Integrity, at(h.Index), "the ticket's digest is not that of what it covers")
	}
	if err := json.Unmarshal([]byte(t.body.Bound), &t.bound); err != nil {
		b.problem(Integrity, at(h.Index), "what the ticket covers cannot be read")
		return nil //nolint:nilerr // noted as a problem
	}
	v := &t.bound
	own := v.Session == s.id.String() && v.Exchange == h.Exchange
	if v.Ticket != t.body.Ticket || own == t.body.Resubmitted || s.body != nil &&
		(v.Principal != s.body.Principal.Issuer+"|"+s.body.Principal.Name || v.Subject != s.body.Principal.Subject || !slices.Equal(v.Actor, s.body.Principal.Actor) ||
			v.Target != s.body.Target.Name || v.Role != s.body.Role || v.Database != s.body.Database) {
		b.problem(Integrity, at(h.Index), "the ticket covers a request of another session, principal or target")
	}
	if i := in.body; i != nil && (cutCell(v.Text) != i.Text || v.Op != i.Op || !strings.HasPrefix(v.Config, i.Config)) {
		b.problem(Integrity, at(h.Index), "the ticket covers another request than its exchange's")
	}
	if in.body != nil && (in.asks != "" || len(v.List) > 0) && in.asks != listDigest(v.List) {
		b.problem(Integrity, at(h.Index), "the ticket covers another list than its exchange asks for")
	}
	if s.body != nil {
		t.session, t.principal, t.target = s.id.String(), s.body.Principal.Issuer+"|"+s.body.Principal.Name, s.body.Target.Name
	}
	return b.opened(t, h)
}

// sameTicket checks that an entry is about the ticket of its exchange.
func (b *Builder) sameTicket(t *openTicket, h *Header, ticket, digest string) {
	if ticket != t.body.Ticket || digest != t.body.Digest {
		b.problem(Integrity, at(h.Index), "a %s entry of another ticket", h.Kind)
	}
}

func (b *Builder) ruled(t *openTicket, h *Header, v *Ruling) {
	b.repeated(t, h, v)
	b.sameTicket(t, h, v.Ticket, v.Digest)
	_, twice := t.rulings[v.Person]
	switch {
	case t.end != "" && t.end != stateStanding:
		b.problem(Integrity, at(h.Index), "a ruling on a ticket that was %s", t.end)
	case t.end == stateStanding && v.Verdict == verdictGlass:
		b.problem(Integrity, at(h.Index), "%s broke the glass for a request that nobody waits for", v.Person)
	case twice:
		b.problem(Integrity, at(h.Index), "%s ruled twice on one ticket", v.Person)
	case v.Person == "" || v.Person == t.body.Requester || slices.Contains(t.body.Behind, v.Person):
		b.problem(Integrity, at(h.Index), "%q ruled on a request of their own", v.Person)
	case h.Time.After(t.bound.Expires.Add(clockSlack)):
		b.problem(Integrity, at(h.Index), "a ruling after the ticket's time was over")
	case v.Verdict != verdictApprove && v.Verdict != verdictDeny && v.Verdict != verdictGlass:
		b.problem(Integrity, at(h.Index), "a ruling with the verdict %q", v.Verdict)
	case v.Verdict == verdictGlass && utf8.RuneCountInString(strings.TrimSpace(v.Reason)) < minGlassReason:
		b.problem(Integrity, at(h.Index), "%s broke the glass without a reason", v.Person)
	}
	if v.At.IsZero() {
		v.At = h.Time
	}
	t.rulings[v.Person] = *v
	t.order = append(t.order, v.Person)
}

func (b *Builder) released(s *openSession, t *openTicket, h *Header, body []byte) {
	var v Release
	if !b.decode(h, body, &v) {
		return
	}
	b.sameTicket(t, h, v.Ticket, v.Digest)
	b.allRepeated(t, h)
	glass := ""
	for _, name := range t.order {
		switch r := t.rulings[name]; r.Verdict {
		case verdictDeny:
			b.problem(Integrity, at(h.Index), "it was released although %s had said no", r.Person)
		case verdictGlass:
			glass = r.Person
		}
	}
	if glass != v.BreakGlass || glass != t.alarmed {
		b.problem(Integrity, at(h.Index), "%q broke the glass by the rulings, %q by the alert, %q by the release", glass, t.alarmed, v.BreakGlass)
	}
	for _, q := range t.body.Requires {
		n := 0
		for _, r := range t.rulings {
			if r.Verdict == verdictApprove && holdsOne(r.Groups, q.Groups) {
				n++
			}
		}
		switch {
		case glass != "":
			if !holdsOne(t.rulings[glass].Groups, q.BreakGlass) {
				b.problem(Integrity, at(h.Index), "%s broke the glass, whom rule %s does not let", glass, q.Rule)
			}
		case n < max(q.Quorum, 1):
			b.problem(Integrity, at(h.Index), "it was released with %d of the %d approvals that rule %s asks for", n, q.Quorum, q.Rule)
		}
		if e := t.bound.Effect; q.BeforeImage && (e == nil || e.Fingerprint == "" || e.Fingerprint != v.Fingerprint) {
			b.problem(Integrity, at(h.Index), "it was released although rule %s compares the rows, and they are not those of before", q.Rule)
		}
		if t.body.Requester == "" && q.UnknownOwner {
			b.exception(h.Index, "owner-unknown", "rule %s let a request through whose person nobody knows", q.Rule)
		} else if t.body.Requester == "" {
			b.problem(Integrity, at(h.Index), "it was released although nobody knows the person behind it")
		}
	}
	if len(t.body.Requires) == 0 {
		b.problem(Integrity, at(h.Index), "it was released although nobody was to approve it")
	}
	if !strings.EqualFold(v.Config, t.bound.Config) {
		b.problem(Integrity, at(h.Index), "it was released under another configuration than it was approved under")
	}
	if v.List != len(t.bound.List) {
		b.problem(Integrity, at(h.Index), "it was released for %d statements of a list of %d", v.List, len(t.bound.List))
	}
	b.ticketEnds(t, h, "released", "")
	if len(t.bound.List) > 0 {
		s.list = &openList{ticket: t}
		s.lists = append(s.lists, s.list)
	}
}

// Verdicts of rulings.
const (
	verdictApprove = "approve"
	verdictDeny    = "deny"
	verdictGlass   = "break-glass"
)

func holdsOne(have, want []string) bool {
	return slices.ContainsFunc(have, func(g string) bool { return slices.Contains(want, g) })
}

// alert notes an alert, each of which is an exception. s is its session, nil for one of the book itself. One about a broken
// glass follows the ruling of that person.
func (b *Builder) alert(s *openSession, h *Header, body []byte) {
	var v Alert
	if !b.decode(h, body, &v) {
		return
	}
	b.exception(h.Index, v.What, "%s", cutCell(v.Text))
	if v.What != AlertBreakGlass {
		return
	}
	var t *openTicket
	if s != nil && s.intents[h.Exchange] != nil {
		t = s.intents[h.Exchange].ticket
	}
	if t == nil || t.end != "" || v.Ticket != t.body.Ticket || t.rulings[v.Person].Verdict != verdictGlass {
		b.problem(Integrity, at(h.Index), "an alert says that %q broke the glass, and no ruling says so", v.Person)
		return
	}
	t.alarmed = v.Person
}

// ticketEnds notes a ticket's one end.
func (b *Builder) ticketEnds(t *openTicket, h *Header, state, cause string) {
	if t.end != "" {
		b.problem(Integrity, at(h.Index), "a ticket ends twice: %s and %s", t.end, state)
		return
	}
	t.end, t.cause = state, cause
	b.tickets[t.body.Ticket] = state
}

// heldOutcome checks what came of a held request, and writes its row.
func (b *Builder) heldOutcome(s *openSession, in *openIntent, h *Header, o *Outcome) error {
	t := in.ticket
	ran := o.Status != "denied" && o.Status != "not-run"
	if in.listed == nil && (t == nil || t.end != "released") {
		if ran {
			b.problem(Integrity, at(h.Index), "session %s, exchange %d: a held request ran without a release", s.id, h.Exchange)
		}
		b.stats.Denied++
	} else {
		b.stats.Released++
	}
	if t == nil || s.body == nil {
		return nil
	}
	if t.end == "" {
		b.exception(t.index, "ticket-cut-off", "ticket %s has no end: the gateway stopped while it waited", t.body.Ticket)
		b.ticketEnds(t, h, "cut off", "")
	}
	t.last, t.status = h.Index, o.Status
	if t.end == stateStanding {
		return nil // its row comes when it is known what became of it
	}
	if len(t.bound.List) > 0 && t.end == "released" {
		return nil // its row comes when it is known how many of its statements ran
	}
	return b.approvalRow(t, t.end, t.cause)
}

// approvalRow writes the row of a ticket.
func (b *Builder) approvalRow(t *openTicket, state, cause string) error {
	if t.session == "" { // not disclosed
		return nil
	}
	var approved, denied []string
	for _, name := range t.order {
		switch t.rulings[name].Verdict {
		case verdictApprove:
			approved = append(approved, name)
		case verdictGlass:
			state += ", glass broken by " + name
		default:
			denied = append(denied, name)
		}
	}
	return b.row(&popApprovals, t.index, max(t.last, t.index), t.leaf, t.header.Time,
		t.body.Ticket, t.session, strconv.FormatUint(t.header.Exchange, 10), t.principal, t.target,
		strings.Join(t.bound.Rules, " "), t.body.Requester, state, strings.Join(approved, " "), strings.Join(denied, " "), cause, t.status,
		string(AppendTime(nil, t.bound.Expires)), t.body.Digest, t.bound.Sensitive.Shown(t.bound.Text))
}
