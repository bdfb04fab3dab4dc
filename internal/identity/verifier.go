package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/expr"
	"github.com/gatebook/gatebook/internal/secret"
)

var _ enforce.Verifier = (*Verifier)(nil)

// issuer is one configured issuer, immutable but for its key cache.
type issuer struct {
	opts  Issuer
	types []string // values of "typ" beside the usual
	m     *mapping
	keys  *keyCache
	ends  *endpoints // nil where keys are offline
}

// Verifier verifies tokens against the configured issuers.
type Verifier struct {
	list   []*issuer          // as configured
	agents map[string]*issuer // by exact URL
	people map[string]*issuer // by exact URL
	cancel context.CancelCauseFunc
}

// New checks the options and builds a Verifier; all faults are reported at
// once. It does no I/O: an issuer that is down does not keep the gateway from
// starting. ctx is the lifetime of background fetches; Close ends them too.
func New(ctx context.Context, o Options) (*Verifier, error) {
	env, err := expr.Claims()
	if err != nil {
		return nil, err
	}
	if len(o.Issuers) == 0 {
		return nil, errors.New("issuers: none; nobody could ever connect")
	}
	base, cancel := context.WithCancelCause(ctx)
	v := &Verifier{agents: map[string]*issuer{}, people: map[string]*issuer{}, cancel: cancel}
	names := map[string]bool{}
	var errs []error
	for n, raw := range o.Issuers {
		i, err := newIssuer(base, env, raw)
		if err != nil {
			errs = append(errs, prefix(fmt.Sprintf("issuers[%d] %q", n, raw.Name), err))
			continue
		}
		side := v.agents
		if i.opts.For == People {
			side = v.people
		}
		if other, dup := side[i.opts.URL]; dup {
			errs = append(errs, fmt.Errorf("issuers[%d] %q: url: same as of %q, for the same side", n, raw.Name, other.opts.Name))
		}
		if names[i.opts.Name] {
			errs = append(errs, fmt.Errorf("issuers[%d] %q: name: used twice", n, raw.Name))
		}
		names[i.opts.Name] = true
		side[i.opts.URL] = i
		v.list = append(v.list, i)
	}
	if len(errs) > 0 {
		cancel(errClosed)
		return nil, errors.Join(errs...)
	}
	return v, nil
}

var errClosed = errors.New("the verifier is closed")

// prefix puts a place before each of several joined faults.
func prefix(place string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s: %w", place, err)
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, prefix(place, e))
	}
	return errors.Join(out...)
}

func newIssuer(base context.Context, env *expr.Env, raw Issuer) (*issuer, error) {
	o := raw.withDefaults()
	faults := o.check()
	m, err := compile(env, &o, len(raw.Bindings))
	if err == nil && faults == nil {
		err = checkRestricted(&o, m)
	}
	if err := errors.Join(faults, err); err != nil {
		return nil, err
	}
	p := presets()[o.Preset]
	uses := append([]string{"sig"}, p.uses...)
	i := &issuer{opts: o, types: p.types, m: m}
	if base == nil { // for what was recorded: no keys are ever asked for
		return i, nil
	}
	fetch := fileKeys(o.Keys, uses)
	if o.Keys.IsZero() {
		f := &fetcher{issuer: o.URL, ca: o.CA, requestToken: o.RequestToken, uses: uses,
			allowLoopback: o.AllowLoopback, insecureHTTP: o.InsecureHTTP}
		if o.Proxy != "" {
			if f.proxy, err = url.Parse(o.Proxy); err != nil {
				return nil, fmt.Errorf("proxy: %w", err)
			}
		}
		fetch, i.ends = f.fetch, &endpoints{f: f}
	}
	i.keys = &keyCache{fetch: fetch, refresh: o.KeyRefresh, maxAge: o.KeyMaxAge, base: base}
	return i, nil
}

// Close ends fetches under way and waits for them. Verifications after it are
// refused once they need keys.
func (v *Verifier) Close() {
	v.cancel(errClosed)
	for _, i := range v.list {
		i.keys.close()
	}
}

// Verify implements enforce.Verifier. Only issuers for agents are asked.
func (v *Verifier) Verify(ctx context.Context, tok secret.String) (*enforce.Verified, error) {
	r, deny := v.verify(ctx, tok)
	if deny != nil {
		return nil, deny
	}
	return r, nil
}

// Renew implements enforce.Verifier. The fresh token is verified like any
// other and must be of the same issuer, subject and name as old.
func (v *Verifier) Renew(ctx context.Context, old *access.Principal, tok secret.String) (*enforce.Verified, error) {
	r, deny := v.verify(ctx, tok)
	if deny != nil {
		return nil, deny
	}
	p := &r.Principal
	if p.Issuer != old.Issuer || p.IssuerURL != old.IssuerURL || p.Subject != old.Subject || p.Name != old.Name {
		return nil, refuse(hintOther, "renewal of %s by a token of %s", quote(old.ID()), quote(p.ID()))
	}
	return r, nil
}

func (v *Verifier) verify(ctx context.Context, tok secret.String) (*enforce.Verified, *access.DenyError) {
	i, t, set, deny := v.authentic(ctx, tok, Agents)
	if deny != nil {
		return nil, deny
	}
	p, deny := i.principal(t, time.Now())
	if deny != nil {
		deny.Cause = fmt.Errorf("issuer %s: %w", i.opts.Name, deny.Cause)
		return nil, deny
	}
	return &enforce.Verified{Principal: *p, Token: tok, KeySet: set.raw}, nil
}

// authentic reads a token and checks that an issuer of one side signed it. Its claims are not checked yet.
func (v *Verifier) authentic(ctx context.Context, tok secret.String, side Side) (*issuer, *token, *keySet, *access.DenyError) {
	t, err := parseToken(tok.Reveal())
	if err != nil {
		return nil, nil, nil, refuse(hintNone, "%w", err)
	}
	i, err := v.issuerOf(t, side)
	if err != nil {
		return nil, nil, nil, refuse(hintNone, "%w", err)
	}
	if err := i.checkHeader(t); err != nil {
		return nil, nil, nil, refuse(hintNone, "%w", err)
	}
	set, err := i.checkSignature(ctx, t)
	if err != nil {
		return nil, nil, nil, refuse(hintNone, "issuer %s: %w", i.opts.Name, err)
	}
	return i, t, set, nil
}

// checkHeader checks what a token says of itself before its signature is looked at.
func (i *issuer) checkHeader(t *token) error {
	if !slices.Contains(i.opts.Algorithms, t.alg) {
		return fmt.Errorf("issuer %s: algorithm %s is not accepted", i.opts.Name, quote(t.alg))
	}
	if err := i.checkType(t); err != nil {
		return fmt.Errorf("issuer %s: %w", i.opts.Name, err)
	}
	return nil
}

// issuerOf selects by the exact "iss": no case folding, no trailing slash.
func (v *Verifier) issuerOf(t *token, side Side) (*issuer, error) {
	iss, ok := t.claims["iss"].(string)
	if !ok {
		return nil, errors.New("iss: missing or not a text")
	}
	list, others, what := v.agents, v.people, "for people, and people do not open sessions"
	if side == People {
		list, others, what = v.people, v.agents, "for agents, and agents never rule"
	}
	if i, ok := list[iss]; ok {
		return i, nil
	}
	if i, ok := others[iss]; ok {
		return nil, fmt.Errorf("iss: issuer %s is %s", i.opts.Name, what)
	}
	return nil, fmt.Errorf("iss: %s is not a configured issuer", quote(iss))
}

// checkSignature verifies with the cached keys and, where none of them fits,
// once more with newer ones. It returns the set that verified.
func (i *issuer) checkSignature(ctx context.Context, t *token) (*keySet, error) {
	set, err := i.keys.current(ctx)
	if err != nil {
		return nil, err
	}
	if err = set.verify(t); err == nil {
		return set, nil
	}
	if !errors.Is(err, errUnknownKey) {
		return nil, err
	}
	if set = i.keys.newer(ctx, set); set == nil {
		return nil, err
	}
	if err = set.verify(t); err != nil {
		return nil, err
	}
	return set, nil
}

// principal checks the claims of a token whose signature holds.
func (i *issuer) principal(t *token, now time.Time) (*access.Principal, *access.DenyError) {
	c := t.claims
	when, deny := i.checkTimes(c, now)
	if deny != nil {
		return nil, deny
	}
	if deny := i.checkPurpose(c); deny != nil {
		return nil, deny
	}
	if deny := i.checkAudience(c); deny != nil {
		return nil, deny
	}
	sub, ok := c["sub"].(string)
	if !ok {
		return nil, refuse(hintClaims, "sub: missing or not a text")
	}
	if err := checkText(sub, maxNameLen); err != nil {
		return nil, refuse(hintClaims, "sub: %w", err)
	}
	jti, ok := c["jti"].(string)
	if _, present := c["jti"]; present && !ok {
		return nil, refuse(hintClaims, "jti: not a text")
	}
	p := &access.Principal{
		Issuer: i.opts.Name, IssuerURL: i.opts.URL, Subject: sub, Claims: json.RawMessage(t.payload),
		TokenID: jti, IssuedAt: when.issued, TokenExpiry: when.expiry,
		SessionEnd: when.expiry, LifetimeRule: access.LifetimeToken,
	}
	if i.opts.SessionLifetime > 0 {
		p.SessionEnd, p.LifetimeRule = now.Add(i.opts.SessionLifetime), access.LifetimeIssuer
	}
	if err := i.m.apply(p, c); err != nil {
		return nil, refuse(hintClaims, "%w", err)
	}
	return p, nil
}
