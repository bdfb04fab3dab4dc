// Command tamper makes altered evidence packages, to show what verification
// notices: one flipped byte, or claims edited by somebody who has every key of
// the gateway and signs everything anew.
//
//	tamper flip PACKAGE ALTERED
//	tamper claims PACKAGE ALTERED KEYS-DIRECTORY
package main

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

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tamper:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "flip":
		return flip(args[1], args[2])
	case len(args) == 4 && args[0] == "claims":
		return claims(args[1], args[2], args[3])
	}
	return errors.New("usage: tamper flip PACKAGE ALTERED | tamper claims PACKAGE ALTERED KEYS-DIRECTORY")
}

// flip changes one bit of one body: it packs the files again with nothing else changed.
func flip(from, to string) error {
	files, order, err := read(from)
	if err != nil {
		return err
	}
	const name = "data/log/bodies.jsonl"
	text := files[name]
	at := len(text) / 2
	for text[at] < 'a' || text[at] > 'y' {
		at++
	}
	text[at]++
	fmt.Printf("changed byte %d of %s\n", at, name)
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, name := range order {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(to, out.Bytes(), 0o600)
}

func read(path string) (map[string][]byte, []string, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = z.Close() }()
	files := make(map[string][]byte)
	var order []string
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

type bodyLine struct {
	I    uint64 `json:"i"`
	Salt []byte `json:"salt"`
	Body []byte `json:"body"`
}

// claims replaces a principal's group in every body, and then makes headers,
// tree, checkpoints, views, manifests and signatures anew with the real keys.
func claims(from, to, keys string) error {
	files, _, err := read(from)
	if err != nil {
		return err
	}
	signer, packSigner, err := loadKeys(keys)
	if err != nil {
		return err
	}
	var scope evidence.Scope
	if err := json.Unmarshal(files["data/scope.json"], &scope); err != nil {
		return err
	}
	if scope.First != 0 {
		return errors.New("only packages from entry 0 on are altered")
	}
	bodies := make(map[uint64]bodyLine)
	for _, line := range bytes.Split(bytes.TrimSpace(files["data/log/bodies.jsonl"]), []byte("\n")) {
		var b bodyLine
		if err := json.Unmarshal(line, &b); err != nil {
			return err
		}
		bodies[b.I] = b
	}
	out := make(memory)
	b := evidence.NewBuilder(scope, out)
	tree, err := evidence.NewRange(0, nil)
	if err != nil {
		return err
	}
	if err := b.Begin(); err != nil {
		return err
	}
	var first time.Time
	changed := 0
	for i, line := range bytes.Split(bytes.TrimSpace(files["data/log/headers.jsonl"]), []byte("\n")) {
		h, err := evidence.ParseHeader(line)
		if err != nil {
			return err
		}
		if i == 0 {
			first = h.Time
		}
		body, ok := bodies[h.Index]
		if !ok {
			return fmt.Errorf("the body of entry %d is withheld: only packages with all bodies are altered", h.Index)
		}
		d := &evidence.Disclosed{Salt: [evidence.SaltSize]byte(body.Salt), Body: forge(h.Kind, body.Body, &changed)}
		h.Commit, h.BodyLen = evidence.Commitment(&d.Salt, d.Body), uint64(len(d.Body))
		line = evidence.AppendHeader(nil, &h)
		tree.Add(evidence.LeafHash(line))
		if err := b.Entry(line, &h, d, ""); err != nil {
			return err
		}
	}
	if _, err := b.Finish(first); err != nil {
		return err
	}
	cp := evidence.Checkpoint{Origin: scope.Origin, Size: tree.Size(), Root: tree.Root()}
	signed, err := evidence.SignCheckpoint(cp, signer)
	if err != nil {
		return err
	}
	if err := evidence.Facts(&scope, signed, [][]byte{signed}, &evidence.Proofs{Frontier: []string{}}, out); err != nil {
		return err
	}
	var pkg bytes.Buffer
	if err := evidence.Pack(&pkg, out, evidence.Custody{Exported: time.Now().UTC(), Who: "forger"}, scope.Origin, packSigner); err != nil {
		return err
	}
	fmt.Printf("changed the groups in %d bodies and signed tree, checkpoint and package anew\n", changed)
	return os.WriteFile(to, pkg.Bytes(), 0o600)
}

// forge claims that every agent was a database administrator, wherever the
// book says otherwise, but in the token, whose signature nobody here can make.
func forge(kind evidence.Kind, body []byte, changed *int) []byte {
	if kind != evidence.KindSession && kind != evidence.KindIdentity && kind != evidence.KindPrincipal {
		return body
	}
	altered := strings.ReplaceAll(string(body), `"groups":["agents"`, `"groups":["dba"`)
	if altered != string(body) {
		*changed++
	}
	return []byte(altered)
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
