package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/engine/postgres"
	"github.com/gatebook/gatebook/internal/policy"
)

// maxCases bounds a file of cases, in bytes.
const maxCases = 4 << 20

func (e *env) policyTestCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run tables of cases against the policy",
		Long: `Asks the configuration's policy every case of the files and prints the answers that are not as expected, each with its place and
why. A file holds a list "cases"; its keys are described in docs/policy.md. A case that names a target of the configuration
has that target's protocol and labels, unless it gives its own.

A statement under "sql" is judged by its text: names are taken as written, because no target is asked what they stand for.

Exit code 0: every case went as expected. 1: one did not, or a file could not be read.`,
		Example: `  cat > cases.yaml << 'YAML'
  cases:
    - name: agents read
      principal: {groups: [agents]}
      target: {name: orders}
      action: {sql: "SELECT name FROM people WHERE id = 1"}
      expect: allow
  YAML
  gatebook policy test cases.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(fmt.Errorf("no file of cases; see %s --help", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := e.load()
			if err != nil {
				return err
			}
			var cases []policy.Case
			var problems config.Problems
			for _, path := range args {
				text, err := readBounded(path)
				if err != nil {
					return err
				}
				list, bad := parseCases(path, text)
				cases, problems = append(cases, list...), append(problems, bad...)
			}
			if len(problems) > 0 {
				return fmt.Errorf("the cases have %s:\n%w", plural(len(problems), "problem"), problems)
			}
			r := runCases(cfg, cases)
			if e.json {
				err = e.printJSON(r)
			} else {
				r.print(e.stdout, len(args))
			}
			if err == nil && r.Failed > 0 {
				err = &exitError{code: exitFailed}
			}
			return err
		},
	}
	e.jsonFlag(c)
	return c
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxCases+1))
	if err == nil && len(text) > maxCases {
		err = fmt.Errorf("%s: more than %d bytes", path, maxCases)
	}
	return text, err
}

// tested is what came of tables of cases.
type tested struct {
	Cases    int           `json:"cases"`
	Failed   int           `json:"failed"`
	Failures []caseFailure `json:"failures"`
	Notes    []problemLine `json:"notes"`
	// Unmatched are the rules that no case matched.
	Unmatched []string `json:"unmatched_rules"`
}

// caseFailure is a case that did not go as expected.
type caseFailure struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Case    string `json:"case"`
	Expect  string `json:"expect"`
	Message string `json:"message"`
	// Decision and Action are nil where the case could not be asked.
	Decision *decision `json:"decision,omitempty"`
	Action   *action   `json:"action,omitempty"`
}

// runCases decides all cases.
func runCases(cfg *config.Loaded, cases []policy.Case) *tested {
	r := &tested{Cases: len(cases), Failures: []caseFailure{}, Notes: []problemLine{}, Unmatched: []string{}}
	matched := map[string]bool{}
	known := make([]string, len(cfg.Targets))
	for i := range cfg.Targets {
		known[i] = cfg.Targets[i].Name
	}
	for i := range cases {
		c := &cases[i]
		note := func(what string) { r.Notes = append(r.Notes, problemLine{c.File, c.Line, "case " + c.Name, what}) }
		if t, err := findTarget(cfg, c.Target.Name); err == nil {
			if c.Target.Protocol == "" {
				c.Target.Protocol = t.Protocol
			}
			if c.Target.Labels == nil {
				c.Target.Labels = t.Labels
			}
		} else if c.Target.Name != "" {
			note(fmt.Sprintf("the configuration has no target %q%s", c.Target.Name, didYouMean(c.Target.Name, known)))
		}
		var a *access.Action
		x, message := cfg.Policy.Try(c, func(text string) *access.Action {
			a = postgres.Action(text)
			return a
		})
		if a != nil && a.Refuse != nil {
			note(fmt.Sprintf("the gateway refuses this by %s, whatever the policy says: %s", a.Refuse.Rule, a.Refuse.Reason))
		}
		for _, res := range x.Rules {
			matched[res.Rule.Name] = matched[res.Rule.Name] || res.Matched
		}
		if message == "" {
			continue
		}
		f := caseFailure{File: c.File, Line: c.Line, Case: c.Name, Expect: c.Expect, Message: message}
		if len(x.Rules) > 0 || x.Decision.Rule != "" {
			f.Decision = newDecision(&x.Decision)
		}
		if a != nil {
			f.Action = newAction(a)
		}
		r.Failures = append(r.Failures, f)
	}
	r.Failed = len(r.Failures)
	for _, rule := range cfg.Policy.Rules() {
		if !matched[rule.Name] {
			r.Unmatched = append(r.Unmatched, rule.Name)
		}
	}
	return r
}

func (r *tested) print(out io.Writer, files int) {
	for _, f := range r.Failures {
		fmt.Fprintf(out, "%s:%d: case %q: %s\n", printable(f.File), f.Line, f.Case, printable(f.Message))
		detail := func(label, text string) {
			if text != "" {
				fmt.Fprintf(out, "    %-8s  %s\n", label, printable(text))
			}
		}
		if d := f.Decision; d != nil {
			detail("reason", d.Reason)
			detail("hint", d.Hint)
			if len(d.Matched) > 1 {
				detail("matched", strings.Join(d.Matched, ", "))
			}
		}
		if a := f.Action; a != nil {
			detail("effects", orNone(a.Effects))
			if a.Opaque != "" {
				detail("opaque", a.Opaque)
			}
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(out, "%s:%d: note: %s: %s\n", printable(n.File), n.Line, printable(n.Path), printable(n.What))
	}
	if len(r.Unmatched) > 0 {
		fmt.Fprintf(out, "note: no case matches %s\n", strings.Join(r.Unmatched, ", "))
	}
	if r.Failed > 0 {
		fmt.Fprintf(out, "FAILED: %d of %s", r.Failed, plural(r.Cases, "case"))
	} else {
		fmt.Fprintf(out, "ok: %s", plural(r.Cases, "case"))
	}
	if files > 1 {
		fmt.Fprintf(out, " in %d files", files)
	}
	fmt.Fprintln(out)
}

// caseParser reads one file of cases.
type caseParser struct {
	file     string
	problems config.Problems
}

func (p *caseParser) problem(n ast.Node, path, format string, args ...any) {
	b := config.Problem{File: p.file, Path: path, What: fmt.Sprintf(format, args...)}
	if n != nil && n.GetToken() != nil {
		b.Line = n.GetToken().Position.Line
	}
	p.problems = append(p.problems, b)
}

// parseCases reads a table of cases strictly. Of each case the first problem is reported.
func parseCases(name string, text []byte) ([]policy.Case, config.Problems) {
	p := &caseParser{file: name}
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		p.wrong(err, nil, "")
		return nil, p.problems
	}
	list := p.list(tree)
	if list == nil {
		return nil, p.problems
	}
	decoder := yaml.NewDecoder(strings.NewReader(""), yaml.Strict(), yaml.DisallowUnknownField())
	cases := make([]policy.Case, 0, len(list.Values))
	for i, n := range list.Values {
		c := policy.Case{File: name, Line: n.GetToken().Position.Line}
		// One decoder for all, so that a case may refer to an anchor of an earlier one.
		if err := decoder.DecodeFromNode(n, &c); err != nil {
			p.wrong(err, n, fmt.Sprintf("cases[%d]", i))
			continue
		}
		if c.Name == "" {
			c.Name = fmt.Sprintf("#%d", i+1)
		}
		cases = append(cases, c)
	}
	return cases, p.problems
}

// list returns the list of cases of a file, nil if there is none.
func (p *caseParser) list(tree *ast.File) (list *ast.SequenceNode) {
	docs := slices.DeleteFunc(slices.Clone(tree.Docs), func(d *ast.DocumentNode) bool { return d.Body == nil })
	if len(docs) > 1 {
		p.problem(docs[1].Body, "", "a file of cases is one YAML document")
		return nil
	}
	if len(docs) == 1 {
		m, ok := docs[0].Body.(*ast.MappingNode)
		if !ok {
			p.problem(docs[0].Body, "", "a file of cases begins with cases:, and the list of cases follows")
			return nil
		}
		for _, v := range m.Values {
			switch key := v.Key.GetToken().Value; {
			case key != "cases":
				p.problem(v.Key, "", "unknown key %q; a file of cases has the one key cases", key)
			default:
				if list, ok = v.Value.(*ast.SequenceNode); !ok {
					p.problem(v.Value, "cases", "must be a list")
					return nil
				}
			}
		}
	}
	if len(p.problems) == 0 && (list == nil || len(list.Values) == 0) {
		p.problem(nil, "", "there are no cases in it")
	}
	return list
}

// wrong reports an error of the YAML package in words about the file.
func (p *caseParser) wrong(err error, n ast.Node, path string) {
	b := config.Problem{File: p.file, Path: path, What: err.Error()}
	if n != nil {
		b.Line = n.GetToken().Position.Line
	}
	var located yaml.Error
	if errors.As(err, &located) {
		b.What = located.GetMessage()
		if tok := located.GetToken(); tok != nil && tok.Position != nil {
			b.Line = tok.Position.Line
		}
	}
	var unknown *yaml.UnknownFieldError
	var mismatch *yaml.TypeError
	switch {
	case errors.As(err, &unknown):
		word := unknown.Token.Value
		b.What = fmt.Sprintf("unknown key %q%s", word, nearKey(word))
	case errors.As(err, &mismatch):
		b.What = "must be " + kind(mismatch.DstType)
		if f := mismatch.StructFieldName; f != nil {
			_, field, _ := strings.Cut(*f, ".")
			b.What = keyOf(field) + " " + b.What
		}
	}
	p.problems = append(p.problems, b)
}

func nearKey(word string) string {
	if near := policy.Nearest(word, slices.Collect(maps.Values(caseKeys()))); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// keyOf returns the key of a field of a case.
func keyOf(field string) string {
	if key, ok := caseKeys()[field]; ok {
		return key
	}
	return field
}

// caseKeys returns the keys that stand for fields of a case, at any depth.
func caseKeys() map[string]string {
	keys := map[string]string{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		for t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return
		}
		for i := range t.NumField() {
			if f := t.Field(i); f.Tag.Get("yaml") != "-" {
				keys[f.Name] = f.Tag.Get("yaml")
				walk(f.Type)
			}
		}
	}
	walk(reflect.TypeFor[policy.Case]())
	return keys
}

// kind says what a value must be, in words of YAML.
func kind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a mapping"
	case reflect.Bool:
		return "true or false"
	}
	return "a text"
}
