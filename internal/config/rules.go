package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/policy"
)

var ruleName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// policy compiles the rules and packs.
func (ld *loader) policy() {
	c := &ld.l.Config
	src := policy.Source{Packs: c.Packs, Approvers: ld.approvers(source{ld.main, ""}, c.Approvers)}
	good := true
	for i := range c.Rules {
		r, at := &c.Rules[i], ld.rules[i]
		if !ruleName.MatchString(r.Name) {
			ld.problem(at, "name", "%q must be made of a-z, 0-9 and -, and not be empty", r.Name)
			good = false
		}
		then, ok := access.ParseVerdict(r.Then)
		if !ok {
			ld.oneOf(at, "then", r.Then, "allow", "deny", "hold")
			good = false
		}
		src.Rules = append(src.Rules, policy.Rule{
			Name: r.Name, When: r.When, Then: then, Reason: r.Reason, Hint: r.Hint, File: at.file.name, Line: at.file.line(at.path + ".when"),
			Approvers: ld.approvers(at, r.Approvers),
		})
		if r.Approvers != nil && then != access.Hold {
			ld.problem(at, "approvers", "only a rule that holds has approvers")
			good = false
		}
	}
	if ld.ready != nil {
		src.Packs, src.Ready = nil, ld.ready
		good = ld.recordedPacks() && good
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

// recordedPacks checks that the recorded rules of packs are those of the packs that the configuration names.
func (ld *loader) recordedPacks() bool {
	have := make(map[string]bool)
	for i := range ld.ready {
		name, _, _ := strings.Cut(ld.ready[i].Name, "/")
		have[name] = true
	}
	good := true
	for i, name := range ld.l.Packs {
		if !have[name] {
			ld.problem(ld.packs[i], "", "the record has no rules of the pack %q", name)
			good = false
		}
		delete(have, name)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		ld.problem(source{ld.main, "packs"}, "", "the record has rules of the pack %q, which the configuration does not name", name)
		good = false
	}
	return good
}

// PackRules returns the rules that the packs of a configuration stand for, as LoadRecorded takes them.
func PackRules(names []string) []policy.Rule {
	var rules []policy.Rule
	for _, name := range names {
		if p, err := policy.FindPack(name); err == nil {
			rules = append(rules, p.Rules...)
		}
	}
	return rules
}
