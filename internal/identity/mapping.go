package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/expr"
)

const (
	maxNameLen  = 512 // of a name, owner or actor
	maxGroupLen = 256
	maxGroups   = 512
	maxActors   = 8
)

type binding = *expr.Program[bool]

// mapping is an issuer's compiled expressions, immutable.
type mapping struct {
	name     *expr.Program[string]
	groups   *expr.Program[[]string]
	actor    *expr.Program[[]string] // nil: the chain of "act" claims
	owner    *expr.Program[string]   // nil: unknown
	bindings []binding               // all, the preset's first
	own      []binding               // those that the operator wrote
	email    bool                    // "email" decides something
	groupsOf map[string]bool         // the claims that groups are read from
}

// compile compiles the expressions of options with defaults; own is how many
// of the bindings, the last ones, are the operator's. All faults are reported.
func compile(env *expr.Env, o *Issuer, own int) (*mapping, error) {
	m := &mapping{}
	var errs []error
	note := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	var err error
	m.name, err = expr.Compile[string](env, o.Principal)
	note("principal", err)
	m.groups, err = expr.Compile[[]string](env, o.Groups)
	note("groups", err)
	if o.Actor != "" {
		m.actor, err = expr.Compile[[]string](env, o.Actor)
		note("actor", err)
	}
	if o.Owner != "" {
		m.owner, err = expr.Compile[string](env, o.Owner)
		note("owner", err)
	}
	for i, src := range o.Bindings {
		b, err := expr.Compile[bool](env, src)
		note(fmt.Sprintf("bindings[%d]", i-(len(o.Bindings)-own)), err)
		m.bindings = append(m.bindings, b)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	m.own = m.bindings[len(m.bindings)-own:]
	m.groupsOf = m.groups.Fields("claims")
	m.email = m.name.Fields("claims")["email"] || m.groupsOf["email"] ||
		m.owner != nil && m.owner.Fields("claims")["email"] ||
		slices.ContainsFunc(m.bindings, func(b binding) bool { return b.Fields("claims")["email"] })
	return m, nil
}

func (m *mapping) checkBindings(claims map[string]any) error {
	vars := map[string]any{"claims": claims}
	for _, b := range m.bindings {
		ok, err := b.Eval(vars)
		if err != nil {
			return fmt.Errorf("binding: %w", err)
		}
		if !ok {
			return fmt.Errorf("binding %q does not hold", b.Source())
		}
	}
	return nil
}

// apply checks the bindings and fills the mapped fields of p. Any failure to
// evaluate refuses the token.
func (m *mapping) apply(p *access.Principal, claims map[string]any) error {
	if err := m.checkTraps(claims); err != nil {
		return err
	}
	if err := m.checkBindings(claims); err != nil {
		return err
	}
	vars := map[string]any{"claims": claims}
	var err error
	if p.Name, err = m.name.Eval(vars); err != nil {
		return fmt.Errorf("principal: %w", err)
	}
	if err := checkText(p.Name, maxNameLen); err != nil {
		return fmt.Errorf("principal: %w", err)
	}
	if p.Groups, err = m.groups.Eval(vars); err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	if p.Groups, err = tidyGroups(p.Groups); err != nil {
		return err
	}
	if p.Actor, err = m.actors(claims); err != nil {
		return fmt.Errorf("actor: %w", err)
	}
	if m.owner == nil {
		return nil
	}
	if p.Owner, err = m.owner.Eval(vars); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	if p.Owner == "" {
		return nil
	}
	if err := checkText(p.Owner, maxNameLen); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	return nil
}

// checkTraps refuses two kinds of claims that say less than they seem to.
func (m *mapping) checkTraps(claims map[string]any) error {
	// An address that its owner never confirmed is one that anybody may type.
	if v, ok := claims["email_verified"]; ok && m.email && v != true && v != "true" {
		return errors.New(`"email" decides here and "email_verified" is not true`)
	}
	// Some issuers leave long claims out and name a place to fetch them from
	// (OpenID Connect Core 5.6.2). A rule that denies a group would not see it.
	if names, ok := claims["_claim_names"].(map[string]any); ok {
		for name := range names {
			if m.groupsOf[name] {
				return fmt.Errorf("the issuer left the claim %s out of the token (too many groups)", quote(name))
			}
		}
	}
	return nil
}

// tidyGroups sorts and removes duplicates.
func tidyGroups(in []string) ([]string, error) {
	if len(in) > maxGroups {
		return nil, fmt.Errorf("groups: %d of them, the limit is %d", len(in), maxGroups)
	}
	for _, g := range in {
		if err := checkText(g, maxGroupLen); err != nil {
			return nil, fmt.Errorf("groups: %w", err)
		}
	}
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (m *mapping) actors(claims map[string]any) ([]string, error) {
	list, err := []string(nil), error(nil)
	if m.actor == nil {
		list, err = actChain(claims["act"])
	} else {
		list, err = m.actor.Eval(map[string]any{"claims": claims})
	}
	if err != nil {
		return nil, err
	}
	if len(list) > maxActors {
		return nil, fmt.Errorf("%d of them, the limit is %d", len(list), maxActors)
	}
	for _, a := range list {
		if err := checkText(a, maxNameLen); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// actChain reads nested "act" claims, outermost (the current actor) first. An
// actor is its "sub", after its issuer and "|" where "act" names one.
func actChain(act any) ([]string, error) {
	var list []string
	for ; act != nil; act = act.(map[string]any)["act"] {
		o, ok := act.(map[string]any)
		if !ok {
			return nil, errors.New(`"act" is not an object`)
		}
		sub, ok := o["sub"].(string)
		if !ok || sub == "" {
			return nil, errors.New(`"act" has no "sub"`)
		}
		if iss, named := o["iss"]; named {
			s, ok := iss.(string)
			if !ok {
				return nil, errors.New(`"iss" in "act" is not a text`)
			}
			sub = s + "|" + sub
		}
		list = append(list, sub)
	}
	return list, nil
}

// checkText refuses names that would be read as another name, or that break a
// line of a log or a list: control and format characters, edges of white
// space, the replacement character (which stands for bytes that were lost).
func checkText(s string, most int) error {
	switch {
	case s == "":
		return errors.New("empty")
	case len(s) > most:
		return fmt.Errorf("longer than %d bytes", most)
	case strings.TrimSpace(s) != s:
		return fmt.Errorf("%s begins or ends with white space", quote(s))
	}
	for _, r := range s {
		if r == unicode.ReplacementChar || unicode.Is(unicode.C, r) || unicode.In(r, unicode.Zl, unicode.Zp) {
			return fmt.Errorf("%s holds a character that is not allowed", quote(s))
		}
	}
	return nil
}
