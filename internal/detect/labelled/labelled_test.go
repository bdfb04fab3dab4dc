package labelled

import (
	"slices"
	"sync"
	"testing"
	"unicode/utf8"
)

// The tests read the same texts; only the last one makes them again.
var (
	positives = sync.OnceValue(Positives)
	negatives = sync.OnceValue(Negatives)
)

func TestSizes(t *testing.T) {
	t.Parallel()
	positives, negatives := positives(), negatives()
	count := make(map[string]int)
	total := 0
	for _, s := range positives {
		total += len(s.Want)
		for _, w := range s.Want {
			count[w.Kind]++
		}
	}
	t.Logf("%d values in %d texts, %d negatives", total, len(positives), len(negatives))
	if total < 3500 || len(negatives) < 10000 {
		t.Errorf("%d values and %d negatives are too few", total, len(negatives))
	}
	checked := []string{"email", "card", "iban", "es-dni", "fr-nir", "it-cf", "pl-pesel", "br-cpf", "se-pin"}
	for _, kind := range Kinds() {
		least := 100
		if slices.Contains(checked, kind) {
			least = 200
		}
		t.Logf("%-14s %d", kind, count[kind])
		if count[kind] < least {
			t.Errorf("%d values of %s, want %d", count[kind], kind, least)
		}
	}
	if len(count) != len(Kinds()) {
		t.Errorf("values of %d kinds, %d are named", len(count), len(Kinds()))
	}
}

func TestPositivesHoldTheirValuesAndNoOthers(t *testing.T) {
	t.Parallel()
	for _, s := range positives() {
		found := valuesIn(s.Text)
		end := 0
		for _, w := range s.Want {
			if w.Start < end || w.End <= w.Start || w.End > len(s.Text) {
				t.Fatalf("%q: %v is out of place", s.Text, w)
			}
			end = w.End
			if !slices.Contains(found, w) {
				t.Errorf("%q (%s): %q is no %s", s.Text, s.Note, s.Text[w.Start:w.End], w.Kind)
			}
		}
		if len(s.Want) == 0 || s.Note == "" || !utf8.ValidString(s.Text) || holdsOthers(s) {
			t.Errorf("%q (%s): %v of %v", s.Text, s.Note, s.Want, found)
		}
	}
}

func TestNegativesHoldNone(t *testing.T) {
	t.Parallel()
	notes := make(map[string]int)
	for _, s := range negatives() {
		notes[s.Note]++
		if found := valuesIn(s.Text); len(found) > 0 || len(s.Want) > 0 || s.Note == "" {
			t.Errorf("%q (%s) holds %v", s.Text, s.Note, found)
		}
	}
	if len(notes) != len(lookalikes) {
		t.Errorf("%d lookalikes of %d: a name is used twice", len(notes), len(lookalikes))
	}
}

func TestNoTextTwiceAndTheSameAgain(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	all := slices.Concat(positives(), negatives())
	for _, s := range all {
		if seen[s.Text] {
			t.Errorf("%q is there twice", s.Text)
		}
		seen[s.Text] = true
	}
	for i, s := range slices.Concat(Positives(), Negatives()) {
		if s.Text != all[i].Text || !slices.Equal(s.Want, all[i].Want) {
			t.Fatalf("text %d differs at the second call: %q, %q", i, s.Text, all[i].Text)
		}
	}
}
