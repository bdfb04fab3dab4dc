package policy

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
)

// effectDocs say what each effect means, in the order of access.EffectNames.
var effectDocs = map[string]string{
	"read":        "gives data of the target to the agent",
	"write":       "changes data",
	"schema":      "changes definitions",
	"access":      "changes who may do what, or as whom the session acts",
	"execute":     "runs code whose effects cannot be known from the request",
	"file":        "reads or writes files of the target's host",
	"network":     "makes the target talk to others",
	"admin":       "operates the target or others' sessions",
	"lock":        "takes locks of its own will, or waits",
	"notify":      "sends or awaits messages to and from other sessions",
	"session":     "changes the state of its own session",
	"transaction": "begins or ends a transaction",
}

// Reference returns the reference of variables, effects and packs in Markdown,
// made from their declarations.
func Reference() string {
	var b strings.Builder
	group := ""
	for _, v := range variables {
		if g, _, _ := strings.Cut(v.name, "."); g != group {
			group = g
			table(&b, group, "Variable")
		}
		row(&b, v.name, v.typ, v.doc)
	}
	for _, name := range []string{statementName, objectName} {
		table(&b, name, "Field")
		for _, f := range elements[name] {
			row(&b, f.name, f.typ, f.doc)
		}
	}
	b.WriteString("\n### Effects\n\n| Effect | What the request does |\n|---|---|\n")
	for _, e := range effectNames {
		fmt.Fprintf(&b, "| `%s` | %s |\n", e, effectDocs[e])
	}
	b.WriteString("\n### Rules of the packs\n")
	for _, p := range Packs() {
		fmt.Fprintf(&b, "\n#### %s\n\n%s\n\n```yaml\n%s```\n", p.Name, p.Description, p.YAML())
	}
	return b.String()
}

func table(b *strings.Builder, title, first string) {
	fmt.Fprintf(b, "\n### %s\n\n| %s | Type | Meaning |\n|---|---|---|\n", title, first)
}

func row(b *strings.Builder, name string, typ *cel.Type, doc string) {
	fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, cel.FormatCELType(typ), strings.ReplaceAll(doc, "|", "\\|"))
}
