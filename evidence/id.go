package evidence

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
)

// ID names a session or a boot: 80 random bits, written as 16 characters of
// lower-case base32 (RFC 4648 alphabet). The zero ID means "none".
type ID [10]byte

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID returns a random ID.
func NewID() ID {
	var id ID
	// crypto/rand.Read never returns an error since Go 1.24; it ends the
	// process instead.
	_, _ = rand.Read(id[:])
	return id
}

// String returns the 16 characters, or "" for the zero ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return idEncoding.EncodeToString(id[:])
}

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// ParseID reads what String wrote; "" gives the zero ID.
func ParseID(s string) (ID, error) {
	var id ID
	if s == "" {
		return id, nil
	}
	if len(s) != 16 {
		return id, fmt.Errorf("session id %q: want 16 characters a-z2-7", s)
	}
	// The decoder passes over line ends, so that only what String writes counts.
	if _, err := idEncoding.Decode(id[:], []byte(s)); err != nil || idEncoding.EncodeToString(id[:]) != s {
		return ID{}, fmt.Errorf("session id %q: want 16 characters a-z2-7", s)
	}
	return id, nil
}
