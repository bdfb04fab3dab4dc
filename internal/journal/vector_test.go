package journal_test

import (
	"encoding/hex"
	"flag"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
)

var update = flag.Bool("update", false, "write the test vector into the format page")

const page = "../../docs/formats/journal.md"

// TestVector reads the segment that the format page shows, with the package
// and with the independent reader.
func TestVector(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), "```hex\n")
	block, after, ok2 := strings.Cut(rest, "```")
	if !ok1 || !ok2 {
		t.Fatal("the page has no hex block")
	}
	if *update {
		text := before + "```hex\n" + vector() + "```" + after
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if block != vector() {
		t.Error("the vector is not what the description makes it; run with -update and read the difference")
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(block), ""))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"intent", "", "outcome."}
	got, err := batches(b)
	if err != nil || len(got) != len(want) {
		t.Fatalf("independent reader: %q, %v", got, err)
	}
	fsys := crashfs.New(nil, 1)
	create(t, fsys)
	writeFile(t, fsys, path.Join(dir, "00000000000000000000.seg"), b)
	s, err := journal.OpenReadOnly(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range all(t, s.Read(0)) {
		if string(p) != want[i] || string(got[i]) != want[i] {
			t.Errorf("payload %d is %q and %q, want %q", i, p, got[i], want[i])
		}
	}
	if rec := s.Recovery(); rec.Entries != 3 || rec.Known != 3 || rec.CutBytes != 0 {
		t.Errorf("recovery %+v", rec)
	}
}

// vector makes the example by hand: two batches and a close mark.
func vector() string {
	le := binaryLE
	b := make([]byte, 128)
	copy(b, "GBJRNL\r\n")
	le.PutUint32(b[8:], 1)
	copy(b[16:], "journal-id-16byt")
	le.PutUint64(b[32:], 0x1122334455667788)
	seq := uint64(0)
	for _, batch := range [][]string{{"intent", ""}, {"outcome."}, {}} {
		off := len(b)
		c := make([]byte, 88)
		copy(c, "GBcf")
		le.PutUint64(c[8:], 0x1122334455667788)
		le.PutUint64(c[16:], uint64(off))
		le.PutUint64(c[24:], seq)
		le.PutUint64(c[32:], seq)
		le.PutUint32(c[40:], uint32(len(batch)))
		b = append(b, c...)
		for _, p := range batch {
			head := make([]byte, 16)
			le.PutUint32(head, uint32(len(p)))
			le.PutUint64(head[8:], seq)
			seq++
			b = append(append(b, head...), p...)
			b = append(b, make([]byte, (8-len(p)%8)%8)...)
		}
		le.PutUint64(b[off+48:], uint64(len(b)-off-88))
	}
	reseal(b)
	var text strings.Builder
	for ; len(b) > 0; b = b[min(len(b), 32):] {
		text.WriteString(hex.EncodeToString(b[:min(len(b), 32)]) + "\n")
	}
	return text.String()
}
