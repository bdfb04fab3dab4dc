package labelled

import (
	"fmt"
	"regexp"
	"strings"
)

// A frame is a text with slots: ~v a value, ~l what people call the next value,
// ~w a word, ~n a number, ~d a day, ~t a time, ~p a person, ~x a
// lookalike.
type frame struct{ note, text string }

func framesOf(note string, texts ...string) []frame {
	list := make([]frame, len(texts))
	for i, t := range texts {
		list[i] = frame{note, t}
	}
	return list
}

// fill draws a text of a frame: its n-th value is of kind ks[n].
func (g *gen) fill(f frame, ks []*kind) Sample {
	var b strings.Builder
	s := Sample{Note: f.note}
	rest := f.text
	for {
		before, after, found := strings.Cut(rest, "~")
		b.WriteString(before)
		if !found {
			s.Text = b.String()
			return s
		}
		slot := after[0]
		rest = after[1:]
		next := ks[min(len(s.Want), len(ks)-1)]
		if slot != 'v' {
			b.WriteString(g.filler(slot, next))
			continue
		}
		v := next.make(g)
		b.WriteString(v.before)
		s.Want = append(s.Want, Span{next.name, b.Len(), b.Len() + len(v.text)})
		b.WriteString(v.text + v.after)
	}
}

func (g *gen) filler(slot byte, next *kind) string {
	switch slot {
	case 'l':
		return g.pick(next.labels...)
	case 'w':
		return g.pick(words...)
	case 'n':
		return fmt.Sprint(g.between(2, 9999))
	case 'd':
		y, m, d := g.date(2019, 2026)
		return fmt.Sprintf("%d-%02d-%02d", y, m, d)
	case 't':
		return fmt.Sprintf("%02d:%02d:%02d", g.IntN(24), g.IntN(60), g.IntN(60))
	case 'x':
		for {
			if l := lookalikes[g.IntN(len(lookalikes))]; l.own == nil {
				return l.make(g)
			}
		}
	case 'p':
		return g.pick(firstNames...) + " " + g.pick(lastNames...)
	}
	panic("labelled: no slot ~" + string(slot))
}

// A bare query cannot hold what would be written with percent signs there.
var (
	inQuery = regexp.MustCompile(`[?&]\w+=~v`)
	byColon = regexp.MustCompile(`:~v|~v:`)
)

// suits reports whether a person would write a value of the kind there, and
// whether it is beyond doubt where it begins and ends.
func suits(k *kind, f frame) bool {
	switch k.name {
	case "private-key":
		return f.note == "key file"
	case "ip":
		return f.note != "key file" && !byColon.MatchString(f.text) && !inQuery.MatchString(f.text) && !strings.Contains(f.text, ".~v")
	case "email": // a plus in a query is a space
		return f.note != "key file" && !inQuery.MatchString(f.text) && !strings.Contains(f.text, ".~v")
	case "phone", "card", "iban", "us-ssn", "fr-nir", "url-password", "se-pin", "br-cpf":
		return f.note != "key file" && !inQuery.MatchString(f.text)
	}
	return f.note != "key file"
}

func suitable(k *kind) []frame {
	var list []frame
	for _, f := range singleFrames {
		if suits(k, f) {
			list = append(list, f)
		}
	}
	return list
}

// kindsFor draws a kind for each value of a frame of several.
func (g *gen) kindsFor(f frame) []*kind {
	list := make([]*kind, strings.Count(f.text, "~v"))
	for i := range list {
		for list[i] == nil || !suits(list[i], f) {
			list[i] = &kinds[g.IntN(len(kinds))]
		}
	}
	return list
}
