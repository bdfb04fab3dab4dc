package labelled

import (
	b64 "encoding/base64"
	"fmt"
	"strings"
)

var tokenLabels = []string{"token", "key", "id", "hint"}

var secretLookalikes = []lookalike{
	{"prefix of a key, too short", tokenLabels, func(g *gen) string {
		return g.pick("AKIA"+g.from(upper, 5), "ASIA"+g.from(upper, 11), "ghp_"+g.from(alnum, 10), "gho_"+g.from(alnum, 20), "github_pat_"+g.from(alnum, 20), "glpat-"+g.from(alnum, 8), "xoxb-"+g.digits(6), "sk_live_"+g.from(alnum, 5), "whsec_"+g.from(alnum, 4), "AIza"+g.from(alnum, 20), "sk-"+g.from(alnum, 8), "npm_"+g.from(alnum, 10), "pypi-"+g.from(alnum, 9))
	}, nil},
	{"prefix of a key, too long", tokenLabels, func(g *gen) string {
		return g.pick("AKIA"+g.from(upper, 24), "ASIA"+g.from(upper, 18), "ghp_"+g.from(alnum, 37), "ghs_"+g.from(alnum, 60), "AIza"+g.from(alnum, 50), "npm_"+g.from(alnum, 48))
	}, nil},
	{"key, wrong case or letters", tokenLabels, func(g *gen) string {
		return g.pick("akia"+g.from(lower, 16), "AKIA"+g.from(lower, 16), "AKIA"+g.from("0189", 16), "GHP_"+g.from(upper, 36), "ghp_"+grouped(g.from(alnum, 32), "-", 6), "ghz_"+g.from(alnum, 36), "gh_"+g.from(alnum, 36), "aiza"+g.from(lower, 35), "NPM_"+g.from(upper, 36), "AKIB"+g.from(upper, 16))
	}, nil},
	{"key inside of a word", tokenLabels, func(g *gen) string {
		return g.from(alnum, 3) + g.pick(g.awsKey(), g.npmToken(), g.googleKey(), "ghp_"+g.summed(), "sk_live_"+g.from(alnum, 24))
	}, nil},
	{"names that begin like keys", tokenLabels, func(g *gen) string {
		w, v := g.pick(words...), g.pick(words...)
		return g.pick("npm_config_"+w, "npm_package_"+w+"_version", "npm_lifecycle_event", "sk-learn-"+w, "sk-"+w+"-"+v, "sk-SK", "pypi-server-"+w, "pypi-"+w, "task-"+g.digits(14)+"-"+w+"-"+v, "risk-"+w+"-"+v+"-"+g.digits(20), "glpat-"+w, "ghp_"+w, "xoxo-"+w, "xapp-"+w, "github_pat_"+w)
	}, nil},
	{"publishable key", tokenLabels, func(g *gen) string { return g.pick("pk_live_", "pk_test_") + g.from(alnum, 24) }, nil},
	{"three parts, no JSON", tokenLabels, func(g *gen) string {
		return g.from(alnum, g.between(20, 40)) + "." + part(g.claims()) + "." + b64.RawURLEncoding.EncodeToString(g.bytes(32))
	}, nil},
	{"three parts, broken JSON", tokenLabels, func(g *gen) string {
		return part(g.pick(`{"alg":"HS256","typ":"JWT"`, `{"alg"}`, `{"alg":"HS256",}`, `{alg:HS256}`)) + "." + part(g.claims()) + "." + b64.RawURLEncoding.EncodeToString(g.bytes(32))
	}, nil},
	{"three parts, no algorithm", tokenLabels, func(g *gen) string {
		return part(g.pick(`{"typ":"JWT","kid":"`+g.from(hexLower, 8)+`"}`, `{"sub":"`+g.pick(words...)+`"}`, `["alg","`+g.pick(words...)+`"]`, `"alg `+g.pick(words...)+`"`)) + "." + part(g.claims()) + "." + b64.RawURLEncoding.EncodeToString(g.bytes(32))
	}, nil},
	{"two parts of a token", tokenLabels, func(g *gen) string { return part(`{"alg":"HS256","typ":"JWT"}`) + "." + part(g.claims()) }, nil},
	{"dotted names", []string{"class", "event", "module"}, func(g *gen) string {
		return g.pick("com", "org", "io") + "." + g.pick(words...) + "." + g.pick(words...) + "." + strings.ToUpper(g.pick(words...)) + g.pick("", ".v2", "_handler")
	}, nil},
	{"PEM block, no private key", tokenLabels, func(g *gen) string {
		label := g.pick("CERTIFICATE", "PUBLIC KEY", "CERTIFICATE REQUEST", "RSA PUBLIC KEY", "X509 CRL", "DH PARAMETERS", "SSH SIGNATURE")
		return armour(label, "", append([]byte{0x30, 0x82}, g.bytes(g.between(80, 500))...), g.pick("\n", "\r\n", `\n`))
	}, keyTexts()},
	{"PEM line in prose", tokenLabels, func(g *gen) string {
		return "-----" + g.pick("BEGIN", "END") + " " + g.pick("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ") + "PRIVATE KEY-----"
	}, []string{
		"The ~w file must start with ~v, says ~p.", "~p asks: why does ~w reject a line ~v?", "if line == \"~v\" { ~w = true }", "grep -l -e '~v' /etc/~w", "Die Zeile ~v fehlt in ~w.", "error: ~w: expected ~v at line ~n",
	}},
}

func keyTexts() []string {
	var list []string
	for _, f := range keyFileFrames {
		list = append(list, f.text)
	}
	return list
}

var textLookalikes = []lookalike{
	{"handle", []string{"user", "by"}, func(g *gen) string {
		return "@" + g.pick(strings.ToLower(g.pick(firstNames...))+g.digits(2), g.pick(words...)+"_"+g.pick(words...), g.pick(words...)+"."+g.pick(words...))
	}, nil},
	{"decorator", tokenLabels, func(g *gen) string {
		return "@" + g.pick("Override", "Test", "app.route(\"/"+g.pick(words...)+"\")", "org.junit.Test", "pytest.fixture", "Inject", "Column(name=\""+g.pick(words...)+"\")", "dataclass", "functools.cache", "Deprecated")
	}, []string{"~v\npublic void ~w() {}", "~v\ndef ~w(~w):\n    pass", "  ~v private String ~w;", "~v class ~w {}", "    ~v\n    ~w()", "// ~v is not ~w"}},
	{"a@b", []string{"pair", "term"}, func(g *gen) string {
		return g.pick(words...) + "@" + g.pick(g.pick(words...), g.from(lower, 1), g.digits(3), g.pick(words...)+"-"+g.digits(1))
	}, nil},
	{"picture at two scales", []string{"icon", "src"}, func(g *gen) string {
		return g.pick(words...) + g.pick("", "-"+g.pick(words...), g.digits(2)) + "@" + g.pick("2x", "3x", "1.5x") + g.pick(".png", ".jpg", ".webp", ".svg", ".gif")
	}, nil},
	{"package and version", []string{"package", "uses", "image"}, func(g *gen) string {
		v := fmt.Sprintf("%d.%d.%d", g.IntN(20), g.IntN(30), g.IntN(40))
		return g.pick(g.pick(words...)+"@"+v, "@"+g.pick(words...)+"/"+g.pick(words...)+"@"+v, g.pick(words...)+"/"+g.pick(words...)+"@v"+v, g.pick(words...)+"@"+v+"-beta."+g.digits(1), g.pick(words...)+"@^"+v, g.pick(words...)+"@latest", g.pick(words...)+"@sha256:"+g.from(hexLower, 64))
	}, nil},
	{"unit of a service manager", []string{"unit", "service"}, func(g *gen) string {
		return g.pick(g.pick(words...), "user", "getty", "postgresql") + "@" + g.pick(g.digits(4), "tty"+g.digits(1), g.digits(2)+"-main", g.pick(words...)) + g.pick(".service", ".socket", ".timer", ".slice")
	}, nil},
	{"object in a log", []string{"object", "bean"}, func(g *gen) string {
		return g.pick("com.", "org.") + g.pick(words...) + "." + strings.ToUpper(g.from(lower, 1)) + g.pick(words...) + "@" + g.from(hexLower, 8)
	}, nil},
	{"style sheet", tokenLabels, func(g *gen) string {
		return g.pick("@media (min-width: "+g.digits(3)+"px)", "@import url(\""+g.pick(words...)+".css\")", "@font-face", "@keyframes "+g.pick(words...), "@supports (display: grid)", "@layer "+g.pick(words...)+"."+g.pick(words...), "@container "+g.pick(words...)+" (width > "+g.digits(3)+"px)")
	}, []string{"~v { .~w { color: red } }", ".~w{margin:0}~v{}", "/* ~w */ ~v;", "<style>~v { #~w { top: 0 } }</style>", "a.~w:hover{} ~v", "~v /* ~w */"}},
	{"at a time or price", tokenLabels, func(g *gen) string {
		return g.pick(g.pick(words...), "lunch", "call") + " @ " + g.pick(fmt.Sprintf("%d.%02d", g.between(7, 20), g.IntN(60)), fmt.Sprintf("%d:%02d", g.between(7, 20), g.IntN(60)), fmt.Sprintf("%d.%02d EUR", g.between(1, 90), g.IntN(100)), g.pick(words...)+" hall")
	}, nil},
	{"digest in a name", codeLabels, func(g *gen) string {
		return g.pick(words...) + "-" + g.from(hexLower, 10) + g.pick(".js.map", ".tar.gz", "-"+g.from(hexLower, 5), ".chunk.css")
	}, nil},
}
