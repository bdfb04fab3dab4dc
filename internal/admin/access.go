package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
)

// AccessRequest says which access to list.
type AccessRequest struct {
	// At is the time for which access is listed; now if it is zero.
	At        time.Time `json:"at,omitzero"`
	Principal string    `json:"principal,omitempty"` // "issuer|name"; all if empty
	Target    string    `json:"target,omitempty"`    // all if empty
	// All lists what principals are not admitted to, too.
	All bool `json:"all,omitempty"`
}

// AccessBasis says what a list of access follows from.
type AccessBasis struct {
	At time.Time `json:"at"`
	// The configuration that was in force, and its entry in the book.
	SHA256 string    `json:"sha256"`
	Since  time.Time `json:"since"`
	Entry  uint64    `json:"entry"`
	// Principals is how many were looked at: those that had opened a session by then.
	Principals int `json:"principals"`
}

// Access is what a principal can do on a target in a role.
type Access struct {
	Principal string   `json:"principal"`
	Groups    []string `json:"groups"`
	Owner     string   `json:"owner,omitempty"`
	// Seen is when the identity was recorded that counts here, the newest by then; Entry is its entry.
	Seen     time.Time `json:"seen"`
	Entry    uint64    `json:"entry"`
	Target   string    `json:"target"`
	Role     string    `json:"role"`
	Admitted bool      `json:"admitted"` // by the target's groups and the role's
	// Session is set where the line is about one session that was open then. It goes on with the identity, the admission and the
	// target's labels that it began with, and its line differs from what a new session would get.
	Session string `json:"session,omitempty"`
	// Effects has one element for each effect, in their order; none where the principal is not admitted.
	Effects []EffectAccess `json:"effects,omitempty"`
	// Opaque is about requests that are not understood. They may have every effect and need not show it.
	Opaque *VerdictRange `json:"opaque,omitempty"`
}

// EffectAccess is what requests with an effect can get, whatever else they do.
type EffectAccess struct {
	Effect string `json:"effect"`
	VerdictRange
}

// VerdictRange is the strictest and the mildest that requests can get.
type VerdictRange struct {
	Strictest Verdict `json:"strictest"`
	Mildest   Verdict `json:"mildest"`
}

// Verdict is a verdict with the rules that can decide so.
type Verdict struct {
	Verdict string   `json:"verdict"` // "allow", "hold" or "deny"
	Rules   []string `json:"rules"`
}

// Reviewer says what a configuration lets principals do. It is used by one goroutine.
type Reviewer interface {
	// Targets returns the names of the targets.
	Targets() []string
	// Review returns what a principal can do on each target in each role, in order; the fields about the principal are empty.
	Review(p *access.Principal) []Access
	// ReviewSession returns what a session can do that is open, whoever would be admitted now.
	ReviewSession(p *access.Principal, t *access.Target, role string) Access
}

// accessPage is how many rows are asked for at a time; a query has a bound.
const accessPage = 5000

// identified is a principal as the book last had it.
type identified struct {
	access.Principal
	seen  time.Time
	entry uint64
}

// ListAccess lists who could do what. head gets what the list follows from, row each line, in order.
//
// Both the configuration and the identities are read from the bodies in the book; the query tables only say where they stand.
func (s *Service) ListAccess(ctx context.Context, c Caller, r AccessRequest, head func(*AccessBasis) error, row func(*Access) error) error {
	if s.Gate == nil || s.NewReviewer == nil {
		return ErrNotRunning
	}
	now := time.Now().UTC()
	if r.At.After(now) {
		return fmt.Errorf("%s is in the future; leave the time out for what is in force now", r.At.Format(time.RFC3339))
	}
	if err := s.note(ctx, c, "access-list", r); err != nil {
		return err
	}
	if err := s.Index.CaughtUp(ctx, s.Book.Entries()); err != nil {
		return err
	}
	basis := &AccessBasis{At: r.At}
	if r.At.IsZero() {
		basis.At = now
	}
	reviewer, err := s.reviewer(ctx, basis)
	if err != nil {
		return err
	}
	if known := reviewer.Targets(); r.Target != "" && !slices.Contains(known, r.Target) {
		return fmt.Errorf("no target was named %q then; there were: %s", r.Target, cmp.Or(strings.Join(known, ", "), "none"))
	}
	who, err := s.principals(ctx, basis.At, r.Principal)
	if err != nil {
		return err
	}
	open, err := s.openAt(ctx, basis.At, &r)
	if err != nil {
		return err
	}
	basis.Principals = len(who)
	if err := head(basis); err != nil {
		return err
	}
	for i := range who {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		p := &who[i]
		list := reviewer.Review(&p.Principal)
		for j := range list {
			p.describe(&list[j])
		}
		for _, o := range open[p.ID()] {
			a := reviewer.ReviewSession(&o.who.Principal, &o.target, o.role)
			if slices.ContainsFunc(list, func(b Access) bool { return b.sameAs(&a) }) {
				continue
			}
			o.who.describe(&a)
			a.Session = o.id
			list = append(list, a)
		}
		slices.SortStableFunc(list, func(a, b Access) int { return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Role, b.Role)) })
		for j := range list {
			a := &list[j]
			if !a.Admitted && a.Session == "" && !r.All || r.Target != "" && r.Target != a.Target {
				continue
			}
			if err := row(a); err != nil {
				return err
			}
		}
	}
	return nil
}

// describe fills in the fields about the principal.
func (p *identified) describe(a *Access) {
	a.Principal, a.Groups, a.Owner, a.Seen, a.Entry = p.ID(), append([]string{}, p.Groups...), p.Owner, p.seen, p.entry
}

// sameAs reports whether a line is about new sessions, which get what b says of one that is open. Where none is admitted it says nothing.
func (a *Access) sameAs(b *Access) bool {
	return a.Session == "" && a.Target == b.Target && a.Role == b.Role && reflect.DeepEqual(a.Effects, b.Effects) && reflect.DeepEqual(a.Opaque, b.Opaque)
}

// openSession is a session that was open at a time.
type openSession struct {
	id     string
	who    identified // as the session's newest identity says
	target access.Target
	role   string
}

// openAt returns the agents' sessions that were open at a time, by principal.
func (s *Service) openAt(ctx context.Context, at time.Time, r *AccessRequest) (map[string][]openSession, error) {
	then := quoted(bookTime(at))
	where := " WHERE s.origin IS NULL AND s.principal IS NOT NULL AND s.began <= " + then + " AND (s.ended IS NULL OR s.ended > " + then + ")"
	if r.Principal != "" {
		where += " AND s.principal = " + quoted(r.Principal)
	}
	if r.Target != "" {
		where += " AND s.target = " + quoted(r.Target)
	}
	type place struct {
		id              string
		began, identity uint64
	}
	var places []place
	for after := int64(-1); ; {
		n := 0
		sql := fmt.Sprintf(`SELECT s.session, s.first_entry, (SELECT max(i.first_entry) FROM identities i WHERE i.session = s.session AND i.time <= %s)
			FROM sessions s%s AND s.first_entry > %d ORDER BY s.first_entry LIMIT %d`, then, where, after, accessPage)
		err := s.Index.Query(ctx, sql, func(_ []string, row []any) error {
			if len(row) != 3 {
				return nil
			}
			n++
			id, _ := row[0].(string)
			after, _ = row[1].(int64)
			if identity, ok := row[2].(int64); ok { // without one the session was not let in yet
				places = append(places, place{id, uint64(after), uint64(identity)})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if n < accessPage {
			break
		}
	}
	open := make(map[string][]openSession)
	for _, p := range places {
		var began evidence.Session
		if _, err := s.body(p.began, &began); err != nil {
			return nil, err
		}
		who, err := s.identity(p.identity)
		if err != nil {
			return nil, err
		}
		t := &began.Target
		open[who.ID()] = append(open[who.ID()], openSession{
			p.id, who, access.Target{Name: t.Name, Protocol: access.Protocol(t.Protocol), Address: t.Address, Labels: t.Labels}, began.Role,
		})
	}
	return open, nil
}

// reviewer finds the configuration that was in force.
func (s *Service) reviewer(ctx context.Context, basis *AccessBasis) (Reviewer, error) {
	entry, found := uint64(0), false
	err := s.Index.Query(ctx, "SELECT max(first_entry) FROM configs WHERE time <= "+quoted(bookTime(basis.At)), func(_ []string, row []any) error {
		if n, ok := first(row).(int64); ok {
			entry, found = uint64(n), true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("the book has no configuration at %s yet; it begins later", basis.At.Format(time.RFC3339))
	}
	var config evidence.Config
	h, err := s.body(entry, &config)
	if err != nil {
		return nil, err
	}
	basis.SHA256, basis.Since, basis.Entry = config.SHA256, h.Time, entry
	reviewer, err := s.NewReviewer(&config)
	if err != nil {
		return nil, fmt.Errorf("the configuration in entry %d cannot be judged by this version: %w", entry, err)
	}
	return reviewer, nil
}

// principals returns those that had opened a session by a time, or the one of a
// name, with the newest identity of each, in order of their names.
func (s *Service) principals(ctx context.Context, at time.Time, name string) ([]identified, error) {
	var entries []uint64
	for after := ""; ; {
		sql := "SELECT principal, max(first_entry) FROM identities WHERE time <= " + quoted(bookTime(at)) + " AND principal > " + quoted(after)
		if name != "" {
			sql += " AND principal = " + quoted(name)
		}
		n := 0
		err := s.Index.Query(ctx, fmt.Sprintf("%s GROUP BY principal ORDER BY principal LIMIT %d", sql, accessPage), func(_ []string, row []any) error {
			if len(row) != 2 {
				return nil
			}
			who, _ := row[0].(string)
			entry, ok := row[1].(int64)
			if who == "" || !ok {
				return errors.New("the query tables name no principal for an identity; gatebook index rebuild makes them anew")
			}
			after = who
			entries = append(entries, uint64(entry))
			n++
			return nil
		})
		if err != nil {
			return nil, err
		}
		if n < accessPage {
			break
		}
	}
	if name != "" && len(entries) == 0 {
		return nil, fmt.Errorf(`%q had opened no session by %s; gatebook query "SELECT principal FROM principals" lists who has`, name, at.Format(time.RFC3339))
	}
	list := make([]identified, 0, len(entries))
	for _, entry := range entries {
		who, err := s.identity(entry)
		if err != nil {
			return nil, err
		}
		list = append(list, who)
	}
	slices.SortStableFunc(list, func(a, b identified) int { return cmp.Compare(a.ID(), b.ID()) })
	return list, nil
}

// identity reads an identity entry. Of its body the token and the keys are not even decoded.
func (s *Service) identity(entry uint64) (identified, error) {
	var id struct {
		Principal evidence.Principal `json:"principal"`
	}
	h, err := s.body(entry, &id)
	if err != nil {
		return identified{}, err
	}
	p := &id.Principal
	return identified{access.Principal{
		Issuer: p.Issuer, IssuerURL: p.IssuerURL, Subject: p.Subject, Name: p.Name, Groups: p.Groups, Actor: p.Actor, Owner: p.Owner, Claims: p.Claims,
	}, h.Time, entry}, nil
}

// body reads the body of an entry of the book.
func (s *Service) body(entry uint64, into any) (evidence.Header, error) {
	sc := s.Book.Scan(entry)
	defer func() { _ = sc.Close() }()
	e, err := sc.Next()
	if err != nil {
		return e.Header, fmt.Errorf("entry %d: %w", entry, err)
	}
	_, body, err := sc.Body(&e)
	if err == nil {
		err = evidence.DecodeBody(body, into)
	}
	if err != nil {
		return e.Header, fmt.Errorf("entry %d: %w", entry, err)
	}
	return e.Header, nil
}

func first(row []any) any {
	if len(row) == 0 {
		return nil
	}
	return row[0]
}

// bookTime writes a time as the query tables have it.
func bookTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// quoted writes a text as a literal of SQL. A NUL would end the statement; no name has one.
func quoted(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, "\x00", "\ufffd"), "'", "''") + "'"
}
