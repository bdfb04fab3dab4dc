package pgwire

import "encoding/binary"

// WellFormed reports whether the body of a frame from a target has the form
// that the protocol gives its type ("Message Formats"). Types that it does not
// know are not well-formed. DataRow is checked by Row, CopyData has no form.
func WellFormed(typ byte, body []byte) bool {
	c := NewCursor(body)
	switch typ {
	case '1', '2', '3', 'n', 'I', 's', 'c': // no fields
	case 'C': // CommandComplete
		c.String()
	case 'Z':
		if s := c.Byte(); s != 'I' && s != 'T' && s != 'E' {
			return false
		}
	case 'S': // ParameterStatus
		c.String()
		c.String()
	case 'A': // NotificationResponse
		c.Int32()
		c.String()
		c.String()
	case 'T': // RowDescription
		for range c.Int16() {
			c.String()
			c.Bytes(18)
		}
	case 't': // ParameterDescription
		c.Bytes(4 * c.Int16())
	case 'G', 'H': // CopyInResponse, CopyOutResponse
		c.Byte()
		c.Bytes(2 * c.Int16())
	case 'V': // FunctionCallResponse
		c.Value()
	case 'E', 'N':
		_, ok := ParseFields(body)
		return ok
	default:
		return false
	}
	return c.End()
}

// Fields are what the gateway reads of an ErrorResponse or NoticeResponse.
type Fields struct {
	Severity string // not translated where the target says so (field V), else field S
	Code     string
	Message  string
}

// Fatal reports whether the target ends the connection with this error.
func (f *Fields) Fatal() bool { return f.Severity == "FATAL" || f.Severity == "PANIC" }

// ParseFields reads the body of an ErrorResponse or NoticeResponse.
func ParseFields(body []byte) (f Fields, ok bool) {
	c := NewCursor(body)
	plain := false
	for {
		typ := c.Byte()
		if typ == 0 {
			return f, c.End()
		}
		v := c.String()
		switch typ {
		case 'V':
			f.Severity, plain = string(v), true
		case 'S':
			if !plain {
				f.Severity = string(v)
			}
		case 'C':
			f.Code = string(v)
		case 'M':
			f.Message = string(v)
		}
	}
}

// Row checks DataRow bodies, in any pieces: a count of fields, and fields that
// fill the body exactly. The zero Row is ready for the first piece of a body.
type Row struct {
	head   [4]byte // of a number that is split between pieces
	have   int     // bytes of it
	fields int     // still to come
	value  int     // bytes of the current field still to come
	inside bool    // the count was read
	bad    bool
}

// Write takes the next piece of a body. want is the number of fields that the
// row must have, -1 if that is not known. It returns the number it has, -1
// until it is known.
func (w *Row) Write(p []byte, want int) int {
	count := -1
	for len(p) > 0 && !w.bad {
		if w.value > 0 {
			n := min(w.value, len(p))
			w.value -= n
			p = p[n:]
			continue
		}
		size := 4
		if !w.inside {
			size = 2
		} else if w.fields == 0 {
			w.bad = true // bytes behind the last field
			break
		}
		n := copy(w.head[w.have:size], p)
		w.have += n
		p = p[n:]
		if w.have < size {
			break
		}
		w.have = 0
		if !w.inside {
			w.inside = true
			w.fields = int(binary.BigEndian.Uint16(w.head[:]))
			count = w.fields
			w.bad = want >= 0 && want != count
			continue
		}
		w.fields--
		v := int32(binary.BigEndian.Uint32(w.head[:]))
		if v < -1 {
			w.bad = true
		} else if v > 0 {
			w.value = int(v)
		}
	}
	return count
}

// Bad reports whether the pieces so far cannot be the beginning of such a body.
func (w *Row) Bad() bool { return w.bad }

// End reports whether the pieces made one whole, well-formed body.
func (w *Row) End() bool {
	return !w.bad && w.inside && w.fields == 0 && w.value == 0 && w.have == 0
}

// CheckRows reports whether frames, whole DataRow frames one after another,
// are well-formed rows of want fields each; want -1 takes the first row's
// number. It returns the number.
func CheckRows(frames []byte, want int) (fields int, ok bool) {
	for len(frames) >= FrameHeader+2 {
		end := 1 + int(binary.BigEndian.Uint32(frames[1:]))
		if end < FrameHeader+2 || end > len(frames) {
			return want, false
		}
		n := int(binary.BigEndian.Uint16(frames[FrameHeader:]))
		if want < 0 {
			want = n
		}
		if n != want {
			return want, false
		}
		at := FrameHeader + 2
		for range n {
			if end-at < 4 {
				return want, false
			}
			v := int32(binary.BigEndian.Uint32(frames[at:]))
			at += 4
			if v == -1 {
				continue
			}
			if v < 0 || int(v) > end-at {
				return want, false
			}
			at += int(v)
		}
		if at != end {
			return want, false
		}
		frames = frames[end:]
	}
	return want, len(frames) == 0
}
