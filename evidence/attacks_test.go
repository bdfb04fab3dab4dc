package evidence

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestEV01BodiesOfAnotherStory: the honest headers and checkpoints, with bodies
// of the same lengths and tables that fit them.
func TestEV01BodiesOfAnotherStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	recs, other := w.story(t), w.story(t)
	other[6].body = replace("SELECT n FROM t", "SELECT m FROM t")(other[6].body)
	honest, m := w.data(t, recs, Scope{}, nil, 0), w.data(t, other, Scope{}, nil, 0)
	for _, name := range []string{fileHeaders, fileCheckpoint, fileCheckpoints, fileProofs} {
		m[name] = honest[name]
	}
	r := w.verify(t, w.pack(t, m), w.trust, nil)
	if !strings.Contains(said(r), "entry 6: the body of this intent entry is not the one that its header commits to") {
		t.Errorf("failed %q:\n%s", failed(r), said(r))
	}
}

// member finds where a file's local header, its sizes behind the content and
// its entry in the directory begin.
func member(t *testing.T, pkg []byte, name string) (local, sizes, central int) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	fatal(t, err)
	central = int(binary.LittleEndian.Uint32(pkg[len(pkg)-6:]))
	for _, f := range z.File {
		if f.Name == name {
			at, err := f.DataOffset()
			fatal(t, err)
			return int(at) - 30 - len(name), int(at) + int(f.CompressedSize64), central
		}
		central += 46 + len(f.Name)
	}
	t.Fatalf("no file %s", name)
	return 0, 0, 0
}

// TestEV15Repacked: somebody without keys repacks a package so that the
// directory is right and other programs unpack something else.
func TestEV15Repacked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pkg := w.pack(t, w.data(t, w.story(t), Scope{}, nil, 0))
	const victim = "data/populations/P2-actions.csv"
	local, sizes, central := member(t, pkg, victim)
	check := func(name string, altered []byte, says string) {
		t.Helper()
		r := w.verify(t, altered, w.trust, nil)
		if failed(r) != "container" || r.Summary != nil || !strings.Contains(said(r), says) {
			t.Errorf("%s: want a container that says %q, got %q\n%s", name, says, failed(r), said(r))
		}
	}
	// Every bit of every field.
	for _, place := range []struct {
		name          string
		begin, length int
	}{
		{"local header", local, 30},
		{"sizes", sizes, 16},
		{"directory", central, 46},
		{"end", len(pkg) - 22, 22},
	} {
		for i := range place.length * 8 {
			altered := bytes.Clone(pkg)
			altered[place.begin+i/8] ^= 1 << (i % 8)
			if r := w.verify(t, altered, w.trust, nil); failed(r) != "container" {
				t.Errorf("bit %d of byte %d of the %s: %q\n%s", i%8, i/8, place.name, failed(r), said(r))
			}
		}
	}
	put := func(at int, n ...byte) []byte {
		altered := bytes.Clone(pkg)
		copy(altered[at:], n)
		return altered
	}
	for _, creator := range []byte{2, 5, 16} { // VMS, Atari, BeOS: Info-ZIP takes their modes for those of Unix
		altered := put(central+5, creator)
		binary.LittleEndian.PutUint32(altered[central+38:], 0xA1FF0000)
		check("symlink", altered, "what the directory says of")
	}
	beside := "the header beside the content of"
	check("encrypted beside the content", put(local+6, 9), beside)
	check("encrypted in the directory", put(central+8, 9), "what the directory says of")
	altered := put(local+6, 9)
	altered[central+8] = 9
	check("encrypted", altered, beside)
	check("stored beside the content", put(local+8, 0), beside)
	check("size beside the content", put(local+18, 9), beside)
	check("CRC beside the content", put(local+14, 9), beside)
	check("extra field beside the content", put(local+28, 4), beside)

	// All stored, with a header beside the content that cuts it short.
	var out, dir bytes.Buffer
	files := unzip(t, pkg)
	for _, f := range files {
		short := f.text
		if f.name == victim {
			short = f.text[:bytes.IndexByte(f.text, '\n')+1]
		}
		at := out.Len()
		out.Write(form(nil, uint32(0x04034b50), uint16(20), uint32(0), uint32(0), crc32.ChecksumIEEE(short), uint32(len(short)), uint32(len(short)), uint16(len(f.name)), uint16(0)))
		out.WriteString(f.name)
		out.Write(f.text)
		dir.Write(form(nil, uint32(0x02014b50), uint16(0x0314), uint16(20), uint32(0), uint32(0), crc32.ChecksumIEEE(f.text), uint32(len(f.text)), uint32(len(f.text)),
			uint16(len(f.name)), uint64(0), uint32(0x81a40000), uint32(at)))
		dir.WriteString(f.name)
	}
	begin := out.Len()
	out.Write(dir.Bytes())
	out.Write(form(nil, uint32(0x06054b50), uint32(0), uint16(len(files)), uint16(len(files)), uint32(dir.Len()), uint32(begin), uint16(0)))
	check("cut short", out.Bytes(), "uses compression method 0")

	// The same, deflated, the sizes beside the content.
	check("sizes before the content", func() []byte {
		altered := bytes.Clone(pkg)
		copy(altered[local+14:local+26], altered[sizes+4:sizes+16])
		return altered
	}(), beside)

	// Bytes between the end of the compressed content and its sizes.
	list := unzip(t, pkg)
	for _, name := range []string{victim, "signatures/" + fileManifest + ".ecdsa", fileTagManifest} {
		r := w.verify(t, slack(t, list, name), w.trust, nil)
		if !strings.Contains(failed(r), "container") || r.Summary != nil || !strings.Contains(said(r), "something follows the compressed content") {
			t.Errorf("bytes behind the compressed content of %s: failed %q\n%s", name, failed(r), said(r))
		}
	}
	if r := w.verify(t, slack(t, list, ""), w.trust, nil); r.ExitCode() != 0 {
		t.Errorf("packed again as it was: %s", said(r))
	}
	list[0], list[1] = list[1], list[0]
	if r := w.verify(t, slack(t, list, ""), w.trust, nil); r.ExitCode() != 0 {
		t.Errorf("files in another order: %s", said(r))
	}
	z := slack(t, list, "")
	_, _, a := member(t, z, list[0].name)
	_, _, b := member(t, z, list[1].name)
	_, _, c := member(t, z, list[2].name)
	check("directory in another order", slices.Concat(z[:a], z[b:c], z[a:b], z[c:]), "another name beside its content")
}

// slack packs files with bytes behind the compressed content of one of them.
func slack(t *testing.T, list []zipFile, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range list {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate}
		h.SetMode(fs.FileMode(mode(f.name)))
		z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
			deflate, err := flate.NewWriter(w, 5)
			return &slackWriter{deflate, w, f.name == name}, err
		})
		fw, err := z.CreateHeader(h)
		fatal(t, err)
		_, err = fw.Write(f.text)
		fatal(t, err)
	}
	fatal(t, z.Close())
	return out.Bytes()
}

type slackWriter struct {
	*flate.Writer
	w    io.Writer
	more bool
}

// Close implements io.Closer.
func (s *slackWriter) Close() error {
	err := s.Writer.Close()
	if s.more {
		_, more := s.w.Write([]byte("more"))
		err = errors.Join(err, more)
	}
	return err
}

// TestEV15Held: somebody without keys cannot make a verifier work for long. The
// manifests are the signed ones; the files are others.
func TestEV15Held(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.data(t, w.story(t), Scope{}, nil, 0)
	pkg := w.pack(t, m)
	first, _, _ := bytes.Cut(m[fileCheckpoints], []byte("\n"))
	first = append(first, '\n')
	trust, err := ParseTrust([]byte(w.trust))
	fatal(t, err)
	check := func(name string, pkg []byte, trust *Trust, l Limits, says string, not ...string) {
		t.Helper()
		begin := time.Now()
		r, err := Verify(bytes.NewReader(pkg), int64(len(pkg)), Options{Trust: trust, Limits: l})
		fatal(t, err)
		if took := time.Since(begin); took > 10*time.Second || r.Summary != nil || !strings.Contains(said(r), says) {
			t.Errorf("%s: after %v, want %q:\n%.2000s", name, took, says, said(r))
		}
		for _, no := range not {
			if strings.Contains(said(r), no) {
				t.Errorf("%s: says %q:\n%.2000s", name, no, said(r))
			}
		}
	}
	with := func(name string, text []byte) []byte {
		list := unzip(t, pkg)
		for i := range list {
			if list[i].name == name {
				list[i].text = text
			}
		}
		return rezip(t, list)
	}
	many := bytes.Repeat(first, 300_000)
	check("checkpoints", with(fileCheckpoints, many), trust, Limits{}, fileCheckpoints+": was changed", "out of place")
	check("checkpoints, beyond modesty", with(fileCheckpoints, many), trust, Limits{Unsigned: 1 << 20}, "no trusted key signed them", fileCheckpoints+": was changed")
	check("tag file", with(fileCustody, make([]byte, 40<<20)), trust, Limits{}, "read "+fileCustody+": more than")
	check("signature", with("signatures/"+fileManifest+".ecdsa", make([]byte, 40<<20)), trust, Limits{}, "read signatures/"+fileManifest+".ecdsa: more than")
	// As many bytes as before, so that only the digest tells.
	same := bytes.Clone(m[fileScope])
	same[0] ^= 1
	check("scope", with(fileScope, same), trust, Limits{}, fileScope+": was changed", "invalid character")
	// All is signed, by keys of their own: it ends with as many problems as are listed.
	m[fileCheckpoints] = many
	other := newWorld(t)
	r := w.verify(t, other.pack(t, m), w.trust, nil)
	if !strings.Contains(failed(r), "signer") || len(r.Problems) != maxListed {
		t.Errorf("signed by another: failed %q\n%.2000s", failed(r), said(r))
	}
}

// pages is a file of mostly zeros.
type pages struct {
	size int64
	kept map[int64]*[4096]byte
}

var zeros [1 << 20]byte

// Write implements io.Writer.
func (s *pages) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 4096-int(s.size%4096))
		if page := s.kept[s.size/4096]; page != nil || !bytes.Equal(rest[:n], zeros[:n]) {
			if page == nil {
				page = new([4096]byte)
				s.kept[s.size/4096] = page
			}
			copy(page[s.size%4096:], rest[:n])
		}
		s.size += int64(n)
		rest = rest[n:]
	}
	return len(p), nil
}

// ReadAt implements io.ReaderAt.
func (s *pages) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), s.size-off))
	for done := 0; done < n; {
		at := off + int64(done)
		page := s.kept[at/4096]
		if page == nil {
			page = (*[4096]byte)(zeros[:4096])
		}
		done += copy(p[done:n], page[at%4096:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

type asIs struct{ io.Writer }

// Close implements io.Closer.
func (asIs) Close() error { return nil }

// TestLayoutLarge: the form of packages with numbers that 32 or 16 bits do not
// hold is the one that is asked for.
func TestLayoutLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Parallel()
	for name, test := range map[string]struct {
		files  int
		large  bool // the second file unpacks to 4 GiB
		packed bool // and takes as much
	}{
		"files":   {files: 1<<16 - 1},
		"content": {files: 3, large: true},
		"packed":  {files: 4, large: true, packed: true},
	} {
		s := &pages{kept: make(map[int64]*[4096]byte)}
		z := zip.NewWriter(s)
		for i := range test.files {
			z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
				if !test.packed {
					w = io.Discard
				}
				return asIs{w}, nil
			})
			h := &zip.FileHeader{Name: "f" + strconv.Itoa(i), Method: zip.Deflate}
			h.SetMode(0o644)
			w, err := z.CreateHeader(h)
			fatal(t, err)
			for range 4096 {
				if i != 1 || !test.large {
					break
				}
				_, err := w.Write(zeros[:])
				fatal(t, err)
			}
		}
		fatal(t, z.Close())
		r, err := zip.NewReader(s, s.size)
		fatal(t, err)
		if err := layout(s, s.size, r.File); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
