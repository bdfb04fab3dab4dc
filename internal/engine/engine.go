// Package engine is the contract between the server, which owns listeners and
// connections, and the engines, which speak one protocol on both sides.
//
// An engine translates frames. It decides nothing, records nothing by itself,
// and reaches a target only through an enforce.Session.
package engine

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
)

// A Driver speaks one protocol. app holds the table of drivers; nothing
// registers itself. Drivers are safe for concurrent use.
type Driver interface {
	Protocol() access.Protocol
	// ServeConn owns nc, which came in on l. It speaks the opening handshake, asks the
	// gate to open a session, and relays. It returns after both directions
	// ended, leaving no goroutine behind, and soon after ctx ends. A refusal
	// has already been told to the agent in the protocol's own form; the
	// error is for the log.
	ServeConn(ctx context.Context, nc net.Conn, l *Listener) error
	// Probe connects to the session's target, logs in, and reports what it
	// finds, without changing anything.
	Probe(ctx context.Context, s *enforce.Session) (*Probe, error)
}

// Probe is what `gatebook check` learns about a target.
type Probe struct {
	Version string
	TLS     string   // negotiated version and cipher suite, "" without TLS
	User    string   // as the target sees it
	Rights  []string // what the role may do beyond reading and writing, such as "superuser"
	// Columns are those of the database's own tables, "schema.table.column", as far as the role may know of them.
	Columns []string
}

// Listener is what an engine must know about where a connection came in.
// Immutable after start.
type Listener struct {
	Address string
	// TLS returns the configuration for one handshake, so that changed
	// certificates count at once.
	TLS func() (*tls.Config, error)
	// Auth is how the token arrives: "password" or "oauthbearer".
	Auth string
	// OAuthDiscovery is the discovery document's URL that a client is told
	// when it asks where to get a token, with Auth "oauthbearer"; "" tells nothing.
	OAuthDiscovery string
	// InsecurePlaintext lets agents in without TLS; only on loopback.
	InsecurePlaintext bool
}

// Limits bound what an engine takes. Zero values mean the defaults.
type Limits struct {
	// Message is the largest request message that is judged whole, in bytes
	// (64 MiB).
	Message int
	// Value is the largest frame of an answer or of COPY data (1 GiB + 64 KiB).
	Value int
	// Memory is how much all sessions together may hold in messages above
	// 64 KiB, in bytes (512 MiB).
	Memory int64
	// Startup is how long the opening handshake may take (30 s).
	Startup time.Duration
	// Stall is how long an agent or a target may stop reading (5 min).
	Stall time.Duration
	// Orphan is how long a statement runs on after its agent left (60 s).
	Orphan time.Duration
}

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	def := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	if l.Message == 0 {
		l.Message = 64 << 20
	}
	if l.Value == 0 {
		l.Value = 1<<30 + 64<<10
	}
	if l.Memory == 0 {
		l.Memory = 512 << 20
	}
	def(&l.Startup, 30*time.Second)
	def(&l.Stall, 5*time.Minute)
	def(&l.Orphan, time.Minute)
	return l
}

// Config is what every driver gets.
type Config struct {
	Gate   *enforce.Gate
	Limits Limits
	Log    *slog.Logger // never receives payloads
}

// Budget is memory shared by all sessions. Safe for concurrent use.
type Budget struct {
	Limit int64

	used atomic.Int64
}

// Take reserves n bytes and reports whether they were free.
func (b *Budget) Take(n int) bool {
	if b.used.Add(int64(n)) <= b.Limit {
		return true
	}
	b.used.Add(int64(-n))
	return false
}

// Give returns n bytes.
func (b *Budget) Give(n int) { b.used.Add(int64(-n)) }
