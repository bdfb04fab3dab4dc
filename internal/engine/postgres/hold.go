package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// quiet forwards what came before and returns when it is answered and delivered. doomed says that what comes now would not run.
func (q *requests) quiet(ctx context.Context) (doomed bool, err error) {
	r := q.r
	if q.dirty { // the target answers the extended protocol at a Flush or Sync
		q.out = append(q.out, flushFrame...)
	}
	if err := q.commit(ctx); err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err = r.waitAgent(ctx, func() bool { return r.queue.idle() || r.doomed() || r.copying != nil })
	return r.doomed() || r.copying != nil, err
}

// hold keeps a request waiting until people have ruled on it. What came before it is forwarded, answered and delivered first;
// nothing of it, and nothing behind it, reaches the target meanwhile. An error ends the session.
func (q *requests) hold(ctx context.Context, x *enforce.Exchange, a *access.Action, raw []byte) error {
	r := q.r
	doomed, err := q.quiet(ctx)
	if err != nil {
		return err
	}
	if doomed {
		x.Forgo("an earlier request of the pipeline failed")
		return nil
	}
	r.mu.Lock()
	h := enforce.Holding{
		InTransaction: r.tx != 'I' || q.executed, Notice: q.notice,
		Preview: func(ctx context.Context) *evidence.Effect { return q.preview(ctx, a, raw) },
		Meaning: q.meaning, Settings: q.settings(), Altered: r.altered,
	}
	r.mu.Unlock()
	gone := make(chan string, 1)
	h.Gone = gone
	r.mu.Lock()
	r.held = gone
	r.mu.Unlock()
	done := make(chan struct{})
	go r.watchHeld(done, gone)
	x.Await(ctx, a, &h)
	close(done)
	r.mu.Lock()
	r.held = nil
	r.mu.Unlock()
	return nil
}

// watchHeld looks whether both sides are still there while a request waits.
func (r *relay) watchHeld(done <-chan struct{}, gone chan<- string) {
	t := time.NewTicker(watchEvery / 4)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		cause := ""
		r.mu.Lock()
		over := r.over
		r.mu.Unlock()
		switch {
		case over:
			cause = "the target closed the connection"
		case departed(r.a.raw):
			cause = "the agent left"
		default:
			continue
		}
		select {
		case gone <- cause:
		default:
		}
		return
	}
}

// withdraw ends the wait of a held request. It reports whether one waited.
func (r *relay) withdraw(cause string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		return false
	}
	select {
	case r.held <- cause:
	default:
	}
	return true
}

// notice tells the agent that its request waits. Nothing else is on its way to the agent then but what the target sends
// without being asked, and each write is whole frames.
func (q *requests) notice(w enforce.Waiting) error {
	left := time.Until(w.Expires).Round(time.Second)
	text := fmt.Sprintf("gatebook: this waits for a person (rule %s), ticket %s, at most until %s (%s)", w.Rule, w.Ticket, w.Expires.Format(time.RFC3339), left)
	detail, hint := w.Reason, w.Link
	if !w.Stands.IsZero() {
		detail = strings.TrimSpace(fmt.Sprintf("%s\nPeople can rule until %s: send exactly the same again if you cannot wait.", detail, w.Stands.Format(time.RFC3339)))
	}
	if !w.First {
		text = fmt.Sprintf("gatebook: still waiting, ticket %s, %s left", w.Ticket, left)
		detail, hint = "", ""
	}
	return q.tell(text, detail, hint)
}

// tell sends the agent a notice of the gateway's own, when nothing else is on its way to it.
func (q *requests) tell(text, detail, hint string) error {
	r := q.r
	frame, at := pgwire.BeginFrame(nil, 'N')
	for _, field := range []struct {
		code byte
		text string
	}{{'S', "NOTICE"}, {'V', "NOTICE"}, {'C', "00000"}, {'M', text}, {'D', detail}, {'H', hint}} {
		if field.text != "" {
			frame = append(append(append(frame, field.code), field.text...), 0)
		}
	}
	frame = pgwire.EndFrame(append(frame, 0), at)
	receipt, err := r.s.Unasked(frame)
	if err != nil {
		return err
	}
	if err := receipt.Wait(r.ctx); err != nil {
		return err
	}
	_ = r.a.conn.SetWriteDeadline(time.Now().Add(r.d.limits.Stall))
	_, err = r.a.conn.Write(frame)
	return err
}
