package postgres

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

const (
	// cancelsPerMinute is how many cancel requests of one source are looked at.
	cancelsPerMinute = 120
	// cancelSources bounds the memory of counting them.
	cancelSources = 4096
)

type flood struct {
	since time.Time
	n     int
}

// register gives a session its process id, unique among the open sessions.
func (d *Driver) register(r *relay) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for r.pid == 0 || d.cancels[r.pid] != nil {
		var b [4]byte
		_, _ = rand.Read(b[:])
		r.pid = binary.BigEndian.Uint32(b[:]) & 0x7fffffff
	}
	d.cancels[r.pid] = r
}

func (d *Driver) unregister(r *relay) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.cancels, r.pid)
}

// admitCancel counts a cancel request and reports whether it is looked at.
func (d *Driver) admitCancel(source string, now time.Time) bool {
	host, _, err := net.SplitHostPort(source)
	if err != nil {
		host = source
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.floods[host]
	if f == nil || now.Sub(f.since) >= time.Minute {
		if f == nil && len(d.floods) >= cancelSources {
			clear(d.floods) // a flood of sources loses count, not memory
		}
		f = &flood{since: now}
		d.floods[host] = f
	}
	f.n++
	return f.n <= cancelsPerMinute
}

// cancelRequest handles a CancelRequest, which the protocol never answers.
func (d *Driver) cancelRequest(ctx context.Context, a *agent, body []byte) error {
	pid, key, malformed := pgwire.ParseCancel(body)
	refuse := func(why error) {
		d.gate.Refuse(ctx, evidence.Refused{What: "cancel", Source: a.source, Listener: a.l.Address}, why)
	}
	if !d.admitCancel(a.source, time.Now()) {
		refuse(access.Deny(access.CodeLimit, "too many cancel requests"))
		return nil
	}
	if malformed != nil {
		refuse(malformed)
		return nil
	}
	d.mu.Lock()
	r := d.cancels[pid]
	d.mu.Unlock()
	if r == nil || subtle.ConstantTimeCompare(r.secret, key) != 1 {
		refuse(access.Deny(access.CodeForbidden, "no session has this cancel key"))
		return nil
	}
	r.cancel(ctx, a.source)
	return nil
}

// cancel cancels what the session runs, if anything does.
func (r *relay) cancel(ctx context.Context, source string) {
	r.mu.Lock()
	running := !r.queue.idle()
	r.mu.Unlock()
	effect := "nothing-running"
	switch {
	case running:
		effect = "forwarded"
	case r.withdraw("the agent cancelled"):
		effect = "withdrawn"
	}
	receipt, err := r.s.Cancelled("agent", source, effect)
	if err != nil || receipt.Wait(ctx) != nil || !running {
		return
	}
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if err := r.cancelUpstream(ctx); err != nil {
		_, _ = r.s.Note("cancel failed", "")
		r.d.log.Warn("cancel not delivered", "session", r.s.ID().String(), "err", err)
	}
}

// cancelUpstream sends a CancelRequest to the target if something runs, and
// returns once the target has acted on it. Meanwhile nothing is forwarded.
func (r *relay) cancelUpstream(ctx context.Context) error {
	r.mu.Lock()
	r.cancelling++
	running := !r.queue.idle()
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.cancelling--
		r.cond.Broadcast()
		r.mu.Unlock()
	}()
	if !running || len(r.up.key) == 0 {
		return nil
	}
	up, err := r.s.Cancel(ctx)
	if err != nil {
		return err
	}
	u := &upstream{conn: up.Conn}
	defer func() { _ = u.conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = up.Conn.SetDeadline(past) })
	defer stop()
	if err := u.secure(ctx, &enforce.Upstream{TLS: up.TLS}); err != nil {
		return err
	}
	if _, err := u.conn.Write(pgwire.AppendCancel(nil, r.up.pid, r.up.key)); err != nil {
		return err
	}
	// The target closes the connection once the signal is on its way.
	if _, err := u.conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
