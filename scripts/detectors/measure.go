package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatebook/gatebook/internal/detect/labelled"
)

// A finding is a value that was missed, or a hit that is wrong.
type finding struct {
	span   labelled.Span
	sample labelled.Sample
}

// A tally is the row of one kind.
type tally struct {
	kind             string
	positives, found int
	missed, wrong    []finding
}

// measure scans all samples. A hit is right when kind and both ends are those
// of a value; each value is found once. Every other hit is wrong for its own
// kind, also where it touches a value of another kind.
func measure(s Scanner, samples []labelled.Sample) []*tally {
	var rows []*tally
	byKind := make(map[string]*tally)
	row := func(kind string) *tally {
		if byKind[kind] == nil {
			byKind[kind] = &tally{kind: kind}
			rows = append(rows, byKind[kind])
		}
		return byKind[kind]
	}
	for _, kind := range labelled.Kinds() {
		row(kind)
	}
	for _, sample := range samples {
		left := slices.Clone(sample.Want)
		for _, hit := range s.Scan([]byte(sample.Text)) {
			r := row(hit.Kind)
			if i := slices.Index(left, hit); i >= 0 {
				left = slices.Delete(left, i, i+1)
				r.found++
				continue
			}
			r.wrong = append(r.wrong, finding{hit, sample})
		}
		for _, w := range sample.Want {
			row(w.Kind).positives++
		}
		for _, w := range left {
			r := row(w.Kind)
			r.missed = append(r.missed, finding{w, sample})
		}
	}
	return rows
}

// percent is part of whole, rounded down: 100.0 % says that nothing is amiss.
func percent(part, whole int) string {
	if whole == 0 {
		return "–"
	}
	tenths := part * 1000 / whole
	return fmt.Sprintf("%d.%d %%", tenths/10, tenths%10)
}

// table writes the rows as Markdown, with a row of sums, and what was scanned.
func table(rows []*tally, positives, negatives int) string {
	var b strings.Builder
	b.WriteString("| kind | positives | found | missed | wrong | precision | recall |\n|---|--:|--:|--:|--:|--:|--:|\n")
	line := func(name string, positives, found, missed, wrong int) {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %s | %s |\n", name, positives, found, missed, wrong, percent(found, found+wrong), percent(found, positives))
	}
	var sum tally
	for _, r := range rows {
		line("`"+r.kind+"`", r.positives, r.found, len(r.missed), len(r.wrong))
		sum.positives += r.positives
		sum.found += r.found
		sum.missed = append(sum.missed, r.missed...)
		sum.wrong = append(sum.wrong, r.wrong...)
	}
	line("all", sum.positives, sum.found, len(sum.missed), len(sum.wrong))
	fmt.Fprintf(&b, "\n%d texts with values and %d texts with what looks like values and is none.\n", positives, negatives)
	return b.String()
}

// misses tells the first n missed values and wrong hits of each kind.
func misses(rows []*tally, n int) string {
	var b strings.Builder
	tell := func(what, kind string, list []finding) {
		for _, f := range list[:min(n, len(list))] {
			fmt.Fprintf(&b, "%s %s [%s] %s\n", what, kind, f.sample.Note, marked(f))
		}
	}
	for _, r := range rows {
		tell("missed", r.kind, r.missed)
		tell("wrong ", r.kind, r.wrong)
	}
	return b.String()
}

// marked quotes the text of a finding with ⟦ and ⟧ around its span.
func marked(f finding) string {
	text, start, end := f.sample.Text, f.span.Start, f.span.End
	if start < 0 || end < start || end > len(text) {
		return fmt.Sprintf("%q: no such place: [%d, %d)", text, start, end)
	}
	return fmt.Sprintf("%q", text[:start]+"⟦"+text[start:end]+"⟧"+text[end:])
}
