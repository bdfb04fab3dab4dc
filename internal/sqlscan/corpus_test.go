package sqlscan

import (
	"embed"
	"fmt"
	"strings"
	"testing"

	pgquery "github.com/sqlc-dev/oliphant"

	"github.com/gatebook/gatebook/internal/access"
)

//go:embed testdata/corpus.txt
var corpusFile embed.FS

// broken is the trick whose texts do not parse.
const broken = "text-that-does-not-parse"

type corpusCase struct {
	line          int
	trick, text   string
	reader, write bool
}

var corpusEscapes = strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\f`, "\f")

func corpus(tb testing.TB) []corpusCase {
	tb.Helper()
	text, err := corpusFile.ReadFile("testdata/corpus.txt")
	if err != nil {
		tb.Fatal(err)
	}
	var cases []corpusCase
	trick, number := "", 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "# trick: "); ok {
			trick = name
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		who, text, ok := strings.Cut(line, " | ")
		if !ok || who != "RW" && who != "-W" && who != "--" {
			tb.Fatalf("line %d of the corpus is none: %s", number, line)
		}
		cases = append(cases, corpusCase{
			line: number, trick: trick, text: corpusEscapes.Replace(text), reader: who == "RW", write: who != "--",
		})
	}
	return cases
}

const readerMay = access.EffectRead | access.EffectTransaction | access.EffectSession

// may reports whether everything a text does is among some effects, and whether what it writes is filtered.
func may(s *Scan, effects access.Effects) bool {
	if s.Opaque != "" {
		return false
	}
	for i := range s.Statements {
		st := &s.Statements[i]
		if st.Opaque != "" || st.Effects&^effects != 0 || st.Effects.Has(access.EffectWrite) && !st.HasFilter {
			return false
		}
	}
	return true
}

// TestCorpus holds the analyser against what an operator expects of a reader and of a writer.
func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, c := range corpus(t) {
		s := Analyse(c.text)
		if got := may(s, readerMay); got != c.reader {
			t.Errorf("line %d, %s: the reader may: %v, want %v\n%s%s", c.line, c.trick, got, c.reader, c.text, describe(s))
		}
		if got := may(s, readerMay|access.EffectWrite); got != c.write {
			t.Errorf("line %d, %s: the writer may: %v, want %v\n%s%s", c.line, c.trick, got, c.write, c.text, describe(s))
		}
		if (s.Opaque != "") != (c.trick == broken) {
			t.Errorf("line %d, %s: the text is opaque: %q\n%s", c.line, c.trick, s.Opaque, c.text)
		}
	}
}

func describe(s *Scan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n  opaque: %q", s.Opaque)
	for _, st := range s.Statements {
		fmt.Fprintf(&b, "\n  %s: %s, filter %v, opaque %q, objects %v", st.Verb, st.Effects, st.HasFilter, st.Opaque, st.Objects)
	}
	return b.String()
}

// TestCorpusSize keeps the corpus broad: many tricks, each in ways that differ by more than their constants.
func TestCorpusSize(t *testing.T) {
	t.Parallel()
	texts, tricks := map[string]bool{}, map[string]map[string]bool{}
	for _, c := range corpus(t) {
		if texts[c.text] {
			t.Errorf("line %d is there twice: %s", c.line, c.text)
		}
		texts[c.text] = true
		if tricks[c.trick] == nil {
			tricks[c.trick] = map[string]bool{}
		}
		print := c.text
		if c.trick != broken {
			p, err := pgquery.Fingerprint(c.text)
			if err != nil {
				t.Errorf("line %d does not parse: %v\n%s", c.line, err, c.text)
				continue
			}
			print = p
		}
		tricks[c.trick][print] = true
	}
	if len(texts) < 450 || len(tricks) < 22 {
		t.Errorf("%d statements in %d tricks", len(texts), len(tricks))
	}
	for trick, prints := range tricks {
		if len(prints) < 10 {
			t.Errorf("%s: %d fingerprints", trick, len(prints))
		}
	}
}
