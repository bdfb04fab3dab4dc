package identity

import (
	"errors"
	"fmt"

	"github.com/gatebook/gatebook/internal/access"
)

// ErrNoKeys is the cause of a refusal for want of the issuer's keys: never
// fetched, or older than their cache life, and the issuer cannot be reached.
var ErrNoKeys = errors.New("identity: the issuer's keys are not available")

// reason is all that an unauthenticated caller learns.
const reason = "the token was not accepted"

// A hint tells the holder of a token with a valid signature what to do next.
// It is a type of its own so that no text from a token becomes one.
type hint string

const (
	hintNone     hint = ""
	hintExpired  hint = "the token has expired; ask your issuer for a new one"
	hintNotYet   hint = "the token is not valid yet; check the clock of the issuer"
	hintLifetime hint = "the token is too old or lives too long; ask your issuer for a short-lived one"
	hintAudience hint = "the token is for another audience"
	hintParty    hint = "the token was issued to another client"
	hintKind     hint = "this kind of token is not accepted; present an access token for this gateway"
	hintBound    hint = "the token is bound to a key that cannot be checked here; ask for a bearer token"
	hintClaims   hint = "the token's claims do not meet the conditions for this issuer"
	hintNonce    hint = "the token was made for another sign-in"
	hintOther    hint = "a session is prolonged by a token of the same issuer and subject only"
)

// refuse builds a refusal from a hint and the operator's cause.
func refuse(h hint, format string, args ...any) *access.DenyError {
	return &access.DenyError{Code: access.CodeIdentity, Reason: reason, Hint: string(h), Cause: fmt.Errorf(format, args...)}
}

// quote bounds a text of a token for the operator's eyes and escapes what
// could break a log line.
func quote(s string) string {
	const most = 120
	if len(s) > most {
		return fmt.Sprintf("%.*q...", most, s)
	}
	return fmt.Sprintf("%q", s)
}
