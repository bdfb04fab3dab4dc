package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/lineage"
	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/sqlscan"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// plan is what is masked of the answer to a text. It is immutable.
type plan struct {
	// deny refuses the text: nothing proves that no masked value leaves by it.
	deny *access.DenyError
	// infers are masks that let the text pass once a person has approved it.
	infers []string
	// answers of the text's statements, with what masks their cells.
	answers []masking
	// set are the masks. schema is nil where no column is masked and the definitions are not known.
	set    *mask.Set
	schema *lineage.Schema
}

// looks reports whether rows are looked into: whether any value may be masked in what a statement answers, nil being one that is
// not known.
func (p *plan) looks(m *masking) bool {
	return p.set.Values() != nil || m != nil && m.masked()
}

// masking is what is masked of one statement's answer.
type masking struct {
	lineage.Answer
	cells []cell
}

// cell is a column of an answer that is masked, the zero cell one that is not.
type cell struct {
	rule   *mask.Rule
	column string // for the count
	plain  bool
	typ    uint32 // where the target does not say
}

// masked reports whether any cell is.
func (m *masking) masked() bool {
	return slices.ContainsFunc(m.cells, func(c cell) bool { return c.rule != nil })
}

// plans are those of one catalog with one set of masks.
type plans struct {
	set    *mask.Set
	schema *lineage.Schema
	texts  *sqlscan.Cache[*plan]
	hidden *sqlscan.Cache[*hidden]
}

// maxPlans bounds the sets of masks for which plans of one catalog are kept.
const maxPlans = 64

// masking returns the plans of a set of masks.
func (d *definitions) masking(set *mask.Set) *plans {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.plans[set]; p != nil {
		return p
	}
	masked := func(lineage.Column) bool { return false }
	if set.Columns() {
		masked = d.pins.masked(set, d.catalog)
	}
	p := &plans{set: set, schema: lineage.New(d.catalog, masked)}
	p.texts = &sqlscan.Cache[*plan]{Bytes: 4 << 20, Make: func(text string) *plan { return p.make(text, nil) }}
	p.hidden = &sqlscan.Cache[*hidden]{Bytes: 4 << 20, Make: p.hides}
	if d.plans == nil || len(d.plans) >= maxPlans {
		d.plans = map[*mask.Set]*plans{}
	}
	d.plans[set] = p
	return p
}

// pins are columns that were masked by their names, by their numbers: they stay masked when somebody gives them, or their table, another
// name while the gateway runs. Safe for concurrent use.
type pins struct {
	mu  sync.Mutex
	all map[*mask.Set]map[pin]bool
}

type pin struct {
	relation uint32
	column   int16
}

// masked returns what is masked of a catalog by a set: by name, and by number what was masked by name before. It pins what it finds.
func (p *pins) masked(set *mask.Set, cat *sqlscan.Catalog) func(lineage.Column) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil || len(p.all) >= maxPlans {
		p.all = map[*mask.Set]map[pin]bool{}
	}
	if p.all[set] == nil {
		p.all[set] = map[pin]bool{}
	}
	pinned := p.all[set]
	renamed := map[lineage.Column]bool{}
	for _, list := range cat.Relations {
		for _, rel := range list {
			for i, number := range rel.Numbers {
				at := pin{rel.OID, number}
				switch c := (lineage.Column{Relation: rel.Name, Name: rel.Columns[i]}); {
				case set.Rule(c.String()) != nil:
					pinned[at] = true
				case pinned[at]:
					renamed[c] = true
				}
			}
		}
	}
	return func(c lineage.Column) bool { return renamed[c] || set.Rule(c.String()) != nil }
}

func denyMask(rule, reason string) *access.DenyError {
	return &access.DenyError{
		Code: access.CodeMask, Rule: rule, Reason: reason,
		Hint: "Masked columns can be selected as they are; filter, sort, group, join and compute by others.",
	}
}

// make finds out what is masked of a text.
func (p *plans) make(text string, made func(sqlscan.Name) bool) *plan {
	answers, ok := p.schema.Text(text, made)
	if !ok && !p.set.Columns() {
		return &plan{set: p.set, schema: p.schema}
	}
	if !ok {
		return &plan{deny: denyMask("masks", "it is not understood, so nothing says that it gives no masked value")}
	}
	out := &plan{set: p.set, schema: p.schema}
	for i := range answers {
		a := &answers[i]
		if deny := p.deny(a, out); deny != nil && p.set.Columns() {
			return &plan{deny: deny}
		}
		if p.set.Values() != nil && a.Verb == "COPY" && a.Rows && a.Copy == nil {
			return &plan{deny: denyMask("masks", "the gateway does not know an option of this COPY, so it cannot look for values in its rows")}
		}
		m := masking{Answer: *a}
		for _, c := range a.Cells {
			m.cells = append(m.cells, p.cell(&c))
		}
		out.answers = append(out.answers, m)
	}
	return out
}

// deny refuses a statement, nil if it can pass; out gets the masks that need a person for that.
func (p *plans) deny(a *lineage.Answer, out *plan) *access.DenyError {
	if a.Refuse != "" {
		return denyMask("masks", a.Refuse)
	}
	for _, u := range a.Uses {
		switch inference, rule := p.set.Inference(namesOf(u.Of)...); {
		case inference == mask.Refuse:
			return denyMask(rule.Name, fmt.Sprintf("it %s %s, which is masked", u.How, u.Of[0]))
		case inference == mask.Hold && !slices.Contains(out.infers, rule.Name):
			out.infers = append(out.infers, rule.Name)
		}
	}
	return nil
}

func namesOf(s lineage.Set) (names []string) {
	for _, c := range s {
		names = append(names, c.String())
	}
	return names
}

func (p *plans) cell(c *lineage.Cell) cell {
	if len(c.From) == 0 {
		return cell{}
	}
	out := cell{rule: p.set.Strictest(namesOf(c.From)...), column: c.From[0].String(), plain: c.Plain && len(c.From) == 1}
	if out.plain {
		out.typ = p.schema.Type(c.From[0])
	}
	return out
}

// plan returns what is masked of a text in the session, nil if nothing is masked for it. does is what the text does.
func (q *requests) plan(text string, does *understood) *plan {
	set := q.r.s.Masks()
	if q.asked && set != q.lastMasks {
		q.otherMasks = true
	}
	q.asked, q.lastMasks = true, set
	if set == nil {
		return nil
	}
	var known *definitions
	if q.r.db != nil {
		known = q.r.db.known.Load()
	}
	switch {
	case known == nil && !set.Columns():
		return &plan{set: set}
	case !set.Columns():
		return known.masking(set).texts.Get(text)
	case known == nil:
		return &plan{deny: denyMask("masks", "the target's definitions are not known now, so nothing says that it gives no masked value")}
	case does == nil:
		return &plan{deny: denyMask("masks", "the gateway has not seen what it stands for")}
	case q.renamed && does.action.Effects&^(access.EffectTransaction|access.EffectSession|access.EffectSchema) != 0:
		return &plan{deny: denyMask("masks", "the transaction has changed definitions: end it before other statements")}
	}
	p := known.masking(set)
	var out *plan
	if q.changed {
		out = p.make(text, func(n sqlscan.Name) bool { return q.made[n] })
	} else {
		out = p.texts.Get(text)
	}
	for i := range out.answers {
		name := out.answers[i].Fetches
		switch {
		case name == "":
		case q.maskedPortals[name]:
			return &plan{deny: denyMask("masks", "it fetches from a portal whose answer is masked: execute the portal")}
		case q.otherMasks:
			return &plan{deny: denyMask("masks", "what is masked has changed since the session began, and the cursor may be older: connect again")}
		}
	}
	return out
}

// copies reports whether rows go out by COPY, which the target does not describe.
func (p *plan) copies() bool {
	return slices.ContainsFunc(p.answers, func(m masking) bool { return m.Verb == "COPY" && m.Rows })
}

// mask refuses an action whose text may give masked values, and returns what is masked of its answer.
func (q *requests) mask(ctx context.Context, a *access.Action, text string, does *understood) *plan {
	q.shown(a, text)
	p := q.plan(text, does)
	if p != nil && p.set.Columns() && p.copies() { // nothing says later that a name stands for something else by now
		if err := q.r.db.refresh(ctx, 0); err != nil {
			q.r.d.log.Error("definitions not read", "target", q.r.db.key.target, "database", q.r.db.key.name, "err", err)
		}
		p = q.plan(text, does)
	}
	if p != nil && p.deny != nil && a.Refuse == nil {
		a.Refuse = p.deny
	}
	if p != nil {
		a.Infers = p.infers
	}
	if deny := p.writtenBack(a, text); deny != nil && a.Refuse == nil {
		a.Refuse = deny
	}
	return p
}

// maskGroup is mask for a group of the extended protocol.
func (q *requests) maskGroup(ctx context.Context, g *group) *plan {
	if g.a.Op == "close" {
		return nil
	}
	does := g.st.does
	if g.uncertain || g.st.unresolved {
		does = nil
	}
	p := q.mask(ctx, &g.a, g.st.text, does)
	if p != nil && g.bound != nil && g.bound.name != "" && len(p.answers) == 1 && p.answers[0].masked() {
		if q.maskedPortals == nil {
			q.maskedPortals = map[string]bool{}
		}
		q.maskedPortals[g.bound.name] = true
	}
	return p
}

// errWithheld ends a session whose answer cannot be masked as it was planned.
func errWithheld(why string) error {
	return &access.DenyError{Code: access.CodeMask, Rule: "masks", Reason: "the answer is withheld: " + why, Hint: "Try again."}
}

// current is what is masked of the statement that is being answered, nil for nothing.
func (ex *exch) current() *masking {
	if ex.plan == nil || ex.statement >= len(ex.plan.answers) {
		return nil
	}
	return &ex.plan.answers[ex.statement]
}

// described takes the target's description of an answer, and compares it with what is proven of the statement.
func (ex *exch) described(frame []byte) error {
	if ex.plan == nil {
		return nil
	}
	m := ex.current()
	if m == nil && ex.plan.set.Columns() {
		return errWithheld("it answers more statements than were sent")
	}
	c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
	n := c.Int16()
	if m != nil && m.masked() && !m.Open && n != len(m.cells) {
		return errWithheld("it has another number of columns than the statement")
	}
	ex.columns, ex.receives = make([]column, n), false
	for i := range n {
		_ = c.String()
		table, number := uint32(c.Int32()), int16(c.Int16()) //nolint:gosec // an object's number, and 16 bits
		col := &ex.columns[i]
		col.typ = uint32(c.Int32()) //nolint:gosec // an object's number
		c.Bytes(2 + 4 + 2)
		if c.Bad() {
			return errWithheld("its description cannot be read")
		}
		if err := ex.proven(m, i, table, number); err != nil {
			return err
		}
		if ex.plan.schema == nil || table == 0 {
			continue
		}
		if name, ok := ex.plan.schema.Name(table, number); ok {
			col.name = name.String()
			if r := ex.plan.set.Exempt(col.name); r != nil && (m == nil || i >= len(m.cells) || m.cells[i].rule == nil) {
				col.exempt, ex.receives = r.Name, true
			}
		}
	}
	if ex.st != nil {
		ex.st.columns, ex.st.receives = ex.columns, ex.receives
	}
	return nil
}

// proven compares a column of a description with what is proven of it.
func (ex *exch) proven(m *masking, i int, table uint32, number int16) error {
	if m == nil || ex.plan.schema == nil {
		return nil
	}
	from, known := ex.plan.schema.ByNumber(table, number)
	switch {
	case table == 0, known && len(from) == 0:
	case !known && len(m.Cells) > 0 && len(m.From()) > 0:
		return errWithheld("a column is of a table that the gateway does not know")
	case i < len(m.Cells) && from.Within(m.Cells[i].From):
	case known:
		return errWithheld("a column is another one than the statement says")
	}
	return nil
}

// begin makes room for what is counted of an answer of n columns, if nothing has yet.
func (ex *exch) begin(n int) {
	switch {
	case len(ex.columns) == n:
	case ex.st != nil && len(ex.st.columns) == n:
		ex.columns = make([]column, n)
		for i, c := range ex.st.columns {
			ex.columns[i] = column{typ: c.typ, name: c.name, exempt: c.exempt}
		}
	default:
		ex.columns = make([]column, n)
	}
}

// mask returns rows as the agent may see them.
func (ex *exch) mask(dst, frames []byte) ([]byte, error) {
	m := ex.current()
	for len(frames) > 0 {
		n := 1 + int(binary.BigEndian.Uint32(frames[1:]))
		frame := frames[:n]
		frames = frames[n:]
		c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
		count := c.Int16()
		if m != nil && m.masked() && count != len(m.cells) {
			return nil, errWithheld("a row has another number of columns than the statement")
		}
		ex.begin(count)
		var at int
		dst, at = pgwire.BeginFrame(dst, 'D')
		dst = binary.BigEndian.AppendUint16(dst, uint16(count)) //nolint:gosec // as the target had it
		for i := range count {
			v, null := c.Value()
			if v, null = ex.maskCell(m, i, v, null); null {
				dst = append(dst, 0xff, 0xff, 0xff, 0xff)
				continue
			}
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(v))) //nolint:gosec // a value is shorter than a frame
			dst = append(dst, v...)
		}
		if !c.End() {
			return nil, errWithheld("a row cannot be read")
		}
		dst = pgwire.EndFrame(dst, at)
	}
	return dst, nil
}

// maskCell masks a value of a column by the column's rule, or by what detectors find in it.
func (ex *exch) maskCell(m *masking, i int, v []byte, null bool) ([]byte, bool) {
	col := &ex.columns[i]
	col.seen++
	ruled := m != nil && i < len(m.cells) && m.cells[i].rule != nil
	if ruled {
		ex.commit(m.cells[i].rule.Key, v, null)
	}
	if null {
		col.null++
		return nil, true
	}
	if ruled {
		cl := &m.cells[i]
		typ := col.typ
		if typ == 0 {
			typ = cl.typ
		}
		v, null = cl.rule.Apply(v, typ, ex.binary(i), cl.plain)
		col.count(null)
		return v, null
	}
	if col.exempt != "" && (!ex.binary(i) || mask.CarrierOf(col.typ) == mask.Text) {
		ex.session.Received(col.exempt, v)
	}
	if values := ex.plan.set.Values(); values != nil {
		return ex.maskValues(values, col, v, ex.binary(i))
	}
	return v, false
}

// binary reports whether a column of the answer is in binary format.
func (ex *exch) binary(i int) bool {
	switch len(ex.formats) {
	case 0:
		return false
	case 1:
		return ex.formats[0] != 0
	}
	return i < len(ex.formats) && ex.formats[i] != 0
}

// maskedRows handles rows some of whose columns are masked, whole.
func (p *answers) maskedRows(ex *exch, n int) error {
	if n > maxFrame {
		return errWithheld(fmt.Sprintf("a row of %d bytes with masked columns is longer than what is masked", n))
	}
	var frames []byte
	count := 1
	var err error
	if p.in.Buffered() {
		frames, count = p.in.Run()
	} else if frames, err = p.in.Next(); err != nil {
		return err
	}
	var ok bool
	if ex.fields, ok = pgwire.CheckRows(frames, ex.fields); !ok {
		return fmt.Errorf("%w: DataRow from the target", pgwire.ErrMalformed)
	}
	ex.rows += uint64(count) //nolint:gosec // a count
	out, err := ex.mask(p.scratch[:0], frames)
	if err != nil {
		return err
	}
	p.scratch = out
	if cap(p.scratch) > 4*batchSize {
		p.scratch = nil
	}
	return p.record(ex, out)
}

// safeClasses are classes of SQLSTATE whose messages name what the agent wrote, or the state of the server, and no values of rows.
var safeClasses = map[string]bool{
	"08": true, "0A": true, "25": true, "26": true, "28": true, "34": true, "3B": true, "3D": true, "3F": true, "40": true, "42": true, "53": true, "54": true,
	"55": true, "57": true, "58": true,
}

// withheld returns an ErrorResponse or NoticeResponse without what may hold values of masked columns: its severity, its SQLSTATE and
// the names that it gives stay.
func withheld(frame []byte, safe bool) []byte {
	f, _ := pgwire.ParseFields(frame[pgwire.FrameHeader:])
	safe = safe && len(f.Code) == 5 && safeClasses[f.Code[:2]]
	out, at := pgwire.BeginFrame(nil, frame[0])
	for c := pgwire.NewCursor(frame[pgwire.FrameHeader:]); c.Left() > 0; {
		typ := c.Byte()
		if typ == 0 {
			break
		}
		text := c.String()
		if c.Bad() {
			break
		}
		switch typ {
		case 'D', 'W', 'q':
			continue
		case 'H':
			if !safe {
				continue
			}
		case 'M':
			if !safe {
				text = []byte("gatebook: the message is withheld: it may hold values of masked columns (mask)")
			}
		}
		out = append(append(append(out, typ), text...), 0)
	}
	return pgwire.EndFrame(append(out, 0), at)
}

// hides returns an error or notice as the agent may see it. ex is what it is about, nil for nothing of the agent's.
func (p *answers) hides(frame []byte, ex *exch) []byte {
	set := p.r.s.Masks()
	if set == nil || ex != nil && ex.silent {
		return frame
	}
	if set.Columns() {
		m := (*masking)(nil)
		if ex != nil {
			m = ex.current()
		}
		switch {
		case frame[0] == 'A': // other sessions' words
			return hideNotification(frame)
		case m != nil && !m.Touches && !m.Writes:
		default:
			frame = withheld(frame, ex == nil || m != nil && !m.Writes)
		}
	}
	if values := set.Values(); values != nil {
		return hideValues(values, frame)
	}
	return frame
}

// hideNotification takes the payload out of a NotificationResponse.
func hideNotification(frame []byte) []byte {
	c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
	pid, channel := c.Bytes(4), c.String()
	out, at := pgwire.BeginFrame(nil, 'A')
	out = append(append(append(out, pid...), channel...), 0, 0)
	return pgwire.EndFrame(out, at)
}

// replan makes sure that an answer is masked by what is in force now, after a request has waited.
func (q *requests) replan(ctx context.Context, a *access.Action, old *plan) (*plan, *access.DenyError) {
	columns := q.r.s.Masks().Columns() || old != nil && old.set.Columns()
	if columns && (q.r.db == nil || q.r.db.refresh(ctx, 0) != nil) {
		return nil, denyMask("masks", "the target's definitions are not known now")
	}
	p := q.plan(a.Text, q.understand(ctx, a.Text))
	if p == nil {
		return nil, nil
	}
	return p, p.deny
}
