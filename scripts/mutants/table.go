package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// mutant is one deliberate fault in a guard and the test that must notice it.
type mutant struct {
	name  string
	rows  []string // of docs/attacks.md
	pkg   string   // of the test, relative to the module
	test  string   // TestName, or TestName/beginning of a subtest's name
	edits []edit
}

// edit replaces one text, which must occur exactly once, in one file.
type edit struct {
	file     string
	old, new string
}

var (
	validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	validRow  = regexp.MustCompile(`^[A-Z]{2}-[0-9]{2}$`)
	validTest = regexp.MustCompile(`^Test[A-Za-z0-9_]+(/[^/]+)?$`)
)

// parse reads the table. A line is a keyword and its value; a blank line or
// "#" says nothing. Lines that begin with "-" are the text that is replaced,
// the lines with "+" behind them what takes its place; both as they stand
// after the first character.
func parse(text string) ([]*mutant, error) {
	var list []*mutant
	var m *mutant
	var file string
	last := byte(0)
	names := make(map[string]bool)
	for i, line := range strings.Split(text, "\n") {
		bad := func(what string) ([]*mutant, error) { return nil, fmt.Errorf("line %d: %s: %q", i+1, what, line) }
		if line == "" || line[0] == '#' {
			last = 0
			continue
		}
		if m == nil && !strings.HasPrefix(line, "mutant ") {
			return bad("outside of a mutant")
		}
		if line[0] == '-' || line[0] == '+' {
			switch {
			case file == "":
				return bad("no file")
			case line[0] == '-' && last == '-':
				m.edits[len(m.edits)-1].old += "\n" + line[1:]
			case line[0] == '-':
				m.edits = append(m.edits, edit{file: file, old: line[1:]})
			case last == '-':
				m.edits[len(m.edits)-1].new = line[1:]
			case last == '+':
				m.edits[len(m.edits)-1].new += "\n" + line[1:]
			default:
				return bad("nothing to replace")
			}
			last = line[0]
			continue
		}
		last = 0
		word, value, _ := strings.Cut(line, " ")
		value = strings.TrimSpace(value)
		switch word {
		case "mutant":
			if !validName.MatchString(value) || names[value] {
				return bad("malformed or repeated name")
			}
			names[value] = true
			m, file = &mutant{name: value}, ""
			list = append(list, m)
		case "row":
			m.rows = strings.Fields(value)
			if len(m.rows) == 0 || slices.ContainsFunc(m.rows, func(r string) bool { return !validRow.MatchString(r) }) {
				return bad("malformed row")
			}
		case "test":
			var ok bool
			if m.pkg, m.test, ok = strings.Cut(value, " "); !ok || !validTest.MatchString(m.test) {
				return bad("want a package and a test")
			}
		case "file":
			file = value
		default:
			return bad("unknown keyword")
		}
	}
	for _, m := range list {
		if len(m.rows) == 0 || m.test == "" || len(m.edits) == 0 {
			return nil, fmt.Errorf("mutant %s: row, test or replacement is missing", m.name)
		}
		for _, e := range m.edits {
			if e.old == "" || e.old == e.new {
				return nil, fmt.Errorf("mutant %s: it changes nothing", m.name)
			}
		}
	}
	return list, nil
}

// apply returns the text with the replacement made.
func (e edit) apply(text string) (string, error) {
	if n := strings.Count(text, e.old); n != 1 {
		return "", fmt.Errorf("no longer applies: %q is %d times in %s", e.old, n, e.file)
	}
	return strings.Replace(text, e.old, e.new, 1), nil
}

// top is the test function's name.
func (m *mutant) top() string {
	name, _, _ := strings.Cut(m.test, "/")
	return name
}

// pattern is the -run expression that selects the test and nothing else.
func (m *mutant) pattern() string {
	top, sub, ok := strings.Cut(m.test, "/")
	if !ok {
		return "^" + top + "$"
	}
	return "^" + top + "$/^" + regexp.QuoteMeta(strings.ReplaceAll(sub, " ", "_"))
}
