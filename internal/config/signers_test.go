package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gatebook/gatebook/internal/testkit/sshkey"
)

// signed is a configuration in a directory, with people who may sign it.
type signed struct {
	t    *testing.T
	path string
	keys map[string]sshkey.Key // by the name of the key's file of signature
}

// newSigned writes a configuration that two of ana, ben and cid must sign. ana has two keys.
func newSigned(t *testing.T) *signed {
	t.Helper()
	s := &signed{t: t, keys: map[string]sshkey.Key{
		"ana": sshkey.New(t, "-t", "ed25519"), "ana-rsa": sshkey.New(t, "-t", "rsa", "-b", "2048"),
		"ben": sshkey.New(t, "-t", "ecdsa", "-b", "384"), "cid": sshkey.New(t, "-t", "ed25519"), "eve": sshkey.New(t, "-t", "ed25519"),
	}}
	s.path = write(t, map[string]string{"targets.d/orders.yaml": goodTarget})
	s.write("gatebook.yaml", good+s.block(2, "ana", "ana-rsa", "ben", "cid"))
	return s
}

// block returns the block signers; a person's name is what stands before the dash.
func (s *signed) block(quorum int, keys ...string) string {
	b := fmt.Sprintf("signers:\n  quorum: %d\n  keys:\n", quorum)
	for _, name := range keys {
		person, _, _ := strings.Cut(name, "-")
		b += fmt.Sprintf("    - {person: %s, key: %q}\n", person, s.keys[name].Public)
	}
	return b
}

func (s *signed) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(filepath.Dir(s.path), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *signed) load() *Loaded {
	s.t.Helper()
	c, err := Load(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// sign lets people sign what is there now.
func (s *signed) sign(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.write("signatures/"+name+".sig", s.keys[name].Sign(s.t, SignatureNamespace, s.load().Manifest()))
	}
}

func (s *signed) unsign() {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(filepath.Dir(s.path), "signatures")); err != nil {
		s.t.Fatal(err)
	}
}

// refused loads what is there and demands that it may not come into force, for reasons that name all these words.
func (s *signed) refused(inForce *Signers, what string, words ...string) {
	s.t.Helper()
	_, err := s.load().Approve(inForce)
	if !errors.Is(err, ErrNotSigned) {
		s.t.Errorf("%s: %v", what, err)
		return
	}
	for _, w := range append(words, "ssh-keygen -Y sign -n gatebook-config", "gatebook -c gatebook.yaml policy manifest") {
		if !strings.Contains(err.Error(), w) {
			s.t.Errorf("%s: the error does not say %q:\n%v", what, w, err)
		}
	}
}

// approved demands that what is there may come into force, signed by these.
func (s *signed) approved(inForce *Signers, what string, by ...string) {
	s.t.Helper()
	a, err := s.load().Approve(inForce)
	if err != nil {
		s.t.Errorf("%s: %v", what, err)
	}
	if !slices.Equal(a.SignedBy(), by) {
		s.t.Errorf("%s: signed by %q, want %q", what, a.SignedBy(), by)
	}
}

// TestSG01Quorum: what enough people signed is approved, and nothing else.
func TestSG01Quorum(t *testing.T) {
	s := newSigned(t)
	s.refused(nil, "no directory", "2 must sign and 0 did; missing: ana, ben, cid", "no directory signatures")
	s.sign("ana")
	s.refused(nil, "one of two", "1 did (ana); missing: ben, cid")
	s.sign("ana-rsa")
	s.refused(nil, "one person with two keys", "1 did (ana)", "signatures/ana.sig does not count: ana signed already")
	s.sign("eve")
	s.refused(nil, "a stranger", "signatures/eve.sig does not count", "is not listed in signers.keys", "SHA256:")
	text, err := os.ReadFile(filepath.Join(filepath.Dir(s.path), "signatures", "ana.sig"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("signatures/again.sig", string(text))
	s.refused(nil, "one signature twice", "ana signed already")
	s.sign("ben")
	s.approved(nil, "two of three", "ana", "ben")
	a, err := s.load().Approve(nil)
	if err != nil || len(a.Ignored) != 3 || len(a.Signatures) != 2 || !a.Demanded {
		t.Errorf("%+v, %v", a, err)
	}
	for name := range maps.Keys(s.keys) {
		if !strings.HasPrefix(name, "eve") {
			s.sign(name)
		}
	}
	s.approved(nil, "all", "ana", "ben", "cid")
}

// TestSG02ExactlyThisText: a signature counts for these files, this namespace and nothing else.
func TestSG02ExactlyThisText(t *testing.T) {
	s := newSigned(t)
	s.sign("ana", "ben")
	s.approved(nil, "as signed", "ana", "ben")
	for what, change := range map[string]func(){
		"a byte of an included file": func() { s.write("targets.d/orders.yaml", strings.Replace(goodTarget, "sessions: 5", "sessions: 6", 1)) },
		"white space":                func() { s.write("targets.d/orders.yaml", goodTarget+"\n") },
		"another included file":      func() { s.write("targets.d/more.yaml", "rules: []\n") },
		"an included file is removed": func() {
			if err := os.Remove(filepath.Join(filepath.Dir(s.path), "targets.d/orders.yaml")); err != nil {
				t.Fatal(err)
			}
		},
		"an included file is renamed": func() {
			dir := filepath.Join(filepath.Dir(s.path), "targets.d")
			if err := os.Rename(dir+"/orders.yaml", dir+"/renamed.yaml"); err != nil {
				t.Fatal(err)
			}
		},
		"the main file": func() { s.write("gatebook.yaml", good+s.block(2, "ana", "ana-rsa", "ben", "cid")+"heartbeat: 31s\n") },
		"the quorum":    func() { s.write("gatebook.yaml", good+s.block(1, "ana", "ana-rsa", "ben", "cid")) },
	} {
		change()
		s.refused(nil, what, "signatures/ana.sig does not count: it does not fit this text", "signatures/ben.sig")
		if err := os.RemoveAll(filepath.Join(filepath.Dir(s.path), "targets.d")); err != nil {
			t.Fatal(err)
		}
		s.write("targets.d/orders.yaml", goodTarget)
		s.write("gatebook.yaml", good+s.block(2, "ana", "ana-rsa", "ben", "cid"))
	}
	s.approved(nil, "put back", "ana", "ben")
	for _, namespace := range []string{"file", "git", "gatebook-evidence", "gatebook-config2"} {
		s.write("signatures/ben.sig", s.keys["ben"].Sign(t, namespace, s.load().Manifest()))
		s.refused(nil, "namespace "+namespace, "signatures/ben.sig does not count", `"`+namespace+`"`)
	}
	s.write("signatures/ben.sig", "no signature")
	s.refused(nil, "no signature", "signatures/ben.sig does not count: not an SSH signature")
	s.write("signatures/ben.txt", s.keys["ben"].Sign(t, SignatureNamespace, s.load().Manifest()))
	s.refused(nil, "not *.sig", "1 did (ana)")
}

// TestSG03SignersInForce: those in force decide about the next, whatever it says about signers.
func TestSG03SignersInForce(t *testing.T) {
	s := newSigned(t)
	inForce := s.load().Signers
	s.write("gatebook.yaml", good)
	s.approved(nil, "nobody asked", []string(nil)...)
	s.refused(inForce, "the block is taken out", "the signers in force, 2 must sign")
	s.sign("ana", "ben")
	s.approved(inForce, "taken out by those in force", "ana", "ben")

	s.write("gatebook.yaml", good+s.block(1, "eve"))
	s.unsign()
	s.sign("eve")
	s.refused(inForce, "a stranger's own signers", "of the signers in force, 2 must sign and 0 did")
	s.sign("ana", "ben")
	s.approved(inForce, "handed over", "ana", "ben", "eve")
	if err := os.Remove(filepath.Join(filepath.Dir(s.path), "signatures", "eve.sig")); err != nil {
		t.Fatal(err)
	}
	s.refused(inForce, "the new ones did not sign", "of its own signers, 1 must sign and 0 did; missing: eve")

	// Keys are exchanged: ben's old key signs that there is a new one.
	s.keys["ben-new"] = sshkey.New(t, "-t", "ed25519")
	s.write("gatebook.yaml", good+s.block(2, "ana", "ben-new", "cid"))
	s.unsign()
	s.sign("ana", "ben")
	s.refused(inForce, "the new key did not sign", "of its own signers, 2 must sign and 1 did (ana)")
	s.sign("ben-new")
	s.approved(inForce, "keys exchanged", "ana", "ben")

	// The directory may move: signatures count from the old place and the new one.
	s.write("gatebook.yaml", good+strings.Replace(s.block(2, "ana", "ben", "cid"), "quorum", "directory: elsewhere\n  quorum", 1))
	s.unsign()
	for _, name := range []string{"ana", "ben"} {
		s.write("elsewhere/"+name+".sig", s.keys[name].Sign(t, SignatureNamespace, s.load().Manifest()))
	}
	s.approved(inForce, "another directory", "ana", "ben")
}

// TestSG04HostileDirectory: nothing in the directory makes a load hang or take much memory, and what is no signature does not keep others from counting.
func TestSG04HostileDirectory(t *testing.T) {
	s := newSigned(t)
	s.sign("ana", "ben")
	dir := filepath.Join(filepath.Dir(s.path), "signatures")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(syscall.Mkfifo(filepath.Join(dir, "pipe.sig"), 0o600))
	must(os.Mkdir(filepath.Join(dir, "directory.sig"), 0o700))
	must(os.Symlink("/dev/zero", filepath.Join(dir, "zero.sig")))
	must(os.Symlink("pipe.sig", filepath.Join(dir, "link-to-pipe.sig")))
	must(os.Symlink("nowhere", filepath.Join(dir, "nowhere.sig")))
	must(os.Symlink("nowhere", filepath.Join(dir, "\x1b[2Jnowhere.sig")))
	must(os.Symlink("loop.sig", filepath.Join(dir, "loop.sig")))
	s.write("signatures/huge.sig", strings.Repeat("x", 1<<20))
	s.write("signatures/empty.sig", "")
	s.write("signatures/\x1b[2Jodd\n.sig", "x")
	s.write("signatures/README", "not read")
	s.approved(nil, "beside what is no signature", "ana", "ben")
	// A link to a signature will do.
	must(os.Rename(filepath.Join(dir, "ben.sig"), filepath.Join(dir, "ben.real")))
	must(os.Symlink("ben.real", filepath.Join(dir, "ben.sig")))
	s.approved(nil, "a link to a signature", "ana", "ben")
	must(os.Remove(filepath.Join(dir, "ben.sig")))
	s.refused(nil, "hostile files", "pipe.sig does not count: it is not a regular file", "zero.sig does not count: it is not a regular file",
		"link-to-pipe.sig does not count: it is not a regular file", "directory.sig does not count", "nowhere.sig does not count: it cannot be read",
		"huge.sig does not count: it is larger than", "empty.sig does not count", `"signatures/\x1b[2Jodd\n.sig" does not count`)
	_, err := s.load().Approve(nil)
	if strings.ContainsAny(err.Error(), "\x1b") {
		t.Error("the error has control characters")
	}
	s.sign("ben")
	for i := range 10000 {
		must(os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.sig", i)), []byte("x"), 0o600))
	}
	s.refused(nil, "10,000 files", "more than 256 files")
	if a, _ := s.load().Approve(nil); len(a.Ignored) != 0 || len(a.Signatures) != 0 {
		t.Errorf("%d and %d files were read", len(a.Ignored), len(a.Signatures))
	}
	s.unsign()
	for i := range 200 {
		s.write(fmt.Sprintf("signatures/%d.sig", i), "x")
	}
	s.refused(nil, "200 files", "and 180 more files that do not count")
	s.unsign()
	s.write("signatures", "a file")
	s.refused(nil, "a file for a directory", "directory of signatures")
}

// TestSignersProblems: a block that asks for less than it seems to is a problem of the file.
func TestSignersProblems(t *testing.T) {
	s := newSigned(t)
	ana := s.keys["ana"].Public
	for _, test := range []struct{ name, block, says string }{
		{"empty", "signers:\n", "gatebook.yaml:8: signers: it is empty"},
		{"no keys", "signers: {}\n", "signers.quorum: 0: it must be at least 1"},
		{"quorum 0", s.block(0, "ana", "ben"), "at least 1"},
		{"quorum negative", s.block(-1, "ana", "ben"), "at least 1"},
		{"quorum above persons", s.block(3, "ana", "ana-rsa", "ben"), "number of persons with a key, which is 2"},
		{"a key of two persons", s.block(1, "ana") + "    - {person: ben, key: \"" + ana + " a comment\"}\n", "listed under ana too"},
		{"a key twice", s.block(1, "ana") + "    - {person: ana, key: \"" + ana + "\"}\n", "listed twice"},
		{"a person in two spellings", s.block(1, "ana") + "    - {person: Ana, key: \"" + s.keys["ben"].Public + "\"}\n", "differ in case"},
		{"no person", s.block(1, "ana") + "    - {key: \"" + s.keys["ben"].Public + "\"}\n", `"" is not a name`},
		{"a pattern", s.block(1, "ana") + "    - {person: \"*\", key: \"" + s.keys["ben"].Public + "\"}\n", `"*" is not a name`},
		{"no key", s.block(1, "ana") + "    - {person: ben}\n", "signers.keys[1].key: want a public key"},
		{"a weak key", s.block(1, "ana") + "    - {person: ben, key: \"ssh-dss AAAAB3NzaC1kc3M=\"}\n", "not accepted"},
		{"too many", s.block(1, slices.Repeat([]string{"ana"}, 300)...), "300 keys, at most 256"},
	} {
		s.write("gatebook.yaml", good+test.block)
		if _, err := Load(s.path); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v; want %q", test.name, err, test.says)
		}
	}
	s.write("gatebook.yaml", good)
	s.write("targets.d/orders.yaml", goodTarget+s.block(1, "eve"))
	if _, err := Load(s.path); err == nil || !strings.Contains(err.Error(), "signers") {
		t.Errorf("an included file has signers: %v", err)
	}
}

// TestManifest holds the text, and that no name makes up a line of it.
func TestManifest(t *testing.T) {
	c := &Loaded{Files: map[string]string{
		"gatebook.yaml": "a", "b/../c.yaml": "", "a b%.yaml": "x", "ä.yaml": "x", "b.yaml\n" + strings.Repeat("0", 64) + "  gatebook.yaml": "x",
	}}
	const x = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
	want := "gatebook-config-manifest 1\n" +
		x + "  %C3%A4.yaml\n" +
		x + "  a%20b%25.yaml\n" +
		x + "  b.yaml%0A" + strings.Repeat("0", 64) + "%20%20gatebook.yaml\n" +
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b/../c.yaml\n" +
		"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  gatebook.yaml\n"
	if got := c.Manifest(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for range 20 {
		if c.Manifest() != want {
			t.Fatal("another order")
		}
	}
	seen := make(map[string]string)
	for _, name := range []string{"a b", "a%20b", "a%2520b", "a\tb", "a%09b", "a\x00b", "a\u00a0b"} {
		e := escapeName(name)
		if other, ok := seen[e]; ok {
			t.Errorf("%q and %q are both written %s", name, other, e)
		}
		seen[e] = name
	}
}

// TestSG05ReadOnce: what two patterns include is read once, so that a file that
// changes in between cannot be parsed as one text and signed as another.
func TestSG05ReadOnce(t *testing.T) {
	path := write(t, map[string]string{"gatebook.yaml": good, "policy.yaml": "first"})
	ld := &loader{open: openFile, l: &Loaded{Dir: filepath.Dir(path), Files: make(map[string]string)}}
	policy := filepath.Join(filepath.Dir(path), "policy.yaml")
	first, err := ld.read(policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(policy, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := ld.read(policy)
	if err != nil {
		t.Fatal(err)
	}
	if string(first.text) != string(second.text) || ld.l.Files["policy.yaml"] != string(first.text) {
		t.Errorf("parsed %q and %q, the manifest is of %q", first.text, second.text, ld.l.Files["policy.yaml"])
	}
}

// TestSG05ApprovesWhatWasParsed: an approval is of the bytes that were parsed, whatever the files say by now.
func TestSG05ApprovesWhatWasParsed(t *testing.T) {
	s := newSigned(t)
	s.sign("ana", "ben")
	evil := strings.Replace(goodTarget, "db.internal", "db.evil.example", 1)
	s.write("targets.d/orders.yaml", evil)
	c := s.load()
	s.write("targets.d/orders.yaml", goodTarget) // put back before the signatures are looked at
	if _, err := c.Approve(nil); !errors.Is(err, ErrNotSigned) {
		t.Errorf("what was parsed is not what was signed: %v", err)
	}
}

// FuzzManifest: two sets of files have one manifest only if they are equal.
func FuzzManifest(f *testing.F) {
	f.Add("a", "b", "c", "d")
	f.Add("a\n", "b", "a%0A", "b")
	f.Fuzz(func(t *testing.T, name1, text1, name2, text2 string) {
		one := &Loaded{Files: map[string]string{"m": "x", name1: text1}}
		two := &Loaded{Files: map[string]string{"m": "x", name2: text2}}
		if (one.Manifest() == two.Manifest()) != maps.Equal(one.Files, two.Files) {
			t.Errorf("%q and %q: %q", one.Files, two.Files, one.Manifest())
		}
		if n := strings.Count(one.Manifest(), "\n"); n != 1+len(one.Files) {
			t.Errorf("%d lines for %d files", n, len(one.Files))
		}
	})
}
