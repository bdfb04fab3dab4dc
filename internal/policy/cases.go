package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatebook/gatebook/internal/access"
)

// Case is one line of a table of cases: a request, and what the policy is
// expected to say. What a case does not give is empty, as in Input: a rule
// that reads a time which is not given cannot be evaluated.
type Case struct {
	Name      string        `yaml:"name"`
	Principal CasePrincipal `yaml:"principal"`
	Target    CaseTarget    `yaml:"target"`
	Session   CaseSession   `yaml:"session"`
	Action    CaseAction    `yaml:"action"`
	// Usage of the principal by the name of its variable, such as requests_minute.
	Usage map[string]uint64 `yaml:"usage"`
	// Time of the decision, RFC 3339.
	Time string `yaml:"time"`
	// Expect is allow, deny or hold; Rule the name of the rule that must decide, if given.
	Expect string `yaml:"expect"`
	Rule   string `yaml:"rule"`
	// File and Line are the place of the case, for failures.
	File string `yaml:"-"`
	Line int    `yaml:"-"`
}

// CasePrincipal is the principal of a case.
type CasePrincipal struct {
	Name    string         `yaml:"name"`
	Issuer  string         `yaml:"issuer"`
	Subject string         `yaml:"subject"`
	Groups  []string       `yaml:"groups"`
	Claims  map[string]any `yaml:"claims"`
	Actor   []string       `yaml:"actor"`
	Owner   string         `yaml:"owner"`
}

// CaseTarget is the target of a case.
type CaseTarget struct {
	Name     string            `yaml:"name"`
	Protocol string            `yaml:"protocol"`
	Labels   map[string]string `yaml:"labels"`
}

// CaseSession is the session of a case.
type CaseSession struct {
	Role     string `yaml:"role"`
	Database string `yaml:"database"`
	Address  string `yaml:"address"`
	// Age of the session, such as 5m; it needs the time of the case.
	Age string `yaml:"age"`
}

// CaseAction is the action of a case: a text that is analysed, or what the
// analysis would say.
type CaseAction struct {
	SQL string `yaml:"sql"`

	Op          string          `yaml:"op"` // default query
	Text        string          `yaml:"text"`
	Effects     []string        `yaml:"effects"`
	Statements  []CaseStatement `yaml:"statements"`
	HasFilter   bool            `yaml:"has_filter"`
	Opaque      bool            `yaml:"opaque"`
	Fingerprint string          `yaml:"fingerprint"`
	// PersonalData are the values that detectors would find, by kind, Infers the masks that ask a person, and Parameters the values bound to it; both go with both forms.
	PersonalData map[string]uint64 `yaml:"personal_data"`
	Infers       []string          `yaml:"infers"`
	Parameters   []any             `yaml:"parameters"`
}

// CaseStatement is a statement of an action that is not analysed.
type CaseStatement struct {
	Verb      string       `yaml:"verb"`
	Inner     []string     `yaml:"inner"`
	Effects   []string     `yaml:"effects"`
	Objects   []CaseObject `yaml:"objects"`
	Columns   []string     `yaml:"columns"`
	HasFilter bool         `yaml:"has_filter"`
	Opaque    bool         `yaml:"opaque"`
}

// CaseObject is an object of an action that is not analysed.
type CaseObject struct {
	Kind    string   `yaml:"kind"`
	Schema  string   `yaml:"schema"`
	Name    string   `yaml:"name"`
	Effects []string `yaml:"effects"`
}

// Failure is a case that did not go as expected, or that says nothing.
type Failure struct {
	Case Case
	// Index of the case in the table.
	Index   int
	Message string
	// Explanation of the decision; empty where the case could not be asked.
	Explanation Explanation
}

// String returns "FILE:LINE: case NAME: MESSAGE".
func (f Failure) String() string {
	s := fmt.Sprintf("case %q: %s", f.Case.Name, f.Message)
	if f.Case.File != "" {
		s = fmt.Sprintf("%s:%d: %s", f.Case.File, f.Case.Line, s)
	}
	return s
}

// Test decides every case of a table and returns those that fail. analyse
// makes actions of texts; without it a case with sql fails.
func (p *Policy) Test(cases []Case, analyse func(text string) *access.Action) []Failure {
	var failures []Failure
	for i, c := range cases {
		if x, message := p.Try(&c, analyse); message != "" {
			failures = append(failures, Failure{c, i, message, x})
		}
	}
	return failures
}

// Try decides one case and says what is not as expected, "" if all is. The
// explanation is empty where the case could not be asked.
func (p *Policy) Try(c *Case, analyse func(text string) *access.Action) (x Explanation, message string) {
	in, err := c.input(analyse)
	if err != nil {
		return x, err.Error()
	}
	x = p.Explain(in)
	return x, c.compare(x)
}

// compare returns what is not as expected, "" if all is.
func (c *Case) compare(x Explanation) string {
	got := x.Decision
	message := ""
	switch {
	case got.Verdict.String() != c.Expect:
		message = fmt.Sprintf("%s by rule %s, want %s", got.Verdict, got.Rule, c.Expect)
	case c.Rule != "" && got.Rule != c.Rule:
		message = fmt.Sprintf("%s by rule %s, want rule %s", got.Verdict, got.Rule, c.Rule)
	default:
		return ""
	}
	for _, r := range x.Rules {
		if r.Err != nil {
			message += fmt.Sprintf("; rule %s: %v", r.Rule.Name, r.Err)
		}
	}
	return message
}

func (c *Case) input(analyse func(string) *access.Action) (*Input, error) {
	if words := []string{"allow", "deny", "hold"}; !slices.Contains(words, c.Expect) {
		return nil, fmt.Errorf("expect must be allow, deny or hold, not %q", c.Expect)
	}
	in := &Input{
		Principal: &access.Principal{
			Issuer: c.Principal.Issuer, Subject: c.Principal.Subject, Name: c.Principal.Name,
			Groups: c.Principal.Groups, Actor: c.Principal.Actor, Owner: c.Principal.Owner,
		},
		Target:  &access.Target{Name: c.Target.Name, Protocol: access.Protocol(c.Target.Protocol), Labels: c.Target.Labels},
		Session: Session{Role: c.Session.Role, Database: c.Session.Database, Address: c.Session.Address},
	}
	var err error
	if len(c.Principal.Claims) > 0 { // as JSON, which is what a token has
		if in.Principal.Claims, err = json.Marshal(c.Principal.Claims); err != nil {
			return nil, fmt.Errorf("the claims: %w", err)
		}
	}
	for name, n := range c.Usage {
		kind, window, _ := strings.Cut(name, "_")
		counts := map[string]*access.Counts{"minute": &in.Usage.Minute, "hour": &in.Usage.Hour, "day": &in.Usage.Day}[window]
		if counts == nil {
			counts = &access.Counts{}
			kind = ""
		}
		switch kind {
		case "requests":
			counts.Requests = n
		case "rows":
			counts.Rows = n
		case "bytes":
			counts.Bytes = n
		default:
			return nil, fmt.Errorf("usage.%s is not a variable; one is usage.requests_minute", clip(name, 100))
		}
	}
	if c.Time != "" {
		if in.Time, err = time.Parse(time.RFC3339, c.Time); err != nil {
			return nil, fmt.Errorf("time must be in the form 2026-03-02T09:00:00Z, not %q", c.Time)
		}
	}
	if c.Session.Age != "" {
		age, err := time.ParseDuration(c.Session.Age)
		switch {
		case err != nil:
			return nil, fmt.Errorf("session.age must be a duration such as 5m, not %q", c.Session.Age)
		case in.Time.IsZero():
			return nil, errors.New("session.age needs the time of the case")
		}
		in.Session.Began = in.Time.Add(-age)
	}
	in.Action, err = c.Action.action(analyse)
	return in, err
}

func (c *CaseAction) action(analyse func(string) *access.Action) (*access.Action, error) {
	op := c.Op
	if op == "" {
		op = "query"
	}
	a := &access.Action{Op: op, Text: c.Text, HasFilter: c.HasFilter, Understood: !c.Opaque, Fingerprint: c.Fingerprint}
	if c.SQL != "" {
		if c.Text != "" || c.Effects != nil || c.Statements != nil || c.HasFilter || c.Opaque || c.Fingerprint != "" {
			return nil, errors.New("action has sql, whose analysis says what else is given")
		}
		if analyse == nil {
			return nil, errors.New("action has sql, and there is nothing to analyse it with")
		}
		analysed := analyse(c.SQL)
		if analysed == nil {
			return nil, errors.New("the analysis of sql says nothing")
		}
		one := *analysed
		a = &one
		a.Op, a.Text = op, c.SQL
	}
	a.Found, a.Infers = c.PersonalData, c.Infers
	for _, p := range c.Parameters {
		switch p.(type) {
		case nil, string, []byte:
		default:
			p = fmt.Sprint(p)
		}
		a.Parameters = append(a.Parameters, p)
	}
	if c.SQL != "" {
		return a, nil
	}
	return a, c.explicit(a)
}

// explicit fills in what the case says of the action itself.
func (c *CaseAction) explicit(a *access.Action) error {
	var err error
	if a.Effects, err = parseEffects(c.Effects); err != nil {
		return err
	}
	for _, cs := range c.Statements {
		s := access.Statement{Verb: cs.Verb, Inner: cs.Inner, Columns: cs.Columns, HasFilter: cs.HasFilter, Understood: !cs.Opaque}
		if s.Effects, err = parseEffects(cs.Effects); err != nil {
			return err
		}
		for _, co := range cs.Objects {
			o := access.Object{Kind: co.Kind, Schema: co.Schema, Name: co.Name}
			if o.Effects, err = parseEffects(co.Effects); err != nil {
				return err
			}
			s.Objects = append(s.Objects, o)
		}
		a.Effects |= s.Effects
		a.Understood = a.Understood && s.Understood
		a.Statements = append(a.Statements, s)
	}
	return nil
}

func parseEffects(names []string) (all access.Effects, err error) {
	for _, n := range names {
		e, ok := access.ParseEffect(n)
		if !ok {
			p := Problem{Message: fmt.Sprintf("no effect is named %q", n), Suggestion: Nearest(n, effectNames)}
			return 0, errors.New(p.String())
		}
		all |= e
	}
	return all, nil
}
