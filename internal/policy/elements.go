package policy

import (
	"fmt"
	"reflect"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/gatebook/gatebook/internal/access"
)

// Statements and objects are the only values with fields. Their types are
// known to the checker, so that a misspelt field is a problem at load. A value
// holds one pointer: reading a list of them allocates for the list alone.
// (The library's own way for Go structs reads them by reflection.)

const (
	statementName = "statement"
	objectName    = "object"
)

var (
	statementType = cel.ObjectType(statementName)
	objectType    = cel.ObjectType(objectName)
)

// A field is one of a statement or an object.
type field struct {
	name string
	typ  *cel.Type
	doc  string
	get  func(any) ref.Val // of a *access.Statement or a *access.Object
}

func ofStatement(get func(*access.Statement) ref.Val) func(any) ref.Val {
	return func(x any) ref.Val {
		s, ok := x.(*access.Statement)
		if !ok {
			return types.NewErr("%T is no statement", x)
		}
		return get(s)
	}
}

func ofObject(get func(*access.Object) ref.Val) func(any) ref.Val {
	return func(x any) ref.Val {
		o, ok := x.(*access.Object)
		if !ok {
			return types.NewErr("%T is no object", x)
		}
		return get(o)
	}
}

var elements = map[string][]field{
	statementName: {
		{"verb", cel.StringType, "the command, such as `SELECT` or `DROP TABLE`", ofStatement(func(s *access.Statement) ref.Val { return types.String(s.Verb) })},
		{"effects", stringsType, "what it does", ofStatement(func(s *access.Statement) ref.Val { return effects(s.Effects) })},
		{"objects", cel.ListType(objectType), "the objects that it names", ofStatement(func(s *access.Statement) ref.Val {
			if len(s.Objects) > largest.list {
				return errLongList
			}
			return types.NewRefValList(adapter, appendObjects(make([]ref.Val, 0, len(s.Objects)), s.Objects))
		})},
		{"columns", stringsType, "columns that it refers to", ofStatement(func(s *access.Statement) ref.Val { return list(s.Columns) })},
		{"has_filter", cel.BoolType, "as `action.has_filter`, for this statement", ofStatement(func(s *access.Statement) ref.Val { return types.Bool(s.HasFilter) })},
		{"opaque", cel.BoolType, "it is not understood completely", ofStatement(func(s *access.Statement) ref.Val { return types.Bool(!s.Understood) })},
	},
	objectName: {
		{"kind", cel.StringType, "`relation`, `function`, `type`, `role`, `setting`, `file` or another of the target's words", ofObject(func(o *access.Object) ref.Val { return types.String(o.Kind) })},
		{"schema", cel.StringType, "empty where it has none or it is not known", ofObject(func(o *access.Object) ref.Val { return types.String(o.Schema) })},
		{"name", cel.StringType, "its name", ofObject(func(o *access.Object) ref.Val { return types.String(o.Name) })},
		{"effects", stringsType, "what is done to it", ofObject(func(o *access.Object) ref.Val { return effects(o.Effects) })},
	},
}

func findField(typ, name string) (field, bool) {
	for _, f := range elements[typ] {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

// elementFields returns the names of all fields of both types, for suggestions.
func elementFields() (names []string) {
	for _, typ := range []string{statementName, objectName} {
		for _, f := range elements[typ] {
			names = append(names, f.name)
		}
	}
	return names
}

// element is what both values have in common.
type element struct {
	typ *cel.Type
	x   any // *access.Statement or *access.Object
}

func (e element) get(name string) ref.Val {
	f, ok := findField(e.typ.TypeName(), name)
	if !ok {
		return types.NewErr("no such field '%s'", name)
	}
	return f.get(e.x)
}

func (e element) toType(t ref.Type, self ref.Val) ref.Val {
	switch t {
	case types.TypeType:
		return e.typ
	case e.typ:
		return self
	}
	return types.NewErr("a %s cannot be converted to %s", e.typ.TypeName(), t.TypeName())
}

func (e element) toNative(t reflect.Type) (any, error) {
	if reflect.TypeOf(e.x).AssignableTo(t) {
		return e.x, nil
	}
	return nil, fmt.Errorf("a %s cannot be converted to %s", e.typ.TypeName(), t)
}

type statementValue struct{ s *access.Statement }

type objectValue struct{ o *access.Object }

var (
	_ ref.Val            = statementValue{}
	_ traits.Indexer     = statementValue{}
	_ traits.FieldTester = statementValue{}
	_ ref.Val            = objectValue{}
	_ traits.Indexer     = objectValue{}
	_ traits.FieldTester = objectValue{}
)

func statements(s []access.Statement) ref.Val {
	if len(s) > largest.list {
		return errLongList
	}
	elems := make([]ref.Val, len(s))
	for i := range s {
		elems[i] = statementValue{&s[i]}
	}
	return types.NewRefValList(adapter, elems)
}

func appendObjects(elems []ref.Val, o []access.Object) []ref.Val {
	for i := range o {
		elems = append(elems, objectValue{&o[i]})
	}
	return elems
}

func (v statementValue) element() element { return element{statementType, v.s} }
func (v objectValue) element() element    { return element{objectType, v.o} }

// Value implements ref.Val; the checker's fields read it.
func (v statementValue) Value() any { return v.s }

// Value implements ref.Val; the checker's fields read it.
func (v objectValue) Value() any { return v.o }

// Type implements ref.Val.
func (v statementValue) Type() ref.Type { return statementType }

// Type implements ref.Val.
func (v objectValue) Type() ref.Type { return objectType }

// Equal implements ref.Val.
func (v statementValue) Equal(other ref.Val) ref.Val {
	w, ok := other.(statementValue)
	return types.Bool(ok && (v.s == w.s || v.s.Verb == w.s.Verb && v.s.Effects == w.s.Effects && v.s.HasFilter == w.s.HasFilter &&
		v.s.Understood == w.s.Understood && slices.Equal(v.s.Objects, w.s.Objects) && slices.Equal(v.s.Columns, w.s.Columns)))
}

// Equal implements ref.Val.
func (v objectValue) Equal(other ref.Val) ref.Val {
	w, ok := other.(objectValue)
	return types.Bool(ok && *v.o == *w.o)
}

// ConvertToNative implements ref.Val.
func (v statementValue) ConvertToNative(t reflect.Type) (any, error) { return v.element().toNative(t) }

// ConvertToNative implements ref.Val.
func (v objectValue) ConvertToNative(t reflect.Type) (any, error) { return v.element().toNative(t) }

// ConvertToType implements ref.Val.
func (v statementValue) ConvertToType(t ref.Type) ref.Val { return v.element().toType(t, v) }

// ConvertToType implements ref.Val.
func (v objectValue) ConvertToType(t ref.Type) ref.Val { return v.element().toType(t, v) }

// Get implements traits.Indexer, for expressions that hide the type with dyn().
func (v statementValue) Get(index ref.Val) ref.Val { return getField(v.element(), index) }

// Get implements traits.Indexer, for expressions that hide the type with dyn().
func (v objectValue) Get(index ref.Val) ref.Val { return getField(v.element(), index) }

// IsSet implements traits.FieldTester: all fields are there.
func (v statementValue) IsSet(name ref.Val) ref.Val { return hasField(v.element(), name) }

// IsSet implements traits.FieldTester: all fields are there.
func (v objectValue) IsSet(name ref.Val) ref.Val { return hasField(v.element(), name) }

func getField(e element, index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	return e.get(string(name))
}

func hasField(e element, index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	_, found := findField(e.typ.TypeName(), string(name))
	return types.Bool(found)
}

// provider tells the checker and the interpreter of the two types, and passes
// everything else on.
type provider struct {
	types.Provider
	fields map[string]map[string]*types.FieldType
}

// elementTypes adds the two types to an environment.
func elementTypes() cel.EnvOption {
	return func(e *cel.Env) (*cel.Env, error) {
		p := provider{e.CELTypeProvider(), map[string]map[string]*types.FieldType{}}
		for typ, fields := range elements {
			p.fields[typ] = map[string]*types.FieldType{}
			for _, f := range fields {
				p.fields[typ][f.name] = &types.FieldType{
					Type:  f.typ,
					IsSet: func(any) bool { return true },
					GetFrom: func(x any) (any, error) {
						v := f.get(x)
						if err, failed := v.(*types.Err); failed {
							return nil, err
						}
						return v, nil
					},
				}
			}
		}
		return cel.CustomTypeProvider(p)(e)
	}
}

// FindStructType implements types.Provider.
func (p provider) FindStructType(name string) (*types.Type, bool) {
	switch name {
	case statementName:
		return types.NewTypeTypeWithParam(statementType), true
	case objectName:
		return types.NewTypeTypeWithParam(objectType), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	fields, ok := elements[name]
	if !ok {
		return p.Provider.FindStructFieldNames(name)
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names, true
}

// FindStructFieldType implements types.Provider.
func (p provider) FindStructFieldType(typ, name string) (*types.FieldType, bool) {
	if fields, ok := p.fields[typ]; ok {
		f, ok := fields[name]
		return f, ok
	}
	return p.Provider.FindStructFieldType(typ, name)
}

// NewValue implements types.Provider: statements and objects come from requests only.
func (p provider) NewValue(typ string, fields map[string]ref.Val) ref.Val {
	if _, ok := p.fields[typ]; ok {
		return types.NewErr("a %s cannot be made by an expression", typ)
	}
	return p.Provider.NewValue(typ, fields)
}
