package index

import (
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

// kindsRead are the kinds whose bodies the index reads.
var kindsRead = []evidence.Kind{
	evidence.KindBoot, evidence.KindStop, evidence.KindHeartbeat, evidence.KindConfig, evidence.KindKey, evidence.KindAdmin, evidence.KindGate,
	evidence.KindPrincipal, evidence.KindTarget, evidence.KindRefused, evidence.KindSession, evidence.KindUpstream, evidence.KindIdentity,
	evidence.KindIntent, evidence.KindRequest, evidence.KindAnswer, evidence.KindOutcome, evidence.KindCancel, evidence.KindNote, evidence.KindSessionEnd,
}

// FuzzBody takes in an entry of each kind with a hostile body, in and out of
// a session, in one batch and in many, and compares.
func FuzzBody(f *testing.F) {
	b := newBook(1)
	b.grow(400)
	seen := make(map[evidence.Kind]int)
	for _, e := range b.entries {
		if seen[e.h.Kind]++; seen[e.h.Kind] < 3 {
			f.Add(e.body, uint64(1), int64(0))
		}
	}
	for _, text := range []string{
		"", "null", "[]", "{", `{"text":"\u0000\ud800","op":1e999}`, `{"text":"\u0000","detail":{"params":[[],{},"],",1]}}`, `{"detail":5,"files":{"a":"b"}}`,
		`{"status":"error","rows":18446744073709551615,"bytes":18446744073709551615}`, `{"files":{"":"","` + "\xff" + `":"x"}}`,
		`{"token_expiry":"9999-12-31T23:59:59.999999999Z"}`, `{"token_expiry":"0000-01-01T00:00:00+14:00","seconds":-9223372036854775808}`,
		`{"groups":["` + canary + `"],"labels":{"a":"b"},"heartbeat_seconds":-9223372036854775808}`,
	} {
		f.Add([]byte(text), uint64(1<<63), int64(-1))
	}
	f.Fuzz(func(t *testing.T, body []byte, number uint64, us int64) {
		b := newBook(1)
		s := b.session("bot-a", "orders")
		s.intent("SELECT 1", "allow")
		at := time.UnixMicro(us % (1 << 54))
		for range 2 {
			for _, k := range kindsRead {
				b.add(evidence.Header{Kind: k, Exchange: number}, body)
				h := s.h
				h.Kind, h.Exchange, h.Decision = k, number, "deny"
				b.add(h, body)
				b.entries[len(b.entries)-1].h.Time = at
				if b.rnd.IntN(4) == 0 {
					h.Session[0]++
					b.add(h, body)
				}
			}
			s.outcome(1, evidence.Outcome{Status: "ok"})
		}
		x := indexed(t, b, testOptions(t))
		y := openIndex(t, testOptions(t))
		for y.Next() < uint64(len(b.entries)) {
			if _, err := y.CatchUp(t.Context(), b.from(y.Next(), y.Next()+1+uint64(b.rnd.IntN(9)))); err != nil {
				t.Fatal(err)
			}
		}
		sameDump(t, dump(t, y), dump(t, x))
		if _, err := x.Sessions(t.Context(), Filter{}); err != nil {
			t.Error(err)
		}
		if _, err := x.Exchanges(t.Context(), Filter{}); err != nil {
			t.Error(err)
		}
		_, _ = x.Exchanges(t.Context(), Filter{Text: string(body)})
		if err := x.Query(t.Context(), string(body), short, func([]string, []any) error { return nil }); err == nil && len(body) > 0 && body[0] == '{' {
			t.Errorf("%q ran", body)
		}
	})
}

func TestElements(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]elements{
		`[]`: 0, `[ ]`: 0, `[1]`: 1, `[null,"a,b","]",[1,2],{"a":[1,2]}]`: 5, `["\"",""]`: 2, `{}`: 0, `5`: 0, `null`: 0, `[[]]`: 1, `[{},{}]`: 2, `["\\"]`: 1,
	} {
		var n elements
		if err := n.UnmarshalJSON([]byte(text)); err != nil || n != want {
			t.Errorf("%s: got %d, %v, want %d", text, n, err, want)
		}
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		n    int
		want string
	}{{"abc", 5, "abc"}, {"abc", 2, "ab"}, {"aß", 2, "a"}, {"a\x00b", 9, "a\ufffdb"}, {"\xff", 9, "\ufffd"}, {"ß", 0, ""}} {
		if got := clip(tt.in, tt.n); got != tt.want {
			t.Errorf("clip(%q, %d): got %q, want %q", tt.in, tt.n, got, tt.want)
		}
	}
}
