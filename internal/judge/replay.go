package judge

import (
	"cmp"
	"slices"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/policy"
)

// Verdict is a decision with the rule behind it.
type Verdict struct {
	Verdict string `json:"verdict"` // "allow", "deny" or "hold"
	Rule    string `json:"rule"`
}

// Example is one request of a group.
type Example struct {
	Index     uint64 `json:"index"` // of its intent in the book
	Principal string `json:"principal"`
	Target    string `json:"target"`
	Text      string `json:"text"`
	Reason    string `json:"reason,omitempty"` // the new rule's
}

// Group is what a new policy would have decided otherwise, in one way.
type Group struct {
	Before   Verdict `json:"before"`
	After    Verdict `json:"after"`
	Requests uint64  `json:"requests"`
	// Principals and Targets count the requests of each, Shapes the kinds of statements (fingerprints).
	Principals map[string]uint64 `json:"principals"`
	Targets    map[string]uint64 `json:"targets"`
	Shapes     int               `json:"shapes"`
	Examples   []Example         `json:"examples"`

	shapes map[string]bool
}

// maxExamples bounds the examples of a group; each is of another kind of statement. maxCounted bounds what a group tells apart.
const (
	maxExamples = 5
	maxCounted  = 10_000
)

// Replay is what a policy would have decided for recorded requests. Used by one goroutine.
type Replay struct {
	policy *policy.Policy

	Requests uint64 `json:"requests"` // decided by a policy, then and now
	Same     uint64 `json:"same"`     // with the same verdict by the same rule
	// Renamed got the same verdict by another rule.
	Renamed uint64 `json:"same_verdict_other_rule"`
	// Own were answered by the gateway itself (limits, protocol), which no policy changes.
	Own uint64 `json:"gateway_own"`
	// Left could not be decided, by reason.
	Left    map[string]uint64 `json:"left_out"`
	changed map[[2]Verdict]*Group
}

// NewReplay returns a replay of a policy.
func NewReplay(p *policy.Policy) *Replay {
	return &Replay{policy: p, Left: map[string]uint64{}, changed: map[[2]Verdict]*Group{}}
}

// Add decides on one recorded request.
func (r *Replay) Add(q *evidence.Request) error {
	before := Verdict{q.Header.Decision, q.Intent.Rule}
	switch code := q.Intent.Code; {
	case code == string(access.CodeApproval):
		before.Verdict = access.Hold.String()
	case before.Verdict == "deny" && code != string(access.CodePolicy), evidence.Unjudged(q.Intent), q.Intent.Op == requestOp: // what a list asks for comes by itself
		r.Own++
		return nil
	}
	if q.Action == nil || q.Intent.Decided.IsZero() {
		r.Left["they were recorded by a version that did not say what a decision depends on"]++
		return nil
	}
	if q.Intent.Usage == nil && r.policy.Volatile().Usage {
		r.Left["the new policy reads the principal's usage, which is recorded only while a policy reads it"]++
		return nil
	}
	in, err := Input(q)
	if err != nil {
		return err
	}
	d := r.policy.Decide(in)
	after := Verdict{d.Verdict.String(), d.Rule}
	r.Requests++
	switch {
	case before == after:
		r.Same++
		return nil
	case before.Verdict == after.Verdict:
		r.Renamed++
		return nil
	}
	g := r.changed[[2]Verdict{before, after}]
	if g == nil {
		g = &Group{Before: before, After: after, Principals: map[string]uint64{}, Targets: map[string]uint64{}, shapes: map[string]bool{}}
		r.changed[[2]Verdict{before, after}] = g
	}
	g.add(q, &d)
	return nil
}

func (g *Group) add(q *evidence.Request, d *access.Decision) {
	g.Requests++
	principal, target := q.Principal.Issuer+"|"+q.Principal.Name, q.Session.Target.Name
	count(g.Principals, principal)
	count(g.Targets, target)
	shape := q.Action.Fingerprint
	if shape == "" {
		shape = q.Intent.Text
	}
	if g.shapes[shape] {
		return
	}
	if len(g.shapes) < maxCounted {
		g.shapes[shape] = true
		g.Shapes++
	}
	if len(g.Examples) < maxExamples {
		g.Examples = append(g.Examples, Example{q.Header.Index, principal, target, q.Intent.Text, d.Reason})
	}
}

func count(m map[string]uint64, key string) {
	if _, known := m[key]; !known && len(m) >= maxCounted {
		key = "others"
	}
	m[key]++
}

// Groups returns what would have changed, what is looser first, and then by the number of requests.
func (r *Replay) Groups() []*Group {
	list := make([]*Group, 0, len(r.changed))
	for _, g := range r.changed {
		list = append(list, g)
	}
	looser := func(g *Group) int {
		before, _ := access.ParseVerdict(g.Before.Verdict)
		after, _ := access.ParseVerdict(g.After.Verdict)
		return int(before) - int(after)
	}
	slices.SortFunc(list, func(a, b *Group) int {
		return cmp.Or(cmp.Compare(looser(a), looser(b)), cmp.Compare(b.Requests, a.Requests),
			cmp.Compare(a.Before.Rule, b.Before.Rule), cmp.Compare(a.After.Rule, b.After.Rule))
	})
	return list
}
