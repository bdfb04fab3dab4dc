package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/judge"
	"github.com/gatebook/gatebook/internal/testkit/forge"
	"github.com/gatebook/gatebook/internal/testkit/idp"
)

// decidingPolicy reads everything that a decision can depend on.
const decidingPolicy = `rules:
  - {name: reads, when: 'action.effects.all(e, e in ["read", "transaction", "session"])', then: allow}
  - {name: young, when: '"write" in action.effects && session.age < duration("1h")', then: allow}
  - {name: listed, when: '"public.decided" in action.relations && action.parameters.exists(p, p == "7")', then: hold, reason: seven}
  - {name: clock, when: 'time < timestamp("2020-01-01T00:00:00Z")', then: deny}
  - {name: claims, when: 'principal.claims.sub == "stranger" || "guests" in principal.groups', then: deny}
packs: [no-unfiltered-writes]
`

// verifyAgain verifies a package with a judge.
func verifyAgain(t *testing.T, pkg []byte, keys *Keys) *evidence.Report {
	t.Helper()
	trust, err := evidence.ParseTrust([]byte(keys.TrustFile()))
	if err != nil {
		t.Fatal(err)
	}
	r, err := evidence.Verify(bytes.NewReader(pkg), int64(len(pkg)), evidence.Options{Trust: trust, Judge: judge.Judge{}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// replaced changes a text in the bodies of a kind.
func replaced(kind evidence.Kind, from, to string) forge.Edit {
	return func(h *evidence.Header, body []byte) []byte {
		if h.Kind == kind {
			return bytes.ReplaceAll(body, []byte(from), []byte(to))
		}
		return body
	}
}

// TestVerifyDecidesAgain: the verifier gets every decision that was recorded from the policy text in the log, also over a
// reload and a renewal, and notices decisions that do not follow from it although everything was signed anew.
func TestVerifyDecidesAgain(t *testing.T) {
	p := newPlace(t, "")
	p.write(t, "policy.yaml", decidingPolicy)
	if _, err := database.PSQL("postgres", "DROP TABLE IF EXISTS decided; CREATE TABLE decided (id int, v text); GRANT ALL ON decided TO agent"); err != nil {
		t.Fatal(err)
	}
	g := p.start(t)
	// It expires soon, so that the package holds what the renewed identity is.
	first := p.issuer.Sign(t, idp.With(p.issuer.Agent("worker", "agents"), idp.Claims{"exp": time.Now().Unix() + 7}), nil)
	c, err := connect(t.Context(), g.Addresses()[0].Address, first)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		text string
		args []any
		ok   bool
	}{
		{"SELECT 1", nil, true}, {"INSERT INTO decided VALUES ($1, $2)", []any{1, "x"}, true}, {"INSERT INTO decided VALUES ($1, $2)", []any{1, "7"}, false},
		{"DELETE FROM decided", nil, false}, {"DROP TABLE decided", nil, false}, {"SELECT v FROM decided WHERE v = $1", []any{"y"}, true},
	} {
		if _, err := c.Exec(t.Context(), q.text, q.args...); (err == nil) != q.ok {
			t.Errorf("%s %v: %v", q.text, q.args, err)
		}
	}
	// A cursor by the extended protocol: later Executes stand alone, and their parameters are those of the Bind.
	rows, err := c.Query(t.Context(), "SELECT v FROM decided WHERE v <> $1", pgx.QueryExecModeDescribeExec, "z")
	if err != nil {
		t.Fatal(err)
	}
	rows.Close()
	time.Sleep(1100 * time.Millisecond) // a checkpoint between
	middle := time.Now()
	p.write(t, "policy.yaml", strings.Replace(decidingPolicy, "p == \"7\"", "p == \"8\"", 1)+"\n# changed\n")
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "INSERT INTO decided VALUES ($1, $2)", 1, "7"); err != nil {
		t.Error(err)
	}
	time.Sleep(1100 * time.Millisecond)
	late := time.Now()
	expires := time.Now().Add(8 * time.Second)
	renewed := p.issuer.Sign(t, idp.With(p.issuer.Agent("worker", "agents", "guests"), idp.Claims{"exp": expires.Unix()}), nil)
	if _, err := c.Exec(t.Context(), "SET gatebook.token = '"+renewed+"'"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the renewed identity's groups do not count")
	}
	_ = c.Close(t.Context())
	// A session that begins after the reload: an export of its time has the policy from before its range.
	time.Sleep(1100 * time.Millisecond)
	after := time.Now()
	c, err = connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "other", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "SELECT 2"); err != nil {
		t.Error(err)
	}
	_ = c.Close(t.Context())
	time.Sleep(time.Until(expires.Add(1100 * time.Millisecond)))

	keys, err := LoadKeys(p.config(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]admin.ExportRequest{
		"all": {}, "from the reload": {From: middle}, "from the renewal": {From: late}, "one principal": {Principal: "ci|worker"}, "after": {From: after},
	} {
		_, pkg := export(t, g.client(t), keys, r)
		got := verifyAgain(t, pkg, keys)
		if got.Failed() || strings.HasPrefix(got.Decisions, "0 ") || len(got.Exceptions) > 0 || name == "after" && !strings.HasPrefix(got.Decisions, "1 decided") {
			t.Errorf("%s: decisions %q, problems %v, exceptions %v", name, got.Decisions, got.Problems, got.Exceptions)
		}
	}
	_, pkg := export(t, g.client(t), keys, admin.ExportRequest{})
	g.end(t)

	for _, f := range []struct {
		name, says string
		edit       forge.Edit
	}{
		{"another rule", "by the policy in force it is allow by rule young", replaced(evidence.KindIntent, `"rule":"young"`, `"rule":"reads"`)},
		{"a refusal becomes a pass", "it was recorded as allow by rule reads", func(h *evidence.Header, body []byte) []byte {
			if h.Kind == evidence.KindIntent && h.Decision == "deny" && bytes.Contains(body, []byte("no-unfiltered-writes")) {
				h.Decision = "allow"
				body = bytes.Replace(body, []byte(`"rule":"no-unfiltered-writes/filter"`), []byte(`"rule":"reads"`), 1)
				body = bytes.Replace(body, []byte(`,"code":"policy"`), nil, 1)
			}
			return body
		}},
		{"a held one becomes a pass", "held by rule listed", func(h *evidence.Header, body []byte) []byte {
			if h.Kind == evidence.KindIntent && bytes.Contains(body, []byte(`"code":"approval"`)) {
				h.Decision = "allow"
				body = bytes.Replace(body, []byte(`"rule":"listed"`), []byte(`"rule":"young"`), 1)
				body = bytes.Replace(body, []byte(`,"code":"approval"`), nil, 1)
			}
			return body
		}},
		{"effects", "lacks what the text does: write", replaced(evidence.KindIntent, `"effects":["write"]`, `"effects":["schema"]`)},
		{"text", "the recorded action is that of another text", replaced(evidence.KindIntent, `"text":"DELETE FROM decided"`, `"text":"DELETE FROM decided WHERE id = 1"`)},
		{"parameters", "by the policy in force", replaced(evidence.KindIntent, `"7"]`, `"6"]`)},
		{"privileged", "privileged is recorded as false", replaced(evidence.KindIntent, `"privileged":"it changes definitions",`, ``)},
		{"origin", "is none of the statements that the gateway makes", func(h *evidence.Header, body []byte) []byte {
			if h.Kind == evidence.KindIntent && bytes.Contains(body, []byte(`"text":"DELETE FROM decided"`)) {
				h.Decision = "allow"
				return []byte(`{"op":"query","origin":"gateway","rule":"gateway","opaque":false,"text":"DELETE FROM decided"}`)
			}
			return body
		}},
		{"a close with a text", "by the policy in force", func(h *evidence.Header, body []byte) []byte {
			if h.Kind == evidence.KindIntent && bytes.Contains(body, []byte(`"rule":"young"`)) {
				body = bytes.Replace(body, []byte(`"op":"execute"`), []byte(`"op":"close"`), 1)
				return bytes.Replace(body, []byte(`"rule":"young"`), []byte(`"rule":"protocol.close"`), 1)
			}
			return body
		}},
		{"no action", "is that of another text", func(h *evidence.Header, body []byte) []byte {
			if h.Kind == evidence.KindIntent && bytes.Contains(body, []byte(`"text":"DELETE FROM decided"`)) {
				h.Decision = "allow"
				return []byte(strings.Replace(string(body[:bytes.Index(body, []byte(`"action":`))]), `"rule":"no-unfiltered-writes/filter","reason":"This would change rows that no condition selects.","code":"policy"`, `"rule":"reads"`, 1) + `"action":{"effects":["read"],"has_filter":true}}`)
			}
			return body
		}},
		{"the own rule", "by the policy in force", func(h *evidence.Header, body []byte) []byte {
			if h.Kind == evidence.KindIntent && bytes.Contains(body, []byte("SELECT 1")) {
				return bytes.Replace(body, []byte(`"rule":"reads"`), []byte(`"rule":"gateway.token"`), 1)
			}
			return body
		}},
		{"moment", "by the policy in force", replaced(evidence.KindIntent, `"decided":"20`, `"decided":"19`)},
		{"policy text", "its files have the digest", replaced(evidence.KindConfig, `then: hold`, `then: deny`)},
		{"pack", "by the policy in force", replaced(evidence.KindConfig, `\"write\" in action.effects \u0026\u0026 !action.has_filter`, `\"file\" in action.effects \u0026\u0026 !action.has_filter`)},
		{"groups", "by the policy in force", replaced(evidence.KindIdentity, `"groups":["agents","guests"]`, `"groups":["agents"]`)},
		{"nothing", "", replaced(evidence.KindHeartbeat, `x`, `x`)},
		// With all keys, policy and decisions can be made to agree: a checkpoint kept outside shows it, and nothing else.
		{"digest of another text", "", relaxed()},
	} {
		forged, n, err := forge.Forge(pkg, filepath.Join(p.dir, "keys"), f.edit)
		if err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		got := verifyAgain(t, forged, keys)
		if f.says == "" {
			if got.Failed() {
				t.Errorf("%s: %v", f.name, got.Problems)
			}
			continue
		}
		found := false
		for _, problem := range got.Problems {
			found = found || problem.Aspect == evidence.Decisions && strings.Contains(problem.What, f.says)
		}
		if n == 0 || !found || got.Decisions != "failed" {
			t.Errorf("%s: %d entries changed, decisions %q, problems %v", f.name, n, got.Decisions, got.Problems)
		}
	}
}

// relaxed says that the one held request was allowed by a policy that had no such rule.
func relaxed() forge.Edit {
	digests := map[string]string{}
	return func(h *evidence.Header, body []byte) []byte {
		switch h.Kind {
		case evidence.KindConfig:
			var c evidence.Config
			if err := json.Unmarshal(body, &c); err != nil {
				panic(err)
			}
			old := c.SHA256
			c.Files["policy.yaml"] = strings.Replace(c.Files["policy.yaml"], `p == "7"`, `p == "9"`, 1)
			c.SHA256 = config.Digest(c.Files)
			digests[old] = c.SHA256
			text, err := json.Marshal(&c)
			if err != nil {
				panic(err)
			}
			return text
		case evidence.KindIntent:
			for old, now := range digests {
				body = bytes.Replace(body, []byte(old[:16]), []byte(now[:16]), 1)
			}
			if bytes.Contains(body, []byte(`"code":"approval"`)) {
				h.Decision = "allow"
				body = bytes.Replace(body, []byte(`"rule":"listed"`), []byte(`"rule":"young"`), 1)
				body = bytes.Replace(body, []byte(`,"code":"approval"`), nil, 1)
			}
		}
		return body
	}
}

// TestReloadUnderLoad changes the policy while sessions work. Each request gets the answer of one policy or the other, is
// recorded with the one that it got, and nothing is lost.
func TestReloadUnderLoad(t *testing.T) {
	p := newPlace(t, "")
	const strict = "rules: [{name: reads, when: 'action.effects == [\"read\"]', then: allow}, {name: never, when: '\"lock\" in action.effects', then: deny}]\n"
	const loose = "rules: [{name: most, when: '!(\"file\" in action.effects)', then: allow}]\n"
	p.write(t, "policy.yaml", strict)
	g := p.start(t)
	ctx, stop := context.WithTimeout(t.Context(), 60*time.Second)
	defer stop()
	done := make(chan struct{})
	var sent, allowed atomic.Int64
	ended := make(chan error, 8)
	for i := range 8 {
		token := p.issuer.Token(t, fmt.Sprintf("worker%d", i), "agents")
		work := func() error {
			c, err := connect(ctx, g.Addresses()[0].Address, token)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close(ctx) }()
			for n := 0; ; n++ {
				select {
				case <-done:
					return nil
				default:
				}
				if _, err := c.Exec(ctx, "SELECT 1"); err != nil { // both policies allow it
					return err
				}
				_, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock_shared($1)", n)
				var refused *pgconn.PgError
				if err != nil && (!errors.As(err, &refused) || refused.Code != "42501" || !strings.Contains(refused.Detail, "rule never")) {
					return err
				}
				sent.Add(2)
				if err == nil {
					allowed.Add(1)
				}
			}
		}
		go func() { ended <- work() }()
	}
	const reloads = 40
	for i := range reloads {
		text := loose
		if i%2 == 1 {
			text = strict
		}
		p.write(t, "policy.yaml", text+strings.Repeat("#", i))
		if err := g.Reload(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	close(done)
	for range 8 {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	if n := allowed.Load(); n == 0 || n == sent.Load()/2 {
		t.Errorf("%d of %d locks were allowed: the policies did not both count", n, sent.Load()/2)
	}
	keys, err := LoadKeys(p.config(t))
	if err != nil {
		t.Fatal(err)
	}
	_, pkg := export(t, g.client(t), keys, admin.ExportRequest{})
	r := verifyAgain(t, pkg, keys)
	// pgx prepares each text once, which is a request of its own.
	var again int64
	if _, err := fmt.Sscanf(r.Decisions, "%d decided again", &again); err != nil || r.Failed() || again < sent.Load() || len(r.Exceptions) > 0 {
		t.Errorf("of %d requests: %s, %v, %v", sent.Load(), r.Decisions, r.Problems, r.Exceptions)
	}
	g.end(t)
}
