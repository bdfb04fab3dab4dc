package audit

import (
	"encoding/json"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
)

// Account returns the JSON of the evidence.Action that says what a request does.
func Account(a *access.Action) []byte {
	out := evidence.Action{
		Effects: a.Effects.Names(), Why: a.Why, HasFilter: a.HasFilter, Fingerprint: a.Fingerprint,
	}
	if yes, why := a.Privileged(); yes {
		out.Privileged = why
	}
	for i := range a.Statements {
		st := &a.Statements[i]
		s := evidence.ActionStatement{
			Verb: st.Verb, Inner: st.Inner, Effects: st.Effects.Names(), Columns: st.Columns, HasFilter: st.HasFilter, Opaque: !st.Understood,
		}
		for _, o := range st.Objects {
			s.Objects = append(s.Objects, evidence.ActionObject{Kind: o.Kind, Schema: o.Schema, Name: o.Name, Effects: o.Effects.Names()})
		}
		out.Statements = append(out.Statements, s)
	}
	b, err := json.Marshal(out)
	if err != nil { // strings and numbers only
		return []byte("null")
	}
	return b
}
