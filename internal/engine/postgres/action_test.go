package postgres

import (
	"slices"
	"testing"

	"github.com/gatebook/gatebook/internal/access"
)

// TestActionOfText: an action made of a text alone is judged as a session's is.
func TestActionOfText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text, verb, own, refused string
		effects                  access.Effects
		understood               bool
	}{
		{"SELECT name FROM people WHERE id = 1", "SELECT", "", "", access.EffectRead, true},
		{"WITH d AS (DELETE FROM people RETURNING *) SELECT * FROM d", "SELECT", "", "", access.EffectRead | access.EffectWrite, true},
		{"DO $$ BEGIN END $$", "DO", "", "", access.EffectExecute, false},
		{"SELEC 1", "", "", "", access.EffectExecute, false},
		{";", "", "", "", 0, true},
		{"SET client_encoding = latin1", "SET", "", "pinned.client_encoding", access.EffectSession, true},
		{"SET gatebook.token = 'a.b.c'", "SET", "gateway.token", "", access.EffectSession, true},
		{"SET gatebook.token = 'a' || 'b'", "", "", "gatebook.token", access.EffectExecute, false},
	} {
		a := Action(test.text)
		refused := ""
		if a.Refuse != nil {
			refused = a.Refuse.Rule
		}
		verbs := make([]string, 0, 1)
		for i := range a.Statements {
			verbs = append(verbs, a.Statements[i].Verb)
		}
		if a.Op != "query" || a.Text != test.text || a.Effects != test.effects || a.Understood != test.understood || a.Own != test.own ||
			refused != test.refused || test.verb != "" && !slices.Equal(verbs, []string{test.verb}) || a.Understood == (a.Why != "") {
			t.Errorf("%s: %+v, refused %q", test.text, a, refused)
		}
	}
}
