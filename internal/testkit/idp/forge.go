package idp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"maps"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
)

// Claims are a token's claims.
type Claims = map[string]any

// With returns a copy with the changes; a nil value removes a claim.
func With(c, changes Claims) Claims {
	out := maps.Clone(c)
	maps.Copy(out, changes)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}

// Agent returns the claims of an ordinary token of this issuer.
func (s *Server) Agent(sub string, groups ...string) Claims {
	now := time.Now()
	c := Claims{
		"iss": s.URL(), "sub": sub, "aud": Audience, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}
	if len(groups) > 0 {
		c["groups"] = groups
	}
	return c
}

// Token returns a good token for an agent.
func (s *Server) Token(tb testing.TB, sub string, groups ...string) string {
	tb.Helper()
	return s.Sign(tb, s.Agent(sub, groups...), nil)
}

// Sign signs exactly these claims with the issuer's key; header members are
// added to, or replace, "alg", "kid" and "typ", and a nil one removes.
func (s *Server) Sign(tb testing.TB, claims Claims, header map[string]any) string {
	tb.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		tb.Fatal(err)
	}
	return s.SignRaw(tb, payload, header)
}

// SignRaw is Sign for payload bytes that json.Marshal would not make.
func (s *Server) SignRaw(tb testing.TB, payload []byte, header map[string]any) string {
	tb.Helper()
	h, err := json.Marshal(s.header(header))
	if err != nil {
		tb.Fatal(err)
	}
	return s.SignBytes(tb, h, payload)
}

// SignBytes signs these very header and payload bytes with the issuer's key.
func (s *Server) SignBytes(tb testing.TB, header, payload []byte) string {
	tb.Helper()
	s.mu.Lock()
	k := s.signer
	s.mu.Unlock()
	return SignWith(tb, k, header, payload)
}

func (s *Server) header(changes map[string]any) map[string]any {
	return With(map[string]any{"alg": "ES256", "typ": "JWT", "kid": s.KeyID()}, changes)
}

// KeyID returns the id of the signing key.
func (s *Server) KeyID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	print, err := (&jose.JSONWebKey{Key: s.signer.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		panic("idp: thumbprint of our own key: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(print)
}

// KeySetBytes returns the issuer's present key set, for an offline file.
func (s *Server) KeySetBytes(tb testing.TB) []byte {
	tb.Helper()
	s.mu.Lock()
	k := s.signer
	s.mu.Unlock()
	id := s.KeyID()
	return KeySet(tb, func(j *jose.JSONWebKey) { j.KeyID = id }, k)
}

// PublicPEM returns the public key, what an attacker uses as an HMAC secret.
func (s *Server) PublicPEM(tb testing.TB) []byte {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	der, err := x509.MarshalPKIXPublicKey(s.signer.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Unsigned returns a token with "alg" as given and this signature.
func (s *Server) Unsigned(tb testing.TB, claims Claims, alg string, sig []byte) string {
	tb.Helper()
	return s.input(tb, claims, alg) + "." + b64(sig)
}

// HMAC returns a token signed with HS256 under the secret.
func (s *Server) HMAC(tb testing.TB, claims Claims, alg string, key []byte) string {
	tb.Helper()
	in := s.input(tb, claims, alg)
	m := hmac.New(sha256.New, key)
	_, _ = io.WriteString(m, in)
	return in + "." + b64(m.Sum(nil))
}

func (s *Server) input(tb testing.TB, claims Claims, alg string) string {
	tb.Helper()
	h, err := json.Marshal(s.header(map[string]any{"alg": alg}))
	if err != nil {
		tb.Fatal(err)
	}
	p, err := json.Marshal(claims)
	if err != nil {
		tb.Fatal(err)
	}
	return b64(h) + "." + b64(p)
}

// SignWith signs header and payload with any key, by the algorithm that fits
// the key, whatever the header says.
func SignWith(tb testing.TB, k crypto.Signer, header, payload []byte) string {
	tb.Helper()
	in := b64(header) + "." + b64(payload)
	var alg jose.SignatureAlgorithm
	switch p := k.Public().(type) {
	case *ecdsa.PublicKey:
		alg = map[elliptic.Curve]jose.SignatureAlgorithm{elliptic.P256(): jose.ES256, elliptic.P384(): jose.ES384, elliptic.P521(): jose.ES512}[p.Curve]
	case ed25519.PublicKey:
		alg = jose.EdDSA
	case *rsa.PublicKey:
		alg = jose.RS256
	}
	sig, err := cryptosigner.Opaque(k).SignPayload([]byte(in), alg)
	if err != nil {
		tb.Fatal(err)
	}
	return in + "." + b64(sig)
}

// KeySet returns a JWK Set of public keys; the callback may change each.
func KeySet(tb testing.TB, change func(*jose.JSONWebKey), keys ...crypto.Signer) []byte {
	tb.Helper()
	var set jose.JSONWebKeySet
	for _, k := range keys {
		j := jose.JSONWebKey{Key: k.Public(), Use: "sig"}
		if change != nil {
			change(&j)
		}
		set.Keys = append(set.Keys, j)
	}
	b, err := json.Marshal(set)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func newKey(tb testing.TB) crypto.Signer {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func discard() *log.Logger { return log.New(io.Discard, "", 0) }
