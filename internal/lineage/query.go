package lineage

import (
	"slices"

	pgquery "github.com/sqlc-dev/oliphant"

	"github.com/gatebook/gatebook/internal/sqlscan"
)

// walk follows one statement.
type walk struct {
	s    *Schema
	made func(sqlscan.Name) bool
	// look returns the columns of a relation of the catalog.
	look    func(*sqlscan.Relation) []field
	uses    []Use
	refuse  string
	touches bool
	depth   int

	literals, params []Literal
}

// scope is what names stand for in a query.
type scope struct {
	outer   *scope
	sources []*source
	ctes    map[string]rows
}

// holds are the masked columns behind a column that is written to.
func (s *source) holds(name string) Set {
	for _, f := range s.fields {
		if f.name == name {
			return f.from
		}
	}
	return s.rest
}

// source is something that rows are read from, by the name that the query has for it.
type source struct {
	alias  string
	schema string // where the text names it
	rows
	hidden bool // not part of a star: old, new, excluded
	merged bool // its columns stand in for those of the sides of a join
}

// use notes what is done with columns.
func (w *walk) use(how How, of Set) {
	if len(of) == 0 {
		return
	}
	for i := range w.uses {
		if w.uses[i].How == how {
			w.uses[i].Of = w.uses[i].Of.with(of)
			return
		}
	}
	w.uses = append(w.uses, Use{How: how, Of: of})
}

// forbid notes why the statement cannot pass.
func (w *walk) forbid(why string) {
	if w.refuse == "" {
		w.refuse = why
	}
}

// maxDepth bounds the queries within each other.
const maxDepth = 200

// query follows a SELECT or VALUES, or a side of a set operation.
func (w *walk) query(n *pgquery.SelectStmt, outer *scope) rows {
	if w.depth++; w.depth > maxDepth || n == nil {
		w.depth--
		w.forbid("it has too many queries within each other")
		return rows{open: true, rest: Set{Unknown}}
	}
	defer func() { w.depth-- }()
	sc := &scope{outer: outer}
	w.with(n.WithClause, sc)
	var out rows
	switch {
	case n.Larg != nil && n.Rarg != nil:
		out = w.combined(n, sc)
	case len(n.ValuesLists) > 0:
		out = w.values(n, sc)
	default:
		for _, item := range n.FromClause {
			w.from(item, sc)
		}
		w.use(Filters, w.eval(n.WhereClause, sc).from)
		out = w.targets(n.TargetList, sc)
		for _, g := range n.GroupClause {
			w.use(Groups, w.named(g, sc, &out))
		}
		w.use(Filters, w.eval(n.HavingClause, sc).from)
		for _, win := range n.WindowClause {
			w.window(win.GetWindowDef(), sc)
		}
		for _, d := range n.DistinctClause {
			if d.GetNode() == nil { // DISTINCT over all
				w.use(Compares, out.all())
				continue
			}
			w.use(Compares, w.named(d, sc, &out))
		}
	}
	for _, s := range n.SortClause {
		w.use(Sorts, w.named(s, sc, &out))
	}
	w.use(Filters, w.eval(n.LimitOffset, sc).from)
	w.use(Filters, w.eval(n.LimitCount, sc).from)
	return out
}

// combined follows UNION, INTERSECT and EXCEPT.
func (w *walk) combined(n *pgquery.SelectStmt, sc *scope) rows {
	l, r := w.query(n.Larg, sc), w.query(n.Rarg, sc) // neither is mixed: targets makes that open
	out := rows{open: l.open || r.open, rest: l.rest.with(r.rest)}
	if out.open {
		all := l.all().with(r.all())
		out.rest = all
		for _, f := range l.fields {
			out.fields = append(out.fields, field{name: f.name, from: all})
		}
	} else {
		for i, f := range l.fields {
			if i >= len(r.fields) {
				break // the target refuses it
			}
			g := r.fields[i]
			same := f.plain && g.plain && slices.Equal(f.from, g.from)
			out.fields = append(out.fields, field{name: f.name, from: f.from.with(g.from), plain: same})
		}
	}
	if !n.All || n.Op != pgquery.SetOperation_SETOP_UNION {
		w.use(Compares, out.all())
	}
	return out
}

func (w *walk) values(n *pgquery.SelectStmt, sc *scope) (out rows) {
	for _, list := range n.ValuesLists {
		for i, v := range list.GetList().GetItems() {
			if i >= len(out.fields) {
				out.fields = append(out.fields, field{name: "column" + decimal(i+1)})
			}
			f := &out.fields[i]
			f.from = f.from.with(w.eval(v, sc).from)
			f.plain = len(f.from) == 0
		}
	}
	return out
}

// with follows WITH queries. Each sees those before it, with RECURSIVE also itself and those behind it.
func (w *walk) with(c *pgquery.WithClause, sc *scope) {
	if c == nil {
		return
	}
	sc.ctes = map[string]rows{}
	var list []*pgquery.CommonTableExpr
	for _, n := range c.Ctes {
		if e := n.GetCommonTableExpr(); e != nil {
			list = append(list, e)
			continue
		}
		w.forbid("it has a WITH query of an unknown kind")
	}
	if !c.Recursive {
		for _, e := range list {
			sc.ctes[e.Ctename] = w.cte(e, sc)
		}
		return
	}
	// What each gives is found by going round until nothing is added; the first round begins with nothing known of their columns.
	for _, e := range list {
		sc.ctes[e.Ctename] = rows{open: true}.renamed(e.Aliascolnames)
	}
	for _, e := range list {
		if first := e.Ctequery.GetSelectStmt().GetLarg(); first != nil { // which does not refer to itself
			sc.ctes[e.Ctename] = w.query(first, &scope{outer: sc}).renamed(e.Aliascolnames)
		}
	}
	for round := 0; ; round++ {
		changed := false
		for _, e := range list {
			now := w.cte(e, sc)
			if !slices.EqualFunc(now.fields, sc.ctes[e.Ctename].fields, sameField) || now.open != sc.ctes[e.Ctename].open || !slices.Equal(now.rest, sc.ctes[e.Ctename].rest) {
				changed = true
			}
			sc.ctes[e.Ctename] = now
		}
		if !changed {
			return
		}
		if round == 20 {
			for name, r := range sc.ctes {
				sc.ctes[name] = rows{fields: r.fields, open: true, rest: Set{Unknown}}
			}
			w.forbid("its recursive WITH queries cannot be followed")
			return
		}
	}
}

func sameField(a, b field) bool {
	return a.name == b.name && a.wild == b.wild && a.maybe == b.maybe && a.plain == b.plain && slices.Equal(a.from, b.from)
}

func (w *walk) cte(e *pgquery.CommonTableExpr, sc *scope) rows {
	inner := &scope{outer: sc}
	var out rows
	switch {
	case e.Ctequery.GetSelectStmt() != nil:
		out = w.query(e.Ctequery.GetSelectStmt(), inner)
	default:
		out = w.change(e.Ctequery, inner)
	}
	out = out.renamed(e.Aliascolnames)
	if e.SearchClause != nil || e.CycleClause != nil { // they add columns that repeat others, and compare
		w.use(Compares, out.all())
		out.open, out.rest = true, out.all()
	}
	return out
}

// targets follows what a query puts out.
func (w *walk) targets(list []*pgquery.Node, sc *scope) (out rows) {
	for _, n := range list {
		t := n.GetResTarget()
		if t == nil {
			w.forbid("it puts out something of an unknown kind")
			continue
		}
		if star, ok := w.star(t.Val, sc); ok {
			out.fields = append(out.fields, star.fields...)
			if star.open || star.mixed {
				out.open, out.rest = true, out.rest.with(star.all())
			}
			continue
		}
		v := w.eval(t.Val, sc)
		name, sure := nameOf(t)
		out.fields = append(out.fields, field{name: name, wild: !sure, from: v.from, plain: v.plain})
	}
	return out
}

// nameOf returns the name that the target gives to a result column; sure is false where that is not known here.
func nameOf(t *pgquery.ResTarget) (name string, sure bool) {
	if t.Name != "" {
		return t.Name, true
	}
	switch n := t.Val.GetNode().(type) {
	case *pgquery.Node_ColumnRef:
		parts := n.ColumnRef.Fields
		name := parts[len(parts)-1].GetString_().GetSval()
		return name, name != ""
	case *pgquery.Node_FuncCall:
		parts := n.FuncCall.Funcname
		return parts[len(parts)-1].GetString_().GetSval(), true
	case *pgquery.Node_TypeCast:
		return nameOf(&pgquery.ResTarget{Val: n.TypeCast.Arg})
	}
	return "", false
}

// named returns what an item of GROUP BY, ORDER BY or DISTINCT ON is about: a result column by its number or name, or an
// expression. Where a name can be either, both count.
func (w *walk) named(n *pgquery.Node, sc *scope, out *rows) Set {
	if s := n.GetSortBy(); s != nil {
		if len(s.UseOp) > 0 {
			w.forbid("it sorts by an operator of its own")
		}
		n = s.Node
	}
	if g := n.GetGroupingSet(); g != nil {
		var all Set
		for _, c := range g.Content {
			all = all.with(w.named(c, sc, out))
		}
		return all
	}
	if c := n.GetAConst(); c != nil {
		i := int(c.GetIval().GetIval())
		if out.open {
			return out.all()
		}
		if i >= 1 && i <= len(out.fields) {
			return out.fields[i-1].from
		}
		return nil
	}
	var all Set
	if c := n.GetColumnRef(); c != nil && len(c.Fields) == 1 {
		name, found := c.Fields[0].GetString_().GetSval(), false
		for _, f := range out.fields {
			switch {
			case f.wild:
				all = all.with(f.from)
			case f.name == name:
				all, found = all.with(f.from), true
			}
		}
		if found && !w.knows(name, sc) {
			return all
		}
	}
	return all.with(w.eval(n, sc).from)
}

// window follows a window's definition.
func (w *walk) window(d *pgquery.WindowDef, sc *scope) {
	if d == nil {
		return
	}
	for _, p := range d.PartitionClause {
		w.use(Groups, w.eval(p, sc).from)
	}
	for _, o := range d.OrderClause {
		w.use(Sorts, w.named(o, sc, &rows{}))
	}
	w.use(Computes, w.eval(d.StartOffset, sc).from.with(w.eval(d.EndOffset, sc).from))
}

// from adds an item of FROM to a scope and returns what it gives.
func (w *walk) from(n *pgquery.Node, sc *scope) rows {
	switch v := n.GetNode().(type) {
	case *pgquery.Node_RangeVar:
		return w.add(sc, w.table(v.RangeVar, sc))
	case *pgquery.Node_RangeSubselect:
		sees := sc
		if !v.RangeSubselect.Lateral { // what stands before it in FROM is not to be seen
			sees = &scope{outer: sc.outer, ctes: sc.ctes}
		}
		out := w.query(v.RangeSubselect.Subquery.GetSelectStmt(), sees)
		return w.add(sc, aliased(v.RangeSubselect.Alias, "", out))
	case *pgquery.Node_RangeFunction:
		return w.add(sc, w.function(v.RangeFunction, sc))
	case *pgquery.Node_RangeTableSample:
		for _, a := range append(slices.Clone(v.RangeTableSample.Args), v.RangeTableSample.Repeatable) {
			w.use(Computes, w.eval(a, sc).from)
		}
		return w.from(v.RangeTableSample.Relation, sc)
	case *pgquery.Node_JoinExpr:
		return w.join(v.JoinExpr, sc)
	case *pgquery.Node_RangeTableFunc:
		return w.add(sc, w.document(n, v.RangeTableFunc.Alias, v.RangeTableFunc.Columns, sc))
	case *pgquery.Node_JsonTable:
		return w.add(sc, w.document(n, v.JsonTable.Alias, nil, sc))
	}
	w.forbid("it reads from something of an unknown kind")
	return w.add(sc, &source{rows: rows{open: true, rest: Set{Unknown}}})
}

func (w *walk) add(sc *scope, s *source) rows {
	sc.sources = append(sc.sources, s)
	return s.rows
}

func aliased(a *pgquery.Alias, name string, r rows) *source {
	if a == nil {
		return &source{alias: name, rows: r}
	}
	return &source{alias: a.Aliasname, rows: r.renamed(a.Colnames)}
}

// table returns a relation or a WITH query.
func (w *walk) table(r *pgquery.RangeVar, sc *scope) *source {
	if r.Schemaname == "" && r.Catalogname == "" {
		for s := sc; s != nil; s = s.outer {
			if out, ok := s.ctes[r.Relname]; ok {
				return aliased(r.Alias, r.Relname, out)
			}
		}
	}
	s := aliased(r.Alias, r.Relname, w.relation(r))
	if r.Alias == nil {
		s.schema = r.Schemaname
	}
	return s
}

// relation returns the columns of all relations that a name may stand for.
func (w *walk) relation(r *pgquery.RangeVar) rows {
	name := sqlscan.Name{Schema: r.Schemaname, Name: r.Relname}
	found := w.s.cat.Named(name)
	if len(found) == 0 {
		if w.made != nil && w.made(name) {
			return rows{open: true}
		}
		w.touches = true
		w.forbid("the gateway does not know the relation " + name.String())
		return rows{open: true, rest: Set{Unknown}}
	}
	out := rows{fields: w.look(found[0])}
	for _, rel := range found[1:] {
		fields := w.look(rel)
		if out.mixed || !slices.Equal(rel.Columns, found[0].Columns) {
			out.mixed, out.fields = true, merged(out.fields, fields)
			continue
		}
		both := slices.Clone(out.fields)
		for i, f := range fields {
			both[i].plain = f.plain && both[i].plain && (slices.Equal(f.from, both[i].from) || len(f.from) == 0 || len(both[i].from) == 0)
			both[i].from = both[i].from.with(f.from)
		}
		out.fields = both
	}
	w.touches = w.touches || len(out.all()) > 0
	return out
}

// merged puts the fields of relations together that have other columns.
func merged(a, b []field) (out []field) {
	have := func(list []field, name string) int {
		return slices.IndexFunc(list, func(g field) bool { return g.name == name })
	}
	for _, f := range a {
		i := have(b, f.name)
		if i >= 0 {
			f.plain = f.plain && b[i].plain && len(f.from)+len(b[i].from) == 0
			f.from = f.from.with(b[i].from)
		}
		f.maybe = f.maybe || i < 0
		f.plain = f.plain && !f.maybe
		out = append(out, f)
	}
	for _, f := range b {
		if have(a, f.name) < 0 {
			out = append(out, field{name: f.name, maybe: true, from: f.from})
		}
	}
	return out
}

// single are functions of PostgreSQL's own that give one column, whatever they are given.
var single = set("generate_series", "generate_subscripts", "regexp_split_to_table", "string_to_table", "jsonb_array_elements", "jsonb_array_elements_text",
	"json_array_elements", "json_array_elements_text", "json_object_keys", "jsonb_object_keys", "pg_listening_channels")

// function follows a function in FROM.
func (w *walk) function(f *pgquery.RangeFunction, sc *scope) *source {
	out, name := rows{}, ""
	for _, n := range f.Functions {
		items := n.GetList().GetItems()
		if len(items) == 0 {
			w.forbid("it calls a function in an unknown way")
			continue
		}
		v := w.eval(items[0], sc)
		w.use(Computes, v.from) // what it gives, and how often, depends on it
		call := items[0].GetFuncCall()
		if call != nil && name == "" {
			name = call.Funcname[len(call.Funcname)-1].GetString_().GetSval()
		}
		defs := slices.Clone(f.Coldeflist)
		if len(items) > 1 {
			defs = append(defs, items[1].GetList().GetItems()...)
		}
		switch {
		case len(defs) > 0:
			for _, d := range defs {
				out.fields = append(out.fields, field{name: d.GetColumnDef().GetColname(), from: v.from})
			}
		case call != nil && len(call.Funcname) == 1 && single[name] || call == nil:
			column := name
			if f.Alias != nil {
				column = f.Alias.Aliasname
			}
			out.fields = append(out.fields, field{name: column, from: v.from})
		default:
			out.open, out.rest = true, out.rest.with(v.from)
			if f.Alias != nil && len(f.Alias.Colnames) == 0 { // a function that gives one column has it by the alias
				out.fields = append(out.fields, field{name: f.Alias.Aliasname, from: v.from})
			}
		}
	}
	if f.Ordinality {
		out.fields = append(out.fields, field{name: "ordinality"})
	}
	return aliased(f.Alias, name, out)
}

// document follows XMLTABLE and JSON_TABLE.
func (w *walk) document(n *pgquery.Node, a *pgquery.Alias, columns []*pgquery.Node, sc *scope) *source {
	from := w.below(n, sc)
	w.use(Computes, from)
	out := rows{open: len(columns) == 0, rest: from}
	for _, c := range columns {
		out.fields = append(out.fields, field{name: c.GetRangeTableFuncCol().GetColname(), from: from})
	}
	return aliased(a, "", out)
}

// join follows a join. Its sides keep their names; what it merges stands before the rest of a star.
func (w *walk) join(j *pgquery.JoinExpr, sc *scope) rows {
	first := len(sc.sources)
	l := w.from(j.Larg, sc).loose()
	r := w.from(j.Rarg, sc).loose()
	sides := sc.sources[first:]
	var by []string
	for _, n := range j.UsingClause {
		by = append(by, n.GetString_().GetSval())
	}
	if j.IsNatural {
		if l.open || r.open {
			w.use(Joins, l.all().with(r.all()))
		}
		for _, f := range l.fields {
			if slices.ContainsFunc(r.fields, func(g field) bool { return g.name == f.name }) {
				by = append(by, f.name)
			}
		}
	}
	out := rows{open: l.open || r.open, rest: l.rest.with(r.rest)}
	for _, name := range by {
		from := find(l, name).with(find(r, name))
		w.use(Joins, from)
		out.fields = append(out.fields, field{name: name, from: from, plain: len(from) == 0})
	}
	for _, side := range []rows{l, r} {
		for _, f := range side.fields {
			if !slices.Contains(by, f.name) {
				out.fields = append(out.fields, f)
			}
		}
	}
	if j.IsNatural && out.open { // which columns it has is not known
		all := l.all().with(r.all())
		out.rest = all
	}
	w.use(Joins, w.eval(j.Quals, &scope{outer: sc.outer, ctes: sc.ctes, sources: sides}).from)
	if j.JoinUsingAlias != nil {
		sc.sources = append(sc.sources, &source{alias: j.JoinUsingAlias.Aliasname, rows: rows{fields: out.fields[:len(by)]}, hidden: true})
	}
	if j.Alias != nil { // its sides are not to be seen any more
		s := aliased(j.Alias, "", out)
		sc.sources = append(sc.sources[:first], s)
		return s.rows
	}
	if len(by) > 0 || j.IsNatural {
		for _, s := range sides {
			s.hidden = true
		}
		sc.sources = append(sc.sources, &source{rows: out, merged: true})
	}
	return out
}

// loose makes rows of which relation is not known ones with others among them.
func (r rows) loose() rows {
	if r.mixed {
		r.open, r.rest, r.mixed = true, r.all(), false
	}
	return r
}

func find(r rows, name string) (from Set) {
	for _, f := range r.fields {
		if f.name == name {
			from = from.with(f.from)
		}
	}
	return from
}
