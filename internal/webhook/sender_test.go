package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/netguard"
	"github.com/gatebook/gatebook/internal/secret"
)

var testKey = []byte("0123456789abcdef0123456789abcdef")

// keyFile writes a key as a secret and returns a reference to it.
func keyFile(t *testing.T, key []byte) secret.Ref {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("whsec_"+base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ref, err := secret.ParseRef("file:"+path, "/")
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// receiver is a server that keeps what it gets and answers with the statuses it is given, then with 204.
type receiver struct {
	mu       sync.Mutex
	statuses []int
	got      []*http.Request
	bodies   []string
	came     chan struct{}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got, r.bodies = append(r.got, req), append(r.bodies, string(body))
	status := http.StatusNoContent
	if len(r.statuses) > 0 {
		status, r.statuses = r.statuses[0], r.statuses[1:]
	}
	if status == http.StatusFound {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
	r.came <- struct{}{}
}

func (r *receiver) wait(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-r.came:
		case <-time.After(15 * time.Second):
			t.Fatal("nothing came")
		}
	}
}

// run starts a sender and returns what stops it.
func run(t *testing.T, s *Sender) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			<-done
		})
	}
	t.Cleanup(stop)
	return stop
}

// losses keeps the alerts about lost alerts.
type losses struct {
	mu   sync.Mutex
	list []*evidence.Alert
}

func (l *losses) add(a *evidence.Alert) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, a)
}

func plain(url string, ref secret.Ref) Hook {
	return Hook{Name: "chat", URL: url, Secret: ref, Allow: netguard.Allow{Loopback: true}, Tickets: true, Alerts: true}
}

func linkTo(page string) func(string) string {
	if page == "" {
		return nil
	}
	return func(ticket string) string { return strings.TrimSuffix(page, "/") + "/tickets/" + ticket }
}

func newTestSender(l *losses, page string, hooks ...Hook) *Sender {
	return NewSender(Options{Hooks: hooks, Source: "gate.test/book", Link: linkTo(page), Lost: l.add, Log: slog.New(slog.DiscardHandler)})
}

// TestDelivery: a message is a signed CloudEvent, tried until it is taken, with the same ID and body and a new timestamp.
func TestDelivery(t *testing.T) {
	t.Parallel()
	r := &receiver{statuses: []int{500, http.StatusFound}, came: make(chan struct{}, 100)}
	srv := httptest.NewServer(r)
	defer srv.Close()
	l := &losses{}
	s := newTestSender(l, "https://gate.test/", plain(srv.URL+"/in?x=1", keyFile(t, testKey)))
	stop := run(t, s)
	s.Ticket(TicketOpened, Ticket{Ticket: "k7q2m9xdsv4hplfn", State: "open", Principal: "ci|bot", Target: "db", Rules: []string{"deletes"}, Requester: "ana"})
	r.wait(t, 3)
	stop()
	if got := s.Results(); got[Result{"chat", Delivered}] != 1 || got[Result{"chat", Retried}] != 2 || got[Result{"chat", Failed}] != 0 {
		t.Errorf("%v", got)
	}
	for i, req := range r.got {
		if req.URL.Path != "/in" || req.Method != http.MethodPost || r.bodies[i] != r.bodies[0] || req.Header.Get("webhook-id") != r.got[0].Header.Get("webhook-id") {
			t.Errorf("attempt %d: %s %s %s", i, req.Method, req.URL, r.bodies[i])
		}
		said, err := parseHeaders(req.Header)
		if err != nil || !said.fresh(time.Now()) || !said.verify(testKey, []byte(r.bodies[i])) {
			t.Errorf("attempt %d: %v %v", i, err, req.Header)
		}
	}
	var e struct {
		SpecVersion, ID, Source, Type, Time, DataContentType string
		Data                                                 map[string]any
	}
	if err := json.Unmarshal([]byte(r.bodies[0]), &e); err != nil {
		t.Fatal(err)
	}
	if e.SpecVersion != "1.0" || e.Source != "gate.test/book" || e.Type != "dev.gatebook.ticket.opened" || e.ID != r.got[0].Header.Get("webhook-id") || e.DataContentType != "application/json" {
		t.Errorf("%+v", e)
	}
	if e.Data["link"] != "https://gate.test/tickets/k7q2m9xdsv4hplfn" || e.Data["state"] != "open" || e.Data["requester"] != "ana" {
		t.Errorf("%v", e.Data)
	}
	if len(l.list) != 0 {
		t.Errorf("lost: %v", l.list)
	}
}

// TestAP25NoData: what a message about a ticket can carry is a closed list; no text, parameter or reason is in it.
func TestAP25NoData(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(Ticket{Link: "l", Requester: "r"})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for name := range fields {
		if !strings.Contains(" ticket state principal target rules requester expires link ", " "+name+" ") {
			t.Errorf("a message has the field %q", name)
		}
	}
}

// TestTakes: a hook gets what it takes.
func TestTakes(t *testing.T) {
	t.Parallel()
	r := &receiver{came: make(chan struct{}, 100)}
	srv := httptest.NewServer(r)
	defer srv.Close()
	ref := keyFile(t, testKey)
	tickets, alerts := plain(srv.URL+"/tickets", ref), plain(srv.URL+"/alerts", ref)
	tickets.Alerts, alerts.Tickets = false, false
	s := newTestSender(&losses{}, "", tickets, alerts)
	run(t, s)
	s.Ticket(TicketOpened, Ticket{Ticket: "one"})
	s.Alert(&evidence.Alert{Alert: "two", What: evidence.AlertBreakGlass})
	r.wait(t, 2)
	for i, req := range r.got {
		if want := map[string]string{"/tickets": `"ticket":"one"`, "/alerts": `"alert":"two"`}[req.URL.Path]; !strings.Contains(r.bodies[i], want) || strings.Contains(r.bodies[i], `"link"`) {
			t.Errorf("%s got %s", req.URL.Path, r.bodies[i])
		}
	}
}

// TestUndelivered: whatever is wrong on the way, an alert that does not arrive is recorded, and the way says nothing of the URL.
func TestUndelivered(t *testing.T) {
	t.Parallel()
	r := &receiver{came: make(chan struct{}, 1000)}
	srv, secure := httptest.NewServer(r), httptest.NewTLSServer(r)
	t.Cleanup(srv.Close)
	t.Cleanup(secure.Close)
	ref := keyFile(t, testKey)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := secret.ParseFile("file:"+ca, "/")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		hook func(*Hook)
		want string // "" if it arrives
	}{
		{"as it is", func(*Hook) {}, ""},
		{"TLS that leads to the CA", func(h *Hook) { h.URL, h.CA = secure.URL, file }, ""},
		{"TLS of a stranger", func(h *Hook) { h.URL = secure.URL }, "certificate"},
		{"loopback", func(h *Hook) { h.Allow.Loopback = false }, "loopback"},
		{"private", func(h *Hook) { h.URL = "http://10.255.255.1/canary-path" }, "private"},
		{"link-local", func(h *Hook) { h.URL, h.Allow.Private = "http://169.254.169.254/canary-path", true }, "link-local"},
		{"nobody listens", func(h *Hook) { h.URL = "http://127.0.0.1:1/canary-path" }, "refused"},
		{"no key", func(h *Hook) { h.Secret = keyFile(t, testKey[:23]) }, "whsec_"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := &losses{}
			h := plain(srv.URL+"/canary-path", ref)
			tt.hook(&h)
			s := newTestSender(l, "", h)
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // one attempt
			s.Alert(&evidence.Alert{Alert: "one", What: evidence.AlertBreakGlass, Ticket: "k7q2m9xdsv4hplfn"})
			s.Ticket(TicketOpened, Ticket{})
			s.Run(ctx)
			switch {
			case tt.want == "" && (len(l.list) != 0 || s.Results()[Result{"chat", Delivered}] != 2):
				t.Errorf("%v, %v", l.list, s.Results())
			case tt.want != "" && (len(l.list) != 1 || s.Results()[Result{"chat", Failed}] != 2):
				t.Errorf("%v, %v", l.list, s.Results())
			case tt.want != "":
				if a := l.list[0]; a.What != evidence.AlertWebhookFailed || !strings.Contains(a.Text, tt.want) || strings.Contains(a.Text, "canary") || a.Ticket == "" {
					t.Errorf("%+v", a)
				}
			}
		})
	}
}

// TestQueueIsFull: whoever sends is never blocked, and what does not fit is counted; of alerts, recorded.
func TestQueueIsFull(t *testing.T) {
	t.Parallel()
	l := &losses{}
	s := newTestSender(l, "", plain("http://127.0.0.1:1/", keyFile(t, testKey)))
	for range queued {
		s.Ticket(TicketOpened, Ticket{})
	}
	s.Ticket(TicketOpened, Ticket{})
	s.Alert(&evidence.Alert{Alert: "one", What: evidence.AlertBreakGlass})
	s.Alert(&evidence.Alert{Alert: "two", What: evidence.AlertWebhookFailed}) // itself about a loss
	s.losses.Wait()
	if got := s.Results()[Result{"chat", Dropped}]; got != 3 || len(l.list) != 1 || !strings.Contains(l.list[0].Text, "one") {
		t.Errorf("%d dropped, %v", got, l.list)
	}
}

// TestSlowReceiver: an answer that does not come ends the attempt.
func TestSlowReceiver(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { <-over }))
	defer srv.Close()
	defer close(over)
	h := plain(srv.URL, keyFile(t, testKey))
	m, err := newMessage("s", Alerted, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := h.post(t.Context(), m); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*answerTime {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// TestVector is the example of the Standard Webhooks specification's reference libraries.
func TestVector(t *testing.T) {
	t.Parallel()
	key, err := parseKey(secret.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
	if err != nil {
		t.Fatal(err)
	}
	if got := sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`)); got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("%s", got)
	}
	for _, bad := range []string{"", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_!!", "whsec_" + base64.StdEncoding.EncodeToString(testKey[:23]),
		"whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("x"), 65))} {
		if _, err := parseKey(secret.New(bad)); err == nil || bad != "" && len(bad) > 10 && strings.Contains(err.Error(), bad[6:]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
