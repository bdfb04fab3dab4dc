package evidence

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"
)

//go:embed verify/VERIFY.md
var verifyMD []byte

//go:embed verify/verify.sh
var verifySH []byte

// Custody says who exported a package and when: the content of
// custody/export.json, the first link of its chain of custody.
type Custody struct {
	Exported time.Time `json:"exported"`
	Who      string    `json:"who"`
	How      string    `json:"how"`
	Program  string    `json:"program"`
	Command  string    `json:"command,omitempty"`
}

// Signer holds the keys that sign a package.
type Signer struct {
	ECDSA *ecdsa.PrivateKey // P-256, for openssl
	SSH   ed25519.PrivateKey
}

// A Source gives the files under data/ back once they are complete.
type Source interface {
	// Names returns the names of all files.
	Names() []string
	// Open returns a file's content.
	Open(name string) (io.ReadCloser, error)
}

// Pack writes a package: the files under data/, manifests, signatures, the
// custody record and the means to verify. The files are in order of their names and carry no
// time, so that only custody and signatures differ between two exports of one scope.
func Pack(w io.Writer, src Source, c Custody, origin string, keys Signer) error {
	p := &packer{zip: zip.NewWriter(w)}
	names := slices.Sorted(slices.Values(src.Names()))
	var manifest bytes.Buffer
	for _, name := range names {
		digest, err := p.copy(src, name)
		if err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
		fmt.Fprintf(&manifest, "%s  %s\n", digest, name)
	}
	custody, err := json.MarshalIndent(&c, "", "  ")
	if err != nil {
		return err
	}
	info := fmt.Sprintf("Source-Organization: %s\nBagging-Date: %s\nPayload-Oxum: %d.%d\nBag-Software-Agent: %s\n",
		origin, c.Exported.UTC().Format("2006-01-02"), p.bytes, len(names), c.Program)
	tags := map[string][]byte{
		fileBagit:   []byte("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"),
		fileBagInfo: []byte(info), fileManifest: manifest.Bytes(), fileCustody: append(custody, '\n'),
		fileVerifyMD: verifyMD, fileVerifySH: verifySH,
	}
	var tagManifest bytes.Buffer
	for _, name := range []string{fileBagInfo, fileBagit, fileCustody, fileManifest, fileVerifyMD, fileVerifySH} {
		fmt.Fprintf(&tagManifest, "%s  %s\n", sum(tags[name]), name)
		if err := p.add(name, tags[name]); err != nil {
			return err
		}
	}
	if err := p.add(fileTagManifest, tagManifest.Bytes()); err != nil {
		return err
	}
	for _, name := range []string{fileManifest, fileTagManifest} {
		text := manifest.Bytes()
		if name == fileTagManifest {
			text = tagManifest.Bytes()
		}
		digest := sha256.Sum256(text)
		sig, err := ecdsa.SignASN1(rand.Reader, keys.ECDSA, digest[:])
		if err == nil {
			err = p.add("signatures/"+name+".ecdsa", sig)
		}
		if err == nil {
			err = p.add("signatures/"+name+".sshsig", SignSSH(keys.SSH, text))
		}
		if err != nil {
			return err
		}
	}
	return p.zip.Close()
}

type packer struct {
	zip   *zip.Writer
	bytes int64 // under data/
}

func (p *packer) create(name string) (io.Writer, error) {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate}
	h.SetMode(fs.FileMode(mode(name)))
	return p.zip.CreateHeader(h)
}

func (p *packer) add(name string, text []byte) error {
	w, err := p.create(name)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

func (p *packer) copy(src Source, name string) (digest string, err error) {
	f, err := src.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w, err := p.create(name)
	if err != nil {
		return "", err
	}
	d := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, d), f)
	p.bytes += n
	return hex.EncodeToString(d.Sum(nil)), err
}

// Facts are the files under data/ that do not follow from the entries: the
// scope, the closing checkpoint, all checkpoints in the range, and the proofs.
func Facts(s *Scope, closing []byte, checkpoints [][]byte, proofs *Proofs, sink Sink) error {
	var list []byte
	for _, cp := range checkpoints {
		line, err := json.Marshal(string(cp))
		if err != nil {
			return err
		}
		list = append(append(list, line...), '\n')
	}
	return errors.Join(
		sink.Append(fileScope, s.encode()), sink.Append(fileCheckpoint, closing),
		sink.Append(fileCheckpoints, list), sink.Append(fileProofs, encode(proofs)),
	)
}

// Begin writes what every package has even if its range is empty of it.
func (b *Builder) Begin() error {
	for _, name := range []string{fileHeaders, fileBodies, fileWithheld} {
		if err := b.sink.Append(name, nil); err != nil {
			return err
		}
	}
	return b.begin()
}
