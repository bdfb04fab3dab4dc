package identity

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatebook/gatebook/internal/secret"
)

// A Side says whom an issuer vouches for.
type Side string

// Sides. Only people rule on tickets, and only agents open sessions.
const (
	Agents Side = "agents"
	People Side = "people"
)

// TokenUse says which tokens of an issuer are accepted.
type TokenUse string

// Token uses.
const (
	// UseAny accepts what is not recognisably another thing: a token with "typ"
	// at+jwt, JWT or none, without the marks of an ID, refresh or logout token.
	UseAny TokenUse = ""
	// UseAccess accepts access tokens of RFC 9068 only ("typ" at+jwt).
	UseAccess TokenUse = "access"
	// UseID accepts ID tokens too, for agents that have nothing else. An access
	// token that says so in its "typ" is refused.
	UseID TokenUse = "id"
)

// Limits of what may be configured.
const (
	defaultSkew     = 30 * time.Second
	maxSkew         = 5 * time.Minute
	defaultLifetime = 24 * time.Hour
	maxSession      = 7 * 24 * time.Hour
	maxKeyAge       = 24 * time.Hour
)

// Options configures a Verifier.
type Options struct {
	// Issuers are the trusted issuers. There must be at least one.
	Issuers []Issuer
}

// Issuer configures one trusted issuer. Name, For and Audiences have no
// default: an unset one is an error, never "anything goes".
type Issuer struct {
	// Name is the issuer's name in principals: lower case letters, digits, "-"
	// and "_".
	Name string
	// For says whom it vouches for.
	For Side
	// Preset fills URL, mappings and bindings for a known system: one of
	// Presets. Empty for any other OpenID Connect issuer.
	Preset string
	// URL is the issuer identifier, compared exactly with "iss". Where the
	// preset has none it is required.
	URL string
	// TrustDomain is the SPIFFE trust domain, such as "prod.example.com". It is
	// required by the spiffe preset and not allowed elsewhere.
	TrustDomain string
	// Audiences are accepted values of "aud"; a token needs one of them.
	Audiences []string
	// AuthorizedParties, when set, are the accepted clients: "azp" (or
	// "client_id" where there is no "azp") must be present and one of them.
	AuthorizedParties []string
	// Algorithms are the accepted signature algorithms. Empty means RS256,
	// ES256, PS256 and EdDSA, or what the spiffe preset's standard lists. "none" and HMAC cannot be configured.
	Algorithms []string
	// Use says which kinds of token are accepted.
	Use TokenUse

	// CA, when set, replaces the system's roots for requests to the issuer.
	CA secret.File
	// Keys, when set, is an offline JWK Set; the issuer is then never asked.
	Keys secret.File
	// Proxy is the outbound proxy for requests to the issuer (http, https or
	// socks5 URL). Empty means none; the environment is not read.
	Proxy string
	// RequestToken, when set, is sent as bearer token with requests to the
	// issuer's own host, for clusters that do not serve their keys to everybody.
	RequestToken secret.Ref
	// KeyRefresh is the age at which keys are fetched again when the issuer's
	// Cache-Control does not say. Zero means 15 minutes, and at most half of
	// KeyMaxAge, which also bounds what Cache-Control says.
	KeyRefresh time.Duration
	// KeyMaxAge is the age past which keys are not used any more, so that the
	// issuer's tokens are refused. Zero means one hour; at most 24.
	KeyMaxAge time.Duration
	// AllowLoopback lets requests to this issuer reach loopback addresses.
	AllowLoopback bool
	// InsecureHTTP lets requests to this issuer go over plain HTTP, to loopback
	// only; it needs AllowLoopback.
	InsecureHTTP bool

	// Principal is the CEL expression for the principal's name, over "claims".
	// Empty means the preset's, or claims.sub.
	Principal string
	// Groups is the CEL expression for the groups, a list of strings. Empty
	// means the preset's, or the "groups" claim, or none where it is absent.
	Groups string
	// Actor is the CEL expression for the actors, outermost first. Empty means
	// the chain of "act" claims (RFC 8693 section 4.1).
	Actor string
	// Owner is the CEL expression for the person behind the agent. Empty means
	// the preset's, or unknown.
	Owner string
	// Bindings are CEL conditions that must all hold, besides the preset's.
	Bindings []string

	// SessionLifetime, when set, bounds sessions from the verification on, in
	// place of the token's expiry. At most 7 days.
	SessionLifetime time.Duration
	// MaxTokenAge, when set, is the age by "iat" past which a token is not
	// accepted any more; "iat" is then required.
	MaxTokenAge time.Duration
	// MaxTokenLifetime bounds the time from "iat" (or from now, where there is
	// none) to "exp". Zero means 24 hours: a token for ever is a password.
	MaxTokenLifetime time.Duration
	// Skew is how far ahead "nbf" and "iat" may be. Zero means 30 seconds; at
	// most 5 minutes. "exp" gets none.
	Skew time.Duration
	// InsecureIgnoreConfirmation accepts tokens that are bound to a key or
	// certificate ("cnf"), although the binding cannot be checked here.
	InsecureIgnoreConfirmation bool
}

var (
	validName        = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	validTrustDomain = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,254}$`)
)

// withDefaults returns the options with preset and zero values filled in.
func (o Issuer) withDefaults() Issuer {
	if p, ok := presets()[o.Preset]; ok {
		o.URL = or(o.URL, p.url)
		o.Principal = or(o.Principal, p.principal)
		o.Groups = or(o.Groups, p.groups)
		o.Owner = or(o.Owner, p.owner)
		o.Bindings = slices.Concat(p.bindings, o.Bindings)
		if len(o.Algorithms) == 0 {
			o.Algorithms = p.algs
		}
		if o.Preset == spiffe {
			o.Bindings = slices.Concat(spiffeBindings(o.TrustDomain), o.Bindings)
		}
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = []string{"RS256", "ES256", "PS256", "EdDSA"}
	}
	if o.For == People { // what a person's sign-in yields
		o.Use = or(o.Use, UseID)
	}
	o.Principal = or(o.Principal, "claims.sub")
	o.Groups = or(o.Groups, "claims.?groups.orValue([])")
	o.Skew = or(o.Skew, defaultSkew)
	o.MaxTokenLifetime = or(o.MaxTokenLifetime, defaultLifetime)
	o.KeyMaxAge = or(o.KeyMaxAge, defaultKeyMaxAge)
	o.KeyRefresh = or(o.KeyRefresh, min(defaultRefresh, o.KeyMaxAge/2))
	return o
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// check returns all faults of the options, after withDefaults.
func (o *Issuer) check() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validName.MatchString(o.Name) {
		fault("name: %q: want lower case letters, digits, \"-\" and \"_\"", o.Name)
	}
	if o.For != Agents && o.For != People {
		fault("for: %q: want %q or %q", o.For, Agents, People)
	}
	if _, ok := presets()[o.Preset]; !ok && o.Preset != "" {
		fault("preset: %q is unknown; there are %s", o.Preset, strings.Join(Presets(), ", "))
	}
	if len(o.Audiences) == 0 || slices.Contains(o.Audiences, "") {
		fault("audience: required, and not empty: a token for anybody else must not open a session here")
	}
	if slices.Contains(o.AuthorizedParties, "") {
		fault("authorized_parties: an empty one")
	}
	for _, a := range o.Algorithms {
		if !slices.Contains(allAlgorithms[:], a) {
			fault("algorithms: %q cannot be accepted; there are %s", a, strings.Join(allAlgorithms[:], ", "))
		}
	}
	if o.Use != UseAny && o.Use != UseAccess && o.Use != UseID {
		fault("use: %q: want %q or %q or nothing", o.Use, UseAccess, UseID)
	}
	if o.For == People && o.Use != UseID {
		fault("use: %q: people sign in, and what proves that is an ID token", o.Use)
	}
	o.checkAddresses(fault)
	o.checkTimes(fault)
	return errors.Join(errs...)
}

func (o *Issuer) checkAddresses(fault func(string, ...any)) {
	u, err := url.Parse(o.URL)
	switch {
	case o.URL == "":
		fault("url: required")
	case err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(o.URL, "?#"):
		fault("url: %q: want an https URL without user, query and fragment", o.URL)
	case u.Scheme == "https", !o.Keys.IsZero():
	case u.Scheme != "http" || !o.InsecureHTTP || !isLoopbackHost(u.Hostname()):
		fault("url: %q: want https (plain http needs insecure_http and a loopback address)", o.URL)
	}
	if o.InsecureHTTP && !o.AllowLoopback {
		fault("insecure_http: needs allow_loopback, and reaches nothing else")
	}
	if o.Proxy != "" {
		p, err := url.Parse(o.Proxy)
		if err != nil || p.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, p.Scheme) {
			fault("proxy: want an http, https or socks5 URL")
		} else if p.User != nil {
			fault("proxy: a user in the URL would be a secret in the configuration")
		}
	}
	switch {
	case o.Preset == spiffe && !validTrustDomain.MatchString(o.TrustDomain):
		fault("trust_domain: %q: the spiffe preset needs one, such as prod.example.com", o.TrustDomain)
	case o.Preset != spiffe && o.TrustDomain != "":
		fault("trust_domain: for the spiffe preset only")
	}
}

func (o *Issuer) checkTimes(fault func(string, ...any)) {
	within := func(name string, d, least, most time.Duration) {
		if d < least || d > most {
			fault("%s: %s: want %s to %s", name, d, least, most)
		}
	}
	within("skew", o.Skew, 0, maxSkew)
	within("session_lifetime", o.SessionLifetime, 0, maxSession)
	within("key_max_age", o.KeyMaxAge, 2*minRefresh, maxKeyAge)
	within("key_refresh", o.KeyRefresh, minRefresh, o.KeyMaxAge/2)
	if o.MaxTokenAge < 0 || o.MaxTokenLifetime < 0 {
		fault("max_token_age, max_token_lifetime: not below zero")
	}
}
