package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatebook/gatebook/internal/detect/labelled"
)

// A scripted scanner finds in each text what is written down for it.
type scripted map[string][]labelled.Span

func (s scripted) Scan(text []byte) []labelled.Span { return s[string(text)] }

func TestMeasure(t *testing.T) {
	t.Parallel()
	samples := []labelled.Sample{
		{Text: "a@example.com 10.0.0.1", Want: []labelled.Span{{Kind: "email", Start: 0, End: 13}, {Kind: "ip", Start: 14, End: 22}}, Note: "both"},
		{Text: "b@example.com", Want: []labelled.Span{{Kind: "email", Start: 0, End: 13}}, Note: "cut short"},
		{Text: "10.0.0.2", Want: []labelled.Span{{Kind: "ip", Start: 0, End: 8}}, Note: "twice"},
		{Text: "icon@2x.png", Note: "picture"},
	}
	rows := measure(scripted{
		"a@example.com 10.0.0.1": {{Kind: "ip", Start: 14, End: 22}, {Kind: "phone", Start: 14, End: 22}, {Kind: "email", Start: 0, End: 13}},
		"b@example.com":          {{Kind: "email", Start: 0, End: 9}},
		"10.0.0.2":               {{Kind: "ip", Start: 0, End: 8}, {Kind: "ip", Start: 0, End: 8}},
		"icon@2x.png":            {{Kind: "email", Start: 0, End: 11}, {Kind: "novel", Start: 0, End: 99}},
	}, samples)
	text := table(rows, 3, 1)
	for _, want := range []string{
		"| `email` | 2 | 1 | 1 | 2 | 33.3 % | 50.0 % |\n",
		"| `ip` | 2 | 2 | 0 | 1 | 66.6 % | 100.0 % |\n",
		"| `phone` | 0 | 0 | 0 | 1 | 0.0 % | – |\n",
		"| `jwt` | 0 | 0 | 0 | 0 | – | – |\n",
		"| `novel` | 0 | 0 | 0 | 1 | 0.0 % | – |\n",
		"| all | 4 | 3 | 1 | 5 | 37.5 % | 75.0 % |\n",
		"\n3 texts with values and 1 texts with what looks like values and is none.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	want := `missed email [cut short] "⟦b@example.com⟧"
wrong  email [cut short] "⟦b@example⟧.com"
wrong  phone [both] "a@example.com ⟦10.0.0.1⟧"
wrong  ip [twice] "⟦10.0.0.2⟧"
wrong  novel [picture] "icon@2x.png": no such place: [0, 99)
`
	if diff := cmp.Diff(want, misses(rows, 1)); diff != "" {
		t.Error(diff)
	}
	if misses(rows, 0) != "" {
		t.Error("misses are told that were not asked for")
	}
}

func TestPercentIsRoundedDown(t *testing.T) {
	t.Parallel()
	if got := percent(9999, 10000); got != "99.9 %" {
		t.Errorf("9999 of 10000 is %s", got)
	}
}

// A scanner that reads the labels must have no fault, so that every fault in
// the table is the detectors' own.
func TestLabelsMeasureFaultless(t *testing.T) {
	t.Parallel()
	perfect := make(scripted)
	for _, s := range labelled.Positives() {
		perfect[s.Text] = s.Want
	}
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte("# Page\n"+opening+"old\n"+closing+"\nend\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(perfect, options{check: file}, &out); err == nil || !strings.Contains(err.Error(), "-write "+file) {
		t.Errorf("an old table passes: %v", err)
	}
	out.Reset()
	if err := run(perfect, options{write: file, check: file, misses: 5}, &out); err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(rows) != 2+len(labelled.Kinds())+1+2 {
		t.Errorf("there are misses:\n%s", &out)
	}
	for _, row := range rows[2 : len(rows)-2] {
		if !strings.HasSuffix(row, "| 0 | 0 | 100.0 % | 100.0 % |") {
			t.Error(row)
		}
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "# Page\n" + opening + out.String() + closing + "\nend\n"; string(doc) != want {
		t.Errorf("the page is %q", doc)
	}
}

func TestPagesWithoutMarkersAreRefused(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{"", opening, closing, closing + opening, opening + opening + closing} {
		file := filepath.Join(t.TempDir(), "page.md")
		if err := os.WriteFile(file, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := write(file, "x\n"); err == nil {
			t.Errorf("%q is written to", doc)
		}
		if err := check(file, ""); err == nil {
			t.Errorf("%q passes", doc)
		}
		if after, err := os.ReadFile(file); err != nil || string(after) != doc {
			t.Errorf("%q became %q, %v", doc, after, err)
		}
	}
}

// TestPublished: the table that docs/masking.md has is the one that is measured.
func TestPublished(t *testing.T) {
	s, err := newScanner()
	if err == nil {
		err = run(s, options{check: "../../docs/masking.md"}, io.Discard)
	}
	if err != nil {
		t.Error(err)
	}
}
