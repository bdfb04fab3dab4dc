package evidence

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestScript runs verify.sh from the package with two shells over good and
// altered packages. It needs the tools that VERIFY.md names, and fails without them.
func TestScript(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sh", "dash", "sha256sum", "openssl", "ssh-keygen", "xxd"} {
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
			for _, shell := range []string{"sh", "dash"} {
				args := append([]string{filepath.Join(dir, "package", fileVerifySH), filepath.Join(dir, "package"), trust}, test.step...)
				out, err := exec.CommandContext(t.Context(), shell, args...).CombinedOutput()
				if (err != nil) != test.fails || !strings.Contains(string(out), test.says) {
					t.Errorf("%s: %v, want %q:\n%s", shell, err, test.says, out)
				}
			}
		})
	}
}
