package labelled

import (
	"fmt"
	"strings"
	"time"
)

// lookalikes are what is like a value of a kind and is none, with how many are made of each.
var lookalikes = []struct {
	note string
	n    int
	make func(*maker) string
}{
	{"digits with a wrong check digit", 1500, func(m *maker) string { return m.harmless(m.digits(m.between(3, 24))) }},
	{"a card with a wrong check digit", 700, (*maker).badCard},
	{"an IBAN with a wrong check", 600, (*maker).badIBAN},
	{"an IBAN of a wrong length", 200, func(m *maker) string {
		n := strings.ReplaceAll(m.iban(), " ", "")
		return n[:len(n)-m.between(4, 8)] + m.one("", "Q", "7Q7")
	}},
	{"an SSN that is not given out", 300, func(m *maker) string {
		return m.one(fmt.Sprintf("%d-%02d-%s", m.between(900, 999), m.between(1, 99), m.digits(4)), "666-"+fmt.Sprintf("%02d", m.between(1, 99))+"-"+m.digits(4),
			"000-"+fmt.Sprintf("%02d", m.between(1, 99))+"-"+m.digits(4), m.digits(3)+"-00-"+m.digits(4), m.digits(3)+"-"+fmt.Sprintf("%02d", m.between(1, 99))+"-0000")
	}},
	{"a DNI with another letter", 300, func(m *maker) string {
		n := m.between(1_000_000, 99_999_999)
		return fmt.Sprintf("%08d", n) + string("TRWAGMYFPDXBNJZSQVHLCKE"[(n%23+m.between(1, 22))%23])
	}},
	{"a NIR with another key", 200, func(m *maker) string {
		for {
			n := strings.ReplaceAll(m.nir(), " ", "")
			if strings.ContainsAny(n, "AB") {
				continue
			}
			k := 0
			_, _ = fmt.Sscanf(n[13:], "%d", &k)
			return m.harmless(n[:13] + fmt.Sprintf("%02d", (k+m.between(1, 90))%97+1))
		}
	}},
	{"a codice fiscale with another letter", 200, func(m *maker) string {
		n := strings.ToUpper(m.cf())
		return n[:15] + string(uppers[(int(n[15]-'A')+m.between(1, 25))%26])
	}},
	{"a PESEL with another digit", 300, func(m *maker) string {
		n := m.pesel()
		return m.harmless(n[:10] + fmt.Sprint((int(n[10]-'0')+m.between(1, 9))%10))
	}},
	{"a CPF with another digit", 200, func(m *maker) string {
		n := m.cpf()
		return n[:13] + fmt.Sprint((int(n[13]-'0')+m.between(1, 9))%10)
	}},
	{"a personnummer with another digit", 200, func(m *maker) string {
		n := m.pin()
		return n[:len(n)-1] + fmt.Sprint((int(n[len(n)-1]-'0')+m.between(1, 9))%10)
	}},
	{"an order number", 500, func(m *maker) string {
		return m.one("ORD-", "INV", "PO ", "A", "SKU-", "#", "RMA-", "T-") + m.harmless(m.digits(m.between(4, 10))) + m.one("", "", "-"+m.of(uppers, 2))
	}},
	{"a tracking number", 300, func(m *maker) string {
		return m.one("1Z", "JD", "RR", "LX") + m.of(uppers+"0123456789", 10) + m.of(uppers, 2)
	}},
	{"a UUID", 500, func(m *maker) string {
		h := func(n int) string { return m.of("0123456789abcdef", n) }
		return h(8) + "-" + h(4) + "-4" + h(3) + "-a" + h(3) + "-" + h(12)
	}},
	{"a digest", 400, func(m *maker) string { return m.of("0123456789abcdef", []int{7, 32, 40, 64, 128}[m.IntN(5)]) }},
	{"base64", 400, func(m *maker) string { return m.of(alnum+"+/", 4*m.between(3, 30)) + m.one("", "=", "==") }},
	{"a time", 700, (*maker).moment},
	{"a version", 400, func(m *maker) string {
		return m.one(fmt.Sprintf("v%d.%d.%d", m.between(0, 30), m.between(0, 99), m.between(0, 999)), fmt.Sprintf("%d.%d.%d.%d.%d", m.between(0, 9), m.between(0, 9), m.between(0, 99), m.between(0, 9), m.between(0, 9)),
			fmt.Sprintf("%d.%d", m.between(0, 99), m.between(0, 999)), fmt.Sprintf("%d.%d.%d-rc%d", m.between(0, 9), m.between(0, 9), m.between(0, 9), m.between(1, 9)))
	}},
	{"numbers of a net that are none", 300, func(m *maker) string {
		return m.one(fmt.Sprintf("%d.%d.%d.%d", m.between(256, 999), m.between(0, 255), m.between(0, 255), m.between(0, 255)), fmt.Sprintf("%d.%d.%d", m.between(0, 255), m.between(0, 255), m.between(0, 255)),
			fmt.Sprintf("%d.%d.%d.%d", m.between(1, 255), m.between(1, 255), m.between(256, 999), m.between(0, 255)))
	}},
	{"a book's number", 200, func(m *maker) string {
		return m.one("ISBN 978-"+m.digits(1)+"-"+m.digits(2)+"-"+m.digits(6)+"-"+m.digits(1), "ISBN 0-"+m.digits(3)+"-"+m.digits(5)+"-X")
	}},
	{"coordinates", 300, func(m *maker) string {
		return fmt.Sprintf("%d.%s, %s%d.%s", m.between(0, 89), m.digits(m.between(4, 7)), m.one("", "-"), m.between(0, 179), m.digits(m.between(4, 7)))
	}},
	{"money", 400, func(m *maker) string {
		return m.one("$", "€ ", "USD ", "") + fmt.Sprintf("%d,%03d,%03d.%02d", m.between(1, 99), m.between(0, 999), m.between(0, 999), m.between(0, 99)) + m.one("", " EUR")
	}},
	{"a part number", 300, func(m *maker) string {
		return m.one(m.digits(2)+"-"+m.digits(2)+"-"+m.digits(2), "ext. "+m.digits(4), "x"+m.digits(5), m.digits(3)+"-"+m.digits(3), "("+m.digits(2)+") "+m.digits(3), "1-800", m.digits(5)+"-"+m.digits(4), "+"+m.digits(2), "+0"+m.digits(3),
			"0"+m.digits(2)+"-"+m.digits(3)+"-"+m.digits(4))
	}},
	{"a change", 150, func(m *maker) string {
		return m.one(fmt.Sprintf("+%d.%d%%", m.between(0, 99), m.between(0, 9)), fmt.Sprintf("@@ -%d,%d +%d,%d @@", m.between(1, 999), m.between(1, 9), m.between(1, 999), m.between(1, 9)), fmt.Sprintf("+%02d:00", m.between(0, 12)), fmt.Sprintf("%+d", m.between(-9999, 9999)))
	}},
	{"a handle", 400, func(m *maker) string {
		return m.one("@"+firsts[m.IntN(len(firsts))]+m.digits(2), "@Override", "@"+words[m.IntN(len(words))]+"/"+words[m.IntN(len(words))], firsts[m.IntN(len(firsts))]+"@", firsts[m.IntN(len(firsts))]+" @ "+words[m.IntN(len(words))], "a@b",
			words[m.IntN(len(words))]+"@"+m.digits(1)+"."+m.digits(2)+"."+m.digits(1), "@media (min-width: "+m.digits(3)+"px)", words[m.IntN(len(words))]+"@sha256:"+m.of("0123456789abcdef", 64))
	}},
	{"a file", 200, func(m *maker) string {
		return words[m.IntN(len(words))] + m.one("@2x.png", "@3x.jpg", "@1x.webp", "@4x.svg", "@2x.gif")
	}},
	{"C++ and casts", 200, func(m *maker) string {
		return m.one("std::"+words[m.IntN(len(words))], "a::b", "Foo::bar()", "'"+m.digits(2)+"'::text", "x::int", "ns::"+m.of(lowers, 4)+"::"+m.of(lowers, 5), "::1st", "crate::error::Error")
	}},
	{"a MAC address", 200, func(m *maker) string {
		h := func() string { return m.of("0123456789abcdef", 2) }
		return h() + ":" + h() + ":" + h() + ":" + h() + ":" + h() + ":" + h()
	}},
	{"a key that is cut", 500, func(m *maker) string {
		return m.one("AKIA"+m.of(uppers, 5), "ASIA"+m.of(uppers, 11), "ghp_"+m.of(alnum, 10), "gho_"+m.of(alnum, 30), "glpat-"+m.of(alnum, 8), "xoxb-"+m.digits(6), "sk_live_"+m.of(alnum, 6), "AIza"+m.of(alnum, 20), "sk-"+m.of(alnum, 12), "npm_"+m.of(alnum, 12),
			"pypi-"+m.of(alnum, 10), "github_pat_"+m.of(alnum, 22), "akia"+m.of(lowers, 16), "sk-learn", "npm_config_registry", "pypi-server", "xapp-old", "whsec_")
	}},
	{"three parts that are no token", 300, func(m *maker) string {
		return m.one(m.of(urlset, 20)+"."+m.of(urlset, 30)+"."+m.of(urlset, 43), "com.example."+words[m.IntN(len(words))], encode(`{"a":1}`)+"."+encode(`{"b":2}`)+"."+m.of(urlset, 20), "eyJ"+m.of(alnum, 20)+"."+m.of(alnum, 20))
	}},
	{"what is no private key", 100, func(m *maker) string {
		name := m.one("CERTIFICATE", "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE REQUEST", "PGP MESSAGE")
		return "-----BEGIN " + name + "-----\n" + m.of(alnum+"+/", 64) + "\n" + m.of(alnum+"+/", 62) + "==\n-----END " + name + "-----"
	}},
	{"a URL without a password", 400, func(m *maker) string {
		return m.one("https://example.com:8443/"+words[m.IntN(len(words))], "https://bot@"+words[m.IntN(len(words))]+".internal/x", "ssh://git@host.internal/repo", "http://localhost:3000/a?b=c:d@e", "https://medium.com/@"+firsts[m.IntN(len(firsts))]+"/post-"+m.of(lowers, 6),
			"postgres://app:${DB_PASSWORD}@db/x", "postgres://app:***@db/x", "mailto:", "file:///tmp/"+words[m.IntN(len(words))]+":"+m.digits(2))
	}},
	{"words and numbers", 500, func(m *maker) string {
		return fmt.Sprintf("%s %s %d of %d, %s", words[m.IntN(len(words))], lasts[m.IntN(len(lasts))], m.between(1, 40), m.between(41, 900), m.one("open", "done", "late"))
	}},
	{"rows of figures", 400, func(m *maker) string {
		out := ""
		for i := range m.between(3, 9) {
			if i > 0 {
				out += m.one("  ", "\t", " | ")
			}
			out += fmt.Sprint(m.between(0, 99_999))
		}
		return out
	}},
}

// moment is a time in one of many forms.
func (m *maker) moment() string {
	t := time.Unix(int64(m.between(900_000_000, 1_900_000_000)), int64(m.IntN(1e9))).UTC()
	switch m.IntN(9) {
	case 0:
		return m.harmless(fmt.Sprint(t.Unix()))
	case 1:
		return m.harmless(fmt.Sprint(t.UnixMilli()))
	case 2:
		return t.Format("20060102150405")[:14]
	}
	return t.Format([]string{time.RFC3339, time.RFC3339Nano, time.DateTime, time.RFC1123, time.StampMicro, "02/Jan/2006:15:04:05 -0700", "2006-01-02", "15:04:05.000", "02.01.2006"}[m.IntN(9)])
}

func (m *maker) badCard() string {
	n := strings.NewReplacer(" ", "", "-", "").Replace(m.card())
	n = m.harmless(n[:len(n)-1] + fmt.Sprint((int(n[len(n)-1]-'0')+m.between(1, 9))%10))
	if len(n) == 16 && m.IntN(2) == 0 {
		sep := m.one(" ", "-")
		return n[:4] + sep + n[4:8] + sep + n[8:12] + sep + n[12:]
	}
	return n
}

func (m *maker) badIBAN() string {
	n := strings.ToUpper(strings.ReplaceAll(m.iban(), " ", ""))
	k := 0
	_, _ = fmt.Sscanf(n[2:4], "%d", &k)
	return n[:2] + fmt.Sprintf("%02d", 2+(k-2+m.between(1, 96))%97) + n[4:]
}

// harmless changes the last digit of a number until it is no value of any kind by accident.
func (m *maker) harmless(n string) string {
	for i := 0; accident(n) && i < 10; i++ {
		n = n[:len(n)-1] + fmt.Sprint((int(n[len(n)-1]-'0')+1)%10)
	}
	for accident(n) {
		n = m.digits(len(n))
	}
	return n
}

// accident reports whether digits are a card, a NIR or a PESEL.
func accident(n string) bool {
	switch {
	case len(n) == 11 && checkPESEL(n) == n[10:]:
		return true
	case len(n) == 15:
		v, k := 0, 0
		_, _ = fmt.Sscanf(n[:13], "%d", &v)
		_, _ = fmt.Sscanf(n[13:], "%d", &k)
		if 97-v%97 == k {
			return true
		}
	}
	return len(n) >= 13 && len(n) <= 19 && checkLuhn(n[:len(n)-1]) == n[len(n)-1:]
}

// Negatives returns texts without values.
func Negatives() (list []Sample) {
	seen := map[string]bool{}
	for i, l := range lookalikes {
		m := newMaker(uint64(5000 + i)) //nolint:gosec // small
		for j := range l.n {
			text := strings.Replace(surroundings[(j*11+i)%len(surroundings)], "%s", l.make(m), 1)
			if !seen[text] {
				seen[text] = true
				list = append(list, Sample{Text: text, Note: l.note})
			}
		}
	}
	return list
}
