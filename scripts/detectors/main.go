// Command detectors measures the detectors by the labelled set: precision and
// recall of each kind, as a table that docs/masking.md publishes.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/gatebook/gatebook/internal/detect"
	"github.com/gatebook/gatebook/internal/detect/labelled"
)

const begin, end = "<!-- detectors -->\n", "<!-- /detectors -->\n"

func main() {
	misses := flag.Int("misses", 0, "show so many misses and false hits of each kind")
	check := flag.String("check", "", "compare the table in this file, and fail if it differs")
	write := flag.String("write", "", "write the table into this file")
	flag.Parse()
	if err := run(*misses, *check, *write); err != nil {
		fmt.Fprintln(os.Stderr, "detectors:", err)
		os.Exit(1)
	}
}

// score is what was found of a kind.
type score struct{ all, found, wrong int }

func run(misses int, check, write string) error {
	set, err := detect.New(detect.Options{})
	if err != nil {
		return err
	}
	table := measure(set, misses)
	file := check + write
	if file == "" {
		fmt.Print(table)
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no place for the table between %q and %q", file, begin, end)
	}
	made := head + begin + table + end + tail
	if check != "" {
		if made != string(text) {
			return fmt.Errorf("the table in %s is not what is measured: go run ./scripts/detectors -write %s", file, file)
		}
		return nil
	}
	return os.WriteFile(file, []byte(made), 0o644) //nolint:gosec // a document
}

// measure scans all samples. A hit counts if kind and both ends are those of a value.
func measure(set *detect.Set, misses int) string {
	scores := map[string]*score{}
	for _, k := range detect.Kinds() {
		scores[k.Name] = &score{}
	}
	shown := map[string]int{}
	show := func(what, kind, value, text string) {
		if key := what + kind; shown[key] < misses {
			shown[key]++
			fmt.Printf("%s %s %q in %q\n", what, kind, value, text)
		}
	}
	positives, negatives := labelled.Positives(), labelled.Negatives()
	for _, s := range slices.Concat(positives, negatives) {
		var hits []labelled.Span
		for _, h := range set.Scan(nil, []byte(s.Text)) {
			hits = append(hits, labelled.Span{Kind: h.Kind, Start: h.Start, End: h.End})
		}
		for _, w := range s.Want {
			scores[w.Kind].all++
			if slices.Contains(hits, w) {
				scores[w.Kind].found++
			} else {
				show("missed", w.Kind, s.Text[w.Start:w.End], s.Text)
			}
		}
		for _, h := range hits {
			if !slices.Contains(s.Want, h) {
				scores[h.Kind].wrong++
				show("wrong", h.Kind, s.Text[h.Start:h.End], s.Text)
			}
		}
	}
	out := fmt.Sprintf("%d texts with values, %d without:\n\n| Kind | What | How | Values | Found | Wrong | Precision | Recall |\n|---|---|---|---|---|---|---|---|\n", len(positives), len(negatives))
	for _, k := range detect.Kinds() {
		s := scores[k.Name]
		out += fmt.Sprintf("| `%s` | %s | %s | %d | %d | %d | %.3f | %.3f |\n", k.Name, k.What, k.Method, s.all, s.found, s.wrong, float64(s.found)/float64(max(1, s.found+s.wrong)), float64(s.found)/float64(max(1, s.all)))
	}
	return out
}
