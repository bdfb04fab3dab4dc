package policy

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/expr"
)

// Known is what is known of requests before they are made. All else that a rule
// can read (text, objects, database, address, time and so on) is not known, which is not the same as empty.
type Known struct {
	Principal *access.Principal
	Target    *access.Target
	// Role is the target's role that the session uses.
	Role string
}

// Bound is one end of what requests can get.
type Bound struct {
	Verdict access.Verdict
	// Rules are the names of those that can decide so, in the order of the policy; DefaultRule is the last.
	Rules []string
}

// Range is what requests can get: Decide gives none of them a stricter verdict
// than Strictest nor a milder one than Mildest. The ends can be wider than what is possible, never narrower.
type Range struct{ Strictest, Mildest Bound }

// A Reviewer says what a policy can decide where only a part of a request is
// known. It keeps what came of a rule by what that rule reads, so that thousands of
// principals and targets are few evaluations. It is used by one goroutine.
type Reviewer struct {
	policy *Policy
	rules  []reviewed
}

// reviewed is a rule with what came of it so far.
type reviewed struct {
	rule *compiled
	// partly evaluates the condition where it reads what is not known.
	partly *expr.Partial[bool]
	// Which parts of what is known the condition reads.
	groups, principal, target, role bool
	// words, if not nil, are all that matters of the groups, besides whether there are others.
	words []string
	// effects: the condition reads what is enumerated. Sets of effects that agree in those of alike,
	// and in whether there are others, give the same.
	effects bool
	alike   access.Effects
	known   map[string]judged
}

// sets are sets of effects: one bit for each set there is.
type sets [(access.AllEffects + 1) / 64]uint64

// judged is what came of a rule for requests in general, and for those that are not understood, whatever their effects.
type judged struct{ all, opaque outcomes }

// outcomes says for which sets of effects a rule counts for certain, and for which it may count. Must is within may.
type outcomes struct{ must, may *sets }

var (
	noSets  = &sets{}
	allSets = func() *sets {
		var s sets
		for i := range s {
			s[i] = ^uint64(0)
		}
		return &s
	}()
)

func (s *sets) add(e access.Effects) { s[e/64] |= 1 << (e % 64) }

// Reviewer returns a reviewer of the policy.
func (p *Policy) Reviewer() *Reviewer {
	rv := &Reviewer{policy: p}
	if p == nil {
		return rv
	}
	for i := range p.rules {
		r := reviewed{rule: &p.rules[i], known: make(map[string]judged)}
		var err error
		if r.partly, err = r.rule.counted.Partial(); err != nil {
			panic("a condition that compiled before does not any more: " + err.Error())
		}
		for name := range r.rule.counted.Variables() {
			switch name {
			case "principal.groups":
				r.groups = true
			case "principal.name", "principal.issuer", "principal.id", "principal.subject", "principal.claims", "principal.actor", "principal.owner":
				r.principal = true
			case "target.name", "target.protocol", "target.labels":
				r.target = true
			case "session.role":
				r.role = true
			case "action.effects", "action.privileged":
				r.effects = true
			}
		}
		r.reduce()
		rv.rules = append(rv.rules, r)
	}
	return rv
}

// reduce finds out what matters of the groups and the effects. It does so for conditions only whose cost is never
// counted: the cost depends on the whole lists.
func (r *reviewed) reduce() {
	r.alike = access.AllEffects
	if r.rule.free < len(tiers) {
		return
	}
	if words, only := r.rule.counted.Members("principal.groups"); only && r.groups {
		r.words = append([]string{}, words...)
	}
	words, only := r.rule.counted.Members("action.effects")
	if !only || r.rule.counted.Variables()["action.privileged"] {
		return
	}
	r.alike = 0
	for _, w := range words {
		e, _ := access.ParseEffect(w)
		r.alike |= e
	}
}

// groupsKey returns what matters of the groups.
func (r *reviewed) groupsKey(groups []string) string {
	var in []string
	for _, g := range groups {
		if slices.Contains(r.words, g) {
			in = append(in, g)
		}
	}
	return fmt.Sprintf("%q %v\n", in, len(in) < len(groups))
}

// Outlook is what a policy can decide for a principal on a target.
type Outlook struct {
	rules       []reviewed
	all, opaque []outcomes // by place in rules
}

// Review looks at every rule in the light of what is known. It keeps nothing of k.
func (rv *Reviewer) Review(k *Known) *Outlook {
	x := &Outlook{rules: rv.rules, all: make([]outcomes, len(rv.rules)), opaque: make([]outcomes, len(rv.rules))}
	v := &partial{view: view{in: &Input{Principal: k.Principal, Target: k.Target, Session: Session{Role: k.Role}}}, shapes: make(map[shape]cel.PartialActivation)}
	var principal, groups, target string
	for i := range rv.rules {
		r := &rv.rules[i]
		key := ""
		switch {
		case r.principal:
			key = cached(&principal, *v.principal())
		case r.words != nil:
			key = r.groupsKey(v.principal().Groups)
		case r.groups:
			key = cached(&groups, v.principal().Groups)
		}
		if r.target {
			key += cached(&target, *v.target())
		}
		if r.role {
			key += k.Role
		}
		o, ok := r.known[key]
		if !ok {
			o = judged{r.review(v), r.reviewOpaque(v)}
			r.known[key] = o
		}
		x.all[i], x.opaque[i] = o.all, o.opaque
	}
	return x
}

// cached returns a text that is another for every other value, made once.
func cached(text *string, value any) string {
	if *text == "" {
		*text = fmt.Sprintf("%#v\n", value)
	}
	return *text
}

// review evaluates the condition without any effects being known, which often
// settles it (the principal is in another group), else for each set of effects there is.
func (r *reviewed) review(v *partial) outcomes {
	v.setEffects(0)
	must, may := v.judge(r)
	if must == may || !r.effects {
		return outcomes{pick(must), pick(may)}
	}
	o := outcomes{&sets{}, &sets{}}
	type result struct{ must, may bool }
	results := map[access.Effects]result{0: {must, may}} // what holds for unknown effects holds for none
	for e := access.Effects(0); e <= access.AllEffects; e++ {
		like := e & r.alike
		if e != like {
			like |= access.AllEffects &^ r.alike
		}
		x, ok := results[like]
		if !ok {
			v.setEffects(like)
			x.must, x.may = v.judge(r)
			results[like] = x
		}
		if x.must {
			o.must.add(e)
		}
		if x.may {
			o.may.add(e)
		}
	}
	return o
}

func (r *reviewed) reviewOpaque(v *partial) outcomes {
	v.setEffects(0)
	v.opaque, v.privileged = true, true // what is not understood is privileged
	must, may := v.judge(r)
	v.opaque = false
	return outcomes{pick(must), pick(may)}
}

func pick(all bool) *sets {
	if all {
		return allSets
	}
	return noSets
}

// given reports whether a variable is known.
func given(name string) bool {
	return strings.HasPrefix(name, "principal.") || strings.HasPrefix(name, "target.") || name == "session.role"
}

// partial resolves variables of which only some are known.
type partial struct {
	view
	// effects of the request, 0 if they are not known; privileged, opaque: it is known to be so.
	effects            access.Effects
	privileged, opaque bool
	// met: a variable was read that is not known.
	met    bool
	shapes map[shape]cel.PartialActivation
}

func (v *partial) setEffects(e access.Effects) {
	v.effects = e
	// What else a request does can make it privileged where its effects do not, never the other way round.
	v.privileged, _ = (&access.Action{Understood: true, HasFilter: true, Effects: e}).Privileged()
}

// notKnown stands for the value of a variable that is not known.
var notKnown = types.NewUnknown(0, nil)

// ResolveName implements cel.Activation.
func (v *partial) ResolveName(name string) (any, bool) {
	switch {
	case given(name):
		return v.view.ResolveName(name)
	case name == "action.effects" && v.effects != 0:
		return effects(v.effects), true
	case name == "action.privileged" && v.privileged, name == "action.opaque" && v.opaque:
		return types.True, true
	}
	if _, ok := places[name]; !ok {
		return nil, false
	}
	v.met = true
	return notKnown, true
}

// judge says whether a rule counts for certain, and whether it may.
//
// If the evaluation gets by without what is not known, Decide does exactly the same, be the result an error.
// Which of the two programs Decide runs depends on the size of the request.
func (v *partial) judge(r *reviewed) (must, may bool) {
	refuses := r.rule.Then != access.Allow
	run := func(p *expr.Program[bool]) bool {
		matched, err := p.EvalActivation(v)
		if err != nil {
			return refuses
		}
		return matched
	}
	v.met = false
	switch bounded := r.rule.free < len(tiers); {
	case r.rule.free < 0:
		must = run(r.rule.counted)
		may = must
	case bounded:
		a, b := run(r.rule.counted), run(r.rule.uncounted)
		must, may = a && b, a || b
	default:
		must = run(r.rule.uncounted)
		may = must
	}
	if v.met {
		return v.judgePartly(r)
	}
	return must, may
}

// judgePartly is judge for a condition that reads what is not known. CEL takes that like an error: "and" and "or" give a
// result where the other side decides, and all else that reads it is not known either. So a result that is known
// holds for every value of what is not. What it cannot tell is that the cost of an evaluation grows
// with the request and may end it, which is an error that nothing absorbs.
func (v *partial) judgePartly(r *reviewed) (must, may bool) {
	matched, known, err := r.partly.Eval(v.vars())
	bounded := r.rule.free < len(tiers)
	switch {
	case err != nil, !known: // another value might not have led to the error
		return false, true
	case bounded && r.rule.Then != access.Allow:
		return matched, true
	case bounded:
		return false, matched
	}
	return matched, matched
}

// A shape says which variables are known besides those that always are.
type shape struct{ effects, privileged, opaque bool }

// notGiven returns the patterns of what is not known.
func (s shape) notGiven() (list []*cel.AttributePatternType) {
	for _, v := range variables {
		if !given(v.name) && (v.name != "action.effects" || !s.effects) && (v.name != "action.privileged" || !s.privileged) &&
			(v.name != "action.opaque" || !s.opaque) {
			list = append(list, cel.AttributePattern(v.name))
		}
	}
	return list
}

// vars returns v with what is not known of it. It is made once for each shape.
func (v *partial) vars() cel.PartialActivation {
	s := shape{v.effects != 0, v.privileged, v.opaque}
	if vars, ok := v.shapes[s]; ok {
		return vars
	}
	vars, err := cel.PartialVars(v, s.notGiven()...)
	if err != nil {
		panic("an activation is none: " + err.Error())
	}
	v.shapes[s] = vars
	return vars
}

// Requests returns what requests can get that have all of the given effects,
// whatever others they have besides: every set of effects that holds the given ones is looked
// at, for a DELETE with a WHERE reads and writes, and a rule can depend on both. None given means every request.
func (x *Outlook) Requests(with access.Effects) Range {
	var asked sets
	for e := with; e <= access.AllEffects; e++ {
		if e&with == with {
			asked.add(e)
		}
	}
	return span(x.rules, x.all, &asked)
}

// Opaque returns what requests can get that are not understood. They may do
// anything, and need not show the effects of what they do: Requests does not tell of these.
func (x *Outlook) Opaque() Range { return span(x.rules, x.opaque, allSets) }

// span returns what requests can get that have one of the sets of effects asked for.
func span(rules []reviewed, came []outcomes, asked *sets) Range {
	var refused, denied, counted sets // a deny or hold counts for certain, a deny does, any rule does
	for i := range rules {
		for w, bits := range came[i].must {
			counted[w] |= bits
			switch rules[i].rule.Then {
			case access.Denied:
				denied[w] |= bits
				refused[w] |= bits
			case access.Hold:
				refused[w] |= bits
			}
		}
	}
	can := [...]Bound{
		access.Denied: {access.Denied, rulesThat(access.Denied, rules, came, asked, noSets)},
		access.Hold:   {access.Hold, rulesThat(access.Hold, rules, came, asked, &denied)},
		access.Allow:  {access.Allow, rulesThat(access.Allow, rules, came, asked, &refused)},
	}
	if without(asked, &counted) {
		can[access.Denied].Rules = append(can[access.Denied].Rules, DefaultRule)
	}
	var possible []Bound
	for _, b := range can {
		if len(b.Rules) > 0 {
			possible = append(possible, b)
		}
	}
	if len(possible) == 0 { // no set of effects was asked for
		return Range{can[access.Denied], can[access.Denied]}
	}
	return Range{possible[0], possible[len(possible)-1]}
}

// rulesThat returns the rules of a verdict that may count for a set among asked that no stricter rule takes.
func rulesThat(then access.Verdict, rules []reviewed, came []outcomes, asked, stricter *sets) (names []string) {
	for i := range rules {
		if rules[i].rule.Then != then {
			continue
		}
		here := *asked
		for w, bits := range came[i].may {
			here[w] &= bits
		}
		if without(&here, stricter) {
			names = append(names, rules[i].rule.Name)
		}
	}
	return slices.Clip(names)
}

// without reports whether a holds a set that b does not.
func without(a, b *sets) bool {
	for w := range a {
		if a[w]&^b[w] != 0 {
			return true
		}
	}
	return false
}

var _ cel.Activation = (*partial)(nil)
