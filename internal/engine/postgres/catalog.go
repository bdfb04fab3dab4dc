package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

// The queries of the catalog run with an empty search path, so that every name
// and operator in them is PostgreSQL's own, and the texts of views and expressions come with qualified names. Objects with
// numbers from 16384 on are not PostgreSQL's own.
const (
	textRelations = `SELECT c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity,
 (SELECT string_agg(a.attname, E'\x01' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
 (SELECT string_agg(a.attnum || ' ' || a.atttypid, ' ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
 (SELECT string_agg(DISTINCT a.atttypid::text, ' ') FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384)
 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname <> 'pg_toast'`

	textViews = `SELECT c.oid, pg_get_viewdef(c.oid) FROM pg_class c WHERE c.relkind IN ('v', 'm') AND c.oid >= 16384
 AND c.relnamespace <> 'information_schema'::regnamespace`

	// What is computed when rows are written (defaults, and what a policy checks), or already when a query is planned that reads
	// them: constraints (constraint_exclusion is the agent's to set), indexes, statistics, partition keys.
	textExpressions = `SELECT polrelid, 'r', pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polqual IS NOT NULL
 UNION ALL SELECT polrelid, 'w', pg_get_expr(polwithcheck, polrelid) FROM pg_policy WHERE polwithcheck IS NOT NULL
 UNION ALL SELECT adrelid, 'w', pg_get_expr(adbin, adrelid) FROM pg_attrdef
 UNION ALL SELECT conrelid, 'r', pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0
 UNION ALL SELECT indrelid, 'r', pg_get_expr(indexprs, indrelid) FROM pg_index WHERE indexprs IS NOT NULL
 UNION ALL SELECT indrelid, 'r', pg_get_expr(indpred, indrelid) FROM pg_index WHERE indpred IS NOT NULL
 UNION ALL SELECT stxrelid, 'r', pg_get_expr(stxexprs, stxrelid) FROM pg_statistic_ext WHERE stxexprs IS NOT NULL
 UNION ALL SELECT partrelid, 'r', pg_get_expr(partexprs, partrelid) FROM pg_partitioned_table WHERE partexprs IS NOT NULL`

	textGenerated = `SELECT d.adrelid, a.attname, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
 JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attgenerated <> ''`

	// Operator classes compare and hash values: those of an index or a partition key when the table is planned for, the default
	// one of a type wherever values of it are sorted, grouped or compared.
	textClasses = `WITH c AS (SELECT o.oid, o.opcintype, o.opcdefault, coalesce(e.extname, '') AS extension FROM pg_opclass o
  LEFT JOIN pg_depend d ON d.classid = 'pg_opclass'::regclass AND d.objid = o.oid AND d.deptype = 'e' LEFT JOIN pg_extension e ON e.oid = d.refobjid
  WHERE o.oid >= 16384)
 SELECT 'relation', i.indrelid, c.extension FROM pg_index i JOIN c ON c.oid = ANY (i.indclass)
 UNION ALL SELECT 'relation', p.partrelid, c.extension FROM pg_partitioned_table p JOIN c ON c.oid = ANY (p.partclass)
 UNION ALL SELECT 'type', c.opcintype, c.extension FROM c WHERE c.opcdefault`

	textTriggers = `SELECT t.tgrelid, n.nspname, p.proname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'`

	textRules = `SELECT ev_class FROM pg_rewrite WHERE rulename <> '_RETURN' AND ev_class >= 16384`

	textInherits = `SELECT inhparent, inhrelid FROM pg_inherits`

	// Rows of the second table change with those of the first.
	textCascades = `SELECT confrelid, conrelid FROM pg_constraint WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))`

	textFunctions = `SELECT n.nspname, p.proname, coalesce(e.extname, ''), p.provolatile FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' LEFT JOIN pg_extension e ON e.oid = d.refobjid
 WHERE n.nspname <> 'pg_catalog' AND (n.nspname <> 'information_schema' OR p.oid >= 16384)`

	textOperators = `SELECT n.nspname, o.oprname, coalesce(e.extname, ''), p.provolatile FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
 LEFT JOIN pg_proc p ON p.oid = o.oprcode
 LEFT JOIN pg_depend d ON d.classid = 'pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e' LEFT JOIN pg_extension e ON e.oid = d.refobjid
 WHERE n.nspname <> 'pg_catalog'`

	// The checks of a domain, the functions of a range and of casts run when a value is made; so does what its parts run: the
	// elements of an array, what a domain or a range is of, the columns of a row.
	textTypes = `SELECT t.oid, n.nspname, t.typname, t.typtype, coalesce(e.extname, ''), EXISTS (SELECT FROM pg_type a WHERE a.typarray = t.oid),
 (SELECT string_agg(p.oid::text, ' ') FROM (SELECT t.typbasetype AS oid UNION SELECT t.typelem
  UNION SELECT r.rngsubtype FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
  UNION SELECT r.rngtypid FROM pg_range r WHERE t.oid = r.rngmultitypid
  UNION SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) p WHERE p.oid >= 16384),
 (SELECT string_agg(pg_get_expr(c.conbin, 0), ' AND ') FROM pg_constraint c WHERE c.contypid = t.oid AND c.contype = 'c'),
 EXISTS (SELECT FROM pg_cast k WHERE (k.castsource = t.oid OR k.casttarget = t.oid) AND k.castfunc >= 16384
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_cast'::regclass AND x.objid = k.oid AND x.deptype = 'e')),
 coalesce((SELECT r.rngcanonical <> 0 OR r.rngsubdiff >= 16384 FROM pg_range r WHERE r.rngtypid = t.oid), false)
 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
 LEFT JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e' LEFT JOIN pg_extension e ON e.oid = d.refobjid
 WHERE t.oid >= 16384 AND t.typtype IN ('b', 'c', 'd', 'e', 'r', 'm')`
)

// reviewedExtensions are those whose IMMUTABLE and STABLE functions only
// compute; harmlessVolatile are functions of theirs that are VOLATILE and change nothing either.
var (
	reviewedExtensions = wordSet(`btree_gin btree_gist citext cube earthdistance fuzzystrmatch hstore intarray isn ltree pg_trgm pgcrypto seg unaccent
		uuid-ossp vector`)
	harmlessVolatile = wordSet(`gen_random_bytes gen_random_uuid gen_salt uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4`)
)

func wordSet(list string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(list) {
		m[w] = true
	}
	return m
}

// effectOf returns what using a function of an extension ("" for none) does.
func effectOf(name, extension, volatility string) access.Effects {
	if reviewedExtensions[extension] && (volatility == "i" || volatility == "s" || harmlessVolatile[name]) {
		return 0
	}
	return access.EffectExecute
}

// catalogReader puts a catalog together from the answers of a target.
type catalogReader struct {
	cat     sqlscan.Catalog
	byOID   map[string]*sqlscan.Relation
	kinds   map[string]string       // of relations
	types   map[string][]string     // of their columns that are not PostgreSQL's own
	active  map[string]bool         // types that run code when a value is made or converted
	parts   map[string][]string     // what else a value of a type is made of
	names   map[string]sqlscan.Name // of types
	views   map[string]string
	parents map[string][]string // the relations whose rows a relation's are
}

// readCatalog asks a target for everything that names may stand for. u must have an empty search path.
func readCatalog(ctx context.Context, s *enforce.Session, u *upstream) (*sqlscan.Catalog, error) {
	r := &catalogReader{
		byOID: map[string]*sqlscan.Relation{}, kinds: map[string]string{}, types: map[string][]string{}, active: map[string]bool{},
		parts: map[string][]string{}, names: map[string]sqlscan.Name{},
		views: map[string]string{}, parents: map[string][]string{},
	}
	r.cat = sqlscan.Catalog{
		Relations: map[string][]*sqlscan.Relation{}, Functions: map[string][]sqlscan.Routine{}, Operators: map[string][]sqlscan.Routine{},
		Types: map[string][]sqlscan.Routine{},
	}
	for _, q := range []struct {
		text    string
		columns int
		take    func(row []string)
	}{
		{textTypes, 10, r.typ},
		{textFunctions, 4, func(row []string) { routine(r.cat.Functions, row) }},
		{textOperators, 4, func(row []string) { routine(r.cat.Operators, row) }},
		{textRelations, 8, r.relation},
		{textViews, 2, func(row []string) { r.views[row[0]] = row[1] }},
		{textExpressions, 3, r.expression},
		{textGenerated, 3, r.generated},
		{textClasses, 3, r.class},
		{textTriggers, 3, r.trigger},
		{textRules, 1, r.rule},
		{textCascades, 2, r.cascade},
		{textInherits, 2, func(row []string) { r.parents[row[1]] = append(r.parents[row[1]], row[0]) }},
	} {
		rows, err := u.ownRows(ctx, s, q.text, maxCatalog)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if len(row) != q.columns {
				return nil, fmt.Errorf("the target answered with %d columns where %d were asked for", len(row), q.columns)
			}
			q.take(row)
		}
	}
	r.compose()
	r.relate()
	r.inherit()
	r.typed()
	r.lookThrough()
	return &r.cat, nil
}

// maxCatalog bounds one answer about the catalog, in bytes.
const maxCatalog = 64 << 20

func routine(into map[string][]sqlscan.Routine, row []string) {
	f := sqlscan.Routine{Name: sqlscan.Name{Schema: row[0], Name: row[1]}, Effect: effectOf(row[1], row[2], row[3])}
	for i, have := range into[row[1]] {
		if have.Name == f.Name {
			into[row[1]][i].Effect |= f.Effect // overloads count as one
			return
		}
	}
	into[row[1]] = append(into[row[1]], f)
}

func (r *catalogReader) typ(row []string) {
	oid, kind, extension, array, check := row[0], row[3], row[4], row[5] == "t", row[7]
	r.names[oid] = sqlscan.Name{Schema: row[1], Name: row[2]}
	r.parts[oid] = strings.Fields(row[6])
	r.active[oid] = row[8] == "t" || row[9] == "t" || kind == "b" && !array && !reviewedExtensions[extension] || codeOf(check) != 0
}

// compose makes types active whose parts are, and names all types.
func (r *catalogReader) compose() {
	for changed := true; changed; {
		changed = false
		for oid, parts := range r.parts {
			if !r.active[oid] && slices.ContainsFunc(parts, func(p string) bool { return r.active[p] }) {
				r.active[oid], changed = true, true
			}
		}
	}
	for _, oid := range slices.Sorted(maps.Keys(r.names)) {
		name := r.names[oid]
		t := sqlscan.Routine{Name: name}
		if r.active[oid] {
			t.Effect = access.EffectExecute
		}
		r.cat.Types[name.Name] = append(r.cat.Types[name.Name], t)
	}
}

// codeOf returns what computing an expression, as the target prints it, does besides reading.
func codeOf(expression string) access.Effects {
	if expression == "" {
		return 0
	}
	return sqlscan.Analyse("SELECT "+expression).Effects() &^ access.EffectRead
}

func (r *catalogReader) relation(row []string) {
	rel := &sqlscan.Relation{Name: sqlscan.Name{Schema: row[1], Name: row[2]}}
	if row[5] != "" {
		rel.Columns = strings.Split(row[5], "\x01")
	}
	if row[3] == "f" {
		rel.Reading, rel.Writing = access.EffectNetwork, access.EffectNetwork
	}
	rel.Plain = (row[3] == "r" || row[3] == "p") && row[4] == "f"
	r.byOID[row[0]], r.kinds[row[0]] = rel, row[3]
	r.types[row[0]] = strings.Fields(row[7])
	rel.OID = number(row[0])
	for i, n := range strings.Fields(row[6]) {
		if i%2 == 0 {
			rel.Numbers = append(rel.Numbers, int16(number(n))) //nolint:gosec // a column's number
		} else {
			rel.Types = append(rel.Types, number(n))
		}
	}
	r.cat.Relations[rel.Name.Name] = append(r.cat.Relations[rel.Name.Name], rel)
}

// number reads an object's number; 0, which is none, for what is not one.
func number(text string) uint32 {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

func (r *catalogReader) generated(row []string) {
	rel := r.byOID[row[0]]
	if rel == nil {
		return
	}
	if rel.Generated == nil {
		rel.Generated = map[string]string{}
	}
	rel.Generated[row[1]] = row[2]
}

func (r *catalogReader) expression(row []string) {
	rel := r.byOID[row[0]]
	if rel == nil {
		return
	}
	e := codeOf(row[2])
	rel.Writing |= e
	if row[1] == "r" {
		rel.Reading |= e
	}
}

// class takes an operator class that is not PostgreSQL's own.
func (r *catalogReader) class(row []string) {
	if reviewedExtensions[row[2]] {
		return
	}
	switch rel := r.byOID[row[1]]; {
	case row[0] == "type" && r.names[row[1]].Name != "":
		r.active[row[1]] = true
	case row[0] == "type":
		r.cat.Sorts = true
	case rel != nil:
		rel.Reading |= access.EffectExecute
		rel.Writing |= access.EffectExecute
	}
}

func (r *catalogReader) trigger(row []string) {
	if rel := r.byOID[row[0]]; rel != nil {
		f := sqlscan.Object{Kind: "function", Name: sqlscan.Name{Schema: row[1], Name: row[2]}, Effect: access.EffectExecute}
		if row[1] == "pg_catalog" {
			return // suppress_redundant_updates_trigger, tsvector_update_trigger: they run no code of others
		}
		rel.Writing |= access.EffectExecute
		rel.Changing = append(rel.Changing, f)
	}
}

func (r *catalogReader) rule(row []string) {
	if rel := r.byOID[row[0]]; rel != nil {
		rel.Plain = false
		rel.Reading |= access.EffectExecute
		rel.Writing |= access.EffectExecute
	}
}

func (r *catalogReader) cascade(row []string) {
	rel, child := r.byOID[row[0]], r.byOID[row[1]]
	if rel != nil && child != nil {
		rel.Changing = append(rel.Changing, sqlscan.Object{Kind: "relation", Name: child.Name, Effect: access.EffectWrite})
		rel.Writing |= child.Writing
	}
}

// relate gives relations their views' queries and their kin.
func (r *catalogReader) relate() {
	for oid, text := range r.views {
		if rel := r.byOID[oid]; rel != nil {
			rel.View = text
		}
	}
	for child, parents := range r.parents {
		for _, parent := range parents {
			if c, p := r.byOID[child], r.byOID[parent]; c != nil && p != nil {
				c.Kin, p.Kin = append(c.Kin, p), append(p.Kin, c)
			}
		}
	}
}

// inherit gives a relation what its children and partitions do: a statement about the parent is one about them.
func (r *catalogReader) inherit() {
	for range 16 { // levels
		changed := false
		for child, parents := range r.parents {
			c := r.byOID[child]
			for _, parent := range parents {
				p := r.byOID[parent]
				if c == nil || p == nil || p.Reading|c.Reading == p.Reading && p.Writing|c.Writing == p.Writing && p.Plain == (p.Plain && c.Plain) {
					continue
				}
				p.Reading |= c.Reading
				p.Writing |= c.Writing
				p.Plain = p.Plain && c.Plain
				changed = true
			}
		}
		if !changed {
			return
		}
	}
}

// typed marks relations with columns whose types run code.
func (r *catalogReader) typed() {
	for oid, types := range r.types {
		if slices.ContainsFunc(types, func(t string) bool { return r.active[t] }) {
			r.byOID[oid].Reading |= access.EffectExecute
			r.byOID[oid].Writing |= access.EffectExecute
		}
	}
}

// lookThrough finds out what stands behind views. A view reads what its query
// reads with the rights of its owner, and runs what its query runs.
func (r *catalogReader) lookThrough() {
	state := map[*sqlscan.Relation]int{} // 1: under way, 2: done
	oids := map[*sqlscan.Relation]string{}
	for oid, rel := range r.byOID {
		oids[rel] = oid
	}
	var visit func(rel *sqlscan.Relation)
	visit = func(rel *sqlscan.Relation) {
		text, isView := r.views[oids[rel]]
		if !isView || state[rel] != 0 {
			return
		}
		state[rel] = 1
		scan := sqlscan.Analyse(text)
		for i := range scan.Statements {
			for _, o := range scan.Statements[i].Objects {
				for _, base := range r.cat.Relations[o.Name.Name] {
					if o.Kind == "relation" && base.Schema == o.Schema {
						visit(base)
					}
				}
			}
		}
		state[rel] = 2
		if r.kinds[oids[rel]] == "m" { // reading it reads what was stored
			return
		}
		scan = r.cat.Resolve(scan, nil)
		rel.Reading |= scan.Effects() &^ access.EffectRead
		rel.Writing |= rel.Reading
		for i := range scan.Statements {
			for _, o := range scan.Statements[i].Objects {
				rel.Behind = append(rel.Behind, o)
				if o.Kind == "relation" { // a simple view can be written through
					rel.Changing = append(rel.Changing, sqlscan.Object{Kind: o.Kind, Name: o.Name, Effect: access.EffectWrite})
					for _, base := range r.cat.Relations[o.Name.Name] {
						if base.Schema == o.Schema {
							rel.Writing |= base.Writing
						}
					}
				}
			}
		}
	}
	for _, rel := range r.byOID {
		visit(rel)
	}
}
