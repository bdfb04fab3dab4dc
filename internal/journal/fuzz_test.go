package journal_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"path"
	"testing"

	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
)

// reseal makes checksums and chain values right wherever the lengths allow it,
// so that the fuzzer gets past them.
func reseal(b []byte) {
	if len(b) < 128 {
		return
	}
	binaryLE.PutUint32(b[124:], sum(b[:124]))
	chain := b[72:88]
	for off := 128; off+88 <= len(b); {
		c := b[off : off+88]
		size := u64(c, 48)
		if size > uint64(len(b)-off-88) {
			size = 0
		}
		copy(c[56:72], chain)
		resealBatch(b[off : off+88+int(size)])
		chain = c[72:88]
		off += 88 + int(size)
	}
}

// resealBatch does so for one batch, which continues the chain value in it.
func resealBatch(b []byte) {
	c := b[:88]
	h := sha256.New()
	h.Write(c[56:72])
	h.Write(c[8:56])
	for data := b[88:]; len(data) >= 16; {
		whole := 16 + (uint64(u32(data, 0))+7)/8*8
		if whole > uint64(len(data)) {
			break
		}
		covered := bytes.Join([][]byte{c[8:16], data[8:16], data[:4], data[16:whole]}, nil)
		binaryLE.PutUint32(data[4:], sum(covered))
		h.Write(data[:16])
		data = data[whole:]
	}
	copy(c[72:88], h.Sum(nil))
	binaryLE.PutUint32(c[4:], sum(c[8:]))
}

// FuzzSegment feeds any bytes as the only segment: opening must not panic,
// take memory beyond the file, or give a payload that the independent reader
// does not also find.
func FuzzSegment(f *testing.F) {
	for _, clean := range []bool{true, false} {
		fsys, names, _ := threeSegments(f, clean)
		for _, name := range names {
			f.Add(readFile(f, fsys, name), clean)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix {
			reseal(b)
		}
		fsys := crashfs.New(nil, 1)
		create(t, fsys)
		name := path.Join(dir, "00000000000000000000.seg")
		writeFile(t, fsys, name, b)
		s, err := journal.OpenReadOnly(fsys, dir)
		if err != nil {
			if !errors.Is(err, journal.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		want, _ := batches(b)
		r := s.Read(0)
		defer func() { _ = r.Close() }()
		for i := 0; ; i++ {
			_, p, err := r.Next()
			if errors.Is(err, io.EOF) {
				if i != len(want) {
					t.Fatalf("read %d payloads, want %d", i, len(want))
				}
				return
			}
			if err != nil || i >= len(want) || string(p) != string(want[i]) {
				t.Fatalf("payload %d: %q, %v", i, p, err)
			}
		}
	})
}
