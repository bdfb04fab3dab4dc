package app

import (
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/policy"
)

// rules is a compiled policy as the door asks it.
type rules struct{ policy *policy.Policy }

// Decide implements enforce.Policy.
func (r rules) Decide(q *access.Request) access.Decision {
	return r.policy.Decide(&policy.Input{
		Principal: q.Principal, Target: q.Target, Action: q.Action, Time: q.Time, Usage: q.Usage,
		Session: policy.Session{Role: q.Session.Role, Database: q.Session.Database, Address: q.Session.Address, Began: q.Session.Began},
	})
}

// Reads implements enforce.Policy.
func (r rules) Reads() enforce.Reads {
	v := r.policy.Volatile()
	return enforce.Reads{Usage: v.Usage, Each: v.Usage || v.Time || v.Age || v.Parameters}
}
