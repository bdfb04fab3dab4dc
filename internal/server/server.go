// Package server owns listeners and the connections that come in on them: it
// accepts, bounds, hands each connection to its engine, and joins them all.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/engine"
)

// Options of a server.
type Options struct {
	// Connections bounds the open connections of all listeners; what comes
	// beyond is closed at once.
	Connections int
	Log         *slog.Logger
}

// Server accepts connections. Listen is called before Serve; the rest is safe
// for concurrent use.
type Server struct {
	o     Options
	open  atomic.Int64
	conns sync.WaitGroup
	loops sync.WaitGroup

	ports    []port
	accepted atomic.Uint64
	rejected atomic.Uint64
}

type port struct {
	ln     net.Listener
	driver engine.Driver
	l      *engine.Listener
}

// New returns a server without listeners.
func New(o Options) *Server { return &Server{o: o} }

// Listen binds an address. l.Address becomes the one really bound.
func (s *Server) Listen(d engine.Driver, l *engine.Listener) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", l.Address)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", d.Protocol(), err)
	}
	l.Address = ln.Addr().String()
	s.ports = append(s.ports, port{ln, d, l})
	return nil
}

// Bound is an address that the server listens on.
type Bound struct {
	Protocol access.Protocol
	Address  string
}

// Addresses returns what is bound.
func (s *Server) Addresses() []Bound {
	list := make([]Bound, len(s.ports))
	for i, p := range s.ports {
		list[i] = Bound{p.driver.Protocol(), p.l.Address}
	}
	return list
}

// Serve starts accepting. Connections live until they end or ctx does.
func (s *Server) Serve(ctx context.Context) {
	for _, p := range s.ports {
		s.loops.Go(func() { s.accept(ctx, p) })
	}
}

// Stop ends accepting; connections go on.
func (s *Server) Stop() error {
	var errs []error
	for _, p := range s.ports {
		if err := p.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.loops.Wait()
	return errors.Join(errs...)
}

// Wait returns once every connection has ended.
func (s *Server) Wait() { s.conns.Wait() }

// Figures are the server's counters.
type Figures struct {
	Open     int64
	Accepted uint64
	Rejected uint64
}

// Figures returns the counters.
func (s *Server) Figures() Figures {
	return Figures{Open: s.open.Load(), Accepted: s.accepted.Load(), Rejected: s.rejected.Load()}
}

func (s *Server) accept(ctx context.Context, p port) {
	for {
		nc, err := p.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, most likely: wait rather than spin.
			s.o.Log.Error("accept", "listener", p.l.Address, "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if s.open.Add(1) > int64(s.o.Connections) {
			s.open.Add(-1)
			s.rejected.Add(1)
			_ = nc.Close()
			continue
		}
		s.accepted.Add(1)
		s.conns.Go(func() {
			defer s.open.Add(-1)
			s.serve(ctx, p, nc)
		})
	}
}

func (s *Server) serve(ctx context.Context, p port, nc net.Conn) {
	defer func() { _ = nc.Close() }()
	err := p.driver.ServeConn(ctx, nc, p.l)
	if err == nil {
		return
	}
	var deny *access.DenyError
	level := slog.LevelInfo
	if !errors.As(err, &deny) {
		level = slog.LevelDebug
	}
	s.o.Log.Log(ctx, level, "connection ended", "source", nc.RemoteAddr().String(), "protocol", string(p.driver.Protocol()), "err", err)
}
