// Package detect finds values that are personal or secret by how they look:
// e-mail addresses, payment cards, national numbers, keys.
//
// All detectors share one pass over the bytes: a table says what can begin at a
// byte, and a parser written for the kind decides there. Nothing goes back
// further than a bounded number of bytes, so that the time is linear in the
// length of the text, whatever it is.
//
// What is not found: names, postal addresses and dates of birth, which need
// rules by column; values that are split by other characters than the kind's
// own separators, spelt out, percent-encoded, in base64 or hexadecimal digits,
// or encrypted; and what is written without its separators where the kind needs
// them to be told from a number.
package detect

import (
	"fmt"
	"regexp"
	"slices"
)

// Kind is a sort of value.
type Kind struct {
	// Name is what rules and records call it.
	Name string
	// What it is.
	What string
	// Method is how it is found.
	Method string
	// Confidence, 0 to 1, of a hit by itself.
	Confidence float64
}

// Hit is a value in a text: the bytes [Start, End).
type Hit struct {
	Kind       string
	Start, End int
	Confidence float64
}

// The kinds, in the order in which one is preferred to another over the same bytes.
const (
	privateKey = iota
	jwt
	urlPassword
	iban
	awsKey
	githubToken
	gitlabToken
	slackToken
	stripeKey
	googleKey
	openaiKey
	npmToken
	pypiToken
	card
	frNIR
	itCF
	brCPF
	usSSN
	plPESEL
	sePIN
	esDNI
	email
	phone
	ip
	numKinds
)

func table() [numKinds]Kind {
	return [numKinds]Kind{
		privateKey:  {"private-key", "private keys in PEM", "BEGIN and END lines, or as much as there is", 1},
		jwt:         {"jwt", "JSON Web Tokens", "three base64url parts, the first a header with alg", 0.99},
		urlPassword: {"url-password", "passwords in URLs", "scheme://user:password@host", 0.95},
		iban:        {"iban", "bank accounts (IBAN)", "country, length, ISO 7064 mod 97-10", 0.99},
		awsKey:      {"aws-key", "AWS access key IDs", "prefix, length", 0.98},
		githubToken: {"github-token", "GitHub tokens", "prefix, length", 0.99},
		gitlabToken: {"gitlab-token", "GitLab tokens", "prefix, length", 0.98},
		slackToken:  {"slack-token", "Slack tokens", "prefix, parts, length", 0.98},
		stripeKey:   {"stripe-key", "Stripe keys", "prefix, length", 0.98},
		googleKey:   {"google-key", "Google API keys", "prefix, length", 0.98},
		openaiKey:   {"openai-key", "OpenAI keys", "prefix, length", 0.95},
		npmToken:    {"npm-token", "npm tokens", "prefix, length", 0.98},
		pypiToken:   {"pypi-token", "PyPI tokens", "prefix, length", 0.98},
		card:        {"card", "payment cards", "issuer range, length, Luhn", 0.95},
		frNIR:       {"fr-nir", "French social security numbers (NIR)", "parts, key", 0.99},
		itCF:        {"it-cf", "Italian codici fiscali", "parts, control letter", 0.99},
		brCPF:       {"br-cpf", "Brazilian CPF numbers", "form or the word CPF, two check digits", 0.99},
		usSSN:       {"us-ssn", "US Social Security numbers", "form or the word SSN, areas, groups and serials that exist", 0.8},
		plPESEL:     {"pl-pesel", "Polish PESEL numbers", "date, check digit", 0.9},
		sePIN:       {"se-pin", "Swedish personnummer", "form, date, Luhn", 0.95},
		esDNI:       {"es-dni", "Spanish DNI and NIE numbers", "control letter", 0.9},
		email:       {"email", "e-mail addresses", "local part, domain with a top level", 0.98},
		phone:       {"phone", "telephone numbers", "E.164 with a country code that exists, or a form of the North American plan", 0.8},
		ip:          {"ip", "IPv4 and IPv6 addresses", "form", 0.8},
	}
}

// Kinds returns the kinds that are built in.
func Kinds() []Kind {
	all := table()
	return all[:]
}

// Custom is a detector by a regular expression, which costs a pass of its own over each text.
type Custom struct {
	Name string
	// Pattern is in RE2 syntax. Its first group is the value, if it has one.
	Pattern string
	// Validator checks the digits of a match: "luhn", "mod97" (letters count too, as in an IBAN), or "" for none.
	Validator string
	// Confidence, 0 to 1.
	Confidence float64
}

// maxPattern bounds the length of a custom pattern in bytes.
const maxPattern = 1000

type custom struct {
	name       string
	re         *regexp.Regexp
	valid      func([]byte) bool
	confidence float64
}

// Options say what a Set finds.
type Options struct {
	// Kinds are names of kinds that are built in; nil for all of them.
	Kinds  []string
	Custom []Custom
}

// Set finds values. It is immutable and safe for concurrent use.
type Set struct {
	on     [numKinds]bool
	kinds  [numKinds]Kind
	custom []custom
}

// New returns a set of detectors.
func New(o Options) (*Set, error) {
	s := &Set{kinds: table()}
	for i := range s.on {
		s.on[i] = o.Kinds == nil || slices.Contains(o.Kinds, s.kinds[i].Name)
	}
	for _, name := range o.Kinds {
		if !slices.ContainsFunc(s.kinds[:], func(k Kind) bool { return k.Name == name }) {
			return nil, fmt.Errorf("there is no kind %q; there are %s", name, names(s.kinds[:]))
		}
	}
	for _, c := range o.Custom {
		made, err := s.compile(&c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		s.custom = append(s.custom, made)
	}
	return s, nil
}

func names(kinds []Kind) (list string) {
	for i, k := range kinds {
		if i > 0 {
			list += ", "
		}
		list += k.Name
	}
	return list
}

func (s *Set) compile(c *Custom) (custom, error) {
	if slices.ContainsFunc(s.kinds[:], func(k Kind) bool { return k.Name == c.Name }) || slices.ContainsFunc(s.custom, func(have custom) bool { return have.name == c.Name }) {
		return custom{}, fmt.Errorf("there is a kind of this name")
	}
	if len(c.Pattern) > maxPattern {
		return custom{}, fmt.Errorf("the pattern is longer than %d bytes", maxPattern)
	}
	re, err := regexp.Compile(c.Pattern)
	if err != nil {
		return custom{}, err
	}
	if re.MatchString("") {
		return custom{}, fmt.Errorf("the pattern matches nothing at all, so it would match everywhere")
	}
	if c.Confidence < 0 || c.Confidence > 1 {
		return custom{}, fmt.Errorf("the confidence %v is not between 0 and 1", c.Confidence)
	}
	made := custom{name: c.Name, re: re, confidence: c.Confidence}
	switch c.Validator {
	case "":
	case "luhn":
		made.valid = luhn
	case "mod97":
		made.valid = mod97
	default:
		return custom{}, fmt.Errorf("the validator %q is none of luhn, mod97", c.Validator)
	}
	return made, nil
}

// Names returns the names of all that the set finds.
func (s *Set) Names() (list []string) {
	for i, on := range s.on {
		if on {
			list = append(list, s.kinds[i].Name)
		}
	}
	for _, c := range s.custom {
		list = append(list, c.name)
	}
	return list
}

// Scan appends the values of a text to dst, in their order and none over another. It allocates nothing where nothing is found.
func (s *Set) Scan(dst []Hit, text []byte) []Hit {
	sc := scan{set: s, text: text, hits: dst, first: len(dst)}
	sc.run()
	for _, c := range s.custom {
		for _, m := range c.re.FindAllSubmatchIndex(text, -1) {
			at, end := m[0], m[1]
			if len(m) > 2 && m[2] >= 0 {
				at, end = m[2], m[3]
			}
			if end > at && (c.valid == nil || c.valid(text[at:end])) {
				sc.hits = append(sc.hits, Hit{c.name, at, end, c.confidence})
			}
		}
	}
	if len(sc.hits)-sc.first > 1 {
		sc.settle()
	}
	return sc.hits
}

// settle puts hits in order and leaves one of those that overlap: the preferred kind, then the longer, then the earlier.
func (sc *scan) settle() {
	found := sc.hits[sc.first:]
	slices.SortStableFunc(found, func(a, b Hit) int {
		if a.Start != b.Start {
			return a.Start - b.Start
		}
		return sc.set.rank(a.Kind) - sc.set.rank(b.Kind)
	})
	keep := 0
	for _, h := range found {
		for keep > 0 && h.Start < found[keep-1].End && sc.set.better(&h, &found[keep-1]) {
			keep--
		}
		if keep > 0 && h.Start < found[keep-1].End {
			continue
		}
		found[keep] = h
		keep++
	}
	sc.hits = sc.hits[:sc.first+keep]
}

// better reports whether a is preferred to b.
func (s *Set) better(a, b *Hit) bool {
	if ra, rb := s.rank(a.Kind), s.rank(b.Kind); ra != rb {
		return ra < rb
	}
	return a.End-a.Start > b.End-b.Start
}

func (s *Set) rank(kind string) int {
	for i := range s.kinds {
		if s.kinds[i].Name == kind {
			return i
		}
	}
	return numKinds // of the operator's own
}
