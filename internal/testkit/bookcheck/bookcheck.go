// Package bookcheck reads a book as it lies on the disk and says whether it is
// sound. It is a second reader, written from docs/formats alone: it shares no
// code and no state with the packages that write, so a mistake there is not
// repeated here. For tests only.
package bookcheck

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/s2"

	"github.com/gatebook/gatebook/internal/vfs"
)

// Files is where the book lies.
type Files interface {
	// List returns the names of the files in a directory in ascending order.
	List(dir string) ([]string, error)
	// Read returns a whole file.
	Read(name string) ([]byte, error)
}

// OS reads real files.
type OS struct{}

// List implements Files.
func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Read implements Files.
func (OS) Read(name string) ([]byte, error) { return os.ReadFile(name) }

// On reads the files of a test's file system.
func On(fsys vfs.FS) Files { return on{fsys} }

type on struct{ fs vfs.FS }

func (o on) List(dir string) ([]string, error) { return o.fs.List(dir) }

func (o on) Read(name string) ([]byte, error) {
	f, err := o.fs.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	b := make([]byte, size)
	if err == nil && size > 0 {
		_, err = f.ReadAt(b, 0)
	}
	return b, errors.Join(err, f.Close())
}

// Entry is one entry of the book.
type Entry struct {
	Index    uint64 `json:"i"`
	Time     string `json:"t"`
	Kind     string `json:"k"`
	Session  string `json:"s"`
	Exchange uint64 `json:"x"`
	Decision string `json:"d"`
	BodyLen  int    `json:"n"`
	Target   string `json:"g"`
	Actor    string `json:"a"`
	Commit   string `json:"c"`
	Version  int    `json:"v"`

	Line []byte         `json:"-"` // the header as it is stored
	Body map[string]any `json:"-"` // the JSON object of the body
	Raw  []byte         `json:"-"` // what follows it
}

// Book is what was read.
type Book struct {
	Entries     []Entry
	Checkpoints int
	Covered     uint64 // entries that the last checkpoint covers
	Torn        bool   // the journal has a torn tail, which does not count
}

// Read reads the book in dir, whether it was closed, crashed or recovered. kek is
// the key-encryption key and logKey the verifier key of checkpoints, both as in
// their files. Whatever is not as the formats say is an error; only a torn tail is none.
func Read(files Files, dir, kek, logKey string) (*Book, error) {
	keys, err := readKeys(files, path.Join(dir, "keys.store"), kek)
	if err != nil {
		return nil, fmt.Errorf("keys.store: %w", err)
	}
	notes, err := readCheckpoints(files, path.Join(dir, "checkpoints.jsonl"), logKey)
	if err != nil {
		return nil, fmt.Errorf("checkpoints.jsonl: %w", err)
	}
	b := &Book{Checkpoints: len(notes)}
	if len(notes) > 0 {
		b.Covered = notes[len(notes)-1].size
	}
	payloads, torn, err := readJournal(files, path.Join(dir, "journal"), b.Covered)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	b.Torn = torn
	for i, p := range payloads {
		e, err := readEntry(p, keys)
		if err == nil && e.Index != uint64(i) {
			err = fmt.Errorf("its index is %d", e.Index)
		}
		if err == nil && i > 0 && e.Time < b.Entries[i-1].Time {
			err = errors.New("it is older than the one before it")
		}
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		b.Entries = append(b.Entries, *e)
	}
	return b, b.checkTree(notes)
}

var le = binary.LittleEndian

func crc(parts ...[]byte) uint32 {
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum32()
}

// readJournal follows "Reading" in docs/formats/journal.md.
func readJournal(files Files, dir string, known uint64) (payloads [][]byte, torn bool, err error) {
	names, err := files.List(dir)
	if err != nil {
		return nil, false, err
	}
	var segs [][]byte
	for _, name := range names {
		if !strings.HasSuffix(name, ".seg") {
			continue
		}
		b, err := files.Read(path.Join(dir, name))
		if err != nil {
			return nil, false, err
		}
		if len(b) < 128 || string(b[:8]) != "GBJRNL\r\n" || le.Uint32(b[8:]) != 1 || crc(b[:124]) != le.Uint32(b[124:]) {
			return nil, false, fmt.Errorf("%s: bad header", name)
		}
		if name != fmt.Sprintf("%020d.seg", le.Uint64(b[40:])) {
			return nil, false, fmt.Errorf("%s: begins at %d", name, le.Uint64(b[40:]))
		}
		segs = append(segs, b)
	}
	if len(segs) == 0 {
		return nil, false, errors.New("no segments")
	}
	zero := make([]byte, 40)
	if !bytes.Equal(segs[0][40:80], zero) {
		return nil, false, errors.New("the first segment is missing")
	}
	for i, b := range segs {
		known = max(known, le.Uint64(b[40:]))
		if i+1 == len(segs) {
			got, end, mark := batches(b, b)
			payloads, known = append(payloads, got...), max(known, mark)
			torn = len(bytes.TrimRight(b[end:], "\x00")) > 0
			continue
		}
		next := segs[i+1]
		stop := le.Uint64(next[64:])
		if !bytes.Equal(next[16:32], b[16:32]) || le.Uint64(next[48:]) != le.Uint64(b[32:]) || le.Uint64(next[56:]) != le.Uint64(b[40:]) || stop > uint64(len(b)) {
			return nil, false, fmt.Errorf("segment %d is not what the next one continues", i)
		}
		got, end, _ := batches(b[:stop], b)
		payloads = append(payloads, got...)
		if end != int(stop) || uint64(len(payloads)) != le.Uint64(next[40:]) {
			return nil, false, fmt.Errorf("sealed segment %d ends at offset %d with %d payloads, the next one says %d with %d", i, end, len(payloads), stop, le.Uint64(next[40:]))
		}
		if !bytes.Equal(chainAt(b[:stop]), next[72:88]) {
			return nil, false, fmt.Errorf("sealed segment %d: the next one continues another chain", i)
		}
	}
	if uint64(len(payloads)) < known {
		return nil, false, fmt.Errorf("%d payloads, %d are known to have been durable", len(payloads), known)
	}
	return payloads, torn, nil
}

// batches returns the payloads of the whole batches, where they end, and the
// highest mark of all commit frames, also of those behind.
func batches(b, header []byte) (got [][]byte, end int, mark uint64) {
	id, first, chain := header[32:40], le.Uint64(header[40:]), header[72:88]
	end = 128
	for {
		batch, sum, size := batch(b[end:], id, uint64(end), first+uint64(len(got)), chain)
		if size == 0 {
			break
		}
		mark = max(mark, le.Uint64(b[end+32:]))
		got, chain, end = append(got, batch...), sum, end+size
	}
	for off := end; off+88 <= len(b); off += 8 {
		c := b[off : off+88]
		if string(c[:4]) == "GBcf" && crc(c[8:]) == le.Uint32(c[4:]) && bytes.Equal(c[8:16], id) && le.Uint64(c[16:]) == uint64(off) {
			mark = max(mark, le.Uint64(c[32:]))
		}
	}
	return got, end, mark
}

// chainAt returns the chain value at the end of a segment of whole batches.
func chainAt(b []byte) []byte {
	chain := b[72:88]
	for off := 128; off < len(b); off += 88 + int(le.Uint64(b[off+48:])) {
		chain = b[off+72 : off+88]
	}
	return chain
}

// batch returns the payloads of the batch at the start of b and its length, 0
// if it is not whole.
func batch(b, id []byte, off, next uint64, chain []byte) (got [][]byte, sum []byte, size int) {
	if len(b) < 88 {
		return nil, nil, 0
	}
	c := b[:88]
	if string(c[:4]) != "GBcf" || crc(c[8:]) != le.Uint32(c[4:]) || !bytes.Equal(c[8:16], id) || le.Uint64(c[16:]) != off ||
		le.Uint64(c[24:]) != next || le.Uint64(c[48:]) > uint64(len(b)-88) || !bytes.Equal(c[56:72], chain) {
		return nil, nil, 0
	}
	size = 88 + int(le.Uint64(c[48:]))
	h := sha256.New()
	h.Write(chain)
	h.Write(c[8:56])
	for rest := b[88:size]; len(rest) > 0; {
		if len(rest) < 16 {
			return nil, nil, 0
		}
		n := int(le.Uint32(rest))
		whole := 16 + (n+7)/8*8
		if whole > len(rest) || le.Uint64(rest[8:]) != next+uint64(len(got)) ||
			crc(id, rest[8:16], rest[:4], rest[16:whole]) != le.Uint32(rest[4:]) {
			return nil, nil, 0
		}
		h.Write(rest[:16])
		got, rest = append(got, rest[16:16+n]), rest[whole:]
	}
	sum = h.Sum(nil)[:16]
	if uint32(len(got)) != le.Uint32(c[40:]) || !bytes.Equal(sum, c[72:88]) {
		return nil, nil, 0
	}
	return got, sum, size
}

// readKeys follows "Key store" in docs/formats/entry.md.
func readKeys(files Files, name, kek string) (map[string]cipher.AEAD, error) {
	b, err := files.Read(name)
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(kek))
	if err != nil {
		return nil, err
	}
	wrap, err := gcm(raw)
	if err != nil {
		return nil, err
	}
	sound := func(r []byte) bool { return crc(r[:92]) == binary.BigEndian.Uint32(r[92:]) }
	want := sha256.Sum256(append([]byte("gatebook kek"), raw...))
	if len(b) < 96 || string(b[:5]) != "GBKS\x01" || !sound(b[:96]) || !bytes.Equal(b[8:24], want[:16]) {
		return nil, errors.New("bad header")
	}
	keys := map[string]cipher.AEAD{}
	for b = b[96:]; len(b) >= 96; b = b[96:] {
		if string(b[:4]) != "GBK1" || !sound(b[:96]) {
			continue
		}
		id := b[4:14]
		key, err := wrap.Open(nil, b[14:26], b[26:74], id)
		if err != nil {
			return nil, fmt.Errorf("key %x: %w", id, err)
		}
		if keys[string(id)] != nil {
			return nil, fmt.Errorf("key %x stands there twice", id)
		}
		if keys[string(id)], err = gcm(key); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// readEntry follows "Header", "Body" and "Sealed body" in docs/formats/entry.md.
func readEntry(p []byte, keys map[string]cipher.AEAD) (*Entry, error) {
	if len(p) < 2 || len(p) < 2+int(le.Uint16(p)) {
		return nil, errors.New("too short")
	}
	e := &Entry{Line: p[2 : 2+int(le.Uint16(p))]}
	d := json.NewDecoder(bytes.NewReader(e.Line))
	d.DisallowUnknownFields()
	if err := d.Decode(e); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if e.Version != 1 || len(e.Time) != 27 || e.Kind == "" || len(e.Commit) != 64 {
		return nil, fmt.Errorf("header %s", e.Line)
	}
	sealed := p[2+len(e.Line):]
	if len(sealed) < 23 {
		return nil, errors.New("body too short")
	}
	key := keys[string(sealed[1:11])]
	if key == nil {
		return nil, fmt.Errorf("its data key %x is not in the key store", sealed[1:11])
	}
	if id := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(sealed[1:11]); e.Session != "" && e.Kind != "outcome" && e.Kind != "session-end" && id != e.Session {
		return nil, fmt.Errorf("it is of session %s and sealed with the key %s", e.Session, id)
	}
	plain, err := key.Open(nil, sealed[11:23], sealed[23:], sealed[:11])
	if err != nil || len(plain) < 32 {
		return nil, fmt.Errorf("body of %d bytes: %w", len(plain), err)
	}
	salt, body := plain[:32], plain[32:]
	if sealed[0] == 1 {
		if body, err = s2.Decode(nil, body); err != nil {
			return nil, err
		}
	} else if sealed[0] != 0 {
		return nil, fmt.Errorf("flags %d", sealed[0])
	}
	sum := sha256.Sum256(append(bytes.Clone(salt), body...))
	if hex.EncodeToString(sum[:]) != e.Commit || len(body) != e.BodyLen {
		return nil, errors.New("the body is not what the header commits to")
	}
	object, raw, _ := bytes.Cut(body, []byte("\n"))
	e.Raw = raw
	if err := json.Unmarshal(object, &e.Body); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	return e, nil
}

// Text returns a field of the body.
func (e *Entry) Text(name string) string {
	s, _ := e.Body[name].(string)
	return s
}

// Number returns a field of the body.
func (e *Entry) Number(name string) int64 {
	n, _ := e.Body[name].(float64)
	return int64(n)
}
