package bookcheck

import (
	"strings"
	"testing"
)

// TestExchanges checks that what must not be in a book is found.
func TestExchanges(t *testing.T) {
	t.Parallel()
	entries := func(kinds string) *Book {
		b := &Book{}
		for _, k := range strings.Fields(kinds) {
			e := Entry{Kind: strings.TrimRight(k, "0123456789"), Session: "s", Body: map[string]any{"sha256": strings.Repeat("0", 64)}}
			if k == "wrong" {
				e.Kind, e.Exchange, e.Body = "outcome", 1, map[string]any{"sha256": "00"}
			} else if n := k[len(e.Kind):]; n != "" {
				e.Exchange = uint64(n[0] - '0')
			}
			b.Entries = append(b.Entries, e)
		}
		return b
	}
	for _, c := range []struct {
		kinds, want string
	}{
		{"session intent1 intent2 answer1 outcome1 outcome2 session-end", ""},
		{"session intent1 outcome1", "has no end"},
		{"session intent1 session-end", "exchange 1 is open"},
		{"session intent1 outcome1 outcome1 session-end", "has its outcome already"},
		{"session intent1 outcome1 answer1 session-end", "has its outcome already"},
		{"session intent1 intent1 outcome1 session-end", "begins twice"},
		{"session outcome1 session-end", "there is no intent"},
		{"intent1", "has not begun"},
		{"session session-end note", "is over"},
		{"session session session-end", "begins twice"},
		{"session intent1 wrong session-end", "digest"},
	} {
		_, err := entries(c.kinds).Exchanges(true)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.kinds, err, c.want)
		}
	}
	if err := (&Book{}).Continues(entries("session")); err == nil {
		t.Error("a shorter book continues a longer one")
	}
	if err := (&Book{Entries: []Entry{{Line: []byte("a")}}}).Continues(&Book{Entries: []Entry{{Line: []byte("b")}}}); err == nil {
		t.Error("another book continues this one")
	}
}
