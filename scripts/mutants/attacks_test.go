package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	attackRow  = regexp.MustCompile(`^\| ([A-Z]{2}-[0-9]{2}) \| (.+) \| (.+) \| (.+) \| (.+) \|$`)
	testLink   = regexp.MustCompile("\\[`((?:Test|Fuzz)[A-Za-z0-9_]+)`\\]\\(\\.\\./([^)]+)\\)(?: \\(([^)]+)\\))?")
	guardPlace = regexp.MustCompile("`([a-z0-9_/]+\\.go)`: `([^`]+)`")
	quoted     = regexp.MustCompile("`([^`]+)`")
	rowInName  = regexp.MustCompile(`func Test((?:PG|ID|EV)[0-9]{2})[A-Z]`)
)

const root = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAttacksPage holds docs/attacks.md to the code: its tests and guards are
// there, every row has a mutant or says why not, and no mutant is missing.
func TestAttacksPage(t *testing.T) {
	list, err := parse(read(t, "scripts/mutants/mutants.txt"))
	if err != nil {
		t.Fatal(err)
	}
	about := make(map[string][]string) // mutants by row
	for _, m := range list {
		for _, r := range m.rows {
			about[r] = append(about[r], m.name)
		}
	}
	rows := make(map[string]bool)
	for line := range strings.Lines(read(t, "docs/attacks.md")) {
		cells := attackRow.FindStringSubmatch(strings.TrimSpace(line))
		if cells == nil {
			if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| Row ") {
				t.Errorf("malformed row: %.60s", line)
			}
			continue
		}
		row := cells[1]
		if rows[row] {
			t.Errorf("%s is there twice", row)
		}
		rows[row] = true
		tests := testLink.FindAllStringSubmatch(cells[4], -1)
		if len(tests) == 0 || len(tests) != strings.Count(cells[4], "](") {
			t.Errorf("%s: no test, or a malformed one", row)
		}
		for _, m := range tests {
			file := read(t, m[2])
			if !strings.Contains(file, "func "+m[1]+"(") {
				t.Errorf("%s: %s is not in %s", row, m[1], m[2])
			}
			if m[3] != "" && !strings.Contains(file, `"`+m[3]) {
				t.Errorf("%s: %s has no case %s", row, m[1], m[3])
			}
		}
		guards := guardPlace.FindAllStringSubmatch(cells[3], -1)
		if len(guards) == 0 {
			t.Errorf("%s: no guard", row)
		}
		for _, m := range guards {
			if !strings.Contains(read(t, m[1]), m[2]) {
				t.Errorf("%s: %s has no %s", row, m[1], m[2])
			}
		}
		if why, none := strings.CutPrefix(cells[5], "none: "); none {
			if len(why) < 10 || len(about[row]) > 0 {
				t.Errorf("%s: mutants %q, and the page says none", row, about[row])
			}
			continue
		}
		var named []string
		for _, m := range quoted.FindAllStringSubmatch(cells[5], -1) {
			named = append(named, m[1])
		}
		if len(named) == 0 || !slices.Equal(named, about[row]) {
			t.Errorf("%s: the page has mutants %q, the table %q", row, named, about[row])
		}
	}
	if len(rows) < 60 {
		t.Errorf("only %d rows", len(rows))
	}
	for row := range about {
		if !rows[row] {
			t.Errorf("%s has mutants and no row", row)
		}
	}
	named := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
				return filepath.SkipDir
			}
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range rowInName.FindAllStringSubmatch(string(text), -1) {
			named++
			if row := m[1][:2] + "-" + m[1][2:]; !rows[row] {
				t.Errorf("%s has a test of %s, which has no row", path, row)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if named < 50 {
		t.Errorf("only %d tests name a row", named)
	}
}

func TestParse(t *testing.T) {
	list, err := parse("# x\nmutant a\nrow PG-01 EV-02\ntest p TestX/PG-01 a b\nfile f\n-one\n-two\n+three\n-four\n")
	if err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	m := list[0]
	if !slices.Equal(m.edits, []edit{{"f", "one\ntwo", "three"}, {"f", "four", ""}}) || m.pattern() != "^TestX$/^PG-01_a_b" || len(m.rows) != 2 {
		t.Errorf("%+v, %s", m, m.pattern())
	}
	if text, err := m.edits[0].apply("zero\none\ntwo\n"); err != nil || text != "zero\nthree\n" {
		t.Errorf("%q %v", text, err)
	}
	for _, text := range []string{"four four", "none"} {
		if _, err := m.edits[1].apply(text); err == nil {
			t.Errorf("applied to %q", text)
		}
	}
	for _, bad := range []string{
		"row PG-01\n", "mutant a\n", "mutant a\nmutant a\n", "mutant A\n", "mutant a\n-x\n", "mutant a\nfile f\n+x\n", "mutant a\nrow x\n",
		"mutant a\nrow PG-01\ntest p\n", "mutant a\nword\n", "mutant a\nrow PG-01\ntest p TestX\nfile f\n-x\n+x\n",
	} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q was parsed", bad)
		}
	}
}

// TestMutantsApply: every mutant still finds the guard that it removes.
func TestMutantsApply(t *testing.T) {
	t.Parallel()
	all, err := tables(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if _, err := m.mutated(filepath.Join("..", "..")); err != nil {
			t.Errorf("mutant %s %v", m.name, err)
		}
	}
}
