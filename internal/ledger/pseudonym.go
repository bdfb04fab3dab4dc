package ledger

import (
	"crypto/hmac"
	"crypto/sha256"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatebook/gatebook/evidence"
)

// pseudonym stands for a name of a kind in headers.
func (l *Ledger) pseudonym(kind, name string) evidence.Pseudonym {
	m := hmac.New(sha256.New, l.epoch)
	m.Write([]byte(kind + "\x00" + name))
	return evidence.Pseudonym(m.Sum(nil)[:16])
}

// leafHash returns the leaf hash of a header line that stands behind one free
// byte: SHA-256(0x00 ‖ line) without copying the line.
func leafHash(prefixed []byte) tlog.Hash {
	prefixed[0] = 0 // RFC 6962 section 2.1: leaves are hashed behind a zero byte
	return sha256.Sum256(prefixed)
}

// buffers keeps memory for sealed bodies between appends.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, 0, 2048)
	return &p
}

func (b *buffers) put(p *[]byte) {
	if cap(*p) <= 1<<20 {
		b.pool.Put(p)
	}
}
