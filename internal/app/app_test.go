package app

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/vfs"
)

func (g *gateway) client(t *testing.T) *admin.Client {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); ; {
		c, err := admin.Dial(t.Context(), SocketPath(g.cfg))
		if err == nil {
			return c
		}
		if time.Now().After(until) { // Run makes the socket a moment after it was called
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestSessionOnTheRecord goes the whole way: log-in, statements, the socket,
// a package, and looks for the credentials everywhere afterwards.
func TestSessionOnTheRecord(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	token := p.issuer.Token(t, "assistant", "agents")
	c, err := connect(t.Context(), g.Addresses()[0].Address, token)
	if err != nil {
		t.Fatal(err)
	}
	var one int
	if err := c.QueryRow(t.Context(), "SELECT $1::int", 1).Scan(&one); err != nil || one != 1 {
		t.Fatalf("got %d, %v", one, err)
	}
	if _, err := c.PgConn().Exec(t.Context(), "SELECT '"+token+"'").ReadAll(); err == nil {
		t.Error("the session's own token went to the target")
	}
	if _, err := c.Exec(t.Context(), "SELECT $1::text", token); err == nil {
		t.Error("the session's own token went to the target as a parameter")
	}
	if _, err := c.Exec(t.Context(), "SELECT * FROM no_such_table"); err == nil {
		t.Error("a missing table was found")
	}
	if _, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "stranger", "visitors")); err == nil ||
		!strings.Contains(err.Error(), "42501") || strings.Contains(err.Error(), database.Address()) {
		t.Errorf("a stranger was answered: %v", err)
	}
	socket := g.client(t)
	var list []admin.OpenSession
	if err := socket.Call(t.Context(), http.MethodGet, "/v1/sessions", nil, &list); err != nil || len(list) != 1 {
		t.Fatalf("sessions %v, %v", list, err)
	}
	var kinds []string
	err = socket.Lines(t.Context(), http.MethodGet, "/v1/sessions/"+list[0].ID, nil, func(raw json.RawMessage) error {
		var e admin.Event
		if err := json.Unmarshal(raw, &e); err != nil {
			return err
		}
		kinds = append(kinds, string(e.Kind))
		if strings.Contains(string(raw), token) {
			t.Error("the token is shown")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(kinds, " "); !strings.HasPrefix(got, "session identity intent outcome upstream answer intent outcome") {
		t.Errorf("kinds of entries: %s", got)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	report, pkg := export(t, socket, g.book.Keys, admin.ExportRequest{})
	// Three errors: the agent's own, and two of the gateway's that stand in for refused requests.
	// Two sessions: the agent's, and the gateway's own that reads the target's definitions.
	if s := report.Summary.Stats; s.Sessions != 2 || s.Refused != 1 || s.Denied != 2 || s.Errors != 3 {
		t.Errorf("totals %+v", report.Summary.Stats)
	}
	g.end(t)
	for _, canary := range []string{upstreamPassword, token} {
		if strings.Contains(g.log.String(), canary) {
			t.Errorf("the log has %.20s…", canary)
		}
		if strings.Contains(unpack(t, pkg), canary) {
			t.Errorf("the package has %.20s…, whose token has not expired", canary)
		}
		lookFor(t, filepath.Join(p.dir, "data"), canary)
	}
}

// unpack returns everything in a package as one text.
func unpack(t *testing.T, pkg []byte) string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&all, r); err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// lookFor fails if any file below dir holds the text.
func lookFor(t *testing.T, dir, text string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(text)) {
			t.Errorf("%s has %.20s…", path, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEV17SameExportTwice is row EV-17: the same scope and closing checkpoint give
// the same bytes under data/.
func TestEV17SameExportTwice(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "assistant", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "SELECT generate_series(1, 1000)"); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	cp, err := g.book.Ledger.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data := func(pkg []byte) map[string]string {
		z, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
		if err != nil {
			t.Fatal(err)
		}
		files := make(map[string]string)
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(f.Name, "data/") {
				files[f.Name] = string(text)
			}
		}
		return files
	}
	_, first := export(t, g.client(t), g.book.Keys, admin.ExportRequest{Until: cp.Time})
	_, second := export(t, g.client(t), g.book.Keys, admin.ExportRequest{Until: cp.Time})
	a, b := data(first), data(second)
	if len(a) != len(b) || len(a) < 10 {
		t.Fatalf("%d and %d files", len(a), len(b))
	}
	for name, text := range a {
		if b[name] != text {
			t.Errorf("%s differs between two exports", name)
		}
	}
}

// TestReload: a new group counts for the next log-in, a broken file changes
// nothing, and what needs a restart is refused by name.
func TestReload(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	token := p.issuer.Token(t, "assistant", "agents")
	login := func() error {
		c, err := connect(t.Context(), g.Addresses()[0].Address, token)
		if err == nil {
			err = c.Close(t.Context())
		}
		return err
	}
	if err := login(); err != nil {
		t.Fatal(err)
	}
	p.write(t, "targets.d/orders.yaml", p.target("others"))
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := login(); err == nil {
		t.Error("the withdrawn group still gets in")
	}
	p.write(t, "targets.d/orders.yaml", p.target("agents]\n    nonsense: [1"))
	if err := g.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "stays as it was") {
		t.Errorf("a broken file was loaded: %v", err)
	}
	p.write(t, "targets.d/orders.yaml", p.target("agents"))
	text, err := os.ReadFile(filepath.Join(p.dir, "gatebook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "gatebook.yaml", string(text)+"sync: insecure_interval\n")
	if err := g.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "sync needs a restart") {
		t.Errorf("a change that needs a restart was loaded: %v", err)
	}
	p.write(t, "gatebook.yaml", string(text))
	if err := g.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if err := login(); err != nil {
		t.Errorf("after the reload: %v", err)
	}
}

// TestOpsAndShutdown: health says what is, metrics are there, a running
// statement is drained, and a second process is kept out.
func TestOpsAndShutdown(t *testing.T) {
	p := newPlace(t, "sync: insecure_interval")
	g := p.start(t)
	get := func(path string) (int, string) {
		r, err := http.Get("http://" + g.OpsAddress() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(text)
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if code, text := get(path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if _, text := get("/metrics"); !strings.Contains(text, "gatebook_ready 1") || !strings.Contains(text, "gatebook_journal_syncs_total") ||
		!strings.Contains(text, "\ngo_goroutines ") || !strings.Contains(text, "\nprocess_resident_memory_bytes ") {
		t.Errorf("metrics: %s", text)
	}
	if _, err := OpenBook(t.Context(), p.config(t), vfs.OS(), "test", "second", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second process got the book: %v", err)
	}
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "assistant", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	running := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.WithoutCancel(t.Context()), "SELECT pg_sleep(0.5)")
		running <- err
	}()
	for g.gate.Counters().OpenExchanges == 0 {
		time.Sleep(time.Millisecond)
	}
	g.end(t)
	if err := <-running; err != nil {
		t.Errorf("the running statement was not drained: %v", err)
	}
	if _, err := c.Exec(context.WithoutCancel(t.Context()), "SELECT 1"); err == nil {
		t.Error("the session outlived the gateway")
	}
	_ = c.Close(context.WithoutCancel(t.Context()))
}

// TestSessionEnd: an operator's word ends a session and cancels what it runs.
func TestSessionEnd(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "assistant", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	running := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.WithoutCancel(t.Context()), "SELECT pg_sleep(60)")
		running <- err
	}()
	for g.gate.Counters().OpenExchanges == 0 {
		time.Sleep(time.Millisecond)
	}
	id := g.gate.Sessions()[0].ID.String()
	begun := time.Now()
	in := map[string]string{"Reason": "enough for today"}
	if err := g.client(t).Call(t.Context(), http.MethodPost, "/v1/sessions/"+id+"/end", in, &struct{}{}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-running:
		if err == nil {
			t.Error("the statement ran to its end")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the session did not end")
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	for until := time.Now().Add(5 * time.Second); len(g.gate.Sessions()) > 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond) // the agent hears of it a moment before the book is closed
	}
	if err := g.client(t).Call(t.Context(), http.MethodPost, "/v1/sessions/"+id+"/end", in, &struct{}{}); err == nil {
		t.Error("the session ended twice")
	}
}

// TestQueryIsRecordedFirst: the auditor's own statement is in the book that it
// reads.
func TestQueryIsRecordedFirst(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	sql := "SELECT count(*) FROM admin WHERE action = 'query'"
	for want := 1; want <= 2; want++ {
		var rows []string
		err := g.client(t).Lines(t.Context(), http.MethodPost, "/v1/query", map[string]string{"SQL": sql}, func(raw json.RawMessage) error {
			rows = append(rows, string(raw))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 2 || rows[1] != fmt.Sprintf(`{"row":[%d]}`, want) {
			t.Errorf("query %d gave %v", want, rows)
		}
	}
	if err := g.client(t).Lines(t.Context(), http.MethodPost, "/v1/index/rebuild", nil, func(json.RawMessage) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// TestEV29RestoredBackupIsRefused is row EV-29: a data directory put back to an
// earlier state beside newer checkpoints does not open.
func TestEV29RestoredBackupIsRefused(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	for range 3 {
		c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "assistant", "agents"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	g.end(t)
	dir := filepath.Join(p.dir, "data", "journal")
	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v %v", files, err)
	}
	// The newest segment goes, as in last night's copy.
	if err := os.Remove(files[len(files)-1]); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), p.config(t), vfs.OS(), "test", slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("a rolled-back journal was opened")
	}
}

// TestEV07LowDisk: a full disk closes the gate for requests, says so in the book
// and to the agent, and lets operators in.
func TestEV07LowDisk(t *testing.T) {
	p := newPlace(t, "")
	text, err := os.ReadFile(filepath.Join(p.dir, "gatebook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "gatebook.yaml", strings.Replace(string(text), "low_disk: 1MiB", "low_disk: 1000000GiB", 1))
	g := p.start(t)
	_, err = connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "assistant", "agents"))
	if err == nil || !strings.Contains(err.Error(), "cannot be recorded") || !strings.Contains(err.Error(), "58030") {
		t.Errorf("log-in on a full disk: %v", err)
	}
	var list []admin.OpenSession
	if err := g.client(t).Call(t.Context(), http.MethodGet, "/v1/sessions", nil, &list); err != nil {
		t.Errorf("an operator on a full disk: %v", err)
	}
	if err := g.ready(); err == nil {
		t.Error("the gate says that it is ready")
	}
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		report, _ := export(t, g.client(t), g.book.Keys, admin.ExportRequest{})
		found := false
		for _, x := range report.Exceptions {
			found = found || x.Code == "gate-low-disk"
		}
		if found {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the book does not say that the gate was closed")
		}
	}
}

// TestBudget: a principal that has used up its hour is out, its sessions end
// with SQLSTATE 53400, others go on, and the refusals do not fill the book.
func TestBudget(t *testing.T) {
	p := newPlace(t, "")
	text, err := os.ReadFile(filepath.Join(p.dir, "gatebook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "gatebook.yaml", strings.Replace(string(text), "limits: {", "limits: {principal_exchanges: 20, principal_bytes: 1MiB, ", 1))
	g := p.start(t)
	address := g.Addresses()[0].Address
	greedy := p.issuer.Token(t, "greedy", "agents")
	c, err := connect(t.Context(), address, greedy)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; err == nil && n < 100; n++ {
		_, err = c.PgConn().Exec(t.Context(), "SELECT 1").ReadAll()
	}
	if err == nil || !strings.Contains(err.Error(), "53400") || n < 15 || n > 21 {
		t.Errorf("after %d requests: %v", n, err)
	}
	before := g.book.Ledger.Entries()
	for range 50 {
		if _, err := connect(t.Context(), address, greedy); err == nil || !strings.Contains(err.Error(), "53400") {
			t.Fatalf("log-in over budget: %v", err)
		}
	}
	if more := g.book.Ledger.Entries() - before; more > 20 {
		t.Errorf("50 refused log-ins made %d entries", more)
	}
	bytes := p.issuer.Token(t, "bulky", "agents")
	if c, err = connect(t.Context(), address, bytes); err != nil {
		t.Fatalf("another principal: %v", err)
	}
	if _, err := c.PgConn().Exec(t.Context(), "SELECT repeat('x', 2000000)").ReadAll(); err != nil {
		t.Errorf("the request that runs over the budget is finished: %v", err)
	}
	if _, err := c.PgConn().Exec(t.Context(), "SELECT 1").ReadAll(); err == nil || !strings.Contains(err.Error(), "53400") {
		t.Errorf("over the byte budget: %v", err)
	}
}
