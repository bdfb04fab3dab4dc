package index

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

// defaultHeartbeat is what a boot entry promises that does not say.
const defaultHeartbeat = 30

// control takes in an entry of the book itself.
func (b *batch) control(e *entry) error {
	switch e.h.Kind {
	case evidence.KindPrincipal:
		return b.principalSeen(e)
	case evidence.KindTarget:
		return b.targetSeen(e)
	case evidence.KindRefused:
		var r evidence.Refused
		var c [9]any
		if e.decode(&r) {
			c = [9]any{
				int64(r.Count), text(r.What), text(r.Code), text(r.Detail), text(r.Source), text(r.Listener), text(r.Target),
				text(r.Role), text(r.Actor),
			}
		}
		return b.c.run(b.ctx, "INSERT INTO refusal_row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", int64(e.h.Index), e.time, e.us, e.state,
			c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8])
	case evidence.KindAdmin:
		return b.admin(e)
	case evidence.KindConfig:
		return b.config(e)
	case evidence.KindAlert:
		return b.alert(e)
	case evidence.KindRuling:
		return b.standingRuling(e)
	case evidence.KindTicketEnd:
		return b.standingEnds(e)
	}
	return b.continuity(e)
}

func (b *batch) principalSeen(e *entry) error {
	var p evidence.Principal
	var c [8]any
	if e.decode(&p) {
		c = [8]any{
			principal(&p), text(p.Issuer), text(p.IssuerURL), text(p.Subject), text(p.Name), text(p.Owner), list(p.Groups), list(p.Actor),
		}
	}
	return b.c.run(b.ctx, `INSERT INTO principal_row VALUES (?1, ?2, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
		ON CONFLICT DO UPDATE SET last_entry = ?2, last_seen = ?3, body = ?4, principal = ?5, issuer = ?6, issuer_url = ?7, subject = ?8,
		name = ?9, owner = ?10, groups = ?11, acting = ?12`,
		e.h.Actor.String(), int64(e.h.Index), e.time, e.state, c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7])
}

func (b *batch) targetSeen(e *entry) error {
	var t evidence.Target
	var c [4]any
	if e.decode(&t) {
		c = [4]any{text(t.Name), text(t.Protocol), text(t.Address), labels(t.Labels)}
	}
	return b.c.run(b.ctx, `INSERT INTO target_row VALUES (?1, ?2, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8)
		ON CONFLICT DO UPDATE SET last_entry = ?2, last_seen = ?3, body = ?4, target = ?5, protocol = ?6, address = ?7, labels = ?8`,
		e.h.Target.String(), int64(e.h.Index), e.time, e.state, c[0], c[1], c[2], c[3])
}

func (b *batch) admin(e *entry) error {
	var a struct {
		evidence.Admin
		Detail json.RawMessage `json:"detail"` // any JSON; kept as it is written
	}
	var c [6]any
	if e.decode(&a) {
		c = [6]any{text(a.Action), text(a.Who), text(a.How), int64(a.PID), int64(a.UID), text(string(a.Detail))}
	}
	return b.c.run(b.ctx, "INSERT INTO admin_row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		int64(e.h.Index), e.time, e.us, e.state, c[0], c[1], c[2], c[3], c[4], c[5])
}

// alert adds an alert, of the book itself or of a session.
func (b *batch) alert(e *entry) error {
	var a evidence.Alert
	var c [7]any
	if e.decode(&a) {
		c = [7]any{text(a.Alert), text(a.What), text(a.Ticket), text(a.Person), text(a.Principal), text(a.Target), text(a.Text)}
	}
	var session any
	if !e.h.Session.IsZero() {
		session = e.h.Session.String()
	}
	return b.c.run(b.ctx, "INSERT INTO alert_row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", int64(e.h.Index), e.time, e.us, session, exchangeOf(e.h), e.state,
		c[0], c[1], c[2], c[3], c[4], c[5], c[6])
}

// config adds a row for each file of a configuration, and one without text if
// there is none.
func (b *batch) config(e *entry) error {
	var c evidence.Config
	const insert = "INSERT INTO config_row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
	if !e.decode(&c) || len(c.Files) == 0 {
		return b.c.run(b.ctx, insert, int64(e.h.Index), "", e.time, e.us, e.state, text(c.SHA256), text(c.Cause), nil, nil)
	}
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		file := clip(name, maxField)
		if seen[file] {
			continue
		}
		seen[file] = true
		full := c.Files[name]
		if err := b.c.run(b.ctx, insert, int64(e.h.Index), file, e.time, e.us, e.state, text(c.SHA256), text(c.Cause),
			clip(full, maxText), int64(len(full))); err != nil {
			return err
		}
	}
	return nil
}

// event is a row of continuity.
type event struct {
	name                                    string
	boot, version, sync, heartbeat, cause   any
	sessions, open, exchanges, denied, free any
	detail                                  any
}

// continuity adds what shows whether the gateway ran and could record.
func (b *batch) continuity(e *entry) error {
	ev := event{name: string(e.h.Kind)}
	switch e.h.Kind {
	case evidence.KindBoot:
		var boot evidence.Boot
		if !e.decode(&boot) {
			break
		}
		if err := b.standingOver(e); err != nil {
			return err
		}
		b.st.HeartbeatS = int64(max(boot.HeartbeatS, 0))
		if b.st.Origin == "" {
			b.st.Origin = clip(boot.Origin, maxField)
		}
		ev.boot, ev.version, ev.sync = text(boot.BootID), text(boot.Version), text(boot.Sync)
		ev.heartbeat, ev.cause, ev.detail = int64(boot.HeartbeatS), text(boot.Purpose), recovered(boot.Recovered)
	case evidence.KindStop:
		var s evidence.Stop
		if e.decode(&s) {
			ev.boot, ev.cause = text(s.BootID), text(s.Cause)
		}
	case evidence.KindHeartbeat:
		var h evidence.Heartbeat
		if e.decode(&h) {
			ev.boot, ev.sessions, ev.open = text(h.BootID), int64(h.OpenSessions), int64(h.OpenExchanges)
			ev.exchanges, ev.denied, ev.free = number(h.Exchanges), number(h.Refused), number(h.FreeBytes)
		}
	case evidence.KindGate:
		var g evidence.Gate
		if e.decode(&g) {
			ev.name, ev.detail = clip(g.Event, maxField), text(g.Detail)
		}
	case evidence.KindKey:
	default:
		// A session's entry without a session.
		return nil
	}
	return b.addEvent(e, &ev)
}

func (b *batch) addEvent(e *entry, ev *event) error {
	var silence any
	if b.st.Next > 0 {
		silence = e.us - b.st.LastUS
	}
	return b.c.run(b.ctx, "INSERT INTO continuity_row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
		int64(e.h.Index), ev.name, e.time, e.us, e.state, silence, ev.boot, ev.version, ev.sync, ev.heartbeat, ev.cause,
		ev.sessions, ev.open, ev.exchanges, ev.denied, ev.free, ev.detail)
}

// gap adds an event when more than twice the heartbeat passed without an
// entry and no stop and boot stand around it (design section 4).
func (b *batch) gap(e *entry) error {
	if b.st.Next == 0 || (b.st.LastKind == evidence.KindStop && e.h.Kind == evidence.KindBoot) {
		return nil
	}
	heartbeat := b.st.HeartbeatS
	if heartbeat == 0 {
		heartbeat = defaultHeartbeat
	}
	if e.us-b.st.LastUS <= 2*heartbeat*int64(time.Second/time.Microsecond) {
		return nil
	}
	return b.addEvent(&entry{h: e.h, time: e.time, us: e.us, state: bodyOK}, &event{
		name: "gap", heartbeat: heartbeat, detail: "no entry for more than twice the heartbeat",
	})
}
