package approval

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

// standing returns a desk with a ticket that stands, and where the entries went: to the request's, and to the book.
func standing(t *testing.T, edit func(*Asked)) (d *Desk, tk *Ticket, request, book *tape) {
	t.Helper()
	d, request, book = NewDesk(slog.New(slog.DiscardHandler)), &tape{}, &tape{}
	d.Book(book)
	a := asked(request, dba(1))
	a.Requirements[0].Resubmit = time.Minute
	if edit != nil {
		edit(&a)
	}
	tk = open(t, d, a)
	if !tk.Stand(t.Context(), "the agent left") {
		t.Fatal("it does not stand")
	}
	return d, tk, request, book
}

// again is the same request from another session.
func again(r *tape) *Asked {
	a := asked(r, dba(1))
	a.Requirements[0].Resubmit = time.Minute
	a.Bound.Session, a.Bound.Exchange = "another", 7
	a.Bound.Effect, a.Bound.Meaning = &evidence.Effect{Computed: true}, "seen at the release"
	return &a
}

// TestAP20StandingIsTakenUpOnce: rulings while nobody waits are entries of the book; the same request that comes again has ticket and
// rulings repeated beside it, and of many at once one gets it.
func TestAP20StandingIsTakenUpOnce(t *testing.T) {
	t.Parallel()
	d, tk, request, book := standing(t, nil)
	if s, err := d.Rule(t.Context(), tk.ID, tk.Digest, Ruling{Person: person("ben", "dba"), Verdict: Approve, At: time.Now()}); err != nil || s != Approved {
		t.Fatal(s, err)
	}
	if got := book.list(); !slices.Equal(got, []string{"ruling ben approve"}) {
		t.Errorf("the book has %q", got)
	}
	if err := tk.Release(t.Context(), "c", ""); err == nil {
		t.Error("it was released although nobody waits")
	}
	var taken atomic.Int32
	var wg sync.WaitGroup
	tapes := make([]*tape, 8)
	for i := range tapes {
		tapes[i] = &tape{}
		wg.Go(func() {
			got, err := d.Resume(t.Context(), again(tapes[i]))
			if err != nil {
				t.Error(err)
			}
			if got == nil {
				return
			}
			taken.Add(1)
			if twice, err := got.resume(t.Context(), &tape{}); twice || err != nil {
				t.Errorf("it is taken up twice: %v", err)
			}
			if want := []string{"ticket", "ruling ben approve"}; !slices.Equal(tapes[i].list(), want) {
				t.Errorf("beside the request: %q", tapes[i].list())
			}
			if err := got.Release(t.Context(), "c", ""); err != nil {
				t.Error(err)
			}
			if want := "release"; tapes[i].list()[2] != want {
				t.Errorf("the release went elsewhere: %q", tapes[i].list())
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Errorf("it was taken up %d times", taken.Load())
	}
	if s, _ := tk.State(); s != Released {
		t.Errorf("it is %s", s)
	}
	if got := request.list(); !slices.Equal(got, []string{"ticket", "ticket-end standing"}) {
		t.Errorf("beside the first request: %q", got)
	}
}

// TestAP20OnlyTheSameTakesItUp: whatever differs in what is asked for, or in who asks, opens a ticket of its own.
func TestAP20OnlyTheSameTakesItUp(t *testing.T) {
	t.Parallel()
	d, tk, _, _ := standing(t, nil)
	for name, edit := range map[string]func(a *Asked){
		"text":        func(a *Asked) { a.Bound.Text += " " },
		"parameters":  func(a *Asked) { a.Bound.Detail = []byte(`{"params":["2"]}`) },
		"principal":   func(a *Asked) { a.Bound.Principal = "ci|other" },
		"subject":     func(a *Asked) { a.Bound.Subject = "other" },
		"actor":       func(a *Asked) { a.Bound.Actor = []string{"other"} },
		"target":      func(a *Asked) { a.Bound.Target = "other" },
		"address":     func(a *Asked) { a.Bound.Address = "other" },
		"role":        func(a *Asked) { a.Bound.Role = "other" },
		"database":    func(a *Asked) { a.Bound.Database = "other" },
		"path":        func(a *Asked) { a.Bound.SearchPath = "other" },
		"settings":    func(a *Asked) { a.Bound.Settings = map[string]string{"TimeZone": "Asia/Tokyo"} },
		"altered":     func(a *Asked) { a.Bound.Altered = "my.x" },
		"op":          func(a *Asked) { a.Bound.Op = "execute" },
		"action":      func(a *Asked) { a.Bound.Action = []byte(`{}`) },
		"config":      func(a *Asked) { a.Bound.Config = "other" },
		"rules":       func(a *Asked) { a.Bound.Rules = []string{"other"} },
		"requirement": func(a *Asked) { a.Requirements[0].Quorum = 2 },
		"requester":   func(a *Asked) { a.Requester = "other" },
		"behind":      func(a *Asked) { a.Behind = nil },
		"no resubmit": func(a *Asked) { a.Requirements[0].Resubmit = 0 },
	} {
		a := again(&tape{})
		edit(a)
		if got, err := d.Resume(t.Context(), a); got != nil || err != nil {
			t.Errorf("another %s takes it up: %v", name, err)
		}
	}
	if got, err := d.Resume(t.Context(), again(&tape{})); got != tk || err != nil {
		t.Errorf("the same does not: %v", err)
	}
}

// TestAP20WhatStands: only what all rules let, and not once it is decided, ended or a matter of a broken glass.
func TestAP20WhatStands(t *testing.T) {
	t.Parallel()
	glass := func(a *Asked) {
		a.Requirements[0].Resubmit, a.Requirements[0].BreakGlass = time.Minute, []string{"oncall"}
	}
	for _, tt := range []struct {
		name string
		edit func(a *Asked)
		rule Ruling
		want bool
	}{
		{"let", func(a *Asked) { a.Requirements[0].Resubmit = time.Minute }, Ruling{}, true},
		{"approved", func(a *Asked) { a.Requirements[0].Resubmit = time.Minute }, Ruling{Person: person("ben", "dba"), Verdict: Approve}, true},
		{"not let", nil, Ruling{}, false},
		{"let by one rule of two", func(a *Asked) {
			a.Requirements[0].Resubmit = time.Minute
			a.Requirements = append(a.Requirements, dba(1))
		}, Ruling{}, false},
		{"a list", func(a *Asked) { a.Requirements[0].Resubmit, a.Bound.List = time.Minute, []evidence.Listed{{Text: "x"}} }, Ruling{}, false},
		{"denied", func(a *Asked) { a.Requirements[0].Resubmit = time.Minute }, Ruling{Person: person("ben", "dba"), Verdict: Deny}, false},
		{"broken glass", glass, Ruling{Person: person("dora", "oncall"), Verdict: BreakGlass, Reason: "the shop is down"}, false},
		{"expired", func(a *Asked) { a.Requirements[0].Resubmit, a.Expires = time.Minute, time.Now().Add(-time.Second) }, Ruling{}, false},
	} {
		d := NewDesk(slog.New(slog.DiscardHandler))
		d.Book(&tape{})
		a := asked(&tape{}, dba(1))
		if tt.edit != nil {
			tt.edit(&a)
		}
		tk := open(t, d, a)
		if tt.rule.Verdict != "" {
			if _, err := d.Rule(t.Context(), tk.ID, tk.Digest, tt.rule); err != nil {
				t.Fatal(tt.name, err)
			}
		}
		if got := tk.Stand(t.Context(), "left"); got != tt.want || tk.Standing() != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	d, tk, _, _ := standing(t, glass)
	if _, err := d.Rule(t.Context(), tk.ID, tk.Digest, Ruling{Person: person("dora", "oncall"), Verdict: BreakGlass, Reason: "the shop is down"}); !errors.Is(err, ErrStanding) {
		t.Errorf("a glass broken while nobody waits: %v", err)
	}
	d = NewDesk(slog.New(slog.DiscardHandler))
	a := again(&tape{})
	if tk := open(t, d, *a); tk.Stand(t.Context(), "left") {
		t.Error("it stands without a book")
	}
}

// TestAP20StandingEnds: a ticket that stands ends when its time is over, approved or not, and with its principal and configuration.
func TestAP20StandingEnds(t *testing.T) {
	t.Parallel()
	soon := func(a *Asked) { a.Expires = time.Now().Add(50 * time.Millisecond) }
	for _, approved := range []bool{false, true} {
		d, tk, _, book := standing(t, soon)
		if approved {
			if _, err := d.Rule(t.Context(), tk.ID, tk.Digest, Ruling{Person: person("ben", "dba"), Verdict: Approve}); err != nil {
				t.Fatal(err)
			}
		}
		for s, _ := tk.State(); s != Expired; s, _ = tk.State() {
			time.Sleep(time.Millisecond)
		}
		if got, err := d.Resume(t.Context(), again(&tape{})); got != nil || err != nil {
			t.Errorf("approved %v: taken up after its time: %v", approved, err)
		}
		if got := book.list(); got[len(got)-1] != "ticket-end expired" {
			t.Errorf("approved %v: the book has %q", approved, got)
		}
	}
	d, tk, _, book := standing(t, nil)
	d.EndStanding(t.Context(), "ci|other", "suspended")
	if !tk.Standing() {
		t.Error("it ended with another principal")
	}
	d.EndStanding(t.Context(), "ci|bot", "suspended")
	if s, cause := tk.State(); s != Withdrawn || cause != "suspended" || strings.Join(book.list(), " ") != "ticket-end withdrawn" {
		t.Errorf("%s, %s, %q", s, cause, book.list())
	}
	waiting := open(t, d, *again(&tape{}))
	d.EndStanding(t.Context(), "", "over")
	if s, _ := waiting.State(); s != Open {
		t.Error("one whose agent waits ended")
	}
}

// TestAP20ANoHolds: while nobody has taken up an approved ticket another person can refuse it, and a refusal ends what stands of the same
// request beside it.
func TestAP20ANoHolds(t *testing.T) {
	t.Parallel()
	d, tk, _, book := standing(t, nil)
	twin := again(&tape{})
	twin.Bound.Ticket, twin.Bound.Nonce = "", ""
	o, err := d.Open(t.Context(), *twin)
	if err != nil || !o.Stand(t.Context(), "the agent left") {
		t.Fatal(err)
	}
	for _, x := range []*Ticket{tk, o} {
		if s, err := d.Rule(t.Context(), x.ID, x.Digest, Ruling{Person: person("ben", "dba"), Verdict: Approve, At: time.Now()}); err != nil || s != Approved {
			t.Fatal(s, err)
		}
	}
	if _, err := d.Rule(t.Context(), tk.ID, tk.Digest, Ruling{Person: person("eve", "dba"), Verdict: Approve, At: time.Now()}); !errors.Is(err, ErrFinal) {
		t.Errorf("approved again: %v", err)
	}
	if s, err := d.Rule(t.Context(), tk.ID, tk.Digest, Ruling{Person: person("eve", "dba"), Verdict: Deny, At: time.Now()}); err != nil || s != Denied {
		t.Fatal(s, err)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if s, _ := o.State(); s == Withdrawn {
			break
		}
		if time.Now().After(end) {
			s, _ := o.State()
			t.Fatalf("its twin is %s", s)
		}
	}
	if got, err := d.Resume(t.Context(), again(&tape{})); got != nil || err != nil {
		t.Errorf("it is taken up all the same: %v %v", got, err)
	}
	if got := strings.Join(book.list(), ", "); !strings.Contains(got, "ruling eve deny, ticket-end denied") || !strings.Contains(got, "ticket-end withdrawn") {
		t.Errorf("the book has %s", got)
	}
}
