package labelled

import (
	"slices"
	"strings"
	"testing"
)

func TestSet(t *testing.T) {
	positives, negatives := Positives(), Negatives()
	counts := map[string]int{}
	texts := map[string]bool{}
	for _, s := range positives {
		if len(s.Want) == 0 || texts[s.Text] {
			t.Errorf("%q: without a value, or twice", s.Text)
		}
		texts[s.Text] = true
		end := 0
		for _, w := range s.Want {
			if w.Start < end || w.End <= w.Start || w.End > len(s.Text) {
				t.Fatalf("%q: %+v", s.Text, w)
			}
			end = w.End
			counts[w.Kind]++
			if !valid(w.Kind, s.Text[w.Start:w.End]) {
				t.Errorf("%s %q is not valid", w.Kind, s.Text[w.Start:w.End])
			}
		}
	}
	for _, k := range kinds {
		if counts[k.name] < 95 {
			t.Errorf("%s: %d values", k.name, counts[k.name])
		}
	}
	for _, s := range negatives {
		if len(s.Want) > 0 || texts[s.Text] {
			t.Errorf("%q: with a value, or twice", s.Text)
		}
		texts[s.Text] = true
	}
	t.Logf("%d positives with %v, %d negatives", len(positives), counts, len(negatives))
	if len(positives) < 3000 || len(negatives) < 10_000 {
		t.Errorf("%d positives, %d negatives", len(positives), len(negatives))
	}
	if !slices.EqualFunc(positives, Positives(), func(a, b Sample) bool { return a.Text == b.Text }) {
		t.Error("it is not the same set each time")
	}
}

// valid checks what can be checked of a value a second time.
func valid(kind, v string) bool {
	plain := strings.ToUpper(strings.NewReplacer(" ", "", "-", "", ".", "").Replace(v))
	switch kind {
	case "card":
		return checkLuhn(plain[:len(plain)-1]) == plain[len(plain)-1:]
	case "iban":
		return rest97(plain[4:]+plain[:4]) == 1
	case "pl-pesel":
		return checkPESEL(plain) == plain[10:]
	case "us-ssn":
		return len(plain) == 9
	case "se-pin":
		n := strings.NewReplacer("+", "").Replace(plain)
		n = n[len(n)-10:]
		return checkLuhn(n[:9]) == n[9:]
	}
	return v != ""
}

// TestPublishedNumbers: values that others publish as examples are valid by the check digits here.
func TestPublishedNumbers(t *testing.T) {
	for kind, v := range map[string]string{
		"card": "4111111111111111", "iban": "GB82 WEST 1234 5698 7654 32", "pl-pesel": "44051401359", "se-pin": "811218-9876",
	} {
		if !valid(kind, v) {
			t.Errorf("%s %s", kind, v)
		}
	}
	if valid("card", "4111111111111112") || valid("iban", "GB82 WEST 1234 5698 7654 33") || valid("pl-pesel", "44051401358") {
		t.Error("a wrong check digit passes")
	}
}
