package index

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatebook/gatebook/evidence"
)

const (
	// maxText is how much of a statement or a configuration file is kept, in
	// bytes. The journal has all of it; the columns *_bytes say how long it is.
	maxText = 64 << 10
	// maxField is how much of any other text is kept.
	maxField = 4 << 10
)

// identityBody is an evidence.Identity without token and keys, so that they
// are not even decoded.
type identityBody struct {
	Issuer       string    `json:"issuer"`
	TokenSHA256  string    `json:"token_sha256"`
	TokenExpiry  time.Time `json:"token_expiry"`
	Renewal      bool      `json:"renewal"`
	SessionEnd   time.Time `json:"session_end"`
	LifetimeRule string    `json:"lifetime_rule"`
}

// intentBody is an evidence.Intent of whose detail only the number of
// parameters is taken, and of whose action what has a column.
type intentBody struct {
	evidence.Intent
	Detail struct {
		Params elements `json:"params"`
	} `json:"detail"`
	Action struct {
		Effects     []string `json:"effects"`
		Privileged  string   `json:"privileged"`
		Fingerprint string   `json:"fingerprint"`
	} `json:"action"`
}

// elements is the number of elements of a JSON array; 0 for anything else.
type elements int

// UnmarshalJSON counts without keeping anything. The input is valid JSON.
func (n *elements) UnmarshalJSON(text []byte) error {
	*n = 0
	if len(text) < 2 || text[0] != '[' {
		return nil
	}
	depth, quoted, any := 0, false, false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if quoted {
			switch c {
			case '\\':
				i++
			case '"':
				quoted = false
			}
			continue
		}
		switch c {
		case '[', '{':
			any = any || depth == 1
			depth++
		case ']', '}':
			depth--
		case ',':
			if depth == 1 {
				*n++
			}
		case ' ', '\t', '\r', '\n':
		default:
			quoted = c == '"'
			any = true
		}
	}
	if any {
		*n++
	}
	return nil
}

// timeText writes a time in RFC 3339, in UTC and at fixed width, so that the
// texts sort as the times do.
func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// timeOrNull is NULL for no time, and for one that has no RFC 3339 form.
func timeOrNull(t time.Time) any {
	if y := t.UTC().Year(); t.IsZero() || y < 0 || y > 9999 {
		return nil
	}
	return timeText(t)
}

// clip cuts s to at most n bytes at the border of a character. SQLite's
// functions end a text at a NUL, so that one is replaced.
func clip(s string, n int) string {
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\ufffd")
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// text is a column's value: NULL for the empty string.
func text(s string) any { return null(clip(s, maxField)) }

func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// number is a count as SQLite can hold it.
func number(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// share is what one exchange adds to its session's sums; bounded, so that no
// sum runs over.
func share(n uint64) int64 { return int64(min(n, 1<<40)) }

func itoa(n int) string { return strconv.Itoa(n) }

// principal is a principal's name across issuers.
func principal(p *evidence.Principal) any {
	if p.Issuer == "" && p.Name == "" {
		return nil
	}
	return text(p.Issuer + "|" + p.Name)
}

// list is a JSON array; NULL if it is empty.
func list(values []string) any {
	if len(values) == 0 {
		return nil
	}
	return asJSON(values)
}

func labels(m map[string]string) any {
	if len(m) == 0 {
		return nil
	}
	return asJSON(m)
}

// asJSON is NULL where the text would have to be cut: half of it is no JSON.
func asJSON(v any) any {
	out, err := json.Marshal(v)
	if err != nil || len(out) > maxText {
		return nil
	}
	return clip(string(out), maxText)
}

func recovered(r *evidence.Recovered) any {
	if r == nil {
		return nil
	}
	return asJSON(r)
}

// application is the name that the agent's program gave itself.
func application(detail json.RawMessage) any {
	var d struct {
		Parameters struct {
			Name string `json:"application_name"`
		} `json:"parameters"`
	}
	if len(detail) == 0 || json.Unmarshal(detail, &d) != nil {
		return nil
	}
	return text(d.Parameters.Name)
}
