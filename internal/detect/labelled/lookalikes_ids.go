package labelled

import (
	b64 "encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

var dayNames = []string{"2006-01-02T15:04:05Z", "2006-01-02 15:04:05.000000-07", "02/Jan/2006:15:04:05 +0000", "Mon, 02 Jan 2006 15:04:05 GMT", "20060102T150405Z", "20060102150405", "2006-01-02T15:04:05-07:00",
	"060102-1504", "20060102-1504", "02.01.2006 15:04", "1/2/2006 3:04:05 PM", "2006-002", "Jan _2 15:04:05", "2006/01/02 15:04:05", "15:04:05.000000000", "20060102.150405"}

func (g *gen) moment() time.Time {
	return time.Unix(int64(g.between(1_000_000_000, 1_790_000_000)), int64(g.IntN(1e9))).UTC()
}

// ean appends the check digit of an article number.
func ean(s string) string {
	sum := 0
	for i := range len(s) {
		sum += int(s[i]-'0') * (1 + 2*(i%2))
	}
	return s + strconv.Itoa((10-sum%10)%10)
}

var idLookalikes = []lookalike{
	{"order number", orderLabels, func(g *gen) string {
		return g.pick("ORD-2026-"+g.digits(6), "SO"+g.digits(8), "#"+g.digits(7), "PO-"+g.digits(5)+"-"+g.from(upper, 2), g.digits(3)+"-"+g.digits(7)+"-"+g.digits(7))
	}, nil},
	{"tracking number", orderLabels, func(g *gen) string {
		return g.pick("1Z"+g.from(digits+upper, 6)+g.digits(10), "RR"+g.digits(9)+"DE", "JD0146"+g.digits(12), "9400 1"+g.digits(3)+" "+g.digits(4)+" "+g.digits(4)+" "+g.digits(4)+" "+g.digits(2), "TBA"+g.digits(12))
	}, nil},
	{"invoice", orderLabels, func(g *gen) string {
		return g.pick("INV-2026/"+g.digits(5), "RE-20260"+g.from("123456789", 1)+"12-"+g.digits(2), "F"+g.digits(4)+"-"+g.digits(6), "RG"+g.digits(10))
	}, nil},
	{"UUID", codeLabels, func(g *gen) string {
		h := g.from(hexLower, 8) + "-" + g.from(hexLower, 4) + "-" + g.pick("4", "7") + g.from(hexLower, 3) + "-" + g.from("89ab", 1) + g.from(hexLower, 3) + "-" + g.from(hexLower, 12)
		return g.pick(h, h, strings.ToUpper(h), "{"+h+"}")
	}, nil},
	{"UUID of digits", codeLabels, func(g *gen) string { return grouped(g.digits(32), "-", 8, 4, 4, 4, 12) }, nil},
	{"hex digest", codeLabels, func(g *gen) string {
		h := g.from(hexLower, g.number(32, 40, 64, 128))
		return g.pick(h, strings.ToUpper(h), "sha256:"+h)
	}, nil},
	{"short hash", codeLabels, func(g *gen) string { return g.from(hexLower, g.between(7, 12)) }, nil},
	{"base64", codeLabels, func(g *gen) string { return b64.StdEncoding.EncodeToString(g.bytes(g.between(12, 150))) }, nil},
	{"timestamp", []string{"created", "at", "expires", "seen"}, func(g *gen) string { return g.moment().Format(g.pick(dayNames...)) }, nil},
	{"epoch", []string{"ts", "iat", "exp", "mtime"}, func(g *gen) string {
		m := g.moment()
		return g.pick(fmt.Sprint(m.Unix()), fmt.Sprint(m.UnixMilli()), fmt.Sprint(m.UnixMicro()), fmt.Sprint(m.UnixNano()), fmt.Sprintf("%d.%06d", m.Unix(), g.IntN(1e6)))
	}, nil},
	{"version", []string{"version", "release", "build"}, func(g *gen) string {
		a, b, c := g.IntN(30), g.IntN(60), g.IntN(400)
		return g.pick(fmt.Sprintf("%d.%d.%d", a, b, c), fmt.Sprintf("v%d.%d.%d-rc.%d", a, b, c, g.IntN(9)), fmt.Sprintf("10.0.%d.%d", g.between(10000, 26000), g.between(300, 9000)), fmt.Sprintf("%d.%d.%d.%d.%d", a, b, g.IntN(200), g.IntN(200), g.IntN(200)), fmt.Sprintf("%d.%d.%d+%s", a, b, c, g.from(hexLower, 8)))
	}, nil},
	{"ISBN", []string{"ISBN", "book"}, func(g *gen) string {
		s := ean("978" + g.digits(9))
		return g.pick(s, grouped(s, "-", 3, 1, 3, 5, 1), g.digits(1)+"-"+g.digits(3)+"-"+g.digits(5)+"-"+g.pick("X", "3"))
	}, nil},
	{"EAN", []string{"EAN", "article", "gtin"}, func(g *gen) string { return ean(g.pick("400", "501", "401", "730", "871", "590") + g.digits(9)) }, nil},
	{"coordinates", []string{"at", "position", "geo"}, func(g *gen) string {
		lat, lon := fmt.Sprintf("%d.%s", g.between(10, 89), g.digits(g.between(4, 6))), fmt.Sprintf("%d.%s", g.between(1, 179), g.digits(g.between(4, 6)))
		return g.pick(lat+", "+lon, lat+",-"+lon, "lat=+"+lat+" lon=-"+lon, lat+"° N "+lon+"° E", "geo:"+lat+","+lon, "POINT("+lon+" "+lat+")", "[-"+lon+", "+lat+"]")
	}, nil},
	{"money", []string{"amount", "total", "Summe", "saldo"}, func(g *gen) string {
		n := g.between(1, 999)
		return g.pick(fmt.Sprintf("$%d,%s.%s", n, g.digits(3), g.digits(2)), fmt.Sprintf("%d.%s,%s €", n, g.digits(3), g.digits(2)), fmt.Sprintf("CHF %d'%s.%s", n, g.digits(3), g.digits(2)), fmt.Sprintf("+%d.%s", n, g.digits(2)), fmt.Sprintf("-%d,%s,%s.00 USD", n, g.digits(3), g.digits(3)), fmt.Sprintf("%d %s %s,%s zł", n, g.digits(3), g.digits(3), g.digits(2)), fmt.Sprintf("R$ %d.%s.%s,%s", n, g.digits(3), g.digits(3), g.digits(2)))
	}, nil},
	{"phone, too short", []string{"offset", "delta", "change"}, func(g *gen) string { return "+" + g.from("123456789", 1) + g.digits(g.between(1, 5)) }, nil},
	{"phone, too long", orderLabels, func(g *gen) string { return "+" + g.from("123456789", 1) + g.digits(g.between(15, 22)) }, nil},
	{"phone, no such code", []string{"phone", "part", "rack"}, func(g *gen) string {
		area, exchange := g.pick("0", "1")+g.digits(2), g.from("23456789", 1)+g.digits(2)
		if g.in(2) {
			area, exchange = g.nanpArea(), g.pick("0", "1")+g.digits(2)
		}
		return g.pick(area+"-"+exchange+"-"+g.digits(4), "("+area+") "+exchange+"-"+g.digits(4))
	}, nil},
	{"extension", []string{"extension", "room", "desk"}, func(g *gen) string {
		return g.pick("ext. "+g.digits(4), "x"+g.digits(4), "Durchwahl -"+g.digits(3), "#"+g.digits(3), "poste "+g.digits(4), "DW "+g.digits(2))
	}, nil},
	{"part number", []string{"part", "sku", "item"}, func(g *gen) string {
		return g.pick("PN "+g.digits(4)+"-"+g.digits(3)+"-"+g.digits(3), g.digits(3)+"-"+g.digits(2)+"-"+g.digits(3), g.from(upper, 3)+"-"+g.digits(3)+"-"+g.digits(3)+"-"+g.digits(3), g.digits(3)+"-"+g.digits(4)+"-"+g.digits(3), g.digits(4)+"."+g.digits(3)+"."+g.digits(3))
	}, nil},
	{"time zone", []string{"offset", "zone", "tz"}, func(g *gen) string {
		return g.pick("+", "-") + g.pick(fmt.Sprintf("%02d%s", g.IntN(13), g.pick("00", "30")), fmt.Sprintf("%02d:%s", g.IntN(13), g.pick("00", "30", "45")))
	}, nil},
	{"hunk of a diff", codeLabels, func(g *gen) string {
		return fmt.Sprintf("@@ -%d,%d +%d,%d @@", g.between(1, 9999), g.between(1, 99), g.between(1, 9999), g.between(1, 99))
	}, nil},
}

// digitsOf draws n numbers up to max, and joins them.
func (g *gen) digitsOf(n, limit int, sep string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = strconv.Itoa(g.IntN(limit + 1))
	}
	return strings.Join(parts, sep)
}

// hexGroups draws n groups of size hexadecimal characters.
func (g *gen) hexGroups(n, size int, sep string) string {
	s := grouped(g.from(hexLower, n*size), sep, size)
	return g.pick(s, strings.ToUpper(s))
}

var (
	hostLabels = []string{"host", "addr", "node", "from"}
	hexWords   = []string{"face", "dead", "add", "bead", "cafe", "fade"}
)

var netLookalikes = []lookalike{
	{"IPv4, too great", hostLabels, func(g *gen) string {
		return g.pick(fmt.Sprintf("%d.%s", g.between(256, 999), g.digitsOf(3, 255, ".")), fmt.Sprintf("%s.%d", g.digitsOf(3, 255, "."), g.between(256, 999)), fmt.Sprintf("10.%d.%s", g.between(256, 999), g.digitsOf(2, 255, ".")))
	}, nil},
	{"IPv4, five parts", hostLabels, func(g *gen) string { return g.digitsOf(g.between(5, 8), 255, ".") }, nil},
	{"IPv4, three parts", hostLabels, func(g *gen) string { return g.digitsOf(3, 255, ".") }, nil},
	{"IPv4 inside of a name", hostLabels, func(g *gen) string {
		return g.pick("v"+g.digitsOf(4, 255, "."), "ip-"+g.digitsOf(4, 255, "-"), g.digitsOf(4, 255, ".")+"a", "rel"+g.digitsOf(4, 99, "."), g.digitsOf(4, 255, ".")+"rc1")
	}, nil},
	{"MAC address", hostLabels, func(g *gen) string {
		return g.pick(g.hexGroups(6, 2, ":"), g.hexGroups(6, 2, "-"), g.hexGroups(3, 4, "."))
	}, nil},
	{"fingerprint", codeLabels, func(g *gen) string {
		return g.pick(g.hexGroups(16, 2, ":"), g.hexGroups(20, 2, ":"), g.hexGroups(9, 4, ":"), g.hexGroups(10, 4, " "))
	}, nil},
	{"time like an IPv6 address", []string{"at", "duration", "took"}, func(g *gen) string {
		return g.pick(g.moment().Format("15:04:05"), g.moment().Format("2006:01:02:15:04:05"), g.digitsOf(g.between(3, 7), 59, ":"), g.moment().Format("15:04:05:05"))
	}, nil},
	{"name of C++", []string{"symbol", "function"}, func(g *gen) string {
		return g.pick("std::"+g.pick(words...), g.pick(words...)+"::"+g.pick(hexWords...), "ns::"+g.pick(hexWords...)+"()", "std::"+g.pick(words...)+"::"+g.pick(words...), "&"+g.pick(words...)+"::"+g.pick("begin", "end", "size"), "crate::"+g.pick(words...), g.pick(words...)+"."+g.pick(words...)+"::"+g.pick("text", "uuid"))
	}, nil},
	{"code of hexadecimal letters", tokenLabels, func(g *gen) string { return g.pick(hexWords...) + "::" + g.pick(hexWords...) }, []string{
		"return ~v(~w);", "std::map<~v, int> ~w;", "auto ~w = ~v<int>{};", "throw ~v(\"~w\");", "if (~v(~w) == nullptr) return;", "const ~v& ~w = get();",
	}},
	{"URL, a user without a password", []string{"remote", "url"}, func(g *gen) string {
		return g.pick("ssh://git@"+g.pick(words...)+"/"+g.pick(words...)+".git", "https://"+g.pick(words...)+"@"+g.pick(words...)+".example.com/", "postgres://"+g.pick(words...)+"@localhost:5432/"+g.pick(words...), "ftp://anonymous@"+g.pick(words...)+"/")
	}, nil},
	{"URL, a port", []string{"remote", "url"}, func(g *gen) string {
		return g.pick("redis://", "http://", "amqp://", "postgres://") + g.pick(words...) + ":" + fmt.Sprint(g.between(1024, 65535)) + g.pick("", "/", "/"+g.pick(words...))
	}, nil},
	{"URL, an @ behind the host", []string{"page", "url"}, func(g *gen) string {
		return g.pick("https://example.com/", "https://example.org:8443/", "http://"+g.pick(words...)+":8080/") + g.pick("?q=a:b@"+g.pick(words...), g.pick(words...)+":1@2", "@"+g.pick(words...), "pkg/"+g.pick(words...)+"@1."+g.digits(1)+".0", "#"+g.pick(words...)+":x@y")
	}, nil},
	{"URL, an empty password", []string{"remote", "dsn"}, func(g *gen) string {
		return g.pick("postgres://", "mysql://", "redis://") + g.pick(words...) + ":@" + g.pick(words...) + "/" + g.pick(words...)
	}, nil},
}
