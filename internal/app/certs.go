package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/secret"
)

// Files of the local CA, beside the configuration.
const (
	caCert     = "tls/ca.crt"
	caKey      = "keys/ca"
	serverCert = "tls/server.crt"
	serverKey  = "keys/server"
)

// certificate is a listener's certificate, read again when its files change.
// Safe for concurrent use.
type certificate struct {
	cert secret.File
	key  secret.Ref

	mu      sync.Mutex
	text    string
	checked time.Time
	loaded  *tls.Certificate
}

func newCertificate(t config.ServerTLS, dir string) (*certificate, error) {
	if t.Cert == "" {
		t = config.ServerTLS{Cert: "file:" + serverCert, Key: "file:" + serverKey}
	}
	c := &certificate{}
	var err error
	if c.cert, err = secret.ParseFile(t.Cert, dir); err != nil {
		return nil, err
	}
	if c.key, err = secret.ParseRef(t.Key, dir); err != nil {
		return nil, err
	}
	_, err = c.config()
	return c, err
}

// config returns the TLS configuration of one handshake. The files are looked
// at once a second at most; a changed pair that does not fit keeps the old one in force.
func (c *certificate) config() (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded == nil || time.Since(c.checked) >= time.Second {
		c.checked = time.Now()
		if err := c.load(); err != nil && c.loaded == nil {
			return nil, err
		}
	}
	return &tls.Config{Certificates: []tls.Certificate{*c.loaded}, MinVersion: tls.VersionTLS12}, nil
}

func (c *certificate) load() error {
	cert, err := c.cert.Load()
	if err != nil {
		return err
	}
	key, err := c.key.Load()
	if err != nil {
		return err
	}
	text := string(cert) + "\x00" + key.Reveal()
	if c.loaded != nil && text == c.text {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, []byte(key.Reveal()))
	if err != nil {
		return err
	}
	c.loaded, c.text = &pair, text
	return nil
}

// targetTLS returns how connections to a target are protected. Files are read
// again for each connection.
func targetTLS(t *config.Target, dir string) (enforce.TargetTLS, error) {
	mode := t.TLS.Mode
	if mode == "" {
		mode = "verify-full"
	}
	out := enforce.TargetTLS{Mode: mode}
	if mode == "disable" {
		return out, nil
	}
	host, _, err := net.SplitHostPort(t.Address)
	if err != nil {
		return out, err
	}
	if t.TLS.ServerName != "" {
		host = t.TLS.ServerName
	}
	out.Config = func() (*tls.Config, error) {
		c := &tls.Config{
			ServerName: host, MinVersion: tls.VersionTLS12,
			InsecureSkipVerify: mode == "require", //nolint:gosec // what the mode "require" means, chosen by name
		}
		if t.TLS.CA != "" {
			f, err := secret.ParseFile(t.TLS.CA, dir)
			if err != nil {
				return nil, err
			}
			text, err := f.Load()
			if err != nil {
				return nil, fmt.Errorf("tls.ca: %w", err)
			}
			c.RootCAs = x509.NewCertPool()
			if !c.RootCAs.AppendCertsFromPEM(text) {
				return nil, errors.New("tls.ca: no certificate in the file")
			}
		}
		if t.TLS.Cert == "" {
			return c, nil
		}
		own, err := newCertificate(config.ServerTLS{Cert: t.TLS.Cert, Key: t.TLS.Key}, dir)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: %w", err)
		}
		c.Certificates = []tls.Certificate{*own.loaded}
		return c, nil
	}
	return out, nil
}

// newCA makes the local CA and a server certificate for loopback, as files
// relative to the configuration: name to text.
func newCA(origin string, now time.Time) (map[string]string, error) {
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Gatebook local CA of " + origin},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign,
		// A leaked key of this CA is worth nothing beyond this machine.
		PermittedDNSDomains: []string{"localhost"}, PermittedDNSDomainsCritical: true,
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}, {IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, ca.Public(), ca)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Gatebook on localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(2, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), ca)
	if err != nil {
		return nil, err
	}
	caPEM, err := pemKey(ca)
	if err != nil {
		return nil, err
	}
	keyPEM, err := pemKey(key)
	if err != nil {
		return nil, err
	}
	cert := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return map[string]string{caCert: cert(rootDER), caKey: caPEM, serverCert: cert(leafDER), serverKey: keyPEM}, nil
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic("app: no randomness: " + err.Error())
	}
	return n
}

// CAFile returns the path of the local CA's certificate.
func CAFile(c *config.Loaded) string { return filepath.Join(c.Dir, caCert) }
