package devissuer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Person is somebody who can sign in, without a password: whoever reaches the issuer can be anybody.
type Person struct {
	// Name is the "sub" of the ID tokens. Required.
	Name string
	// Claims are further claims, such as "acr" and "amr". They cannot replace a registered one.
	Claims map[string]any
}

// codeLife is how long a code can be redeemed; maxCodes bounds those that are open.
const (
	codeLife = time.Minute
	maxCodes = 1000
)

// grant is what a code stands for (RFC 6749 section 4.1).
type grant struct {
	client, redirect, challenge, nonce string
	person                             Person
	at                                 time.Time
}

// authorization is a checked request of the authorization endpoint.
type authorization struct {
	Client, Redirect, State, Nonce, Challenge string
	People                                    []Person
}

var signInPage = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Development sign-in</title>
<body style="font-family: sans-serif; max-width: 30em; margin: 4em auto">
<h1>Development sign-in</h1>
<p>{{.Client}} asks who you are. This issuer believes everybody.</p>
<form method="post">
{{range .People}}<p><button name="person" value="{{.Name}}">Sign in as {{.Name}}</button></p>{{end}}
</form>
</body></html>
`))

// serveAuthorize is the authorization endpoint (OpenID Connect Core 1.0 section 3.1.2). GET asks who it is, POST answers.
func (i *Issuer) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	a, problem := i.authorization(r.URL.Query())
	if problem != "" { // never redirect to where nobody has registered
		http.Error(w, problem, http.StatusBadRequest)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = signInPage.Execute(w, a) // the peer left; nobody to tell
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return
	}
	n := slices.IndexFunc(i.people, func(p Person) bool { return p.Name == r.PostForm.Get("person") })
	if n < 0 {
		http.Error(w, "no such person", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	i.mu.Lock()
	maps.DeleteFunc(i.codes, func(_ string, g grant) bool { return time.Since(g.at) > codeLife })
	full := len(i.codes) >= maxCodes
	if !full {
		i.codes[code] = grant{a.Client, a.Redirect, a.Challenge, a.Nonce, i.people[n], time.Now()}
	}
	i.mu.Unlock()
	if full {
		http.Error(w, "too many sign-ins at once", http.StatusTooManyRequests)
		return
	}
	back := url.Values{"code": {code}, "iss": {i.url}} // RFC 9207
	if a.State != "" {
		back.Set("state", a.State)
	}
	http.Redirect(w, r, a.Redirect+"?"+back.Encode(), http.StatusSeeOther)
}

func (i *Issuer) authorization(q url.Values) (*authorization, string) {
	c, known := i.clients[q.Get("client_id")]
	redirect := q.Get("redirect_uri")
	switch {
	case !known || len(i.people) == 0:
		return nil, "this client has nobody to sign in"
	case !c.redirects(redirect):
		return nil, "redirect_uri is not registered for this client"
	case q.Get("response_type") != "code" || !slices.Contains(strings.Fields(q.Get("scope")), "openid"):
		return nil, "want response_type=code and the scope openid"
	case q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "":
		return nil, "want PKCE with S256"
	}
	return &authorization{c.ID, redirect, q.Get("state"), q.Get("nonce"), q.Get("code_challenge"), i.people}, ""
}

// redirects reports whether a client may be redirected to. A registered loopback address without a port allows any port (RFC 8252
// section 7.3).
func (c *Client) redirects(to string) bool {
	u, err := url.Parse(to)
	if err != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	return slices.ContainsFunc(c.Redirects, func(registered string) bool {
		if registered == to {
			return true
		}
		r, err := url.Parse(registered)
		return err == nil && r.Port() == "" && loopback(r.Hostname()) && r.Scheme == u.Scheme && r.Hostname() == u.Hostname() && r.Path == u.Path && u.User == nil
	})
}

// redeem exchanges a code for an ID token, once. problem is the error code of RFC 6749 section 5.2.
func (i *Issuer) redeem(c *Client, form url.Values) (idToken, problem string) {
	i.mu.Lock()
	g, ok := i.codes[form.Get("code")]
	delete(i.codes, form.Get("code"))
	i.mu.Unlock()
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	if !ok || time.Since(g.at) > codeLife || g.client != c.ID || g.redirect != form.Get("redirect_uri") ||
		base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge {
		return "", "invalid_grant"
	}
	claims := maps.Clone(g.person.Claims)
	if claims == nil {
		claims = map[string]any{}
	}
	for _, registered := range []string{"iss", "iat", "nbf", "exp", "jti", "nonce", "azp"} {
		delete(claims, registered)
	}
	claims["sub"], claims["aud"] = g.person.Name, c.ID
	if _, ok := claims["auth_time"]; !ok {
		claims["auth_time"] = g.at.Unix()
	}
	if g.nonce != "" {
		claims["nonce"] = g.nonce
	}
	idToken, err := i.Mint(claims)
	if err != nil {
		return "", "server_error"
	}
	return idToken, ""
}
