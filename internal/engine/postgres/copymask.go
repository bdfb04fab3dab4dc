package postgres

import (
	"bytes"
	"encoding/binary"

	"github.com/gatebook/gatebook/internal/lineage"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// copyMask masks the rows of a COPY TO STDOUT. Each row goes out as one message, whatever messages it came in.
type copyMask struct {
	ex      *exch
	m       *masking
	n       int // columns
	f       lineage.CopyFormat
	pending []byte // of a row that is not complete
	begun   bool   // the header is through
	ended   bool   // the trailer of the binary format is
}

// takes handles the payload of a message and appends what goes out to dst.
func (c *copyMask) takes(dst, data []byte) ([]byte, error) {
	c.pending = append(c.pending, data...)
	if len(c.pending) > maxFrame {
		return nil, errWithheld("a row of COPY with masked columns is longer than what is masked")
	}
	rest := c.pending
	for len(rest) > 0 {
		row, n, err := c.row(rest)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		dst = pgwire.AppendFrame(dst, 'd', row)
		rest = rest[n:]
	}
	c.pending = c.pending[:copy(c.pending, rest)]
	return dst, nil
}

// done says what is wrong with the end of the data, nil if nothing is.
func (c *copyMask) done() error {
	if len(c.pending) > 0 || c.f.Binary && !c.ended {
		return errWithheld("the data of a COPY ends within a row")
	}
	return nil
}

// row masks the first row of b; n is how many bytes of b it takes, 0 if it is not complete.
func (c *copyMask) row(b []byte) (row []byte, n int, err error) {
	if c.f.Binary {
		return c.binary(b)
	}
	fields, n := c.split(b)
	if n == 0 {
		return nil, 0, nil
	}
	header := c.f.Header && !c.begun
	c.begun = true
	if header {
		return b[:n], n, nil
	}
	if len(fields) != c.n {
		return nil, 0, errWithheld("a row of COPY has another number of columns than the statement")
	}
	for i, field := range fields {
		if i > 0 {
			row = append(row, c.f.Delimiter)
		}
		v, null := c.value(field)
		changed := c.ex.columns[i].changed()
		switch v, null = c.ex.maskCell(c.m, i, v, null); {
		case c.ex.columns[i].changed() == changed:
			row = append(row, field...)
		case null:
			row = append(row, c.f.Null...)
		default:
			row = c.append(row, v)
		}
	}
	return append(row, '\n'), n, nil
}

// split returns the fields of the first line as they are written. n is the line's length with its end, 0 if it is not complete.
func (c *copyMask) split(b []byte) (fields [][]byte, n int) {
	from, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch ch := b[i]; {
		case !c.f.CSV && ch == '\\':
			i++
		case c.f.CSV && quoted && ch == c.f.Escape && ch != c.f.Quote:
			i++
		case c.f.CSV && ch == c.f.Quote:
			quoted = !quoted // a doubled quote ends and begins
		case quoted:
		case ch == c.f.Delimiter:
			fields, from = append(fields, b[from:i]), i+1
		case ch == '\n':
			return append(fields, b[from:i]), i + 1
		}
	}
	return nil, 0
}

// value reads a field.
func (c *copyMask) value(field []byte) (v []byte, null bool) {
	if string(field) == c.f.Null {
		return nil, true
	}
	if !c.f.CSV {
		return unescape(field), false
	}
	if len(field) < 2 || field[0] != c.f.Quote {
		return field, false
	}
	for i, in := 0, field[1:len(field)-1]; i < len(in); i++ {
		if in[i] == c.f.Escape && i+1 < len(in) {
			i++
		}
		v = append(v, in[i])
	}
	return v, false
}

// escapes are those of COPY's text format.
var escapes = map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

func unescape(field []byte) []byte {
	if bytes.IndexByte(field, '\\') < 0 {
		return field
	}
	var v []byte
	for i := 0; i < len(field); i++ {
		ch := field[i]
		if ch == '\\' && i+1 < len(field) {
			i++
			ch = field[i]
			if e, ok := escapes[ch]; ok {
				ch = e
			}
		}
		v = append(v, ch)
	}
	return v
}

// append writes a masked value: so that it reads as itself whatever the options are.
func (c *copyMask) append(row, v []byte) []byte {
	if c.f.CSV {
		row = append(row, c.f.Quote)
		for _, ch := range v {
			if ch == c.f.Quote || ch == c.f.Escape {
				row = append(row, c.f.Escape)
			}
			row = append(row, ch)
		}
		return append(row, c.f.Quote)
	}
	for _, ch := range v {
		if ch == '\\' || ch == c.f.Delimiter || ch == '\n' || ch == '\r' {
			switch ch {
			case '\n':
				ch = 'n'
			case '\r':
				ch = 'r'
			case '\t':
				ch = 't'
			}
			row = append(row, '\\')
		}
		row = append(row, ch)
	}
	return row
}

// copySignature begins COPY's binary format (PostgreSQL documentation, COPY).
var copySignature = []byte("PGCOPY\n\xff\r\n\x00")

// binary is row for the binary format.
func (c *copyMask) binary(b []byte) (row []byte, n int, err error) {
	if c.ended {
		return nil, 0, errWithheld("data behind the end of a COPY")
	}
	if !c.begun {
		if len(b) < len(copySignature)+8 {
			return nil, 0, nil
		}
		n = len(copySignature) + 8
		if !bytes.HasPrefix(b, copySignature) || binary.BigEndian.Uint32(b[n-8:])>>16 != 0 || binary.BigEndian.Uint32(b[n-4:]) != 0 {
			return nil, 0, errWithheld("the header of a COPY is not known")
		}
		c.begun = true
		return b[:n], n, nil
	}
	if len(b) < 2 {
		return nil, 0, nil
	}
	count := int(int16(binary.BigEndian.Uint16(b))) //nolint:gosec // two's complement
	if count == -1 {
		c.ended = true
		return b[:2], 2, nil
	}
	if count != c.n {
		return nil, 0, errWithheld("a row of COPY has another number of columns than the statement")
	}
	type field struct {
		v    []byte
		null bool
	}
	var fields []field
	n = 2
	for range count {
		if len(b) < n+4 {
			return nil, 0, nil
		}
		size := int32(binary.BigEndian.Uint32(b[n:])) //nolint:gosec // two's complement
		n += 4
		if size < -1 || size > maxFrame {
			return nil, 0, errWithheld("a value of a COPY is longer than what is masked")
		}
		null := size < 0
		var v []byte
		if !null {
			if len(b) < n+int(size) {
				return nil, 0, nil
			}
			v, n = b[n:n+int(size)], n+int(size)
		}
		fields = append(fields, field{v, null})
	}
	row = append(row, b[:2]...)
	for i, f := range fields { // once all of them are here, since they are counted
		v, null := c.ex.maskCell(c.m, i, f.v, f.null)
		if null {
			row = append(row, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		row = append(binary.BigEndian.AppendUint32(row, uint32(len(v))), v...) //nolint:gosec // shorter than a frame
	}
	return row, n, nil
}

// copies begins the masking of a COPY's answer, which the target has just announced.
func (ex *exch) copies(frame []byte) error {
	m := ex.current()
	if ex.plan == nil || !ex.plan.looks(m) {
		return nil
	}
	if m == nil {
		return errWithheld("the gateway does not know how this COPY writes its rows")
	}
	c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
	format, n := c.Byte(), c.Int16()
	if m.Copy == nil || (format == 1) != m.Copy.Binary || m.masked() && n != len(m.cells) {
		return errWithheld("a COPY is not as the statement says")
	}
	ex.formats = []int{int(format)}
	ex.columns = make([]column, n)
	ex.copy = &copyMask{ex: ex, m: m, n: n, f: *m.Copy}
	return nil
}

// maskedCopy handles COPY data some of whose columns are masked.
func (p *answers) maskedCopy(ex *exch, n int) error {
	if n > maxFrame || ex.copy == nil {
		return errWithheld("a row of COPY with masked columns is longer than what is masked")
	}
	var frames []byte
	var err error
	if p.in.Buffered() {
		frames, _ = p.in.Run()
	} else if frames, err = p.in.Next(); err != nil {
		return err
	}
	out := p.scratch[:0]
	for len(frames) > 0 {
		n := 1 + int(binary.BigEndian.Uint32(frames[1:]))
		if out, err = ex.copy.takes(out, frames[pgwire.FrameHeader:n]); err != nil {
			return err
		}
		frames = frames[n:]
	}
	p.scratch = out
	if cap(p.scratch) > 4*batchSize {
		p.scratch = nil
	}
	if len(out) == 0 {
		return nil
	}
	return p.record(ex, out)
}
