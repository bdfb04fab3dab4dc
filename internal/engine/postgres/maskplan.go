package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/lineage"
	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/sqlscan"
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
