// Package seal keeps entry bodies unreadable without a data key: it makes data
// keys, wraps them under a key-encryption key, stores the wrapped keys, and
// seals and opens bodies.
//
// A sealed body is
//
//	flags (1 byte) ‖ key ID (10) ‖ nonce (12) ‖ AES-256-GCM(key, nonce, plain, aad = flags ‖ key ID)
//
// where plain is the entry's 32 bytes of salt followed by the body, which is
// compressed with S2 (github.com/klauspost/compress/s2) if flags is 1. The commitment in
// the entry's header is over salt and uncompressed body, so that it holds for
// somebody who never sees the sealed form. Nonces are random: a data key lives
// for one session, far below the 2^32 messages that NIST SP 800-38D allows.
//
// Keys and stores are safe for concurrent use.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/gatebook/gatebook/evidence"
)

const (
	flagPlain      = 0
	flagCompressed = 1

	idSize    = len(evidence.ID{})
	nonceSize = 12
	tagSize   = 16
	prefix    = 1 + idSize + nonceSize

	// compressFrom is the body size from which compression is tried, in bytes.
	compressFrom = 4 << 10

	// MaxBody bounds a body, in bytes: what is larger does not open.
	MaxBody = 128 << 20
)

// ErrSealed is matched when a sealed body cannot be opened: another key, or
// changed bytes.
var ErrSealed = errors.New("sealed body does not open")

// Key is a data key.
type Key struct {
	id   evidence.ID
	aead cipher.AEAD
}

func newKey(id evidence.ID, raw []byte) (*Key, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Key{id: id, aead: aead}, nil
}

// ID names the key.
func (k *Key) ID() evidence.ID { return k.id }

var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// Seal appends the sealed form of the body meta, or meta ‖ "\n" ‖ raw if there
// is raw. It returns the commitment for the header and the body's length.
func (k *Key) Seal(dst, meta, raw []byte) (sealed []byte, commit [32]byte, n uint64) {
	var random [evidence.SaltSize + nonceSize]byte
	// crypto/rand.Read ends the process rather than return an error.
	_, _ = rand.Read(random[:])
	buf := scratch.Get().(*[]byte)
	plain := append((*buf)[:0], random[:evidence.SaltSize]...)
	plain = append(plain, meta...)
	if raw != nil {
		plain = append(plain, '\n')
		plain = append(plain, raw...)
	}
	commit = sha256.Sum256(plain)
	body := plain[evidence.SaltSize:]
	n = uint64(len(body))

	start := len(dst)
	dst = append(dst, flagPlain)
	dst = append(dst, k.id[:]...)
	dst = append(dst, random[evidence.SaltSize:]...)
	dst = append(dst, random[:evidence.SaltSize]...)
	at := len(dst)
	if len(body) >= compressFrom {
		dst = appendCompressed(dst, body)
		if len(dst)-at < len(body)-len(body)/8 {
			dst[start] = flagCompressed
		} else {
			dst = dst[:at]
		}
	}
	if dst[start] == flagPlain {
		dst = append(dst, body...)
	}
	text := dst[start+prefix:]
	nonce := dst[start+1+idSize : start+prefix]
	dst = k.aead.Seal(dst[:start+prefix], nonce, text, dst[start:start+1+idSize])
	if cap(plain) <= 1<<20 {
		*buf = plain
		scratch.Put(buf)
	}
	return dst, commit, n
}

func appendCompressed(dst, body []byte) []byte {
	need := s2.MaxEncodedLen(len(body))
	if need < 0 {
		return dst
	}
	at := len(dst)
	if cap(dst)-at < need+tagSize {
		bigger := make([]byte, at, at+need+tagSize)
		copy(bigger, dst)
		dst = bigger
	}
	return dst[:at+len(s2.Encode(dst[at:at+need], body))]
}

// KeyID returns the name of the key that opens a sealed body.
func KeyID(sealed []byte) (evidence.ID, error) {
	var id evidence.ID
	if len(sealed) < prefix+evidence.SaltSize+tagSize {
		return id, fmt.Errorf("%w: %d bytes are too few", ErrSealed, len(sealed))
	}
	copy(id[:], sealed[1:])
	return id, nil
}

// Open returns the salt and the body of a sealed body, in memory of its own.
func (k *Key) Open(sealed []byte) (salt [evidence.SaltSize]byte, body []byte, err error) {
	id, err := KeyID(sealed)
	if err != nil {
		return salt, nil, err
	}
	if id != k.id || sealed[0] > flagCompressed {
		return salt, nil, fmt.Errorf("%w: key %s where %s is needed", ErrSealed, k.id, id)
	}
	plain, err := k.aead.Open(nil, sealed[1+idSize:prefix], sealed[prefix:], sealed[:1+idSize])
	if err != nil {
		return salt, nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	copy(salt[:], plain)
	body = plain[evidence.SaltSize:]
	if sealed[0] == flagCompressed {
		if size, err := s2.DecodedLen(body); err != nil || size > MaxBody {
			return salt, nil, fmt.Errorf("%w: compressed body of %d bytes", ErrSealed, size)
		}
		if body, err = s2.Decode(nil, body); err != nil {
			return salt, nil, fmt.Errorf("%w: %w", ErrSealed, err)
		}
	}
	return salt, body, nil
}
