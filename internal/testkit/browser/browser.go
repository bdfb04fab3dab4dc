// Package browser is a small browser for tests: cookies, links, forms and pages
// that go on by themselves; no scripts. Tests only.
package browser

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Browser is one person's. Not safe for concurrent use.
type Browser struct {
	// Client's transport may be set to trust a CA.
	Client *http.Client
	// URL, Status, Header and Page are of the page that it is on.
	URL    *url.URL
	Status int
	Header http.Header
	Page   string
}

// New returns a browser without cookies.
func New() *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // without options it cannot fail
	}
	return &Browser{Client: &http.Client{Jar: jar, Timeout: 30 * time.Second}}
}

// Open goes to an address.
func (b *Browser) Open(address string) error {
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	return b.do(r)
}

func (b *Browser) do(r *http.Request) error {
	resp, err := b.Client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return err
	}
	b.URL, b.Status, b.Header, b.Page = resp.Request.URL, resp.StatusCode, resp.Header, string(text)
	return nil
}

var (
	forms   = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	inputs  = regexp.MustCompile(`<input\b([^>]*)>`)
	attr    = regexp.MustCompile(`([a-z-]+)="([^"]*)"`)
	refresh = regexp.MustCompile(`<meta http-equiv="refresh" content="0; url=([^"]*)">`)
)

func attributes(tag string) map[string]string {
	m := map[string]string{}
	for _, a := range attr.FindAllStringSubmatch(tag, -1) {
		m[a[1]] = html.UnescapeString(a[2])
	}
	return m
}

// Form returns what the page's form with that action would send, where to, or an error if there is none.
func (b *Browser) Form(action string) (values url.Values, to *url.URL, err error) {
	for _, f := range forms.FindAllStringSubmatch(b.Page, -1) {
		a := attributes(f[1])["action"]
		if a != action {
			continue
		}
		values = url.Values{}
		for _, in := range inputs.FindAllStringSubmatch(f[2], -1) {
			at := attributes(in[1])
			values.Set(at["name"], at["value"])
		}
		to, err = b.URL.Parse(a)
		return values, to, err
	}
	return nil, nil, fmt.Errorf("no form for %q on %s (%d):\n%s", action, b.URL, b.Status, b.Page)
}

// Submit sends the form with that action, "" for one to the page itself, with further values.
func (b *Browser) Submit(action string, more url.Values) error {
	values, to, err := b.Form(action)
	if err != nil {
		return err
	}
	for k, v := range more {
		values[k] = v
	}
	return b.Post(to.String(), values)
}

// Post sends values from the page that the browser is on, as browsers do.
func (b *Browser) Post(to string, values url.Values) error {
	r, err := http.NewRequest(http.MethodPost, to, strings.NewReader(values.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if b.URL != nil {
		origin := b.URL.Scheme + "://" + b.URL.Host
		site := "cross-site"
		if r.URL.Scheme+"://"+r.URL.Host == origin {
			site = "same-origin"
		}
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", site)
	}
	return b.do(r)
}

// GoOn follows a page that goes on by itself.
func (b *Browser) GoOn() error {
	m := refresh.FindStringSubmatch(b.Page)
	if m == nil {
		return fmt.Errorf("%s (%d) does not go on:\n%s", b.URL, b.Status, b.Page)
	}
	to, err := b.URL.Parse(html.UnescapeString(m[1]))
	if err != nil {
		return err
	}
	return b.Open(to.String())
}

// At says who the person is, on the page of a development issuer, and comes back.
func (b *Browser) At(person string) error {
	if err := b.GoOn(); err != nil {
		return err
	}
	// The issuer's form has no action: it goes to the page itself.
	return b.Post(b.URL.String(), url.Values{"person": {person}})
}

// SignIn signs a person in, beginning at a page that asks for it.
func (b *Browser) SignIn(page, person string) error {
	if err := b.Open(page); err != nil {
		return err
	}
	if err := b.Submit("/sign-in", nil); err != nil {
		return err
	}
	if err := b.At(person); err != nil {
		return err
	}
	return b.Submit("/callback", nil)
}

// Rule rules on a ticket, from its page on, as a person who is signed in. The person says who they are at the issuer again.
func (b *Browser) Rule(page, person, verdict, reason string) error {
	if err := b.Open(page); err != nil {
		return err
	}
	if err := b.Submit(b.URL.Path+"/rule", url.Values{"verdict": {verdict}, "reason": {reason}}); err != nil {
		return err
	}
	if err := b.At(person); err != nil {
		return err
	}
	return b.Submit("/callback", nil)
}
