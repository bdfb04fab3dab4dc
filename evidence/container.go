package evidence

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// Limits bound what a verifier takes from a package, which anybody may have
// made. Zero values mean the defaults.
type Limits struct {
	Files int   // files in the package (2,000,000)
	Bytes int64 // of all files, uncompressed (1 TiB)
	Line  int   // longest line of a JSON Lines file, in bytes (256 MiB)
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
}

func openContainer(r io.ReaderAt, size int64, l Limits) (*container, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("not a ZIP file: %w", err)
	}
	c := &container{files: make(map[string]*zip.File, len(z.File)), limits: l}
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
		case !f.Mode().IsRegular():
			return nil, fmt.Errorf("%q is not a regular file", f.Name)
		case f.Method != zip.Deflate && f.Method != zip.Store:
			return nil, fmt.Errorf("file %q uses compression method %d", f.Name, f.Method)
		}
		total += f.UncompressedSize64
		if f.UncompressedSize64 > uint64(l.Bytes) || total > uint64(l.Bytes) {
			return nil, fmt.Errorf("more than %d bytes uncompressed", l.Bytes)
		}
		c.files[f.Name] = f
	}
	return c, nil
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

// maxSmall bounds the files that are read whole.
const maxSmall = 256 << 20

func (c *container) read(name string) ([]byte, error) {
	f, err := c.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(text) > maxSmall {
		err = errors.New("too large")
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
		if !ok || len(digest) != 64 || list[file] != "" {
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
	info, err := c.read(fileBagInfo)
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
