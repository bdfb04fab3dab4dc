package judge

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/policy"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

// listRequest is the record of a request for a list, as the door makes it.
func listRequest(t *testing.T, texts ...string) *evidence.Request {
	t.Helper()
	ask, err := (&sqlscan.List{Statements: texts}).Text()
	if err != nil {
		t.Fatal(err)
	}
	in := &evidence.Intent{Op: "request", Text: ask}
	var list []*access.Action
	for _, text := range texts {
		scan := sqlscan.Analyse(text)
		a := &access.Action{Op: "query", Text: text, Understood: scan.Opaque == "", Effects: scan.Effects(), Fingerprint: sqlscan.Fingerprint(text, grammar)}
		for _, st := range scan.Statements {
			a.Statements = append(a.Statements, access.Statement{Verb: st.Verb, Inner: st.Inner, Effects: st.Effects, HasFilter: st.HasFilter, Understood: true})
		}
		list = append(list, a)
		in.List = append(in.List, evidence.Listed{Text: text, Opaque: !a.Understood, Action: audit.Account(a)})
	}
	all := access.Together(list)
	in.Action = audit.Account(&all)
	return requestOf(t, in)
}

// requestOf reads an intent as a verifier does.
func requestOf(t *testing.T, in *evidence.Intent) *evidence.Request {
	t.Helper()
	r := &evidence.Request{
		Session: &evidence.Session{Target: evidence.Target{Protocol: string(access.Postgres)}}, Principal: &evidence.Principal{}, Intent: &evidence.Intent{}, Action: &evidence.Action{},
	}
	if err := json.Unmarshal(audit.AppendIntent(nil, in), r.Intent); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(r.Intent.Action, r.Action); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAP01ListDecidedAgain: a list is decided again statement by statement, for what all that hold it ask for, and a record of another
// list than its text asks for gives no decision.
func TestAP01ListDecidedAgain(t *testing.T) {
	t.Parallel()
	who := func(group string) *access.Approvers { return &access.Approvers{Groups: []string{group}, Quorum: 1} }
	p, err := policy.Compile(policy.Source{Rules: []policy.Rule{
		{Name: "all", When: "true", Then: access.Allow},
		{Name: "drops", When: `"DROP TABLE" in action.verbs`, Then: access.Denied},
		{Name: "deletes", When: `"DELETE" in action.verbs`, Then: access.Hold, Approvers: who("dba")},
		{Name: "inserts", When: `"INSERT" in action.verbs`, Then: access.Hold, Approvers: who("ops")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	decide := func(r *evidence.Request) (evidence.Decided, error) { return Recorded{Policy: p}.Decide(r) }
	for _, tt := range []struct {
		texts          string
		decision, rule string
		asks           string
	}{
		{"SELECT 1|SELECT 2", "allow", "gateway.request", ""},
		{"SELECT 1|DELETE FROM t|SELECT 2", "hold", "deletes", "deletes"},
		{"INSERT INTO t VALUES (1)|DELETE FROM t|DELETE FROM u|INSERT INTO u VALUES (1)", "hold", "inserts", "inserts deletes"},
		{"DELETE FROM t|DROP TABLE t|SELECT 1", "deny", "drops", ""},
	} {
		got, err := decide(listRequest(t, strings.Split(tt.texts, "|")...))
		var asks []string
		for _, q := range got.Requires {
			asks = append(asks, q.Rule)
		}
		if err != nil || got.Decision != tt.decision || got.Rule != tt.rule || strings.Join(asks, " ") != tt.asks {
			t.Errorf("%s: %+v, %v", tt.texts, got, err)
		}
	}
	good := listRequest(t, "SELECT 1", "DELETE FROM t")
	for name, edit := range map[string]func(in *evidence.Intent){
		"another text":     func(in *evidence.Intent) { in.List[1].Text = "SELECT 2" },
		"another constant": func(in *evidence.Intent) { in.List[0].Text = "SELECT 2" },
		"one less":         func(in *evidence.Intent) { in.List = in.List[:1] },
		"another order": func(in *evidence.Intent) {
			in.List[0], in.List[1] = in.List[1], in.List[0]
		},
		"another action":            func(in *evidence.Intent) { in.List[1].Action = in.List[0].Action },
		"the action of a part only": func(in *evidence.Intent) { in.Action = in.List[0].Action },
		"no list":                   func(in *evidence.Intent) { in.List = nil },
		"another request":           func(in *evidence.Intent) { in.Text = "SET gatebook.request = 1" },
	} {
		in := *good.Intent
		in.List = append([]evidence.Listed(nil), in.List...)
		edit(&in)
		if got, err := decide(requestOf(t, &in)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
