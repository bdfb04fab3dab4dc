// Package console serves the page on which people sign in, look at the
// requests that wait, and rule on them; and the same over HTTP for programs
// that bring a person's ID token.
//
// A ruling is proven by an ID token that the person's issuer makes for the
// nonce over exactly that ruling: the page cannot make one, nor can the
// gateway. No GET changes anything but which address is looked at.
package console

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/identity"
	"github.com/gatebook/gatebook/internal/secret"
)

// Issuer signs people in.
type Issuer interface {
	AuthURL(ctx context.Context, c *identity.Client, r *identity.Request) (string, error)
	Redeem(ctx context.Context, c *identity.Client, r *identity.Request, code string) (*identity.SignIn, secret.String, error)
	VerifyPerson(ctx context.Context, token secret.String, nonce string) (*identity.SignIn, error)
	IssuerURL(name string) string
}

// Options of a Console. All but Hooks are required.
type Options struct {
	// URL is the page's address in browsers, "https://host" or "https://host:port".
	URL string
	// Client is the page's registration at the issuer; its Redirect is set by New.
	Client identity.Client
	Issuer Issuer
	Admin  *admin.Service
	// PersonOf says whose an identity ("issuer|name") is, nil for nobody.
	PersonOf func(identity string) *approval.Person
	// Hooks takes POST /v1/hooks/{name}, nil for none.
	Hooks http.Handler
	Log   *slog.Logger
}

// Console is the page. Safe for concurrent use.
type Console struct {
	o      Options
	host   string
	secure bool // served over TLS
	pages  *template.Template
	visits visits
}

//go:embed assets
var assets embed.FS

// CallbackPath is the redirect URI's path.
const CallbackPath = "/callback"

// New returns the page.
func New(o Options) (*Console, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("console: %q is no address", o.URL)
	}
	o.URL = u.Scheme + "://" + u.Host
	o.Client.Redirect = o.URL + CallbackPath
	c := &Console{o: o, host: u.Host, secure: u.Scheme == "https"}
	c.pages, err = template.New("").Funcs(template.FuncMap{"pieces": pieces, "left": left, "clock": clock}).ParseFS(assets, "assets/*.html")
	return c, err
}

// URL returns the page's address in browsers.
func (c *Console) URL() string { return c.o.URL }

// TicketURL returns the address of a ticket's page.
func (c *Console) TicketURL(id string) string { return c.o.URL + "/tickets/" + id }

// maxForm bounds a form, in bytes.
const maxForm = 64 << 10

// hooksPath is where bridges deliver rulings.
const hooksPath = "/v1/hooks/"

// Handler serves the page.
func (c *Console) Handler() http.Handler {
	m := http.NewServeMux()
	static, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the directory is embedded above
	}
	files := http.FileServerFS(static)
	for _, name := range []string{"style.css", "page.js"} {
		m.Handle("GET /static/"+name, http.StripPrefix("/static", files))
	}
	m.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/tickets", http.StatusSeeOther) })
	m.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	m.HandleFunc("GET /tickets", c.list)
	m.HandleFunc("GET /tickets/{id}", c.ticket)
	m.HandleFunc("POST /tickets/{id}/rule", c.rule)
	m.HandleFunc("GET "+CallbackPath, c.callback)
	m.HandleFunc("POST "+CallbackPath, c.redeem)
	m.HandleFunc("POST /sign-in", c.signIn)
	m.HandleFunc("POST /sign-out", c.signOut)
	m.HandleFunc("GET /events", c.events)
	m.Handle("/v1/", c.api())
	if c.o.Hooks != nil {
		m.Handle("POST "+hooksPath+"{name}", c.o.Hooks)
	}
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c.fail(w, http.StatusForbidden, "This came from another site. Open the page itself and try again.")
	}))
	return c.guard(cross.Handler(m))
}

// guard sets what every answer has, and refuses other names: a name that somebody else owns may resolve to this address.
func (c *Console) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Frame-Options", "DENY")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if c.secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if !strings.EqualFold(r.Host, c.host) {
			c.fail(w, http.StatusMisdirectedRequest, "This page has another address: "+c.o.URL)
			return
		}
		if !strings.HasPrefix(r.URL.Path, hooksPath) { // which bounds what it reads
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		}
		next.ServeHTTP(w, r)
	})
}

// Server returns the server of the page, without a listener.
func (c *Console) Server(log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: c.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// page is what every page shows.
type page struct {
	Title   string
	Person  string // who is signed in, "" for nobody
	CSRF    string
	Refresh string // where the browser goes on to by itself
	Body    any
}

func (c *Console) render(w http.ResponseWriter, status int, name string, p *page) {
	var out strings.Builder
	if err := c.pages.ExecuteTemplate(&out, name, p); err != nil {
		c.o.Log.Error("console", "page", name, "err", err)
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(out.String())) // the peer left; nobody to tell
}

// fail shows a message.
func (c *Console) fail(w http.ResponseWriter, status int, text string) {
	c.render(w, status, "message.html", &page{Title: http.StatusText(status), Body: text})
}

// refused shows why an action did not work.
func (c *Console) refused(w http.ResponseWriter, v *visit, err error) {
	status := http.StatusUnprocessableEntity
	switch {
	case errors.Is(err, approval.ErrNoTicket):
		status = http.StatusNotFound
	case errors.Is(err, approval.ErrFinal):
		status = http.StatusConflict
	}
	c.render(w, status, "message.html", &page{Title: "Refused", Person: c.personName(v), CSRF: v.token(), Body: err.Error()})
}
