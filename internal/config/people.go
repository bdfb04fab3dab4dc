package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/sshsig"
)

// DefaultWithin is how long a held request waits where its rule does not say.
const DefaultWithin = 30 * time.Minute

// people checks people and owners.
func (ld *loader) people() {
	c := &ld.l.Config
	root := source{ld.main, ""}
	names, identities, keys := map[string]bool{}, map[string]string{}, map[string]string{}
	for i := range c.People {
		p := &c.People[i]
		where := fmt.Sprintf("people[%d]", i)
		report := func(field, format string, args ...any) { ld.problem(root, where+"."+field, format, args...) }
		switch {
		case !personName.MatchString(p.Person):
			report("person", "%q must be letters, digits, . _ @ + and -", p.Person)
		case names[p.Person]:
			report("person", "%s is listed twice: give one entry all identities and keys", p.Person)
		}
		names[p.Person] = true
		for _, id := range p.Identities {
			issuer, name, ok := strings.Cut(id, "|")
			switch {
			case !ok || issuer == "" || name == "":
				report("identities", "%q is not ISSUER|NAME", id)
			case identities[id] != "":
				report("identities", "%s is also %s's: one identity is one person's", id, identities[id])
			}
			identities[id] = p.Person
		}
		for _, line := range p.Keys {
			key, err := sshsig.ParseKey(line)
			if err != nil {
				report("keys", "%v", err)
				continue
			}
			if other := keys[key.Fingerprint()]; other != "" {
				report("keys", "this key is also %s's: one key is one person's", other)
			}
			keys[key.Fingerprint()] = p.Person
		}
	}
	for i := range c.Owners {
		o := &c.Owners[i]
		where := fmt.Sprintf("owners[%d]", i)
		if !strings.Contains(o.Principal, "|") {
			ld.problem(root, where+".principal", "%q is not ISSUER|NAME, where * stands for any text", o.Principal)
		}
		if !personName.MatchString(o.Person) {
			ld.problem(root, where+".person", "%q must be letters, digits, . _ @ + and -", o.Person)
		}
	}
}

// approvers checks who may release, and returns it as the policy takes it; nil for nobody.
func (ld *loader) approvers(at source, a *Approvers) *access.Approvers {
	if a == nil {
		return nil
	}
	switch {
	case len(a.Groups) == 0 || slices.Contains(a.Groups, ""):
		ld.problem(at, "approvers", "groups must name who may approve")
	case a.Quorum < 0:
		ld.problem(at, "approvers", "quorum must be 1 or more")
	case slices.Contains(a.BreakGlass, ""):
		ld.problem(at, "approvers", "break_glass must name groups")
	}
	ld.oneOf(at, "approvers.owner", a.Owner, "", "unknown-ok")
	return &access.Approvers{
		Groups: a.Groups, Quorum: max(a.Quorum, 1), Within: a.Within.Or(DefaultWithin), InTransaction: time.Duration(a.InTransaction),
		UnknownOwner: a.Owner == "unknown-ok", BreakGlass: a.BreakGlass,
	}
}

// PersonOf returns the person of an identity ("issuer|name") or of a key (its fingerprint), nil if it is nobody's.
func (c *Config) PersonOf(identity string) *Person {
	for i := range c.People {
		p := &c.People[i]
		if slices.Contains(p.Identities, identity) || slices.ContainsFunc(p.Keys, func(line string) bool {
			key, err := sshsig.ParseKey(line)
			return err == nil && key.Fingerprint() == identity
		}) {
			return p
		}
	}
	return nil
}

// OwnerOf returns who answers for a principal ("issuer|name") by the list of owners, "" if nobody does.
func (c *Config) OwnerOf(principal string) string {
	for _, o := range c.Owners {
		parts := strings.Split(o.Principal, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		if ok, err := regexp.MatchString("^(?s:"+strings.Join(parts, ".*")+")$", principal); err == nil && ok {
			return o.Person
		}
	}
	return ""
}
