package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/ledger"
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
func (s *Service) Handler() http.Handler { return mux(s.Routes()) }

// PersonHandler returns the part of the interface that people reach who are not operators: the tickets that concern them.
func (s *Service) PersonHandler() http.Handler {
	return mux(slices.DeleteFunc(s.Routes(), func(r Route) bool { return !r.People }))
}

func mux(routes []Route) http.Handler {
	m := http.NewServeMux()
	for _, r := range routes {
		m.Handle(r.Method+" "+r.Path, r.handler)
	}
	return known(m)
}

// known refuses requests whose caller is not known.
func known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := caller(r.Context()); err != nil {
			reply(w, nil, err)
			return
		}
		next.ServeHTTP(w, r)
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

// trailer tells a client that a stream is complete.
const trailer = "Gatebook-Complete"

// lines makes a handler of an action that answers line by line. An error
// after the first line is a last line {"error": …}.
func lines(f func(context.Context, Caller, *http.Request, func(any) error) error) http.HandlerFunc {
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
