package evidence

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A population is a table of all things of a kind in a range, for auditors.
// Every row begins with where it comes from.
type population struct {
	file    string
	columns []string
}

var originColumns = []string{"log_origin", "first_index", "last_index", "leaf_hash", "utc_time"}

// Populations of this format, numbered as in docs/formats/package.md.
var (
	popSessions = population{"data/populations/P1-sessions.csv", []string{
		"session", "issuer", "subject", "principal", "groups", "owner", "actor_chain", "target", "role", "database", "source",
		"ended", "end_cause", "exchanges", "identity_proof", "lifetime_rule", "origin",
	}}
	popActions = population{"data/populations/P2-actions.csv", []string{
		"session", "exchange", "principal", "target", "operation", "origin", "opaque", "decision", "rule", "status", "tag", "code",
		"rows", "answer_bytes", "answer_sha256", "text",
	}}
	popIdentities = population{"data/populations/P5-identities.csv", []string{
		"actor_id", "issuer", "issuer_url", "subject", "principal", "groups", "owner", "sessions", "issuer_signed", "asserted",
	}}
	popAdmin = population{"data/populations/P8-administrators.csv", []string{
		"action", "who", "how", "uid", "detail",
	}}
	popContinuity = population{"data/populations/P9-continuity.csv", []string{
		"event", "boot_id", "detail",
	}}
	popRefused = population{"data/populations/P11-refused-logins.csv", []string{
		"count", "what", "code", "source", "listener", "target", "role", "principal", "detail",
	}}
	populations = []*population{&popSessions, &popActions, &popIdentities, &popAdmin, &popContinuity, &popRefused}
)

// row appends a row to a population, with its header line before the first.
func (b *Builder) row(p *population, first, last uint64, leaf string, t time.Time, fields ...string) error {
	out := b.line[:0]
	out = appendCSV(out, b.scope.Origin)
	for _, f := range []string{
		strconv.FormatUint(first, 10), strconv.FormatUint(last, 10), leaf, t.UTC().Format(headerTime),
	} {
		out = appendCSV(append(out, ','), f)
	}
	for _, f := range fields {
		out = appendCSV(append(out, ','), f)
	}
	b.line = append(out, "\r\n"...)
	return b.sink.Append(p.file, b.line)
}

// begin writes the header lines of all populations, so that one without rows
// says that it was looked for.
func (b *Builder) begin() error {
	for _, p := range populations {
		line := strings.Join(append(slices.Clone(originColumns), p.columns...), ",") + "\r\n"
		if err := b.sink.Append(p.file, []byte(line)); err != nil {
			return err
		}
	}
	return nil
}

// maxCell is the longest text in a cell, in bytes; what is longer is cut and
// says so. The exact text stands in the bodies.
const maxCell = 2000

// appendCSV appends a field as in RFC 4180. A text that a spreadsheet would
// take for a formula gets an apostrophe in front.
func appendCSV(dst []byte, s string) []byte {
	if len(s) > maxCell {
		cut := maxCell
		for cut > 0 && s[cut]&0xC0 == 0x80 {
			cut--
		}
		s = s[:cut] + "… (" + strconv.Itoa(len(s)) + " bytes)"
	}
	formula := s != "" && strings.IndexByte("=+-@\t\r", s[0]) >= 0
	if !formula && !strings.ContainsAny(s, ",\"\r\n") {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	if formula {
		dst = append(dst, '\'')
	}
	for i := 0; i < len(s); i++ {
		if s[i] == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

func (b *Builder) sessionRow(s *openSession, h *Header, end *SessionEnd) error {
	v := s.body
	last, ended, cause := s.first, "", "still open when the range was closed"
	if h != nil {
		last, ended = h.Index, h.Time.UTC().Format(headerTime)
	}
	if end != nil {
		cause = end.Cause
	}
	return b.row(&popSessions, s.first, last, s.leaf, s.began,
		s.id.String(), v.Principal.Issuer, v.Principal.Subject, v.Principal.Issuer+"|"+v.Principal.Name,
		strings.Join(v.Principal.Groups, " "), v.Principal.Owner, strings.Join(v.Principal.Actor, " < "), v.Target.Name, v.Role,
		v.Database, v.Source, ended, cause, strconv.FormatUint(s.exchanges, 10), s.level, v.LifetimeRule, v.Origin)
}

func (b *Builder) action(s *openSession, in *openIntent, h *Header, o *Outcome, leaf string) error {
	if s.body == nil || in.body == nil {
		return nil
	}
	return b.row(&popActions, in.index, h.Index, in.leaf, in.time,
		s.id.String(), strconv.FormatUint(h.Exchange, 10), s.body.Principal.Issuer+"|"+s.body.Principal.Name, s.body.Target.Name,
		in.body.Op, in.body.Origin, strconv.FormatBool(in.body.Opaque), in.decision, in.body.Rule, o.Status, o.Tag, o.Code,
		strconv.FormatUint(o.Rows, 10), strconv.FormatUint(o.Bytes, 10), o.SHA256, in.body.Text)
}

// control takes the body of an entry of the book itself.
func (b *Builder) control(h *Header, body []byte, leaf string) error {
	row := func(p *population, fields ...string) error {
		return b.row(p, h.Index, h.Index, leaf, h.Time, fields...)
	}
	switch h.Kind {
	case KindBoot:
		return b.boot(h, body, row)
	case KindStop:
		var v Stop
		if b.decode(h, body, &v) {
			return row(&popContinuity, "stop", v.BootID, v.Cause)
		}
	case KindGate:
		var v Gate
		if b.decode(h, body, &v) {
			b.exception(h.Index, "gate-"+v.Event, "%s", v.Detail)
			return row(&popContinuity, "gate "+v.Event, "", v.Detail)
		}
	case KindConfig:
		var v Config
		if b.decode(h, body, &v) {
			return row(&popContinuity, "configuration "+v.Cause, "", "sha256 "+v.SHA256)
		}
	case KindHeartbeat:
		var v Heartbeat
		b.decode(h, body, &v)
	case KindAdmin:
		var v Admin
		if b.decode(h, body, &v) {
			return row(&popAdmin, v.Action, v.Who, v.How, strconv.Itoa(v.UID), v.detail())
		}
	case KindPrincipal:
		var v Principal
		if b.decode(h, body, &v) {
			return b.person(&v, h, nil)
		}
	case KindRefused:
		var v Refused
		if b.decode(h, body, &v) {
			b.stats.Refused += uint64(max(v.Count, 0))
			return row(&popRefused, strconv.Itoa(v.Count), v.What, v.Code, v.Source, v.Listener, v.Target, v.Role, v.Actor, v.Detail)
		}
	}
	return nil
}

func (b *Builder) boot(h *Header, body []byte, row func(*population, ...string) error) error {
	var v Boot
	if !b.decode(h, body, &v) {
		return nil
	}
	b.boots++
	b.beatS = v.HeartbeatS
	b.sync[v.Sync] = true
	detail := "version " + v.Version + ", sync " + v.Sync
	if v.Purpose != "" {
		detail += ", " + v.Purpose
	}
	if r := v.Recovered; r != nil {
		detail += ", after a crash"
		b.exception(h.Index, "crash", "the gateway had stopped without closing its book: %d open sessions, %d open intents, %d bytes cut",
			r.OpenSessions, r.OpenIntents, r.CutBytes)
	}
	return row(&popContinuity, "boot", v.BootID, detail)
}

// detail returns the detail of an administrator's action as JSON.
func (a *Admin) detail() string {
	if a.Detail == nil {
		return ""
	}
	text, err := json.Marshal(a.Detail)
	if err != nil {
		return ""
	}
	return string(text)
}
