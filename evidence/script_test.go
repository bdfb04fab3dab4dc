package evidence

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestScript runs verify.sh from the package with two shells over good and
// altered packages. It needs the tools that VERIFY.md names, and fails without them.
func TestScript(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"dash", "bash", "sha256sum", "openssl", "ssh-keygen", "xxd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is needed: %v", tool, err)
		}
	}
	w, other := newWorld(t), newWorld(t)
	recs := w.story(t)
	all := w.data(t, recs, Scope{}, nil, 0)
	late := w.data(t, recs, Scope{First: 13, Filter: Filter{Session: bob.id.String()}}, nil, 0)
	change := func(from memory, name string, edit func([]byte) []byte) []zipFile {
		m := make(memory)
		for n, text := range from {
			m[n] = text
		}
		m[name] = edit(m[name])
		return unzip(t, w.pack(t, m))
	}
	same := func(b []byte) []byte { return b }
	good := func() []zipFile { return change(all, fileScope, same) }
	put := func(l []zipFile, name, text string) []zipFile {
		for i := range l {
			if l[i].name == name {
				l[i].text = []byte(text)
				return l
			}
		}
		return append(l, zipFile{name: name, text: []byte(text)})
	}
	// A header of the exporter's own, for a statement that nobody sent.
	forged := func(end string) []zipFile {
		m := make(memory)
		for n, text := range all {
			m[n] = bytes.Clone(text)
		}
		salt, body := [SaltSize]byte{1}, meta(t, &Intent{Op: "query", Rule: "r", Text: "DROP TABLE customers"})
		h := Header{Index: 25, Time: storyBegin, Kind: KindIntent, Session: bob.id, Exchange: 3, Decision: "allow",
			BodyLen: uint64(len(body)), Commit: Commitment(&salt, body)}
		m[fileHeaders] = append(AppendHeader(m[fileHeaders], &h), end...)
		m[fileBodies] = appendBodyLine(m[fileBodies], 25, &Disclosed{Salt: salt, Body: body})
		return unzip(t, w.pack(t, m))
	}
	tests := []struct {
		name  string
		files []zipFile
		trust string
		step  []string
		says  string
		fails bool
	}{
		{"good", good(), w.trust, nil, "checkpoint: ok (gate.test/book, 25 entries)", false},
		{"good, root", good(), w.trust, []string{"root"}, "root: ok", false},
		{"good, entry", good(), w.trust, []string{"entry", "6"}, "SELECT n FROM t", false},
		{"good, withheld entry", good(), w.trust, []string{"entry", "15"}, "not in the package", true},
		{"range from the midst, root", change(late, fileScope, same), w.trust, []string{"root"}, "root: ok", false},
		{"second keys and comments", good(), "# mine\n" + other.trust + strings.ReplaceAll(w.trust, "\n", " # c\n"), []string{"root"}, "root: ok", false},
		{"another's keys", good(), other.trust, nil, "ECDSA signature", true},
		{"file changed", put(good(), fileSummary, "{}"), w.trust, nil, "is not the one that manifest-sha256.txt lists", true},
		{"file added", put(good(), "data/extra", "x"), w.trust, nil, "or added", true},
		{"file added under a manifest's name", put(good(), "data/log/tagmanifest-sha256.txt", "x"), w.trust, nil, "or added", true},
		{"signature changed", put(good(), "signatures/tagmanifest-sha256.txt.sshsig", "x"), w.trust, nil, "SSH signature of tag", true},
		{"file added among the signatures", put(good(), "signatures/note.txt", "x"), w.trust, nil, "or added", true},
		{"folder added among the signatures", put(good(), "signatures/more/manifest-sha256.txt.ecdsa", "x"), w.trust, nil, "or added", true},
		{"signature missing", slices.DeleteFunc(good(), func(f zipFile) bool { return f.name == "signatures/"+fileManifest+".sshsig" }), w.trust, nil, "are missing", true},
		{"header forged without a line end, root", forged(""), w.trust, []string{"root"}, "headers.jsonl is not finished", true},
		{"header forged without a line end, entry", forged(""), w.trust, []string{"entry", "25"}, "headers.jsonl is not finished", true},
		{"header forged with a line end, entry", forged("\n"), w.trust, []string{"entry", "25"}, "end at 26", true},
		{"header in another's place", change(all, fileHeaders, lineEdit(func(l [][]byte) [][]byte { l[6], l[9] = l[9], l[6]; return l })), w.trust, []string{"entry", "6"}, "is of another", true},
		{"header with a NUL", change(all, fileHeaders, replace(`"i":6,`, "\"i\":\x006,")), w.trust, []string{"root"}, "bytes that are no text", true},
		{"bodies without a line end", change(all, fileBodies, func(b []byte) []byte { return b[:len(b)-1] }), w.trust, []string{"entry", "6"}, "bodies.jsonl is not finished", true},
		{"body twice", change(all, fileBodies, lineEdit(func(l [][]byte) [][]byte { return append(l, l[6]) })), w.trust, []string{"entry", "6"}, "more than one body", true},
		{"salt that is shorter", change(all, fileBodies, replace(`{"i":6,"salt":"BgAA`, `{"i":6,"salt":"`)), w.trust, []string{"entry", "6"}, "another length", true},
		{"entry beyond the range", good(), w.trust, []string{"entry", "25"}, "not in the range", true},
		{"entry before the range", change(late, fileScope, same), w.trust, []string{"entry", "12"}, "not in the range", true},
		{"range from the midst, entry", change(late, fileScope, same), w.trust, []string{"entry", "16"}, "SELECT n FROM t", false},
		{"entry of another form", good(), w.trust, []string{"entry", "06"}, "not the number", true},
		{"entry that is a pattern", good(), w.trust, []string{"entry", "1.*"}, "not the number", true},
		{"header changed", change(all, fileHeaders, replace(`"d":"deny"`, `"d":"allow"`)), w.trust, []string{"root"}, "do not give the signed root", true},
		{"header dropped", change(all, fileHeaders, lineEdit(func(l [][]byte) [][]byte { return l[:24] })), w.trust, []string{"root"}, "end at 24", true},
		{"body changed", change(all, fileBodies, lineEdit(func(l [][]byte) [][]byte {
			l[6] = bytes.Replace(l[7], []byte(`"i":7`), []byte(`"i":6`), 1)
			return l
		})), w.trust, []string{"entry", "6"}, "not the one its header commits to", true},
		{"checkpoint of another key", change(all, fileCheckpoint, func([]byte) []byte { return other.sign(t, newBook(t, recs), 25) }), w.trust, nil, "signature of the checkpoint", true},
		{"checkpoint of another size", change(all, fileCheckpoint, func([]byte) []byte { return w.sign(t, newBook(t, recs), 24) }), w.trust, nil, "not of the range's end", true},
		{"checkpoint of another origin", change(all, fileCheckpoint, func(b []byte) []byte { return append([]byte("x"), b...) }), w.trust, nil, "no log key of xgate", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, f := range test.files {
				path := filepath.Join(dir, "package", f.name)
				fatal(t, os.MkdirAll(filepath.Dir(path), 0o700))
				fatal(t, os.WriteFile(path, f.text, 0o600))
			}
			trust := filepath.Join(dir, "trust")
			fatal(t, os.WriteFile(trust, []byte(test.trust), 0o600))
			for _, shell := range []string{"dash", "bash"} {
				args := append([]string{filepath.Join(dir, "package", fileVerifySH), filepath.Join(dir, "package"), trust}, test.step...)
				out, err := exec.CommandContext(t.Context(), shell, args...).CombinedOutput()
				if (err != nil) != test.fails || !strings.Contains(string(out), test.says) {
					t.Errorf("%s: %v, want %q:\n%s", shell, err, test.says, out)
				}
			}
		})
	}
}
