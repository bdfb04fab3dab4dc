package index

import (
	"context"
	"fmt"

	"github.com/gatebook/gatebook/evidence"
)

// Values of the column body: what became of the sealed body of a row.
const (
	bodyOK         = "ok"
	bodyErased     = "erased"     // the data key is gone: only what the header says is left
	bodyUnreadable = "unreadable" // not the JSON that entries of this kind have
	bodyMissing    = "missing"    // a session without a session entry
)

// batch turns entries into rows within one transaction. What many entries of
// a batch change is kept here and written once by finish.
type batch struct {
	ctx context.Context // the transaction's; a batch lives within one call
	c   *conn
	st  state

	last      evidence.Header
	bad       int // entries whose body could not be read
	sessions  map[evidence.ID]*sessionDelta
	exchanges map[exchangeKey]*exchange
	order     []*exchange // of exchanges, by first entry: the search table wants them ascending
}

func newBatch(ctx context.Context, c *conn, st state) *batch {
	return &batch{
		ctx: ctx, c: c, st: st, sessions: make(map[evidence.ID]*sessionDelta), exchanges: make(map[exchangeKey]*exchange),
	}
}

type exchangeKey struct {
	session, number int64
}

// sessionDelta is what a batch adds to a session's row.
type sessionDelta struct {
	row    int64
	last   uint64
	number int64 // highest exchange in the table or the batch

	exchanges, denied, failed, rows, bytes int64
}

// entry is an entry on its way into the tables.
type entry struct {
	h    *evidence.Header
	time string
	us   int64
	body []byte
	// state is what the row's column body says.
	state string
}

// decode reads the body's JSON. If it cannot, into is as it was or partly
// filled, and the caller must not use it: ok is false.
func (e *entry) decode(into any) (ok bool) {
	if e.state != bodyOK {
		return false
	}
	if err := evidence.DecodeBody(e.body, into); err != nil {
		e.state = bodyUnreadable
		return false
	}
	return true
}

// add takes in one entry.
func (b *batch) add(h *evidence.Header, body []byte, erased bool) error {
	if h.Index != b.st.Next {
		return fmt.Errorf("index: entry %d came where %d is next", h.Index, b.st.Next)
	}
	e := &entry{h: h, time: timeText(h.Time), us: h.Time.UnixMicro(), body: body, state: bodyOK}
	if erased {
		e.state = bodyErased
	}
	err := b.gap(e)
	if err == nil {
		if h.Session.IsZero() {
			err = b.control(e)
		} else {
			err = b.inSession(e)
		}
	}
	if err != nil {
		return fmt.Errorf("entry %d: %w", h.Index, err)
	}
	if e.state == bodyUnreadable {
		b.bad++
	}
	b.st.Next++
	b.st.LastUS, b.st.LastKind = e.us, h.Kind
	b.last = *h
	return nil
}

// finish writes what was kept back, and the position.
func (b *batch) finish() error {
	for _, x := range b.order {
		if err := x.write(b); err != nil {
			return err
		}
	}
	for _, d := range b.sessions {
		if err := b.c.run(b.ctx, `UPDATE session_row SET last_entry = ?2, exchanges = exchanges + ?3, denied = denied + ?4,
			failed = failed + ?5, rows = rows + ?6, bytes = bytes + ?7 WHERE first_entry = ?1`,
			d.row, int64(d.last), d.exchanges, d.denied, d.failed, d.rows, d.bytes); err != nil {
			return err
		}
	}
	b.st.Digest = digest(&b.last)
	return b.c.run(b.ctx, "UPDATE state SET origin = ?, next = ?, digest = ?, last_us = ?, last_kind = ?, heartbeat_s = ? WHERE id = 1",
		b.st.Origin, int64(b.st.Next), b.st.Digest, b.st.LastUS, string(b.st.LastKind), b.st.HeartbeatS)
}

// session returns the delta of the entry's session, whose row it makes if this
// is the session's first entry.
func (b *batch) session(e *entry) (*sessionDelta, error) {
	d := b.sessions[e.h.Session]
	if d == nil {
		d = &sessionDelta{}
		id := e.h.Session.String()
		row, err := b.c.row(b.ctx, `SELECT first_entry, (SELECT max(exchange) FROM exchange_row x WHERE x.session = s.first_entry)
			FROM session_row s WHERE session = ?`, id)
		if err != nil {
			return nil, err
		}
		if row != nil {
			d.row, _ = row[0].(int64)
			d.number, _ = row[1].(int64)
		} else {
			d.row = int64(e.h.Index)
			if err := b.c.run(b.ctx, `INSERT INTO session_row (first_entry, last_entry, session, body, actor_id, target_id, began, began_us)
				VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)`, d.row, id, bodyMissing, null(e.h.Actor.String()),
				null(e.h.Target.String()), e.time, e.us); err != nil {
				return nil, err
			}
		}
		b.sessions[e.h.Session] = d
	}
	d.last = e.h.Index
	return d, nil
}

// inSession takes in an entry of a session.
func (b *batch) inSession(e *entry) error {
	d, err := b.session(e)
	if err != nil {
		return err
	}
	switch e.h.Kind {
	case evidence.KindIntent:
		return b.intent(e, d)
	case evidence.KindOutcome:
		return b.outcome(e, d)
	case evidence.KindAnswer, evidence.KindRequest:
		if e.h.Exchange == 0 {
			return nil
		}
		if x := b.exchanges[exchangeKey{d.row, number(e.h.Exchange)}]; x != nil {
			x.last = int64(e.h.Index)
			return nil
		}
		return b.c.run(b.ctx, "UPDATE exchange_row SET last_entry = ? WHERE session = ? AND exchange = ?",
			int64(e.h.Index), d.row, number(e.h.Exchange))
	case evidence.KindSession:
		return b.opened(e, d)
	case evidence.KindUpstream:
		return b.upstream(e, d)
	case evidence.KindSessionEnd:
		return b.ended(e, d)
	case evidence.KindIdentity:
		return b.identity(e, d)
	case evidence.KindAlert:
		return b.alert(e)
	case evidence.KindTicket:
		return b.ticketOpens(e, d)
	case evidence.KindRelease, evidence.KindTicketEnd:
		return b.ticketEnds(e, d)
	case evidence.KindRuling:
		return b.ruling(e, d)
	case evidence.KindNote:
		var n evidence.Note
		var what, detail any
		if e.decode(&n) {
			what, detail = text(n.What), text(n.Detail)
		}
		return b.c.run(b.ctx, "INSERT INTO note_row VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			int64(e.h.Index), e.time, e.us, d.row, exchangeOf(e.h), e.state, what, detail)
	case evidence.KindCancel:
		var n evidence.Cancel
		var by, source, effect any
		if e.decode(&n) {
			by, source, effect = text(n.By), text(n.Source), text(n.Effect)
		}
		return b.c.run(b.ctx, "INSERT INTO cancel_row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			int64(e.h.Index), e.time, e.us, d.row, exchangeOf(e.h), e.state, by, source, effect)
	}
	return nil // a control entry that names a session has no row yet
}

func exchangeOf(h *evidence.Header) any {
	if h.Exchange == 0 {
		return nil
	}
	return number(h.Exchange)
}

// opened fills in what a session's first entry says.
func (b *batch) opened(e *entry, d *sessionDelta) error {
	var s evidence.Session
	if !e.decode(&s) {
		return b.c.run(b.ctx, "UPDATE session_row SET body = ? WHERE first_entry = ?", e.state, d.row)
	}
	p := &s.Principal
	return b.c.run(b.ctx, `UPDATE session_row SET body = ?, principal = ?, issuer = ?, subject = ?, name = ?, owner = ?, groups = ?,
		acting = ?, target = ?, protocol = ?, database = ?, role = ?, rule = ?, origin = ?, purpose = ?, listener = ?, source = ?,
		application = ?, token_sha256 = ?, token_id = ?, token_expiry = ?, may_run_until = ?, lifetime_rule = ?, config = ?, boot = ?
		WHERE first_entry = ?`,
		e.state, principal(p), text(p.Issuer), text(p.Subject), text(p.Name), text(p.Owner), list(p.Groups), list(p.Actor),
		text(s.Target.Name), text(s.Target.Protocol), text(s.Database), text(s.Role), text(s.Rule), text(s.Origin), text(s.Purpose),
		text(s.Listener), text(s.Source), application(s.Detail), text(s.TokenSHA256), text(s.TokenID), timeOrNull(s.TokenExpiry), timeOrNull(s.SessionEnd),
		text(s.LifetimeRule), text(s.ConfigSHA256), text(s.BootID), d.row)
}

// upstream fills in where the session reached its target; the last one counts.
func (b *batch) upstream(e *entry, d *sessionDelta) error {
	var u evidence.Upstream
	if !e.decode(&u) {
		return nil
	}
	return b.c.run(b.ctx, `UPDATE session_row SET upstream_address = ?, upstream_local = ?, upstream_user = ? WHERE first_entry = ?`,
		text(u.Address), text(u.LocalAddress), text(u.User), d.row)
}

// ended fills in a session's end. When it ended stands in the header.
func (b *batch) ended(e *entry, d *sessionDelta) error {
	var s evidence.SessionEnd
	var cause, seconds, recovered any
	if e.decode(&s) {
		cause, seconds, recovered = text(s.Cause), s.Seconds, flag(s.Recovered)
	}
	return b.c.run(b.ctx, `UPDATE session_row SET ended = ?, ended_us = ?, end_cause = ?, seconds = ?, recovered = ? WHERE first_entry = ?`,
		e.time, e.us, cause, seconds, recovered, d.row)
}

// identity adds a proof of identity, without the token and the keys.
func (b *batch) identity(e *entry, d *sessionDelta) error {
	var i identityBody
	var issuer, renewal, token, expiry, until, rule any
	if e.decode(&i) {
		issuer, renewal, token, rule = text(i.Issuer), flag(i.Renewal), text(i.TokenSHA256), text(i.LifetimeRule)
		expiry, until = timeOrNull(i.TokenExpiry), timeOrNull(i.SessionEnd)
	}
	return b.c.run(b.ctx, "INSERT INTO identity_row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		int64(e.h.Index), e.time, e.us, d.row, e.state, issuer, renewal, token, expiry, until, rule)
}
