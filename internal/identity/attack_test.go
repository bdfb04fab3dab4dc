package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatebook/gatebook/internal/testkit/idp"
)

// attack is a token and the hint that its refusal gives; ok means accepted.
type attack struct {
	name string
	tok  string
	want hint
	ok   bool
}

func runAttacks(t *testing.T, v *Verifier, tests []attack) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, deny := verify(t, v, tt.tok)
			switch {
			case tt.ok && deny != nil:
				t.Errorf("refused: %v", deny)
			case !tt.ok && deny == nil:
				t.Error("accepted")
			case !tt.ok && deny.Hint != string(tt.want):
				t.Errorf("got hint %q, want %q (%v)", deny.Hint, tt.want, deny)
			}
		})
	}
}

func TestID01Algorithms(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, nil))
	c := s.Agent("a")
	valid := s.Sign(t, c, nil)
	sig, _ := base64.RawURLEncoding.DecodeString(valid[strings.LastIndexByte(valid, '.')+1:])
	tests := []attack{{name: "good", tok: valid, ok: true}}
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "", "HS256", "hs256", "es256", "Es256", "ES256 ", "RS1", "ES256K", "RSA-OAEP", "ES384", "RS256", "EdDSA", "dir"} {
		tests = append(tests,
			attack{name: "alg " + alg + " without signature", tok: s.Unsigned(t, c, alg, nil)},
			attack{name: "alg " + alg + " with some signature", tok: s.Unsigned(t, c, alg, sig)},
			attack{name: "alg " + alg + " with the public key as secret", tok: s.HMAC(t, c, alg, s.PublicPEM(t))})
	}
	tests = append(tests,
		attack{name: "alg absent", tok: s.Sign(t, c, map[string]any{"alg": nil})},
		attack{name: "alg list", tok: s.Sign(t, c, map[string]any{"alg": []string{"ES256"}})},
		attack{name: "signature of zeros (CVE-2022-21449)", tok: s.Unsigned(t, c, "ES256", make([]byte, 64))},
		attack{name: "signature cut", tok: valid[:len(valid)-4]},
		attack{name: "signature of another token", tok: s.Token(t, "b")[:strings.LastIndexByte(s.Token(t, "b"), '.')] + valid[strings.LastIndexByte(valid, '.'):]},
	)
	runAttacks(t, v, tests)
}

func TestID01AlgorithmOutsideTheList(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, func(o *Issuer) { o.Algorithms = []string{"RS256", "EdDSA"} }))
	runAttacks(t, v, []attack{{name: "ES256", tok: s.Token(t, "a")}})
	if s.Fetches() != 0 {
		t.Error("keys were fetched for an algorithm that is not accepted")
	}
}

func TestID02KeyHeadersAreIgnored(t *testing.T) {
	t.Parallel()
	evil, s := idp.Start(t), idp.Start(t)
	v := newVerifier(t, local(s, nil))
	c := s.Agent("a")
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: mine.Public(), KeyID: "x"}
	forge := func(h map[string]any) string {
		head, _ := json.Marshal(idp.With(map[string]any{"alg": "ES256", "typ": "JWT"}, h))
		payload, _ := json.Marshal(c)
		return idp.SignWith(t, mine, head, payload)
	}
	kid := s.KeyID()
	tests := []attack{
		{name: "good with foreign jku and x5u", tok: s.Sign(t, c, map[string]any{"jku": evil.URL() + "/keys", "x5u": evil.URL() + "/x"}), ok: true},
		{name: "good with foreign jwk", tok: s.Sign(t, c, map[string]any{"jwk": jwk}), ok: true},
		{name: "forged with jwk", tok: forge(map[string]any{"jwk": jwk})},
		{name: "forged with jwk and our kid", tok: forge(map[string]any{"jwk": jwk, "kid": kid})},
		{name: "forged with jku", tok: forge(map[string]any{"jku": evil.URL() + "/keys", "kid": "x"})},
		{name: "forged with x5u", tok: forge(map[string]any{"x5u": evil.URL() + "/x", "kid": kid})},
		{name: "forged with x5c", tok: forge(map[string]any{"x5c": []string{"MIIB"}, "kid": kid})},
		{name: "forged without kid", tok: forge(nil)},
		{name: "kid number", tok: s.Sign(t, c, map[string]any{"kid": 1})},
		{name: "kid too long", tok: s.Sign(t, c, map[string]any{"kid": strings.Repeat("x", maxKeyID+1)})},
	}
	for _, k := range []string{"../../../../dev/null", "/etc/passwd", "' OR 1=1 --", evil.URL() + "/keys", "\x00", strings.ToUpper(kid) + "x", kid + " ", ""} {
		tests = append(tests, attack{name: "kid " + k, tok: s.Sign(t, c, map[string]any{"kid": k})})
	}
	runAttacks(t, v, tests)
	if evil.Requests() != 0 {
		t.Errorf("%d requests went where a header pointed", evil.Requests())
	}
}

func TestID05IssuerAudienceParty(t *testing.T) {
	t.Parallel()
	s, tenant := idp.Start(t), idp.Start(t)
	v := newVerifier(t, local(s, nil), local(tenant, func(o *Issuer) { o.Name = "tenant" }))
	c := s.Agent("a")
	set := func(name string, val any) string { return s.Sign(t, idp.With(c, idp.Claims{name: val}), nil) }
	runAttacks(t, v, []attack{
		{name: "iss with slash", tok: set("iss", s.URL()+"/")},
		{name: "iss upper case", tok: set("iss", strings.ToUpper(s.URL()))},
		{name: "iss localhost for 127.0.0.1", tok: set("iss", strings.Replace(s.URL(), "127.0.0.1", "localhost", 1))},
		{name: "iss of another tenant, our key", tok: set("iss", tenant.URL())},
		{name: "iss unknown", tok: set("iss", "https://evil.example")},
		{name: "iss absent", tok: set("iss", nil)},
		{name: "iss list", tok: set("iss", []string{s.URL()})},
		{name: "iss with space", tok: set("iss", " "+s.URL())},
		{name: "aud absent", tok: set("aud", nil), want: hintAudience},
		{name: "aud wrong", tok: set("aud", "other"), want: hintAudience},
		{name: "aud case", tok: set("aud", "Gatebook"), want: hintAudience},
		{name: "aud prefix", tok: set("aud", "gatebook.evil"), want: hintAudience},
		{name: "aud empty list", tok: set("aud", []string{}), want: hintAudience},
		{name: "aud with a number", tok: set("aud", []any{"gatebook", 1}), want: hintAudience},
		{name: "aud object", tok: set("aud", map[string]any{"gatebook": true}), want: hintAudience},
		{name: "aud space separated", tok: set("aud", "other gatebook"), want: hintAudience},
		{name: "aud list with ours", tok: set("aud", []string{"other", "gatebook"}), ok: true},
		{name: "azp not configured", tok: set("azp", "anyone"), ok: true},
		{name: "azp number", tok: set("azp", 1), want: hintParty},
		{name: "sub absent", tok: set("sub", nil), want: hintClaims},
		{name: "sub empty", tok: set("sub", ""), want: hintClaims},
		{name: "sub number", tok: set("sub", 7), want: hintClaims},
		{name: "sub with newline", tok: set("sub", "a\nb"), want: hintClaims},
		{name: "sub with bidi override", tok: set("sub", "a\u202eb"), want: hintClaims},
		{name: "sub with trailing space", tok: set("sub", "a "), want: hintClaims},
		{name: "sub too long", tok: set("sub", strings.Repeat("x", maxNameLen+1)), want: hintClaims},
		{name: "jti number", tok: set("jti", 7), want: hintClaims},
	})
}

func TestID05AuthorizedParties(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, func(o *Issuer) { o.AuthorizedParties = []string{"runner"} }))
	id := newVerifier(t, local(s, func(o *Issuer) { o.Use = UseID }))
	with := func(c idp.Claims) string { return s.Sign(t, idp.With(s.Agent("a"), c), nil) }
	runAttacks(t, v, []attack{
		{name: "azp", tok: with(idp.Claims{"azp": "runner"}), ok: true},
		{name: "client_id", tok: with(idp.Claims{"client_id": "runner"}), ok: true},
		{name: "azp wins over client_id", tok: with(idp.Claims{"azp": "x", "client_id": "runner"}), want: hintParty},
		{name: "azp wrong", tok: with(idp.Claims{"azp": "Runner"}), want: hintParty},
		{name: "azp absent", tok: with(nil), want: hintParty},
	})
	two := []string{"gatebook", "other"}
	runAttacks(t, id, []attack{
		{name: "ID token, several audiences, no azp", tok: with(idp.Claims{"aud": two}), want: hintParty},
		{name: "ID token, several audiences, foreign azp", tok: with(idp.Claims{"aud": two, "azp": "other"}), want: hintParty},
		{name: "ID token, several audiences, our azp", tok: with(idp.Claims{"aud": two, "azp": "gatebook"}), ok: true},
	})
}

func TestID06Times(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, nil))
	now := time.Now().Unix()
	with := func(c idp.Claims) string { return s.Sign(t, idp.With(s.Agent("a"), c), nil) }
	runAttacks(t, v, []attack{
		{name: "exp absent", tok: with(idp.Claims{"exp": nil})},
		{name: "exp null", tok: s.SignRaw(t, []byte(`{"iss":"`+s.URL()+`","sub":"a","aud":"gatebook","exp":null}`), nil)},
		{name: "exp text", tok: with(idp.Claims{"exp": "9999999999"})},
		{name: "exp negative", tok: with(idp.Claims{"exp": -1})},
		{name: "exp huge", tok: with(idp.Claims{"exp": 1e300})},
		{name: "exp past 64 bits", tok: s.SignRaw(t, []byte(`{"iss":"`+s.URL()+`","exp":99999999999999999999}`), nil)},
		{name: "exp just past, no skew", tok: with(idp.Claims{"exp": now - 1}), want: hintExpired},
		{name: "exp fraction", tok: with(idp.Claims{"exp": float64(now) + 100.5}), ok: true},
		{name: "exp far ahead", tok: with(idp.Claims{"exp": now + 25*3600}), want: hintLifetime},
		{name: "exp far ahead without iat", tok: with(idp.Claims{"exp": now + 25*3600, "iat": nil}), want: hintLifetime},
		{name: "last hour of a long life", tok: with(idp.Claims{"exp": now + 3600, "iat": now - 30*24*3600, "nbf": nil}), want: hintLifetime},
		{name: "nbf within skew", tok: with(idp.Claims{"nbf": now + 20}), ok: true},
		{name: "nbf past skew", tok: with(idp.Claims{"nbf": now + 90}), want: hintNotYet},
		{name: "nbf text", tok: with(idp.Claims{"nbf": "soon"})},
		{name: "nbf absent", tok: with(idp.Claims{"nbf": nil}), ok: true},
		{name: "iat within skew", tok: with(idp.Claims{"iat": now + 20}), ok: true},
		{name: "iat past skew", tok: with(idp.Claims{"iat": now + 90}), want: hintNotYet},
		{name: "iat bool", tok: with(idp.Claims{"iat": true})},
		{name: "iat absent", tok: with(idp.Claims{"iat": nil}), ok: true},
	})
	aged := newVerifier(t, local(s, func(o *Issuer) { o.MaxTokenAge = 5 * time.Minute }))
	runAttacks(t, aged, []attack{
		{name: "young", tok: with(nil), ok: true},
		{name: "old", tok: with(idp.Claims{"iat": now - 400, "nbf": now - 400}), want: hintLifetime},
		{name: "age unknown", tok: with(idp.Claims{"iat": nil}), want: hintLifetime},
	})
}

func TestID07KindsOfToken(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	typ := func(v any) string { return s.Sign(t, s.Agent("a"), map[string]any{"typ": v}) }
	with := func(c idp.Claims) string { return s.Sign(t, idp.With(s.Agent("a"), c), nil) }
	marks := []attack{
		{name: "nonce", tok: with(idp.Claims{"nonce": "n"}), want: hintKind},
		{name: "at_hash", tok: with(idp.Claims{"at_hash": "n"}), want: hintKind},
		{name: "typ claim ID", tok: with(idp.Claims{"typ": "ID"}), want: hintKind},
		{name: "token_use id", tok: with(idp.Claims{"token_use": "id"}), want: hintKind},
	}
	never := []attack{
		{name: "typ claim Refresh", tok: with(idp.Claims{"typ": "Refresh"}), want: hintKind},
		{name: "typ claim Offline", tok: with(idp.Claims{"typ": "Offline"}), want: hintKind},
		{name: "typ claim Logout", tok: with(idp.Claims{"typ": "Logout"}), want: hintKind},
		{name: "typ claim number", tok: with(idp.Claims{"typ": 1}), want: hintKind},
		{name: "events", tok: with(idp.Claims{"events": map[string]any{}}), want: hintKind},
		{name: "ID-15 cnf", tok: with(idp.Claims{"cnf": map[string]any{"jkt": "x"}}), want: hintBound},
		{name: "typ empty", tok: typ("")}, {name: "typ number", tok: typ(1)},
	}
	for _, bad := range []string{"logout+jwt", "dpop+jwt", "kb+jwt", "secevent+jwt", "oauth-authz-req+jwt", "application/logout+jwt", "JWE", "id_token+jwt", "at+jwt2", "JWT "} {
		never = append(never, attack{name: "typ " + bad, tok: typ(bad)})
	}
	t.Run("any", func(t *testing.T) {
		t.Parallel()
		v := newVerifier(t, local(s, nil))
		runAttacks(t, v, append(slices.Concat(marks, never),
			attack{name: "typ at+jwt", tok: typ("at+jwt"), ok: true}, attack{name: "typ application/at+jwt", tok: typ("application/at+jwt"), ok: true},
			attack{name: "typ AT+JWT", tok: typ("AT+JWT"), ok: true}, attack{name: "typ jwt", tok: typ("jwt"), ok: true},
			attack{name: "typ absent", tok: typ(nil), ok: true}, attack{name: "typ JOSE", tok: typ("JOSE")},
			attack{name: "typ claim Bearer", tok: with(idp.Claims{"typ": "Bearer"}), ok: true}))
	})
	t.Run("access", func(t *testing.T) {
		t.Parallel()
		v := newVerifier(t, local(s, func(o *Issuer) { o.Use = UseAccess }))
		runAttacks(t, v, []attack{
			{name: "typ at+jwt", tok: typ("at+jwt"), ok: true}, {name: "typ JWT", tok: typ("JWT")},
			{name: "typ absent", tok: typ(nil)}, {name: "typ logout+jwt", tok: typ("logout+jwt")},
			{name: "nonce", tok: s.Sign(t, idp.With(s.Agent("a"), idp.Claims{"nonce": "n"}), map[string]any{"typ": "at+jwt"}), want: hintKind},
		})
	})
	t.Run("id", func(t *testing.T) {
		t.Parallel()
		v := newVerifier(t, local(s, func(o *Issuer) { o.Use = UseID }))
		tests := append([]attack{{name: "typ at+jwt", tok: typ("at+jwt")}}, never...)
		for _, m := range marks {
			tests = append(tests, attack{name: m.name, tok: m.tok, ok: true})
		}
		runAttacks(t, v, tests)
	})
	t.Run("ID-15 bound tokens on request", func(t *testing.T) {
		t.Parallel()
		v := newVerifier(t, local(s, func(o *Issuer) { o.InsecureIgnoreConfirmation = true }))
		runAttacks(t, v, []attack{{name: "cnf", tok: with(idp.Claims{"cnf": map[string]any{"jkt": "x"}}), ok: true}})
	})
}

func TestID22TokenIsNowhere(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, nil))
	good := s.Token(t, "a")
	// verify runs the canary over each refusal.
	for _, bad := range []string{
		good + ".x", good + "x", "Bearer " + good, good[:len(good)-1], good + "\n", strings.ToUpper(good),
		good[1:], strings.Replace(good, ".", "..", 1), "{" + good + "}", strings.ReplaceAll(good, ".", " "),
	} {
		if _, deny := verify(t, v, bad); deny == nil {
			t.Errorf("accepted %.20q...", bad)
		}
	}
}
