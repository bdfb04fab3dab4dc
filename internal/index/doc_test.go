package index

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestQueryPage runs every query of docs/query.md, and compares its tables
// with the views.
func TestQueryPage(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../docs/query.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(content)
	b := newBook(1)
	b.grow(8000)
	s := b.session("bot-a", "orders")
	s.add("identity", 0, []byte(`{"issuer":"ci","renewal":true}`))
	x := indexed(t, b, testOptions(t))

	queries := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(queries) < 10 {
		t.Errorf("%d queries", len(queries))
	}
	for _, q := range queries {
		rows, err := query(t, x, q[1], Limits{})
		if err != nil || len(rows) == 0 {
			t.Errorf("%d rows, %v from\n%s", len(rows), err, q[1])
		}
	}

	for _, sql := range definitions() {
		name, isView := strings.CutPrefix(sql, "CREATE VIEW ")
		if !isView {
			continue
		}
		name = name[:strings.IndexByte(name, ' ')]
		section := regexp.MustCompile(`(?s)\n## ` + name + "\n(.*?)\n## ").FindStringSubmatch(page)
		if section == nil {
			t.Errorf("no section about %s", name)
			continue
		}
		var documented []string
		for _, m := range regexp.MustCompile(`(?m)^\| (\w+) \| (?:text|integer|JSON) \| .+ \|$`).FindAllStringSubmatch(section[1], -1) {
			documented = append(documented, m[1])
		}
		var have []string
		if err := x.Query(t.Context(), "SELECT * FROM "+name+" LIMIT 1", Limits{}, func(columns []string, _ []any) error {
			have = columns
			return nil
		}); err != nil {
			t.Error(err)
		}
		if fmt.Sprint(have) != fmt.Sprint(documented) {
			t.Errorf("%s has the columns\n%v, the page\n%v", name, have, documented)
		}
	}
}
