package identity

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/testkit/idp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// local is an issuer's options for a test server; change may alter them.
func local(s *idp.Server, change func(*Issuer)) Issuer {
	o := Issuer{Name: "ci", For: Agents, URL: s.URL(), Audiences: []string{idp.Audience}, AllowLoopback: true, InsecureHTTP: true}
	if change != nil {
		change(&o)
	}
	return o
}

func newVerifier(tb testing.TB, issuers ...Issuer) *Verifier {
	tb.Helper()
	v, err := New(tb.Context(), Options{Issuers: issuers})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(v.Close)
	return v
}

func verify(tb testing.TB, v *Verifier, tok string) (*enforce.Verified, *access.DenyError) {
	tb.Helper()
	r, err := v.Verify(tb.Context(), secret.New(tok))
	if err == nil {
		return r, nil
	}
	var deny *access.DenyError
	if !errors.As(err, &deny) {
		tb.Fatalf("a refusal that is no DenyError: %v", err)
	}
	checkRefusal(tb, deny, tok)
	return nil, deny
}

// checkRefusal is the leak canary: it runs over every refusal of every test.
func checkRefusal(tb testing.TB, d *access.DenyError, tok string) {
	tb.Helper()
	if d.Code != access.CodeIdentity || d.Reason != reason {
		tb.Errorf("got code %q, reason %q; want the fixed ones", d.Code, d.Reason)
	}
	switch hint(d.Hint) {
	case hintNone, hintExpired, hintNotYet, hintLifetime, hintAudience, hintParty, hintKind, hintBound, hintClaims, hintOther:
	default:
		tb.Errorf("hint %q is not from the list", d.Hint)
	}
	if d.Cause == nil {
		tb.Error("no cause for the operator")
		return
	}
	text := d.Error()
	if len(text) > 1500 || strings.ContainsAny(text, "\n\r\x00") {
		tb.Errorf("cause is too long or breaks a log line: %q", text)
	}
	for part := range strings.SplitSeq(tok, ".") {
		if len(part) > 16 && strings.Contains(text, part) {
			tb.Errorf("the error text holds a part of the token: %s", text)
		}
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, nil))
	claims := idp.With(s.Agent("agent-7", "b", "a", "b"), idp.Claims{"extra": map[string]any{"n": 1}})
	tok := s.Sign(t, claims, nil)
	got, deny := verify(t, v, tok)
	if deny != nil {
		t.Fatal(deny)
	}
	payload, _ := json.Marshal(claims)
	exp := time.Unix(claims["exp"].(int64), 0)
	want := access.Principal{
		Issuer: "ci", IssuerURL: s.URL(), Subject: "agent-7", Name: "agent-7", Groups: []string{"a", "b"},
		Claims: payload, TokenID: claims["jti"].(string), IssuedAt: time.Unix(claims["iat"].(int64), 0), TokenExpiry: exp,
		SessionEnd: exp, LifetimeRule: access.LifetimeToken,
	}
	if d := cmp.Diff(want, got.Principal); d != "" {
		t.Error(d)
	}
	if got.Token.Reveal() != tok {
		t.Error("the token is not the one presented")
	}
	set, err := parseKeySet(got.KeySet, []string{"sig"})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parseToken(tok)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.verify(parsed); err != nil {
		t.Errorf("the key set returned does not verify the token: %v", err)
	}
	if s.Fetches() != 1 {
		t.Errorf("got %d fetches, want 1", s.Fetches())
	}
}

func TestVerifyOverTLS(t *testing.T) {
	t.Parallel()
	s := idp.StartTLS(t)
	good := newVerifier(t, local(s, func(o *Issuer) { o.CA, o.InsecureHTTP = s.CA(t), false }))
	if _, deny := verify(t, good, s.Token(t, "a")); deny != nil {
		t.Fatal(deny)
	}
	stranger := newVerifier(t, local(s, func(o *Issuer) { o.InsecureHTTP = false }))
	if _, deny := verify(t, stranger, s.Token(t, "a")); deny == nil || !errors.Is(deny, ErrNoKeys) {
		t.Errorf("an issuer with an unknown certificate was trusted: %v", deny)
	}
}

func TestSessionLifetimeReplacesExpiry(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, func(o *Issuer) { o.SessionLifetime = 3 * time.Hour }))
	before := time.Now()
	got, deny := verify(t, v, s.Token(t, "a"))
	if deny != nil {
		t.Fatal(deny)
	}
	p := got.Principal
	if d := p.SessionEnd.Sub(before); p.LifetimeRule != access.LifetimeIssuer || d < 3*time.Hour || d > 3*time.Hour+time.Minute {
		t.Errorf("got rule %q, end in %s; want the issuer's three hours", p.LifetimeRule, d)
	}
}

func TestPeopleDoNotOpenSessions(t *testing.T) {
	t.Parallel()
	s, corp := idp.Start(t), idp.Start(t)
	v := newVerifier(t, local(s, nil), local(corp, func(o *Issuer) { o.Name, o.For = "corp", People }))
	if _, deny := verify(t, v, corp.Token(t, "ana")); deny == nil || deny.Hint != "" {
		t.Errorf("got %v, want a refusal without hint", deny)
	}
	if corp.Fetches() != 0 {
		t.Error("the people's issuer was asked for an agent's token")
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	s, other := idp.Start(t), idp.Start(t)
	v := newVerifier(t, local(s, func(o *Issuer) { o.Principal = "claims.?name.orValue(claims.sub)" }),
		local(other, func(o *Issuer) { o.Name = "other" }))
	first, deny := verify(t, v, s.Token(t, "a", "g"))
	if deny != nil {
		t.Fatal(deny)
	}
	tests := []struct {
		name, tok string
		want      hint
		ok        bool
	}{
		{"same subject", s.Token(t, "a", "g"), "", true},
		{"ID-11 other groups are taken from the fresh token", s.Token(t, "a", "h"), "", true},
		{"other subject", s.Token(t, "b"), hintOther, false},
		{"other issuer", other.Token(t, "a"), hintOther, false},
		{"other name", s.Sign(t, idp.With(s.Agent("a"), idp.Claims{"name": "x"}), nil), hintOther, false},
		{"other subject under the same name", s.Sign(t, idp.With(s.Agent("b"), idp.Claims{"name": "a"}), nil), hintOther, false},
		{"expired", s.Sign(t, idp.With(s.Agent("a"), idp.Claims{"exp": time.Now().Unix() - 1}), nil), hintExpired, false},
		{"broken", "x.y.z", hintNone, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := v.Renew(t.Context(), &first.Principal, secret.New(tt.tok))
			if tt.ok {
				if err != nil {
					t.Fatal(err)
				}
				if got.Principal.Subject != "a" {
					t.Errorf("got subject %q", got.Principal.Subject)
				}
				return
			}
			var d *access.DenyError
			if !errors.As(err, &d) || d.Hint != string(tt.want) {
				t.Fatalf("got %v, want hint %q", err, tt.want)
			}
			checkRefusal(t, d, tt.tok)
		})
	}
}

func TestStatusAndProbe(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, nil))
	if st := v.Status()[0]; st.Usable || st.Err != nil || st.Keys != 0 || s.Fetches() != 0 {
		t.Errorf("before use: %+v, %d fetches", st, s.Fetches())
	}
	s.SetMode(idp.Down)
	if err := v.Probe(t.Context(), "ci"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v, want the issuer's 503", err)
	}
	if st := v.Status()[0]; st.Err == nil || st.Usable {
		t.Errorf("while down: %+v", st)
	}
	s.SetMode(idp.Good)
	if err := v.Probe(t.Context(), "ci"); err != nil {
		t.Fatal(err)
	}
	if st := v.Status()[0]; st.Err != nil || !st.Usable || st.Keys != 1 || st.Fetched.IsZero() {
		t.Errorf("after: %+v", st)
	}
	if err := v.Probe(t.Context(), "nobody"); err == nil {
		t.Error("probe of an unknown issuer went well")
	}
}

func TestCloseRefusesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	arrived := make(chan struct{})
	s.Handle("/.well-known/openid-configuration", func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	v, err := New(context.Background(), Options{Issuers: []Issuer{local(s, nil)}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	tok := secret.New(s.Token(t, "a"))
	go func() {
		_, err := v.Verify(context.Background(), tok)
		done <- err
	}()
	<-arrived
	v.Close()
	if err := <-done; !errors.Is(err, ErrNoKeys) {
		t.Errorf("got %v, want ErrNoKeys", err)
	}
	if _, err := v.Verify(t.Context(), tok); !errors.Is(err, ErrNoKeys) {
		t.Errorf("after close: got %v, want ErrNoKeys", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	s := idp.Start(b)
	v := newVerifier(b, local(s, nil))
	tok := secret.New(s.Token(b, "agent", "a", "b"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), tok); err != nil {
			b.Fatal(err)
		}
	}
}
