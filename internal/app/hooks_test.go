package app

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/testkit/idp"
	"github.com/gatebook/gatebook/internal/testkit/sshkey"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
)

const bridgeKey = "0123456789abcdef0123456789abcdef"

// heldTable makes the table of the requests that are held.
func heldTable(t *testing.T) {
	t.Helper()
	if out, err := database.PSQL("postgres", "CREATE TABLE IF NOT EXISTS held_requests (n int); GRANT ALL ON held_requests TO agent"); err != nil {
		t.Fatal(err, out)
	}
}

// deliver sends a ruling as the bridge "chat" would, with the given key, and returns the answer.
func deliver(t *testing.T, url, id, key, ticket, statement, signature string) (int, string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"ticket": ticket, "ruling": map[string]string{"statement": statement, "signature": signature}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	m := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(m, "%s.%d.%s", id, now, body)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/hooks/chat", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", fmt.Sprint(now))
	r.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(m.Sum(nil)))
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

// TestAP14BridgeDeliversAndDoesNotRule: a bridge brings what a person has signed; its own secret, an agent's key or a key of nobody
// rules on nothing.
func TestAP14BridgeDeliversAndDoesNotRule(t *testing.T) {
	heldTable(t)
	keys := map[string]sshkey.Key{}
	for _, name := range []string{"bot", "ben", "stranger"} {
		keys[name] = sshkey.New(t, "-t", "ed25519")
	}
	p := newPlace(t, fmt.Sprintf(`console: {address: "127.0.0.1:0", issuer: corp, client_secret: "file:secrets/console", insecure_plaintext: true}
inbound: [{name: chat, secret: file:secrets/chat}]
people:
  - {person: bot, identities: ["ci|worker"], groups: [dba], keys: [%q]}
  - {person: ben, groups: [dba], keys: [%q]}
`, keys["bot"].Public, keys["ben"].Public))
	p.write(t, "secrets/console", idp.ConsoleSecret)
	p.write(t, "targets.d/corp.yaml", corp(p))
	p.write(t, "secrets/chat", "whsec_"+base64.StdEncoding.EncodeToString([]byte(bridgeKey)))
	p.write(t, "policy.yaml", "rules: [{name: all, when: 'true', then: allow}, {name: held, when: '\"DELETE\" in action.verbs', then: hold, approvers: {groups: [dba], within: 1m}}]\n")
	g := p.start(t)
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "worker", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	var ran atomic.Bool
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(t.Context(), "DELETE FROM held_requests")
		ran.Store(true)
		done <- err
	}()
	var tk *approval.Ticket
	for until := time.Now().Add(10 * time.Second); tk == nil; time.Sleep(5 * time.Millisecond) {
		if list := g.book.Admin.Desk.List(); len(list) > 0 {
			tk = list[0]
		} else if time.Now().After(until) {
			t.Fatal("no request waits")
		}
	}
	statement := approval.Statement(tk.ID.String(), tk.Digest, approval.Approve, "as said in the chat")
	signed := func(name string) string { return keys[name].Sign(t, approval.SSHNamespace, statement) }
	for i, tt := range []struct {
		name, key, ticket, statement, signature string
		status                                  int
		says                                    string
	}{
		{"no proof of a person", bridgeKey, tk.ID.String(), statement, "", 422, ""},
		{"a person who is not mapped", bridgeKey, tk.ID.String(), statement, signed("stranger"), 422, "is nobody's"},
		{"the agent's own key", bridgeKey, tk.ID.String(), statement, signed("bot"), 422, "who is behind a request cannot rule on it"},
		{"another text than the person signed", bridgeKey, tk.ID.String(), strings.Replace(statement, "as said", "as they said", 1), signed("ben"), 422, "another text"},
		{"another ticket", bridgeKey, "k7q2m7xdsv4hplfn", statement, signed("ben"), 422, "about ticket"},
		{"without the bridge's secret", strings.Repeat("x", 32), tk.ID.String(), statement, signed("ben"), 401, "signature"},
	} {
		status, text := deliver(t, g.ConsoleURL(), fmt.Sprint("m", i), tt.key, tt.ticket, tt.statement, tt.signature)
		if status != tt.status || !strings.Contains(text, tt.says) {
			t.Errorf("%s: %d %s", tt.name, status, text)
		}
		if state, _ := tk.State(); state != approval.Open || ran.Load() {
			t.Fatalf("%s: the ticket is %s", tt.name, state)
		}
	}
	if status, text := deliver(t, g.ConsoleURL(), "good", bridgeKey, tk.ID.String(), statement, signed("ben")); status != http.StatusNoContent {
		t.Errorf("a person's own: %d %s", status, text)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if rows := strings.Join(g.rows(t, "SELECT who, how, detail FROM admin WHERE action = 'ticket-rule'"), "\n"); !strings.Contains(rows, `"chat","webhook"`) || !strings.Contains(rows, "ben") {
		t.Errorf("recorded: %s", rows)
	}
}

// TestAlertIsNotLost: an alert that a webhook does not take is an entry of its own by the time the gateway has stopped, in the log
// and in the metrics.
func TestAlertIsNotLost(t *testing.T) {
	heldTable(t)
	keys := map[string]sshkey.Key{"dora": sshkey.New(t, "-t", "ed25519")}
	p := newPlace(t, fmt.Sprintf(`webhooks: [{name: pager, url: "http://127.0.0.1:1/canary-url", secret: file:secrets/pager, allow_loopback: true, insecure_http: true}]
people: [{person: dora, groups: [oncall], keys: [%q]}]
owners: [{principal: "ci|*", person: ana}]
`, keys["dora"].Public))
	p.write(t, "secrets/pager", "whsec_"+base64.StdEncoding.EncodeToString([]byte(bridgeKey)))
	p.write(t, "policy.yaml", "rules: [{name: all, when: 'true', then: allow}, {name: held, when: '\"DELETE\" in action.verbs', then: hold, approvers: {groups: [dba], break_glass: [oncall]}}]\n")
	g := p.start(t)
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "worker", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(t.Context(), "DELETE FROM held_requests")
		done <- err
	}()
	for until := time.Now().Add(10 * time.Second); len(g.book.Admin.Desk.List()) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("no request waits")
		}
	}
	tk := g.book.Admin.Desk.List()[0]
	if _, err := g.book.Admin.Desk.Rule(t.Context(), tk.ID, tk.Digest, approval.Ruling{
		Person: approval.Person{Name: "dora", Groups: []string{"oncall"}, Identity: "x"}, Verdict: approval.BreakGlass, Reason: "the shop is down",
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	res, err := http.Get("http://" + g.OpsAddress() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(text), `gatebook_alerts_total{what="break-glass"} 1`) || !strings.Contains(string(text), `gatebook_webhook_deliveries_total{hook="pager",result="delivered"} 0`) {
		t.Errorf("%v: %s", err, text)
	}
	_ = c.Close(t.Context())
	g.end(t)
	if log := g.log.String(); !strings.Contains(log, `"level":"WARN","msg":"alert","what":"break-glass"`) || strings.Contains(log, "canary-url") {
		t.Errorf("%s", log)
	}
	g = p.start(t)
	rows := strings.Join(g.rows(t, "SELECT what, person, text FROM alerts ORDER BY first_entry"), "\n")
	if !strings.Contains(rows, `"break-glass","dora"`) || !strings.Contains(rows, `"webhook-failed","dora"`) || !strings.Contains(rows, "not delivered to the webhook pager") {
		t.Errorf("%s", rows)
	}
}

// TestSuspendedSurvive: whatever operation on a file fails and whenever the machine stops, the file says who was suspended
// before or who is now, and after a success it says who is now.
func TestSuspendedSurvive(t *testing.T) {
	t.Parallel()
	const dir = "/data"
	one, two := []enforce.Suspension{{Principal: "ci|a", Reason: "r"}}, []enforce.Suspension{{Principal: "ci|a", Reason: "r"}, {Principal: "ci|b", Reason: "r"}}
	same := func(a, b []enforce.Suspension) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
	for seed := range uint64(200) {
		disk := crashfs.New(nil, seed)
		if err := errors.Join(disk.MkdirAll(dir), disk.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		if err := (&suspensions{fs: disk, dir: dir}).write(one); err != nil {
			t.Fatal(err)
		}
		disk = disk.Crash(seed)
		if got, err := readSuspended(disk, dir); err != nil || !same(got, one) {
			t.Fatalf("seed %d: %v, %v", seed, got, err)
		}
		faulty := faultfs.New(disk)
		faulty.FailAt(int(seed/4)%12, faultfs.Kinds()[seed%4])
		err := (&suspensions{fs: faulty, dir: dir}).write(two)
		disk = disk.Crash(seed + 1)
		got, readErr := readSuspended(disk, dir)
		if readErr != nil || !same(got, two) && (err == nil || !same(got, one)) {
			t.Fatalf("seed %d, %v: %v, %v", seed, err, got, readErr)
		}
	}
}

// TestSuspendedDamaged: a gateway that cannot read who is suspended does not start.
func TestSuspendedDamaged(t *testing.T) {
	p := newPlace(t, "")
	for _, text := range []string{"", "{", `{"format":2}`, `{"format":1,"suspended":[],"more":1}`, "null", "[]"} {
		if err := os.WriteFile(filepath.Join(p.dir, "data", suspendedName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.tryStart(t); err == nil || !strings.Contains(err.Error(), "which principals are suspended") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
