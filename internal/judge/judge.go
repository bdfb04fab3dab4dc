// Package judge decides recorded requests again: for verifiers, by the policy
// that the record says was in force, and for operators, by one that they try out.
//
// It is pure, and safe for concurrent use.
package judge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/identity"
	"github.com/gatebook/gatebook/internal/policy"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

// Judge implements evidence.Judge.
type Judge struct{}

// Policy implements evidence.Judge. Its error says that the recorded text is not that of a policy, or not the one of its digest.
func (Judge) Policy(c *evidence.Config) (evidence.Policy, error) {
	if got := config.Digest(c.Files); got != c.SHA256 {
		return nil, fmt.Errorf("its files have the digest %s, it names %s", got, c.SHA256)
	}
	recorded, err := Configuration(c)
	if err != nil {
		return nil, err
	}
	return Recorded{recorded.Policy, &recorded.Config}, nil
}

// Configuration reads a recorded configuration, with its packs as they were then. It does not look at the digest.
func Configuration(c *evidence.Config) (*config.Recorded, error) {
	packs, err := rules(c.Packs)
	if err != nil {
		return nil, err
	}
	return config.LoadRecorded(c.Files, c.Main, packs)
}

// rules reads the recorded rules of packs; nil where none are recorded.
func rules(list []evidence.ConfigRule) (out []policy.Rule, err error) {
	for _, r := range list {
		then, ok := access.ParseVerdict(r.Then)
		if !ok {
			return nil, fmt.Errorf("rule %s: %q is not allow, deny or hold", r.Name, r.Then)
		}
		out = append(out, policy.Rule{Name: r.Name, When: r.When, Then: then, Reason: r.Reason, Hint: r.Hint, File: "pack"})
	}
	return out, nil
}

// Recorded decides on recorded requests.
type Recorded struct {
	Policy *policy.Policy
	// Config has the people whose rulings count; nil knows nobody.
	Config *config.Config
}

// Ticket implements evidence.Policy.
func (p Recorded) Ticket(t *evidence.Ticket, bound *evidence.TicketBound) error {
	asked := make(map[string]evidence.Approvers)
	for _, q := range t.Requires {
		asked[q.Rule] = q
	}
	if len(bound.Rules) == 0 || len(asked) != len(bound.Rules) {
		return errors.New("the ticket does not ask for what its rules ask for")
	}
	for _, r := range p.Policy.Rules() {
		if !slices.Contains(bound.Rules, r.Name) || r.Then != access.Hold || r.Approvers == nil {
			continue
		}
		want := approval.RequirementEntry(r.Approvers)
		want.Rule = r.Name
		if q, ok := asked[r.Name]; !ok || !same(q, want) {
			return fmt.Errorf("the ticket does not ask for what rule %s asks for", r.Name)
		}
		delete(asked, r.Name)
	}
	for name := range asked {
		return fmt.Errorf("the ticket names rule %s, which holds nothing in the policy in force", name)
	}
	return nil
}

// same compares what two entries say.
func same(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// Ruling implements evidence.Policy.
func (p Recorded) Ruling(t *evidence.Ticket, r *evidence.Ruling, at time.Time) error {
	said, err := approval.ParseStatement(r.Proof.Statement)
	if err != nil {
		return err
	}
	if said.Ticket != t.Ticket || said.Digest != t.Digest || said.Reason != r.Reason || string(said.Verdict) != r.Verdict {
		return errors.New("what was signed is another ruling")
	}
	if p.Config == nil {
		return errors.New("the configuration knows no people")
	}
	who, signIn, err := p.prove(&r.Proof, at)
	if err != nil {
		return err
	}
	person := p.Config.PersonOf(who)
	switch {
	case person == nil || person.Person != r.Person || r.Identity != who:
		return fmt.Errorf("%s is not %s's by the configuration in force", who, r.Person)
	case !slices.Equal(person.Groups, r.Groups):
		return errors.New("the person has other groups by the configuration in force")
	case r.Verdict == string(approval.Deny):
		return nil
	}
	for _, q := range t.Requires {
		if r.Verdict == string(approval.Approve) && !slices.ContainsFunc(q.Groups, func(g string) bool { return slices.Contains(r.Groups, g) }) {
			continue
		}
		asked := approval.Requirement{Rule: q.Rule, ACR: q.ACR, AMR: q.AMR, MaxAuthAge: time.Duration(q.MaxAuthAge) * time.Second}
		if err := signIn.Satisfies(&asked, at.Add(-recorded)); err != nil {
			return err
		}
	}
	return nil
}

// recorded is how long it may take from the moment when a ruling is checked until its entry has its time.
const recorded = 5 * time.Second

// prove checks the proof of a ruling and returns whose it is: the fingerprint of a key, or "issuer|name" with the sign-in.
func (p Recorded) prove(proof *evidence.RulingProof, at time.Time) (who string, signIn *approval.SignIn, err error) {
	switch proof.Kind {
	case "ssh":
		who, _, err = approval.VerifySSH(proof.Statement, proof.Signature)
		return who, nil, err
	case "oidc":
		return p.proveToken(proof, at)
	}
	return "", nil, fmt.Errorf("a proof of the kind %q is not known", proof.Kind)
}

func (p Recorded) proveToken(proof *evidence.RulingProof, at time.Time) (string, *approval.SignIn, error) {
	nonce, err := approval.Nonce(proof.Statement, proof.Random)
	if err != nil {
		return "", nil, err
	}
	var claims struct {
		Issuer string  `json:"iss"`
		Issued float64 `json:"iat"`
	}
	payload, _, err := evidence.VerifyToken(proof.Token, proof.KeySet)
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		return "", nil, fmt.Errorf("the ID token: %w", err)
	}
	for i := range p.Config.Issuers {
		is := &p.Config.Issuers[i]
		if is.For != string(identity.People) || is.URL != claims.Issuer {
			continue
		}
		o, err := identity.FromConfig(is, "")
		if err != nil {
			return "", nil, err
		}
		s, err := identity.Reexamine(o, proof.Token, proof.KeySet, nonce, time.Unix(int64(claims.Issued), 0))
		if err != nil {
			return "", nil, fmt.Errorf("the ID token: %w", err)
		}
		if at.After(s.Expiry.Add(recorded)) {
			return "", nil, errors.New("the ID token had expired")
		}
		return s.Identity(), &approval.SignIn{At: s.AuthTime, ACR: s.ACR, AMR: s.AMR}, nil
	}
	return "", nil, fmt.Errorf("the ID token is of %q, which is no issuer for people by the configuration in force", claims.Issuer)
}

// Decide implements evidence.Policy.
func (p Recorded) Decide(r *evidence.Request) (evidence.Decided, error) {
	in, err := Input(r)
	if err != nil {
		return evidence.Decided{}, err
	}
	if p.Policy.Volatile().Usage && r.Intent.Usage == nil {
		return evidence.Decided{}, errors.New("the record does not say the principal's usage, which the policy reads")
	}
	if in.Action.Op == requestOp {
		return p.decideList(r, in.Action)
	}
	if err := sameText(r, in.Action); err != nil {
		return evidence.Decided{}, err
	}
	d := p.Policy.Decide(in)
	ruling := evidence.Decided{Decision: access.Allow.String(), Rule: d.Rule}
	switch d.Verdict {
	case access.Denied:
		ruling.Decision, ruling.Code = access.Denied.String(), string(access.CodePolicy)
	case access.Hold:
		switch {
		case len(d.Approvers) == 0: // nobody may let it through
			ruling.Decision, ruling.Code = access.Denied.String(), string(access.CodeApproval)
		case in.Action.Op != "prepare" || !in.Action.Understood: // what only prepares passes, and what executes it is held
			ruling.Decision = access.Hold.String()
			for i := range d.Approvers {
				ruling.Requires = append(ruling.Requires, approval.RequirementEntry(&d.Approvers[i]))
			}
		}
	}
	ruling.Privileged, _ = in.Action.Privileged()
	return ruling, nil
}

// Input returns what a decision on a recorded request depends on. Its error says what the record holds that no version has.
func Input(r *evidence.Request) (*policy.Input, error) {
	if r.Action == nil {
		return nil, fmt.Errorf("the record does not say what the request does")
	}
	a, err := action(r.Intent, r.Action)
	if err != nil {
		return nil, err
	}
	p, s := r.Principal, r.Session
	var used access.Usage
	if u := r.Intent.Usage; u != nil {
		used = access.Usage{Minute: access.Counts(u.Minute), Hour: access.Counts(u.Hour), Day: access.Counts(u.Day)}
	}
	return &policy.Input{
		Principal: &access.Principal{
			Issuer: p.Issuer, IssuerURL: p.IssuerURL, Subject: p.Subject, Name: p.Name, Groups: p.Groups, Actor: p.Actor, Owner: p.Owner, Claims: p.Claims,
		},
		Target: &access.Target{
			Name: s.Target.Name, Protocol: access.Protocol(s.Target.Protocol), Address: s.Target.Address, Labels: s.Target.Labels,
		},
		Session: policy.Session{Role: s.Role, Database: s.Database, Address: s.Source, Began: s.Began},
		Action:  a, Time: r.Intent.Decided, Usage: used,
	}, nil
}

func action(in *evidence.Intent, does *evidence.Action) (*access.Action, error) {
	a := &access.Action{
		Op: in.Op, Text: in.Text, Detail: in.Detail, Understood: !in.Opaque, Why: does.Why, HasFilter: does.HasFilter, Fingerprint: does.Fingerprint,
	}
	a.Infers = in.Infers
	if in.Sensitive != nil {
		a.Found = in.Sensitive.Found
	}
	var err error
	if a.Effects, err = effects(does.Effects); err != nil {
		return nil, err
	}
	for i := range does.Statements {
		from := &does.Statements[i]
		st := access.Statement{Verb: from.Verb, Inner: from.Inner, Columns: from.Columns, HasFilter: from.HasFilter, Understood: !from.Opaque}
		if st.Effects, err = effects(from.Effects); err != nil {
			return nil, err
		}
		for _, o := range from.Objects {
			e, err := effects(o.Effects)
			if err != nil {
				return nil, err
			}
			st.Objects = append(st.Objects, access.Object{Kind: o.Kind, Schema: o.Schema, Name: o.Name, Effects: e})
		}
		a.Statements = append(a.Statements, st)
	}
	return a, nil
}

func effects(names []string) (all access.Effects, err error) {
	for _, name := range names {
		e, ok := access.ParseEffect(name)
		if !ok {
			return 0, fmt.Errorf("no effect is named %q", name)
		}
		all |= e
	}
	return all, nil
}

// grammar begins the fingerprints of PostgreSQL's texts that this version can make again.
const grammar = "pg18:"

// texts are what grammar alone says of texts; requests repeat.
var texts = sqlscan.Cache[*reading]{Bytes: 16 << 20, Make: func(text string) *reading {
	return &reading{sqlscan.Analyse(text), sqlscan.Fingerprint(text, grammar)}
}}

type reading struct {
	scan        *sqlscan.Scan
	fingerprint string
}

// sameText checks that a recorded action can be what its recorded text does: the fingerprint is the text's, the commands are, and
// no effect that the text itself shows is missing. What names stood for at the target is the record's word.
func sameText(r *evidence.Request, a *access.Action) error {
	switch {
	case r.Session.Target.Protocol != string(access.Postgres), a.Op != "query" && a.Op != "execute" && a.Op != "prepare" && a.Op != "bind":
		return nil // other forms have no text
	case a.Fingerprint != "" && !strings.HasPrefix(a.Fingerprint, grammar):
		return nil // by the grammar of another version
	case a.Fingerprint == "" && !a.Understood:
		return nil // nothing is said of it, which is the strictest
	}
	have := texts.Get(a.Text)
	if have.fingerprint != a.Fingerprint {
		return errors.New("the recorded action is that of another text")
	}
	if have.scan.Opaque == "" && len(have.scan.Statements) != len(a.Statements) {
		return errors.New("the recorded action has other statements than the text")
	}
	for i := range have.scan.Statements {
		if st := &have.scan.Statements[i]; st.Verb != a.Statements[i].Verb || !slices.Equal(st.Inner, a.Statements[i].Inner) {
			return errors.New("the recorded action has other statements than the text")
		}
	}
	if missing := have.scan.Effects() &^ access.EffectExecute &^ a.Effects; missing != 0 {
		return fmt.Errorf("the recorded action lacks what the text does: %s", missing)
	}
	return nil
}
