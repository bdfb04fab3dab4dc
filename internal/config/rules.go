package config

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/policy"
)

var ruleName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

var verdicts = map[string]access.Verdict{"allow": access.Allow, "deny": access.Denied, "hold": access.Hold}

// policy compiles the rules and packs.
func (ld *loader) policy() {
	c := &ld.l.Config
	src := policy.Source{Packs: c.Packs}
	good := true
	for i := range c.Rules {
		r, at := &c.Rules[i], ld.rules[i]
		if !ruleName.MatchString(r.Name) {
			ld.problem(at, "name", "%q must be made of a-z, 0-9 and -, and not be empty", r.Name)
			good = false
		}
		then, ok := verdicts[r.Then]
		if !ok {
			ld.oneOf(at, "then", r.Then, "allow", "deny", "hold")
			good = false
		}
		src.Rules = append(src.Rules, policy.Rule{
			Name: r.Name, When: r.When, Then: then, Reason: r.Reason, Hint: r.Hint, File: at.file.name, Line: at.file.line(at.path + ".when"),
		})
	}
	p, err := policy.Compile(src)
	var problems policy.Problems
	switch {
	case err == nil && good:
		ld.l.Policy = p
	case errors.As(err, &problems):
		for _, b := range problems {
			p := Problem{File: b.File, Line: b.Line, What: b.Message}
			if b.Rule != "" {
				p.Path = "rule " + b.Rule
			}
			if b.Suggestion != "" {
				p.What += fmt.Sprintf(" (did you mean %q?)", b.Suggestion)
			}
			ld.problems = append(ld.problems, p)
		}
	case err != nil:
		ld.problem(source{ld.main, ""}, "rules", "%v", err)
	}
}
