package postgres

import (
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

// Action returns the action of a query as far as the text alone tells: no database is asked what its names stand
// for. It carries the refusals that no rule can lift, and the gateway's own statement, as a session's does.
func Action(text string) *access.Action {
	u := understand(text, sqlscan.Analyse(text))
	a := u.action
	a.Op, a.Text = "query", text
	switch {
	case !namesToken(text):
		a.Refuse = refuseText(text)
	case setToken.MatchString(text):
		a.Own = "gateway.token"
	default:
		a.Refuse = errTokenForm()
	}
	return &a
}
