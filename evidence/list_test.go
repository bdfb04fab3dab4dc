package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"
)

// listBook is a book with a list of three statements that was let through, whose entries a test can change.
type listBook struct {
	t      *testing.T
	ticket Ticket
	asked  []Listed
	late   map[int]time.Duration // of entries, by their place behind the session's second exchange
}

func newListBook(t *testing.T) *listBook {
	t.Helper()
	list := []Listed{{Text: "SELECT 1", Action: []byte(`{"effects":["read"],"has_filter":true}`)}, {Text: "DELETE FROM a"}, {Text: "DELETE FROM b"}}
	for i := range list[1:] {
		list[i+1].Action = []byte(`{"effects":["write"],"has_filter":false}`)
	}
	b := &listBook{t: t, asked: list}
	b.bind(list)
	return b
}

// bind makes the ticket one that covers a list.
func (b *listBook) bind(list []Listed) {
	bound := string(meta(b.t, &TicketBound{
		Ticket: "k7q2m9xdsv4hplfn", Session: ana.id.String(), Exchange: 3, Principal: "ci|ana", Subject: "ana", Target: "orders", Role: "default", Op: "request", Text: "SET gatebook.request = '…'",
		List: list, Rules: []string{"deletes"}, Config: "cdcd", Expires: storyBegin.Add(time.Hour),
	}))
	d := sha256.Sum256([]byte(bound))
	b.ticket = Ticket{
		Ticket: "k7q2m9xdsv4hplfn", Digest: hex.EncodeToString(d[:]), Bound: bound, Requires: []Approvers{{Rule: "deletes", Groups: []string{"dba"}, Quorum: 1}}, Requester: "ana",
	}
}

func (b *listBook) entry(exchange uint64, k Kind, v any) entryRec {
	e := heldEntry(b.t, k, v)
	e.h.Exchange = exchange
	return e
}

func (b *listBook) intent(exchange uint64, decision, rule, text string) entryRec {
	e := b.entry(exchange, KindIntent, &Intent{Op: "query", Rule: rule, Text: text, Config: "cdcd"})
	e.h.Decision = decision
	return e
}

func (b *listBook) outcome(exchange uint64, status string) entryRec {
	return b.entry(exchange, KindOutcome, &Outcome{Status: status, SHA256: sum(nil)})
}

// ruled are the rulings on the list, and its release.
func (b *listBook) ruled() []entryRec {
	return []entryRec{
		b.entry(3, KindRuling, &Ruling{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, Person: "ben", Identity: "SHA256:x", Groups: []string{"dba"}, Verdict: "approve"}),
		b.entry(3, KindRelease, &Release{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, Persons: []string{"ben"}, Config: "cdcd", List: 3}),
	}
}

// request is the exchange that asks for the list.
func (b *listBook) request(middle []entryRec, status string) []entryRec {
	in := b.entry(3, KindIntent, &Intent{Op: "request", Rule: "deletes", Text: "SET gatebook.request = '…'", Config: "cdcd", List: b.asked})
	in.h.Decision = "hold"
	return slices.Concat([]entryRec{in, b.entry(3, KindTicket, &b.ticket)}, middle, []entryRec{b.outcome(3, status)})
}

func (b *listBook) position(exchange uint64, n int) entryRec {
	return b.entry(exchange, KindRelease, &Release{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, Config: "cdcd", Position: n})
}

func (b *listBook) ended(exchange uint64) entryRec {
	return b.entry(exchange, KindTicketEnd, &TicketEnd{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, State: "list-ended", Cause: "a cause"})
}

// statement is the exchange of one statement that was let through.
func (b *listBook) statement(exchange uint64, n int, text, status string) []entryRec {
	decision, rule := "hold", "deletes"
	if strings.HasPrefix(text, "SELECT") {
		decision, rule = "allow", "all"
	}
	return []entryRec{b.intent(exchange, decision, rule, text), b.position(exchange, n), b.outcome(exchange, status)}
}

func (b *listBook) built(entries []entryRec) (problems []string, approvals string) {
	b.t.Helper()
	recs := newWorld(b.t).story(b.t)
	end := slices.IndexFunc(recs, func(r entryRec) bool { return r.h.Kind == KindSessionEnd })
	exchanges := uint64(2)
	for i := range entries {
		exchanges = max(exchanges, entries[i].h.Exchange)
	}
	recs[end].body = meta(b.t, &SessionEnd{Cause: "closed", Exchanges: exchanges})
	recs = slices.Insert(recs, end, entries...)
	sink := make(memory)
	builder := NewBuilder(Scope{Origin: testOrigin}, sink)
	for i := range recs {
		h := &recs[i].h
		h.Index, h.Time, h.BodyLen = uint64(i), storyBegin.Add(b.late[i-end]), uint64(len(recs[i].body))
		var d *Disclosed
		if recs[i].reason == "" {
			d = &Disclosed{Body: recs[i].body}
		}
		if err := builder.Entry(AppendHeader(nil, h), h, d, recs[i].reason); err != nil {
			b.t.Fatal(err)
		}
	}
	if _, err := builder.Finish(storyBegin); err != nil {
		b.t.Fatal(err)
	}
	for _, p := range builder.problems {
		problems = append(problems, p.What)
	}
	return problems, string(sink["data/populations/P4-approvals.csv"])
}

// TestAP05List: statements of a list that was let through have a release each, in the same session, in its order, each once, exactly
// that text, after the one before succeeded; anything else does not verify.
func TestAP05List(t *testing.T) {
	t.Parallel()
	const one, two, three = "SELECT 1", "DELETE FROM a", "DELETE FROM b"
	for _, tt := range []struct {
		name string
		make func(b *listBook) []entryRec
		want string // "" if it verifies
		row  string
	}{
		{"in order", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 1, one, "ok"), b.statement(5, 2, " "+two+" ;\n", "ok"), b.statement(6, 3, three, "ok"))
		}, "", "3 of 3 statements ran,ben"},
		{"ended before its last", func(b *listBook) []entryRec {
			other := []entryRec{b.intent(5, "allow", "all", "SELECT 2"), b.ended(5), b.outcome(5, "ok")}
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 1, one, "ok"), other)
		}, "", "1 of 3 statements ran,ben,,a cause,ok"},
		{"a failed one is the last", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 1, one, "error"))
		}, "", "1 of 3 statements ran,ben,,statement 1 did not succeed,ok"},
		{"held on its own", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled(), "ok"), []entryRec{b.intent(4, "hold", "deletes", two), b.ended(4), b.outcome(4, "denied")})
		}, "", "0 of 3 statements ran"},
		{"the second first", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 2, two, "ok"))
		}, "is not the next statement of a list", ""},
		{"another position", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 2, one, "ok"))
		}, "is not the next statement of a list", ""},
		{"a position twice", func(b *listBook) []entryRec {
			twice := b.statement(4, 1, one, "ok")
			return slices.Concat(b.request(b.ruled(), "ok"), slices.Insert(twice, 1, twice[1]))
		}, "statement 1 of a list was released where 2 is due", ""},
		{"a statement twice", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 1, one, "ok"), b.statement(5, 1, one, "ok"))
		}, "is not the next statement of a list", ""},
		{"one too many", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 1, one, "ok"), b.statement(5, 2, two, "ok"), b.statement(6, 3, three, "ok"), b.statement(7, 4, three, "ok"))
		}, "is not the next statement of a list", ""},
		{"another text", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 1, one, "ok"), b.statement(5, 2, two+"b", "ok"))
		}, "is not the next statement of a list", ""},
		{"another operation", func(b *listBook) []entryRec {
			e := b.statement(4, 1, one, "ok")
			e[0].body = meta(b.t, &Intent{Op: "execute", Rule: "all", Text: one, Config: "cdcd"})
			return slices.Concat(b.request(b.ruled(), "ok"), e)
		}, "is not the next statement of a list", ""},
		{"something between", func(b *listBook) []entryRec {
			between := []entryRec{b.intent(5, "allow", "all", "SELECT 2"), b.outcome(5, "ok")}
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 1, one, "ok"), between, b.statement(6, 2, two, "ok"))
		}, "is not the next statement of a list", ""},
		{"no ruling", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled()[1:], "ok"), b.statement(4, 1, one, "ok"))
		}, "released with 0 of the 1 approvals", ""},
		{"no release of the list", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled()[:1], "denied"), b.statement(4, 1, one, "ok"), b.statement(5, 2, two, "ok"))
		}, "is not the next statement of a list", ""},
		{"no release of a statement", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 1, one, "ok"), []entryRec{b.intent(5, "hold", "deletes", two), b.outcome(5, "ok")})
		}, "a held request ran without a release", ""},
		{"behind one that failed", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 1, one, "error"), b.statement(5, 2, two, "ok"))
		}, "although its list was over: statement 1 did not succeed", ""},
		{"behind its end", func(b *listBook) []entryRec {
			return slices.Concat(b.request(b.ruled(), "ok"), slices.Insert(b.statement(4, 1, one, "ok"), 1, b.ended(4)))
		}, "although its list was over: a cause", ""},
		{"before the outcome of the one before", func(b *listBook) []entryRec {
			first, second := b.statement(4, 1, one, "ok"), b.statement(5, 2, two, "ok")
			return slices.Concat(b.request(b.ruled(), "ok"), first[:2], second[:2], first[2:], second[2:])
		}, "before the one before it had its outcome", ""},
		{"after its time", func(b *listBook) []entryRec {
			b.late = map[int]time.Duration{6: 2 * time.Hour, 7: 2 * time.Hour}
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 1, one, "ok"))
		}, "after the ticket's time was over", ""},
		{"another configuration", func(b *listBook) []entryRec {
			e := b.statement(4, 1, one, "ok")
			e[1] = b.entry(4, KindRelease, &Release{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, Config: "abab", Position: 1})
			return slices.Concat(b.request(b.ruled(), "ok"), e)
		}, "under another configuration", ""},
		{"another ticket", func(b *listBook) []entryRec {
			e := b.statement(4, 1, one, "ok")
			e[1] = b.entry(4, KindRelease, &Release{Ticket: b.ticket.Ticket, Digest: "00", Config: "cdcd", Position: 1})
			return slices.Concat(b.request(b.ruled(), "ok"), e)
		}, "a release entry of another ticket", ""},
		{"held by a rule that nobody was asked for", func(b *listBook) []entryRec {
			e := b.statement(5, 2, two, "ok")
			e[0] = b.intent(5, "hold", "others", two)
			return slices.Concat(b.request(b.ruled(), "ok"), b.statement(4, 1, one, "ok"), e)
		}, "held by rule others, which nobody was asked for", ""},
		{"a denied one", func(b *listBook) []entryRec {
			e := b.statement(4, 1, one, "denied")
			e[0] = b.intent(4, "deny", "never", one)
			return slices.Concat(b.request(b.ruled(), "ok"), e)
		}, "is not the next statement of a list", ""},
		{"fewer than were asked for", func(b *listBook) []entryRec {
			e := b.ruled()
			e[1] = b.entry(3, KindRelease, &Release{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, Persons: []string{"ben"}, Config: "cdcd", List: 2})
			return b.request(e, "ok")
		}, "released for 2 statements of a list of 3", ""},
		{"the ticket has another list", func(b *listBook) []entryRec {
			other := slices.Clone(b.asked)
			other[1].Text = "DELETE FROM c"
			b.bind(other)
			return b.request(b.ruled(), "ok")
		}, "the ticket covers another list", ""},
		{"the ticket has another order", func(b *listBook) []entryRec {
			b.bind([]Listed{b.asked[0], b.asked[2], b.asked[1]})
			return b.request(b.ruled(), "ok")
		}, "the ticket covers another list", ""},
		{"the ticket has no list", func(b *listBook) []entryRec {
			b.bind(nil)
			return b.request(b.ruled(), "ok")
		}, "the ticket covers another list", ""},
		{"the end of no list", func(b *listBook) []entryRec {
			return []entryRec{b.intent(3, "allow", "all", one), b.ended(3), b.outcome(3, "ok")}
		}, "the end of a list that was not let through", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newListBook(t)
			problems, approvals := b.built(tt.make(b))
			switch all := strings.Join(problems, "\n"); {
			case tt.want == "" && len(problems) > 0:
				t.Errorf("problems: %q", problems)
			case tt.want == "" && !strings.Contains(strings.ReplaceAll(approvals, `"`, ""), tt.row):
				t.Errorf("rows %s", approvals)
			case !strings.Contains(all, tt.want):
				t.Errorf("problems %q, want %q", problems, tt.want)
			}
		})
	}
}
