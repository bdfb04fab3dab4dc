package expr

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// maxList bounds the length of a list result; no principal has more groups.
const maxList = 1024

var errLongList = fmt.Errorf("the result has more than %d elements", maxList)

// Result is what an expression may yield.
type Result interface{ string | []string | bool }

// Program is a compiled expression with a result of type T.
type Program[T Result] struct {
	src   string
	env   *cel.Env
	prg   cel.Program
	tree  *cel.Ast
	limit uint64 // of the environment
}

// Compile checks that src is an expression of type T (or of a type known only
// at evaluation) and compiles it. A fault of the text is an *Error.
func Compile[T Result](e *Env, src string) (*Program[T], error) {
	tree, err := e.check(src)
	if err != nil {
		return nil, err
	}
	want := kindOf[T]()
	if out := tree.OutputType(); !mayBe(out, want) {
		return nil, &Error{Source: src, Problems: []Problem{{Line: 1, Column: 1,
			Message: fmt.Sprintf("the result is %s, want %s", cel.FormatCELType(out), want)}}}
	}
	// State tracking stays off: an evaluation then allocates for its values only.
	prg, err := e.env.Program(tree, cel.CostLimit(e.limit), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, &Error{Source: src, Problems: []Problem{{Message: err.Error()}}}
	}
	return &Program[T]{src, e.env, prg, tree, e.limit}, nil
}

// kindOf names T as the messages of CEL name it.
func kindOf[T Result]() string {
	switch any(*new(T)).(type) {
	case string:
		return "string"
	case bool:
		return "bool"
	}
	return "list(string)"
}

func mayBe(out *cel.Type, want string) bool {
	switch {
	case out.Kind() == types.DynKind:
		return true
	case want == "string":
		return out.Kind() == types.StringKind
	case want == "bool":
		return out.Kind() == types.BoolKind
	case out.Kind() != types.ListKind:
		return false
	}
	elem := out.Parameters()[0].Kind() // a type parameter is that of the empty list
	return elem == types.StringKind || elem == types.DynKind || elem == types.TypeParamKind
}

// Source returns the text of the expression.
func (p *Program[T]) Source() string { return p.src }

// Fields returns the names that the expression reads of a map variable by a
// fixed name; a name that is computed is not among them.
func (p *Program[T]) Fields(variable string) map[string]bool { return fields(p.tree, variable) }

// Eval evaluates with the variables by name. The error says what went wrong
// and in which expression; it may hold a value of a variable, so it is for the
// operator. Eval neither blocks nor keeps vars.
func (p *Program[T]) Eval(vars map[string]any) (T, error) { return p.eval(vars) }

// EvalActivation is Eval for callers that resolve variables themselves, on
// paths where building a map for each evaluation costs too much.
func (p *Program[T]) EvalActivation(a cel.Activation) (T, error) { return p.eval(a) }

func (p *Program[T]) eval(input any) (T, error) {
	v, _, err := p.prg.Eval(input)
	if err == nil {
		var out T
		if out, err = convert[T](v); err == nil {
			return out, nil
		}
	}
	var zero T
	return zero, p.fault(err)
}

func (p *Program[T]) fault(err error) error {
	return fmt.Errorf("%q: %s", clip(p.src, 200), clip(err.Error(), 300))
}

// Partial is a program for evaluations in which some variables are not known.
type Partial[T Result] struct{ program *Program[T] }

// Partial returns the program for EvalPartial. The bound on its cost is that of the environment.
func (p *Program[T]) Partial() (*Partial[T], error) {
	prg, err := p.env.Program(p.tree, cel.CostLimit(p.limit), cel.EvalOptions(cel.OptOptimize, cel.OptPartialEval))
	if err != nil {
		return nil, &Error{Source: p.src, Problems: []Problem{{Message: err.Error()}}}
	}
	return &Partial[T]{&Program[T]{p.src, p.env, prg, p.tree, p.limit}}, nil
}

// Eval evaluates with variables of which some are not known (cel.PartialVars
// says which). known says that the result follows from the others alone, whatever the value of
// those that are not known, or the error that reading them gives.
func (p *Partial[T]) Eval(a cel.PartialActivation) (out T, known bool, err error) {
	v, _, err := p.program.prg.Eval(a)
	if err == nil && types.IsUnknown(v) {
		return out, false, nil
	}
	if err == nil {
		if out, err = convert[T](v); err == nil {
			return out, true, nil
		}
	}
	return out, false, p.program.fault(err)
}

func convert[T Result](v ref.Val) (T, error) {
	var zero T
	var out any // a bool in it takes no memory, which a pointer to the result would
	switch any(zero).(type) {
	case string:
		s, ok := v.(types.String)
		if !ok {
			return zero, wrongType(v, "string")
		}
		out = string(s)
	case bool:
		b, ok := v.(types.Bool)
		if !ok {
			return zero, wrongType(v, "bool")
		}
		out = bool(b)
	case []string:
		list, err := stringList(v)
		if err != nil {
			return zero, err
		}
		out = list
	}
	return out.(T), nil
}

func stringList(v ref.Val) ([]string, error) {
	l, ok := v.(traits.Lister)
	if !ok {
		return nil, wrongType(v, "list(string)")
	}
	n, ok := l.Size().(types.Int)
	if !ok {
		return nil, errors.New("the result is a list without a size")
	}
	if n > maxList {
		return nil, errLongList
	}
	out := make([]string, 0, n)
	for i := range n {
		s, ok := l.Get(i).(types.String)
		if !ok {
			return nil, fmt.Errorf("element %d of the result: %w", i, wrongType(l.Get(i), "string"))
		}
		out = append(out, string(s))
	}
	return out, nil
}

func wrongType(v ref.Val, want string) error {
	return fmt.Errorf("the result is %s, want %s", v.Type().TypeName(), want)
}
