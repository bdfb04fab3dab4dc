package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/detect"
	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/policy"
	"github.com/gatebook/gatebook/internal/secret"
)

// ofRequest are words of conditions that hang on one request. Who a mask is for does not.
var ofRequest = regexp.MustCompile(`\b(action|usage|now|time)\b`)

// maskRules checks the masks and compiles their conditions. A condition that cannot be evaluated counts as one that holds.
func (ld *loader) maskRules() {
	c := &ld.l.Config
	if c.MaskKey != "" {
		if _, err := secret.ParseRef(c.MaskKey, ld.l.Dir); err != nil {
			ld.problem(source{ld.main, ""}, "mask_key", "%v", err)
		}
	}
	find := ld.detectors()
	var src policy.Source
	seen := map[string]bool{}
	for i := range c.Masks {
		m, at := &c.Masks[i], ld.masks[i]
		switch {
		case !ruleName.MatchString(m.Name):
			ld.problem(at, "name", "%q must be made of a-z, 0-9 and -, and not be empty", m.Name)
			continue
		case seen[m.Name]:
			ld.problem(at, "name", "there is another mask %q", m.Name)
			continue
		case ofRequest.MatchString(m.When):
			ld.problem(at, "when", "a mask is for a principal at a target, whatever the request is: action, usage and times cannot be asked for")
		}
		seen[m.Name] = true
		for _, t := range m.Targets {
			if !slices.ContainsFunc(c.Targets, func(have Target) bool { return have.Name == t }) {
				ld.problem(at, "targets", "there is no target %q", t)
			}
		}
		for _, kind := range m.Kinds {
			if kind != mask.AllKinds && find != nil && !slices.Contains(find.Names(), kind) {
				ld.problem(at, "kinds", "there is no kind %q; there are %s", kind, strings.Join(find.Names(), ", "))
			}
		}
		columns := ld.labelled(at, m)
		r := mask.Rule{
			Name: m.Name, Columns: columns, Kinds: m.Kinds, JSON: m.JSON, Targets: m.Targets, Method: mask.Method(cmp.Or(m.Method, string(mask.Redact))), KeepFirst: m.KeepFirst, KeepLast: m.KeepLast,
			KeepDomain: m.KeepDomain, Unit: m.Unit, Step: int64(m.Step), Scope: m.Scope, Inference: mask.Inference(cmp.Or(m.Inference, string(mask.Refuse))),
		}
		if c.MaskKey != "" { // which is not read here: some key
			r.Key = bytes.Repeat([]byte{1}, 32)
		}
		if err := r.Check(); err != nil {
			ld.problem(at, "", "%v", err)
		}
		r.Key = nil
		ld.l.MaskRules = append(ld.l.MaskRules, r)
		src.Rules = append(src.Rules, policy.Rule{Name: m.Name, When: cmp.Or(m.When, "true"), Then: access.Denied, File: at.file.name, Line: at.file.line(at.path + ".when")})
	}
	if len(src.Rules) == 0 {
		return
	}
	p, err := policy.Compile(src)
	var problems policy.Problems
	switch {
	case err == nil:
		ld.l.MaskWhen = p
	case errors.As(err, &problems):
		for _, b := range problems {
			ld.problems = append(ld.problems, Problem{File: b.File, Line: b.Line, Path: "mask " + b.Rule, What: b.Message})
		}
	default:
		ld.problem(source{ld.main, ""}, "masks", "%v", err)
	}
}

// detectors makes the detectors of a configuration: those that are built in and its own.
func (ld *loader) detectors() *detect.Set {
	var own []detect.Custom
	for i, d := range ld.l.Detectors {
		at := source{ld.main, fmt.Sprintf("detectors[%d]", i)}
		if !ruleName.MatchString(d.Name) {
			ld.problem(at, "name", "%q must be made of a-z, 0-9 and -, and not be empty", d.Name)
			continue
		}
		own = append(own, detect.Custom{Name: d.Name, Pattern: d.Pattern, Validator: d.Validator, Confidence: 0.5})
	}
	find, err := detect.New(detect.Options{Custom: own})
	if err != nil {
		ld.problem(source{ld.main, ""}, "detectors", "%v", err)
		return nil
	}
	ld.l.Detect = find
	return find
}

// labelled are the columns of a mask, with those of its labels.
func (ld *loader) labelled(at source, m *Mask) []string {
	columns := slices.Clone(m.Columns)
	for _, name := range m.Labels {
		known := false
		for i, l := range ld.l.Labels {
			if l.Name != name {
				continue
			}
			known = true
			if len(l.Columns) == 0 {
				ld.problem(ld.labels[i], "columns", "the label %q names no columns", name)
			}
			columns = append(columns, l.Columns...)
		}
		if !known {
			ld.problem(at, "labels", "there is no label %q", name)
		}
	}
	return columns
}
