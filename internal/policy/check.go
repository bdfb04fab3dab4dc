package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// effectWords is a validator that looks for texts compared with effects that
// name none: "shema" in action.effects would be a deny rule that never matches.
type effectWords struct{}

// Name implements cel.ASTValidator.
func (effectWords) Name() string { return "gatebook.effects" }

// Validate implements cel.ASTValidator.
func (effectWords) Validate(_ *cel.Env, _ cel.ValidatorConfig, tree *ast.AST, issues *cel.Issues) {
	c := effectCheck{tree, issues}
	c.visit(tree.Expr(), "", nil)
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() != ast.ComprehensionKind {
			return
		}
		// all, exists, filter, map over effects: the variable stands for an effect, but where an inner macro takes its name.
		loop := x.AsComprehension()
		if !c.isList(loop.IterRange()) {
			return
		}
		hidden := map[int64]bool{}
		ast.PostOrderVisit(loop.LoopStep(), ast.NewExprVisitor(func(y ast.Expr) {
			if y.Kind() != ast.ComprehensionKind || y.AsComprehension().IterVar() != loop.IterVar() {
				return
			}
			ast.PostOrderVisit(y.AsComprehension().LoopStep(), ast.NewExprVisitor(func(z ast.Expr) { hidden[z.ID()] = true }))
		}))
		c.visit(loop.LoopStep(), loop.IterVar(), hidden)
	}))
}

type effectCheck struct {
	tree   *ast.AST
	issues *cel.Issues
}

// visit looks at comparisons with lists of effects or, if there is a variable
// that stands for an effect, at those with the variable.
func (c effectCheck) visit(root ast.Expr, variable string, hidden map[int64]bool) {
	isEffect := func(x ast.Expr) bool {
		if variable != "" {
			return x.Kind() == ast.IdentKind && x.AsIdent() == variable && !hidden[x.ID()]
		}
		return x.Kind() == ast.CallKind && x.AsCall().FunctionName() == operators.Index && c.isList(x.AsCall().Args()[0])
	}
	isList := func(x ast.Expr) bool { return variable == "" && c.isList(x) }
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() != ast.CallKind || len(x.AsCall().Args()) != 2 {
			return
		}
		a, b := x.AsCall().Args()[0], x.AsCall().Args()[1]
		switch x.AsCall().FunctionName() {
		case operators.In:
			if isList(b) || isEffect(a) {
				c.words(a)
				c.words(b)
			}
		case operators.Equals, operators.NotEquals:
			if isList(a) || isList(b) || isEffect(a) || isEffect(b) {
				c.words(a)
				c.words(b)
			}
		}
	}))
}

// isList reports whether an expression is the effects of something.
func (c effectCheck) isList(x ast.Expr) bool {
	switch x.Kind() {
	case ast.IdentKind:
		return strings.TrimPrefix(x.AsIdent(), ".") == "action.effects"
	case ast.SelectKind:
		s := x.AsSelect()
		of := c.tree.GetType(s.Operand().ID())
		return s.FieldName() == "effects" && (of.IsExactType(statementType) || of.IsExactType(objectType))
	}
	return false
}

// words checks a literal, or each of a list of literals.
func (c effectCheck) words(x ast.Expr) {
	switch x.Kind() {
	case ast.ListKind:
		for _, e := range x.AsList().Elements() {
			if e.Kind() == ast.LiteralKind {
				c.words(e)
			}
		}
	case ast.LiteralKind:
		if word, ok := x.AsLiteral().Value().(string); ok && !slices.Contains(effectNames, word) {
			c.issues.ReportErrorAtID(x.ID(), "no effect is named %q", word)
		}
	}
}

type zonedFunction struct {
	name, overload string
	get            func(time.Time) int
}

// zoned are the functions on a time that take a time zone. The library looks
// a zone up in files at each call, by whatever name it gets. Here the name is a
// literal, looked up at load: evaluating reads no file.
var zoned = []zonedFunction{
	{overloads.TimeGetFullYear, overloads.TimestampToYearWithTz, time.Time.Year},
	{overloads.TimeGetMonth, overloads.TimestampToMonthWithTz, func(t time.Time) int { return int(t.Month()) - 1 }},
	{overloads.TimeGetDayOfYear, overloads.TimestampToDayOfYearWithTz, func(t time.Time) int { return t.YearDay() - 1 }},
	{overloads.TimeGetDayOfMonth, overloads.TimestampToDayOfMonthZeroBasedWithTz, func(t time.Time) int { return t.Day() - 1 }},
	{overloads.TimeGetDate, overloads.TimestampToDayOfMonthOneBasedWithTz, time.Time.Day},
	{overloads.TimeGetDayOfWeek, overloads.TimestampToDayOfWeekWithTz, func(t time.Time) int { return int(t.Weekday()) }},
	{overloads.TimeGetHours, overloads.TimestampToHoursWithTz, time.Time.Hour},
	{overloads.TimeGetMinutes, overloads.TimestampToMinutesWithTz, time.Time.Minute},
	{overloads.TimeGetSeconds, overloads.TimestampToSecondsWithTz, time.Time.Second},
	{overloads.TimeGetMilliseconds, overloads.TimestampToMillisecondsWithTz, func(t time.Time) int { return t.Nanosecond() / 1e6 }},
}

func zoneFunctions() (options []cel.EnvOption) {
	for _, f := range zoned {
		options = append(options, cel.Function(f.name, cel.MemberOverload(f.overload, []*cel.Type{cel.TimestampType, cel.StringType}, cel.IntType,
			cel.BinaryBinding(func(ts, name ref.Val) ref.Val {
				t, isTime := ts.(types.Timestamp)
				n, isName := name.(types.String)
				if !isTime || !isName {
					return types.MaybeNoSuchOverloadErr(name)
				}
				loc, err := zone(string(n))
				if err != nil {
					return types.NewErr("%v", err)
				}
				return types.Int(f.get(t.In(loc)))
			}))))
	}
	return options
}

// zones holds what zone found, by name. Names are literals of policies, so it is small.
var zones sync.Map

// zone returns the zone of a name of the IANA database, or of an offset such
// as "+02:00". The machine's own zone has no name here: a decision must not
// depend on where it is made.
func zone(name string) (*time.Location, error) {
	if loc, ok := zones.Load(name); ok {
		return loc.(*time.Location), nil
	}
	loc, err := findZone(name)
	if err != nil {
		return nil, err
	}
	zones.Store(name, loc)
	return loc, nil
}

func findZone(name string) (*time.Location, error) {
	hours, minutes, isOffset := strings.Cut(name, ":")
	if !isOffset {
		loc, err := time.LoadLocation(name)
		if err != nil || name == "" || name == "Local" {
			return nil, fmt.Errorf("no time zone is named %q", name)
		}
		return loc, nil
	}
	h, err := strconv.Atoi(hours)
	m, err2 := strconv.Atoi(minutes)
	if err != nil || err2 != nil || h < -23 || h > 23 || m < 0 || m > 59 {
		return nil, fmt.Errorf("%q is no offset from UTC such as \"+02:00\"", name)
	}
	if strings.HasPrefix(hours, "-") {
		m = -m
	}
	return time.FixedZone("", (h*60+m)*60), nil
}

// zoneLiterals is a validator that wants time zones to be literals that exist.
type zoneLiterals struct{}

// Name implements cel.ASTValidator.
func (zoneLiterals) Name() string { return "gatebook.zones" }

// Validate implements cel.ASTValidator.
func (zoneLiterals) Validate(_ *cel.Env, _ cel.ValidatorConfig, tree *ast.AST, issues *cel.Issues) {
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() != ast.CallKind || !x.AsCall().IsMemberFunction() || len(x.AsCall().Args()) != 1 {
			return
		}
		if !slices.ContainsFunc(zoned, func(f zonedFunction) bool { return f.name == x.AsCall().FunctionName() }) {
			return
		}
		name := x.AsCall().Args()[0]
		if name.Kind() == ast.LiteralKind {
			if text, ok := name.AsLiteral().Value().(string); ok {
				if _, err := zone(text); err != nil {
					issues.ReportErrorAtID(name.ID(), "%v", err)
				}
				return
			}
		}
		issues.ReportErrorAtID(name.ID(), "the time zone must be a literal")
	}))
}
