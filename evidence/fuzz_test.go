package evidence

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzParseHeader(f *testing.F) {
	w := newWorld(f)
	for _, l := range newBook(f, w.story(f)).lines {
		f.Add(l)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		h, err := ParseHeader(line)
		if err == nil && !bytes.Equal(AppendHeader(nil, &h), line) {
			t.Errorf("%q is not what its header gives", line)
		}
		short, ok := scanHeader(line)
		long, err := explainHeader(line)
		if ok != (err == nil) || ok && short != long {
			t.Errorf("%q: read by form %v %+v, by JSON %v %+v", line, ok, short, err, long)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	w := newWorld(f)
	f.Add(string(w.sign(f, newBook(f, w.story(f)), 9)))
	f.Add("gate.test/book\n5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	tr, err := ParseTrust([]byte(w.trust))
	fatal(f, err)
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = OpenCheckpoint([]byte(text), testOrigin, tr.Log...)
		c, err := parseCheckpoint(text)
		if err != nil {
			return
		}
		if signed, err := SignCheckpoint(c, w.log); err == nil && !strings.HasPrefix(string(signed), text) {
			t.Errorf("%q is not what its checkpoint gives", text)
		}
	})
}

func FuzzParseTrust(f *testing.F) {
	f.Add([]byte(newWorld(f).trust + "issuer https://issuer.test abc # why\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if tr, err := ParseTrust(text); err == nil && len(tr.Log) == 0 {
			t.Error("a trust file without a log key was accepted")
		}
	})
}

func FuzzVerifyToken(f *testing.F) {
	w := newWorld(f)
	token := w.tokens["ana"]
	f.Add(token, []byte(w.jwks))
	f.Add("e30.e30.", []byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, text string, keys []byte) {
		if _, _, err := VerifyToken(text, keys); err == nil && bytes.Equal(keys, w.jwks) {
			// ECDSA signatures have twins (r, -s); nothing else may differ.
			if text[:strings.LastIndexByte(text, '.')] != token[:strings.LastIndexByte(token, '.')] {
				t.Errorf("the issuer did not sign %q", text)
			}
		}
		_, _, _ = VerifyToken(token, keys)
	})
}

func FuzzVerifySSH(f *testing.F) {
	w := newWorld(f)
	sig := SignSSH(w.keys.SSH, []byte("text"))
	f.Add([]byte("text"), sig)
	pub := w.keys.SSH.Public().(ed25519.PublicKey)
	f.Fuzz(func(t *testing.T, text, armoured []byte) {
		if verifySSH(pub, text, armoured) == nil && string(text) != "text" {
			t.Errorf("nobody signed %q", text)
		}
	})
}

func FuzzSplitBodyLine(f *testing.F) {
	f.Add(bytes.TrimSpace(appendBodyLine(nil, 7, &Disclosed{Body: []byte("{}\nraw")})))
	f.Fuzz(func(t *testing.T, line []byte) {
		index, salt, body, ok := splitBodyLine(line)
		if ok && len(line) != len(`{"i":,"salt":"","body":""}`)+len(salt)+len(body)+len(jsonNumber(index)) {
			t.Errorf("%q was read as %d, %q, %q", line, index, salt, body)
		}
	})
}

func jsonNumber(n uint64) string { b, _ := json.Marshal(n); return string(b) }

// FuzzAnswerView: however bytes are cut, the lines are the same, each is JSON,
// and what is remembered stays small.
func FuzzAnswerView(f *testing.F) {
	f.Add(append(frame('T', "\x00\x01n\x00"+strings.Repeat("\x00", 18)), frame('D', "\x00\x01\x00\x00\x00\x0242")...), uint8(3))
	f.Add(append(frame('E', "SERROR\x00Mno\x00\x00"), frame('V', "\x00\x00\x00\x01x")...), uint8(1))
	f.Add([]byte("X\x00\x00\x00\x00rest"), uint8(2))
	f.Add([]byte("D\x00\x00\x00\x1a00\x00\x00\x00\x000000000000000000"), uint8(3)) // a row cut off
	f.Add([]byte("d\x7f\xff\xff\xffrest"), uint8(200))
	f.Fuzz(func(t *testing.T, raw []byte, cut uint8) {
		whole := (&answerView{}).append(nil, 1, "", raw)
		v := &answerView{}
		var parts []byte
		for rest := raw; len(rest) > 0; {
			n := min(int(cut)+1, len(rest))
			parts = v.append(parts, 1, "", rest[:n])
			rest = rest[n:]
			if len(v.carry) > maxViewed+256 {
				t.Fatalf("%d bytes are remembered", len(v.carry))
			}
		}
		if !bytes.Equal(whole, parts) {
			t.Errorf("cut by %d: %q, whole: %q", cut+1, parts, whole)
		}
		for line := range bytes.Lines(whole) {
			if !json.Valid(line) {
				t.Errorf("not JSON: %q", line)
			}
		}
	})
}

// FuzzCells: no cell begins a formula or holds a control character.
func FuzzCells(f *testing.F) {
	f.Add("=1+1")
	f.Add("a\x1b[2J\u202eb\n\"")
	f.Add("\\\u202e\\u202e\\\\\\u202e\\\U000e0041\\U000e0041\\users\\")
	f.Add("\\u20\u202e\\u\u202e\\")
	f.Fuzz(func(t *testing.T, s string) {
		if plain := Plain(s); utf8.ValidString(s) && unplain(plain) != s {
			t.Errorf("%q is shown as %q, which is %q", s, plain, unplain(plain))
		}
		out := string(AppendCSV(nil, s))
		if strings.HasPrefix(out, `"`) != strings.HasSuffix(out, `"`) {
			t.Errorf("%q gives %q", s, out)
		}
		inner := strings.TrimPrefix(out, `"`)
		if head := strings.TrimLeft(inner, " \t\n"); head != "" && strings.IndexByte("=+-@", head[0]) >= 0 || strings.HasPrefix(inner, "\t") {
			t.Errorf("%q gives the formula %q", s, out)
		}
		for _, r := range out {
			if r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || strings.ContainsRune("\u3164\u115f\u1160\u034f\ufe0f\u2800", r) {
				t.Errorf("%q gives the control character %q", s, r)
			}
		}
	})
}

// unplain finds the text that Plain showed.
func unplain(s string) string {
	escape := regexp.MustCompile(`\\+(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})`)
	return escape.ReplaceAllStringFunc(s, func(e string) string {
		rest := strings.TrimLeft(e, `\`)
		slashes := len(e) - len(rest)
		if slashes%2 == 0 {
			return e[slashes/2:]
		}
		n, err := strconv.ParseUint(rest[1:], 16, 32)
		if err != nil {
			return err.Error()
		}
		return e[:slashes/2] + string(rune(n))
	})
}

// TestPlain: what cannot be seen, or acts on what is seen, is shown, and
// nothing else looks as if it were.
func TestPlain(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"SELECT 'ä漢\U0001f600'\n\t--": "SELECT 'ä漢\U0001f600'\n\t--", "\x1b[2J\u009b\x7f": `\u001b[2J\u009b\u007f`, "a\xff": "a\ufffd",
		"\u3164\u115f\u1160\uffa0": `\u3164\u115f\u1160\uffa0`, "\u034f\ufe0f\u180b\u17b4": `\u034f\ufe0f\u180b\u17b4`,
		"\u202e\u2066\u2028\u200b\ufeff\u2800\u00ad": `\u202e\u2066\u2028\u200b\ufeff\u2800\u00ad`,
		"\U000e0041\U000e0100\U0001d173":             `\U000e0041\U000e0100\U0001d173`,
		`\u202e`:                                     `\\u202e`, `\\u202e`: `\\\\u202e`, "\\\u202e": `\\\u202e`, `\U000e0041`: `\\U000e0041`,
		`C:\users\U12`: `C:\users\U12`, `\`: `\`, `\\ \u12`: `\\ \u12`,
	} {
		if got := Plain(in); got != want || utf8.ValidString(in) && unplain(got) != in {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}

// FuzzVerify changes a file of a package, or the bytes of the whole, in all
// strengths, and looks for panics. A package is never clean after a change to
// its bytes that the ZIP form does not hide.
func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	m := w.data(f, w.story(f), Scope{}, nil, 0)
	pkg := w.pack(f, m)
	names := []string{fileScope, fileHeaders, fileBodies, fileWithheld, fileCheckpoint, fileCheckpoints, fileProofs}
	for i, n := range names {
		f.Add(uint8(i), m[n], uint32(0))
	}
	f.Add(uint8(100), []byte("\x00\xff"), uint32(30))
	tr, err := ParseTrust([]byte(w.trust))
	fatal(f, err)
	f.Fuzz(func(t *testing.T, which uint8, text []byte, at uint32) {
		if int(which) >= len(names) {
			b := bytes.Clone(pkg)
			copy(b[int(at)%len(b):], text)
			if _, err := zip.NewReader(bytes.NewReader(b), int64(len(b))); err != nil {
				return
			}
			_, err := Verify(bytes.NewReader(b), int64(len(b)), Options{Trust: tr})
			fatal(t, err)
			return
		}
		c := make(memory)
		for n, v := range m {
			c[n] = v
		}
		c[names[which]] = text
		b := w.pack(t, c)
		r, err := Verify(bytes.NewReader(b), int64(len(b)), Options{Trust: tr, Previous: m[fileCheckpoint], Limits: Limits{Line: 1 << 20}})
		fatal(t, err)
		if !r.Failed() && which < 4 && !bytes.Equal(text, m[names[which]]) && !sameJSON(text, m[names[which]]) {
			t.Errorf("a change of %s was not noticed", names[which])
		}
	})
}
