package secret

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// MaxSize bounds what a reference may yield, in bytes.
const MaxSize = 64 << 10

const refForm = `want "file:PATH" or "env:NAME"`

// Ref names where a secret is: a file or an environment variable. It holds no
// secret itself and may be printed. The zero Ref names nothing; Load refuses it.
type Ref struct {
	scheme string // "file" or "env"
	name   string // path, or name of the variable
}

// ParseRef parses "file:PATH" or "env:NAME". A relative PATH is taken from
// base, the directory of the configuration file. It does not touch what the
// reference names. An error never repeats the text: somebody who writes a
// password where a reference belongs should not find it in a log.
func ParseRef(text, base string) (Ref, error) {
	scheme, name, ok := strings.Cut(text, ":")
	switch {
	case text == "":
		return Ref{}, errors.New("empty secret reference: " + refForm)
	case !ok || (scheme != "file" && scheme != "env"):
		return Ref{}, errors.New("not a secret reference: " + refForm + "; the value itself does not belong in the configuration")
	case scheme == "env":
		if !validEnv(name) {
			return Ref{}, errors.New(`secret reference "env:NAME": NAME must be letters, digits and "_", not starting with a digit`)
		}
		return Ref{scheme, name}, nil
	}
	path, err := resolve(name, base)
	if err != nil {
		return Ref{}, err
	}
	return Ref{scheme, path}, nil
}

func validEnv(name string) bool {
	for i, r := range name {
		letter := r == '_' || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z')
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

// String returns the reference as it may be written, with the path resolved.
func (r Ref) String() string {
	if r.IsZero() {
		return ""
	}
	return r.scheme + ":" + r.name
}

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r.scheme == "" }

// Load reads the secret; each call reads it again. Trailing line ends are cut
// off, since editors add them. An empty secret is an error, and so is a file
// that others than its owner and (for reading) its group may use.
func (r Ref) Load() (String, error) {
	var text string
	switch r.scheme {
	case "env":
		v, ok := os.LookupEnv(r.name)
		if !ok {
			return String{}, fmt.Errorf("secret %s: the environment variable is not set", r)
		}
		if len(v) > MaxSize {
			return String{}, fmt.Errorf("secret %s: larger than %d bytes", r, MaxSize)
		}
		text = v
	case "file":
		b, err := readFile(r.name, MaxSize, checkPrivate)
		if err != nil {
			return String{}, fmt.Errorf("secret %s: %w", r, err)
		}
		text = string(b)
	default:
		return String{}, errors.New("no secret reference: " + refForm)
	}
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		return String{}, fmt.Errorf("secret %s: empty", r)
	}
	return New(text), nil
}
