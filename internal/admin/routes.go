package admin

import (
	"context"
	"net/http"
	"reflect"
	"slices"

	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/secret"
)

// Route is one address of the HTTP interface, with what its document says of it.
type Route struct {
	Method, Path string
	Summary      string
	// In and Out are the types of the request's and the answer's JSON, nil where there is none.
	In, Out reflect.Type
	// Lines: the answer is JSON Lines of Out, complete if the trailer Gatebook-Complete is "yes".
	Lines bool
	// Query lists parameters of the address.
	Query []string
	// People: also those who signed in reach it, for what concerns them.
	People bool

	handler http.Handler
}

// None stands for a request or an answer without members.
type None struct{}

// call makes a route of an action that answers once.
func call[In, Out any](method, path, summary string, f func(ctx context.Context, c Caller, r *http.Request, in *In) (Out, error)) Route {
	route := describe[In, Out](method, path, summary)
	route.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := caller(r.Context())
		var in In
		var out Out
		if err == nil && route.In != nil {
			err = decode(r, &in)
		}
		if err == nil {
			out, err = f(r.Context(), c, r, &in)
		}
		reply(w, out, err)
	})
	return route
}

// stream makes a route of an action that answers line by line.
func stream[In, Out any](method, path, summary string, f func(ctx context.Context, c Caller, r *http.Request, in *In, out func(Out) error) error) Route {
	route := describe[In, Out](method, path, summary)
	route.Lines = true
	route.handler = lines(func(ctx context.Context, c Caller, r *http.Request, out func(any) error) error {
		var in In
		if route.In != nil {
			if err := decode(r, &in); err != nil {
				return err
			}
		}
		return f(ctx, c, r, &in, func(v Out) error { return out(v) })
	})
	return route
}

func describe[In, Out any](method, path, summary string) Route {
	route := Route{Method: method, Path: path, Summary: summary, Out: reflect.TypeFor[Out]()}
	if method != http.MethodGet {
		route.In = reflect.TypeFor[In]()
	}
	return route
}

// people opens a route to those who signed in.
func (r Route) people() Route {
	r.People = true
	return r
}

// Reason is why an operator does something.
type Reason struct {
	Reason string `json:"reason,omitempty"`
}

// Renewal is a fresh token of a session's identity.
type Renewal struct {
	Token string `json:"token"`
}

// Statement is a query of the tables.
type Statement struct {
	SQL string `json:"sql"`
}

// QueryLine is a line of a query's answer: the columns first, and then each row.
type QueryLine struct {
	Columns []string `json:"columns,omitempty"`
	Row     []any    `json:"row,omitempty"`
}

// AccessLine is a line of a list of access: what it follows from first, and then each access.
type AccessLine struct {
	Basis  *AccessBasis `json:"basis,omitempty"`
	Access *Access      `json:"access,omitempty"`
}

// Progress says how far something is.
type Progress struct {
	Done uint64 `json:"done"`
}

// Bookmark is a signed checkpoint.
type Bookmark struct {
	Checkpoint string `json:"checkpoint"`
}

// Routes returns the interface.
func (s *Service) Routes() []Route {
	list := slices.Concat(s.sessionRoutes(), s.principalRoutes(), s.ticketRoutes())
	return append(list,
		call("GET", "/v1/status", "A reading of the gateway", func(context.Context, Caller, *http.Request, *None) (Status, error) { return s.Status(), nil }),
		call("POST", "/v1/reload", "Read the configuration again", func(ctx context.Context, _ Caller, _ *http.Request, _ *None) (None, error) {
			if s.Reload == nil {
				return None{}, ErrNotRunning
			}
			return None{}, s.Reload(ctx)
		}),
		call("POST", "/v1/check", "Check the configuration against the world", func(ctx context.Context, _ Caller, _ *http.Request, _ *None) ([]Finding, error) {
			return s.Check(ctx), nil
		}),
		stream("POST", "/v1/query", "Run one read-only statement over the query tables", func(ctx context.Context, c Caller, _ *http.Request, in *Statement, out func(QueryLine) error) error {
			return s.Query(ctx, c, in.SQL, func(columns []string, row []any) error {
				if row == nil {
					return out(QueryLine{Columns: columns})
				}
				return out(QueryLine{Row: row})
			})
		}),
		stream("POST", "/v1/access", "Who can do what, now or at a time before", func(ctx context.Context, c Caller, _ *http.Request, in *AccessRequest, out func(AccessLine) error) error {
			return s.ListAccess(ctx, c, *in, func(b *AccessBasis) error { return out(AccessLine{Basis: b}) },
				func(a *Access) error { return out(AccessLine{Access: a}) })
		}),
		stream("POST", "/v1/index/rebuild", "Make the query tables anew", func(ctx context.Context, c Caller, _ *http.Request, _ *None, out func(Progress) error) error {
			return s.RebuildIndex(ctx, c, func(n uint64) { _ = out(Progress{n}) })
		}),
		call("POST", "/v1/checkpoint", "Sign a checkpoint", func(ctx context.Context, _ Caller, _ *http.Request, _ *None) (Bookmark, error) {
			cp, err := s.Checkpoint(ctx)
			return Bookmark{cp}, err
		}),
		Route{
			Method: "POST", Path: "/v1/export", Summary: "Write an evidence package: lines of progress, the line \"package\", and the package",
			In: reflect.TypeFor[ExportRequest](), handler: http.HandlerFunc(s.export),
		},
	)
}

func (s *Service) sessionRoutes() []Route {
	show := stream("GET", "/v1/sessions/{id}", "The entries of a session", func(ctx context.Context, c Caller, r *http.Request, _ *None, out func(*Event) error) error {
		return s.ShowSession(ctx, c, r.PathValue("id"), r.URL.Query().Get("follow") != "", out)
	})
	show.Query = []string{"follow"}
	return []Route{
		call("GET", "/v1/sessions", "The open sessions", func(ctx context.Context, c Caller, _ *http.Request, _ *None) ([]OpenSession, error) {
			return s.Sessions(ctx, c)
		}),
		show,
		call("POST", "/v1/sessions/{id}/end", "End an open session", func(ctx context.Context, c Caller, r *http.Request, in *Reason) (None, error) {
			return None{}, s.EndSession(ctx, c, r.PathValue("id"), in.Reason)
		}),
		call("POST", "/v1/sessions/{id}/cell-key", "Release the key of one masked cell", func(ctx context.Context, c Caller, r *http.Request, in *CellKeyRequest) (CellKey, error) {
			return s.ReleaseCellKey(ctx, c, r.PathValue("id"), *in)
		}),
		call("POST", "/v1/sessions/{id}/renew", "Prolong an open session", func(ctx context.Context, c Caller, r *http.Request, in *Renewal) (None, error) {
			return None{}, s.RenewSession(ctx, c, r.PathValue("id"), secret.New(in.Token))
		}),
	}
}

func (s *Service) principalRoutes() []Route {
	return []Route{
		call("GET", "/v1/principals/suspended", "The principals that are kept out", func(ctx context.Context, c Caller, _ *http.Request, _ *None) ([]enforce.Suspension, error) {
			return s.Suspended(ctx, c)
		}),
		call("POST", "/v1/principals/suspend", "End what a principal has open, and keep it out", func(ctx context.Context, c Caller, _ *http.Request, in *SuspendRequest) (*SuspendAnswer, error) {
			return s.Suspend(ctx, c, *in)
		}),
		call("POST", "/v1/principals/resume", "Let it in again", func(ctx context.Context, c Caller, _ *http.Request, in *SuspendRequest) (None, error) {
			return None{}, s.ResumePrincipal(ctx, c, *in)
		}),
	}
}

func (s *Service) ticketRoutes() []Route {
	return []Route{
		call("GET", "/v1/tickets", "The requests that wait, or waited, for people", func(ctx context.Context, c Caller, _ *http.Request, _ *None) ([]*Ticket, error) {
			return s.Tickets(ctx, c)
		}).people(),
		call("GET", "/v1/tickets/{id}", "One of them", func(ctx context.Context, c Caller, r *http.Request, _ *None) (*Ticket, error) {
			return s.Ticket(ctx, c, r.PathValue("id"))
		}).people(),
		call("POST", "/v1/tickets/{id}/rule", "Rule on it, with the person's own proof", func(ctx context.Context, c Caller, r *http.Request, in *RuleRequest) (*Ticket, error) {
			return s.RuleTicket(ctx, c, r.PathValue("id"), *in)
		}).people(),
		stream("GET", "/v1/watch/tickets", "The open tickets, and then each as it opens or changes", func(ctx context.Context, c Caller, _ *http.Request, _ *None, out func(*Ticket) error) error {
			return s.WatchTickets(ctx, c, out)
		}).people(),
	}
}
