package index

import (
	"encoding/json"

	"github.com/gatebook/gatebook/evidence"
)

// ticketOpens adds the row of a held request that people are asked about.
func (b *batch) ticketOpens(e *entry, d *sessionDelta) error {
	var t evidence.Ticket
	var bound evidence.TicketBound
	var c [6]any
	if e.decode(&t) && json.Unmarshal([]byte(t.Bound), &bound) == nil {
		c = [6]any{text(t.Ticket), text(t.Digest), list(bound.Rules), text(t.Requester), asJSON(t.Requires), timeOrNull(bound.Expires)}
		if t.Resubmitted {
			if err := b.standing(e, text(t.Ticket), "resubmitted", "the request was sent again"); err != nil {
				return err
			}
		}
	}
	return b.c.run(b.ctx, "INSERT INTO ticket_row VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 'open', NULL, NULL, NULL, NULL)",
		int64(e.h.Index), e.time, e.us, d.row, exchangeOf(e.h), e.state, c[0], c[1], c[2], c[3], c[4], c[5])
}

// ticketEnds fills in how a ticket ended: let through, or not.
func (b *batch) ticketEnds(e *entry, d *sessionDelta) error {
	var state, cause, persons any
	if e.h.Kind == evidence.KindRelease {
		var r evidence.Release
		if state = "released"; e.decode(&r) {
			persons = list(r.Persons)
		}
	} else {
		var t evidence.TicketEnd
		if state = "ended"; e.decode(&t) {
			state, cause = text(t.State), text(t.Cause)
		}
	}
	return b.c.run(b.ctx, "UPDATE ticket_row SET last_entry = ?, state = ?, cause = ?, approved_by = ?, ended = ?, ended_us = ? WHERE session = ? AND exchange = ?",
		int64(e.h.Index), state, cause, persons, e.time, e.us, d.row, exchangeOf(e.h))
}

// ruling adds what a person said, without the proof.
func (b *batch) ruling(e *entry, d *sessionDelta) error {
	var r evidence.Ruling
	var c [7]any
	if e.decode(&r) {
		if !r.At.IsZero() { // the repetition of one that is there
			return nil
		}
		c = said(&r)
	}
	return b.c.run(b.ctx, "INSERT INTO ruling_row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		int64(e.h.Index), e.time, e.us, d.row, exchangeOf(e.h), e.state, c[0], c[1], c[2], c[3], c[4], c[5], c[6])
}

func said(r *evidence.Ruling) [7]any {
	return [7]any{text(r.Ticket), text(r.Person), text(r.Identity), list(r.Groups), text(r.Verdict), text(r.Reason), text(r.Proof.Kind)}
}

// standing fills in what became of a ticket whose request was over: the row that stands.
func (b *batch) standing(e *entry, ticket any, state, cause any) error {
	return b.c.run(b.ctx, "UPDATE ticket_row SET last_entry = ?, state = ?, cause = ?, ended = ?, ended_us = ? WHERE ticket = ? AND state = 'standing'",
		int64(e.h.Index), state, cause, e.time, e.us, ticket)
}

// standingEnds takes the end of a ticket that stood.
func (b *batch) standingEnds(e *entry) error {
	var t evidence.TicketEnd
	if !e.decode(&t) {
		return nil
	}
	return b.standing(e, text(t.Ticket), text(t.State), text(t.Cause))
}

// standingRuling adds what a person said of a ticket that stands to the request that left it.
func (b *batch) standingRuling(e *entry) error {
	var r evidence.Ruling
	if !e.decode(&r) {
		return nil
	}
	c := said(&r)
	return b.c.run(b.ctx, `INSERT INTO ruling_row SELECT ?, ?, ?, session, exchange, ?, ?, ?, ?, ?, ?, ?, ? FROM ticket_row
		WHERE ticket = ? AND state = 'standing' ORDER BY entry DESC LIMIT 1`,
		int64(e.h.Index), e.time, e.us, e.state, c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[0])
}

// standingOver ends what stood when the gateway stopped.
func (b *batch) standingOver(e *entry) error {
	return b.c.run(b.ctx, "UPDATE ticket_row SET last_entry = ?, state = 'withdrawn', cause = 'the gateway was started again', ended = ?, ended_us = ? WHERE state = 'standing'",
		int64(e.h.Index), e.time, e.us)
}
