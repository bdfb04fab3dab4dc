package enforce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/audit"
)

// listRule is the rule by which a list passes none of whose statements is held: nothing runs by it.
const listRule = "gateway.request"

// list is an ordered list of statements that people have approved for a session: its next requests are these, one after the
// other, or it is over. The ticket guards itself, seen is guarded by Session.mu.
type list struct {
	ticket *approval.Ticket
	seen   int // statements of it that the session has sent
}

// end ends the list. It returns the entry that says so, nil if it was over.
func (l *list) end(cause string) *evidence.TicketEnd { return l.ticket.EndList(cause) }

// listedOf is what records say of one statement of a list.
func listedOf(a *access.Action) evidence.Listed {
	account := a.Account
	if account == nil {
		account = audit.Account(a)
	}
	return evidence.Listed{Text: a.Text, Opaque: !a.Understood, Action: account, Sensitive: sensitiveOf(a), Infers: a.Infers}
}

// decideList decides on a list as if each of its statements came now. One that is refused refuses all of it; those that are held
// hold it together, for what all their rules ask for.
func (s *Session) decideList(all []*access.Action, p *access.Principal, policy Policy, now, at time.Time, used *access.Usage) (rule string, deny *access.DenyError, hold *access.Decision) {
	for i, a := range all {
		_, deny, held := s.decide(a, p, policy, now, at, used)
		if deny != nil {
			out := *deny
			out.Reason = fmt.Sprintf("statement %d of the list: %s", i+1, deny.Reason)
			return "", &out, nil
		}
		switch {
		case held == nil:
			continue
		case hold == nil:
			first := *held
			first.Reason = fmt.Sprintf("statement %d of the list: %s", i+1, orElse(held.Reason, "a person must approve this"))
			first.Approvers = slices.Clone(held.Approvers)
			hold = &first
			continue
		}
		for _, q := range held.Approvers {
			if !slices.ContainsFunc(hold.Approvers, func(have access.Approvers) bool { return have.Rule == q.Rule }) {
				hold.Approvers = append(hold.Approvers, q)
			}
		}
	}
	if hold == nil {
		return listRule, nil, nil
	}
	return hold.Rule, nil, hold
}

// begin makes the list of a ticket that was released what the session's next requests must be.
func (s *Session) begin(t *approval.Ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = &list{ticket: t}
}

// follow compares a request with the session's list. The next one of it becomes due; anything else ends the list, for which it
// returns the entry. Callers hold s.mu.
func (s *Session) follow(x *Exchange, a *access.Action) *evidence.TicketEnd {
	l := s.list
	if l == nil || a.Origin != "" {
		return nil
	}
	over := func(cause string) *evidence.TicketEnd {
		s.list = nil
		return l.end(cause)
	}
	bound := &l.ticket.Asked.Bound
	l.seen++
	switch {
	case l.seen > len(bound.List):
		return over("all of it ran")
	case a.Op != "query" || evidence.TrimStatement(a.Text) != bound.List[l.seen-1].Text:
		return over(fmt.Sprintf("the agent sent something else than statement %d", l.seen))
	case x.deny != nil:
		return over(fmt.Sprintf("statement %d, judged again, is refused: %s", l.seen, x.deny.Error()))
	}
	x.due, x.position = l, l.seen
	return nil
}

// awaitListed lets the next statement of a list through, judged again, if the list is not over. If it does not say that the
// request is over, the request is one like any other.
func (x *Exchange) awaitListed(ctx context.Context, a *access.Action, h *Holding) (deny *access.DenyError, over bool) {
	l, s := x.due, x.s
	if l == nil {
		return nil, false
	}
	snap, now := s.gate.snap.Load(), time.Now()
	used := s.budget.recent.now(now)
	_, deny, hold := s.decide(a, s.Principal(), snap.Policy, now, moment(now), &used)
	if deny == nil && (hold == nil) != (x.hold == nil) {
		deny = &access.DenyError{Code: access.CodeApproval, Rule: "gate", Reason: "the request is judged otherwise now", Hint: "Ask again."}
	}
	bound := &l.ticket.Asked.Bound
	cause := ""
	switch {
	case deny != nil:
		cause = fmt.Sprintf("statement %d, judged again, is refused: %s", x.position, deny.Error())
	case snap.SHA256 != bound.Config:
		cause = "the configuration has changed"
	case hold != nil && slices.ContainsFunc(hold.Approvers, func(q access.Approvers) bool { return !slices.Contains(bound.Rules, q.Rule) }):
		cause = fmt.Sprintf("statement %d is held by another rule now", x.position)
	case !now.Before(bound.Expires):
		cause = "the ticket has expired"
	case x.position <= len(bound.Meanings) && bound.Meanings[x.position-1] != "" && h.Meaning(ctx, a.Text) != bound.Meanings[x.position-1]:
		cause = fmt.Sprintf("what statement %d stands for at the target has changed since this was asked for", x.position)
	}
	if cause != "" {
		x.recordEnd(l.end(cause))
		return deny, deny != nil
	}
	err := l.ticket.ReleaseListed(ctx, ticketEntries{x}, x.position, snap.SHA256)
	switch {
	case errors.Is(err, approval.ErrListOver):
		return nil, false
	case err != nil:
		return errClosed(err), true
	}
	x.listed = l
	return nil, true
}

// recordEnd records beside the exchange that a list is over. The exchange's own entries, which stand behind it, carry its
// durability.
func (x *Exchange) recordEnd(end *evidence.TicketEnd) {
	if end == nil {
		return
	}
	e := audit.NewClosing(evidence.KindTicketEnd, end)
	e.Exchange = x.n
	_, _ = x.s.rec.Append(e) // where it fails, so do the entries behind it
}
