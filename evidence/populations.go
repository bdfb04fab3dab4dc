package evidence

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
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
		"session", "exchange", "principal", "target", "operation", "origin", "opaque", "effects", "privileged", "decision", "rule", "status", "tag", "code",
		"rows", "answer_bytes", "answer_sha256", "text",
	}}
	popApprovals = population{"data/populations/P4-approvals.csv", []string{
		"ticket", "session", "exchange", "principal", "target", "rules", "requester", "state", "approved_by", "denied_by", "cause", "status", "expires", "digest", "text",
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
	popMasking = population{"data/populations/P10-masking.csv", []string{
		"session", "exchange", "statement", "principal", "target", "column", "by", "kinds", "seen", "masked", "nulled", "null", "bare",
	}}
	popPersonal = population{"data/populations/P17-personal-data-sent.csv", []string{
		"session", "exchange", "principal", "target", "kinds", "decision", "rule", "status", "text",
	}}
	popRefused = population{"data/populations/P11-refused-logins.csv", []string{
		"count", "what", "code", "source", "listener", "target", "role", "principal", "detail",
	}}
	populations = []*population{&popSessions, &popActions, &popApprovals, &popIdentities, &popAdmin, &popContinuity, &popMasking, &popRefused, &popPersonal}
)

// row appends a row to a population, with its header line before the first.
func (b *Builder) row(p *population, first, last uint64, leaf string, t time.Time, fields ...string) error {
	out := b.line[:0]
	out = AppendCSV(out, b.scope.Origin)
	for _, f := range []string{
		strconv.FormatUint(first, 10), strconv.FormatUint(last, 10), leaf, string(AppendTime(nil, t)),
	} {
		out = AppendCSV(append(out, ','), f)
	}
	for _, f := range fields {
		out = AppendCSV(append(out, ','), f)
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

// cutCell shortens a text to what a cell shows of it.
func cutCell(s string) string {
	if len(s) <= maxCell {
		return s
	}
	cut := maxCell
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return strings.Clone(s[:cut]) + "… (" + strconv.Itoa(len(s)) + " bytes)"
}

// Plain shows what a terminal or an editor would act on as an escape: control
// characters but line ends and tabs, and characters that change the direction
// of text or cannot be seen, as \uXXXX or, above U+FFFF, \UXXXXXXXX. Backslashes
// before an escape, or before a text that looks like one, are doubled, so that
// the two differ.
func Plain(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, hidden) < 0 && !strings.Contains(s, `\u`) && !strings.Contains(s, `\U`) {
		return s
	}
	var b strings.Builder
	slashes := 0 // that stand right before
	for i, r := range s {
		hide := hidden(r)
		if slashes > 0 && (hide || escapeDigits(s[i:])) {
			b.WriteString(strings.Repeat(`\`, slashes))
		}
		switch {
		case hide && r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		case hide:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		slashes++
		if r != '\\' {
			slashes = 0
		}
	}
	return b.String()
}

// hidden reports whether a character acts on a text or cannot be seen in it.
func hidden(r rune) bool {
	switch {
	case r < 0x7f:
		return r < 0x20 && r != '\n' && r != '\t'
	case r < 0xa0:
		return true
	}
	const blank = 0x2800 // of Braille
	return r == blank || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// escapeDigits reports whether a text goes on like an escape behind its backslash.
func escapeDigits(s string) bool {
	n := 0
	switch {
	case strings.HasPrefix(s, "u"):
		n = 4
	case strings.HasPrefix(s, "U"):
		n = 8
	}
	if n == 0 || len(s) <= n {
		return false
	}
	return strings.Trim(s[1:1+n], "0123456789abcdefABCDEF") == ""
}

// AppendCSV appends a field as in RFC 4180. A text that a spreadsheet would
// take for a formula gets an apostrophe in front.
func AppendCSV(dst []byte, s string) []byte {
	if len(s) > maxCell+64 { // what cutCell made is not cut again
		s = cutCell(s)
	}
	s = Plain(s)
	// Spreadsheets pass over leading blanks, and some over full-width forms.
	head, _ := utf8.DecodeRuneInString(strings.TrimLeft(s, " \t\n\u00a0\u3000"))
	formula := s != "" && (s[0] == '\t' || s[0] == '\n' || strings.ContainsRune("=+-@＝＋－＠", head))
	if !formula && !strings.ContainsAny(s, ",;\t\"\r\n") {
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
		last, ended = h.Index, string(AppendTime(nil, h.Time))
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
	var done Action // of a request of an older book nothing is known
	if len(in.body.Action) > 0 {
		if err := json.Unmarshal(in.body.Action, &done); err != nil {
			return fmt.Errorf("entry %d: action: %w", in.index, err)
		}
	}
	return b.row(&popActions, in.index, h.Index, in.leaf, in.time,
		s.id.String(), strconv.FormatUint(h.Exchange, 10), s.body.Principal.Issuer+"|"+s.body.Principal.Name, s.body.Target.Name,
		in.body.Op, in.body.Origin, strconv.FormatBool(in.body.Opaque), strings.Join(done.Effects, " "), done.Privileged, in.decision, in.body.Rule, o.Status, o.Tag, o.Code,
		strconv.FormatUint(o.Rows, 10), strconv.FormatUint(o.Bytes, 10), o.SHA256, in.shown)
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
			detail := "sha256 " + v.SHA256
			if len(v.SignedBy) > 0 {
				detail += ", signed by " + strings.Join(v.SignedBy, ", ")
			}
			return row(&popContinuity, "configuration "+v.Cause, "", detail)
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
			if v.ActorID != h.Actor.String() {
				b.problem(Integrity, at(h.Index), "the principal has another pseudonym than its header")
			}
			return b.person(&v, h, nil, leaf)
		}
	case KindTarget:
		var v Target
		if !b.decode(h, body, &v) {
			return nil
		}
		if v.TargetID != h.Target.String() {
			b.problem(Integrity, at(h.Index), "the target has another pseudonym than its header")
		}
		if b.scope.Filter.TargetID != "" && v.TargetID == b.scope.Filter.TargetID {
			b.filterTarget(h, v.Name)
		}
	case KindAlert:
		b.alert(nil, h, body)
	case KindRuling, KindTicketEnd:
		return b.standingEntry(h, body)
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
	if err := b.standingOver("standing, ended by a restart"); err != nil {
		return err
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
	} else if b.unclean {
		b.exception(h.Index, "crash", "the gateway started without having recorded its stop; nothing was open")
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
