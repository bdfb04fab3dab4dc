package sqlscan

import (
	"fmt"

	pgquery "github.com/sqlc-dev/oliphant"

	"github.com/gatebook/gatebook/internal/access"
)

// Scan is what a text does, as far as the text alone tells. It is immutable
// once made, and safe for concurrent use.
type Scan struct {
	// Statements are those of the text, in order.
	Statements []Statement
	// Opaque says why the text as a whole could not be read; it has no statements then.
	Opaque string
}

// Statement is one statement of a text.
type Statement struct {
	// Verb is the command, as in the target's completion tag: "SELECT", "DROP TABLE".
	Verb string
	// Inner are the commands that change rows within it, each once: those of WITH, COPY, EXPLAIN ANALYZE and PREPARE, the actions of
	// MERGE and ON CONFLICT.
	Inner []string
	// Effects by the text and the table of builtin functions alone. A name that is not of the
	// target's own catalog schema may add to them (Resolve).
	Effects access.Effects
	// Own are the effects that do not hang on the names of objects.
	Own access.Effects
	// Opaque says why the effects of this statement cannot be known, "" if they can.
	Opaque string
	// Objects that it names, each with what is done to it, without duplicates.
	Objects []Object
	// Columns that it refers to.
	Columns []Column
	// Operators that it uses, other than by syntax of their own, and those that syntax stands for ("=" for IN).
	Operators []Name
	// Types are names of PostgreSQL's own types without a schema. With another search path they are types of that name elsewhere.
	Types []Name
	// Attributes are names behind a dot, which may be calls of a function: t.f is f(t) where t has no column f.
	Attributes []string
	// HasFilter: every UPDATE, DELETE and MERGE in it has a condition that depends on the row; where there is none of these
	// and no INSERT, every outermost SELECT from something has. TRUNCATE and what is opaque have none.
	HasFilter bool
	// Runs is the name of the prepared statement that it executes, "" if it is no EXECUTE.
	Runs string
	// Prepares is the name of the statement that it prepares.
	Prepares string
	// Literals are its constants, and Parameters the highest number of a parameter.
	Literals   []string
	Parameters int
	// Doubt says why it is not certain that all functions, operators and types in it are PostgreSQL's own and only compute, and all
	// relations plain tables that run no code of others; "" if it is. Only Resolve says so.
	Doubt string
	// ProvenRead: it is a SELECT from plain tables alone, with functions, operators and types that are certainly PostgreSQL's
	// own and only compute. Only Resolve says so.
	ProvenRead bool
}

// Name is a name with its schema, "" if the text does not say.
type Name struct{ Schema, Name string }

// String returns "schema.name", or the name alone.
func (n Name) String() string {
	if n.Schema == "" {
		return n.Name
	}
	return n.Schema + "." + n.Name
}

// Object is something that a statement names.
type Object struct {
	// Kind is "relation", "function", "type", "role", "setting" or another word of PostgreSQL for it.
	Kind string
	Name
	// Effect is what is done to it: one effect, or 0 for a function that only computes.
	Effect access.Effects
}

// Column is a reference to a column.
type Column struct {
	// Relation is what the text says it belongs to; the zero Name if it does not say.
	Relation Name
	// Name of the column, "*" for all of them.
	Name string
}

// Analyse reads a text. It never fails: what it cannot read is opaque, with the
// effect of running unknown code.
func Analyse(text string) *Scan {
	if len(text) > maxText {
		return &Scan{Opaque: fmt.Sprintf("the text has more than %d bytes", maxText)}
	}
	if depth(text) > maxDepth {
		return &Scan{Opaque: fmt.Sprintf("the text is nested deeper than %d", maxDepth)}
	}
	tree, err := pgquery.Parse(text)
	if err != nil {
		return &Scan{Opaque: "the text does not parse: " + err.Error()}
	}
	s := &Scan{}
	for _, raw := range tree.Stmts {
		w := walk{st: &Statement{}}
		w.statement(raw.Stmt)
		w.finish()
		s.Statements = append(s.Statements, *w.st)
	}
	return s
}

// Effects returns those of all statements together. An opaque text may run anything.
func (s *Scan) Effects() access.Effects {
	if s.Opaque != "" {
		return access.EffectExecute
	}
	var all access.Effects
	for i := range s.Statements {
		all |= s.Statements[i].Effects
	}
	return all
}

// Fingerprint names texts that differ in constants alone, "" for an opaque text. Fingerprints of different grammars
// differ, so that the grammar's name stands before it.
func Fingerprint(text, grammar string) string {
	if len(text) > maxText || depth(text) > maxDepth {
		return ""
	}
	f, err := pgquery.Fingerprint(text)
	if err != nil {
		return ""
	}
	return grammar + f
}
