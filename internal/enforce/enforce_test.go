package enforce_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
)

// verifier accepts "NAME/TTL".
type verifier struct{}

func (verifier) Verify(_ context.Context, t secret.String) (*enforce.Verified, error) {
	name, ttl, ok := strings.Cut(t.Reveal(), "/")
	d, err := time.ParseDuration(ttl)
	if !ok || err != nil {
		return nil, access.Deny(access.CodeIdentity, "no")
	}
	p := access.Principal{Issuer: "test", Subject: name, Name: name, Groups: []string{"agents"}, TokenExpiry: time.Now().Add(d)}
	p.SessionEnd = p.TokenExpiry
	return &enforce.Verified{Principal: p, Token: t, KeySet: []byte(`{}`)}, nil
}

func (v verifier) Renew(ctx context.Context, old *access.Principal, t secret.String) (*enforce.Verified, error) {
	got, err := v.Verify(ctx, t)
	if err == nil && got.Principal.Subject != old.Subject {
		return nil, access.Deny(access.CodeIdentity, "another identity")
	}
	return got, err
}

// anything is a policy that allows everything.
type anything struct{}

func (anything) Decide(*access.Request) access.Decision {
	return access.Decision{Verdict: access.Allow, Rule: "anything"}
}

func (anything) Reads() enforce.Reads { return enforce.Reads{} }

func gate(rec *memrec.Recorder, change func(*enforce.Target, *enforce.Snapshot)) *enforce.Gate {
	t := &enforce.Target{
		Target: access.Target{Name: "t", Protocol: access.Postgres, Address: "127.0.0.1:1"}, Allow: []string{"agents"},
		Roles: map[string]enforce.Role{"default": {User: "u"}, "dba": {User: "root", Allow: []string{"dba"}}},
	}
	s := &enforce.Snapshot{SHA256: strings.Repeat("0", 64), Targets: map[string]*enforce.Target{"t": t}, ExpiryDrain: time.Minute, Policy: anything{}}
	if change != nil {
		change(t, s)
	}
	return enforce.New(enforce.Options{Verifier: verifier{}, Recorder: rec, Dialer: &net.Dialer{}, Snapshot: s})
}

func opening(token string) enforce.Opening {
	return enforce.Opening{Token: secret.New(token), Target: "t", Role: "default", Source: "192.0.2.1:1000"}
}

func open(t *testing.T, g *enforce.Gate, token string) *enforce.Session {
	t.Helper()
	s, err := g.Open(t.Context(), opening(token))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func kinds(rec *memrec.Recorder) string {
	var list []string
	for _, e := range rec.Entries() {
		list = append(list, fmt.Sprintf("%s:%d", e.Kind, e.Exchange))
	}
	return strings.Join(list, " ")
}

func code(err error) access.Code {
	var deny *access.DenyError
	if errors.As(err, &deny) {
		return deny.Code
	}
	return ""
}

func TestOrder(t *testing.T) {
	t.Parallel()
	rec := memrec.New()
	g := gate(rec, nil)
	s := open(t, g, "a/1h")
	x := s.Begin(&access.Action{Op: "query", Text: "one"})
	y := s.Begin(&access.Action{Op: "query", Text: "two", Refuse: access.Deny(access.CodePolicy, "no")})
	if err := x.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := y.Ready(t.Context()); code(err) != access.CodePolicy || y.Fatal() {
		t.Errorf("%v", err)
	}
	if err := x.Request(t.Context(), []byte("data")); err != nil {
		t.Error(err)
	}
	if err := x.RequestDone(t.Context()); err != nil {
		t.Error(err)
	}
	if err := x.Answer(t.Context(), []byte("rows")); err != nil {
		t.Error(err)
	}
	if err := x.Flush(); err != nil {
		t.Error(err)
	}
	if _, err := s.Unasked([]byte("notice")); err != nil {
		t.Error(err)
	}
	if _, err := x.End(&access.Outcome{Status: access.StatusOK}, []byte("done")); err != nil {
		t.Error(err)
	}
	if _, err := x.End(&access.Outcome{Status: access.StatusOK}, nil); err == nil {
		t.Error("a second outcome was taken")
	}
	if err := x.Answer(t.Context(), []byte("late")); err == nil {
		t.Error("an answer behind the outcome was taken")
	}
	if err := s.Close(nil); err != nil {
		t.Error(err)
	}
	want := "session:0 identity:0 intent:1 intent:2 request:1 answer:1 answer:0 outcome:1 outcome:2 session-end:0"
	if got := kinds(rec); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReadyWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := memrec.New()
		s := open(t, gate(rec, nil), "a/1h")
		rec.Hold()
		x := s.Begin(&access.Action{Op: "query"})
		ready := make(chan error, 1)
		go func() { ready <- x.Ready(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-ready:
			t.Errorf("Ready returned %v before the intent was durable", err)
		default:
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		if err := x.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		stop()
		rec.Release()
		if err := <-ready; err != nil {
			t.Error(err)
		}
		_ = s.Close(nil)
	})
}

// TestCloseWithOpenExchanges gives every open exchange the outcome that is true of it.
func TestCloseWithOpenExchanges(t *testing.T) {
	t.Parallel()
	rec := memrec.New()
	g := gate(rec, nil)
	s := open(t, g, "a/1h")
	s.Begin(&access.Action{Op: "query", Text: "never forwarded"})
	_ = s.Begin(&access.Action{Op: "query", Text: "forwarded"}).Ready(t.Context())
	s.Begin(&access.Action{Op: "query", Text: "denied", Refuse: access.Deny(access.CodePolicy, "no")})
	if err := s.Close(errors.New("lost")); err != nil {
		t.Error(err)
	}
	var got []string
	for _, e := range rec.Entries() {
		if e.Kind == evidence.KindOutcome {
			var o evidence.Outcome
			if err := evidence.DecodeBody(e.Meta, &o); err != nil {
				t.Fatal(err)
			}
			got = append(got, o.Status+" "+o.Cause)
		}
	}
	if s := strings.Join(got, "|"); s != "not-run lost|unknown lost|denied lost" {
		t.Errorf("%s", s)
	}
	x := s.Begin(&access.Action{Op: "query"})
	if x.Denied() == nil || !x.Fatal() || x.Ready(t.Context()) == nil {
		t.Error("an exchange began after Close")
	}
	if c := g.Counters(); c.OpenExchanges != 0 || c.OpenSessions != 0 {
		t.Errorf("%+v", c)
	}
}

func TestExpiryAndRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := memrec.New()
		g := gate(rec, nil)
		s := open(t, g, "a/10s")
		running := s.Begin(&access.Action{Op: "query"})
		time.Sleep(11 * time.Second)
		if x := s.Begin(&access.Action{Op: "query"}); code(x.Ready(t.Context())) != access.CodeExpired || !x.Fatal() {
			t.Error("an exchange began after the expiry")
		} else if _, err := x.End(&access.Outcome{Status: access.StatusDenied}, nil); err != nil {
			t.Error(err)
		}
		if s.Context().Err() != nil {
			t.Error("the session ended while an exchange ran")
		}
		// A fresh token within the drain time revives it.
		if err := s.Renew(t.Context(), secret.New("b/1h")); code(err) != access.CodeIdentity {
			t.Errorf("%v", err)
		}
		if err := s.Renew(t.Context(), secret.New("a/20s")); err != nil {
			t.Error(err)
		}
		if _, err := running.End(&access.Outcome{Status: access.StatusOK}, nil); err != nil {
			t.Error(err)
		}
		time.Sleep(15 * time.Second)
		if s.Context().Err() != nil {
			t.Errorf("ended: %v", context.Cause(s.Context()))
		}
		long := s.Begin(&access.Action{Op: "query"})
		time.Sleep(30 * time.Second) // expired, within the drain time
		if s.Context().Err() != nil {
			t.Error("no drain time")
		}
		time.Sleep(time.Minute)
		if code(context.Cause(s.Context())) != access.CodeExpired {
			t.Errorf("after the drain time: %v", context.Cause(s.Context()))
		}
		_ = long
		_ = s.Close(context.Cause(s.Context()))
	})
}

func TestRenewRaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, gate(memrec.New(), nil), "a/1s")
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				_ = s.Renew(t.Context(), secret.New(fmt.Sprintf("a/%ds", 2+i)))
			})
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				x := s.Begin(&access.Action{Op: "query"})
				_ = x.Ready(t.Context())
				_, _ = x.End(&access.Outcome{Status: access.StatusOK}, nil)
			})
		}
		wg.Wait()
		if s.Context().Err() != nil {
			t.Errorf("%v", context.Cause(s.Context()))
		}
		_ = s.Close(nil)
	})
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := gate(memrec.New(), func(t *enforce.Target, s *enforce.Snapshot) { t.Sessions, t.QueueTimeout = 2, 10*time.Second })
		a, b := open(t, g, "a/1h"), open(t, g, "b/1h")
		got := make(chan string, 3)
		for i, name := range []string{"first", "second", "third"} {
			go func() {
				time.Sleep(time.Duration(i+1) * time.Second)
				s, err := g.Open(t.Context(), opening(name+"/1h"))
				if err != nil {
					got <- name + " " + string(code(err))
					return
				}
				got <- name
				_ = s.Close(nil)
			}()
		}
		time.Sleep(5 * time.Second)
		_ = a.Close(nil)
		if s := <-got + <-got + <-got; s != "firstsecondthird" {
			t.Errorf("served %s", s)
		}
		c := open(t, g, "c/1h")
		if _, err := g.Open(t.Context(), opening("d/1h")); code(err) != access.CodeLimit {
			t.Errorf("%v", err)
		}
		_ = b.Close(nil)
		_ = c.Close(nil)
	})
}

// TestAdmission refuses alike whatever the reason, and records each refusal.
func TestAdmission(t *testing.T) {
	t.Parallel()
	rec := memrec.New()
	g := gate(rec, nil)
	for _, o := range []enforce.Opening{
		{Token: secret.New("a/1h"), Target: "nothere", Role: "default"}, {Token: secret.New("a/1h"), Target: "t", Role: "nothere"},
		{Token: secret.New("a/1h"), Target: "t", Role: "dba"},
	} {
		_, err := g.Open(t.Context(), o)
		var deny *access.DenyError
		if !errors.As(err, &deny) || deny.Code != access.CodeForbidden ||
			deny.Reason != fmt.Sprintf("target %q with role %q is unknown or not allowed for this identity", o.Target, o.Role) {
			t.Errorf("%v", err)
		}
	}
	if _, err := g.Open(t.Context(), opening("nonsense")); code(err) != access.CodeIdentity {
		t.Errorf("%v", err)
	}
	if got := kinds(rec); got != "refused:0 refused:0 refused:0 refused:0" {
		t.Errorf("%s", got)
	}
	if n := g.Counters().Refused; n != 4 {
		t.Errorf("%d refused", n)
	}
}

// TestFlood counts the refusals of one source beyond the first ones.
func TestFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := memrec.New()
		g := gate(rec, nil)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { g.Run(ctx) })
		for i := range 1000 {
			o := opening("nonsense")
			o.Source = fmt.Sprintf("192.0.2.1:%d", i)
			_, _ = g.Open(ctx, o)
		}
		for i := range 5000 {
			g.Refuse(ctx, evidence.Refused{What: "cancel", Source: fmt.Sprintf("10.%d.%d.1:1", i/250, i%250)}, errors.New("x"))
		}
		time.Sleep(2 * time.Minute)
		total, entries := 0, 0
		for _, e := range rec.Entries() {
			var r evidence.Refused
			if err := evidence.DecodeBody(e.Meta, &r); err != nil {
				t.Fatal(err)
			}
			entries++
			total += r.Count
		}
		if total != 6000 {
			t.Errorf("%d refusals counted", total)
		}
		if entries > 11+4096+20 {
			t.Errorf("%d entries", entries)
		}
		stop()
		wg.Wait()
	})
}

// TestShutdownWaitsForTheEnd: a shutdown is over only when each session's end is
// in the book, which is closed next.
func TestShutdownWaitsForTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := memrec.New()
		g := gate(rec, nil)
		s := open(t, g, "a/1h")
		done := make(chan error, 1)
		go func() { done <- g.Shutdown(t.Context(), t.Context()) }()
		<-s.Context().Done()
		rec.Hold()
		go func() { _ = s.Close(context.Cause(s.Context())) }()
		time.Sleep(time.Second)
		select {
		case <-done:
			t.Error("the shutdown was over before the session's end was durable")
		default:
		}
		rec.Release()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownAndFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := memrec.New()
		g := gate(rec, nil)
		s := open(t, g, "a/1h")
		x := s.Begin(&access.Action{Op: "query"})
		done := make(chan error, 1)
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		go func() { done <- g.Shutdown(ctx, ctx) }()
		synctest.Wait()
		if _, err := g.Open(t.Context(), opening("b/1h")); code(err) != access.CodeShutdown {
			t.Errorf("%v", err)
		}
		if y := s.Begin(&access.Action{Op: "query"}); code(y.Ready(t.Context())) != access.CodeShutdown {
			t.Error("an exchange began during the shutdown")
		} else {
			_, _ = y.End(&access.Outcome{Status: access.StatusDenied}, nil)
		}
		_, _ = x.End(&access.Outcome{Status: access.StatusOK}, nil)
		<-s.Context().Done()
		_ = s.Close(context.Cause(s.Context()))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	rec := memrec.New()
	g := gate(rec, nil)
	s := open(t, g, "a/1h")
	rec.Fail(errors.New("disk"))
	if x := s.Begin(&access.Action{Op: "query"}); code(x.Ready(t.Context())) != access.CodeClosed || !x.Fatal() {
		t.Error("an exchange began that cannot be recorded")
	}
	if _, err := g.Open(t.Context(), opening("b/1h")); code(err) != access.CodeClosed {
		t.Errorf("%v", err)
	}
	_ = s.Close(nil)
}

func TestIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := gate(memrec.New(), func(t *enforce.Target, _ *enforce.Snapshot) { t.IdleTimeout = 10 * time.Second })
		s := open(t, g, "a/1h")
		x := s.Begin(&access.Action{Op: "query"})
		time.Sleep(25 * time.Second)
		if s.Context().Err() != nil {
			t.Error("ended while an exchange ran")
		}
		_, _ = x.End(&access.Outcome{Status: access.StatusOK}, nil)
		time.Sleep(9 * time.Second)
		if s.Context().Err() != nil {
			t.Error("ended early")
		}
		time.Sleep(12 * time.Second)
		if code(context.Cause(s.Context())) != access.CodeEnded {
			t.Errorf("%v", context.Cause(s.Context()))
		}
		_ = s.Close(nil)
	})
}

// TestConcurrentStreams uses both sides of exchanges at once, for -race.
func TestConcurrentStreams(t *testing.T) {
	t.Parallel()
	rec := memrec.New()
	s := open(t, gate(rec, nil), "a/1h")
	var wg sync.WaitGroup
	for range 8 {
		x := s.Begin(&access.Action{Op: "query"})
		wg.Go(func() {
			for x.Request(t.Context(), make([]byte, 50<<10)) == nil {
			}
		})
		wg.Go(func() {
			for range 20 {
				_ = x.Answer(t.Context(), make([]byte, 50<<10))
			}
			_, _ = x.End(&access.Outcome{Status: access.StatusOK}, []byte("end"))
		})
	}
	wg.Wait()
	_ = s.Close(nil)
	bytes := map[uint64]int{}
	for _, e := range rec.Entries() {
		if e.Kind == evidence.KindAnswer || e.Kind == evidence.KindOutcome {
			bytes[e.Exchange] += len(e.Raw)
		}
	}
	for n, got := range bytes {
		if got != 20*50<<10+3 {
			t.Errorf("exchange %d: %d bytes", n, got)
		}
	}
}

// TestNoPolicyNothingAllowed: without a policy every request of an agent is refused.
func TestNoPolicyNothingAllowed(t *testing.T) {
	t.Parallel()
	g := gate(memrec.New(), func(_ *enforce.Target, s *enforce.Snapshot) { s.Policy = nil })
	s := open(t, g, "a/1h")
	x := s.Begin(&access.Action{Op: "query", Text: "SELECT 1", Understood: true, Effects: access.EffectRead})
	if err := x.Ready(t.Context()); code(err) != access.CodePolicy || x.Fatal() {
		t.Errorf("%v, fatal %v", err, x.Fatal())
	}
	_, _ = x.End(&access.Outcome{Status: access.StatusDenied}, nil)
	_ = s.Close(nil)
}

// holding is a policy that wants a person for everything.
type holding struct{}

func (holding) Decide(*access.Request) access.Decision {
	return access.Decision{Verdict: access.Hold, Rule: "writes", Reason: "A person must approve changes."}
}

func (holding) Reads() enforce.Reads { return enforce.Reads{} }

// TestHoldRefuses: while nobody can be asked, a request that a rule holds is refused, and the refusal says so.
func TestHoldRefuses(t *testing.T) {
	t.Parallel()
	g := gate(memrec.New(), func(_ *enforce.Target, s *enforce.Snapshot) { s.Policy = holding{} })
	s := open(t, g, "a/1h")
	x := s.Begin(&access.Action{Op: "query", Text: "DELETE FROM t", Understood: true, Effects: access.EffectWrite})
	err := x.Ready(t.Context())
	if code(err) != access.CodeApproval || x.Fatal() || !strings.Contains(err.Error(), "A person must approve changes.") {
		t.Errorf("%v, fatal %v", err, x.Fatal())
	}
	_, _ = x.End(&access.Outcome{Status: access.StatusDenied}, nil)
	_ = s.Close(nil)
}
