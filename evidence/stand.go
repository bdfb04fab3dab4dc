package evidence

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// stateStanding is the state of a ticket-end entry after which people can still rule: the request is over, and the same one that
// comes again takes the ticket up.
const stateStanding = "standing"

// standingSize is what a ticket that stands takes besides its text, in bytes.
const standingSize = 1 << 10

// opened notes that a ticket was opened, or taken up by a later request.
func (b *Builder) opened(t *openTicket, h *Header) error {
	id := t.body.Ticket
	was, known := b.tickets[id]
	if !known {
		if err := b.hold(128); err != nil {
			return err
		}
	}
	b.tickets[id] = "open"
	old := b.standing[id]
	switch {
	case !t.body.Resubmitted && known:
		b.problem(Integrity, at(h.Index), "ticket %s is opened twice", id)
	case !t.body.Resubmitted:
	case old != nil:
		t.before = old
		if old.body.Digest != t.body.Digest || !sameAs(old.body.Requires, t.body.Requires) || old.body.Requester != t.body.Requester || !slices.Equal(old.body.Behind, t.body.Behind) {
			b.problem(Integrity, at(h.Index), "the ticket that is taken up is not the one that stood")
		}
		return b.standingRow(old, "standing, then sent again", old.cause)
	case known:
		b.problem(Integrity, at(h.Index), "a ticket that was %s is taken up again", was)
	default:
		b.exception(h.Index, "ticket-from-before", "ticket %s was opened before the range: that it is used once cannot be seen here", id)
	}
	return nil
}

// stands keeps a ticket whose request is over.
func (b *Builder) stands(t *openTicket, h *Header) error {
	for _, q := range t.body.Requires {
		if q.Resubmit <= 0 {
			b.problem(Integrity, at(h.Index), "the ticket was left standing, which rule %s does not let", q.Rule)
		}
	}
	if len(t.bound.List) > 0 {
		b.problem(Integrity, at(h.Index), "the ticket of a list was left standing")
	}
	b.standing[t.body.Ticket] = t
	return b.hold(len(t.body.Bound) + standingSize)
}

// standingEntry takes an entry about a ticket that stands, which is one of no session.
func (b *Builder) standingEntry(h *Header, body []byte) error {
	var r Ruling
	var e TicketEnd
	id := ""
	switch {
	case h.Kind == KindRuling && b.decode(h, body, &r):
		id = r.Ticket
	case h.Kind == KindTicketEnd && b.decode(h, body, &e):
		id = e.Ticket
	default:
		return nil
	}
	t := b.standing[id]
	if t == nil {
		if was, known := b.tickets[id]; known {
			b.problem(Integrity, at(h.Index), "a %s entry about ticket %s as if it stood, and it is %s", h.Kind, id, was)
		}
		return nil // of a session that is not disclosed, or from before the range
	}
	if h.Kind == KindRuling {
		b.ruled(t, h, &r)
		return nil
	}
	b.sameTicket(t, h, e.Ticket, e.Digest)
	return b.standingRow(t, "standing, then "+e.State, e.Cause)
}

// standingOver ends what still stands.
func (b *Builder) standingOver(state string) error {
	for _, id := range slices.Sorted(maps.Keys(b.standing)) {
		if err := b.standingRow(b.standing[id], state, b.standing[id].cause); err != nil {
			return err
		}
	}
	return nil
}

// standingRow writes the row of a ticket that stands no more.
func (b *Builder) standingRow(t *openTicket, state, cause string) error {
	delete(b.standing, t.body.Ticket)
	b.held -= len(t.body.Bound) + standingSize
	if b.tickets[t.body.Ticket] == stateStanding {
		b.tickets[t.body.Ticket] = state
	}
	return b.approvalRow(t, state, cause)
}

// repeated checks a ruling that was given before the request took its ticket up.
func (b *Builder) repeated(t *openTicket, h *Header, v *Ruling) {
	if v.At.IsZero() {
		return
	}
	if !t.body.Resubmitted {
		b.problem(Integrity, at(h.Index), "a ruling that says when it was given, on a ticket that did not stand")
		return
	}
	if t.before == nil { // it stood since before the range: the proof says that it is the person's
		return
	}
	was, ok := t.before.rulings[v.Person]
	early := was.At.Sub(v.At)
	was.At = v.At
	if !ok || !sameAs(was, *v) || early < -repeatedSlack || early > repeatedSlack {
		b.problem(Integrity, at(h.Index), "a ruling by %s is repeated that was not given like that", v.Person)
	}
}

// repeatedSlack is the most by which the time of a ruling and that of its entry differ.
const repeatedSlack = 5 * time.Second

// allRepeated checks that a ticket that was taken up has what was said of it before.
func (b *Builder) allRepeated(t *openTicket, h *Header) {
	if t.before == nil {
		return
	}
	for _, name := range t.before.order {
		if _, ok := t.rulings[name]; !ok {
			b.problem(Integrity, at(h.Index), "it was released without the ruling that %s gave while the ticket stood", name)
		}
	}
}

// mayStand keeps a ticket on which people may rule when its session is over.
func (d *decisions) mayStand(t *knownTicket) {
	if len(t.body.Requires) == 0 || slices.ContainsFunc(t.body.Requires, func(q Approvers) bool { return q.Resubmit <= 0 }) {
		return
	}
	if d.standing == nil {
		d.standing = make(map[string]*knownTicket)
	}
	if len(d.standing) < maxStanding {
		d.standing[t.body.Ticket] = t
	}
}

// maxStanding bounds the tickets whose rulings are checked although they belong to no session.
const maxStanding = 100_000

// sameAs compares what two values are as JSON.
func sameAs(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}
