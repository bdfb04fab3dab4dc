package labelled

import (
	b64 "encoding/base64"
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// valuesIn finds what is a value beyond doubt, in every way in which parts of
// the text that stand alone can be put together. It is slow, and finds rather
// too much (every ending of a phone number that could be one): it keeps
// accidents out of the set and is no detector.
func valuesIn(text string) []Span {
	list := patternValues(text)
	toks := tokens(text)
	for i := range toks {
		list = append(list, numbersAt(text, toks[i:])...)
	}
	list = append(list, phonesIn(text)...)
	return append(list, addressesIn(text)...)
}

func isWord(c byte) bool { return strings.IndexByte(alnum, c) >= 0 }

// apart reports whether no ASCII letter or digit touches text[start:end].
func apart(text string, start, end int) bool {
	return (start == 0 || !isWord(text[start-1])) && (end == len(text) || !isWord(text[end]))
}

var tokenPattern = regexp.MustCompile(`[0-9A-Za-z]+`)

func tokens(text string) [][]int { return tokenPattern.FindAllStringIndex(text, -1) }

var (
	ssnWord = regexp.MustCompile(`(?i)(ssn|social security)[^0-9]{0,20}$`)
	cpfWord = regexp.MustCompile(`(?i)cpf[^0-9]{0,12}$`)
)

// numbersAt finds the numbers that begin with the first of toks.
func numbersAt(text string, toks [][]int) []Span {
	var list []Span
	var parts, gaps []string
	start, s := toks[0][0], ""
	for i, t := range toks {
		if i > 0 {
			gap := text[toks[i-1][1]:t[0]]
			if len(gap) > 2 || strings.Trim(gap, " -+./)\u00a0") != "" {
				break
			}
			gaps = append(gaps, gap)
		}
		parts = append(parts, text[t[0]:t[1]])
		if s += text[t[0]:t[1]]; len(s) > 34 {
			break
		}
		for _, name := range numberKinds(s, parts, gaps, text[:start]) {
			from := start
			if name == "phone" && start > 0 && text[start-1] == '(' && gaps[0][0] == ')' {
				from--
			}
			list = append(list, Span{name, from, t[1]})
		}
	}
	return list
}

// numberKinds names the kinds of a number: s is it without separators.
func numberKinds(s string, parts, gaps []string, before string) []string {
	var names []string
	is := func(name string, ok bool) {
		if ok {
			names = append(names, name)
		}
	}
	lengths := make([]int, len(parts))
	for i, p := range parts {
		lengths[i] = len(p)
	}
	shaped := func(n ...int) bool { return allDigits(s) && slices.Equal(lengths, n) }
	is("card", issued(s) && luhnOK(s))
	is("iban", ibanOK(s))
	is("es-dni", dniOK(strings.ToUpper(s)))
	is("fr-nir", nirOK(s))
	is("it-cf", len(parts) == 1 && cfOK(s))
	is("pl-pesel", len(parts) == 1 && peselOK(s))
	is("br-cpf", (shaped(3, 3, 3, 2) || shaped(9, 2) || shaped(11) && cpfWord.MatchString(before)) && cpfOK(s))
	is("us-ssn", (shaped(3, 2, 4) || shaped(9) && ssnWord.MatchString(before)) && ssnOK(s[:3], s[3:5], s[5:]))
	is("se-pin", len(parts) == 2 && (gaps[0] == "-" || gaps[0] == "+") && personnummerOK(parts[0], parts[1]))
	is("phone", shaped(3, 3, 4) && s[0] > '1' && s[3] > '1' && gaps[1] != "/" && gaps[0] != "/")
	return names
}

var phonePattern = regexp.MustCompile(`^\+[1-9][0-9]*(?:[-. ]?\([0-9]{1,4}\))?(?:[-. ]?[0-9]+)*`)

// phonesIn finds international numbers, with each ending that leaves enough digits.
func phonesIn(text string) []Span {
	var list []Span
	for i := range len(text) {
		if text[i] != '+' || i > 0 && isWord(text[i-1]) {
			continue
		}
		long := phonePattern.FindString(text[i:])
		for n := 8; n <= len(long); n++ {
			if apart(text, i, i+n) && isWord(text[i+n-1]) && isInternational(long[:n]) {
				list = append(list, Span{"phone", i, i + n})
			}
		}
	}
	return list
}

func isInternational(s string) bool {
	groups := tokens(s)
	count := 0
	for _, g := range groups {
		count += g[1] - g[0]
	}
	if len(groups) == 2 && strings.Contains(s, ".") {
		return false // a decimal fraction with its sign
	}
	return count >= 7 && count <= 15 && (len(groups) == 1 || groups[0][1]-groups[0][0] <= 3)
}

var (
	v4Pattern = regexp.MustCompile(`[0-9.]+`)
	v6Pattern = regexp.MustCompile(`[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+`)
)

func addressesIn(text string) []Span {
	var list []Span
	for _, p := range []*regexp.Regexp{v4Pattern, v6Pattern} {
		for _, at := range p.FindAllStringIndex(text, -1) {
			s := strings.Trim(text[at[0]:at[1]], ".")
			start := at[0] + strings.Index(text[at[0]:at[1]], s)
			if a, err := netip.ParseAddr(s); err == nil && (a.Is4() || strings.ContainsAny(s, digits)) && apart(text, start, start+len(s)) {
				list = append(list, Span{"ip", start, start + len(s)})
			}
		}
	}
	return list
}

// A pattern's value is its first group, or all of it.
type pattern struct {
	kind string
	mark string // is in each value: to look for it is faster
	form *regexp.Regexp
	ok   func(text string, at []int) bool
}

var patterns = []pattern{
	{"email", "@", regexp.MustCompile(`[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}`), emailOK},
	{"aws-key", "IA", regexp.MustCompile(`A[KS]IA[A-Z2-7]{16}`), nil},
	{"github-token", "_", regexp.MustCompile(`gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}`), nil},
	{"gitlab-token", "glpat-", regexp.MustCompile(`glpat-[0-9A-Za-z_-]{20}`), nil},
	{"slack-token", "x", regexp.MustCompile(`xox[abpr]-[0-9A-Za-z-]{20,}|xapp-[0-9A-Za-z-]{20,}`), nil},
	{"stripe-key", "_", regexp.MustCompile(`(?:sk_live|rk_live|sk_test|whsec)_[0-9A-Za-z]{20,}`), nil},
	{"google-key", "AIza", regexp.MustCompile(`AIza[0-9A-Za-z_-]{35}`), nil},
	{"openai-key", "sk-", regexp.MustCompile(`sk-(?:proj-)?[0-9A-Za-z_-]{30,}`), nil},
	{"npm-token", "npm_", regexp.MustCompile(`npm_[0-9A-Za-z]{36}`), nil},
	{"pypi-token", "pypi-", regexp.MustCompile(`pypi-[0-9A-Za-z_-]{50,}`), nil},
	{"private-key", "PRIVATE KEY", regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.{60,}?)-----END [A-Z ]*PRIVATE KEY-----`), nil},
	{"jwt", ".", regexp.MustCompile(`[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{4,}\.[0-9A-Za-z_-]{8,}`), jwtOK},
	{"url-password", "://", regexp.MustCompile(`[A-Za-z][a-z0-9A-Z+]*://[^\s/:@?#"']+:([^\s/@?#"':]+)@[A-Za-z0-9]`), nil},
}

func patternValues(text string) []Span {
	var list []Span
	for _, p := range patterns {
		if !strings.Contains(text, p.mark) {
			continue
		}
		for _, at := range p.form.FindAllStringSubmatchIndex(text, -1) {
			at = at[len(at)-2:]
			if apart(text, at[0], at[1]) && (p.ok == nil || p.ok(text, at)) {
				list = append(list, Span{p.kind, at[0], at[1]})
			}
		}
	}
	return list
}

var topDomains = []string{"com", "org", "net", "test", "dev", "info", "museum"}

// emailOK refuses what stands in a URL as user and host, and endings that are
// no top level domain.
func emailOK(text string, at []int) bool {
	if at[0] > 0 && (text[at[0]-1] == '/' || text[at[0]-1] == ':') && strings.Contains(text[:at[0]], "://") {
		return false
	}
	s := strings.ToLower(text[at[0]:at[1]])
	top := s[strings.LastIndexByte(s, '.')+1:]
	return len(top) == 2 || slices.Contains(topDomains, top)
}

func jwtOK(text string, at []int) bool {
	head, _, _ := strings.Cut(text[at[0]:at[1]], ".")
	raw, err := b64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return false
	}
	var fields map[string]any
	return json.Unmarshal(raw, &fields) == nil && fields["alg"] != nil
}
