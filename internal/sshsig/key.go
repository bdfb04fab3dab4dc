package sshsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// Key types that are accepted. Plain RSA with SHA-1 and DSA are not.
const (
	typeEd25519   = "ssh-ed25519"
	typeRSA       = "ssh-rsa"
	typeECDSA     = "ecdsa-sha2-" // and the curve's name
	typeSKEd25519 = "sk-ssh-ed25519@openssh.com"
	typeSKECDSA   = "sk-ecdsa-sha2-nistp256@openssh.com"
)

// Bounds of RSA keys, in bits. Larger ones cost more to verify than they are worth.
const (
	minRSA = 2048
	maxRSA = 16384
)

type curve struct {
	curve elliptic.Curve
	hash  crypto.Hash
}

// curveOf returns a curve by its name in RFC 5656.
func curveOf(name string) (curve, bool) {
	switch name {
	case "nistp256":
		return curve{elliptic.P256(), crypto.SHA256}, true
	case "nistp384":
		return curve{elliptic.P384(), crypto.SHA384}, true
	case "nistp521":
		return curve{elliptic.P521(), crypto.SHA512}, true
	}
	return curve{}, false
}

// Key is a public key. It does not change and is safe for concurrent use.
type Key struct {
	typ  string
	blob string // the key's one encoding: equal keys have equal blobs

	ed    ed25519.PublicKey
	ec    *ecdsa.PublicKey
	curve curve
	rsa   *rsa.PublicKey
	app   string // of a security key: whom it signs for
}

// ParseKey reads a key as in authorized_keys or a .pub file: "TYPE BASE64", a comment
// may follow. Options and certificates are refused.
func ParseKey(line string) (*Key, error) {
	if strings.ContainsAny(line, "\r\n") {
		return nil, errors.New("more than one line: want one public key \"TYPE BASE64\", as a .pub file has it")
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return nil, errors.New("want a public key \"TYPE BASE64\", as a .pub file has it")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		return nil, errors.New("want a public key \"TYPE BASE64\", as a .pub file has it: the second word is not base64")
	}
	k, err := parseBlob(raw)
	if err != nil {
		return nil, err
	}
	if k.typ != fields[0] {
		return nil, fmt.Errorf("the key says that it is of type %q, the line says %q: copy it again from the .pub file", k.typ, fields[0])
	}
	return k, nil
}

// parseBlob reads a key in the encoding of RFC 4253, section 6.6. Each key has
// exactly one: what would be read and written differently is refused.
func parseBlob(raw []byte) (*Key, error) {
	r := reader{rest: raw}
	k := &Key{typ: string(r.bytes()), blob: string(raw)}
	switch name, isECDSA := strings.CutPrefix(k.typ, typeECDSA); {
	case k.typ == typeEd25519, k.typ == typeSKEd25519:
		k.ed = ed25519.PublicKey(bytes.Clone(r.bytes()))
		if !r.bad && len(k.ed) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("an Ed25519 key of %d bytes, want %d", len(k.ed), ed25519.PublicKeySize)
		}
	case isECDSA:
		if err := k.ecdsa(&r, name); err != nil {
			return nil, err
		}
	case k.typ == typeSKECDSA:
		if err := k.ecdsa(&r, "nistp256"); err != nil {
			return nil, err
		}
	case k.typ == typeRSA:
		if err := k.readRSA(&r); err != nil {
			return nil, err
		}
	case r.bad:
	default:
		return nil, fmt.Errorf("keys of type %q are not accepted: use ssh-ed25519, ecdsa-sha2-nistp256, -384 or -521, ssh-rsa, "+
			"sk-ssh-ed25519@openssh.com or sk-ecdsa-sha2-nistp256@openssh.com", k.typ)
	}
	if k.security() {
		k.app = string(r.bytes())
	}
	if r.bad || len(r.rest) > 0 {
		return nil, errors.New("a malformed key: copy it again from the .pub file")
	}
	return k, nil
}

func (k *Key) ecdsa(r *reader, name string) error {
	c, ok := curveOf(name)
	given, point := string(r.bytes()), r.bytes()
	if r.bad {
		return nil // the caller says so
	}
	if !ok || given != name {
		return fmt.Errorf("an ECDSA key of type %q over the curve %q: want nistp256, nistp384 or nistp521", k.typ, given)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
	if err != nil {
		return fmt.Errorf("an ECDSA key that is no point of %s", name)
	}
	k.ec, k.curve = pub, c
	return nil
}

func (k *Key) readRSA(r *reader) error {
	e, n := r.number(maxRSA), r.number(maxRSA)
	if r.bad {
		return nil // the caller says so
	}
	if bits := n.BitLen(); bits < minRSA {
		return fmt.Errorf("an RSA key of %d bits: use at least %d, or ssh-ed25519", bits, minRSA)
	}
	// The library takes no even modulus or exponent, and none that does not fit.
	if n.Bit(0) == 0 || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 || e.Bit(0) == 0 {
		return errors.New("an RSA key with an unusual modulus or exponent: make another one")
	}
	k.rsa = &rsa.PublicKey{N: n, E: int(e.Int64())}
	return nil
}

// security reports whether the key lives in a security key (FIDO).
func (k *Key) security() bool { return k.typ == typeSKEd25519 || k.typ == typeSKECDSA }

// Equal reports whether two keys are the same.
func (k *Key) Equal(other *Key) bool { return k.blob == other.blob }

// String returns the key as in authorized_keys, without a comment.
func (k *Key) String() string { return k.typ + " " + base64.StdEncoding.EncodeToString([]byte(k.blob)) }

// Fingerprint returns "SHA256:…", as ssh-keygen -l prints it.
func (k *Key) Fingerprint() string {
	d := sha256.Sum256([]byte(k.blob))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(d[:])
}

// reader takes fields of the SSH encoding (RFC 4251, section 5). Once a field is
// not there it is bad, and gives nothing more. It takes no memory for fields.
type reader struct {
	rest []byte
	bad  bool
}

// take returns the next n bytes, which alias the input.
func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// bytes reads a "string".
func (r *reader) bytes() []byte {
	n := r.uint32()
	if uint64(n) > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	return r.take(int(n))
}

// number reads a positive "mpint" of at most so many bits, in its shortest form.
func (r *reader) number(bits int) *big.Int {
	b := r.bytes()
	long := len(b) > 1 && b[0] == 0 && b[1] < 0x80
	if r.bad || len(b) == 0 || b[0] >= 0x80 || long || b[0] == 0 && len(b) == 1 || len(b) > bits/8+1 {
		r.bad, r.rest = true, nil
		return new(big.Int)
	}
	return new(big.Int).SetBytes(b)
}
