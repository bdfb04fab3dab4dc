package detect

// Classes of bytes.
const (
	isUpper = 1 << iota
	isLower
	isDigit
	isHex
	isSign  // something can begin or be around it
	isToken // what tokens are made of beside letters and digits: - and _
	isBase32

	isLetter = isUpper | isLower
	isWord   = isLetter | isDigit
)

func makeClasses() (t [256]uint8) {
	for c := range 256 {
		switch {
		case c >= 'A' && c <= 'Z':
			t[c] |= isUpper
		case c >= 'a' && c <= 'z':
			t[c] |= isLower
		case c >= '0' && c <= '9':
			t[c] |= isDigit | isHex
		}
		if c >= 'A' && c <= 'Z' || c >= '2' && c <= '7' {
			t[c] |= isBase32
		}
		if c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' {
			t[c] |= isHex
		}
	}
	for _, c := range []byte("@+(-:\\") {
		t[c] |= isSign
	}
	for _, c := range []byte("-_") {
		t[c] |= isToken
	}
	return t
}

// class is never changed.
var class = makeClasses()

func is(c byte, what uint8) bool { return class[c]&what != 0 }

// scan is one pass over a text.
type scan struct {
	set   *Set
	text  []byte
	hits  []Hit
	first int // of hits that are of this pass
	buf   [maxDigits]byte
}

// hit notes a value.
func (sc *scan) hit(kind, start, end int) bool {
	if !sc.set.on[kind] {
		return false
	}
	k := &sc.set.kinds[kind]
	sc.hits = append(sc.hits, Hit{k.Name, start, end, k.Confidence})
	return true
}

// at returns the byte at i, 0 outside of the text.
func (sc *scan) at(i int) byte {
	if uint(i) < uint(len(sc.text)) { //nolint:gosec // a negative one is outside
		return sc.text[i]
	}
	return 0
}

// run looks at each word and sign once, from its begin.
func (sc *scan) run() {
	t := sc.text
	for i := 0; i < len(t); {
		c := t[i]
		switch what := class[c]; {
		case what&isWord != 0:
			end := i + 1
			for end < len(t) && class[t[end]]&isWord != 0 {
				end++
			}
			to := 0
			if what&isDigit != 0 {
				to = sc.digits(i, end)
			} else {
				to = sc.word(i, end)
			}
			i = max(end, to)
		case what&isSign != 0:
			i = sc.sign(c, i)
		default:
			i++
		}
	}
}

// sign looks at a sign and returns where to go on.
func (sc *scan) sign(c byte, i int) int {
	to := 0
	switch c {
	case '@':
		sc.email(i)
	case '+':
		to = sc.international(i)
	case '(':
		if is(sc.at(i+1), isDigit) {
			to = sc.american(i)
		}
	case '-':
		if sc.at(i+1) == '-' {
			to = sc.pem(i)
		}
	case ':':
		switch next := sc.at(i + 1); {
		case next == '/':
			sc.url(i)
		case next == ':' || is(next, isHex):
			to = sc.ipv6(i)
		}
	case '\\': // what stands behind an escaped character is no part of its letter
		switch sc.at(i + 1) {
		case 'n', 'r', 't', 'b', 'f':
			return i + 2
		case 'u':
			if i+6 <= len(sc.text) {
				return i + 6
			}
		}
	}
	return max(i+1, to)
}

// joined reports whether a letter or digit stands right before i that is no letter of an escape.
func (sc *scan) joined(i int) bool {
	c := sc.at(i - 1)
	return is(c, isWord) && (sc.at(i-2) != '\\' || c != 'n' && c != 'r' && c != 't' && c != 'b' && c != 'f')
}

// ends reports whether a value can end before i: no letter or digit follows.
func (sc *scan) ends(i int) bool { return !is(sc.at(i), isWord) }

// stands reports whether a number of [start, end) is no part of a longer one.
func (sc *scan) stands(start, end int) bool {
	if !sc.ends(end) {
		return false
	}
	if sep := sc.at(end); (sep == '-' || sep == '.' || sep == '/') && is(sc.at(end+1), isDigit) {
		return false
	}
	sep := sc.at(start - 1)
	return sep != '-' && sep != '.' && sep != '/' || !is(sc.at(start-2), isDigit)
}

// count returns how many digits begin at i, as far as max+1.
func (sc *scan) count(i, limit int) int {
	n := 0
	for n <= limit && is(sc.at(i+n), isDigit) {
		n++
	}
	return n
}

// said reports whether one of the words stands right before i, whatever stands in between that is no letter or digit.
func (sc *scan) said(i int, words ...string) bool {
	end := i
	for end > 0 && end > i-5 && !is(sc.text[end-1], isWord) {
		end--
	}
	for _, w := range words {
		if start := end - len(w); start >= 0 && equalFold(sc.text[start:end], w) && !is(sc.at(start-1), isWord) {
			return true
		}
	}
	return false
}

// equalFold compares with a word in lower case.
func equalFold(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if is(c, isUpper) {
			c |= 0x20
		}
		if c != word[i] {
			return false
		}
	}
	return true
}
