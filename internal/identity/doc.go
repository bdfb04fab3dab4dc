// Package identity verifies the compact OIDC tokens that agents present and
// turns them into principals. It is the only verifier: every entry point asks
// it, so that a token has one verdict wherever it is shown.
//
// What one verification does, in this order: parse strictly, select the issuer
// by the exact "iss", check algorithm and type, verify the signature with the
// issuer's cached keys, check the registered claims, evaluate the issuer's
// bindings, map the claims to a principal. The first failure refuses. Before
// the signature is verified the caller learns nothing but the refusal; after
// it a hint from a fixed list. The token itself is in no error and no log.
//
// Decisions that a reader may look for:
//   - "exp" is compared without skew, since no exchange begins after a token's
//     expiry; Skew is for "nbf" and "iat", where the issuer's clock runs ahead.
//   - Headers that name keys (jku, x5u, jwk, x5c) are ignored, never fetched.
//   - Keys come from the issuer's key set only, cached for a bounded time;
//     past it the issuer's tokens are refused until a fetch succeeds.
//   - Several audiences are accepted when one of them is configured. "azp" (or
//     "client_id", where there is no azp) is checked when AuthorizedParties is
//     set, and is then required. For ID tokens with several audiences "azp" is
//     required, as OpenID Connect Core 3.1.3.7 recommends, and must be one of
//     the configured audiences or authorized parties.
//   - A claim that a mapping or binding reads and that is absent refuses the
//     token, unless the expression says otherwise (see package expr).
//
// A Verifier does no I/O when it is built and is safe for concurrent use. Its
// background fetches end within ten seconds, or at once when it is closed.
package identity
