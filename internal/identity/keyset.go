package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxTried bounds the signature checks that one token may cost where the
	// key id does not name one key.
	maxTried = 8
	// minRSA is the smallest RSA modulus accepted, in bits (RFC 7518 section 3.3).
	minRSA = 2048
)

// allAlgorithms are the signature algorithms that may be configured. All are
// asymmetric: with a shared secret the gateway itself could mint tokens.
var allAlgorithms = [...]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// key is one usable public key of a set.
type key struct {
	id  string
	alg string // "" for any that fits the key's type
	pub any
}

// keySet is an issuer's parsed key set, immutable.
type keySet struct {
	raw     []byte
	keys    []key
	skipped int
}

// wireKey holds the members of a JWK that are read. Certificates (x5c, x5u)
// are not: the key itself is what the issuer vouches for.
type wireKey struct {
	Kty string   `json:"kty,omitempty"`
	Kid string   `json:"kid,omitempty"`
	Alg string   `json:"alg,omitempty"`
	Use string   `json:"use,omitempty"`
	Ops []string `json:"key_ops,omitempty"`
	Crv string   `json:"crv,omitempty"`
	N   string   `json:"n,omitempty"`
	E   string   `json:"e,omitempty"`
	X   string   `json:"x,omitempty"`
	Y   string   `json:"y,omitempty"`
	D   string   `json:"d,omitempty"`
}

// parseKeySet reads a JWK Set. Keys that cannot be used (other type or use,
// too small, malformed, private) are skipped, as RFC 7517 section 5 asks; a
// set without any usable key is an error, so that an empty answer does not
// replace good keys. uses are the accepted values of "use" beside absence.
func parseKeySet(raw []byte, uses []string) (*keySet, error) {
	if _, err := decodeObject(raw); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, errors.New("key set: malformed")
	}
	s := &keySet{raw: bytes.Clone(raw)}
	for _, m := range doc.Keys {
		k, ok := parseKey(m, uses)
		if !ok {
			s.skipped++
			continue
		}
		s.keys = append(s.keys, k)
	}
	if len(s.keys) == 0 {
		return nil, fmt.Errorf("key set: none of its %d keys can be used", len(doc.Keys))
	}
	return s, nil
}

func parseKey(m json.RawMessage, uses []string) (key, bool) {
	var w wireKey
	if err := json.Unmarshal(m, &w); err != nil {
		return key{}, false
	}
	switch {
	case w.D != "", len(w.Kid) > maxKeyID, w.Use != "" && !slices.Contains(uses, w.Use),
		len(w.Ops) > 0 && !slices.Contains(w.Ops, "verify"):
		return key{}, false
	case w.Kty != "RSA" && w.Kty != "EC" && w.Kty != "OKP": // above all "oct", a shared secret
		return key{}, false
	}
	w.Ops, w.Use = nil, ""
	clean, err := json.Marshal(w)
	if err != nil {
		return key{}, false
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(clean); err != nil || !jwk.IsPublic() {
		return key{}, false
	}
	k := key{w.Kid, w.Alg, jwk.Key}
	usable := slices.ContainsFunc(allAlgorithms[:], k.fits)
	return k, usable
}

// fits reports whether a signature by alg can be one of this key: by the
// key's own "alg" where it has one, and always by its type and size.
func (k key) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch p := k.pub.(type) {
	case *rsa.PublicKey:
		return p.N.BitLen() >= minRSA && (strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS"))
	case *ecdsa.PublicKey:
		return alg == "ES256" && p.Curve == elliptic.P256() ||
			alg == "ES384" && p.Curve == elliptic.P384() ||
			alg == "ES512" && p.Curve == elliptic.P521()
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

var (
	errSignature  = errors.New("the signature does not verify")
	errUnknownKey = errors.New("no key of the issuer fits the token")
)

// verify checks the token's signature. errUnknownKey means that other keys
// may verify it, so that a refresh of the set makes sense; errSignature means
// that the very key that the token names does not.
func (s *keySet) verify(t *token) error {
	candidates, named := s.candidates(t)
	if len(candidates) == 0 {
		return errUnknownKey
	}
	sig, err := jose.ParseSignedCompact(t.compact, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(t.alg)})
	if err != nil {
		return errSignature // its text may quote the token
	}
	for _, k := range candidates {
		if payload, err := sig.Verify(k.pub); err == nil && bytes.Equal(payload, t.payload) {
			return nil
		}
	}
	if named {
		return errSignature
	}
	return errUnknownKey
}

// candidates lists the keys to try: those of the token's key id; else, where
// the token has no key id, all that fit; else those published without one.
func (s *keySet) candidates(t *token) (list []key, named bool) {
	for _, k := range s.keys {
		if t.hasKid && k.id == t.kid {
			named = true
			if k.fits(t.alg) {
				list = append(list, k)
			}
		}
	}
	if !named {
		for _, k := range s.keys {
			if (!t.hasKid || k.id == "") && k.fits(t.alg) {
				list = append(list, k)
			}
		}
	}
	return list[:min(len(list), maxTried)], named
}
