package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxViewed is the largest frame that is shown in a readable view, in bytes.
// Larger ones are named with their size; their bytes stand in the bodies.
const maxViewed = 1 << 20

// answerView turns the frames of one exchange's answer (PostgreSQL
// documentation, "Message Formats") into lines of rows.jsonl. Frames may be cut anywhere.
type answerView struct {
	carry   []byte
	skip    int  // bytes of an oversized frame still to come
	ended   bool // what came was not frames: nothing more is shown
	formats []byte
	// counts are those of each statement; copied: the one at hand answers by COPY. hidden: what the agent sent is not shown.
	counts  []cells
	copied  bool
	hidden  bool
	nulls   []bool
	csv     []byte // lines of the snapshot
	numbers uint64 // of its rows, of the statement at hand
	scan    func(text []byte) (kinds []string)
	found   map[string]uint64 // by scan
}

// statement returns the count of the statement at hand.
func (v *answerView) statement() *cells {
	if len(v.counts) == 0 {
		v.counts = []cells{{}}
	}
	return &v.counts[len(v.counts)-1]
}

// maxCounted bounds the statements of one request whose cells are counted apart.
const maxCounted = 10_000

// completes goes on to the next statement.
func (v *answerView) completes() {
	v.copied, v.numbers = false, 0
	if len(v.counts) < maxCounted {
		v.statement()
		v.counts = append(v.counts, cells{})
	}
}

func (v *answerView) statements() int {
	if v == nil {
		return 0
	}
	return len(v.counts)
}

// cells are those of a statement, from 0.
func (v *answerView) cells(i int) *cells {
	switch {
	case v == nil || i < 0 || i >= len(v.counts):
		return &cells{}
	case len(v.counts) == maxCounted && i == maxCounted-1:
		return &cells{uncounted: true}
	}
	return &v.counts[i]
}

// rows appends readable lines for the bytes of an exchange's request or answer.
func (b *Builder) rows(s *openSession, exchange uint64, direction string, raw []byte) error {
	if s.body == nil || s.body.Target.Protocol != "postgres" || len(raw) == 0 {
		return nil
	}
	key := exchange << 1
	if direction == "request" {
		key |= 1
	}
	v := s.views[key]
	if v == nil {
		v = &answerView{}
		if direction == "" && s.body.Origin == "" {
			v.scan = b.scan
		}
		s.views[key] = v
	}
	if v.hidden {
		return nil
	}
	out := v.append(b.line[:0], exchange, direction, raw)
	b.line = out
	if len(v.csv) > 0 {
		if err := b.sink.Append("data/sessions/"+s.id.String()+"/snapshot.csv", v.csv); err != nil {
			return err
		}
		v.csv = v.csv[:0]
	}
	if len(out) == 0 {
		return nil
	}
	return b.sink.Append("data/sessions/"+s.id.String()+"/rows.jsonl", out)
}

// hide leaves the rest of what an agent sends with a request out of the views, since something in it is personal or secret.
func (b *Builder) hide(s *openSession, exchange uint64, found map[string]uint64) error {
	key := exchange<<1 | 1
	if v := s.views[key]; v != nil && v.hidden {
		return nil
	}
	s.views[key] = &answerView{hidden: true}
	out := append((*answerView)(nil).begin(b.line[:0], exchange, "request"), `"not_shown":`...)
	out = append(appendJSON(out, strings.Join((&Sensitive{Found: found}).Kinds(), ", ")), "}\n"...)
	b.line = out
	return b.sink.Append("data/sessions/"+s.id.String()+"/rows.jsonl", out)
}

func (v *answerView) append(dst []byte, exchange uint64, direction string, raw []byte) []byte {
	if v.ended {
		return dst
	}
	if n := min(v.skip, len(raw)); n > 0 {
		v.skip -= n
		raw = raw[n:]
	}
	data := raw
	if len(v.carry) > 0 {
		v.carry = append(v.carry, raw...)
		data = v.carry
	}
	for len(data) >= 5 {
		n := int(binary.BigEndian.Uint32(data[1:])) + 1
		if n < 5 {
			v.ended, v.carry = true, nil
			return dst
		}
		if n > maxViewed {
			dst = v.begin(dst, exchange, direction)
			dst = append(dst, `"frame":`...)
			dst = appendJSON(dst, string(rune(data[0])))
			dst = append(dst, `,"bytes":`...)
			dst = strconv.AppendInt(dst, int64(n), 10)
			dst = append(dst, "}\n"...)
			v.statement().uncounted = true
			if v.scan != nil {
				v.find("too long to be looked into")
			}
			have := min(n, len(data))
			v.skip = n - have
			data = data[have:]
			continue
		}
		if len(data) < n {
			break
		}
		dst = v.frame(dst, exchange, direction, data[0], data[5:n])
		data = data[n:]
	}
	v.carry = append(v.carry[:0], data...)
	return dst
}

func (*answerView) begin(dst []byte, exchange uint64, direction string) []byte {
	dst = append(dst, `{"exchange":`...)
	dst = strconv.AppendUint(dst, exchange, 10)
	dst = append(dst, ',')
	if direction != "" {
		dst = append(dst, `"direction":"`...)
		dst = append(dst, direction...)
		dst = append(dst, `",`...)
	}
	return dst
}

// frame appends the line of one frame; frames that only say that something was
// done have none.
func (v *answerView) frame(dst []byte, exchange uint64, direction string, typ byte, body []byte) []byte {
	switch typ {
	case 'H', 'd':
		v.copied, v.statement().uncounted = true, true
	}
	switch typ {
	case 'T':
		v.line(exchange, body, true)
		return v.columns(v.begin(dst, exchange, direction), body)
	case 'D':
		defer v.line(exchange, body, false) // behind what is found out of the row
		return v.row(v.begin(dst, exchange, direction), body)
	case 'd':
		v.look(body)
		dst = append(v.begin(dst, exchange, direction), `"copy":`...)
		return append(appendValue(dst, body, 0), "}\n"...)
	case 'E', 'N':
		name := `"error":{`
		if typ == 'N' {
			name = `"notice":{`
		}
		v.look(body)
		dst = append(v.begin(dst, exchange, direction), name...)
		return append(appendFields(dst, body), "}}\n"...)
	case 'S', 'A', 'C':
		names := map[byte]string{'S': `"parameter":`, 'A': `"notification":`, 'C': `"complete":`}
		if typ == 'C' {
			v.completes()
		} else {
			v.look(body)
		}
		if typ == 'A' && len(body) > 4 {
			body = body[4:]
		}
		dst = append(v.begin(dst, exchange, direction), names[typ]...)
		return append(appendValue(dst, body, 0), "}\n"...)
	case 'V':
		dst = append(v.begin(dst, exchange, direction), `"result":`...)
		if len(body) >= 4 && binary.BigEndian.Uint32(body) != 0xffffffff {
			return append(appendValue(dst, body[4:], 1), "}\n"...)
		}
		return append(dst, "null}\n"...)
	}
	return dst
}

// columns reads a RowDescription: names, and the formats of the rows to come.
func (v *answerView) columns(dst, body []byte) []byte {
	dst = append(dst, `"columns":[`...)
	v.formats = v.formats[:0]
	if len(body) < 2 {
		return append(dst, "]}\n"...)
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for i := range n {
		end := 0
		for end < len(body) && body[end] != 0 {
			end++
		}
		if len(body) < end+19 {
			break
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendValue(dst, body[:end], 0)
		v.formats = append(v.formats, body[end+18])
		body = body[end+19:]
	}
	return append(dst, "]}\n"...)
}

func (v *answerView) row(dst, body []byte) []byte {
	dst = append(dst, `"row":[`...)
	if len(body) < 2 {
		return append(dst, "]}\n"...)
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	v.nulls = v.nulls[:0]
	defer func() { v.statement().row(v.nulls) }()
	for i := range n {
		if len(body) < 4 {
			break
		}
		size := int(int32(binary.BigEndian.Uint32(body)))
		body = body[4:]
		if size > len(body) {
			break
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		v.nulls = append(v.nulls, size < 0)
		if size < 0 {
			dst = append(dst, "null"...)
			continue
		}
		format := byte(0)
		if i < len(v.formats) {
			format = v.formats[i]
		}
		v.look(body[:size])
		dst = appendValue(dst, body[:size], format)
		body = body[size:]
	}
	return append(dst, "]}\n"...)
}

// look looks for values that were not masked.
func (v *answerView) look(text []byte) {
	if v.scan == nil {
		return
	}
	for _, kind := range v.scan(text) {
		v.find(kind)
	}
}

func (v *answerView) find(kind string) {
	if v.found == nil {
		v.found = map[string]uint64{}
	}
	v.found[kind]++
}

// residue notes what look has found in an answer.
func (b *Builder) residue(s *openSession, h *Header, v *answerView) {
	if v == nil {
		return
	}
	for _, kind := range slices.Sorted(maps.Keys(v.found)) {
		if len(b.residual) < maxListed {
			b.residual = append(b.residual, Residual{h.Index, s.id.String(), h.Exchange, kind, v.found[kind]})
		}
	}
}

// line appends a line of the snapshot: exchange, statement and row from 1, and the cells; a row 0 has the columns' names.
func (v *answerView) line(exchange uint64, body []byte, names bool) {
	if len(body) < 2 {
		return
	}
	if v.numbers++; names {
		v.numbers = 0
	}
	for i, n := range []uint64{exchange, uint64(max(v.statements(), 1)), v.numbers} {
		if i > 0 {
			v.csv = append(v.csv, ',')
		}
		v.csv = strconv.AppendUint(v.csv, n, 10)
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for i := range n {
		cell, rest, ok := v.cell(body, i, names)
		if !ok {
			break
		}
		v.csv = AppendCSV(append(v.csv, ','), cell)
		body = rest
	}
	v.csv = append(v.csv, "\r\n"...)
}

// cell returns the text of the first cell of b: a name of a RowDescription, or a value of a DataRow.
func (v *answerView) cell(b []byte, i int, name bool) (text string, rest []byte, ok bool) {
	if name {
		end := bytes.IndexByte(b, 0)
		if end < 0 || len(b) < end+19 {
			return "", nil, false
		}
		return string(b[:end]), b[end+19:], true
	}
	if len(b) < 4 {
		return "", nil, false
	}
	size := int(int32(binary.BigEndian.Uint32(b))) //nolint:gosec // two's complement
	switch b = b[4:]; {
	case size < 0:
		return `\N`, b, true
	case size > len(b):
		return "", nil, false
	case i < len(v.formats) && v.formats[i] != 0 || !utf8.Valid(b[:size]):
		return "base64:" + base64.StdEncoding.EncodeToString(b[:size]), b[size:], true
	}
	return string(b[:size]), b[size:], true
}

// appendValue appends text as a string, and what is binary or not UTF-8 as {"b64": …}.
func appendValue(dst, v []byte, format byte) []byte {
	if format == 0 && utf8.Valid(v) {
		for len(v) > 0 && v[len(v)-1] == 0 {
			v = v[:len(v)-1]
		}
		return appendJSON(dst, string(v))
	}
	dst = append(dst, `{"b64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, v)
	return append(dst, `"}`...)
}

func appendJSON(dst []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		return append(dst, "null"...)
	}
	return append(dst, text...)
}

// appendFields appends the fields of an ErrorResponse or NoticeResponse.
func appendFields(dst, body []byte) []byte {
	first := true
	for len(body) > 1 {
		typ := body[0]
		end := 1
		for end < len(body) && body[end] != 0 {
			end++
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendJSON(dst, string(rune(typ)))
		dst = append(dst, ':')
		dst = appendValue(dst, body[1:end], 0)
		body = body[min(end+1, len(body)):]
	}
	return dst
}
