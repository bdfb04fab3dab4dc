package policy

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gatebook/gatebook/internal/expr"
)

// Problem is something wrong in a policy, with its place.
type Problem struct {
	// File and Line are the place, "" and 0 where there is none; Column counts characters within the line of the expression.
	File         string
	Line, Column int
	// Rule is the name of the rule, "" if it is none's.
	Rule    string
	Message string
	// Suggestion is what was probably meant, "" if nothing is near.
	Suggestion string
}

// String returns "FILE:LINE: rule NAME: MESSAGE; did you mean 'SUGGESTION'?".
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Rule != "" {
		fmt.Fprintf(&b, "rule %q: ", clip(p.Rule, 100))
	}
	b.WriteString(p.Message)
	if p.Suggestion != "" {
		fmt.Fprintf(&b, "; did you mean '%s'?", p.Suggestion)
	}
	return b.String()
}

// Problems is the error of Compile: everything that is wrong, at once.
type Problems []Problem

// Error implements error, one problem a line.
func (l Problems) Error() string {
	lines := make([]string, len(l))
	for i, p := range l {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func (l Problems) sort() {
	slices.SortStableFunc(l, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

func at(file string, line int) string {
	switch {
	case file == "":
		return ""
	case line == 0:
		return " (" + file + ")"
	}
	return fmt.Sprintf(" (%s:%d)", file, line)
}

// explain makes problems of the faults of a rule's condition, in the words of
// this package where CEL's own speak of its inner workings.
func explain(r *Rule, err error) (problems Problems) {
	var faults *expr.Error
	if !errors.As(err, &faults) {
		return Problems{{File: r.File, Line: r.Line, Rule: r.Name, Message: err.Error()}}
	}
	if strings.TrimSpace(r.When) == "" {
		return Problems{{File: r.File, Line: r.Line, Rule: r.Name, Message: "the rule has no condition (when); \"true\" always holds"}}
	}
	for _, f := range faults.Problems {
		p := Problem{File: r.File, Line: r.Line, Column: f.Column, Rule: r.Name}
		if f.Line > 0 && r.Line > 0 {
			p.Line += f.Line - 1
		}
		p.Message, p.Suggestion = reword(r.When, f)
		problems = append(problems, p)
	}
	return problems
}

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	undefined  = regexp.MustCompile(`^undefined field '([^']*)'`)
	noEffect   = regexp.MustCompile(`^no effect is named "([^"]*)"`)
	operator   = regexp.MustCompile(`'(?:_?(\W+?)_?|@(\w+))' applied to`)
	path       = regexp.MustCompile(`^\w+\s*\.\s*(\??)\s*(\w+)`)
)

func reword(src string, f expr.Problem) (message, suggestion string) {
	if m := undefined.FindStringSubmatch(f.Message); m != nil {
		return fmt.Sprintf("no such field '%s'", m[1]), Nearest(m[1], elementFields())
	}
	if m := noEffect.FindStringSubmatch(f.Message); m != nil {
		return f.Message, Nearest(m[1], effectNames)
	}
	if m := undeclared.FindStringSubmatch(f.Message); m != nil {
		return rewordName(src, f, m[1])
	}
	return operator.ReplaceAllString(clip(f.Message, 300), "'$1$2' applied to"), ""
}

// rewordName explains a name that is not declared. The four groups of
// variables are no values themselves: CEL reports the group where it is the
// field that does not exist.
func rewordName(src string, f expr.Problem, name string) (message, suggestion string) {
	fields, isGroup := groups()[name]
	if !isGroup {
		return fmt.Sprintf("no such variable or function '%s'", name), Nearest(name, knownNames())
	}
	m := path.FindStringSubmatch(rest(src, f, name))
	switch {
	case m == nil:
		return fmt.Sprintf("'%s' is no value: name one of its fields", name), ""
	case slices.Contains(fields, m[2]):
		return fmt.Sprintf("'%s.%s' is always there: it cannot be asked for with has() or '.?'", name, m[2]), ""
	}
	return fmt.Sprintf("no such field '%s' of '%s'", m[2], name), Nearest(m[2], fields)
}

// rest returns the source from the place of a problem on, or from the first
// place of the name after it: macros report the place of their call.
func rest(src string, f expr.Problem, name string) string {
	lines := strings.SplitAfter(src, "\n")
	if f.Line < 1 || f.Line > len(lines) {
		return ""
	}
	line := []rune(lines[f.Line-1])
	if f.Column < 1 || f.Column > len(line) {
		return ""
	}
	text := string(line[f.Column-1:]) + strings.Join(lines[f.Line:], "")
	_, after, ok := strings.Cut(text, name)
	if !ok {
		return ""
	}
	return name + after
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// Nearest returns the word that is a few slips away from a mistyped one, "" if none is.
func Nearest(word string, words []string) string {
	best, least := "", 1+min(3, (len(word)+2)/3)
	for _, w := range words {
		if d := distance(strings.ToLower(word), w, least); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance counts the letters to insert, drop, replace or swap with their
// neighbour to get from a to b; it stops at limit.
func distance(a, b string, limit int) int {
	if n := len(a) - len(b); n >= limit || -n >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
