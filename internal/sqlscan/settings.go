// Package sqlscan reads SQL text by PostgreSQL's own grammar.
//
// It works on text alone: no catalog, no clock, no input or output. Text that
// does not parse, or is too large or too deep to parse safely, is opaque.
package sqlscan

import (
	"strings"

	pgquery "github.com/sqlc-dev/oliphant"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Setting is one change of a configuration parameter that a text makes.
type Setting struct {
	Name  string // lower case
	Value string // as written; "" with Reset
	Reset bool   // back to the session's initial value
	// DynamicName and DynamicValue: it is not a constant, so that it may be any.
	DynamicName, DynamicValue bool
}

// Limits of what is given to the parser: beyond them its time is quadratic or
// its stack unbounded.
const (
	maxText  = 256 << 10 // bytes
	maxDepth = 1000      // open brackets
)

// parse returns the tree, or nil if the text is opaque.
func parse(text string) *pgquery.ParseResult {
	if len(text) > maxText || depth(text) > maxDepth {
		return nil
	}
	tree, err := pgquery.Parse(text)
	if err != nil {
		return nil
	}
	return tree
}

// depth is an upper bound of the nesting that brackets and CASE can make.
func depth(text string) int {
	if bound := roughDepth(text); bound <= maxDepth {
		return bound
	}
	return tokenDepth(text) // brackets and words in data count for roughDepth too
}

// tokenDepth is depth by the tokens of a text.
func tokenDepth(text string) int {
	scan, err := pgquery.Scan(text)
	if err != nil {
		return maxDepth + 1
	}
	deepest, open, cases := 0, 0, 0
	for _, t := range scan.Tokens {
		switch t.Token {
		case pgquery.Token_ASCII_40, pgquery.Token_ASCII_91: // ( and [
			open++
		case pgquery.Token_ASCII_41, pgquery.Token_ASCII_93:
			open--
		case pgquery.Token_CASE: // END does not take it back: it is also a name
			cases++
		case pgquery.Token_ASCII_59: // ; ends a statement, and all that is open in it
			open, cases = 0, 0
		}
		deepest = max(deepest, open+cases)
	}
	return deepest
}

// roughDepth is depth without regard to what is data.
func roughDepth(text string) int {
	deepest, open, cases := 0, 0, 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '(', '[':
			open++
			deepest = max(deepest, open)
		case ')', ']':
			open--
		case 'c', 'C':
			if i+4 <= len(text) && strings.EqualFold(text[i:i+4], "case") {
				cases++
			}
		}
	}
	return deepest + cases
}

// Settings returns the changes a text makes to the named parameters (lower
// case), by SET, SET LOCAL, SET NAMES, RESET or set_config, wherever
// they stand in the text; a set_config whose name is not a constant counts too. A text that does not contain a name
// or that does not parse gives none: the callers also watch what the target reports.
func Settings(text string, names []string) []Setting {
	lower := strings.ToLower(text)
	mentioned := strings.Contains(lower, "names") || strings.Contains(lower, "set_config")
	for _, n := range names {
		mentioned = mentioned || strings.Contains(lower, n)
	}
	if !mentioned {
		return nil
	}
	return SettingsAnyhow(text, names)
}

// SettingsAnyhow is Settings for callers that parse in any case: a name can be
// written so that the text does not contain it (quoted parts, comments, escapes).
func SettingsAnyhow(text string, names []string) []Setting {
	tree := parse(text)
	if tree == nil {
		return nil
	}
	w := walker{names: names}
	for _, s := range tree.Stmts {
		w.walk(s.ProtoReflect())
	}
	return w.found
}

type walker struct {
	names []string
	found []Setting
}

func (w *walker) add(name, value string, reset bool) {
	name = strings.ToLower(name)
	for _, n := range w.names {
		if n == name {
			w.found = append(w.found, Setting{Name: name, Value: value, Reset: reset})
		}
	}
}

func (w *walker) walk(m protoreflect.Message) {
	switch n := m.Interface().(type) {
	case *pgquery.VariableSetStmt:
		w.set(n)
	case *pgquery.FuncCall:
		w.call(n)
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			list := v.List()
			for i := range list.Len() {
				w.walk(list.Get(i).Message())
			}
		default:
			w.walk(v.Message())
		}
		return true
	})
}

func (w *walker) set(n *pgquery.VariableSetStmt) {
	switch n.Kind {
	case pgquery.VariableSetKind_VAR_RESET, pgquery.VariableSetKind_VAR_SET_DEFAULT:
		w.add(n.Name, "", true)
	case pgquery.VariableSetKind_VAR_SET_VALUE:
		values := make([]string, 0, len(n.Args))
		for _, a := range n.Args {
			values = append(values, constant(a))
		}
		w.add(n.Name, strings.Join(values, ","), false)
	}
}

func (w *walker) call(n *pgquery.FuncCall) {
	if len(n.Funcname) == 0 || len(n.Args) < 2 {
		return
	}
	last := n.Funcname[len(n.Funcname)-1].GetString_()
	if last == nil || last.Sval != "set_config" {
		return
	}
	name, named := literal(n.Args[0])
	value, valued := literal(n.Args[1])
	before := len(w.found)
	if named {
		w.add(name, value, false)
	} else {
		w.found = append(w.found, Setting{Value: value, DynamicName: true})
	}
	if len(w.found) > before {
		w.found[before].DynamicValue = !valued
	}
}

// literal returns the text of a string constant. A cast counts as one only where it leaves the text as it is:
// 'rolexyz'::varchar(4) and 'role '::char(9) are 'role'.
func literal(n *pgquery.Node) (string, bool) {
	if cast := n.GetTypeCast(); cast != nil {
		if len(cast.TypeName.Typmods)+len(cast.TypeName.ArrayBounds) > 0 || !keepsText[nameOf(texts(cast.TypeName.Names)).Name] {
			return "", false
		}
		return literal(cast.Arg)
	}
	c := n.GetAConst()
	if c == nil || c.GetSval() == nil {
		return "", false
	}
	return c.GetSval().Sval, true
}

// keepsText are the types that a text is cast to as it is.
var keepsText = set("text", "varchar", "unknown")

// constant returns the text of a literal, "" for anything else.
func constant(n *pgquery.Node) string {
	if cast := n.GetTypeCast(); cast != nil {
		return constant(cast.Arg)
	}
	c := n.GetAConst()
	if c == nil {
		return ""
	}
	switch v := c.Val.(type) {
	case *pgquery.A_Const_Sval:
		return v.Sval.Sval
	case *pgquery.A_Const_Ival:
		if v.Ival.Ival == 1 {
			return "1"
		}
		return "0"
	case *pgquery.A_Const_Boolval:
		if v.Boolval.Boolval {
			return "true"
		}
		return "false"
	}
	return ""
}
