package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// TrimStatement takes the white space off both ends of a statement, and one semicolon off its end: statements of lists are compared
// like that. White space is what PostgreSQL's grammar takes for it; other characters may be part of a name.
func TrimStatement(text string) string {
	const blanks = " \t\n\r\f\v"
	return strings.Trim(strings.TrimSuffix(strings.Trim(text, blanks), ";"), blanks)
}

// Line is what is asked for, in short: the text, or the statements of a list behind their number.
func (b *TicketBound) Line() string {
	if len(b.List) == 0 {
		return b.Text
	}
	texts := make([]string, len(b.List))
	for i, l := range b.List {
		texts[i] = l.Text
	}
	return fmt.Sprintf("%d statements: %s", len(b.List), strings.Join(texts, "; "))
}

// Unbound says, in words, for what of a request the ticket does not hang on the target's definitions, "" if it does for all of it.
func (b *TicketBound) Unbound() string {
	bound := slices.Index(b.Meanings, "")
	if bound < 0 {
		bound = len(b.Meanings)
	}
	const what = "what names stand for at the target may change before it runs"
	switch {
	case len(b.List) == 0 && b.Meaning != "" || len(b.List) > 0 && bound == len(b.List):
		return ""
	case bound > 0:
		return fmt.Sprintf("not bound from statement %d on: %s", bound+1, what)
	}
	return "not bound: " + what
}

// openList is what the builder keeps of a list that was let through.
type openList struct {
	ticket *openTicket

	seen     int  // requests of the session since
	released int  // of its statements
	running  bool // one of them has no outcome yet
	over     bool
	cause    string
}

// end notes that no further statement of the list may run.
func (l *openList) end(cause string) {
	if !l.over && l.released < len(l.ticket.bound.List) {
		l.cause = cause
	}
	l.over = true
}

// follow compares a request with the session's list: it is the next statement of it, or the list is over. v is nil where the
// request is not disclosed.
func (s *openSession) follow(in *openIntent, v *Intent) {
	l := s.list
	if l == nil || v != nil && v.Origin != "" {
		return
	}
	l.seen++
	list := l.ticket.bound.List
	if l.seen <= len(list) && (v == nil || v.Op == "query" && TrimStatement(v.Text) == list[l.seen-1].Text) {
		in.due, in.position = l, l.seen
		return
	}
	l.end(fmt.Sprintf("the agent sent something else than statement %d", l.seen))
	s.list = nil
}

// ran notes the outcome of a statement of the list; one that did not succeed ends it. l may be nil.
func (l *openList) ran(o *Outcome) {
	if l == nil {
		return
	}
	l.running = false
	if o.Status != "ok" {
		l.end(fmt.Sprintf("statement %d did not succeed", l.released))
	}
}

// listDigest is the digest of a list, in whatever form its JSON is.
func listDigest(list []Listed) string {
	text, err := json.Marshal(list)
	if err != nil { // not JSON: like no other
		return "unreadable"
	}
	d := sha256.Sum256(text)
	return hex.EncodeToString(d[:])
}

// listEnded is the state of a ticket-end entry that ends a list.
const listEnded = "list-ended"

// listEntry takes the entries of a list that was let through: the release of one of its statements, and its end. It reports
// whether the entry is one. One that is not disclosed may be.
func (b *Builder) listEntry(s *openSession, in *openIntent, h *Header, body []byte) bool {
	switch h.Kind {
	case KindRelease:
		var v Release
		if body != nil && (DecodeBody(body, &v) != nil || v.Position == 0) {
			return false
		}
		if body != nil {
			b.releasedListed(in, h, &v)
		}
	case KindTicketEnd:
		var v TicketEnd
		if body != nil && (DecodeBody(body, &v) != nil || v.State != listEnded) {
			return false
		}
		if body != nil {
			b.listEnds(s, in, h, &v)
		}
	default:
		return false
	}
	return true
}

// releasedListed checks the release of a statement of a list: in the same session after the list was let through, in the list's
// order, each once, exactly that text, and only after the one before it succeeded.
func (b *Builder) releasedListed(in *openIntent, h *Header, v *Release) {
	var l *openList
	if in != nil {
		l = in.due
	}
	if l == nil || in.decision == "deny" || in.ticket != nil || v.Position != in.position {
		b.problem(Integrity, at(h.Index), "a release of statement %d of a list, and its request is not the next statement of a list that was let through", v.Position)
		return
	}
	bound := &l.ticket.bound
	switch {
	case v.Ticket != l.ticket.body.Ticket || v.Digest != l.ticket.body.Digest:
		b.problem(Integrity, at(h.Index), "a release entry of another ticket")
	case in.listed != nil || v.Position != l.released+1:
		b.problem(Integrity, at(h.Index), "statement %d of a list was released where %d is due", v.Position, l.released+1)
	case l.over:
		b.problem(Integrity, at(h.Index), "statement %d was released although its list was over: %s", v.Position, l.cause)
	case l.running:
		b.problem(Integrity, at(h.Index), "statement %d was released before the one before it had its outcome", v.Position)
	case !strings.EqualFold(v.Config, bound.Config):
		b.problem(Integrity, at(h.Index), "it was released under another configuration than it was approved under")
	case h.Time.After(bound.Expires.Add(clockSlack)):
		b.problem(Integrity, at(h.Index), "statement %d was released after the ticket's time was over", v.Position)
	case in.decision == "hold" && in.body != nil && !slices.Contains(bound.Rules, in.body.Rule):
		b.problem(Integrity, at(h.Index), "statement %d is held by rule %s, which nobody was asked for", v.Position, in.body.Rule)
	}
	in.listed, l.running, l.released = l, true, v.Position
}

// listEnds notes that the gateway lets no further statement of a list through.
func (b *Builder) listEnds(s *openSession, in *openIntent, h *Header, v *TicketEnd) {
	if in == nil || len(s.lists) == 0 || v.Ticket != s.lists[len(s.lists)-1].ticket.body.Ticket || v.Digest != s.lists[len(s.lists)-1].ticket.body.Digest {
		b.problem(Integrity, at(h.Index), "the end of a list that was not let through")
		return
	}
	l := s.lists[len(s.lists)-1]
	l.over, l.cause = true, v.Cause
}

// listRow writes the row of a list's ticket, with how many of its statements were let through.
func (b *Builder) listRow(l *openList) error {
	state := fmt.Sprintf("released, %d of %d statements ran", l.released, len(l.ticket.bound.List))
	return b.approvalRow(l.ticket, state, l.cause)
}
