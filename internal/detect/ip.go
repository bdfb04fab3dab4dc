package detect

// ipv4 looks for an address at start, a digit, and returns its end, 0 for none.
func (sc *scan) ipv4(start int) int {
	if sc.at(start-1) == '.' {
		return 0
	}
	end := sc.quad(start)
	if end == 0 || !sc.ends(end) || sc.at(end) == '.' && is(sc.at(end+1), isDigit) ||
		sc.said(start, "version", "ver", "release", "firmware", "build", "rev", "revision") || !sc.hit(ip, start, end) {
		return 0
	}
	return end
}

// quad returns the end of four numbers up to 255 with dots between them (RFC 6943, section 3.1.1), 0 if they are not at i.
func (sc *scan) quad(i int) int {
	for part := range 4 {
		if part > 0 {
			if sc.at(i) != '.' {
				return 0
			}
			i++
		}
		n := sc.count(i, 3)
		if n == 0 || n > 3 || n > 1 && sc.at(i) == '0' || number(sc.text[i:i+n]) > 255 {
			return 0
		}
		i += n
	}
	return i
}

// ipv6 looks for an address (RFC 4291, section 2.2) around its first colon, at i, and returns where to go on, 0 for the next byte.
func (sc *scan) ipv6(i int) int {
	start := i
	for start > 0 && i-start < 5 && is(sc.text[start-1], isHex) {
		start--
	}
	if i-start > 4 || sc.joined(start) || sc.at(start-1) == ':' || start == i && sc.at(i+1) != ':' {
		return 0
	}
	groups, pairs, digits, gap := 0, 0, false, false
	at := start
	for groups < 8 {
		if sc.at(at) == ':' && sc.at(at+1) == ':' {
			if gap {
				return 0
			}
			gap = true
			at += 2
			if !is(sc.at(at), isHex) {
				break
			}
		}
		if end := sc.quad(at); end > 0 && groups > 0 {
			groups, at, digits = groups+2, end, true
			break
		}
		n := 0
		for n < 5 && is(sc.at(at+n), isHex) {
			digits = digits || is(sc.at(at+n), isDigit)
			n++
		}
		if n == 0 || n > 4 {
			return 0
		}
		if n == 2 {
			pairs++
		}
		groups++
		at += n
		if sc.at(at) != ':' || groups == 8 {
			break
		}
		if sc.at(at+1) != ':' {
			if !is(sc.at(at+1), isHex) {
				break
			}
			at++
		}
	}
	whole := groups == 8 && !gap && pairs < 8 || gap && groups > 0 && groups < 8 && (digits || groups > 2)
	if !whole || !sc.ends(at) || sc.at(at) == ':' && is(sc.at(at+1), isHex) || sc.at(at) == ':' && sc.at(at+1) == ':' {
		return 0
	}
	if sc.at(at) == '.' && is(sc.at(at+1), isDigit) || !sc.hit(ip, start, at) {
		return 0
	}
	return at
}
