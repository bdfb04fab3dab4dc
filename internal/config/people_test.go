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
