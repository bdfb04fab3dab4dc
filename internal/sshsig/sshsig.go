// Package sshsig verifies signatures that people make with "ssh-keygen -Y sign"
// (OpenSSH, PROTOCOL.sshsig) with keys of the types that are in use. It never
// signs, touches no file, and its errors say what to do about a signature that does not hold.
//
// Input is bounded before it is decoded. Everything is safe for concurrent use.
package sshsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// MaxArmoured bounds a signature's text, in bytes. One by the largest RSA key has about 6 KiB.
const MaxArmoured = 16 << 10

const (
	magic = "SSHSIG"
	begin = "-----BEGIN SSH SIGNATURE-----"
	end   = "-----END SSH SIGNATURE-----"
)

// userPresent is the flag of a security key by which it says that somebody touched it (FIDO).
const userPresent = 1

var errMalformed = errors.New("not an SSH signature as ssh-keygen -Y sign writes it: make it again")

// Signature is a parsed signature, of which nothing is verified yet.
type Signature struct {
	// Key claims to have signed.
	Key *Key
	// Namespace says what was signed for.
	Namespace string

	reserved string
	hash     string
	format   string // of the inner signature
	blob     []byte
	flags    byte
	counter  uint32
}

// Parse reads an armoured signature. Nothing may stand before or behind it but white space.
func Parse(armoured []byte) (*Signature, error) {
	if len(armoured) > MaxArmoured {
		return nil, fmt.Errorf("%d bytes, an SSH signature has at most %d", len(armoured), MaxArmoured)
	}
	text := strings.TrimSpace(string(armoured))
	text, began := strings.CutPrefix(text, begin)
	text, ended := strings.CutSuffix(text, end)
	if !began || !ended {
		return nil, errMalformed
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(text))
	if err != nil {
		return nil, errMalformed
	}
	r := reader{rest: raw}
	if string(r.take(len(magic))) != magic || r.uint32() != 1 {
		return nil, errMalformed
	}
	key := r.bytes()
	s := &Signature{Namespace: string(r.bytes()), reserved: string(r.bytes()), hash: string(r.bytes())}
	inner := r.bytes()
	if r.bad || len(r.rest) > 0 {
		return nil, errMalformed
	}
	if s.Key, err = parseBlob(key); err != nil {
		return nil, fmt.Errorf("the signer's key: %w", err)
	}
	r = reader{rest: inner}
	s.format, s.blob = string(r.bytes()), r.bytes()
	if s.Key.security() {
		if b := r.take(1); b != nil {
			s.flags = b[0]
		}
		s.counter = r.uint32()
	}
	if r.bad || len(r.rest) > 0 {
		return nil, errMalformed
	}
	return s, nil
}

// Verify returns nil if the key signed exactly this message for this namespace.
func (s *Signature) Verify(namespace string, message []byte) error {
	if s.Namespace != namespace {
		return fmt.Errorf("signed for the namespace %q, want %q: sign with ssh-keygen -Y sign -n %s", s.Namespace, namespace, namespace)
	}
	var digest []byte
	switch s.hash {
	case "sha256":
		d := sha256.Sum256(message)
		digest = d[:]
	case "sha512":
		d := sha512.Sum512(message)
		digest = d[:]
	default:
		return fmt.Errorf("the hash %q is not accepted: sign with sha512 or sha256", s.hash)
	}
	signed := []byte(magic)
	for _, field := range []string{s.Namespace, s.reserved, s.hash, string(digest)} {
		signed = appendString(signed, field)
	}
	if s.Key.security() {
		if s.flags&userPresent == 0 {
			return errors.New("the security key signed without a touch: sign with a key that was made without -O no-touch-required")
		}
		signed = s.presented(signed)
	}
	ok, err := s.holds(signed)
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("it does not fit this text: it is damaged, or another text was signed. Sign again")
	}
	return nil
}

// presented returns what a security key signs in place of a message (OpenSSH, PROTOCOL.u2f).
func (s *Signature) presented(message []byte) []byte {
	app, digest := sha256.Sum256([]byte(s.Key.app)), sha256.Sum256(message)
	out := append(app[:], s.flags)
	out = binary.BigEndian.AppendUint32(out, s.counter)
	return append(out, digest[:]...)
}

// holds verifies the inner signature. Its format must be the one of the key's
// type; of RSA, one with SHA-2.
func (s *Signature) holds(signed []byte) (bool, error) {
	k := s.Key
	hash := k.curve.hash
	switch {
	case k.rsa != nil && s.format == "rsa-sha2-256":
		hash = crypto.SHA256
	case k.rsa != nil && s.format == "rsa-sha2-512":
		hash = crypto.SHA512
	case k.rsa != nil || s.format != k.typ:
		return false, fmt.Errorf("a signature of the format %q by a key of type %q is not accepted: sign with the ssh-keygen of a present OpenSSH", s.format, k.typ)
	}
	if k.ed != nil {
		return len(s.blob) == ed25519.SignatureSize && ed25519.Verify(k.ed, signed, s.blob), nil
	}
	h := hash.New()
	h.Write(signed)
	if k.rsa != nil {
		return rsa.VerifyPKCS1v15(k.rsa, hash, h.Sum(nil), s.blob) == nil, nil
	}
	r := reader{rest: s.blob}
	x, y := r.number(528), r.number(528)
	if r.bad || len(r.rest) > 0 {
		return false, errMalformed
	}
	return ecdsa.Verify(k.ec, h.Sum(nil), x, y), nil
}

func appendString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}
