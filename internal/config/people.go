package config

import (
	"fmt"
	"net"
	"net/url"
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

// console checks the page, and fills in what follows from the rest.
func (ld *loader) console() {
	c := ld.l.Console
	if c == nil {
		return
	}
	at := source{ld.main, "console"}
	ld.address(at, "address", c.Address)
	host, _, _ := net.SplitHostPort(c.Address)
	loopback := IsLoopback(host)
	if !loopback && c.InsecurePlaintext {
		ld.problem(at, "insecure_plaintext", "only on loopback: whoever reads the line could rule in another's name")
	}
	if c.TLS.Cert == "" && !loopback {
		ld.problem(at, "tls", "a page that is not on loopback needs a certificate (tls: {cert: file:…, key: file:…})")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		ld.problem(at, "tls", "cert and key go together")
	}
	ld.file(at, "tls.cert", c.TLS.Cert)
	ld.ref(at, "tls.key", c.TLS.Key)
	ld.ref(at, "client_secret", c.ClientSecret)
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" ||
			u.Scheme != "https" && (u.Scheme != "http" || !c.InsecurePlaintext) {
			ld.problem(at, "url", "%q is not an https URL without a path", c.URL)
		}
	}
	i := slices.IndexFunc(ld.l.Issuers, func(is Issuer) bool { return is.Name == c.Issuer })
	switch {
	case i < 0:
		ld.problem(at, "issuer", "%q is not among the issuers", c.Issuer)
	case ld.l.Issuers[i].For != "people":
		ld.problem(at, "issuer", "%s is for agents; people sign in at an issuer with for: people", c.Issuer)
	case c.ClientID != "" && !slices.Contains(ld.l.Issuers[i].Audience, c.ClientID):
		ld.problem(at, "client_id", "%q is not among the audiences of issuer %s, so its tokens would be refused", c.ClientID, c.Issuer)
	case ld.l.Issuers[i].Development && !loopback:
		ld.problem(at, "issuer", "a development issuer needs a page on loopback")
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
	case a.Resubmit > 0 && time.Duration(a.Resubmit) <= a.Within.Or(DefaultWithin):
		ld.problem(at, "approvers", "resubmit (%s) must be longer than within (%s), how long the agent itself waits", time.Duration(a.Resubmit), a.Within.Or(DefaultWithin))
	case slices.Contains(a.BreakGlass, ""):
		ld.problem(at, "approvers", "break_glass must name groups")
	}
	if (len(a.ACR) > 0 || len(a.AMR) > 0 || a.MaxAuthAge > 0) && ld.l.Console == nil {
		ld.problem(at, "approvers", "acr, amr and max_auth_age ask for a sign-in, and there is no console to sign in to")
	}
	ld.oneOf(at, "approvers.owner", a.Owner, "", "unknown-ok")
	return &access.Approvers{
		Groups: a.Groups, Quorum: max(a.Quorum, 1), Within: a.Within.Or(DefaultWithin), InTransaction: time.Duration(a.InTransaction),
		Resubmit:     time.Duration(a.Resubmit).Truncate(time.Second),
		UnknownOwner: a.Owner == "unknown-ok", BreakGlass: a.BreakGlass, BeforeImage: a.BeforeImage, ACR: a.ACR, AMR: a.AMR, MaxAuthAge: time.Duration(a.MaxAuthAge).Truncate(time.Second),
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
