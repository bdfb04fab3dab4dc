package lineage

import (
	"slices"

	"github.com/gatebook/gatebook/internal/sqlscan"
)

// aside are relations of PostgreSQL's own that repeat values of tables or texts of statements. They are masked wherever
// anything is.
var aside = map[sqlscan.Name][]string{
	{Schema: "pg_catalog", Name: "pg_statistic"}: {
		"stavalues1", "stavalues2", "stavalues3", "stavalues4", "stavalues5",
	},
	{Schema: "pg_catalog", Name: "pg_statistic_ext_data"}: {"stxdmcv", "stxdexpr", "stxddependencies", "stxdndistinct"},
	{Schema: "pg_catalog", Name: "pg_stats"}: {
		"most_common_vals", "histogram_bounds", "most_common_elems", "range_bounds_histogram",
	},
	{Schema: "pg_catalog", Name: "pg_stats_ext"}:       {"most_common_vals", "most_common_val_nulls"},
	{Schema: "pg_catalog", Name: "pg_stats_ext_exprs"}: {"most_common_vals", "histogram_bounds", "most_common_elems", "expr"},
	{Schema: "pg_catalog", Name: "pg_stat_activity"}:   {"query"},
	{Schema: "pg_catalog", Name: "pg_largeobject"}:     {"data"},
	{Schema: "pg_catalog", Name: "pg_prepared_xacts"}:  {"gid"},
}

// builder fills a Schema.
type builder struct {
	s      *Schema
	masked func(Column) bool
	busy   map[*sqlscan.Relation]bool
}

// relation finds out what the columns of a relation hold.
func (b *builder) relation(rel *sqlscan.Relation) []field {
	if fields, ok := b.s.fields[rel]; ok {
		return fields
	}
	if b.busy[rel] { // a view of itself: its columns are what the rest of it gives
		return everything(rel.Columns, Set{Unknown})
	}
	b.busy[rel] = true
	defer delete(b.busy, rel)
	fields := b.table(rel)
	if rel.View != "" {
		fields = b.view(rel, fields)
	}
	b.s.fields[rel] = fields
	return fields
}

func everything(columns []string, from Set) []field {
	fields := make([]field, len(columns))
	for i, name := range columns {
		fields[i] = field{name: name, from: from}
	}
	return fields
}

// table returns the columns by their own names, and by those of tables whose rows are among its, or the other way round.
func (b *builder) table(rel *sqlscan.Relation) []field {
	fields := make([]field, len(rel.Columns))
	kin := b.kin(rel)
	for i, name := range rel.Columns {
		fields[i] = field{name: name, plain: true}
		for _, r := range kin {
			if c := (Column{Relation: r.Name, Name: name}); b.masked(c) || slices.Contains(aside[r.Name], name) {
				fields[i].from = fields[i].from.with(Set{c})
			}
		}
		if len(fields[i].from) > 1 {
			fields[i].plain = false
		}
	}
	for name, text := range rel.Generated {
		at := slices.Index(rel.Columns, name)
		if at < 0 || len(fields[at].from) > 0 {
			continue
		}
		fields[at] = field{name: name, from: b.generated(fields, text), plain: false}
		fields[at].plain = len(fields[at].from) == 0
	}
	return fields
}

// generated returns the columns behind an expression over a table's own columns.
func (b *builder) generated(fields []field, text string) Set {
	tree := sqlscan.Parse("SELECT " + text)
	if tree == nil || len(tree.Stmts) != 1 {
		return Set{Unknown}
	}
	w := &walk{s: b.s, look: b.relation}
	out := w.query(tree.Stmts[0].Stmt.GetSelectStmt(), &scope{sources: []*source{{rows: rows{fields: fields}}}})
	return out.all()
}

// view returns the columns of a view by its query; those that a mask names are masked besides.
func (b *builder) view(rel *sqlscan.Relation, named []field) []field {
	tree := sqlscan.Parse(rel.View)
	if tree == nil || len(tree.Stmts) != 1 || tree.Stmts[0].Stmt.GetSelectStmt() == nil {
		return everything(rel.Columns, Set{Unknown})
	}
	w := &walk{s: b.s, look: b.relation}
	out := w.query(tree.Stmts[0].Stmt.GetSelectStmt(), nil)
	if out.open || len(out.fields) != len(rel.Columns) {
		return everything(rel.Columns, out.all().with(Set{Unknown}))
	}
	fields := make([]field, len(rel.Columns))
	for i, name := range rel.Columns {
		f := out.fields[i]
		fields[i] = field{name: name, from: f.from, plain: f.plain}
		if len(named[i].from) > 0 {
			fields[i].from, fields[i].plain = f.from.with(named[i].from), len(f.from) == 0
		}
	}
	return fields
}

// kin are a relation with all whose rows are among its, or that its rows are among: parents, children and partitions.
func (b *builder) kin(rel *sqlscan.Relation) []*sqlscan.Relation {
	out := []*sqlscan.Relation{rel}
	for i := 0; i < len(out); i++ {
		for _, r := range out[i].Kin {
			if !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	return out
}
