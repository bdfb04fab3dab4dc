package config

import (
	"strings"
	"testing"
	"time"
)

const peoplePolicy = `approvers: {groups: [leads], within: 10m}
people:
  - {person: ana, identities: ["corp|ana@example.com", "slack|U02A"], groups: [dba]}
  - {person: ben, keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKIO8iORHIqLT4JsAtyFmJMf+QTJMiC2c7wN6ChaRnfp ben"]}
owners: [{principal: "ci|repo:acme/*:main", person: ana}, {principal: "ci|*", person: ben}]
rules:
  - {name: all, when: 'true', then: allow}
  - name: deletes
    when: '"write" in action.effects'
    then: hold
    approvers: {groups: [dba], quorum: 2, within: 5m, in_transaction: 30s, owner: unknown-ok}
  - {name: others, when: '"schema" in action.effects', then: hold}
packs: [writes-need-a-person]
`

func TestPeople(t *testing.T) {
	t.Parallel()
	c, err := Load(write(t, map[string]string{"gatebook.yaml": strings.Replace(good, "include: [targets.d/*.yaml]\n", peoplePolicy, 1)}))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range c.Policy.Rules() {
		a := r.Approvers
		switch {
		case r.Name == "all":
			if a != nil && r.Then.String() == "allow" {
				t.Errorf("%s has approvers", r.Name)
			}
		case a == nil:
			t.Errorf("%s: nobody may approve", r.Name)
		case r.Name == "deletes":
			if a.Groups[0] != "dba" || a.Quorum != 2 || a.Within != 5*time.Minute || a.InTransaction != 30*time.Second || !a.UnknownOwner {
				t.Errorf("%s: %+v", r.Name, a)
			}
		default:
			if a.Groups[0] != "leads" || a.Quorum != 1 || a.Within != 10*time.Minute || a.InTransaction != 0 || a.UnknownOwner {
				t.Errorf("%s: %+v", r.Name, a)
			}
		}
	}
	for identity, want := range map[string]string{"corp|ana@example.com": "ana", "slack|U02A": "ana", "corp|ana": "", c.People[1].Keys[0]: ""} {
		got := ""
		if p := c.PersonOf(identity); p != nil {
			got = p.Person
		}
		if got != want {
			t.Errorf("%s is %q, want %q", identity, got, want)
		}
	}
	for principal, want := range map[string]string{
		"ci|repo:acme/x:main": "ana", "ci|repo:acme/x:main2": "ben", "ci|repo:other/x:main": "ben", "other|x": "", "xci|y": "", "ci|a\nrepo": "ben",
	} {
		if got := c.OwnerOf(principal); got != want {
			t.Errorf("%s is owned by %q, want %q", principal, got, want)
		}
	}
}

func TestPeopleProblems(t *testing.T) {
	t.Parallel()
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKIO8iORHIqLT4JsAtyFmJMf+QTJMiC2c7wN6ChaRnfp"
	for text, want := range map[string]string{
		"people: [{person: 'a b'}]":                                                        "must be letters",
		"people: [{person: a}, {person: a}]":                                               "listed twice",
		"people: [{person: a, identities: [x]}]":                                           "is not ISSUER|NAME",
		"people: [{person: a, identities: ['c|x']}, {person: b, identities: ['c|x']}]":     "one identity is one person's",
		"people: [{person: a, keys: ['" + key + "']}, {person: b, keys: ['" + key + "']}]": "one key is one person's",
		"people: [{person: a, keys: [nokey]}]":                                             "want a public key",
		"owners: [{principal: x, person: a}]":                                              "is not ISSUER|NAME",
		"owners: [{principal: 'c|x'}]":                                                     "must be letters",
		"approvers: {quorum: 1}":                                                           "groups must name",
		"approvers: {groups: [a], owner: maybe}":                                           "unknown-ok",
		"approvers: {groups: [a], quorum: -1}":                                             "quorum must be",
		"rules: [{name: a, when: 'true', then: hold, approvers: {}}]":                      "groups must name",
		"rules: [{name: a, when: 'true', then: allow, approvers: {groups: [dba]}}]":        "only a rule that holds",
	} {
		_, err := Load(write(t, map[string]string{"gatebook.yaml": strings.Replace(good, "include: [targets.d/*.yaml]\n", text+"\n", 1)}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// The page and its issuer, as blocks of a configuration.
const (
	pageIssuer = `  - {name: corp, for: people, url: "https://login.example", audience: [page, cli]}
`
	pageBlock = `console: {address: "127.0.0.1:0", issuer: corp, client_secret: "file:secret"}
`
)

// TestConsole: what would let somebody else rule, or nobody, is refused by name.
func TestConsole(t *testing.T) {
	t.Parallel()
	const page = pageIssuer + pageBlock
	base := strings.Replace(good, "listeners:", "@\nlisteners:", 1)
	load := func(page string) error {
		_, err := Load(write(t, map[string]string{"gatebook.yaml": strings.Replace(base, "@\n", page, 1), "targets.d/orders.yaml": goodTarget}))
		return err
	}
	if err := load(page); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, to, want string }{
		{"127.0.0.1:0", "0.0.0.0:8443", "needs a certificate"},
		{`"127.0.0.1:0", `, `"0.0.0.0:8443", insecure_plaintext: true, `, "only on loopback"},
		{"issuer: corp", "issuer: crop", `"crop" is not among the issuers`},
		{"issuer: corp", "issuer: ci", "for agents"},
		{"issuer: corp", "issuer: corp, client_id: other", "not among the audiences"},
		{"issuer: corp", "issuer: corp, url: http://gate.example", "not an https URL"},
		{"issuer: corp", "issuer: corp, url: https://gate.example/path", "not an https URL"},
		{"issuer: corp", "issuer: corp, url: 'https://user@gate.example'", "not an https URL"},
		{"file:secret", "hunter2", "file:"},
		{`"127.0.0.1:0", `, ``, "address"},
		{"issuer: corp", "issuer: corp, tls: {cert: file:x}", "cert and key go together"},
	} {
		err := load(strings.Replace(page, tt.from, tt.to, 1))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want %q", tt.to, err, tt.want)
		}
	}
	// A rule that asks for a sign-in needs a page to sign in to.
	_, err := Load(write(t, map[string]string{"gatebook.yaml": good + "approvers: {groups: [dba], max_auth_age: 5m}\n", "targets.d/orders.yaml": goodTarget}))
	if err == nil || !strings.Contains(err.Error(), "no console") {
		t.Errorf("%v", err)
	}
}
