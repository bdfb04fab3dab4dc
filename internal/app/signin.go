package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/console"
	"github.com/gatebook/gatebook/internal/identity"
	"github.com/gatebook/gatebook/internal/secret"
)

// signInTime is how long a person may take at the issuer.
const signInTime = 10 * time.Minute

// SignIn lets a person sign in from a terminal, at the issuer of the console: show is given the address to open in a browser on
// this machine, which comes back to a loopback port (RFC 8252 section 7.3). It returns the ID token, made for nonce.
func SignIn(ctx context.Context, c *config.Loaded, r identity.Request, show func(address string)) (secret.String, error) {
	if c.Console == nil {
		return secret.String{}, errors.New("nobody can sign in: the configuration has no console; rule with an SSH key (--key)")
	}
	ctx, cancel := context.WithTimeout(ctx, signInTime)
	defer cancel()
	v, err := verifier(ctx, c)
	if err != nil {
		return secret.String{}, err
	}
	defer v.Close()
	client, err := consoleClient(c)
	if err != nil {
		return secret.String{}, err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return secret.String{}, err
	}
	client.Redirect = "http://" + ln.Addr().String() + console.CallbackPath
	r.State, r.Verifier = identity.NewCodeVerifier(), identity.NewCodeVerifier()
	codes := make(chan string, 1)
	srv := &http.Server{Handler: comeBack(r.State, v.IssuerURL(client.Issuer), codes), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(ln) // it ends when it is closed
	}()
	defer func() {
		_ = srv.Close()
		<-served
	}()
	address, err := v.AuthURL(ctx, &client, &r)
	if err != nil {
		return secret.String{}, err
	}
	show(address)
	select {
	case code := <-codes:
		_, token, err := v.Redeem(ctx, &client, &r, code)
		if err != nil {
			err = fmt.Errorf("the sign-in does not count: %w", errors.Join(err, errors.Unwrap(err)))
		}
		return token, err
	case <-ctx.Done():
		return secret.String{}, fmt.Errorf("nobody signed in: %w", context.Cause(ctx))
	}
}

// comeBack takes the browser that comes back from the issuer with the state that it was sent with.
func comeBack(state, issuer string, codes chan<- string) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET "+console.CallbackPath, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch iss := q.Get("iss"); {
		case q.Get("state") != state || iss != "" && iss != issuer:
			http.Error(w, "This is not the sign-in that waits.", http.StatusBadRequest)
			return
		case q.Get("code") == "":
			http.Error(w, "The issuer did not sign you in. Look at the terminal.", http.StatusBadRequest)
			return
		}
		select {
		case codes <- q.Get("code"):
		default:
		}
		_, _ = w.Write([]byte("Signed in. Go on in the terminal.\n")) // the browser left; nobody to tell
	})
	return m
}
