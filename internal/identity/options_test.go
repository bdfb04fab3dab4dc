package identity

import (
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/testkit/idp"
)

func plain(change func(*Issuer)) Issuer {
	o := Issuer{Name: "corp", For: Agents, URL: "https://login.example.com", Audiences: []string{"gatebook"}}
	if change != nil {
		change(&o)
	}
	return o
}

func TestID20UnsetOrWrongFieldsRefuseTheStart(t *testing.T) {
	t.Parallel()
	file := idp.WriteFile(t, "k", []byte("x"))
	tests := []struct {
		name   string
		change func(*Issuer)
		want   string
	}{
		{"no name", func(o *Issuer) { o.Name = "" }, "name:"},
		{"name with separator", func(o *Issuer) { o.Name = "a|b" }, "name:"},
		{"name in upper case", func(o *Issuer) { o.Name = "Corp" }, "name:"},
		{"no side", func(o *Issuer) { o.For = "" }, `want "agents" or "people"`},
		{"unknown side", func(o *Issuer) { o.For = "everyone" }, `want "agents" or "people"`},
		{"no audience", func(o *Issuer) { o.Audiences = nil }, "audience: required"},
		{"empty audience", func(o *Issuer) { o.Audiences = []string{""} }, "audience: required"},
		{"empty party", func(o *Issuer) { o.AuthorizedParties = []string{""} }, "authorized_parties"},
		{"no url", func(o *Issuer) { o.URL = "" }, "url: required"},
		{"plain http", func(o *Issuer) { o.URL = "http://login.example.com" }, "want https"},
		{"plain http, allowed, not loopback", func(o *Issuer) {
			o.URL, o.AllowLoopback, o.InsecureHTTP = "http://login.example.com", true, true
		}, "want https"},
		{"plain http to loopback, not allowed", func(o *Issuer) { o.URL, o.AllowLoopback = "http://127.0.0.1:1", true }, "want https"},
		{"insecure without loopback", func(o *Issuer) { o.InsecureHTTP = true }, "needs allow_loopback"},
		{"url with query", func(o *Issuer) { o.URL += "?x=1" }, "without user, query and fragment"},
		{"url with user", func(o *Issuer) { o.URL = "https://a:b@login.example.com" }, "without user, query and fragment"},
		{"url without scheme", func(o *Issuer) { o.URL = "login.example.com" }, "want an https URL"},
		{"url of a file", func(o *Issuer) { o.URL = "file:///etc/x" }, "want an https URL"},
		{"none", func(o *Issuer) { o.Algorithms = []string{"none"} }, `"none" cannot be accepted`},
		{"HMAC", func(o *Issuer) { o.Algorithms = []string{"RS256", "HS256"} }, `"HS256" cannot be accepted`},
		{"algorithm in lower case", func(o *Issuer) { o.Algorithms = []string{"rs256"} }, `"rs256" cannot be accepted`},
		{"unknown use", func(o *Issuer) { o.Use = "refresh" }, "use:"},
		{"unknown preset", func(o *Issuer) { o.Preset = "github" }, "there are github-actions, gitlab-ci, kubernetes, spiffe"},
		{"kubernetes without url", func(o *Issuer) { o.Preset, o.URL = kubernetes, "" }, "url: required"},
		{"spiffe without trust domain", func(o *Issuer) { o.Preset = spiffe }, "trust_domain"},
		{"spiffe with a URL as trust domain", func(o *Issuer) { o.Preset, o.TrustDomain = spiffe, "spiffe://x" }, "trust_domain"},
		{"spiffe with an injected trust domain", func(o *Issuer) { o.Preset, o.TrustDomain = spiffe, `x") || ("` }, "trust_domain"},
		{"trust domain elsewhere", func(o *Issuer) { o.TrustDomain = "x" }, "for the spiffe preset only"},
		{"skew", func(o *Issuer) { o.Skew = time.Hour }, "skew: 1h0m0s: want 0s to 5m0s"},
		{"negative skew", func(o *Issuer) { o.Skew = -1 }, "skew"},
		{"session for ever", func(o *Issuer) { o.SessionLifetime = 1000 * time.Hour }, "session_lifetime"},
		{"keys for ever", func(o *Issuer) { o.KeyMaxAge = 1000 * time.Hour }, "key_max_age"},
		{"refresh after the keys' end", func(o *Issuer) { o.KeyRefresh = time.Hour }, "key_refresh"},
		{"negative age", func(o *Issuer) { o.MaxTokenAge = -1 }, "max_token_age"},
		{"proxy scheme", func(o *Issuer) { o.Proxy = "ftp://x" }, "proxy: want"},
		{"proxy with password", func(o *Issuer) { o.Proxy = "http://u:canary@proxy:3128" }, "would be a secret"},
		{"mapping type", func(o *Issuer) { o.Principal = "claims.sub == 'x'" }, "principal: 1:1: the result is bool"},
		{"mapping syntax", func(o *Issuer) { o.Groups = "[claims.a" }, "groups: 1:10: Syntax error"},
		{"mapping name", func(o *Issuer) { o.Owner = "clams.x" }, "owner: 1:1: undeclared reference"},
		{"actor type", func(o *Issuer) { o.Actor = "'x'" }, "actor: 1:1: the result is string"},
		{"second binding", func(o *Issuer) { o.Bindings = []string{"true", "claims."} }, "bindings[1]: 1:8: Syntax error"},
		{"binding after a preset's", func(o *Issuer) {
			o.Preset, o.TrustDomain, o.Bindings, o.Keys = spiffe, "x", []string{"1"}, file
		}, "bindings[0]: 1:1: the result is int"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := New(t.Context(), Options{Issuers: []Issuer{plain(tt.change)}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("a secret in the error: %v", err)
			}
		})
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(t.Context(), Options{Issuers: []Issuer{
		plain(func(o *Issuer) { o.Audiences, o.Principal = nil, "clams" }),
		plain(func(o *Issuer) { o.Name = "b"; o.For = "x" }),
	}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`issuers[0] "corp": audience`, `issuers[0] "corp": principal`, `issuers[1] "b": for`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want %q in it", err, want)
		}
	}
	for _, o := range []Options{{}, {Issuers: []Issuer{plain(nil), plain(nil)}},
		{Issuers: []Issuer{plain(nil), plain(func(o *Issuer) { o.Name = "two" })}},
		{Issuers: []Issuer{plain(nil), plain(func(o *Issuer) { o.URL += "/x" })}}} {
		if _, err := New(t.Context(), o); err == nil {
			t.Errorf("%d issuers: accepted", len(o.Issuers))
		}
	}
	both := Options{Issuers: []Issuer{plain(nil), plain(func(o *Issuer) { o.Name, o.For = "people", People })}}
	v, err := New(t.Context(), both)
	if err != nil {
		t.Fatalf("one URL for agents and for people: %v", err)
	}
	v.Close()
}
