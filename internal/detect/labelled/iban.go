package labelled

import (
	"strconv"
	"strings"
)

// An ibanCountry is a row of the registry: form has a letter for each character
// behind the check digits: n for a digit, a for a letter, c for either.
type ibanCountry struct{ code, form string }

var ibanCountries = parseCountries(`
AD 8n12c|AE 19n|AL 8n16c|AT 16n|AZ 4a20c|BA 16n|BE 12n|BG 4a6n8c|BH 4a14c|BI 23n|BR 23n1a1c|BY 4c4n16c|CH 5n12c|CR 18n|CY 8n16c
CZ 20n|DE 18n|DJ 23n|DK 14n|DO 4c20n|EE 16n|EG 25n|ES 20n|FI 14n|FK 2a12n|FO 14n|FR 10n11c2n|GB 4a14n|GE 2a16n|GI 4a15c|GL 14n
GR 7n16c|GT 4c20c|HN 4a20n|HR 17n|HU 24n|IE 4a14n|IL 19n|IQ 4a15n|IS 22n|IT 1a10n12c|JO 4a4n18c|KW 4a22c|KZ 3n13c|LB 4n20c
LC 4a24c|LI 5n12c|LT 16n|LU 3n13c|LV 4a13c|LY 21n|MC 10n11c2n|MD 20c|ME 18n|MK 3n10c2n|MN 16n|MR 23n|MT 4a5n18c|MU 4a19n3a
NI 4a20n|NL 4a10n|NO 11n|OM 3n16c|PK 4a16c|PL 24n|PS 4a21c|PT 21n|QA 4a21c|RO 4a16c|RS 18n|RU 14n15c|SA 2n18c|SC 4a20n3a|SD 14n
SE 20n|SI 15n|SK 20n|SM 1a10n12c|SO 19n|ST 21n|SV 4a20n|TL 19n|TN 20n|TR 6n16c|UA 6n19c|VA 18n|VG 4a16n|XK 16n|YE 4a4n18c`)

func parseCountries(text string) []ibanCountry {
	var list []ibanCountry
	for _, row := range strings.FieldsFunc(text, func(r rune) bool { return r == '|' || r == '\n' }) {
		code, spec, _ := strings.Cut(row, " ")
		var form strings.Builder
		for spec != "" {
			i := strings.IndexAny(spec, "nac")
			n, err := strconv.Atoi(spec[:i])
			if err != nil {
				panic(err)
			}
			form.WriteString(strings.Repeat(spec[i:i+1], n))
			spec = spec[i+1:]
		}
		list = append(list, ibanCountry{code, form.String()})
	}
	return list
}

// bban draws what stands behind the check digits.
func (g *gen) bban(form string) string {
	var b strings.Builder
	for _, f := range form {
		switch {
		case f == 'a', f == 'c' && g.in(5):
			b.WriteString(g.from(upper, 1))
		default:
			b.WriteString(g.digits(1))
		}
	}
	return b.String()
}

func (g *gen) plainIBAN() string {
	c := ibanCountries[g.IntN(len(ibanCountries))]
	bban := g.bban(c.form)
	return c.code + ibanDigits(c.code, bban) + bban
}

// grouped writes s in groups of the given sizes, the last of them repeated.
func grouped(s, sep string, sizes ...int) string {
	var parts []string
	for i := 0; s != ""; i++ {
		n := min(sizes[min(i, len(sizes)-1)], len(s))
		parts, s = append(parts, s[:n]), s[n:]
	}
	return strings.Join(parts, sep)
}
