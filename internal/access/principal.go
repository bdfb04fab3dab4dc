package access

import (
	"encoding/json"
	"time"
)

// Lifetime rules say what bounded a principal's session; evidence packages
// repeat the name.
const (
	// LifetimeToken means that the token's own expiry ends the session.
	LifetimeToken = "token-expiry"
	// LifetimeIssuer means that the issuer's configured session_lifetime,
	// counted from the verification, replaced the token's expiry.
	LifetimeIssuer = "session-lifetime"
)

// Principal is the verified identity of a caller: what one token, checked
// against one configured issuer, says. It is immutable once built.
type Principal struct {
	// Issuer is the configured name of the issuer, such as "ci".
	Issuer string
	// IssuerURL is the exact "iss" claim.
	IssuerURL string
	// Subject is the exact "sub" claim.
	Subject string
	// Name is the mapped principal name, unique within the issuer.
	Name string
	// Groups are the mapped groups, sorted, without duplicates.
	Groups []string
	// Actor names who acts on behalf of the subject, outermost first (RFC
	// 8693 section 4.1, nested "act" claims); empty when the subject acts itself.
	Actor []string
	// Owner names the person behind the agent, empty when unknown.
	Owner string
	// Claims are the token's claims, the bytes of the verified payload.
	Claims json.RawMessage
	// TokenID is the "jti" claim, empty when absent.
	TokenID string
	// IssuedAt and TokenExpiry are the "iat" and "exp" claims.
	IssuedAt    time.Time
	TokenExpiry time.Time
	// SessionEnd is when the last exchange may begin, by LifetimeRule.
	SessionEnd   time.Time
	LifetimeRule string
}

// ID returns "issuer|name", the principal's name across issuers.
func (p *Principal) ID() string { return p.Issuer + "|" + p.Name }

// InAny reports whether the principal is in at least one of the groups.
func (p *Principal) InAny(groups []string) bool {
	for _, g := range groups {
		for _, have := range p.Groups {
			if g == have {
				return true
			}
		}
	}
	return false
}
