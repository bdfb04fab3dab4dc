package identity

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/testkit/idp"
)

func peopleOf(t *testing.T, s *idp.Server, more ...Issuer) *Verifier {
	t.Helper()
	list := append([]Issuer{{
		Name: "corp", For: People, URL: s.URL(), Audiences: []string{idp.Console}, AllowLoopback: true, InsecureHTTP: true,
	}}, more...)
	v, err := New(context.Background(), Options{Issuers: list})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// TestPerson is the table of ID tokens that prove somebody, and of those that do not.
func TestPerson(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := peopleOf(t, s, Issuer{Name: "ci", For: Agents, URL: s.URL() + "/other", Audiences: []string{idp.Audience}, AllowLoopback: true, InsecureHTTP: true})
	now := time.Now().Unix()
	good := idp.With(s.Agent("ben"), idp.Claims{
		"aud": idp.Console, "nonce": "n-1", "auth_time": now - 5, "acr": "mfa", "amr": []string{"pwd", "otp"}, "groups": nil,
	})
	for name, tt := range map[string]struct {
		change idp.Claims
		nonce  string
		want   string // of the refusal
	}{
		"good":                   {nil, "n-1", ""},
		"nobody asks":            {nil, "", ""},
		"without how":            {idp.Claims{"auth_time": nil, "acr": nil, "amr": nil}, "n-1", ""},
		"one method":             {idp.Claims{"amr": "otp"}, "n-1", ""},
		"another nonce":          {nil, "n-2", "nonce"},
		"no nonce":               {idp.Claims{"nonce": nil}, "n-1", "nonce"},
		"a nonce that is none":   {idp.Claims{"nonce": 1}, "", "nonce"},
		"another audience":       {idp.Claims{"aud": idp.Audience}, "n-1", "aud"},
		"several audiences":      {idp.Claims{"aud": []string{"other", idp.Console}}, "n-1", "azp"},
		"of another client":      {idp.Claims{"aud": []string{"other", idp.Console}, "azp": "other"}, "n-1", "azp"},
		"expired":                {idp.Claims{"iat": now - 100, "nbf": now - 100, "exp": now - 10}, "n-1", "expired"},
		"no iat":                 {idp.Claims{"iat": nil}, "n-1", "iat"},
		"a logout token":         {idp.Claims{"events": idp.Claims{}}, "n-1", "logout"},
		"signed in later":        {idp.Claims{"auth_time": now + 3600}, "n-1", "auth_time"},
		"a time that is none":    {idp.Claims{"auth_time": "now"}, "n-1", "auth_time"},
		"a class that is none":   {idp.Claims{"acr": 1}, "n-1", "acr"},
		"methods that are none":  {idp.Claims{"amr": []any{1}}, "n-1", "amr"},
		"of an issuer of agents": {idp.Claims{"iss": s.URL() + "/other"}, "n-1", "agents never rule"},
		"of nobody's issuer":     {idp.Claims{"iss": "https://other.example"}, "n-1", "not a configured issuer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, err := v.VerifyPerson(t.Context(), secret.New(s.Sign(t, idp.With(good, tt.change), nil)), tt.nonce)
			var deny *access.DenyError
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", errors.Unwrap(err))
			case tt.want != "" && (!errors.As(err, &deny) || !strings.Contains(deny.Cause.Error(), tt.want)):
				t.Errorf("%v, %v; want %q", in, err, tt.want)
			case tt.want == "" && (in.Identity() != "corp|ben" || len(in.KeySet) == 0):
				t.Errorf("%+v", in)
			}
		})
	}
	in, err := v.VerifyPerson(t.Context(), secret.New(s.Sign(t, good, nil)), "n-1")
	if err != nil || in.AuthTime.Unix() != now-5 || in.ACR != "mfa" || strings.Join(in.AMR, " ") != "pwd otp" {
		t.Errorf("%+v, %v", in, err)
	}
	// The other side does not take it.
	if _, err := v.Verify(t.Context(), secret.New(s.Sign(t, good, nil))); err == nil {
		t.Error("a person opens a session")
	}
}

// TestReexamine: what proved somebody then proves it later, by the recorded keys alone, and nothing else does.
func TestReexamine(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := peopleOf(t, s)
	issued := time.Now().Add(-time.Second).Truncate(time.Second)
	claims := idp.With(s.Agent("ben"), idp.Claims{"aud": idp.Console, "nonce": "n-1", "groups": nil, "iat": issued.Unix(), "exp": issued.Unix() + 60})
	token := s.Sign(t, claims, nil)
	in, err := v.VerifyPerson(t.Context(), secret.New(token), "n-1")
	if err != nil {
		t.Fatal(errors.Unwrap(err))
	}
	s.SetMode(idp.Down)
	o, err := FromConfig(&config.Issuer{Name: "corp", For: "people", URL: s.URL(), Audience: config.Strings{idp.Console}, AllowLoopback: true, InsecureHTTP: true, CA: "file:gone.pem"}, "")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Reexamine(o, token, in.KeySet, "n-1", issued)
	if err != nil || again.Identity() != "corp|ben" {
		t.Errorf("%+v, %v", again, err)
	}
	other := idp.Start(t)
	agents := o
	agents.For = Agents
	elsewhere := o
	elsewhere.URL = other.URL()
	for name, try := range map[string]func() error{
		"another nonce":     func() error { _, err := Reexamine(o, token, in.KeySet, "n-2", issued); return err },
		"long after":        func() error { _, err := Reexamine(o, token, in.KeySet, "n-1", issued.Add(time.Hour)); return err },
		"other keys":        func() error { _, err := Reexamine(o, token, other.KeySetBytes(t), "n-1", issued); return err },
		"no keys":           func() error { _, err := Reexamine(o, token, nil, "n-1", issued); return err },
		"an agents' issuer": func() error { _, err := Reexamine(agents, token, in.KeySet, "n-1", issued); return err },
		"another issuer":    func() error { _, err := Reexamine(elsewhere, token, in.KeySet, "n-1", issued); return err },
		"a changed token": func() error {
			_, err := Reexamine(o, token[:len(token)-4]+"AAAA", in.KeySet, "n-1", issued)
			return err
		},
		"an unsigned token": func() error {
			_, err := Reexamine(o, s.Unsigned(t, claims, "none", nil), in.KeySet, "n-1", issued)
			return err
		},
		"somebody else's": func() error { _, err := Reexamine(o, other.Sign(t, claims, nil), in.KeySet, "n-1", issued); return err },
	} {
		if try() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestSignInAddresses: where people are sent, and where their codes go, is what the issuer itself says, within the limits for requests to it.
func TestSignInAddresses(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"plain text":  `{"issuer":"ISSUER","authorization_endpoint":"http://192.0.2.1/a","token_endpoint":"ISSUER/token","jwks_uri":"ISSUER/keys"}`,
		"metadata":    `{"issuer":"ISSUER","authorization_endpoint":"ISSUER/a","token_endpoint":"https://169.254.169.254/t","jwks_uri":"ISSUER/keys"}`,
		"a script":    `{"issuer":"ISSUER","authorization_endpoint":"javascript:alert(1)","token_endpoint":"ISSUER/token","jwks_uri":"ISSUER/keys"}`,
		"none":        `{"issuer":"ISSUER","jwks_uri":"ISSUER/keys"}`,
		"another one": `{"issuer":"https://other.example","authorization_endpoint":"ISSUER/a","token_endpoint":"ISSUER/token","jwks_uri":"ISSUER/keys"}`,
	} {
		s := idp.Start(t)
		s.Handle("/.well-known/openid-configuration", serve(strings.ReplaceAll(doc, "ISSUER", s.URL())))
		v := peopleOf(t, s)
		to, err := v.AuthURL(t.Context(), &Client{Issuer: "corp", ID: idp.Console}, &Request{State: "s", Nonce: "n", Verifier: NewCodeVerifier()})
		if err == nil {
			t.Errorf("%s: people are sent to %s", name, to)
		}
	}
	s := idp.Start(t)
	v := peopleOf(t, s)
	if _, err := v.AuthURL(t.Context(), &Client{Issuer: "ci", ID: "x"}, &Request{}); err == nil {
		t.Error("an issuer that is not there signs people in")
	}
	to, err := v.AuthURL(t.Context(), &Client{Issuer: "corp", ID: idp.Console, Redirect: "http://127.0.0.1:1/callback"},
		&Request{State: "s", Nonce: "n", Verifier: NewCodeVerifier(), ACR: []string{"a", "b"}, MaxAge: time.Minute, Login: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{s.URL() + "/authorize?", "acr_values=a+b", "max_age=60", "prompt=login", "code_challenge_method=S256", "nonce=n", "state=s"} {
		if !strings.Contains(to, want) {
			t.Errorf("%s has no %s", to, want)
		}
	}
	if _, _, err := v.Redeem(t.Context(), &Client{Issuer: "corp", ID: idp.Console}, &Request{}, "no code"); err == nil || strings.Contains(err.Error(), "no code") {
		t.Errorf("a code that is none: %v", err)
	}
}

func serve(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}
