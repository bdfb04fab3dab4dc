package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/console"
	"github.com/gatebook/gatebook/internal/identity"
	"github.com/gatebook/gatebook/internal/secret"
)

// maxPageConns bounds the open connections to the page.
const maxPageConns = 500

// page serves the console.
type page struct {
	*console.Console

	ln  net.Listener
	srv *http.Server
}

// newPage binds the console's address, nil if none is configured.
func newPage(a *App) (*page, error) {
	c := a.cfg.Console
	if c == nil {
		return nil, nil
	}
	client, err := consoleClient(a.cfg)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	p := &page{ln: &limited{Listener: ln, places: make(chan struct{}, maxPageConns)}}
	url, scheme := c.URL, "https"
	if c.InsecurePlaintext {
		scheme = "http"
	} else if err := p.protect(c, a.cfg.Dir); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	if url == "" {
		url = scheme + "://" + ln.Addr().String()
	}
	var hooks http.Handler
	if len(a.cfg.Inbound) > 0 {
		hooks = a.inbound
	}
	p.Console, err = console.New(console.Options{
		Hooks: hooks,
		URL:   url, Client: client, Issuer: a.verifier, Admin: a.book.Admin, PersonOf: persons{a}.of, Log: a.log,
	})
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	p.srv = p.Server(a.log)
	return p, nil
}

func (p *page) protect(c *config.Console, dir string) error {
	cert, err := newCertificate(c.TLS, dir)
	if err != nil {
		return fmt.Errorf("console: certificate: %w", err)
	}
	p.ln = tls.NewListener(p.ln, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return cert.config() },
	})
	return nil
}

// consoleClient is the page's registration at its issuer.
func consoleClient(c *config.Loaded) (identity.Client, error) {
	out := identity.Client{Issuer: c.Console.Issuer, ID: c.Console.ClientID}
	for i := range c.Issuers {
		if is := &c.Issuers[i]; is.Name == out.Issuer && out.ID == "" && len(is.Audience) > 0 {
			out.ID = is.Audience[0]
		}
	}
	var err error
	if c.Console.ClientSecret != "" {
		out.Secret, err = secret.ParseRef(c.Console.ClientSecret, c.Dir)
	}
	return out, err
}

func (p *page) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.srv.Close() })
	defer stop()
	if err := p.srv.Serve(p.ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ticketURL returns the address of a ticket's page, "" if there is no page.
func (a *App) ticketURL(id string) string {
	if a.page == nil {
		return ""
	}
	return a.page.TicketURL(id)
}

// ConsoleURL returns the page's address in browsers, "" if there is none.
func (a *App) ConsoleURL() string {
	if a.page == nil {
		return ""
	}
	return a.page.URL()
}

// ConsoleAddress returns what the page listens on, "" if there is none.
func (a *App) ConsoleAddress() string {
	if a.page == nil {
		return ""
	}
	return a.page.ln.Addr().String()
}

// signedIn verifies ID tokens for rulings.
func (a *App) signedIn(ctx context.Context, token secret.String, nonce string) (*admin.SignedIn, error) {
	s, err := a.verifier.VerifyPerson(ctx, token, nonce)
	if err != nil {
		return nil, err
	}
	return &admin.SignedIn{
		Identity: s.Identity(), SignIn: approval.SignIn{At: s.AuthTime, ACR: s.ACR, AMR: s.AMR}, KeySet: s.KeySet,
	}, nil
}

// limited is a listener that accepts no more while its places are taken.
type limited struct {
	net.Listener

	places chan struct{}
}

// Accept waits for a place, then for a connection.
func (l *limited) Accept() (net.Conn, error) {
	l.places <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &placed{Conn: c, free: sync.OnceFunc(func() { <-l.places })}, nil
}

// placed gives its place back when it is closed.
type placed struct {
	net.Conn

	free func()
}

// Close implements net.Conn.
func (p *placed) Close() error {
	defer p.free()
	return p.Conn.Close()
}
