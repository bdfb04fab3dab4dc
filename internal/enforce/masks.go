package enforce

import (
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/mask"
)

// Masks says what is masked for whom.
type Masks interface {
	// For returns the rules in force for a principal at a target, nil if nothing is masked. r has no action. It returns the same set
	// for the same rules at the same target.
	For(r *access.Request) *mask.Set
	// Named returns all rules at a target, whoever they are for.
	Named(target string) *mask.Set
}

// maskSet is what was found for a principal by a configuration.
type maskSet struct {
	snap      *Snapshot
	principal *access.Principal
	set       *mask.Set
}

// Masks returns what is masked in the session now, nil for nothing. A new configuration counts at once, as policy does.
func (s *Session) Masks() *mask.Set {
	snap := s.gate.snap.Load()
	if snap.Masks == nil || s.origin != "" {
		return nil
	}
	p := s.Principal()
	if m := s.masks.Load(); m != nil && m.snap == snap && m.principal == p {
		return m.set
	}
	set := snap.Masks.For(&access.Request{
		Principal: p, Target: &s.target.Target, Time: time.Time{}, Action: &access.Action{},
		Session: access.SessionInfo{Role: s.roleKey, Database: s.database},
	})
	s.masks.Store(&maskSet{snap, p, set})
	return set
}

// Named returns all masks at the session's target, whoever they are for, nil for none.
func (s *Session) Named() *mask.Set {
	if snap := s.gate.snap.Load(); snap.Masks != nil {
		return snap.Masks.Named(s.target.Name)
	}
	return nil
}
