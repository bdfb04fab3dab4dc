// Package pgserver starts a real PostgreSQL for tests: on loopback, on a port
// the kernel picked, with TLS and SCRAM, in a directory of its own. For tests
// and the demo only.
package pgserver

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Server is a running PostgreSQL.
type Server struct {
	Dir      string // holds everything; removed by Stop
	Port     int
	Password string // of the superuser "postgres"
	CA       string // path of the certificate that signed the server's own
	Log      string // path of the server's log

	bin string
	as  *user.User // the system user the server runs as, nil for our own
}

// Bin returns the directory that holds initdb and pg_ctl: $GATEBOOK_PG_BIN,
// Debian's newest, or what PATH finds.
func Bin() (string, error) {
	if dir := os.Getenv("GATEBOOK_PG_BIN"); dir != "" {
		return dir, nil
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	sort.Slice(dirs, func(i, j int) bool { return version(dirs[i]) < version(dirs[j]) })
	if len(dirs) > 0 {
		return dirs[len(dirs)-1], nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", errors.New("no PostgreSQL server programs found: install the package postgresql (make setup does)")
}

func version(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	return n
}

// Start makes a cluster and starts it. settings are further lines of postgresql.conf.
func Start(settings ...string) (*Server, error) {
	bin, err := Bin()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, Password: "pw-" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	if os.Geteuid() == 0 { // the server refuses to run as root
		if s.as, err = user.Lookup("postgres"); err != nil {
			return nil, fmt.Errorf("running as root needs a system user postgres: %w", err)
		}
	}
	if s.Dir, err = os.MkdirTemp("", "gbpg"); err != nil {
		return nil, err
	}
	if err := s.start(settings); err != nil {
		_ = os.RemoveAll(s.Dir)
		return nil, err
	}
	return s, nil
}

func (s *Server) start(settings []string) error {
	s.Log = filepath.Join(s.Dir, "log")
	s.CA = filepath.Join(s.Dir, "ca.crt")
	data := filepath.Join(s.Dir, "data")
	pw := filepath.Join(s.Dir, "pw")
	if err := os.WriteFile(pw, []byte(s.Password), 0o600); err != nil {
		return err
	}
	if err := s.certificate(); err != nil {
		return err
	}
	if err := s.own(); err != nil {
		return err
	}
	if err := s.run("initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", pw, "-E", "UTF8",
		"--locale=C.UTF-8", "--no-sync"); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.Port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return err
	}
	conf := []string{
		"listen_addresses='127.0.0.1'", "port=" + strconv.Itoa(s.Port), "unix_socket_directories=''", "fsync=off",
		"ssl=on", "ssl_cert_file='" + s.Dir + "/server.crt'", "ssl_key_file='" + s.Dir + "/server.key'", "max_connections=600",
		"shared_buffers=64MB",
	}
	conf = append(conf, settings...)
	f, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString("\n" + strings.Join(conf, "\n") + "\n"); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return s.run("pg_ctl", "-D", data, "-l", s.Log, "-w", "-t", "60", "start")
}

// Stop ends the server and removes its directory.
func (s *Server) Stop() error {
	err := s.run("pg_ctl", "-D", filepath.Join(s.Dir, "data"), "-m", "immediate", "-w", "stop")
	return errors.Join(err, os.RemoveAll(s.Dir))
}

// Crash ends the server's processes at once and starts it again.
func (s *Server) Crash() error {
	data := filepath.Join(s.Dir, "data")
	if err := s.run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"); err != nil {
		return err
	}
	return s.run("pg_ctl", "-D", data, "-l", s.Log, "-w", "-t", "60", "start")
}

// Address returns host:port.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// URL returns a connection string for the superuser, straight to the server.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://postgres:%s@%s/%s?sslmode=verify-full&sslrootcert=%s", s.Password, s.Address(), database, s.CA)
}

// PSQL runs statements as the superuser with psql, straight on the server.
func (s *Server) PSQL(database, sql string) (string, error) {
	cmd := exec.Command(filepath.Join(s.bin, "psql"), "-X", "-v", "ON_ERROR_STOP=1", "-At", "-d", s.URL(database), "-f", "-")
	cmd.Stdin = strings.NewReader(sql)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("psql: %w: %s", err, out)
	}
	return string(out), nil
}

// run starts one of the server's programs, as the server's user.
func (s *Server) run(program string, args ...string) error {
	path := filepath.Join(s.bin, program)
	if s.as != nil {
		args = append([]string{"-u", s.as.Username, "--", path}, args...)
		path = "runuser"
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.Dir
	var out bytes.Buffer
	// The server inherits these; a pipe would be held open by it.
	f, err := os.CreateTemp("", "gbpg-out")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Run(); err != nil {
		if text, readErr := os.ReadFile(f.Name()); readErr == nil {
			out.Write(text)
		}
		if text, readErr := os.ReadFile(s.Log); readErr == nil {
			out.Write(text)
		}
		return fmt.Errorf("%s: %w: %s", program, err, out.String())
	}
	return nil
}

// own hands the directory to the server's user.
func (s *Server) own() error {
	if s.as == nil {
		return nil
	}
	uid, err := strconv.Atoi(s.as.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(s.as.Gid)
	if err != nil {
		return err
	}
	for _, name := range []string{"", "pw", "server.key", "server.crt", "ca.crt"} {
		if err := os.Chown(filepath.Join(s.Dir, name), uid, gid); err != nil {
			return err
		}
	}
	return os.Chmod(s.Dir, 0o755) //nolint:gosec // the agents of tests read ca.crt here
}

// certificate makes a self-signed certificate for 127.0.0.1 and localhost.
func (s *Server) certificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test database"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{
		"server.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), "server.crt": cert, "ca.crt": cert,
	} {
		mode := os.FileMode(0o644)
		if name == "server.key" {
			mode = 0o600
		}
		if err := os.WriteFile(filepath.Join(s.Dir, name), text, mode); err != nil {
			return err
		}
	}
	return nil
}
