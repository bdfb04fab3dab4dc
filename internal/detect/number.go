package detect

// maxDigits is the longest number that any kind has, with its separators.
const maxDigits = 40

// digits looks at a word of [start, end) that begins with a digit, and returns where to go on, 0 for behind the word.
func (sc *scan) digits(start, end int) int {
	n := sc.count(start, maxDigits)
	whole := n == end-start
	if !whole {
		return sc.lettered(start, end, n)
	}
	if to := sc.parted(start, n); to > 0 {
		return to
	}
	switch {
	case n == 9 && sc.said(start, "ssn", "social security number", "social security no", "social security", "ssn no", "ssn number") && sc.stands(start, end) && validSSN(sc.text[start:end]) && sc.hit(usSSN, start, end):
	case n == 11 && sc.stands(start, end):
		t := sc.text[start:end]
		_ = sc.said(start, "cpf", "cpf n", "cpf no", "cpf nr") && validCPF(t) && sc.hit(brCPF, start, end) || validPESEL(t) && sc.hit(plPESEL, start, end)
	case n == 15 && sc.stands(start, end) && validNIR(sc.text[start:end]) && sc.hit(frNIR, start, end):
	case n >= 13 && n <= 19 && sc.stands(start, end) && validCard(sc.text[start:end]):
		sc.hit(card, start, end)
	}
	return 0
}

// lettered looks at a word that begins with n digits and goes on with a letter.
func (sc *scan) lettered(start, end, n int) int {
	switch {
	case n == 8 && end-start == 9 && sc.stands(start, end):
		if validDNI(sc.text[start:end]) {
			sc.hit(esDNI, start, end)
		}
	case n == 6 && end-start == 15 && sc.stands(start, end): // Corsica
		if validNIR(sc.text[start:end]) {
			sc.hit(frNIR, start, end)
		}
	case n <= 4 && sc.at(end) == ':':
		return sc.ipv6(end)
	}
	return 0
}

// parted looks at a number of n digits at start that goes on behind separators, and returns its end, 0 for none.
func (sc *scan) parted(start, n int) int {
	sep := sc.at(start + n)
	switch {
	case sep == '.' && n <= 3 && is(sc.at(start+n+1), isDigit):
		if to := sc.ipv4(start); to > 0 {
			return to
		}
	case sep == ':' && n <= 4:
		return sc.ipv6(start + n)
	case sep != ' ' && sep != '-' && sep != '.' && sep != '+':
		return 0
	}
	switch n {
	case 1:
		if sep == ' ' || sep == '-' || sep == '.' {
			if to := sc.spacedNIR(start); to > 0 {
				return to
			}
			if sc.at(start) == '1' {
				return sc.american(start)
			}
		}
	case 2:
		return sc.dottedDNI(start)
	case 3:
		if to := sc.ssn(start); to > 0 {
			return to
		}
		if to := sc.cpf(start); to > 0 {
			return to
		}
		return sc.american(start)
	case 4:
		return sc.groupedCard(start, sep)
	case 6:
		return sc.personnummer(start, n)
	case 8:
		if to := sc.personnummer(start, n); to > 0 {
			return to
		}
		if end := start + 10; sep == '-' && is(sc.at(start+9), isLetter) && sc.stands(start, end) {
			if validDNI(sc.plain(start, end)) && sc.hit(esDNI, start, end) {
				return end
			}
		}
	case 13:
		if end := start + 16; sep == ' ' && sc.count(start+14, 2) == 2 && sc.stands(start, end) {
			if validNIR(sc.plain(start, end)) && sc.hit(frNIR, start, end) {
				return end
			}
		}
	}
	return 0
}

// plain returns the letters and digits of [start, end), at most maxDigits of them.
func (sc *scan) plain(start, end int) []byte {
	out := sc.buf[:0]
	for _, c := range sc.text[start:end] {
		if is(c, isWord) && len(out) < maxDigits {
			out = append(out, c)
		}
	}
	return out
}

// shape returns the end of digits in groups of the given lengths with sep between them, 0 if they are not there.
func (sc *scan) shape(start int, sep byte, groups ...int) int {
	i := start
	for g, n := range groups {
		if g > 0 {
			if sc.at(i) != sep {
				return 0
			}
			i++
		}
		if sc.count(i, n) != n {
			return 0
		}
		i += n
	}
	if !sc.stands(start, i) {
		return 0
	}
	return i
}

// cardGroups are how the digits of cards are grouped.
var cardGroups = [...][]int{{4, 4, 4, 4, 3}, {4, 4, 4, 4}, {4, 6, 5}, {4, 6, 4}, {4, 3, 3, 3}}

// groupedCard looks for a card in groups at start.
func (sc *scan) groupedCard(start int, sep byte) int {
	if sep != ' ' && sep != '-' {
		return 0
	}
	for _, groups := range cardGroups {
		if end := sc.shape(start, sep, groups...); end > 0 && validCard(sc.plain(start, end)) && sc.hit(card, start, end) {
			return end
		}
	}
	return 0
}

// issuers are the ranges of the first digits of cards, by how many digits they are, with the lengths of the numbers.
// Sources: ISO/IEC 7812-1, and the ranges that the card schemes publish.
var issuers = [...]struct{ digits, low, high, min, max int }{
	{1, 4, 4, 13, 19},                        // Visa: 13, 16, 19
	{2, 51, 55, 16, 16},                      // Mastercard
	{4, 2221, 2720, 16, 16},                  // Mastercard
	{2, 34, 34, 15, 15}, {2, 37, 37, 15, 15}, // American Express
	{4, 6011, 6011, 16, 19}, {3, 644, 649, 16, 19}, {2, 65, 65, 16, 19}, // Discover
	{4, 3528, 3589, 16, 19},                                                                  // JCB
	{3, 300, 305, 14, 19}, {4, 3095, 3095, 14, 19}, {2, 36, 36, 14, 19}, {2, 38, 39, 14, 19}, // Diners Club
	{2, 62, 62, 16, 19}, // UnionPay
}

func validCard(d []byte) bool {
	if len(d) < 13 || len(d) > 19 {
		return false
	}
	for _, r := range issuers {
		if n := number(d[:r.digits]); n >= r.low && n <= r.high && len(d) >= r.min && len(d) <= r.max {
			if d[0] == '4' && len(d) != 13 && len(d) != 16 && len(d) != 19 {
				return false
			}
			return luhn(d)
		}
	}
	return false
}

// luhn checks the digits of b by ISO/IEC 7812-1, annex B: from the right every second one counts double. Other bytes do not count.
func luhn(b []byte) bool {
	sum, double, n := 0, false, 0
	for i := len(b) - 1; i >= 0; i-- {
		if !is(b[i], isDigit) {
			continue
		}
		d := int(b[i] - '0')
		if double {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum, double, n = sum+d, !double, n+1
	}
	return n > 1 && sum%10 == 0
}

// number is the value of digits.
func number(d []byte) (n int) {
	for _, c := range d {
		n = n*10 + int(c-'0')
	}
	return n
}

// weighted is the sum of digits by their weights.
func weighted(d []byte, weights ...int) (sum int) {
	for i, w := range weights {
		sum += int(d[i]-'0') * w
	}
	return sum
}

func same(d []byte) bool {
	for _, c := range d {
		if c != d[0] {
			return false
		}
	}
	return true
}

// listed reports whether a number with spaces in it stands among other numbers, as in a list of them.
func (sc *scan) listed(start, end int) bool {
	return sc.at(start-1) == ' ' && is(sc.at(start-2), isDigit) || sc.at(end) == ' ' && is(sc.at(end+1), isDigit)
}

// ssn looks for AAA-GG-SSSS.
func (sc *scan) ssn(start int) int {
	sep := sc.at(start + 3)
	if sep != '-' && sep != ' ' {
		return 0
	}
	if end := sc.shape(start, sep, 3, 2, 4); end > 0 && (sep != ' ' || !sc.listed(start, end)) && validSSN(sc.plain(start, end)) && sc.hit(usSSN, start, end) {
		return end
	}
	return 0
}

// validSSN: areas 000, 666 and 900 to 999, group 00 and serial 0000 are not given out (Social Security Administration, POMS RM 10201.035).
func validSSN(d []byte) bool {
	area := number(d[:3])
	return area != 0 && area != 666 && area < 900 && number(d[3:5]) != 0 && number(d[5:]) != 0
}

// cpf looks for 000.000.000-00.
func (sc *scan) cpf(start int) int {
	end := start + 14
	if sc.at(start+3) != '.' || sc.at(start+7) != '.' || sc.at(start+11) != '-' ||
		sc.count(start+4, 3) != 3 || sc.count(start+8, 3) != 3 || sc.count(start+12, 2) != 2 || !sc.stands(start, end) {
		return 0
	}
	if validCPF(sc.plain(start, end)) && sc.hit(brCPF, start, end) {
		return end
	}
	return 0
}

// validCPF: each check digit is 11 less the remainder of the weighted sum of those before it, 0 from 10 on (Receita Federal).
func validCPF(d []byte) bool {
	check := func(sum int) byte {
		if r := sum % 11; r >= 2 {
			return byte('0' + 11 - r)
		}
		return '0'
	}
	return !same(d) && check(weighted(d, 10, 9, 8, 7, 6, 5, 4, 3, 2)) == d[9] && check(weighted(d, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2)) == d[10]
}

// validPESEL: a date whose month says the century, and a check digit (Ustawa o ewidencji ludności, art. 15; weights 1 3 7 9).
func validPESEL(d []byte) bool {
	month := number(d[2:4])
	if !validDate(month%20, number(d[4:6])) {
		return false
	}
	return (10-weighted(d, 1, 3, 7, 9, 1, 3, 7, 9, 1, 3)%10)%10 == int(d[10]-'0')
}

func validDate(month, day int) bool {
	if month < 1 || month > 12 || day < 1 {
		return false
	}
	return day <= [...]int{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
}

// personnummer looks for YYMMDD-NNNN or YYYYMMDD-NNNN with - or +.
func (sc *scan) personnummer(start, n int) int {
	sep, end := sc.at(start+n), start+n+5
	if sep != '-' && sep != '+' || sc.count(start+n+1, 4) != 4 || !sc.stands(start, end) {
		return 0
	}
	d := sc.plain(start, end)
	if n == 8 {
		if century := number(d[:2]); century < 18 || century > 20 {
			return 0
		}
		d = d[2:]
	}
	day := number(d[4:6])
	if day > 60 { // coordination numbers
		day -= 60
	}
	if validDate(number(d[2:4]), day) && luhn(d) && sc.hit(sePIN, start, end) {
		return end
	}
	return 0
}

// dottedDNI looks for 12.345.678-Z.
func (sc *scan) dottedDNI(start int) int {
	i := start + 10
	if sc.at(start+2) != '.' || sc.at(start+6) != '.' || sc.count(start+3, 3) != 3 || sc.count(start+7, 3) != 3 {
		return 0
	}
	if sc.at(i) == '-' {
		i++
	}
	if end := i + 1; is(sc.at(i), isLetter) && sc.stands(start, end) && validDNI(sc.plain(start, end)) && sc.hit(esDNI, start, end) {
		return end
	}
	return 0
}

// validDNI: the letter is that of the number modulo 23; X, Y and Z of a NIE count as 0, 1 and 2 (Ministerio del Interior).
func validDNI(b []byte) bool {
	if len(b) != 9 {
		return false
	}
	n := 0
	for i, c := range b[:8] {
		switch {
		case is(c, isDigit):
			n = n*10 + int(c-'0')
		case i == 0 && c|0x20 >= 'x' && c|0x20 <= 'z':
			n = int(c | 0x20 - 'x')
		default:
			return false
		}
	}
	return "TRWAGMYFPDXBNJZSQVHLCKE"[n%23] == b[8]&^0x20
}

// nie looks for a NIE whose first letter is at start.
func (sc *scan) nie(start, end int) {
	digits := start + 1
	if end == digits && sc.at(end) == '-' {
		digits++
	}
	last := digits + 7
	if sc.count(digits, 7) != 7 {
		return
	}
	if sc.at(last) == '-' {
		last++
	}
	if end := last + 1; is(sc.at(last), isLetter) && sc.stands(start, end) && validDNI(sc.plain(start, end)) {
		sc.hit(esDNI, start, end)
	}
}

// spacedNIR looks for 1 84 12 76 451 089 46, with spaces or dots or hyphens.
func (sc *scan) spacedNIR(start int) int {
	sep, i := sc.at(start+1), start
	for g, n := range [...]int{1, 2, 2, 2, 3, 3, 2} {
		if g > 0 {
			if sc.at(i) != sep {
				return 0
			}
			i++
		}
		for range n {
			if !is(sc.at(i), isWord) {
				return 0
			}
			i++
		}
	}
	if sc.stands(start, i) && validNIR(sc.plain(start, i)) && sc.hit(frNIR, start, i) {
		return i
	}
	return 0
}

// validNIR: sex, year, month, department, commune, order, and the key: 97 less the number modulo 97, where 2A counts as 19 and 2B as 18 (INSEE).
func validNIR(b []byte) bool {
	if len(b) != 15 || b[0] < '1' || b[0] > '8' || b[0] > '4' && b[0] < '7' {
		return false
	}
	n := 0
	for i, c := range b[:13] {
		switch {
		case is(c, isDigit):
			n = n*10 + int(c-'0')
		case i == 6 && b[5] == '2' && (c|0x20 == 'a' || c|0x20 == 'b'):
			n = n/10*100 + 19 - int(c|0x20-'a')
		default:
			return false
		}
	}
	if !is(b[13], isDigit) || !is(b[14], isDigit) {
		return false
	}
	month := number(b[3:5])
	if month == 0 || month > 12 && month < 20 || month > 42 && month < 50 || b[5] == '0' && b[6] == '0' {
		return false
	}
	return 97-n%97 == number(b[13:])
}
