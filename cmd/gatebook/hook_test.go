package main_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

const hookKey = "0123456789abcdef0123456789abcdef"

// hookServer takes messages and keeps those whose signatures hold.
type hookServer struct {
	*httptest.Server
	mu   sync.Mutex
	list []string
	bad  []string
}

func (h *hookServer) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	m := hmac.New(sha256.New, []byte(hookKey))
	fmt.Fprintf(m, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if want := "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil)); err != nil || r.Header.Get("webhook-signature") != want {
		h.bad = append(h.bad, fmt.Sprint(err, r.Header))
		return
	}
	h.list = append(h.list, string(body))
}

func (h *hookServer) got(want *regexp.Regexp) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.list {
		if want.MatchString(m) {
			return true
		}
	}
	return false
}

func scriptHook(ts *testscript.TestScript, neg bool, args []string) {
	g := gateOf(ts)
	switch {
	case len(args) == 1 && args[0] == "start" && g.hook == nil && !neg:
		g.hook = &hookServer{}
		g.hook.Server = httptest.NewServer(g.hook)
		ts.Check(os.WriteFile(filepath.Join(g.dir, "secrets", "hook"), []byte("whsec_"+base64.StdEncoding.EncodeToString([]byte(hookKey))), 0o600))
		path := filepath.Join(g.dir, "gatebook.yaml")
		text, err := os.ReadFile(path)
		ts.Check(err)
		ts.Check(os.WriteFile(path, fmt.Appendf(text, "webhooks: [{name: test, url: %q, secret: file:secrets/hook, allow_loopback: true, insecure_http: true}]\n", g.hook.URL), 0o600))
	case len(args) == 2 && args[0] == "got" && g.hook != nil:
		want := regexp.MustCompile(args[1])
		found := g.hook.got(want)
		for until := time.Now().Add(10 * time.Second); !neg && !found && time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
			found = g.hook.got(want)
		}
		g.hook.mu.Lock()
		defer g.hook.mu.Unlock()
		if found == neg || len(g.hook.bad) > 0 {
			ts.Fatalf("hook got %s: %v; taken:\n%s\nnot signed as it must be:\n%s", want, found, strings.Join(g.hook.list, "\n"), strings.Join(g.hook.bad, "\n"))
		}
	default:
		ts.Fatalf("usage: hook start, or hook got PATTERN after it")
	}
}

// appended adds to a file of the gateway.
func (g *scriptGate) appended(ts *testscript.TestScript, name, text string) {
	f, err := os.OpenFile(filepath.Join(g.dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	ts.Check(err)
	_, err = f.WriteString(text)
	ts.Check(errors.Join(err, f.Close()))
}

func scriptBridge(ts *testscript.TestScript, _ bool, _ []string) {
	g := gateOf(ts)
	g.appended(ts, "secrets/bridge", "whsec_"+base64.StdEncoding.EncodeToString([]byte(hookKey)))
	g.appended(ts, "gatebook.yaml", "inbound: [{name: chat, secret: file:secrets/bridge}]\n")
}

func scriptDeliver(ts *testscript.TestScript, neg bool, args []string) {
	m := pageURL.FindStringSubmatch(gateOf(ts).log.String())
	if len(args) < 3 || m == nil {
		ts.Fatalf("usage: deliver ID FILE SIGNATURE [wrong|old], at a gateway with a console")
	}
	key, at := hookKey, time.Now()
	switch strings.Join(args[3:], " ") {
	case "wrong":
		key = strings.ToUpper(hookKey)
	case "old":
		at = at.Add(-time.Hour)
	}
	body, err := json.Marshal(map[string]any{
		"ticket": newestTicket(ts), "ruling": map[string]string{"statement": ts.ReadFile(args[1]), "signature": ts.ReadFile(args[2])},
	})
	ts.Check(err)
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s.%d.%s", args[0], at.Unix(), body)
	r, err := http.NewRequest(http.MethodPost, m[1]+"/v1/hooks/chat", bytes.NewReader(body))
	ts.Check(err)
	r.Header.Set("webhook-id", args[0])
	r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(r)
	ts.Check(err)
	text, err := io.ReadAll(resp.Body)
	ts.Check(errors.Join(err, resp.Body.Close()))
	fmt.Fprintln(ts.Stdout(), resp.StatusCode, string(text))
	if neg == (resp.StatusCode == http.StatusNoContent) {
		ts.Fatalf("deliver %v: %d %s", args, resp.StatusCode, text)
	}
}

// scriptStop is the operator's stop button: what it stops is over within two seconds, as the agent sees it.
func scriptStop(ts *testscript.TestScript, neg bool, args []string) {
	g := gateOf(ts)
	if neg || len(args) < 2 || g.behind == nil {
		ts.Fatalf("usage: halt session|principal ARG..., with a psql in the background")
	}
	config := filepath.Join(g.dir, "gatebook.yaml")
	command := append([]string{"-c", config, "principal", "suspend"}, args[1:]...)
	if args[0] == "session" {
		out, err := exec.Command("gatebook", "-c", config, "session", "list", "--json").Output()
		ts.Check(err)
		var list []struct{ ID string }
		ts.Check(json.Unmarshal(out, &list))
		if len(list) != 1 {
			ts.Fatalf("%d sessions are open", len(list))
		}
		command = append([]string{"-c", config, "session", "end", list[0].ID}, args[1:]...)
	}
	began := time.Now()
	out, err := exec.Command("gatebook", command...).CombinedOutput()
	fmt.Fprint(ts.Stdout(), string(out))
	ts.Check(err)
	_ = g.behind.Wait()
	took := time.Since(began)
	g.behind = nil
	fmt.Fprint(ts.Stdout(), g.out[0].String())
	fmt.Fprint(ts.Stderr(), g.out[1].String())
	if took > 2*time.Second {
		ts.Fatalf("it took %v", took)
	}
}

// TestWebhooksPage runs the check of docs/webhooks.md over a good message, altered ones and an old one.
func TestWebhooksPage(t *testing.T) {
	blocks := shellBlock.FindAllStringSubmatch(read(t, "../../docs/webhooks.md"), -1)
	if len(blocks) != 1 {
		t.Fatalf("the page has %d command blocks", len(blocks))
	}
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte(hookKey))
	sign := func(at int64, body string) string {
		m := hmac.New(sha256.New, []byte(hookKey))
		fmt.Fprintf(m, "msg_1.%d.%s", at, body)
		return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
	}
	const body = "{\"type\":\"dev.gatebook.alert\"}\n"
	now := time.Now().Unix()
	for _, tt := range []struct {
		name, secret, signature, body string
		at                            int64
		good                          bool
	}{
		{"good", secret, sign(now, body), body, now, true},
		{"beside another signature", secret, "v1,AAAA " + sign(now, body), body, now, true},
		{"another body", secret, sign(now, body), strings.TrimSpace(body), now, false},
		{"another timestamp", secret, sign(now, body), body, now + 1, false},
		{"old", secret, sign(now-400, body), body, now - 400, false},
		{"another secret", "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.ToUpper(hookKey))), sign(now, body), body, now, false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "body"), []byte(tt.body), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, shell := range []string{"dash", "bash"} {
			cmd := exec.Command(shell, "-euc", blocks[0][1])
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "secret="+tt.secret, "id=msg_1", fmt.Sprint("timestamp=", tt.at), "signature="+tt.signature)
			out, err := cmd.CombinedOutput()
			if (err == nil && strings.Contains(string(out), "of now")) != tt.good {
				t.Errorf("%s, %s: %v, %s", tt.name, shell, err, out)
			}
		}
	}
}
