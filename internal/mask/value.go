package mask

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Numbers of PostgreSQL's own types (pg_type.dat).
const (
	typeName        = 19
	typeInt8        = 20
	typeInt2        = 21
	typeInt4        = 23
	typeText        = 25
	typeJSON        = 114
	typeBpchar      = 1042
	typeVarchar     = 1043
	typeDate        = 1082
	typeTimestamp   = 1114
	typeTimestamptz = 1184
	typeNumeric     = 1700
	typeUUID        = 2950
	typeJSONB       = 3802
)

// masked is what stands in the place of a text.
const masked = "[masked]"

// hidden stands for the characters of a text that are not kept, however many they are.
const hidden = "***"

// Carrier says how texts stand in the values of a type.
type Carrier uint8

// Carriers.
const (
	// Bare: it holds numbers, dates and the like, and is not looked into.
	Bare Carrier = iota
	// Text: it is one.
	Text
	// JSON: texts stand in it as its strings. Its binary format has Prefix bytes before the same text.
	JSON
	// List: texts stand in its elements, which a text without signs of its own does not break; its binary format is another.
	List
	// Opaque: a text in it cannot be replaced.
	Opaque
)

// bare are types of PostgreSQL's own that hold no texts, by number (pg_type.dat): booleans, numbers, object numbers and
// identifiers of the system, bits, dates and times, money, points and other shapes, log positions, snapshots, and UUIDs.
var bare = map[uint32]bool{
	16: true, 18: true, 20: true, 21: true, 23: true, 26: true, 27: true, 28: true, 29: true, 700: true, 701: true, 790: true, 1082: true, 1083: true, 1114: true, 1184: true, 1186: true,
	1266: true, 1560: true, 1562: true, 1700: true, 2278: true, 2950: true, 3220: true, 5038: true, 5069: true, 600: true, 601: true, 602: true, 603: true, 604: true, 628: true, 718: true,
}

// lists are arrays of texts, and rows: of name, text, bpchar, varchar, record.
var lists = map[uint32]bool{1003: true, 1009: true, 1014: true, 1015: true, 2249: true}

// CarrierOf returns how texts stand in the values of a type; 0, a type that is not known, is taken for a text.
func CarrierOf(typ uint32) Carrier {
	switch {
	case isText(typ), typ == 0, typ == 142, typ == 705, typ == 2275: // xml, unknown, cstring
		return Text
	case typ == typeJSON, typ == typeJSONB:
		return JSON
	case bare[typ]:
		return Bare
	case lists[typ]:
		return List
	}
	return Opaque
}

// IsAddress reports whether a type holds addresses of the net, whose binary format no detector reads: inet and cidr.
func IsAddress(typ uint32) bool { return typ == 869 || typ == 650 }

func isText(typ uint32) bool {
	return typ == typeText || typ == typeVarchar || typ == typeBpchar || typ == typeName
}

// Apply returns a value of a type as the rule lets it be seen. plain: it is the column's own value, unchanged; what was made of
// values is only redacted. A NULL stays one. The result is no part of v.
func (r *Rule) Apply(v []byte, typ uint32, binaryFormat, plain bool) (out []byte, null bool) {
	if len(r.paths) > 0 && plain && (typ == typeJSON || typ == typeJSONB) {
		if typ == typeJSONB && binaryFormat {
			if len(v) == 0 {
				return nil, true
			}
			if out, null = r.inJSON(v[1:]); null {
				return nil, true
			}
			return append([]byte{1}, out...), false
		}
		return r.inJSON(v)
	}
	method := r.Method
	if !plain && method != Null {
		method = Redact
	}
	switch method {
	case Redact:
		return redacted(typ, binaryFormat)
	case Partial:
		if isText(typ) {
			return []byte(r.partial(string(v))), false
		}
	case Hash, Tokenize:
		return r.keyed(v, typ, binaryFormat)
	case Generalise:
		return r.general(v, typ, binaryFormat)
	}
	return nil, true
}

func redacted(typ uint32, binaryFormat bool) ([]byte, bool) {
	switch {
	case isText(typ):
		return []byte(masked), false
	case typ == typeJSON || typ == typeJSONB && !binaryFormat:
		return []byte(`"` + masked + `"`), false
	case typ == typeJSONB:
		return []byte("\x01\"" + masked + `"`), false
	}
	return nil, true
}

// partial keeps what the rule says of a text. One that would be kept whole, or nearly so, is hidden whole.
func (r *Rule) partial(v string) string {
	if !utf8.ValidString(v) {
		return hidden
	}
	domain := ""
	if r.KeepDomain {
		at := strings.LastIndexByte(v, '@')
		if at < 0 {
			return hidden
		}
		v, domain = v[:at], v[at:]
	}
	runes := []rune(v)
	first, last := r.KeepFirst, r.KeepLast
	if len(runes) < 2*(first+last) || len(runes) <= first+last {
		first, last = 0, 0
	}
	return string(runes[:first]) + hidden + string(runes[len(runes)-last:]) + domain
}

// keyed makes a digest or token of a value. The same value in text and binary format gives the same.
func (r *Rule) keyed(v []byte, typ uint32, binaryFormat bool) ([]byte, bool) {
	scope := r.Scope
	if scope == "" {
		scope = r.Name
	}
	h := hmac.New(sha256.New, r.Key)
	for _, part := range []string{"gatebook-mask 1", string(r.Method), scope} {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) //nolint:gosec // short words
		_, _ = h.Write([]byte(part))
	}
	switch typ {
	case typeText, typeVarchar, typeBpchar:
		_, _ = h.Write(v)
		sum := h.Sum(nil)
		if r.Method == Tokenize {
			return []byte("tok_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:15]))), false
		}
		return []byte(hex.EncodeToString(sum[:16])), false
	case typeInt4, typeInt8:
		n, ok := integer(v, binaryFormat)
		if !ok {
			return nil, true
		}
		_, _ = h.Write(strconv.AppendInt(nil, n, 10))
		u := binary.BigEndian.Uint64(h.Sum(nil))
		if typ == typeInt4 {
			return appendInteger(int64(u&math.MaxInt32), 4, binaryFormat), false
		}
		return appendInteger(int64(u&math.MaxInt64), 8, binaryFormat), false
	case typeUUID:
		id := v
		if !binaryFormat {
			var err error
			if id, err = hex.DecodeString(strings.ReplaceAll(string(v), "-", "")); err != nil {
				return nil, true
			}
		}
		_, _ = h.Write(id)
		sum := h.Sum(nil)[:16]
		sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // version 8, RFC 9562
		if binaryFormat {
			return sum, false
		}
		x := hex.EncodeToString(sum)
		return []byte(x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]), false
	}
	return nil, true
}

// integer reads an integer of 2, 4 or 8 bytes.
func integer(v []byte, binaryFormat bool) (int64, bool) {
	if !binaryFormat {
		n, err := strconv.ParseInt(string(v), 10, 64)
		return n, err == nil
	}
	switch len(v) {
	case 2:
		return int64(int16(binary.BigEndian.Uint16(v))), true //nolint:gosec // two's complement
	case 4:
		return int64(int32(binary.BigEndian.Uint32(v))), true //nolint:gosec // two's complement
	case 8:
		return int64(binary.BigEndian.Uint64(v)), true //nolint:gosec // two's complement
	}
	return 0, false
}

func appendInteger(n int64, size int, binaryFormat bool) []byte {
	if !binaryFormat {
		return strconv.AppendInt(nil, n, 10)
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(n)) //nolint:gosec // two's complement
	return b[8-size:]
}

// general makes a value coarser. What it has no coarser value for is NULL.
func (r *Rule) general(v []byte, typ uint32, binaryFormat bool) ([]byte, bool) {
	size := map[uint32]int{typeInt2: 2, typeInt4: 4, typeInt8: 8}[typ]
	switch {
	case size > 0 && r.Step > 0:
		n, ok := integer(v, binaryFormat)
		if !ok {
			return nil, true
		}
		low := n - ((n%r.Step)+r.Step)%r.Step
		if low > n || low < -1<<(8*size-1) { // beyond the type
			return nil, true
		}
		return appendInteger(low, size, binaryFormat), false
	case typ == typeNumeric && r.Step > 0 && !binaryFormat:
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil || math.IsNaN(f) || math.Abs(f) > 1<<53 {
			return nil, true
		}
		return strconv.AppendFloat(nil, math.Floor(f/float64(r.Step))*float64(r.Step), 'f', -1, 64), false
	case typ == typeDate && r.Unit != "":
		return r.date(v, binaryFormat)
	case (typ == typeTimestamp || typ == typeTimestamptz) && r.Unit != "":
		return r.timestamp(v, typ, binaryFormat)
	}
	return nil, true
}

// epoch is day 0 of PostgreSQL's binary formats.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// sinceEpoch is in seconds. A Duration is too short for it.
func sinceEpoch(t time.Time) int64 { return t.Unix() - epoch.Unix() }

// timestamp makes a timestamp coarser: in ISO format, or binary.
func (r *Rule) timestamp(v []byte, typ uint32, binaryFormat bool) ([]byte, bool) {
	if !binaryFormat {
		t, err := time.Parse(time.DateOnly, string(v[:min(len(v), len(time.DateOnly))]))
		if err != nil || strings.HasSuffix(string(v), "BC") {
			return nil, true
		}
		out := r.begin(t).Format(time.DateOnly) + " 00:00:00"
		if typ == typeTimestamptz {
			out += "+00"
		}
		return []byte(out), false
	}
	if len(v) != 8 {
		return nil, true
	}
	us := int64(binary.BigEndian.Uint64(v)) //nolint:gosec // two's complement
	const day = 86_400_000_000
	days := us / day
	if us%day < 0 {
		days--
	}
	if days < -700_000 || days > 3_000_000 { // infinity, or BC
		return nil, true
	}
	t := r.begin(epoch.AddDate(0, 0, int(days)))
	return binary.BigEndian.AppendUint64(nil, uint64(sinceEpoch(t)*1_000_000)), false //nolint:gosec // two's complement
}

// begin is the begin of the rule's unit that a day is in.
func (r *Rule) begin(t time.Time) time.Time {
	month := t.Month()
	if r.Unit == "year" {
		month = time.January
	}
	return time.Date(t.Year(), month, 1, 0, 0, 0, 0, time.UTC)
}

// date makes a date coarser: in ISO format, or binary.
func (r *Rule) date(v []byte, binaryFormat bool) ([]byte, bool) {
	if binaryFormat {
		if len(v) != 4 {
			return nil, true
		}
		days := int32(binary.BigEndian.Uint32(v)) //nolint:gosec // two's complement
		if days == math.MaxInt32 || days == math.MinInt32 || days < -800_000 || days > 3_000_000 {
			return nil, true
		}
		t := r.begin(epoch.AddDate(0, 0, int(days)))
		return binary.BigEndian.AppendUint32(nil, uint32(int32(sinceEpoch(t)/86400))), false //nolint:gosec // two's complement
	}
	t, err := time.Parse(time.DateOnly, string(v))
	if err != nil {
		return nil, true // another date style
	}
	return []byte(r.begin(t).Format(time.DateOnly)), false
}

// forms are how hashes and tokens of texts look.
var forms = map[Method]*regexp.Regexp{Hash: regexp.MustCompile(`^[0-9a-f]{32}$`), Tokenize: regexp.MustCompile(`^tok_[a-z2-7]{24}$`)}

// Made reports whether a text looks like one that the rule puts in the place of a value: as such it stands for another value and is none
// itself. Numbers do not show it.
func (r *Rule) Made(text string) bool {
	if text == masked {
		return true
	}
	switch r.Method {
	case Partial:
		return strings.Contains(text, hidden)
	case Hash, Tokenize:
		return forms[r.Method].MatchString(text)
	}
	return false
}
