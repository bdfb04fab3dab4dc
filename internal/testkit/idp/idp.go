// Package idp is an OpenID Connect issuer for tests: the development issuer on
// a loopback port, which can also be made to misbehave, and a forge for tokens
// that no issuer should make. Tests only.
package idp

import (
	"crypto"
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/devissuer"
	"github.com/gatebook/gatebook/internal/secret"
)

// Audience is the "aud" that Mint gives tokens.
const Audience = "gatebook"

// Console is the client that people sign in to, with the secret ConsoleSecret.
const (
	Console       = "gatebook-console"
	ConsoleSecret = "canary-console-secret"
)

// people can sign in: with a second factor, by a password alone, and with a sign-in of an hour ago.
func people() (list []devissuer.Person) {
	for _, name := range []string{"ana", "ben", "cleo", "dora", "stranger"} {
		list = append(list, devissuer.Person{Name: name, Claims: map[string]any{"acr": "urn:example:mfa", "amr": []string{"pwd", "otp"}}})
	}
	return append(list,
		devissuer.Person{Name: "weak", Claims: map[string]any{"acr": "urn:example:password", "amr": []string{"pwd"}}},
		devissuer.Person{Name: "late", Claims: map[string]any{"acr": "urn:example:mfa", "amr": []string{"pwd", "otp"}, "auth_time": time.Now().Add(-time.Hour).Unix()}})
}

// A Mode is a way to answer requests.
type Mode int

// Modes.
const (
	// Good answers as it should.
	Good Mode = iota
	// Down answers every request with status 503.
	Down
	// Slow does not answer before the request or the server ends.
	Slow
	// Huge answers with a body of 1 GB.
	Huge
	// Redirect sends requests to RedirectTo.
	Redirect
	// Garbage answers with a page that is not JSON.
	Garbage
)

// Server is a running issuer. Its methods are safe for concurrent use.
type Server struct {
	*devissuer.Issuer

	http    *httptest.Server
	mode    atomic.Int32
	fetches atomic.Int64
	all     atomic.Int64
	bytes   atomic.Int64
	stop    chan struct{}

	mu         sync.Mutex
	signer     crypto.Signer
	redirectTo string
	override   map[string]http.HandlerFunc
}

// Start starts an issuer over plain HTTP; it ends with the test.
func Start(tb testing.TB, clients ...devissuer.Client) *Server {
	tb.Helper()
	return start(tb, false, clients)
}

// StartTLS starts an issuer over HTTPS; CA returns what to trust.
func StartTLS(tb testing.TB, clients ...devissuer.Client) *Server {
	tb.Helper()
	return start(tb, true, clients)
}

func start(tb testing.TB, withTLS bool, clients []devissuer.Client) *Server {
	tb.Helper()
	s := &Server{stop: make(chan struct{}), override: map[string]http.HandlerFunc{}}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.Config.ErrorLog = discard()
	scheme := "http://"
	if withTLS {
		scheme = "https://"
		s.http.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	s.signer = newKey(tb)
	var err error
	s.Issuer, err = devissuer.New(devissuer.Options{
		URL: scheme + s.http.Listener.Addr().String(), Signer: s.signer, People: people(),
		Clients: append(clients, devissuer.Client{
			ID: Console, Secret: secret.New(ConsoleSecret), Audiences: []string{Console}, Redirects: []string{"http://127.0.0.1/callback"},
		}),
	})
	if err != nil {
		tb.Fatal(err)
	}
	if withTLS {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	tb.Cleanup(func() {
		close(s.stop)
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// CA returns the certificate of a TLS server as a file.
func (s *Server) CA(tb testing.TB) secret.File {
	tb.Helper()
	return WriteFile(tb, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw}))
}

// WriteFile writes a public file for the test's time.
func WriteFile(tb testing.TB, name string, data []byte) secret.File {
	tb.Helper()
	dir := tb.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		tb.Fatal(err)
	}
	f, err := secret.ParseFile("file:"+name, dir)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// SetMode changes how requests are answered from now on.
func (s *Server) SetMode(m Mode) { s.mode.Store(int32(m)) }

// RedirectTo sets where mode Redirect sends requests; the path is kept.
func (s *Server) RedirectTo(base string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.redirectTo = base
}

// Handle answers one path by h in place of the issuer.
func (s *Server) Handle(path string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.override[path] = h
}

// Fetches counts requests for the key set.
func (s *Server) Fetches() int { return int(s.fetches.Load()) }

// Requests counts requests of every kind.
func (s *Server) Requests() int { return int(s.all.Load()) }

// Sent counts the bytes that mode Huge got rid of.
func (s *Server) Sent() int64 { return s.bytes.Load() }

// RotateKey changes the signing key; the one before stays published.
func (s *Server) RotateKey(tb testing.TB) {
	tb.Helper()
	k := newKey(tb)
	if err := s.Rotate(k); err != nil {
		tb.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signer = k
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.all.Add(1)
	if r.URL.Path == "/keys" {
		s.fetches.Add(1)
	}
	s.mu.Lock()
	to, own := s.redirectTo, s.override[r.URL.Path]
	s.mu.Unlock()
	switch Mode(s.mode.Load()) {
	case Down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case Slow:
		select {
		case <-r.Context().Done():
		case <-s.stop:
		}
	case Huge:
		s.serveHuge(w)
	case Redirect:
		http.Redirect(w, r, to+r.URL.Path, http.StatusFound)
	case Garbage:
		_, _ = w.Write([]byte("<html>sign in</html>"))
	default:
		if own != nil {
			own(w, r)
			return
		}
		s.Handler().ServeHTTP(w, r)
	}
}

func (s *Server) serveHuge(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"keys":[`))
	chunk := make([]byte, 64<<10)
	for i := range chunk {
		chunk[i] = ' '
	}
	for range (1 << 30) / len(chunk) {
		n, err := w.Write(chunk)
		s.bytes.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.http.Listener.Addr() }
