package access

import (
	"strings"
	"testing"
)

func TestPrivileged(t *testing.T) {
	t.Parallel()
	action := func(s ...Statement) *Action {
		a := &Action{Understood: true, HasFilter: true, Statements: s}
		for _, st := range s {
			a.Effects |= st.Effects
			a.HasFilter = a.HasFilter && st.HasFilter
		}
		return a
	}
	statement := func(e Effects, filter bool, objects ...Object) Statement {
		return Statement{Understood: true, Effects: e, HasFilter: filter, Objects: objects}
	}
	relation := func(schema, name string) Object {
		return Object{Kind: "relation", Schema: schema, Name: name, Effects: EffectRead}
	}
	tests := []struct {
		name string
		a    *Action
		want string // part of the reason, "" if it is not privileged
	}{
		{"none", nil, "not understood"},
		{"zero", &Action{}, "not understood"},
		{"read", action(statement(EffectRead, true)), ""},
		{"read of everything", action(statement(EffectRead, false)), ""},
		{"transaction", action(statement(EffectTransaction, true)), ""},
		{"session, lock, notify", action(statement(EffectSession|EffectLock|EffectNotify, true)), ""},
		{"empty text", action(), ""},
		{"a statement without effects", action(statement(0, true)), "effects are not known"},
		{"an effect without a name", action(statement(effectsEnd, true)), "effects are not known"},
		{"a part not understood", action(statement(EffectRead, true), Statement{Effects: EffectRead}), "a part"},
		{"schema", action(statement(EffectSchema, true)), "definitions"},
		{"access", action(statement(EffectAccess, true)), "who may"},
		{"execute", action(statement(EffectRead|EffectExecute, true)), "code"},
		{"file", action(statement(EffectFile, true)), "files"},
		{"network", action(statement(EffectNetwork, true)), "others"},
		{"admin", action(statement(EffectAdmin, true)), "operates"},
		{"effect of a part alone", &Action{Understood: true, Effects: EffectRead, Statements: []Statement{statement(EffectSchema, true)}}, "definitions"},
		{"write with a filter", action(statement(EffectWrite, true)), ""},
		{"write without", action(statement(EffectWrite, false)), "no condition"},
		{"second write without", action(statement(EffectWrite, true), statement(EffectWrite, false)), "no condition"},
		{"insert beside a read of everything", action(statement(EffectRead, false), statement(EffectWrite, true)), ""},
		{"write without parts", &Action{Understood: true, Effects: EffectWrite}, "no condition"},
		{"write with a filter, without parts", &Action{Understood: true, Effects: EffectWrite, HasFilter: true}, ""},
		{"passwords", action(statement(EffectRead, true, relation("pg_catalog", "pg_authid"))), "pg_authid"},
		{"passwords, by search path", action(statement(EffectRead, true, relation("", "pg_shadow"))), "pg_shadow"},
		{"passwords in the second statement", action(statement(EffectRead, true, relation("public", "t")),
			statement(EffectRead, true, relation("", "t"), relation("pg_catalog", "pg_user_mappings"))), "pg_user_mappings"},
		{"options of user mappings", action(statement(EffectRead, true, relation("information_schema", "user_mapping_options"))), "credentials"},
		{"another's table of the name", action(statement(EffectRead, true, relation("public", "pg_authid"))), ""},
		{"the name in another schema", action(statement(EffectRead, true, relation("pg_catalog", "user_mapping_options"))), ""},
		{"a function of the name", action(statement(EffectRead, true, Object{Kind: "function", Name: "pg_shadow"})), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, why := tt.a.Privileged()
			if got != (tt.want != "") || !strings.Contains(why, tt.want) || !got && why != "" {
				t.Errorf("got %v, %q; want %q", got, why, tt.want)
			}
		})
	}
}
