package journal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"path"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/internal/vfs"
)

// readBack is a second reader of the format, written from its description and
// sharing no code with the package. It expects a journal without damage, as
// Open leaves it: only the last segment may end in something that is not a
// batch.
func readBack(t testing.TB, fsys vfs.FS) [][]byte {
	t.Helper()
	names, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files [][]byte
	for _, name := range names {
		if strings.HasSuffix(name, ".seg") {
			files = append(files, readFile(t, fsys, path.Join(dir, name)))
		}
	}
	var got [][]byte
	for i, b := range files {
		end := uint64(len(b))
		if i+1 < len(files) {
			end = u64(files[i+1], 64)
			got = got[:min(uint64(len(got)), u64(b, 40))]
		}
		if u64(b, 40) != uint64(len(got)) {
			t.Fatalf("segment %d begins at %d, want %d", i, u64(b, 40), len(got))
		}
		if sum(b[:124]) != u32(b, 124) {
			t.Fatalf("segment %d: bad header", i)
		}
		payloads, err := batches(b[:end])
		if err != nil && i+1 < len(files) {
			t.Fatalf("sealed segment %d: %v", i, err)
		}
		got = append(got, payloads...)
		if i+1 < len(files) && u64(files[i+1], 40) != uint64(len(got)) {
			t.Fatalf("sealed segment %d ends at %d, next begins at %d", i, len(got), u64(files[i+1], 40))
		}
	}
	return got
}

func batches(b []byte) (got [][]byte, err error) {
	chain, first := b[72:88], u64(b, 40)
	for off := 128; ; {
		if len(b)-off < 88 || string(b[off:off+4]) != "GBcf" || sum(b[off+8:off+88]) != u32(b, off+4) {
			if len(b) == off {
				return got, nil
			}
			return got, errors.New("no commit frame")
		}
		c := b[off : off+88]
		if u64(c, 8) != u64(b, 32) || u64(c, 16) != uint64(off) || !bytes.Equal(c[56:72], chain) {
			return got, errors.New("foreign commit frame")
		}
		if u64(c, 48) > uint64(len(b)-off-88) || u64(c, 24) != first+uint64(len(got)) || u64(c, 32) > u64(c, 24) {
			return got, errors.New("bad commit frame")
		}
		size := int(u64(c, 48))
		h := sha256.New()
		h.Write(chain)
		h.Write(c[8:56])
		var batch [][]byte
		for data := b[off+88 : off+88+size]; len(data) > 0; {
			if len(data) < 16 {
				return got, errors.New("rest of a data frame")
			}
			n := int(u32(data, 0))
			whole := 16 + (n+7)/8*8
			if whole > len(data) || u64(data, 8) != u64(c, 24)+uint64(len(batch)) {
				return got, errors.New("misplaced data frame")
			}
			covered := bytes.Join([][]byte{c[8:16], data[8:16], data[:4], data[16:whole]}, nil)
			if sum(covered) != u32(data, 4) {
				return got, errors.New("bad data frame")
			}
			h.Write(data[:16])
			batch = append(batch, data[16:16+n])
			data = data[whole:]
		}
		if !bytes.Equal(h.Sum(nil)[:16], c[72:88]) || len(batch) != int(u32(c, 40)) {
			return got, errors.New("bad batch")
		}
		chain = c[72:88]
		got = append(got, batch...)
		off += 88 + size
	}
}

var binaryLE = binary.LittleEndian

func u64(b []byte, off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
func u32(b []byte, off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
func sum(b []byte) uint32          { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func readFile(t testing.TB, fsys vfs.FS, name string) []byte {
	t.Helper()
	f, err := fsys.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if size > 0 {
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func writeFile(t testing.TB, fsys vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fsys.OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(len(b))); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
