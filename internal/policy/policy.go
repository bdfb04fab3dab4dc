// Package policy decides requests by rules: conditions in CEL over the
// principal, the target, the session, the action and the time, each with a
// verdict. Order does not matter: deny beats hold beats allow, and where
// nothing matches the request is denied.
//
// A policy is compiled and type-checked as a whole, and every problem is
// reported at once. A name that does not exist is a problem at load, never a
// condition that does not match. A rule that cannot be evaluated counts for
// the refusing side: deny and hold match, allow does not.
//
// The package is pure: it does no input or output and reads no clock, so that
// an auditor who evaluates again gets the same decision. (Names of time zones
// are resolved while a policy compiles.) A Policy is immutable and safe for
// concurrent use.
package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/expr"
)

// DefaultRule is the name of the rule of a decision where none matched.
const DefaultRule = "default"

const (
	noRule       = "no rule allows this request"
	notEvaluated = "a rule could not be evaluated for this request, so it counts as matched"
	// maxWords bounds a reason or a hint: they travel in errors of the protocol.
	maxWords = 1000
)

// Rule is one rule: where its condition holds, its verdict counts.
type Rule struct {
	// Name of letters, digits, ".", "_" and "-"; those of packs are "pack/rule".
	Name string
	// When is the condition, a CEL expression of type bool.
	When string
	// Then is the verdict. The zero verdict denies.
	Then access.Verdict
	// Reason and Hint may be shown to the agent.
	Reason, Hint string
	// Approvers says who may release what a rule holds; nil for nobody.
	Approvers *access.Approvers
	// File and Line are the place of the condition, for problems.
	File string
	Line int
}

// Source is what a policy is made of.
type Source struct {
	Rules []Rule
	// Packs are names of sets of ready rules (Packs); their rules come after Rules.
	Packs []string
	// Ready are rules of packs in the words of another version of the program, for records: they come last and are
	// named as rules of packs are.
	Ready []Rule
	// Approvers are those of rules that hold and name none, also of packs; nil for nobody.
	Approvers *access.Approvers
}

// Session is what a policy sees of a session.
type Session struct {
	// Role is the target's role that the session uses, Database the one it is connected to.
	Role, Database string
	// Address is that of the agent.
	Address string
	// Began is when the session began.
	Began time.Time
}

// Input is one request to decide on. Decide keeps nothing of it. What is nil
// or zero is empty; a time that is not given cannot be read by a rule.
type Input struct {
	Principal *access.Principal
	Target    *access.Target
	Session   Session
	Action    *access.Action
	Time      time.Time
	// Usage of the principal before this request.
	Usage access.Usage
	// Claims are the principal's decoded claims (DecodeClaims), for callers that ask more than once.
	// Where they are nil and a rule reads claims, they are decoded from the principal each time.
	Claims map[string]any
}

// Policy is a compiled policy. The nil Policy denies everything.
type Policy struct {
	rules    []compiled
	volatile Volatile
	views    sync.Pool
}

type compiled struct {
	Rule
	// The cost of uncounted needs no counting for requests up to the tier free.
	counted, uncounted *expr.Program[bool]
	free               int
}

func newCompiled(env *expr.Env, r Rule) (compiled, error) {
	counted, err := expr.Compile[bool](env, r.When)
	if err != nil {
		return compiled{}, err
	}
	uncounted, err := counted.Uncounted()
	if err != nil {
		return compiled{}, err
	}
	return compiled{r, counted, uncounted, free(counted)}, nil
}

var ruleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Compile checks and compiles a policy. Its error is a Problems with
// everything that is wrong.
func Compile(src Source) (*Policy, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	var problems Problems
	rules := slices.Clone(src.Rules)
	for i := range rules {
		problems = append(problems, checkRule(&rules[i], rules[:i])...)
	}
	for i, name := range src.Packs {
		pack, err := FindPack(name)
		var missing Problems
		switch {
		case errors.As(err, &missing):
			problems = append(problems, missing...)
		case slices.Contains(src.Packs[:i], name):
			problems = append(problems, Problem{Message: fmt.Sprintf("the pack %q is listed twice", name)})
		default:
			rules = append(rules, pack.Rules...)
		}
	}
	rules = append(rules, src.Ready...)
	for i := range rules {
		if rules[i].Then == access.Hold && rules[i].Approvers == nil {
			rules[i].Approvers = src.Approvers
		}
	}
	p := &Policy{rules: make([]compiled, 0, len(rules))}
	for _, r := range rules {
		c, err := newCompiled(env, r)
		if err != nil {
			problems = append(problems, explain(&r, err)...)
			continue
		}
		p.rules = append(p.rules, c)
		for name := range c.counted.Variables() {
			p.volatile.add(name)
		}
	}
	if len(problems) > 0 {
		problems.sort()
		return nil, problems
	}
	p.views.New = func() any { return new(view) }
	return p, nil
}

// checkRule checks everything of a rule but its condition.
func checkRule(r *Rule, before []Rule) (problems Problems) {
	report := func(format string, args ...any) {
		problems = append(problems, Problem{File: r.File, Line: r.Line, Rule: r.Name, Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case r.Name == "":
		report("the rule has no name")
	case r.Name == DefaultRule:
		report("%q is what a decision names where no rule matched", DefaultRule)
	case isPackRule(r.Name):
		report("this is the name of a rule of a pack; name a copy differently")
	case !ruleName.MatchString(r.Name):
		report("%q is not a name of letters, digits, '.', '_' and '-'", clip(r.Name, 100))
	}
	for _, other := range before {
		if other.Name == r.Name && r.Name != "" {
			report("the name is taken by another rule%s", at(other.File, other.Line))
			break
		}
	}
	if r.Then > access.Allow {
		report("then must be allow, deny or hold")
	}
	for _, words := range []struct{ key, text string }{{"reason", r.Reason}, {"hint", r.Hint}} {
		switch {
		case !utf8.ValidString(words.text):
			report("the %s is not valid UTF-8", words.key)
		case utf8.RuneCountInString(words.text) > maxWords:
			report("the %s has more than %d characters", words.key, maxWords)
		case strings.ContainsFunc(words.text, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }):
			report("the %s has a control character", words.key)
		}
	}
	return problems
}

// Rules returns all rules in order, those of packs included.
func (p *Policy) Rules() []Rule {
	if p == nil {
		return nil
	}
	out := make([]Rule, len(p.rules))
	for i := range p.rules {
		out[i] = p.rules[i].Rule
	}
	return out
}

// Decide decides on a request. It neither blocks nor fails.
func (p *Policy) Decide(in *Input) access.Decision { return p.decide(in, nil) }

// RuleResult is what came of one rule.
type RuleResult struct {
	Rule Rule
	// Matched: the rule counts for the decision.
	Matched bool
	// Err says why the condition could not be evaluated. It may hold data of the request: it is for the operator.
	Err error
}

// Explanation is a decision with what came of every rule.
type Explanation struct {
	Decision access.Decision
	Rules    []RuleResult
}

// Explain decides like Decide and tells what came of every rule.
func (p *Policy) Explain(in *Input) Explanation {
	var x Explanation
	x.Decision = p.decide(in, func(r RuleResult) { x.Rules = append(x.Rules, r) })
	return x
}

func (p *Policy) decide(in *Input, each func(RuleResult)) access.Decision {
	d := access.Decision{Rule: DefaultRule, Reason: noRule}
	if p == nil || in == nil {
		return d
	}
	v := p.views.Get().(*view)
	if p.volatile.Parameters && in.Action != nil && in.Action.Parameters == nil {
		in, v.unbound = withBound(in)
	}
	v.in = in
	defer func() {
		*v = view{}
		p.views.Put(v)
	}()
	size := tierOf(in.Action)
	for i := range p.rules {
		r := &p.rules[i]
		program := r.counted
		if size <= r.free {
			program = r.uncounted
		}
		matched, err := program.EvalActivation(v)
		if err != nil {
			matched = r.Then != access.Allow
		}
		if each != nil {
			each(RuleResult{r.Rule, matched, err})
		}
		if !matched {
			continue
		}
		// Verdicts are ordered, the strictest first. The first rule of the strictest verdict speaks.
		if len(d.Matched) == 0 || r.Then < d.Verdict {
			d.Verdict, d.Rule, d.Reason, d.Hint = r.Then, r.Name, r.Reason, r.Hint
			if err != nil && r.Reason == "" {
				d.Reason = notEvaluated
			}
		}
		d.Matched = append(d.Matched, r.Name)
	}
	if d.Verdict == access.Hold && len(d.Matched) > 0 {
		d.Approvers = p.approvers(d.Matched)
	}
	return d
}

// approvers returns what the rules that hold ask for. If one of them names nobody, nobody may release.
func (p *Policy) approvers(matched []string) (list []access.Approvers) {
	for i := range p.rules {
		r := &p.rules[i]
		switch {
		case r.Then != access.Hold || !slices.Contains(matched, r.Name):
		case r.Approvers == nil:
			return nil
		default:
			a := *r.Approvers
			a.Rule = r.Name
			list = append(list, a)
		}
	}
	return list
}

// withBound returns the input with the values that are bound to its action.
func withBound(in *Input) (*Input, error) {
	with, a := *in, *in.Action
	var err error
	a.Parameters, err = a.Bound()
	with.Action = &a
	return &with, err
}

// Volatile says which of the things that differ between two requests of one
// session with one text a decision can depend on. A caller that keeps
// decisions by session and text must not keep those of a policy that depends
// on one of the first four. (The same text can have other effects when the
// target's catalog has changed, or asked for by another Op: those belong to the key.)
type Volatile struct {
	Time, Age, Parameters, Usage bool
	// Text: the decision can depend on the text itself, beyond its analysis; no
	// fingerprint can stand for the text then.
	Text bool
}

func (v *Volatile) add(variable string) {
	switch variable {
	case "time":
		v.Time = true
	case "session.age":
		v.Age = true
	case "action.parameters", "action.personal_data":
		v.Parameters = true
	case "action.text":
		v.Text = true
	default:
		v.Usage = v.Usage || strings.HasPrefix(variable, "usage.")
	}
}

// Volatile says what decisions of the policy can depend on; it errs towards yes.
func (p *Policy) Volatile() Volatile {
	if p == nil {
		return Volatile{}
	}
	return p.volatile
}
