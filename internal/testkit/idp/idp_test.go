package idp

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/internal/devissuer"
	"github.com/gatebook/gatebook/internal/secret"
)

func get(t *testing.T, address string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
	return resp.StatusCode, string(b) + resp.Header.Get("Location")
}

func TestModes(t *testing.T) {
	t.Parallel()
	s := Start(t)
	s.RedirectTo("https://elsewhere.example")
	for mode, want := range map[Mode]struct {
		status int
		text   string
	}{Good: {200, `"kid"`}, Down: {503, ""}, Redirect: {302, "https://elsewhere.example/keys"}, Garbage: {200, "<html>"}, Huge: {200, `{"keys":[ `}} {
		s.SetMode(mode)
		status, text := get(t, s.URL()+"/keys")
		if status != want.status || !strings.Contains(text, want.text) {
			t.Errorf("mode %d: got %d %.60q, want %d with %q", mode, status, text, want.status, want.text)
		}
	}
	if s.Fetches() != 5 {
		t.Errorf("got %d fetches, want 5", s.Fetches())
	}
}

func TestKeyIDIsThePublishedOne(t *testing.T) {
	t.Parallel()
	s := Start(t)
	for range 2 {
		if _, keys := get(t, s.URL()+"/keys"); !strings.Contains(keys, s.KeyID()) {
			t.Errorf("key id %s is not in %s", s.KeyID(), keys)
		}
		s.RotateKey(t)
	}
}

func TestClientsGetTokens(t *testing.T) {
	t.Parallel()
	s := Start(t, devissuer.Client{ID: "bot", Secret: secret.New("s"), Audiences: []string{Audience}})
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"bot"}, "client_secret": {"s"}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Close = true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("got %d", resp.StatusCode)
	}
}
