package evidence

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
)

// VerifyToken checks a compact JWS (RFC 7515) against a JWK Set (RFC 7517) and
// returns its payload and the RFC 7638 thumbprint (base64url of SHA-256) of
// the key that signed it. It checks the signature alone, not what the claims say.
func VerifyToken(token string, keySet []byte) (payload []byte, thumbprint string, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, "", errors.New("token: not a compact JWS")
	}
	var raw [3][]byte
	for i, p := range parts {
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil {
			return nil, "", fmt.Errorf("token: part %d: %w", i+1, err)
		}
	}
	var header struct {
		Alg  string          `json:"alg"`
		Kid  string          `json:"kid"`
		Crit json.RawMessage `json:"crit"`
	}
	if err := json.Unmarshal(raw[0], &header); err != nil || header.Crit != nil {
		return nil, "", fmt.Errorf("token: header not accepted: %v", err)
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(keySet, &set); err != nil {
		return nil, "", fmt.Errorf("key set: %w", err)
	}
	signed := []byte(parts[0] + "." + parts[1])
	for i := range set.Keys {
		k := &set.Keys[i]
		if header.Kid != "" && k.Kid != "" && k.Kid != header.Kid || k.Alg != "" && k.Alg != header.Alg || k.Use == "enc" {
			continue
		}
		if k.verify(header.Alg, signed, raw[2]) {
			return raw[1], k.thumbprint(), nil
		}
	}
	return nil, "", errors.New("token: no key of the issuer's set verifies the signature")
}

type jwk struct {
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Alg string `json:"alg"`
	Use string `json:"use"`
	Crv string `json:"crv"`
	N   string `json:"n"`
	E   string `json:"e"`
	X   string `json:"x"`
	Y   string `json:"y"`
}

// thumbprint returns the RFC 7638 thumbprint.
func (k *jwk) thumbprint() string {
	var text string
	switch k.Kty {
	case "RSA":
		text = fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`, k.E, k.N)
	case "EC":
		text = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, k.Crv, k.X, k.Y)
	default:
		text = fmt.Sprintf(`{"crv":%q,"kty":%q,"x":%q}`, k.Crv, k.Kty, k.X)
	}
	d := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(d[:])
}

func (k *jwk) verify(alg string, signed, sig []byte) bool {
	var digest []byte
	var hash crypto.Hash
	switch {
	case strings.HasSuffix(alg, "256"):
		d := sha256.Sum256(signed)
		digest, hash = d[:], crypto.SHA256
	case strings.HasSuffix(alg, "384"):
		d := sha512.Sum384(signed)
		digest, hash = d[:], crypto.SHA384
	case strings.HasSuffix(alg, "512"):
		d := sha512.Sum512(signed)
		digest, hash = d[:], crypto.SHA512
	}
	switch {
	case alg == "EdDSA" && k.Kty == "OKP" && k.Crv == "Ed25519":
		x := unb64(k.X)
		return len(x) == ed25519.PublicKeySize && ed25519.Verify(x, signed, sig)
	case len(digest) == 0:
		return false
	case strings.HasPrefix(alg, "RS") && k.Kty == "RSA":
		pub := k.rsa()
		return pub != nil && rsa.VerifyPKCS1v15(pub, hash, digest, sig) == nil
	case strings.HasPrefix(alg, "PS") && k.Kty == "RSA":
		pub := k.rsa()
		return pub != nil && rsa.VerifyPSS(pub, hash, digest, sig, nil) == nil
	case strings.HasPrefix(alg, "ES") && k.Kty == "EC":
		return k.ecdsa(alg, digest, sig)
	}
	return false
}

func (k *jwk) rsa() *rsa.PublicKey {
	n, e := new(big.Int).SetBytes(unb64(k.N)), new(big.Int).SetBytes(unb64(k.E))
	if n.BitLen() < 2048 || n.BitLen() > 16384 || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
		return nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}
}

// ecdsa verifies with the curve that the algorithm names (RFC 7518 section 3.4).
func (k *jwk) ecdsa(alg string, digest, sig []byte) bool {
	curves := map[string]struct {
		crv   string
		curve elliptic.Curve
	}{"ES256": {"P-256", elliptic.P256()}, "ES384": {"P-384", elliptic.P384()}, "ES512": {"P-521", elliptic.P521()}}
	c, ok := curves[alg]
	if !ok || k.Crv != c.crv {
		return false
	}
	size := (c.curve.Params().BitSize + 7) / 8
	x, y := unb64(k.X), unb64(k.Y)
	if len(x) != size || len(y) != size || len(sig) != 2*size {
		return false
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(c.curve, append(append([]byte{4}, x...), y...))
	if err != nil {
		return false
	}
	return ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:]))
}

func unb64(s string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}

// identity checks and files an identity entry: the token's own signature says
// whether the claims in the session are the issuer's.
func (b *Builder) identity(s *openSession, h *Header, body []byte) error {
	if body == nil {
		return nil
	}
	var v Identity
	if !b.decode(h, body, &v) {
		return nil
	}
	if sum([]byte(v.Token)) != v.TokenSHA256 {
		b.problem(IdentityProof, at(h.Index), "session %s: the token is not the one of its digest", s.id)
		return nil
	}
	payload, thumbprint, err := VerifyToken(v.Token, v.KeySet)
	switch {
	case err != nil:
		b.problem(IdentityProof, at(h.Index), "session %s: the issuer's signature does not hold: %v", s.id, err)
		return nil
	case !sameJSON(payload, v.Principal.Claims):
		b.problem(IdentityProof, at(h.Index), "session %s: the recorded claims are not those that the issuer signed", s.id)
		return nil
	case s.body != nil && !v.Renewal && (s.body.TokenSHA256 != v.TokenSHA256 || !sameJSON(payload, s.body.Principal.Claims)):
		b.problem(IdentityProof, at(h.Index), "session %s: the session's claims are not those that the issuer signed", s.id)
		return nil
	}
	if err := b.checkClaims(s, h, &v, payload); err != nil {
		return nil //nolint:nilerr // noted as a problem
	}
	if s.level == "asserted" {
		s.level = "issuer-signed"
	}
	doc := struct {
		Session    string `json:"session"`
		Index      uint64 `json:"index"`
		Thumbprint string `json:"key_thumbprint"`
		*Identity
	}{s.id.String(), h.Index, thumbprint, &v}
	text, err := json.MarshalIndent(&doc, "", "  ")
	if err != nil {
		return err
	}
	b.issuerKeys[v.Principal.IssuerURL+" "+thumbprint]++
	return b.sink.Append("data/identities/"+s.id.String()+"-"+fmt.Sprint(h.Index)+".json", append(text, '\n'))
}

// checkClaims compares what the gateway derived with what the issuer signed,
// as far as that does not depend on the configured mapping.
func (b *Builder) checkClaims(s *openSession, h *Header, v *Identity, payload []byte) error {
	var claims struct {
		Iss string  `json:"iss"`
		Sub string  `json:"sub"`
		Exp float64 `json:"exp"`
	}
	err := json.Unmarshal(payload, &claims)
	if err == nil && (claims.Iss != v.Principal.IssuerURL || claims.Sub != v.Principal.Subject || int64(claims.Exp) != v.TokenExpiry.Unix()) {
		err = errors.New("issuer, subject or expiry differ")
	}
	if err == nil && s.body != nil && (s.body.Principal.Issuer != v.Principal.Issuer || s.body.Principal.Name != v.Principal.Name ||
		s.body.Principal.Subject != v.Principal.Subject || s.body.Principal.IssuerURL != v.Principal.IssuerURL) {
		err = errors.New("the session names another principal")
	}
	if err != nil {
		b.problem(IdentityProof, at(h.Index), "session %s: the recorded identity is not the issuer's: %v", s.id, err)
	}
	return err
}

// sameJSON compares what two JSON texts say; numbers as they are written.
func sameJSON(a, b []byte) bool {
	decode := func(text []byte) (v any, err error) {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		err = dec.Decode(&v)
		return v, err
	}
	x, errX := decode(a)
	y, errY := decode(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}
