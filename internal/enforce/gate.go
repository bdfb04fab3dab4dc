// Package enforce is the door: it owns the order of events of every exchange,
// once, for all protocols.
//
// The order is: identify, decide, record the intent, wait until it is durable,
// forward; then record the answer, at most one chunk released ahead of its
// durable record, record the outcome, wait until it is durable, and release the closing frame.
// Whatever goes wrong on the way ends in a refusal, never in an unrecorded
// pass. Engines translate frames; they cannot reach a target except through a
// Session, and they learn from Exchange.Ready when they may forward.
//
// A Gate is safe for concurrent use. A Session is used by its engine's two
// pumps; an Exchange by one goroutine at a time.
package enforce

import (
	"context"
	"errors"
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/audit"
)

// Options are what a Gate needs. All fields but Log are required.
type Options struct {
	Verifier Verifier
	Recorder Recorder
	Dialer   Dialer
	Snapshot *Snapshot
	// Release forwards proven reads while their intents are being made durable; their answers wait for that.
	Release bool
	// Desk takes requests that rules hold; nil refuses them. People says who is behind them; nil knows nobody.
	Desk *approval.Desk
	// TicketURL returns where people rule on a ticket, "" for nowhere; nil says the same.
	TicketURL func(id string) string
	People    People
	Log       *slog.Logger // never receives payloads; nil discards
}

// Gate admits sessions.
type Gate struct {
	verifier  Verifier
	rec       Recorder
	dialer    Dialer
	release   bool
	desk      *approval.Desk
	ticketURL func(id string) string
	people    People
	log       *slog.Logger
	snap      atomic.Pointer[Snapshot]
	places    places
	budgets   budgets
	refusals  refusals

	exchanges     atomic.Uint64 // begun
	refused       atomic.Uint64 // log-ins refused
	openExchanges atomic.Int64

	mu       sync.Mutex
	sessions map[evidence.ID]*Session
	// suspended are principals that are kept out.
	suspended map[string]Suspension
	// closing is set, with mu held, once the gate admits nobody any more.
	closing atomic.Pointer[access.DenyError]
}

// New returns an open gate.
func New(o Options) *Gate {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gate{
		verifier: o.Verifier, rec: o.Recorder, dialer: o.Dialer, release: o.Release, desk: o.Desk, people: o.People, ticketURL: o.TicketURL, log: o.Log,
		sessions: make(map[evidence.ID]*Session), suspended: make(map[string]Suspension),
	}
	g.snap.Store(o.Snapshot)
	g.refusals.gate = g
	return g
}

// Snapshot returns the configuration in force.
func (g *Gate) Snapshot() *Snapshot { return g.snap.Load() }

// SetSnapshot puts a new configuration into force. Running sessions keep theirs. Tickets that stand end: they were for the old one.
func (g *Gate) SetSnapshot(s *Snapshot) {
	if old := g.snap.Swap(s); old.SHA256 != s.SHA256 {
		g.endStanding("", "the configuration has changed")
	}
}

// endStanding ends the tickets whose agents do not wait, of a principal or ("") of all.
func (g *Gate) endStanding(principal, cause string) {
	if g.desk != nil {
		g.desk.EndStanding(context.Background(), principal, cause)
	}
}

// Err returns why the gate is closed, or nil. A closed gate refuses every new exchange.
func (g *Gate) Err() error {
	if closing := g.closing.Load(); closing != nil {
		return closing
	}
	return g.rec.Err()
}

// errClosed is the refusal for everything that cannot be recorded.
func errClosed(cause error) *access.DenyError {
	return &access.DenyError{
		Code: access.CodeClosed, Rule: "gate", Cause: cause,
		Reason: "the gate is closed because requests cannot be recorded",
		Hint:   "Nothing was sent to the target. Try again later or tell the operator.",
	}
}

// Counters is a reading of the gate's totals since its start.
type Counters struct {
	OpenSessions  int // of agents
	OpenExchanges int
	Exchanges     uint64
	Refused       uint64
}

// Counters returns the totals.
func (g *Gate) Counters() Counters {
	n := 0
	g.mu.Lock()
	for _, s := range g.sessions {
		if s.origin == "" {
			n++
		}
	}
	g.mu.Unlock()
	return Counters{
		OpenSessions: n, OpenExchanges: int(g.openExchanges.Load()),
		Exchanges: g.exchanges.Load(), Refused: g.refused.Load(),
	}
}

// Info describes an open session for operators.
type Info struct {
	ID        evidence.ID
	Principal string
	Target    string
	Role      string
	Source    string
	Began     time.Time
	Exchanges uint64
	Running   int
	End       time.Time // when the identity expires; zero for the gateway's own
}

// Sessions lists the open sessions of agents, oldest first.
func (g *Gate) Sessions() []Info {
	g.mu.Lock()
	list := make([]*Session, 0, len(g.sessions))
	for _, s := range g.sessions {
		if s.origin == "" {
			list = append(list, s)
		}
	}
	g.mu.Unlock()
	infos := make([]Info, 0, len(list))
	for _, s := range list {
		infos = append(infos, s.info())
	}
	sort.Slice(infos, func(i, j int) bool { return infos[i].Began.Before(infos[j].Began) })
	return infos
}

// EndSession ends one open session with a reason that its agent may read. It
// reports whether the session was open.
func (g *Gate) EndSession(id evidence.ID, reason string) bool {
	g.mu.Lock()
	s := g.sessions[id]
	g.mu.Unlock()
	if s == nil {
		return false
	}
	s.cancel(&access.DenyError{Code: access.CodeEnded, Rule: "operator", Reason: reason})
	return true
}

// Session returns an open session, nil if there is none.
func (g *Gate) Session(id evidence.ID) *Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sessions[id]
}

// Shutdown stops admitting sessions and new exchanges, waits until the running
// exchanges ended or ctx is done, and then ends the sessions. It returns when
// every session was closed by its engine, or ctx's cause when even that takes too long.
func (g *Gate) Shutdown(ctx context.Context, hard context.Context) error {
	why := &access.DenyError{Code: access.CodeShutdown, Rule: "gate", Reason: "the gateway is shutting down"}
	defer g.endStanding("", "the gateway stopped")
	g.mu.Lock()
	g.closing.Store(why)
	g.mu.Unlock()
	for ctx.Err() == nil && g.openExchanges.Load() > 0 {
		if !pause(ctx, 20*time.Millisecond) {
			break
		}
	}
	g.mu.Lock()
	for _, s := range g.sessions {
		s.cancel(why)
	}
	g.mu.Unlock()
	for {
		g.mu.Lock()
		n := len(g.sessions)
		g.mu.Unlock()
		if n == 0 {
			g.refusals.flush(hard)
			return nil
		}
		if !pause(hard, 10*time.Millisecond) {
			return context.Cause(hard)
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Run writes what is put together over time (counted refusals) until ctx ends.
func (g *Gate) Run(ctx context.Context) {
	t := time.NewTicker(10 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			g.refusals.expire(ctx, time.Now())
		}
	}
}

// Refuse records a log-in or cancel that led to no session and waits until the
// record is durable; the engine tells the agent afterwards. Refusals of one
// source beyond a number a minute become one counting entry.
func (g *Gate) Refuse(ctx context.Context, r evidence.Refused, why error) {
	if r.What == "login" {
		g.refused.Add(1)
	}
	r.Code, r.Detail = describe(why)
	g.refusals.add(ctx, r, time.Now())
}

func describe(why error) (code, detail string) {
	var deny *access.DenyError
	if errors.As(why, &deny) {
		return string(deny.Code), shorten(deny.Error(), 500)
	}
	if why == nil {
		return "", ""
	}
	return string(access.CodeProtocol), shorten(why.Error(), 500)
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

// control appends a control entry and logs if that is impossible.
func (g *Gate) control(kind evidence.Kind, body any) Receipt {
	r, err := g.rec.Control(audit.New(kind, body))
	if err != nil {
		g.log.Error("control entry not recorded", "kind", string(kind), "err", err)
		return nil
	}
	return r
}
