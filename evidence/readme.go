package evidence

import (
	"bytes"
	_ "embed"
	"html/template"
	"time"
)

//go:embed readme.html.tmpl
var readmeText string

var readmeTemplate = template.Must(template.New("readme").Funcs(template.FuncMap{
	"utc": func(t time.Time) string {
		if t.IsZero() {
			return "–"
		}
		return t.UTC().Format("2006-01-02 15:04:05 UTC")
	},
}).Parse(readmeText))

// renderReadme makes the page for a person who has never heard of Gatebook.
func renderReadme(s *Summary) ([]byte, error) {
	var out bytes.Buffer
	if err := readmeTemplate.Execute(&out, s); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
