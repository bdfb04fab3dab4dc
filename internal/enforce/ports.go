package enforce

import (
	"context"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/secret"
)

// Verified is a principal together with what proves it: the compact token and
// the issuer's key set (RFC 7517 JWK Set, the bytes as fetched) of that moment.
type Verified struct {
	Principal access.Principal
	Token     secret.String
	KeySet    []byte
}

// A Verifier checks a compact token (RFC 7519) presented by an agent. It may
// block on the issuer's network within ctx, and is safe for concurrent use. Every
// refusal is an *access.DenyError with code access.CodeIdentity; its Reason says nothing an
// unauthenticated caller should not learn, its cause is for the operator.
type Verifier interface {
	Verify(ctx context.Context, token secret.String) (*Verified, error)
}
