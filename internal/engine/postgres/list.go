package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

// ask handles a text that asks for an ordered list of statements: each becomes an action that is judged as if it came now. The
// list does not reach the target, for which the text to forward is returned instead.
func (q *requests) ask(ctx context.Context, a *access.Action) (replaced string, ok bool) {
	refuse := func(reason string) (string, bool) {
		a.List, a.Refuse = nil, &access.DenyError{Code: access.CodeUnsupported, Rule: "gatebook.request", Reason: reason, Hint: "gatebook request sends lists."}
		return "", false
	}
	if a.Op != "query" {
		return refuse("a list of statements can only be asked for by a simple query")
	}
	l, err := sqlscan.ParseList(a.Text)
	if err != nil {
		return refuse(err.Error())
	}
	for i, text := range l.Statements {
		one := &access.Action{Op: "query", Text: evidence.TrimStatement(text), Refuse: refuseText(text)}
		switch {
		case namesToken(text) || q.r.s.HoldsToken([]byte(text)):
			a.Text = "[withheld: it holds a token or names gatebook.token]"
			return refuse(fmt.Sprintf("statement %d of the list holds a token or names gatebook.token", i+1))
		case sqlscan.AsksForList(text):
			return refuse(fmt.Sprintf("statement %d of the list asks for a list", i+1))
		}
		does := q.understand(ctx, one.Text)
		does.fill(one)
		q.mask(ctx, one, one.Text, does)
		a.List = append(a.List, one)
	}
	if slices.ContainsFunc(a.List, func(l *access.Action) bool { return len(l.HiddenText) > 0 }) {
		a.HiddenText = []access.HiddenPart{{From: 0, To: len(a.Text), What: "masks"}} // they stand in it
	}
	list := a.List
	all := access.Together(list)
	all.Op, all.Text, all.Asked = "request", a.Text, l.Reason
	*a = all
	return "SET gatebook.request = ''", true
}

// notAsked tells the agent that no person was asked about its list, once what came before is answered.
func (q *requests) notAsked(ctx context.Context) error {
	if doomed, err := q.quiet(ctx); doomed || err != nil {
		return err
	}
	return q.tell("gatebook: no rule holds any statement of this list, so nobody was asked", "", "Send the statements.")
}
