package evidence

import (
	"archive/zip"
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
	`data/sessions/[a-z2-7]{16}/(session\.json|events\.jsonl|rows\.jsonl))$`)

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
		case f.Method != zip.Deflate && f.Method != zip.Store:
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

// layout checks that the ZIP file is nothing but its files one after the
// other, its directory, and its end record: no bytes before, between or after
// them, no two files that share bytes, and the same names in both places.
// Programs do not agree on what other files hold.
func layout(r io.ReaderAt, size int64, files []*zip.File) error {
	byPlace := slices.Clone(files)
	place := make(map[*zip.File]int64, len(files))
	for _, f := range files {
		at, err := f.DataOffset()
		if err != nil {
			return fmt.Errorf("%q: %w", f.Name, err)
		}
		place[f] = at
	}
	slices.SortFunc(byPlace, func(a, b *zip.File) int { return cmp.Compare(place[a], place[b]) })
	at := int64(0)
	var head [30]byte
	for _, f := range byPlace {
		if _, err := r.ReadAt(head[:], at); err != nil || binary.LittleEndian.Uint32(head[:]) != 0x04034b50 {
			return fmt.Errorf("there is something before %q that is no file", f.Name)
		}
		name := make([]byte, binary.LittleEndian.Uint16(head[26:]))
		if _, err := r.ReadAt(name, at+30); err != nil || string(name) != f.Name {
			return fmt.Errorf("%q has another name beside its content", f.Name)
		}
		if at += 30 + int64(len(name)) + int64(binary.LittleEndian.Uint16(head[28:])); at != place[f] {
			return fmt.Errorf("%q overlaps with another file", f.Name)
		}
		if f.CompressedSize64 > uint64(size) {
			return fmt.Errorf("%q is cut", f.Name)
		}
		at += int64(f.CompressedSize64)
		if f.Flags&0x8 != 0 { // a data descriptor follows (APPNOTE section 4.3.9)
			if _, err := r.ReadAt(head[:4], at); err != nil || binary.LittleEndian.Uint32(head[:]) != 0x08074b50 {
				return fmt.Errorf("%q is not followed by its sizes", f.Name)
			}
			at += 16
			if f.CompressedSize64 >= 1<<32-1 || f.UncompressedSize64 >= 1<<32-1 {
				at += 8
			}
		}
	}
	return directory(r, size, at, files)
}

// directory checks that nothing but the directory and the end records stands
// behind the files.
func directory(r io.ReaderAt, size, at int64, files []*zip.File) error {
	var head [46]byte
	for range files {
		if _, err := r.ReadAt(head[:], at); err != nil || binary.LittleEndian.Uint32(head[:]) != 0x02014b50 {
			return errors.New("there is something between the files and the directory")
		}
		if binary.LittleEndian.Uint16(head[32:]) != 0 {
			return errors.New("a file has a comment")
		}
		at += 46 + int64(binary.LittleEndian.Uint16(head[28:])) + int64(binary.LittleEndian.Uint16(head[30:]))
	}
	if size-at == 22+56+20 {
		at += 56 + 20 // the end record and its locator of ZIP64 (APPNOTE sections 4.3.14 and 4.3.15)
	}
	if size-at != 22 {
		return errors.New("there is something behind the directory")
	}
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

// check compares every file with the manifests, both ways.
func (c *container) check(problem func(where, what string)) (data map[string]string, err error) {
	data, err = c.manifest(fileManifest)
	if err != nil {
		return nil, err
	}
	tags, err := c.manifest(fileTagManifest)
	if err != nil {
		return nil, err
	}
	var bytes uint64
	for name, f := range c.files {
		want := data[name]
		switch {
		case strings.HasPrefix(name, "data/"):
			bytes += f.UncompressedSize64
		case strings.HasPrefix(name, "signatures/") || name == fileTagManifest:
			continue
		default:
			want = tags[name]
		}
		if want == "" {
			problem(name, "is in no manifest")
			continue
		}
		got, err := c.digest(name)
		if err != nil {
			problem(name, err.Error())
		} else if got != want {
			problem(name, "was changed: its digest is not the manifest's")
		}
	}
	for _, list := range []map[string]string{data, tags} {
		for name := range list {
			if c.files[name] == nil {
				problem(name, "is in the manifest and missing")
			}
		}
	}
	info, err := c.small(fileBagInfo)
	if err != nil {
		return nil, err
	}
	oxum := "Payload-Oxum: " + strconv.FormatUint(bytes, 10) + "." + strconv.Itoa(len(data)) + "\n"
	if !strings.Contains(string(info), oxum) {
		problem(fileBagInfo, "Payload-Oxum does not count the files that are here")
	}
	return data, nil
}

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
