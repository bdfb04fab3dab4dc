package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gatebook/gatebook/internal/netguard"
	"github.com/gatebook/gatebook/internal/secret"
)

const (
	// maxResponse bounds a discovery document or key set.
	maxResponse  = 1 << 20
	maxRedirects = 3
)

// fetcher gets one issuer's keys over HTTP. Connections are not kept: fetches
// are minutes apart, and an idle connection would outlive a change of the CA
// file or of the address.
type fetcher struct {
	issuer        string
	ca            secret.File // zero: the system's roots
	proxy         *url.URL    // nil: direct; the environment's proxy is never used
	requestToken  secret.Ref
	allowLoopback bool
	insecureHTTP  bool
	uses          []string
}

func (f *fetcher) fetch(ctx context.Context) (*keySet, time.Duration, error) {
	client, err := f.client()
	if err != nil {
		return nil, 0, err
	}
	d, err := f.discover(ctx, client)
	if err != nil {
		return nil, 0, fmt.Errorf("discovery: %w", err)
	}
	keysURL, _ := d["jwks_uri"].(string)
	raw, maxAge, err := f.get(ctx, client, keysURL)
	if err != nil {
		return nil, 0, fmt.Errorf("keys: %w", err)
	}
	set, err := parseKeySet(raw, f.uses)
	return set, maxAge, err
}

// discover reads the issuer's document (OpenID Connect Discovery 1.0 section 4).
func (f *fetcher) discover(ctx context.Context, client *http.Client) (map[string]any, error) {
	doc, _, err := f.get(ctx, client, strings.TrimSuffix(f.issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	d, err := decodeObject(doc)
	if err != nil {
		return nil, err
	}
	// Section 4.3: exactly, or one tenant answers for another.
	if iss, _ := d["issuer"].(string); iss != f.issuer {
		return nil, fmt.Errorf("the document is of issuer %s, want %s", quote(iss), quote(f.issuer))
	}
	return d, nil
}

func (f *fetcher) client() (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if !f.ca.IsZero() {
		pem, err := f.ca.Load()
		if err != nil {
			return nil, fmt.Errorf("issuer CA: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("issuer CA: %s: no certificate in it", f.ca)
		}
	}
	// A proxy is the operator's own address; the guard is for what names in
	// documents resolve to, and behind a proxy only the proxy resolves.
	dialer := netguard.Dialer(addresses(f.allowLoopback || f.proxy != nil))
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  func(*http.Request) (*url.URL, error) { return f.proxy, nil },
			DialContext:            dialer.DialContext,
			TLSClientConfig:        conf,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: checkRedirect,
	}, nil
}

// addresses are those that an issuer may have: corporate ones live in private ranges.
func addresses(loopback bool) netguard.Allow {
	return netguard.Allow{Loopback: loopback, Private: true}
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case req.URL.Scheme != first.Scheme || req.URL.Host != first.Host:
		return errors.New("redirect to another host refused")
	}
	return nil
}

// get fetches one document; maxAge is what Cache-Control says, or 0.
func (f *fetcher) get(ctx context.Context, c *http.Client, address string) (body []byte, maxAge time.Duration, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, 0, fmt.Errorf("%s is no usable address", quote(address))
	}
	if err := f.checkURL(u); err != nil {
		return nil, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("%s is no usable address", quote(address))
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gatebook")
	if err := f.authorize(req); err != nil {
		return nil, 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s answers %d", quote(address), resp.StatusCode)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", quote(address), err)
	}
	if len(body) > maxResponse {
		return nil, 0, fmt.Errorf("%s answers more than %d bytes", quote(address), maxResponse)
	}
	return body, cacheAge(resp.Header.Get("Cache-Control")), nil
}

// checkURL refuses addresses in plain text, and literal refused addresses
// even behind a proxy, where the dialer does not see them.
func (f *fetcher) checkURL(u *url.URL) error {
	if u.Scheme != "https" && (u.Scheme != "http" || !f.insecureHTTP || !isLoopbackHost(u.Hostname())) {
		return fmt.Errorf("%s is not https", quote(u.Redacted()))
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		return netguard.Check(a, addresses(f.allowLoopback))
	}
	if isLoopbackHost(u.Hostname()) && !f.allowLoopback {
		return fmt.Errorf("%w: %s is a loopback name (allow_loopback permits it)", netguard.ErrAddress, quote(u.Hostname()))
	}
	return nil
}

// authorize adds the operator's token for the issuer's documents (a cluster
// that does not serve them to everybody), for the issuer's own host only.
func (f *fetcher) authorize(req *http.Request) error {
	if f.requestToken.IsZero() {
		return nil
	}
	own, err := url.Parse(f.issuer)
	if err != nil || own.Host != req.URL.Host || own.Scheme != req.URL.Scheme {
		return nil //nolint:nilerr // the token goes to the issuer's own host alone
	}
	s, err := f.requestToken.Load()
	if err != nil {
		return fmt.Errorf("request token: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Reveal())
	return nil
}

// isLoopbackHost reports whether a host names this machine without a lookup.
func isLoopbackHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// cacheAge reads how long an answer may be kept; 0 when the header is silent.
func cacheAge(header string) time.Duration {
	for d := range strings.SplitSeq(strings.ToLower(header), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
		switch name {
		case "no-store", "no-cache":
			return minRefresh
		case "max-age":
			n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return 0
			}
			return max(time.Duration(n)*time.Second, minRefresh)
		}
	}
	return 0
}

// fileKeys reads an offline key set; the file counts as an issuer that is
// always reachable as long as it is there and readable.
func fileKeys(f secret.File, uses []string) fetchFunc {
	return func(context.Context) (*keySet, time.Duration, error) {
		raw, err := f.Load()
		if err != nil {
			return nil, 0, fmt.Errorf("offline keys: %w", err)
		}
		set, err := parseKeySet(raw, uses)
		if err != nil {
			return nil, 0, fmt.Errorf("offline keys: %s: %w", f, err)
		}
		return set, minRefresh, nil
	}
}
