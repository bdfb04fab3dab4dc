package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/ledger"
	"github.com/gatebook/gatebook/internal/secret"
)

type callerKey struct{}

// WithCaller returns a context that says who calls.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func caller(ctx context.Context) (Caller, error) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		return c, errors.New("the caller is not known")
	}
	return c, nil
}

// maxRequest bounds a request's body, in bytes.
const maxRequest = 1 << 20

// Handler returns the service's HTTP interface. Every answer that is not an
// error begins with a record in the book.
func (s *Service) Handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Status(), nil) })
	m.HandleFunc("GET /v1/sessions", func(w http.ResponseWriter, r *http.Request) {
		c, err := caller(r.Context())
		if err != nil {
			reply(w, nil, err)
			return
		}
		list, err := s.Sessions(r.Context(), c)
		reply(w, list, err)
	})
	m.HandleFunc("POST /v1/sessions/{id}/end", post(func(ctx context.Context, c Caller, r *http.Request, in *struct{ Reason string }) error {
		return s.EndSession(ctx, c, r.PathValue("id"), in.Reason)
	}))
	m.HandleFunc("POST /v1/sessions/{id}/renew", post(func(ctx context.Context, c Caller, r *http.Request, in *struct{ Token string }) error {
		return s.RenewSession(ctx, c, r.PathValue("id"), secret.New(in.Token))
	}))
	m.HandleFunc("POST /v1/reload", post(func(ctx context.Context, _ Caller, _ *http.Request, _ *struct{}) error {
		if s.Reload == nil {
			return ErrNotRunning
		}
		return s.Reload(ctx)
	}))
	m.HandleFunc("GET /v1/sessions/{id}", s.stream(func(ctx context.Context, c Caller, r *http.Request, out func(any) error) error {
		return s.ShowSession(ctx, c, r.PathValue("id"), r.URL.Query().Get("follow") != "", func(e *Event) error { return out(e) })
	}))
	m.HandleFunc("GET /v1/tickets", func(w http.ResponseWriter, r *http.Request) {
		c, err := caller(r.Context())
		var list []*Ticket
		if err == nil {
			list, err = s.Tickets(r.Context(), c)
		}
		reply(w, list, err)
	})
	m.HandleFunc("GET /v1/tickets/{id}", func(w http.ResponseWriter, r *http.Request) {
		c, err := caller(r.Context())
		var t *Ticket
		if err == nil {
			t, err = s.Ticket(r.Context(), c, r.PathValue("id"))
		}
		reply(w, t, err)
	})
	m.HandleFunc("POST /v1/tickets/{id}/rule", func(w http.ResponseWriter, r *http.Request) {
		c, err := caller(r.Context())
		var in RuleRequest
		var t *Ticket
		if err == nil {
			err = decode(r, &in)
		}
		if err == nil {
			t, err = s.RuleTicket(r.Context(), c, r.PathValue("id"), in)
		}
		reply(w, t, err)
	})
	m.HandleFunc("GET /v1/principals/suspended", func(w http.ResponseWriter, r *http.Request) {
		c, err := caller(r.Context())
		var list []enforce.Suspension
		if err == nil {
			list, err = s.Suspended(r.Context(), c)
		}
		reply(w, list, err)
	})
	m.HandleFunc("POST /v1/principals/suspend", func(w http.ResponseWriter, r *http.Request) {
		c, err := caller(r.Context())
		var in SuspendRequest
		var out *SuspendAnswer
		if err == nil {
			err = decode(r, &in)
		}
		if err == nil {
			out, err = s.Suspend(r.Context(), c, in)
		}
		reply(w, out, err)
	})
	m.HandleFunc("POST /v1/principals/resume", post(func(ctx context.Context, c Caller, _ *http.Request, in *SuspendRequest) error {
		return s.ResumePrincipal(ctx, c, *in)
	}))
	m.HandleFunc("GET /v1/watch/tickets", s.stream(func(ctx context.Context, c Caller, _ *http.Request, out func(any) error) error {
		return s.WatchTickets(ctx, c, func(t *Ticket) error { return out(t) })
	}))
	m.HandleFunc("POST /v1/query", s.stream(func(ctx context.Context, c Caller, r *http.Request, out func(any) error) error {
		var in struct{ SQL string }
		if err := decode(r, &in); err != nil {
			return err
		}
		return s.Query(ctx, c, in.SQL, func(columns []string, row []any) error {
			if row == nil {
				return out(map[string]any{"columns": columns})
			}
			return out(map[string]any{"row": row})
		})
	}))
	m.HandleFunc("POST /v1/access", s.stream(func(ctx context.Context, c Caller, r *http.Request, out func(any) error) error {
		var in AccessRequest
		if err := decode(r, &in); err != nil {
			return err
		}
		return s.ListAccess(ctx, c, in, func(b *AccessBasis) error { return out(map[string]any{"basis": b}) },
			func(a *Access) error { return out(map[string]any{"access": a}) })
	}))
	m.HandleFunc("POST /v1/index/rebuild", s.stream(func(ctx context.Context, c Caller, _ *http.Request, out func(any) error) error {
		return s.RebuildIndex(ctx, c, func(n uint64) { _ = out(map[string]uint64{"done": n}) })
	}))
	m.HandleFunc("POST /v1/checkpoint", func(w http.ResponseWriter, r *http.Request) {
		cp, err := s.Checkpoint(r.Context())
		reply(w, map[string]string{"checkpoint": cp}, err)
	})
	m.HandleFunc("POST /v1/check", func(w http.ResponseWriter, r *http.Request) { reply(w, s.Check(r.Context()), nil) })
	m.HandleFunc("POST /v1/export", s.export)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := caller(r.Context()); err != nil {
			reply(w, nil, err)
			return
		}
		m.ServeHTTP(w, r)
	})
}

// problem is an error on the wire.
type problem struct {
	Error string `json:"error"`
}

func status(err error) int {
	switch {
	case errors.Is(err, ErrNoSession), errors.Is(err, ledger.ErrNothing), errors.Is(err, approval.ErrNoTicket):
		return http.StatusNotFound
	case errors.Is(err, ErrNotRunning):
		return http.StatusConflict
	}
	return http.StatusUnprocessableEntity
}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(status(err))
		v = problem{err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v)
}

func decode(r *http.Request, into any) error {
	dec := json.NewDecoder(io.LimitReader(r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("malformed request: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("malformed request: something follows it")
	}
	return nil
}

// post makes a handler of an action that answers nothing but whether it worked.
func post[T any](f func(context.Context, Caller, *http.Request, *T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := caller(r.Context())
		var in T
		if err == nil {
			err = decode(r, &in)
		}
		if err == nil {
			err = f(r.Context(), c, r, &in)
		}
		reply(w, struct{}{}, err)
	}
}

// trailer tells a client that a stream is complete.
const trailer = "Gatebook-Complete"

// stream makes a handler of an action that answers line by line. An error
// after the first line is a last line {"error": …}.
func (s *Service) stream(f func(context.Context, Caller, *http.Request, func(any) error) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := caller(r.Context())
		begun := false
		flush := http.NewResponseController(w)
		enc := json.NewEncoder(w)
		if err == nil {
			err = f(r.Context(), c, r, func(v any) error {
				if !begun {
					w.Header().Set("Trailer", trailer)
					w.Header().Set("Content-Type", "application/jsonl")
				}
				begun = true
				if err := enc.Encode(v); err != nil {
					return err
				}
				return flush.Flush()
			})
		}
		switch {
		case err != nil && !begun:
			reply(w, nil, err)
		case err != nil:
			_ = enc.Encode(problem{err.Error()})
		case !begun:
			w.Header().Set("Trailer", trailer)
			w.WriteHeader(http.StatusOK)
			fallthrough
		default:
			w.Header().Set(trailer, "yes")
		}
	}
}

// export answers with lines of progress, a line "package", and the package.
func (s *Service) export(w http.ResponseWriter, r *http.Request) {
	c, err := caller(r.Context())
	var in ExportRequest
	if err == nil {
		err = decode(r, &in)
	}
	if err != nil {
		reply(w, nil, err)
		return
	}
	out := &exportWriter{w: w, flush: http.NewResponseController(w)}
	err = s.Export(r.Context(), c, in, out.progress, out)
	switch {
	case err != nil && !out.begun:
		reply(w, nil, err)
	case err != nil && !out.packing:
		fmt.Fprintf(w, "error %q\n", err.Error())
	case err == nil:
		w.Header().Set(trailer, "yes")
	}
}

type exportWriter struct {
	w       http.ResponseWriter
	flush   *http.ResponseController
	begun   bool
	packing bool
	last    uint64
}

func (o *exportWriter) begin() {
	if !o.begun {
		o.begun = true
		o.w.Header().Set("Trailer", trailer)
		o.w.Header().Set("Content-Type", "application/octet-stream")
	}
}

func (o *exportWriter) progress(done, total uint64) {
	if done != total && done-o.last < 1<<15 {
		return
	}
	o.last = done
	o.begin()
	fmt.Fprintf(o.w, "progress %d %d\n", done, total)
	_ = o.flush.Flush()
}

func (o *exportWriter) Write(p []byte) (int, error) {
	o.begin()
	if !o.packing {
		o.packing = true
		if _, err := io.WriteString(o.w, "package\n"); err != nil {
			return 0, err
		}
	}
	return o.w.Write(p)
}
