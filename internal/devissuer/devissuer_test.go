package devissuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/gatebook/gatebook/internal/secret"
)

const (
	base   = "http://127.0.0.1:9"
	pass   = "canary secret/+%"
	formCT = "application/x-www-form-urlencoded"
)

func newIssuer(t *testing.T, change func(*Options)) *Issuer {
	t.Helper()
	o := Options{URL: base, Clients: []Client{
		{ID: "bot", Secret: secret.New(pass), Subject: "agent:bot", Audiences: []string{"gatebook", "other"}, Groups: []string{"agents"},
			Claims: map[string]any{"team": "core", "iss": "https://evil", "sub": "evil", "aud": "evil", "exp": 1}},
		{ID: "plain", Secret: secret.New("p2"), Audiences: []string{"gatebook"}},
	}}
	if change != nil {
		change(&o)
	}
	i, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// claimsOf verifies a token with the published keys and returns its claims.
func claimsOf(t *testing.T, i *Issuer, tok string) map[string]any {
	t.Helper()
	c, err := read(i, tok)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func read(i *Issuer, tok string) (map[string]any, error) {
	rec := httptest.NewRecorder()
	i.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, base+"/keys", nil))
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(rec.Body.Bytes(), &set); err != nil {
		return nil, err
	}
	parsed, err := jwt.ParseSigned(tok, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA})
	if err != nil {
		return nil, err
	}
	var c map[string]any
	return c, parsed.Claims(set, &c)
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, func(o *Options) { o.URL = base + "/dev" })
	rec := httptest.NewRecorder()
	i.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, base+"/dev/.well-known/openid-configuration", nil))
	var d map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"issuer": base + "/dev", "jwks_uri": base + "/dev/keys", "token_endpoint": base + "/dev/token"} {
		if d[name] != want {
			t.Errorf("%s: got %v, want %v", name, d[name], want)
		}
	}
}

func TestKeysHoldNothingPrivate(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, nil)
	rec := httptest.NewRecorder()
	i.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, base+"/keys", nil))
	for _, private := range []string{`"d"`, `"p"`, `"q"`, `"k"`} {
		if strings.Contains(rec.Body.String(), private) {
			t.Errorf("the key set has %s: %s", private, rec.Body)
		}
	}
}

func TestMint(t *testing.T) {
	t.Parallel()
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	for name, k := range map[string]crypto.Signer{"fresh": nil, "RSA": rsaKey, "EC": ecKey, "Ed25519": edKey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t, func(o *Options) { o.Signer, o.Lifetime = k, time.Hour })
			tok, err := i.Mint(map[string]any{"sub": "a", "aud": "x", "jti": nil})
			if err != nil {
				t.Fatal(err)
			}
			c := claimsOf(t, i, tok)
			if c["iss"] != base || c["sub"] != "a" || c["exp"].(float64)-c["iat"].(float64) != 3600 {
				t.Errorf("got %v", c)
			}
			if _, ok := c["jti"]; ok {
				t.Error("nil did not remove the default")
			}
		})
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, nil)
	first, _ := i.Mint(nil)
	if err := i.Rotate(nil); err != nil {
		t.Fatal(err)
	}
	second, _ := i.Mint(nil)
	claimsOf(t, i, first)
	claimsOf(t, i, second)
	i.Retire()
	if _, err := read(i, first); err == nil {
		t.Error("a retired key still verifies")
	}
	claimsOf(t, i, second)
	small, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err := i.Rotate(small); err == nil {
		t.Error("P-224 was accepted")
	}
	claimsOf(t, i, second)
}

func TestTokenEndpoint(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, nil)
	grant := url.Values{"grant_type": {"client_credentials"}}
	with := func(kv ...string) url.Values {
		v := url.Values{"grant_type": {"client_credentials"}}
		for n := 0; n < len(kv); n += 2 {
			v.Set(kv[n], kv[n+1])
		}
		return v
	}
	tests := []struct {
		name     string
		id, pass string // for the header, none where empty
		form     url.Values
		query    string
		ct       string
		want     int
		code     string
		aud      string
	}{
		{"header", "bot", pass, grant, "", formCT, 200, "", "gatebook"},
		{"form", "", "", with("client_id", "bot", "client_secret", pass), "", formCT + "; charset=utf-8", 200, "", "gatebook"},
		{"other audience", "bot", pass, with("audience", "other"), "", formCT, 200, "", "other"},
		{"other resource", "bot", pass, with("resource", "other"), "", formCT, 200, "", "other"},
		{"foreign audience", "bot", pass, with("audience", "bank"), "", formCT, 400, "invalid_target", ""},
		{"wrong secret", "bot", "x", grant, "", formCT, 401, "invalid_client", ""},
		{"secret of another", "plain", pass, grant, "", formCT, 401, "invalid_client", ""},
		{"unknown client, no secret", "nobody", "", grant, "", formCT, 401, "invalid_client", ""},
		{"nothing", "", "", grant, "", formCT, 401, "invalid_client", ""},
		{"secret in the query", "", "", grant, "?client_id=plain&client_secret=p2", formCT, 401, "invalid_client", ""},
		{"grant in the query", "bot", pass, url.Values{}, "?grant_type=client_credentials", formCT, 400, "unsupported_grant_type", ""},
		{"other grant", "bot", pass, url.Values{"grant_type": {"password"}}, "", formCT, 400, "unsupported_grant_type", ""},
		{"JSON", "bot", pass, grant, "", "application/json", 400, "invalid_request", ""},
		{"too large", "bot", pass, with("x", strings.Repeat("x", maxForm)), "", formCT, 400, "invalid_request", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req := httptest.NewRequest(http.MethodPost, base+"/token"+tt.query, strings.NewReader(tt.form.Encode()))
			req.Header.Set("Content-Type", tt.ct)
			if tt.id != "" {
				req.SetBasicAuth(url.QueryEscape(tt.id), url.QueryEscape(tt.pass))
			}
			rec := httptest.NewRecorder()
			i.Handler().ServeHTTP(rec, req)
			var body struct {
				Token string `json:"access_token"`
				Type  string `json:"token_type"`
				In    int    `json:"expires_in"`
				Error string `json:"error"`
			}
			if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			if rec.Code != tt.want || body.Error != tt.code {
				t.Fatalf("got %d %q, want %d %q", rec.Code, body.Error, tt.want, tt.code)
			}
			if rec.Header().Get("Cache-Control") != "no-store" || strings.Contains(rec.Body.String(), "canary") {
				t.Error("the answer may be cached or holds the secret")
			}
			if tt.want != 200 {
				return
			}
			c := claimsOf(t, i, body.Token)
			for _, volatile := range []string{"iat", "nbf", "exp", "jti"} {
				delete(c, volatile)
			}
			want := map[string]any{"iss": base, "sub": "agent:bot", "aud": tt.aud, "client_id": "bot", "groups": []any{"agents"}, "team": "core"}
			if d := cmp.Diff(want, c); d != "" {
				t.Error(d)
			}
			if body.Type != "Bearer" || body.In != 600 {
				t.Errorf("got type %q, %d s", body.Type, body.In)
			}
		})
	}
}

func TestOnlyLoopbackNamesAreAnswered(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, nil)
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:9": 200, "localhost": 200, "localhost:9": 200, "[::1]": 200, "[::1]:9": 200,
		"evil.example": 421, "evil.example:9": 421, "10.0.0.1": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421, "": 421, "169.254.169.254": 421,
	} {
		req := httptest.NewRequest(http.MethodGet, "/keys", nil)
		req.Host = host
		rec := httptest.NewRecorder()
		i.Handler().ServeHTTP(rec, req)
		if rec.Code != want {
			t.Errorf("Host %q: got %d, want %d", host, rec.Code, want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	ok := Client{ID: "a", Secret: secret.New("s"), Audiences: []string{"x"}}
	for name, o := range map[string]Options{
		"no url": {}, "slash": {URL: base + "/"}, "not loopback": {URL: "https://issuer.example"}, "any address": {URL: "http://0.0.0.0:1"},
		"no id":       {URL: base, Clients: []Client{{Secret: ok.Secret, Audiences: ok.Audiences}}},
		"no secret":   {URL: base, Clients: []Client{{ID: "a", Audiences: ok.Audiences}}},
		"no audience": {URL: base, Clients: []Client{{ID: "a", Secret: ok.Secret}}},
		"twice":       {URL: base, Clients: []Client{ok, ok}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestSignIn: a person who says who they are gets a code, which one client redeems once with what it began with.
func TestSignIn(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, func(o *Options) {
		o.People = []Person{{Name: "ben", Claims: map[string]any{"acr": "mfa", "iss": "https://other.example"}}}
		o.Clients = []Client{
			{ID: "page", Secret: secret.New("s"), Audiences: []string{"page"}, Redirects: []string{"http://127.0.0.1/callback", "https://gate.example.com/callback"}},
			{ID: "other", Secret: secret.New("s"), Audiences: []string{"other"}, Redirects: []string{"http://127.0.0.1/callback"}},
		}
	})
	const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636 appendix B
	ask := func(change url.Values) url.Values {
		q := url.Values{
			"client_id": {"page"}, "redirect_uri": {"http://127.0.0.1:4711/callback"}, "response_type": {"code"}, "scope": {"openid email"}, "state": {"s 1"},
			"nonce": {"n-1"}, "code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
		}
		for k, v := range change {
			q[k] = v
		}
		return q
	}
	authorize := func(method string, q url.Values, form string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest(method, base+"/authorize?"+q.Encode(), strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		i.Handler().ServeHTTP(rec, r)
		return rec
	}
	code := func() string {
		rec := authorize(http.MethodPost, ask(nil), "person=ben")
		to, err := url.Parse(rec.Header().Get("Location"))
		if err != nil || rec.Code != http.StatusSeeOther || to.Host != "127.0.0.1:4711" || to.Query().Get("state") != "s 1" || to.Query().Get("iss") != base {
			t.Fatalf("%d %v", rec.Code, rec.Header())
		}
		return to.Query().Get("code")
	}
	redeem := func(client string, change url.Values) (int, map[string]any) {
		form := url.Values{"grant_type": {"authorization_code"}, "code": {code()}, "redirect_uri": {"http://127.0.0.1:4711/callback"}, "code_verifier": {verifier}}
		for k, v := range change {
			form[k] = v
		}
		rec := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, base+"/token", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(client, "s")
		i.Handler().ServeHTTP(rec, r)
		var out map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		return rec.Code, out
	}
	if rec := authorize(http.MethodGet, ask(nil), ""); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "Sign in as ben") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	_, out := redeem("page", nil)
	tok, _ := out["id_token"].(string)
	c := claimsOf(t, i, tok)
	if c["sub"] != "ben" || c["aud"] != "page" || c["nonce"] != "n-1" || c["acr"] != "mfa" || c["iss"] != base || c["auth_time"] == nil {
		t.Errorf("%v", c)
	}
	for name, change := range map[string]url.Values{
		"another redirect": {"redirect_uri": {"http://127.0.0.1:4712/callback"}}, "another verifier": {"code_verifier": {"x"}}, "no verifier": {"code_verifier": nil}, "no code": {"code": {"x"}},
	} {
		if status, out := redeem("page", change); status != http.StatusBadRequest || out["error"] != "invalid_grant" {
			t.Errorf("%s: %d %v", name, status, out)
		}
	}
	if status, _ := redeem("other", nil); status != http.StatusBadRequest {
		t.Errorf("another client: %d", status)
	}
	once := code()
	if status, _ := redeem("page", url.Values{"code": {once}}); status != http.StatusOK {
		t.Errorf("once: %d", status)
	}
	if status, _ := redeem("page", url.Values{"code": {once}}); status != http.StatusBadRequest {
		t.Errorf("twice: %d", status)
	}
	for name, change := range map[string]url.Values{
		"a redirect elsewhere": {"redirect_uri": {"http://evil.example/callback"}}, "another path": {"redirect_uri": {"http://127.0.0.1:1/other"}},
		"a port of a host": {"redirect_uri": {"https://gate.example.com:444/callback"}}, "a query": {"redirect_uri": {"http://127.0.0.1/callback?x"}},
		"no client": {"client_id": {"x"}}, "another flow": {"response_type": {"token"}}, "no scope": {"scope": {"email"}}, "no PKCE": {"code_challenge": nil}, "plain PKCE": {"code_challenge_method": {"plain"}},
	} {
		if rec := authorize(http.MethodPost, ask(change), "person=ben"); rec.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Header().Get("Location"))
		}
	}
	if rec := authorize(http.MethodPost, ask(nil), "person=nobody"); rec.Code != http.StatusBadRequest {
		t.Errorf("nobody: %d", rec.Code)
	}
}
