package index

import (
	"strings"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
)

// exchange is an exchange whose intent came in the batch at hand. Its row is
// written once, with the outcome if that came in the same batch.
type exchange struct {
	first, last int64
	session     int64
	number      int64
	state       string
	time        string
	us          int64
	decision    string
	intent      [11]any // op … config
	text        string
	outcome     [13]any // ended … cause
}

// intent begins an exchange.
func (b *batch) intent(e *entry, d *sessionDelta) error {
	key := exchangeKey{d.row, number(e.h.Exchange)}
	known := b.exchanges[key] != nil
	if !known && key.number <= d.number {
		// Numbers of a session only go up; this is not what a gateway writes.
		n, err := b.c.int(b.ctx, "SELECT count(*) FROM exchange_row WHERE session = ? AND exchange = ?", key.session, key.number)
		if err != nil {
			return err
		}
		known = n > 0
	}
	if known {
		return nil
	}
	x := &exchange{
		first: int64(e.h.Index), last: int64(e.h.Index), session: d.row, number: key.number,
		time: e.time, us: e.us, decision: e.h.Decision,
	}
	var in intentBody
	if e.decode(&in) {
		effects := in.Action.Effects
		if in.Opaque {
			effects = append([]string{"opaque"}, effects...)
		}
		x.intent = [11]any{
			text(in.Op), text(in.Origin), text(in.Rule), text(in.Reason), text(in.Code), text(strings.Join(effects, ",")),
			text(in.Action.Privileged), text(in.Action.Fingerprint),
			int64(len(in.Text)), int64(in.Detail.Params), text(in.Config),
		}
		if b.st.Text {
			x.text = clip(in.Sensitive.Shown(in.Text), maxText)
		}
	}
	x.state = e.state
	b.exchanges[key] = x
	b.order = append(b.order, x)
	d.number = max(d.number, key.number)
	d.exchanges++
	if e.h.Decision == access.Denied.String() {
		d.denied++
	}
	return nil
}

// outcome ends an exchange. When it ended stands in the header.
func (b *batch) outcome(e *entry, d *sessionDelta) error {
	var o evidence.Outcome
	cols := [13]any{e.time, e.us}
	if e.decode(&o) {
		// Message is left out: it is part of the answer.
		cols = [13]any{
			e.time, e.us, text(o.Status), text(o.Tag), text(o.Code), number(o.Rows), number(o.Bytes), number(o.Chunks), number(o.Request),
			text(o.SHA256), o.ReadyUS, o.TotalUS, text(o.Cause),
		}
		if o.Status == string(access.StatusError) {
			d.failed++
		}
		d.rows += share(o.Rows)
		d.bytes += share(o.Bytes)
	}
	if x := b.exchanges[exchangeKey{d.row, number(e.h.Exchange)}]; x != nil {
		x.last, x.outcome = int64(e.h.Index), cols
		if e.state != bodyOK {
			x.state = e.state
		}
		return nil
	}
	return b.c.run(b.ctx, `UPDATE exchange_row SET last_entry = ?1, ended = ?2, ended_us = ?3, status = ?4, tag = ?5, sqlstate = ?6, rows = ?7,
		bytes = ?8, answer_chunks = ?9, request_chunks = ?10, answer_sha256 = ?11, ready_us = ?12, total_us = ?13, cause = ?14,
		body = iif(?15 = 'ok', body, ?15) WHERE session = ?16 AND exchange = ?17`,
		int64(e.h.Index), cols[0], cols[1], cols[2], cols[3], cols[4], cols[5], cols[6], cols[7], cols[8], cols[9], cols[10], cols[11],
		cols[12], e.state, d.row, number(e.h.Exchange))
}

// write adds the exchange's row and its text.
func (x *exchange) write(b *batch) error {
	in, out := &x.intent, &x.outcome
	if err := b.c.run(b.ctx, "INSERT INTO exchange_row VALUES "+
		"(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		x.first, x.last, x.session, x.number, x.state, x.time, x.us, text(x.decision),
		in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7], in[8], in[9], in[10],
		out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7], out[8], out[9], out[10], out[11], out[12]); err != nil {
		return err
	}
	if x.text == "" {
		return nil
	}
	if err := b.c.run(b.ctx, "INSERT INTO statement VALUES (?, ?)", x.first, x.text); err != nil {
		return err
	}
	return b.c.run(b.ctx, "INSERT INTO search (rowid, text) VALUES (?, ?)", x.first, x.text)
}
