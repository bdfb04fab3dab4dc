package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/engine/postgres"
	"github.com/gatebook/gatebook/internal/policy"
)

const (
	// maxSQL bounds what is read from standard input; the analysis reads less.
	maxSQL = 1 << 20
	// asWritten is what every explanation must be read with.
	asWritten = "Names are taken as written: no target was asked. At the gateway, what stands behind a name (a view, a function, a trigger) " +
		"can add effects, and a name that the target does not know counts as unknown code."
)

// question is what policy explain is asked.
type question struct {
	target, role, database, address string
	principal, issuer, owner        string
	groups, params                  []string
	claims, time, format            string
	age                             time.Duration
}

func (e *env) policyExplainCmd() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "explain --target NAME [flags] SQL",
		Short: "Explain what a statement does and what the policy says of it",
		Long: `Shows what a statement does, in the variables that rules read, which rules match, and the decision. SQL "-" reads the statement
from standard input.

Nothing is sent anywhere. ` + asWritten + `

Exit code 0, whatever the decision is.`,
		Example: `  gatebook policy explain --target orders --group agents "DELETE FROM people"
  gatebook policy explain --target orders --principal bot --claims '{"team":"core"}' --time 2026-03-02T09:00:00Z - < query.sql`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage(fmt.Errorf("no SQL; give the statement as an argument, or - for standard input; see %s --help", cmd.CommandPath()))
			case len(args) > 1:
				return usage(fmt.Errorf("%d arguments where one statement is expected; put it in quotes", len(args)))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			switch q.format {
			case "json":
				e.json = true
			case "text":
			default:
				return usage(fmt.Errorf("unknown format %q; known are text, json", q.format))
			}
			sql, err := e.statement(args[0])
			if err != nil {
				return err
			}
			x, err := e.explain(&q, sql)
			if err != nil {
				return err
			}
			if e.json {
				return e.printJSON(x)
			}
			return x.print(e.stdout)
		},
	}
	f := c.Flags()
	f.StringVar(&q.target, "target", "", "target of the configuration (default: its only one)")
	f.StringVar(&q.role, "role", "", "role at the target (default: its only one, or \"default\")")
	f.StringVar(&q.database, "database", "", "database (default: the target's)")
	f.StringVar(&q.principal, "principal", "", "the agent's name within its issuer")
	f.StringVar(&q.issuer, "issuer", "", "issuer of the configuration (default: its only one)")
	f.StringArrayVar(&q.groups, "group", nil, "a group of the agent; repeat it for more")
	f.StringVar(&q.claims, "claims", "", "claims of the token, a JSON object; name, groups and owner are not taken from it")
	f.StringVar(&q.owner, "owner", "", "the person behind the agent")
	f.StringVar(&q.address, "address", "", "the agent's address, host:port")
	f.DurationVar(&q.age, "age", 0, "time since the session began, such as 5m")
	f.StringVar(&q.time, "time", "", "time of the decision, such as 2026-03-02T09:00:00Z (default: now)")
	f.StringArrayVar(&q.params, "param", nil, "value of a parameter, $1 first; repeat it for more")
	f.StringVar(&q.format, "format", "text", "text or json")
	e.jsonFlag(c)
	return c
}

// statement returns the statement of the command line, or that of standard input.
func (e *env) statement(arg string) (string, error) {
	sql, from := arg, "the argument"
	if arg == "-" {
		text, err := io.ReadAll(io.LimitReader(e.stdin, maxSQL+1))
		if err != nil {
			return "", err
		}
		if len(text) > maxSQL {
			return "", fmt.Errorf("standard input holds more than %d bytes", maxSQL)
		}
		sql, from = string(text), "standard input"
	}
	switch {
	case strings.TrimSpace(sql) == "":
		return "", usage(fmt.Errorf("no SQL: %s is empty", from))
	case !utf8.ValidString(sql) || strings.ContainsRune(sql, 0):
		return "", usage(fmt.Errorf("%s is not text in UTF-8, which the gateway refuses", from))
	}
	return sql, nil
}

// explain asks the policy.
func (e *env) explain(q *question, sql string) (*explanation, error) {
	at, err := parseTime(q.time)
	if err != nil {
		return nil, err
	}
	if q.time == "" {
		at = time.Now().UTC().Truncate(time.Second)
	}
	if q.age < 0 {
		return nil, usage(errors.New("--age must not be negative"))
	}
	if q.claims != "" {
		var claims map[string]any
		if err := json.Unmarshal([]byte(q.claims), &claims); err != nil || claims == nil {
			return nil, usage(errors.New(`--claims is not a JSON object such as {"team": "core"}`))
		}
	}
	cfg, err := e.load()
	if err != nil {
		return nil, err
	}
	t, err := q.configured(cfg)
	if err != nil {
		return nil, err
	}
	p := &access.Principal{Issuer: q.issuer, Name: q.principal, Groups: q.groups, Owner: q.owner, Claims: json.RawMessage(q.claims)}
	a := postgres.Action(sql)
	if len(q.params) > 0 {
		a.Op = "execute"
	}
	for _, v := range q.params {
		a.Parameters = append(a.Parameters, v)
	}
	x := cfg.Policy.Explain(&policy.Input{
		Principal: p, Action: a, Time: at,
		Target:  &access.Target{Name: t.Name, Protocol: access.Protocol(t.Protocol), Address: t.Address, Labels: t.Labels},
		Session: policy.Session{Role: q.role, Database: q.database, Address: q.address, Began: at.Add(-q.age)},
	})
	out := &explanation{
		Note: asWritten, Action: newAction(a), Rules: []ruleResult{}, Decision: newDecision(&x.Decision),
		Principal: principal{q.issuer, q.principal, append([]string{}, q.groups...), q.owner, json.RawMessage(q.claims)},
		Target:    target{t.Name, t.Protocol, t.Labels},
		Session:   session{q.role, q.database, q.address, q.age.String()}, Time: at,
		LogIn: logIn(p, t, q.role),
	}
	for i := range x.Rules {
		out.Rules = append(out.Rules, newRuleResult(&x.Rules[i]))
	}
	out.own(a)
	return out, nil
}

// configured looks up what the question names in the configuration, and fills in what it leaves out.
func (q *question) configured(cfg *config.Loaded) (*config.Target, error) {
	if q.target == "" {
		if len(cfg.Targets) != 1 {
			names := make([]string, len(cfg.Targets))
			for i := range cfg.Targets {
				names[i] = cfg.Targets[i].Name
			}
			return nil, usage(fmt.Errorf("choose a target with --target; the configuration has%s", listedOrNone(names)))
		}
		q.target = cfg.Targets[0].Name
	}
	t, err := findTarget(cfg, q.target)
	if err != nil {
		return nil, err
	}
	if q.role, err = pickRole(t, q.role); err != nil {
		return nil, err
	}
	if q.database == "" {
		q.database = t.Database
	}
	issuers := make([]string, len(cfg.Issuers))
	for i := range cfg.Issuers {
		issuers[i] = cfg.Issuers[i].Name
	}
	switch {
	case q.issuer != "" && !slices.Contains(issuers, q.issuer):
		return nil, fmt.Errorf("no issuer named %q in the configuration%s", q.issuer, didYouMean(q.issuer, issuers))
	case q.issuer == "" && len(issuers) == 1:
		q.issuer = issuers[0]
	case q.issuer == "" && q.principal != "":
		return nil, usage(fmt.Errorf("choose the issuer of %q with --issuer; the configuration has%s", q.principal, listedOrNone(issuers)))
	}
	return t, nil
}

func listedOrNone(names []string) string {
	if len(names) == 0 {
		return " none"
	}
	return " " + strings.Join(names, ", ")
}

// logIn says why such a principal would not get in, "" if it would.
func logIn(p *access.Principal, t *config.Target, role string) string {
	if !p.InAny(t.Allow) {
		return fmt.Sprintf("none of the groups (%s) is in the target's allow (%s)", orNone(p.Groups), orNone(t.Allow))
	}
	if r := t.Roles[role]; r.Allow != nil && !p.InAny(r.Allow) {
		return fmt.Sprintf("none of the groups (%s) is in the role's allow (%s)", orNone(p.Groups), orNone(r.Allow))
	}
	return ""
}

// explanation is the answer of policy explain.
type explanation struct {
	Note      string       `json:"note"`
	Action    *action      `json:"action"`
	Principal principal    `json:"principal"`
	Target    target       `json:"target"`
	Session   session      `json:"session"`
	Time      time.Time    `json:"time"`
	LogIn     string       `json:"log_in_refused,omitempty"` // why, "" if it would not be
	Rules     []ruleResult `json:"rules"`
	Decision  *decision    `json:"decision"`
}

type principal struct {
	Issuer string          `json:"issuer"`
	Name   string          `json:"name"`
	Groups []string        `json:"groups"`
	Owner  string          `json:"owner,omitempty"`
	Claims json.RawMessage `json:"claims,omitempty"`
}

type target struct {
	Name     string            `json:"name"`
	Protocol string            `json:"protocol"`
	Labels   map[string]string `json:"labels,omitempty"`
}

type session struct {
	Role     string `json:"role"`
	Database string `json:"database,omitempty"`
	Address  string `json:"address,omitempty"`
	Age      string `json:"age"`
}

// Results of rules.
const (
	matches      = "matches"
	matchesNot   = "does not match"
	notEvaluated = "could not be evaluated"
)

// ruleResult is what came of one rule.
type ruleResult struct {
	ruleLine
	Result string `json:"result"`
	// Counts: it counts for the decision; one that could not be evaluated does unless it allows.
	Counts bool   `json:"counts"`
	Error  string `json:"error,omitempty"`
}

func newRuleResult(r *policy.RuleResult) ruleResult {
	out := ruleResult{ruleLine: lineOf(&r.Rule), Result: matchesNot, Counts: r.Matched}
	switch {
	case r.Err != nil:
		out.Result, out.Error = notEvaluated, r.Err.Error()
	case r.Matched:
		out.Result = matches
	}
	return out
}

// decision is a decision as the commands print it.
type decision struct {
	Verdict string   `json:"verdict"`
	Rule    string   `json:"rule"`
	Reason  string   `json:"reason,omitempty"`
	Hint    string   `json:"hint,omitempty"`
	Matched []string `json:"matched"`
	// Own: the gateway itself decides, and no rule is asked.
	Own bool `json:"gateway,omitempty"`
}

func newDecision(d *access.Decision) *decision {
	return &decision{d.Verdict.String(), d.Rule, d.Reason, d.Hint, append([]string{}, d.Matched...), false}
}

// own puts in place of the policy's decision what the gateway says whatever the policy is.
func (x *explanation) own(a *access.Action) {
	switch {
	case a.Refuse != nil:
		x.Decision = &decision{access.Denied.String(), a.Refuse.Rule, a.Refuse.Reason, a.Refuse.Hint, []string{}, true}
	case a.Own != "":
		x.Decision = &decision{access.Allow.String(), a.Own, "it concerns the gateway alone", "", []string{}, true}
	}
}

// action is an action by the variables that rules read.
type action struct {
	Op         string   `json:"op"`
	Effects    []string `json:"effects"`
	Verbs      []string `json:"verbs"`
	Relations  []string `json:"relations"`
	Functions  []string `json:"functions"`
	Columns    []string `json:"columns"`
	Parameters []any    `json:"parameters,omitempty"`
	HasFilter  bool     `json:"has_filter"`
	// Opaque and Privileged say why it is, "" if it is not.
	Opaque      string       `json:"opaque,omitempty"`
	Privileged  string       `json:"privileged,omitempty"`
	Fingerprint string       `json:"fingerprint,omitempty"`
	Statements  []actionPart `json:"statements"`
}

type actionPart struct {
	Verb      string         `json:"verb"`
	Effects   []string       `json:"effects"`
	HasFilter bool           `json:"has_filter"`
	Opaque    bool           `json:"opaque"`
	Objects   []actionObject `json:"objects"`
	Columns   []string       `json:"columns"`
}

type actionObject struct {
	Kind    string   `json:"kind"`
	Schema  string   `json:"schema,omitempty"`
	Name    string   `json:"name"`
	Effects []string `json:"effects"`
}

// name returns the object's name as action.relations has it.
func (o *actionObject) name() string {
	if o.Schema == "" {
		return o.Name
	}
	return o.Schema + "." + o.Name
}

func newAction(a *access.Action) *action {
	out := &action{
		Op: a.Op, Effects: a.Effects.Names(), Parameters: a.Parameters, HasFilter: a.HasFilter, Fingerprint: a.Fingerprint,
		Verbs: []string{}, Relations: []string{}, Functions: []string{}, Columns: []string{}, Statements: []actionPart{},
	}
	if !a.Understood {
		if out.Opaque = a.Why; a.Why == "" {
			out.Opaque = "no reason is known"
		}
	}
	_, out.Privileged = a.Privileged()
	once := func(list *[]string, name string) {
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
	for i := range a.Statements {
		st := &a.Statements[i]
		part := actionPart{
			st.Verb, st.Effects.Names(), st.HasFilter, !st.Understood, make([]actionObject, 0, len(st.Objects)), append([]string{}, st.Columns...),
		}
		once(&out.Verbs, st.Verb)
		for _, verb := range st.Inner {
			once(&out.Verbs, verb)
		}
		for j := range st.Objects {
			o := actionObject{st.Objects[j].Kind, st.Objects[j].Schema, st.Objects[j].Name, st.Objects[j].Effects.Names()}
			part.Objects = append(part.Objects, o)
			switch o.Kind {
			case "relation":
				once(&out.Relations, o.name())
			case "function":
				once(&out.Functions, o.name())
			}
		}
		for _, c := range st.Columns {
			once(&out.Columns, c)
		}
		out.Statements = append(out.Statements, part)
	}
	return out
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// print writes an explanation for a person.
func (x *explanation) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	x.printAction(w)
	x.printInput(w)
	x.printRules(w)
	d := x.Decision
	fmt.Fprintf(w, "Decision: %s by %s", d.Verdict, d.Rule)
	if d.Own {
		fmt.Fprint(w, ", which is the gateway's own: no rule is asked")
	}
	fmt.Fprintln(w)
	row(w, "reason", d.Reason)
	row(w, "hint", d.Hint)
	fmt.Fprintf(w, "\n%s\n", asWritten)
	return w.Flush()
}

// row writes a line of two columns, unless it would be empty.
func row(w io.Writer, label, text string) {
	if text != "" {
		fmt.Fprintf(w, "  %s\t%s\n", label, printable(text))
	}
}

func (x *explanation) printAction(w io.Writer) {
	a := x.Action
	fmt.Fprintln(w, "What it does, as rules see it")
	row(w, "action.effects", orNone(a.Effects))
	row(w, "action.verbs", orNone(a.Verbs))
	row(w, "action.relations", strings.Join(a.Relations, ", "))
	row(w, "action.functions", strings.Join(a.Functions, ", "))
	row(w, "action.columns", strings.Join(a.Columns, ", "))
	if len(a.Parameters) > 0 {
		row(w, "action.parameters", fmt.Sprintf("%q", a.Parameters))
	}
	row(w, "action.has_filter", fmt.Sprint(a.HasFilter))
	row(w, "action.opaque", because(a.Opaque))
	row(w, "action.privileged", because(a.Privileged))
	row(w, "action.fingerprint", a.Fingerprint)
	fmt.Fprintln(w)
	for i := range a.Statements {
		st := &a.Statements[i]
		fmt.Fprintf(w, "Statement %d: %s\n", i+1, printable(st.Verb))
		row(w, "effects", orNone(st.Effects))
		if len(a.Statements) > 1 {
			row(w, "has_filter", fmt.Sprint(st.HasFilter))
			row(w, "opaque", fmt.Sprint(st.Opaque))
		}
		for j := range st.Objects {
			o := &st.Objects[j]
			row(w, printable(o.Kind)+" "+printable(o.name()), orNone(o.Effects))
		}
		fmt.Fprintln(w)
	}
}

// because says whether something is so, and why.
func because(why string) string {
	if why == "" {
		return "false"
	}
	return "true: " + why
}

func (x *explanation) printInput(w io.Writer) {
	fmt.Fprintln(w, "Who asks")
	id := "not given"
	if x.Principal.Name != "" {
		id = x.Principal.Issuer + "|" + x.Principal.Name
	}
	row(w, "principal.id", id)
	row(w, "principal.groups", orNone(x.Principal.Groups))
	row(w, "principal.owner", x.Principal.Owner)
	row(w, "principal.claims", string(x.Principal.Claims))
	row(w, "target.name", x.Target.Name)
	labels := make([]string, 0, len(x.Target.Labels))
	for k, v := range x.Target.Labels {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	row(w, "target.labels", strings.Join(labels, ", "))
	row(w, "session.role", x.Session.Role)
	row(w, "session.database", x.Session.Database)
	row(w, "session.address", x.Session.Address)
	row(w, "session.age", x.Session.Age)
	row(w, "time", x.Time.Format("Mon "+time.RFC3339))
	if x.LogIn != "" {
		row(w, "note", "this agent would not get in: "+x.LogIn)
	}
	fmt.Fprintln(w)
}

func (x *explanation) printRules(w io.Writer) {
	fmt.Fprintln(w, "Rules")
	if len(x.Rules) == 0 {
		fmt.Fprintln(w, "  the configuration has none")
	}
	for _, result := range []string{matches, notEvaluated, matchesNot} {
		for _, r := range x.Rules {
			if r.Result != result {
				continue
			}
			text := result
			if r.Error != "" {
				text += ", so that it does not count: "
				if r.Counts {
					text = result + ", so that it counts as matched: "
				}
				text += r.Error
			}
			fmt.Fprintf(w, "  %s %s\t%s\t%s\n", r.Then, r.Name, r.place(), printable(text))
		}
	}
	fmt.Fprintln(w)
}
