package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/vfs"
)

// The key store is one file: a header of recordSize bytes, then records of
// recordSize bytes, each one wrapped data key:
//
//	"GBK1" ‖ key ID (10) ‖ nonce (12) ‖ AES-256-GCM(KEK, nonce, key, aad = key ID) (48) ‖ zeros ‖ CRC-32C of all before (4)
//
// The header has "GBKS", a version byte and the first 16 bytes of
// SHA-256("gatebook kek" ‖ KEK), so that a wrong key-encryption key is told apart from damage. A record
// that fails its CRC was never acknowledged (its sync did not return) and is passed over.
const (
	recordSize = 96
	crcAt      = recordSize - 4
	wrapAt     = 4 + 10 + nonceSize
	wrapSize   = 32 + tagSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors of stores.
var (
	// ErrWrongKEK: the key-encryption key is not the one the store was made with.
	ErrWrongKEK = errors.New("the key-encryption key is not the one this book was made with")
	// ErrNoKey: the store has no such data key; it may have been erased.
	ErrNoKey = errors.New("no such data key: erased or never durable")
)

// NewKEK returns a fresh key-encryption key in the form ParseKEK reads.
func NewKEK() secret.String {
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	return secret.New(base64.StdEncoding.EncodeToString(raw[:]))
}

func parseKEK(s secret.String) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s.Reveal()))
	if err != nil || len(raw) != 32 {
		return nil, errors.New("the key-encryption key must be 32 bytes in base64")
	}
	return raw, nil
}

// Store holds the wrapped data keys of a book.
type Store struct {
	kek  cipher.AEAD
	file vfs.File

	mu      sync.Mutex
	cond    sync.Cond
	at      map[evidence.ID]int64 // where a durable key's record stands
	queued  map[evidence.ID]bool  // keys not yet durable
	batch   *batch                // what the next write takes
	size    int64
	leading bool

	err atomic.Pointer[error] // for good
}

// batch is some records that share a write and a sync.
type batch struct {
	ids     []evidence.ID
	records []byte
	done    bool
	err     error
}

// CreateStore makes an empty store; its directory must still be synced.
func CreateStore(fsys vfs.FS, name string, kek secret.String) error {
	raw, err := parseKEK(kek)
	if err != nil {
		return err
	}
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(storeHeader(raw), 0); err != nil {
		_ = f.Close()
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func storeHeader(kek []byte) []byte {
	h := make([]byte, recordSize)
	copy(h, "GBKS\x01")
	d := sha256.Sum256(append([]byte("gatebook kek"), kek...))
	copy(h[8:], d[:16])
	binary.BigEndian.PutUint32(h[crcAt:], crc32.Checksum(h[:crcAt], castagnoli))
	return h
}

// OpenStore opens a store for reading and adding keys.
func OpenStore(fsys vfs.FS, name string, kek secret.String) (*Store, error) {
	raw, err := parseKEK(kek)
	if err != nil {
		return nil, err
	}
	wrap, err := newKey(evidence.ID{}, raw)
	if err != nil {
		return nil, err
	}
	f, err := fsys.OpenFile(name)
	if err != nil {
		return nil, err
	}
	s := &Store{kek: wrap.aead, file: f, at: make(map[evidence.ID]int64), queued: make(map[evidence.ID]bool), batch: &batch{}}
	s.cond.L = &s.mu
	if err := s.load(storeHeader(raw)); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("key store %s: %w", name, err)
	}
	return s, nil
}

func (s *Store) load(want []byte) error {
	size, err := s.file.Size()
	if err != nil {
		return err
	}
	record := make([]byte, recordSize)
	if _, err := s.file.ReadAt(record, 0); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if string(record[:5]) != string(want[:5]) || !sound(record) {
		return errors.New("header: not a key store, or damaged")
	}
	if string(record) != string(want) {
		return ErrWrongKEK
	}
	s.size = recordSize
	for ; s.size+recordSize <= size; s.size += recordSize {
		if _, err := s.file.ReadAt(record, s.size); err != nil {
			return err
		}
		if sound(record) && string(record[:4]) == "GBK1" {
			s.at[evidence.ID(record[4:14])] = s.size
		}
	}
	return nil
}

func sound(record []byte) bool {
	return crc32.Checksum(record[:crcAt], castagnoli) == binary.BigEndian.Uint32(record[crcAt:])
}

// New makes a data key named id and returns it once its record is durable.
// Calls at the same time share one sync.
func (s *Store) New(id evidence.ID) (*Key, error) {
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	key, err := newKey(id, raw[:])
	if err != nil {
		return nil, err
	}
	record := make([]byte, 0, recordSize)
	record = append(record, "GBK1"...)
	record = append(record, id[:]...)
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:])
	record = append(record, nonce[:]...)
	record = s.kek.Seal(record, nonce[:], raw[:], id[:])
	record = record[:recordSize]
	binary.BigEndian.PutUint32(record[crcAt:], crc32.Checksum(record[:crcAt], castagnoli))

	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.at[id]; taken || s.queued[id] {
		return nil, fmt.Errorf("data key %s exists already", id)
	}
	s.queued[id] = true
	b := s.batch
	b.ids, b.records = append(b.ids, id), append(b.records, record...)
	if err := s.commit(b); err != nil {
		return nil, err
	}
	return key, nil
}

// commit waits until a batch is durable, writing it if nobody else does.
// Callers hold s.mu.
func (s *Store) commit(b *batch) error {
	for !b.done {
		if s.leading {
			s.cond.Wait()
			continue
		}
		s.leading = true
		now := s.batch // b itself: those before it are done
		s.batch = &batch{}
		if now.err = s.Err(); now.err == nil {
			s.mu.Unlock()
			final, err := s.write(now.records)
			s.mu.Lock()
			if err != nil {
				now.err = fmt.Errorf("key store: %w", err)
			}
			if final {
				s.err.Store(&now.err)
			}
		}
		for i, id := range now.ids {
			delete(s.queued, id)
			if now.err == nil {
				s.at[id] = s.size + int64(i)*recordSize
			}
		}
		if now.err == nil {
			s.size += int64(len(now.records))
		}
		now.done, s.leading = true, false
		s.cond.Broadcast()
	}
	return b.err
}

// write appends records. A write that failed, say for want of space, promised
// nothing, and the next one takes its place. After a sync that failed nobody
// knows what reached the disk: final is true, and nothing more is written.
func (s *Store) write(records []byte) (final bool, err error) {
	if _, err := s.file.WriteAt(records, s.size); err != nil {
		return false, err
	}
	err = s.file.Sync()
	return err != nil, err
}

// Err returns why the store takes no more keys, for good, or nil. It does not block.
func (s *Store) Err() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Key unwraps a stored data key.
func (s *Store) Key(id evidence.ID) (*Key, error) {
	s.mu.Lock()
	at, ok := s.at[id]
	s.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("data key %s: %w", id, ErrNoKey)
	}
	record := make([]byte, recordSize)
	if _, err := s.file.ReadAt(record, at); err != nil {
		return nil, fmt.Errorf("data key %s: %w", id, err)
	}
	if !sound(record) {
		return nil, fmt.Errorf("data key %s: %w", id, ErrNoKey)
	}
	raw, err := s.kek.Open(nil, record[14:wrapAt], record[wrapAt:wrapAt+wrapSize], id[:])
	if err != nil {
		return nil, fmt.Errorf("data key %s does not unwrap: %w", id, err)
	}
	return newKey(id, raw)
}

// Close closes the file.
func (s *Store) Close() error { return s.file.Close() }

// Derive returns a key of 32 bytes for another purpose than sealing, bound to
// the key-encryption key (HKDF-SHA-256, RFC 5869).
func Derive(kek secret.String, purpose string) ([]byte, error) {
	raw, err := parseKEK(kek)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, raw, nil, "gatebook "+purpose, 32)
}
