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
	"io"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"time"
)

// VerifyToken checks a compact JWS (RFC 7515) against a JWK Set (RFC 7517) and
// returns its payload and the RFC 7638 thumbprint (base64url of SHA-256) of
// the key that signed it. It checks the signature alone, not what the claims say.
func VerifyToken(token string, keySet []byte) (payload []byte, thumbprint string, err error) {
	if strings.Count(token, ".") != 2 {
		return nil, "", errors.New("token: not a compact JWS")
	}
	parts := strings.Split(token, ".")
	if strings.ContainsAny(token, "\r\n") { // the decoder would pass over them
		return nil, "", errors.New("token: not a compact JWS")
	}
	var raw [3][]byte
	for i, p := range parts {
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil {
			return nil, "", fmt.Errorf("token: part %d: %w", i+1, err)
		}
	}
	fields, err := members(raw[0])
	if err != nil {
		return nil, "", fmt.Errorf("token: header: %w", err)
	}
	var header struct{ Alg, Kid string }
	for name, into := range map[string]*string{"alg": &header.Alg, "kid": &header.Kid} {
		if text, ok := fields[name]; ok && json.Unmarshal(text, into) != nil {
			return nil, "", fmt.Errorf("token: header: %s is not a text", name)
		}
	}
	for _, name := range []string{"crit", "b64"} { // they change what is signed (RFC 7515 section 4.1.11, RFC 7797)
		if _, ok := fields[name]; ok {
			return nil, "", fmt.Errorf("token: header: %s is not accepted", name)
		}
	}
	if _, err := members(raw[1]); err != nil {
		return nil, "", fmt.Errorf("token: claims: %w", err)
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(keySet, &set); err != nil {
		return nil, "", fmt.Errorf("key set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, "", fmt.Errorf("key set: %d keys, at most %d are tried", len(set.Keys), maxKeys)
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

// maxKeys bounds the keys of a set that are tried.
const maxKeys = 1000

// members reads a JSON object and refuses one that has a name twice: readers
// do not agree on which of the two counts. Names are compared as they are
// written, unlike encoding/json does for struct fields.
func members(text []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	m := make(map[string]json.RawMessage)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		key, _ := name.(string)
		if _, twice := m[key]; twice {
			return nil, fmt.Errorf("%q is there twice", shortName(key))
		}
		m[key] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return m, nil
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
	if alg == "EdDSA" || alg == "Ed25519" {
		x := unb64(k.X)
		return k.Kty == "OKP" && k.Crv == "Ed25519" && len(x) == ed25519.PublicKeySize && ed25519.Verify(x, signed, sig)
	}
	if len(alg) != 5 {
		return false
	}
	var digest []byte
	var hash crypto.Hash
	switch alg[2:] {
	case "256":
		d := sha256.Sum256(signed)
		digest, hash = d[:], crypto.SHA256
	case "384":
		d := sha512.Sum384(signed)
		digest, hash = d[:], crypto.SHA384
	case "512":
		d := sha512.Sum512(signed)
		digest, hash = d[:], crypto.SHA512
	default:
		return false
	}
	switch alg[:2] + " " + k.Kty { // never "HS": a public key is no secret
	case "RS RSA":
		pub := k.rsa()
		return pub != nil && rsa.VerifyPKCS1v15(pub, hash, digest, sig) == nil
	case "PS RSA": // RFC 7518 section 3.5: the salt is as long as the hash
		pub := k.rsa()
		return pub != nil && rsa.VerifyPSS(pub, hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case "ES EC":
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
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil
	}
	return b
}

// heldToken is what is remembered of a token until the range's last time is known.
type heldToken struct {
	index   uint64
	session ID
	expiry  time.Time
}

// tokens checks that a token is in the package exactly if it had expired when
// the range was closed.
func (b *Builder) tokens() {
	if t := b.earliest; t != nil && !t.expiry.IsZero() && t.expiry.Before(b.last) {
		b.problem(Completeness, at(t.index), "session %s: its token is withheld as not expired, but it had expired at %s, before the range's end",
			t.session, t.expiry.UTC().Format(time.RFC3339))
	}
	if t := b.latest; t != nil && !t.expiry.Before(b.last) {
		b.exception(t.index, "token-disclosed", "session %s: its token is in the package although it had not expired when the range was closed", t.session)
	}
}

// identity checks and files an identity entry: the token's own signature says
// whether the claims in the session are the issuer's.
func (b *Builder) identity(s *openSession, h *Header, body []byte, reason string) error {
	first := !s.identified
	s.identified = true
	if body == nil {
		// What is not here is not proven, whatever the session's other tokens say.
		s.unproven = true
		if s.level == "issuer-signed" {
			s.level = "asserted"
		}
		if first && reason == WithheldToken && s.body != nil && (b.earliest == nil || s.body.TokenExpiry.Before(b.earliest.expiry)) {
			b.earliest = &heldToken{index: h.Index, session: s.id, expiry: s.body.TokenExpiry}
		}
		return nil
	}
	var v Identity
	if !b.decode(h, body, &v) {
		return nil
	}
	if v.Renewal == first {
		b.problem(IdentityProof, at(h.Index), "session %s: the first token is a log-in's and every other one a renewal's, this one is not", s.id)
		return nil
	}
	if b.latest == nil || v.TokenExpiry.After(b.latest.expiry) {
		b.latest = &heldToken{index: h.Index, session: s.id, expiry: v.TokenExpiry}
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
	case s.body != nil && first && (s.body.TokenSHA256 != v.TokenSHA256 || !sameJSON(payload, s.body.Principal.Claims)):
		b.problem(IdentityProof, at(h.Index), "session %s: the session's claims are not those that the issuer signed", s.id)
		return nil
	}
	if err := b.checkClaims(s, h, &v, payload, first); err != nil {
		return nil //nolint:nilerr // noted as a problem
	}
	if s.level == "asserted" && !s.unproven {
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
func (b *Builder) checkClaims(s *openSession, h *Header, v *Identity, payload []byte, first bool) error {
	claims, err := members(payload)
	var iss, sub string
	var exp float64
	for name, into := range map[string]any{"iss": &iss, "sub": &sub, "exp": &exp} {
		if err == nil && json.Unmarshal(claims[name], into) != nil {
			err = fmt.Errorf("the token has no good claim %q", name)
		}
	}
	p := &v.Principal
	switch {
	case err != nil:
	case iss != p.IssuerURL || sub != p.Subject || int64(exp) != v.TokenExpiry.Unix():
		err = errors.New("issuer, subject or expiry differ")
	case p.Issuer != v.Issuer || p.ActorID != h.Actor.String():
		err = errors.New("the entry names two issuers or two principals")
	case s.body == nil:
	case s.body.Principal.Issuer != p.Issuer || s.body.Principal.Name != p.Name || s.body.Principal.Subject != p.Subject ||
		s.body.Principal.IssuerURL != p.IssuerURL:
		err = errors.New("the session names another principal")
	case first && (!slices.Equal(s.body.Principal.Groups, p.Groups) || !slices.Equal(s.body.Principal.Actor, p.Actor) ||
		s.body.Principal.Owner != p.Owner || !s.body.TokenExpiry.Equal(v.TokenExpiry) || !s.body.SessionEnd.Equal(v.SessionEnd)):
		err = errors.New("groups, actors, owner or expiry differ between the session and its token's entry")
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
		if err = dec.Decode(&v); err == nil {
			if _, more := dec.Token(); !errors.Is(more, io.EOF) {
				err = errors.New("something follows the value")
			}
		}
		return v, err
	}
	x, errX := decode(a)
	y, errY := decode(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}
