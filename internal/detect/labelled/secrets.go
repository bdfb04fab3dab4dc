package labelled

import (
	b64 "encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"
)

func (g *gen) awsKey() string { return g.pick("AKIA", "AKIA", "ASIA") + g.from(upper+"234567", 16) }

// summed draws 30 characters and appends their CRC-32 in base 62, six characters.
func (g *gen) summed() string {
	s := g.from(alnum, 30)
	sum := crc32.ChecksumIEEE([]byte(s))
	tail := make([]byte, 6)
	for i := range tail {
		tail[5-i] = (digits + upper + lower)[sum%62]
		sum /= 62
	}
	return s + string(tail)
}

func (g *gen) githubToken() string {
	if g.in(4) {
		return "github_pat_" + g.from(alnum, 22) + "_" + g.from(alnum, 59)
	}
	return g.pick("ghp_", "gho_", "ghu_", "ghs_", "ghr_") + g.summed()
}

// urlSafe draws n characters of base64url of which the first and last are
// letters or digits, so that nobody can doubt where the value ends.
func (g *gen) urlSafe(n int) string {
	return g.from(alnum, 1) + g.from(urlSafe, n-2) + g.from(alnum, 1)
}

func (g *gen) gitlabToken() string { return "glpat-" + g.urlSafe(20) }

func (g *gen) slackToken() string {
	team, user := g.from("123456789", 1)+g.digits(g.between(10, 12)), g.from("123456789", 1)+g.digits(g.between(10, 12))
	switch g.IntN(5) {
	case 0:
		return "xoxp-" + team + "-" + user + "-" + g.from(digits, 12) + "-" + g.from(hexLower, 32)
	case 1:
		return "xapp-1-A0" + g.from(digits+upper, 9) + "-" + user + "-" + g.from(hexLower, 64)
	case 2:
		return g.pick("xoxa-2-", "xoxr-") + team + "-" + user + "-" + g.from(digits, 12) + "-" + g.from(hexLower, 32)
	}
	return "xoxb-" + team + "-" + user + "-" + g.from(alnum, 24)
}

func (g *gen) stripeKey() string {
	if g.in(4) {
		return "whsec_" + g.from(alnum, 32)
	}
	n := 24
	if g.in(3) {
		n = 99
	}
	return g.pick("sk_live_", "rk_live_", "sk_test_") + g.from(alnum, n)
}

func (g *gen) googleKey() string { return "AIza" + g.urlSafe(35) }

func (g *gen) openaiKey() string {
	const marker = "T3BlbkFJ" // in each of these keys: "OpenAI" in base64
	if g.in(2) {
		return "sk-" + g.from(alnum, 20) + marker + g.from(alnum, 20)
	}
	return "sk-proj-" + g.urlSafe(74) + marker + g.urlSafe(74)
}

func (g *gen) npmToken() string { return "npm_" + g.summed() }

func (g *gen) pypiToken() string {
	return "pypi-" + "AgEIcHlwaS5vcmc" + g.urlSafe(g.between(140, 165))
}

// armour writes bytes as a PEM block; lines end in newline.
func armour(label, headers string, raw []byte, newline string) string {
	body := grouped(b64.StdEncoding.EncodeToString(raw), newline, 64)
	return "-----BEGIN " + label + "-----" + newline + headers + body + newline + "-----END " + label + "-----"
}

func (g *gen) privateKey() string {
	newline := g.pick("\n", "\n", "\n", "\r\n", `\n`, "\n    ")
	raw := append([]byte{0x30, 0x82, 0x04, 0xa4, 0x02, 0x01, 0x00}, g.bytes(g.between(100, 600))...)
	switch g.IntN(6) {
	case 0:
		return armour("OPENSSH PRIVATE KEY", "", append([]byte("openssh-key-v1\x00"), g.bytes(g.between(200, 400))...), newline)
	case 1:
		return armour("ENCRYPTED PRIVATE KEY", "", raw, newline)
	case 2:
		iv := strings.ToUpper(hex.EncodeToString(g.bytes(16)))
		return armour("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"+newline+"DEK-Info: AES-128-CBC,"+iv+newline+newline, raw, newline)
	case 3:
		return armour("EC PRIVATE KEY", "", append([]byte{0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20}, g.bytes(114)...), newline)
	}
	return armour(g.pick("PRIVATE KEY", "RSA PRIVATE KEY", "DSA PRIVATE KEY"), "", raw, newline)
}

func part(json string) string { return b64.RawURLEncoding.EncodeToString([]byte(json)) }

func (g *gen) claims() string {
	return fmt.Sprintf(`{"sub":"%s","iat":17%s,"aud":"%s"}`, g.from(hexLower, 8), g.digits(8), g.pick(words...))
}

func (g *gen) jwt() string {
	algorithm, size := "HS256", 32
	switch g.IntN(4) {
	case 0:
		algorithm, size = "RS256", 256
	case 1:
		algorithm, size = g.pick("ES256", "EdDSA"), 64
	}
	header := g.pick(`{"alg":"%s","typ":"JWT"}`, `{"typ":"JWT","alg":"%s"}`, `{"alg":"%s"}`, `{"alg":"%s","kid":"`+g.from(hexLower, 6)+`"}`, `{ "alg": "%s", "typ": "JWT" }`)
	for {
		s := part(fmt.Sprintf(header, algorithm)) + "." + part(g.claims()) + "." + b64.RawURLEncoding.EncodeToString(g.bytes(size))
		if last := s[len(s)-1]; last != '-' && last != '_' {
			return s
		}
	}
}

func (g *gen) urlPassword() value {
	scheme := g.pick("postgres", "postgresql", "mysql", "redis", "amqp", "mongodb", "mongodb+srv", "https", "ftp", "smtp", "POSTGRES")
	password := g.pick(g.from(alnum, g.between(8, 24)), g.pick(words...)+"-"+g.digits(3)+"!"+g.from(alnum, 3), g.from(alnum, 6)+"%40"+g.from(alnum, 5), g.from(alnum, 5)+"_"+g.from(alnum, 5)+"~"+g.digits(2))
	host := g.pick("db", "localhost", "db-1.example.com", "cache.internal", g.pick(words...)+".example.org:5432", "queue:5672")
	return value{before: scheme + "://" + g.pick("app", "admin", g.pick(words...), "svc_"+g.pick(words...)) + ":", text: password, after: "@" + host + g.pick("", "/", "/"+g.pick(words...))}
}
