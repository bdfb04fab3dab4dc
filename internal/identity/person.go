package identity

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/expr"
	"github.com/gatebook/gatebook/internal/secret"
)

// SignIn is what an ID token of an issuer for people proves.
type SignIn struct {
	// Issuer is the configured name; Name is the person's at that issuer.
	Issuer, Name string
	// AuthTime is when the person authenticated ("auth_time"), zero if the issuer does not say.
	AuthTime time.Time
	// ACR and AMR are how ("acr", "amr"; OpenID Connect Core 1.0 section 2).
	ACR string
	AMR []string
	// Nonce that the token was made for, "" for none.
	Nonce string
	// Expiry is when the token ends.
	Expiry time.Time
	// KeySet is the issuer's key set that verified, as it was received.
	KeySet []byte
}

// Identity returns the person's identity, "issuer|name".
func (s *SignIn) Identity() string { return s.Issuer + "|" + s.Name }

// VerifyPerson verifies an ID token of an issuer for people. Where nonce is not empty, the token must have been made for exactly
// that nonce. Errors are *access.DenyError.
func (v *Verifier) VerifyPerson(ctx context.Context, tok secret.String, nonce string) (*SignIn, error) {
	i, t, set, deny := v.authentic(ctx, tok, People)
	if deny != nil {
		return nil, deny
	}
	s, deny := i.signIn(t, nonce, time.Now())
	if deny != nil {
		deny.Cause = fmt.Errorf("issuer %s: %w", i.opts.Name, deny.Cause)
		return nil, deny
	}
	s.KeySet = set.raw
	return s, nil
}

// signIn checks the claims of an ID token whose signature holds.
func (i *issuer) signIn(t *token, nonce string, now time.Time) (*SignIn, *access.DenyError) {
	p, deny := i.principal(t, now)
	if deny != nil {
		return nil, deny
	}
	if p.IssuedAt.IsZero() { // OpenID Connect Core 1.0 section 2
		return nil, refuse(hintKind, "iat: %w", errMissing)
	}
	got, ok := t.claims["nonce"].(string)
	if _, present := t.claims["nonce"]; present && !ok {
		return nil, refuse(hintClaims, "nonce: not a text")
	}
	if nonce != "" && subtle.ConstantTimeCompare([]byte(got), []byte(nonce)) != 1 {
		return nil, refuse(hintNonce, "nonce: %s is not the one that was asked for", quote(got))
	}
	s := &SignIn{Issuer: p.Issuer, Name: p.Name, Nonce: got, Expiry: p.TokenExpiry}
	var err error
	if s.AuthTime, _, err = numericDate(t.claims, "auth_time"); err != nil {
		return nil, refuse(hintClaims, "auth_time: %w", err)
	}
	if s.AuthTime.After(now.Add(i.opts.Skew)) {
		return nil, refuse(hintClaims, "auth_time: in the future, at %s", s.AuthTime.UTC().Format(time.RFC3339))
	}
	if s.ACR, s.AMR, err = how(t.claims); err != nil {
		return nil, refuse(hintClaims, "%w", err)
	}
	return s, nil
}

// how reads the ways in which a person authenticated.
func how(claims map[string]any) (acr string, amr []string, err error) {
	if v, ok := claims["acr"]; ok {
		if acr, ok = v.(string); !ok {
			return "", nil, errors.New("acr: not a text")
		}
	}
	if v, ok := claims["amr"]; ok {
		if amr, err = audiences(v); err != nil { // the same shape: a text or a list of texts
			return "", nil, fmt.Errorf("amr: %w", err)
		}
	}
	return acr, amr, nil
}

// Reexamine verifies an ID token again, as of a time in the past, with the key set that was recorded with it. o is the issuer as
// it was configured then; files that it names are not read.
func Reexamine(o Issuer, tok string, keySet []byte, nonce string, at time.Time) (*SignIn, error) {
	env, err := expr.Claims()
	if err != nil {
		return nil, err
	}
	if o.For != People {
		return nil, fmt.Errorf("issuer %s is not for people", o.Name)
	}
	i, err := newIssuer(nil, env, o) //nolint:staticcheck // nil: no fetches, see newIssuer
	if err != nil {
		return nil, err
	}
	t, err := parseToken(tok)
	if err != nil {
		return nil, err
	}
	if iss, _ := t.claims["iss"].(string); iss != i.opts.URL {
		return nil, fmt.Errorf("iss: %s is not issuer %s", quote(iss), o.Name)
	}
	if err := i.checkHeader(t); err != nil {
		return nil, err
	}
	set, err := parseKeySet(keySet, append([]string{"sig"}, presets()[o.Preset].uses...))
	if err != nil {
		return nil, err
	}
	if err := set.verify(t); err != nil {
		return nil, err
	}
	s, deny := i.signIn(t, nonce, at)
	if deny != nil {
		return nil, deny.Cause
	}
	s.KeySet = keySet
	return s, nil
}
