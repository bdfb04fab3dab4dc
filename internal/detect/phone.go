package detect

// national are, for some country codes, how many digits numbers have behind the code (ITU-T E.164 and the national numbering plans).
var national = map[int][2]int{
	1: {10, 10}, 7: {10, 10}, 20: {8, 10}, 27: {9, 9}, 30: {10, 10}, 31: {9, 9}, 32: {8, 9}, 33: {9, 9}, 34: {9, 9}, 36: {8, 9}, 39: {8, 11}, 40: {9, 9}, 41: {9, 9},
	43: {7, 12}, 44: {9, 10}, 45: {8, 8}, 46: {7, 10}, 47: {8, 8}, 48: {9, 9}, 49: {7, 12}, 52: {10, 11}, 55: {10, 11}, 60: {8, 10}, 61: {9, 9}, 62: {8, 12}, 63: {8, 10}, 64: {8, 10},
	65: {8, 8}, 66: {8, 9}, 81: {9, 10}, 82: {8, 10}, 84: {9, 10}, 86: {10, 11}, 90: {10, 10}, 91: {10, 10}, 92: {9, 10}, 98: {10, 10},
	351: {9, 9}, 353: {7, 9}, 358: {6, 11}, 380: {9, 9}, 385: {8, 9}, 386: {8, 8}, 420: {9, 9}, 421: {9, 9}, 852: {8, 8}, 886: {8, 9}, 966: {8, 9}, 971: {8, 9}, 972: {8, 9},
}

// codes2 are the country codes of two digits; those of three begin otherwise, and with none of 0, 1, 7.
var codes2 = [...]bool{
	20: true, 27: true, 30: true, 31: true, 32: true, 33: true, 34: true, 36: true, 39: true, 40: true, 41: true, 43: true, 44: true, 45: true, 46: true, 47: true, 48: true, 49: true,
	51: true, 52: true, 53: true, 54: true, 55: true, 56: true, 57: true, 58: true, 60: true, 61: true, 62: true, 63: true, 64: true, 65: true, 66: true, 81: true, 82: true, 84: true,
	86: true, 90: true, 91: true, 92: true, 93: true, 94: true, 95: true, 98: true, 99: false,
}

// country returns the country code that digits begin with, and its length; 0 if none does.
func country(d []byte) (code, n int) {
	switch {
	case len(d) < 3 || d[0] == '0':
		return 0, 0
	case d[0] == '1' || d[0] == '7':
		return int(d[0] - '0'), 1
	}
	if two := number(d[:2]); codes2[two] {
		return two, 2
	}
	switch number(d[:2]) {
	case 28, 83, 89:
		return 0, 0
	}
	return number(d[:3]), 3
}

// international looks for a number at the + at i, and returns its end, 0 for none. Digits are in groups, which one separator or one in
// brackets parts; the number ends with the last group with which it has as many digits as its country's numbers.
func (sc *scan) international(i int) int {
	if sc.joined(i) || sc.at(i-1) == '+' {
		return 0
	}
	var digits [16]byte
	n, end, bracket := 0, 0, false
	dots, groups := 0, 0
	var last byte
	at := i + 1
	if sc.at(at) == '(' {
		bracket = true
		at++
	}
	for {
		size := sc.count(at, 16)
		if size == 0 || n+size > 15 {
			break
		}
		copy(digits[n:], sc.text[at:at+size])
		n += size
		at += size
		groups++
		if !bracket && sc.fits(digits[:n], last == '.' && dots == 1 && groups == 2) && sc.stands(i, at) {
			end = at
			if groups == 1 {
				break
			}
		}
		switch c := sc.at(at); {
		case bracket && c == ')':
			bracket = false
			at++
			if c := sc.at(at); c == ' ' || c == '-' || c == '.' {
				at++
			}
			last = c
			if end == 0 && sc.fits(digits[:n], false) {
				return 0
			}
			continue
		case c == ' ', c == '-', c == '.', c == '/':
			last = c
			if c == '.' {
				dots++
			}
			at++
			if sc.at(at) == '(' && !bracket {
				bracket = true
				at++
			}
			continue
		case c == '(' && !bracket:
			bracket = true
			at++
			continue
		}
		break
	}
	if end > 0 && sc.hit(phone, i, end) {
		return end
	}
	return 0
}

// fits reports whether digits are a whole number. decimal: it may be a number with a fraction, too.
func (sc *scan) fits(d []byte, decimal bool) bool {
	code, n := country(d)
	if code == 0 {
		return false
	}
	rest := len(d) - n
	if decimal && (n == 0 || rest < 8) {
		return false
	}
	limits, ok := national[code]
	if !ok {
		limits = [2]int{6, 12}
		if len(d) < 9 {
			return false
		}
	}
	if code == 39 || code == 44 || code == 49 || code == 43 { // +44 (0)20
		if len(d) > n && d[n] == '0' && code != 39 {
			rest--
		}
	}
	return rest >= limits[0] && rest <= limits[1] && (code != 1 || plan(d[1:]))
}

// plan reports whether ten digits are a number of the North American plan: area and exchange begin with 2 to 9, and neither is N11.
func plan(d []byte) bool {
	return len(d) == 10 && d[0] >= '2' && d[3] >= '2' && (d[1] != '1' || d[2] != '1') && (d[4] != '1' || d[5] != '1')
}

// american looks for a number of the North American plan at i, in brackets or in groups, and returns its end, 0 for none.
func (sc *scan) american(i int) int {
	at := i
	if sc.at(at) == '1' && !is(sc.at(at+1), isDigit) {
		if c := sc.at(at + 1); c != ' ' && c != '-' && c != '.' {
			return 0
		}
		at += 2
	}
	var d [10]byte
	sep := byte(0)
	if sc.at(at) == '(' {
		if sc.count(at+1, 3) != 3 || sc.at(at+4) != ')' || sc.joined(i) {
			return 0
		}
		copy(d[:], sc.text[at+1:at+4])
		at += 5
		if c := sc.at(at); c == ' ' || c == '-' {
			at++
		}
	} else {
		if sc.count(at, 3) != 3 {
			return 0
		}
		copy(d[:], sc.text[at:at+3])
		sep = sc.at(at + 3)
		at += 4
		if sep != '-' && sep != '.' && sep != ' ' {
			return 0
		}
	}
	if sc.count(at, 3) != 3 {
		return 0
	}
	copy(d[3:], sc.text[at:at+3])
	at += 3
	if c := sc.at(at); c != '-' && c != '.' && c != ' ' || sep != 0 && c != sep && (sep != ' ' || c != '-') {
		return 0
	}
	at++
	if sc.count(at, 4) != 4 {
		return 0
	}
	copy(d[6:], sc.text[at:at+4])
	at += 4
	if !plan(d[:]) || !sc.stands(i, at) || !sc.hit(phone, i, at) {
		return 0
	}
	return at
}
