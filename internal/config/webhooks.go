package config

import (
	"fmt"
	"net/url"
	"slices"
)

// Events that webhooks take.
const (
	EventTicket = "ticket"
	EventAlert  = "alert"
)

// Takes reports whether the webhook gets messages of an event.
func (w *Webhook) Takes(event string) bool {
	return len(w.Events) == 0 || slices.Contains(w.Events, event)
}

// webhooks checks webhooks and bridges, and that somebody hears of a broken glass.
func (ld *loader) webhooks() {
	c := &ld.l.Config
	names := map[string]bool{}
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		at := source{ld.main, fmt.Sprintf("webhooks[%d]", i)}
		ld.hookName(at, w.Name, names)
		ld.hookURL(at, w)
		ld.hookSecret(at, w.Secret)
		ld.file(at, "ca", w.CA)
		for _, e := range w.Events {
			ld.oneOf(at, "events", e, EventTicket, EventAlert)
		}
	}
	clear(names)
	for i := range c.Inbound {
		at := source{ld.main, fmt.Sprintf("inbound[%d]", i)}
		ld.hookName(at, c.Inbound[i].Name, names)
		ld.hookSecret(at, c.Inbound[i].Secret)
	}
	if len(c.Inbound) > 0 && c.Console == nil {
		ld.problem(source{ld.main, ""}, "inbound", "needs a console: bridges deliver at its address")
	}
	if slices.ContainsFunc(c.Webhooks, func(w Webhook) bool { return w.Takes(EventAlert) }) {
		return
	}
	const unheard = "break_glass needs a webhook that takes alerts (webhooks: [{…, events: [alert]}]): nobody would hear of it"
	if c.Approvers != nil && len(c.Approvers.BreakGlass) > 0 {
		ld.problem(source{ld.main, ""}, "approvers", "%s", unheard)
	}
	for i := range c.Rules {
		if a := c.Rules[i].Approvers; a != nil && len(a.BreakGlass) > 0 {
			ld.problem(ld.rules[i], "approvers", "%s", unheard)
		}
	}
}

func (ld *loader) hookName(at source, name string, taken map[string]bool) {
	switch {
	case !targetName.MatchString(name):
		ld.problem(at, "name", "%q is not a name of a-z, 0-9 and -", name)
	case taken[name]:
		ld.problem(at, "name", "%q is taken by another", name)
	}
	taken[name] = true
}

func (ld *loader) hookURL(at source, w *Webhook) {
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		ld.problem(at, "url", "must be https://HOST/PATH, without a user or a fragment")
	case u.Scheme == "http" && w.InsecureHTTP, u.Scheme == "https":
	default:
		ld.problem(at, "url", "must begin with https:// (insecure_http permits http://)")
	}
}

func (ld *loader) hookSecret(at source, ref string) {
	if ref == "" {
		ld.problem(at, "secret", "must name the secret that messages are signed with, such as file:secrets/hook")
	}
	ld.ref(at, "secret", ref)
}
