package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/ledger"
	"github.com/gatebook/gatebook/internal/seal"
	"github.com/gatebook/gatebook/internal/vfs"
)

// fakeIndex fails in the midst of a query.
type fakeIndex struct{ err error }

func (f *fakeIndex) Query(_ context.Context, _ string, row func([]string, []any) error) error {
	return errors.Join(row([]string{"a"}, nil), row(nil, []any{1}), f.err)
}
func (*fakeIndex) Span(context.Context, evidence.ID) (uint64, uint64, error) {
	return 0, 0, ErrNoSession
}
func (*fakeIndex) Rebuild(context.Context, func(uint64)) error { return nil }
func (*fakeIndex) CaughtUp(context.Context, uint64) error      { return nil }

func newService(t *testing.T) *Service {
	t.Helper()
	dir, kek := t.TempDir(), seal.NewKEK()
	skey, vkey, err := note.GenerateKey(rand.Reader, "gate.test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.Create(vfs.OS(), dir, "gate.test", kek); err != nil {
		t.Fatal(err)
	}
	o := ledger.Options{KEK: kek, Signer: signer, PublicKeys: evidence.Key{Log: vkey}}
	o.Journal.LowWater, o.Journal.Reserve, o.Journal.SegmentBytes = -1, -1, 1<<20
	l, err := ledger.Open(t.Context(), vfs.OS(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.Background(), "test"); err != nil {
			t.Error(err)
		}
	})
	return &Service{Book: l, Index: &fakeIndex{}, SpoolIn: dir, Check: func(context.Context) []Finding { return nil }}
}

// TestHostileRequests: nothing but a well-formed request of a known caller is answered.
func TestHostileRequests(t *testing.T) {
	h := newService(t).Handler()
	for _, test := range []struct {
		name, method, path, body string
		anonymous                bool
		code                     int
	}{
		{"unknown field", "POST", "/v1/query", `{"SQL":"SELECT 1","x":1}`, false, 422},
		{"no JSON", "POST", "/v1/query", `SELECT`, false, 422},
		{"two requests", "POST", "/v1/query", `{"SQL":"a"}{"SQL":"b"}`, false, 422},
		{"huge body", "POST", "/v1/query", `{"SQL":"` + strings.Repeat("x", 2*maxRequest) + `"}`, false, 422},
		{"deep nesting", "POST", "/v1/export", strings.Repeat("[", 100_000), false, 422},
		{"unknown field of an export", "POST", "/v1/export", `{"output":"/etc/passwd"}`, false, 422},
		{"a session id that is none", "GET", "/v1/sessions/..%2f..%2fetc", ``, false, 422},
		{"a session that is not there", "GET", "/v1/sessions/aaaaaaaaaaaaaaab", ``, false, 404},
		{"no gateway runs", "POST", "/v1/reload", `{}`, false, 409},
		{"unknown path", "GET", "/v1/secrets", ``, false, 404},
		{"another method", "DELETE", "/v1/status", ``, false, 405},
		{"status, no caller", "GET", "/v1/status", ``, true, 422},
		{"query, no caller", "POST", "/v1/query", `{"SQL":"SELECT 1"}`, true, 422},
		{"check, no caller", "POST", "/v1/check", `{}`, true, 422},
		{"checkpoint, no caller", "POST", "/v1/checkpoint", `{}`, true, 422},
		{"export, no caller", "POST", "/v1/export", `{}`, true, 422},
		{"reload, no caller", "POST", "/v1/reload", `{}`, true, 422},
	} {
		r := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body))
		if !test.anonymous {
			r = r.WithContext(WithCaller(r.Context(), Self()))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != test.code || strings.Contains(w.Body.String(), "row") {
			t.Errorf("%s: %d, want %d: %.200s", test.name, w.Code, test.code, w.Body)
		}
	}
}

// TestCutStreams: an answer that ends too early is an error for the caller.
func TestCutStreams(t *testing.T) {
	s := newService(t)
	query := func(c *Client) (rows int, err error) {
		err = c.Lines(t.Context(), http.MethodPost, "/v1/query", map[string]string{"SQL": "x"}, func(json.RawMessage) error { rows++; return nil })
		return rows, err
	}
	if rows, err := query(Local(s, Self())); err != nil || rows != 2 {
		t.Errorf("%d rows, %v", rows, err)
	}
	s.Index = &fakeIndex{errors.New("the disk is gone")}
	if rows, err := query(Local(s, Self())); err == nil || !strings.Contains(err.Error(), "the disk is gone") || rows != 2 {
		t.Errorf("%d rows, %v", rows, err)
	}
	for name, answer := range map[string]string{"rows and no end": `{"columns":["a"]}` + "\n", "half a row": `{"colu`, "nothing": ""} {
		c := &Client{http: http.Client{Transport: &local{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, answer)
		}), Self()}}}
		if _, err := query(c); err == nil {
			t.Errorf("%s: no error", name)
		}
		var out bytes.Buffer
		if err := c.Export(t.Context(), ExportRequest{}, func(uint64, uint64) {}, &out); err == nil {
			t.Errorf("%s: an export without an error", name)
		}
	}
	for _, answer := range []string{"package\nPK", "hello\nPK", "progress 1 2\n", "error \"no\"\n"} {
		c := &Client{http: http.Client{Transport: &local{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, answer)
		}), Self()}}}
		if err := c.Export(t.Context(), ExportRequest{}, func(uint64, uint64) {}, io.Discard); err == nil {
			t.Errorf("%q: an export without an error", answer)
		}
	}
}

// TestSocket: only the owner reaches it, one that a crash left behind is
// replaced, and callers are named by the kernel.
func TestSocket(t *testing.T) {
	s := newService(t)
	dir, err := os.MkdirTemp("", "gb") //nolint:usetesting // a short path: the names of sockets are limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), path); err == nil {
		t.Error("somebody answers on a stale socket")
	}
	ctx, cancel := context.WithCancel(context.Background())
	wait, err := s.Serve(ctx, path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var st Status
	if err := c.Call(t.Context(), http.MethodGet, "/v1/status", nil, &st); err != nil || st.Origin != "gate.test" || st.Running {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := c.Lines(t.Context(), http.MethodPost, "/v1/query", map[string]string{"SQL": "SELECT 1"}, func(json.RawMessage) error { return nil }); err != nil {
		t.Error(err)
	}
	// The query is on the record, with who asked.
	sc := s.Book.Scan(0)
	defer func() { _ = sc.Close() }()
	var asked evidence.Admin
	for {
		e, err := sc.Next()
		if err != nil {
			break
		}
		if e.Header.Kind == evidence.KindAdmin {
			_, body, err := sc.Body(&e)
			if err == nil {
				err = evidence.DecodeBody(body, &asked)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	if asked.Action != "query" || asked.UID != os.Getuid() || asked.PID != os.Getpid() || asked.How != "socket" {
		t.Errorf("the record says %+v", asked)
	}
	cancel()
	if err := wait(); err != nil {
		t.Error(err)
	}
}

// TestAP26EstimateIsNoFact: the planner's estimate is never shown without saying what it is, and behind a true count.
func TestAP26EstimateIsNoFact(t *testing.T) {
	t.Parallel()
	count, estimate := int64(3), int64(1_000_000)
	for _, tt := range []struct {
		effect *evidence.Effect
		want   string
	}{
		{nil, ""},
		{&evidence.Effect{Reason: "it is more than one statement"}, "it cannot be computed safely: it is more than one statement"},
		{&evidence.Effect{Computed: true, Count: &count, Relation: "public.orders", Estimate: &estimate},
			"3 rows of public.orders, counted when it was asked for; the planner's estimate, which may be far off, is 1000000 rows"},
		{&evidence.Effect{Computed: true, Estimate: &estimate, Reason: "it has a subquery"},
			"the planner's estimate, which may be far off, is 1000000 rows; not counted: it has a subquery"},
	} {
		if got := EffectText(tt.effect); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}
