package judge

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/policy"
)

// anyAction makes an action from random parts.
func anyAction(r *rand.Rand) *access.Action {
	word := func(list ...string) string { return list[r.IntN(len(list))] }
	a := &access.Action{
		Op: word("query", "execute", "call"), Text: word("SELECT 1", "DELETE FROM t", "é<&>\u2028\x01"), Understood: r.IntN(4) > 0,
		Effects: access.Effects(r.IntN(int(access.AllEffects) + 1)), HasFilter: r.IntN(2) == 0, Fingerprint: "other:1", Why: word("", "odd"),
	}
	for range r.IntN(3) {
		st := access.Statement{
			Verb: word("SELECT", "DROP TABLE"), Effects: access.Effects(r.IntN(int(access.AllEffects) + 1)), HasFilter: r.IntN(2) == 0, Understood: r.IntN(4) > 0,
		}
		for range r.IntN(3) {
			st.Objects = append(st.Objects, access.Object{
				Kind: word("relation", "function"), Schema: word("", "public"), Name: word("t", "pg_authid"), Effects: access.Effects(r.IntN(int(access.AllEffects) + 1)),
			})
			st.Columns = append(st.Columns, word("a", "public.t.b", "*"))
		}
		a.Statements = append(a.Statements, st)
	}
	switch r.IntN(4) {
	case 0:
		a.Detail = []byte(`{"messages":"PBE","params":["x",null,{"b64":"/w=="}]}`)
	case 1:
		a.Detail = []byte(`{"bound_in":3}`)
	}
	return a
}

// TestSameDecision: what is recorded of a request gives the decision that the request got, whatever the rules read.
func TestSameDecision(t *testing.T) {
	t.Parallel()
	conditions := []string{
		`"write" in action.effects`, `action.effects == []`, `action.opaque`, `action.has_filter`, `action.privileged`, `action.text.contains("<&>")`,
		`action.op == "call"`, `action.fingerprint != ""`, `"DROP TABLE" in action.verbs`, `"public.t" in action.relations`, `"t" in action.functions`,
		`"public.t.b" in action.columns`, `action.parameters == ["x", null, b"\xff"]`, `action.parameters.size() > 0`,
		`action.statements.exists(s, s.opaque || !s.has_filter && "read" in s.effects)`, `action.objects.exists(o, o.schema == "public" && "file" in o.effects)`,
		`principal.claims.team == "a<b"`, `principal.claims.level > 3`, `"agents" in principal.groups`, `principal.owner == ""`, `principal.actor == ["x"]`,
		`target.labels.env == "prod"`, `session.age > duration("90s")`, `time.getSeconds() < 30`, `session.database == "d" && session.role == "r"`,
		`session.address == "127.0.0.1:1"`, `principal.id == "ci|ana"`,
		`usage.requests_minute > 5`, `usage.rows_hour > 5 || usage.bytes_hour > 7`, `usage.bytes_day > 5 && usage.requests_day < 8`,
	}
	r := rand.New(rand.NewPCG(1, 2))
	verdicts := map[access.Verdict]int{}
	for range 3000 {
		var rules []policy.Rule
		for i := range 1 + r.IntN(5) {
			rules = append(rules, policy.Rule{Name: string(rune('a' + i)), When: conditions[r.IntN(len(conditions))], Then: access.Verdict(r.IntN(3))})
		}
		p, err := policy.Compile(policy.Source{Rules: rules})
		if err != nil {
			t.Fatal(err)
		}
		a := anyAction(r)
		who := &access.Principal{
			Issuer: "ci", Name: "ana", Groups: []string{"agents"}[:r.IntN(2)], Claims: json.RawMessage(`{"team":"a<b","level":12345678901234567}`),
		}
		target := &access.Target{Name: "t", Labels: map[string]string{"env": "prod"}}
		now := time.Unix(1_800_000_000+r.Int64N(600), r.Int64N(1e9)).UTC().Truncate(time.Microsecond)
		session := policy.Session{Role: "r", Database: "d", Address: "127.0.0.1:1", Began: now.Add(-time.Duration(r.Int64N(2e11))).Truncate(time.Microsecond)}
		some := func() access.Counts {
			return access.Counts{Requests: r.Uint64N(10), Rows: r.Uint64N(10), Bytes: r.Uint64N(10)}
		}
		used := access.Usage{Minute: some(), Hour: some(), Day: some()}
		want := p.Decide(&policy.Input{Principal: who, Target: target, Session: session, Action: a, Time: now, Usage: used})
		verdicts[want.Verdict]++

		intent := audit.AppendIntent(nil, &evidence.Intent{
			Op: a.Op, Rule: want.Rule, Opaque: !a.Understood, Text: a.Text, Detail: a.Detail, Action: audit.Account(a), Decided: now,
			Usage: &evidence.Usage{Minute: evidence.Counts(used.Minute), Hour: evidence.Counts(used.Hour), Day: evidence.Counts(used.Day)},
		})
		req := evidence.Request{Session: &evidence.Session{}, Intent: &evidence.Intent{}, Action: &evidence.Action{}}
		body := audit.New(evidence.KindSession, &evidence.Session{
			Principal: evidence.Principal{Issuer: who.Issuer, Name: who.Name, Groups: who.Groups, Claims: who.Claims},
			Target:    evidence.Target{Name: target.Name, Labels: target.Labels}, Role: session.Role, Database: session.Database, Source: session.Address, Began: session.Began,
		}).Meta
		if err := json.Unmarshal(body, req.Session); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(intent, req.Intent); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(req.Intent.Action, req.Action); err != nil {
			t.Fatal(err)
		}
		req.Principal = &req.Session.Principal
		got, err := Recorded{Policy: p}.Decide(&req)
		if err != nil {
			t.Fatal(err)
		}
		if (got.Decision == "allow") != (want.Verdict == access.Allow) || got.Rule != want.Rule || (got.Code == "approval") != (want.Verdict == access.Hold) {
			t.Fatalf("%v decides %+v, and from the record %+v:\n%s", rules, want, got, intent)
		}
		if privileged, _ := a.Privileged(); got.Privileged != privileged || (req.Action.Privileged != "") != privileged {
			t.Fatalf("privileged: %v, recorded %q, again %v", privileged, req.Action.Privileged, got.Privileged)
		}
	}
	if len(verdicts) != 3 || verdicts[access.Allow] < 100 || verdicts[access.Hold] < 100 {
		t.Errorf("decisions: %v", verdicts)
	}
}

// TestPolicyOfRecord: a configuration entry that does not fit together gives no policy.
func TestPolicyOfRecord(t *testing.T) {
	t.Parallel()
	files := map[string]string{"g.yaml": "version: 1\ninclude: [p.yaml]\n", "p.yaml": "rules: [{name: a, when: 'true', then: allow}]\npacks: [no-opaque]\n"}
	pack := []evidence.ConfigRule{{Name: "no-opaque/opaque", When: "action.opaque && false", Then: "deny"}}
	good := evidence.Config{SHA256: config.Digest(files), Main: "g.yaml", Files: files, Packs: pack}
	p, err := Judge{}.Policy(&good)
	if err != nil {
		t.Fatal(err)
	}
	rules := p.(Recorded).Policy.Rules()
	if len(rules) != 2 || rules[1].When != "action.opaque && false" {
		t.Errorf("rules: %v", rules)
	}
	for name, edit := range map[string]func(c *evidence.Config){
		"digest": func(c *evidence.Config) { c.SHA256 = config.Digest(map[string]string{}) },
		"text": func(c *evidence.Config) {
			c.Files = map[string]string{"g.yaml": files["g.yaml"], "p.yaml": files["p.yaml"] + "\n"}
		},
		"pack missing": func(c *evidence.Config) {
			c.Packs = []evidence.ConfigRule{{Name: "other/x", When: "true", Then: "deny"}}
		},
		"pack added": func(c *evidence.Config) {
			c.Packs = append(pack, evidence.ConfigRule{Name: "other/x", When: "true", Then: "deny"})
		},
		"verdict": func(c *evidence.Config) {
			c.Packs = []evidence.ConfigRule{{Name: "no-opaque/opaque", When: "true", Then: "maybe"}}
		},
		"main not there": func(c *evidence.Config) { c.Main = "other.yaml" },
	} {
		c := good
		edit(&c)
		if p, err := (Judge{}).Policy(&c); err == nil {
			t.Errorf("%s: %v", name, p.(Recorded).Policy.Rules())
		}
	}
}

// TestInputRefusesUnknownEffects: an effect of another version must not be left out.
func TestInputRefusesUnknownEffects(t *testing.T) {
	t.Parallel()
	for _, a := range []evidence.Action{
		{Effects: []string{"teleport"}},
		{Statements: []evidence.ActionStatement{{Effects: []string{"teleport"}}}},
		{Statements: []evidence.ActionStatement{{Objects: []evidence.ActionObject{{Effects: []string{"teleport"}}}}}},
	} {
		r := &evidence.Request{Session: &evidence.Session{}, Principal: &evidence.Principal{}, Intent: &evidence.Intent{}, Action: &a}
		if in, err := Input(r); err == nil {
			t.Errorf("%v gives %v", a, in.Action)
		}
	}
	if _, err := Input(&evidence.Request{Session: &evidence.Session{}, Principal: &evidence.Principal{}, Intent: &evidence.Intent{}}); err == nil {
		t.Error("a request without an action is decided")
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		a := anyAction(r)
		var does evidence.Action
		if err := json.Unmarshal(audit.Account(a), &does); err != nil {
			t.Fatal(err)
		}
		got, err := action(&evidence.Intent{Op: a.Op, Text: a.Text, Detail: a.Detail, Opaque: !a.Understood}, &does)
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Fatalf("%+v becomes %+v: %v", a, got, err)
		}
	}
}
