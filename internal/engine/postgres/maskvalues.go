package postgres

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/detect"
	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// column is what is known and counted of a column of an answer.
type column struct {
	typ  uint32 // 0 if the target has not said
	name string // of the relation's column that it is, "" if it is none
	// exempt is the mask that names it and is not for the principal, "" for none.
	exempt string
	// Cells: all, those with a masked value, those that were masked by NULL, and those that were NULL.
	seen, masked, nulled, null uint64
	kinds                      map[string]uint64 // values that detectors found
}

// changed is how many of its values were masked.
func (c *column) changed() uint64 { return c.masked + c.nulled }

func (c *column) count(null bool) {
	if null {
		c.nulled++
	} else {
		c.masked++
	}
}

// looks reports whether the rows of the answer at hand are looked into.
func (ex *exch) looks() bool {
	if ex.plan == nil {
		return false
	}
	return ex.plan.looks(ex.current()) || ex.receives || ex.st != nil && ex.st.receives
}

// settle puts down what was masked of a statement's answer.
func (ex *exch) settle() {
	if ex.plan == nil || len(ex.columns) == 0 {
		return
	}
	m := ex.current()
	if ex.rows == 0 && ex.columns[0].seen == 0 {
		ex.columns = nil
		return
	}
	var bare []evidence.BareCells
	for i := range ex.columns {
		c := &ex.columns[i]
		if m != nil && i < len(m.cells) && m.cells[i].rule != nil || len(c.kinds) > 0 {
			out := evidence.MaskedColumn{Statement: ex.statement, At: i, Kinds: c.kinds, Seen: c.seen, Masked: c.masked, Nulled: c.nulled, Null: c.null}
			if len(c.kinds) == 0 {
				out.Mask, out.Column = m.cells[i].rule.Name, m.cells[i].column
			}
			ex.masking.Masked = append(ex.masking.Masked, out)
			continue
		}
		cells := c.seen
		if !ex.looks() {
			cells = ex.rows
		}
		by := ex.bareBy(c)
		at := slices.IndexFunc(bare, func(b evidence.BareCells) bool { return b.By == by })
		if at < 0 {
			bare, at = append(bare, evidence.BareCells{Statement: ex.statement, By: by}), len(bare)
		}
		bare[at].Columns++
		bare[at].Cells += cells
	}
	ex.masking.Bare = append(ex.masking.Bare, bare...)
	ex.columns = nil
}

// commit adds a commitment to the original value of a cell of a column with a mask.
func (ex *exch) commit(key, v []byte, null bool) {
	if ex.cells == nil {
		ex.cells = mask.NewCells(key, ex.session.ID().String(), ex.x.Number())
	}
	if ex.cells != nil {
		ex.commitments = ex.cells.Append(ex.commitments, v, null)
	}
}

// bareBy says why a column was left as it was.
func (ex *exch) bareBy(c *column) string {
	if c.exempt != "" {
		return c.exempt + ": not for this principal"
	}
	switch {
	case ex.plan.set.Values() == nil:
		return "no mask"
	case mask.CarrierOf(c.typ) == mask.Bare:
		return "no mask, and a type without texts"
	}
	return "nothing found"
}

// maskValues masks what detectors find in a value.
func (ex *exch) maskValues(values *mask.Values, c *column, v []byte, binaryFormat bool) ([]byte, bool) {
	carrier := mask.CarrierOf(c.typ)
	text, prefix := v, 0
	switch {
	case carrier == mask.Bare:
		return v, false
	case binaryFormat && mask.IsAddress(c.typ):
		if values.Rule("ip") == nil {
			return v, false
		}
		return c.found(nil, "ip")
	case binaryFormat && c.typ == typeJSONB:
		text, prefix = v[min(1, len(v)):], 1
	case binaryFormat && carrier == mask.List, c.typ == 0 && binaryFormat:
		carrier = mask.Opaque
	}
	ex.hits = values.Find(ex.hits[:0], text)
	if plain := undisguised(text); plain != nil {
		if more := values.Find(nil, plain); len(more) > len(ex.hits) {
			for _, h := range more {
				c.note(h.Kind)
			}
			return c.found(nil)
		}
	}
	if len(ex.hits) == 0 {
		return v, false
	}
	for _, h := range ex.hits {
		c.note(h.Kind)
	}
	if carrier == mask.Opaque {
		return c.found(nil)
	}
	out, null := values.Replace(text, ex.hits)
	if null || carrier == mask.JSON && !json.Valid(out) { // a number, perhaps
		return c.found(nil)
	}
	return c.found(append(bytes.Clone(v[:prefix]), out...))
}

// typeJSONB is the number of a type of PostgreSQL's own (pg_type.dat).
const typeJSONB = 3802

// minHex is the fewest hexadecimal digits behind \x that are read as bytes.
const minHex = 8

// undisguised returns a text with its bytes in hexadecimal digits (\x…, as bytea is written) and ASCII characters by number (\u00…, as in
// JSON) as they are; nil if it has none.
func undisguised(text []byte) []byte {
	if !bytes.Contains(text, []byte(`\x`)) && !bytes.Contains(text, []byte(`\u00`)) {
		return nil
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			out = append(out, text[i])
			continue
		}
		switch text[i+1] {
		case 'x':
			end := i + 2
			for end < len(text) && isHex(text[end]) {
				end++
			}
			end -= (end - i) % 2
			if raw, err := hex.DecodeString(string(text[i+2 : end])); err == nil && end-i-2 >= minHex {
				out = append(append(append(out, ' '), raw...), ' ')
				i = end - 1
				continue
			}
		case 'u':
			if i+6 <= len(text) && text[i+2] == '0' && text[i+3] == '0' {
				if raw, err := hex.DecodeString(string(text[i+4 : i+6])); err == nil {
					out = append(out, raw...)
					i += 5
					continue
				}
			}
		}
		out = append(out, text[i])
	}
	return out
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

func (c *column) note(kind string) {
	if c.kinds == nil {
		c.kinds = map[string]uint64{}
	}
	c.kinds[kind]++
}

// found counts a value in which something was found; without what stands in its place it is NULL.
func (c *column) found(v []byte, kinds ...string) ([]byte, bool) {
	for _, k := range kinds {
		c.note(k)
	}
	c.count(v == nil)
	return v, v == nil
}

// hideValues masks what detectors find in the texts of an ErrorResponse, NoticeResponse or NotificationResponse.
func hideValues(values *mask.Values, frame []byte) []byte {
	var hits []detect.Hit
	if hits = values.Find(hits, frame[pgwire.FrameHeader:]); len(hits) == 0 {
		return frame
	}
	out, at := pgwire.BeginFrame(nil, frame[0])
	c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
	if frame[0] == 'A' {
		out = append(out, c.Bytes(4)...)
	}
	for c.Left() > 0 {
		if frame[0] != 'A' {
			typ := c.Byte()
			out = append(out, typ)
			if typ == 0 {
				break
			}
		}
		text := c.String()
		if c.Bad() {
			break
		}
		out = append(append(out, hiddenText(values, text)...), 0)
	}
	return pgwire.EndFrame(out, at)
}

// hiddenText returns a text with what detectors find in it masked.
func hiddenText(values *mask.Values, text []byte) []byte {
	hits := values.Find(nil, text)
	if len(hits) == 0 {
		return text
	}
	out, _ := values.Replace(text, hits)
	return out
}
