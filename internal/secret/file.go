package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxPublic bounds a public file: a bundle of every public CA is 250 KiB.
const maxPublic = 1 << 20

// File names a public file of the configuration (a CA certificate, an issuer's
// offline keys) and is read like a secret, but may be readable by everyone.
// The zero File names nothing; Load refuses it.
type File struct{ path string }

// ParseFile parses "file:PATH"; a relative PATH is taken from base.
func ParseFile(text, base string) (File, error) {
	name, ok := strings.CutPrefix(text, "file:")
	if !ok {
		return File{}, fmt.Errorf(`not a file reference: %q: want "file:PATH"`, text)
	}
	path, err := resolve(name, base)
	return File{path}, err
}

// String returns the reference with the path resolved.
func (f File) String() string {
	if f.IsZero() {
		return ""
	}
	return "file:" + f.path
}

// IsZero reports whether f names nothing.
func (f File) IsZero() bool { return f.path == "" }

// Load reads the file; each call reads it again. Empty is an error, and so is
// more than 1 MiB.
func (f File) Load() ([]byte, error) {
	if f.IsZero() {
		return nil, errors.New(`no file reference: want "file:PATH"`)
	}
	b, err := readFile(f.path, maxPublic, func(string, fs.FileMode) error { return nil })
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%s: empty", f.path)
	}
	return b, nil
}

func resolve(name, base string) (string, error) {
	if name == "" {
		return "", errors.New(`reference "file:PATH": PATH is missing`)
	}
	if strings.ContainsRune(name, 0) {
		return "", errors.New(`reference "file:PATH": PATH contains a zero byte`)
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(base, name)
	}
	return filepath.Clean(name), nil
}

// checkPrivate refuses a secret that the group may change or others may see.
func checkPrivate(path string, m fs.FileMode) error {
	if m.Perm()&0o027 != 0 {
		return fmt.Errorf("mode %04o lets others at it: chmod 600 %s", m.Perm(), path)
	}
	return nil
}

// readFile reads a whole regular file of at most limit bytes. The kind is
// looked at before the open, since opening a pipe would block, and mode and
// kind again on the open handle, since the name may have changed hands.
func readFile(path string, limit int64, check func(string, fs.FileMode) error) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if fi, err = f.Stat(); err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if err := check(path, fi.Mode()); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return b, nil
}
