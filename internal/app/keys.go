package app

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/secret"
)

// Keys are the gateway's own keys, loaded.
type Keys struct {
	KEK     secret.String
	Log     note.Signer
	Package evidence.Signer
	Public  evidence.Key
}

// Default references of the keys, as gatebook init makes them.
const (
	refKEK     = "file:keys/kek"
	refLog     = "file:keys/log"
	refPackage = "file:keys/package"
	refSSH     = "file:keys/ssh"
)

func loadRef(ref, def, dir string) (secret.String, error) {
	if ref == "" {
		ref = def
	}
	r, err := secret.ParseRef(ref, dir)
	if err != nil {
		return secret.String{}, err
	}
	return r.Load()
}

// LoadKeys reads the gateway's keys.
func LoadKeys(c *config.Loaded) (*Keys, error) {
	k := &Keys{}
	var err error
	if k.KEK, err = loadRef(c.Keys.KEK, refKEK, c.Dir); err != nil {
		return nil, fmt.Errorf("keys.kek: %w", err)
	}
	text, err := loadRef(c.Keys.Log, refLog, c.Dir)
	if err != nil {
		return nil, fmt.Errorf("keys.log: %w", err)
	}
	if k.Log, err = note.NewSigner(strings.TrimSpace(text.Reveal())); err != nil {
		return nil, fmt.Errorf("keys.log: %w", err)
	}
	if k.Public.Log, err = logPublic(text); err != nil {
		return nil, fmt.Errorf("keys.log: %w", err)
	}
	if err := k.loadPackage(c); err != nil {
		return nil, err
	}
	return k, nil
}

// logPublic derives the verifier key from a signed-note signer key
// ("PRIVATE+KEY+NAME+HASH+BASE64(alg ‖ seed)", C2SP signed-note).
func logPublic(skey secret.String) (string, error) {
	parts := strings.SplitN(strings.TrimSpace(skey.Reveal()), "+", 5)
	if len(parts) != 5 {
		return "", errors.New("not a signed-note key")
	}
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return "", errors.New("not an Ed25519 signed-note key")
	}
	pub, ok := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return "", errors.New("not an Ed25519 key")
	}
	return note.NewEd25519VerifierKey(parts[2], pub)
}

func (k *Keys) loadPackage(c *config.Loaded) error {
	any1, err := loadPEM(c.Keys.Package, refPackage, c.Dir)
	if err != nil {
		return fmt.Errorf("keys.package: %w", err)
	}
	ec, ok := any1.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return errors.New("keys.package: want an ECDSA P-256 key")
	}
	any2, err := loadPEM(c.Keys.SSH, refSSH, c.Dir)
	if err != nil {
		return fmt.Errorf("keys.ssh: %w", err)
	}
	ed, ok := any2.(ed25519.PrivateKey)
	if !ok {
		return errors.New("keys.ssh: want an Ed25519 key")
	}
	k.Package = evidence.Signer{ECDSA: ec, SSH: ed}
	der, err := x509.MarshalPKIXPublicKey(ec.Public())
	if err != nil {
		return err
	}
	pub, ok := ed.Public().(ed25519.PublicKey)
	if !ok {
		return errors.New("keys.ssh: no public key")
	}
	k.Public.Package = base64.StdEncoding.EncodeToString(der)
	k.Public.SSH = evidence.SSHAuthorizedKey(pub)
	return nil
}

func loadPEM(ref, def, dir string) (any, error) {
	text, err := loadRef(ref, def, dir)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(text.Reveal()))
	if block == nil {
		return nil, errors.New("not PEM")
	}
	return x509.ParsePKCS8PrivateKey(block.Bytes)
}

// TrustFile returns the text that a verifier needs, to be handed over apart
// from packages.
func (k *Keys) TrustFile() string {
	return "# Whom to believe when checking evidence of " + k.Log.Name() + ".\n" +
		"# Hand this over apart from packages. Add \"issuer URL THUMBPRINT\" lines to pin issuers' keys.\n" +
		"log " + k.Public.Log + "\n" +
		"package " + k.Public.Package + "\n" +
		"ssh " + k.Public.SSH + "\n"
}

// newKeys makes fresh keys: file name to text.
func newKeys(origin string, kek secret.String) (map[string]string, error) {
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	files := map[string]string{"kek": kek.Reveal() + "\n", "log": skey + "\n"}
	for name, key := range map[string]any{"package": ec, "ssh": ed} {
		if files[name], err = pemKey(key); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func pemKey(key any) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}
