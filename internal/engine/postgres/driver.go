// Package postgres speaks the PostgreSQL frontend/backend protocol (versions
// 3.0 and 3.2) towards agents and towards targets.
//
// It terminates the protocol on both sides: what goes to the target is made
// from what was parsed here, and the parser whose result is recorded is the
// parser that forwards. A message it does not know ends the session; its bytes
// do not pass. docs/protocols/postgres.md says what is understood, refused and opaque.
//
// Each session has two goroutines: the request pump (the caller of ServeConn),
// which groups messages into exchanges, waits until their intents are durable
// and forwards them; and the answer pump, which pairs the target's frames with
// the exchanges, records them and releases them. relay.mu guards what they share.
package postgres

import (
	"context"
	"log/slog"
	"net"
	"sync"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
)

// Driver implements engine.Driver.
type Driver struct {
	gate      *enforce.Gate
	limits    engine.Limits
	log       *slog.Logger
	budget    engine.Budget
	databases *databases
	// unresolved: names are taken as they are written, for tests whose targets have no catalog.
	unresolved bool

	mu      sync.Mutex
	cancels map[uint32]*relay // by the process id given to the agent
	floods  map[string]*flood // cancel requests by source
}

var _ engine.Driver = (*Driver)(nil)

// New returns a driver.
func New(c engine.Config) *Driver {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	d := &Driver{
		gate: c.Gate, limits: c.Limits.WithDefaults(), log: c.Log,
		cancels: make(map[uint32]*relay), floods: make(map[string]*flood),
		databases: newDatabases(c.Gate, c.Limits.WithDefaults().Value),
	}
	d.budget.Limit = d.limits.Memory
	return d
}

// Protocol implements engine.Driver.
func (*Driver) Protocol() access.Protocol { return access.Postgres }

// ServeConn implements engine.Driver.
func (d *Driver) ServeConn(ctx context.Context, nc net.Conn, l *engine.Listener) error {
	a := &agent{d: d, conn: nc, raw: nc, l: l, source: nc.RemoteAddr().String()}
	defer func() { _ = a.conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(past) })
	defer stop()
	o, err := a.handshake(ctx)
	if err != nil || o == nil {
		return err
	}
	s, err := d.gate.Open(ctx, *o)
	if err != nil {
		deny := asDeny(err)
		if deny.Code == access.CodeForbidden && a.defaulted {
			// Most likely nobody told the client which target it wants.
			told := *deny
			told.Hint, deny = hintForm, &told
		}
		a.fatal(deny)
		return err
	}
	r := &relay{d: d, a: a, s: s}
	return r.serve(ctx)
}
