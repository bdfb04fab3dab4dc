package access

// privilegedEffects are those that change what others may do, rely on code,
// files or hosts that the request does not show, or operate the target.
var privilegedEffects = []struct {
	effect Effects
	why    string
}{
	{EffectSchema, "it changes definitions"},
	{EffectAccess, "it changes who may do what, or as whom the session acts"},
	{EffectExecute, "it runs code whose effects are not known"},
	{EffectFile, "it reads or writes files of the target's host"},
	{EffectNetwork, "it makes the target talk to others"},
	{EffectAdmin, "it operates the target or others' sessions"},
}

// credentialRelations hold passwords, connection strings with passwords, or
// pages of any content past the rights on tables. A name without a schema
// counts as well: the catalog comes first in every search path.
var credentialRelations = map[string]map[string]bool{
	"pg_catalog": {
		"pg_authid": true, "pg_shadow": true, "pg_user_mapping": true, "pg_user_mappings": true, "pg_subscription": true,
		"pg_largeobject": true, "pg_file_settings": true,
	},
	"information_schema": {"user_mapping_options": true, "_pg_user_mappings": true},
}

// Privileged reports whether an action counts as privileged, and why: what is
// not understood; what changes definitions or access, runs code, or touches
// files, networks or the server; a change of data that no condition bounds;
// use of a relation that holds credentials.
//
// It is the published definition, independent of any rule, so that an auditor
// can find the privileged request that ran without a ruling. An action
// whose statements have no effect at all is not understood.
func (a *Action) Privileged() (bool, string) {
	if a == nil || !a.Understood {
		return true, "it is not understood"
	}
	effects := a.Effects
	for i := range a.Statements {
		s := &a.Statements[i]
		if !s.Understood {
			return true, "a part of it is not understood"
		}
		effects |= s.Effects
	}
	if effects == 0 && len(a.Statements) > 0 || effects&^AllEffects != 0 {
		return true, "its effects are not known"
	}
	for _, p := range privilegedEffects {
		if effects.Has(p.effect) {
			return true, p.why
		}
	}
	if effects.Has(EffectWrite) && a.unfiltered() {
		return true, "it changes data and no condition says which"
	}
	for i := range a.Statements {
		for j := range a.Statements[i].Objects {
			if o := &a.Statements[i].Objects[j]; o.holdsCredentials() {
				return true, "it uses " + o.Name + ", which holds credentials"
			}
		}
	}
	return false, ""
}

// unfiltered reports whether a part that changes data has no filter. The
// action's own HasFilter also speaks of parts that only read where nothing
// changes or removes rows, so the parts are asked where there are some.
func (a *Action) unfiltered() bool {
	if a.HasFilter {
		return false
	}
	found := false
	for i := range a.Statements {
		if s := &a.Statements[i]; s.Effects.Has(EffectWrite) {
			if !s.HasFilter {
				return true
			}
			found = true
		}
	}
	return !found
}

func (o *Object) holdsCredentials() bool {
	if o.Kind != "relation" {
		return false
	}
	if o.Schema != "" {
		return credentialRelations[o.Schema][o.Name]
	}
	for _, names := range credentialRelations {
		if names[o.Name] {
			return true
		}
	}
	return false
}
