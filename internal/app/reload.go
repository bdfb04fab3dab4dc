package app

import (
	"reflect"

	"github.com/gatebook/gatebook/internal/config"
)

// needsRestart names the first changed key that a reload cannot change.
func needsRestart(old, now *config.Config) string {
	limits := func(l config.Limits) config.Limits {
		l.PrincipalSessions, l.PrincipalExchanges, l.PrincipalBytes, l.ExpiryDrain, l.ShutdownDrain = 0, 0, 0, 0, 0 // these a reload can change
		return l
	}
	for _, k := range []struct {
		name     string
		old, now any
	}{
		{"data", old.Data, now.Data}, {"sync", old.Sync, now.Sync}, {"heartbeat", old.Heartbeat, now.Heartbeat},
		{"keys", old.Keys, now.Keys}, {"issuers", old.Issuers, now.Issuers}, {"listeners", old.Listeners, now.Listeners},
		{"index", old.Index, now.Index}, {"webhooks", old.Webhooks, now.Webhooks}, {"inbound", old.Inbound, now.Inbound}, {"ops", old.Ops, now.Ops}, {"console", old.Console, now.Console}, {"limits", limits(old.Limits), limits(now.Limits)},
	} {
		if !reflect.DeepEqual(k.old, k.now) {
			return k.name
		}
	}
	return ""
}
