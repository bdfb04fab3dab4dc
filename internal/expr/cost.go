package expr

import (
	"math"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
)

// Limited returns the environment with another limit of the cost of one evaluation.
func (e *Env) Limited(cost uint64) *Env { return &Env{e.env, cost} }

// Sizes says how large what a path leads to can be: a variable, then fields,
// or "@items" for the elements of a list. The unit is that of size() in CEL.
type Sizes func(path []string) (most uint64, known bool)

// Worst returns what an evaluation costs at most if the values have no more
// than the sizes; the largest number there is if that has no bound.
func (p *Program[T]) Worst(s Sizes) uint64 {
	worst, err := p.env.EstimateCost(p.tree, sizer(s))
	if err != nil {
		return math.MaxUint64
	}
	return worst.Max
}

// Uncounted returns the program without a limit of its cost. It takes a third
// of the time for a small expression, and may be used for values of sizes for which Worst is low enough.
func (p *Program[T]) Uncounted() (*Program[T], error) {
	prg, err := p.env.Program(p.tree, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, &Error{Source: p.src, Problems: []Problem{{Message: err.Error()}}}
	}
	return &Program[T]{p.src, p.env, prg, p.tree, p.limit}, nil
}

// sizer answers the library's estimator.
type sizer Sizes

// EstimateSize implements checker.CostEstimator.
func (s sizer) EstimateSize(n checker.AstNode) *checker.SizeEstimate {
	if len(n.Path()) == 0 {
		return nil
	}
	if most, ok := s(n.Path()); ok {
		return &checker.SizeEstimate{Max: most}
	}
	return nil
}

// EstimateCallCost implements checker.CostEstimator: the library's own are used.
func (sizer) EstimateCallCost(_, _ string, _ *checker.AstNode, _ []checker.AstNode) *checker.CallEstimate {
	return nil
}
