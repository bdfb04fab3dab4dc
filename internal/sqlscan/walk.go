package sqlscan

import (
	"slices"
	"strconv"
	"strings"

	pgquery "github.com/sqlc-dev/oliphant"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gatebook/gatebook/internal/access"
)

// Bounds of what is kept of one statement. A statement beyond them is opaque,
// so that nothing it names goes unjudged.
const (
	maxWalk     = 10_000 // levels of the tree
	maxQueries  = 200    // queries within each other; a name is looked for in all of them
	maxObjects  = 2_000
	maxColumns  = 20_000
	maxLiterals = 1_000 // further ones are left out; they decide nothing
)

// walk collects what one statement does.
type walk struct {
	st      *Statement
	scope   *scope
	level   int
	queries int // the query is within so many others
	objects map[Object]bool
	columns map[Column]bool
	names   map[Name]bool   // operators
	types   map[Name]bool   // types of PostgreSQL's own
	dotted  map[string]bool // attributes

	defining bool // a relation outside of a query is being defined

	changes  int  // UPDATE, DELETE, MERGE and TRUNCATE met
	inserts  bool // an INSERT was met: its rows are in the text, or those of a query
	bare     bool // one of them is without a filter
	bareRead bool // an outermost SELECT from something is without a filter
}

// scope is what names stand for in a query.
type scope struct {
	outer *scope
	ctes  map[string]bool
	// relations by what the query calls them, and in their order; the zero Name is something that is no relation.
	relations map[string]Name
	order     []string
	starred   int  // how many of them a star has named
	objects   bool // large objects are changed in it
}

func (w *walk) push() { w.scope = &scope{outer: w.scope} }
func (w *walk) pop()  { w.scope = w.scope.outer }

// rows ends a query: what it does to a large object it does for each of its rows, and so does a query around it.
func (w *walk) rows(n *pgquery.SelectStmt) {
	if !w.scope.objects {
		return
	}
	if len(n.FromClause) > 0 && !w.filtered(n.WhereClause, &row{}) {
		w.changes, w.bare = w.changes+1, true
	}
	if w.scope.outer != nil {
		w.scope.outer.objects = true
	}
}

// isCTE reports whether an unqualified name is that of a WITH query here.
func (w *walk) isCTE(name string) bool {
	for s := w.scope; s != nil; s = s.outer {
		if s.ctes[name] {
			return true
		}
	}
	return false
}

// relation returns what a qualifier stands for.
func (w *walk) relation(alias string) Name {
	for s := w.scope; s != nil; s = s.outer {
		if n, ok := s.relations[alias]; ok {
			return n
		}
	}
	return Name{}
}

// only returns the one relation that an unqualified column can be of, as far as the text tells.
func (w *walk) only() Name {
	if w.scope == nil || w.scope.outer.any() || len(w.scope.relations) != 1 {
		return Name{}
	}
	return w.scope.relations[w.scope.order[0]]
}

func (s *scope) any() bool {
	for ; s != nil; s = s.outer {
		if len(s.relations) > 0 {
			return true
		}
	}
	return false
}

func (w *walk) bring(alias string, n Name) {
	if w.scope.relations == nil {
		w.scope.relations = map[string]Name{}
	}
	if _, ok := w.scope.relations[alias]; !ok {
		w.scope.order = append(w.scope.order, alias)
	}
	w.scope.relations[alias] = n
}

// effect notes an effect that does not hang on a name.
func (w *walk) effect(e access.Effects) { w.st.Own |= e }

// opaque notes that the statement's effects cannot be known.
func (w *walk) opaque(why string) {
	if w.st.Opaque == "" {
		w.st.Opaque = why
	}
	w.effect(access.EffectExecute)
}

func (w *walk) object(kind string, n Name, e access.Effects) {
	o := Object{Kind: kind, Name: n, Effect: e}
	if w.objects[o] {
		return
	}
	if len(w.objects) >= maxObjects {
		w.opaque("it names too many objects")
		return
	}
	if w.objects == nil {
		w.objects = map[Object]bool{}
	}
	w.objects[o] = true
	w.st.Objects = append(w.st.Objects, o)
}

func (w *walk) finish() {
	w.st.Effects = w.st.Own
	for _, o := range w.st.Objects {
		w.st.Effects |= o.Effect
	}
	switch {
	case w.st.Opaque != "":
		w.st.HasFilter = false
	case w.changes > 0:
		w.st.HasFilter = !w.bare
	case w.inserts:
		w.st.HasFilter = true // a query around it selects from what was inserted
	default:
		w.st.HasFilter = !w.bareRead
	}
}

// texts returns the strings of a list, "*" for a star, "" for anything else.
func texts(list []*pgquery.Node) []string {
	out := make([]string, len(list))
	for i, n := range list {
		switch v := n.GetNode().(type) {
		case *pgquery.Node_String_:
			out[i] = v.String_.Sval
		case *pgquery.Node_AStar:
			out[i] = "*"
		}
	}
	return out
}

// deeper enters a level of the tree; false if there are too many.
func (w *walk) deeper() bool {
	if w.level >= maxWalk {
		w.opaque("it is nested too deep")
		return false
	}
	w.level++
	return true
}

func (w *walk) higher() { w.level-- }

// nameOf returns a qualified name from its parts, the database left out.
func nameOf(parts []string) Name {
	switch n := len(parts); {
	case n == 0:
		return Name{}
	case n == 1:
		return Name{Name: parts[0]}
	default:
		return Name{Schema: parts[n-2], Name: parts[n-1]}
	}
}

// rangeName returns a relation's name. What is made as TEMPORARY stands in the session's own schema.
func rangeName(r *pgquery.RangeVar) Name {
	if r.Schemaname == "" && r.Relpersistence == "t" {
		return Name{Schema: "pg_temp", Name: r.Relname}
	}
	return Name{Schema: r.Schemaname, Name: r.Relname}
}

func (w *walk) list(nodes []*pgquery.Node) {
	for _, n := range nodes {
		w.node(n)
	}
}

// node walks an expression, a part of a query or a nested statement.
func (w *walk) node(n *pgquery.Node) {
	if n == nil || n.Node == nil {
		return
	}
	if !w.deeper() {
		return
	}
	defer w.higher()
	switch v := n.Node.(type) {
	case *pgquery.Node_SelectStmt:
		w.query(v.SelectStmt, w.scope == nil)
	case *pgquery.Node_InsertStmt:
		w.insert(v.InsertStmt)
	case *pgquery.Node_UpdateStmt:
		w.update(v.UpdateStmt)
	case *pgquery.Node_DeleteStmt:
		w.delete(v.DeleteStmt)
	case *pgquery.Node_MergeStmt:
		w.merge(v.MergeStmt)
	case *pgquery.Node_RangeVar:
		w.from(v.RangeVar)
	case *pgquery.Node_RangeSubselect:
		w.node(v.RangeSubselect.Subquery)
		w.alias(v.RangeSubselect.Alias)
	case *pgquery.Node_RangeFunction:
		w.children(v.RangeFunction)
		w.alias(v.RangeFunction.Alias)
	case *pgquery.Node_RangeTableFunc:
		w.children(v.RangeTableFunc)
		w.alias(v.RangeTableFunc.Alias)
	case *pgquery.Node_JsonTable:
		w.children(v.JsonTable)
		w.alias(v.JsonTable.Alias)
	case *pgquery.Node_RangeTableSample:
		w.node(v.RangeTableSample.Relation)
		w.sampling(nameOf(texts(v.RangeTableSample.Method)))
		w.list(v.RangeTableSample.Args)
		w.node(v.RangeTableSample.Repeatable)
	case *pgquery.Node_JoinExpr:
		w.join(v.JoinExpr)
	case *pgquery.Node_FuncCall:
		w.call(nameOf(texts(v.FuncCall.Funcname)), len(v.FuncCall.Args))
		w.setting(v.FuncCall)
		w.children(v.FuncCall)
	case *pgquery.Node_AExpr:
		w.operators(v.AExpr)
		w.children(v.AExpr)
	case *pgquery.Node_SubLink:
		if len(v.SubLink.OperName) > 0 {
			w.operator(nameOf(texts(v.SubLink.OperName)))
		} else if v.SubLink.Testexpr != nil {
			w.operator(Name{Name: "="})
		}
		w.children(v.SubLink)
	case *pgquery.Node_CaseExpr:
		if v.CaseExpr.Arg != nil {
			w.operator(Name{Name: "="})
		}
		w.children(v.CaseExpr)
	case *pgquery.Node_SortBy:
		if len(v.SortBy.UseOp) > 0 {
			w.operator(nameOf(texts(v.SortBy.UseOp)))
		}
		w.node(v.SortBy.Node)
	case *pgquery.Node_ColumnRef:
		w.column(v.ColumnRef)
	case *pgquery.Node_AIndirection:
		for _, i := range v.AIndirection.Indirection {
			if s := i.GetString_(); s != nil {
				w.attribute(s.Sval)
			}
		}
		w.children(v.AIndirection)
	case *pgquery.Node_TypeName:
		w.typeName(v.TypeName)
	case *pgquery.Node_AConst:
		w.literal(v.AConst)
	case *pgquery.Node_ParamRef:
		w.st.Parameters = max(w.st.Parameters, int(v.ParamRef.Number))
	case *pgquery.Node_CommonTableExpr:
		w.opaque("a WITH query where none is due")
	default:
		w.plain(n)
	}
}

// plain walks a node that has no meaning of its own beyond that of its parts.
// A node that is not known to be such makes the statement opaque.
func (w *walk) plain(n *pgquery.Node) {
	m := n.ProtoReflect()
	which := m.WhichOneof(m.Descriptor().Oneofs().Get(0))
	inner := m.Get(which).Message()
	if !plainNodes[string(inner.Descriptor().Name())] {
		w.opaque("the gateway does not know what " + string(inner.Descriptor().Name()) + " does")
	}
	if f, ok := inner.Interface().(*pgquery.JsonFuncExpr); ok {
		w.object("function", Name{Name: strings.ToLower(strings.TrimSuffix(f.Op.String(), "_OP"))}, 0)
	} else if name := onceFunctions[string(inner.Descriptor().Name())]; name != "" {
		w.object("function", Name{Name: name}, 0)
	}
	w.children(inner.Interface())
}

// onceFunctions are nodes of syntax that older servers take for the call of a function, which anybody may have made.
var onceFunctions = map[string]string{
	"JsonParseExpr": "json", "JsonScalarExpr": "json_scalar", "JsonSerializeExpr": "json_serialize", "JsonArrayConstructor": "json_array",
	"JsonArrayAgg": "json_arrayagg", "JsonObjectConstructor": "json_object", "JsonObjectAgg": "json_objectagg",
	"JsonArrayQueryConstructor": "json_array", "MergeSupportFunc": "merge_action",
}

// plainNodes have no meaning beyond that of their parts.
var plainNodes = set(
	"Alias", "BoolExpr", "CaseWhen", "CoalesceExpr", "MinMaxExpr", "SQLValueFunction", "XmlExpr", "XmlSerialize", "NullTest", "BooleanTest",
	"RowExpr", "A_ArrayExpr", "A_Indices", "A_Star", "CollateClause", "TypeCast", "ResTarget", "MultiAssignRef", "WindowDef", "GroupingFunc",
	"GroupingSet", "NamedArgExpr", "SetToDefault", "InferClause", "IndexElem", "List", "String", "Integer", "Float", "Boolean", "BitString",
	"LockingClause", "ReturningClause", "ReturningOption", "MergeSupportFunc", "CTESearchClause", "CTECycleClause", "DefElem",
	"RangeTableFuncCol", "CurrentOfExpr", "RowCompareExpr", "OnConflictClause", "MergeWhenClause",
	"JsonFormat", "JsonReturning", "JsonValueExpr", "JsonIsPredicate", "JsonBehavior", "JsonOutput", "JsonArgument", "JsonFuncExpr",
	"JsonTablePathSpec", "JsonTableColumn", "JsonKeyValue", "JsonParseExpr", "JsonScalarExpr", "JsonSerializeExpr", "JsonObjectConstructor",
	"JsonArrayConstructor", "JsonArrayQueryConstructor", "JsonAggConstructor", "JsonObjectAgg", "JsonArrayAgg",
	// Parts of definitions.
	"ColumnDef", "Constraint", "PartitionSpec", "PartitionElem", "PartitionBoundSpec", "PartitionRangeDatum", "PartitionCmd", "RoleSpec",
	"AccessPriv", "ObjectWithArgs", "FunctionParameter", "TableLikeClause", "CreateOpClassItem", "StatsElem", "PublicationObjSpec",
	"PublicationTable", "VacuumRelation", "AlterTableCmd", "ReplicaIdentityStmt", "TriggerTransition", "ATAlterConstraint", "ReturnStmt",
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// children walks everything below a message.
func (w *walk) children(m interface{ ProtoReflect() protoreflect.Message }) {
	if !w.deeper() {
		return
	}
	defer w.higher()
	anyChild(m.ProtoReflect(), func(c protoreflect.Message) bool {
		w.message(c)
		return false
	})
}

// message walks a message that stands in a field of its own type.
func (w *walk) message(m protoreflect.Message) {
	switch v := m.Interface().(type) {
	case *pgquery.Node:
		w.node(v)
	case *pgquery.SelectStmt:
		w.query(v, w.scope == nil)
	case *pgquery.RangeVar:
		w.from(v)
	case *pgquery.TypeName:
		w.typeName(v)
	case *pgquery.FuncCall:
		w.node(&pgquery.Node{Node: &pgquery.Node_FuncCall{FuncCall: v}})
	default:
		w.children(v)
	}
}

// query walks a SELECT or VALUES, or one side of a UNION, INTERSECT or EXCEPT. outermost: its rows are the statement's.
func (w *walk) query(n *pgquery.SelectStmt, outermost bool) {
	if !w.deeper() {
		return
	}
	defer w.higher()
	// The sides of a UNION of many are nested in the tree alone: they share a scope.
	if n.Larg == nil || n.WithClause != nil || w.scope == nil {
		if w.queries >= maxQueries {
			w.opaque("it has too many queries within each other")
			return
		}
		w.queries++
		defer func() { w.queries-- }()
		w.push()
		defer w.pop()
	}
	w.effect(access.EffectRead)
	w.with(n.WithClause)
	if n.IntoClause != nil {
		w.into(n.IntoClause)
	}
	for _, side := range []*pgquery.SelectStmt{n.Larg, n.Rarg} {
		if side != nil {
			w.query(side, outermost)
		}
	}
	w.list(n.FromClause)
	for _, part := range [][]*pgquery.Node{
		n.DistinctClause, n.TargetList, n.GroupClause, n.WindowClause, n.ValuesLists, n.SortClause,
	} {
		w.list(part)
	}
	for _, part := range []*pgquery.Node{n.WhereClause, n.HavingClause, n.LimitOffset, n.LimitCount} {
		w.node(part)
	}
	if outermost && len(n.FromClause) > 0 {
		w.bareRead = w.bareRead || !w.filtered(n.WhereClause, &row{})
	}
	if len(n.LockingClause) > 0 {
		w.effect(access.EffectLock)
	}
	w.rows(n)
}

// into notes the relation that a query makes.
func (w *walk) into(c *pgquery.IntoClause) {
	w.object("relation", rangeName(c.Rel), access.EffectSchema)
	w.effect(access.EffectWrite)
	w.list(c.Options)
}

// with walks WITH queries. Each sees those before it, and with RECURSIVE all of them.
func (w *walk) with(c *pgquery.WithClause) {
	if c == nil {
		return
	}
	s := w.scope
	if s.ctes == nil {
		s.ctes = map[string]bool{}
	}
	if c.Recursive {
		for _, n := range c.Ctes {
			s.ctes[n.GetCommonTableExpr().GetCtename()] = true
		}
	}
	for _, n := range c.Ctes {
		e := n.GetCommonTableExpr()
		if e == nil {
			w.opaque("a WITH query of an unknown kind")
			continue
		}
		w.push() // its relations are not those of the query around it
		w.node(e.Ctequery)
		if e.SearchClause != nil {
			w.children(e.SearchClause)
		}
		if e.CycleClause != nil {
			w.children(e.CycleClause)
			w.operator(Name{Name: "="})
		}
		w.pop()
		s.ctes[e.Ctename] = true
	}
}

// from notes a relation that is read.
func (w *walk) from(r *pgquery.RangeVar) {
	if w.scope == nil && w.defining {
		w.object("relation", rangeName(r), schema)
		return
	}
	if w.scope == nil {
		w.push()
		defer w.pop()
	}
	if r.Schemaname == "" && r.Catalogname == "" && w.isCTE(r.Relname) {
		w.bring(callsIt(r), Name{})
		return
	}
	w.bring(callsIt(r), rangeName(r))
	w.read(rangeName(r))
}

// read notes a relation whose rows are read.
func (w *walk) read(n Name) {
	w.object("relation", n, access.EffectRead)
	if ofCatalog(n) && fileViews[n.Name] {
		w.effect(access.EffectFile)
	}
}

// write notes a relation whose rows are changed. Rows of the catalog are definitions and rights.
func (w *walk) write(n Name) {
	w.object("relation", n, access.EffectWrite)
	switch {
	case !ofCatalog(n):
	case n.Name == "pg_settings": // its rule calls set_config, for names that only the rows tell
		w.effect(access.EffectAdmin | access.EffectAccess | access.EffectSession)
	default:
		w.effect(access.EffectSchema | access.EffectAccess)
	}
}

// fileViews are the views of the catalog that read configuration files of the target's host.
var fileViews = set("pg_file_settings", "pg_hba_file_rules", "pg_ident_file_mappings")

// ofCatalog reports whether a relation is PostgreSQL's own. Names without a schema are looked for in pg_catalog first.
func ofCatalog(n Name) bool {
	switch n.Schema {
	case "":
		return strings.HasPrefix(n.Name, "pg_")
	case "pg_catalog", "pg_toast", "information_schema":
		return true
	}
	return false
}

// target notes a relation whose rows are changed. A WITH query cannot be changed, so that the name is a relation's.
func (w *walk) target(r *pgquery.RangeVar) {
	w.bring(callsIt(r), rangeName(r))
	w.write(rangeName(r))
}

func (w *walk) alias(a *pgquery.Alias) {
	if a != nil && w.scope != nil {
		w.bring(a.Aliasname, Name{})
	}
}

func (w *walk) join(j *pgquery.JoinExpr) {
	w.node(j.Larg)
	w.node(j.Rarg)
	w.node(j.Quals)
	if len(j.UsingClause) > 0 || j.IsNatural {
		w.operator(Name{Name: "="})
	}
	for _, c := range texts(j.UsingClause) {
		w.addColumn(Column{Name: c})
	}
	w.alias(j.Alias)
	w.alias(j.JoinUsingAlias)
}

func (w *walk) returning(c *pgquery.ReturningClause) {
	if c == nil {
		return
	}
	w.effect(access.EffectRead)
	for _, o := range c.Options {
		if v := o.GetReturningOption(); v != nil {
			w.bring(v.Value, Name{})
		}
	}
	w.list(c.Exprs)
}

func (w *walk) insert(n *pgquery.InsertStmt) {
	w.push()
	defer w.pop()
	w.inserts = true
	w.within("INSERT")
	w.with(n.WithClause)
	w.push() // the query that makes the rows does not see the target
	if s := n.SelectStmt.GetSelectStmt(); s != nil && len(s.ValuesLists) > 0 && s.WithClause == nil && len(s.FromClause) == 0 {
		w.list(s.ValuesLists)
		w.list(s.SortClause)
		w.node(s.LimitCount)
		w.node(s.LimitOffset)
	} else {
		w.node(n.SelectStmt)
	}
	w.pop()
	w.target(n.Relation)
	w.list(n.Cols)
	if c := n.OnConflictClause; c != nil {
		w.bring("excluded", Name{})
		if c.Action == pgquery.OnConflictAction_ONCONFLICT_UPDATE {
			w.within("UPDATE")
		}
		w.children(c)
	}
	w.returning(n.ReturningClause)
}

func (w *walk) update(n *pgquery.UpdateStmt) {
	w.push()
	defer w.pop()
	w.within("UPDATE")
	w.with(n.WithClause)
	w.target(n.Relation)
	w.list(n.FromClause)
	w.list(n.TargetList)
	w.node(n.WhereClause)
	w.changed(n.WhereClause, changing(n.Relation, len(n.FromClause) > 0))
	w.returning(n.ReturningClause)
}

func (w *walk) delete(n *pgquery.DeleteStmt) {
	w.push()
	defer w.pop()
	w.within("DELETE")
	w.with(n.WithClause)
	w.target(n.Relation)
	w.list(n.UsingClause)
	w.node(n.WhereClause)
	w.changed(n.WhereClause, changing(n.Relation, len(n.UsingClause) > 0))
	w.returning(n.ReturningClause)
}

func (w *walk) merge(n *pgquery.MergeStmt) {
	w.push()
	defer w.pop()
	w.within("MERGE")
	w.with(n.WithClause)
	w.target(n.Relation)
	w.node(n.SourceRelation)
	w.node(n.JoinCondition)
	bare := !w.filtered(n.JoinCondition, changing(n.Relation, true))
	for _, c := range n.MergeWhenClauses {
		v := c.GetMergeWhenClause()
		if v == nil {
			w.opaque("a MERGE action of an unknown kind")
			continue
		}
		w.children(v)
		switch v.CommandType {
		case pgquery.CmdType_CMD_INSERT:
			w.within("INSERT")
		case pgquery.CmdType_CMD_UPDATE:
			w.within("UPDATE")
		case pgquery.CmdType_CMD_DELETE:
			w.within("DELETE")
		}
		changes := v.CommandType == pgquery.CmdType_CMD_UPDATE || v.CommandType == pgquery.CmdType_CMD_DELETE
		notMatchedBySource := v.MatchKind == pgquery.MergeMatchKind_MERGE_WHEN_NOT_MATCHED_BY_SOURCE
		if changes && (bare || notMatchedBySource) && !w.filtered(v.Condition, changing(n.Relation, true)) {
			w.bare = true
		}
	}
	w.changes++
	w.returning(n.ReturningClause)
}

// within notes a command that changes rows.
func (w *walk) within(verb string) {
	if verb != w.st.Verb && !slices.Contains(w.st.Inner, verb) {
		w.st.Inner = append(w.st.Inner, verb)
	}
}

// changed notes a change of the rows that a condition selects.
func (w *walk) changed(cond *pgquery.Node, r *row) {
	w.changes++
	w.bare = w.bare || !w.filtered(cond, r)
}

// changing returns the row of a relation that is changed. joined: with others.
func changing(r *pgquery.RangeVar, joined bool) *row {
	return &row{table: rangeName(r), called: set(callsIt(r)), joined: joined}
}

// filtered is filters for a condition that was walked before: one that is nested too deep makes the statement opaque, and
// is not looked at again.
func (w *walk) filtered(cond *pgquery.Node, r *row) bool {
	return w.st.Opaque == "" && filters(cond, r)
}

func (w *walk) operator(n Name) {
	if n.Schema == "pg_catalog" {
		return
	}
	if n.Schema != "" || !builtinOperators[n.Name] {
		w.object("operator", n, access.EffectExecute)
	}
	if n.Schema != "" {
		return
	}
	if w.names == nil {
		w.names = map[Name]bool{}
	}
	if !w.names[n] {
		w.names[n] = true
		w.st.Operators = append(w.st.Operators, n)
	}
}

func (w *walk) operators(e *pgquery.A_Expr) {
	switch e.Kind {
	case pgquery.A_Expr_Kind_AEXPR_BETWEEN, pgquery.A_Expr_Kind_AEXPR_NOT_BETWEEN,
		pgquery.A_Expr_Kind_AEXPR_BETWEEN_SYM, pgquery.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		for _, op := range []string{"<", "<=", ">", ">="} {
			w.operator(Name{Name: op})
		}
	default:
		w.operator(nameOf(texts(e.Name)))
	}
}

func (w *walk) attribute(name string) {
	if w.dotted == nil {
		w.dotted = map[string]bool{}
	}
	if !w.dotted[name] {
		w.dotted[name] = true
		w.st.Attributes = append(w.st.Attributes, name)
		if e := reviewed[name]; e&^access.EffectRead != 0 {
			w.call(Name{Name: name}, 1) // PostgreSQL calls its own ones too: ('x'::text).pg_read_file
		}
	}
}

func (w *walk) column(c *pgquery.ColumnRef) {
	parts := texts(c.Fields)
	if len(parts) == 0 {
		return
	}
	last := parts[len(parts)-1]
	switch len(parts) {
	case 1:
		if last == "*" {
			w.star()
			return
		}
		if n := w.relation(last); n != (Name{}) {
			w.addColumn(Column{Relation: n, Name: "*"}) // the row as a whole, unless it has a column of this name
		}
		w.addColumn(Column{Relation: w.only(), Name: last})
	default:
		w.attribute(last)
		n := w.relation(parts[len(parts)-2])
		if len(parts) > 2 {
			n = Name{Schema: parts[len(parts)-3], Name: parts[len(parts)-2]}
		}
		w.addColumn(Column{Relation: n, Name: last})
	}
}

// star notes all columns of everything in the query.
func (w *walk) star() {
	if w.scope == nil || len(w.scope.relations) == 0 {
		w.addColumn(Column{Name: "*"})
		return
	}
	news := w.scope.order[w.scope.starred:]
	w.scope.starred = len(w.scope.order)
	for _, alias := range news {
		if n := w.scope.relations[alias]; n != (Name{}) {
			w.addColumn(Column{Relation: n, Name: "*"})
		}
	}
}

func (w *walk) addColumn(c Column) {
	if w.columns[c] {
		return
	}
	if len(w.columns) >= maxColumns {
		w.opaque("it names too many columns")
		return
	}
	if w.columns == nil {
		w.columns = map[Column]bool{}
	}
	w.columns[c] = true
	w.st.Columns = append(w.st.Columns, c)
}

func (w *walk) typeName(t *pgquery.TypeName) {
	switch n := nameOf(texts(t.Names)); {
	case n.Schema == "pg_catalog":
	case n.Schema != "" || !builtinTypes[n.Name]:
		w.object("type", n, access.EffectExecute)
	case !w.types[n]:
		if w.types == nil {
			w.types = map[Name]bool{}
		}
		w.types[n] = true
		w.st.Types = append(w.st.Types, n)
	}
	w.list(t.Typmods)
}

func (w *walk) literal(c *pgquery.A_Const) {
	if len(w.st.Literals) >= maxLiterals || c.Isnull {
		return
	}
	text := ""
	switch v := c.Val.(type) {
	case *pgquery.A_Const_Sval:
		text = v.Sval.Sval
	case *pgquery.A_Const_Fval:
		text = v.Fval.Fval
	case *pgquery.A_Const_Bsval:
		text = v.Bsval.Bsval
	case *pgquery.A_Const_Ival:
		text = strconv.Itoa(int(v.Ival.GetIval()))
	case *pgquery.A_Const_Boolval:
		return
	}
	w.st.Literals = append(w.st.Literals, text)
}
