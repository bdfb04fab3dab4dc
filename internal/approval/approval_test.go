package approval

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

// tape is a recorder that keeps what it was given, and can fail or hang.
type tape struct {
	mu      sync.Mutex
	entries []string
	fail    error
	// failKind cannot be recorded, whatever fail says.
	failKind evidence.Kind
	gate     chan struct{} // nil: no waiting
}

func (r *tape) Record(_ context.Context, kind evidence.Kind, body any) error {
	r.mu.Lock()
	gate := r.gate
	r.mu.Unlock()
	if gate != nil {
		<-gate
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	if kind == r.failKind {
		return errors.New("disk")
	}
	text := string(kind)
	switch b := body.(type) {
	case *evidence.Ruling:
		text += " " + b.Person + " " + b.Verdict
	case *evidence.TicketEnd:
		text += " " + b.State
	case *evidence.Release:
		if b.BreakGlass != "" {
			text += " by " + b.BreakGlass
		}
	}
	r.entries = append(r.entries, text)
	return nil
}

func (r *tape) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.entries...)
}

func asked(r *tape, requirements ...Requirement) Asked {
	return Asked{
		Bound:        evidence.TicketBound{Principal: "ci|bot", Text: "DELETE FROM t"},
		Requirements: requirements, Requester: "ana", Behind: []string{"cleo"}, Expires: time.Now().Add(time.Minute), Recorder: r,
	}
}

func dba(quorum int) Requirement {
	return Requirement{Rule: "r", Groups: []string{"dba"}, Quorum: quorum}
}

func person(name string, groups ...string) Person {
	return Person{Name: name, Groups: groups, Identity: "corp|" + name}
}

func open(t *testing.T, d *Desk, a Asked) *Ticket {
	t.Helper()
	tk, err := d.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

// TestWhoMayRule is the table of those who can and cannot.
func TestWhoMayRule(t *testing.T) {
	t.Parallel()
	ben := person("ben", "dba")
	for _, tt := range []struct {
		name   string
		asked  func(*Asked)
		rulers []Ruling
		want   error // of the last
		state  State
	}{
		{"approves", nil, []Ruling{{Person: ben, Verdict: Approve}}, nil, Approved},
		{"denies", nil, []Ruling{{Person: ben, Verdict: Deny}}, nil, Denied},
		{"the requester", nil, []Ruling{{Person: person("ana", "dba"), Verdict: Approve}}, ErrSelf, Open},
		{"the requester denies", nil, []Ruling{{Person: person("ana", "dba"), Verdict: Deny}}, ErrSelf, Open},
		{"who acts in it", nil, []Ruling{{Person: person("cleo", "dba"), Verdict: Approve}}, ErrSelf, Open},
		{"an agent", nil, []Ruling{{Person: Person{Name: "ben", Groups: []string{"dba"}, Agent: true}, Verdict: Approve}}, ErrAgent, Open},
		{"nobody", nil, []Ruling{{Person: Person{Groups: []string{"dba"}}, Verdict: Approve}}, ErrAgent, Open},
		{"another group", nil, []Ruling{{Person: person("ben", "dev"), Verdict: Approve}}, ErrNotYours, Open},
		{"no group", nil, []Ruling{{Person: person("ben"), Verdict: Approve}}, ErrNotYours, Open},
		{"owner not known", func(a *Asked) { a.Requester = "" }, []Ruling{{Person: ben, Verdict: Approve}}, ErrNobody, Open},
		{"owner not known, denied", func(a *Asked) { a.Requester = "" }, []Ruling{{Person: ben, Verdict: Deny}}, nil, Denied},
		{"owner not known, and the rule lets it", func(a *Asked) { a.Requester, a.Requirements[0].UnknownOwner = "", true }, []Ruling{{Person: ben, Verdict: Approve}}, nil, Approved},
		{"two of two", func(a *Asked) { a.Requirements[0].Quorum = 2 }, []Ruling{{Person: ben, Verdict: Approve}, {Person: person("dora", "dba"), Verdict: Approve}}, nil, Approved},
		{"one of two", func(a *Asked) { a.Requirements[0].Quorum = 2 }, []Ruling{{Person: ben, Verdict: Approve}}, nil, Open},
		{"twice the same", func(a *Asked) { a.Requirements[0].Quorum = 2 }, []Ruling{{Person: ben, Verdict: Approve}, {Person: Person{Name: "ben", Groups: []string{"dba"}, Identity: "slack|U1"}, Verdict: Approve}}, ErrTwice, Open},
		{"one no of two", func(a *Asked) { a.Requirements[0].Quorum = 2 }, []Ruling{{Person: ben, Verdict: Approve}, {Person: person("dora", "dba"), Verdict: Deny}}, nil, Denied},
		{"after the end", nil, []Ruling{{Person: ben, Verdict: Deny}, {Person: person("dora", "dba"), Verdict: Approve}}, ErrFinal, Denied},
		{"two rules, one person of both", func(a *Asked) {
			a.Requirements = append(a.Requirements, Requirement{Rule: "s", Groups: []string{"sec"}, Quorum: 1})
		}, []Ruling{{Person: person("ben", "dba", "sec"), Verdict: Approve}}, nil, Approved},
		{"two rules, one met", func(a *Asked) {
			a.Requirements = append(a.Requirements, Requirement{Rule: "s", Groups: []string{"sec"}, Quorum: 1})
		}, []Ruling{{Person: ben, Verdict: Approve}}, nil, Open},
		{"quorum of nobody is one", func(a *Asked) { a.Requirements[0].Quorum = 0 }, []Ruling{{Person: ben, Verdict: Approve}}, nil, Approved},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := NewDesk(slog.New(slog.DiscardHandler))
			a := asked(&tape{}, dba(1))
			if tt.asked != nil {
				tt.asked(&a)
			}
			tk := open(t, d, a)
			var err error
			for _, r := range tt.rulers {
				_, err = d.Rule(t.Context(), tk.ID, tk.Digest, r)
			}
			if state, _ := tk.State(); !errors.Is(err, tt.want) || state != tt.state {
				t.Errorf("%v, %s; want %v, %s", err, state, tt.want, tt.state)
			}
		})
	}
}

// TestNobodyToAsk: a request that nobody may rule on is refused at once.
func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	d := NewDesk(slog.New(slog.DiscardHandler))
	for _, list := range [][]Requirement{nil, {{Rule: "r"}}, {dba(1), {Rule: "s", Quorum: 1}}} {
		if _, err := d.Open(t.Context(), asked(&tape{}, list...)); !errors.Is(err, ErrNoQuorum) {
			t.Errorf("%v: %v", list, err)
		}
	}
}

// TestDigestBindsEverything: what a ruling covers cannot be changed without another digest, and a ruling for another digest
// does not count.
func TestDigestBindsEverything(t *testing.T) {
	t.Parallel()
	d := NewDesk(slog.New(slog.DiscardHandler))
	one, two := open(t, d, asked(&tape{}, dba(1))), open(t, d, asked(&tape{}, dba(1)))
	if one.Digest == two.Digest {
		t.Error("two tickets of one request have one digest")
	}
	if _, err := d.Rule(t.Context(), one.ID, two.Digest, Ruling{Person: person("ben", "dba"), Verdict: Approve}); err == nil {
		t.Error("a ruling on another ticket counts")
	}
	if !one.isOpen() || !two.isOpen() {
		t.Error("a ticket was decided")
	}
}

// TestOneEnd: whatever comes at once, a ticket ends once, is released at most once, and its entries say so.
func TestOneEnd(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		rec := &tape{}
		d := NewDesk(slog.New(slog.DiscardHandler))
		a := asked(rec, dba(1+r.IntN(2)))
		a.Expires = time.Now().Add(time.Duration(r.IntN(2000)) * time.Microsecond)
		tk, err := d.Open(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		var released atomic.Int32
		var group sync.WaitGroup
		pause := func() { time.Sleep(time.Duration(r.IntN(1500)) * time.Microsecond) }
		for i := range 4 {
			wait := time.Duration(r.IntN(1500)) * time.Microsecond
			verdict := Deny
			if r.IntN(4) > 0 {
				verdict = Approve
			}
			group.Go(func() {
				time.Sleep(wait)
				_, _ = d.Rule(context.Background(), tk.ID, tk.Digest, Ruling{Person: person(fmt.Sprint("p", i), "dba"), Verdict: verdict})
			})
		}
		for range 3 {
			group.Go(func() {
				<-tk.Done()
				if tk.Release(context.Background(), "c", "") == nil {
					released.Add(1)
				}
			})
		}
		if r.IntN(3) == 0 {
			group.Go(func() { tk.Void(context.Background(), "changed") })
		}
		pause()
		if r.IntN(3) == 0 {
			tk.Withdraw(context.Background(), "left")
		}
		group.Wait()
		state, _ := tk.State()
		ends, releases := 0, 0
		for _, e := range rec.list() {
			switch {
			case e == "release":
				releases++
			case len(e) > 10 && e[:10] == "ticket-end":
				ends++
			}
		}
		want := map[State][2]int{Released: {1, 0}, Denied: {0, 1}, Expired: {0, 1}, Withdrawn: {0, 1}, Void: {0, 1}}[state]
		if int(released.Load()) != want[0] || releases != want[0] || ends != want[1] {
			t.Fatalf("seed %d: %s, released %d times: %v", seed, state, released.Load(), rec.list())
		}
	}
}

// TestRulingCountsWhenRecorded: a ruling that is not durable decides nothing, and one that cannot be recorded does not count.
func TestRulingCountsWhenRecorded(t *testing.T) {
	t.Parallel()
	rec := &tape{}
	d := NewDesk(slog.New(slog.DiscardHandler))
	tk := open(t, d, asked(rec, dba(1)))
	rec.mu.Lock()
	rec.gate = make(chan struct{})
	rec.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		_, err := d.Rule(context.Background(), tk.ID, tk.Digest, Ruling{Person: person("ben", "dba"), Verdict: Approve})
		done <- err
	}()
	time.Sleep(50 * time.Millisecond)
	if !tk.isOpen() {
		t.Fatal("a ruling counts before it is durable")
	}
	rec.mu.Lock()
	rec.fail = errors.New("disk")
	close(rec.gate)
	rec.gate = nil
	rec.mu.Unlock()
	if err := <-done; err == nil || !tk.isOpen() {
		t.Errorf("a ruling that is not recorded: %v", err)
	}
	if _, err := d.Open(t.Context(), asked(rec, dba(1))); err == nil {
		t.Error("a ticket that is not recorded is open")
	}
	rec.mu.Lock()
	rec.fail = nil
	rec.mu.Unlock()
	if state, err := d.Rule(t.Context(), tk.ID, tk.Digest, Ruling{Person: person("ben", "dba"), Verdict: Approve}); err != nil || state != Approved {
		t.Errorf("then: %s, %v", state, err)
	}
	rec.mu.Lock()
	rec.fail = errors.New("disk")
	rec.mu.Unlock()
	if err := tk.Release(t.Context(), "c", ""); err == nil {
		t.Error("a release that is not recorded lets the request through")
	}
	if err := tk.Release(t.Context(), "c", ""); err == nil {
		t.Error("a second release succeeds")
	}
}

// TestFlood: one principal cannot open tickets without end; another one is not touched.
func TestFlood(t *testing.T) {
	t.Parallel()
	d := NewDesk(slog.New(slog.DiscardHandler))
	var first *Ticket
	for i := range maxOpen {
		tk := open(t, d, asked(&tape{}, dba(1)))
		if i == 0 {
			first = tk
		}
	}
	if _, err := d.Open(t.Context(), asked(&tape{}, dba(1))); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	other := asked(&tape{}, dba(1))
	other.Bound.Principal = "ci|other"
	open(t, d, other)
	first.Withdraw(t.Context(), "left")
	open(t, d, asked(&tape{}, dba(1)))
	if n := len(d.List()); n != maxOpen+2 {
		t.Errorf("%d tickets are listed", n)
	}
}

// TestWatch: those who watch hear of every change.
func TestWatch(t *testing.T) {
	t.Parallel()
	d := NewDesk(slog.New(slog.DiscardHandler))
	changes, stop := d.Watch()
	tk := open(t, d, asked(&tape{}, dba(1)))
	if _, err := d.Rule(t.Context(), tk.ID, tk.Digest, Ruling{Person: person("ben", "dba"), Verdict: Approve}); err != nil {
		t.Fatal(err)
	}
	if err := tk.Release(t.Context(), "c", ""); err != nil {
		t.Fatal(err)
	}
	stop()
	for i := range 3 {
		select {
		case got := <-changes:
			if got != tk {
				t.Error("another ticket")
			}
		case <-time.After(time.Second):
			t.Fatalf("only %d changes", i)
		}
	}
}

// ear keeps what a desk tells.
type ear struct {
	rec    *tape
	mu     sync.Mutex
	states []State
	alerts []*evidence.Alert
	// before is what was recorded when the first alert was told.
	before []string
}

func (e *ear) Ticket(_ *Ticket, s State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.states = append(e.states, s)
}

func (e *ear) Alert(a *evidence.Alert) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.alerts = append(e.alerts, a)
	e.before = e.rec.list()
}

// TestAP24BreakGlass: one person of the groups for it, with a reason, suffices without the quorum; nobody else does. The alert is
// durable and told before the release, and each state is told in its order.
func TestAP24BreakGlass(t *testing.T) {
	t.Parallel()
	oncall := person("dora", "oncall")
	const why = "the shop is down"
	for _, tt := range []struct {
		name   string
		asked  func(*Asked)
		person Person
		reason string
		want   error
	}{
		{"of the group", nil, oncall, why, nil},
		{"ten characters", nil, oncall, "ábcdefghij", nil},
		{"nine characters", nil, oncall, "ábcdefghi", ErrReason},
		{"blanks", nil, oncall, "  a    b        ", ErrReason},
		{"no reason", nil, oncall, "", ErrReason},
		{"may approve only", nil, person("ben", "dba"), why, ErrGlass},
		{"the requester", nil, person("ana", "oncall"), why, ErrSelf},
		{"who acts in it", nil, person("cleo", "oncall"), why, ErrSelf},
		{"an agent", nil, Person{Name: "dora", Groups: []string{"oncall"}, Agent: true}, why, ErrAgent},
		{"owner not known", func(a *Asked) { a.Requester = "" }, oncall, why, ErrNobody},
		{"a rule beside that has none", func(a *Asked) { a.Requirements = append(a.Requirements, dba(1)) }, oncall, why, ErrGlass},
		{"another group for a rule beside", func(a *Asked) {
			a.Requirements = append(a.Requirements, Requirement{Rule: "s", Groups: []string{"dba"}, BreakGlass: []string{"sec"}})
		}, oncall, why, ErrGlass},
		{"both groups", func(a *Asked) {
			a.Requirements = append(a.Requirements, Requirement{Rule: "s", Groups: []string{"dba"}, BreakGlass: []string{"sec"}})
		}, person("dora", "sec", "oncall"), why, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rec := &tape{}
			e := &ear{rec: rec}
			d := NewDesk(slog.New(slog.DiscardHandler))
			d.Listen(e)
			q := dba(2)
			q.BreakGlass = []string{"oncall"}
			a := asked(rec, q)
			if tt.asked != nil {
				tt.asked(&a)
			}
			tk := open(t, d, a)
			_, err := d.Rule(t.Context(), tk.ID, tk.Digest, Ruling{Person: tt.person, Verdict: BreakGlass, Reason: tt.reason})
			if !errors.Is(err, tt.want) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if tt.want != nil {
				if !tk.isOpen() || len(rec.list()) != 1 || len(e.alerts) != 0 {
					t.Errorf("a refused ruling left %v and %d alerts", rec.list(), len(e.alerts))
				}
				return
			}
			if err := tk.Release(t.Context(), "c", ""); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(rec.list()); got != "[ticket ruling dora break-glass alert release by dora]" {
				t.Errorf("entries: %s", got)
			}
			if len(e.alerts) != 1 || e.alerts[0].Person != "dora" || fmt.Sprint(e.before) != "[ticket ruling dora break-glass alert]" || strings.Contains(e.alerts[0].Text, "DELETE") {
				t.Errorf("alerts %+v after %v", e.alerts, e.before)
			}
			if got := fmt.Sprint(e.states); got != "[open approved released]" {
				t.Errorf("told: %s", got)
			}
		})
	}
}

// TestAP24AlertFirst: a broken glass whose alert cannot be recorded lets nothing through.
func TestAP24AlertFirst(t *testing.T) {
	t.Parallel()
	rec := &tape{}
	d := NewDesk(slog.New(slog.DiscardHandler))
	q := dba(2)
	q.BreakGlass = []string{"oncall"}
	tk := open(t, d, asked(rec, q))
	rec.failKind = evidence.KindAlert
	if _, err := d.Rule(t.Context(), tk.ID, tk.Digest, Ruling{Person: person("dora", "oncall"), Verdict: BreakGlass, Reason: "the shop is down"}); err == nil || !tk.isOpen() {
		t.Errorf("%v", err)
	}
	if err := tk.Release(t.Context(), "c", ""); err == nil {
		t.Error("it is released")
	}
}

// TestStatementVerdicts: a statement has one of three verdicts and one form.
func TestStatementVerdicts(t *testing.T) {
	t.Parallel()
	for _, v := range []Verdict{Approve, Deny, BreakGlass} {
		said, err := ParseStatement(Statement("k7q2m9xdsv4hplfn", "5f0c", v, "why\n\"so\""))
		if err != nil || said.Verdict != v || said.Reason != "why\n\"so\"" {
			t.Errorf("%s: %+v, %v", v, said, err)
		}
	}
	for _, v := range []Verdict{"", "Approve", "approve ", "break_glass", "allow"} {
		if said, err := ParseStatement(Statement("k7q2m9xdsv4hplfn", "5f0c", v, "")); err == nil {
			t.Errorf("%q: %+v", v, said)
		}
	}
	d := NewDesk(slog.New(slog.DiscardHandler))
	tk := open(t, d, asked(&tape{}, dba(1)))
	if _, err := d.Rule(t.Context(), tk.ID, tk.Digest, Ruling{Person: person("ben", "dba")}); err == nil || !tk.isOpen() {
		t.Errorf("a ruling without a verdict: %v", err)
	}
}
