package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// heldBook is a book with one held request, whose entries a test can change.
type heldBook struct {
	ticket  Ticket
	middle  []entryRec // between ticket and outcome
	outcome string
}

func heldEntry(t *testing.T, k Kind, v any) entryRec {
	t.Helper()
	return entryRec{h: Header{Kind: k, Session: ana.id, Actor: ana.actor, Target: db, Exchange: 3}, body: meta(t, v), index: -1}
}

func newHeldBook(t *testing.T, requires ...Approvers) *heldBook {
	t.Helper()
	bound := string(meta(t, &TicketBound{
		Ticket: "k7q2m9xdsv4hplfn", Session: ana.id.String(), Exchange: 3, Principal: "ci|ana", Subject: "ana", Target: "orders", Role: "default", Op: "query", Text: "DELETE FROM t",
		Rules: []string{"deletes"}, Config: "cdcd", Expires: storyBegin.AddDate(1, 0, 0),
	}))
	d := sha256.Sum256([]byte(bound))
	return &heldBook{
		ticket:  Ticket{Ticket: "k7q2m9xdsv4hplfn", Digest: hex.EncodeToString(d[:]), Bound: bound, Requires: requires, Requester: "ana"},
		outcome: "ok",
	}
}

func (b *heldBook) ruling(t *testing.T, person, group, verdict, reason string) entryRec {
	t.Helper()
	return heldEntry(t, KindRuling, &Ruling{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, Person: person, Identity: "SHA256:x", Groups: []string{group}, Verdict: verdict, Reason: reason})
}

func (b *heldBook) alert(t *testing.T, person string) entryRec {
	t.Helper()
	return heldEntry(t, KindAlert, &Alert{Alert: "a", What: AlertBreakGlass, Ticket: b.ticket.Ticket, Person: person, Text: person + " broke the glass"})
}

func (b *heldBook) release(t *testing.T, glass string, persons ...string) entryRec {
	t.Helper()
	return heldEntry(t, KindRelease, &Release{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, Persons: persons, Config: "cdcd", BreakGlass: glass})
}

// built is what the builder makes of the book.
func (b *heldBook) built(t *testing.T) (problems, exceptions []string, approvals string) {
	t.Helper()
	w := newWorld(t)
	recs := w.story(t)
	intent := heldEntry(t, KindIntent, &Intent{Op: "query", Rule: "deletes", Text: "DELETE FROM t", Config: "cdcd"})
	intent.h.Decision = "hold"
	held := slices.Concat([]entryRec{intent, heldEntry(t, KindTicket, &b.ticket)}, b.middle,
		[]entryRec{heldEntry(t, KindOutcome, &Outcome{Status: b.outcome, SHA256: sum(nil)})})
	end := slices.IndexFunc(recs, func(r entryRec) bool { return r.h.Kind == KindSessionEnd })
	recs[end].body = meta(t, &SessionEnd{Cause: "closed", Exchanges: 3})
	recs = slices.Insert(recs, end, held...)
	sink := make(memory)
	builder := NewBuilder(Scope{Origin: testOrigin}, sink)
	for i := range recs {
		h := &recs[i].h
		h.Index, h.Time, h.BodyLen = uint64(i), storyBegin, uint64(len(recs[i].body))
		var d *Disclosed
		if recs[i].reason == "" {
			d = &Disclosed{Body: recs[i].body}
		}
		if err := builder.Entry(AppendHeader(nil, h), h, d, recs[i].reason); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range builder.problems {
		problems = append(problems, p.What)
	}
	for _, x := range builder.issues {
		exceptions = append(exceptions, x.Code+": "+x.What)
	}
	return problems, exceptions, string(sink["data/populations/P4-approvals.csv"])
}

// TestAP24BrokenGlass: a broken glass has its ruling with a reason by somebody whom every rule lets, then its alert, then its release
// which names that person; anything else does not verify. Each is an exception.
func TestAP24BrokenGlass(t *testing.T) {
	t.Parallel()
	q := Approvers{Rule: "deletes", Groups: []string{"dba"}, Quorum: 2, BreakGlass: []string{"oncall"}}
	const why = "the shop is down"
	for _, tt := range []struct {
		name string
		make func(b *heldBook) []entryRec
		want string // "" if it verifies
	}{
		{"in order", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "dora", "oncall", "break-glass", why), b.alert(t, "dora"), b.release(t, "dora")}
		}, ""},
		{"after one approval", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "ben", "dba", "approve", ""), b.ruling(t, "dora", "oncall", "break-glass", why), b.alert(t, "dora"), b.release(t, "dora", "ben")}
		}, ""},
		{"no alert", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "dora", "oncall", "break-glass", why), b.release(t, "dora")}
		}, `"" by the alert`},
		{"the alert behind the release", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "dora", "oncall", "break-glass", why), b.release(t, "dora"), b.alert(t, "dora")}
		}, `"" by the alert`},
		{"the alert before the ruling", func(b *heldBook) []entryRec {
			return []entryRec{b.alert(t, "dora"), b.ruling(t, "dora", "oncall", "break-glass", why), b.release(t, "dora")}
		}, "no ruling says so"},
		{"the alert names another", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "dora", "oncall", "break-glass", why), b.alert(t, "ben"), b.release(t, "dora")}
		}, "no ruling says so"},
		{"the release does not say so", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "dora", "oncall", "break-glass", why), b.alert(t, "dora"), b.release(t, "")}
		}, `"" by the release`},
		{"the release alone says so", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "ben", "dba", "approve", ""), b.ruling(t, "cleo", "dba", "approve", ""), b.release(t, "dora", "ben", "cleo")}
		}, `"dora" by the release`},
		{"another group", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "ben", "dba", "break-glass", why), b.alert(t, "ben"), b.release(t, "ben")}
		}, "whom rule deletes does not let"},
		{"their own request", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "ana", "oncall", "break-glass", why), b.alert(t, "ana"), b.release(t, "ana")}
		}, "a request of their own"},
		{"no reason", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "dora", "oncall", "break-glass", "   short   "), b.alert(t, "dora"), b.release(t, "dora")}
		}, "without a reason"},
		{"although somebody had said no", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "ben", "dba", "deny", ""), b.ruling(t, "dora", "oncall", "break-glass", why), b.alert(t, "dora"), b.release(t, "dora")}
		}, "ben had said no"},
		{"another verdict", func(b *heldBook) []entryRec {
			return []entryRec{b.ruling(t, "ben", "dba", "approve", ""), b.ruling(t, "cleo", "dba", "approve", ""), b.ruling(t, "dora", "dba", "abstain", ""), b.release(t, "", "ben", "cleo")}
		}, `the verdict "abstain"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newHeldBook(t, q)
			b.middle = tt.make(b)
			problems, exceptions, approvals := b.built(t)
			switch all := strings.Join(problems, "\n"); {
			case tt.want == "" && (len(problems) > 0 || !slices.Contains(exceptions, "break-glass: dora broke the glass")):
				t.Errorf("problems %q, exceptions %q", problems, exceptions)
			case tt.want == "" && !strings.Contains(approvals, "released, glass broken by dora"):
				t.Errorf("%s", approvals)
			case !strings.Contains(all, tt.want):
				t.Errorf("problems %q, want %q", problems, tt.want)
			}
		})
	}
}

// TestAP03Verified: where a rule compares the rows, a release whose rows are not those of the ticket does not verify.
func TestAP03Verified(t *testing.T) {
	t.Parallel()
	compares := Approvers{Rule: "deletes", Groups: []string{"dba"}, Quorum: 1, BeforeImage: true}
	for name, tt := range map[string]struct {
		asked *Effect
		at    string
		good  bool
	}{
		"the same":         {&Effect{Computed: true, Fingerprint: "f1"}, "f1", true},
		"others":           {&Effect{Computed: true, Fingerprint: "f1"}, "f2", false},
		"not looked again": {&Effect{Computed: true, Fingerprint: "f1"}, "", false},
		"never looked":     {nil, "", false},
		"not seen":         {&Effect{Reason: "a view"}, "", false},
	} {
		b := newHeldBook(t, compares)
		var bound TicketBound
		if err := json.Unmarshal([]byte(b.ticket.Bound), &bound); err != nil {
			t.Fatal(err)
		}
		bound.Effect = tt.asked
		b.ticket.Bound = string(meta(t, &bound))
		d := sha256.Sum256([]byte(b.ticket.Bound))
		b.ticket.Digest = hex.EncodeToString(d[:])
		release := b.release(t, "", "ben")
		release.body = meta(t, &Release{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, Persons: []string{"ben"}, Config: "cdcd", Fingerprint: tt.at})
		b.middle = []entryRec{b.ruling(t, "ben", "dba", "approve", ""), release}
		problems, _, _ := b.built(t)
		if (len(problems) == 0) != tt.good {
			t.Errorf("%s: %v", name, problems)
		}
	}
}
