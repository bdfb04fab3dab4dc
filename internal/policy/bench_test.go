package policy

import (
	"testing"

	"github.com/gatebook/gatebook/internal/access"
)

// typical is a policy of ten rules.
var typical = []Rule{
	{Name: "read", When: `"agents" in principal.groups && action.effects == ["read"]`, Then: access.Allow},
	{Name: "transactions", When: `!action.opaque && action.effects.all(e, e in ["read", "transaction", "session"])`, Then: access.Allow},
	{Name: "orders", When: `target.name == "orders" && "writers" in principal.groups && "write" in action.effects && action.has_filter`, Then: access.Allow},
	{Name: "schema", When: `"schema" in action.effects`},
	{Name: "server", When: `action.effects.exists(e, e in ["execute", "file", "network", "admin", "access"])`},
	{Name: "opaque", When: `action.opaque`},
	{Name: "bulk", When: `"write" in action.effects && !action.has_filter`},
	{Name: "people", When: `action.relations.exists(r, r == "public.people") && !("support" in principal.groups)`},
	{Name: "prod", When: `target.labels.env == "prod" && "write" in action.effects`, Then: access.Hold},
	{Name: "secrets", When: `action.privileged`},
}

func pointRead() *Input {
	in := sampleInput()
	in.Action = &access.Action{
		Op: "query", Text: "SELECT name FROM orders WHERE id = 1", Understood: true, HasFilter: true, Effects: access.EffectRead, Fingerprint: "18:ab",
		Statements: []access.Statement{{
			Verb: "SELECT", Effects: access.EffectRead, HasFilter: true, Understood: true, Columns: []string{"orders.name", "orders.id"},
			Objects: []access.Object{object("relation", "", "orders", access.EffectRead)},
		}},
	}
	return in
}

func BenchmarkDecide(b *testing.B) {
	claims, err := DecodeClaims(sampleInput().Principal.Claims)
	if err != nil {
		b.Fatal(err)
	}
	bench := func(name string, packs []string, rules []Rule, decoded map[string]any) {
		b.Run(name, func(b *testing.B) {
			p, in := mustCompile(b, packs, rules...), pointRead()
			in.Claims = decoded
			b.ReportAllocs()
			for b.Loop() {
				if d := p.Decide(in); d.Verdict != access.Allow {
					b.Fatal(d)
				}
			}
		})
	}
	one := func(when string) []Rule { return []Rule{{Name: "a", When: when, Then: access.Allow}} }
	bench("ten-rules", nil, typical, nil)
	bench("all-packs", packNames(), nil, nil)
	bench("true", nil, one("true"), nil)
	bench("in-effects", nil, one(`"read" in action.effects`), nil)
	bench("all-effects", nil, one(`action.effects.all(e, e in ["read", "transaction"])`), nil)
	bench("objects", nil, one(`action.objects.exists(o, o.name == "orders" && "read" in o.effects)`), nil)
	bench("zone", nil, one(`time.getHours("Europe/Berlin") == 11`), nil)
	bench("claims", nil, one(`principal.claims.team == "core"`), nil)
	bench("claims-decoded", nil, one(`principal.claims.team == "core"`), claims)
}

// TestDecideIsCheap holds the budget of allocations, and that no rule of a
// typical policy makes lists that it does not read.
func TestDecideIsCheap(t *testing.T) {
	p, in := mustCompile(t, nil, typical...), pointRead()
	if d := p.Decide(in); d.Verdict != access.Allow || d.Rule != "read" {
		t.Fatalf("got %+v", d)
	}
	const most = 30
	if n := testing.AllocsPerRun(200, func() { p.Decide(in) }); n > most {
		t.Errorf("%v allocations, at most %d", n, most)
	}
}

func BenchmarkCompile(b *testing.B) {
	if _, err := environment(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Compile(Source{Rules: typical, Packs: packNames()}); err != nil {
			b.Fatal(err)
		}
	}
}
