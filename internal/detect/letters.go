package detect

import (
	"bytes"
	"encoding/json"
)

// word looks at a word of [start, end) that begins with a letter, and returns where to go on, 0 for behind the word.
func (sc *scan) word(start, end int) int {
	c := sc.text[start]
	switch c {
	case 'A', 'g', 'x', 's', 'r', 'w', 'n', 'p', 'e':
		if to := sc.key(start); to > 0 {
			return to
		}
	}
	n := end - start
	if n == 16 {
		if validCF(sc.text[start:end]) && sc.hit(itCF, start, end) {
			return end
		}
	}
	if n >= 4 && is(sc.text[start+1], isLetter) && is(sc.text[start+2], isDigit) && is(sc.text[start+3], isDigit) {
		if to := sc.iban(start); to > 0 {
			return to
		}
	}
	switch {
	case c|0x20 >= 'x' && c|0x20 <= 'z':
		sc.nie(start, end)
	case n <= 4 && is(c, isHex) && sc.at(end) == ':':
		return sc.ipv6(end)
	}
	return 0
}

// lengths are those of the IBANs of each country (SWIFT, IBAN Registry).
var lengths = map[[2]byte]int{
	{'A', 'D'}: 24, {'A', 'E'}: 23, {'A', 'L'}: 28, {'A', 'T'}: 20, {'A', 'Z'}: 28, {'B', 'A'}: 20, {'B', 'E'}: 16, {'B', 'G'}: 22, {'B', 'H'}: 22, {'B', 'I'}: 27,
	{'B', 'R'}: 29, {'B', 'Y'}: 28, {'C', 'H'}: 21, {'C', 'R'}: 22, {'C', 'Y'}: 28, {'C', 'Z'}: 24, {'D', 'E'}: 22, {'D', 'J'}: 27, {'D', 'K'}: 18, {'D', 'O'}: 28,
	{'E', 'E'}: 20, {'E', 'G'}: 29, {'E', 'S'}: 24, {'F', 'I'}: 18, {'F', 'K'}: 18, {'F', 'O'}: 18, {'F', 'R'}: 27, {'G', 'B'}: 22, {'G', 'E'}: 22, {'G', 'I'}: 23,
	{'G', 'L'}: 18, {'G', 'R'}: 27, {'G', 'T'}: 28, {'H', 'N'}: 28, {'H', 'R'}: 21, {'H', 'U'}: 28, {'I', 'E'}: 22, {'I', 'L'}: 23, {'I', 'Q'}: 23, {'I', 'S'}: 26,
	{'I', 'T'}: 27, {'J', 'O'}: 30, {'K', 'W'}: 30, {'K', 'Z'}: 20, {'L', 'B'}: 28, {'L', 'C'}: 32, {'L', 'I'}: 21, {'L', 'T'}: 20, {'L', 'U'}: 20, {'L', 'V'}: 21,
	{'L', 'Y'}: 25, {'M', 'C'}: 27, {'M', 'D'}: 24, {'M', 'E'}: 22, {'M', 'K'}: 19, {'M', 'N'}: 20, {'M', 'R'}: 27, {'M', 'T'}: 31, {'M', 'U'}: 30, {'N', 'I'}: 28,
	{'N', 'L'}: 18, {'N', 'O'}: 15, {'O', 'M'}: 23, {'P', 'K'}: 24, {'P', 'L'}: 28, {'P', 'S'}: 29, {'P', 'T'}: 25, {'Q', 'A'}: 29, {'R', 'O'}: 24, {'R', 'S'}: 22,
	{'R', 'U'}: 33, {'S', 'A'}: 24, {'S', 'C'}: 31, {'S', 'D'}: 18, {'S', 'E'}: 24, {'S', 'I'}: 19, {'S', 'K'}: 24, {'S', 'M'}: 27, {'S', 'O'}: 23, {'S', 'T'}: 25,
	{'S', 'V'}: 28, {'T', 'L'}: 23, {'T', 'N'}: 24, {'T', 'R'}: 26, {'U', 'A'}: 29, {'V', 'A'}: 22, {'V', 'G'}: 24, {'X', 'K'}: 20, {'Y', 'E'}: 30,
}

// iban looks for an IBAN at start, whole or in groups of four, and returns its end, 0 for none.
func (sc *scan) iban(start int) int {
	country := [2]byte{sc.text[start] &^ 0x20, sc.text[start+1] &^ 0x20}
	length := lengths[country]
	if length == 0 {
		return 0
	}
	i := start
	sep := sc.at(start + 4)
	grouped := sep == ' ' || sep == '-'
	for n := range length {
		if grouped && n > 0 && n%4 == 0 {
			if sc.at(i) != sep {
				return 0
			}
			i++
		}
		if !is(sc.at(i), isWord) {
			return 0
		}
		i++
	}
	if sc.ends(i) && mod97(sc.plain(start, i)) && sc.hit(iban, start, i) {
		return i
	}
	return 0
}

// mod97 checks letters and digits by ISO 7064, MOD 97-10, as ISO 13616 uses it: the first four go behind the others, letters count
// from 10 to 35, and the remainder is 1. Other bytes do not count.
func mod97(b []byte) bool {
	rest, n := 0, 0
	add := func(part []byte) {
		for _, c := range part {
			switch {
			case is(c, isDigit):
				rest = (rest*10 + int(c-'0')) % 97
			case is(c, isLetter):
				rest = (rest*100 + int(c&^0x20-'A') + 10) % 97
			default:
				continue
			}
			n++
		}
	}
	if len(b) < 5 {
		return false
	}
	add(b[4:])
	add(b[:4])
	return n > 4 && rest == 1
}

// odd are the values of letters and digits in odd places of a codice fiscale (Decreto ministeriale 23 dicembre 1976).
var odd = [26]int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23}

// validCF checks a codice fiscale: letters of the name, year, month, day, place, and the control letter. Digits may be letters, where
// two people would have the same (omocodia).
func validCF(b []byte) bool {
	sum := 0
	for i, c := range b {
		upper := c
		if is(c, isLower) {
			upper &^= 0x20
		}
		switch i {
		case 0, 1, 2, 3, 4, 5, 11, 15:
			if !is(c, isLetter) {
				return false
			}
		case 8:
			switch upper {
			case 'A', 'B', 'C', 'D', 'E', 'H', 'L', 'M', 'P', 'R', 'S', 'T':
			default:
				return false
			}
		default:
			switch {
			case is(c, isDigit):
			case upper >= 'L' && upper <= 'V' && upper != 'O': // L M N P Q R S T U V stand for 0 to 9
			default:
				return false
			}
		}
		if i == 15 {
			return int(upper-'A') == sum%26
		}
		value := int(upper - '0')
		if is(c, isLetter) {
			value = int(upper - 'A')
		}
		if i%2 == 0 {
			sum += odd[value]
		} else {
			sum += value
		}
	}
	return false
}

// run returns the end of the bytes of the classes what at i.
func (sc *scan) span(i int, what uint8) int {
	for is(sc.at(i), what) {
		i++
	}
	return i
}

// starts reports whether word stands at i.
func (sc *scan) starts(i int, word string) bool {
	return i+len(word) <= len(sc.text) && string(sc.text[i:i+len(word)]) == word
}

// keyForm is how keys of a maker look.
type keyForm struct {
	kind     int
	prefix   string
	what     uint8 // classes of the bytes behind the prefix
	min, max int   // how many
	parts    int   // hyphens that it has, or more
}

// Sources: what the makers publish of their keys' forms. They are in the order of their first letters.
var keyForms = [...]keyForm{
	{awsKey, "AKIA", isBase32, 16, 16, 0},
	{awsKey, "ASIA", isBase32, 16, 16, 0},
	{googleKey, "AIza", isWord | isToken, 35, 35, 0},
	{githubToken, "ghp_", isWord, 36, 36, 0},
	{githubToken, "gho_", isWord, 36, 36, 0},
	{githubToken, "ghu_", isWord, 36, 36, 0},
	{githubToken, "ghs_", isWord, 36, 36, 0},
	{githubToken, "ghr_", isWord, 36, 36, 0},
	{githubToken, "github_pat_", isWord | isToken, 82, 255, 0},
	{gitlabToken, "glpat-", isWord | isToken, 20, 300, 0},
	{npmToken, "npm_", isWord, 36, 36, 0},
	{pypiToken, "pypi-", isWord | isToken, 50, 500, 0},
	{stripeKey, "rk_live_", isWord, 16, 250, 0},
	{stripeKey, "rk_test_", isWord, 16, 250, 0},
	{stripeKey, "sk_live_", isWord, 16, 250, 0},
	{stripeKey, "sk_test_", isWord, 16, 250, 0},
	{openaiKey, "sk-proj-", isWord | isToken, 40, 300, 0},
	{openaiKey, "sk-svcacct-", isWord | isToken, 40, 300, 0},
	{openaiKey, "sk-admin-", isWord | isToken, 40, 300, 0},
	{openaiKey, "sk-", isWord, 40, 64, 0},
	{stripeKey, "whsec_", isWord, 24, 250, 0},
	{slackToken, "xoxb-", isWord | isToken, 20, 300, 1},
	{slackToken, "xoxp-", isWord | isToken, 20, 300, 1},
	{slackToken, "xoxa-", isWord | isToken, 20, 300, 1},
	{slackToken, "xoxr-", isWord | isToken, 20, 300, 1},
	{slackToken, "xapp-", isWord | isToken, 20, 300, 1},
}

// keysBy are the forms that begin with a letter: those of [from, to).
var keysBy = func() (t [256]struct{ from, to int }) {
	for i, f := range keyForms {
		if c := &t[f.prefix[0]]; c.to == 0 {
			c.from, c.to = i, i+1
		} else {
			c.to = i + 1
		}
	}
	return t
}()

// key looks for a key or token at start, and returns its end, 0 for none.
func (sc *scan) key(start int) int {
	if sc.text[start] == 'e' && (sc.at(start+1) == 'y' || sc.at(start+1) == 'w') { // of { and what may stand behind it
		return sc.jwt(start)
	}
	for i := keysBy[sc.text[start]].from; i < keysBy[sc.text[start]].to; i++ {
		f := &keyForms[i]
		if sc.at(start+1) != f.prefix[1] || !sc.starts(start, f.prefix) {
			continue
		}
		begin := start + len(f.prefix)
		end := begin
		hyphens := 0
		for end-begin <= f.max && is(sc.at(end), f.what) {
			if sc.text[end] == '-' {
				hyphens++
			}
			end++
		}
		if f.what&isToken != 0 && is(sc.at(end-1), isToken) && end-begin > f.min && f.min != f.max { // a sign at the end is the sentence's
			end--
		}
		if n := end - begin; n >= f.min && n <= f.max && hyphens >= f.parts && sc.ends(end) && sc.hit(f.kind, start, end) {
			return end
		}
	}
	return 0
}

// maxHeader bounds the header of a JWT that is looked at, in bytes of base64url.
const maxHeader = 2048

// jwt looks for a JSON Web Token (RFC 7519, section 3) at start.
func (sc *scan) jwt(start int) int {
	if start > 0 && is(sc.text[start-1], isToken) {
		return 0
	}
	first := sc.span(start, isWord|isToken)
	if first-start > maxHeader || sc.at(first) != '.' {
		return 0
	}
	second := sc.span(first+1, isWord|isToken)
	if second == first+1 || sc.at(second) != '.' {
		return 0
	}
	third := sc.span(second+1, isWord|isToken)
	if third == second+1 || !isHeader(sc.text[start:first]) || !sc.hit(jwt, start, third) {
		return 0
	}
	return third
}

// isHeader reports whether base64url is of a JSON object with an "alg" (RFC 7515, section 4.1.1).
func isHeader(b []byte) bool {
	var buf [maxHeader]byte
	n, bits, acc := 0, 0, uint32(0)
	for _, c := range b {
		var v uint32
		switch {
		case is(c, isUpper):
			v = uint32(c - 'A')
		case is(c, isLower):
			v = uint32(c-'a') + 26
		case is(c, isDigit):
			v = uint32(c-'0') + 52
		case c == '-':
			v = 62
		default:
			v = 63
		}
		acc, bits = acc<<6|v, bits+6
		if bits >= 8 {
			bits -= 8
			buf[n] = byte(acc >> bits)
			n++
		}
	}
	text := buf[:n]
	return n > 2 && text[0] == '{' && bytes.Contains(text, []byte(`"alg"`)) && json.Valid(text)
}

// maxPEM bounds a private key in bytes.
const maxPEM = 64 << 10

// pem looks for a private key whose BEGIN line's hyphens begin at i, and returns where to go on.
func (sc *scan) pem(i int) int {
	const dashes, begin, private = "-----", "-----BEGIN ", "PRIVATE KEY-----"
	line := i
	for sc.at(line) == '-' {
		line++
	}
	if line-i != len(dashes) || !sc.starts(i, begin) {
		return line // no hyphen is looked at twice
	}
	end := i + len(begin)
	for end < len(sc.text) && end-i < 60 && (is(sc.text[end], isUpper) || is(sc.text[end], isDigit) || sc.text[end] == ' ') {
		end++
	}
	if !sc.starts(end, dashes) || !bytes.HasSuffix(sc.text[i:end+len(dashes)], []byte(private)) {
		return end
	}
	end += len(dashes)
	body := end
	for body < len(sc.text) && body-i < maxPEM && isPEM(sc.text[body]) {
		if sc.text[body] == '-' && sc.starts(body, dashes) {
			break
		}
		body++
	}
	switch {
	case sc.starts(body, "-----END "):
		last := bytes.Index(sc.text[body:min(body+80, len(sc.text))], []byte(private))
		if last >= 0 {
			body += last + len(private)
		}
	case !sc.encoded(end, body): // a line that speaks of keys, and none
		return end
	default:
		for body > end && (sc.text[body-1] == ' ' || sc.text[body-1] == '\n' || sc.text[body-1] == '\r') {
			body--
		}
	}
	if !sc.hit(privateKey, i, body) {
		return end
	}
	return body
}

// minLine is the fewest characters of base64 in a row that a key without an END line has.
const minLine = 32

// encoded reports whether base64 stands in [from, to).
func (sc *scan) encoded(from, to int) bool {
	n := 0
	for ; from < to; from++ {
		if c := sc.text[from]; !is(c, isWord) && c != '+' && c != '/' {
			n = 0
		} else if n++; n == minLine {
			return true
		}
	}
	return false
}

// isPEM reports whether a byte is of base64, of a header (RFC 1421) or of a line's end, also as an escape.
func isPEM(c byte) bool {
	if is(c, isWord) {
		return true
	}
	switch c {
	case '+', '/', '=', '-', '\n', '\r', ' ', '\t', ':', ',', '\\', '.', '_':
		return true
	}
	return false
}
