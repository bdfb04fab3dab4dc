package app

import (
	"slices"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/config"
)

// persons says who stands behind principals and keys, by the configuration in force.
type persons struct{ app *App }

// Behind implements enforce.People: who answers for a principal is the person whose identity it is, or whom its token names, or
// whom the list of owners names; who acts in it are the persons of its actors.
func (p persons) Behind(who *access.Principal) (requester string, others []string) {
	c := p.app.config()
	// A name in a token is a person's identity at that issuer, or one as the configuration has it.
	find := func(name string) string {
		for _, id := range []string{who.Issuer + "|" + name, name} {
			if person := c.PersonOf(id); person != nil {
				return person.Person
			}
		}
		return ""
	}
	switch person := c.PersonOf(who.ID()); {
	case person != nil:
		requester = person.Person
	case who.Owner != "":
		if requester = find(who.Owner); requester == "" && slices.ContainsFunc(c.People, func(p config.Person) bool { return p.Person == who.Owner }) {
			requester = who.Owner
		}
	default:
		requester = c.OwnerOf(who.ID())
	}
	for _, actor := range who.Actor {
		if name := find(actor); name != "" && name != requester {
			others = append(others, name)
		}
	}
	// An owner by the list answers too where the token names another.
	if owner := c.OwnerOf(who.ID()); owner != "" && owner != requester && !slices.Contains(others, owner) {
		others = append(others, owner)
	}
	return requester, others
}

// of returns the person of a key's fingerprint or of an identity.
func (p persons) of(identity string) *approval.Person {
	person := p.app.config().PersonOf(identity)
	if person == nil {
		return nil
	}
	return &approval.Person{Name: person.Person, Groups: person.Groups, Identity: identity}
}
