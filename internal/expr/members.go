package expr

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// Members says of an expression that uses a list variable whether all that matters of the list is which of some
// literals are its elements, in which order, and whether it has other elements: literals returns
// those literals. That is so where the variable stands in "x" in list, in list == ["x"] and !=, and in list.all and list.exists whose condition
// compares the element with literals.
func (p *Program[T]) Members(variable string) (literals []string, only bool) {
	m := &members{allowed: make(map[int64]bool)}
	root := p.tree.NativeRep().Expr()
	isVariable := func(x ast.Expr) bool {
		return x.Kind() == ast.IdentKind && strings.TrimPrefix(x.AsIdent(), ".") == variable
	}
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(x ast.Expr) {
		switch x.Kind() {
		case ast.CallKind:
			m.comparison(x.AsCall(), isVariable)
		case ast.ComprehensionKind:
			if loop := x.AsComprehension(); isVariable(loop.IterRange()) && m.quantifier(loop) {
				m.allowed[loop.IterRange().ID()] = true
			}
		}
	}))
	only = true
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(x ast.Expr) {
		if isVariable(x) && !m.allowed[x.ID()] {
			only = false
		}
	}))
	return m.literals, only
}

type members struct {
	literals []string
	allowed  map[int64]bool // occurrences that ask for nothing else
}

// comparison takes "x" in list, and list == ["x"].
func (m *members) comparison(call ast.CallExpr, isList func(ast.Expr) bool) {
	args := call.Args()
	switch call.FunctionName() {
	case operators.In:
		if isList(args[1]) && m.words(args[0]) {
			m.allowed[args[1].ID()] = true
		}
	case operators.Equals, operators.NotEquals:
		for i, x := range args {
			if other := args[1-i]; isList(x) && other.Kind() == ast.ListKind && m.words(other) {
				m.allowed[x.ID()] = true
			}
		}
	}
}

// quantifier takes the loops of all and exists whose element is compared with literals alone.
func (m *members) quantifier(loop ast.ComprehensionExpr) bool {
	step := loop.LoopStep()
	if step.Kind() != ast.CallKind || loop.HasIterVar2() {
		return false
	}
	if name := step.AsCall().FunctionName(); name != operators.LogicalAnd && name != operators.LogicalOr {
		return false // the other macros count, collect or take the order
	}
	isElement := func(x ast.Expr) bool { return x.Kind() == ast.IdentKind && x.AsIdent() == loop.IterVar() }
	compared := make(map[int64]bool)
	ast.PostOrderVisit(step, ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() != ast.CallKind {
			return
		}
		args := x.AsCall().Args()
		switch x.AsCall().FunctionName() {
		case operators.In:
			if isElement(args[0]) && args[1].Kind() == ast.ListKind && m.words(args[1]) {
				compared[args[0].ID()] = true
			}
		case operators.Equals, operators.NotEquals:
			for i := range args {
				if isElement(args[i]) && m.words(args[1-i]) {
					compared[args[i].ID()] = true
				}
			}
		}
	}))
	only := true
	ast.PostOrderVisit(step, ast.NewExprVisitor(func(x ast.Expr) {
		if isElement(x) && !compared[x.ID()] {
			only = false
		}
	}))
	return only
}

// words notes a literal, or a list of literals, and reports whether it is one.
func (m *members) words(x ast.Expr) bool {
	switch x.Kind() {
	case ast.LiteralKind:
		word, ok := x.AsLiteral().Value().(string)
		if ok && !slices.Contains(m.literals, word) {
			m.literals = append(m.literals, word)
		}
		return ok
	case ast.ListKind:
		for _, e := range x.AsList().Elements() {
			if e.Kind() != ast.LiteralKind || !m.words(e) {
				return false
			}
		}
		return len(x.AsList().OptionalIndices()) == 0
	}
	return false
}
