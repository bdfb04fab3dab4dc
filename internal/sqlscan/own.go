package sqlscan

import (
	"strings"

	pgquery "github.com/sqlc-dev/oliphant"

	"github.com/gatebook/gatebook/internal/access"
)

// Parse returns the tree of a text, nil if it is opaque: not what PostgreSQL's grammar reads, or beyond the bounds of Analyse.
func Parse(text string) *pgquery.ParseResult { return parse(text) }

// Named returns the relations that a name may stand for, with whatever search path.
func (c *Catalog) Named(n Name) (list []*Relation) {
	for _, rel := range c.Relations[n.Name] {
		if n.Schema == "" || n.Schema == rel.Schema || n.Schema == "pg_temp" && strings.HasPrefix(rel.Schema, "pg_temp_") {
			list = append(list, rel)
		}
	}
	return list
}

// harmlessOnes reports whether all that a name may stand for, besides what is PostgreSQL's own, only computes; found is how many there are.
func harmlessOnes(n Name, of map[string][]Routine) (found int, all bool) {
	all = true
	for _, f := range of[n.Name] {
		if n.Schema == "" || n.Schema == f.Schema {
			found++
			all = all && f.Effect == 0
		}
	}
	return found, all
}

// ofSystem reports whether a name may be one of PostgreSQL's own schema.
func ofSystem(n Name) bool { return n.Schema == "" || n.Schema == "pg_catalog" }

// OwnFunction returns the effects of a function, and whether whatever its name stands for is certainly PostgreSQL's own, or of a reviewed
// extension, which only compute.
func (c *Catalog) OwnFunction(n Name) (e access.Effects, own bool) {
	found, harmless := harmlessOnes(n, c.Functions)
	if n.Schema == "" { // text('x') may be a cast to a type of that name
		_, types := harmlessOnes(n, c.Types)
		harmless = harmless && types
	}
	switch {
	case !harmless:
		return access.EffectExecute, false
	case ofSystem(n) && builtinFunction(n.Name):
		return builtin(n.Name), true
	}
	return 0, found > 0
}

// IsFunction reports whether a name is that of any function.
func (c *Catalog) IsFunction(name string) bool {
	return builtinFunction(name) || len(c.Functions[name]) > 0
}

// OwnOperator reports whether an operator only computes, whatever its name stands for. The words that syntax has for one are names too.
func (c *Catalog) OwnOperator(n Name) bool {
	if strings.Contains(n.Name, "BETWEEN") {
		return c.OwnOperator(Name{Name: ">="}) && c.OwnOperator(Name{Name: "<="})
	}
	found, harmless := harmlessOnes(n, c.Operators)
	return harmless && (ofSystem(n) && builtinOperators[n.Name] || found > 0)
}

// OwnType reports whether making a value of a type, or converting to it, runs no code of others.
func (c *Catalog) OwnType(n Name) bool {
	found, harmless := harmlessOnes(n, c.Types)
	return harmless && (ofSystem(n) && builtinTypes[n.Name] || found > 0 || len(c.Named(n)) > 0)
}
