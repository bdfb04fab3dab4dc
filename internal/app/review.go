package app

import (
	"maps"
	"slices"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/judge"
	"github.com/gatebook/gatebook/internal/policy"
)

// reviewer says what a recorded configuration lets principals do, by the same
// admission and the same rules that the door applies. It implements admin.Reviewer.
type reviewer struct {
	names    []string
	issuers  map[string]bool
	snapshot *enforce.Snapshot
	rules    *policy.Reviewer
}

func newReviewer(c *evidence.Config) (admin.Reviewer, error) {
	recorded, err := judge.Configuration(c)
	if err != nil {
		return nil, err
	}
	r := &reviewer{issuers: make(map[string]bool), snapshot: &enforce.Snapshot{Targets: make(map[string]*enforce.Target)}, rules: recorded.Policy.Reviewer()}
	for i := range recorded.Config.Issuers {
		r.issuers[recorded.Config.Issuers[i].Name] = true
	}
	for i := range recorded.Config.Targets {
		t := &recorded.Config.Targets[i]
		roles := make(map[string]enforce.Role, len(t.Roles))
		for name, role := range t.Roles {
			roles[name] = enforce.Role{Allow: role.Allow}
		}
		r.snapshot.Targets[t.Name] = &enforce.Target{Target: plainTarget(t), Allow: t.Allow, Roles: roles}
	}
	r.names = slices.Sorted(maps.Keys(r.snapshot.Targets))
	return r, nil
}

// Targets implements admin.Reviewer.
func (r *reviewer) Targets() []string { return r.names }

// Review implements admin.Reviewer.
func (r *reviewer) Review(p *access.Principal) (list []admin.Access) {
	for _, name := range r.names {
		for _, role := range slices.Sorted(maps.Keys(r.snapshot.Targets[name].Roles)) {
			a := admin.Access{Target: name, Role: role}
			// A principal whose issuer was not configured could not log in at all.
			if t, _, err := r.snapshot.Admit(p, name, role); err == nil && r.issuers[p.Issuer] {
				a.Admitted = true
				fill(&a, r.rules.Review(&policy.Known{Principal: p, Target: &t.Target, Role: role}))
			}
			list = append(list, a)
		}
	}
	return list
}

// ReviewSession implements admin.Reviewer.
func (r *reviewer) ReviewSession(p *access.Principal, t *access.Target, role string) admin.Access {
	a := admin.Access{Target: t.Name, Role: role}
	fill(&a, r.rules.Review(&policy.Known{Principal: p, Target: t, Role: role}))
	return a
}

// fill says what requests get.
func fill(a *admin.Access, x *policy.Outlook) {
	for _, name := range access.EffectNames() {
		e, _ := access.ParseEffect(name)
		a.Effects = append(a.Effects, admin.EffectAccess{Effect: name, VerdictRange: verdicts(x.Requests(e))})
	}
	opaque := verdicts(x.Opaque())
	a.Opaque = &opaque
}

func verdicts(r policy.Range) admin.VerdictRange {
	return admin.VerdictRange{
		Strictest: admin.Verdict{Verdict: r.Strictest.Verdict.String(), Rules: r.Strictest.Rules},
		Mildest:   admin.Verdict{Verdict: r.Mildest.Verdict.String(), Rules: r.Mildest.Rules},
	}
}
