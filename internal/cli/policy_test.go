package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const policyConfig = `version: 1
data: ./data
issuers:
  - {name: ci, for: agents, url: "https://login.example.com", audience: gatebook}
listeners:
  - {protocol: postgres, address: "127.0.0.1:6432"}
targets:
  - {name: orders, protocol: postgres, address: "db:5432", labels: {env: prod}, roles: {default: {user: a, password: file:secret}}, allow: [agents]}
include: [policy.yaml]
`

const policyRules = `rules:
  - {name: reads, when: '"agents" in principal.groups && action.effects == ["read"]', then: allow}
  - {name: nights, when: 'time.getHours("UTC") < 6', then: deny, reason: Nothing at night.}
packs: [no-unfiltered-writes]
`

// policyPlace writes a configuration and further files, and returns its path.
func policyPlace(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"gatebook.yaml": policyConfig, "policy.yaml": policyRules}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "gatebook.yaml")
}

// TestPolicyCommands runs each command of the policy, and holds what it prints and its exit code.
func TestPolicyCommands(t *testing.T) {
	const at = "2026-03-02T12:00:00Z"
	good := policyPlace(t, map[string]string{
		"good.yaml": `cases:
  - {name: read, principal: {groups: [agents]}, target: {name: orders}, action: {sql: "SELECT 1"}, time: "` + at + `", expect: allow, rule: reads}
  - {name: delete, principal: {groups: [agents]}, target: {name: orders}, action: {sql: "DELETE FROM t"}, time: "` + at + `", expect: deny, rule: no-unfiltered-writes/filter}
`,
		"bad.yaml": `cases:
  - {name: stranger, target: {name: orders}, action: {sql: "SELECT 1"}, time: "` + at + `", expect: allow}
`,
		"odd.yaml": "cases:\n  - {name: x, action: {sgl: SELECT 1}, expect: allow}\n",
	})
	broken := policyPlace(t, map[string]string{"policy.yaml": "rules:\n  - {name: reads, when: 'action.efects == []', then: alow}\n"})
	if err := os.Symlink("data", filepath.Join(filepath.Dir(good), "link")); err != nil {
		t.Fatal(err)
	}
	cases := func(name string) string { return filepath.Join(filepath.Dir(good), name) }
	unsigned := policyPlace(t, map[string]string{"gatebook.yaml": policyConfig + "signers: {quorum: 1, keys: [{person: ana, key: " +
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB}]}\n"})
	explain := func(args ...string) []string {
		return append([]string{"-c", good, "policy", "explain", "--target", "orders", "--group", "agents", "--time", at}, args...)
	}
	for _, test := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"-c", good, "policy", "check"}, 0, []string{"reads", "policy.yaml:2", "3 rules (1 allow, 2 deny, 0 hold)"}},
		{[]string{"-c", broken, "policy", "check"}, 1, []string{"policy.yaml:2", "effects", "alow", "allow"}},
		{[]string{"-c", unsigned, "policy", "check"}, 1, []string{"NOT SIGNED", "signed by none; 1 must sign", "missing: ana", "ssh-keygen -Y sign"}},
		{[]string{"-c", unsigned, "policy", "check", "--json"}, 1, []string{`"ok": false`, `"signed_by": []`, `missing: ana`}},
		{[]string{"-c", good, "policy", "manifest"}, 0, []string{"gatebook-config-manifest 1\n", "  gatebook.yaml\n", "  policy.yaml\n"}},
		{[]string{"-c", good, "--data", filepath.Dir(good) + "/other/../data", "policy", "check"}, 0, []string{"3 rules"}},
		{[]string{"-c", good, "--data", filepath.Dir(good), "policy", "check"}, 1, []string{"--data says", "write data: "}},
		{[]string{"-c", good, "--data", filepath.Dir(good) + "/link", "serve"}, 1, []string{"--data says"}},
		{[]string{"-c", broken, "policy", "manifest"}, 1, []string{"policy.yaml:2"}},
		{[]string{"policy", "packs"}, 0, []string{"read-only", "writes-need-a-person"}},
		{[]string{"policy", "packs", "no-opaque"}, 0, []string{"rules:", "action.opaque", "then: deny"}},
		{[]string{"policy", "packs", "none"}, 1, []string{"no pack is named"}},
		{[]string{"-c", good, "policy", "test", cases("good.yaml")}, 0, []string{"2 cases"}},
		{[]string{"-c", good, "policy", "test", cases("bad.yaml")}, 1, []string{"bad.yaml:2", "stranger", "default", "want allow", "1 of 1"}},
		{[]string{"-c", good, "policy", "test", cases("odd.yaml")}, 1, []string{"odd.yaml:2", "sgl"}},
		{[]string{"-c", good, "policy", "test", cases("none.yaml")}, 1, []string{"none.yaml"}},
		{explain("SELECT v FROM t WHERE id = 1"), 0, []string{"Decision: allow by reads", "relation t", "Names are taken as written"}},
		{explain("DELETE FROM t"), 0, []string{"Decision: deny by no-unfiltered-writes/filter", "Add a WHERE", "true: it changes data"}},
		{explain("--time", "2026-03-02T03:00:00Z", "SELECT 1"), 0, []string{"Decision: deny by nights", "Nothing at night."}},
		{explain("DO $$ BEGIN END $$"), 0, []string{"Decision: deny by default", "execute"}},
		{explain("SELEC"), 0, []string{"syntax error"}},
		{explain(), 3, []string{"no SQL"}},
		{[]string{"-c", good, "policy", "explain", "--target", "none", "SELECT 1"}, 1, []string{"no target named"}},
		{explain("--time", "noon", "SELECT 1"), 3, []string{"is not a time"}},
	} {
		code, out, errs := run(test.args...)
		for _, want := range test.says {
			if code != test.code || !strings.Contains(out+errs, want) {
				t.Errorf("%v: code %d, want %d with %q\n%s%s", test.args, code, test.code, want, out, errs)
			}
		}
	}
	code, out, errs := run(explain("--format", "json", "SELECT 1")...)
	if code != 0 || !json.Valid([]byte(out)) {
		t.Errorf("json: %d\n%s%s", code, out, errs)
	}
}
