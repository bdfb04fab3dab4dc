package index

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

// ErrNotFound is returned when the index holds no such row.
var ErrNotFound = errors.New("not in the index")

// Filter chooses sessions or exchanges. Empty fields choose everything; all
// given ones must fit.
type Filter struct {
	Session   string
	Principal string // "issuer|name"
	Target    string
	From, To  time.Time // began at or after From, and before To

	// Open chooses what has no end yet.
	Open bool
	// Agents leaves out the gateway's own sessions and exchanges.
	Agents bool

	// For exchanges only.
	Op       string
	Decision string // "allow" or "deny"
	Rule     string
	Effects  string // "opaque"
	Status   string
	SQLSTATE string
	// Text chooses statements that hold all these words, in any order; a word
	// that ends with * stands for all that begin so.
	Text string

	// Before chooses rows whose first entry is below it, 0 all: the next page
	// begins before the last row's FirstEntry. After is its mirror for Ascending.
	Before, After uint64
	// Ascending gives the oldest first; otherwise the newest.
	Ascending bool
	// Limit is the most rows; 0 means DefaultPage.
	Limit int
}

// DefaultPage is how many rows a list has without a limit of its own, MaxPage
// how many it can have.
const (
	DefaultPage = 100
	MaxPage     = 10_000
)

// Session is a row of the view sessions. Zero fields are unknown, or are not
// there yet: Ended is zero while the session is open.
type Session struct {
	ID            string    `json:"session"`
	Principal     string    `json:"principal,omitempty"`
	Issuer        string    `json:"issuer,omitempty"`
	Subject       string    `json:"subject,omitempty"`
	Owner         string    `json:"owner,omitempty"`
	Groups        string    `json:"groups,omitempty"` // JSON array
	Acting        string    `json:"acting,omitempty"` // JSON array
	ActorID       string    `json:"actor_id,omitempty"`
	Target        string    `json:"target,omitempty"`
	TargetID      string    `json:"target_id,omitempty"`
	Protocol      string    `json:"protocol,omitempty"`
	Database      string    `json:"database,omitempty"`
	Role          string    `json:"role,omitempty"`
	Rule          string    `json:"rule,omitempty"`
	Origin        string    `json:"origin,omitempty"`
	Purpose       string    `json:"purpose,omitempty"`
	Source        string    `json:"source,omitempty"`
	Application   string    `json:"application,omitempty"`
	TokenExpiry   time.Time `json:"token_expiry,omitzero"`
	MayRunUntil   time.Time `json:"may_run_until,omitzero"`
	Config        string    `json:"config,omitempty"`
	Upstream      string    `json:"upstream_address,omitempty"`
	UpstreamLocal string    `json:"upstream_local,omitempty"`
	UpstreamUser  string    `json:"upstream_user,omitempty"`
	Began         time.Time `json:"began"`
	Ended         time.Time `json:"ended,omitzero"`
	EndCause      string    `json:"end_cause,omitempty"`
	Recovered     bool      `json:"recovered,omitempty"`
	Exchanges     int64     `json:"exchanges"`
	Denied        int64     `json:"denied"`
	Failed        int64     `json:"failed"`
	Rows          int64     `json:"rows"`
	Bytes         int64     `json:"bytes"`
	Body          string    `json:"body"`
	FirstEntry    uint64    `json:"first_entry"`
	LastEntry     uint64    `json:"last_entry"`
}

const sessionColumns = `session, principal, issuer, subject, owner, groups, acting, actor_id, target, target_id, protocol, database, role, rule,
	origin, purpose, source, application, token_expiry, may_run_until, config, upstream_address, upstream_local, upstream_user, began, ended,
	end_cause, recovered, exchanges, denied, failed, rows, bytes, body, first_entry, last_entry`

func (s *Session) fields() []any {
	return []any{
		&s.ID, &s.Principal, &s.Issuer, &s.Subject, &s.Owner, &s.Groups, &s.Acting, &s.ActorID, &s.Target, &s.TargetID, &s.Protocol,
		&s.Database, &s.Role, &s.Rule, &s.Origin, &s.Purpose, &s.Source, &s.Application, &s.TokenExpiry, &s.MayRunUntil, &s.Config, &s.Upstream,
		&s.UpstreamLocal, &s.UpstreamUser, &s.Began, &s.Ended, &s.EndCause, &s.Recovered, &s.Exchanges, &s.Denied, &s.Failed,
		&s.Rows, &s.Bytes, &s.Body, &s.FirstEntry, &s.LastEntry,
	}
}

// Exchange is a row of the view exchanges. Zero fields are unknown, or are not
// there yet: Status is empty while the exchange has no outcome.
type Exchange struct {
	Session    string    `json:"session"`
	Number     uint64    `json:"exchange"`
	Principal  string    `json:"principal,omitempty"`
	Target     string    `json:"target,omitempty"`
	Role       string    `json:"role,omitempty"`
	Time       time.Time `json:"time"`
	Op         string    `json:"op,omitempty"`
	Origin     string    `json:"origin,omitempty"`
	Decision   string    `json:"decision,omitempty"`
	Rule       string    `json:"rule,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Code       string    `json:"code,omitempty"`
	Effects    string    `json:"effects,omitempty"`
	Privileged string    `json:"privileged,omitempty"`
	Text       string    `json:"text,omitempty"`
	TextBytes  int64     `json:"text_bytes"`
	Parameters int64     `json:"parameters"`
	Ended      time.Time `json:"ended,omitzero"`
	Status     string    `json:"status,omitempty"`
	Tag        string    `json:"tag,omitempty"`
	SQLSTATE   string    `json:"sqlstate,omitempty"`
	Rows       int64     `json:"rows"`
	Bytes      int64     `json:"bytes"`
	ReadyUS    int64     `json:"ready_us"`
	TotalUS    int64     `json:"total_us"`
	Cause      string    `json:"cause,omitempty"`
	Body       string    `json:"body"`
	FirstEntry uint64    `json:"first_entry"`
	LastEntry  uint64    `json:"last_entry"`
}

const exchangeColumns = `session, exchange, principal, target, role, time, op, origin, decision, rule, reason, code, effects, privileged, text,
	text_bytes, parameters, ended, status, tag, sqlstate, rows, bytes, ready_us, total_us, cause, body, first_entry, last_entry`

func (e *Exchange) fields() []any {
	return []any{
		&e.Session, &e.Number, &e.Principal, &e.Target, &e.Role, &e.Time, &e.Op, &e.Origin, &e.Decision, &e.Rule, &e.Reason, &e.Code,
		&e.Effects, &e.Privileged, &e.Text, &e.TextBytes, &e.Parameters, &e.Ended, &e.Status, &e.Tag, &e.SQLSTATE, &e.Rows, &e.Bytes, &e.ReadyUS, &e.TotalUS,
		&e.Cause, &e.Body, &e.FirstEntry, &e.LastEntry,
	}
}

// scan puts a row's values into fields.
func scan(fields, row []any) error {
	if len(fields) != len(row) {
		return fmt.Errorf("index: %d columns, want %d", len(row), len(fields))
	}
	for i, f := range fields {
		n, _ := row[i].(int64)
		s, _ := row[i].(string)
		switch f := f.(type) {
		case *string:
			*f = s
		case *int64:
			*f = n
		case *uint64:
			*f = uint64(max(n, 0))
		case *bool:
			*f = n != 0
		case *time.Time:
			if s == "" {
				continue
			}
			t, err := time.Parse(time.RFC3339, s)
			if err != nil {
				return rebuild("a time is not one: %w", err)
			}
			*f = t
		}
	}
	return nil
}

// where collects conditions and their arguments.
type where struct {
	terms []string
	args  []any
}

func (w *where) add(term string, args ...any) {
	w.terms = append(w.terms, term)
	w.args = append(w.args, args...)
}

func (w *where) equal(column, value string) {
	if value != "" {
		w.add(column+" = ?", value)
	}
}

// list builds the query for a view.
func (f *Filter) list(view, columns, began string) (query string, args []any, l Limits) {
	var w where
	w.equal("session", f.Session)
	w.equal("principal", f.Principal)
	w.equal("target", f.Target)
	if !f.From.IsZero() {
		w.add(began+" >= ?", timeText(f.From))
	}
	if !f.To.IsZero() {
		w.add(began+" < ?", timeText(f.To))
	}
	if f.Open {
		w.add("ended IS NULL")
	}
	if f.Agents {
		w.add("origin IS NULL")
	}
	if f.Before > 0 {
		w.add("first_entry < ?", number(f.Before))
	}
	if f.After > 0 {
		w.add("first_entry > ?", number(f.After))
	}
	if view == "exchanges" {
		w.equal("op", f.Op)
		w.equal("decision", f.Decision)
		w.equal("rule", f.Rule)
		w.equal("effects", f.Effects)
		w.equal("status", f.Status)
		w.equal("sqlstate", f.SQLSTATE)
		if match := matchText(f.Text); match != "" {
			w.add("first_entry IN (SELECT rowid FROM search WHERE search MATCH ?)", match)
		}
	}
	query = "SELECT " + columns + " FROM " + view
	if len(w.terms) > 0 {
		query += " WHERE " + strings.Join(w.terms, " AND ")
	}
	order := "DESC"
	if f.Ascending {
		order = "ASC"
	}
	limit := f.Limit
	if limit <= 0 {
		limit = DefaultPage
	}
	limit = min(limit, MaxPage)
	return fmt.Sprintf("%s ORDER BY first_entry %s LIMIT %d", query, order, limit), w.args, Limits{Rows: limit}
}

// matchText quotes each word of a text, so that nothing in it is an operator
// of the search table's language.
func matchText(text string) string {
	var out []string
	for _, word := range strings.Fields(text) {
		word, prefix := strings.CutSuffix(word, "*")
		if word == "" {
			continue
		}
		quoted := `"` + strings.ReplaceAll(word, `"`, `""`) + `"`
		if prefix {
			quoted += "*"
		}
		out = append(out, quoted)
	}
	return strings.Join(out, " ")
}

// Sessions lists sessions.
func (x *Index) Sessions(ctx context.Context, f Filter) ([]Session, error) {
	query, args, l := f.list("sessions", sessionColumns, "began")
	var out []Session
	err := x.read(ctx, query, args, l, func(_ []string, row []any) error {
		if row == nil {
			return nil
		}
		var s Session
		err := scan(s.fields(), row)
		out = append(out, s)
		return err
	})
	return out, err
}

// Session returns one session, or ErrNotFound.
func (x *Index) Session(ctx context.Context, id evidence.ID) (Session, error) {
	list, err := x.Sessions(ctx, Filter{Session: id.String(), Limit: 1})
	if err != nil {
		return Session{}, err
	}
	if len(list) == 0 || id.IsZero() {
		return Session{}, fmt.Errorf("session %s: %w", id, ErrNotFound)
	}
	return list[0], nil
}

// Exchanges lists exchanges.
func (x *Index) Exchanges(ctx context.Context, f Filter) ([]Exchange, error) {
	query, args, l := f.list("exchanges", exchangeColumns, "time")
	var out []Exchange
	err := x.read(ctx, query, args, l, func(_ []string, row []any) error {
		if row == nil {
			return nil
		}
		var e Exchange
		err := scan(e.fields(), row)
		out = append(out, e)
		return err
	})
	return out, err
}
