package postgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// relay is one session: an agent, a target, and what is under way between them.
type relay struct {
	d  *Driver
	a  *agent
	s  *enforce.Session
	up *upstream
	db *database // nil: names are taken as they are written
	// ctx is the connection's: it outlives the session's own end, so that
	// what was recorded can still be released.
	ctx context.Context //nolint:containedctx // the documented lifetime of this struct

	pid    uint32 // given to the agent with secret, for CancelRequest
	secret []byte

	req requests
	ans answers

	nameDue atomic.Bool // the target's application_name is to be set back

	mu         sync.Mutex
	cond       sync.Cond
	queue      queue
	skipping   bool            // after an error in the extended protocol, up to the Sync
	skipped    enforce.Receipt // of the last exchange that was ended because the target skips it
	statements names[*statement]
	charged    int // of the memory budget, by their texts
	portals    names[*portal]
	copying    *exch // in copy-in mode
	// reported are settings as the target last said; otherSetting is one that the session has changed and the target does not report, ""
	// for none.
	reported     map[string]string
	otherSetting string
	altered      string // the same, or the search path
	tx           byte   // the target's last transaction status
	name         string // what the agent calls itself
	firstName    string // what it called itself at first
	cancelling   int    // cancels on the way to the target
	over         bool   // the answer pump has ended
	fatal        bool   // the target has said why it ends the connection

	held chan<- string // of the request that waits for people, nil if none does
	left time.Time     // when a waiting request pump saw that the agent had left
}

// errTerminate is the request pump's end when the agent left in order,
// errOrphaned when it left while the pump waited, and limits.orphan is over.
var (
	errTerminate = errors.New("the agent left")
	errOrphaned  = errors.New("the agent left while its messages waited")
)

// serve runs the session until both sides are done. The session is closed in
// the book when it returns.
func (r *relay) serve(ctx context.Context) error {
	r.ctx = ctx
	r.cond.L = &r.mu
	err := r.connect()
	if err != nil {
		deny := asDeny(err)
		closeErr := r.s.Close(err)
		r.a.fatal(deny)
		return errors.Join(err, closeErr)
	}
	if r.db != nil {
		defer r.db.leave()
	}
	r.d.register(r)
	defer r.d.unregister(r)
	defer func() { _ = r.up.conn.Close() }()
	if err := r.greet(); err != nil {
		return errors.Join(err, r.s.Close(err))
	}
	return r.run()
}

// connect logs in to the target.
func (r *relay) connect() error {
	ctx, stop := context.WithTimeout(r.s.Context(), r.d.limits.Startup)
	defer stop()
	params := make(map[string]string, len(r.a.params)+1)
	for k, v := range r.a.params {
		params[k] = v
	}
	r.name = params["application_name"]
	r.firstName = r.name
	params["application_name"] = r.prefixed(r.name)
	up, err := login(ctx, r.s, r.a.database, params, r.d.limits.Value)
	if err != nil {
		return err
	}
	r.up, r.tx = up, up.tx
	unstop := context.AfterFunc(ctx, func() { _ = up.conn.SetDeadline(past) })
	defer unstop()
	if err := up.reached(ctx, r.s); err != nil {
		_ = up.conn.Close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if r.d.unresolved {
		return nil
	}
	if r.db, err = r.d.databases.join(ctx, r.s, r.s.Role(), r.a.database); err != nil {
		_ = up.conn.Close()
		return err
	}
	return nil
}

// prefixed returns the application_name that the target sees: which session,
// and what the agent calls itself, within the server's 63 bytes.
func (r *relay) prefixed(name string) string {
	p := strings.TrimRight("gb:"+r.s.ID().String()+" "+name, " ")
	if len(p) > 63 {
		p = p[:63]
	}
	return p
}

// greet tells the agent that it is in: the target's parameters, a cancel key of
// our own, and that we are ready.
func (r *relay) greet() error {
	size := 4
	if r.a.minor >= 2 {
		size = 32
	}
	r.secret = make([]byte, size)
	_, _ = rand.Read(r.secret)
	var frames []byte
	for _, p := range r.up.params {
		value := p.value
		if p.name == "application_name" {
			value = r.name
		}
		frames = appendStatus(frames, p.name, value)
	}
	receipt, err := r.s.Unasked(frames)
	if err != nil {
		return err
	}
	if err := receipt.Wait(r.ctx); err != nil {
		return err
	}
	out := []byte{'R', 0, 0, 0, 8, 0, 0, 0, 0}
	out = append(out, frames...)
	out, at := pgwire.BeginFrame(out, 'K')
	out = binary.BigEndian.AppendUint32(out, r.pid)
	out = pgwire.EndFrame(append(out, r.secret...), at)
	out = append(out, 'Z', 0, 0, 0, 5, r.tx)
	_ = r.a.conn.SetWriteDeadline(time.Now().Add(r.d.limits.Stall))
	_, err = r.a.conn.Write(out)
	return err
}

func appendStatus(dst []byte, name, value string) []byte {
	dst, at := pgwire.BeginFrame(dst, 'S')
	dst = append(dst, name...)
	dst = append(dst, 0)
	dst = append(dst, value...)
	return pgwire.EndFrame(append(dst, 0), at)
}

// run starts the answer pump, is the request pump, and joins both.
func (r *relay) run() error {
	sctx := r.s.Context()
	// A session that ends makes the request pump return at once; the answer
	// pump reads on until leave has cancelled what runs.
	stop := context.AfterFunc(sctx, func() {
		_ = r.a.conn.SetReadDeadline(past)
		_ = r.a.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_ = r.up.conn.SetWriteDeadline(past)
		r.mu.Lock()
		r.cond.Broadcast()
		r.mu.Unlock()
	})
	defer stop()
	r.ans.init(r)
	r.req.init(r)
	done := make(chan error, 1)
	go func() {
		err := r.ans.run()
		r.mu.Lock()
		r.over = true
		r.cond.Broadcast()
		r.mu.Unlock()
		_ = r.a.conn.SetReadDeadline(past)
		done <- err
	}()
	reqErr := r.req.run(sctx)
	r.mu.Lock()
	targetFirst := r.over
	r.mu.Unlock()
	r.leave(sctx, reqErr)
	ansErr := <-done
	r.req.release()
	r.uncharge()
	return r.finish(sctx, reqErr, ansErr, targetFirst)
}

// leave ends the target's side after the request pump ended: what runs may run
// on for a while, then it is cancelled; the target hears a Terminate.
func (r *relay) leave(sctx context.Context, reqErr error) {
	left := sctx.Err() == nil && agentLeft(reqErr)
	switch {
	case left && !errors.Is(reqErr, errOrphaned):
		r.drain(sctx, r.d.limits.Orphan)
	case errors.Is(reqErr, errTargetWrite) && sctx.Err() == nil:
		// The target may have said why before it stopped reading.
		_ = r.up.conn.SetReadDeadline(time.Now().Add(time.Second))
		r.drain(context.WithoutCancel(r.ctx), time.Second)
	case ended(sctx, access.CodeExpired) && !r.pipelined():
		// The exchanges are over; a Sync may be on its way, with the commit.
		r.drain(context.WithoutCancel(r.ctx), time.Second)
	}
	r.mu.Lock()
	running := !r.queue.idle() && !r.over
	r.mu.Unlock()
	if running {
		limit, grace := cancelTime, cancelGrace
		stopped := ended(sctx, access.CodeEnded)
		if stopped { // somebody waits for it to be over
			limit, grace = stopTime, stopGrace
			r.failCopy(reqErr)
		}
		ctx, stop := context.WithTimeout(context.WithoutCancel(r.ctx), limit)
		whole := (left || ended(sctx, "")) && r.pipelined()
		if whole && r.terminate(ctx) != nil {
			// A backend whose connection is reset ends when it has answered what runs.
			reset(r.up.conn)
			whole = false
		}
		var cancelErr error
		if !whole {
			cancelErr = r.cancelUpstream(ctx)
		}
		stop()
		if stopped {
			r.noteStop(cancelErr)
		}
		// The cancelled statement's error closes its exchange.
		_ = r.up.conn.SetReadDeadline(time.Now().Add(grace))
		r.drain(context.WithoutCancel(r.ctx), grace)
	}
	_ = r.up.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = r.up.conn.Write([]byte{'X', 0, 0, 0, 4})
	_ = r.up.conn.SetReadDeadline(past)
}

// cancelTime is how long the way of a cancel to the target may take, and cancelGrace how long the cancelled statement may then
// take to end. Where an operator ended the session it is less, so that all is over within two seconds.
const (
	cancelTime  = 5 * time.Second
	cancelGrace = 2 * time.Second
	stopTime    = 1200 * time.Millisecond
	stopGrace   = 600 * time.Millisecond
)

// copyEnded is the CopyFail of a session that an operator ended.
var copyEnded = pgwire.AppendFrame(nil, 'f', []byte("the session was ended\x00"))

// failCopy ends a COPY that reads from the agent, which a server does not cancel while it waits for data. A COPY counts only
// once its end has come, so that whatever else the target has read of it, nothing is kept.
func (r *relay) failCopy(reqErr error) {
	r.mu.Lock()
	copying := r.copying != nil
	r.mu.Unlock()
	if !copying || errors.Is(reqErr, errTargetWrite) { // part of a frame may be there
		return
	}
	_ = r.up.conn.SetWriteDeadline(time.Now().Add(stopGrace))
	_, _ = r.up.conn.Write(copyEnded)
}

// noteStop records that what ran was cancelled because an operator ended the session.
func (r *relay) noteStop(err error) {
	effect := "forwarded"
	if err != nil {
		effect = "failed"
		r.d.log.Warn("cancel not delivered", "session", r.s.ID().String(), "err", err)
	}
	_, _ = r.s.Cancelled("operator", "", effect)
}

// agentLeft reports whether the request pump ended because the agent closed
// the connection, in order or not.
func agentLeft(err error) bool {
	return errors.Is(err, errTerminate) || errors.Is(err, errOrphaned) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// ended reports whether the gateway ended the session, with this code, or with
// any if code is "".
func ended(sctx context.Context, code access.Code) bool {
	var deny *access.DenyError
	return sctx.Err() != nil && errors.As(context.Cause(sctx), &deny) && (code == "" || deny.Code == code)
}

// pipelined reports whether requests wait at the target behind the one that
// runs: a cancel would only let the next one begin.
func (r *relay) pipelined() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, it := range r.queue.all() {
		if it.kind == itemExecute || it.kind == itemQuery || it.kind == itemCall {
			n++
		}
	}
	return n > 1
}

// terminate ends the session's backend at the target with everything that is
// queued there, over a connection of the gateway's own with the same credential.
func (r *relay) terminate(ctx context.Context) error {
	params := map[string]string{"application_name": r.prefixed("end")}
	u, err := login(ctx, r.s, r.a.database, params, r.d.limits.Value)
	if err != nil {
		return err
	}
	defer func() { _ = u.conn.Close() }()
	_ = u.conn.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err = u.own(ctx, r.s, fmt.Sprintf("SELECT pg_catalog.pg_terminate_backend(%d)", int32(r.up.pid))); err != nil {
		return err
	}
	_, _ = u.conn.Write([]byte{'X', 0, 0, 0, 4})
	return nil
}

// reset closes a connection so that the peer cannot write to it any more.
func reset(conn net.Conn) {
	under := conn
	if c, ok := conn.(interface{ NetConn() net.Conn }); ok {
		under = c.NetConn()
	}
	if c, ok := under.(interface{ SetLinger(sec int) error }); ok {
		_ = c.SetLinger(0)
	}
	_ = under.Close()
}

// deadline is a moving time limit of a connection's writes. Setting one costs
// more than recording an entry does, so it is set again only when an eighth of it has passed.
type deadline struct{ at time.Time }

// next returns when a write that begins now must end, at most d from now, and
// whether that is due to be set.
func (l *deadline) next(d time.Duration) (at time.Time, due bool) {
	at = time.Now().Add(d)
	if at.Sub(l.at) <= d/8 {
		return l.at, false
	}
	l.at = at
	return at, true
}

// drain waits until nothing is under way, at most d.
func (r *relay) drain(ctx context.Context, d time.Duration) {
	ctx, stop := context.WithTimeout(ctx, d)
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.waitLocked(ctx, r.queue.idle)
}

// waitLocked blocks until done says so, the answer pump ends or ctx does.
// Callers hold r.mu; it returns ctx's cause.
func (r *relay) waitLocked(ctx context.Context, done func() bool) error {
	if done() || r.over {
		return nil
	}
	wake := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		r.cond.Broadcast()
		r.mu.Unlock()
	})
	defer wake()
	for !done() && !r.over {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.cond.Wait()
	}
	return nil
}

// watchEvery is how often a waiting request pump looks whether its agent is still there.
const watchEvery = time.Second

// waitAgent is waitLocked for the request pump, which cannot see by reading that
// the agent has left while it waits: it returns errOrphaned when the agent has been gone for limits.orphan.
func (r *relay) waitAgent(ctx context.Context, done func() bool) error {
	if done() || r.over {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var timer *time.Timer
	timer = time.AfterFunc(watchEvery, func() {
		r.mu.Lock()
		defer r.mu.Unlock() // also until timer is assigned
		if ctx.Err() != nil {
			return
		}
		if r.left.IsZero() && departed(r.a.raw) {
			r.left = time.Now()
		}
		next := watchEvery
		if !r.left.IsZero() {
			if next = r.d.limits.Orphan - time.Since(r.left); next <= 0 {
				cancel(errOrphaned)
				return
			}
		}
		timer.Reset(next)
	})
	defer timer.Stop()
	return r.waitLocked(ctx, done)
}

// finish closes the session in the book and tells the agent why it ended.
func (r *relay) finish(sctx context.Context, reqErr, ansErr error, targetFirst bool) error {
	var cause error
	switch {
	case sctx.Err() != nil:
		cause = context.Cause(sctx)
	case targetFirst || errors.Is(reqErr, errTargetWrite):
		cause = errors.Join(ansErr, reqErr)
		if targetFirst {
			cause = ansErr
		}
	case r.ans.gone != nil:
		cause = r.ans.gone
	case agentLeft(reqErr):
	default:
		cause = reqErr
	}
	closeErr := r.s.Close(cause)
	if cause != nil && !r.fatal && !r.ans.partial && r.ans.gone == nil {
		r.a.fatal(asDeny(cause))
	}
	return errors.Join(cause, closeErr)
}
