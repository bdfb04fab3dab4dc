// Package admin is what operators and auditors reach on a gateway: open
// sessions, reads of the book, queries, exports. It is served over an
// owner-only Unix socket while a gateway runs, and in process otherwise; both ways go through
// the same handler, so that each read of evidence is an entry in the book before its first row leaves.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/ledger"
	"github.com/gatebook/gatebook/internal/secret"
)

// Index is what the service needs of the query tables.
type Index interface {
	// Query runs one read-only statement. row is called first with the
	// columns and nil, then for each row.
	Query(ctx context.Context, sql string, row func(columns []string, row []any) error) error
	// Span returns the first entry of a session and the last one so far.
	Span(ctx context.Context, id evidence.ID) (first, last uint64, err error)
	// Rebuild makes the tables anew from the book.
	Rebuild(ctx context.Context, progress func(n uint64)) error
	// CaughtUp waits until the tables hold every entry below n.
	CaughtUp(ctx context.Context, n uint64) error
}

// Caller says who uses the service.
type Caller struct {
	Who string // operating-system user
	How string // "socket", "offline", "webhook" or "console"
	UID int
	PID int
	// Person is who signed in, nil for operators, who may read everything.
	Person *approval.Person
}

// Service answers operators and auditors. Gate is nil where no gateway runs.
// Safe for concurrent use.
type Service struct {
	Book    *ledger.Ledger
	Gate    *enforce.Gate
	Index   Index
	Signer  evidence.Signer
	Program string // name and version, for packages
	SpoolIn string // directory for temporary files of exports
	// SpoolKeep is how many bytes of its disk an export leaves free, 0 for no bound.
	SpoolKeep int64
	Reload    func(ctx context.Context) error
	// Desk holds requests that wait for people, nil where no gateway runs; PersonOf says whose a key (by its fingerprint) or an
	// identity ("issuer|name") is, nil for nobody; SignedIn verifies ID tokens of people, nil where nobody can sign in.
	Desk     *approval.Desk
	PersonOf func(identity string) *approval.Person
	SignedIn func(ctx context.Context, token secret.String, nonce string) (*SignedIn, error)
	// CellKey returns the key of a masked cell, false without a master key; nil where no gateway runs.
	CellKey func(session string, exchange, cell uint64) (key []byte, ok bool)
	// Suspensions keep principals out, nil where no gateway runs.
	Suspensions Suspensions
	Check       func(ctx context.Context) []Finding
	// NewReviewer reads a recorded configuration for ListAccess; nil where no gateway runs.
	NewReviewer func(c *evidence.Config) (Reviewer, error)
}

// Finding is one line of what a check of the configuration found.
type Finding struct {
	What   string `json:"what"` // such as "target orders, role default"
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// ErrNotRunning refuses what only a running gateway can do.
var ErrNotRunning = errors.New("no gateway is running on this book")

// note records an action of a caller and waits until that is durable.
func (s *Service) note(ctx context.Context, c Caller, action string, detail any) error {
	r, err := s.Book.Control(audit.NewClosing(evidence.KindAdmin, &evidence.Admin{
		Action: action, Who: c.Who, How: c.How, PID: c.PID, UID: c.UID, Detail: detail,
	}))
	if err == nil {
		err = r.Wait(ctx)
	}
	if err != nil {
		return fmt.Errorf("the action cannot be recorded, so it is refused: %w", err)
	}
	return nil
}

// Status is a reading of the gateway.
type Status struct {
	Origin  string           `json:"origin"`
	Running bool             `json:"running"`
	Closed  string           `json:"closed,omitempty"` // why nothing is admitted
	Entries uint64           `json:"entries"`
	Sync    string           `json:"sync"`
	Totals  enforce.Counters `json:"totals"`
}

// Status returns a reading.
func (s *Service) Status() Status {
	st := Status{Origin: s.Book.Origin(), Running: s.Gate != nil, Sync: s.Book.SyncMode(), Entries: s.Book.Entries()}
	if s.Gate != nil {
		st.Totals = s.Gate.Counters()
		if err := s.Gate.Err(); err != nil {
			st.Closed = err.Error()
		}
	}
	return st
}

// OpenSession is one line of the list of open sessions.
type OpenSession struct {
	ID        string    `json:"id"`
	Principal string    `json:"principal"`
	Target    string    `json:"target"`
	Role      string    `json:"role"`
	Source    string    `json:"source"`
	Began     time.Time `json:"began"`
	Exchanges uint64    `json:"exchanges"`
	Running   int       `json:"running"`
	End       time.Time `json:"identity_expires,omitzero"`
}

// Sessions lists the open sessions.
func (s *Service) Sessions(ctx context.Context, c Caller) ([]OpenSession, error) {
	if s.Gate == nil {
		return nil, ErrNotRunning
	}
	if err := s.note(ctx, c, "session-list", nil); err != nil {
		return nil, err
	}
	list := []OpenSession{}
	for _, i := range s.Gate.Sessions() {
		list = append(list, OpenSession{
			ID: i.ID.String(), Principal: i.Principal, Target: i.Target, Role: i.Role, Source: i.Source,
			Began: i.Began.UTC(), Exchanges: i.Exchanges, Running: i.Running, End: i.End.UTC(),
		})
	}
	return list, nil
}

// ErrNoSession says that a session is not there (any more).
var ErrNoSession = errors.New("no such session")

// EndSession ends an open session. The agent reads the reason.
func (s *Service) EndSession(ctx context.Context, c Caller, id, reason string) error {
	sid, err := evidence.ParseID(id)
	if err != nil {
		return err
	}
	if s.Gate == nil {
		return ErrNotRunning
	}
	if err := s.note(ctx, c, "session-end", map[string]string{"session": id, "reason": reason}); err != nil {
		return err
	}
	if reason == "" {
		reason = "an operator ended the session"
	}
	if !s.Gate.EndSession(sid, reason) {
		return fmt.Errorf("session %s: %w", id, ErrNoSession)
	}
	return nil
}

// RenewSession prolongs an open session with a fresh token of its identity.
func (s *Service) RenewSession(ctx context.Context, c Caller, id string, token secret.String) error {
	sid, err := evidence.ParseID(id)
	if err != nil {
		return err
	}
	if s.Gate == nil {
		return ErrNotRunning
	}
	if err := s.note(ctx, c, "session-renew", map[string]string{"session": id}); err != nil {
		return err
	}
	session := s.Gate.Session(sid)
	if session == nil {
		return fmt.Errorf("session %s: %w", id, ErrNoSession)
	}
	return session.Renew(ctx, token)
}

// Event is one entry of a session, readable.
type Event struct {
	Index    uint64          `json:"index"`
	Time     time.Time       `json:"time"`
	Kind     evidence.Kind   `json:"kind"`
	Exchange uint64          `json:"exchange,omitempty"`
	Decision string          `json:"decision,omitempty"`
	Body     json.RawMessage `json:"body,omitempty"`
	Bytes    int             `json:"bytes,omitempty"`
	Missing  string          `json:"missing,omitempty"` // why there is no body
}

// ShowSession gives the entries of a session in order. With follow it goes on
// until the session ends or ctx does.
func (s *Service) ShowSession(ctx context.Context, c Caller, id string, follow bool, event func(*Event) error) error {
	sid, err := evidence.ParseID(id)
	if err != nil {
		return err
	}
	action := "session-show"
	if follow {
		action = "session-tail"
	}
	if err := s.note(ctx, c, action, map[string]string{"session": id}); err != nil {
		return err
	}
	if err := s.Index.CaughtUp(ctx, s.Book.Entries()); err != nil {
		return err
	}
	first, last, err := s.Index.Span(ctx, sid)
	if err != nil {
		return err
	}
	sc := s.Book.Scan(first)
	defer func() { _ = sc.Close() }()
	for {
		e, err := sc.Next()
		if errors.Is(err, io.EOF) && follow {
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return nil //nolint:nilerr // the caller has seen enough
			}
			continue
		}
		if errors.Is(err, io.EOF) || err == nil && !follow && e.Header.Index > last {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Header.Session != sid {
			continue
		}
		if err := event(s.event(sc, &e)); err != nil {
			return err
		}
		if e.Header.Kind == evidence.KindSessionEnd {
			return nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// event makes an entry readable. Tokens never leave this way.
func (s *Service) event(sc *ledger.Scanner, e *ledger.Entry) *Event {
	h := &e.Header
	v := &Event{Index: h.Index, Time: h.Time, Kind: h.Kind, Exchange: h.Exchange, Decision: h.Decision}
	_, body, err := sc.Body(e)
	if err != nil {
		v.Missing = err.Error()
		return v
	}
	meta, raw := evidence.SplitBody(body)
	v.Bytes = len(raw)
	if h.Kind == evidence.KindRuling {
		var r evidence.Ruling
		if err := json.Unmarshal(meta, &r); err == nil && r.Proof.Token != "" {
			r.Proof.Token = "[withheld]"
			meta, _ = json.Marshal(&r)
		}
	}
	if h.Kind == evidence.KindIdentity {
		var id evidence.Identity
		if err := json.Unmarshal(meta, &id); err == nil {
			id.Token = "[withheld]"
			meta, _ = json.Marshal(&id)
		} else {
			meta = nil
		}
	}
	if json.Valid(meta) {
		v.Body = append(json.RawMessage(nil), meta...)
	}
	return v
}

// Query runs an auditor's statement over the query tables.
func (s *Service) Query(ctx context.Context, c Caller, sql string, row func([]string, []any) error) error {
	if err := s.note(ctx, c, "query", map[string]string{"sql": sql}); err != nil {
		return err
	}
	if err := s.Index.CaughtUp(ctx, s.Book.Entries()); err != nil {
		return err
	}
	return s.Index.Query(ctx, sql, row)
}

// RebuildIndex makes the query tables anew.
func (s *Service) RebuildIndex(ctx context.Context, c Caller, progress func(uint64)) error {
	if err := s.note(ctx, c, "index-rebuild", nil); err != nil {
		return err
	}
	return s.Index.Rebuild(ctx, progress)
}

// Checkpoint returns the latest signed checkpoint, the bookmark to keep
// outside of the gateway.
func (s *Service) Checkpoint(ctx context.Context) (string, error) {
	cp, err := s.Book.Checkpoint(ctx)
	return cp.Note, err
}
