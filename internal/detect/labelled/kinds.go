package labelled

import (
	"fmt"
	"strings"
)

// A value is what a detector must find, with what belongs to it on both sides.
type value struct{ before, text, after string }

// A kind says how many texts hold one value of it alone, what people call it,
// and how it is drawn.
type kind struct {
	name   string
	count  int
	labels []string
	make   func(*gen) value
}

// alone turns a drawer of bare values into one of values without company.
func alone(draw func(*gen) string) func(*gen) value {
	return func(g *gen) value { return value{text: draw(g)} }
}

var kinds = []kind{
	{"email", 300, []string{"email", "e-mail", "contact", "courriel", "correo", "mail", "reply_to"}, alone((*gen).email)},
	{"card", 300, []string{"card", "card_number", "pan", "Kreditkarte", "tarjeta", "carte", "payment"}, alone((*gen).card)},
	{"iban", 300, []string{"IBAN", "iban", "account", "Konto", "compte", "cuenta"}, alone((*gen).iban)},
	{"us-ssn", 200, []string{"SSN", "ssn", "social security", "tax_id", "applicant"}, (*gen).ssn},
	{"phone", 250, []string{"phone", "mobile", "tel", "Telefon", "móvil", "callback"}, alone((*gen).phone)},
	{"ip", 220, []string{"client", "remote_addr", "ip", "peer", "source"}, (*gen).ip},
	{"es-dni", 220, []string{"DNI", "NIE", "dni", "documento", "titular"}, alone((*gen).dni)},
	{"fr-nir", 220, []string{"NIR", "sécu", "nir", "assuré", "numero_ss"}, alone((*gen).nir)},
	{"it-cf", 220, []string{"codice fiscale", "CF", "cf", "intestatario"}, alone((*gen).cf)},
	{"pl-pesel", 220, []string{"PESEL", "pesel", "pacjent", "osoba"}, alone((*gen).pesel)},
	{"br-cpf", 220, []string{"CPF", "cpf", "cliente", "titular"}, (*gen).cpf},
	{"se-pin", 220, []string{"personnummer", "pnr", "kund", "patient"}, alone((*gen).personnummer)},
	{"aws-key", 110, []string{"aws_access_key_id", "AWS_ACCESS_KEY_ID", "accessKeyId", "key"}, alone((*gen).awsKey)},
	{"github-token", 120, []string{"GITHUB_TOKEN", "token", "gh_token", "password"}, alone((*gen).githubToken)},
	{"gitlab-token", 110, []string{"GITLAB_TOKEN", "PRIVATE-TOKEN", "token"}, alone((*gen).gitlabToken)},
	{"slack-token", 120, []string{"SLACK_TOKEN", "slack", "bot_token", "token"}, alone((*gen).slackToken)},
	{"stripe-key", 120, []string{"STRIPE_KEY", "api_key", "stripe", "secret"}, alone((*gen).stripeKey)},
	{"google-key", 110, []string{"GOOGLE_API_KEY", "maps_key", "key", "api_key"}, alone((*gen).googleKey)},
	{"openai-key", 110, []string{"OPENAI_API_KEY", "llm_key", "api_key"}, alone((*gen).openaiKey)},
	{"npm-token", 110, []string{"NPM_TOKEN", "_authToken", "token"}, alone((*gen).npmToken)},
	{"pypi-token", 110, []string{"TWINE_PASSWORD", "password", "pypi"}, alone((*gen).pypiToken)},
	{"private-key", 130, []string{"key", "private_key", "tls.key"}, alone((*gen).privateKey)},
	{"jwt", 120, []string{"token", "id_token", "bearer", "session"}, alone((*gen).jwt)},
	{"url-password", 150, []string{"DATABASE_URL", "dsn", "remote", "url", "broker"}, (*gen).urlPassword},
}

func (g *gen) email() string {
	first, last := strings.ToLower(g.pick(firstNames...)), strings.ToLower(g.pick(lastNames...))
	local := g.pick(first+"."+last, first, first+"_"+last, first[:1]+last, first+g.digits(g.between(1, 4)), first+"-"+last,
		first+"."+last+"+"+g.pick(words...), g.pick("sales", "billing", "no-reply", "ops", "support")+"."+g.pick(words...), first+"."+last[:1]+"."+g.digits(2))
	domain := g.pick("example.com", "example.org", "example.net", g.pick(words...)+".test", "mail.example.com",
		g.pick(words...)+g.pick(words...)+"."+g.pick("com", "org", "net", "io", "de", "co.uk", "com.br", "fr", "dev", "info", "museum"),
		g.pick(words...)+"-"+g.pick(words...)+"."+g.pick("com", "eu", "se", "pl", "it"), "eu-1."+g.pick(words...)+".example.org")
	address := local + "@" + domain
	switch {
	case g.in(12):
		return strings.ToUpper(address)
	case g.in(8):
		return strings.ToUpper(local[:1]) + local[1:] + "@" + strings.ToUpper(domain[:1]) + domain[1:]
	}
	return address
}

// plainCard draws a card number without separators.
func (g *gen) plainCard() string {
	prefix, n := "4", 16
	switch g.IntN(8) {
	case 0:
		prefix = fmt.Sprint(g.between(51, 55))
	case 1:
		prefix = fmt.Sprint(g.between(2221, 2720))
	case 2:
		prefix, n = g.pick("34", "37"), 15
	case 3:
		prefix = g.pick("6011", "65", fmt.Sprint(g.between(644, 649)))
	case 4:
		prefix = fmt.Sprint(g.between(3528, 3589))
	case 5:
		prefix, n = g.pick("36", "38", fmt.Sprint(g.between(300, 305))), 14
	case 6:
		prefix = "62"
		if g.in(3) {
			n = 19
		}
	}
	return withLuhn(prefix + g.digits(n-1-len(prefix)))
}

func (g *gen) card() string { return g.groupCard(g.plainCard()) }

// groupCard writes a number as it is printed on a card, or whole.
func (g *gen) groupCard(s string) string {
	sep := g.pick("", "", " ", " ", "-")
	switch {
	case sep == "":
		return s
	case len(s) == 15:
		return grouped(s, sep, 4, 6, 5)
	case len(s) == 14:
		return grouped(s, sep, 4, 6, 4)
	}
	return grouped(s, sep, 4)
}

func (g *gen) iban() string {
	s := g.plainIBAN()
	if g.in(2) {
		return grouped(s, " ", 4)
	}
	return s
}

func (g *gen) ssn() value {
	area, group, serial := g.ssnParts()
	if g.in(5) {
		return value{before: g.pick("SSN ", "SSN: ", "ssn=", "Social Security Number ", "social security no. "), text: area + group + serial}
	}
	sep := g.pick("-", "-", "-", " ")
	return value{text: area + sep + group + sep + serial}
}

func (g *gen) ssnParts() (area, group, serial string) {
	for {
		area, group, serial = g.digits(3), g.digits(2), g.digits(4)
		if ssnOK(area, group, serial) {
			return area, group, serial
		}
	}
}

func (g *gen) nanpArea() string {
	return g.pick("212", "415", "312", "604", "416", "206", "617", "787", "808", "303", "512", "800", "888")
}

func (g *gen) phone() string {
	area, line := g.nanpArea(), "01"+g.digits(2)
	switch g.IntN(12) {
	case 0:
		return "(" + area + ") 555-" + line
	case 1:
		return area + "-555-" + line
	case 2:
		return g.pick(area+".555."+line, area+" 555 "+line, area+" 555-"+line)
	case 3:
		return "+1" + area + "555" + line
	case 4:
		return g.pick("+1-"+area+"-555-"+line, "+1 "+area+" 555 "+line, "+1 ("+area+") 555-"+line, "+1."+area+".555."+line)
	}
	form := g.pick("+44 20 7946 0###", "+44 7700 900###", "+44 1632 960###", "+49 30 23125 ###", "+49 171 39200##", "+33 1 99 00 ## ##", "+33 6 39 98 ## ##",
		"+61 491 570 ###", "+61 2 5550 ####", "+46 70 174 06 ##", "+46 8 465 004 ##", "+34 600 ### ###", "+39 06 69## ####", "+48 501 ### ###", "+55 11 9####-####",
		"+81 90-####-####", "+86 138 #### ####", "+91 98### #####", "+972 50-###-####", "+7 495 ###-##-##", "+353 20 91# ####", "+372 5### ####", "+852 5### ####")
	var b strings.Builder
	for _, c := range form {
		if c == '#' {
			b.WriteString(g.digits(1))
		} else {
			b.WriteRune(c)
		}
	}
	if s := b.String(); !g.in(3) {
		return s
	}
	return strings.NewReplacer(" ", "", "-", "").Replace(b.String())
}

func (g *gen) ip() value {
	if g.in(3) {
		return value{text: g.ip6()}
	}
	first := g.pick("10", "172", "192", "203", "198", "100", fmt.Sprint(g.between(11, 223)))
	v := value{text: fmt.Sprintf("%s.%d.%d.%d", first, g.between(16, 255), g.IntN(256), g.IntN(255))}
	if g.in(5) {
		v.after = ":" + g.pick("5432", "443", "8080", "22", "51234")
	}
	return v
}

func (g *gen) ip6() string {
	group := func() string { return fmt.Sprintf("%x", g.between(1, 0xffff)) }
	var s string
	switch g.IntN(5) {
	case 0:
		s = "2001:db8::" + group()
	case 1:
		s = "fe80::" + group() + ":" + group() + ":" + group() + ":" + group()
	case 2:
		s = "2001:db8:" + group() + ":" + group() + "::" + group()
	case 3:
		s = fmt.Sprintf("2001:0db8:%04x:%04x:%04x:%04x:%04x:%04x", g.IntN(1<<16), g.IntN(1<<16), g.IntN(1<<16), g.IntN(1<<16), g.IntN(1<<16), g.IntN(1<<16))
	default:
		s = "2001:db8:" + group() + ":" + group() + ":" + group() + ":" + group() + ":" + group() + ":" + group()
	}
	if g.in(5) {
		return strings.ToUpper(s)
	}
	return s
}

func (g *gen) dni() string {
	s := g.digits(8)
	if g.in(3) {
		s = g.pick("X", "Y", "Z") + g.digits(7)
	}
	return s + g.pick("", "", "", "-") + dniLetter(s)
}

func (g *gen) nir() string {
	department := g.pick("75", "13", "69", "33", "59", "2A", "2B", "06", "31", "92")
	s := g.pick("1", "2") + fmt.Sprintf("%02d%02d", g.IntN(100), g.between(1, 12)) + department + fmt.Sprintf("%03d%03d", g.between(1, 599), g.between(1, 998))
	s += nirKey(s)
	if g.in(2) {
		return grouped(s, " ", 1, 2, 2, 2, 3, 3, 2)
	}
	return s
}

func (g *gen) cf() string {
	const consonants = "BCDFGLMNPRSTVZ"
	day := g.between(1, 28)
	if g.in(2) {
		day += 40 // women
	}
	tail := g.digits(3)
	if g.in(15) {
		tail = tail[:2] + g.from(cfDigits, 1)
	}
	s := g.from(consonants, 6) + g.digits(2) + g.from(cfMonths, 1) + fmt.Sprintf("%02d", day) + g.from("ABCDEFGHIL", 1) + tail
	s += cfLetter(s)
	if g.in(6) {
		return strings.ToLower(s)
	}
	return s
}

func (g *gen) pesel() string {
	year, month, day := g.date(1920, 2019)
	if year >= 2000 {
		month += 20
	}
	s := fmt.Sprintf("%02d%02d%02d", year%100, month, day) + g.digits(4)
	return s + peselDigit(s)
}

func (g *gen) cpf() value {
	s := g.digits(9)
	s += cpfDigits(s)
	if g.in(4) {
		return value{before: g.pick("CPF ", "CPF: ", "cpf=", "CPF nº "), text: s}
	}
	return value{text: s[:3] + "." + s[3:6] + "." + s[6:9] + "-" + s[9:]}
}

func (g *gen) personnummer() string {
	year, month, day := g.date(1925, 2015)
	date := fmt.Sprintf("%d%02d%02d", year, month, day)
	s := withLuhn(date[2:] + g.digits(3))
	switch {
	case g.in(3):
		return date + "-" + s[6:]
	case g.in(8):
		return s[:6] + "+" + s[6:]
	}
	return s[:6] + "-" + s[6:]
}
