package evidence

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Trust says whom a verifier believes. It travels apart from the package: keys
// inside a package prove nothing.
type Trust struct {
	Log     []note.Verifier
	Package []*ecdsa.PublicKey
	SSH     []ed25519.PublicKey
	// Issuers maps an issuer's URL to the thumbprints (RFC 7638) of its signing
	// keys; an issuer that is absent is believed as recorded.
	Issuers map[string][]string
}

// ParseTrust reads a trust file: one line a key, "#" begins a comment.
//
//	log       NAME+HASH+KEY         (signed-note verifier key of a book)
//	package   BASE64                (ECDSA P-256 public key, DER)
//	ssh       ssh-ed25519 BASE64
//	issuer    URL THUMBPRINT
func ParseTrust(text []byte) (*Trust, error) {
	t := &Trust{Issuers: make(map[string][]string)}
	var errs []error
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		if err := t.add(kind, strings.TrimSpace(rest)); err != nil {
			errs = append(errs, fmt.Errorf("trust file, line %d: %w", n, err))
		}
	}
	if err := errors.Join(append(errs, lines.Err())...); err != nil {
		return nil, err
	}
	if len(t.Log) == 0 {
		return nil, errors.New("trust file: no line \"log KEY\": whose book should be believed?")
	}
	return t, nil
}

func (t *Trust) add(kind, rest string) error {
	switch kind {
	case "log":
		v, err := note.NewVerifier(rest)
		if err != nil {
			return err
		}
		t.Log = append(t.Log, v)
	case "package":
		der, err := base64.StdEncoding.DecodeString(rest)
		if err != nil {
			return err
		}
		pub, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return err
		}
		key, ok := pub.(*ecdsa.PublicKey)
		if !ok || key.Curve != elliptic.P256() {
			return errors.New("want an ECDSA P-256 key")
		}
		t.Package = append(t.Package, key)
	case "ssh":
		key, err := parseSSHKey(rest)
		if err != nil {
			return err
		}
		t.SSH = append(t.SSH, key)
	case "issuer":
		url, print, ok := strings.Cut(rest, " ")
		if !ok {
			return errors.New("want \"issuer URL THUMBPRINT\"")
		}
		t.Issuers[url] = append(t.Issuers[url], strings.TrimSpace(print))
	default:
		return fmt.Errorf("unknown word %q (log, package, ssh and issuer are known)", kind)
	}
	return nil
}

// logFor returns the verifier keys of a book; there are several after its key
// was changed.
func (t *Trust) logFor(origin string) []note.Verifier {
	var keys []note.Verifier
	for _, v := range t.Log {
		if v.Name() == origin {
			keys = append(keys, v)
		}
	}
	return keys
}
