package devissuer

import (
	"crypto/rand"
	"encoding/json"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"

	"github.com/gatebook/gatebook/internal/secret"
)

// Paths under the issuer's URL.
const (
	discoveryPath = "/.well-known/openid-configuration"
	keysPath      = "/keys"
	authorizePath = "/authorize"
	tokenPath     = "/token"
)

// maxForm bounds a token request.
const maxForm = 64 << 10

// Handler serves discovery, keys and the token endpoint, below the path of the
// issuer's URL. Requests whose Host is not a loopback name are refused: a page
// in a browser could otherwise reach the issuer under a name of its own.
func (i *Issuer) Handler() http.Handler {
	base := ""
	if u, err := url.Parse(i.url); err == nil {
		base = u.Path
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+base+discoveryPath, i.serveDiscovery)
	mux.HandleFunc("GET "+base+keysPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		reply(w, http.StatusOK, i.keySet())
	})
	mux.HandleFunc("POST "+base+tokenPath, i.serveToken)
	mux.HandleFunc("GET "+base+authorizePath, i.serveAuthorize)
	mux.HandleFunc("POST "+base+authorizePath, i.serveAuthorize)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
			host = host[1 : len(host)-1]
		}
		if !loopback(host) {
			http.Error(w, "the development issuer answers on loopback names only", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (i *Issuer) serveDiscovery(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{
		"issuer":                                i.url,
		"jwks_uri":                              i.url + keysPath,
		"token_endpoint":                        i.url + tokenPath,
		"authorization_endpoint":                i.url + authorizePath,
		"grant_types_supported":                 []string{"client_credentials", "authorization_code"},
		"response_types_supported":              []string{"code"},
		"code_challenge_methods_supported":      []string{"S256"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{i.keySet().Keys[0].Algorithm},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
	})
}

// serveToken is the token endpoint (RFC 6749 sections 4.1.3 and 4.4).
func (i *Issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	fail := func(status int, code, text string) {
		reply(w, status, map[string]string{"error": code, "error_description": text})
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		fail(http.StatusBadRequest, "invalid_request", "want application/x-www-form-urlencoded")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		fail(http.StatusBadRequest, "invalid_request", "the form cannot be read")
		return
	}
	c, ok := i.authenticate(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="gatebook development issuer"`)
		fail(http.StatusUnauthorized, "invalid_client", "client id or secret is wrong")
		return
	}
	switch r.PostForm.Get("grant_type") {
	case "client_credentials":
	case "authorization_code":
		tok, problem := i.redeem(&c, r.PostForm)
		if problem != "" {
			fail(http.StatusBadRequest, problem, "the code cannot be redeemed")
			return
		}
		// There is nothing that an access token of a person would open.
		reply(w, http.StatusOK, map[string]any{"access_token": rand.Text(), "id_token": tok, "token_type": "Bearer", "expires_in": int(i.lifetime.Seconds())})
		return
	default:
		fail(http.StatusBadRequest, "unsupported_grant_type", "want client_credentials or authorization_code")
		return
	}
	audience := c.Audiences[0]
	for _, name := range []string{"audience", "resource"} { // Auth0's name, RFC 8707's
		if v := r.PostForm.Get(name); v != "" {
			audience = v
		}
	}
	if !slices.Contains(c.Audiences, audience) {
		fail(http.StatusBadRequest, "invalid_target", "the client may not ask for this audience")
		return
	}
	tok, err := i.mintFor(c, audience)
	if err != nil {
		fail(http.StatusInternalServerError, "server_error", "the token cannot be made")
		return
	}
	reply(w, http.StatusOK, map[string]any{"access_token": tok, "token_type": "Bearer", "expires_in": int(i.lifetime.Seconds())})
}

// authenticate takes the client's credentials from the header or the form body,
// never from the query, which ends up in logs. An unknown client costs the same
// comparison as a known one.
func (i *Issuer) authenticate(r *http.Request) (Client, bool) {
	id, pass, basic := r.BasicAuth()
	if basic { // RFC 6749 section 2.3.1: both are form-encoded first
		var errID, errPass error
		id, errID = url.QueryUnescape(id)
		pass, errPass = url.QueryUnescape(pass)
		if errID != nil || errPass != nil {
			return Client{}, false
		}
	} else {
		id, pass = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	c, known := i.clients[id]
	return c, c.Secret.Equal(secret.New(pass)) && known
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the peer left; nobody to tell
}
