// Package expr is the CEL environment that identity, policy and masks share:
// expressions from the configuration, compiled and type-checked once at load,
// evaluated with a bound on the work they may do.
//
// What every expression gets: the standard library of CEL, its strings
// extension at a fixed version, and optional values ("claims.?team"). What it
// never gets: a clock, input or output, or a function with a side effect, so
// that the same variables give the same result when an auditor evaluates again.
//
// A claim that may be absent is an evaluation error when it is read. An
// expression says what it means by absence: has(claims.team), or
// claims.?team.orValue("none"). A result of the wrong type is an error too.
// What an error means is the caller's rule; everywhere in Gatebook it is the
// refusing side.
//
// BUG(expr): the cost of a call is counted after it ran. An expression that
// chains "replace" with an empty or short pattern over text from a request can
// take memory in proportion to the product of the lengths before it is stopped.
// Expressions come from the configuration only, so this takes a careless operator.
//
// BUG(expr): counting takes time that grows with the square of the steps in
// loops: the library looks through what earlier steps left behind. At the limit
// that can be a tenth of a second. Callers whose input comes from requests lower
// the limit (Limited), and do not count where the estimate suffices (Worst).
//
// All types are immutable once built and safe for concurrent use.
package expr

import (
	"fmt"
	"regexp/syntax"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/ext"
)

const (
	// maxSource bounds an expression's text, in characters.
	maxSource = 8 << 10
	// maxDepth bounds the nesting of an expression.
	maxDepth = 64
	// maxCost bounds one evaluation in CEL's cost units. A test over the claims
	// of a token costs tens of units.
	maxCost = 50_000
	// maxRegex bounds the compiled size of a regular expression.
	maxRegex = 1000
	// stringsVersion pins the strings extension: a new version of the library
	// must not change what a recorded policy means.
	stringsVersion = 4
)

// A Kind is the type of a variable.
type Kind int

// Kinds of variables. The zero kind is checked at evaluation only.
const (
	Dyn Kind = iota
	// Map is a map from string to values of any type, such as JSON claims.
	Map
	String
	Bool
	Int
	// Strings is a list of strings.
	Strings
	Timestamp
	Duration
)

func (k Kind) cel() *cel.Type {
	switch k {
	case Map:
		return cel.MapType(cel.StringType, cel.DynType)
	case String:
		return cel.StringType
	case Bool:
		return cel.BoolType
	case Int:
		return cel.IntType
	case Strings:
		return cel.ListType(cel.StringType)
	case Timestamp:
		return cel.TimestampType
	case Duration:
		return cel.DurationType
	}
	return cel.DynType
}

// Var declares a variable that expressions may use.
type Var struct {
	Name string
	Kind Kind
}

// Env is a set of declared variables with the shared functions.
type Env struct {
	env   *cel.Env
	limit uint64
}

// New builds an environment. The options are for callers that need more than
// variables of plain kinds, such as types with checked field names.
func New(vars []Var, options ...cel.EnvOption) (*Env, error) {
	opts := []cel.EnvOption{
		ext.Strings(ext.StringsVersion(stringsVersion)),
		cel.OptionalTypes(),
		cel.EagerlyValidateDeclarations(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxSource),
		cel.ParserRecursionLimit(maxDepth),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals()),
	}
	for _, v := range vars {
		opts = append(opts, cel.Variable(v.Name, v.Kind.cel()))
	}
	env, err := cel.NewEnv(append(opts, options...)...)
	if err != nil {
		return nil, fmt.Errorf("expression environment: %w", err)
	}
	return &Env{env, maxCost}, nil
}

// Claims returns the environment of identity mappings and bindings: the one
// variable "claims", the token's verified claims.
func Claims() (*Env, error) { return New([]Var{{Name: "claims", Kind: Map}}) }

// A Problem is one fault of an expression. Line and Column count from 1;
// both are 0 when the fault has no place.
type Problem struct {
	Line, Column int
	Message      string
}

// Error says why an expression does not compile: all problems at once, so
// that a configuration is not mended one reload at a time.
type Error struct {
	Source   string
	Problems []Problem
}

// Error implements error with one line: places, messages, the expression.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("; ")
		}
		if p.Line > 0 {
			fmt.Fprintf(&b, "%d:%d: ", p.Line, p.Column)
		}
		b.WriteString(p.Message)
	}
	fmt.Fprintf(&b, " in %q", clip(e.Source, 200))
	return b.String()
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// check parses and type-checks a source.
func (e *Env) check(src string) (*cel.Ast, error) {
	fault := &Error{Source: src}
	if strings.TrimSpace(src) == "" {
		fault.Problems = []Problem{{Message: "the expression is empty"}}
		return nil, fault
	}
	tree, issues := e.env.Compile(src)
	if issues.Err() == nil {
		if fault.Problems = checkPatterns(tree); len(fault.Problems) > 0 {
			return nil, fault
		}
		return tree, nil
	}
	for _, i := range issues.Errors() {
		p := Problem{Message: i.Message}
		if l := i.Location; l != nil && l.Line() > 0 {
			p.Line, p.Column = l.Line(), l.Column()+1
		}
		fault.Problems = append(fault.Problems, p)
	}
	return nil, fault
}

// checkPatterns wants regular expressions to be literals of bounded size. A
// pattern out of a claim would let a caller choose what it matches. The size
// is checked here because cel-go 0.32.0 panics when it measures a pattern with
// a counted repetition (cel-expr/cel-go pull request 1438).
func checkPatterns(tree *cel.Ast) (problems []Problem) {
	checked := tree.NativeRep()
	report := func(id int64, message string) {
		at := checked.SourceInfo().GetStartLocation(id)
		problems = append(problems, Problem{at.Line(), at.Column() + 1, message})
	}
	visit := func(x ast.Expr) {
		if x.Kind() != ast.CallKind || x.AsCall().FunctionName() != overloads.Matches {
			return
		}
		args := x.AsCall().Args()
		pattern := args[len(args)-1]
		text, literal := "", pattern.Kind() == ast.LiteralKind
		if literal {
			text, literal = pattern.AsLiteral().Value().(string)
		}
		if !literal {
			report(pattern.ID(), "the pattern of matches must be a literal")
			return
		}
		if n, err := patternSize(text); err != nil || n > maxRegex {
			report(pattern.ID(), "the pattern of matches is too large")
		}
	}
	ast.PostOrderVisit(checked.Expr(), ast.NewExprVisitor(visit))
	return problems
}

func patternSize(pattern string) (int, error) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0, err
	}
	return len(prog.Inst), nil
}

// fields lists the names that an expression reads of one variable by a fixed
// name: claims.sub, claims["sub"], has(claims.sub), claims.?sub, "sub" in claims.
func fields(tree *cel.Ast, variable string) map[string]bool {
	found := map[string]bool{}
	isVar := func(x ast.Expr) bool { return x.Kind() == ast.IdentKind && x.AsIdent() == variable }
	literal := func(x ast.Expr) {
		if x.Kind() != ast.LiteralKind {
			return
		}
		if s, ok := x.AsLiteral().Value().(string); ok {
			found[s] = true
		}
	}
	visit := func(x ast.Expr) {
		switch x.Kind() {
		case ast.SelectKind:
			if s := x.AsSelect(); isVar(s.Operand()) {
				found[s.FieldName()] = true
			}
		case ast.CallKind: // index and optional access: (variable, name); "in": (name, variable)
			a := x.AsCall().Args()
			if len(a) == 2 && isVar(a[0]) {
				literal(a[1])
			}
			if len(a) == 2 && isVar(a[1]) {
				literal(a[0])
			}
		}
	}
	ast.PostOrderVisit(tree.NativeRep().Expr(), ast.NewExprVisitor(visit))
	return found
}
