// Package mask says which columns are masked for whom, and how a value of them
// looks masked.
//
// A masked value is one that the column's type can hold. Where a method has no
// such value for a type, the result is NULL: no value leaves because a method
// does not know its type.
package mask

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/gatebook/gatebook/internal/detect"
)

// Method is how values are masked.
type Method string

// Methods.
const (
	// Redact: a text says that it is masked; everything else is NULL.
	Redact Method = "redact"
	// Null: NULL.
	Null Method = "null"
	// Partial keeps the first or last characters of a text, or the domain of an e-mail address.
	Partial Method = "partial"
	// Hash: a keyed digest of the value.
	Hash Method = "hash"
	// Tokenize: a keyed token, the same for the same value wherever the scope is the same.
	Tokenize Method = "tokenize"
	// Generalise: dates to months or years, numbers to the lower end of a range.
	Generalise Method = "generalise"
)

// Inference says what becomes of statements that use a masked column otherwise than by putting it out.
type Inference string

// What becomes of them.
const (
	Refuse Inference = "refuse"
	// Hold: they pass once a person has approved them, by a rule of the policy that holds them.
	Hold  Inference = "hold"
	Allow Inference = "allow"
)

// Rule masks columns. It is immutable.
type Rule struct {
	Name string
	// Columns are "schema.table.column", with * for any text within a part. Kinds are those of detectors, whose values are masked
	// wherever no rule by columns is about them. A rule has one of the two.
	Columns, Kinds []string
	// JSON are paths into the columns, such as contact.email or items.*.name: of a JSON column that is put out as it is only what stands there is
	// masked. None for whole columns.
	JSON []string
	// Targets are names of targets; nil for all.
	Targets   []string
	Method    Method
	Inference Inference
	// KeepFirst and KeepLast are characters that Partial keeps, KeepDomain the part of an e-mail address behind the @.
	KeepFirst, KeepLast int
	KeepDomain          bool
	// Unit is "month" or "year" for dates, Step the width of a range of numbers, for Generalise.
	Unit string
	Step int64
	// Scope of tokens; the rule's name if it is "".
	Scope string
	// Key is the secret of Hash and Tokenize, 32 bytes or more.
	Key []byte

	patterns []*regexp.Regexp
	paths    []path
}

// minKey is the shortest key, in bytes.
const minKey = 32

// Check completes a rule and says what is wrong with it.
func (r *Rule) Check() error {
	switch {
	case len(r.Columns) == 0 && len(r.Kinds) == 0:
		return errors.New("columns must name what is masked, as schema.table.column, or kinds must")
	case len(r.Columns) > 0 && len(r.Kinds) > 0:
		return errors.New("a mask is by columns or by kinds: make two of it")
	case len(r.Kinds) > 0 && r.Method == Generalise:
		return errors.New("values that detectors find cannot be generalised")
	}
	r.patterns = nil
	for _, c := range r.Columns {
		if parts := strings.Split(c, "."); len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
			return fmt.Errorf("%q is not schema.table.column", c)
		}
		words := strings.Split(c, "*")
		for i := range words {
			words[i] = regexp.QuoteMeta(words[i])
		}
		r.patterns = append(r.patterns, regexp.MustCompile("^(?s:"+strings.Join(words, "[^.]*")+")$"))
	}
	r.paths = nil
	for _, s := range r.JSON {
		p, err := parsePath(s)
		if err != nil {
			return err
		}
		r.paths = append(r.paths, p)
	}
	if len(r.JSON) > 0 && len(r.Columns) == 0 {
		return errors.New("json says where in columns: the mask has none")
	}
	switch r.Method {
	case Redact, Null:
	case Partial:
		if r.KeepFirst < 0 || r.KeepLast < 0 || r.KeepFirst+r.KeepLast == 0 && !r.KeepDomain {
			return errors.New("partial needs keep_first, keep_last or keep_domain")
		}
	case Hash, Tokenize:
		if len(r.Key) < minKey {
			return fmt.Errorf("%s needs mask_key with %d bytes or more", r.Method, minKey)
		}
	case Generalise:
		if r.Step < 0 || r.Step == 0 && r.Unit == "" || r.Unit != "" && r.Unit != "month" && r.Unit != "year" {
			return errors.New("generalise needs unit (month or year) for dates, or step for numbers")
		}
	default:
		return fmt.Errorf("the method %q is none of redact, null, partial, hash, tokenize, generalise", r.Method)
	}
	if r.Inference != Refuse && r.Inference != Hold && r.Inference != Allow {
		return fmt.Errorf("inference %q is none of refuse, hold, allow", r.Inference)
	}
	return nil
}

// names reports whether the rule is about a column.
func (r *Rule) names(column string) bool {
	for _, p := range r.patterns {
		if p.MatchString(column) {
			return true
		}
	}
	return false
}

// Unmatched returns those of the rule's columns that none of the given columns is.
func (r *Rule) Unmatched(columns []string) (list []string) {
	for i, p := range r.patterns {
		if !slices.ContainsFunc(columns, p.MatchString) {
			list = append(list, r.Columns[i])
		}
	}
	return list
}

// Set are the rules in force for somebody at a target, in their order, and those that are not for them. It is safe for concurrent
// use; the nil Set masks nothing.
type Set struct {
	rules, exempt []*Rule
	values        *Values

	mu    sync.Mutex
	known map[string]ruling
}

type ruling struct{ rule, exempt *Rule }

// NewSet returns a set of the rules in force, which find values with the detectors, and of others that name columns too but are
// for other people. It is nil for no rules.
func NewSet(rules, exempt []*Rule, find *detect.Set) *Set {
	s := &Set{known: map[string]ruling{}}
	var kinds []*Rule
	for _, r := range rules {
		if len(r.Kinds) > 0 {
			kinds = append(kinds, r)
		} else {
			s.rules = append(s.rules, r)
		}
	}
	for _, r := range exempt {
		if len(r.Columns) > 0 {
			s.exempt = append(s.exempt, r)
		}
	}
	s.values = newValues(kinds, find)
	if len(s.rules) == 0 && len(s.exempt) == 0 && s.values == nil {
		return nil
	}
	return s
}

// Columns reports whether any column is masked.
func (s *Set) Columns() bool { return s != nil && len(s.rules) > 0 }

// Values returns what masks values wherever they stand, nil for nothing.
func (s *Set) Values() *Values {
	if s == nil {
		return nil
	}
	return s.values
}

// maxKnown bounds the columns whose rule is remembered.
const maxKnown = 100_000

// Rule returns the first rule that is about a column ("schema.table.column"), nil if none is.
func (s *Set) Rule(column string) *Rule { return s.look(column).rule }

// Exempt returns the first rule that names a column and is not for those whom the set is for, nil if there is none.
func (s *Set) Exempt(column string) *Rule { return s.look(column).exempt }

func (s *Set) look(column string) ruling {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.known[column]; ok {
		return r
	}
	found := ruling{first(s.rules, column), first(s.exempt, column)}
	if len(s.known) < maxKnown {
		s.known[column] = found
	}
	return found
}

func first(rules []*Rule, column string) *Rule {
	for _, r := range rules {
		if r.names(column) {
			return r
		}
	}
	return nil
}

// aside is the rule of what PostgreSQL repeats of tables elsewhere, and of everything whose rule is not known.
var aside = &Rule{Name: "gateway", Method: Null, Inference: Refuse}

// Strictest returns the rule for a value that may be of any of the columns.
func (s *Set) Strictest(columns ...string) *Rule {
	var rule *Rule
	for _, c := range columns {
		r := s.Rule(c)
		if r == nil {
			return aside
		}
		if rule != nil && rule != r {
			return &Rule{Name: rule.Name, Method: Redact, Inference: Refuse}
		}
		rule = r
	}
	if rule == nil {
		return aside
	}
	return rule
}

// Inference returns what becomes of statements that use columns, by the strictest of their rules.
func (s *Set) Inference(columns ...string) (Inference, *Rule) {
	out, by := Allow, (*Rule)(nil)
	for _, c := range columns {
		switch r := s.Rule(c); {
		case r == nil:
			return Refuse, aside
		case r.Inference == Refuse:
			return Refuse, r
		case r.Inference == Hold:
			out, by = Hold, r
		}
	}
	return out, by
}
