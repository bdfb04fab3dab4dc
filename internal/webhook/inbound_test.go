package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const goodBody = `{"ticket":"k7q2m9xdsv4hplfn","ruling":{"statement":"s","signature":"x"}}`

// bridge is a receiver with two hooks, chat and other, and a counter of what was ruled.
type bridge struct {
	*Receiver
	url   string
	ruled atomic.Int32
	err   error
}

var otherKey = bytes.Repeat([]byte("o"), 32)

func startBridge(t *testing.T) *bridge {
	t.Helper()
	b := &bridge{}
	b.Receiver = NewReceiver([]Bridge{{"chat", keyFile(t, testKey)}, {"other", keyFile(t, otherKey)}},
		func(_ context.Context, name, ticket string, ruling json.RawMessage) error {
			b.ruled.Add(1)
			if name != "chat" || ticket != "k7q2m9xdsv4hplfn" || string(ruling) != `{"statement":"s","signature":"x"}` {
				return fmt.Errorf("%s, %s, %s", name, ticket, ruling)
			}
			return b.err
		})
	srv := httptest.NewServer(b)
	t.Cleanup(srv.Close)
	b.url = srv.URL
	return b
}

// request makes a good message.
func (b *bridge) request(t *testing.T, id, body string, at time.Time) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/v1/hooks/chat", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("webhook-signature", sign(testKey, id, at, []byte(body)))
	return r
}

func (b *bridge) do(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// TestAP14Messages: only a message of this hook, of now, that did not come before, is taken.
func TestAP14Messages(t *testing.T) {
	t.Parallel()
	now := time.Now // of each message
	resign := func(r *http.Request, key []byte, id string, at time.Time) {
		r.Header.Set("webhook-id", id)
		r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
		r.Header.Set("webhook-signature", sign(key, id, at, []byte(goodBody)))
	}
	for _, tt := range []struct {
		name string
		edit func(r *http.Request)
		want int
		says string
	}{
		{"good", func(*http.Request) {}, 204, ""},
		{"one good signature among others", func(r *http.Request) {
			r.Header.Set("webhook-signature", "v1,AAAA v1a,x "+r.Header.Get("webhook-signature"))
		}, 204, ""},
		{"no signature", func(r *http.Request) { r.Header.Del("webhook-signature") }, 401, "headers"},
		{"no ID", func(r *http.Request) { r.Header.Del("webhook-id") }, 401, "headers"},
		{"two IDs", func(r *http.Request) { r.Header.Add("webhook-id", "b") }, 401, "headers"},
		{"bad signature", func(r *http.Request) { r.Header.Set("webhook-signature", "v1,"+strings.Repeat("A", 43)+"=") }, 401, "signature"},
		{"signature without its version", func(r *http.Request) {
			r.Header.Set("webhook-signature", strings.TrimPrefix(r.Header.Get("webhook-signature"), "v1,"))
		}, 401, "signature"},
		{"old", func(r *http.Request) { resign(r, testKey, "a", now().Add(-slack-2*time.Second)) }, 401, "clock"},
		{"future", func(r *http.Request) { resign(r, testKey, "a", now().Add(slack+5*time.Second)) }, 401, "clock"},
		{"old enough", func(r *http.Request) { resign(r, testKey, "a", now().Add(-slack+5*time.Second)) }, 204, ""},
		{"timestamp changed", func(r *http.Request) { r.Header.Set("webhook-timestamp", strconv.FormatInt(now().Unix()+1, 10)) }, 401, "signature"},
		{"ID changed", func(r *http.Request) { r.Header.Set("webhook-id", "b") }, 401, "signature"},
		{"timestamp in another form", func(r *http.Request) { r.Header.Set("webhook-timestamp", "0"+strconv.FormatInt(now().Unix(), 10)) }, 401, "headers"},
		{"another hook's secret", func(r *http.Request) { resign(r, otherKey, "a", now()) }, 401, "signature"},
		{"at another hook", func(r *http.Request) { r.URL.Path = "/v1/hooks/other" }, 401, "signature"},
		{"a hook that does not exist", func(r *http.Request) { r.URL.Path = "/v1/hooks/nobody" }, 401, "signature"},
		{"body changed", func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(strings.Replace(goodBody, "k7q2", "k7q3", 1)))
		}, 401, "signature"},
		{"GET", func(r *http.Request) { r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0 }, 405, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBridge(t)
			r := b.request(t, "a", goodBody, now())
			tt.edit(r)
			status, text := b.do(t, r)
			if status != tt.want || !strings.Contains(text, tt.says) || (b.ruled.Load() == 1) != (tt.want == 204) {
				t.Errorf("%d %s, ruled %d times", status, text, b.ruled.Load())
			}
		})
	}
}

// TestAP14Replay: a message counts once, also if its ruling was refused; one that was not signed does not use its ID up.
func TestAP14Replay(t *testing.T) {
	t.Parallel()
	b := startBridge(t)
	b.err = errors.New("who is behind a request cannot rule on it")
	now := time.Now()
	bad := b.request(t, "a", goodBody, now)
	bad.Header.Set("webhook-signature", sign(otherKey, "a", now, []byte(goodBody)))
	if status, _ := b.do(t, bad); status != 401 {
		t.Errorf("%d", status)
	}
	if status, text := b.do(t, b.request(t, "a", goodBody, now)); status != 422 || !strings.Contains(text, "who is behind a request") {
		t.Errorf("%d %s", status, text)
	}
	b.err = nil
	for _, at := range []time.Time{now, now.Add(time.Second)} {
		if status, text := b.do(t, b.request(t, "a", goodBody, at)); status != 409 || !strings.Contains(text, "before") {
			t.Errorf("%d %s", status, text)
		}
	}
	if status, _ := b.do(t, b.request(t, "b", goodBody, now)); status != 204 {
		t.Errorf("another message: %d", status)
	}
	if b.ruled.Load() != 2 {
		t.Errorf("ruled %d times", b.ruled.Load())
	}
}

// TestAP14Memory: what is remembered is bounded, and is forgotten only when it could not come again.
func TestAP14Memory(t *testing.T) {
	t.Parallel()
	r := NewReceiver(nil, nil)
	now := time.Now()
	for i := range maxSeen {
		if !r.first(strconv.Itoa(i), now) {
			t.Fatal(i)
		}
	}
	if r.first("more", now.Add(2*slack)) {
		t.Error("more than the bound is taken while what came could come again")
	}
	if !r.first("more", now.Add(remember+time.Second)) || len(r.seen) != 1 {
		t.Errorf("%d are remembered", len(r.seen))
	}
}

// TestAP14Bodies: a body that is too large, too slow or not a delivery is refused, and rules on nothing.
func TestAP14Bodies(t *testing.T) {
	t.Parallel()
	b := startBridge(t)
	for i, body := range []string{"", "{}", `{"ticket":"a"}`, `{"ruling":{}}`, goodBody + "{}", `{"ticket":"a","ruling":{},"person":"ben"}`, "[]", "null"} {
		if status, text := b.do(t, b.request(t, strconv.Itoa(i), body, time.Now())); status != 400 {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	large := strings.Repeat(" ", maxBody) + goodBody
	if status, _ := b.do(t, b.request(t, "large", large, time.Now())); status != 413 {
		t.Errorf("large: %d", status)
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	began := time.Now()
	if _, err := fmt.Fprintf(c, "POST /v1/hooks/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(3 * bodyTime))
	answer, err := io.ReadAll(c)
	if err != nil || time.Since(began) > 2*bodyTime || !strings.Contains(string(answer), "400") {
		t.Errorf("slow: %v after %v: %s", err, time.Since(began), answer)
	}
	if b.ruled.Load() != 0 {
		t.Error("something was ruled on")
	}
}

// FuzzHeaders: headers are read in one form, and what they sign is never another message.
func FuzzHeaders(f *testing.F) {
	now := time.Unix(1614265330, 0)
	f.Add("msg_1", "1614265330", sign(testKey, "msg_1", now, []byte("{}")), "{}")
	f.Add("a", "1", "v1,AAAA v1,BBBB", "")
	f.Add("a.1614265330", "1614265330", "v1,", ".")
	f.Fuzz(func(t *testing.T, id, at, signature, body string) {
		h := http.Header{}
		h.Set(headerID, id)
		h.Set(headerTimestamp, at)
		h.Set(headerSignature, signature)
		s, err := parseHeaders(h)
		if err != nil {
			return
		}
		if s.id != id || strconv.FormatInt(s.at.Unix(), 10) != at || strings.Contains(s.id, ".") || len(s.signatures) > maxSignatures {
			t.Fatalf("%q %q %q: %+v", id, at, signature, s)
		}
		if want := sign(testKey, id, s.at, []byte(body)); s.verify(testKey, []byte(body)) != strings.Contains(" "+signature+" ", " "+want+" ") {
			t.Fatalf("%q: verified is %v", signature, s.verify(testKey, []byte(body)))
		}
	})
}
