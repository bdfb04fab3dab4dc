// Command gen writes docs/config.md from the comments of package config's
// types (make gen).
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
)

const preamble = `# Configuration

<!-- Made by "make gen" from the comments in internal/config/config.go. -->

One YAML file, ` + "`gatebook.yaml`" + ` in the current directory or what ` + "`--config`" + ` names, decoded strictly: an unknown key is an error. Every
problem is reported at once, with file and line. Relative paths are relative to the file. Secrets are references, never values:
` + "`file:PATH`" + ` (mode 0600 or stricter, read again when used) or ` + "`env:NAME`" + `. Files named by ` + "`include`" + ` may hold ` + "`issuers`" + `, ` + "`targets`" + `, ` + "`rules`" + ` and ` + "`packs`" + `.

` + "`SIGHUP`" + ` reads the configuration again. Rules and packs then count at once, targets and the limits principal_*, expiry_drain and
shutdown_drain for new sessions, signers from the next load on; a change of anything else is refused by name and needs a restart. A broken file never
replaces a good one, nor one that is not signed as it must be.
`

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	f, err := parser.ParseFile(token.NewFileSet(), "internal/config/config.go", nil, parser.ParseComments)
	if err != nil {
		return err
	}
	fmt.Print(preamble)
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range g.Specs {
			t, ok := s.(*ast.TypeSpec)
			if !ok {
				continue
			}
			if st, ok := t.Type.(*ast.StructType); ok {
				section(t.Name.Name, g.Doc.Text(), st)
			}
		}
	}
	return nil
}

func section(name, doc string, st *ast.StructType) {
	fmt.Printf("\n## %s\n\n%s\n\n| Key | Type | Meaning |\n|---|---|---|\n", name, oneLine(doc))
	for _, f := range st.Fields.List {
		key := f.Names[0].Name
		if f.Tag != nil {
			key = reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml")
		}
		text := oneLine(f.Doc.Text())
		for _, verb := range []string{" is ", " are "} {
			if rest, ok := strings.CutPrefix(text, f.Names[0].Name+verb); ok {
				text = strings.ToUpper(rest[:1]) + rest[1:]
			}
		}
		fmt.Printf("| `%s` | %s | %s |\n", key, typeName(f.Type), strings.ReplaceAll(text, "|", "\\|"))
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func typeName(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.Ident:
		switch t.Name {
		case "string":
			return "text"
		case "bool":
			return "true or false"
		case "int":
			return "number"
		case "Duration", "Size":
			return strings.ToLower(t.Name)
		case "Strings":
			return "text or list"
		}
		return "[" + t.Name + "](#" + strings.ToLower(t.Name) + ")"
	case *ast.StarExpr:
		return typeName(t.X)
	case *ast.ArrayType:
		return "list of " + typeName(t.Elt)
	case *ast.MapType:
		return "map to " + typeName(t.Value)
	}
	return "?"
}
