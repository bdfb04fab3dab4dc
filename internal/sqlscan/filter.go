package sqlscan

import (
	"maps"
	"reflect"
	"strings"

	pgquery "github.com/sqlc-dev/oliphant"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// truth is what is known of a condition without looking at any row.
type truth uint8

const (
	depends truth = iota // on the row
	always               // it holds for every row, or nearly
	never                // it holds for no row
	unknown              // it does not depend on the row, and cannot be computed here
)

func (t truth) negated() truth {
	switch t {
	case always:
		return never
	case never:
		return always
	}
	return t
}

// maxWork bounds the nodes that are looked at for one condition, some of them more than once. What is larger counts as no filter.
const maxWork = 1 << 19

// row is the row that a condition is asked about.
type row struct {
	// table it is of, and the qualifiers that mean it. Without qualifiers every one does: all relations of a SELECT are alike.
	table  Name
	called map[string]bool
	// joined: the query has other relations, of which a column without a qualifier may be.
	joined bool
	work   int
	shapes map[*pgquery.Node]uint64
}

// filters reports whether a condition keeps rows out by what they hold. A
// condition that holds for every row (true, 1 = 1, id = id, id IS NOT NULL OR id IS NULL), or that does not look at
// the row at all, is no filter. What holds for every row by the meaning of its functions or of the data (length(x) >= 0,
// id > 0) cannot be told from it, and passes.
func filters(cond *pgquery.Node, r *row) bool {
	if cond == nil {
		return false
	}
	t := r.judge(cond)
	return r.work <= maxWork && (t == depends || t == never)
}

func (r *row) judge(n *pgquery.Node) truth {
	switch v := n.GetNode().(type) {
	case *pgquery.Node_BoolExpr:
		return r.judgeBool(v.BoolExpr)
	case *pgquery.Node_AConst:
		if b := v.AConst.GetBoolval(); b != nil && !b.Boolval || v.AConst.Isnull {
			return never
		}
		return always
	case *pgquery.Node_TypeCast:
		return r.judgeCast(v.TypeCast)
	case *pgquery.Node_AExpr:
		return r.judgeComparison(v.AExpr)
	case *pgquery.Node_BooleanTest:
		return r.judgeTest(v.BooleanTest)
	case *pgquery.Node_NullTest:
		if v.NullTest.Nulltesttype == pgquery.NullTestType_IS_NOT_NULL && systemColumn(v.NullTest.Arg) {
			return always
		}
	case *pgquery.Node_CaseExpr:
		return r.judgeCase(v.CaseExpr)
	case *pgquery.Node_CoalesceExpr:
		for _, a := range v.CoalesceExpr.Args {
			if !a.GetAConst().GetIsnull() {
				return r.judge(a) // later ones count for NULL alone
			}
		}
	case *pgquery.Node_SubLink:
		if r.findsItself(v.SubLink) {
			return always
		}
	}
	return r.byColumns(n)
}

// byColumns judges what has no meaning known here by the columns that it refers to.
func (r *row) byColumns(nodes ...*pgquery.Node) truth {
	if r.reads(nodes...) {
		return depends
	}
	return unknown
}

func (r *row) judgeCast(c *pgquery.TypeCast) truth {
	// 't'::bool is how some parsers write true.
	if text, ok := literal(c.Arg); ok && len(text) > 0 && (text[0] == 'f' || text[0] == 'F' || text[0] == 'n' || text[0] == 'N' || text == "0") {
		return never
	}
	return r.judge(c.Arg)
}

func (r *row) judgeBool(b *pgquery.BoolExpr) truth {
	if b.Boolop == pgquery.BoolExprType_NOT_EXPR {
		return r.judge(b.Args[0]).negated()
	}
	if b.Boolop == pgquery.BoolExprType_AND_EXPR {
		result := always
		for _, a := range b.Args {
			switch t := r.judge(a); {
			case t == never:
				return never
			case t == depends || result == depends:
				result = depends
			case t == unknown:
				result = unknown
			}
		}
		if r.contradictory(b.Args) {
			return never // and NOT of it holds always
		}
		return result
	}
	result := never
	for _, a := range b.Args {
		switch t := r.judge(a); t {
		case always, unknown:
			return t // it may hold whatever the row says
		case depends:
			result = depends
		}
	}
	if r.contradictory(b.Args) {
		return always
	}
	return result
}

// contradictory reports whether two of some conditions are contrary to each
// other: x IS NULL and x IS NOT NULL, x < 5 and x >= 5, x and NOT x.
func (r *row) contradictory(conditions []*pgquery.Node) bool {
	seen := map[contrary]bool{}
	for _, a := range conditions {
		key, negated := r.plainly(a)
		if before, ok := seen[key]; ok && before != negated {
			return true
		}
		seen[key] = negated
	}
	return false
}

// contrary is what a condition and its contrary have in common.
type contrary struct {
	kind        pgquery.A_Expr_Kind
	op          string
	left, right uint64 // shapes
}

// plainly returns what a condition says, and whether it says it negated.
func (r *row) plainly(n *pgquery.Node) (c contrary, negated bool) {
	for {
		b := n.GetBoolExpr()
		if b == nil || b.Boolop != pgquery.BoolExprType_NOT_EXPR {
			break
		}
		n, negated = b.Args[0], !negated
	}
	if t := n.GetNullTest(); t != nil {
		return contrary{op: "NULL", left: r.shape(t.Arg)}, negated != (t.Nulltesttype == pgquery.NullTestType_IS_NOT_NULL)
	}
	e := n.GetAExpr()
	if e == nil || len(e.Name) != 1 {
		return contrary{left: r.shape(n)}, negated
	}
	op, left, right := e.Name[0].GetString_().GetSval(), r.shape(e.Lexpr), r.shape(e.Rexpr)
	kind := e.Kind
	switch kind {
	case pgquery.A_Expr_Kind_AEXPR_DISTINCT:
		kind, negated = pgquery.A_Expr_Kind_AEXPR_NOT_DISTINCT, !negated
	case pgquery.A_Expr_Kind_AEXPR_NOT_BETWEEN:
		kind, negated = pgquery.A_Expr_Kind_AEXPR_BETWEEN, !negated
	case pgquery.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		kind, negated = pgquery.A_Expr_Kind_AEXPR_BETWEEN_SYM, !negated
	}
	switch op {
	case "<>":
		op, negated = "=", !negated
	case ">":
		op, left, right = "<", right, left
	case ">=":
		op, negated = "<", !negated
	case "<=":
		op, left, right, negated = "<", right, left, !negated
	case "!~", "!~*", "!~~", "!~~*":
		op, negated = op[1:], !negated
	case "NOT BETWEEN", "NOT BETWEEN SYMMETRIC":
		op = op[len("NOT "):]
	}
	if op == "=" && right < left {
		left, right = right, left
	}
	return contrary{kind, op, left, right}, negated
}

func (r *row) judgeTest(b *pgquery.BooleanTest) truth {
	switch t := r.judge(b.Arg); b.Booltesttype {
	case pgquery.BoolTestType_IS_TRUE:
		return t
	case pgquery.BoolTestType_IS_NOT_TRUE, pgquery.BoolTestType_IS_FALSE:
		return t.negated()
	case pgquery.BoolTestType_IS_NOT_FALSE:
		if t == never {
			return unknown // NULL holds never, and is not false
		}
		return t
	}
	return r.byColumns(b.Arg)
}

func (r *row) judgeCase(c *pgquery.CaseExpr) truth {
	when, whens, results := unknown, []truth{}, []truth{}
	for _, n := range c.Args {
		w := n.GetCaseWhen()
		if c.Arg != nil {
			when = r.byColumns(c.Arg, w.GetExpr())
		} else {
			when = r.judge(w.GetExpr())
		}
		if when == never {
			continue
		}
		whens, results = append(whens, when), append(results, r.judge(w.GetResult()))
		if when == always {
			break
		}
	}
	if when != always {
		otherwise := never
		if c.Defresult != nil {
			otherwise = r.judge(c.Defresult)
		}
		whens, results = append(whens, when), append(results, otherwise)
	}
	result, alike := unknown, true
	for i, t := range results {
		alike = alike && t == results[0]
		if whens[i] == unknown && len(results) > 1 && (t == always || t == unknown) {
			return unknown // it may hold whatever the row says
		}
		if t == depends || whens[i] == depends {
			result = depends
		}
	}
	if alike {
		return results[0]
	}
	return result
}

// judgeComparison finds comparisons that hold for nearly every row: a thing with itself, or patterns that everything fits.
func (r *row) judgeComparison(e *pgquery.A_Expr) truth {
	if !r.reads(e.Lexpr, e.Rexpr) {
		return unknown
	}
	if len(e.Name) != 1 {
		return depends
	}
	op := e.Name[0].GetString_().GetSval()
	switch e.Kind {
	case pgquery.A_Expr_Kind_AEXPR_OP:
		if p, ok := literal(e.Rexpr); ok && (op == "~" || op == "~*") && strings.Trim(p, "^.*$") == "" {
			return always
		}
		if !r.same(e.Lexpr, e.Rexpr) {
			return depends
		}
		switch op {
		case "=", "<=", ">=", "~~", "~~*", "@>", "<@", "&&":
			return always
		case "<", ">", "<>":
			return never
		}
	case pgquery.A_Expr_Kind_AEXPR_LIKE, pgquery.A_Expr_Kind_AEXPR_ILIKE, pgquery.A_Expr_Kind_AEXPR_SIMILAR:
		pattern := e.Rexpr
		if f := pattern.GetFuncCall(); f != nil && len(f.Args) > 0 {
			pattern = f.Args[0] // like_escape and similar_to_escape, which the grammar puts there
		}
		if p, ok := literal(pattern); ok && p != "" && strings.Trim(p, "%") == "" && !strings.HasPrefix(op, "!") {
			return always
		}
	case pgquery.A_Expr_Kind_AEXPR_NOT_DISTINCT:
		if r.same(e.Lexpr, e.Rexpr) {
			return always
		}
	case pgquery.A_Expr_Kind_AEXPR_DISTINCT:
		if r.same(e.Lexpr, e.Rexpr) {
			return never
		}
	case pgquery.A_Expr_Kind_AEXPR_IN:
		if op == "=" && r.among(e.Lexpr, e.Rexpr.GetList().GetItems()) {
			return always
		}
	case pgquery.A_Expr_Kind_AEXPR_OP_ANY:
		if op == "=" && r.among(e.Lexpr, e.Rexpr.GetAArrayExpr().GetElements()) {
			return always
		}
	case pgquery.A_Expr_Kind_AEXPR_BETWEEN, pgquery.A_Expr_Kind_AEXPR_BETWEEN_SYM:
		if bounds := e.Rexpr.GetList().GetItems(); len(bounds) == 2 && r.same(e.Lexpr, bounds[0]) && r.same(e.Lexpr, bounds[1]) {
			return always
		}
	}
	return depends
}

func (r *row) among(n *pgquery.Node, list []*pgquery.Node) bool {
	for _, item := range list {
		if r.same(n, item) {
			return true
		}
	}
	return false
}

// findsItself reports whether a subquery looks for the row in the row's own
// table: EXISTS (SELECT 1 FROM t x WHERE x.id = t.id), id IN (SELECT id FROM t), id IN (SELECT id).
func (r *row) findsItself(l *pgquery.SubLink) bool {
	q := l.Subselect.GetSelectStmt()
	if q == nil || q.Op != pgquery.SetOperation_SETOP_NONE || len(q.ValuesLists) > 0 || len(q.FromClause) > 1 || q.WithClause != nil ||
		len(q.GroupClause) > 0 || q.HavingClause != nil || q.LimitCount != nil || q.LimitOffset != nil {
		return false
	}
	inner := &row{table: r.table, called: maps.Clone(r.called), work: r.work}
	defer func() { r.work = inner.work }()
	if len(q.FromClause) == 1 {
		rel := q.FromClause[0].GetRangeVar()
		if rel == nil || rel.Relname != r.table.Name || rel.Schemaname != "" && r.table.Schema != "" && rel.Schemaname != r.table.Schema {
			return false
		}
		inner.called[callsIt(rel)] = true
	}
	if q.WhereClause != nil && inner.judge(q.WhereClause) != always {
		return false
	}
	switch l.SubLinkType {
	case pgquery.SubLinkType_EXISTS_SUBLINK:
		return true
	case pgquery.SubLinkType_ANY_SUBLINK:
		op := texts(l.OperName)
		return (len(op) == 0 || len(op) == 1 && op[0] == "=") && len(q.TargetList) == 1 &&
			inner.same(l.Testexpr, q.TargetList[0].GetResTarget().GetVal())
	}
	return false
}

// callsIt returns what a query calls a relation.
func callsIt(r *pgquery.RangeVar) string {
	if r.Alias != nil {
		return r.Alias.Aliasname
	}
	return r.Relname
}

func systemColumn(n *pgquery.Node) bool {
	parts := texts(n.GetColumnRef().GetFields())
	if len(parts) == 0 {
		return false
	}
	switch parts[len(parts)-1] {
	case "ctid", "xmin", "xmax", "cmin", "cmax", "tableoid":
		return true
	}
	return false
}

// columns are those that an expression refers to.
type columns struct {
	own, other bool            // of the row, of other relations
	bare       map[string]bool // without a qualifier, where that does not say
}

func (c *columns) addBare(name string) {
	if c.bare == nil {
		c.bare = map[string]bool{}
	}
	c.bare[name] = true
}

// within is what the relations of a subquery are called, and those of the subqueries around it.
type within struct {
	names map[string]bool
	outer *within
}

func (in *within) has(name string) bool {
	for ; in != nil; in = in.outer {
		if in.names[name] {
			return true
		}
	}
	return false
}

func (in *within) any() bool {
	for ; in != nil; in = in.outer {
		if len(in.names) > 0 {
			return true
		}
	}
	return false
}

// reads reports whether expressions, taken together, refer to a column of the row.
func (r *row) reads(nodes ...*pgquery.Node) bool {
	var c columns
	for _, n := range nodes {
		if n != nil {
			r.collect(n.ProtoReflect(), nil, &c)
		}
	}
	// In a join a column without a qualifier may be another relation's. Compared with a column of another relation it is
	// taken for the row's own; compared with constants alone it is not.
	return c.own || len(c.bare) > 1 || len(c.bare) == 1 && c.other
}

// collect gathers the columns of an expression that none of the relations within it has. Inside of a subquery from
// something, a column without a qualifier is taken for the subquery's own.
func (r *row) collect(m protoreflect.Message, in *within, c *columns) {
	if r.work++; c.own || r.work > maxWork {
		return
	}
	switch v := m.Interface().(type) {
	case *pgquery.CurrentOfExpr:
		c.own = true
	case *pgquery.ColumnRef:
		r.refer(texts(v.Fields), in, c)
		return
	case *pgquery.SelectStmt:
		in = &within{names: map[string]bool{}, outer: in}
		for _, f := range v.FromClause {
			relationNames(f, in.names)
		}
	}
	anyChild(m, func(child protoreflect.Message) bool {
		r.collect(child, in, c)
		return c.own
	})
}

func (r *row) refer(parts []string, in *within, c *columns) {
	name := parts[len(parts)-1]
	switch {
	case name == "tableoid": // the same for all rows of a table
	case len(parts) == 1 && in.any():
	case len(parts) == 1 && r.joined && !r.called[name]:
		c.addBare(name)
	case len(parts) == 1:
		c.own = true
	case in.has(parts[len(parts)-2]):
	case r.called == nil || r.called[parts[len(parts)-2]]:
		c.own = true
	default:
		c.other = true
	}
}

// relationNames adds what the relations of a FROM item are called by, those of its subqueries left out.
func relationNames(n *pgquery.Node, into map[string]bool) {
	switch v := n.GetNode().(type) {
	case *pgquery.Node_RangeVar:
		into[callsIt(v.RangeVar)] = true
	case *pgquery.Node_JoinExpr:
		relationNames(v.JoinExpr.Larg, into)
		relationNames(v.JoinExpr.Rarg, into)
		into[v.JoinExpr.Alias.GetAliasname()] = true
		into[v.JoinExpr.JoinUsingAlias.GetAliasname()] = true
	case *pgquery.Node_RangeTableSample:
		relationNames(v.RangeTableSample.Relation, into)
	case *pgquery.Node_RangeSubselect:
		into[v.RangeSubselect.Alias.GetAliasname()] = true
	case *pgquery.Node_RangeFunction:
		into[v.RangeFunction.Alias.GetAliasname()] = true
		into[functionName(v.RangeFunction)] = true
	case *pgquery.Node_RangeTableFunc:
		into[v.RangeTableFunc.Alias.GetAliasname()] = true
	case *pgquery.Node_JsonTable:
		into[v.JsonTable.Alias.GetAliasname()] = true
	}
}

// functionName returns the name by which a function in FROM is called where it has no alias.
func functionName(f *pgquery.RangeFunction) string {
	if len(f.Functions) == 0 {
		return ""
	}
	items := f.Functions[0].GetList().GetItems()
	if len(items) == 0 {
		return ""
	}
	return nameOf(texts(items[0].GetFuncCall().GetFuncname())).Name
}

// anyChild reports whether f does of one of a message's children.
func anyChild(m protoreflect.Message, f func(protoreflect.Message) bool) (found bool) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				found = found || f(v.List().Get(i).Message())
			}
		default:
			found = f(v.Message())
		}
		return !found
	})
	return found
}

// same reports whether two expressions are written alike, wherever they stand and however they call the row.
func (r *row) same(a, b *pgquery.Node) bool {
	return a != nil && b != nil && reflect.TypeOf(a.Node) == reflect.TypeOf(b.Node) && r.shape(a) == r.shape(b)
}

// shape returns a number that is the same for expressions that are alike. It is kept, because each level of nested
// alternatives asks for those of all levels below. Others that have the same number by accident or by intent are taken
// for alike too, which makes a filter none and never makes one.
func (r *row) shape(n *pgquery.Node) uint64 {
	if n == nil {
		return 0
	}
	if s, ok := r.shapes[n]; ok {
		return s
	}
	if r.shapes == nil {
		r.shapes = map[*pgquery.Node]uint64{}
	}
	s := r.shapeOf(n.ProtoReflect())
	r.shapes[n] = s
	return s
}

func (r *row) shapeOf(m protoreflect.Message) uint64 {
	if r.work++; r.work > maxWork {
		return 0
	}
	if c, ok := m.Interface().(*pgquery.ColumnRef); ok {
		parts := texts(c.Fields)
		if len(parts) > 1 && r.called[parts[len(parts)-2]] {
			parts = parts[len(parts)-1:]
		} else if len(parts) == 1 && r.joined {
			parts = append(parts, "") // it may be of another relation
		}
		s := mix(0, 1)
		for _, p := range parts {
			s = mix(s, sum(p))
		}
		return s
	}
	var all uint64
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if position(string(fd.Name())) {
			return true
		}
		field := mix(0, uint64(fd.Number())) //nolint:gosec // numbers of fields are positive
		if fd.IsList() {
			for i := range v.List().Len() {
				field = mix(field, r.shapeOfValue(fd, v.List().Get(i)))
			}
		} else {
			field = mix(field, r.shapeOfValue(fd, v))
		}
		all += mix(field, 2) // whatever the order of the fields
		return true
	})
	return all
}

func (r *row) shapeOfValue(fd protoreflect.FieldDescriptor, v protoreflect.Value) uint64 {
	if fd.Message() == nil {
		return sum(v.String())
	}
	if n, ok := v.Message().Interface().(*pgquery.Node); ok {
		return r.shape(n)
	}
	return r.shapeOf(v.Message())
}

// sum and mix are FNV-1a.
func sum(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func mix(h, v uint64) uint64 {
	for range 8 {
		h = (h ^ v&0xff) * 1099511628211
		v >>= 8
	}
	return h
}

// position reports whether a field says no more than where in the text something stands.
func position(field string) bool {
	return strings.HasSuffix(field, "location") || strings.HasSuffix(field, "list_start") || strings.HasSuffix(field, "list_end")
}
