package journal_test

import (
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
)

// threeSegments returns a journal of some segments. Without a clean close the
// last batch is above every mark.
func threeSegments(t testing.TB, clean bool) (fsys *crashfs.FS, names []string, entries int) {
	t.Helper()
	fsys = crashfs.New(nil, 1)
	create(t, fsys)
	o := small()
	o.SegmentBytes = 1500
	l, _ := open(t, fsys, o)
	for ; l.Stats().Segments < 3 || entries < 14; entries++ {
		put(t, l, payload(journal.Seq(entries)))
	}
	if clean {
		closeLog(t, l)
	} else {
		crashed := fsys.Crash(1)
		closeLog(t, l)
		fsys = crashed
	}
	list, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if strings.HasSuffix(n, ".seg") {
			names = append(names, path.Join(dir, n))
		}
	}
	return fsys, names, entries
}

// layout returns where in a segment file the last batch begins and ends, a
// close mark not counted.
func layout(b []byte) (last, end int) {
	for off := 128; off+88 <= len(b) && string(b[off:off+4]) == "GBcf"; {
		next := off + 88 + int(u64(b, off+48))
		if u32(b, off+40) > 0 {
			last, end = off, next
		}
		off = next
	}
	return last, end
}

// TestFlipEveryByte damages each byte in turn and checks the rule: damage
// below a mark is refused, damage above it is cut, and nothing wrong is read.
func TestFlipEveryByte(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{true, false} {
		fsys, names, entries := threeSegments(t, clean)
		for i, name := range names {
			orig := readFile(t, fsys, name)
			lastBatch, end := layout(orig)
			for off := range orig {
				b := append([]byte(nil), orig...)
				b[off] ^= 0x41
				writeFile(t, fsys, name, b)
				s, err := journal.OpenReadOnly(fsys, dir)
				known := i+1 < len(names) || off < lastBatch || clean && off < end
				switch {
				case known && !errors.Is(err, journal.ErrCorrupt):
					t.Fatalf("clean=%v %s flip at %d: got %v, want ErrCorrupt", clean, name, off, err)
				case known:
					continue
				case err != nil:
					t.Fatalf("clean=%v %s flip at %d of %d: %v", clean, name, off, end, err)
				}
				want := entries
				if off < end {
					want--
				}
				if rec := s.Recovery(); int(s.Entries()) != want || rec.CutBytes == 0 || rec.CutReason == nil {
					t.Fatalf("clean=%v %s flip at %d: %d entries, want %d; %+v", clean, name, off, s.Entries(), want, rec)
				}
				checkAll(t, all(t, s.Read(0)), want)
			}
			writeFile(t, fsys, name, orig)
		}
	}
}

func TestCorruptSaysWhere(t *testing.T) {
	t.Parallel()
	fsys, names, entries := threeSegments(t, true)
	last := names[len(names)-1]
	b := readFile(t, fsys, last)
	off, _ := layout(b)
	b[off+100] ^= 1
	writeFile(t, fsys, last, b)
	_, _, err := journal.Open(fsys, dir, small())
	var c *journal.CorruptError
	if !errors.As(err, &c) {
		t.Fatalf("open: %v", err)
	}
	if c.File != last || c.Offset != int64(off) || int(c.Index) != entries-1 || int(c.Known) != entries {
		t.Fatalf("got %+v", c)
	}
	for _, word := range []string{last, "do not repair", "payload"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func TestMissingSegments(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		fsys, names, entries := threeSegments(t, true)
		if err := fsys.Remove(names[i]); err != nil {
			t.Fatal(err)
		}
		o := small()
		o.KnownDurable = journal.Seq(entries)
		if _, _, err := journal.Open(fsys, dir, o); !errors.Is(err, journal.ErrCorrupt) {
			t.Errorf("without segment %d: %v", i, err)
		}
	}
}

func TestForeignSegment(t *testing.T) {
	t.Parallel()
	a, names, _ := threeSegments(t, true)
	b, _, _ := threeSegments(t, true)
	writeFile(t, a, names[1], readFile(t, b, names[1]))
	if _, _, err := journal.Open(a, dir, small()); !errors.Is(err, journal.ErrCorrupt) {
		t.Fatalf("open with a segment of another journal: %v", err)
	}
}

func TestKnownDurable(t *testing.T) {
	t.Parallel()
	fsys, names, entries := threeSegments(t, false)
	last := names[len(names)-1]
	b := readFile(t, fsys, last)
	off, _ := layout(b)
	b[off] ^= 1 // an ordinary torn tail, as far as the files can tell
	writeFile(t, fsys, last, b)
	o := small()
	o.KnownDurable = journal.Seq(entries)
	if _, _, err := journal.Open(fsys, dir, o); !errors.Is(err, journal.ErrCorrupt) {
		t.Fatalf("open with %d known durable: %v", entries, err)
	}
	o.KnownDurable--
	l, rec := open(t, fsys, o)
	if int(rec.Entries) != entries-1 || rec.CutFile != last || rec.CutOffset != int64(off) || rec.CutBytes == 0 {
		t.Fatalf("recovery %+v", rec)
	}
	closeLog(t, l)
}

// TestGap loses a batch in the middle of several unsynced ones: the later
// batch is whole and is cut all the same.
func TestGap(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New(nil, 1)
	create(t, fsys)
	o := small()
	o.Mode, o.Interval = journal.SyncInsecureInterval, 1<<40
	l, _ := open(t, fsys, o)
	for i := range journal.Seq(3) {
		put(t, l, payload(i))
	}
	name := path.Join(dir, "00000000000000000000.seg")
	b := readFile(t, fsys, name)
	closeLog(t, l)
	b[128+88+int(u64(b, 128+48))] ^= 1 // commit frame of the second batch
	writeFile(t, fsys, name, b)
	s, err := journal.OpenReadOnly(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	checkAll(t, all(t, s.Read(0)), 1)
}

func TestSkipVerifyBelow(t *testing.T) {
	t.Parallel()
	fsys, names, entries := threeSegments(t, true)
	b := readFile(t, fsys, names[0])
	b[128+88+20] ^= 1
	writeFile(t, fsys, names[0], b)
	o := small()
	o.SkipVerifyBelow = journal.Seq(entries)
	l, _ := open(t, fsys, o)
	defer closeLog(t, l)
	r := l.Read(0)
	defer func() { _ = r.Close() }()
	if _, _, err := r.Next(); !errors.Is(err, journal.ErrCorrupt) {
		t.Fatalf("read of a damaged payload: %v", err)
	}
	if _, _, err := r.Next(); !errors.Is(err, journal.ErrCorrupt) {
		t.Fatalf("second read: %v", err)
	}
	if got := all(t, l.Read(journal.Seq(entries-1))); len(got) != 1 {
		t.Fatalf("read %d payloads at the end", len(got))
	}
}

// TestWrongNumbers changes fields of a commit frame and makes its checksum
// right again, as no accident would; the other rules must notice.
func TestWrongNumbers(t *testing.T) {
	t.Parallel()
	for _, field := range []int{8, 16, 24, 32, 40, 48, 56, 72, -56} {
		fsys, names, _ := threeSegments(t, true)
		name := names[len(names)-1]
		b := readFile(t, fsys, name)
		off, _ := layout(b)
		if field < 0 { // the whole batch is right, but follows another one
			b[off-field] ^= 8
			resealBatch(b[off : off+88+int(u64(b, off+48))])
		} else {
			b[off+field] ^= 8
			binaryLE.PutUint32(b[off+4:], sum(b[off+8:off+88]))
		}
		writeFile(t, fsys, name, b)
		if _, err := journal.OpenReadOnly(fsys, dir); !errors.Is(err, journal.ErrCorrupt) {
			t.Errorf("field at %d: %v", field, err)
		}
	}
}
