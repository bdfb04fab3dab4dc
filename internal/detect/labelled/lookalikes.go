package labelled

import (
	"slices"
	"strings"
)

// A lookalike draws what resembles a value and is none. Its own texts, if any,
// take the place of the frames of the positives.
type lookalike struct {
	name   string
	labels []string
	make   func(*gen) string
	own    []string
}

func (l lookalike) frames() []frame {
	if l.own != nil {
		return framesOf(l.name, l.own...)
	}
	return plainFrames
}

// plainFrames hold lookalikes in the same surroundings as values, so that no
// detector can tell them apart by the company they keep.
var plainFrames = slices.Concat(proseFrames, logFrames, dataFrames, otherFrames)

var (
	orderLabels = []string{"order", "reference", "ticket", "shipment", "Beleg", "commande", "part", "serial"}
	codeLabels  = []string{"build", "digest", "rev", "object", "etag", "trace"}
)

var lookalikes = slices.Concat(numberLookalikes, idLookalikes, netLookalikes, secretLookalikes, textLookalikes)

// changed replaces the character at i by another of the alphabet.
func (g *gen) changed(s string, i int, alphabet string) string {
	for {
		if c := alphabet[g.IntN(len(alphabet))]; c != s[i] {
			return s[:i] + string(c) + s[i+1:]
		}
	}
}

// wrongEnd changes the last character, the control character of most numbers.
func (g *gen) wrongEnd(s, alphabet string) string { return g.changed(s, len(s)-1, alphabet) }

func (g *gen) number(list ...int) int { return list[g.IntN(len(list))] }

var numberLookalikes = []lookalike{
	{"card, wrong check digit", []string{"card", "pan", "order", "reference"}, func(g *gen) string { return g.groupCard(g.wrongEnd(g.plainCard(), digits)) }, nil},
	{"card, two digits swapped", []string{"card", "reference"}, func(g *gen) string {
		s := g.plainCard()
		for i := len(s) - 4; i > 6; i-- {
			if d := int(s[i]) - int(s[i+1]); d != 0 && d != 9 && d != -9 {
				return g.groupCard(s[:i] + s[i+1:i+2] + s[i:i+1] + s[i+2:])
			}
		}
		return s
	}, nil},
	{"Luhn, no card issuer", orderLabels, func(g *gen) string {
		return g.groupCard(withLuhn(g.pick("0", "1", "7", "9", "83") + g.digits(g.between(12, 15))))
	}, nil},
	{"Luhn, no card's length", orderLabels, func(g *gen) string {
		prefix, n := "4", g.number(12, 14, 15, 17, 18)
		if g.in(2) {
			prefix, n = g.pick("51", "55", "37", "2400"), g.number(13, 17)
		}
		return withLuhn(prefix + g.digits(n-1-len(prefix)))
	}, nil},
	{"card inside of a word", orderLabels, func(g *gen) string {
		return g.pick(g.from(lower, 1)+g.plainCard()+g.from(lower, 1), g.from(upper, 2)+g.plainCard(), g.plainCard()+g.from(upper, 1), g.digits(6)+g.plainCard())
	}, nil},
	{"device number", orderLabels, func(g *gen) string { return withLuhn(g.pick("35", "86", "01") + g.digits(12)) }, nil},
	{"SIM number", orderLabels, func(g *gen) string { return withLuhn("89" + g.digits(16)) }, nil},
	{"digits of any length", orderLabels, func(g *gen) string { return g.digits(g.between(4, 32)) }, nil},
	{"IBAN, wrong check digits", []string{"IBAN", "account", "reference"}, func(g *gen) string {
		s := g.plainIBAN()
		return g.groupIBAN(g.changed(s, g.between(2, 3), digits))
	}, nil},
	{"IBAN, one digit changed", []string{"IBAN", "Konto"}, func(g *gen) string {
		s := g.plainIBAN()
		i := strings.LastIndexAny(s, digits)
		return g.groupIBAN(g.changed(s, i, digits))
	}, nil},
	{"IBAN, wrong length", []string{"IBAN", "reference"}, func(g *gen) string {
		c := ibanCountries[g.IntN(len(ibanCountries))]
		bban := g.bban(c.form + g.pick("n", "nn", "nnn"))
		if g.in(2) {
			bban = bban[:len(c.form)-g.between(1, 3)]
		}
		return g.groupIBAN(c.code + ibanDigits(c.code, bban) + bban)
	}, nil},
	{"IBAN, no such country", []string{"IBAN", "reference"}, func(g *gen) string {
		country, bban := g.pick("ZZ", "US", "CA", "QQ", "JP", "AU", "IN", "XX"), g.digits(g.between(11, 24))
		return g.groupIBAN(country + ibanDigits(country, bban) + bban)
	}, nil},
	{"IBAN inside of a word", orderLabels, func(g *gen) string { return g.pick(g.plainIBAN()+g.digits(5), g.from(lower, 2)+g.plainIBAN()) }, nil},
	{"SSN, never given out", []string{"SSN", "ssn", "part"}, func(g *gen) string {
		area, group, serial := g.ssnParts()
		switch g.IntN(4) {
		case 0:
			group = "00"
		case 1:
			serial = "0000"
		case 2:
			area = g.pick("000", "666")
		default:
			area = "9" + area[1:]
		}
		return area + "-" + group + "-" + serial
	}, nil},
	{"like an SSN, other groups", orderLabels, func(g *gen) string {
		return g.pick(g.digits(3)+"-"+g.digits(3)+"-"+g.digits(3), g.digits(3)+"-"+g.digits(2)+"-"+g.digits(5), g.digits(4)+"-"+g.digits(2)+"-"+g.digits(4), g.digits(5)+"-"+g.digits(4), g.digits(2)+"-"+g.digits(7))
	}, nil},
	{"nine digits without a word", orderLabels, func(g *gen) string { a, b, c := g.ssnParts(); return a + b + c }, nil},
	{"DNI, wrong letter", []string{"DNI", "referencia"}, func(g *gen) string { s := g.digits(8); return g.wrongEnd(s+dniLetter(s), dniLetters) }, nil},
	{"DNI, wrong length", []string{"DNI", "lote"}, func(g *gen) string {
		s := g.digits(g.number(5, 6, 9, 10))
		return s + dniLetter(s)
	}, nil},
	{"NIE, wrong letter", []string{"NIE", "referencia"}, func(g *gen) string {
		s := g.pick("X", "Y", "Z") + g.digits(7)
		return g.wrongEnd(s+dniLetter(s), dniLetters)
	}, nil},
	{"NIR, wrong key", []string{"NIR", "dossier"}, func(g *gen) string { s := g.nir(); return g.wrongEnd(s, digits) }, nil},
	{"codice fiscale, wrong letter", []string{"CF", "codice"}, func(g *gen) string { return g.wrongEnd(strings.ToUpper(g.cf()), upper) }, nil},
	{"codice fiscale, no such month", []string{"CF", "codice"}, func(g *gen) string {
		s := g.changed(strings.ToUpper(g.cf())[:15], 8, "FGIJKNOQUVWXYZ")
		return s + cfLetter(s)
	}, nil},
	{"PESEL, wrong check digit", []string{"PESEL", "numer"}, func(g *gen) string { return g.wrongEnd(g.pesel(), digits) }, nil},
	{"PESEL, no such day", []string{"PESEL", "numer"}, func(g *gen) string {
		s := g.digits(2) + g.pick("00", "13", "19", "20", "33", "53") + g.pick("00", "32", "45", "99") + g.digits(4)
		return s + peselDigit(s)
	}, nil},
	{"CPF, wrong check digit", []string{"CPF", "pedido"}, func(g *gen) string {
		s := g.digits(9)
		return s[:3] + "." + s[3:6] + "." + s[6:] + "-" + g.wrongEnd(cpfDigits(s), digits)
	}, nil},
	{"CPF's digits without a word", orderLabels, func(g *gen) string { s := g.digits(9); return s + cpfDigits(s) }, nil},
	{"CPF of one digit", []string{"CPF", "exemplo"}, func(g *gen) string { return strings.ReplaceAll("###.###.###-##", "#", g.digits(1)) }, nil},
	{"personnummer, wrong check digit", []string{"personnummer", "ärende"}, func(g *gen) string { return g.wrongEnd(g.personnummer(), digits) }, nil},
	{"personnummer, no such day", []string{"personnummer", "ärende"}, func(g *gen) string {
		s := withLuhn(g.digits(2) + g.pick("00", "13", "27", "45") + g.pick("00", "10", "31", "32") + g.digits(3))
		return s[:6] + "-" + s[6:]
	}, nil},
}

func (g *gen) groupIBAN(s string) string {
	if g.in(2) {
		return grouped(s, " ", 4)
	}
	return s
}
