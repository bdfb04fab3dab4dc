package ledger

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs"
)

// payloads reads a journal whole.
func payloads(t *testing.T, dir string) (list [][]byte) {
	t.Helper()
	s, err := journal.OpenReadOnly(vfs.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	r := s.Read(0)
	defer func() { _ = r.Close() }()
	for {
		_, p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, bytes.Clone(p))
	}
}

// rewrite puts a journal of these payloads in the place of another, with
// checksums that fit: they have no key.
func rewrite(t *testing.T, dir string, list [][]byte) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(dir), journal.Create(vfs.OS(), dir)); err != nil {
		t.Fatal(err)
	}
	l, _, err := journal.Open(vfs.OS(), dir, journal.Options{SegmentBytes: 1 << 20, LowWater: -1, Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if _, err := l.Append(journal.Ordinary, func(dst []byte, _ journal.Seq) []byte { return append(dst, p...) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// header changes an entry's header and leaves its body.
func header(t *testing.T, payload []byte, change func(*evidence.Header)) []byte {
	t.Helper()
	n := int(payload[0]) | int(payload[1])<<8
	h, err := evidence.ParseHeader(payload[2 : 2+n])
	if err != nil {
		t.Fatal(err)
	}
	change(&h)
	line := evidence.AppendHeader(nil, &h)
	return slices.Concat([]byte{byte(len(line)), byte(len(line) >> 8)}, line, payload[2+n:])
}

// renumber gives entries the indices of their places.
func renumber(t *testing.T, list [][]byte) [][]byte {
	t.Helper()
	for i := range list {
		list[i] = header(t, list[i], func(h *evidence.Header) { h.Index = uint64(i) })
	}
	return list
}

func sealedAt(p []byte) int { return 2 + int(p[0]) + int(p[1])<<8 }

// TestEV03DataDirectory alters the files of a gateway that stands still, at
// three strengths. Somebody without keys makes all checksums fit, which have no
// key. Whoever has the keys of packages has nothing more here. Root, with the
// log key, lets the gateway make tree and checkpoints anew. The verdicts were
// written down first; docs/threat-model.md has the same table.
//
// A verdict is "refused: …" (the start, or the export, fails and says so), "exception: …" or "fails: …" (the
// verifier), or "nothing"; in the last case, and for exceptions, bookmark says whether the auditor's own
// checkpoint notices.
func TestEV03DataDirectory(t *testing.T) {
	t.Parallel()
	// The book: boot and key, then principal, target, session, three exchanges of two entries and the
	// session's end; a checkpoint; a second session; the stop.
	const firstSession, firstIntent = 4, 5
	journalEdit := func(edit func(list [][]byte) [][]byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			name := filepath.Join(dir, journalDir)
			rewrite(t, name, edit(payloads(t, name)))
		}
	}
	fileEdit := func(file string, edit func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			name := filepath.Join(dir, file)
			text, err := os.ReadFile(name)
			if err == nil {
				err = os.WriteFile(name, edit(text), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	firstLines := func(n int) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Join(bytes.SplitAfterN(b, []byte("\n"), n+1)[:n], nil) }
	}
	both := func(edits ...func(*testing.T, string)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, e := range edits {
				e(t, dir)
			}
		}
	}
	tests := []struct {
		name     string
		edit     func(t *testing.T, dir string)
		keyless  string
		root     string // "" for what is the same with keys
		bookmark bool
	}{
		{"bit of a sealed body flipped", journalEdit(func(l [][]byte) [][]byte {
			l[firstIntent][len(l[firstIntent])-1] ^= 1
			return l
		}), "refused: does not open", "refused: does not open", false},
		{"bodies of two entries swapped", journalEdit(func(l [][]byte) [][]byte {
			a, b := l[firstIntent], l[firstIntent+2]
			l[firstIntent] = slices.Concat(a[:sealedAt(a)], b[sealedAt(b):])
			l[firstIntent+2] = slices.Concat(b[:sealedAt(b)], a[sealedAt(a):])
			return l
		}), "refused: is not the one its header commits to", "refused: is not the one its header commits to", false},
		{"decision in a header edited", journalEdit(func(l [][]byte) [][]byte {
			l[firstIntent] = header(t, l[firstIntent], func(h *evidence.Header) { h.Decision = "deny" })
			return l
		}), "fails: integrity", "fails: integrity", true},
		{"time in a header edited", journalEdit(func(l [][]byte) [][]byte {
			l[0] = header(t, l[0], func(h *evidence.Header) { h.Time = h.Time.AddDate(0, 0, -1) })
			return l
		}), "fails: integrity", "exception: gap", true},
		{"exchange dropped", journalEdit(func(l [][]byte) [][]byte {
			return renumber(t, slices.Delete(l, firstIntent+4, firstIntent+6))
		}), "refused: ", "fails: completeness", true},
		{"entry doubled", journalEdit(func(l [][]byte) [][]byte {
			return renumber(t, slices.Insert(l, firstIntent+1, l[firstIntent+1]))
		}), "fails: completeness integrity", "fails: completeness", true},
		{"entries moved", journalEdit(func(l [][]byte) [][]byte {
			l[firstIntent], l[firstIntent+1] = l[firstIntent+1], l[firstIntent]
			return renumber(t, l)
		}), "fails: completeness integrity", "refused: is older than the one before it", true},
		{"entries moved, numbers left", journalEdit(func(l [][]byte) [][]byte {
			l[firstIntent], l[firstIntent+1] = l[firstIntent+1], l[firstIntent]
			return l
		}), "refused: its header says", "refused: its header says", false},
		{"session entry put under another principal", journalEdit(func(l [][]byte) [][]byte {
			l[firstSession] = header(t, l[firstSession], func(h *evidence.Header) { h.Actor[0] ^= 1 })
			return l
		}), "fails: integrity", "fails: integrity", true},
		{"first entries removed", journalEdit(func(l [][]byte) [][]byte { return l[2:] }), "refused: ", "refused: its header says", false},
		{"tail cut, checkpoints left", journalEdit(func(l [][]byte) [][]byte { return l[:len(l)-3] }), "refused: ", "exception: crash outcome-unknown session-recovered", true},
		{"tail and checkpoints cut", both(journalEdit(func(l [][]byte) [][]byte { return l[:firstIntent+7] }),
			fileEdit(checkpointFile, firstLines(1)), fileEdit(treeFile, func([]byte) []byte { return nil })), "exception: crash", "exception: crash", true},
		{"journal emptied", journalEdit(func([][]byte) [][]byte { return nil }), "refused: ", "nothing", true},
		{"checkpoint edited", fileEdit(checkpointFile, func(b []byte) []byte {
			return bytes.Replace(b, []byte(`\n`), []byte(`\n1`), 1)
		}), "refused: checkpoint", "", false},
		{"last checkpoint removed", fileEdit(checkpointFile, firstLines(1)), "nothing", "", false},
		{"tree's hashes damaged", fileEdit(treeFile, func(b []byte) []byte { b[40] ^= 1; return b }), "nothing", "", false},
		{"a session's key removed", fileEdit(keysFile, func(b []byte) []byte { return slices.Delete(b, 2*recordBytes, 3*recordBytes) }), "exception: erased", "exception: erased", false},
		{"all keys removed", fileEdit(keysFile, func(b []byte) []byte { return b[:recordBytes] }), "exception: erased", "exception: erased", false},
		{"key damaged", fileEdit(keysFile, func(b []byte) []byte { b[2*recordBytes+50] ^= 1; return b }), "exception: erased", "exception: erased", false},
		{"key store's first record damaged", fileEdit(keysFile, func(b []byte) []byte { b[50] ^= 1; return b }), "refused: ", "", false},
		{"another name in book.json", fileEdit(bookFile, func(b []byte) []byte {
			return bytes.Replace(b, []byte(origin), []byte("other.test/book"), 1)
		}), "refused: ", "", false},
		{"book.json removed", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, bookFile)); err != nil {
				t.Fatal(err)
			}
		}, "refused: no book", "", false},
	}
	rows := []string{"| Alteration | without keys | root | bookmark notices |", "|---|---|---|---|"}
	for _, test := range tests {
		root := test.root
		if root == "" {
			root = test.keyless
		}
		line := "| " + test.name + " | " + strings.TrimSuffix(test.keyless, ": ") + " | " + strings.TrimSuffix(root, ": ") + " | "
		rows = append(rows, strings.ReplaceAll(line, "nothing", "**nothing**")+map[bool]string{true: "yes", false: "nothing to notice"}[test.bookmark]+" |")
		for _, strength := range []string{"keyless", "root"} {
			t.Run(test.name+"/"+strength, func(t *testing.T) {
				t.Parallel()
				want := test.keyless
				f := newFixture(t)
				l := f.open(t)
				exchange(t, l, 3)
				kept, err := l.Checkpoint(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				exchange(t, l, 2)
				last, err := l.Checkpoint(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Close(context.Background(), "test"); err != nil {
					t.Fatal(err)
				}
				test.edit(t, f.dir)
				if strength == "root" {
					want = root
					if test.root != "" {
						for _, name := range []string{checkpointFile, treeFile} {
							if err := os.Truncate(filepath.Join(f.dir, name), 0); err != nil {
								t.Fatal(err)
							}
						}
					}
				}
				got, noticed := f.verdict(t, []byte(kept.Note), []byte(last.Note))
				if !strings.HasPrefix(got, strings.SplitAfter(want, ": ")[0]) || !strings.Contains(got, strings.TrimPrefix(want, "refused: ")) && strings.HasPrefix(want, "refused") || !strings.HasPrefix(want, "refused") && got != want {
					t.Errorf("verdict %q, want %q", got, want)
				}
				if !strings.HasPrefix(want, "refused") && noticed != test.bookmark && (strength == "root" || !strings.HasPrefix(test.keyless, "refused")) {
					t.Errorf("the bookmark noticed: %v, want %v (%s)", noticed, test.bookmark, got)
				}
			})
		}
	}
	text, err := os.ReadFile("../../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	if table := strings.Join(rows, "\n") + "\n"; !strings.Contains(string(text), table) {
		t.Errorf("docs/threat-model.md does not have this table:\n%s", table)
	}
}

// recordBytes is the size of a record of the key store (docs/formats/journal.md).
const recordBytes = 96

// verdict opens an altered book, exports and verifies all of it, and says what
// was noticed on the way, and whether one of the kept checkpoints was needed for more.
func (f *fixture) verdict(t *testing.T, kept ...[]byte) (verdict string, bookmark bool) {
	t.Helper()
	l, err := Open(t.Context(), vfs.OS(), f.dir, f.opts)
	if err != nil {
		return "refused: " + err.Error(), false
	}
	defer func() { _ = l.Close(context.Background(), "test") }()
	if _, err := l.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys, trust := packKeys(t)
	trust = "log " + f.opts.PublicKeys.Log + "\n" + trust
	pkg, err := tryPack(t, l, Query{}, keys)
	if err != nil {
		return "refused: " + err.Error(), false
	}
	r := verify(t, pkg, trust, nil)
	for _, note := range kept {
		with, err := tryPack(t, l, Query{Previous: note}, keys)
		if err != nil { // the export itself notices; the verifier must, too
			with = pkg
		}
		for _, p := range verify(t, with, trust, note).Problems {
			bookmark = bookmark || p.Aspect == evidence.Anchoring
		}
	}
	aspects, codes := map[string]bool{}, map[string]bool{}
	for _, p := range r.Problems {
		aspects[string(p.Aspect)] = true
	}
	for _, x := range r.Exceptions {
		codes[x.Code] = true
	}
	switch {
	case len(aspects) > 0:
		return "fails: " + strings.Join(slices.Sorted(maps.Keys(aspects)), " "), bookmark
	case len(codes) > 0:
		return "exception: " + strings.Join(slices.Sorted(maps.Keys(codes)), " "), bookmark
	}
	return "nothing", bookmark
}
