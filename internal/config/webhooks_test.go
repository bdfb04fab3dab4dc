package config

import (
	"slices"
	"strings"
	"testing"
)

func TestWebhooks(t *testing.T) {
	t.Parallel()
	const hook = "webhooks: [{name: chat, url: 'https://chat.example.com/x', secret: file:hook, events: [alert]}]\n"
	const glass = "approvers: {groups: [dba], break_glass: [oncall]}\n"
	const rule = "rules: [{name: a, when: 'true', then: hold, approvers: {groups: [dba], break_glass: [oncall]}}]\n"
	load := func(text string) (*Loaded, error) {
		return Load(write(t, map[string]string{"gatebook.yaml": strings.NewReplacer("include: [targets.d/*.yaml]\n", text, "listeners:", pageIssuer+"listeners:").Replace(good)}))
	}
	c, err := load(hook + rule + "inbound: [{name: chat, secret: env:CHAT}]\n" + pageBlock)
	if err != nil {
		t.Fatal(err)
	}
	if w := &c.Webhooks[0]; !w.Takes(EventAlert) || w.Takes(EventTicket) {
		t.Errorf("%+v", w)
	}
	if all := (&Webhook{}); !all.Takes(EventAlert) || !all.Takes(EventTicket) {
		t.Error("a webhook without events does not get all")
	}
	if a := c.Policy.Rules()[0].Approvers; !slices.Equal(a.BreakGlass, []string{"oncall"}) {
		t.Errorf("%+v", a)
	}
	if _, err := load(hook + glass); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		rule:  "nobody would hear of it",
		glass: "nobody would hear of it",
		rule + strings.Replace(hook, "alert", "ticket", 1):                                                     "nobody would hear of it",
		hook + "approvers: {groups: [dba], break_glass: ['']}":                                                 "break_glass must name groups",
		"webhooks: [{url: 'https://x', secret: file:x}]":                                                       "is not a name",
		"webhooks: [{name: a, url: 'https://x', secret: file:x}, {name: a, url: 'https://x', secret: file:x}]": "taken by another",
		"webhooks: [{name: a, url: 'http://x', secret: file:x}]":                                               "must begin with https://",
		"webhooks: [{name: a, url: 'ftp://x', secret: file:x, insecure_http: true}]":                           "must begin with https://",
		"webhooks: [{name: a, url: 'https://u:p@x', secret: file:x}]":                                          "without a user",
		"webhooks: [{name: a, url: 'https:///x', secret: file:x}]":                                             "must be https://HOST/PATH",
		"webhooks: [{name: a, url: 'https://x'}]":                                                              "must name the secret",
		"webhooks: [{name: a, url: 'https://x', secret: whsec_canary}]":                                        "not a secret reference",
		"webhooks: [{name: a, url: 'https://x', secret: file:x, events: [tickets]}]":                           "is not one of ticket, alert",
		"webhooks: [{name: a, url: 'https://x', secret: file:x, ca: x}]":                                       "not a file reference",
		"inbound: [{name: a}]":                                            "must name the secret",
		"inbound: [{name: 'a b', secret: file:x}]":                        "is not a name",
		"inbound: [{name: a, secret: file:x}, {name: a, secret: file:x}]": "taken by another",
	} {
		if _, err := load(text + "\n"); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
