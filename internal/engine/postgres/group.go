package postgres

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// group collects the messages of one exchange of the extended query protocol:
// an Execute with the Bind and Parse it came through, or what was prepared
// without being executed. Nothing of it is forwarded before the group is complete.
type group struct {
	raw   []byte
	items []item
	a     access.Action

	parsed  *change[*statement] // the Parse in this group
	bound   *change[*portal]    // the Bind in this group
	st      *statement          // what the group is about
	stName  string
	poName  string
	params  []byte // JSON of the Bind's parameters
	formats []int  // of the results, as the Bind asks for
	kinds   []byte // the messages' types in order
	maxRow  int32
	// uncertain: SQL that ran since the name was made may have changed what it stands for.
	uncertain bool
}

// open returns the group in progress, beginning one if there is none.
func (q *requests) open() *group {
	if q.g == nil {
		q.g, q.spare = q.spare, nil
	}
	if q.g == nil {
		q.g = &group{}
	}
	return q.g
}

// maxName is how many bytes of a name PostgreSQL tells statements and portals
// apart by. What it cut off would make two names here one there.
const maxName = 63

// named checks a name of the agent's. One that cannot be recorded as it is, or
// that the target would cut, refuses the group.
func (g *group) named(name string) string {
	switch {
	case len(name) > maxName:
		g.a.Refuse = access.Deny(access.CodeProtocol, "a name is longer than %d bytes", maxName)
	case !utf8.ValidString(name):
		g.a.Refuse = access.Deny(access.CodeProtocol, "a name is not valid UTF-8")
	default:
		return name
	}
	return ""
}

func (g *group) add(typ byte, frame []byte, it item) {
	g.raw = append(g.raw, frame...)
	g.items = append(g.items, it)
	g.kinds = append(g.kinds, typ)
}

// parse handles a Parse: it begins a new group.
func (q *requests) parse(ctx context.Context, frame, body []byte) error {
	if err := q.closeGroup(ctx); err != nil {
		return err
	}
	c := pgwire.NewCursor(body)
	name, text := string(c.String()), string(c.String())
	st := &statement{text: text, doubt: q.doubt}
	if n := c.Int16(); n > 0 && n*4 <= c.Left() {
		st.oids = make([]uint32, n)
		for i := range st.oids {
			st.oids[i] = uint32(c.Int32())
		}
	} else if n > 0 {
		c.Bytes(4 * n)
	}
	if !c.End() {
		return fmt.Errorf("%w: Parse", pgwire.ErrMalformed)
	}
	g := q.open()
	g.a.Text = text
	raw := frame
	if replaced, ok := q.judge(ctx, &g.a, body); ok {
		raw = pgwire.AppendParse(nil, name, replaced)
	}
	name = g.named(name)
	st.text = g.a.Text
	st.does = q.understand(ctx, st.text)
	if g.a.Refuse == nil && !q.r.charge(st) {
		g.a.Refuse = &access.DenyError{
			Code: access.CodeTooLarge, Rule: "limits.memory", Reason: "the texts of open statements take more memory than the gateway has for them now",
			Hint: "Close prepared statements that are not needed.",
		}
	}
	g.parsed = &change[*statement]{name: name, value: st, segment: q.segment}
	g.st, g.stName = st, name
	g.add('P', raw, item{kind: itemParse, st: g.parsed})
	return nil
}

// lookup returns what a statement's name stands for. Where that depends on an
// earlier pipeline whose answers are not in, it waits for them: else a Parse
// that fails there would make this record name the wrong text.
func (q *requests) lookup(ctx context.Context, name string) (*statement, error) {
	if g := q.g; g != nil && g.parsed != nil && g.parsed.name == name {
		return g.parsed.value, nil
	}
	find := func() (any, bool, bool) {
		st, ok, sure := q.r.statements.find(name, q.segment)
		return st, ok, sure
	}
	v, ok, err := q.await(ctx, find)
	if err != nil {
		return nil, err
	}
	if !ok {
		return &statement{unresolved: true}, nil
	}
	return v.(*statement), nil
}

func (q *requests) lookupPortal(ctx context.Context, name string) (*portal, error) {
	v, ok, err := q.await(ctx, func() (any, bool, bool) {
		po, ok, sure := q.r.portals.find(name, q.segment)
		return po, ok, sure
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return &portal{st: &statement{unresolved: true}}, nil
	}
	return v.(*portal), nil
}

// await calls find, under relay.mu, until its answer is sure.
func (q *requests) await(ctx context.Context, find func() (v any, ok, sure bool)) (any, bool, error) {
	r := q.r
	r.mu.Lock()
	v, ok, sure := find()
	r.mu.Unlock()
	if sure {
		return v, ok, nil
	}
	if err := q.commit(ctx); err != nil {
		return nil, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.waitAgent(ctx, func() bool {
		v, ok, sure = find()
		return sure || r.doomed() // what is skipped anyway needs no answer
	})
	return v, ok, err
}

// bind handles a Bind: it joins the Parse before it, or begins a group.
func (q *requests) bind(ctx context.Context, frame, body []byte) error {
	c := pgwire.NewCursor(body)
	poName, stName := string(c.String()), string(c.String())
	if c.Bad() {
		return fmt.Errorf("%w: Bind", pgwire.ErrMalformed)
	}
	if g := q.g; g != nil && (g.bound != nil || g.parsed == nil || g.parsed.name != stName) {
		if err := q.closeGroup(ctx); err != nil {
			return err
		}
	}
	st, err := q.lookup(ctx, stName)
	if err != nil {
		return err
	}
	g := q.open()
	params, formats, err := appendParams(slices.Grow(g.params[:0], len(body)+len(body)/4+64), &c)
	if err != nil {
		return err
	}
	g.st, g.stName, g.poName, g.params, g.formats = st, g.named(stName), g.named(poName), params, formats
	if g.a.Refuse == nil {
		g.a.Text = st.text
	}
	if g.a.Refuse == nil && (carriesToken(body) || q.r.s.HoldsToken(body)) {
		g.params = []byte(`"params":"[withheld: they hold a token or name gatebook.token]"`)
		g.a.Refuse = errTokenForm()
	}
	g.uncertain = stName != "" && st.doubt < q.doubt
	if st.mayRename() {
		q.doubt++ // planning runs functions that are declared IMMUTABLE
	}
	g.bound = &change[*portal]{name: poName, value: &portal{st: st, name: stName, doubt: q.doubt, formats: formats}, segment: q.segment}
	g.add('B', frame, item{kind: itemBind, po: g.bound})
	return nil
}

// describe handles a Describe: it joins a group that is about the same thing.
func (q *requests) describe(ctx context.Context, frame, body []byte) error {
	c := pgwire.NewCursor(body)
	what, name := c.Byte(), string(c.String())
	if !c.End() || (what != 'S' && what != 'P') {
		return fmt.Errorf("%w: Describe", pgwire.ErrMalformed)
	}
	if what == 'S' {
		if g := q.g; g != nil && (g.bound != nil || g.parsed == nil || g.parsed.name != name) {
			if err := q.closeGroup(ctx); err != nil {
				return err
			}
		}
		st, err := q.lookup(ctx, name)
		if err != nil {
			return err
		}
		g := q.open()
		g.st, g.stName = st, g.named(name)
		g.uncertain = g.uncertain || name != "" && g.parsed == nil && st.doubt < q.doubt
		if g.a.Refuse == nil {
			g.a.Text = st.text
		}
		g.add('D', frame, item{kind: itemDescribeStatement})
		return nil
	}
	if err := q.about(ctx, name); err != nil {
		return err
	}
	q.open().add('D', frame, item{kind: itemDescribePortal})
	return nil
}

// about makes the group in progress one about the named portal.
func (q *requests) about(ctx context.Context, name string) error {
	if g := q.g; g != nil && g.bound != nil && g.bound.name == name {
		return nil
	}
	if err := q.closeGroup(ctx); err != nil {
		return err
	}
	po, err := q.lookupPortal(ctx, name)
	if err != nil {
		return err
	}
	g := q.open()
	g.st, g.stName, g.poName, g.formats = po.st, po.name, g.named(name), po.formats
	g.uncertain = name != "" && po.doubt < q.doubt
	if g.a.Refuse == nil {
		g.a.Text = po.st.text
	}
	g.params = strconv.AppendUint([]byte(`"bound_in":`), po.bound, 10)
	if po.params != nil {
		g.params = append(append(g.params, ','), po.params...)
	}
	return nil
}

// close handles a Close of a statement or portal.
func (q *requests) close(ctx context.Context, frame, body []byte) error {
	c := pgwire.NewCursor(body)
	what, name := c.Byte(), string(c.String())
	if !c.End() || (what != 'S' && what != 'P') {
		return fmt.Errorf("%w: Close", pgwire.ErrMalformed)
	}
	if err := q.closeGroup(ctx); err != nil {
		return err
	}
	g := q.open()
	it := item{kind: itemClose}
	if what == 'S' {
		g.stName = g.named(name)
		it.st = &change[*statement]{name: name, gone: true, segment: q.segment}
	} else {
		g.poName = g.named(name)
		it.po = &change[*portal]{name: name, gone: true, segment: q.segment}
	}
	g.st = &statement{}
	g.add('C', frame, it)
	return q.closeGroup(ctx)
}

// execute handles an Execute, which completes its group.
func (q *requests) execute(ctx context.Context, frame, body []byte) error {
	c := pgwire.NewCursor(body)
	name, maxRow := string(c.String()), c.Int32()
	if !c.End() {
		return fmt.Errorf("%w: Execute", pgwire.ErrMalformed)
	}
	if err := q.about(ctx, name); err != nil {
		return err
	}
	g := q.open()
	g.maxRow = maxRow
	if g.st.mayRename() {
		q.doubt++
	}
	if q.r.s.Masks() != nil && !slices.ContainsFunc(g.items, func(it item) bool { return it.kind == itemDescribePortal }) {
		// What is masked of the answer is compared with what the target says of it.
		g.raw = pgwire.AppendFrame(g.raw, 'D', append(append([]byte{'P'}, name...), 0))
		g.items = append(g.items, item{kind: itemDescribePortal, own: true})
	}
	g.add('E', frame, item{kind: itemExecute})
	return q.closeGroup(ctx)
}

// closeGroup makes an exchange of the group in progress, if there is one.
func (q *requests) closeGroup(ctx context.Context) error {
	g := q.g
	if g == nil {
		return nil
	}
	q.g = nil
	switch g.items[len(g.items)-1].kind {
	case itemExecute:
		g.a.Op = "execute"
	case itemClose:
		g.a.Op = "close"
	default:
		g.a.Op = "prepare"
		if g.bound != nil {
			g.a.Op = "bind"
		}
	}
	q.detail = g.appendDetail(q.detail[:0])
	g.a.Detail = q.detail
	g.understand(ctx, q)
	q.next = expected{plan: q.maskGroup(ctx, g), st: g.st, formats: g.formats}
	if err := q.begin(ctx, &g.a, g.raw, g.items); err != nil {
		return err
	}
	if g.bound != nil {
		po := g.bound.value
		po.bound = q.exchs[len(q.exchs)-1].x.Number()
		if len(g.params) <= maxUncharged && (g.a.Op != "execute" || g.maxRow > 0) {
			po.params = slices.Clone(g.params)
		}
	}
	// The door and the batch have copied what they keep.
	clear(g.items)
	*g = group{raw: g.raw[:0], items: g.items[:0], params: g.params[:0], kinds: g.kinds[:0]}
	if cap(g.raw) <= batchSize/8 && cap(g.params) <= batchSize/8 {
		q.spare = g
	}
	if cap(q.detail) > batchSize/8 {
		q.detail = nil
	}
	return nil
}

// firstNormalOID is the first number of what is not PostgreSQL's own (FirstNormalObjectId in access/transam.h).
const firstNormalOID = 16384

// understand puts what the group does into its action.
func (g *group) understand(ctx context.Context, q *requests) {
	switch {
	case g.a.Op == "close":
		closes.fill(&g.a)
		g.a.Own = closeRule
	case g.st.does == nil:
		unclear(&g.a, "the gateway has not seen what the name stands for")
	default:
		// Again: definitions may have changed since the Parse.
		g.st.does = q.understand(ctx, g.st.text)
		g.st.does.fill(&g.a)
		// Making a value of another type than PostgreSQL's own may run code, and what only prepares leaves a name behind.
		if g.a.Op != "execute" || slices.ContainsFunc(g.st.oids, func(oid uint32) bool { return oid >= firstNormalOID }) {
			g.a.ProvenRead = false
		}
		if g.uncertain {
			unclear(&g.a, "code that ran since may have changed what the name stands for")
		}
	}
}

// appendDetail appends the JSON that, with the text, says exactly what the
// group asks for. docs/protocols/postgres.md describes it.
func (g *group) appendDetail(dst []byte) []byte {
	dst = append(dst, `{"messages":"`...)
	dst = append(dst, g.kinds...)
	dst = append(dst, '"')
	if g.stName != "" {
		dst = append(dst, `,"statement":`...)
		dst = audit.AppendString(dst, g.stName)
	}
	if g.poName != "" {
		dst = append(dst, `,"portal":`...)
		dst = audit.AppendString(dst, g.poName)
	}
	if g.st.unresolved {
		dst = append(dst, `,"unresolved":true`...)
	}
	if g.uncertain {
		dst = append(dst, `,"uncertain":true`...)
	}
	if len(g.st.oids) > 0 {
		dst = append(dst, `,"types":[`...)
		for i, oid := range g.st.oids {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendUint(dst, uint64(oid), 10)
		}
		dst = append(dst, ']')
	}
	if len(g.params) > 0 {
		dst = append(dst, ',')
		dst = append(dst, g.params...)
	}
	if g.maxRow != 0 {
		dst = append(dst, `,"max_rows":`...)
		dst = strconv.AppendInt(dst, int64(g.maxRow), 10)
	}
	return append(dst, '}')
}

// appendParams appends the JSON members of a Bind's parameters and result
// formats: text as strings, binary and what is not UTF-8 as {"b64": …}.
func appendParams(dst []byte, c *pgwire.Cursor) (out []byte, results []int, err error) {
	formats := make([]int, c.Int16())
	for i := range formats {
		formats[i] = c.Int16()
	}
	n := c.Int16()
	if c.Bad() || (len(formats) > 1 && len(formats) != n) {
		return nil, nil, fmt.Errorf("%w: Bind", pgwire.ErrMalformed)
	}
	format := func(i int) int {
		switch len(formats) {
		case 0:
			return 0
		case 1:
			return formats[0]
		}
		return formats[i]
	}
	dst = append(dst, `"params":[`...)
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		v, null := c.Value()
		dst = appendValue(dst, v, null, format(i))
	}
	dst = append(dst, ']')
	if len(formats) > 0 {
		dst = appendInts(append(dst, `,"formats":`...), formats)
	}
	results = make([]int, c.Int16())
	for i := range results {
		results[i] = c.Int16()
	}
	if !c.End() {
		return nil, nil, fmt.Errorf("%w: Bind", pgwire.ErrMalformed)
	}
	if len(results) > 0 {
		dst = appendInts(append(dst, `,"result_formats":`...), results)
	}
	return dst, results, nil
}

func appendValue(dst, v []byte, null bool, format int) []byte {
	switch {
	case null:
		return append(dst, "null"...)
	case format == 0 && utf8.Valid(v):
		return audit.AppendString(dst, string(v))
	}
	dst = append(dst, `{"b64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, v)
	return append(dst, `"}`...)
}

func appendInts(dst []byte, list []int) []byte {
	dst = append(dst, '[')
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(v), 10)
	}
	return append(dst, ']')
}

// appendCall appends the JSON of a FunctionCall's body.
func appendCall(dst, body []byte) ([]byte, error) {
	if len(body) < 4 {
		return nil, fmt.Errorf("%w: FunctionCall", pgwire.ErrMalformed)
	}
	dst = append(dst, `{"function":`...)
	dst = strconv.AppendUint(dst, uint64(binary.BigEndian.Uint32(body)), 10)
	dst = append(dst, ',')
	// Arguments stand like a Bind's parameters; one result format follows, where
	// a Bind has a counted list.
	c := pgwire.NewCursor(body[4:])
	formats := make([]int, c.Int16())
	for i := range formats {
		formats[i] = c.Int16()
	}
	n := c.Int16()
	if c.Bad() || (len(formats) > 1 && len(formats) != n) {
		return nil, fmt.Errorf("%w: FunctionCall", pgwire.ErrMalformed)
	}
	dst = append(dst, `"args":[`...)
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		f := 0
		if len(formats) == 1 {
			f = formats[0]
		} else if len(formats) > 1 {
			f = formats[i]
		}
		v, null := c.Value()
		dst = appendValue(dst, v, null, f)
	}
	dst = append(dst, `],"formats":`...)
	dst = appendInts(dst, formats)
	dst = append(dst, `,"result_format":`...)
	dst = strconv.AppendInt(dst, int64(c.Int16()), 10)
	if !c.End() {
		return nil, fmt.Errorf("%w: FunctionCall", pgwire.ErrMalformed)
	}
	return append(dst, '}'), nil
}
