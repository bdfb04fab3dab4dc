package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/expr"
)

// A variable is one that rules may read. "action.op" is a name of CEL with a
// dot in it, not a field of a value: so each is checked at load, resolved only
// when it is read, and a policy's dependence on it can be told from its text.
type variable struct {
	name  string
	typ   *cel.Type
	doc   string
	value func(v *view) ref.Val
}

var (
	stringsType = cel.ListType(cel.StringType)
	adapter     = types.DefaultTypeAdapter
)

// variables are all of them. The reference in docs/policy.md is made from this table.
var variables = []variable{
	{"principal.name", cel.StringType, "the principal's name within its issuer", func(v *view) ref.Val { return types.String(v.principal().Name) }},
	{"principal.issuer", cel.StringType, "configured name of the issuer", func(v *view) ref.Val { return types.String(v.principal().Issuer) }},
	{"principal.id", cel.StringType, "`issuer|name`, the name across issuers", func(v *view) ref.Val { return types.String(v.principal().ID()) }},
	{"principal.subject", cel.StringType, "the token's `sub`", func(v *view) ref.Val { return types.String(v.principal().Subject) }},
	{"principal.groups", stringsType, "the mapped groups", func(v *view) ref.Val { return list(v.principal().Groups) }},
	{"principal.claims", cel.MapType(cel.StringType, cel.DynType), "the token's claims; ask `has(principal.claims.team)` before reading one that may be absent", (*view).claims},
	{"principal.actor", stringsType, "who acts on behalf of the subject, outermost first", func(v *view) ref.Val { return list(v.principal().Actor) }},
	{"principal.owner", cel.StringType, "the person behind the agent, empty if unknown", func(v *view) ref.Val { return types.String(v.principal().Owner) }},

	{"target.name", cel.StringType, "configured name of the target", func(v *view) ref.Val { return types.String(v.target().Name) }},
	{"target.protocol", cel.StringType, "such as `postgres`", func(v *view) ref.Val { return types.String(v.target().Protocol) }},
	{"target.labels", cel.MapType(cel.StringType, cel.StringType), "the target's labels; ask `has(target.labels.env)` before reading one that may be absent", func(v *view) ref.Val {
		return types.NewStringStringMap(adapter, v.target().Labels)
	}},

	{"session.role", cel.StringType, "which of the target's roles the session uses", func(v *view) ref.Val { return types.String(v.in.Session.Role) }},
	{"session.database", cel.StringType, "the database it is connected to", func(v *view) ref.Val { return types.String(v.in.Session.Database) }},
	{"session.address", cel.StringType, "the agent's address", func(v *view) ref.Val { return types.String(v.in.Session.Address) }},
	{"session.age", cel.DurationType, "time since the session began", (*view).age},

	{"action.op", cel.StringType, "how it is asked for, in the protocol's words: `query`, `execute`, `prepare`", func(v *view) ref.Val { return types.String(v.action().Op) }},
	{"action.text", cel.StringType, "the exact text; rules about effects and objects are safer than rules about text", (*view).text},
	{"action.effects", stringsType, "what it does, all statements together, in the order of the table of effects", func(v *view) ref.Val { return effects(v.action().Effects) }},
	{"action.verbs", stringsType, "the commands, such as `SELECT` or `DROP TABLE`, each once; also those that change rows within another: in `WITH`, `COPY`, `EXPLAIN ANALYZE`, `PREPARE`, as an action of `MERGE` or of `ON CONFLICT`", (*view).verbs},
	{"action.statements", cel.ListType(statementType), "the statements in order, see [statement](#statement)", (*view).statements},
	{"action.objects", cel.ListType(objectType), "the objects that all statements name, see [object](#object)", (*view).objects},
	{"action.relations", stringsType, "names of the objects of kind relation, `schema.name`, or `name` where the schema is not known; each once", func(v *view) ref.Val { return v.named("relation") }},
	{"action.functions", stringsType, "names of the objects of kind function, in the same form", func(v *view) ref.Val { return v.named("function") }},
	{"action.columns", stringsType, "columns that it refers to, `schema.relation.column` as far as known, `*` for all", (*view).columns},
	{"action.parameters", cel.ListType(cel.DynType), "the values bound to it: string, bytes or null", (*view).parameters},
	{"action.personal_data", cel.MapType(cel.StringType, cel.IntType), "personal and secret values in the text and the values bound to it, by [kind](masking.md#kinds), with how many there are; `size(action.personal_data) > 0` asks for any", (*view).personal},
	{"action.infers", stringsType, "masks with `inference: hold` whose columns it filters, sorts, groups, joins, compares or computes by; without a rule that holds it, it is refused", func(v *view) ref.Val { return list(v.action().Infers) }},
	{"action.has_filter", cel.BoolType, "every part that changes or removes rows has a condition that depends on the row; where nothing does, every part that reads rows", func(v *view) ref.Val {
		return types.Bool(v.action().HasFilter)
	}},
	{"action.opaque", cel.BoolType, "it is not understood completely and may do anything", func(v *view) ref.Val { return types.Bool(!v.action().Understood) }},
	{"action.fingerprint", cel.StringType, "equal for requests that differ in their constants alone; empty if there is none", func(v *view) ref.Val { return types.String(v.action().Fingerprint) }},
	{"action.privileged", cel.BoolType, "it is privileged by the [published definition](#privileged)", func(v *view) ref.Val {
		privileged, _ := v.action().Privileged()
		return types.Bool(privileged)
	}},

	{"usage.requests_minute", cel.IntType, "requests of the principal that were allowed in the last minute, over all its sessions, before this request", func(v *view) ref.Val { return amount(v.in.Usage.Minute.Requests) }},
	{"usage.requests_hour", cel.IntType, "requests of the principal that were allowed in the last hour, over all its sessions, before this request", func(v *view) ref.Val { return amount(v.in.Usage.Hour.Requests) }},
	{"usage.requests_day", cel.IntType, "requests of the principal that were allowed in the last day, over all its sessions, before this request", func(v *view) ref.Val { return amount(v.in.Usage.Day.Requests) }},
	{"usage.rows_minute", cel.IntType, "rows that it got in the last minute, over all its sessions, before this request", func(v *view) ref.Val { return amount(v.in.Usage.Minute.Rows) }},
	{"usage.rows_hour", cel.IntType, "rows that it got in the last hour, over all its sessions, before this request", func(v *view) ref.Val { return amount(v.in.Usage.Hour.Rows) }},
	{"usage.rows_day", cel.IntType, "rows that it got in the last day, over all its sessions, before this request", func(v *view) ref.Val { return amount(v.in.Usage.Day.Rows) }},
	{"usage.bytes_minute", cel.IntType, "bytes of answers that it got in the last minute, over all its sessions, before this request", func(v *view) ref.Val { return amount(v.in.Usage.Minute.Bytes) }},
	{"usage.bytes_hour", cel.IntType, "bytes of answers that it got in the last hour, over all its sessions, before this request", func(v *view) ref.Val { return amount(v.in.Usage.Hour.Bytes) }},
	{"usage.bytes_day", cel.IntType, "bytes of answers that it got in the last day, over all its sessions, before this request", func(v *view) ref.Val { return amount(v.in.Usage.Day.Bytes) }},

	{"time", cel.TimestampType, "the time of the decision", (*view).time},
}

// amount returns a count; what no int holds is the largest one.
func amount(n uint64) ref.Val { return types.Int(min(n, math.MaxInt64)) }

// places maps the name of a variable to its place in variables.
var places = func() map[string]int {
	m := make(map[string]int, len(variables))
	for i := range variables {
		m[variables[i].name] = i
	}
	return m
}()

// environment is the CEL environment of policies. It is built once: it takes
// longer than all else of a small policy.
var environment = sync.OnceValues(func() (*expr.Env, error) {
	options := []cel.EnvOption{elementTypes(), cel.ASTValidators(effectWords{}, zoneLiterals{})}
	for _, v := range variables {
		options = append(options, cel.Variable(v.name, v.typ))
	}
	env, err := expr.New(nil, append(options, zoneFunctions()...)...)
	if err != nil {
		return nil, err
	}
	return env.Limited(maxCounted), nil
})

// groups returns the fields of each group of variables.
var groups = sync.OnceValue(func() map[string][]string {
	m := map[string][]string{}
	for _, v := range variables {
		if group, field, ok := strings.Cut(v.name, "."); ok {
			m[group] = append(m[group], field)
		}
	}
	return m
})

// knownNames returns what an expression may name besides fields, for suggestions.
var knownNames = sync.OnceValue(func() []string {
	names := []string{
		"time", "true", "false", "null", "has", "all", "exists", "exists_one", "filter", "map", "size", "contains", "startsWith", "endsWith", "matches",
		"lowerAscii", "upperAscii", "split", "join", "replace", "substring", "indexOf", "lastIndexOf", "charAt", "trim", "format", "quote", "reverse",
		"int", "uint", "double", "string", "bytes", "bool", "dyn", "type", "timestamp", "duration", "orValue", "hasValue",
	}
	for _, f := range zoned {
		names = append(names, f.name)
	}
	for group := range groups() {
		names = append(names, group)
	}
	return names
})

// A view resolves the variables of one request, each when it is first read.
// It is used by one goroutine.
type view struct {
	in   *Input
	memo [maxVariables]ref.Val // by place in variables
	// unbound is why the parameters are not known, nil if they are.
	unbound error
}

// maxVariables bounds the length of variables; a test holds it.
const maxVariables = 48

// ResolveName implements cel.Activation.
func (v *view) ResolveName(name string) (any, bool) {
	i, ok := places[name]
	if !ok {
		return nil, false
	}
	if v.memo[i] == nil {
		v.memo[i] = variables[i].value(v)
	}
	return v.memo[i], true
}

// Parent implements cel.Activation.
func (v *view) Parent() cel.Activation { return nil }

// What is not given is empty; an action that is not given is opaque.
var (
	noPrincipal access.Principal
	noTarget    access.Target
	noAction    access.Action
)

func (v *view) principal() *access.Principal {
	if v.in.Principal == nil {
		return &noPrincipal
	}
	return v.in.Principal
}

func (v *view) target() *access.Target {
	if v.in.Target == nil {
		return &noTarget
	}
	return v.in.Target
}

func (v *view) action() *access.Action {
	if v.in.Action == nil {
		return &noAction
	}
	return v.in.Action
}

func (v *view) time() ref.Val {
	if v.in.Time.IsZero() {
		return types.NewErr("the time is not given")
	}
	return types.Timestamp{Time: v.in.Time}
}

func (v *view) age() ref.Val {
	if v.in.Time.IsZero() || v.in.Session.Began.IsZero() {
		return types.NewErr("the age of the session is not given")
	}
	return types.Duration{Duration: v.in.Time.Sub(v.in.Session.Began)}
}

func (v *view) claims() ref.Val {
	claims := v.in.Claims
	if claims == nil {
		var err error
		if claims, err = DecodeClaims(v.principal().Claims); err != nil {
			return types.NewErr("the claims: %v", err)
		}
	}
	return types.NewStringInterfaceMap(adapter, claims)
}

// DecodeClaims decodes a principal's claims as rules see them: integers stay exact.
func DecodeClaims(raw json.RawMessage) (map[string]any, error) {
	claims := map[string]any{}
	if len(raw) == 0 {
		return claims, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&claims); err != nil {
		return nil, errors.New("malformed JSON") // encoding/json quotes the input
	}
	return claims, nil
}

func (v *view) text() ref.Val {
	if len(v.action().Text) > largest.text {
		return errLongText
	}
	return types.String(v.action().Text)
}

func (v *view) statements() ref.Val { return statements(v.action().Statements) }

func (v *view) objects() ref.Val {
	n := 0
	for i := range v.action().Statements {
		n += len(v.action().Statements[i].Objects)
	}
	if n > largest.list {
		return errLongList
	}
	elems := make([]ref.Val, 0, n)
	for i := range v.action().Statements {
		elems = appendObjects(elems, v.action().Statements[i].Objects)
	}
	return types.NewRefValList(adapter, elems)
}

func (v *view) verbs() ref.Val {
	var set ordered
	for i := range v.action().Statements {
		set.add(v.action().Statements[i].Verb)
		for _, verb := range v.action().Statements[i].Inner {
			set.add(verb)
		}
	}
	return list(set.names)
}

func (v *view) columns() ref.Val {
	var set ordered
	for i := range v.action().Statements {
		for _, c := range v.action().Statements[i].Columns {
			set.add(c)
		}
	}
	return list(set.names)
}

func (v *view) personal() ref.Val {
	m := map[string]int64{}
	for kind, n := range v.action().Found {
		m[kind] = int64(min(n, math.MaxInt64)) //nolint:gosec // bounded
	}
	return types.NewDynamicMap(adapter, m)
}

func (v *view) named(kind string) ref.Val {
	var set ordered
	for i := range v.action().Statements {
		for j := range v.action().Statements[i].Objects {
			o := &v.action().Statements[i].Objects[j]
			switch {
			case o.Kind != kind:
			case o.Schema == "":
				set.add(o.Name)
			default:
				set.add(o.Schema + "." + o.Name)
			}
		}
	}
	return list(set.names)
}

func (v *view) parameters() ref.Val {
	if v.unbound != nil {
		return types.WrapErr(v.unbound)
	}
	if len(v.action().Parameters) > largest.list {
		return errLongList
	}
	elems := make([]ref.Val, len(v.action().Parameters))
	for i, p := range v.action().Parameters {
		elems[i] = parameter(p)
	}
	return types.NewRefValList(adapter, elems)
}

// parameter returns a value; one that is too large is an error when it is read.
func parameter(p any) ref.Val {
	n := 0
	switch p := p.(type) {
	case string:
		n = len(p)
	case []byte:
		n = len(p)
	}
	if n > largest.text {
		return errLongValue
	}
	return adapter.NativeToValue(p)
}

// ordered is a set of names in the order they came. A request may name
// thousands, so that it looks them up once there are more than a few.
type ordered struct {
	names []string
	known map[string]bool
}

func (o *ordered) add(name string) {
	const few = 16
	if o.known == nil {
		for _, n := range o.names {
			if n == name {
				return
			}
		}
		if len(o.names) == few {
			o.known = make(map[string]bool, 4*few)
			for _, n := range o.names {
				o.known[n] = true
			}
		}
	}
	if o.known != nil {
		if o.known[name] {
			return
		}
		o.known[name] = true
	}
	o.names = append(o.names, name)
}

func list(names []string) ref.Val {
	if len(names) > largest.list {
		return errLongList
	}
	elems := make([]ref.Val, len(names))
	for i, n := range names {
		elems[i] = types.String(n)
	}
	return types.NewRefValList(adapter, elems)
}

var effectNames = access.EffectNames()

// effectLists holds the lists of sets of effects that were met. They are few,
// and every rule reads them. Whoever fills a place fills it with the same.
var effectLists [access.AllEffects + 1]atomic.Pointer[effectList]

type effectList struct{ traits.Lister }

// effects returns a set as a list. An effect without a name must not look
// like none.
func effects(e access.Effects) ref.Val {
	if e&^access.AllEffects != 0 {
		return types.NewErr("an effect without a name: %#x", uint16(e))
	}
	known := effectLists[e].Load()
	if known == nil {
		known = &effectList{list(e.Names()).(traits.Lister)}
		effectLists[e].Store(known)
	}
	return known.Lister
}

var _ cel.Activation = (*view)(nil)
