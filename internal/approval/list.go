package approval

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

// StateListEnded is the state of a ticket-end entry that says that no further statement of a ticket's list runs. The ticket
// itself stays Released.
const StateListEnded = "list-ended"

// ErrListOver refuses a statement of a list that does not let it through, or not any more.
var ErrListOver = errors.New("the list does not let this through")

// ReleaseListed records that one statement of a released ticket's list is let through, and waits until that is durable. position
// is from 1: it succeeds once for each, in their order, while the ticket has not expired and the list has not ended. rec takes the
// entry. An error that is ErrListOver has recorded nothing; after any, nothing may be
// forwarded.
func (t *Ticket) ReleaseListed(ctx context.Context, rec Recorder, position int, config string) error {
	t.mu.Lock()
	state, next, over := t.state, t.listed+1, t.over || !time.Now().Before(t.Asked.Bound.Expires)
	good := state == Released && !over && position == next && position <= len(t.Asked.Bound.List)
	if good {
		t.listed = position
	}
	t.mu.Unlock()
	if !good {
		return fmt.Errorf("%w: ticket %s, %s, statement %d", ErrListOver, t.ID, state, position)
	}
	return rec.Record(ctx, evidence.KindRelease, &evidence.Release{Ticket: t.ID.String(), Digest: t.Digest, Config: config, Position: position})
}

// EndList ends a list before its last statement: no further one is let through. It returns the entry that says so, nil if the list
// was over already.
func (t *Ticket) EndList(cause string) *evidence.TicketEnd {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.listed == len(t.Asked.Bound.List) {
		return nil
	}
	t.over = true
	return &evidence.TicketEnd{Ticket: t.ID.String(), Digest: t.Digest, State: StateListEnded, Cause: cause}
}
