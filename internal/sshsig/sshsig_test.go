package sshsig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/internal/testkit/sshkey"
)

const namespace = "gatebook-config"

// newKey makes a key with ssh-keygen and returns its file and the public key.
func newKey(t testing.TB, args ...string) (file string, pub *Key) {
	t.Helper()
	k := sshkey.New(t, args...)
	pub, err := ParseKey(k.Public + " a comment")
	if err != nil {
		t.Fatalf("%s: %v", k.Public, err)
	}
	return k.File, pub
}

// tool runs ssh-keygen with text as its input.
func tool(t testing.TB, text string, args ...string) []byte {
	t.Helper()
	return []byte(sshkey.Run(t, text, args...))
}

// TestOpenSSH: what stock ssh-keygen signs with each type of key verifies, and
// nothing but that text, by that key, for that namespace.
func TestOpenSSH(t *testing.T) {
	for _, key := range [][]string{
		{"-t", "ed25519"}, {"-t", "ecdsa", "-b", "256"}, {"-t", "ecdsa", "-b", "384"}, {"-t", "ecdsa", "-b", "521"},
		{"-t", "rsa", "-b", "2048"}, {"-t", "rsa", "-b", "3072"},
	} {
		t.Run(strings.Join(key, ""), func(t *testing.T) {
			t.Parallel()
			file, pub := newKey(t, key...)
			if again, err := ParseKey(pub.String()); err != nil || !again.Equal(pub) || again.String() != pub.String() {
				t.Errorf("%s is read as %v, %v", pub, again, err)
			}
			if want := strings.Fields(string(tool(t, "", "-l", "-f", file)))[1]; pub.Fingerprint() != want {
				t.Errorf("fingerprint %s, ssh-keygen says %s", pub.Fingerprint(), want)
			}
			for _, hash := range []string{"sha256", "sha512"} {
				armoured := tool(t, "text\n", "-q", "-Y", "sign", "-n", namespace, "-O", "hashalg="+hash, "-f", file)
				s, err := Parse(armoured)
				if err != nil {
					t.Fatal(err)
				}
				if !s.Key.Equal(pub) {
					t.Errorf("signed by %s, want %s", s.Key, pub)
				}
				if err := s.Verify(namespace, []byte("text\n")); err != nil {
					t.Errorf("%s: %v", hash, err)
				}
				if err := s.Verify(namespace, []byte("text")); err == nil || !strings.Contains(err.Error(), "another text") {
					t.Errorf("%s: another text: %v", hash, err)
				}
				if err := s.Verify("file", []byte("text\n")); err == nil || !strings.Contains(err.Error(), "-n file") {
					t.Errorf("%s: another namespace: %v", hash, err)
				}
				// Relabelled, it is a signature for something else.
				s.Namespace = "file"
				if s.Verify("file", []byte("text\n")) == nil {
					t.Errorf("%s: the namespace is not part of what is signed", hash)
				}
			}
		})
	}
}

// blob builds an SSH encoding of strings.
func blob(fields ...string) string {
	var out []byte
	for _, f := range fields {
		out = appendString(out, f)
	}
	return string(out)
}

// envelope is a signature's parts, to be put together wrongly.
type envelope struct {
	magic, key, namespace, reserved, hash, inner, behind string
	version                                              uint32
}

func (e envelope) armoured() []byte {
	raw := binary.BigEndian.AppendUint32([]byte(e.magic), e.version)
	raw = append(raw, blob(e.key, e.namespace, e.reserved, e.hash, e.inner)+e.behind...)
	return []byte(begin + "\n" + base64.StdEncoding.EncodeToString(raw) + "\n" + end + "\n")
}

func message(e envelope, text string) []byte {
	d := sha512.Sum512([]byte(text))
	return []byte(e.magic + blob(e.namespace, e.reserved, e.hash, string(d[:])))
}

// signer is a key in software that signs as a security key does.
type signer struct {
	ed    ed25519.PrivateKey
	ec    *ecdsa.PrivateKey
	app   string
	flags byte
}

func (k signer) public() string {
	if k.ec != nil {
		point, err := k.ec.PublicKey.Bytes()
		if err != nil {
			panic(err)
		}
		return blob(typeSKECDSA, "nistp256", string(point), k.app)
	}
	return blob(typeSKEd25519, string(k.ed.Public().(ed25519.PublicKey)), k.app)
}

// sign follows "SSH U2F signatures" in OpenSSH's PROTOCOL.u2f.
func (k signer) sign(message []byte) string {
	app, digest := sha256.Sum256([]byte(k.app)), sha256.Sum256(message)
	tail := binary.BigEndian.AppendUint32([]byte{k.flags}, 7)
	signed := append(append(app[:], tail...), digest[:]...)
	if k.ec != nil {
		d := sha256.Sum256(signed)
		r, s, err := ecdsa.Sign(rand.Reader, k.ec, d[:])
		if err != nil {
			panic(err)
		}
		return blob(typeSKECDSA, blob(mpint(r), mpint(s))) + string(tail)
	}
	return blob(typeSKEd25519, string(ed25519.Sign(k.ed, signed))) + string(tail)
}

func mpint(n *big.Int) string {
	b := n.Bytes()
	if len(b) > 0 && b[0] >= 0x80 {
		b = append([]byte{0}, b...)
	}
	return string(b)
}

func (k signer) envelope(text string) envelope {
	e := envelope{magic: magic, version: 1, key: k.public(), namespace: namespace, hash: "sha512"}
	e.inner = k.sign(message(e, text))
	return e
}

// TestSecurityKeys: signatures of both types of security keys verify if the key
// says that it was touched.
func TestSecurityKeys(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]signer{"ed25519": {ed: ed, app: "ssh:"}, "ecdsa": {ec: ec, app: "ssh:work"}} {
		t.Run(name, func(t *testing.T) {
			verify := func(e envelope) error {
				s, err := Parse(e.armoured())
				if err == nil {
					err = s.Verify(namespace, []byte("text"))
				}
				return err
			}
			k.flags = userPresent
			e := k.envelope("text")
			if err := verify(e); err != nil {
				t.Fatal(err)
			}
			k.flags = userPresent | 4 // and a PIN was given
			if err := verify(k.envelope("text")); err != nil {
				t.Error(err)
			}
			k.flags = 4
			if err := verify(k.envelope("text")); err == nil || !strings.Contains(err.Error(), "touch") {
				t.Errorf("without a touch: %v", err)
			}
			if err := verify(k.envelope("other")); err == nil {
				t.Error("another text")
			}
			other := e
			other.key = signer{ed: k.ed, ec: k.ec, app: "ssh:other"}.public()
			if verify(other) == nil {
				t.Error("another application")
			}
			for i := 1; i <= 5; i++ { // flags and counter are signed
				raw := []byte(e.inner)
				raw[len(raw)-i] ^= 2
				other := e
				other.inner = string(raw)
				if verify(other) == nil {
					t.Errorf("byte %d from the end is not signed", i)
				}
			}
			other = e
			other.inner += "x"
			if verify(other) == nil {
				t.Error("bytes behind the counter")
			}
			// OpenSSH takes what was made here in software.
			dir := t.TempDir()
			write(t, dir+"/sig", string(e.armoured()))
			pub, err := parseBlob([]byte(e.key))
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir+"/allowed", "ana "+pub.String()+"\n")
			tool(t, "text", "-Y", "verify", "-f", dir+"/allowed", "-I", "ana", "-n", namespace, "-s", dir+"/sig")
		})
	}
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestMalformed takes a good signature apart and puts it together wrongly.
func TestMalformed(t *testing.T) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := envelope{magic: magic, version: 1, key: blob(typeEd25519, string(pub)), namespace: namespace, hash: "sha512"}
	sign := func(e envelope) envelope {
		e.inner = blob(typeEd25519, string(ed25519.Sign(priv, message(e, "text"))))
		return e
	}
	good = sign(good)
	verify := func(armoured []byte) error {
		s, err := Parse(armoured)
		if err == nil {
			err = s.Verify(namespace, []byte("text"))
		}
		return err
	}
	if err := verify(good.armoured()); err != nil {
		t.Fatal(err)
	}
	reserved := good
	reserved.reserved = "tag"
	if err := verify(sign(reserved).armoured()); err != nil {
		t.Errorf("a reserved field that is signed: %v", err)
	}
	change := func(f func(*envelope)) []byte {
		e := good
		f(&e)
		return e.armoured()
	}
	text := string(good.armoured())
	for name, armoured := range map[string][]byte{
		"empty":                     nil,
		"words in front":            []byte("words\n" + text),
		"words behind":              []byte(text + "words\n"),
		"two signatures":            []byte(text + text),
		"no end":                    []byte(strings.Replace(text, end, "", 1)),
		"other armour":              []byte(strings.ReplaceAll(text, "SSH SIGNATURE", "SSH MESSAGE")),
		"not base64":                []byte(strings.Replace(text, "U1NI", "U1!I", 1)),
		"too large":                 append([]byte(text), bytes.Repeat([]byte("\n"), MaxArmoured)...),
		"other magic":               change(func(e *envelope) { e.magic = "SSHSIH" }),
		"version 0":                 change(func(e *envelope) { e.version = 0 }),
		"version 2":                 change(func(e *envelope) { e.version = 2 }),
		"bytes behind":              change(func(e *envelope) { e.behind = "x" }),
		"hash relabelled":           change(func(e *envelope) { e.hash = "sha256" }),
		"reserved not signed":       change(func(e *envelope) { e.reserved = "tag" }),
		"other namespace":           sign(envelope{magic: magic, version: 1, key: good.key, namespace: "file", hash: "sha512"}).armoured(),
		"namespace longer":          sign(envelope{magic: magic, version: 1, key: good.key, namespace: namespace + "x", hash: "sha512"}).armoured(),
		"key empty":                 change(func(e *envelope) { e.key = "" }),
		"key with bytes behind":     change(func(e *envelope) { e.key += "x" }),
		"key short":                 change(func(e *envelope) { e.key = blob(typeEd25519, string(pub[1:])) }),
		"inner of another type":     change(func(e *envelope) { e.inner = strings.Replace(e.inner, typeEd25519, "ssh-ed25518", 1) }),
		"inner with bytes behind":   change(func(e *envelope) { e.inner += "x" }),
		"inner short":               change(func(e *envelope) { e.inner = blob(typeEd25519, "x") }),
		"inner empty":               change(func(e *envelope) { e.inner = "" }),
		"signature of the text":     change(func(e *envelope) { e.inner = blob(typeEd25519, string(ed25519.Sign(priv, []byte("text")))) }),
		"signature by another key":  change(func(e *envelope) { e.key = blob(typeEd25519, strings.Repeat("k", 32)) }),
		"length beyond the message": change(func(e *envelope) { e.inner = "\xff\xff\xff\xff" }),
	} {
		if err := verify(armoured); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	for _, hash := range []string{"sha1", "md5", ""} {
		e := envelope{magic: magic, version: 1, key: good.key, namespace: namespace, hash: hash}
		if err := verify(sign(e).armoured()); err == nil || !strings.Contains(err.Error(), "is not accepted") {
			t.Errorf("hash %q: %v", hash, err)
		}
	}
	for i := range len(text) { // one flipped bit anywhere
		b := []byte(text)
		b[i] ^= 1
		if verify(b) == nil && !strings.ContainsRune(" \r\n\t\v", rune(b[i])) {
			t.Errorf("byte %d changed: verified", i)
		}
	}
}

// TestRSAFormats: a signature with SHA-1 never counts, nor one whose format is not of the key's type.
func TestRSAFormats(t *testing.T) {
	file, _ := newKey(t, "-t", "rsa", "-b", "2048")
	s, err := Parse(tool(t, "text", "-q", "-Y", "sign", "-n", namespace, "-f", file))
	if err != nil {
		t.Fatal(err)
	}
	if s.format != "rsa-sha2-512" || s.Verify(namespace, []byte("text")) != nil {
		t.Fatalf("format %s", s.format)
	}
	for _, f := range []string{"ssh-rsa", "rsa-sha2-256", "rsa-sha2-384", typeEd25519, ""} {
		s.format = f
		if s.Verify(namespace, []byte("text")) == nil {
			t.Errorf("verified as %q", f)
		}
	}
}

// TestKeysRefused: each key has one encoding and no weak one is taken; the error says what to do.
func TestKeysRefused(t *testing.T) {
	line := func(fields ...string) string {
		return fields[0] + " " + base64.StdEncoding.EncodeToString([]byte(blob(fields...)))
	}
	odd := func(bits int) string {
		n := new(big.Int).SetBit(new(big.Int), bits-1, 1)
		return mpint(n.SetBit(n, 0, 1))
	}
	const e = "\x01\x00\x01"
	if _, err := ParseKey(line(typeRSA, e, odd(2048))); err != nil {
		t.Errorf("an RSA key of 2048 bits: %v", err)
	}
	ed := line(typeEd25519, strings.Repeat("k", 32))
	if _, err := ParseKey(ed + " ana@example.com of accounts"); err != nil {
		t.Error(err)
	}
	point, err := func() ([]byte, error) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return k.PublicKey.Bytes()
	}()
	if err != nil {
		t.Fatal(err)
	}
	compressed := append([]byte{2 + point[64]&1}, point[1:33]...)
	for _, test := range []struct{ name, line, says string }{
		{"nothing", "", ".pub file"},
		{"one word", typeEd25519, ".pub file"},
		{"a private key", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "more than one line"},
		{"two keys", ed + "\n" + ed, "more than one line"},
		{"options", `cert-authority ` + ed, "base64"},
		{"not base64", typeEd25519 + " AAAA!", "base64"},
		{"other type on the line", strings.Replace(ed, typeEd25519, typeRSA, 1), "the line says"},
		{"dsa", line("ssh-dss", "x"), "not accepted"},
		{"certificate", line("ssh-ed25519-cert-v01@openssh.com", "x"), "not accepted"},
		{"webauthn", line("webauthn-sk-ecdsa-sha2-nistp256@openssh.com", "x"), "not accepted"},
		{"bytes behind", line(typeEd25519, strings.Repeat("k", 32), "x"), "malformed"},
		{"short", line(typeEd25519, "x"), "want 32"},
		{"rsa of 2047 bits", line(typeRSA, e, odd(2047)), "at least 2048"},
		{"rsa of 1024 bits", line(typeRSA, e, odd(1024)), "at least 2048"},
		{"rsa of 20000 bits", line(typeRSA, e, odd(20000)), "malformed"},
		{"rsa with zeros in front", line(typeRSA, "\x00"+e, odd(2048)), "malformed"},
		{"rsa with a negative modulus", line(typeRSA, e, strings.Repeat("\xff", 256)), "malformed"},
		{"rsa with exponent 1", line(typeRSA, "\x01", odd(2048)), "exponent"},
		{"rsa with an even exponent", line(typeRSA, "\x04", odd(2048)), "exponent"},
		{"rsa with a huge exponent", line(typeRSA, odd(100), odd(2048)), "exponent"},
		{"ecdsa of another curve", line(typeECDSA+"nistp256", "nistp384", string(point)), "curve"},
		{"ecdsa of an unknown curve", line(typeECDSA+"nistp224", "nistp224", string(point)), "curve"},
		{"ecdsa off the curve", line(typeECDSA+"nistp256", "nistp256", "\x04"+strings.Repeat("x", 64)), "no point"},
		{"ecdsa at infinity", line(typeECDSA+"nistp256", "nistp256", "\x00"), "no point"},
		{"ecdsa compressed", line(typeECDSA+"nistp256", "nistp256", string(compressed)), "no point"},
		{"security key without application", line(typeSKEd25519, strings.Repeat("k", 32)), "malformed"},
	} {
		if k, err := ParseKey(test.line); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, %v; want an error with %q", test.name, k, err, test.says)
		}
	}
}

// FuzzParse: no text makes it panic or take much memory, and what parses verifies only if
// nothing was changed.
func FuzzParse(f *testing.F) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	e := envelope{magic: magic, version: 1, key: blob(typeEd25519, string(pub)), namespace: namespace, hash: "sha512"}
	e.inner = blob(typeEd25519, string(ed25519.Sign(priv, message(e, "text"))))
	good, err := Parse(e.armoured())
	if err != nil {
		f.Fatal(err)
	}
	raw := func(e envelope) []byte {
		text := strings.TrimSuffix(strings.TrimPrefix(string(e.armoured()), begin+"\n"), "\n"+end+"\n")
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(raw(e))
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw(signer{ec: ec, app: "ssh:", flags: 1}.envelope("text")))
	f.Add(raw(signer{ed: priv, app: "ssh:", flags: 1}.envelope("text")))
	for _, args := range [][]string{{"-t", "rsa", "-b", "2048"}, {"-t", "ecdsa"}} {
		file, _ := newKey(f, args...)
		armoured := tool(f, "text", "-q", "-Y", "sign", "-n", namespace, "-f", file)
		body := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(string(armoured)), begin), end)
		b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = Parse(raw)
		_, _ = ParseKey(string(raw))
		s, err := Parse([]byte(begin + base64.StdEncoding.EncodeToString(raw) + end))
		if err != nil {
			return
		}
		if k, err := ParseKey(s.Key.String()); err != nil || !k.Equal(s.Key) {
			t.Errorf("the key %s is read as %v, %v", s.Key, k, err)
		}
		if s.Verify(namespace, []byte("text")) == nil && s.Key.Equal(good.Key) && !bytes.Equal(s.blob, good.blob) {
			t.Error("another signature by that key verifies")
		}
	})
}
