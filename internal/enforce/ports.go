package enforce

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/detect"
	"github.com/gatebook/gatebook/internal/secret"
)

// Verified is a principal together with what proves it: the compact token and
// the issuer's key set (RFC 7517 JWK Set, the bytes as fetched) of that moment.
type Verified struct {
	Principal access.Principal
	Token     secret.String
	KeySet    []byte
}

// A Verifier checks compact tokens (RFC 7519) presented by agents. It may
// block on the issuer's network within ctx, and is safe for concurrent use.
// Every refusal is an *access.DenyError with code access.CodeIdentity.
type Verifier interface {
	Verify(ctx context.Context, token secret.String) (*Verified, error)
	// Renew verifies a fresh token that prolongs old: it must be of the same
	// issuer, subject and name.
	Renew(ctx context.Context, old *access.Principal, token secret.String) (*Verified, error)
}

// Receipt resolves when an entry is durable. Entries become durable in order:
// a resolved receipt covers every entry appended before it.
type Receipt interface {
	// Wait blocks until the entry is durable and returns nil, or returns why
	// it never will be, or ctx's cause. Safe for concurrent use.
	Wait(ctx context.Context) error
}

// Recorder is the book, as the door needs it. Append calls take their place in
// the order at once, do not block on the disk, and do not retain the event.
// All methods are safe for concurrent use.
type Recorder interface {
	// OpenSession makes a data key for a new session durable and returns its
	// recorder. It may block on the disk.
	OpenSession(p *access.Principal, t *access.Target) (SessionRecorder, error)
	// Control appends an entry of the book itself.
	Control(e *audit.Event) (Receipt, error)
	// BootID names this run of the gateway.
	BootID() evidence.ID
	// Err returns why nothing can be recorded any more, or nil.
	Err() error
}

// SessionRecorder appends the entries of one session.
type SessionRecorder interface {
	ID() evidence.ID
	ActorID() evidence.Pseudonym
	TargetID() evidence.Pseudonym
	Append(e *audit.Event) (Receipt, error)
	// Close forgets the session's data key in memory.
	Close()
}

// Dialer opens a connection to a target's address; app injects it. Nothing
// but the door may hold one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Role is one of a target's credentials. Password is read again at each dial.
type Role struct {
	User     string
	Password func() (secret.String, error)
	// Allow narrows the target's groups for this role; nil adds nothing.
	Allow []string
}

// TargetTLS says how a connection to a target is protected. Engines negotiate
// it in their protocol's way.
type TargetTLS struct {
	// Mode is "disable", "require" or "verify-full".
	Mode string
	// Config is a fresh configuration for one dial, nil when Mode is "disable".
	Config func() (*tls.Config, error)
}

// Target is everything the door knows about a target.
type Target struct {
	access.Target
	// Allow lists the groups whose members may use the target. Empty: nobody.
	Allow []string
	Roles map[string]Role
	// Database is what sessions use that name none; "" leaves it to the target.
	Database string
	TLS      TargetTLS
	// InsecureAuth lists the weak authentication methods that may be used
	// towards the target ("cleartext", "md5").
	InsecureAuth []string
	// Sessions bounds the open sessions; 0 is no bound. QueueTimeout is how
	// long a log-in waits for a place.
	Sessions     int
	QueueTimeout time.Duration
	IdleTimeout  time.Duration // 0: none
}

// A Policy decides on requests. Decide does not block, keeps nothing of the
// request, and is safe for concurrent use. Policies are compared with ==.
type Policy interface {
	Decide(r *access.Request) access.Decision
	// Reads says what decisions can depend on.
	Reads() Reads
}

// Reads says what decisions of a policy can depend on besides the principal, the target, the session and what a text does.
type Reads struct {
	// Usage of the principal (Request.Usage), which is recorded then.
	Usage bool
	// Each request can be decided otherwise: by its time, the session's age, its parameters, or usage.
	Each bool
}

// Snapshot is one immutable configuration in force. Sessions keep the one they
// began with.
type Snapshot struct {
	// SHA256 is the digest of the configuration's text, in hexadecimal.
	SHA256  string
	Targets map[string]*Target
	// Policy decides on every request of an agent; nil refuses them all.
	Policy Policy
	// Masks says what is masked for whom; nil masks nothing.
	Masks Masks
	// Detect finds personal and secret values in requests; nil looks for none.
	Detect *detect.Set
	// PrincipalSessions bounds the open sessions of one principal; 0 is no bound.
	PrincipalSessions int
	// PrincipalExchanges and PrincipalBytes bound what one principal may cause
	// to be recorded in an hour, over all its sessions; 0 is no bound.
	PrincipalExchanges int
	PrincipalBytes     int64
	// ExpiryDrain is how long a running exchange may go on after the
	// identity expired.
	ExpiryDrain time.Duration
}
