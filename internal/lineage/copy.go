package lineage

import (
	"strings"

	pgquery "github.com/sqlc-dev/oliphant"
)

// CopyFormat is how COPY writes its rows.
type CopyFormat struct {
	Binary, CSV bool
	// Header: the first line has the columns' names.
	Header bool
	// Delimiter, Quote and Escape are one byte each, Quote and Escape for CSV.
	Delimiter, Quote, Escape byte
	// Null stands for NULL.
	Null string
}

// copyFormat reads the options of a COPY. known is false where one of them is not known here.
func copyFormat(c *pgquery.CopyStmt) (f CopyFormat, known bool) {
	text := map[string]string{}
	for _, n := range c.Options {
		d := n.GetDefElem()
		value, ok := wordOf(d.GetArg())
		if d == nil || !ok {
			return f, false
		}
		text[d.Defname] = value
	}
	for name, value := range text {
		switch name {
		case "format":
			f.Binary, f.CSV = value == "binary", value == "csv"
			if value != "binary" && value != "csv" && value != "text" {
				return f, false
			}
		case "header":
			f.Header = truth(value)
			if !f.Header && value != "false" && value != "off" && value != "0" {
				return f, false
			}
		case "delimiter", "quote", "escape":
			if len(value) != 1 {
				return f, false
			}
		case "null", "force_quote":
		case "encoding":
			if !strings.EqualFold(value, "utf8") && !strings.EqualFold(value, "utf-8") {
				return f, false
			}
		default:
			return f, false
		}
	}
	f.Delimiter, f.Null = '\t', `\N`
	if f.CSV {
		f.Delimiter, f.Null, f.Quote = ',', "", '"'
	}
	if v := text["delimiter"]; v != "" {
		f.Delimiter = v[0]
	}
	if v, ok := text["null"]; ok {
		f.Null = v
	}
	if v := text["quote"]; v != "" {
		f.Quote = v[0]
	}
	f.Escape = f.Quote
	if v := text["escape"]; v != "" {
		f.Escape = v[0]
	}
	return f, true
}

func truth(s string) bool { return s == "true" || s == "on" || s == "1" }

// wordOf returns an option's value; without one it is "true".
func wordOf(n *pgquery.Node) (string, bool) {
	switch v := n.GetNode().(type) {
	case nil:
		return "true", true
	case *pgquery.Node_String_:
		return v.String_.Sval, true
	case *pgquery.Node_Boolean:
		if v.Boolean.Boolval {
			return "true", true
		}
		return "false", true
	case *pgquery.Node_Integer:
		return decimal(int(v.Integer.Ival)), true
	case *pgquery.Node_List, *pgquery.Node_AStar: // columns of force_quote
		return "", true
	}
	return "", false
}
