package enforce

import (
	"sync"

	"github.com/gatebook/gatebook/internal/access"
)

// maxDecisions bounds the decisions that a session keeps.
const maxDecisions = 256

// decisions keeps what one policy said of one principal's requests in one
// session, where it cannot say otherwise of the next request that does the same.
type decisions struct {
	mu        sync.Mutex
	policy    Policy
	principal *access.Principal
	known     map[sameRequest]access.Decision
}

// sameRequest is what a kept decision is about; all else is the session's.
type sameRequest struct {
	does *access.Action
	op   string
}

// of returns the decision on an action, from what is kept or by asking decide.
func (c *decisions) of(policy Policy, p *access.Principal, a *access.Action, decide func() access.Decision) access.Decision {
	if a.Common == nil || len(a.Infers) > 0 || policy.Reads().Each {
		return decide()
	}
	key := sameRequest{a.Common, a.Op}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.policy != policy || c.principal != p || len(c.known) >= maxDecisions {
		c.policy, c.principal, c.known = policy, p, make(map[sameRequest]access.Decision)
	}
	d, ok := c.known[key]
	if !ok {
		d = decide()
		c.known[key] = d
	}
	return d
}
