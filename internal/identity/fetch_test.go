package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatebook/gatebook/internal/netguard"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/testkit/idp"
)

func TestID04IssuerMisbehaves(t *testing.T) {
	t.Parallel()
	elsewhere := idp.Start(t)
	for _, tt := range []struct {
		name string
		mode idp.Mode
		want string
	}{
		{"down", idp.Down, "answers 503"}, {"1 GB", idp.Huge, "more than"}, {"no JSON", idp.Garbage, "malformed JSON"},
		{"redirect", idp.Redirect, "redirect to another host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := idp.Start(t)
			s.RedirectTo(elsewhere.URL())
			v := newVerifier(t, local(s, nil))
			s.SetMode(tt.mode)
			_, deny := verify(t, v, s.Token(t, "a"))
			if deny == nil || !errors.Is(deny, ErrNoKeys) || !strings.Contains(deny.Error(), tt.want) {
				t.Fatalf("got %v, want ErrNoKeys with %q", deny, tt.want)
			}
			if deny.Hint != "" {
				t.Errorf("hint %q before the signature was verified", deny.Hint)
			}
			if s.Sent() > 64<<20 {
				t.Errorf("%d bytes were taken", s.Sent())
			}
		})
	}
	t.Cleanup(func() {
		if elsewhere.Requests() != 0 {
			t.Error("a redirect to another host was followed")
		}
	})
}

func TestID04CachedKeysServeWhileDown(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, nil))
	if _, deny := verify(t, v, s.Token(t, "a")); deny != nil {
		t.Fatal(deny)
	}
	s.SetMode(idp.Down)
	if _, deny := verify(t, v, s.Token(t, "a")); deny != nil {
		t.Errorf("cached keys were not used: %v", deny)
	}
}

func TestID04DiscoveryOfAnotherIssuer(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(doc map[string]any){
		"other issuer":         func(d map[string]any) { d["issuer"] = "https://evil.example" },
		"slash":                func(d map[string]any) { d["issuer"] = d["issuer"].(string) + "/" },
		"no issuer":            func(d map[string]any) { delete(d, "issuer") },
		"no keys":              func(d map[string]any) { delete(d, "jwks_uri") },
		"keys in plain text":   func(d map[string]any) { d["jwks_uri"] = "http://keys.example/keys" },
		"keys in a file":       func(d map[string]any) { d["jwks_uri"] = "file:///etc/passwd" },
		"metadata service":     func(d map[string]any) { d["jwks_uri"] = "https://169.254.169.254/latest" },
		"metadata, mapped":     func(d map[string]any) { d["jwks_uri"] = "https://[::ffff:169.254.169.254]/" },
		"user in the address":  func(d map[string]any) { d["jwks_uri"] = "https://a:b@keys.example/" },
		"unspecified address":  func(d map[string]any) { d["jwks_uri"] = "https://0.0.0.0/" },
		"decimal IPv4 address": func(d map[string]any) { d["jwks_uri"] = "http://2130706433/keys" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := idp.Start(t)
			doc := map[string]any{"issuer": s.URL(), "jwks_uri": s.URL() + "/keys"}
			change(doc)
			s.Handle("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(doc) })
			v := newVerifier(t, local(s, nil))
			if _, deny := verify(t, v, s.Token(t, "a")); deny == nil || !errors.Is(deny, ErrNoKeys) {
				t.Errorf("got %v, want ErrNoKeys", deny)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	s.Handle("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/moved", http.StatusFound)
	})
	s.Handle("/moved", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": s.URL(), "jwks_uri": s.URL() + "/keys"})
	})
	v := newVerifier(t, local(s, nil))
	if _, deny := verify(t, v, s.Token(t, "a")); deny != nil {
		t.Errorf("a redirect on the same host: %v", deny)
	}
	s.Handle("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/moved", http.StatusFound) })
	if err := v.Probe(t.Context(), "ci"); err == nil || !strings.Contains(err.Error(), "more than 3 redirects") {
		t.Errorf("a loop: got %v", err)
	}
}

func TestID04LoopbackOnlyWhenAllowed(t *testing.T) {
	t.Parallel()
	s := idp.StartTLS(t)
	for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST.", "x.localhost"} {
		_, port, _ := strings.Cut(s.Addr().String(), ":")
		f := &fetcher{issuer: "https://" + host + ":" + port, ca: s.CA(t)}
		if _, _, err := f.fetch(t.Context()); !errors.Is(err, netguard.ErrAddress) {
			t.Errorf("%s: got %v, want the guard's refusal", host, err)
		}
	}
	if s.Requests() != 0 {
		t.Error("loopback was reached")
	}
}

func TestCheckAddr(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "192.168.1.1": true, "172.16.0.1": true, "8.8.8.8": true, "100.64.0.1": true, "fd12::1": true,
		"2001:4860:4860::8888": true, "64:ff9b::808:808": true,
		"169.254.169.254": false, "169.254.0.1": false, "fe80::1": false, "fe80::1%eth0": false, "febf::1": false, "fd00:ec2::254": false,
		"fd20:ce::254": false, "100.100.100.200": false, "192.0.0.192": false, "168.63.129.16": false,
		"224.0.0.1": false, "239.1.1.1": false, "ff02::1": false, "0.0.0.0": false, "0.1.2.3": false, "::": false, "255.255.255.255": false,
		"::ffff:169.254.169.254": false, "::ffff:127.0.0.1": false, "::ffff:100.100.100.200": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b::7f00:1": false,
		"2002:a9fe:a9fe::1": false, "2002:7f00:1::": false, "::169.254.169.254": false, "::127.0.0.1": false,
		"127.0.0.1": false, "127.9.9.9": false, "::1": false,
	} {
		if err := netguard.Check(netip.MustParseAddr(addr), addresses(false)); (err == nil) != want {
			t.Errorf("%s: got %v, want allowed = %t", addr, err, want)
		}
	}
	for _, addr := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		if err := netguard.Check(netip.MustParseAddr(addr), addresses(true)); err != nil {
			t.Errorf("%s with AllowLoopback: %v", addr, err)
		}
	}
	for _, addr := range []string{"169.254.169.254", "fe80::1", "0.0.0.0", "64:ff9b::7f00:1"} {
		if err := netguard.Check(netip.MustParseAddr(addr), addresses(true)); err == nil {
			t.Errorf("%s with AllowLoopback: allowed", addr)
		}
	}
	if err := netguard.Check(netip.Addr{}, addresses(true)); err == nil {
		t.Error("the zero address is allowed")
	}
}

func TestDialerChecksWhatANameResolvesTo(t *testing.T) {
	t.Parallel()
	l := httptest.NewServer(http.NotFoundHandler())
	defer l.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(l.URL, "http://"), ":")
	if c, err := netguard.Dialer(addresses(false)).DialContext(t.Context(), "tcp", "localhost:"+port); !errors.Is(err, netguard.ErrAddress) {
		t.Errorf("got %v, %v; want the guard's refusal", c, err)
	}
	c, err := netguard.Dialer(addresses(true)).DialContext(t.Context(), "tcp", "localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestProxy(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	var seen atomic.Value
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.URL.String())
		req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, r.URL.String(), nil)
		req.Close = true
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(w, resp.Body)
	}))
	defer p.Close()
	v := newVerifier(t, local(s, func(o *Issuer) { o.Proxy = p.URL }))
	if _, deny := verify(t, v, s.Token(t, "a")); deny != nil {
		t.Fatal(deny)
	}
	if got := fmt.Sprint(seen.Load()); got != s.URL()+"/keys" {
		t.Errorf("the proxy saw %s last", got)
	}
	proxy, _ := url.Parse(p.URL)
	f := &fetcher{issuer: "https://169.254.169.254", proxy: proxy}
	if _, _, err := f.fetch(t.Context()); !errors.Is(err, netguard.ErrAddress) {
		t.Errorf("a literal metadata address behind a proxy: %v", err)
	}
}

func TestRequestTokenStaysWithTheIssuer(t *testing.T) {
	t.Parallel()
	s, other := idp.Start(t), idp.Start(t)
	const canary = "canary-request-token"
	file := idp.WriteFile(t, "token", []byte(canary+"\n"))
	ref, err := secret.ParseRef(file.String(), "")
	if err != nil {
		t.Fatal(err)
	}
	var mine, theirs atomic.Value
	s.Handle("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		mine.Store(r.Header.Get("Authorization"))
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": s.URL(), "jwks_uri": other.URL() + "/k"})
	})
	other.Handle("/k", func(w http.ResponseWriter, r *http.Request) {
		theirs.Store(r.Header.Get("Authorization"))
		http.Error(w, "", http.StatusForbidden)
	})
	v := newVerifier(t, local(s, func(o *Issuer) { o.RequestToken = ref }))
	err = v.Probe(t.Context(), "ci")
	if err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("got %v, want the 403 without the token", err)
	}
	if mine.Load() != "Bearer "+canary || theirs.Load() != "" {
		t.Errorf("the issuer got %v, the other host %v", mine.Load(), theirs.Load())
	}
}

func TestKeyRotation(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, nil))
	old := s.Token(t, "a")
	if _, deny := verify(t, v, old); deny != nil {
		t.Fatal(deny)
	}
	s.RotateKey(t)
	if _, deny := verify(t, v, s.Token(t, "a")); deny != nil {
		t.Errorf("after the rotation: %v", deny)
	}
	if _, deny := verify(t, v, old); deny != nil {
		t.Errorf("the old key is still published: %v", deny)
	}
	if s.Fetches() != 2 {
		t.Errorf("got %d fetches, want 2", s.Fetches())
	}
	s.RotateKey(t) // within the same minute: the allowance is used up
	if _, deny := verify(t, v, s.Token(t, "a")); deny == nil || s.Fetches() != 2 {
		t.Errorf("got %v and %d fetches, want a refusal without a fetch", deny, s.Fetches())
	}
}

func TestConcurrentVerifyFetchesOnce(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, nil))
	good := secret.New(s.Token(t, "a"))
	bad := secret.New(s.Sign(t, s.Agent("a"), map[string]any{"kid": "nobody's"}))
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 8 {
				if _, err := v.Verify(t.Context(), good); err != nil {
					t.Error(err)
				}
				if _, err := v.Verify(t.Context(), bad); err == nil {
					t.Error("an unknown key was accepted")
				}
				_ = v.Status()
			}
		})
	}
	wg.Wait()
	if n := s.Fetches(); n > 2 {
		t.Errorf("got %d fetches, want the first and one for the unknown key", n)
	}
}

func TestUnknownIssuerCostsNoNetwork(t *testing.T) {
	t.Parallel()
	s, stranger := idp.Start(t), idp.Start(t)
	v := newVerifier(t, local(s, nil))
	if _, deny := verify(t, v, stranger.Token(t, "a")); deny == nil {
		t.Error("accepted")
	}
	if s.Requests()+stranger.Requests() != 0 {
		t.Error("a request was made")
	}
}

func TestCacheAge(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"": 0, "public": 0, "max-age=300": 5 * time.Minute, "public, Max-Age=300, must-revalidate": 5 * time.Minute,
		"max-age=0": minRefresh, "no-store": minRefresh, "no-cache, max-age=600": minRefresh, "max-age=x": 0, "max-age=-1": 0,
		`max-age="600"`: 10 * time.Minute, "max-age=99999999999999999999": 0, "s-maxage=600": 0,
	} {
		if got := cacheAge(header); got != want {
			t.Errorf("%q: got %s, want %s", header, got, want)
		}
	}
}

// TestKeys runs each kind of key through an offline set.
func TestKeys(t *testing.T) {
	t.Parallel()
	rsa2k, _ := rsa.GenerateKey(rand.Reader, 2048)
	ec := func(c elliptic.Curve) crypto.Signer { k, _ := ecdsa.GenerateKey(c, rand.Reader); return k }
	p256, p384, p521 := ec(elliptic.P256()), ec(elliptic.P384()), ec(elliptic.P521())
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	use := func(u string) func(*jose.JSONWebKey) { return func(k *jose.JSONWebKey) { k.Use = u } }
	tests := []struct {
		name   string
		key    crypto.Signer
		alg    string
		change func(*jose.JSONWebKey)
		ok     bool
	}{
		{"RSA", rsa2k, "RS256", nil, true}, {"P-256", p256, "ES256", nil, true}, {"P-384", p384, "ES384", nil, true},
		{"P-521", p521, "ES512", nil, true}, {"Ed25519", ed, "EdDSA", nil, true},
		{"no use", p256, "ES256", use(""), true}, {"use enc", p256, "ES256", use("enc"), false}, {"use jwt-svid", p256, "ES256", use("jwt-svid"), false},
		{"P-256 as ES384", p256, "ES384", nil, false}, {"P-384 as ES256", p384, "ES256", nil, false}, {"RSA as PS256", rsa2k, "PS256", nil, false},
		{"RSA as EdDSA", rsa2k, "EdDSA", nil, false}, {"EC as RS256", p256, "RS256", nil, false},
		{"key says another alg", rsa2k, "RS256", func(k *jose.JSONWebKey) { k.Algorithm = "PS256" }, false},
		{"key says this alg", rsa2k, "RS256", func(k *jose.JSONWebKey) { k.Algorithm = "RS256" }, true},
		{"other kid", p256, "ES256", func(k *jose.JSONWebKey) { k.KeyID = "other" }, false},
		{"private key published", p256, "ES256", func(k *jose.JSONWebKey) { k.Key = p256 }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set := idp.KeySet(t, func(k *jose.JSONWebKey) {
				k.KeyID = "k"
				if tt.change != nil {
					tt.change(k)
				}
			}, tt.key)
			offline(t, set, tt.key, map[string]any{"alg": tt.alg, "kid": "k"}, tt.ok)
		})
	}
	t.Run("no kid anywhere", func(t *testing.T) {
		t.Parallel()
		offline(t, idp.KeySet(t, nil, p384, p256, rsa2k), p256, map[string]any{"alg": "ES256"}, true)
	})
	t.Run("kid in the token only", func(t *testing.T) {
		t.Parallel()
		offline(t, idp.KeySet(t, nil, p256), p256, map[string]any{"alg": "ES256", "kid": "k"}, true)
	})
	t.Run("bounded tries", func(t *testing.T) {
		t.Parallel()
		var keys []crypto.Signer
		for range maxTried {
			keys = append(keys, ec(elliptic.P256()))
		}
		offline(t, idp.KeySet(t, nil, append(keys, p256)...), p256, map[string]any{"alg": "ES256"}, false)
		offline(t, idp.KeySet(t, nil, append(keys[1:], p256)...), p256, map[string]any{"alg": "ES256"}, true)
	})
	t.Run("junk beside a good key", func(t *testing.T) {
		t.Parallel()
		good := string(idp.KeySet(t, nil, p256))
		junk := strings.Replace(good, `{"keys":[`, `{"keys":[null,7,{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"new"},`, 1)
		offline(t, []byte(junk), p256, map[string]any{"alg": "ES256"}, true)
	})
	t.Run("small RSA", func(t *testing.T) {
		t.Parallel()
		if _, err := parseKeySet([]byte(`{"keys":[{"kty":"RSA","e":"AQAB","n":"`+strings.Repeat("_", 170)+`"}]}`), []string{"sig"}); err == nil {
			t.Error("a key of 1020 bits was accepted")
		}
	})
}

// offline verifies a token by a key against a set in a file.
func offline(t *testing.T, set []byte, k crypto.Signer, header map[string]any, ok bool) {
	t.Helper()
	v := newVerifier(t, Issuer{Name: "off", For: Agents, URL: "https://issuer.example", Audiences: []string{"gatebook"},
		Algorithms: allAlgorithms[:], Keys: idp.WriteFile(t, "keys.json", set)})
	h, _ := json.Marshal(header)
	p, _ := json.Marshal(idp.Claims{"iss": "https://issuer.example", "sub": "a", "aud": "gatebook", "exp": time.Now().Unix() + 60})
	_, deny := verify(t, v, idp.SignWith(t, k, h, p))
	if ok != (deny == nil) {
		t.Errorf("got %v, want accepted = %t", deny, ok)
	}
}

func TestOfflineFileIsReadAgain(t *testing.T) {
	t.Parallel()
	if _, _, err := fileKeys(secret.File{}, nil)(context.Background()); err == nil {
		t.Error("no file was accepted")
	}
	if _, _, err := fileKeys(idp.WriteFile(t, "k", []byte(`{"keys":[]}`)), nil)(t.Context()); err == nil || !strings.Contains(err.Error(), "offline keys") {
		t.Errorf("an empty set: %v", err)
	}
}
