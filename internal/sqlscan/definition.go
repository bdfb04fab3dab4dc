package sqlscan

import (
	"strings"

	pgquery "github.com/sqlc-dev/oliphant"

	"github.com/gatebook/gatebook/internal/access"
)

const (
	schema  = access.EffectSchema
	rights  = access.EffectAccess
	admin   = access.EffectAdmin
	network = access.EffectNetwork
	code    = access.EffectExecute
	files   = access.EffectFile
	data    = access.EffectWrite
)

// definitions are the statements that define things, by the name of their
// node. What they hold is walked for what it names.
var definitions = map[string]struct {
	verb    string
	effects access.Effects
}{
	"CreateStmt":             {"CREATE TABLE", schema},
	"ViewStmt":               {"CREATE VIEW", schema},
	"IndexStmt":              {"CREATE INDEX", schema},
	"CreateSchemaStmt":       {"CREATE SCHEMA", schema},
	"CreateSeqStmt":          {"CREATE SEQUENCE", schema},
	"AlterSeqStmt":           {"ALTER SEQUENCE", schema},
	"CreateTrigStmt":         {"CREATE TRIGGER", schema},
	"RuleStmt":               {"CREATE RULE", schema},
	"CreateFunctionStmt":     {"CREATE FUNCTION", schema},
	"AlterFunctionStmt":      {"ALTER FUNCTION", schema},
	"CreateDomainStmt":       {"CREATE DOMAIN", schema},
	"AlterDomainStmt":        {"ALTER DOMAIN", schema},
	"CompositeTypeStmt":      {"CREATE TYPE", schema},
	"CreateEnumStmt":         {"CREATE TYPE", schema},
	"AlterEnumStmt":          {"ALTER TYPE", schema},
	"CreateRangeStmt":        {"CREATE TYPE", schema},
	"AlterTypeStmt":          {"ALTER TYPE", schema},
	"DefineStmt":             {"CREATE", schema},
	"AlterOperatorStmt":      {"ALTER OPERATOR", schema},
	"AlterCollationStmt":     {"ALTER COLLATION", schema},
	"CreateStatsStmt":        {"CREATE STATISTICS", schema},
	"AlterStatsStmt":         {"ALTER STATISTICS", schema},
	"AlterObjectDependsStmt": {"ALTER", schema},
	"AlterTSDictionaryStmt":  {"ALTER TEXT SEARCH DICTIONARY", schema},
	"AlterTSConfigurationStmt": {
		"ALTER TEXT SEARCH CONFIGURATION", schema,
	},
	"CreateConversionStmt": {"CREATE CONVERSION", schema | admin},
	"CreateCastStmt":       {"CREATE CAST", schema},
	"CreateTransformStmt":  {"CREATE TRANSFORM", schema | admin},
	"CreateOpClassStmt":    {"CREATE OPERATOR CLASS", schema | admin},
	"CreateOpFamilyStmt":   {"CREATE OPERATOR FAMILY", schema | admin},
	"AlterOpFamilyStmt":    {"ALTER OPERATOR FAMILY", schema | admin},
	"CreateAmStmt":         {"CREATE ACCESS METHOD", schema | admin},
	"CreatePLangStmt":      {"CREATE LANGUAGE", schema | admin | code},
	"CreateEventTrigStmt":  {"CREATE EVENT TRIGGER", schema | admin},
	"AlterEventTrigStmt":   {"ALTER EVENT TRIGGER", schema | admin},

	"CreateRoleStmt":             {"CREATE ROLE", rights},
	"AlterRoleStmt":              {"ALTER ROLE", rights},
	"AlterRoleSetStmt":           {"ALTER ROLE", rights},
	"DropRoleStmt":               {"DROP ROLE", rights},
	"GrantRoleStmt":              {"GRANT ROLE", rights},
	"AlterDefaultPrivilegesStmt": {"ALTER DEFAULT PRIVILEGES", rights},
	"ReassignOwnedStmt":          {"REASSIGN OWNED", rights},
	"DropOwnedStmt":              {"DROP OWNED", rights | schema},
	"CreatePolicyStmt":           {"CREATE POLICY", rights | schema},
	"AlterPolicyStmt":            {"ALTER POLICY", rights | schema},

	"CreateExtensionStmt":          {"CREATE EXTENSION", schema | admin | code},
	"AlterExtensionStmt":           {"ALTER EXTENSION", schema | admin | code},
	"AlterExtensionContentsStmt":   {"ALTER EXTENSION", schema | admin},
	"CreateFdwStmt":                {"CREATE FOREIGN DATA WRAPPER", schema | network | admin},
	"AlterFdwStmt":                 {"ALTER FOREIGN DATA WRAPPER", schema | network | admin},
	"CreateForeignServerStmt":      {"CREATE SERVER", schema | network},
	"AlterForeignServerStmt":       {"ALTER SERVER", schema | network},
	"CreateForeignTableStmt":       {"CREATE FOREIGN TABLE", schema | network},
	"CreateUserMappingStmt":        {"CREATE USER MAPPING", rights | network},
	"AlterUserMappingStmt":         {"ALTER USER MAPPING", rights | network},
	"DropUserMappingStmt":          {"DROP USER MAPPING", rights | network},
	"ImportForeignSchemaStmt":      {"IMPORT FOREIGN SCHEMA", schema | network},
	"CreatePublicationStmt":        {"CREATE PUBLICATION", schema | network},
	"AlterPublicationStmt":         {"ALTER PUBLICATION", schema | network},
	"CreateSubscriptionStmt":       {"CREATE SUBSCRIPTION", schema | network | admin},
	"AlterSubscriptionStmt":        {"ALTER SUBSCRIPTION", schema | network | admin},
	"DropSubscriptionStmt":         {"DROP SUBSCRIPTION", schema | network | admin},
	"CreatedbStmt":                 {"CREATE DATABASE", schema | admin},
	"AlterDatabaseStmt":            {"ALTER DATABASE", schema | admin},
	"AlterDatabaseSetStmt":         {"ALTER DATABASE", schema | admin},
	"AlterDatabaseRefreshCollStmt": {"ALTER DATABASE", schema | admin},
	"DropdbStmt":                   {"DROP DATABASE", schema | admin},
	"CreateTableSpaceStmt":         {"CREATE TABLESPACE", schema | admin | files},
	"DropTableSpaceStmt":           {"DROP TABLESPACE", schema | admin | files},
	"AlterTableSpaceOptionsStmt":   {"ALTER TABLESPACE", schema | admin},
	"AlterTableMoveAllStmt":        {"ALTER TABLE", schema | admin},
}

// definition walks a statement that defines, changes or drops things.
func (w *walk) definition(n *pgquery.Node) bool {
	switch v := n.Node.(type) {
	case *pgquery.Node_DropStmt:
		w.drop(v.DropStmt)
		return true
	case *pgquery.Node_AlterTableStmt:
		w.alterTable(v.AlterTableStmt)
		return true
	case *pgquery.Node_GrantStmt:
		w.grant(v.GrantStmt)
		return true
	case *pgquery.Node_CreateTableAsStmt:
		w.createAs(v.CreateTableAsStmt)
		return true
	case *pgquery.Node_RenameStmt:
		w.st.Verb = "ALTER " + words(v.RenameStmt.RenameType)
		w.one(v.RenameStmt.RenameType, v.RenameStmt.Relation, v.RenameStmt.Object, schema)
		return true
	case *pgquery.Node_AlterObjectSchemaStmt:
		w.st.Verb = "ALTER " + words(v.AlterObjectSchemaStmt.ObjectType)
		w.one(v.AlterObjectSchemaStmt.ObjectType, v.AlterObjectSchemaStmt.Relation, v.AlterObjectSchemaStmt.Object, schema)
		return true
	case *pgquery.Node_AlterOwnerStmt:
		w.st.Verb = "ALTER " + words(v.AlterOwnerStmt.ObjectType)
		w.one(v.AlterOwnerStmt.ObjectType, v.AlterOwnerStmt.Relation, v.AlterOwnerStmt.Object, rights)
		w.effect(schema)
		return true
	case *pgquery.Node_CommentStmt:
		w.st.Verb = "COMMENT"
		w.one(v.CommentStmt.Objtype, nil, v.CommentStmt.Object, schema)
		return true
	case *pgquery.Node_SecLabelStmt:
		w.st.Verb = "SECURITY LABEL"
		w.one(v.SecLabelStmt.Objtype, nil, v.SecLabelStmt.Object, rights)
		return true
	}
	m := n.ProtoReflect()
	inner := m.Get(m.WhichOneof(m.Descriptor().Oneofs().Get(0))).Message()
	d, ok := definitions[string(inner.Descriptor().Name())]
	if !ok {
		return false
	}
	w.st.Verb = d.verb
	w.effect(d.effects)
	w.named(n)
	w.defining = true
	w.nested(n)
	w.defining = false
	w.bareRead = false // a query that is stored reads nothing
	return true
}

// nested walks what a definition holds: other statements, queries, expressions, relations.
func (w *walk) nested(n *pgquery.Node) {
	switch v := n.Node.(type) {
	case *pgquery.Node_CreateSchemaStmt:
		for _, e := range v.CreateSchemaStmt.SchemaElts {
			w.defining = false
			w.inner(e)
		}
	case *pgquery.Node_RuleStmt: // its actions run later, but are judged as if they ran now
		w.object("relation", rangeName(v.RuleStmt.Relation), schema)
		w.rule(v.RuleStmt)
	case *pgquery.Node_ViewStmt:
		w.object("relation", rangeName(v.ViewStmt.View), schema)
		w.node(v.ViewStmt.Query)
		w.list(v.ViewStmt.Options)
	case *pgquery.Node_CreateFunctionStmt:
		w.list(v.CreateFunctionStmt.Parameters)
		if v.CreateFunctionStmt.SqlBody != nil {
			w.body(v.CreateFunctionStmt.SqlBody)
		}
	case *pgquery.Node_AlterDefaultPrivilegesStmt:
	default:
		m := n.ProtoReflect()
		w.children(m.Get(m.WhichOneof(m.Descriptor().Oneofs().Get(0))).Message().Interface())
	}
}

func (w *walk) rule(r *pgquery.RuleStmt) {
	w.push()
	defer w.pop()
	w.bring("old", Name{})
	w.bring("new", Name{})
	w.defining = false
	for _, a := range r.Actions {
		w.inner(a)
	}
	w.node(r.WhereClause)
}

// body walks the statements of a function that is written as BEGIN ATOMIC or RETURN.
func (w *walk) body(n *pgquery.Node) {
	w.defining = false
	switch v := n.Node.(type) {
	case *pgquery.Node_List:
		for _, e := range v.List.Items {
			w.body(e)
		}
	case *pgquery.Node_ReturnStmt:
		w.push()
		w.node(v.ReturnStmt.Returnval)
		w.pop()
	default:
		w.inner(n)
	}
}

// named notes the thing that a definition is about, where the node says so in a field of its own.
func (w *walk) named(n *pgquery.Node) {
	note := func(kind string, name Name) {
		if name.Name != "" {
			w.object(kind, name, w.main())
		}
	}
	list := func(kind string, parts []*pgquery.Node) { note(kind, nameOf(texts(parts))) }
	switch v := n.Node.(type) {
	case *pgquery.Node_CreateSchemaStmt:
		note("schema", Name{Name: v.CreateSchemaStmt.Schemaname})
	case *pgquery.Node_CreateFunctionStmt:
		list("function", v.CreateFunctionStmt.Funcname)
	case *pgquery.Node_AlterFunctionStmt:
		list("function", v.AlterFunctionStmt.Func.GetObjname())
	case *pgquery.Node_CreateDomainStmt:
		list("type", v.CreateDomainStmt.Domainname)
	case *pgquery.Node_AlterDomainStmt:
		list("type", v.AlterDomainStmt.TypeName)
	case *pgquery.Node_CompositeTypeStmt:
		note("type", rangeName(v.CompositeTypeStmt.Typevar))
	case *pgquery.Node_CreateEnumStmt:
		list("type", v.CreateEnumStmt.TypeName)
	case *pgquery.Node_AlterEnumStmt:
		list("type", v.AlterEnumStmt.TypeName)
	case *pgquery.Node_CreateRangeStmt:
		list("type", v.CreateRangeStmt.TypeName)
	case *pgquery.Node_DefineStmt:
		w.st.Verb = "CREATE " + words(v.DefineStmt.Kind)
		list(kindOf(v.DefineStmt.Kind), v.DefineStmt.Defnames)
	case *pgquery.Node_CreateRoleStmt:
		note("role", Name{Name: v.CreateRoleStmt.Role})
	case *pgquery.Node_AlterRoleStmt:
		note("role", Name{Name: v.AlterRoleStmt.Role.GetRolename()})
	case *pgquery.Node_AlterRoleSetStmt:
		note("role", Name{Name: v.AlterRoleSetStmt.Role.GetRolename()})
	case *pgquery.Node_DropRoleStmt:
		for _, r := range v.DropRoleStmt.Roles {
			note("role", Name{Name: r.GetRoleSpec().GetRolename()})
		}
	case *pgquery.Node_GrantRoleStmt:
		for _, r := range v.GrantRoleStmt.GranteeRoles {
			note("role", Name{Name: r.GetRoleSpec().GetRolename()})
		}
		for _, r := range v.GrantRoleStmt.GrantedRoles {
			note("role", Name{Name: r.GetAccessPriv().GetPrivName()})
		}
	case *pgquery.Node_CreateExtensionStmt:
		note("extension", Name{Name: v.CreateExtensionStmt.Extname})
	case *pgquery.Node_AlterExtensionStmt:
		note("extension", Name{Name: v.AlterExtensionStmt.Extname})
	case *pgquery.Node_AlterExtensionContentsStmt:
		note("extension", Name{Name: v.AlterExtensionContentsStmt.Extname})
	case *pgquery.Node_CreatePlangStmt:
		note("language", Name{Name: v.CreatePlangStmt.Plname})
	case *pgquery.Node_CreateFdwStmt:
		note("foreign data wrapper", Name{Name: v.CreateFdwStmt.Fdwname})
	case *pgquery.Node_AlterFdwStmt:
		note("foreign data wrapper", Name{Name: v.AlterFdwStmt.Fdwname})
	case *pgquery.Node_CreateForeignServerStmt:
		note("foreign server", Name{Name: v.CreateForeignServerStmt.Servername})
	case *pgquery.Node_AlterForeignServerStmt:
		note("foreign server", Name{Name: v.AlterForeignServerStmt.Servername})
	case *pgquery.Node_CreateUserMappingStmt:
		note("foreign server", Name{Name: v.CreateUserMappingStmt.Servername})
	case *pgquery.Node_AlterUserMappingStmt:
		note("foreign server", Name{Name: v.AlterUserMappingStmt.Servername})
	case *pgquery.Node_DropUserMappingStmt:
		note("foreign server", Name{Name: v.DropUserMappingStmt.Servername})
	case *pgquery.Node_ImportForeignSchemaStmt:
		note("foreign server", Name{Name: v.ImportForeignSchemaStmt.ServerName})
	case *pgquery.Node_CreatePublicationStmt:
		note("publication", Name{Name: v.CreatePublicationStmt.Pubname})
	case *pgquery.Node_AlterPublicationStmt:
		note("publication", Name{Name: v.AlterPublicationStmt.Pubname})
	case *pgquery.Node_CreateSubscriptionStmt:
		note("subscription", Name{Name: v.CreateSubscriptionStmt.Subname})
	case *pgquery.Node_AlterSubscriptionStmt:
		note("subscription", Name{Name: v.AlterSubscriptionStmt.Subname})
	case *pgquery.Node_DropSubscriptionStmt:
		note("subscription", Name{Name: v.DropSubscriptionStmt.Subname})
	case *pgquery.Node_CreatedbStmt:
		note("database", Name{Name: v.CreatedbStmt.Dbname})
	case *pgquery.Node_AlterDatabaseStmt:
		note("database", Name{Name: v.AlterDatabaseStmt.Dbname})
	case *pgquery.Node_AlterDatabaseSetStmt:
		note("database", Name{Name: v.AlterDatabaseSetStmt.Dbname})
	case *pgquery.Node_AlterDatabaseRefreshCollStmt:
		note("database", Name{Name: v.AlterDatabaseRefreshCollStmt.Dbname})
	case *pgquery.Node_DropdbStmt:
		note("database", Name{Name: v.DropdbStmt.Dbname})
	case *pgquery.Node_CreateTableSpaceStmt:
		note("tablespace", Name{Name: v.CreateTableSpaceStmt.Tablespacename})
		note("file", Name{Name: v.CreateTableSpaceStmt.Location})
	case *pgquery.Node_DropTableSpaceStmt:
		note("tablespace", Name{Name: v.DropTableSpaceStmt.Tablespacename})
	case *pgquery.Node_CreateEventTrigStmt:
		list("function", v.CreateEventTrigStmt.Funcname)
	case *pgquery.Node_CreateTrigStmt:
		list("function", v.CreateTrigStmt.Funcname)
	}
}

// main returns the effect that a definition has on what it is about.
func (w *walk) main() access.Effects {
	if w.st.Own.Has(schema) {
		return schema
	}
	return rights
}

// words returns PostgreSQL's words for a kind of object.
func words(t pgquery.ObjectType) string {
	s := strings.TrimPrefix(t.String(), "OBJECT_")
	switch s {
	case "MATVIEW":
		return "MATERIALIZED VIEW"
	case "FDW":
		return "FOREIGN DATA WRAPPER"
	case "TABCONSTRAINT", "COLUMN":
		return "TABLE"
	case "TSCONFIGURATION":
		return "TEXT SEARCH CONFIGURATION"
	case "TSDICTIONARY":
		return "TEXT SEARCH DICTIONARY"
	case "TSPARSER":
		return "TEXT SEARCH PARSER"
	case "TSTEMPLATE":
		return "TEXT SEARCH TEMPLATE"
	case "OPCLASS":
		return "OPERATOR CLASS"
	case "OPFAMILY":
		return "OPERATOR FAMILY"
	case "ATTRIBUTE":
		return "TYPE"
	case "DOMCONSTRAINT":
		return "DOMAIN"
	case "STATISTIC_EXT":
		return "STATISTICS"
	}
	return strings.ReplaceAll(s, "_", " ")
}

// kindOf returns the word for a kind of object in Object.Kind.
func kindOf(t pgquery.ObjectType) string {
	switch t {
	case pgquery.ObjectType_OBJECT_TABLE, pgquery.ObjectType_OBJECT_VIEW, pgquery.ObjectType_OBJECT_MATVIEW, pgquery.ObjectType_OBJECT_SEQUENCE,
		pgquery.ObjectType_OBJECT_INDEX, pgquery.ObjectType_OBJECT_FOREIGN_TABLE:
		return "relation"
	case pgquery.ObjectType_OBJECT_FUNCTION, pgquery.ObjectType_OBJECT_PROCEDURE, pgquery.ObjectType_OBJECT_ROUTINE, pgquery.ObjectType_OBJECT_AGGREGATE:
		return "function"
	case pgquery.ObjectType_OBJECT_TYPE, pgquery.ObjectType_OBJECT_DOMAIN:
		return "type"
	}
	return strings.ToLower(words(t))
}

// ofRelation are kinds of objects that belong to a relation, whose name comes before their own.
func ofRelation(t pgquery.ObjectType) bool {
	switch t {
	case pgquery.ObjectType_OBJECT_COLUMN, pgquery.ObjectType_OBJECT_TABCONSTRAINT, pgquery.ObjectType_OBJECT_TRIGGER,
		pgquery.ObjectType_OBJECT_RULE, pgquery.ObjectType_OBJECT_POLICY:
		return true
	}
	return false
}

// one notes the object of a statement, given as a relation or a node.
func (w *walk) one(t pgquery.ObjectType, r *pgquery.RangeVar, n *pgquery.Node, e access.Effects) {
	w.effect(e)
	kind := kindOf(t)
	if ofRelation(t) {
		kind = "relation"
	}
	switch v := n.GetNode().(type) {
	case nil:
	case *pgquery.Node_List:
		parts := texts(v.List.Items)
		if ofRelation(t) && len(parts) > 1 {
			parts = parts[:len(parts)-1]
		}
		if name := nameOf(parts); name.Name != "" {
			w.object(kind, name, e)
		} else {
			w.object(kind, Name{Name: "?"}, e)
		}
	case *pgquery.Node_String_:
		w.object(kind, Name{Name: v.String_.Sval}, e)
	case *pgquery.Node_ObjectWithArgs:
		w.object(kind, nameOf(texts(v.ObjectWithArgs.Objname)), e)
	case *pgquery.Node_TypeName:
		w.object(kind, nameOf(texts(v.TypeName.Names)), e)
	case *pgquery.Node_RangeVar:
		w.object(kind, rangeName(v.RangeVar), e)
	default:
		w.object(kind, Name{Name: "?"}, e)
	}
	if r != nil {
		w.object("relation", rangeName(r), e)
	}
}

func (w *walk) drop(d *pgquery.DropStmt) {
	w.st.Verb = "DROP " + words(d.RemoveType)
	w.effect(schema)
	switch d.RemoveType {
	case pgquery.ObjectType_OBJECT_POLICY:
		w.effect(rights)
	case pgquery.ObjectType_OBJECT_FOREIGN_SERVER, pgquery.ObjectType_OBJECT_FDW, pgquery.ObjectType_OBJECT_PUBLICATION:
		w.effect(network)
	case pgquery.ObjectType_OBJECT_EXTENSION, pgquery.ObjectType_OBJECT_EVENT_TRIGGER, pgquery.ObjectType_OBJECT_LANGUAGE,
		pgquery.ObjectType_OBJECT_ACCESS_METHOD:
		w.effect(admin)
	}
	for _, o := range d.Objects {
		w.one(d.RemoveType, nil, o, schema)
	}
}

func (w *walk) alterTable(a *pgquery.AlterTableStmt) {
	w.st.Verb = "ALTER " + words(a.Objtype)
	w.object("relation", rangeName(a.Relation), schema)
	w.defining = true
	defer func() { w.defining = false }()
	for _, n := range a.Cmds {
		c := n.GetAlterTableCmd()
		if c == nil {
			w.opaque("a change of a table of an unknown kind")
			continue
		}
		switch c.Subtype {
		case pgquery.AlterTableType_AT_ChangeOwner, pgquery.AlterTableType_AT_EnableRowSecurity, pgquery.AlterTableType_AT_DisableRowSecurity,
			pgquery.AlterTableType_AT_ForceRowSecurity, pgquery.AlterTableType_AT_NoForceRowSecurity,
			pgquery.AlterTableType_AT_EnableTrig, pgquery.AlterTableType_AT_EnableAlwaysTrig, pgquery.AlterTableType_AT_EnableReplicaTrig,
			pgquery.AlterTableType_AT_DisableTrig, pgquery.AlterTableType_AT_EnableTrigAll, pgquery.AlterTableType_AT_DisableTrigAll,
			pgquery.AlterTableType_AT_EnableTrigUser, pgquery.AlterTableType_AT_DisableTrigUser, pgquery.AlterTableType_AT_EnableRule,
			pgquery.AlterTableType_AT_EnableAlwaysRule, pgquery.AlterTableType_AT_EnableReplicaRule, pgquery.AlterTableType_AT_DisableRule:
			w.effect(rights)
		case pgquery.AlterTableType_AT_GenericOptions, pgquery.AlterTableType_AT_AlterColumnGenericOptions:
			w.effect(network)
		}
		w.node(n)
	}
}

func (w *walk) grant(g *pgquery.GrantStmt) {
	w.st.Verb = "GRANT"
	if !g.IsGrant {
		w.st.Verb = "REVOKE"
	}
	w.effect(rights)
	for _, o := range g.Objects {
		w.one(g.Objtype, nil, o, rights)
	}
	for _, r := range g.Grantees {
		if name := r.GetRoleSpec().GetRolename(); name != "" {
			w.object("role", Name{Name: name}, rights)
		}
	}
}

func (w *walk) createAs(c *pgquery.CreateTableAsStmt) {
	w.inner(c.Query)
	w.st.Verb = "CREATE TABLE AS"
	if c.Objtype == pgquery.ObjectType_OBJECT_MATVIEW {
		w.st.Verb = "CREATE MATERIALIZED VIEW"
	}
	w.into(c.Into)
}
