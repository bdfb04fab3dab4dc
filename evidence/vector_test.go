package evidence_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/seal"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/vfs"
)

var vectorBlock = regexp.MustCompile("(?ms)^```text (\\S+)\n(.*?)\n```$")

// vectors returns the test vectors of a page of docs/formats by name.
func vectors(t *testing.T, page string) func(name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "formats", page))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, m := range vectorBlock.FindAllSubmatch(text, -1) {
		all[string(m[1])] = string(m[2])
	}
	return func(name string) string {
		t.Helper()
		if all[name] == "" {
			t.Fatalf("%s has no vector %q", page, name)
		}
		return all[name]
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// root32 reads a hash in base64.
func root32(t *testing.T, text string) tlog.Hash {
	t.Helper()
	b := unbase64(t, text)
	if len(b) != tlog.HashSize {
		t.Fatalf("%q is not a hash", text)
	}
	return tlog.Hash(b)
}

func TestEntryVectors(t *testing.T) {
	t.Parallel()
	v := vectors(t, "entry.md")
	salt, body, line := unhex(t, v("salt")), []byte(v("body")), []byte(v("header"))
	h, err := evidence.ParseHeader(line)
	if err != nil {
		t.Fatal(err)
	}
	if got := evidence.AppendHeader(nil, &h); !bytes.Equal(got, line) {
		t.Errorf("written again:\n%s\n%s", got, line)
	}
	// The commitment and the leaf, computed from the page's words alone.
	if commit := sha256.Sum256(append(salt, body...)); commit != h.Commit || h.BodyLen != uint64(len(body)) {
		t.Errorf("commitment %x, %d bytes; the header has %x, %d", commit, len(body), h.Commit, h.BodyLen)
	}
	if leaf := sha256.Sum256(append([]byte{0}, line...)); hex.EncodeToString(leaf[:]) != v("leaf") || evidence.LeafHash(line) != tlog.Hash(leaf) {
		t.Errorf("leaf %x", leaf)
	}
	var in evidence.Intent
	if err := evidence.DecodeBody(body, &in); err != nil || in.Op != "query" || !strings.Contains(in.Text, "\nSELECT 1") {
		t.Errorf("%v %+v", err, in)
	}
	id, written, _ := strings.Cut(v("key-id"), " ")
	if got := evidence.ID(unhex(t, id)).String(); got != written || h.Session.String() != written {
		t.Errorf("id %s is written %s, the page says %s", id, got, written)
	}
}

// TestHeaderHasOneForm changes the vector in ways that keep its meaning or
// nearly so; none is a header.
func TestHeaderHasOneForm(t *testing.T) {
	t.Parallel()
	good := vectors(t, "entry.md")("header")
	for name, change := range map[string][2]string{
		"space":             {`"i":4`, `"i": 4`},
		"leading zero":      {`"i":4`, `"i":04`},
		"exponent":          {`"i":4`, `"i":4e0`},
		"order":             {`"v":1,"i":4`, `"i":4,"v":1`},
		"key again":         {`"i":4`, `"i":4,"i":4`},
		"unknown key":       {`"n":`, `"z":0,"n":`},
		"written zero":      {`"x":1`, `"x":0`},
		"version":           {`"v":1`, `"v":2`},
		"kind":              {`"k":"intent"`, `"k":"intend"`},
		"decision":          {`"d":"allow"`, `"d":"held"`},
		"capitals":          {`"c":"df59`, `"c":"DF59`},
		"capitals in a key": {`"c":"df59`, `"C":"df59`},
		"milliseconds":      {`.000000Z`, `.000Z`},
		"offset":            {`.000000Z`, `.000000+00:00`},
		"end":               {`c5a9"}`, "c5a9\"}\n"},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s changes nothing", name)
		}
		if _, err := evidence.ParseHeader([]byte(bad)); err == nil {
			t.Errorf("%s: accepted: %s", name, bad)
		}
	}
}

func TestSealedVectors(t *testing.T) {
	t.Parallel()
	v := vectors(t, "entry.md")
	kek := secret.New(v("kek"))
	path := filepath.Join(t.TempDir(), "keys.store")
	if err := os.WriteFile(path, unhex(t, v("keys.store")), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := seal.OpenStore(vfs.OS(), path, kek)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	sealed := unhex(t, v("sealed"))
	id, err := seal.KeyID(sealed)
	if err != nil {
		t.Fatal(err)
	}
	key, err := store.Key(id)
	if err != nil {
		t.Fatal(err)
	}
	salt, body, err := key.Open(sealed)
	if err != nil || hex.EncodeToString(salt[:]) != v("salt") || string(body) != v("body") {
		t.Errorf("%v: salt %x, body %s", err, salt, body)
	}
	for i := range sealed {
		sealed[i] ^= 1
		if _, _, err := key.Open(sealed); err == nil {
			t.Errorf("a changed byte %d was not noticed", i)
		}
		sealed[i] ^= 1
	}
	epoch, err := seal.Derive(kek, "pseudonyms of gate.example.com")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(v("pseudonyms") + "\n") {
		f := strings.Fields(line)
		m := hmac.New(sha256.New, epoch)
		m.Write([]byte(f[0] + "\x00" + f[1]))
		if got := hex.EncodeToString(m.Sum(nil)[:16]); got != f[2] {
			t.Errorf("%s %s: %s, the page says %s", f[0], f[1], got, f[2])
		}
	}
}

func TestCheckpointVectors(t *testing.T) {
	t.Parallel()
	v := vectors(t, "checkpoint.md")
	verifier, err := note.NewVerifier(v("verifier-key"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(v("signer-key"))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := evidence.NewRange(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	roots := strings.Split(v("roots"), "\n")
	for i, leaf := range strings.Split(v("leaves"), "\n") {
		tree.Add(tlog.Hash(unhex(t, leaf)))
		size, root, _ := strings.Cut(roots[i], " ")
		if size != strconv.Itoa(i+1) || tree.Root() != root32(t, root) {
			t.Errorf("size %d: root %v, the page says %s", i+1, tree.Root(), roots[i])
		}
	}
	var points []evidence.Checkpoint
	for _, name := range []string{"earlier", "checkpoint"} {
		signed := v(name) + "\n"
		cp, err := evidence.OpenCheckpoint([]byte(signed), "gate.example.com", verifier)
		if err != nil {
			t.Fatal(err)
		}
		if _, root, _ := strings.Cut(roots[cp.Size-1], " "); cp.Root != root32(t, root) {
			t.Errorf("%s: root %v at size %d", name, cp.Root, cp.Size)
		}
		again, err := evidence.SignCheckpoint(cp, signer)
		if err != nil || string(again) != signed {
			t.Errorf("%s: signed again: %v\n%s", name, err, again)
		}
		if _, err := evidence.OpenCheckpoint([]byte(signed), "gate.example.org", verifier); err == nil {
			t.Errorf("%s: accepted for another origin", name)
		}
		extended := strings.Replace(signed, "\n\n", "\nextension\n\n", 1)
		if _, err := evidence.OpenCheckpoint([]byte(extended), "gate.example.com", verifier); err == nil {
			t.Errorf("%s: an extension line was accepted", name)
		}
		points = append(points, cp)
	}
	var proof []tlog.Hash
	for _, h := range strings.Split(v("consistency"), "\n") {
		proof = append(proof, root32(t, h))
	}
	old, now := points[0], points[1]
	if err := tlog.CheckTree(proof, int64(now.Size), now.Root, int64(old.Size), old.Root); err != nil {
		t.Error(err)
	}
}

// sink keeps what a Builder makes.
type sink map[string][]byte

func (s sink) Append(name string, piece []byte) error {
	s[name] = append(s[name], piece...)
	return nil
}

func TestPackageVectors(t *testing.T) {
	t.Parallel()
	v, cp := vectors(t, "package.md"), vectors(t, "checkpoint.md")
	headers, bodies := strings.Split(v("headers.jsonl"), "\n"), strings.Split(v("bodies.jsonl"), "\n")
	made := make(sink)
	b := evidence.NewBuilder(evidence.Scope{Format: evidence.PackageFormat, Origin: "gate.example.com", Size: uint64(len(headers))}, made)
	if err := b.Begin(); err != nil {
		t.Fatal(err)
	}
	tree, err := evidence.NewRange(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	var first time.Time
	for i, line := range headers {
		h, err := evidence.ParseHeader([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = h.Time
		}
		var w struct {
			I          uint64
			Salt, Body []byte
		}
		if err := json.Unmarshal([]byte(bodies[i]), &w); err != nil || w.I != h.Index || len(w.Salt) != evidence.SaltSize {
			t.Fatalf("%v: %s", err, bodies[i])
		}
		d := &evidence.Disclosed{Salt: [evidence.SaltSize]byte(w.Salt), Body: w.Body}
		if evidence.Commitment(&d.Salt, d.Body) != h.Commit {
			t.Errorf("entry %d: the body is not the one of its header", i)
		}
		if err := b.Entry([]byte(line), &h, d, ""); err != nil {
			t.Fatal(err)
		}
		tree.Add(evidence.LeafHash([]byte(line)))
	}
	sum, err := b.Finish(first)
	if err != nil || len(sum.Exceptions) > 0 {
		t.Fatalf("%v %v", err, sum)
	}
	root := tree.Root()
	if want := strings.Split(cp("checkpoint"), "\n")[2]; base64.StdEncoding.EncodeToString(root[:]) != want {
		t.Errorf("root %v, the checkpoint says %s", root, want)
	}
	const session = "data/sessions/aebagbafaydqqcik/"
	for name, file := range map[string]string{
		"headers.jsonl": "data/log/headers.jsonl", "bodies.jsonl": "data/log/bodies.jsonl",
		"P1-sessions.csv": "data/populations/P1-sessions.csv", "P2-actions.csv": "data/populations/P2-actions.csv",
		"P9-continuity.csv": "data/populations/P9-continuity.csv", "events.jsonl": session + "events.jsonl", "rows.jsonl": session + "rows.jsonl",
	} {
		got := string(made[file])
		if strings.HasSuffix(name, ".csv") {
			got = strings.ReplaceAll(got, "\r\n", "\n")
		}
		if got != v(name)+"\n" {
			t.Errorf("%s:\n%s\nthe page says:\n%s", file, got, v(name))
		}
	}
}

// TestPackagePageNamesEverything holds the page's lists against the program.
func TestPackagePageNamesEverything(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "formats", "package.md"))
	if err != nil {
		t.Fatal(err)
	}
	made := make(sink)
	b := evidence.NewBuilder(evidence.Scope{Format: evidence.PackageFormat, Origin: "gate.example.com"}, made)
	if err := b.Begin(); err != nil {
		t.Fatal(err)
	}
	for file, text := range made {
		name, isCSV := strings.CutSuffix(filepath.Base(file), ".csv")
		if !isCSV {
			continue
		}
		row := regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(name) + "` .*$").Find(page)
		columns := strings.Split(strings.TrimSpace(string(text)), ",")
		for _, c := range columns[5:] {
			if !bytes.Contains(row, []byte("`"+c+"`")) {
				t.Errorf("%s: the page does not name the column %s", name, c)
			}
		}
		if n := bytes.Count(row, []byte("`")) / 2; n != len(columns)-5+1 {
			t.Errorf("%s: the page names %d columns, the table has %d", name, n-1, len(columns)-5)
		}
		for _, c := range columns[:5] {
			if !bytes.Contains(page, []byte("`"+c+"`")) {
				t.Errorf("the page does not name the column %s", c)
			}
		}
	}
}

func TestSSHSignatureVector(t *testing.T) {
	t.Parallel()
	v := vectors(t, "package.md")
	key := ed25519.NewKeyFromSeed(unhex(t, v("ssh-seed")))
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok || evidence.SSHAuthorizedKey(pub) != v("ssh-key") {
		t.Errorf("key %s", evidence.SSHAuthorizedKey(pub))
	}
	if got := string(evidence.SignSSH(key, []byte("a manifest\n"))); got != v("ssh-signature")+"\n" {
		t.Errorf("signature\n%s", got)
	}
}

// TestPackagePageNamesExceptions holds the page's list of exceptions and files
// against the program's.
func TestPackagePageNamesExceptions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "formats", "package.md"))
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile(`\.exception\((?:[^"\n]*, )?"([a-z-]+)"`)
	file := regexp.MustCompile(`(?m)^\tfile[A-Za-z]+ +=\s"([^"]+)"`)
	n := 0
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range append(code.FindAllSubmatch(text, -1), file.FindAllSubmatch(text, -1)...) {
			n++
			if word := string(m[1]); word != "gate-" && !bytes.Contains(page, []byte("`"+word+"`")) {
				t.Errorf("%s: the page does not name %s", name, word)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d names found", n)
	}
}

// TestEntryPageNamesEverything looks for every kind and every JSON field of a
// body in the page.
func TestEntryPageNamesEverything(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "formats", "entry.md"))
	if err != nil {
		t.Fatal(err)
	}
	for file, pattern := range map[string]string{
		"body.go": "json:\"([a-z0-9_]+)", "header.go": "Kind = \"([a-z-]+)\"",
	} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindAllSubmatch(source, -1)
		if len(found) < 15 {
			t.Errorf("%s: only %d names found", file, len(found))
		}
		for _, m := range found {
			if !regexp.MustCompile("[`\"]" + regexp.QuoteMeta(string(m[1])) + "[`\"]").Match(page) {
				t.Errorf("the page does not name %s (%s)", m[1], file)
			}
		}
	}
}
