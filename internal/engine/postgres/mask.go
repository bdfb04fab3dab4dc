package postgres

import (
	"encoding/binary"
	"fmt"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// errWithheld ends a session whose answer cannot be masked as it was planned.
func errWithheld(why string) error {
	return &access.DenyError{Code: access.CodeMask, Rule: "masks", Reason: "the answer is withheld: " + why, Hint: "Try again."}
}

// current is what is masked of the statement that is being answered, nil for nothing.
func (ex *exch) current() *masking {
	if ex.plan == nil || ex.statement >= len(ex.plan.answers) {
		return nil
	}
	return &ex.plan.answers[ex.statement]
}

// described takes the target's description of an answer, and compares it with what is proven of the statement.
func (ex *exch) described(frame []byte) error {
	if ex.plan == nil {
		return nil
	}
	m := ex.current()
	if m == nil && ex.plan.set.Columns() {
		return errWithheld("it answers more statements than were sent")
	}
	c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
	n := c.Int16()
	if m != nil && m.masked() && !m.Open && n != len(m.cells) {
		return errWithheld("it has another number of columns than the statement")
	}
	ex.columns, ex.receives = make([]column, n), false
	for i := range n {
		_ = c.String()
		table, number := uint32(c.Int32()), int16(c.Int16()) //nolint:gosec // an object's number, and 16 bits
		col := &ex.columns[i]
		col.typ = uint32(c.Int32()) //nolint:gosec // an object's number
		c.Bytes(2 + 4 + 2)
		if c.Bad() {
			return errWithheld("its description cannot be read")
		}
		if err := ex.proven(m, i, table, number); err != nil {
			return err
		}
		if ex.plan.schema == nil || table == 0 {
			continue
		}
		if name, ok := ex.plan.schema.Name(table, number); ok {
			col.name = name.String()
			if r := ex.plan.set.Exempt(col.name); r != nil && (m == nil || i >= len(m.cells) || m.cells[i].rule == nil) {
				col.exempt, ex.receives = r.Name, true
			}
		}
	}
	if ex.st != nil {
		ex.st.columns, ex.st.receives = ex.columns, ex.receives
	}
	return nil
}

// proven compares a column of a description with what is proven of it.
func (ex *exch) proven(m *masking, i int, table uint32, number int16) error {
	if m == nil || ex.plan.schema == nil {
		return nil
	}
	from, known := ex.plan.schema.ByNumber(table, number)
	switch {
	case table == 0, known && len(from) == 0:
	case !known && len(m.Cells) > 0 && len(m.From()) > 0:
		return errWithheld("a column is of a table that the gateway does not know")
	case i < len(m.Cells) && from.Within(m.Cells[i].From):
	case known:
		return errWithheld("a column is another one than the statement says")
	}
	return nil
}

// begin makes room for what is counted of an answer of n columns, if nothing has yet.
func (ex *exch) begin(n int) {
	switch {
	case len(ex.columns) == n:
	case ex.st != nil && len(ex.st.columns) == n:
		ex.columns = make([]column, n)
		for i, c := range ex.st.columns {
			ex.columns[i] = column{typ: c.typ, name: c.name, exempt: c.exempt}
		}
	default:
		ex.columns = make([]column, n)
	}
}

// mask returns rows as the agent may see them.
func (ex *exch) mask(dst, frames []byte) ([]byte, error) {
	m := ex.current()
	for len(frames) > 0 {
		n := 1 + int(binary.BigEndian.Uint32(frames[1:]))
		frame := frames[:n]
		frames = frames[n:]
		c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
		count := c.Int16()
		if m != nil && m.masked() && count != len(m.cells) {
			return nil, errWithheld("a row has another number of columns than the statement")
		}
		ex.begin(count)
		var at int
		dst, at = pgwire.BeginFrame(dst, 'D')
		dst = binary.BigEndian.AppendUint16(dst, uint16(count)) //nolint:gosec // as the target had it
		for i := range count {
			v, null := c.Value()
			if v, null = ex.maskCell(m, i, v, null); null {
				dst = append(dst, 0xff, 0xff, 0xff, 0xff)
				continue
			}
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(v))) //nolint:gosec // a value is shorter than a frame
			dst = append(dst, v...)
		}
		if !c.End() {
			return nil, errWithheld("a row cannot be read")
		}
		dst = pgwire.EndFrame(dst, at)
	}
	return dst, nil
}

// maskCell masks a value of a column by the column's rule, or by what detectors find in it.
func (ex *exch) maskCell(m *masking, i int, v []byte, null bool) ([]byte, bool) {
	col := &ex.columns[i]
	col.seen++
	ruled := m != nil && i < len(m.cells) && m.cells[i].rule != nil
	if ruled {
		ex.commit(m.cells[i].rule.Key, v, null)
	}
	if null {
		col.null++
		return nil, true
	}
	if ruled {
		cl := &m.cells[i]
		typ := col.typ
		if typ == 0 {
			typ = cl.typ
		}
		v, null = cl.rule.Apply(v, typ, ex.binary(i), cl.plain)
		col.count(null)
		return v, null
	}
	if col.exempt != "" && (!ex.binary(i) || mask.CarrierOf(col.typ) == mask.Text) {
		ex.session.Received(col.exempt, v)
	}
	if values := ex.plan.set.Values(); values != nil {
		return ex.maskValues(values, col, v, ex.binary(i))
	}
	return v, false
}

// binary reports whether a column of the answer is in binary format.
func (ex *exch) binary(i int) bool {
	switch len(ex.formats) {
	case 0:
		return false
	case 1:
		return ex.formats[0] != 0
	}
	return i < len(ex.formats) && ex.formats[i] != 0
}

// maskedRows handles rows some of whose columns are masked, whole.
func (p *answers) maskedRows(ex *exch, n int) error {
	if n > maxFrame {
		return errWithheld(fmt.Sprintf("a row of %d bytes with masked columns is longer than what is masked", n))
	}
	var frames []byte
	count := 1
	var err error
	if p.in.Buffered() {
		frames, count = p.in.Run()
	} else if frames, err = p.in.Next(); err != nil {
		return err
	}
	var ok bool
	if ex.fields, ok = pgwire.CheckRows(frames, ex.fields); !ok {
		return fmt.Errorf("%w: DataRow from the target", pgwire.ErrMalformed)
	}
	ex.rows += uint64(count) //nolint:gosec // a count
	out, err := ex.mask(p.scratch[:0], frames)
	if err != nil {
		return err
	}
	p.scratch = out
	if cap(p.scratch) > 4*batchSize {
		p.scratch = nil
	}
	return p.record(ex, out)
}
