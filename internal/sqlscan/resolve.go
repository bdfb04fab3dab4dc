package sqlscan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatebook/gatebook/internal/access"
)

// Catalog is what is known of a database's own definitions. It is immutable
// once made, and safe for concurrent use.
type Catalog struct {
	// Relations by name, with all schemas that have one of it. Those of pg_catalog and information_schema are among them.
	Relations map[string][]*Relation
	// Functions, Operators and Types that are not PostgreSQL's own, by name.
	Functions map[string][]Routine
	Operators map[string][]Routine
	Types     map[string][]Routine
	// Sorts: how values of a type of PostgreSQL's own are sorted or compared by default is not all its own.
	Sorts bool
}

// Relation is a table, a view or another thing with rows.
type Relation struct {
	Name
	// Columns by name, nil if not known.
	Columns []string
	// OID is its number in the target's catalog, and Numbers and Types are those of its columns (attnum, atttypid), in the order of Columns.
	OID     uint32
	Numbers []int16
	Types   []uint32
	// View is the query of a view or a materialised view, "" for others. Generated are the expressions of generated columns by name.
	View      string
	Generated map[string]string
	// Kin are relations whose rows are among its, or that its rows are among: parents, children and partitions.
	Kin []*Relation
	// Plain: a table whose rows are read from the table and nothing else: no view, no foreign table, no row security, no rules,
	// and its children are plain too.
	Plain bool
	// Reading and Writing are what it does beside that: code that views, policies, triggers, rules, defaults and constraints
	// run, and connections of foreign tables.
	Reading, Writing access.Effects
	// Behind are the objects that a reader reaches through it: the relations and functions of a view.
	Behind []Object
	// Changing are the objects that a writer reaches through it: triggers' functions, tables that follow by foreign key.
	Changing []Object
}

// Routine is something that runs code when it is used: a function, an operator, a type.
type Routine struct {
	Name
	// Effect of using it: EffectExecute where it is not known, 0 where it only computes.
	Effect access.Effects
}

// Resolve judges a scan again with the names looked up. A name can stand for every object of that name in any schema: the
// search path is the session's own, and it can change inside of a function. What has no such object stays as it is
// and counts as unknown code, for a view or function may have come since the catalog was read. known names relations that the
// session itself has made.
func (c *Catalog) Resolve(s *Scan, known func(Name) bool) *Scan {
	out := &Scan{Opaque: s.Opaque, Statements: slices.Clone(s.Statements)}
	for i := range out.Statements {
		c.statement(&out.Statements[i], known)
	}
	return out
}

func (c *Catalog) statement(st *Statement, known func(Name) bool) {
	r := resolution{c: c, seen: map[Object]bool{}, known: known}
	for _, o := range st.Objects {
		r.object(o)
	}
	for _, op := range st.Operators {
		r.routines("operator", op, c.Operators)
	}
	for _, t := range st.Types {
		r.routines("type", t, c.Types)
	}
	for _, name := range st.Attributes {
		r.routines("function", Name{Name: name}, c.Functions)
	}
	st.Objects = r.objects
	st.Effects = st.Own
	for _, o := range st.Objects {
		st.Effects |= o.Effect
	}
	if c.Sorts && st.Effects.Has(access.EffectRead|access.EffectWrite) {
		r.beside |= access.EffectExecute
		r.doubts(false, "values may be sorted, compared or converted by code that is not PostgreSQL's own")
	}
	st.Effects |= r.beside
	st.Columns = c.columns(st.Columns)
	st.Doubt = r.doubt
	st.ProvenRead = st.Doubt == "" && st.Verb == "SELECT" && st.Opaque == "" && st.Effects&^access.EffectRead == 0
}

type resolution struct {
	c       *Catalog
	objects []Object
	seen    map[Object]bool
	beside  access.Effects
	known   func(Name) bool
	doubt   string // why not all so far is certainly PostgreSQL's own code over plain tables
}

// doubts notes why it is not certain that all is PostgreSQL's own code over plain tables, unless it is.
func (r *resolution) doubts(certain bool, format string, args ...any) {
	if !certain && r.doubt == "" {
		r.doubt = fmt.Sprintf(format, args...)
	}
}

func (r *resolution) add(o Object) {
	if !r.seen[o] {
		r.seen[o] = true
		r.objects = append(r.objects, o)
	}
}

// routines adds what of a kind a name may stand for besides PostgreSQL's own.
func (r *resolution) routines(kind string, n Name, of map[string][]Routine) (found bool) {
	for _, f := range of[n.Name] {
		if n.Schema == "" || n.Schema == f.Schema {
			r.doubts(false, "the %s %q may be %q, which is not PostgreSQL's own", kind, n, f.Name)
			r.add(Object{Kind: kind, Name: f.Name, Effect: f.Effect})
			found = true
		}
	}
	return found
}

func (r *resolution) object(o Object) {
	if o.Kind != "relation" && o.Effect.Has(access.EffectSchema|access.EffectAccess) {
		r.add(o) // it is defined or granted, not used
		return
	}
	switch o.Kind {
	case "function":
		found := r.routines("function", o.Name, r.c.Functions)
		found = r.routines("type", o.Name, r.c.Types) || found // text('x') may be a cast to a type of that name
		r.doubts((o.Schema == "" || o.Schema == "pg_catalog") && computes(o.Name.Name), "the function %q may do more than compute", o.Name)
		if !found || o.Schema == "" && builtinFunction(o.Name.Name) {
			r.add(o)
		}
	case "operator":
		r.doubts(false, "the operator %q is not PostgreSQL's own", o.Name)
		if !r.routines("operator", o.Name, r.c.Operators) {
			r.add(o)
		}
	case "type":
		if r.routines("type", o.Name, r.c.Types) {
			return
		}
		r.doubts((o.Schema == "" || o.Schema == "pg_catalog") && builtinTypes[o.Name.Name], "the type %q is not PostgreSQL's own", o.Name)
		if r.rowType(o.Name) {
			o.Effect = 0
		}
		r.add(o)
	case "relation":
		r.relation(o)
	default:
		r.doubts(false, "it is about the %s %q", o.Kind, o.Name)
		r.add(o)
	}
}

// rowType reports whether a name is that of a relation, and so of its rows' type.
func (r *resolution) rowType(n Name) bool {
	for _, rel := range r.c.Relations[n.Name] {
		if n.Schema == "" || n.Schema == rel.Schema {
			return true
		}
	}
	return false
}

// computes reports whether a function of pg_catalog certainly does nothing but compute.
func computes(name string) bool {
	effect, ok := reviewed[name]
	return ok && effect == 0 || !ok && harmless[name]
}

func builtinFunction(name string) bool {
	_, ok := reviewed[name]
	return ok || harmless[name]
}

func (r *resolution) relation(o Object) {
	found := false
	for _, rel := range r.c.Relations[o.Name.Name] {
		if o.Schema != "" && o.Schema != rel.Schema && (o.Schema != "pg_temp" || !strings.HasPrefix(rel.Schema, "pg_temp_")) {
			continue
		}
		found = true
		r.doubts(rel.Plain, "%q is no plain table: a view, a foreign table, or one with row security or rules", rel.Name)
		r.doubts(rel.Reading == 0, "reading %q may run code that is not PostgreSQL's own", rel.Name)
		r.doubts(o.Effect != access.EffectWrite || !rel.Writing.Has(access.EffectExecute|access.EffectNetwork),
			"writing to %q may run code that is not PostgreSQL's own", rel.Name)
		r.add(Object{Kind: o.Kind, Name: rel.Name, Effect: o.Effect})
		switch o.Effect {
		case access.EffectRead, access.EffectLock:
			r.beside |= rel.Reading
			for _, b := range rel.Behind {
				r.add(b)
			}
		case access.EffectWrite:
			r.beside |= rel.Writing
			for _, b := range rel.Changing {
				r.add(b)
			}
		}
	}
	if found {
		return
	}
	r.doubts(false, "%q is not known", o.Name)
	r.add(o)
	if o.Effect != access.EffectSchema && o.Effect != access.EffectAccess && (r.known == nil || !r.known(o.Name)) {
		r.beside |= access.EffectExecute // a view or rule that came since the catalog was read may stand behind it
	}
}

// columns gives columns the schema of their relation where there is only one of that name.
func (c *Catalog) columns(list []Column) []Column {
	out := slices.Clone(list)
	for i, col := range out {
		if col.Relation.Name == "" || col.Relation.Schema != "" {
			continue
		}
		if rels := c.Relations[col.Relation.Name]; len(rels) == 1 {
			out[i].Relation.Schema = rels[0].Schema
		}
	}
	return out
}
