package audit

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/gatebook/gatebook/evidence"
)

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string (RFC 8259 section 7). Bytes that are
// not valid UTF-8 become U+FFFD, so callers that must be exact check first.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\ufffd"...)
			i++
			start = i
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func appendField(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return AppendString(dst, value)
}

func appendNumber(dst []byte, name string, n uint64) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return strconv.AppendUint(dst, n, 10)
}

func appendStrings(dst []byte, name string, list []string) []byte {
	for i, s := range list {
		if i == 0 {
			dst = append(append(append(dst, `,"`...), name...), `":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, s)
	}
	if len(list) > 0 {
		dst = append(dst, ']')
	}
	return dst
}

func appendSensitive(dst []byte, s *evidence.Sensitive) []byte {
	if s == nil {
		return dst
	}
	b, err := json.Marshal(s)
	if err != nil { // strings and numbers only
		return dst
	}
	return append(append(dst, `,"sensitive":`...), b...)
}

// AppendIntent appends the JSON of an evidence.Intent.
func AppendIntent(dst []byte, in *evidence.Intent) []byte {
	dst = append(dst, `{"op":`...)
	dst = AppendString(dst, in.Op)
	dst = appendField(dst, "origin", in.Origin)
	dst = append(dst, `,"rule":`...)
	dst = AppendString(dst, in.Rule)
	dst = appendField(dst, "reason", in.Reason)
	dst = appendField(dst, "code", in.Code)
	dst = appendField(dst, "config", in.Config)
	if !in.Decided.IsZero() {
		dst = append(dst, `,"decided":"`...)
		dst = evidence.AppendTime(dst, in.Decided)
		dst = append(dst, '"')
	}
	if u := in.Usage; u != nil {
		for _, w := range []struct {
			name   string
			counts evidence.Counts
		}{{`,"usage":{"minute":`, u.Minute}, {`,"hour":`, u.Hour}, {`,"day":`, u.Day}} {
			dst = append(dst, w.name...)
			dst = append(dst, `{"requests":`...)
			dst = strconv.AppendUint(dst, w.counts.Requests, 10)
			dst = appendNumber(dst, "rows", w.counts.Rows)
			dst = append(appendNumber(dst, "bytes", w.counts.Bytes), '}')
		}
		dst = append(dst, '}')
	}
	dst = append(dst, `,"opaque":`...)
	dst = strconv.AppendBool(dst, in.Opaque)
	if in.Early {
		dst = append(dst, `,"early":true`...)
	}
	dst = append(dst, `,"text":`...)
	dst = AppendString(dst, in.Text)
	if len(in.Detail) > 0 {
		dst = append(dst, `,"detail":`...)
		dst = append(dst, in.Detail...)
	}
	if len(in.Action) > 0 {
		dst = append(dst, `,"action":`...)
		dst = append(dst, in.Action...)
	}
	dst = appendSensitive(dst, in.Sensitive)
	dst = appendStrings(dst, "infers", in.Infers)
	for i := range in.List {
		l := &in.List[i]
		if i == 0 {
			dst = append(dst, `,"list":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = AppendString(append(dst, `{"text":`...), l.Text)
		dst = strconv.AppendBool(append(dst, `,"opaque":`...), l.Opaque)
		dst = append(append(dst, `,"action":`...), l.Action...)
		dst = append(appendStrings(appendSensitive(dst, l.Sensitive), "infers", l.Infers), '}')
		if i == len(in.List)-1 {
			dst = append(dst, ']')
		}
	}
	return append(dst, '}')
}

func appendCells(dst, cells []byte) []byte {
	if len(cells) == 0 {
		return dst
	}
	return append(base64.StdEncoding.AppendEncode(append(dst, `,"cells":"`...), cells), '"')
}

func appendCounts(dst []byte, name string, counts map[string]uint64) []byte {
	if len(counts) == 0 {
		return dst
	}
	dst = append(append(append(dst, `,"`...), name...), `":{`...)
	for i, k := range slices.Sorted(maps.Keys(counts)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, k), ':')
		dst = strconv.AppendUint(dst, counts[k], 10)
	}
	return append(dst, '}')
}

// AppendOutcome appends the JSON of an evidence.Outcome, with the digest of
// the answer given as its 32 bytes.
func AppendOutcome(dst []byte, o *evidence.Outcome, digest *[32]byte) []byte {
	dst = append(dst, `{"status":`...)
	dst = AppendString(dst, o.Status)
	dst = appendField(dst, "tag", o.Tag)
	dst = appendField(dst, "code", o.Code)
	dst = appendField(dst, "message", o.Message)
	dst = appendNumber(dst, "rows", o.Rows)
	dst = appendNumber(dst, "bytes", o.Bytes)
	dst = appendNumber(dst, "chunks", o.Chunks)
	dst = appendNumber(dst, "request", o.Request)
	dst = append(dst, `,"sha256":"`...)
	dst = hex.AppendEncode(dst, digest[:])
	dst = append(dst, '"')
	dst = append(dst, `,"ready_us":`...)
	dst = strconv.AppendInt(dst, o.ReadyUS, 10)
	dst = append(dst, `,"total_us":`...)
	dst = strconv.AppendInt(dst, o.TotalUS, 10)
	dst = appendField(dst, "cause", o.Cause)
	dst = appendCounts(dst, "personal_data", o.PersonalData)
	dst = appendCells(dst, o.Cells)
	if len(o.Detail) > 0 {
		dst = append(dst, `,"detail":`...)
		dst = append(dst, o.Detail...)
	}
	return append(dst, '}')
}

// AppendChunk appends the JSON of an evidence.Chunk.
func AppendChunk(dst []byte, seq uint64, found map[string]uint64, cells []byte) []byte {
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = appendCounts(dst, "found", found)
	dst = appendCells(dst, cells)
	return append(dst, '}')
}
