package access

import "strings"

// Effects is a set of what a request does, in words that hold for every
// protocol. The zero set is that of a request that does nothing known; whoever
// judges must take it for the worst, not for harmless.
type Effects uint16

// Effects of a request. A request of several parts has the effects of all of them.
const (
	// EffectRead: it gives data of the target to the agent.
	EffectRead Effects = 1 << iota
	// EffectWrite: it changes data.
	EffectWrite
	// EffectSchema: it changes definitions.
	EffectSchema
	// EffectAccess: it changes who may do what, or as whom the session acts.
	EffectAccess
	// EffectExecute: it runs code whose effects cannot be known from the request.
	EffectExecute
	// EffectFile: it reads or writes files of the target's host.
	EffectFile
	// EffectNetwork: it makes the target talk to others.
	EffectNetwork
	// EffectAdmin: it operates the target or others' sessions.
	EffectAdmin
	// EffectLock: it takes locks of its own will, or waits.
	EffectLock
	// EffectNotify: it sends or awaits messages to and from other sessions.
	EffectNotify
	// EffectSession: it changes the state of its own session.
	EffectSession
	// EffectTransaction: it begins or ends a transaction.
	EffectTransaction

	effectsEnd
)

// AllEffects is every effect.
const AllEffects = effectsEnd - 1

var effectNames = [...]string{
	"read", "write", "schema", "access", "execute", "file", "network", "admin", "lock", "notify", "session", "transaction",
}

// EffectNames returns the names of all effects, in the order that lists of them have.
func EffectNames() []string { return append([]string(nil), effectNames[:]...) }

// ParseEffect returns the effect of a name.
func ParseEffect(name string) (Effects, bool) {
	for i, n := range effectNames {
		if n == name {
			return 1 << i, true
		}
	}
	return 0, false
}

// Has reports whether at least one of the effects is in the set.
func (e Effects) Has(any Effects) bool { return e&any != 0 }

// Names returns the names of the effects in the set, in the order of EffectNames.
func (e Effects) Names() []string {
	names := make([]string, 0, 4)
	for i, n := range effectNames {
		if e&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// String returns the names, joined by commas.
func (e Effects) String() string { return strings.Join(e.Names(), ",") }
