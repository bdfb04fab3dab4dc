// Package labelled makes the set of texts by which value detectors are
// measured: texts that hold values, each with its kind and its place, and
// texts with what looks like values and is none. Nothing is stored: words,
// surroundings and check digits are made by this package from a fixed seed, so
// that every run measures the same texts. It shares no pattern and no check
// with the detectors, because a set that reads values with the detectors' eyes
// would find them faultless.
//
// What a careful person could not tell from the text alone is in neither part:
// bare nine digits behind a JSON key "ssn", four dotted numbers behind the word
// version, "::" between words of hexadecimal letters outside of code.
package labelled

import (
	"fmt"
	"math/rand/v2"
)

// A Sample is one text and the values in it.
type Sample struct {
	Text string
	// Want holds the values in the order of the text. It is empty in a text of
	// Negatives.
	Want []Span
	// Note says where the text comes from: the surroundings of a positive, the
	// lookalike of a negative.
	Note string
}

// A Span is one value: its kind and its bytes [Start, End) in the text.
type Span struct {
	Kind       string
	Start, End int
}

// Kinds names the kinds of values in the set, in the order of reports.
func Kinds() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

const (
	mixedTexts     = 400 // of several values, and as many of values next to lookalikes
	eachLookalike  = 140
	redrawsAllowed = 500
)

// Positives makes the texts that hold values. The result is the same at every
// call and belongs to the caller.
func Positives() []Sample {
	g := newGen(1)
	var list []Sample
	for i := range kinds {
		k := &kinds[i]
		frames := suitable(k)
		order := g.Perm(len(frames))
		for n := range k.count {
			list = append(list, g.sample(frames[order[n%len(order)]], []*kind{k}))
		}
	}
	for _, frames := range [][]frame{mixedFrames, decoyFrames} {
		for n := range mixedTexts {
			f := frames[n%len(frames)]
			list = append(list, g.sample(f, g.kindsFor(f)))
		}
	}
	return list
}

// Negatives makes the texts that look as if they held values and hold none.
// The result is the same at every call and belongs to the caller.
func Negatives() []Sample {
	g := newGen(2)
	list := make([]Sample, 0, len(lookalikes)*eachLookalike)
	for _, l := range lookalikes {
		for n := range eachLookalike {
			list = append(list, g.negative(l, n))
		}
	}
	return list
}

// sample fills a frame with values of the kinds ks, again and again until the
// text is new and holds no value besides.
func (g *gen) sample(f frame, ks []*kind) Sample {
	for range redrawsAllowed {
		s := g.fill(f, ks)
		if !g.seen[s.Text] && !holdsOthers(s) {
			g.seen[s.Text] = true
			return s
		}
	}
	panic(fmt.Sprintf("labelled: no new text of %s in %q", ks[0].name, f.text))
}

// holdsOthers reports whether a text holds a value apart from those it is
// meant to hold.
func holdsOthers(s Sample) bool {
	for _, v := range valuesIn(s.Text) {
		apart := true
		for _, w := range s.Want {
			apart = apart && (v.End <= w.Start || v.Start >= w.End)
		}
		if apart {
			return true
		}
	}
	return false
}

func (g *gen) negative(l lookalike, n int) Sample {
	frames := l.frames()
	for try := range redrawsAllowed {
		f := frames[(n+try*7)%len(frames)]
		stand := &kind{name: l.name, labels: l.labels, make: func(g *gen) value { return value{text: l.make(g)} }}
		text := g.fill(f, []*kind{stand}).Text
		if !g.seen[text] && len(valuesIn(text)) == 0 {
			g.seen[text] = true
			return Sample{Text: text, Note: l.name}
		}
	}
	panic("labelled: no new text of " + l.name)
}

// gen draws texts from one stream of random numbers.
type gen struct {
	*rand.Rand
	seen map[string]bool
}

func newGen(stream uint64) *gen {
	return &gen{Rand: rand.New(rand.NewPCG(20260501, stream)), seen: make(map[string]bool)}
}

func (g *gen) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g *gen) between(low, high int) int { return low + g.IntN(high-low+1) }

// in reports true once in n times.
func (g *gen) in(n int) bool { return g.IntN(n) == 0 }

func (g *gen) from(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[g.IntN(len(alphabet))]
	}
	return string(b)
}

const (
	digits   = "0123456789"
	upper    = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lower    = "abcdefghijklmnopqrstuvwxyz"
	alnum    = digits + upper + lower
	hexLower = "0123456789abcdef"
	base64   = alnum + "+/"
	urlSafe  = alnum + "-_"
)

func (g *gen) digits(n int) string { return g.from(digits, n) }

func (g *gen) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// date draws a day of a year in [low, high] that every month has.
func (g *gen) date(low, high int) (year, month, day int) {
	return g.between(low, high), g.between(1, 12), g.between(1, 28)
}
