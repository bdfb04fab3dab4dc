// Package lineage proves where the values of a statement's answer come from:
// which masked columns each result column may hold values of, and what else
// the statement does with masked columns.
//
// It reads the statement's own parse tree with the target's catalog; names of
// results prove nothing. Whatever it cannot follow may hold anything: such a
// value comes from Unknown, and such a statement is refused. A name may stand
// for every relation of that name in any schema, since the search path is the
// agent's own.
//
// Four things tell something of a masked column all the same, and are not
// followed: whether it is NULL, how many rows are not NULL, how many rows
// there are, and the time that a statement takes.
package lineage

import (
	"slices"
	"strings"

	pgquery "github.com/sqlc-dev/oliphant"

	"github.com/gatebook/gatebook/internal/sqlscan"
)

// Column is a column of a relation at the target.
type Column struct {
	Relation sqlscan.Name
	Name     string
}

// String returns "schema.relation.column".
func (c Column) String() string {
	if c == Unknown {
		return "what the gateway cannot follow"
	}
	return c.Relation.String() + "." + c.Name
}

// Unknown stands for values that may come from anywhere.
var Unknown = Column{Name: "*"}

// Set are masked columns, sorted and each once.
type Set []Column

func compare(a, b Column) int {
	for _, c := range []int{strings.Compare(a.Relation.Schema, b.Relation.Schema), strings.Compare(a.Relation.Name, b.Relation.Name)} {
		if c != 0 {
			return c
		}
	}
	return strings.Compare(a.Name, b.Name)
}

// Has reports whether a column is among them.
func (s Set) Has(c Column) bool {
	_, ok := slices.BinarySearchFunc(s, c, compare)
	return ok
}

// Within reports whether all of them are among others.
func (s Set) Within(others Set) bool {
	return !slices.ContainsFunc(s, func(c Column) bool { return !others.Has(c) })
}

// with returns the columns of both.
func (s Set) with(others ...Set) Set {
	out := s
	for _, o := range others {
		switch {
		case len(o) == 0:
		case len(out) == 0:
			out = o
		default:
			for _, c := range o {
				if at, ok := slices.BinarySearchFunc(out, c, compare); !ok {
					out = slices.Insert(slices.Clone(out), at, c)
				}
			}
		}
	}
	return out
}

// Cell is one column of an answer.
type Cell struct {
	Name string
	// From are the masked columns whose values it may hold or depend on; none if it is harmless.
	From Set
	// Plain: it is the value of the one column in From itself, unchanged. The target's description of the answer says the same,
	// unless the rows were sorted or joined out of several.
	Plain bool
}

// How says what a statement does with a masked column besides putting it out.
type How string

// What tells something of a column's values.
const (
	Filters  How = "filters by"
	Joins    How = "joins by"
	Sorts    How = "sorts by"
	Groups   How = "groups by"
	Compares How = "compares" // DISTINCT, UNION, INTERSECT, EXCEPT
	Computes How = "computes with"
)

// Use is one thing that a statement does with masked columns.
type Use struct {
	How How
	Of  Set
}

// Answer is what is proven of one statement. It is immutable.
type Answer struct {
	// Verb is a word for the statement in messages.
	Verb string
	// Rows: it returns rows, or sends COPY data.
	Rows bool
	// Cells are the columns of these rows, in order. Open: it may have others between or behind them, which hold values
	// of Rest at most.
	Cells []Cell
	Open  bool
	Rest  Set
	// Uses are what it does with masked columns besides, each once.
	Uses []Use
	// Refuse says why it cannot pass however masked columns may be used, "" if nothing forbids it.
	Refuse string
	// Copy is how it writes its rows, nil if it is no COPY or the way is not known.
	Copy *CopyFormat
	// Fetches is the cursor or portal of which it returns rows, "" for none.
	Fetches string
	// Literals are constants that it compares masked columns with, puts into them, or computes with them, by their places in the
	// text, and Params the parameters that stand for such, by their numbers. Each is there once, in order.
	Literals, Params []Literal
	// Touches: it names a relation with a masked column, or may run into one. Writes: it changes rows or definitions.
	Touches, Writes bool
}

// Literal is a constant or a parameter that meets values of a masked column.
type Literal struct {
	At int // in the text, in bytes; or the parameter's number
	Of Column
}

func ordered(list []Literal) []Literal {
	slices.SortStableFunc(list, func(a, b Literal) int { return a.At - b.At })
	return slices.CompactFunc(list, func(a, b Literal) bool { return a.At == b.At })
}

// From are all masked columns that the answer may hold values of.
func (a *Answer) From() Set {
	all := a.Rest
	for _, c := range a.Cells {
		all = all.with(c.From)
	}
	return all
}

// Schema is a catalog with what is masked in it. It is safe for concurrent use.
type Schema struct {
	cat     *sqlscan.Catalog
	fields  map[*sqlscan.Relation][]field
	numbers map[uint32]*sqlscan.Relation
}

// New looks through a catalog: views, generated columns, and tables of the same rows take part in what is masked.
func New(cat *sqlscan.Catalog, masked func(Column) bool) *Schema {
	s := &Schema{cat: cat, fields: map[*sqlscan.Relation][]field{}, numbers: map[uint32]*sqlscan.Relation{}}
	b := &builder{s: s, masked: masked, busy: map[*sqlscan.Relation]bool{}}
	for _, list := range cat.Relations {
		for _, rel := range list {
			b.relation(rel)
			s.numbers[rel.OID] = rel
		}
	}
	return s
}

// ByNumber returns the masked columns behind a column that the target names by the numbers of its relation and itself. known is
// false for a relation, or a column, that the catalog does not have.
func (s *Schema) ByNumber(relation uint32, column int16) (from Set, known bool) {
	rel := s.numbers[relation]
	if rel == nil {
		return nil, false
	}
	switch {
	case column < 0: // ctid and the like
		return nil, true
	case column == 0: // the whole row
		r := rows{fields: s.fields[rel]}
		return r.all(), true
	}
	at := slices.Index(rel.Numbers, column)
	if fields := s.fields[rel]; at >= 0 && at < len(fields) {
		return fields[at].from, true
	}
	return nil, false
}

// Name returns the column that the target names by the numbers of its relation and itself.
func (s *Schema) Name(relation uint32, column int16) (c Column, ok bool) {
	rel := s.numbers[relation]
	if rel == nil {
		return c, false
	}
	at := slices.Index(rel.Numbers, column)
	if at < 0 || at >= len(rel.Columns) {
		return c, false
	}
	return Column{rel.Name, rel.Columns[at]}, true
}

// Type returns the number of a column's type, 0 if it is not known.
func (s *Schema) Type(c Column) uint32 {
	for _, rel := range s.cat.Named(c.Relation) {
		if at := slices.Index(rel.Columns, c.Name); at >= 0 && at < len(rel.Types) {
			return rel.Types[at]
		}
	}
	return 0
}

// Text returns what is proven of each statement of a text. made names tables that the session has made since the catalog was read,
// and whose rows are therefore its own. ok is false for a text that is not understood at all.
func (s *Schema) Text(text string, made func(sqlscan.Name) bool) (answers []Answer, ok bool) {
	tree := sqlscan.Parse(text)
	if tree == nil {
		return nil, false
	}
	scan := sqlscan.Analyse(text)
	if scan.Opaque != "" || len(scan.Statements) != len(tree.Stmts) {
		return nil, false
	}
	for i, raw := range tree.Stmts {
		answers = append(answers, s.statement(raw.Stmt, &scan.Statements[i], made))
	}
	return answers, true
}

// field is a column of something that rows are read from.
type field struct {
	name string
	// wild: the target gives it a name that is not known here. maybe: it may not be there at all.
	wild, maybe bool
	from        Set
	plain       bool
}

// rows are what a query gives: fields in order, and whether there may be others.
type rows struct {
	fields []field
	open   bool
	rest   Set // of the others
	// mixed: the fields are those of several relations, of which it is one; there are no others.
	mixed bool
}

// all are the columns behind any of it.
func (r *rows) all() Set {
	all := r.rest
	for _, f := range r.fields {
		all = all.with(f.from)
	}
	return all
}

// renamed gives the first fields other names.
func (r rows) renamed(names []*pgquery.Node) rows {
	if len(names) == 0 {
		return r
	}
	r.fields = slices.Clone(r.fields)
	for i, n := range names {
		if i < len(r.fields) {
			r.fields[i].name = n.GetString_().GetSval()
		} else if r.open || r.mixed {
			r.fields = append(r.fields, field{name: n.GetString_().GetSval(), from: r.rest})
		}
	}
	return r
}
