package identity

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Names of presets.
const (
	githubActions = "github-actions"
	gitlabCI      = "gitlab-ci"
	kubernetes    = "kubernetes"
	spiffe        = "spiffe"
)

const (
	githubURL = "https://token.actions.githubusercontent.com"
	gitlabURL = "https://gitlab.com"
	googleURL = "https://accounts.google.com"
)

// A preset is what one system's documents say about its tokens.
type preset struct {
	url       string // "" where each installation has its own
	principal string
	groups    string
	owner     string
	bindings  []string
	types     []string // values of "typ" beside the usual
	uses      []string // values of a key's "use" beside "sig"
	algs      []string // accepted algorithms, where not the usual
}

// presets is the table of presets. Owners are written "github|LOGIN" and
// "gitlab|LOGIN", the form in which a
// person's identities are listed in the configuration.
func presets() map[string]preset {
	return map[string]preset{
		// docs.github.com/actions/reference/security/oidc
		githubActions: {
			url:       githubURL,
			principal: `claims.sub`,
			groups: `["repository:" + claims.repository, "owner:" + claims.repository_owner, "event:" + claims.event_name]` +
				` + (has(claims.environment) ? ["environment:" + claims.environment] : [])`,
			owner:    `has(claims.actor) ? "github|" + claims.actor : ""`,
			bindings: []string{`claims.repository.startsWith(claims.repository_owner + "/")`},
		},
		// docs.gitlab.com/ci/secrets/id_token_authentication
		gitlabCI: {
			url:       gitlabURL,
			principal: `claims.sub`,
			groups: `["project:" + claims.project_path, "namespace:" + claims.namespace_path, "source:" + claims.pipeline_source]` +
				` + (has(claims.ref_protected) && claims.ref_protected == "true" ? ["protected"] : [])` +
				` + (has(claims.environment) ? ["environment:" + claims.environment] : [])`,
			owner:    `has(claims.user_login) ? "gitlab|" + claims.user_login : ""`,
			bindings: []string{`claims.project_path.startsWith(claims.namespace_path + "/")`},
		},
		// kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin.
		// The groups are those that the cluster itself gives to service accounts.
		kubernetes: {
			principal: `claims.sub`,
			groups:    `["system:serviceaccounts", "system:serviceaccounts:" + claims["kubernetes.io"].namespace]`,
			bindings: []string{
				`claims.sub == "system:serviceaccount:" + claims["kubernetes.io"].namespace + ":" + claims["kubernetes.io"].serviceaccount.name`,
			},
		},
		// github.com/spiffe/spiffe JWT-SVID.md. "iss" is optional there and
		// required here, since it selects the issuer.
		spiffe: {
			principal: `claims.sub`,
			groups:    `["spiffe://" + claims.sub.split("/")[2]]`,
			types:     []string{"jose"},
			uses:      []string{"jwt-svid"},
			algs:      []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"},
		},
	}
}

// Presets lists the names of the presets.
func Presets() []string { return slices.Sorted(maps.Keys(presets())) }

// spiffeBindings ties tokens to the trust domain, as JWT-SVID section 3 asks
// of a validator, and to the form of a SPIFFE ID with a path: names that only
// differ in an empty or dot segment must not be two principals.
func spiffeBindings(domain string) []string {
	return []string{
		fmt.Sprintf(`claims.sub.startsWith("spiffe://%s/")`, domain), // checked, needs no quoting
		`claims.sub.matches("^spiffe://[a-z0-9._-]+(/[a-zA-Z0-9._-]+)+$")`,
		`!claims.sub.matches("/[.]{1,2}(/|$)")`,
	}
}

// A publicIssuer serves everybody: any stranger gets a correctly signed token
// with whatever audience he asks for, so that only bindings keep him out.
type publicIssuer struct {
	claims   []string       // a binding must read one of them
	stranger map[string]any // a realistic token of somebody else
	advice   string
}

// publicIssuers lists them by URL.
func publicIssuers() map[string]publicIssuer {
	return map[string]publicIssuer{
		githubURL: {
			claims: []string{"sub", "repository", "repository_id", "repository_owner", "repository_owner_id",
				"job_workflow_ref", "enterprise", "enterprise_id"},
			advice: `bindings: ['claims.repository_owner == "YOUR-ORG"']`,
			stranger: map[string]any{
				"iss": githubURL, "sub": "repo:gatebook-stranger-q7/any:ref:refs/heads/main", "aud": "gatebook",
				"repository": "gatebook-stranger-q7/any", "repository_id": "990017", "repository_owner": "gatebook-stranger-q7",
				"repository_owner_id": "990018", "repository_visibility": "public", "actor": "gatebook-stranger-q7", "actor_id": "990018",
				"job_workflow_ref": "gatebook-stranger-q7/any/.github/workflows/ci.yml@refs/heads/main",
				"workflow_ref":     "gatebook-stranger-q7/any/.github/workflows/ci.yml@refs/heads/main",
				"job_workflow_sha": "00", "workflow_sha": "00", "sha": "00", "head_ref": "", "base_ref": "",
				"ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "event_name": "push", "workflow": "CI",
				"environment": "production", "runner_environment": "github-hosted", "run_id": "1", "run_number": "1", "run_attempt": "1",
				"enterprise": "gatebook-stranger-q7", "enterprise_id": "990019", "jti": "x", "iat": int64(1), "nbf": int64(1), "exp": int64(2),
			},
		},
		gitlabURL: {
			claims: []string{"sub", "namespace_path", "namespace_id", "project_path", "project_id", "ci_config_ref_uri", "groups_direct"},
			advice: `bindings: ['claims.namespace_path == "YOUR-GROUP" || claims.namespace_path.startsWith("YOUR-GROUP/")']`,
			stranger: map[string]any{
				"iss": gitlabURL, "sub": "project_path:gatebook-stranger-q7/any:ref_type:branch:ref:main", "aud": "gatebook",
				"namespace_path": "gatebook-stranger-q7", "namespace_id": "990017", "project_path": "gatebook-stranger-q7/any",
				"project_id": "990018", "user_id": "990019", "user_login": "gatebook-stranger-q7", "user_email": "x@gatebook-stranger-q7.example",
				"user_access_level": "owner", "pipeline_id": "1", "pipeline_source": "push", "job_id": "1", "ref": "main", "ref_type": "branch",
				"ref_path": "refs/heads/main", "ref_protected": "true", "runner_id": int64(1), "runner_environment": "gitlab-hosted",
				"sha": "00", "ci_config_ref_uri": "gitlab.com/gatebook-stranger-q7/any//.gitlab-ci.yml@refs/heads/main", "ci_config_sha": "00",
				"project_visibility": "public", "environment": "production", "environment_protected": "true", "deployment_tier": "production",
				"environment_action": "start", "groups_direct": []any{"gatebook-stranger-q7"}, "jti": "x",
				"iat": int64(1), "nbf": int64(1), "exp": int64(2),
			},
		},
		googleURL: {
			claims: []string{"sub", "email", "hd", "azp"},
			advice: `bindings: ['claims.email.endsWith("@YOUR-PROJECT.iam.gserviceaccount.com")']`,
			stranger: map[string]any{
				"iss": googleURL, "sub": "990017990017990017990", "azp": "990017990017990017990", "aud": "gatebook",
				"email": "any@gatebook-stranger-q7.iam.gserviceaccount.com", "email_verified": true, "hd": "gatebook-stranger-q7.example",
				"iat": int64(1), "exp": int64(2),
			},
		},
	}
}

// checkRestricted refuses an issuer that serves everybody unless its bindings
// keep a stranger out. The bindings are tried on a stranger's token, since
// reading the right claim proves nothing: claims.repository != "x" reads it too.
func checkRestricted(o *Issuer, m *mapping) error {
	p, ok := publicIssuers()[strings.TrimSuffix(o.URL, "/")]
	if !ok {
		return nil
	}
	reads := slices.ContainsFunc(p.claims, func(c string) bool {
		return slices.ContainsFunc(m.own, func(b binding) bool { return b.Fields("claims")[c] })
	})
	if reads && m.checkBindings(p.stranger) != nil {
		return nil //nolint:nilerr // the stranger is refused, as it must be
	}
	why := "no binding says whose"
	if reads {
		why = "the bindings also accept a stranger's"
	}
	return fmt.Errorf("bindings: %s issues tokens to everybody, and %s are accepted here; write for example %s", o.URL, why, p.advice)
}
