// Package forge alters evidence packages the way somebody can who has every
// key of the gateway: what is signed is made and signed anew. It is for tests and the demo.
package forge

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatebook/gatebook/evidence"
)

// An Edit returns what a body is to be; it may change the header too.
type Edit func(h *evidence.Header, body []byte) []byte

// Forge applies an edit to every disclosed entry of a package, and makes headers, tree, checkpoint, views,
// manifests and signatures anew with the keys of a directory. It returns the package and how many entries differ.
func Forge(pkg []byte, keys string, edit Edit) (forged []byte, changed int, err error) {
	files, _, err := Read(pkg)
	if err != nil {
		return nil, 0, err
	}
	signer, packSigner, err := loadKeys(keys)
	if err != nil {
		return nil, 0, err
	}
	var scope evidence.Scope
	if err := json.Unmarshal(files["data/scope.json"], &scope); err != nil {
		return nil, 0, err
	}
	if scope.First != 0 {
		return nil, 0, errors.New("only packages from entry 0 on are altered")
	}
	bodies, withheld, err := disclosed(files)
	if err != nil {
		return nil, 0, err
	}
	out := make(memory)
	b := evidence.NewBuilder(scope, out)
	tree, err := evidence.NewRange(0, nil)
	if err != nil {
		return nil, 0, err
	}
	if err := b.Begin(); err != nil {
		return nil, 0, err
	}
	var first time.Time
	for i, line := range lines(files["data/log/headers.jsonl"]) {
		h, err := evidence.ParseHeader(line)
		if err != nil {
			return nil, 0, err
		}
		if i == 0 {
			first = h.Time
		}
		var d *evidence.Disclosed
		if body, ok := bodies[h.Index]; ok {
			d = &evidence.Disclosed{Salt: [evidence.SaltSize]byte(body.Salt), Body: edit(&h, body.Body)}
			h.Commit, h.BodyLen = evidence.Commitment(&d.Salt, d.Body), uint64(len(d.Body))
		}
		now := evidence.AppendHeader(nil, &h)
		if !bytes.Equal(now, line) {
			changed++
		}
		tree.Add(evidence.LeafHash(now))
		if err := b.Entry(now, &h, d, withheld[h.Index]); err != nil {
			return nil, 0, err
		}
	}
	if _, err := b.Finish(first); err != nil {
		return nil, 0, err
	}
	cp := evidence.Checkpoint{Origin: scope.Origin, Size: tree.Size(), Root: tree.Root()}
	signed, err := evidence.SignCheckpoint(cp, signer)
	if err != nil {
		return nil, 0, err
	}
	if err := evidence.Facts(&scope, signed, [][]byte{signed}, &evidence.Proofs{Frontier: []string{}}, out); err != nil {
		return nil, 0, err
	}
	var again bytes.Buffer
	err = evidence.Pack(&again, out, evidence.Custody{Exported: time.Now().UTC(), Who: "forger"}, scope.Origin, packSigner)
	return again.Bytes(), changed, err
}

func lines(text []byte) [][]byte {
	if text = bytes.TrimSpace(text); len(text) == 0 {
		return nil
	}
	return bytes.Split(text, []byte("\n"))
}

type bodyLine struct {
	I    uint64 `json:"i"`
	Salt []byte `json:"salt"`
	Body []byte `json:"body"`
}

// disclosed reads the bodies and the reasons for those that are not there.
func disclosed(files map[string][]byte) (map[uint64]bodyLine, map[uint64]string, error) {
	bodies, withheld := make(map[uint64]bodyLine), make(map[uint64]string)
	for _, line := range lines(files["data/log/bodies.jsonl"]) {
		var b bodyLine
		if err := json.Unmarshal(line, &b); err != nil {
			return nil, nil, err
		}
		bodies[b.I] = b
	}
	for _, line := range lines(files["data/log/withheld.jsonl"]) {
		var w struct {
			I      uint64 `json:"i"`
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal(line, &w); err != nil {
			return nil, nil, err
		}
		withheld[w.I] = w.Reason
	}
	return bodies, withheld, nil
}

// Read returns the files of a package with their names in order.
func Read(pkg []byte) (files map[string][]byte, order []string, err error) {
	z, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		return nil, nil, err
	}
	files = make(map[string][]byte)
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, nil, err
		}
		text, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return nil, nil, err
		}
		files[f.Name] = text
		order = append(order, f.Name)
	}
	return files, order, nil
}

// memory is a sink and a source in memory.
type memory map[string][]byte

// Append implements evidence.Sink.
func (m memory) Append(name string, piece []byte) error {
	m[name] = append(m[name], piece...)
	return nil
}

// Names implements evidence.Source.
func (m memory) Names() []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	return names
}

// Open implements evidence.Source.
func (m memory) Open(name string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m[name])), nil
}

func loadKeys(dir string) (note.Signer, evidence.Signer, error) {
	var pack evidence.Signer
	text, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		return nil, pack, err
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, pack, err
	}
	for name, take := range map[string]func(any) bool{
		"package": func(k any) (ok bool) { pack.ECDSA, ok = k.(*ecdsa.PrivateKey); return ok },
		"ssh":     func(k any) (ok bool) { pack.SSH, ok = k.(ed25519.PrivateKey); return ok },
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, pack, err
		}
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, pack, fmt.Errorf("%s is not PEM", name)
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err == nil && !take(key) {
			err = errors.New("not the kind of key that is needed")
		}
		if err != nil {
			return nil, pack, fmt.Errorf("%s: %w", name, err)
		}
	}
	return signer, pack, nil
}
