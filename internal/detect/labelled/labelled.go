// Package labelled makes a set of texts in which it is known where values of each
// kind stand, and of texts that look alike and hold none, to measure detectors by.
//
// It is made by code from a fixed seed, so that everybody gets the same set. It
// shares nothing with the detectors: check digits are worked out here a second
// time, and the kinds are known by their names alone.
package labelled

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Span is a value of a kind in a text: the bytes [Start, End).
type Span struct {
	Kind       string
	Start, End int
}

// Sample is a text with all values that stand in it.
type Sample struct {
	Text string
	Want []Span
	// Note says what it is.
	Note string
}

// maker makes values and texts. The same seed makes the same.
type maker struct{ *rand.Rand }

func newMaker(stream uint64) *maker { return &maker{rand.New(rand.NewPCG(20260, stream))} } //nolint:gosec // repeatable on purpose

func (m *maker) one(of ...string) string { return of[m.IntN(len(of))] }

func (m *maker) digits(n int) string { return m.of("0123456789", n) }

func (m *maker) of(alphabet string, n int) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = alphabet[m.IntN(len(alphabet))]
	}
	return string(out)
}

const (
	lowers = "abcdefghijklmnopqrstuvwxyz"
	uppers = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	alnum  = lowers + uppers + "0123456789"
	urlset = alnum + "-_"
)

// between returns a number of [low, high].
func (m *maker) between(low, high int) int { return low + m.IntN(high-low+1) }

var firsts = []string{"anna", "jonas", "maria", "peter", "li", "fatima", "ivan", "chloe", "dmitri", "sofia", "kwame", "ingrid", "pablo", "yuki", "noor", "tom"}

var lasts = []string{"keller", "santos", "okafor", "lindqvist", "moreau", "rossi", "nowak", "tanaka", "weber", "garcia", "olsen", "haddad", "kim", "patel", "byrne", "novak"}

var words = []string{"amber", "river", "north", "cloud", "field", "stone", "bright", "harbor", "maple", "quiet", "silver", "orbit", "cedar", "delta", "ember", "lumen"}

// surroundings are texts with a place for one value. What stands right before and behind it is no letter or digit.
var surroundings = []string{
	"%s", "%s\n", "\n%s", " %s ", "\t%s\t", "(%s)", "[%s]", "<%s>", "\"%s\"", "'%s'", "`%s`", "%s.", "%s,", "%s;", "%s!", "%s?", "*%s*", "|%s|", "«%s»", "„%s“",
	"Please forward this to %s before noon.", "The value we have on file is %s, is that still right?", "He wrote %s on the back of the receipt.",
	"Bitte prüfen Sie %s noch heute.", "Die Angabe lautet %s; sie wurde geändert.", "Merci de vérifier %s avant demain.", "Le dossier contient %s (voir annexe).",
	"Por favor, confirme %s cuanto antes.", "Il valore è %s, come ieri.", "Proszę sprawdzić %s jeszcze dziś.", "Prosím, ověřte %s.", "Пожалуйста, проверьте %s сегодня.",
	"请检查%s，谢谢。", "値は%sです。", "확인: %s 감사합니다", "تحقق من %s الآن", "Ελέγξτε το %s σήμερα.",
	"level=info msg=\"lookup done\" value=%s took=12ms", "level=warn subject=%s reason=stale", "[worker] could not resolve %s: not found", "INFO  handler - got '%s' from upstream",
	"at com.shop.Check.run(Check.java): bad value %s", "ValueError: could not parse %s", "panic: unexpected %s",
	"a,b,%s,c", "12,%s,open", "name;%s;done", "%s,first,second", "first,second,%s", "\"x\",\"%s\",\"y\"",
	`{"value":"%s"}`, `{"a":1,"value":"%s","b":true}`, `{"list":["%s","other"]}`, `{"text":"first line\n%s\nlast line"}`, `{ "nested": { "deep": [ { "v": "%s" } ] } }`,
	"value=%s", "key: %s", "VALUE=%s other=1", "?q=%s&page=two", "<td>%s</td>", "<p>see <b>%s</b> there</p>", "<input value=\"%s\">", "<!-- %s -->",
	"INSERT INTO notes (body) VALUES ('%s');", "SELECT * FROM people WHERE ref = '%s' LIMIT ten", "UPDATE t SET note = 'see %s' WHERE true", "-- %s\nSELECT now()",
	"> %s wrote:", "<anna> did you get %s ?", "hey, it's %s :)", "lol %s ... sure", "- %s\n- next", "1) %s", "# %s", "/* %s */", "Subject: %s", "X-Ref: %s\r\n",
}

// put makes a sample of a value in a text with one place.
func put(text, kind, value, note string) Sample {
	before, behind, _ := strings.Cut(text, "%s")
	return Sample{Text: before + value + behind, Want: []Span{{kind, len(before), len(before) + len(value)}}, Note: note}
}

// kinds are what is made of each, and how many.
var kinds = []struct {
	name string
	n    int
	make func(*maker) string
}{
	{"email", 300, (*maker).email}, {"card", 300, (*maker).card}, {"iban", 300, (*maker).iban}, {"us-ssn", 150, (*maker).ssn}, {"phone", 250, (*maker).phone}, {"ip", 200, (*maker).ip},
	{"es-dni", 200, (*maker).dni}, {"fr-nir", 200, (*maker).nir}, {"it-cf", 200, (*maker).cf}, {"pl-pesel", 200, (*maker).pesel}, {"br-cpf", 200, (*maker).cpf}, {"se-pin", 200, (*maker).pin},
	{"aws-key", 100, func(m *maker) string { return m.one("AKIA", "ASIA") + m.of(uppers+"234567", 16) }},
	{"github-token", 100, func(m *maker) string {
		if m.IntN(4) == 0 {
			return "github_pat_" + m.of(alnum, 22) + "_" + m.of(alnum, 59)
		}
		return m.one("ghp_", "gho_", "ghu_", "ghs_", "ghr_") + m.of(alnum, 36)
	}},
	{"gitlab-token", 100, func(m *maker) string { return "glpat-" + m.of(alnum, 1) + m.of(urlset, 18) + m.of(alnum, 1) }},
	{"slack-token", 100, func(m *maker) string {
		if m.IntN(4) == 0 {
			return "xapp-1-A" + m.of(uppers+"0123456789", 10) + "-" + m.digits(13) + "-" + m.of("0123456789abcdef", 64)
		}
		return m.one("xoxb-", "xoxp-", "xoxa-", "xoxr-") + m.digits(12) + "-" + m.digits(12) + "-" + m.of(alnum, 24)
	}},
	{"stripe-key", 100, func(m *maker) string {
		if m.IntN(4) == 0 {
			return "whsec_" + m.of(alnum, 32)
		}
		return m.one("sk_live_", "rk_live_", "sk_test_") + m.of(alnum, m.between(24, 99))
	}},
	{"google-key", 100, func(m *maker) string { return "AIza" + m.of(urlset, 34) + m.of(alnum, 1) }},
	{"openai-key", 100, func(m *maker) string {
		if m.IntN(2) == 0 {
			return "sk-" + m.of(alnum, 48)
		}
		return "sk-proj-" + m.of(alnum, 1) + m.of(urlset, m.between(60, 120)) + m.of(alnum, 1)
	}},
	{"npm-token", 100, func(m *maker) string { return "npm_" + m.of(alnum, 36) }},
	{"pypi-token", 100, func(m *maker) string {
		return "pypi-AgEIcHlwaS5vcmc" + m.of(urlset, m.between(100, 160)) + m.of(alnum, 1)
	}},
	{"private-key", 100, (*maker).pem}, {"jwt", 150, (*maker).jwt}, {"url-password", 150, nil},
}

// needs are the words that stand before a value of which nothing else tells.
func (m *maker) bare(kind string) (text, value string) {
	switch kind {
	case "us-ssn":
		return m.one("SSN %s", "ssn: %s", "SSN=%s", `{"ssn": "%s"}`, "his SSN is on file; SSN %s.", "Social Security Number: %s", "ssn,%s"), strings.NewReplacer("-", "", " ", "").Replace(m.ssn())
	default:
		return m.one("CPF %s", "cpf: %s", "CPF=%s", `{"cpf":"%s"}`, "CPF nº %s"), strings.NewReplacer("-", "", ".", "").Replace(m.cpf())
	}
}

// Positives returns texts with values, and nothing else that is one.
func Positives() (list []Sample) {
	seen := map[string]bool{}
	add := func(s Sample) {
		if !seen[s.Text] {
			seen[s.Text] = true
			list = append(list, s)
		}
	}
	for i, k := range kinds {
		m := newMaker(uint64(i)) //nolint:gosec // small
		for j := range k.n {
			switch {
			case k.name == "url-password":
				add(m.url(surroundings[j%len(surroundings)]))
			case (k.name == "us-ssn" || k.name == "br-cpf") && j%5 == 0:
				text, value := m.bare(k.name)
				add(put(text, k.name, value, "after its word"))
			default:
				add(put(m.fits(k.name, surroundings[(j*7+i)%len(surroundings)]), k.name, k.make(m), "alone"))
			}
		}
	}
	m := newMaker(1000)
	for range 300 { // several in one text
		s := Sample{Note: "several"}
		sep := m.one(", ", "; ", " | ", "\n", " and ", "\t")
		for n := range m.between(2, 4) {
			if n > 0 {
				s.Text += sep
			}
			k := kinds[m.IntN(len(kinds)-3)]
			value := k.make(m)
			s.Want = append(s.Want, Span{k.name, len(s.Text), len(s.Text) + len(value)})
			s.Text += value
		}
		if !seen[s.Text] {
			seen[s.Text] = true
			list = append(list, s)
		}
	}
	return list
}

// fits returns a text that a value of a kind can stand in so that it is still one: what parts a number's groups may not stand next to it,
// and a block of several lines is no value of a line.
func (m *maker) fits(kind, text string) string {
	switch kind {
	case "email":
		if strings.Contains(text, "<!-- %s") {
			return "mail %s"
		}
	case "private-key":
		if strings.ContainsAny(text, "`*«„|-") {
			return "key:\n%s\n"
		}
	}
	return text
}

func (m *maker) email() string {
	first, last := firsts[m.IntN(len(firsts))], lasts[m.IntN(len(lasts))]
	local := ""
	switch m.IntN(8) {
	case 0:
		local = first
	case 1:
		local = first + "." + last
	case 2:
		local = first[:1] + last + m.digits(2)
	case 3:
		local = first + "_" + last
	case 4:
		local = first + "+" + words[m.IntN(len(words))]
	case 5:
		local = strings.ToUpper(first[:1]) + first[1:] + "." + strings.ToUpper(last[:1]) + last[1:]
	case 6:
		local = first + "-" + last
	default:
		local = m.of(lowers, m.between(1, 12)) + m.digits(m.between(1, 4))
	}
	domain := m.one("example.com", "example.org", "example.net", "mail.example.com", "shop.test", words[m.IntN(len(words))]+words[m.IntN(len(words))]+".com",
		words[m.IntN(len(words))]+"-"+words[m.IntN(len(words))]+".co.uk", words[m.IntN(len(words))]+".io", words[m.IntN(len(words))]+m.digits(1)+".de", "EXAMPLE.COM", "a."+words[m.IntN(len(words))]+".museum")
	return local + "@" + domain
}

// checkLuhn returns the digit that makes a number valid: from the right, the digits count double, single, double and so on.
func checkLuhn(body string) string {
	total := 0
	for i := range len(body) {
		d := int(body[len(body)-1-i] - '0')
		if i%2 == 0 {
			d = []int{0, 2, 4, 6, 8, 1, 3, 5, 7, 9}[d]
		}
		total += d
	}
	return fmt.Sprint((10 - total%10) % 10)
}

func (m *maker) card() string {
	prefix, length := "", 16
	switch m.IntN(9) {
	case 0, 1:
		prefix = "4"
	case 2:
		prefix = fmt.Sprint(m.between(51, 55))
	case 3:
		prefix = fmt.Sprint(m.between(2221, 2720))
	case 4:
		prefix, length = m.one("34", "37"), 15
	case 5:
		prefix = m.one("6011", "644", "649", "65")
	case 6:
		prefix = fmt.Sprint(m.between(3528, 3589))
	case 7:
		prefix, length = m.one("300", "305", "36", "38"), 14
	default:
		prefix = "62"
	}
	body := prefix + m.digits(length-1-len(prefix))
	n := body + checkLuhn(body)
	if m.IntN(2) == 0 {
		return n
	}
	sep := m.one(" ", "-")
	switch length {
	case 15:
		return n[:4] + sep + n[4:10] + sep + n[10:]
	case 14:
		return n[:4] + sep + n[4:10] + sep + n[10:]
	}
	return n[:4] + sep + n[4:8] + sep + n[8:12] + sep + n[12:]
}

// bbans are forms of account numbers by country: a for letters, 9 for digits, c for both.
var bbans = []struct{ country, form string }{
	{"DE", "999999999999999999"}, {"FR", "9999999999ccccccccccc99"}, {"GB", "aaaa99999999999999"}, {"ES", "99999999999999999999"}, {"IT", "a9999999999cccccccccccc"},
	{"NL", "aaaa9999999999"}, {"BE", "999999999999"}, {"PL", "999999999999999999999999"}, {"CH", "99999cccccccccccc"}, {"AT", "9999999999999999"}, {"SE", "99999999999999999999"},
	{"NO", "99999999999"}, {"DK", "99999999999999"}, {"FI", "99999999999999"}, {"PT", "999999999999999999999"}, {"IE", "aaaa99999999999999"}, {"CZ", "99999999999999999999"},
	{"HU", "999999999999999999999999"}, {"RO", "aaaacccccccccccccccc"}, {"TR", "999999cccccccccccccccc"}, {"MT", "aaaa99999cccccccccccccccccc"}, {"LU", "999ccccccccccccc"},
	{"BR", "99999999999999999999999ac"}, {"SA", "99cccccccccccccccccc"}, {"UA", "999999ccccccccccccccccccc"}, {"LT", "9999999999999999"},
}

// rest97 is the remainder of a number of letters and digits, letters being 10 to 35, modulo 97.
func rest97(s string) int {
	n := ""
	for _, c := range s {
		if c >= 'A' {
			n += fmt.Sprint(int(c-'A') + 10)
		} else {
			n += string(c)
		}
	}
	rest := 0
	for len(n) > 0 {
		part := n[:min(7, len(n))]
		n = n[len(part):]
		v := 0
		_, _ = fmt.Sscanf(fmt.Sprint(rest)+part, "%d", &v)
		rest = v % 97
	}
	return rest
}

func (m *maker) iban() string {
	b := bbans[m.IntN(len(bbans))]
	bban := ""
	for _, c := range b.form {
		switch c {
		case 'a':
			bban += m.of(uppers, 1)
		case '9':
			bban += m.digits(1)
		default:
			bban += m.of(uppers+"0123456789", 1)
		}
	}
	n := b.country + fmt.Sprintf("%02d", 98-rest97(bban+b.country+"00")) + bban
	switch m.IntN(5) {
	case 0, 1:
		out := ""
		for i := 0; i < len(n); i += 4 {
			out += " " + n[i:min(i+4, len(n))]
		}
		return out[1:]
	case 2:
		return strings.ToLower(n)
	}
	return n
}

func (m *maker) ssn() string {
	area := m.between(1, 898)
	if area == 666 {
		area = 665
	}
	sep := m.one("-", "-", "-", " ")
	return fmt.Sprintf("%03d%s%02d%s%04d", area, sep, m.between(1, 99), sep, m.between(1, 9999))
}

func (m *maker) phone() string {
	nanp := func() (string, string, string) {
		return m.one("212", "415", "312", "617", "206", "713"), "555", fmt.Sprintf("01%s", m.digits(2))
	}
	a, b, c := nanp()
	switch m.IntN(14) {
	case 0:
		return "(" + a + ") " + b + "-" + c
	case 1:
		return a + "-" + b + "-" + c
	case 2:
		return "+1 " + a + " " + b + " " + c
	case 3:
		return "+1-" + a + "-" + b + "-" + c
	case 4:
		return "+1" + a + b + c
	case 5:
		return "+44 20 7946 0" + m.digits(3)
	case 6:
		return "+4420794600" + m.digits(2)
	case 7:
		return "+49 30 " + m.of("123456789", 1) + m.digits(6)
	case 8:
		return "+49 (0)89 " + m.of("123456789", 1) + m.digits(6)
	case 9:
		return "+33 1 " + m.digits(2) + " " + m.digits(2) + " " + m.digits(2) + " " + m.digits(2)
	case 10:
		return "+346" + m.digits(8)
	case 11:
		return "+55 11 9" + m.digits(4) + "-" + m.digits(4)
	case 12:
		return "+81-3-" + m.of("123456789", 1) + m.digits(3) + "-" + m.digits(4)
	}
	return "+48 " + m.one("501", "602", "793") + " " + m.digits(3) + " " + m.digits(3)
}

func (m *maker) ip() string {
	hex := func(n int) string { return m.of("123456789abcdef", 1) + m.of("0123456789abcdef", n-1) }
	switch m.IntN(8) {
	case 0:
		return "2001:db8:" + hex(4) + ":" + hex(4) + ":" + hex(3) + ":" + hex(4) + ":" + hex(4) + ":" + hex(2)
	case 1:
		return "fe80::" + hex(4) + ":" + hex(3) + "f:fe" + m.of("0123456789", 1) + hex(1) + ":" + hex(4)
	case 2:
		return "2001:db8::" + hex(1)
	case 3:
		return "::ffff:192.0.2." + fmt.Sprint(m.between(1, 254))
	case 4:
		return fmt.Sprintf("10.%d.%d.%d", m.between(0, 255), m.between(0, 255), m.between(1, 254))
	case 5:
		return fmt.Sprintf("192.168.%d.%d", m.between(0, 255), m.between(1, 254))
	}
	return fmt.Sprintf("%d.%d.%d.%d", m.between(11, 223), m.between(0, 255), m.between(0, 255), m.between(1, 254))
}

func (m *maker) dni() string {
	const letters = "TRWAGMYFPDXBNJZSQVHLCKE"
	n := m.between(1_000_000, 99_999_999)
	prefix, shown := "", fmt.Sprintf("%08d", n)
	if m.IntN(3) == 0 {
		p := m.IntN(3)
		n %= 10_000_000
		prefix, shown = string("XYZ"[p]), fmt.Sprintf("%07d", n)
		n += p * 10_000_000
	}
	out := prefix + shown + m.one("", "", "-") + string(letters[n%23])
	if m.IntN(6) == 0 {
		return strings.ToLower(out)
	}
	return out
}

func (m *maker) nir() string {
	dept, count := fmt.Sprintf("%02d", m.between(1, 95)), ""
	if dept == "20" {
		dept = "21"
	}
	count = dept
	if m.IntN(8) == 0 {
		dept = m.one("2A", "2B")
		count = map[string]string{"2A": "19", "2B": "18"}[dept]
	}
	head := m.one("1", "2") + m.digits(2) + fmt.Sprintf("%02d", m.between(1, 12))
	tail := fmt.Sprintf("%03d%03d", m.between(1, 989), m.between(1, 999))
	v := 0
	_, _ = fmt.Sscanf(head+count+tail, "%d", &v)
	n := head + dept + tail + fmt.Sprintf("%02d", 97-v%97)
	switch m.IntN(3) {
	case 0:
		return n[:1] + " " + n[1:3] + " " + n[3:5] + " " + n[5:7] + " " + n[7:10] + " " + n[10:13] + " " + n[13:]
	case 1:
		if dept[1] < 'A' {
			return n[:13] + " " + n[13:]
		}
	}
	return n
}

func (m *maker) cf() string {
	head := m.of("BCDFGLMNPRSTV", 3) + m.of("BCDFGLMNPRSTVAEIO", 3) + m.digits(2) + m.of("ABCDEHLMPRST", 1) + fmt.Sprintf("%02d", m.between(1, 31)+40*m.IntN(2)) + m.of("ABCDEFGHIL", 1) + m.digits(3)
	odd := map[byte]int{}
	for i, v := range []int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21} {
		odd["0123456789"[i]] = v
	}
	for i, v := range []int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23} {
		odd[uppers[i]] = v
	}
	sum := 0
	for i := range len(head) {
		switch c := head[i]; {
		case i%2 == 0: // the first place is an odd one
			sum += odd[c]
		case c >= 'A':
			sum += int(c - 'A')
		default:
			sum += int(c - '0')
		}
	}
	out := head + string(uppers[sum%26])
	if m.IntN(5) == 0 {
		return strings.ToLower(out)
	}
	return out
}

func (m *maker) pesel() string {
	century := []int{0, 20}[m.IntN(2)]
	n := fmt.Sprintf("%02d%02d%02d%s", m.between(0, 99), m.between(1, 12)+century, m.between(1, 28), m.digits(4))
	return n + checkPESEL(n)
}

func checkPESEL(n string) string {
	sum := 0
	for i := range 10 {
		sum += int(n[i]-'0') * []int{1, 3, 7, 9}[i%4]
	}
	return fmt.Sprint((10 - sum%10) % 10)
}

func (m *maker) cpf() string {
	n := m.digits(8) + m.of("123456789", 1)
	for n[:8] == strings.Repeat(n[:1], 8) {
		n = m.digits(9)
	}
	for range 2 {
		sum := 0
		for i := range len(n) {
			sum += int(n[i]-'0') * (len(n) + 1 - i)
		}
		n += fmt.Sprint(sum * 10 % 11 % 10)
	}
	return n[:3] + "." + n[3:6] + "." + n[6:9] + "-" + n[9:]
}

func (m *maker) pin() string {
	year := m.between(1925, 2015)
	n := fmt.Sprintf("%02d%02d%02d%s", year%100, m.between(1, 12), m.between(1, 28), m.digits(3))
	n += checkLuhn(n)
	if m.IntN(2) == 0 {
		return fmt.Sprint(year/100) + n[:6] + "-" + n[6:]
	}
	return n[:6] + m.one("-", "-", "+") + n[6:]
}

func (m *maker) pem() string {
	name := m.one("RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "DSA PRIVATE KEY")
	out := "-----BEGIN " + name + "-----\n"
	for range m.between(3, 12) {
		out += m.of(alnum+"+/", 64) + "\n"
	}
	return out + m.of(alnum+"+/", 40) + "==\n-----END " + name + "-----"
}

const base64url = uppers + lowers + "0123456789-_"

func encode(s string) string {
	out, bits, acc := "", 0, 0
	for _, c := range []byte(s) {
		acc, bits = acc<<8|int(c), bits+8
		for bits >= 6 {
			bits -= 6
			out += string(base64url[acc>>bits&63])
		}
	}
	if bits > 0 {
		out += string(base64url[acc<<(6-bits)&63])
	}
	return out
}

func (m *maker) jwt() string {
	head := m.one(`{"alg":"HS256","typ":"JWT"}`, `{"typ":"JWT","alg":"RS256","kid":"`+m.of(alnum, 8)+`"}`, `{"alg":"EdDSA"}`, `{"alg":"ES256","kid":"k1"}`, `{"typ":"at+jwt","alg":"PS256"}`)
	body := fmt.Sprintf(`{"sub":"%s","iat":%d}`, firsts[m.IntN(len(firsts))], m.between(1_600_000_000, 1_800_000_000))
	return encode(head) + "." + encode(body) + "." + m.of(urlset, 42) + m.of(alnum, 1)
}

func (m *maker) url(text string) Sample {
	password := m.of(alnum, m.between(6, 20))
	if m.IntN(3) == 0 {
		password = m.of(alnum, 4) + m.one("!", "$", "%21", "*", ".", "~", "-", "_") + m.of(alnum, 5)
	}
	before := m.one("postgres", "postgresql", "mysql", "mongodb+srv", "redis", "amqp", "https", "ftp", "rabbitmq") + "://" + m.one("app", "admin", "svc-report", "root", "") + ":"
	if strings.HasPrefix(before, "https://:") {
		before = "https://bot:"
	}
	behind := "@" + m.one("db.internal", "10.0.0.5", "localhost", "cache-1", "host.example.com") + m.one("", ":5432", "/app", ":6379/0", "/x?y=z")
	left, right, _ := strings.Cut(text, "%s")
	out := Sample{Text: left + before + password + behind + right, Note: "in a URL"}
	at := len(left) + len(before)
	out.Want = []Span{{"url-password", at, at + len(password)}}
	if i := strings.Index(behind, "10.0.0.5"); i >= 0 {
		at += len(password) + i
		out.Want = append(out.Want, Span{"ip", at, at + len("10.0.0.5")})
	}
	return out
}
