package detect

// Bounds of addresses (RFC 5321, section 4.5.3.1) and of what stands before the host of a URL, in bytes.
const (
	maxLocal    = 64
	maxDomain   = 255
	maxUserinfo = 512
)

// latin reports whether a letter of Latin script beyond ASCII (U+00C0 to U+024F) begins at i, in two bytes of UTF-8. Those of other
// scripts stand next to values without a space, and are no part of them.
func (sc *scan) latin(i int) bool {
	a, b := sc.at(i), sc.at(i+1)
	return a >= 0xc3 && a <= 0xc9 && b >= 0x80 && b <= 0xbf && (a != 0xc3 || b != 0x97 && b != 0xb7)
}

// email looks for an address around the @ at i.
func (sc *scan) email(i int) {
	start := sc.local(i)
	if start == i {
		return
	}
	end := sc.domain(i + 1)
	if end == 0 || sc.at(end) == '(' || sc.at(end) == '@' {
		return
	}
	switch before := sc.at(start - 1); {
	case before == '@', before == '/' && sc.at(start-2) == '/': // the user of a URL
		return
	case sc.at(end) == ':' && string(sc.text[start:i]) == "git":
		return
	}
	sc.hit(email, start, end)
}

// local returns where the local part begins that ends before i, i if there is none.
func (sc *scan) local(i int) int {
	start := i
	for start > 0 && i-start < maxLocal {
		switch c := sc.text[start-1]; {
		case is(c, isWord), c == '_', c == '+', c == '-':
			start--
			continue
		case c == '.' && start < i && sc.text[start] != '.':
			start--
			continue
		case c == '\'' && start < i && is(sc.text[start], isLetter) && start > 1 && is(sc.text[start-2], isLetter): // O'Brien
			start--
			continue
		case start > 1 && sc.latin(start-2):
			start -= 2
			continue
		}
		break
	}
	if start > 0 && start < i && sc.text[start-1] == '\\' { // an escaped character's letter
		switch sc.text[start] {
		case 'n', 'r', 't', 'b', 'f':
			start++
		case 'u':
			start += 5
		}
	}
	for start < i && (sc.text[start] == '.' || sc.text[start] == '-' || sc.text[start] == '+') {
		start++
	}
	if start >= i || sc.text[i-1] == '.' {
		return i
	}
	return start
}

// files are endings of names of files and of systemd's units, none of them a top-level domain: icon@2x.png is no address.
var files = [...]string{"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "json", "html", "xml", "yml", "yaml", "txt", "pdf", "log", "conf", "scss", "tsx", "jsx", "vue", "go", "java",
	"service", "socket", "slice", "scope", "timer", "mount", "automount", "swap", "device"}

// domain returns the end of the domain that begins at i, 0 for none: two labels or more, the last one a top level.
func (sc *scan) domain(i int) int {
	begin, end := i, 0
	for labels := 1; ; labels++ {
		next, letters := sc.label(i)
		if next == i {
			return end
		}
		if end = 0; labels > 1 && isTop(sc.text[i:next], letters) {
			end = next
		}
		if sc.at(next) != '.' || next-begin > maxDomain {
			return end
		}
		i = next + 1
	}
}

// label returns the end of the label of a domain at i, i if there is none, and whether it is of letters.
func (sc *scan) label(i int) (end int, letters bool) {
	letters = true
	for end = i; end-i <= 63; {
		switch c := sc.at(end); {
		case is(c, isLetter):
			end++
			continue
		case is(c, isDigit), c == '-' && end > i:
			letters = false
			end++
			continue
		case sc.latin(end):
			end += 2
			continue
		}
		for end > i && sc.text[end-1] == '-' {
			end--
		}
		return end, letters
	}
	return i, false
}

// isTop reports whether a label can be a top-level domain.
func isTop(label []byte, letters bool) bool {
	if !letters {
		return len(label) > 4 && equalFold(label[:4], "xn--")
	}
	for _, f := range files {
		if equalFold(label, f) {
			return false
		}
	}
	return len(label) >= 2 && len(label) <= 24
}

// url looks for a password between the "://" at i and a host, and notes it.
func (sc *scan) url(i int) {
	if sc.at(i+2) != '/' || !is(sc.at(i-1), isWord) || !is(sc.at(i-2), isWord|isToken) {
		return
	}
	begin := i + 3
	colon, at := 0, 0
loop:
	for j := begin; j < len(sc.text) && j-begin < maxUserinfo; j++ {
		switch c := sc.text[j]; c {
		case ':':
			if colon == 0 {
				if at > 0 {
					break loop // the port
				}
				colon = j
			}
		case '@':
			at = j
		case '/', ' ', '\t', '\n', '\r', '"', '\'', '<', '>', '`', '\\', ',':
			break loop
		case '?', '#':
			if at > 0 {
				break loop
			}
		}
	}
	if colon == 0 || at <= colon+1 || !is(sc.at(at+1), isWord) && sc.at(at+1) != '[' {
		return
	}
	if word := sc.text[colon+1 : at]; !placeholder(word) {
		sc.hit(urlPassword, colon+1, at)
	}
}

// placeholder reports whether something stands in the place of a password: ${NAME}, {{name}}, ***.
func placeholder(word []byte) bool {
	if word[0] == '$' && len(word) > 1 && (word[1] == '{' || word[1] == '(') || word[0] == '{' && word[len(word)-1] == '}' || word[0] == '%' && word[len(word)-1] == '%' {
		return true
	}
	return (word[0] == '*' || word[0] == '.') && same(word)
}
