package lineage

import (
	"slices"
	"strconv"
	"strings"

	pgquery "github.com/sqlc-dev/oliphant"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

func decimal(n int) string { return strconv.Itoa(n) }

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range names {
		m[n] = true
	}
	return m
}

// value is what is known of an expression's value.
type value struct {
	from Set
	// plain: that of the one column in from itself, unchanged. carried: made of masked values by what works for every value alike,
	// so that neither an error nor anything but the value itself depends on them.
	plain, carried bool
}

// carriers are functions of PostgreSQL's own that work for every value alike: no error and no side effect depends on it.
var carriers = set("lower", "upper", "initcap", "reverse", "concat", "concat_ws", "btrim", "ltrim", "rtrim", "md5", "quote_literal", "quote_nullable", "quote_ident",
	"to_json", "to_jsonb", "row_to_json", "array_to_json", "json_build_array", "jsonb_build_array", "array_agg", "string_agg", "json_agg", "jsonb_agg",
	"min", "max", "any_value", "first_value", "last_value", "lag", "lead", "length", "char_length", "character_length", "octet_length", "array_to_string")

// counters tell of their arguments only how many are not NULL.
var counters = set("count", "num_nulls", "num_nonnulls", "row_number", "rank", "dense_rank", "ntile", "pg_typeof")

// texts are the types of PostgreSQL's own to which every value can be cast alike.
var texts = set("text", "varchar", "bpchar", "name")

// tellers are functions of PostgreSQL's own that return data of others, large objects, or texts of statements.
var tellers = set("lo_get", "loread", "lo_open", "lo_export", "pg_stat_get_activity", "pg_stat_get_backend_activity", "pg_mcv_list_items", "ts_stat")

// eval follows an expression. What it computes with masked values is noted.
func (w *walk) eval(n *pgquery.Node, sc *scope) value {
	switch v := n.GetNode().(type) {
	case nil:
		return value{plain: true}
	case *pgquery.Node_AConst, *pgquery.Node_ParamRef, *pgquery.Node_SqlvalueFunction, *pgquery.Node_SetToDefault, *pgquery.Node_CurrentOfExpr:
		return value{plain: true}
	case *pgquery.Node_ColumnRef:
		return w.column(v.ColumnRef, sc)
	case *pgquery.Node_SubLink:
		return w.sublink(v.SubLink, sc)
	case *pgquery.Node_SelectStmt:
		r := w.query(v.SelectStmt, sc)
		return value{from: r.all(), carried: true}
	case *pgquery.Node_FuncCall:
		return w.call(v.FuncCall, sc)
	case *pgquery.Node_TypeCast:
		return w.cast(v.TypeCast, sc)
	case *pgquery.Node_CollateClause:
		return w.carry(sc, v.CollateClause.Arg)
	case *pgquery.Node_CoalesceExpr:
		return w.carry(sc, v.CoalesceExpr.Args...)
	case *pgquery.Node_MinMaxExpr:
		return w.carry(sc, v.MinMaxExpr.Args...)
	case *pgquery.Node_RowExpr:
		return w.carry(sc, v.RowExpr.Args...)
	case *pgquery.Node_AArrayExpr:
		return w.carry(sc, v.AArrayExpr.Elements...)
	case *pgquery.Node_List:
		return w.carry(sc, v.List.Items...)
	case *pgquery.Node_NullTest:
		w.eval(v.NullTest.Arg, sc)
		return value{plain: true} // NULL or not is not followed
	case *pgquery.Node_AIndirection:
		return w.indirection(v.AIndirection, sc)
	case *pgquery.Node_AExpr:
		return w.operator(v.AExpr, sc)
	}
	return w.computed(w.below(n, sc))
}

// computed is a value that was made of others in a way that can tell something of them.
func (w *walk) computed(from Set) value {
	w.use(Computes, from)
	return value{from: from}
}

// carry is a value that holds others as they are.
func (w *walk) carry(sc *scope, nodes ...*pgquery.Node) value {
	out := value{carried: true}
	for _, n := range nodes {
		out.from = out.from.with(w.eval(n, sc).from)
	}
	return out
}

// below returns the columns behind everything below a node of a kind that is not known here.
func (w *walk) below(n *pgquery.Node, sc *scope) (from Set) {
	return w.message(n.ProtoReflect(), sc, true)
}

func (w *walk) message(m protoreflect.Message, sc *scope, top bool) (from Set) {
	switch v := m.Interface().(type) {
	case *pgquery.SelectStmt:
		r := w.query(v, sc)
		return r.all()
	case *pgquery.Node:
		if !top {
			return w.eval(v, sc).from
		}
	case *pgquery.TypeName:
		if !w.knownType(v) {
			return Set{Unknown}
		}
		return nil
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				from = from.with(w.message(v.List().Get(i).Message(), sc, false))
			}
		default:
			from = from.with(w.message(v.Message(), sc, false))
		}
		return true
	})
	return from
}

// operator follows an operator. Only || carries its sides.
func (w *walk) operator(e *pgquery.A_Expr, sc *scope) value {
	from := w.eval(e.Lexpr, sc).from.with(w.eval(e.Rexpr, sc).from)
	w.hide(e.Lexpr, from)
	w.hide(e.Rexpr, from)
	name := partsOf(e.Name)
	own := w.s.cat.OwnOperator(name)
	switch {
	case !own:
		from = from.with(Set{Unknown})
	case e.Kind == pgquery.A_Expr_Kind_AEXPR_OP && name.Name == "||":
		return value{from: from, carried: true}
	}
	return w.computed(from)
}

// hide notes the constants and parameters below a node as what meets values of masked columns.
func (w *walk) hide(n *pgquery.Node, of Set) {
	if n != nil && len(of) > 0 {
		w.constants(n.ProtoReflect(), of[0])
	}
}

func (w *walk) constants(m protoreflect.Message, of Column) {
	switch v := m.Interface().(type) {
	case *pgquery.A_Const:
		if !v.Isnull {
			w.literals = append(w.literals, Literal{int(v.Location), of})
		}
		return
	case *pgquery.ParamRef:
		w.params = append(w.params, Literal{int(v.Number), of})
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				w.constants(v.List().Get(i).Message(), of)
			}
		default:
			w.constants(v.Message(), of)
		}
		return true
	})
}

func partsOf(list []*pgquery.Node) (n sqlscan.Name) {
	for _, p := range list {
		n.Schema, n.Name = n.Name, p.GetString_().GetSval()
	}
	return n
}

// cast follows a cast. One to a text carries every value alike; a length can cut it, which is no error.
func (w *walk) cast(c *pgquery.TypeCast, sc *scope) value {
	v := w.eval(c.Arg, sc)
	if !w.knownType(c.TypeName) {
		return w.computed(v.from.with(Set{Unknown}))
	}
	names := c.TypeName.Names
	if len(v.from) == 0 || texts[names[len(names)-1].GetString_().GetSval()] && len(c.TypeName.ArrayBounds) == 0 {
		return value{from: v.from, carried: true, plain: len(v.from) == 0}
	}
	return w.computed(v.from)
}

// knownType reports whether making a value of a type runs no code of others.
func (w *walk) knownType(t *pgquery.TypeName) bool { return w.s.cat.OwnType(partsOf(t.Names)) }

// call follows the call of a function.
func (w *walk) call(f *pgquery.FuncCall, sc *scope) value {
	name := partsOf(f.Funcname)
	var args, behind Set
	for i, a := range f.Args {
		from := w.eval(a, sc).from
		args = args.with(from)
		if i > 0 {
			behind = behind.with(from)
		}
	}
	for _, a := range f.Args {
		w.hide(a, args)
	}
	w.window(f.Over, sc)
	for _, o := range f.AggOrder {
		w.use(Sorts, w.named(o, sc, &rows{}))
	}
	w.use(Filters, w.eval(f.AggFilter, sc).from)
	if f.AggDistinct {
		w.use(Compares, args)
	}
	effects, own := w.s.cat.OwnFunction(name)
	switch {
	case !own || tellers[name.Name] || effects.Has(access.EffectExecute|access.EffectFile|access.EffectNetwork|access.EffectAdmin):
		// It may return, or hand on, whatever there is.
		return w.computed(args.with(Set{Unknown}))
	case effects&^access.EffectRead != 0 && len(args) > 0:
		w.forbid("it gives masked values to " + name.Name + ", which keeps them")
		return w.computed(args)
	case counters[name.Name] && !f.AggWithinGroup:
		return value{plain: true}
	case (name.Name == "lag" || name.Name == "lead") && len(behind) > 0: // how many rows away decides whether there is one
	case carriers[name.Name] && !f.AggWithinGroup && !f.FuncVariadic:
		return value{from: args, carried: true}
	}
	return w.computed(args)
}

// sublink follows a query within an expression.
func (w *walk) sublink(l *pgquery.SubLink, sc *scope) value {
	r := w.query(l.Subselect.GetSelectStmt(), sc)
	switch l.SubLinkType {
	case pgquery.SubLinkType_EXISTS_SUBLINK:
		return value{plain: true}
	case pgquery.SubLinkType_EXPR_SUBLINK, pgquery.SubLinkType_ARRAY_SUBLINK, pgquery.SubLinkType_MULTIEXPR_SUBLINK:
		return value{from: r.all(), carried: true}
	}
	w.hide(l.Testexpr, r.all())
	return w.computed(r.all().with(w.eval(l.Testexpr, sc).from))
}

// indirection follows (expression).field and subscripts.
func (w *walk) indirection(n *pgquery.A_Indirection, sc *scope) value {
	for _, i := range n.Indirection {
		if x := i.GetAIndices(); x != nil {
			w.use(Computes, w.eval(x.Lidx, sc).from.with(w.eval(x.Uidx, sc).from))
		}
	}
	if ref, name := n.Arg.GetColumnRef(), n.Indirection[0].GetString_(); ref != nil && name != nil && len(ref.Fields) == 1 && len(n.Indirection) == 1 {
		// (relation).column
		alias := ref.Fields[0].GetString_().GetSval()
		if s := find1(sc, "", alias); s != nil && !w.knows(alias, sc) {
			return w.of(s, name.Sval)
		}
	}
	v := w.eval(n.Arg, sc)
	return value{from: v.from, carried: true, plain: len(v.from) == 0}
}

// star returns what a star stands for; ok is false for everything else.
func (w *walk) star(n *pgquery.Node, sc *scope) (out rows, ok bool) {
	if i := n.GetAIndirection(); i != nil && len(i.Indirection) > 0 && i.Indirection[len(i.Indirection)-1].GetAStar() != nil {
		// (expression).*
		if ref := i.Arg.GetColumnRef(); ref != nil && len(i.Indirection) == 1 && len(ref.Fields) == 1 {
			if s := find1(sc, "", ref.Fields[0].GetString_().GetSval()); s != nil {
				return s.rows, true
			}
		}
		return rows{open: true, rest: w.eval(i.Arg, sc).from}, true
	}
	ref := n.GetColumnRef()
	if ref == nil || ref.Fields[len(ref.Fields)-1].GetAStar() == nil {
		return rows{}, false
	}
	if len(ref.Fields) == 1 {
		for _, s := range sc.sources {
			if !s.hidden {
				r := s.loose()
				out.fields = append(out.fields, r.fields...)
				out.open, out.rest = out.open || r.open, out.rest.with(r.rest)
			}
		}
		return out, true
	}
	parts := fieldsOf(ref)
	if s := find1(sc, schemaOf(parts[:len(parts)-1]), parts[len(parts)-2]); s != nil {
		return s.rows, true
	}
	return rows{open: true, rest: w.computed(everywhere(sc)).from}, true
}

func fieldsOf(c *pgquery.ColumnRef) []string {
	parts := make([]string, len(c.Fields))
	for i, f := range c.Fields {
		parts[i] = f.GetString_().GetSval()
	}
	return parts
}

func schemaOf(parts []string) string {
	if len(parts) < 2 {
		return ""
	}
	return parts[len(parts)-2]
}

// find1 returns the innermost source that a query calls so, nil if there is none.
func find1(sc *scope, schema, alias string) *source {
	for ; sc != nil; sc = sc.outer {
		for _, s := range sc.sources {
			if s.alias == alias && alias != "" && (schema == "" || schema == s.schema) {
				return s
			}
		}
	}
	return nil
}

// everywhere are the masked columns of all that a query can name.
func everywhere(sc *scope) (from Set) {
	for ; sc != nil; sc = sc.outer {
		for _, s := range sc.sources {
			from = from.with(s.all())
		}
	}
	return from
}

// systemColumns hold no values of the table's own.
var systemColumns = set("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid")

// knows reports whether an unqualified name may be that of a column here.
func (w *walk) knows(name string, sc *scope) bool {
	for ; sc != nil; sc = sc.outer {
		for _, s := range sc.sources {
			if s.open || slices.ContainsFunc(s.fields, func(f field) bool { return f.name == name || f.wild }) {
				return true
			}
		}
	}
	return false
}

// column follows a reference to a column, or to a whole row.
func (w *walk) column(c *pgquery.ColumnRef, sc *scope) value {
	parts := fieldsOf(c)
	if c.Fields[len(c.Fields)-1].GetAStar() != nil {
		r, _ := w.star(&pgquery.Node{Node: &pgquery.Node_ColumnRef{ColumnRef: c}}, sc)
		return value{from: r.all(), carried: true, plain: len(r.all()) == 0}
	}
	if len(parts) > 1 {
		s := find1(sc, schemaOf(parts[:len(parts)-1]), parts[len(parts)-2])
		if s == nil {
			return w.lost(strings.Join(parts, "."), sc)
		}
		return w.of(s, parts[len(parts)-1])
	}
	return w.bare(parts[0], sc)
}

// bare follows a name without a qualifier: a column of the innermost query that has one, else a whole row. Where a query may have
// one of that name and it is not known, both it and what stands outside of it count.
func (w *walk) bare(name string, sc *scope) value {
	var out value
	certain, perhaps := false, false
	for at := sc; at != nil && !certain; at = at.outer {
		for _, s := range at.sources {
			for _, f := range s.fields {
				switch {
				case f.wild, f.maybe && f.name == name:
					out.from, perhaps = out.from.with(f.from), true
				case f.name != name:
				case !certain && !perhaps:
					out, certain = value{from: f.from, plain: f.plain, carried: true}, true
				default:
					out = value{from: out.from.with(f.from), plain: out.plain && f.plain && slices.Equal(out.from, f.from), carried: true}
					certain = true
				}
			}
			if s.open {
				out.from, perhaps = out.from.with(s.rest), true
			}
		}
	}
	if perhaps {
		out.plain, out.carried = len(out.from) == 0, true
	}
	if certain {
		return out
	}
	if s := find1(sc, "", name); s != nil { // the whole row
		from := out.from.with(s.all())
		return value{from: from, carried: true, plain: len(from) == 0}
	}
	if perhaps || systemColumns[name] {
		return value{from: out.from, carried: true, plain: len(out.from) == 0}
	}
	return w.lost(name, sc)
}

// of returns a column of a source. A name that it has not may be a function of its row.
func (w *walk) of(s *source, name string) value {
	for _, f := range s.fields {
		if f.name == name && !f.wild && (!f.maybe || !w.s.cat.IsFunction(name)) {
			from := f.from
			if s.open {
				from = from.with(s.rest)
			}
			return value{from: from, plain: f.plain && len(from) == len(f.from), carried: true}
		}
	}
	if systemColumns[name] {
		return value{plain: true}
	}
	from := s.all()
	if len(from) > 0 && !s.open && !w.s.cat.IsFunction(name) {
		w.forbid("the gateway does not know the column " + name)
	}
	if effects, own := w.s.cat.OwnFunction(sqlscan.Name{Name: name}); (!own || effects != 0 || tellers[name]) && w.s.cat.IsFunction(name) {
		from = from.with(Set{Unknown})
	}
	return w.computed(from)
}

// lost is what a name gives that is not found: anything that can be named.
func (w *walk) lost(name string, sc *scope) value {
	from := everywhere(sc)
	if len(from) > 0 {
		w.forbid("the gateway does not know the column " + name)
	}
	return w.computed(from)
}

// title is a statement's verb for messages.
func title(verb string) string { return strings.ToUpper(verb) }
