package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatebook/gatebook/internal/access"
)

// outlookCases are conditions that mix what is known of a request before it is made with what is not.
var outlookCases = []string{
	`true`, `false`, `"agents" in principal.groups`, `"writers" in principal.groups && "write" in action.effects`,
	`action.effects.all(e, e in ["read", "transaction", "session"])`, `action.effects == ["read", "write"]`, `action.effects.size() > 2`,
	`action.effects[0] == "write"`, `action.effects[2] == "schema"`, `action.effects.exists_one(e, e == "read" || e == "schema")`,
	`action.effects.map(e, e + "s").exists(e, e == "writes")`, `["read"].all(e, e in action.effects && action.has_filter)`,
	`action.privileged`, `!action.privileged && principal.owner == "ana"`, `action.has_filter ? "write" in action.effects : "read" in action.effects`,
	`principal.groups.all(g, g != action.text)`, `principal.groups.exists(g, g == action.op)`, `principal.groups[action.parameters.size()] == "agents"`,
	`principal.claims.team == "core"`, `principal.claims.?team.orValue(action.op) == "core"`, `principal.claims.absent == action.text`,
	`has(principal.claims.team) || action.opaque`, `principal.claims[action.op] == "x"`, `{"query": "a"}[action.op] == principal.name`,
	`target.labels.env == "prod" && "write" in action.effects && !action.has_filter`, `target.labels.?env.orValue("") != "prod"`,
	`session.role == "admin"`, `session.role == session.database`, `session.age > duration("1h")`, `session.address.startsWith("192.")`,
	`time.getHours("UTC") >= 18`, `time > timestamp("2026-03-02T00:00:00Z") && "write" in action.effects`, `type(action.op) == string`,
	`[action.op, principal.name].size() == 2`, `action.op in ["query", "execute"]`, `principal.name in ["orders-bot", "other"]`, `principal.name in [action.op, "orders-bot"]`,
	`size(action.text) > 5 && principal.name == "other"`, `action.text.matches("^UPD") || "agents" in principal.groups`,
	`action.statements.exists(s, s.verb == "UPDATE" && s.effects.exists(e, e in ["write"]) && principal.name != "")`,
	`action.statements.filter(s, s.has_filter) == action.statements`, `action.statements[0].verb == "SELECT"`, `optional.of(action.op).hasValue()`,
	`action.text.contains(principal.claims.absent)`, `principal.claims.absent || action.opaque`, `dyn(action.op) == 1`, `.action.op == "query"`, `has(action.statements[0].verb)`, `!has(action.statements[5].verb)`, `action.statements[?0].hasValue()`,
	`action.statements.map(s, s.verb)[?1].orValue("agents") in principal.groups`, `[action.statements].exists(l, has(l[0].verb))`, `{"a": action.op}.a == "query"`,
	`principal.groups.map(g, action.op).size() == 1`, `principal.groups.filter(g, g == action.op) == []`, `{"a": action.objects}.?a[0].hasValue()`,
	`has({"a": action.op}.a)`, `"query" in {action.op: 1}`, `principal.groups.exists_one(g, g == action.op)`, `dyn([action.op]) == dyn(["query"])`, `action.parameters.exists(p, p == principal.name)`, `action.verbs == ["SELECT"] && action.effects == ["read"]`,
}

func drawAction(t *rapid.T) *access.Action {
	effect := rapid.Custom(func(t *rapid.T) access.Effects {
		var e access.Effects
		for _, one := range rapid.SliceOfN(rapid.IntRange(0, 11), 0, 3).Draw(t, "effects") {
			e |= 1 << one
		}
		return e
	})
	a := &access.Action{
		Op: rapid.SampledFrom([]string{"query", "execute", "agents"}).Draw(t, "op"), Understood: rapid.Bool().Draw(t, "understood"),
		Text: rapid.SampledFrom([]string{"", "agents", "UPDATE x", "SELECT 1"}).Draw(t, "text"), HasFilter: rapid.Bool().Draw(t, "filter"), Effects: effect.Draw(t, "all"),
		Fingerprint: rapid.SampledFrom([]string{"", "18:ab"}).Draw(t, "fingerprint"),
	}
	for range rapid.IntRange(0, 2).Draw(t, "parameters") {
		a.Parameters = append(a.Parameters, rapid.SampledFrom([]any{"x", "orders-bot", nil, []byte{1}}).Draw(t, "parameter"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "statements") {
		s := access.Statement{
			Verb: rapid.SampledFrom([]string{"SELECT", "UPDATE"}).Draw(t, "verb"), Effects: effect.Draw(t, "part"), HasFilter: rapid.Bool().Draw(t, "filter"),
			Understood: rapid.Bool().Draw(t, "understood"), Columns: []string{"public.people.name"},
			Objects: []access.Object{object("relation", rapid.SampledFrom([]string{"", "public", "pg_catalog"}).Draw(t, "schema"), rapid.SampledFrom([]string{"orders", "pg_authid"}).Draw(t, "name"), effect.Draw(t, "object"))},
		}
		a.Statements = append(a.Statements, s)
		a.Effects |= s.Effects
	}
	return a
}

func drawInput(t *rapid.T) *Input {
	in := sampleInput()
	in.Principal.Name = rapid.SampledFrom([]string{"orders-bot", "other"}).Draw(t, "principal")
	in.Principal.Groups = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"agents", "readers", "writers"}), func(s string) string { return s }).Draw(t, "groups")
	in.Principal.Claims = rapid.SampledFrom([][]byte{in.Principal.Claims, nil, []byte(`{"team":"core","query":"x"}`), []byte(`{`)}).Draw(t, "claims")
	in.Target.Labels = rapid.SampledFrom([]map[string]string{nil, {"env": "prod"}, {"env": "test"}}).Draw(t, "labels")
	in.Session.Role = rapid.SampledFrom([]string{"default", "admin"}).Draw(t, "role")
	in.Session.Database = rapid.SampledFrom([]string{"default", "shop"}).Draw(t, "database")
	if rapid.Bool().Draw(t, "no time") {
		in.Time = time.Time{}
	} else {
		in.Time = in.Session.Began.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "age")) * time.Hour)
	}
	in.Action = drawAction(t)
	return in
}

// TestOutlookHoldsEveryDecision: no request gets what the outlook of its effects does not have.
func TestOutlookHoldsEveryDecision(t *testing.T) {
	t.Parallel()
	conditions := slices.Concat(outlookCases, variableCases)
	for _, p := range Packs() {
		for _, r := range p.Rules {
			conditions = append(conditions, r.When)
		}
	}
	exact := 0
	rapid.Check(t, func(t *rapid.T) {
		var rules []Rule
		for i := range rapid.IntRange(0, 5).Draw(t, "rules") {
			then := access.Verdict(rapid.IntRange(0, 2).Draw(t, "then"))
			rules = append(rules, rule(fmt.Sprint("r", i), rapid.SampledFrom(conditions).Draw(t, "when"), then))
		}
		p, err := Compile(Source{Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		reviewer := p.Reviewer()
		for range 8 { // one reviewer: what it keeps must not be taken for another principal
			in := drawInput(t)
			real := p.Decide(in)
			x := reviewer.Review(&Known{Principal: in.Principal, Target: in.Target, Role: in.Session.Role})
			ranges := map[string]Range{"not understood": x.Opaque()}
			if in.Action.Understood {
				clear(ranges)
			}
			for _, with := range []access.Effects{0, in.Action.Effects, in.Action.Effects & -in.Action.Effects, in.Action.Effects &^ access.EffectRead} {
				ranges["with "+with.String()] = x.Requests(with)
			}
			for with, got := range ranges {
				if real.Verdict < got.Strictest.Verdict || real.Verdict > got.Mildest.Verdict {
					t.Fatalf("%v by %s is not within %+v of requests %s\n%+v\n%+v", real.Verdict, real.Rule, got, with, rules, in.Action)
				}
				for _, b := range []Bound{got.Strictest, got.Mildest} {
					if b.Verdict == real.Verdict && !slices.Contains(b.Rules, real.Rule) {
						t.Fatalf("%s decides, which is not among %+v of requests %s", real.Rule, b, with)
					}
				}
				if got.Strictest.Verdict == got.Mildest.Verdict {
					exact++
				}
			}
		}
	})
	if exact == 0 {
		t.Error("no range was narrow: the outlook says nothing")
	}
}

func bound(v access.Verdict, rules ...string) Bound { return Bound{v, rules} }

// TestOutlook: what follows from the principal, the target and the effects is told for certain.
func TestOutlook(t *testing.T) {
	t.Parallel()
	const d, h, a = access.Denied, access.Hold, access.Allow
	reads := rule("reads", `action.effects.all(e, e in ["read", "transaction", "session"])`, a)
	writes := rule("writes", `"writers" in principal.groups && action.effects.all(e, e in ["read", "write"])`, a)
	prod := rule("prod", `target.labels.?env.orValue("") == "prod" && "write" in action.effects`, h)
	writer, reader := &access.Principal{Name: "w", Groups: []string{"writers"}}, &access.Principal{Name: "r"}
	test, live := &access.Target{Name: "t"}, &access.Target{Name: "p", Labels: map[string]string{"env": "prod"}}
	tests := []struct {
		name  string
		packs []string
		rules []Rule
		known Known
		with  access.Effects
		want  Range
	}{
		{"nothing allows", nil, nil, Known{reader, test, "x"}, access.EffectRead, Range{bound(d, "default"), bound(d, "default")}},
		{"all is allowed", nil, []Rule{rule("all", "true", a)}, Known{reader, test, "x"}, access.EffectAdmin, Range{bound(a, "all"), bound(a, "all")}},
		{"alone it is allowed, with others not", nil, []Rule{reads}, Known{reader, test, "x"}, access.EffectRead, Range{bound(d, "default"), bound(a, "reads")}},
		{"never allowed", nil, []Rule{reads}, Known{reader, test, "x"}, access.EffectWrite, Range{bound(d, "default"), bound(d, "default")}},
		{"not in the group", nil, []Rule{reads, writes}, Known{reader, test, "x"}, access.EffectWrite, Range{bound(d, "default"), bound(d, "default")}},
		{"in the group", nil, []Rule{reads, writes}, Known{writer, test, "x"}, access.EffectWrite, Range{bound(d, "default"), bound(a, "writes")}},
		{"held for certain", nil, []Rule{writes, prod}, Known{writer, live, "x"}, access.EffectWrite, Range{bound(h, "prod"), bound(h, "prod")}},
		{"not held elsewhere", nil, []Rule{writes, prod}, Known{writer, test, "x"}, access.EffectWrite | access.EffectRead, Range{bound(d, "default"), bound(a, "writes")}},
		{"a deny that may count", []string{"no-unfiltered-writes"}, []Rule{rule("all", "true", a)}, Known{reader, test, "x"}, access.EffectWrite,
			Range{bound(d, "no-unfiltered-writes/filter"), bound(a, "all")}},
		{"a deny that counts", []string{"no-schema-changes"}, []Rule{rule("all", "true", a)}, Known{reader, test, "x"}, access.EffectSchema,
			Range{bound(d, "no-schema-changes/schema"), bound(d, "no-schema-changes/schema")}},
		{"privileged by its effects", nil, []Rule{rule("all", "true", a), rule("p", "action.privileged", d)}, Known{reader, test, "x"}, access.EffectFile,
			Range{bound(d, "p"), bound(d, "p")}},
		{"privileged by what is not known", nil, []Rule{rule("all", "true", a), rule("p", "action.privileged", d)}, Known{reader, test, "x"}, access.EffectRead,
			Range{bound(d, "p"), bound(a, "all")}},
		{"the role", nil, []Rule{rule("all", "true", a), rule("r", `session.role == "x"`, d)}, Known{reader, test, "y"}, access.EffectRead, Range{bound(a, "all"), bound(a, "all")}},
		{"an error refuses", nil, []Rule{rule("all", "true", a), rule("r", `principal.claims.absent == "x"`, h)}, Known{reader, test, "y"}, access.EffectRead,
			Range{bound(h, "r"), bound(h, "r")}},
		{"an error does not allow", nil, []Rule{rule("r", `principal.claims.absent == "x"`, a)}, Known{reader, test, "y"}, access.EffectRead,
			Range{bound(d, "default"), bound(d, "default")}},
		{"an error in spite of what is not known", nil, []Rule{rule("all", "true", a), rule("r", `action.text.contains(principal.claims.absent)`, h)}, Known{reader, test, "y"},
			access.EffectRead, Range{bound(h, "r"), bound(a, "all")}},
		{"privileged without a filter", nil, []Rule{rule("all", "true", a), rule("p", "action.privileged", d)}, Known{reader, test, "x"}, access.EffectWrite,
			Range{bound(d, "p"), bound(a, "all")}},
		{"a field of what is not known", nil, []Rule{rule("r", "has(action.statements[0].verb)", a)}, Known{reader, test, "x"}, access.EffectRead,
			Range{bound(d, "default"), bound(a, "r")}},
		{"what is not known is not empty", nil, []Rule{rule("all", "true", a), rule("r", `session.database == ""`, d)}, Known{reader, test, "y"}, access.EffectRead,
			Range{bound(d, "r"), bound(a, "all")}},
		{"every request", nil, []Rule{reads}, Known{reader, test, "x"}, 0, Range{bound(d, "default"), bound(a, "reads")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := mustCompile(t, tt.packs, tt.rules...).Reviewer().Review(&tt.known).Requests(tt.with)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	opaque := mustCompile(t, []string{"no-opaque"}, rule("all", "true", a)).Reviewer().Review(&Known{reader, test, "x"})
	if diff := cmp.Diff(Range{bound(d, "no-opaque/opaque"), bound(d, "no-opaque/opaque")}, opaque.Opaque()); diff != "" {
		t.Errorf("not understood (-want +got)\n%s", diff)
	}
	if got := opaque.Requests(access.EffectRead); got.Mildest.Verdict != a {
		t.Errorf("understood: %+v", got)
	}
	var none *Policy
	if got := none.Reviewer().Review(&Known{}).Requests(access.EffectRead); got.Mildest.Verdict != d || got.Strictest.Verdict != d {
		t.Errorf("the policy that is none: %+v", got)
	}
}

// TestOutlookOfLargeRequests: a request can be too large for a rule, which then counts
// for the refusing side even where its condition cannot hold.
func TestOutlookOfLargeRequests(t *testing.T) {
	t.Parallel()
	in := sampleInput()
	in.Action.Statements[0].Columns = make([]string, 500)
	for i := range in.Action.Statements[0].Columns {
		in.Action.Statements[0].Columns[i] = fmt.Sprint("c", i)
	}
	const costly = `action.columns.all(a, action.columns.all(b, a != "x" && b != "x"))`
	for _, rules := range [][]Rule{
		{rule("all", "true", access.Allow), rule("r", costly+` && principal.name == "nobody"`, access.Denied)},
		{rule("r", costly+` || principal.name == "orders-bot"`, access.Allow)},
	} {
		p := mustCompile(t, nil, rules...)
		got := p.Reviewer().Review(&Known{in.Principal, in.Target, "default"}).Requests(in.Action.Effects)
		if real := p.Decide(in); real.Verdict != access.Denied || got.Strictest.Verdict != access.Denied || got.Mildest.Verdict != access.Allow {
			t.Errorf("decided %+v, foreseen %+v", real, got)
		}
	}
}

// TestOutlookOfCostlyPrincipals: what costs too much to foresee may be either.
func TestOutlookOfCostlyPrincipals(t *testing.T) {
	t.Parallel()
	in := sampleInput()
	for i := range 1000 {
		in.Principal.Groups = append(in.Principal.Groups, fmt.Sprint("g", i))
	}
	const lookup = `principal.groups.exists(g, g == "none" || g == "nobody" || g == "nothing")`
	p := mustCompile(t, nil, rule("all", "true", access.Allow), rule("r", `action.op == "query" || `+lookup+" || "+lookup+" || "+lookup, access.Denied))
	got := p.Reviewer().Review(&Known{in.Principal, in.Target, "default"}).Requests(in.Action.Effects)
	if real := p.Decide(in); real.Verdict != access.Denied || got.Strictest.Verdict != access.Denied || got.Mildest.Verdict != access.Allow {
		t.Errorf("decided %+v, foreseen %+v", real, got)
	}
}

// TestReviewerKeepsWhatMatters: what came of a rule for one principal is taken for another only where that is the same.
func TestReviewerKeepsWhatMatters(t *testing.T) {
	t.Parallel()
	groups := [][]string{nil, {"agents"}, {"writers"}, {"agents", "others"}, {"writers", "others"}, {"others"}, {"writers", "agents"}, {"agents", "writers"}}
	for _, when := range []string{
		`"agents" in principal.groups`, `principal.groups == ["agents"]`, `principal.groups == ["agents", "writers"]`, `principal.groups.all(g, g in ["agents"])`,
		`"agents" in principal.groups && principal.groups.size() > 1`, `principal.groups.exists(g, g != "agents")`, `principal.groups.exists_one(g, g == "agents" || g == "others")`,
		`"agents" in principal.groups && action.effects.all(e, e == "read") || action.effects == ["write"]`, `action.effects.size() == 2 && "read" in action.effects`,
	} {
		p := mustCompile(t, nil, rule("r", when, access.Allow))
		kept := p.Reviewer()
		for _, g := range groups {
			k := &Known{Principal: &access.Principal{Name: "p", Groups: g}}
			for e := access.Effects(1); e <= access.AllEffects; e <<= 1 {
				fresh := Range{bound(access.Denied), bound(access.Denied)}
				for all := e; all <= access.AllEffects; all++ {
					if all&e == 0 {
						continue
					}
					d := p.Decide(&Input{Principal: k.Principal, Action: &access.Action{Understood: true, Effects: all}})
					if all == e {
						fresh = Range{bound(d.Verdict, d.Rule), bound(d.Verdict, d.Rule)}
					}
					if d.Verdict < fresh.Strictest.Verdict {
						fresh.Strictest = bound(d.Verdict, d.Rule)
					}
					if d.Verdict > fresh.Mildest.Verdict {
						fresh.Mildest = bound(d.Verdict, d.Rule)
					}
				}
				got := kept.Review(k).Requests(e)
				if got.Mildest.Verdict == access.Denied { // both bounds name all rules there
					got.Mildest.Rules, got.Strictest.Rules = fresh.Mildest.Rules, fresh.Strictest.Rules
				}
				if diff := cmp.Diff(fresh, got); diff != "" {
					t.Errorf("%s: groups %v, %v (-want +got)\n%s", when, g, e, diff)
				}
			}
		}
	}
}

// TestReviewerKeepsCosts: the same answer about groups can cost more for another principal.
func TestReviewerKeepsCosts(t *testing.T) {
	t.Parallel()
	var lookups []string
	for i := range 40 {
		lookups = append(lookups, fmt.Sprintf(`"none%d" in principal.groups`, i))
	}
	when := "(" + strings.Join(lookups, " || ") + `) && action.statements.exists(s, "write" in s.effects && !s.has_filter)`
	p := mustCompile(t, nil, rule("all", "true", access.Allow), rule("r", when, access.Denied))
	in := sampleInput()
	in.Action = &access.Action{Understood: true, Effects: access.EffectRead, Statements: make([]access.Statement, 5000)}
	reviewer := p.Reviewer()
	reviewer.Review(&Known{Principal: in.Principal})
	for i := range 1000 {
		in.Principal.Groups = append(in.Principal.Groups, fmt.Sprint("g", i))
	}
	got := reviewer.Review(&Known{Principal: in.Principal}).Requests(access.EffectRead)
	if real := p.Decide(in); real.Verdict != access.Denied || got.Strictest.Verdict != access.Denied {
		t.Errorf("decided %+v, foreseen %+v", real, got)
	}
}

// BenchmarkReview reviews new principals of known groups, or each of groups of its own, on a known target.
func BenchmarkReview(b *testing.B) {
	b.Run("known groups", func(b *testing.B) { benchmarkReview(b, false) })
	b.Run("new groups", func(b *testing.B) { benchmarkReview(b, true) })
}

func benchmarkReview(b *testing.B, groups bool) {
	p := mustCompile(b, []string{"read-only", "no-unfiltered-writes", "no-schema-changes", "office-hours"},
		rule("w", `"readers" in principal.groups && "write" in action.effects && action.has_filter`, access.Allow), rule("n", `principal.name == "x"`, access.Denied))
	in := sampleInput()
	reviewer := p.Reviewer()
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		who := *in.Principal
		who.Name = fmt.Sprint("p", n)
		if groups {
			who.Groups = append(slices.Clone(who.Groups), fmt.Sprint("g", n))
		}
		x := reviewer.Review(&Known{&who, in.Target, "default"})
		for e := access.Effects(1); e <= access.AllEffects; e <<= 1 {
			x.Requests(e)
		}
	}
}
