package sqlscan

import (
	"errors"
	"fmt"
	"strings"

	pgquery "github.com/sqlc-dev/oliphant"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gatebook/gatebook/internal/access"
)

// Preview is how to look at the effect of a statement without running anything of it but PostgreSQL's own functions that
// only compute. Its queries name every relation with its schema: they are for a session whose search path is pg_catalog alone.
type Preview struct {
	// Explain asks for the planner's estimate. It takes the statement's own parameters.
	Explain string
	// Relations are those that the statement names.
	Relations []Name
	// Relation is the one whose rows an UPDATE or DELETE changes, where Count is there.
	Relation Name
	// Count counts the rows that an UPDATE or DELETE finds, by its own condition and with its parameters. Rows has one row with
	// the SHA-256, in hexadecimal, over table, place and version of each of them in order.
	Count, Rows string
	// Uncounted says why Count and Rows are "".
	Uncounted string
	// Parameters is the highest number of a parameter.
	Parameters int
}

// Preview returns how to look at the effect of a text, which must be one statement. The error says why that is not
// safe, in words for people, with all names quoted.
func (c *Catalog) Preview(text string) (*Preview, error) {
	scan := c.Resolve(Analyse(text), nil)
	if err := safe(scan); err != nil {
		return nil, err
	}
	tree, err := pgquery.Parse(text)
	if err != nil {
		return nil, errors.New("the text does not parse")
	}
	stmt := tree.Stmts[0].Stmt
	q := qualifier{c: c, ctes: map[string]bool{}}
	q.collect(stmt.ProtoReflect())
	q.qualify(stmt.ProtoReflect())
	if q.err != nil {
		return nil, q.err
	}
	p := &Preview{Relations: q.relations, Parameters: scan.Statements[0].Parameters}
	if p.Explain, err = write(stmt); err != nil {
		return nil, err
	}
	p.Explain = "EXPLAIN (FORMAT JSON) " + p.Explain
	if err := p.count(stmt, &scan.Statements[0]); err != nil {
		p.Uncounted = err.Error()
	}
	return p, nil
}

// safe returns why planning a text may run code that is not PostgreSQL's own, or do more than plan.
func safe(scan *Scan) error {
	if scan.Opaque != "" {
		return errors.New("the text cannot be read")
	}
	if len(scan.Statements) != 1 {
		return errors.New("it is more than one statement")
	}
	st := &scan.Statements[0]
	switch st.Verb {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE":
	default:
		return fmt.Errorf("%s has no plan", orWord(st.Verb, "such a statement"))
	}
	switch {
	case st.Opaque != "":
		return errors.New(st.Opaque)
	case st.Doubt != "":
		return errors.New(st.Doubt)
	case st.Effects&^(access.EffectRead|access.EffectWrite|access.EffectLock) != 0:
		return fmt.Errorf("it does more than read and write: %s", st.Effects)
	}
	return nil
}

func orWord(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// qualifier puts the schema before the relations that a statement names without one.
type qualifier struct {
	c         *Catalog
	ctes      map[string]bool
	relations []Name
	err       error
}

// collect takes down the names of WITH queries.
func (q *qualifier) collect(m protoreflect.Message) {
	if e, ok := m.Interface().(*pgquery.CommonTableExpr); ok {
		q.ctes[e.Ctename] = true
	}
	anyChild(m, func(child protoreflect.Message) bool {
		q.collect(child)
		return false
	})
}

func (q *qualifier) qualify(m protoreflect.Message) {
	if r, ok := m.Interface().(*pgquery.RangeVar); ok {
		q.relation(r)
	}
	anyChild(m, func(child protoreflect.Message) bool {
		q.qualify(child)
		return q.err != nil
	})
}

func (q *qualifier) relation(r *pgquery.RangeVar) {
	name := Name{Schema: r.Schemaname, Name: r.Relname}
	if name.Schema == "" && q.ctes[name.Name] {
		return // where it stands for a table after all, the target does not find it
	}
	if r.Catalogname != "" {
		q.err = fmt.Errorf("%q names a database", name)
		return
	}
	var found []Name
	for _, rel := range q.c.Relations[name.Name] {
		if name.Schema == "" || name.Schema == rel.Schema {
			found = append(found, rel.Name)
		}
	}
	switch {
	case len(found) == 0:
		q.err = fmt.Errorf("%q is not known", name)
	case len(found) > 1:
		q.err = fmt.Errorf("%q may be %q or %q: the statement does not name the schema", name, found[0], found[1])
	case strings.HasPrefix(found[0].Schema, "pg_temp"):
		q.err = fmt.Errorf("%q is a temporary table, which only its own session sees", name)
	default:
		r.Schemaname = found[0].Schema
		q.relations = append(q.relations, found[0])
	}
}

// Templates of the queries about the rows that an UPDATE or DELETE finds.
const (
	countOf = `SELECT pg_catalog.count(*) FROM x`
	rowsOf  = `SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(coalesce(pg_catalog.string_agg(` +
		`x.tableoid::pg_catalog.text || ' ' || x.ctid::pg_catalog.text || ' ' || x.xmin::pg_catalog.text, ',' ORDER BY x.tableoid, x.ctid), ''), ` +
		`'UTF8')), 'hex') FROM (SELECT tableoid, ctid, xmin FROM x) x`
)

// count makes the queries about rows. The error says why there are none.
func (p *Preview) count(stmt *pgquery.Node, st *Statement) error {
	var rel *pgquery.RangeVar
	var where *pgquery.Node
	switch v := stmt.Node.(type) {
	case *pgquery.Node_UpdateStmt:
		u := v.UpdateStmt
		if len(u.FromClause) > 0 || u.WithClause != nil {
			return errors.New("it is about the rows of more than one table")
		}
		rel, where = u.Relation, u.WhereClause
	case *pgquery.Node_DeleteStmt:
		d := v.DeleteStmt
		if len(d.UsingClause) > 0 || d.WithClause != nil {
			return errors.New("it is about the rows of more than one table")
		}
		rel, where = d.Relation, d.WhereClause
	default:
		return errors.New("rows are counted for UPDATE and DELETE alone")
	}
	if why := unsteady(stmt.ProtoReflect()); why != "" {
		return errors.New(why)
	}
	for _, name := range st.Attributes {
		if unsteadyFunction(name) { // x.f is also how f(x) can be written
			return fmt.Errorf("%q may give another result in another session or at another time", name)
		}
	}
	var err error
	if p.Count, err = fill(countOf, rel, where); err != nil {
		return err
	}
	if p.Rows, err = fill(rowsOf, rel, where); err != nil {
		p.Count = ""
		return err
	}
	p.Relation = Name{Schema: rel.Schemaname, Name: rel.Relname}
	return nil
}

// unsteady returns why an expression does not certainly give the same in another session, "" if it does. Settings that the gateway
// carries over, and the time, are left out of account.
func unsteady(m protoreflect.Message) string {
	switch v := m.Interface().(type) {
	case *pgquery.SubLink:
		return "it has a subquery"
	case *pgquery.CurrentOfExpr:
		return "WHERE CURRENT OF is about a cursor of the agent's session"
	case *pgquery.SQLValueFunction:
		if v.Op == pgquery.SQLValueFunctionOp_SVFOP_CURRENT_SCHEMA {
			return "current_schema may be another one in another session"
		}
	case *pgquery.FuncCall:
		if name := nameOf(texts(v.Funcname)).Name; unsteadyFunction(name) {
			return fmt.Sprintf("%q may give another result in another session or at another time", name)
		}
	case *pgquery.TypeName: // regclass and the like find names by the search path
		if name := nameOf(texts(v.Names)).Name; strings.HasPrefix(name, "reg") || strings.HasPrefix(name, "_reg") {
			return fmt.Sprintf("the type %q finds names by the session's own search path", name)
		}
	}
	why := ""
	anyChild(m, func(child protoreflect.Message) bool {
		why = unsteady(child)
		return why != ""
	})
	return why
}

// unsteadyFunction reports whether a function of pg_catalog gives another result in another session, or each time.
func unsteadyFunction(name string) bool {
	for _, prefix := range []string{
		"pg_", "has_", "to_reg", "txid_", "current_", "inet_client_", "inet_server_", "random", "gen_random_", "uuidv", "array_sample", "array_shuffle",
		"currval", "lastval", "clock_timestamp", "timeofday", "row_security_active",
	} {
		if strings.HasPrefix(name, prefix) && !strings.HasPrefix(name, "pg_lsn") {
			return true
		}
	}
	return false
}

// fill puts a relation and a condition into a template.
func fill(template string, rel *pgquery.RangeVar, where *pgquery.Node) (string, error) {
	tree, err := pgquery.Parse(template)
	if err != nil {
		return "", err
	}
	stmt := tree.Stmts[0].Stmt
	q := stmt.GetSelectStmt()
	if sub := q.FromClause[0].GetRangeSubselect(); sub != nil {
		q = sub.Subquery.GetSelectStmt()
	}
	q.FromClause = []*pgquery.Node{{Node: &pgquery.Node_RangeVar{RangeVar: proto.CloneOf(rel)}}}
	if where != nil {
		q.WhereClause = proto.CloneOf(where)
	}
	return write(stmt)
}

// write returns the text of a statement, and makes sure that it reads as that statement again.
func write(stmt *pgquery.Node) (text string, err error) {
	errOther := errors.New("the statement cannot be written again with the schemas of its relations")
	defer func() {
		if recover() != nil { // the writer gives up so on trees that it does not expect, and keeps nothing
			text, err = "", errOther
		}
	}()
	text, err = pgquery.Deparse(&pgquery.ParseResult{Stmts: []*pgquery.RawStmt{{Stmt: stmt}}})
	if err != nil || len(text) > 2*maxText || depth(text) > maxDepth {
		return "", errOther
	}
	again, err := pgquery.Parse(text)
	if err != nil || len(again.Stmts) != 1 || !proto.Equal(placeless(stmt), placeless(again.Stmts[0].Stmt)) {
		return "", errOther
	}
	return text, nil
}

// placeless returns a copy of a tree that does not say where in the text something stood.
func placeless(n *pgquery.Node) *pgquery.Node {
	n = proto.CloneOf(n)
	forget(n.ProtoReflect())
	return n
}

func forget(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if position(string(fd.Name())) {
			m.Clear(fd)
		}
		return true
	})
	anyChild(m, func(child protoreflect.Message) bool {
		forget(child)
		return false
	})
}
