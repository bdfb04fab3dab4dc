package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/sqlscan"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

const (
	// previewTime bounds all of a look at a request's effect, and lockTime the wait for a lock in it.
	previewTime = 2500 * time.Millisecond
	lockTime    = time.Second
	// maxRows is the most rows whose versions are compared.
	maxRows = 100_000
	// maxPreview bounds an answer, in bytes: a plan in JSON.
	maxPreview = 1 << 20
)

// previewed are settings of the agent's session by which the same condition may find other rows. The target reports them.
var previewed = []string{"TimeZone", "DateStyle", "IntervalStyle"}

// unaffecting are settings by which no condition finds other rows, or whose value is known: those that the target reports.
var unaffecting = map[string]bool{
	"timezone": true, "datestyle": true, "intervalstyle": true, "application_name": true, "client_min_messages": true, "statement_timeout": true,
	"lock_timeout": true, "idle_in_transaction_session_timeout": true, "idle_session_timeout": true, "synchronous_commit": true, "work_mem": true, "gatebook.token": true, "gatebook.request": true,
}

// isolates reports whether a text may choose what a transaction sees.
func isolates(text string) bool { return strings.Contains(strings.ToLower(text), "isolation") }

// notes takes down what a request that goes on changes of what the session sees of rows: another connection does not see what a
// transaction has not committed, nor of what moment it sees the rest.
func (q *requests) notes(a *access.Action) {
	q.sets(a)
	if a.Origin != "" {
		return
	}
	if q.segment != q.seenSegment {
		q.seenSegment = q.segment
		q.r.mu.Lock()
		if len(q.r.queue.all()) == 0 && q.r.tx == 'I' { // nothing is open
			q.apart = false
		}
		q.r.mu.Unlock()
	}
	const reads = access.EffectRead | access.EffectTransaction | access.EffectSession
	if !a.Understood || a.Effects&^reads != 0 || isolates(a.Text) {
		q.apart = true
	}
}

// settings are those of the session that are known. Callers hold q.r.mu.
func (q *requests) settings() map[string]string {
	all := map[string]string{}
	for name, v := range q.r.a.params {
		if name != "application_name" {
			all[name] = v
		}
	}
	for _, name := range previewed {
		v := q.r.up.param(name)
		if now, ok := q.r.reported[name]; ok {
			v = now
		}
		if v != "" {
			delete(all, strings.ToLower(name))
			all[name] = v
		}
	}
	return all
}

// sets notes what a request that goes on changes of the session's settings.
func (q *requests) sets(a *access.Action) {
	if a.Op == "prepare" || a.Op == "bind" || a.Op == "close" || a.Origin != "" || a.Understood && !a.Effects.Has(access.EffectSession|access.EffectExecute) {
		return
	}
	what := ""
	if !a.Understood || a.Effects.Has(access.EffectExecute) {
		what = "what it did not say, by code that it ran"
	}
	for i := range a.Statements {
		for _, o := range a.Statements[i].Objects {
			if o.Kind == "setting" && o.Effects&^access.EffectRead != 0 && !unaffecting[strings.ToLower(o.Name)] && (what == "" || what == "search_path") {
				what = o.Name
			}
		}
	}
	if what == "" {
		return
	}
	q.r.mu.Lock()
	q.r.altered = what
	if what != "search_path" {
		q.r.otherSetting = what
	}
	q.r.mu.Unlock()
}

// preview looks at the effect of a request that is held, on a connection of the gateway's own that can only read, and
// runs nothing of it but PostgreSQL's own functions that only compute (design section 8).
func (q *requests) preview(ctx context.Context, a *access.Action, raw []byte) *evidence.Effect {
	e, err := q.look(ctx, a, raw)
	if err != nil {
		return &evidence.Effect{Reason: err.Error()}
	}
	return e
}

var errNoDefinitions = errors.New("the target's definitions are not known")

func (q *requests) look(ctx context.Context, a *access.Action, raw []byte) (*evidence.Effect, error) {
	if a.List != nil {
		return nil, errors.New("a list of statements is not looked at: what comes first changes what comes later")
	}
	db := q.r.db
	if db == nil || q.changed {
		return nil, errNoDefinitions
	}
	q.r.mu.Lock()
	open := q.r.tx != 'I' || q.segment == q.seenSegment
	q.r.mu.Unlock()
	if open && q.apart {
		return nil, errors.New("it stands in a transaction that has changed rows, or sees those of another moment: no other connection sees them so")
	}
	ctx, stop := context.WithTimeout(ctx, previewTime)
	defer stop()
	if err := db.refresh(ctx, 0); err != nil {
		return nil, errNoDefinitions
	}
	definitions := db.known.Load()
	if definitions == nil {
		return nil, errNoDefinitions
	}
	p, err := definitions.catalog.Preview(a.Text)
	if err != nil {
		return nil, err
	}
	args, err := argumentsOf(a, raw, p.Parameters)
	if err != nil {
		return nil, err
	}
	params := map[string]string{
		"application_name": "gatebook preview", "search_path": "pg_catalog", "default_transaction_read_only": "on",
		"statement_timeout": strconv.FormatInt(previewTime.Milliseconds(), 10), "lock_timeout": strconv.FormatInt(lockTime.Milliseconds(), 10),
	}
	q.r.mu.Lock()
	other := q.r.otherSetting
	known := q.settings()
	q.r.mu.Unlock()
	if other != "" {
		return nil, fmt.Errorf("the session has changed %s, so that the same condition may find other rows for it", other)
	}
	for name, v := range known {
		if _, ours := params[name]; !ours {
			params[name] = v
		}
	}
	e, err := lookOn(ctx, db, params, p, args)
	if err != nil && ctx.Err() != nil {
		err = errors.New("it took too long")
	}
	return e, err
}

// lookOn asks the target on a connection that is closed afterwards.
func lookOn(ctx context.Context, db *database, params map[string]string, p *sqlscan.Preview, args *arguments) (e *evidence.Effect, err error) {
	s, err := db.of.gate.System(context.WithoutCancel(ctx), db.key.target, db.key.role, "preview")
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close(err) }()
	u, err := login(ctx, s, db.key.name, params, db.of.limit)
	if err != nil {
		return nil, err
	}
	defer func() { _ = u.conn.Close() }()
	unstop := context.AfterFunc(ctx, func() { _ = u.conn.SetDeadline(past) })
	defer unstop()
	if err := u.reached(ctx, s); err != nil {
		return nil, err
	}
	if _, err := u.own(ctx, s, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return nil, err
	}
	e = &evidence.Effect{Computed: true}
	ask := func(text string) (string, error) {
		rows, err := u.ask(ctx, s, text, args)
		if err != nil {
			return "", err
		}
		if len(rows) != 1 || len(rows[0]) != 1 {
			return "", errors.New("the target does not answer as it should")
		}
		return rows[0][0], nil
	}
	plan, err := ask(p.Explain)
	if err != nil {
		return nil, err
	}
	if e.Estimate, err = estimate(plan); err != nil {
		return nil, err
	}
	if p.Count == "" {
		e.Reason = p.Uncounted
		return e, nil
	}
	e.Relation = p.Relation.String()
	n, err := ask(p.Count)
	if err != nil {
		return nil, err
	}
	count, err := strconv.ParseInt(n, 10, 64)
	if err != nil {
		return nil, err
	}
	if e.Count = &count; count > maxRows {
		e.Reason = fmt.Sprintf("it is about more than %d rows, whose versions are not compared", maxRows)
		return e, nil
	}
	e.Fingerprint, err = ask(p.Rows)
	return e, err
}

// estimate reads the planner's number of rows from EXPLAIN (FORMAT JSON).
func estimate(text string) (*int64, error) {
	type node struct {
		Type  string  `json:"Node Type"`
		Rows  float64 `json:"Plan Rows"`
		Plans []node  `json:"Plans"`
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) != 1 {
		return nil, errors.New("the target's plan cannot be read")
	}
	p := plans[0].Plan
	if p.Type == "ModifyTable" && len(p.Plans) > 0 { // which says how many rows it returns
		p = p.Plans[0]
	}
	rows := int64(p.Rows)
	return &rows, nil
}

// arguments are an agent's parameters, as its Bind had them.
type arguments struct {
	oids    []uint32
	formats []int
	values  [][]byte // nil for NULL
}

// argumentsOf finds the parameters of a request in its frames.
func argumentsOf(a *access.Action, raw []byte, highest int) (*arguments, error) {
	if a.Op == "query" || highest == 0 {
		return &arguments{}, nil
	}
	var detail struct {
		Types []uint32 `json:"types"`
	}
	if len(a.Detail) > 0 {
		if err := json.Unmarshal(a.Detail, &detail); err != nil {
			return nil, err
		}
	}
	for len(raw) >= pgwire.FrameHeader {
		n := int(binary.BigEndian.Uint32(raw[1:])) + 1
		if n < pgwire.FrameHeader || n > len(raw) {
			break
		}
		if raw[0] == 'B' {
			args, err := bound(raw[pgwire.FrameHeader:n])
			if err == nil && len(args.values) < highest {
				err = errors.New("it has fewer parameters than the text")
			}
			if err == nil {
				args.oids = detail.Types
			}
			return args, err
		}
		raw = raw[n:]
	}
	return nil, errors.New("its parameters came earlier than the request that is held")
}

// bound takes the parameters out of a Bind's body.
func bound(body []byte) (*arguments, error) {
	c := pgwire.NewCursor(body)
	_, _ = c.String(), c.String()
	formats := make([]int, max(c.Int16(), 0))
	for i := range formats {
		formats[i] = c.Int16()
	}
	args := &arguments{}
	for i := range c.Int16() {
		v, null := c.Value()
		if null {
			v = nil
		} else if v == nil {
			v = []byte{}
		}
		format := 0 // text
		switch {
		case len(formats) == 1:
			format = formats[0]
		case i < len(formats):
			format = formats[i]
		}
		args.values, args.formats = append(args.values, v), append(args.formats, format)
	}
	if c.Bad() {
		return nil, errors.New("its parameters cannot be read")
	}
	return args, nil
}

// frames returns a text with its arguments as messages of the extended protocol. Those that the text does not use have no type that could
// be found out, and no value.
func (args *arguments) frames(text string) []byte {
	used := map[string]bool{}
	for _, p := range sqlscan.Pieces(text) {
		used[p.Text] = true
	}
	parse := append(append([]byte{0}, text...), 0)
	parse = binary.BigEndian.AppendUint16(parse, uint16(len(args.values)))           //nolint:gosec // as many as a Bind had
	formats := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(args.values))) //nolint:gosec // as above
	values := binary.BigEndian.AppendUint16(nil, uint16(len(args.values)))           //nolint:gosec // as above
	for i, v := range args.values {
		var oid uint32
		if i < len(args.oids) {
			oid = args.oids[i]
		}
		if !used["$"+strconv.Itoa(i+1)] {
			oid, v = textOID, nil
		}
		parse = binary.BigEndian.AppendUint32(parse, oid)
		formats = binary.BigEndian.AppendUint16(formats, uint16(args.formats[i])) //nolint:gosec // as the Bind had it
		if v == nil {
			values = binary.BigEndian.AppendUint32(values, 1<<32-1)
			continue
		}
		values = append(binary.BigEndian.AppendUint32(values, uint32(len(v))), v...) //nolint:gosec // part of a message
	}
	bind := append(append(formats, values...), 0, 0) // all results as text
	out := pgwire.AppendFrame(nil, 'P', parse)
	out = pgwire.AppendFrame(out, 'B', bind)
	out = pgwire.AppendFrame(out, 'E', []byte{0, 0, 0, 0, 0})
	return pgwire.AppendFrame(out, 'S', nil)
}

// textOID is the type text.
const textOID = 25

// ask runs one of the gateway's own statements with an agent's parameters, by the extended protocol.
func (u *upstream) ask(ctx context.Context, s *enforce.Session, text string, args *arguments) ([][]string, error) {
	if len(args.values) == 0 {
		return u.ownRows(ctx, s, text, maxPreview)
	}
	return u.exchange(ctx, s, text, args.frames(text), maxPreview)
}

// meaning returns a digest of all that the meaning of a held text hangs on at the target, "" if that is not known: what it does by the
// definitions of now where these are PostgreSQL's own functions over plain tables, else all definitions of the database.
func (q *requests) meaning(ctx context.Context, text string) string {
	db := q.r.db
	if db == nil || db.refresh(ctx, 0) != nil {
		return ""
	}
	known := db.known.Load()
	if known == nil {
		return ""
	}
	scan := known.catalog.Resolve(db.of.scans.Get(text), nil)
	var parts []string
	for i := range scan.Statements {
		st := statementOf(&scan.Statements[i])
		if scan.Statements[i].Doubt != "" {
			parts = []string{known.version}
			break
		}
		parts = append(parts, fmt.Sprintf("%+v", st))
	}
	d := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(d[:])
}
