package identity

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/internal/testkit/idp"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// malformed are tokens in a form that two readers could read differently.
// Entries are never removed.
func malformed() map[string]string {
	const head, body = `{"alg":"ES256"}`, `{"iss":"x","sub":"a"}`
	h, p, s := b64(head), b64(body), b64("sig!")
	return map[string]string{
		"empty":                        "",
		"one part":                     h,
		"two parts":                    h + "." + p,
		"four parts":                   h + "." + p + "." + s + "." + s,
		"five parts, a JWE":            h + ".." + p + "." + s + "." + s,
		"empty signature":              h + "." + p + ".",
		"empty payload":                h + ".." + s,
		"empty header":                 "." + p + "." + s,
		"JWS JSON":                     `{"payload":"` + p + `","protected":"` + h + `","signature":"` + s + `"}`,
		"padding":                      h + "." + base64.URLEncoding.EncodeToString([]byte(body+" ")) + "=." + s,
		"standard alphabet":            h + "." + p + ".++//",
		"newline in a part":            h + "." + p[:4] + "\n" + p[4:] + "." + s,
		"carriage return":              h + "." + p + "." + s + "\r",
		"leading space":                " " + h + "." + p + "." + s,
		"loose final bits":             h + "." + p + "." + "c2lnIR", // "sig!" ends in "IQ"
		"header no JSON":               b64("x") + "." + p + "." + s,
		"header list":                  b64(`["alg"]`) + "." + p + "." + s,
		"header null":                  b64(`null`) + "." + p + "." + s,
		"payload text":                 h + "." + b64(`"a"`) + "." + s,
		"payload with text after":      h + "." + b64(body+"x") + "." + s,
		"two payloads":                 h + "." + b64(body+body) + "." + s,
		"payload cut":                  h + "." + b64(body[:9]) + "." + s,
		"duplicate in header":          b64(`{"alg":"ES256","alg":"none"}`) + "." + p + "." + s,
		"duplicate escaped":            b64(`{"alg":"ES256","\u0061lg":"none"}`) + "." + p + "." + s,
		"duplicate in payload":         h + "." + b64(`{"sub":"a","sub":"b"}`) + "." + s,
		"duplicate deep in payload":    h + "." + b64(`{"x":[{"a":{"b":1,"b":2}}]}`) + "." + s,
		"invalid UTF-8":                h + "." + b64("{\"sub\":\"\xff\"}") + "." + s,
		"byte order mark":              h + "." + b64("\ufeff"+body) + "." + s,
		"comment":                      h + "." + b64(`{"sub":"a"/**/}`) + "." + s,
		"trailing comma":               h + "." + b64(`{"sub":"a",}`) + "." + s,
		"NaN":                          h + "." + b64(`{"exp":NaN}`) + "." + s,
		"number out of range":          h + "." + b64(`{"exp":1e999}`) + "." + s,
		"integer out of range":         h + "." + b64(`{"id":18446744073709551616}`) + "." + s,
		"nested too deep":              h + "." + b64(strings.Repeat(`{"a":`, 40)+"1"+strings.Repeat("}", 40)) + "." + s,
		"lists nested too deep":        h + "." + b64(`{"a":`+strings.Repeat("[", 3000)+strings.Repeat("]", 3000)+"}") + "." + s,
		"crit":                         b64(`{"alg":"ES256","crit":["exp"],"exp":1}`) + "." + p + "." + s,
		"crit empty":                   b64(`{"alg":"ES256","crit":[]}`) + "." + p + "." + s,
		"b64 false":                    b64(`{"alg":"ES256","b64":false}`) + "." + p + "." + s,
		"zip":                          b64(`{"alg":"ES256","zip":"DEF"}`) + "." + p + "." + s,
		"cty JWT":                      b64(`{"alg":"ES256","cty":"JWT"}`) + "." + p + "." + s,
		"alg in another case of name":  b64(`{"Alg":"ES256"}`) + "." + p + "." + s,
		"too long":                     h + "." + b64(`{"x":"`+strings.Repeat("x", maxToken)+`"}`) + "." + s,
		"only dots":                    "..",
		"zero bytes":                   "\x00.\x00.\x00",
		"token twice, comma separated": h + "." + p + "." + s + "," + h + "." + p + "." + s,
	}
}

func TestMalformedTokens(t *testing.T) {
	t.Parallel()
	for name, tok := range malformed() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseToken(tok); err == nil {
				t.Error("accepted")
			}
		})
	}
	if _, err := parseToken(b64(`{"alg":"ES256"}`) + "." + b64(`{"iss":"x"}`) + "." + b64("sig!")); err != nil {
		t.Errorf("the well-formed one: %v", err)
	}
}

// TestMalformedButSigned proves that the parser refuses even where the issuer
// signed, and that a name in another case is another name.
func TestMalformedButSigned(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	v := newVerifier(t, local(s, nil))
	good, err := json.Marshal(s.Agent("a"))
	if err != nil {
		t.Fatal(err)
	}
	inside := string(good[1:])
	runAttacks(t, v, []attack{
		{name: "good", tok: s.SignRaw(t, good, nil), ok: true},
		{name: "second sub", tok: s.SignRaw(t, []byte(`{"sub":"root",`+inside), nil)},
		{name: "SUB is another claim", tok: s.SignRaw(t, []byte(`{"SUB":"root","Exp":1,"AUD":"x",`+inside), nil), ok: true},
		{name: "crit", tok: s.SignRaw(t, good, map[string]any{"crit": []string{"x"}, "x": 1})},
		{name: "b64", tok: s.SignRaw(t, good, map[string]any{"b64": true})},
		{name: "white space in the payload", tok: s.SignRaw(t, []byte(" {\n"+inside+"\n"), nil), ok: true},
		{name: "lone surrogate in sub", tok: s.SignRaw(t, []byte(strings.Replace(string(good), `"sub":"a"`, `"sub":"a\ud800"`, 1)), nil), want: hintClaims},
	})
}

func FuzzParseToken(f *testing.F) {
	for _, tok := range malformed() {
		f.Add(tok)
	}
	f.Add(b64(`{"alg":"ES256","kid":"k","typ":"JWT"}`) + "." + b64(`{"iss":"x","sub":"a","n":1.5,"l":[1,{"a":null}]}`) + "." + b64("sig!"))
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := parseToken(s)
		if err != nil {
			if len(s) > 40 && strings.Contains(err.Error(), s) {
				t.Errorf("the error repeats the token: %v", err)
			}
			return
		}
		parts := strings.Split(s, ".")
		for _, p := range parts { // one text, one token: no second spelling
			b, err := base64.RawURLEncoding.DecodeString(p)
			if err != nil || base64.RawURLEncoding.EncodeToString(b) != p {
				t.Fatalf("part %q is not canonical", p)
			}
		}
		var m map[string]any
		if err := json.Unmarshal(tok.payload, &m); err != nil || len(m) != len(tok.claims) {
			t.Fatalf("encoding/json reads %v (%v), we read %v", m, err, tok.claims)
		}
		if tok.alg == "" || tok.compact != s {
			t.Fatal("parsed without algorithm or text")
		}
	})
}

func FuzzParseKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"oct","k":"AA"},null,1]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := parseKeySet(b, []string{"sig"})
		if err == nil && len(set.keys) == 0 {
			t.Fatal("an empty set was accepted")
		}
	})
}
