package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/gatebook/gatebook/"

// may says which packages of ours a package may import. A name that ends with
// "/..." stands for the packages below it. Imports point downwards only.
var may = map[string][]string{
	"evidence":                 {},
	"internal/access":          {},
	"internal/secret":          {},
	"internal/vfs":             {},
	"internal/netguard":        {},
	"internal/webhook":         {"evidence", "internal/netguard", "internal/secret"},
	"internal/sshsig":          {},
	"internal/vfs/faultfs":     {"internal/vfs"},
	"internal/vfs/crashfs":     {"internal/vfs"},
	"internal/vfs/vfstest":     {"internal/vfs"},
	"internal/wire/pgwire":     {},
	"internal/sqlscan":         {"internal/access"},
	"internal/lineage":         {"internal/access", "internal/sqlscan"},
	"internal/audit":           {"evidence", "internal/access"},
	"internal/journal":         {"internal/vfs"},
	"internal/seal":            {"evidence", "internal/secret", "internal/vfs"},
	"internal/expr":            {},
	"internal/detect":          {},
	"internal/detect/labelled": {},
	"internal/mask":            {"internal/detect"},
	"internal/enforce":         {"evidence", "internal/access", "internal/approval", "internal/audit", "internal/detect", "internal/mask", "internal/secret"},
	"internal/identity":        {"internal/access", "internal/config", "internal/enforce", "internal/expr", "internal/netguard", "internal/secret"},
	"internal/devissuer":       {"internal/secret"},
	"internal/ledger":          {"evidence", "internal/access", "internal/audit", "internal/enforce", "internal/journal", "internal/seal", "internal/secret", "internal/vfs"},
	"internal/index":           {"evidence", "internal/access", "internal/audit", "internal/vfs"},
	"internal/policy":          {"internal/access", "internal/expr"},
	"internal/engine":          {"internal/access", "internal/enforce"},
	"internal/engine/postgres": {"evidence", "internal/access", "internal/audit", "internal/detect", "internal/engine", "internal/enforce", "internal/lineage", "internal/mask", "internal/secret", "internal/sqlscan", "internal/wire/pgwire"},
	"internal/server":          {"internal/access", "internal/engine"},
	"internal/config":          {"internal/access", "internal/detect", "internal/mask", "internal/policy", "internal/secret", "internal/sshsig"},
	"internal/config/gen":      {},
	"internal/judge":           {"evidence", "internal/access", "internal/approval", "internal/config", "internal/identity", "internal/policy", "internal/sqlscan"},
	"internal/approval":        {"evidence", "internal/access", "internal/sshsig"},
	"internal/admin":           {"evidence", "internal/access", "internal/approval", "internal/audit", "internal/enforce", "internal/index", "internal/ledger", "internal/secret"},
	"internal/console":         {"evidence", "internal/admin", "internal/approval", "internal/identity", "internal/secret", "internal/sqlscan"},
	"internal/app": {
		"evidence", "internal/access", "internal/admin", "internal/approval", "internal/audit", "internal/config", "internal/console", "internal/detect", "internal/enforce", "internal/engine",
		"internal/engine/postgres", "internal/identity", "internal/index", "internal/judge", "internal/journal", "internal/ledger", "internal/mask", "internal/netguard", "internal/policy", "internal/seal",
		"internal/secret", "internal/server", "internal/vfs", "internal/webhook",
	},
	"internal/cli": {
		"evidence", "internal/access", "internal/admin", "internal/app", "internal/approval", "internal/config", "internal/detect", "internal/devissuer", "internal/enforce", "internal/engine/postgres", "internal/identity",
		"internal/judge", "internal/policy",
		"internal/secret", "internal/sqlscan", "internal/vfs",
	},
	"internal/archtest":          {},
	"internal/admin/openapi":     {"internal/admin"},
	"internal/testkit/browser":   {},
	"internal/testkit/maskways":  {},
	"internal/testkit/pgserver":  {},
	"internal/testkit/sshkey":    {},
	"internal/testkit/bookcheck": {"internal/vfs"},
	"internal/testkit/memrec":    {"evidence", "internal/access", "internal/audit", "internal/enforce"},
	"internal/testkit/forge":     {"evidence"},
	"internal/testkit/idp":       {"internal/devissuer", "internal/secret"},
	"cmd/gatebook":               {"internal/cli"},
	"demo/tamper":                {"evidence", "internal/testkit/forge"},
	"scripts/mutants":            {},
	"scripts/detectors":          {"internal/detect", "internal/detect/labelled"},
	"bench":                      {"internal/testkit/pgserver"},
}

// forbidden names imports that would let a pure package touch the world.
var forbidden = map[string][]string{
	"internal/wire/pgwire": {"net", "os", "log/slog", "time"},
	"internal/sqlscan":     {"net", "os", "log/slog", "time"},
	"internal/lineage":     {"net", "os", "log/slog", "time"},
	"internal/detect":      {"net", "os", "log/slog", "time"},
	"internal/mask":        {"net", "os", "log/slog"},
	"internal/access":      {"net", "os", "log/slog"},
	"internal/audit":       {"net", "os", "log/slog"},
	"internal/enforce":     {"os", "net/http"},
	"internal/policy":      {"net", "os", "log/slog"},
	"internal/sshsig":      {"net", "os", "log/slog", "time"},
}

// allowedThirdParty is what the public package may link besides the standard library.
var allowedThirdParty = []string{
	"golang.org/x/mod/sumdb/note", "golang.org/x/mod/sumdb/tlog", "filippo.io/torchwood", "github.com/digitorus/timestamp", "github.com/klauspost/compress",
}

type source struct {
	pkg  string
	path string
	file *ast.File
}

func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var list []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		list = append(list, source{filepath.ToSlash(rel), path, f})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func imports(f *ast.File) []string {
	var list []string
	for _, i := range f.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			panic(err)
		}
		list = append(list, path)
	}
	return list
}

func TestImportsPointDownwards(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		allowed, known := may[s.pkg]
		if !known {
			t.Errorf("%s: package %s is not in the table: say what it may import", s.path, s.pkg)
			continue
		}
		for _, path := range imports(s.file) {
			ours, isOurs := strings.CutPrefix(path, module)
			switch {
			case isOurs && strings.HasPrefix(ours, "internal/testkit/"):
				if !strings.HasPrefix(s.pkg, "internal/testkit/") && !slices.Contains(allowed, ours) {
					t.Errorf("%s imports %s: testkit is for tests", s.path, ours)
				}
			case isOurs && !slices.Contains(allowed, ours):
				t.Errorf("%s: %s must not import %s", s.path, s.pkg, ours)
			case !isOurs && slices.Contains(forbidden[s.pkg], path):
				t.Errorf("%s: %s must not import %s", s.path, s.pkg, path)
			case !isOurs && s.pkg == "evidence" && strings.Contains(path, ".") && !slices.Contains(allowedThirdParty, path):
				t.Errorf("%s: the public package must not import %s", s.path, path)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	said := make(map[string]bool)
	for _, s := range sources(t) {
		if !strings.HasSuffix(s.path, "_test.go") {
			said[s.pkg] = said[s.pkg] || s.file.Doc != nil
		}
	}
	for pkg, ok := range said {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

// TestTargetsAreDialledByTheDoorAlone looks for the calls that open
// connections, listeners and shells, outside of the packages that own them.
func TestTargetsAreDialledByTheDoorAlone(t *testing.T) {
	owners := map[string][]string{
		"net.Dial":        {"bench", "internal/admin", "internal/identity"},
		"net.DialTimeout": {},
		"net.Dialer":      {"internal/admin", "internal/app", "internal/netguard"},
		"net.Listen":      {"bench", "internal/testkit/pgserver"},
		"exec.Command":    {"bench", "internal/testkit/pgserver"},
		// A person's ruling is signed by stock ssh-keygen, which asks for passphrase and touch.
		"exec.CommandContext": {"internal/cli", "scripts/mutants"},
	}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := x.Name + "." + sel.Sel.Name
			if allowed, watched := owners[name]; watched && !slices.Contains(allowed, s.pkg) && !strings.HasPrefix(s.pkg, "internal/testkit/") {
				t.Errorf("%s: %s is not for %s", s.path, name, s.pkg)
			}
			return true
		})
	}
}

func TestNoInitAndNoBlankImports(t *testing.T) {
	blank := map[string][]string{"internal/index": {"modernc.org/sqlite"}, "evidence": {"embed"}}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function", s.path)
			}
		}
		for _, i := range s.file.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if i.Name != nil && i.Name.Name == "_" && !slices.Contains(blank[s.pkg], path) {
				t.Errorf("%s: blank import of %s", s.path, path)
			}
		}
	}
}
