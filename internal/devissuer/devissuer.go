// Package devissuer is a small OpenID Connect issuer for development and
// tests: discovery, a key set, the client credentials grant for agents, and the authorization code flow for people. It is no
// issuer for production: it has no passwords, no consent and no storage, and its
// handler answers requests to loopback names only. Listeners that are not on
// loopback must not trust it; the caller sees to that.
//
// An Issuer is safe for concurrent use.
package devissuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"

	"github.com/gatebook/gatebook/internal/secret"
)

// DefaultLifetime is how long a token lives when Options does not say.
const DefaultLifetime = 10 * time.Minute

// Options configures an Issuer.
type Options struct {
	// URL is the issuer identifier: the loopback address where Handler serves,
	// without a trailing slash. Required.
	URL string
	// Clients may ask for tokens. None means that only Mint makes any.
	Clients []Client
	// People may sign in to clients that have redirects.
	People []Person
	// Signer is the signing key: ECDSA P-256, Ed25519 or RSA of at least 2048
	// bits. Nil means a fresh P-256 key, so that a restart makes earlier
	// tokens worthless.
	Signer crypto.Signer
	// Lifetime is how long tokens live. Zero means DefaultLifetime.
	Lifetime time.Duration
}

// Client is one agent that may ask for tokens.
type Client struct {
	// ID and Secret are what the agent authenticates with. Both are required.
	ID     string
	Secret secret.String
	// Subject is the "sub" of its tokens. Empty means ID.
	Subject string
	// Audiences are what it may ask tokens for; the first is the default. At
	// least one is required.
	Audiences []string
	// Groups is the "groups" claim, absent when empty.
	Groups []string
	// Claims are further claims. They cannot replace a registered one.
	Claims map[string]any
	// Redirects are where people may be sent back to after they signed in. A loopback address without a port stands for any port.
	Redirects []string
}

// Issuer makes tokens.
type Issuer struct {
	url      string
	clients  map[string]Client
	people   []Person
	lifetime time.Duration

	mu      sync.Mutex
	current *signingKey
	retired *signingKey // published, not used, nil before the first rotation
	codes   map[string]grant
}

type signingKey struct {
	signer jose.Signer
	public jose.JSONWebKey
}

// New checks the options and returns an Issuer.
func New(o Options) (*Issuer, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || strings.HasSuffix(o.URL, "/") || !loopback(u.Hostname()) {
		return nil, fmt.Errorf("development issuer: url %q: want a loopback URL without a trailing slash", o.URL)
	}
	i := &Issuer{url: o.URL, clients: map[string]Client{}, people: o.People, codes: map[string]grant{}, lifetime: o.Lifetime}
	if i.lifetime == 0 {
		i.lifetime = DefaultLifetime
	}
	for _, c := range o.Clients {
		switch _, dup := i.clients[c.ID]; {
		case c.ID == "" || c.Secret.IsZero() || len(c.Audiences) == 0:
			return nil, fmt.Errorf("development issuer: client %q: id, secret and audience are required", c.ID)
		case dup:
			return nil, fmt.Errorf("development issuer: client %q: listed twice", c.ID)
		}
		i.clients[c.ID] = c
	}
	return i, i.Rotate(o.Signer)
}

// URL returns the issuer identifier.
func (i *Issuer) URL() string { return i.url }

// Rotate makes signer the signing key, or a fresh P-256 key where it is nil.
// The key before it stays published, so that its tokens stay valid; the one
// before that is dropped.
func (i *Issuer) Rotate(signer crypto.Signer) error {
	k, err := newSigningKey(signer)
	if err != nil {
		return fmt.Errorf("development issuer: key: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.retired, i.current = i.current, k
	return nil
}

// Retire stops publishing the key before the current one.
func (i *Issuer) Retire() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.retired = nil
}

func newSigningKey(s crypto.Signer) (*signingKey, error) {
	if s == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		s = k
	}
	alg, err := algorithm(s.Public())
	if err != nil {
		return nil, err
	}
	pub := jose.JSONWebKey{Key: s.Public(), Algorithm: string(alg), Use: "sig"}
	print, err := pub.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	pub.KeyID = base64.RawURLEncoding.EncodeToString(print)
	key := jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: cryptosigner.Opaque(s), KeyID: pub.KeyID}}
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, err
	}
	return &signingKey{signer, pub}, nil
}

func algorithm(pub crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return jose.ES256, nil
		}
	case ed25519.PublicKey:
		return jose.EdDSA, nil
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return jose.RS256, nil
		}
	}
	return "", errors.New("want ECDSA P-256, Ed25519 or RSA of at least 2048 bits")
}

// Mint signs a token with exactly these claims over the defaults "iss", "iat",
// "nbf", "exp" and "jti". A claim whose value is nil removes its default.
func (i *Issuer) Mint(claims map[string]any) (string, error) {
	now := time.Now()
	all := map[string]any{
		"iss": i.url, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(i.lifetime).Unix(), "jti": rand.Text(),
	}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(all)
	if err != nil {
		return "", fmt.Errorf("development issuer: claims: %w", err)
	}
	i.mu.Lock()
	k := i.current
	i.mu.Unlock()
	sig, err := k.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("development issuer: sign: %w", err)
	}
	return sig.CompactSerialize()
}

// mintFor makes the token of a client's grant.
func (i *Issuer) mintFor(c Client, audience string) (string, error) {
	claims := maps.Clone(c.Claims)
	if claims == nil {
		claims = map[string]any{}
	}
	for _, registered := range []string{"iss", "iat", "nbf", "exp", "jti"} {
		delete(claims, registered)
	}
	if len(c.Groups) > 0 {
		claims["groups"] = c.Groups
	}
	claims["sub"], claims["aud"], claims["client_id"] = c.ID, audience, c.ID
	if c.Subject != "" {
		claims["sub"] = c.Subject
	}
	return i.Mint(claims)
}

// keySet returns the JWK Set to publish.
func (i *Issuer) keySet() jose.JSONWebKeySet {
	i.mu.Lock()
	defer i.mu.Unlock()
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.current.public}}
	if i.retired != nil {
		set.Keys = append(set.Keys, i.retired.public)
	}
	return set
}

// loopback reports whether a host names this machine without a lookup.
func loopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}
