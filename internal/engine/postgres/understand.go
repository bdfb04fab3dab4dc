package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

// grammar names the version of the grammar that fingerprints are made by.
const grammar = "pg18:"

// understood is what the gateway knows of a text: the part of an action that
// is the same whoever sends it.
type understood struct {
	action access.Action
	// doubtful: it may change what the names of statements and portals stand for, in a way that the protocol does not show.
	doubtful bool
}

// understand makes an action's part of what a text does.
func understand(text string, scan *sqlscan.Scan) *understood {
	u := &understood{}
	a := &u.action
	a.Effects, a.Understood, a.Why, a.HasFilter = scan.Effects(), scan.Opaque == "", scan.Opaque, scan.Opaque == ""
	u.doubtful = scan.Opaque != ""
	for i := range scan.Statements {
		st := &scan.Statements[i]
		if st.Opaque != "" {
			a.Understood = false
			if a.Why == "" {
				a.Why = st.Opaque
			}
		}
		a.HasFilter = a.HasFilter && st.HasFilter
		u.doubtful = u.doubtful || changesNames(st)
		a.Statements = append(a.Statements, statementOf(st))
	}
	a.ProvenRead = len(scan.Statements) == 1 && scan.Statements[0].ProvenRead && a.Understood
	a.Fingerprint = sqlscan.Fingerprint(text, grammar)
	a.Account = audit.Account(a)
	return u
}

// understand returns what a text does at the session's target now.
func (q *requests) understand(ctx context.Context, text string) *understood {
	db := q.r.db
	if db == nil {
		return q.r.d.databases.written.Get(text)
	}
	if q.changed {
		q.r.mu.Lock()
		idle := q.r.tx == 'I' && q.r.queue.idle()
		q.r.mu.Unlock()
		if idle && len(q.items) == 0 && q.g == nil {
			if err := db.refresh(ctx, 0); err != nil { // nothing is known then, which counts as unknown code
				q.r.d.log.Error("definitions not read", "target", db.key.target, "database", db.key.name, "err", err)
			}
			q.changed, q.renamed, q.made = false, false, nil
		}
	} else if db.age() > catalogStale {
		// Nobody asked for a while: this request must not be judged by what was true then.
		if err := db.refresh(ctx, catalogAge); err != nil {
			q.r.d.log.Error("definitions not read", "target", db.key.target, "database", db.key.name, "err", err)
		}
	} else if db.stale(catalogAge) {
		go func() { _ = db.refresh(context.WithoutCancel(ctx), catalogAge) }()
	}
	known := db.known.Load()
	if known == nil {
		return db.of.unknown.Get(text)
	}
	if !q.changed {
		return known.texts.Get(text)
	}
	u := understand(text, known.catalog.Resolve(db.of.scans.Get(text), func(n sqlscan.Name) bool { return q.made[n] }))
	u.action.ProvenRead = false // what the session has changed is not in the catalog yet
	if q.renamed {
		unclear(&u.action, "the session has changed definitions, which the gateway learns when its transaction is over")
		u.doubtful = true
	}
	return u
}

// catalogStale is how old a catalog may be when a request is judged by it. While requests come it is read again before that, beside them.
const catalogStale = 5 * time.Second

// blind is understand while the definitions of a database are not known: every name may be that of unknown code.
func blind(text string, scan *sqlscan.Scan) *understood {
	u := understand(text, scan)
	for i := range scan.Statements {
		if st := &scan.Statements[i]; len(st.Objects)+len(st.Operators)+len(st.Types)+len(st.Attributes) > 0 {
			unclear(&u.action, "the definitions of the target's database are not known now")
			u.doubtful = true
		}
	}
	return u
}

// note takes down which definitions an allowed request changes. Until they are read again, names may stand for them.
func (q *requests) note(a *access.Action) {
	if !a.Effects.Has(access.EffectSchema) {
		return
	}
	q.changed = true
	for i := range a.Statements {
		st := &a.Statements[i]
		if !st.Effects.Has(access.EffectSchema) {
			continue
		}
		name, plain := makesTable(st)
		switch {
		case !plain:
			q.renamed = true
		case name.Name != "":
			if q.made == nil {
				q.made = map[sqlscan.Name]bool{}
			}
			q.made[name] = true
			q.made[sqlscan.Name{Name: name.Name}] = true
		}
	}
	if len(a.Statements) == 0 {
		q.renamed = true
	}
}

// makesTable reports whether all that a statement defines is a table without code of its own, and its name.
func makesTable(st *access.Statement) (name sqlscan.Name, plain bool) {
	switch st.Verb {
	case "CREATE TABLE", "CREATE TABLE AS", "SELECT INTO", "CREATE INDEX", "CREATE SEQUENCE", "DROP TABLE", "DROP INDEX", "DROP SEQUENCE":
	default:
		return name, false
	}
	if st.Effects.Has(access.EffectExecute) {
		return name, false
	}
	for _, o := range st.Objects {
		if o.Kind != "relation" || !o.Effects.Has(access.EffectSchema) {
			continue
		}
		if name.Name != "" && !strings.HasPrefix(st.Verb, "DROP") {
			return name, false // LIKE, INHERITS, PARTITION OF: what the other one has comes with it
		}
		name = sqlscan.Name{Schema: o.Schema, Name: o.Name}
	}
	if strings.HasPrefix(st.Verb, "DROP") {
		name = sqlscan.Name{}
	}
	return name, true
}

// changesNames reports whether a statement may make or end prepared statements or portals: by itself, or by code that it runs.
func changesNames(st *sqlscan.Statement) bool {
	switch st.Verb {
	case "PREPARE", "DEALLOCATE", "DISCARD", "DISCARD ALL", "EXECUTE", "DECLARE CURSOR", "CLOSE CURSOR":
		return true
	}
	return st.Effects.Has(access.EffectExecute)
}

func statementOf(st *sqlscan.Statement) access.Statement {
	out := access.Statement{Verb: st.Verb, Inner: st.Inner, Effects: st.Effects, HasFilter: st.HasFilter, Understood: st.Opaque == ""}
	for _, o := range st.Objects {
		out.Objects = append(out.Objects, access.Object{Kind: o.Kind, Schema: o.Schema, Name: o.Name.Name, Effects: o.Effect})
	}
	for _, c := range st.Columns {
		name := c.Name
		if c.Relation.Name != "" {
			name = c.Relation.String() + "." + name
		}
		out.Columns = append(out.Columns, name)
	}
	return out
}

// fill puts what is known of a text into an action.
func (u *understood) fill(a *access.Action) {
	a.Understood, a.Why, a.Effects, a.Statements = u.action.Understood, u.action.Why, u.action.Effects, u.action.Statements
	a.HasFilter, a.Fingerprint, a.Account = u.action.HasFilter, u.action.Fingerprint, u.action.Account
	a.ProvenRead = u.action.ProvenRead
	a.Common = &u.action
}

// unclear makes an action one that is not understood.
func unclear(a *access.Action, why string) {
	a.Understood, a.Why, a.HasFilter, a.ProvenRead = false, why, false, false
	a.Effects |= access.EffectExecute
	a.Account, a.Common = nil, nil
}

// closeRule is the rule by which a Close passes: it ends a name of the session's own, which drivers do by themselves, also
// after a refusal. No policy that allows reading is meant to forbid it.
const closeRule = "protocol.close"

// closes is what a Close of a statement or portal does.
var closes = understood{action: func() access.Action {
	a := access.Action{Understood: true, HasFilter: true, Effects: access.EffectSession}
	a.Account = audit.Account(&a)
	return a
}()}
