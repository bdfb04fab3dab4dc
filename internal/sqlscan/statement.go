package sqlscan

import (
	"strings"

	pgquery "github.com/sqlc-dev/oliphant"

	"github.com/gatebook/gatebook/internal/access"
)

// statement walks a statement and names what it does. A kind of statement that
// is not known is opaque.
func (w *walk) statement(n *pgquery.Node) {
	if n == nil || n.Node == nil {
		w.opaque("an empty statement")
		return
	}
	switch v := n.Node.(type) {
	case *pgquery.Node_SelectStmt:
		w.st.Verb = "SELECT"
		if v.SelectStmt.IntoClause != nil {
			w.st.Verb = "SELECT INTO"
		}
		w.node(n)
	case *pgquery.Node_InsertStmt:
		w.st.Verb = "INSERT"
		w.node(n)
	case *pgquery.Node_UpdateStmt:
		w.st.Verb = "UPDATE"
		w.node(n)
	case *pgquery.Node_DeleteStmt:
		w.st.Verb = "DELETE"
		w.node(n)
	case *pgquery.Node_MergeStmt:
		w.st.Verb = "MERGE"
		w.node(n)
	case *pgquery.Node_TruncateStmt:
		w.st.Verb = "TRUNCATE TABLE"
		w.relations(v.TruncateStmt.Relations, access.EffectWrite)
		w.changed(nil, nil)
	case *pgquery.Node_CopyStmt:
		w.copyStmt(v.CopyStmt)
	case *pgquery.Node_ExplainStmt:
		w.explain(v.ExplainStmt)
	default:
		if !w.sessionStatement(n) && !w.codeStatement(n) && !w.definition(n) {
			w.st.Verb = ""
			w.opaque("the gateway does not know what this statement does")
			w.plain(n)
		}
	}
}

func (w *walk) relations(list []*pgquery.Node, e access.Effects) {
	for _, n := range list {
		if r := n.GetRangeVar(); r != nil {
			w.object("relation", rangeName(r), e)
		} else {
			w.opaque("a relation of an unknown kind")
		}
	}
}

// inner walks a statement within another one, which keeps its own verb.
func (w *walk) inner(n *pgquery.Node) {
	verb := w.st.Verb
	w.statement(n)
	inner := w.st.Verb
	w.st.Verb = verb
	switch inner {
	case "INSERT", "UPDATE", "DELETE", "MERGE":
		w.within(inner)
	}
}

func (w *walk) copyStmt(c *pgquery.CopyStmt) {
	w.st.Verb = "COPY"
	switch {
	case c.Query != nil:
		w.inner(c.Query)
	case c.IsFrom:
		w.inserts = true
		w.write(rangeName(c.Relation))
	default:
		w.read(rangeName(c.Relation))
		for _, name := range texts(c.Attlist) {
			w.addColumn(Column{Relation: rangeName(c.Relation), Name: name})
		}
		if len(c.Attlist) == 0 {
			w.addColumn(Column{Relation: rangeName(c.Relation), Name: "*"})
		}
		w.bareRead = true
	}
	switch {
	case c.IsProgram:
		w.object("program", Name{Name: c.Filename}, access.EffectExecute)
		w.effect(access.EffectFile | access.EffectAdmin)
		w.opaque("a program runs on the target's host")
	case c.Filename != "":
		w.object("file", Name{Name: c.Filename}, access.EffectFile)
	}
	if c.WhereClause != nil {
		w.push()
		w.bring(c.Relation.Relname, rangeName(c.Relation))
		w.node(c.WhereClause)
		w.pop()
	}
	w.list(c.Options)
}

// explain walks EXPLAIN. Without ANALYZE nothing of the statement runs but what
// planning runs: functions that are declared IMMUTABLE or STABLE.
func (w *walk) explain(e *pgquery.ExplainStmt) {
	runs := false
	for _, o := range e.Options {
		d := o.GetDefElem()
		if d == nil {
			runs = true
			continue
		}
		if strings.EqualFold(d.Defname, "analyze") && !off(d.Arg) {
			runs = true
		}
	}
	before, inner := w.st.Own, w.st.Inner
	w.inner(e.Query)
	w.st.Verb = "EXPLAIN"
	w.effect(access.EffectRead)
	if runs {
		return
	}
	w.st.Own &^= (access.EffectWrite | access.EffectLock | access.EffectSchema | access.EffectSession) &^ before
	for i, o := range w.st.Objects {
		switch {
		case o.Kind == "relation":
			w.st.Objects[i].Effect = access.EffectRead
		case o.Kind == "function" && !o.Effect.Has(access.EffectExecute|access.EffectFile|access.EffectAdmin):
			w.st.Objects[i].Effect = 0
		}
	}
	w.changes, w.bare, w.st.Inner = 0, false, inner
}

// off reports whether the value of an option is one of those that switch it off.
func off(n *pgquery.Node) bool {
	switch v := n.GetNode().(type) {
	case *pgquery.Node_String_:
		s := strings.ToLower(v.String_.Sval)
		return s == "false" || s == "off"
	case *pgquery.Node_Integer:
		return v.Integer.Ival == 0
	case *pgquery.Node_Boolean:
		return !v.Boolean.Boolval
	}
	return false
}

// accessSettings change as whom the session acts.
var accessSettings = set("role", "session_authorization")

// adminSettings decide which code the server loads, or what it does beside the statement.
var adminSettings = set(
	"session_replication_role", "session_preload_libraries", "local_preload_libraries", "dynamic_library_path", "extension_control_path",
	"lo_compat_privileges", "allow_system_table_mods", "zero_damaged_pages", "ignore_checksum_failure", "log_statement", "log_min_messages",
	"log_min_error_statement", "log_min_duration_statement", "log_duration", "log_error_verbosity", "log_statement_stats", "track_activities",
	"jit_provider", "wal_consistency_checking", "debug_discard_caches", "ignore_system_indexes", "ignore_invalid_pages",
	"restrict_nonsystem_relation_kind", "createrole_self_grant", "event_triggers", "in_hot_standby_replication",
)

// adminModules are extensions whose settings decide what the target's own records show.
var adminModules = set("pgaudit", "auto_explain", "pg_stat_statements", "set_user")

// setSetting notes a change of a setting.
func (w *walk) setSetting(name string) {
	name = strings.ToLower(name)
	module, _, _ := strings.Cut(name, ".")
	e := access.EffectSession
	switch {
	case accessSettings[name]:
		e = access.EffectAccess
	case adminSettings[name] || adminModules[module]:
		e = access.EffectAdmin
	}
	w.object("setting", Name{Name: name}, e)
	w.effect(access.EffectSession)
}

// UnnamedSetting is why a statement is opaque in which nothing but the name of a setting is not known.
const UnnamedSetting = "set_config sets what the text does not name"

// setting notes what set_config sets.
func (w *walk) setting(f *pgquery.FuncCall) {
	parts := texts(f.Funcname)
	if len(parts) == 0 || parts[len(parts)-1] != "set_config" {
		return
	}
	if len(f.Args) > 0 {
		if name, ok := literal(f.Args[0]); ok {
			w.setSetting(name)
			return
		}
	}
	w.effect(access.EffectAccess | access.EffectAdmin | access.EffectSession)
	w.opaque(UnnamedSetting)
}

// sessionStatement walks statements about the session itself and its transactions.
func (w *walk) sessionStatement(n *pgquery.Node) bool {
	switch v := n.Node.(type) {
	case *pgquery.Node_TransactionStmt:
		w.transaction(v.TransactionStmt)
	case *pgquery.Node_ConstraintsSetStmt:
		w.st.Verb = "SET CONSTRAINTS"
		w.effect(access.EffectTransaction)
	case *pgquery.Node_VariableSetStmt:
		w.variable(v.VariableSetStmt)
	case *pgquery.Node_VariableShowStmt:
		w.st.Verb = "SHOW"
		w.object("setting", Name{Name: strings.ToLower(v.VariableShowStmt.Name)}, access.EffectRead)
	case *pgquery.Node_PrepareStmt:
		w.inner(v.PrepareStmt.Query)
		w.st.Verb = "PREPARE"
		w.st.Prepares = v.PrepareStmt.Name
		w.list(v.PrepareStmt.Argtypes)
		w.object("statement", Name{Name: v.PrepareStmt.Name}, access.EffectSession)
	case *pgquery.Node_ExecuteStmt:
		w.st.Verb = "EXECUTE"
		w.st.Runs = v.ExecuteStmt.Name
		w.list(v.ExecuteStmt.Params)
		w.object("statement", Name{Name: v.ExecuteStmt.Name}, access.EffectExecute)
		w.opaque("it runs a prepared statement")
	case *pgquery.Node_DeallocateStmt:
		w.st.Verb = "DEALLOCATE"
		w.object("statement", Name{Name: v.DeallocateStmt.Name}, access.EffectSession)
	case *pgquery.Node_DeclareCursorStmt:
		w.inner(v.DeclareCursorStmt.Query)
		w.st.Verb = "DECLARE CURSOR"
		w.object("cursor", Name{Name: v.DeclareCursorStmt.Portalname}, access.EffectSession)
	case *pgquery.Node_FetchStmt:
		w.st.Verb = "FETCH"
		if v.FetchStmt.Ismove {
			w.st.Verb = "MOVE"
		}
		w.object("cursor", Name{Name: v.FetchStmt.Portalname}, access.EffectRead)
	case *pgquery.Node_ClosePortalStmt:
		w.st.Verb = "CLOSE CURSOR"
		w.object("cursor", Name{Name: v.ClosePortalStmt.Portalname}, access.EffectSession)
	case *pgquery.Node_DiscardStmt:
		w.st.Verb = "DISCARD"
		w.effect(access.EffectSession)
		if v.DiscardStmt.Target == pgquery.DiscardMode_DISCARD_ALL {
			w.st.Verb = "DISCARD ALL" // a role too becomes that of the log-in again, as in a new session
		}
	case *pgquery.Node_ListenStmt:
		w.st.Verb = "LISTEN"
		w.object("channel", Name{Name: v.ListenStmt.Conditionname}, access.EffectNotify)
	case *pgquery.Node_UnlistenStmt:
		w.st.Verb = "UNLISTEN"
		w.object("channel", Name{Name: v.UnlistenStmt.Conditionname}, access.EffectSession)
	case *pgquery.Node_NotifyStmt:
		w.st.Verb = "NOTIFY"
		w.object("channel", Name{Name: v.NotifyStmt.Conditionname}, access.EffectNotify)
	case *pgquery.Node_LockStmt:
		w.st.Verb = "LOCK TABLE"
		w.relations(v.LockStmt.Relations, access.EffectLock)
	default:
		return false
	}
	return true
}

func (w *walk) transaction(t *pgquery.TransactionStmt) {
	w.effect(access.EffectTransaction)
	switch t.Kind {
	case pgquery.TransactionStmtKind_TRANS_STMT_BEGIN, pgquery.TransactionStmtKind_TRANS_STMT_START:
		w.st.Verb = "BEGIN"
	case pgquery.TransactionStmtKind_TRANS_STMT_COMMIT:
		w.st.Verb = "COMMIT"
	case pgquery.TransactionStmtKind_TRANS_STMT_ROLLBACK, pgquery.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:
		w.st.Verb = "ROLLBACK"
	case pgquery.TransactionStmtKind_TRANS_STMT_SAVEPOINT:
		w.st.Verb = "SAVEPOINT"
	case pgquery.TransactionStmtKind_TRANS_STMT_RELEASE:
		w.st.Verb = "RELEASE"
	case pgquery.TransactionStmtKind_TRANS_STMT_PREPARE:
		w.st.Verb = "PREPARE TRANSACTION" // its locks outlive the session
		w.object("transaction", Name{Name: t.Gid}, access.EffectLock)
	case pgquery.TransactionStmtKind_TRANS_STMT_COMMIT_PREPARED:
		w.st.Verb = "COMMIT PREPARED" // what another session has done
		w.object("transaction", Name{Name: t.Gid}, access.EffectAdmin)
	case pgquery.TransactionStmtKind_TRANS_STMT_ROLLBACK_PREPARED:
		w.st.Verb = "ROLLBACK PREPARED"
		w.object("transaction", Name{Name: t.Gid}, access.EffectAdmin)
	default:
		w.opaque("a transaction statement of an unknown kind")
	}
}

func (w *walk) variable(v *pgquery.VariableSetStmt) {
	w.st.Verb = "SET"
	switch v.Kind {
	case pgquery.VariableSetKind_VAR_RESET:
		w.st.Verb = "RESET"
		w.setSetting(v.Name)
	case pgquery.VariableSetKind_VAR_RESET_ALL:
		w.st.Verb = "RESET"
		w.effect(access.EffectSession)
	case pgquery.VariableSetKind_VAR_SET_MULTI:
		if strings.HasPrefix(v.Name, "TRANSACTION") {
			w.effect(access.EffectTransaction)
			return
		}
		w.effect(access.EffectSession) // SET SESSION CHARACTERISTICS
	default:
		w.setSetting(v.Name)
	}
	w.list(v.Args)
}

// codeStatement walks statements that run code.
func (w *walk) codeStatement(n *pgquery.Node) bool {
	switch v := n.Node.(type) {
	case *pgquery.Node_DoStmt:
		w.st.Verb = "DO"
		w.opaque("a DO block runs code")
	case *pgquery.Node_CallStmt:
		w.st.Verb = "CALL"
		w.effect(access.EffectExecute)
		w.object("function", nameOf(texts(v.CallStmt.Funccall.Funcname)), access.EffectExecute)
		w.children(v.CallStmt.Funccall)
		w.opaque("a procedure runs code")
	case *pgquery.Node_LoadStmt:
		w.st.Verb = "LOAD"
		w.object("file", Name{Name: v.LoadStmt.Filename}, access.EffectFile)
		w.effect(access.EffectAdmin)
		w.opaque("a library is loaded")
	case *pgquery.Node_CheckPointStmt:
		w.st.Verb = "CHECKPOINT"
		w.effect(access.EffectAdmin)
	case *pgquery.Node_AlterSystemStmt:
		w.st.Verb = "ALTER SYSTEM"
		w.object("setting", Name{Name: strings.ToLower(v.AlterSystemStmt.Setstmt.GetName())}, access.EffectAdmin)
	case *pgquery.Node_VacuumStmt:
		w.st.Verb = "VACUUM"
		if !v.VacuumStmt.IsVacuumcmd {
			w.st.Verb = "ANALYZE"
		}
		w.effect(access.EffectAdmin)
		for _, r := range v.VacuumStmt.Rels {
			if rel := r.GetVacuumRelation().GetRelation(); rel != nil {
				w.object("relation", rangeName(rel), access.EffectAdmin)
			}
		}
	case *pgquery.Node_ClusterStmt:
		w.st.Verb = "CLUSTER"
		w.effect(access.EffectAdmin)
		w.maintained(v.ClusterStmt.Relation)
	case *pgquery.Node_ReindexStmt:
		w.st.Verb = "REINDEX"
		w.effect(access.EffectAdmin)
		w.maintained(v.ReindexStmt.Relation)
	case *pgquery.Node_RefreshMatViewStmt:
		w.st.Verb = "REFRESH MATERIALIZED VIEW"
		w.object("relation", rangeName(v.RefreshMatViewStmt.Relation), access.EffectWrite)
		w.opaque("the view's query runs")
	default:
		return false
	}
	return true
}

func (w *walk) maintained(r *pgquery.RangeVar) {
	if r != nil {
		w.object("relation", rangeName(r), access.EffectAdmin)
	}
}
