package identity

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gatebook/gatebook/internal/access"
)

// checkType applies the rules for "typ" (RFC 8725 section 3.11): a token made
// for another purpose is refused whatever else it says. It runs before the
// signature check and therefore gives no hint.
func (i *issuer) checkType(t *token) error {
	typ := strings.TrimPrefix(strings.ToLower(t.typ), "application/")
	switch {
	case typ == "at+jwt" && i.opts.Use != UseID:
		return nil
	case i.opts.Use == UseAccess:
		return fmt.Errorf("typ %s, want at+jwt", quote(t.typ))
	case typ == "", typ == "jwt", slices.Contains(i.types, typ):
		return nil
	}
	return fmt.Errorf("typ %s is not accepted", quote(t.typ))
}

// checkPurpose refuses tokens whose claims mark them as another thing: ID
// tokens of an interactive sign-in, refresh, logout and event tokens. Issuers
// sign them with the same keys.
func (i *issuer) checkPurpose(c map[string]any) *access.DenyError {
	if _, ok := c["events"]; ok {
		return refuse(hintKind, "a security event or logout token")
	}
	for _, name := range []string{"typ", "token_use"} { // Keycloak's and Cognito's marks
		s, ok := c[name].(string)
		if _, present := c[name]; present && !ok {
			return refuse(hintKind, "claim %q is not a text", name)
		}
		switch s = strings.ToLower(s); {
		case s == "", s == "bearer", s == "access", s == "jwt", s == "at+jwt":
		case s == "id" && i.opts.Use == UseID:
		default:
			return refuse(hintKind, "claim %q is %s", name, quote(s))
		}
	}
	if i.opts.Use != UseID {
		for _, name := range []string{"nonce", "at_hash", "c_hash"} {
			if _, ok := c[name]; ok {
				return refuse(hintKind, "an ID token (it has %q)", name)
			}
		}
	}
	if _, ok := c["cnf"]; ok && !i.opts.InsecureIgnoreConfirmation {
		return refuse(hintBound, `the token has "cnf"`)
	}
	return nil
}

// checkAudience checks "aud" and "azp".
func (i *issuer) checkAudience(c map[string]any) *access.DenyError {
	auds, err := audiences(c["aud"])
	if err != nil {
		return refuse(hintAudience, "aud: %w", err)
	}
	if !slices.ContainsFunc(auds, func(a string) bool { return slices.Contains(i.opts.Audiences, a) }) {
		return refuse(hintAudience, "aud: %s is not among the configured audiences", quote(strings.Join(auds, " ")))
	}
	party, present, err := authorizedParty(c)
	if err != nil {
		return refuse(hintParty, "%w", err)
	}
	if len(i.opts.AuthorizedParties) > 0 {
		if !present || !slices.Contains(i.opts.AuthorizedParties, party) {
			return refuse(hintParty, "azp: %s is not among the configured parties", quote(party))
		}
		return nil
	}
	if i.opts.Use == UseID && len(auds) > 1 && !slices.Contains(i.opts.Audiences, party) {
		return refuse(hintParty, "azp: %s: an ID token with several audiences needs one that is ours", quote(party))
	}
	return nil
}

func audiences(v any) ([]string, error) {
	switch a := v.(type) {
	case nil:
		return nil, errors.New("missing")
	case string:
		return []string{a}, nil
	case []any:
		out := make([]string, 0, len(a))
		for _, e := range a {
			s, ok := e.(string)
			if !ok {
				return nil, errors.New("not a list of texts")
			}
			out = append(out, s)
		}
		return out, nil
	}
	return nil, errors.New("neither a text nor a list")
}

// authorizedParty is the client that the token was issued to: "azp", or
// "client_id" of RFC 9068 where there is no "azp".
func authorizedParty(c map[string]any) (party string, present bool, err error) {
	for _, name := range []string{"azp", "client_id"} {
		v, ok := c[name]
		if !ok {
			continue
		}
		s, ok := v.(string)
		if !ok {
			return "", false, fmt.Errorf("claim %q is not a text", name)
		}
		return s, true, nil
	}
	return "", false, nil
}

// times are the times that a token states.
type times struct{ issued, expiry time.Time }

// checkTimes checks "exp", "nbf" and "iat".
func (i *issuer) checkTimes(c map[string]any, now time.Time) (times, *access.DenyError) {
	exp, ok, err := numericDate(c, "exp")
	if err != nil || !ok {
		return times{}, refuse(hintNone, "exp: %w", or(err, errMissing))
	}
	iat, hasIAT, err := numericDate(c, "iat")
	if err != nil {
		return times{}, refuse(hintNone, "iat: %w", err)
	}
	nbf, hasNBF, err := numericDate(c, "nbf")
	if err != nil {
		return times{}, refuse(hintNone, "nbf: %w", err)
	}
	soon := now.Add(i.opts.Skew)
	born := now
	if hasIAT {
		born = iat
	}
	switch {
	case !now.Before(exp):
		return times{}, refuse(hintExpired, "expired at %s", exp.UTC().Format(time.RFC3339))
	case hasNBF && nbf.After(soon):
		return times{}, refuse(hintNotYet, "not valid before %s", nbf.UTC().Format(time.RFC3339))
	case hasIAT && iat.After(soon):
		return times{}, refuse(hintNotYet, "issued in the future, at %s", iat.UTC().Format(time.RFC3339))
	case exp.Sub(born) > i.opts.MaxTokenLifetime:
		return times{}, refuse(hintLifetime, "lives %s, the limit is %s", exp.Sub(born).Round(time.Second), i.opts.MaxTokenLifetime)
	case i.opts.MaxTokenAge > 0 && !hasIAT:
		return times{}, refuse(hintLifetime, "iat: %w, and max_token_age is set", errMissing)
	case i.opts.MaxTokenAge > 0 && now.Sub(iat) > i.opts.MaxTokenAge:
		return times{}, refuse(hintLifetime, "issued %s ago, the limit is %s", now.Sub(iat).Round(time.Second), i.opts.MaxTokenAge)
	}
	return times{iat, exp}, nil
}

var errMissing = errors.New("missing")

// numericDate reads a NumericDate of RFC 7519 section 2, at most the year 9999
// so that no later sum overflows.
func numericDate(c map[string]any, name string) (time.Time, bool, error) {
	const most = 253402300799
	switch v := c[name].(type) {
	case nil:
		if _, present := c[name]; present {
			return time.Time{}, false, errors.New("null")
		}
		return time.Time{}, false, nil
	case int64:
		if v >= 0 && v <= most {
			return time.Unix(v, 0), true, nil
		}
	case float64:
		if v >= 0 && v <= most {
			sec, frac := math.Modf(v)
			return time.Unix(int64(sec), int64(frac*1e9)), true, nil
		}
	}
	return time.Time{}, false, errors.New("not a time in seconds")
}
