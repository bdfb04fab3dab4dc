package archtest

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// durableCall says whether a call makes something durable, or waits for that:
// Sync and SyncDir of files, fdatasync, and what takes a context and waits for a record.
func durableCall(c *ast.CallExpr) bool {
	f, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	switch f.Sel.Name {
	case "Sync":
		return len(c.Args) <= 1
	case "SyncDir", "Fdatasync", "Fsync":
		return len(c.Args) == 1
	case "Wait", "Ready", "Beat", "RequestDone":
		return len(c.Args) == 1 // a wait group, a condition and a command take nothing
	}
	return false
}

// TestEverySyncIsDocumented holds the tables of docs/reliability.md against the code: one row
// for each call that syncs or waits for a sync, no row without its call, and
// for each row its mutants, or the reason why there is none.
func TestEverySyncIsDocumented(t *testing.T) {
	calls := make(map[string]int)
	for _, s := range sources(t) {
		skip := strings.HasSuffix(s.path, "_test.go") || strings.HasPrefix(s.pkg, "internal/testkit/") || strings.HasPrefix(s.pkg, "internal/vfs/") ||
			!strings.HasPrefix(s.pkg, "internal/")
		if skip {
			continue
		}
		for _, d := range s.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			place := strings.TrimPrefix(filepath.ToSlash(s.path), "../../internal/") + " " + funcName(fn)
			ast.Inspect(fn, func(n ast.Node) bool {
				if c, ok := n.(*ast.CallExpr); ok && durableCall(c) {
					calls[place]++
				}
				return true
			})
		}
	}
	page, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("../../scripts/mutants/syncs.txt")
	if err != nil {
		t.Fatal(err)
	}
	mutants := make(map[string][]string) // by row
	for _, m := range regexp.MustCompile(`(?m)^mutant (\S+)\nrow (\S+)$`).FindAllStringSubmatch(string(table), -1) {
		mutants[m[2]] = append(mutants[m[2]], m[1])
	}
	rows := make(map[string]int)
	seen := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| (DU-[0-9]{2}) \\| `([a-z_/]+\\.go) ([A-Za-z.]+)` \\|.*\\| ([^|]+) \\|$").FindAllStringSubmatch(string(page), -1) {
		id, last := m[1], m[4]
		rows[m[2]+" "+m[3]]++
		if seen[id] {
			t.Errorf("row %s is there twice", id)
		}
		seen[id] = true
		if mutants[id] == nil && !strings.HasPrefix(last, "none: ") {
			t.Errorf("row %s has no mutant and does not say why", id)
		}
		for _, name := range mutants[id] {
			if !strings.Contains(last, "`"+name+"`") {
				t.Errorf("row %s does not name its mutant %s", id, name)
			}
		}
		for _, name := range regexp.MustCompile("`([a-z0-9-]+)`").FindAllStringSubmatch(last, -1) {
			if !slices.Contains(mutants[id], name[1]) {
				t.Errorf("row %s names the mutant %s, which is not of this row", id, name[1])
			}
		}
	}
	for id := range mutants {
		if !seen[id] {
			t.Errorf("the mutants %v are of the row %s, which is not there", mutants[id], id)
		}
	}
	for place, n := range calls {
		if rows[place] != n {
			t.Errorf("%s: %d calls, %d rows in docs/reliability.md", place, n, rows[place])
		}
	}
	for place, n := range rows {
		if calls[place] == 0 {
			t.Errorf("docs/reliability.md has %d rows for %s, where nothing is synced or waited for", n, place)
		}
	}
	if len(calls) < 30 {
		t.Errorf("only %d places were found", len(calls))
	}
}

// funcName returns Type.Method or the function's name.
func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	typ := fn.Recv.List[0].Type
	if p, ok := typ.(*ast.StarExpr); ok {
		typ = p.X
	}
	if id, ok := typ.(*ast.Ident); ok {
		return id.Name + "." + fn.Name.Name
	}
	return fn.Name.Name
}
