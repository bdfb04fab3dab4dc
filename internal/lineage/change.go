package lineage

import (
	"fmt"

	pgquery "github.com/sqlc-dev/oliphant"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

// statement follows one statement.
func (s *Schema) statement(n *pgquery.Node, scan *sqlscan.Statement, made func(sqlscan.Name) bool) Answer {
	w := &walk{s: s, made: made, look: func(rel *sqlscan.Relation) []field { return s.fields[rel] }}
	a := Answer{Verb: title(scan.Verb)}
	w.top(n, scan, &a)
	if scan.Opaque != "" && scan.Opaque != sqlscan.UnnamedSetting { // pg_dump sets what the server has
		w.forbid(scan.Opaque)
	}
	if a.Open && len(a.From()) > 0 {
		w.forbid("the gateway cannot tell which column of its result is which: name the columns in place of *")
	}
	a.Literals, a.Params = ordered(w.literals), ordered(w.params)
	a.Uses, a.Touches = w.uses, w.touches || len(w.uses) > 0 || len(a.From()) > 0
	a.Writes = scan.Effects.Has(access.EffectWrite | access.EffectSchema | access.EffectExecute)
	if a.Refuse == "" {
		a.Refuse = w.refuse
	}
	return a
}

func (a *Answer) gives(r rows) {
	r = r.loose()
	a.Rows, a.Open, a.Rest = true, r.open, r.rest
	for _, f := range r.fields {
		a.Cells = append(a.Cells, Cell{Name: f.name, From: f.from, Plain: f.plain})
	}
}

// top follows a statement that is not within another.
func (w *walk) top(n *pgquery.Node, scan *sqlscan.Statement, a *Answer) {
	switch v := n.GetNode().(type) {
	case *pgquery.Node_SelectStmt:
		r := w.query(v.SelectStmt, nil)
		if into(v.SelectStmt) {
			w.store(r.all(), "a table")
			return
		}
		a.gives(r)
	case *pgquery.Node_InsertStmt, *pgquery.Node_UpdateStmt, *pgquery.Node_DeleteStmt, *pgquery.Node_MergeStmt:
		if r := w.change(n, nil); r.open || len(r.fields) > 0 {
			a.gives(r)
		}
	case *pgquery.Node_CopyStmt:
		w.copying(v.CopyStmt, a)
	case *pgquery.Node_ExplainStmt:
		inner := Answer{}
		w.top(v.ExplainStmt.Query, scan, &inner)
		a.gives(rows{fields: []field{{name: "QUERY PLAN", plain: true}}})
	case *pgquery.Node_CreateTableAsStmt:
		r := w.query(v.CreateTableAsStmt.Query.GetSelectStmt(), nil)
		w.store(r.all(), "a table")
	case *pgquery.Node_ViewStmt:
		w.query(v.ViewStmt.Query.GetSelectStmt(), nil) // what it gives is found when it is read
	case *pgquery.Node_DeclareCursorStmt:
		r := w.query(v.DeclareCursorStmt.Query.GetSelectStmt(), nil)
		w.store(r.all(), "a cursor")
	case *pgquery.Node_PrepareStmt:
		inner := Answer{}
		w.top(v.PrepareStmt.Query, scan, &inner)
		w.store(inner.From(), "a prepared statement of SQL")
	case *pgquery.Node_ExecuteStmt:
		w.forbid("what a prepared statement of SQL does cannot be followed: send it by the extended protocol")
	case *pgquery.Node_FetchStmt:
		if !v.FetchStmt.Ismove {
			a.Rows, a.Open, a.Fetches = true, true, v.FetchStmt.Portalname
		}
	case *pgquery.Node_VariableShowStmt:
		a.Rows, a.Open = true, true
	default:
		w.other(n, scan)
	}
}

// into reports whether a query makes a table. The clause stands in the leftmost side of a set operation.
func into(n *pgquery.SelectStmt) bool {
	for ; n != nil; n = n.Larg {
		if n.IntoClause != nil {
			return true
		}
	}
	return false
}

// store notes that values are put where they cannot be followed.
func (w *walk) store(from Set, where string) {
	if len(from) > 0 {
		w.forbid(fmt.Sprintf("it would put values of %s into %s", from[0], where))
	}
}

// other judges a statement without rows by what it does: no code that the gateway cannot follow, and no
// change of what a masked relation is.
func (w *walk) other(n *pgquery.Node, scan *sqlscan.Statement) {
	switch n.GetNode().(type) {
	case *pgquery.Node_TransactionStmt, *pgquery.Node_VariableSetStmt, *pgquery.Node_DiscardStmt, *pgquery.Node_ListenStmt, *pgquery.Node_UnlistenStmt,
		*pgquery.Node_NotifyStmt, *pgquery.Node_LockStmt, *pgquery.Node_TruncateStmt, *pgquery.Node_VacuumStmt, *pgquery.Node_ClosePortalStmt,
		*pgquery.Node_DeallocateStmt, *pgquery.Node_CheckPointStmt, *pgquery.Node_ConstraintsSetStmt, *pgquery.Node_CreateSeqStmt, *pgquery.Node_AlterSeqStmt,
		*pgquery.Node_CreateSchemaStmt, *pgquery.Node_RefreshMatViewStmt, *pgquery.Node_ReindexStmt, *pgquery.Node_GrantStmt, *pgquery.Node_GrantRoleStmt,
		*pgquery.Node_CreateEnumStmt, *pgquery.Node_AlterEnumStmt, *pgquery.Node_CompositeTypeStmt, *pgquery.Node_AlterTableStmt, *pgquery.Node_IndexStmt,
		*pgquery.Node_RenameStmt, *pgquery.Node_AlterObjectSchemaStmt, *pgquery.Node_CommentStmt, *pgquery.Node_ClusterStmt:
	case *pgquery.Node_CreateStmt, *pgquery.Node_DropStmt:
		if w.below(n, &scope{}).Has(Unknown) {
			w.forbid("it makes something with code that the gateway cannot follow")
		}
		return
	default:
		w.forbid("it runs or makes code that the gateway cannot follow")
	}
	if scan.Effects.Has(access.EffectExecute) || w.below(n, &scope{}).Has(Unknown) {
		w.forbid("it runs or makes code that the gateway cannot follow")
	}
	for _, o := range scan.Objects {
		if o.Kind != "relation" {
			continue
		}
		for _, rel := range w.s.cat.Named(o.Name) {
			r := rows{fields: w.look(rel)}
			if len(r.all()) == 0 {
				continue
			}
			w.touches = true
			if _, ok := n.GetNode().(*pgquery.Node_ClusterStmt); ok {
				w.forbid(fmt.Sprintf("it puts the rows of %s into the order of an index, which can be that of a masked column", rel.Name))
			}
			if o.Effect.Has(access.EffectSchema) {
				w.forbid(fmt.Sprintf("it changes the definition of %s, which has masked columns", rel.Name))
			}
		}
	}
}

// copying follows COPY.
func (w *walk) copying(c *pgquery.CopyStmt, a *Answer) {
	var r rows
	switch {
	case c.IsFrom:
		w.use(Filters, w.eval(c.WhereClause, &scope{}).from)
		w.relation(c.Relation) // its errors may hold rows
		return
	case c.Query != nil && c.Query.GetSelectStmt() != nil:
		r = w.query(c.Query.GetSelectStmt(), nil)
	case c.Query != nil:
		r = w.change(c.Query, nil)
	default:
		r = w.relation(c.Relation)
		if len(c.Attlist) > 0 {
			r = w.picked(r, c.Attlist)
		} else {
			r = w.stored(c.Relation, r)
		}
	}
	if c.Filename != "" || c.IsProgram {
		w.store(r.all(), "a file")
		return
	}
	a.gives(r)
	if f, known := copyFormat(c); known {
		a.Copy = &f
	} else if len(r.all()) > 0 {
		w.forbid("the gateway does not know an option of this COPY")
	}
}

// picked are some columns of a relation, by name.
func (w *walk) picked(r rows, names []*pgquery.Node) (out rows) {
	s := &source{rows: r}
	for _, n := range names {
		name := n.GetString_().GetSval()
		v := w.of(s, name)
		out.fields = append(out.fields, field{name: name, from: v.from, plain: v.plain})
	}
	return out
}

// stored leaves out the columns that COPY of a whole table does: generated ones.
func (w *walk) stored(rv *pgquery.RangeVar, r rows) rows {
	for _, rel := range w.s.cat.Named(sqlscan.Name{Schema: rv.Schemaname, Name: rv.Relname}) {
		if len(rel.Generated) == 0 {
			continue
		}
		out := rows{open: r.open, rest: r.rest}
		for _, f := range r.fields {
			if _, ok := rel.Generated[f.name]; !ok {
				out.fields = append(out.fields, f)
			}
		}
		return out
	}
	return r
}

// change follows INSERT, UPDATE, DELETE and MERGE, and returns what they return.
func (w *walk) change(n *pgquery.Node, outer *scope) rows {
	if w.depth++; w.depth > maxDepth {
		w.depth--
		w.forbid("it has too many queries within each other")
		return rows{open: true, rest: Set{Unknown}}
	}
	defer func() { w.depth-- }()
	sc := &scope{outer: outer}
	switch v := n.GetNode().(type) {
	case *pgquery.Node_InsertStmt:
		return w.insert(v.InsertStmt, sc)
	case *pgquery.Node_UpdateStmt:
		w.with(v.UpdateStmt.WithClause, sc)
		target := w.target(v.UpdateStmt.Relation, sc)
		for _, f := range v.UpdateStmt.FromClause {
			w.from(f, sc)
		}
		w.assign(v.UpdateStmt.TargetList, target, sc)
		w.use(Filters, w.eval(v.UpdateStmt.WhereClause, sc).from)
		return w.returning(v.UpdateStmt.ReturningClause, target, sc)
	case *pgquery.Node_DeleteStmt:
		w.with(v.DeleteStmt.WithClause, sc)
		target := w.target(v.DeleteStmt.Relation, sc)
		for _, f := range v.DeleteStmt.UsingClause {
			w.from(f, sc)
		}
		w.use(Filters, w.eval(v.DeleteStmt.WhereClause, sc).from)
		return w.returning(v.DeleteStmt.ReturningClause, target, sc)
	case *pgquery.Node_MergeStmt:
		return w.merge(v.MergeStmt, sc)
	}
	w.forbid("it is a statement of an unknown kind within another")
	return rows{open: true, rest: Set{Unknown}}
}

// target brings the relation that is changed into the scope.
func (w *walk) target(r *pgquery.RangeVar, sc *scope) *source {
	s := aliased(r.Alias, r.Relname, w.relation(r))
	if r.Alias == nil {
		s.schema = r.Schemaname
	}
	sc.sources = append(sc.sources, s)
	return s
}

// assign follows the values that columns of a relation are set to.
func (w *walk) assign(list []*pgquery.Node, target *source, sc *scope) {
	for _, n := range list {
		t := n.GetResTarget()
		if t == nil {
			w.forbid("it sets something of an unknown kind")
			continue
		}
		for _, i := range t.Indirection {
			w.use(Computes, w.below(i, sc))
		}
		val := t.Val
		if m := val.GetMultiAssignRef(); m != nil {
			val = m.Source
		}
		w.store(w.eval(val, sc).from, "a column")
		w.hide(val, target.holds(t.Name))
	}
}

// puts hides the constants that are put into masked columns of a relation: names are its columns, all of them if there are none.
func (w *walk) puts(target *source, names, values []*pgquery.Node) {
	for i, val := range values {
		switch {
		case len(names) == 0 && i < len(target.fields):
			w.hide(val, target.fields[i].from)
		case i < len(names):
			w.hide(val, target.holds(names[i].GetResTarget().GetName()))
		}
	}
}

// putsQuery is puts for the rows of a query.
func (w *walk) putsQuery(target *source, names []*pgquery.Node, q *pgquery.SelectStmt) {
	if q == nil {
		return
	}
	for _, row := range q.ValuesLists {
		w.puts(target, names, row.GetList().GetItems())
	}
	var values []*pgquery.Node
	for _, t := range q.TargetList {
		values = append(values, t.GetResTarget().GetVal())
	}
	w.puts(target, names, values)
	w.putsQuery(target, names, q.Larg)
	w.putsQuery(target, names, q.Rarg)
}

func (w *walk) insert(n *pgquery.InsertStmt, sc *scope) rows {
	w.with(n.WithClause, sc)
	if q := n.SelectStmt.GetSelectStmt(); q != nil {
		r := w.query(q, sc)
		w.store(r.all(), "a table")
	}
	target := w.target(n.Relation, sc)
	w.putsQuery(target, n.Cols, n.SelectStmt.GetSelectStmt())
	if c := n.OnConflictClause; c != nil {
		excluded := &source{alias: "excluded", hidden: true, rows: rows{open: true}}
		for _, f := range target.fields { // the agent's own values
			excluded.fields = append(excluded.fields, field{name: f.name, plain: true})
		}
		sc.sources = append(sc.sources, excluded)
		if c.Infer != nil {
			w.use(Compares, w.below(&pgquery.Node{Node: &pgquery.Node_InferClause{InferClause: c.Infer}}, sc))
		}
		w.assign(c.TargetList, target, sc)
		w.use(Filters, w.eval(c.WhereClause, sc).from)
	}
	return w.returning(n.ReturningClause, target, sc)
}

func (w *walk) merge(n *pgquery.MergeStmt, sc *scope) rows {
	w.with(n.WithClause, sc)
	w.from(n.SourceRelation, sc) // first in a star
	target := w.target(n.Relation, sc)
	w.use(Joins, w.eval(n.JoinCondition, sc).from)
	for _, c := range n.MergeWhenClauses {
		v := c.GetMergeWhenClause()
		if v == nil {
			w.forbid("it has a MERGE action of an unknown kind")
			continue
		}
		w.use(Filters, w.eval(v.Condition, sc).from)
		w.assign(v.TargetList, target, sc)
		w.puts(target, v.TargetList, v.Values)
		for _, val := range v.Values {
			w.store(w.eval(val, sc).from, "a column")
		}
	}
	return w.returning(n.ReturningClause, target, sc)
}

// returning follows what changed rows give.
func (w *walk) returning(c *pgquery.ReturningClause, target *source, sc *scope) rows {
	if c == nil {
		return rows{}
	}
	names := map[string]bool{"old": true, "new": true}
	for _, o := range c.Options {
		names[o.GetReturningOption().GetValue()] = true
	}
	for name := range names {
		if find1(sc, "", name) == nil {
			sc.sources = append(sc.sources, &source{alias: name, hidden: true, rows: target.rows})
		}
	}
	r := w.targets(c.Exprs, sc)
	if len(r.fields) == 0 {
		r.open = true
	}
	return r
}
