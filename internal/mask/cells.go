package mask

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// Cells commits to the original values of the masked cells of one exchange, in their order: all cells of columns with a mask, row by
// row. It is used by one goroutine.
//
// The key of cell n is the encryption of n under a key of the exchange's own, which is derived from the master key: whoever is given the key of a cell
// learns nothing of another (AES-256 as a pseudorandom permutation). A commitment is the first 16 bytes of SHA-256 over the cell's key, a
// byte that is 0 for NULL and 1 for a value, and the value: without the key it says nothing, and with it the value can be confirmed.
type Cells struct {
	block cipher.Block
	next  uint64
	buf   []byte
}

// CommitmentSize is the size of a commitment in bytes.
const CommitmentSize = 16

// CellKeySize is the size of a cell's key in bytes.
const CellKeySize = aes.BlockSize

// NewCells returns the commitments of an exchange of a session, by the master key; nil without one.
func NewCells(master []byte, session string, exchange uint64) *Cells {
	if len(master) < minKey {
		return nil
	}
	h := hmac.New(sha256.New, master)
	for _, part := range []string{"gatebook-cells 1", session} {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) //nolint:gosec // short words
		_, _ = h.Write([]byte(part))
	}
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, exchange))
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil { // the size is right
		return nil
	}
	return &Cells{block: block}
}

// Key returns the key of a cell, by its number from 0.
func (c *Cells) Key(cell uint64) (key [CellKeySize]byte) {
	binary.BigEndian.PutUint64(key[8:], cell)
	c.block.Encrypt(key[:], key[:])
	return key
}

// Append appends the commitment to the next cell.
func (c *Cells) Append(dst, v []byte, null bool) []byte {
	key := c.Key(c.next)
	c.next++
	c.buf = append(c.buf[:0], key[:]...)
	if null {
		c.buf = append(c.buf, 0)
	} else {
		c.buf = append(append(c.buf, 1), v...)
	}
	sum := sha256.Sum256(c.buf)
	return append(dst, sum[:CommitmentSize]...)
}
