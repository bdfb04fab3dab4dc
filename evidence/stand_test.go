package evidence

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// standBook is a book with a ticket that stood, and a later request that took it up.
type standBook struct {
	*listBook
	// first is the request that left, stood what comes while nobody waits, second the request that came again.
	first, stood, second []entryRec
}

func newStandBook(t *testing.T) *standBook {
	t.Helper()
	b := &standBook{listBook: &listBook{t: t}}
	b.bind(nil)
	b.ticket.Requires[0].Resubmit = 600
	again := b.ticket
	again.Resubmitted = true
	b.first = []entryRec{b.held(3), b.entry(3, KindTicket, &b.ticket), b.left(3), b.outcome(3, "denied")}
	b.stood = []entryRec{b.control(KindRuling, b.said("ben", time.Time{}))}
	b.second = []entryRec{
		b.held(4), b.entry(4, KindTicket, &again), b.entry(4, KindRuling, b.said("ben", storyBegin)),
		b.entry(4, KindRelease, &Release{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, Persons: []string{"ben"}, Config: "cdcd"}), b.outcome(4, "ok"),
	}
	return b
}

func (b *standBook) held(exchange uint64) entryRec {
	e := b.intent(exchange, "hold", "deletes", "SET gatebook.request = '…'")
	var in Intent
	if err := DecodeBody(e.body, &in); err != nil {
		b.t.Fatal(err)
	}
	in.Op = "request"
	e.body = meta(b.t, &in)
	return e
}

func (b *standBook) left(exchange uint64) entryRec {
	return b.entry(exchange, KindTicketEnd, &TicketEnd{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, State: "standing", Cause: "the agent left"})
}

func (b *standBook) said(person string, at time.Time) *Ruling {
	return &Ruling{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, Person: person, Identity: "SHA256:x", Groups: []string{"dba"}, Verdict: "approve", At: at}
}

// control is an entry of no session.
func (b *standBook) control(k Kind, v any) entryRec {
	e := b.entry(0, k, v)
	e.h.Session, e.h.Actor, e.h.Target = ID{}, Pseudonym{}, Pseudonym{}
	return e
}

func (b *standBook) ended(state string) entryRec {
	return b.control(KindTicketEnd, &TicketEnd{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, State: state, Cause: "a cause"})
}

// TestAP20Standing: a request whose agent left runs only when it comes again, from the ticket that stood, with all that people said of it,
// and once; anything else does not verify.
func TestAP20Standing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(b *standBook)
		want string // among the problems; "" for none
		row  string
	}{
		{"approved while it stood", func(*standBook) {}, "", "standing, then sent again,ben"},
		{"approved once it came again", func(b *standBook) {
			b.stood = nil
			b.second[2] = b.entry(4, KindRuling, b.said("ben", time.Time{}))
		}, "", "standing, then sent again,,"},
		{"left while it was approved", func(b *standBook) {
			b.first = slices.Insert(b.first, 2, b.entry(3, KindRuling, b.said("ben", time.Time{})))
			b.stood = nil
		}, "", "standing, then sent again,ben"},
		{"denied while it stood", func(b *standBook) {
			no := b.said("ben", time.Time{})
			no.Verdict = "deny"
			b.stood, b.second = []entryRec{b.control(KindRuling, no), b.ended("denied")}, nil
		}, "", "standing, then denied,,ben,a cause"},
		{"still there", func(b *standBook) { b.second = nil }, "", "standing,ben"},
		{"after a restart", func(b *standBook) {
			b.stood = append(b.stood, b.control(KindBoot, &Boot{BootID: "b", Sync: "always"}))
		}, "a ticket that was standing, ended by a restart is taken up again", ""},
		{"twice", func(b *standBook) {
			third := slices.Clone(b.second)
			for i := range third {
				third[i].h.Exchange = 5
			}
			b.second = append(b.second, third...)
		}, "a ticket that was released is taken up again", ""},
		{"after it was denied", func(b *standBook) { b.stood = append(b.stood, b.ended("denied")) }, "a ticket that was standing, then denied is taken up again", ""},
		{"that never stood", func(b *standBook) {
			b.first[2] = b.entry(3, KindTicketEnd, &TicketEnd{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, State: "withdrawn"})
		},
			"a ticket that was withdrawn is taken up again", ""},
		{"which its rule does not let", func(b *standBook) {
			b.ticket.Requires[0].Resubmit = 0
			b.first[1] = b.entry(3, KindTicket, &b.ticket)
		}, "which rule deletes does not let", ""},
		{"opened twice", func(b *standBook) { b.second[1] = b.entry(4, KindTicket, &b.ticket) }, "is opened twice", ""},
		{"another's", func(b *standBook) {
			again := b.ticket
			again.Resubmitted, again.Requester = true, "cleo"
			b.second[1] = b.entry(4, KindTicket, &again)
		}, "is not the one that stood", ""},
		{"asked for less", func(b *standBook) {
			again := b.ticket
			again.Resubmitted, again.Requires = true, []Approvers{{Rule: "deletes", Groups: []string{"dba", "dev"}, Quorum: 1, Resubmit: 600}}
			b.second[1] = b.entry(4, KindTicket, &again)
		}, "is not the one that stood", ""},
		{"a ruling that was not given", func(b *standBook) { b.stood = nil }, "a ruling by ben is repeated that was not given like that", ""},
		{"a ruling at another time", func(b *standBook) { b.second[2] = b.entry(4, KindRuling, b.said("ben", storyBegin.Add(time.Minute))) }, "is repeated that was not given like that", ""},
		{"a ruling by another group", func(b *standBook) {
			r := b.said("ben", storyBegin)
			r.Groups = []string{"dba", "dev"}
			b.second[2] = b.entry(4, KindRuling, r)
		}, "is repeated that was not given like that", ""},
		{"a ruling left out", func(b *standBook) {
			b.stood = append(b.stood, b.control(KindRuling, b.said("eve", time.Time{})))
		}, "without the ruling that eve gave", ""},
		{"a time in a ruling of its own", func(b *standBook) {
			b.first = slices.Insert(b.first, 2, b.entry(3, KindRuling, b.said("ben", storyBegin)))
		}, "on a ticket that did not stand", ""},
		{"ruled in the session that is gone", func(b *standBook) {
			b.first = slices.Insert(b.first, 3, b.entry(3, KindRuling, b.said("eve", time.Time{})))
		}, "after its ticket was left standing", ""},
		{"released in the session that is gone", func(b *standBook) {
			b.first = slices.Insert(b.first, 3, b.entry(3, KindRelease, &Release{Ticket: b.ticket.Ticket, Digest: b.ticket.Digest, Config: "cdcd"}))
		}, "after its ticket was left standing", ""},
		{"the glass broken while nobody waits", func(b *standBook) {
			r := b.said("eve", time.Time{})
			r.Verdict, r.Reason = "break-glass", "a long enough reason"
			b.stood = append(b.stood, b.control(KindRuling, r))
		}, "for a request that nobody waits for", ""},
		{"a ruling on one that is released", func(b *standBook) { b.second = append(b.second, b.control(KindRuling, b.said("eve", time.Time{}))) },
			"as if it stood, and it is released", ""},
		{"the requester's own", func(b *standBook) { b.stood = append(b.stood, b.control(KindRuling, b.said("ana", time.Time{}))) }, "on a request of their own", ""},
		{"it ran when it was left", func(b *standBook) { b.first[3] = b.outcome(3, "ok") }, "a held request ran without a release", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newStandBook(t)
			tt.edit(b)
			problems, approvals := b.built(slices.Concat(b.first, b.stood, b.second))
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
