package sqlscan

import (
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

// filters reports whether a condition keeps rows out by what they hold. A
// condition that holds for every row (true, 1 = 1, id = id, id IS NOT NULL OR id IS NULL), or that does not look at
// the row at all, is no filter.
func filters(cond *pgquery.Node) bool {
	if cond == nil {
		return false
	}
	t := judge(cond)
	return t == depends || t == never
}

func judge(n *pgquery.Node) truth {
	switch v := n.GetNode().(type) {
	case *pgquery.Node_BoolExpr:
		return judgeBool(v.BoolExpr)
	case *pgquery.Node_AConst:
		if b := v.AConst.GetBoolval(); b != nil && !b.Boolval || v.AConst.Isnull {
			return never
		}
		return always
	case *pgquery.Node_TypeCast:
		return judgeCast(v.TypeCast)
	case *pgquery.Node_AExpr:
		return judgeComparison(v.AExpr)
	case *pgquery.Node_BooleanTest, *pgquery.Node_NullTest:
		return judgeTest(n)
	}
	if reads(n) {
		return depends
	}
	return unknown
}

func judgeCast(c *pgquery.TypeCast) truth {
	// 't'::bool is how some parsers write true.
	if text, ok := literal(c.Arg); ok && len(text) > 0 && (text[0] == 'f' || text[0] == 'F' || text[0] == 'n' || text[0] == 'N' || text == "0") {
		return never
	}
	return judge(c.Arg)
}

func judgeBool(b *pgquery.BoolExpr) truth {
	result := never
	if b.Boolop == pgquery.BoolExprType_AND_EXPR {
		result = always
	}
	for _, a := range b.Args {
		t := judge(a)
		switch b.Boolop {
		case pgquery.BoolExprType_NOT_EXPR:
			switch t {
			case always:
				return never
			case never:
				return always
			}
			return t
		case pgquery.BoolExprType_AND_EXPR:
			switch {
			case t == never:
				return never
			case t == depends || result == depends:
				result = depends
			case t == unknown:
				result = unknown
			}
		default:
			switch {
			case t == always || t == unknown:
				return t // it may hold whatever the row says
			case t == depends:
				result = depends
			}
		}
	}
	if b.Boolop == pgquery.BoolExprType_OR_EXPR && complementary(b.Args) {
		return always
	}
	return result
}

// complementary reports whether two of the alternatives are x IS NULL and x IS NOT NULL, or x and NOT x.
func complementary(args []*pgquery.Node) bool {
	for i, a := range args {
		for _, b := range args[i+1:] {
			x, y := a.GetNullTest(), b.GetNullTest()
			if x != nil && y != nil && x.Nulltesttype != y.Nulltesttype && same(x.Arg, y.Arg) {
				return true
			}
			if negates(a, b) || negates(b, a) {
				return true
			}
		}
	}
	return false
}

func negates(a, b *pgquery.Node) bool {
	not := a.GetBoolExpr()
	return not != nil && not.Boolop == pgquery.BoolExprType_NOT_EXPR && len(not.Args) == 1 && same(not.Args[0], b)
}

func judgeTest(n *pgquery.Node) truth {
	if !reads(n) {
		return unknown
	}
	return depends
}

// judgeComparison finds comparisons that hold for nearly every row: a thing with itself, or constants.
func judgeComparison(e *pgquery.A_Expr) truth {
	if !reads(e.Lexpr) && !reads(e.Rexpr) {
		return unknown
	}
	if e.Kind == pgquery.A_Expr_Kind_AEXPR_OP && len(e.Name) == 1 && same(e.Lexpr, e.Rexpr) {
		switch e.Name[0].GetString_().GetSval() {
		case "=", "<=", ">=", "~~", "~~*", "@>", "<@":
			return always
		case "<", ">", "<>", "!=":
			return never
		}
	}
	if (e.Kind == pgquery.A_Expr_Kind_AEXPR_LIKE || e.Kind == pgquery.A_Expr_Kind_AEXPR_ILIKE) && len(e.Name) == 1 && e.Name[0].GetString_().GetSval()[0] == '~' {
		if p, ok := literal(e.Rexpr); ok && onlyPercent(p) {
			return always
		}
	}
	if e.Kind == pgquery.A_Expr_Kind_AEXPR_NOT_DISTINCT && same(e.Lexpr, e.Rexpr) {
		return always
	}
	return depends
}

func onlyPercent(p string) bool {
	for i := range len(p) {
		if p[i] != '%' {
			return false
		}
	}
	return p != ""
}

// reads reports whether a condition refers to a column of the row that it is about.
func reads(n *pgquery.Node) bool {
	return n != nil && readsOuter(n.ProtoReflect(), nil)
}

// readsOuter looks for a column that none of the relations within (by name or alias) has. Inside of a subquery a
// column without a qualifier is taken for the subquery's own.
func readsOuter(m protoreflect.Message, within map[string]bool) bool {
	switch v := m.Interface().(type) {
	case *pgquery.CurrentOfExpr:
		return true
	case *pgquery.ColumnRef:
		if within == nil {
			return true
		}
		parts := texts(v.Fields)
		return len(parts) > 1 && !within[parts[len(parts)-2]]
	case *pgquery.SelectStmt:
		inner := make(map[string]bool, len(within)+2)
		for name := range within {
			inner[name] = true
		}
		relationNames(m, inner)
		return anyChild(m, func(c protoreflect.Message) bool { return readsOuter(c, inner) })
	}
	return anyChild(m, func(c protoreflect.Message) bool { return readsOuter(c, within) })
}

// relationNames adds what the relations of a query are called by, those of its subqueries too.
func relationNames(m protoreflect.Message, into map[string]bool) {
	switch v := m.Interface().(type) {
	case *pgquery.RangeVar:
		into[v.Relname] = true
	case *pgquery.Alias:
		into[v.Aliasname] = true
	}
	anyChild(m, func(c protoreflect.Message) bool { relationNames(c, into); return false })
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

// same reports whether two expressions are written alike, wherever they stand.
func same(a, b *pgquery.Node) bool {
	return a != nil && b != nil && alike(a.ProtoReflect(), b.ProtoReflect())
}

func alike(a, b protoreflect.Message) bool {
	if a.Descriptor() != b.Descriptor() {
		return false
	}
	fields := a.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch {
		case fd.Name() == "location":
		case a.Has(fd) != b.Has(fd):
			return false
		case !a.Has(fd):
		case fd.IsList():
			x, y := a.Get(fd).List(), b.Get(fd).List()
			if x.Len() != y.Len() {
				return false
			}
			for j := range x.Len() {
				if fd.Message() == nil && !x.Get(j).Equal(y.Get(j)) || fd.Message() != nil && !alike(x.Get(j).Message(), y.Get(j).Message()) {
					return false
				}
			}
		case fd.Message() != nil:
			if !alike(a.Get(fd).Message(), b.Get(fd).Message()) {
				return false
			}
		case !a.Get(fd).Equal(b.Get(fd)):
			return false
		}
	}
	return true
}
