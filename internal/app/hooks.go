package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/netguard"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/webhook"
)

// herald tells the log, metrics and webhooks of tickets and alerts. It implements approval.Listener.
type herald struct {
	app    *App
	sender *webhook.Sender

	mu     sync.Mutex
	alerts map[string]uint64 // by what they are about
}

// newHerald makes the webhooks of the configuration.
func newHerald(a *App) (*herald, error) {
	h := &herald{app: a, alerts: map[string]uint64{evidence.AlertBreakGlass: 0, evidence.AlertWebhookFailed: 0}}
	o := webhook.Options{Source: a.book.Ledger.Origin(), Link: a.ticketURL, Lost: h.lost, Log: a.log}
	for i := range a.cfg.Webhooks {
		hook, err := outbound(&a.cfg.Webhooks[i], a.cfg.Dir)
		if err != nil {
			return nil, fmt.Errorf("webhook %s: %w", a.cfg.Webhooks[i].Name, err)
		}
		o.Hooks = append(o.Hooks, hook)
	}
	h.sender = webhook.NewSender(o)
	return h, nil
}

func outbound(w *config.Webhook, dir string) (webhook.Hook, error) {
	h := webhook.Hook{
		Name: w.Name, URL: w.URL, Allow: netguard.Allow{Loopback: w.AllowLoopback, Private: w.AllowPrivate},
		Tickets: w.Takes(config.EventTicket), Alerts: w.Takes(config.EventAlert),
	}
	var err error
	if h.Secret, err = secret.ParseRef(w.Secret, dir); err != nil {
		return h, err
	}
	if w.CA != "" {
		h.CA, err = secret.ParseFile(w.CA, dir)
	}
	return h, err
}

// Ticket implements approval.Listener. What leaves the gateway says which request it is and nothing of what it does.
func (h *herald) Ticket(t *approval.Ticket, s approval.State) {
	what := webhook.TicketEnded
	switch s {
	case approval.Open:
		what = webhook.TicketOpened
	case approval.Approved, approval.Denied:
		what = webhook.TicketDecided
	}
	b := &t.Asked.Bound
	h.sender.Ticket(what, webhook.Ticket{
		Ticket: t.ID.String(), State: string(s), Principal: b.Principal, Target: b.Target, Rules: b.Rules, Requester: t.Asked.Requester, Expires: b.Expires,
	})
}

// Alert implements approval.Listener.
func (h *herald) Alert(a *evidence.Alert) {
	h.mu.Lock()
	h.alerts[a.What]++
	h.mu.Unlock()
	h.app.log.Warn("alert", "what", a.What, "alert", a.Alert, "ticket", a.Ticket, "person", a.Person, "principal", a.Principal, "target", a.Target, "text", a.Text)
	h.sender.Alert(a)
}

// counts returns the alerts so far, by what they are about.
func (h *herald) counts() map[string]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.alerts)
}

// bookEntries records entries of no session.
type bookEntries struct{ book *Book }

// Record implements approval.Recorder.
func (b bookEntries) Record(ctx context.Context, kind evidence.Kind, body any) error {
	r, err := b.book.Ledger.Control(audit.NewClosing(kind, body))
	if err == nil {
		err = r.Wait(ctx)
	}
	return err
}

// lost records an alert about an alert that was not delivered.
func (h *herald) lost(a *evidence.Alert) {
	if err := (bookEntries{h.app.book}).Record(context.Background(), evidence.KindAlert, a); err != nil {
		h.app.log.Error("an alert is not recorded", "text", a.Text, "err", err)
	}
	h.Alert(a)
}

// newReceiver makes the handler for bridges of the configuration.
func newReceiver(a *App) (*webhook.Receiver, error) {
	var bridges []webhook.Bridge
	for _, in := range a.cfg.Inbound {
		ref, err := secret.ParseRef(in.Secret, a.cfg.Dir)
		if err != nil {
			return nil, fmt.Errorf("inbound %s: %w", in.Name, err)
		}
		bridges = append(bridges, webhook.Bridge{Name: in.Name, Secret: ref})
	}
	return webhook.NewReceiver(bridges, a.deliver), nil
}

// deliver takes a ruling that a bridge brought, as the admin socket takes one: whose it is says the proof in it.
func (a *App) deliver(ctx context.Context, bridge, ticket string, ruling json.RawMessage) error {
	var r admin.RuleRequest
	d := json.NewDecoder(bytes.NewReader(ruling))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return fmt.Errorf("the ruling: %w", err)
	}
	_, err := a.book.Admin.RuleTicket(ctx, admin.Caller{Who: bridge, How: "webhook", UID: -1}, ticket, r)
	return err
}
