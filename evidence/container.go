package evidence

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Limits bound what a verifier takes from a package, which anybody may have
// made. Zero values mean the defaults.
type Limits struct {
	Files int   // files in the package (2,000,000)
	Bytes int64 // of all files, uncompressed (1 TiB)
	Line  int   // longest line of a JSON Lines file, in bytes (256 MiB)
	// Unsigned bounds the bytes of a package that no trusted key signed, if
	// they are also more than 100 times its size (1 GiB).
	Unsigned int64
}

func (l Limits) withDefaults() Limits {
	if l.Files == 0 {
		l.Files = 2_000_000
	}
	if l.Bytes == 0 {
		l.Bytes = 1 << 40
	}
	if l.Line == 0 {
		l.Line = 256 << 20
	}
	if l.Unsigned == 0 {
		l.Unsigned = 1 << 30
	}
	return l
}

// memberName is what a file of a package may be called.
var memberName = regexp.MustCompile(`^(bagit\.txt|bag-info\.txt|(tag)?manifest-sha256\.txt|custody/export\.json|` +
	`verify/VERIFY\.md|verify/verify\.sh|signatures/(tag)?manifest-sha256\.txt\.(ecdsa|sshsig)|` +
	`data/(scope\.json|summary\.json|README\.html)|data/log/(headers\.jsonl|bodies\.jsonl|withheld\.jsonl|checkpoint|checkpoints\.jsonl|proofs\.json)|` +
	`data/populations/[A-Za-z0-9-]{1,64}\.csv|data/identities/[a-z2-7]{16}-[0-9]{1,20}\.json|` +
	`data/sessions/[a-z2-7]{16}/(session\.json|events\.jsonl|rows\.jsonl|snapshot\.csv))$`)

// container is an opened package whose names and sizes are safe.
type container struct {
	files  map[string]*zip.File
	limits Limits
	size   int64  // of the package
	bytes  uint64 // of all files, uncompressed
}

// modest refuses a package that grows out of all proportion.
func (c *container) modest() error {
	if c.bytes > uint64(c.limits.Unsigned) && c.bytes/100 > uint64(c.size) {
		return fmt.Errorf("%d bytes that unpack to %d, and no trusted key signed them", c.size, c.bytes)
	}
	return nil
}

// maxEntry is more than a file takes in a ZIP file's directory that Pack wrote.
const maxEntry = 256

// budget is a reader that refuses to read more than so many bytes.
type budget struct {
	r    io.ReaderAt
	left int64
}

func (b *budget) ReadAt(p []byte, off int64) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errors.New("its directory is too large")
	}
	return b.r.ReadAt(p, off)
}

func openContainer(r io.ReaderAt, size int64, l Limits) (*container, error) {
	// The directory is bounded before anything is kept of it.
	if _, err := zip.NewReader(&budget{r, int64(l.Files)*maxEntry + 1<<20}, size); err != nil {
		return nil, fmt.Errorf("not a ZIP file: %w", err)
	}
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("not a ZIP file: %w", err)
	}
	z.RegisterDecompressor(zip.Deflate, inflate)
	c := &container{files: make(map[string]*zip.File, len(z.File)), limits: l, size: size}
	folded := make(map[string]bool, len(z.File))
	if len(z.File) > l.Files {
		return nil, fmt.Errorf("%d files, at most %d are read", len(z.File), l.Files)
	}
	if z.Comment != "" {
		return nil, errors.New("the ZIP file has a comment")
	}
	var total uint64
	for _, f := range z.File {
		switch {
		case !memberName.MatchString(f.Name):
			return nil, fmt.Errorf("file %q is not part of the format", shortName(f.Name))
		case c.files[f.Name] != nil:
			return nil, fmt.Errorf("file %q is there twice", f.Name)
		case folded[strings.ToLower(f.Name)]:
			return nil, fmt.Errorf("file %q differs from another only in case", f.Name)
		case !f.Mode().IsRegular():
			return nil, fmt.Errorf("%q is not a regular file", f.Name)
		case f.Method != zip.Deflate:
			return nil, fmt.Errorf("file %q uses compression method %d", f.Name, f.Method)
		case f.UncompressedSize64/maxDeflate > f.CompressedSize64:
			return nil, fmt.Errorf("file %q claims to unpack to %d bytes from %d", f.Name, f.UncompressedSize64, f.CompressedSize64)
		}
		folded[strings.ToLower(f.Name)] = true
		total += f.UncompressedSize64
		if f.UncompressedSize64 > uint64(l.Bytes) || total > uint64(l.Bytes) {
			return nil, fmt.Errorf("more than %d bytes uncompressed", l.Bytes)
		}
		c.files[f.Name] = f
	}
	c.bytes = total
	return c, layout(r, size, z.File)
}

// maxDeflate is the most that DEFLATE can shrink anything by, rounded up.
const maxDeflate = 1033

// layout checks that the ZIP file is, byte for byte, what Pack writes around
// these contents: files one after the other in the order of the directory, the
// directory, and its end records. Programs do not agree on which of two
// statements about a file they believe, so there is only one.
func layout(r io.ReaderAt, size int64, files []*zip.File) error {
	b := &formReader{r: r}
	places := make([]uint64, len(files))
	for i, f := range files {
		places[i] = uint64(b.at)
		if !b.is(appendLocal(b.want[:0], f)) {
			switch {
			case len(b.got) < localLen || binary.LittleEndian.Uint32(b.got) != localMark:
				return fmt.Errorf("there is something before %q that is no file", f.Name)
			case int(binary.LittleEndian.Uint16(b.got[26:])) != len(f.Name) || string(b.got[localLen:]) != f.Name:
				return fmt.Errorf("%q has another name beside its content", f.Name)
			}
			return fmt.Errorf("the header beside the content of %q is not the one that a package has", f.Name)
		}
		if f.CompressedSize64 > uint64(size-b.at) {
			return fmt.Errorf("%q is cut", f.Name)
		}
		b.at += int64(f.CompressedSize64)
		if !b.is(appendSizes(b.want[:0], f)) {
			return fmt.Errorf("%q is not followed by its sizes", f.Name)
		}
	}
	begin := b.at
	b.r = &ahead{r: r, buf: make([]byte, 0, 64<<10)}
	for i, f := range files {
		if !b.is(appendCentral(b.want[:0], f, places[i])) {
			if len(b.got) < 4 || binary.LittleEndian.Uint32(b.got) != centralMark {
				return errors.New("there is something between the files and the directory")
			}
			return fmt.Errorf("what the directory says of %q is not in the form that a package has", f.Name)
		}
	}
	end := appendEnd(nil, uint64(len(files)), uint64(begin), uint64(b.at))
	if size-b.at != int64(len(end)) {
		return errors.New("there is something behind the directory")
	}
	if !b.is(end) {
		return errors.New("the end of the directory is not in the form that a package has")
	}
	return nil
}

// formReader compares bytes with what they should be.
type formReader struct {
	r         io.ReaderAt
	at        int64
	got, want []byte
}

// is reports whether the next bytes are these, and steps over them if so.
func (b *formReader) is(want []byte) bool {
	b.want = want
	b.got = slices.Grow(b.got[:0], len(want))[:len(want)]
	n, _ := b.r.ReadAt(b.got, b.at) // what is missing is not what is wanted
	b.got = b.got[:n]
	if !bytes.Equal(b.got, want) {
		return false
	}
	b.at += int64(n)
	return true
}

// ahead reads more than asked, for many small reads that go forward.
type ahead struct {
	r   io.ReaderAt
	at  int64
	buf []byte
}

// ReadAt implements io.ReaderAt.
func (a *ahead) ReadAt(p []byte, off int64) (int, error) {
	if off < a.at || off+int64(len(p)) > a.at+int64(len(a.buf)) {
		n, _ := a.r.ReadAt(a.buf[:cap(a.buf)], off) // an end shows in what is copied
		a.at, a.buf = off, a.buf[:n]
	}
	n := copy(p, a.buf[off-a.at:])
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

// The forms of a ZIP file (APPNOTE sections 4.3.7 to 4.3.16) as Pack writes
// them: made on Unix by version 2.0, deflated, sizes behind the content, no
// time, no comment, and 64 bits only where 32 do not suffice.
const (
	localMark, localLen = 0x04034b50, 30
	centralMark         = 0x02014b50
	sizesMark           = 0x08074b50
	endMark             = 0x06054b50
	end64Mark           = 0x06064b50
	locator64Mark       = 0x07064b50

	madeByUnix, version20, version45 = 3 << 8, 20, 45

	sizesFollow = 0x8 // flag
	most16      = 1<<16 - 1
	most32      = 1<<32 - 1
)

func large(f *zip.File) bool { return f.CompressedSize64 >= most32 || f.UncompressedSize64 >= most32 }

// mode is what Pack gives a file.
func mode(name string) uint32 {
	if strings.HasSuffix(name, ".sh") {
		return 0o755
	}
	return 0o644
}

// form appends numbers of 16, 32 or 64 bits.
func form(dst []byte, numbers ...any) []byte {
	for _, n := range numbers {
		switch n := n.(type) {
		case uint16:
			dst = binary.LittleEndian.AppendUint16(dst, n)
		case uint32:
			dst = binary.LittleEndian.AppendUint32(dst, n)
		case uint64:
			dst = binary.LittleEndian.AppendUint64(dst, n)
		default:
			panic("evidence: no number of a ZIP file")
		}
	}
	return dst
}

func appendLocal(dst []byte, f *zip.File) []byte {
	dst = form(dst, uint32(localMark), uint16(version20), uint16(sizesFollow), zip.Deflate,
		uint32(0) /* time */, uint32(0) /* CRC */, uint64(0) /* sizes */, uint16(len(f.Name)), uint16(0))
	return append(dst, f.Name...)
}

func appendSizes(dst []byte, f *zip.File) []byte {
	dst = form(dst, uint32(sizesMark), f.CRC32)
	if large(f) {
		return form(dst, f.CompressedSize64, f.UncompressedSize64)
	}
	return form(dst, uint32(f.CompressedSize64), uint32(f.UncompressedSize64))
}

func appendCentral(dst []byte, f *zip.File, place uint64) []byte {
	version, packed, plain := uint16(version20), uint32(most32), uint32(most32)
	if large(f) {
		version = version45
	}
	var extra []byte
	if large(f) || place >= most32 {
		extra = form(nil, uint16(1), uint16(24), f.UncompressedSize64, f.CompressedSize64, place)
	} else {
		packed, plain = uint32(f.CompressedSize64), uint32(f.UncompressedSize64)
	}
	dst = form(dst, uint32(centralMark), uint16(madeByUnix|version20), version, uint16(sizesFollow), zip.Deflate,
		uint32(0) /* time */, f.CRC32, packed, plain, uint16(len(f.Name)), uint16(len(extra)),
		uint16(0) /* comment */, uint16(0) /* disk */, uint16(0), (0o100000|mode(f.Name))<<16, uint32(min(place, most32)))
	return append(append(dst, f.Name...), extra...)
}

func appendEnd(dst []byte, files, begin, end uint64) []byte {
	length := end - begin
	if files >= most16 || length >= most32 || begin >= most32 {
		dst = form(dst, uint32(end64Mark), uint64(44), uint16(version45), uint16(version45), uint64(0), /* disks */
			files, files, length, begin, uint32(locator64Mark), uint32(0), end, uint32(1))
		files, length, begin = most16, most32, most32
	}
	return form(dst, uint32(endMark), uint32(0) /* disks */, uint16(files), uint16(files), uint32(length), uint32(begin), uint16(0))
}

// deflated reads compressed content that ends where its file ends: programs
// that read from the beginning take what follows for something else.
type deflated struct {
	in *bufio.Reader
	z  io.ReadCloser
}

var inflaters sync.Pool // of *deflated

func inflate(r io.Reader) io.ReadCloser {
	d, ok := inflaters.Get().(*deflated)
	if !ok {
		in := bufio.NewReader(r)
		return &deflated{in: in, z: flate.NewReader(in)}
	}
	d.in.Reset(r)
	_ = d.z.(flate.Resetter).Reset(d.in, nil) // without a dictionary it cannot fail
	return d
}

// Read implements io.Reader.
func (d *deflated) Read(p []byte) (int, error) {
	n, err := d.z.Read(p)
	if errors.Is(err, io.EOF) {
		if _, more := d.in.ReadByte(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the compressed content")
		}
	}
	return n, err
}

// Close implements io.Closer.
func (d *deflated) Close() error {
	inflaters.Put(d)
	return nil
}

func shortName(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return s
}

func (c *container) open(name string) (io.ReadCloser, error) {
	f := c.files[name]
	if f == nil {
		return nil, fmt.Errorf("file %s is missing", name)
	}
	return f.Open()
}

// maxSmall bounds the files that are read whole, but for the manifests.
const maxSmall = 1 << 20

// maxProofs bounds the file of proofs, which may carry a configuration.
const maxProofs = 64 << 20

// small reads a file that is never large.
func (c *container) small(name string) ([]byte, error) { return c.whole(name, maxSmall) }

// read reads a manifest, which has a line for each file.
func (c *container) read(name string) ([]byte, error) {
	return c.whole(name, maxSmall+int64(len(c.files))*maxEntry)
}

func (c *container) whole(name string, limit int64) ([]byte, error) {
	f, err := c.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return text, nil
}

func (c *container) digest(name string) (string, error) {
	f, err := c.open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	d := sha256.New()
	if _, err := io.Copy(d, f); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(d.Sum(nil)), nil
}

// manifest reads a manifest and returns digests by name.
func (c *container) manifest(name string) (map[string]string, error) {
	text, err := c.read(name)
	if err != nil {
		return nil, err
	}
	list := make(map[string]string)
	for line := range bytes.Lines(text) {
		digest, file, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "  ")
		if !ok || len(digest) != 64 || list[file] != "" || !memberName.MatchString(file) {
			return nil, fmt.Errorf("%s: malformed or repeated line for %q", name, shortName(file))
		}
		list[file] = digest
	}
	return list, nil
}

// check compares every file with the manifests, both ways, and reports whether
// all is as they say. What is cheap comes first: whoever has no key can put any
// file beside a manifest that somebody signed, and only after names and bytes
// are those of the manifests a package may be large beyond modesty.
func (c *container) check(problem func(where, what string)) (data map[string]string, good bool, err error) {
	good = true
	bad := func(where, what string) {
		good = false
		problem(where, what)
	}
	data, err = c.manifest(fileManifest)
	if err != nil {
		return nil, false, err
	}
	tags, err := c.manifest(fileTagManifest)
	if err != nil {
		return nil, false, err
	}
	var content []string
	var size uint64
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		switch {
		case strings.HasPrefix(name, "data/"):
			size += c.files[name].UncompressedSize64
			if data[name] == "" {
				bad(name, "is in no manifest")
				continue
			}
			content = append(content, name)
		case strings.HasPrefix(name, "signatures/"):
			if _, err := c.small(name); err != nil {
				bad(name, err.Error())
			}
		case name == fileTagManifest:
		case tags[name] == "":
			bad(name, "is in no manifest")
		default:
			if text, err := c.read(name); err != nil {
				bad(name, err.Error())
			} else if sum(text) != tags[name] {
				bad(name, changed)
			}
		}
	}
	for _, list := range []map[string]string{data, tags} {
		for _, name := range slices.Sorted(maps.Keys(list)) {
			if c.files[name] == nil {
				bad(name, "is in the manifest and missing")
			}
		}
	}
	info, err := c.small(fileBagInfo)
	if err != nil {
		return nil, false, err
	}
	oxum := "Payload-Oxum: " + strconv.FormatUint(size, 10) + "." + strconv.Itoa(len(data)) + "\n"
	if !strings.Contains(string(info), oxum) {
		bad(fileBagInfo, "Payload-Oxum does not count the files that are here")
	}
	if !good {
		if err := c.modest(); err != nil {
			return nil, false, err
		}
	}
	for _, name := range content {
		if got, err := c.digest(name); err != nil {
			bad(name, err.Error())
		} else if got != data[name] {
			bad(name, changed)
		}
	}
	return data, good, nil
}

const changed = "was changed: its digest is not the manifest's"

// lines reads a JSON Lines file line by line.
type lines struct {
	name string
	f    io.ReadCloser
	r    *bufio.Reader
	max  int
	buf  []byte
}

func (c *container) lines(name string) (*lines, error) {
	f, err := c.open(name)
	if err != nil {
		return nil, err
	}
	return &lines{name: name, f: f, r: bufio.NewReaderSize(f, 256<<10), max: c.limits.Line}, nil
}

// next returns the next line without its newline, valid until the next call,
// and io.EOF at the end.
func (l *lines) next() ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		if err == nil && len(l.buf) == 0 {
			return part[:len(part)-1], nil
		}
		l.buf = append(l.buf, part...)
		switch {
		case err == nil:
			return l.buf[:len(l.buf)-1], nil
		case errors.Is(err, bufio.ErrBufferFull) && len(l.buf) <= l.max:
		case errors.Is(err, io.EOF) && len(l.buf) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%s: the last line is not finished", l.name)
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("%s: a line of more than %d bytes", l.name, l.max)
		default:
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
	}
}

func (l *lines) close() { _ = l.f.Close() }
