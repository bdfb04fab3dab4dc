package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

// Results of deliveries, for metrics.
const (
	Delivered = "delivered"
	Retried   = "retried" // an attempt failed, and another follows
	Failed    = "failed"  // given up
	Dropped   = "dropped" // too many messages waited
)

// Options are what a Sender needs.
type Options struct {
	Hooks []Hook
	// Source names the gateway in messages: the origin of its book.
	Source string
	// Link returns where people look at a ticket, "" for nowhere; nil says the same.
	Link func(ticket string) string
	// Lost records that an alert could not be delivered to a hook. It may block.
	Lost func(a *evidence.Alert)
	Log  *slog.Logger
}

// Sender delivers messages to hooks, each at least once and each hook's in order, from a bounded queue for each. Its methods are
// safe for concurrent use; Ticket and Alert never block.
type Sender struct {
	source string
	link   func(ticket string) string
	lost   func(*evidence.Alert)
	log    *slog.Logger
	queues []*queue
	losses sync.WaitGroup // being recorded

	mu      sync.Mutex
	results map[Result]uint64
}

// Result counts what became of attempts.
type Result struct{ Hook, Result string }

type queue struct {
	Hook
	c chan *message
}

// NewSender returns a sender. Nothing is delivered until Run.
func NewSender(o Options) *Sender {
	s := &Sender{source: o.Source, link: o.Link, lost: o.Lost, log: o.Log, results: make(map[Result]uint64)}
	for _, h := range o.Hooks {
		s.queues = append(s.queues, &queue{h, make(chan *message, queued)})
		for _, r := range []string{Delivered, Retried, Failed, Dropped} {
			s.results[Result{h.Name, r}] = 0
		}
	}
	return s
}

// Results returns the counts so far.
func (s *Sender) Results() map[Result]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.results)
}

func (s *Sender) count(hook, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[Result{hook, result}]++
}

// Ticket sends a message about a ticket to the hooks that take them.
func (s *Sender) Ticket(what string, t Ticket) {
	if s.link != nil {
		t.Link = s.link(t.Ticket)
	}
	s.send(what, &t, nil, func(h *Hook) bool { return h.Tickets })
}

// Alert sends an alert to the hooks that take them.
func (s *Sender) Alert(a *evidence.Alert) {
	s.send(Alerted, a, a, func(h *Hook) bool { return h.Alerts })
}

func (s *Sender) send(what string, data any, alert *evidence.Alert, takes func(*Hook) bool) {
	m, err := newMessage(s.source, what, data, time.Now())
	if err != nil { // names and times always marshal
		s.log.Error("webhook message", "err", err)
		return
	}
	m.alert = alert
	for _, q := range s.queues {
		if !takes(&q.Hook) {
			continue
		}
		select {
		case q.c <- m:
		default:
			s.count(q.Name, Dropped)
			s.log.Error("webhook: too many messages wait, one is dropped", "hook", q.Name, "type", what, "id", m.id)
			s.loss(q, m, "too many messages waited")
		}
	}
}

// loss records an alert that a hook will not get.
func (s *Sender) loss(q *queue, m *message, why string) {
	if !m.mustArrive() {
		return
	}
	a := &evidence.Alert{
		Alert: evidence.NewID().String(), What: evidence.AlertWebhookFailed, Ticket: m.alert.Ticket, Person: m.alert.Person,
		Principal: m.alert.Principal, Target: m.alert.Target,
		Text: fmt.Sprintf("the alert %s (%s) was not delivered to the webhook %s: %s", m.alert.Alert, m.alert.What, q.Name, why),
	}
	s.losses.Go(func() { s.lost(a) }) // the caller must not block
}

// Run delivers until ctx ends, after which nothing may be sent any more. What waits then is tried once, all of it within
// answerTime; alerts that still cannot be delivered are recorded before Run returns.
func (s *Sender) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, q := range s.queues {
		group.Go(func() { s.deliver(ctx, q) })
	}
	group.Wait()
	s.losses.Wait()
}

func (s *Sender) deliver(ctx context.Context, q *queue) {
	for {
		select {
		case m := <-q.c:
			s.try(ctx, q, m)
		case <-ctx.Done():
			s.last(ctx, q)
			return
		}
	}
}

// last empties a queue at the end.
func (s *Sender) last(ctx context.Context, q *queue) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer stop()
	for {
		select {
		case m := <-q.c:
			s.once(ctx, q, m)
		default:
			return
		}
	}
}

// once makes the one attempt that is left.
func (s *Sender) once(ctx context.Context, q *queue, m *message) {
	if err := q.post(ctx, m); err != nil {
		s.failed(q, m, err)
		return
	}
	s.count(q.Name, Delivered)
}

// try delivers a message, with pauses that grow, until it is taken, giveUp is over or ctx ends.
func (s *Sender) try(ctx context.Context, q *queue, m *message) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := q.post(context.WithoutCancel(ctx), m)
		switch {
		case err == nil:
			s.count(q.Name, Delivered)
			return
		case time.Since(m.at) > giveUp || ctx.Err() != nil:
			s.failed(q, m, err)
			return
		}
		s.count(q.Name, Retried)
		s.log.Warn("webhook: not delivered, trying again", "hook", q.Name, "type", m.what, "id", m.id, "err", err)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

func (s *Sender) failed(q *queue, m *message, err error) {
	s.count(q.Name, Failed)
	s.log.Error("webhook: not delivered", "hook", q.Name, "type", m.what, "id", m.id, "err", err)
	s.loss(q, m, err.Error())
}
