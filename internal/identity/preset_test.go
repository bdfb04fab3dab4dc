package identity

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/testkit/idp"
)

// The claim sets below have the members that each system documents, with
// invented values.

func githubClaims() idp.Claims {
	return idp.Claims{
		"jti": "0f3c", "sub": "repo:acme/orders:environment:prod", "aud": "gatebook", "iss": githubURL,
		"environment": "prod", "ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true",
		"sha": "5f2a", "repository": "acme/orders", "repository_id": "74", "repository_owner": "acme", "repository_owner_id": "65",
		"repository_visibility": "private", "run_id": "30433642", "run_number": "10", "run_attempt": "2", "runner_environment": "github-hosted",
		"actor": "octo-ana", "actor_id": "12", "workflow": "deploy", "workflow_ref": "acme/orders/.github/workflows/deploy.yml@refs/heads/main",
		"workflow_sha": "5f2a", "job_workflow_ref": "acme/shared/.github/workflows/deploy.yml@refs/heads/main", "job_workflow_sha": "5f2a",
		"head_ref": "", "base_ref": "", "event_name": "workflow_dispatch", "enterprise": "acme-inc", "enterprise_id": "9",
	}
}

func gitlabClaims() idp.Claims {
	return idp.Claims{
		"namespace_id": "72", "namespace_path": "acme/payments", "project_id": "20", "project_path": "acme/payments/orders",
		"user_id": "1", "user_login": "ana", "user_email": "ana@example.com", "user_access_level": "developer",
		"user_identities": []any{map[string]any{"provider": "github", "extern_uid": "2"}}, "pipeline_id": "574", "pipeline_source": "push",
		"job_id": "302", "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true",
		"groups_direct": []any{"acme/payments", "acme/infra"}, "environment": "prod", "environment_protected": "true",
		"deployment_tier": "production", "environment_action": "start", "runner_id": 1, "runner_environment": "self-hosted",
		"sha": "714a", "project_visibility": "private", "ci_config_ref_uri": "gitlab.com/acme/payments/orders//.gitlab-ci.yml@refs/heads/main",
		"ci_config_sha": "714a", "jti": "235b", "iss": gitlabURL, "aud": "gatebook",
		"sub": "project_path:acme/payments/orders:ref_type:branch:ref:main",
	}
}

func kubernetesClaims(iss string) idp.Claims {
	return idp.Claims{
		"aud": []any{"gatebook"}, "iss": iss, "jti": "ed2a", "sub": "system:serviceaccount:payments:reporter",
		"kubernetes.io": map[string]any{
			"namespace": "payments", "node": map[string]any{"name": "node-1", "uid": "646e"}, "pod": map[string]any{"name": "reporter-x", "uid": "5e0b"},
			"serviceaccount": map[string]any{"name": "reporter", "uid": "14ee"}, "warnafter": time.Now().Unix() + 3607,
		},
	}
}

func spiffeClaims(iss string) idp.Claims {
	return idp.Claims{"iss": iss, "sub": "spiffe://prod.example.com/ns/payments/sa/reporter", "aud": []any{"gatebook"}}
}

// forged signs claims of a foreign issuer with the keys of a test server,
// which the verifier is given as a file.
func forged(t *testing.T, s *idp.Server, c, changes idp.Claims, header map[string]any) string {
	t.Helper()
	now := time.Now().Unix()
	fresh := idp.With(idp.Claims{"iat": now - 1, "nbf": now - 1, "exp": now + 300}, c)
	return s.Sign(t, idp.With(fresh, changes), header)
}

func presetVerifier(t *testing.T, s *idp.Server, change func(*Issuer)) *Verifier {
	t.Helper()
	o := Issuer{Name: "ci", For: Agents, Audiences: []string{"gatebook"}, Keys: idp.WriteFile(t, "k", s.KeySetBytes(t))}
	change(&o)
	return newVerifier(t, o)
}

func TestPresets(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	const cluster = "https://kubernetes.default.svc.cluster.local"
	github := func(o *Issuer) { o.Preset, o.Bindings = githubActions, []string{`claims.repository_owner == "acme"`} }
	gitlab := func(o *Issuer) {
		o.Preset, o.Bindings = gitlabCI, []string{`claims.namespace_path.startsWith("acme/")`}
	}
	kube := func(o *Issuer) { o.Preset, o.URL = kubernetes, cluster }
	svid := func(o *Issuer) {
		o.Preset, o.URL, o.TrustDomain = spiffe, "https://oidc.prod.example.com", "prod.example.com"
	}
	const svidURL = "https://oidc.prod.example.com"
	tests := []struct {
		name    string
		options func(*Issuer)
		claims  idp.Claims
		header  map[string]any
		want    access.Principal
	}{
		{"github-actions", github, githubClaims(), nil, access.Principal{Name: "repo:acme/orders:environment:prod", Owner: "github|octo-ana",
			Groups: []string{"environment:prod", "event:workflow_dispatch", "owner:acme", "repository:acme/orders"}}},
		{"github-actions without environment and actor", github, idp.With(githubClaims(), idp.Claims{"environment": nil, "actor": nil}), nil,
			access.Principal{Name: "repo:acme/orders:environment:prod", Groups: []string{"event:workflow_dispatch", "owner:acme", "repository:acme/orders"}}},
		{"gitlab-ci", gitlab, gitlabClaims(), nil, access.Principal{Name: "project_path:acme/payments/orders:ref_type:branch:ref:main", Owner: "gitlab|ana",
			Groups: []string{"environment:prod", "namespace:acme/payments", "project:acme/payments/orders", "protected", "source:push"}}},
		{"gitlab-ci self-managed needs no binding", func(o *Issuer) { o.Preset, o.URL = gitlabCI, "https://git.corp.example" },
			idp.With(gitlabClaims(), idp.Claims{"iss": "https://git.corp.example", "ref_protected": "false", "environment": nil}), nil,
			access.Principal{Name: "project_path:acme/payments/orders:ref_type:branch:ref:main", Owner: "gitlab|ana",
				Groups: []string{"namespace:acme/payments", "project:acme/payments/orders", "source:push"}}},
		{"kubernetes", kube, kubernetesClaims(cluster), map[string]any{"typ": nil}, access.Principal{Name: "system:serviceaccount:payments:reporter",
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:payments"}}},
		{"spiffe", svid, spiffeClaims(svidURL), map[string]any{"typ": "JOSE"}, access.Principal{Name: "spiffe://prod.example.com/ns/payments/sa/reporter",
			Groups: []string{"spiffe://prod.example.com"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := presetVerifier(t, s, tt.options)
			got, deny := verify(t, v, forged(t, s, tt.claims, nil, tt.header))
			if deny != nil {
				t.Fatal(deny)
			}
			p := got.Principal
			short := access.Principal{Name: p.Name, Groups: p.Groups, Owner: p.Owner, Actor: p.Actor}
			if d := cmp.Diff(tt.want, short); d != "" {
				t.Error(d)
			}
			if p.Subject != p.Name || p.IssuedAt.IsZero() {
				t.Errorf("got subject %q, issued %s", p.Subject, p.IssuedAt)
			}
		})
	}
	refused := []struct {
		name    string
		options func(*Issuer)
		claims  idp.Claims
		change  idp.Claims
	}{
		{"github: stranger", github, githubClaims(), idp.Claims{"repository": "evil/x", "repository_owner": "evil"}},
		{"github: owner and repository disagree", github, githubClaims(), idp.Claims{"repository": "evil/x"}},
		{"github: owner is a prefix", github, githubClaims(), idp.Claims{"repository_owner": "acme-evil", "repository": "acme-evil/x"}},
		{"github: repository absent", github, githubClaims(), idp.Claims{"repository": nil}},
		{"gitlab: stranger", gitlab, gitlabClaims(), idp.Claims{"namespace_path": "evil", "project_path": "evil/x"}},
		{"gitlab: namespace and project disagree", gitlab, gitlabClaims(), idp.Claims{"project_path": "evil/x"}},
		{"kubernetes: no service account", kube, kubernetesClaims(cluster), idp.Claims{"sub": "system:node:x"}},
		{"kubernetes: sub and claim disagree", kube, kubernetesClaims(cluster), idp.Claims{"sub": "system:serviceaccount:kube-system:admin"}},
		{"kubernetes: claim absent", kube, kubernetesClaims(cluster), idp.Claims{"kubernetes.io": nil}},
		{"spiffe: other domain", svid, spiffeClaims(svidURL), idp.Claims{"sub": "spiffe://evil.example.com/x"}},
		{"spiffe: longer domain", svid, spiffeClaims(svidURL), idp.Claims{"sub": "spiffe://prod.example.com.evil/x"}},
		{"spiffe: no path", svid, spiffeClaims(svidURL), idp.Claims{"sub": "spiffe://prod.example.com/"}},
		{"spiffe: dot segments", svid, spiffeClaims(svidURL), idp.Claims{"sub": "spiffe://prod.example.com/a/../b"}},
		{"spiffe: last dot segment", svid, spiffeClaims(svidURL), idp.Claims{"sub": "spiffe://prod.example.com/a/.."}},
		{"spiffe: empty segment", svid, spiffeClaims(svidURL), idp.Claims{"sub": "spiffe://prod.example.com/a//b"}},
		{"spiffe: escapes", svid, spiffeClaims(svidURL), idp.Claims{"sub": "spiffe://prod.example.com/a%2fb"}},
		{"spiffe: https", svid, spiffeClaims(svidURL), idp.Claims{"sub": "https://prod.example.com/a"}},
	}
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := presetVerifier(t, s, tt.options)
			if got, deny := verify(t, v, forged(t, s, tt.claims, tt.change, nil)); deny == nil {
				t.Errorf("accepted as %s", got.Principal.Name)
			} else if deny.Hint != string(hintClaims) {
				t.Errorf("got %v, want the hint about claims", deny)
			}
		})
	}
}

func TestPublicIssuersNeedARestriction(t *testing.T) {
	t.Parallel()
	issuers := map[string]func(*Issuer){
		"github": func(o *Issuer) { o.Preset = githubActions }, "github by url": func(o *Issuer) { o.URL = githubURL },
		"github with slash": func(o *Issuer) { o.URL = githubURL + "/" },
		"gitlab":            func(o *Issuer) { o.Preset = gitlabCI }, "gitlab by url": func(o *Issuer) { o.URL = gitlabURL },
		"google": func(o *Issuer) { o.URL = googleURL },
	}
	open := map[string][]string{
		"none": nil, "true": {"true"}, "about something else": {`claims.ref_protected == "true"`},
		"any value": {`claims.sub != ""`}, "present": {"has(claims.sub)"}, "negative": {`claims.sub != "repo:evil/x"`},
		"loose pattern":          {`claims.sub.matches("acme/.*") || claims.sub.contains(":")  || true`},
		"reads it, does nothing": {`claims.sub == claims.sub`},
	}
	closed := map[string][]string{
		"exact": {`claims.sub == "repo:acme/orders:ref:refs/heads/main"`}, "prefix": {`claims.sub.startsWith("repo:acme/")`},
		"among others": {"true", `claims.sub == "x"`},
	}
	build := func(t *testing.T, set func(*Issuer), bindings []string) error {
		t.Helper()
		v, err := New(t.Context(), Options{Issuers: []Issuer{plain(func(o *Issuer) { o.URL = ""; set(o); o.Bindings = bindings })}})
		if err == nil {
			v.Close()
		}
		return err
	}
	for iss, set := range issuers {
		for name, b := range open {
			t.Run(fmt.Sprint(iss, " open: ", name), func(t *testing.T) {
				t.Parallel()
				if err := build(t, set, b); err == nil || !strings.Contains(err.Error(), "write for example bindings: ['claims.") {
					t.Errorf("got %v, want advice on what to write", err)
				}
			})
		}
		for name, b := range closed {
			t.Run(fmt.Sprint(iss, " closed: ", name), func(t *testing.T) {
				t.Parallel()
				if err := build(t, set, b); err != nil {
					t.Error(err)
				}
			})
		}
	}
	t.Run("the advice is accepted when followed", func(t *testing.T) {
		t.Parallel()
		for url, p := range publicIssuers() {
			b := strings.TrimSuffix(strings.TrimPrefix(p.advice, "bindings: ['"), "']")
			if err := build(t, func(o *Issuer) { o.URL = url }, []string{b}); err != nil {
				t.Error(err)
			}
		}
	})
}
