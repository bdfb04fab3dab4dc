package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/gatebook/gatebook/internal/secret"
)

// Client is a registration at an issuer for people, for the authorization code flow (OpenID Connect Core 1.0 section 3.1) with
// PKCE (RFC 7636).
type Client struct {
	// Issuer is the configured name.
	Issuer string
	ID     string
	// Secret of the client, zero for a public one.
	Secret secret.Ref
	// Redirect is where the issuer sends the browser back to.
	Redirect string
}

// Request is what one sign-in asks the issuer for.
type Request struct {
	// State comes back with the answer; Nonce in the ID token.
	State, Nonce string
	// Verifier is PKCE's secret, from NewCodeVerifier.
	Verifier string
	// ACR lists what would do, in order of preference.
	ACR []string
	// MaxAge is how old the authentication may be; the issuer asks the person again beyond. Zero: the issuer decides.
	MaxAge time.Duration
	// Login asks the issuer to let the person authenticate again in any case.
	Login bool
}

// NewCodeVerifier returns a fresh secret for PKCE.
func NewCodeVerifier() string { return oauth2.GenerateVerifier() }

// endpointsAge is how long what discovery says of an issuer's addresses is used.
const endpointsAge = 5 * time.Minute

// endpoints caches where an issuer's people sign in. Safe for concurrent use.
type endpoints struct {
	f *fetcher

	mu     sync.Mutex
	at     time.Time
	failed time.Time
	err    error
	urls   oauth2.Endpoint
}

// get returns the addresses. Callers wait for each other: a crowd causes one request.
func (e *endpoints) get(ctx context.Context) (oauth2.Endpoint, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.at) < endpointsAge {
		return e.urls, nil
	}
	if time.Since(e.failed) < failurePause {
		return oauth2.Endpoint{}, e.err
	}
	urls, err := e.read(ctx)
	if err != nil {
		e.failed, e.err = time.Now(), err
		return oauth2.Endpoint{}, err
	}
	e.at, e.urls = time.Now(), urls
	return urls, nil
}

func (e *endpoints) read(ctx context.Context) (out oauth2.Endpoint, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	client, err := e.f.client()
	if err != nil {
		return out, err
	}
	d, err := e.f.discover(ctx, client)
	if err != nil {
		return out, fmt.Errorf("discovery: %w", err)
	}
	for name, into := range map[string]*string{"authorization_endpoint": &out.AuthURL, "token_endpoint": &out.TokenURL} {
		text, _ := d[name].(string)
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
			return out, fmt.Errorf("discovery: %s: %s is no usable address", name, quote(text))
		}
		if err := e.f.checkURL(u); err != nil {
			return out, fmt.Errorf("discovery: %s: %w", name, err)
		}
		*into = text
	}
	// OpenID Connect Discovery 1.0 section 3: the default is client_secret_basic.
	out.AuthStyle = oauth2.AuthStyleInHeader
	if methods, err := audiences(d["token_endpoint_auth_methods_supported"]); err == nil &&
		!slices.Contains(methods, "client_secret_basic") && slices.Contains(methods, "client_secret_post") {
		out.AuthStyle = oauth2.AuthStyleInParams
	}
	return out, nil
}

func (v *Verifier) peopleIssuer(name string) (*issuer, error) {
	for _, i := range v.list {
		if i.opts.Name != name || i.opts.For != People {
			continue
		}
		if i.ends == nil {
			return nil, fmt.Errorf("issuer %s has an offline key set, so nobody can sign in at it", name)
		}
		return i, nil
	}
	return nil, fmt.Errorf("%s is not an issuer for people", name)
}

func (v *Verifier) config(ctx context.Context, c *Client) (*issuer, *oauth2.Config, error) {
	i, err := v.peopleIssuer(c.Issuer)
	if err != nil {
		return nil, nil, err
	}
	urls, err := i.ends.get(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("issuer %s: %w", c.Issuer, err)
	}
	conf := &oauth2.Config{ClientID: c.ID, Endpoint: urls, RedirectURL: c.Redirect, Scopes: []string{"openid", "profile", "email"}}
	if c.Secret.IsZero() {
		conf.Endpoint.AuthStyle = oauth2.AuthStyleInParams // RFC 6749 section 3.2.1: a public client names itself
		return i, conf, nil
	}
	s, err := c.Secret.Load()
	if err != nil {
		return nil, nil, fmt.Errorf("issuer %s: client secret: %w", c.Issuer, err)
	}
	conf.ClientSecret = s.Reveal()
	return i, conf, nil
}

// AuthURL returns where a person's browser begins a sign-in.
func (v *Verifier) AuthURL(ctx context.Context, c *Client, r *Request) (string, error) {
	_, conf, err := v.config(ctx, c)
	if err != nil {
		return "", err
	}
	opts := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(r.Verifier), oauth2.SetAuthURLParam("nonce", r.Nonce)}
	if len(r.ACR) > 0 {
		opts = append(opts, oauth2.SetAuthURLParam("acr_values", strings.Join(r.ACR, " ")))
	}
	if r.MaxAge > 0 {
		opts = append(opts, oauth2.SetAuthURLParam("max_age", strconv.FormatInt(int64(r.MaxAge/time.Second), 10)))
	}
	if r.Login {
		opts = append(opts, oauth2.SetAuthURLParam("prompt", "login"))
	}
	return conf.AuthCodeURL(r.State, opts...), nil
}

// Redeem exchanges the code that the browser came back with for an ID token, and verifies that.
func (v *Verifier) Redeem(ctx context.Context, c *Client, r *Request, code string) (*SignIn, secret.String, error) {
	i, conf, err := v.config(ctx, c)
	if err != nil {
		return nil, secret.String{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	client, err := i.ends.f.client()
	if err != nil {
		return nil, secret.String{}, err
	}
	// A code or a secret that follows a redirect is one that somebody else may have.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return errors.New("the token endpoint redirects") }
	t, err := conf.Exchange(context.WithValue(ctx, oauth2.HTTPClient, client), code, oauth2.VerifierOption(r.Verifier))
	if err != nil {
		var answer *oauth2.RetrieveError
		if errors.As(err, &answer) { // its text quotes the whole answer
			err = fmt.Errorf("the token endpoint answers %d, %s", answer.Response.StatusCode, quote(answer.ErrorCode))
		}
		return nil, secret.String{}, fmt.Errorf("issuer %s: %w", c.Issuer, err)
	}
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return nil, secret.String{}, fmt.Errorf("issuer %s gave no ID token", c.Issuer)
	}
	tok := secret.New(raw)
	s, err := v.VerifyPerson(ctx, tok, r.Nonce)
	if err != nil {
		return nil, secret.String{}, err
	}
	if s.Issuer != c.Issuer {
		return nil, secret.String{}, fmt.Errorf("the token of issuer %s is of issuer %s", c.Issuer, s.Issuer)
	}
	return s, tok, nil
}

// IssuerURL returns the identifier of an issuer for people, "" if there is none of that name.
func (v *Verifier) IssuerURL(name string) string {
	for _, i := range v.list {
		if i.opts.Name == name && i.opts.For == People {
			return i.opts.URL
		}
	}
	return ""
}
