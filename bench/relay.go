package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

// relay is the least that a gateway in Go can cost: TLS on both sides, two
// goroutines a session, and no look at what passes. The benchmark runs it in a
// process of its own, as one more system to compare with.
func relay(address, target, dir string) error {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return errors.New("no certificate in ca.crt")
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("relay is up")
	for {
		down, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = down.Close() }()
			if err := pass(down, target, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}, roots); err != nil {
				fmt.Fprintln(os.Stderr, "relay:", err)
			}
		}()
	}
}

// sslRequest is the message that asks for TLS (PostgreSQL documentation, "Message Formats").
var sslRequest = []byte{0, 0, 0, 8, 4, 210, 22, 47}

func pass(down net.Conn, target string, server *tls.Config, roots *x509.CertPool) error {
	var ask [8]byte
	if _, err := io.ReadFull(down, ask[:]); err != nil || !bytes.Equal(ask[:], sslRequest) {
		return fmt.Errorf("no SSLRequest: %w", err)
	}
	if _, err := down.Write([]byte{'S'}); err != nil {
		return err
	}
	up, err := net.Dial("tcp", target)
	if err != nil {
		return err
	}
	defer func() { _ = up.Close() }()
	if _, err := up.Write(sslRequest); err != nil {
		return err
	}
	if _, err := io.ReadFull(up, ask[:1]); err != nil || ask[0] != 'S' {
		return fmt.Errorf("the target has no TLS: %w", err)
	}
	agent := tls.Server(down, server)
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		return err
	}
	backend := tls.Client(up, &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS13})
	go func() {
		_, _ = io.Copy(agent, backend)
		_ = down.Close()
	}()
	_, err = io.Copy(backend, agent)
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}
