package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

// simple runs a text as a simple query.
func simple(c *pgx.Conn, text string) error {
	_, err := c.PgConn().Exec(context.Background(), text).ReadAll()
	return err
}

// extended runs a text by the extended protocol.
func extended(c *pgx.Conn, text string) error {
	_, err := c.PgConn().ExecParams(context.Background(), text, nil, nil, nil, nil).Close()
	return err
}

// listed lets a list be approved for a connection.
func (w *holdWorld) listed(t *testing.T, c *pgx.Conn, list ...string) {
	t.Helper()
	text, err := (&sqlscan.List{Statements: list, Reason: "for a test"}).Text()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- simple(c, text) }()
	tk := w.waiting(t)
	b := boundOf(t, tk)
	if len(b.List) != len(list) || b.Reason != "for a test" || b.Op != "request" {
		t.Fatalf("the ticket covers %+v", b)
	}
	w.rule(t, tk, true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// heldAgain expects that what run sends is held by itself, and refuses it.
func (w *holdWorld) heldAgain(t *testing.T, run func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- run() }()
	select {
	case err := <-done:
		t.Errorf("it was not held by itself: %v", err)
	case <-time.After(100 * time.Millisecond):
		w.rule(t, w.waiting(t), false)
		if err := <-done; err == nil || !strings.Contains(err.Error(), "a person refused this") {
			t.Errorf("%v", err)
		}
	}
}

// TestListRuns: an approved list runs in its order without anybody being asked again; each statement has its own release, also one
// that no rule holds.
func TestListRuns(t *testing.T) {
	w := startHold(t, access.Approvers{})
	fill(t, "71")
	c := w.connect("agents")
	list := []string{"SELECT 71", "BEGIN", "DELETE FROM public.waits WHERE id = 71", " COMMIT;"}
	w.listed(t, c, list...)
	if n := count(t, "id = 71"); n != "1" {
		t.Fatal("asking ran something")
	}
	for _, text := range []string{"\n SELECT 71 ; ", "BEGIN;", list[2], "COMMIT"} {
		if err := simple(c, text); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, "id = 71"); n != "0" {
		t.Errorf("%s rows", n)
	}
	for text, want := range map[string]string{
		`"op":"request"`:            "intent hold,ticket,ruling approve,release,outcome ok",
		`SELECT 71 `:                "intent allow,release,outcome ok",
		`"text":"DELETE`:            "intent hold,release,outcome ok",
		`"op":"query","rule":"all"`: "intent allow,release,outcome ok",
	} {
		if got := strings.Join(w.kinds(text), ","); got != want {
			t.Errorf("%s: the book has %s, want %s", text, got, want)
		}
	}
	// It was for once.
	w.heldAgain(t, func() error { return simple(c, list[2]) })
}

// TestAP01ListDiffers: whatever differs from the list ends it: what comes is judged by itself, and so is what comes behind it.
func TestAP01ListDiffers(t *testing.T) {
	const first, second = "DELETE FROM public.waits WHERE id = 72", "DELETE FROM public.waits WHERE id = 73"
	good := func(t *testing.T, c *pgx.Conn, text string) {
		t.Helper()
		if err := simple(c, text); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		list    []string
		between func(*testing.T, *holdWorld, *pgx.Conn)
		then    func(*pgx.Conn) error // is held by itself
		cause   string
	}{
		"another text": {[]string{first, second}, func(t *testing.T, _ *holdWorld, c *pgx.Conn) { good(t, c, first) },
			func(c *pgx.Conn) error { return simple(c, second+" OR id = 74") }, "the agent sent something else than statement 2"},
		"the first again": {[]string{first, second}, func(t *testing.T, _ *holdWorld, c *pgx.Conn) { good(t, c, first) },
			func(c *pgx.Conn) error { return simple(c, first) }, "the agent sent something else than statement 2"},
		"the second first": {[]string{first, second}, nil,
			func(c *pgx.Conn) error { return simple(c, second) }, "the agent sent something else than statement 1"},
		"two at once": {[]string{first, second}, nil,
			func(c *pgx.Conn) error { return simple(c, first+";"+second) }, "the agent sent something else than statement 1"},
		"what is harmless between": {[]string{first, second}, func(t *testing.T, _ *holdWorld, c *pgx.Conn) { good(t, c, first); good(t, c, "SELECT 1") },
			func(c *pgx.Conn) error { return simple(c, second) }, "the agent sent something else than statement 2"},
		"extended protocol": {[]string{first, second}, nil,
			func(c *pgx.Conn) error { return extended(c, first) }, "the agent sent something else than statement 1"},
		"a failed statement": {[]string{"SELECT 1/0", second}, func(t *testing.T, _ *holdWorld, c *pgx.Conn) {
			if simple(c, "SELECT 1/0") == nil {
				t.Error("it did not fail")
			}
		}, func(c *pgx.Conn) error { return simple(c, second) }, "statement 1 did not succeed"},
		"another configuration": {[]string{first, second}, func(_ *testing.T, w *holdWorld, _ *pgx.Conn) {
			snap := *w.gate.Snapshot()
			snap.SHA256 = strings.Repeat("cd", 32)
			w.gate.SetSnapshot(&snap)
		}, func(c *pgx.Conn) error { return simple(c, first) }, "the configuration has changed"},
		"another rule": {[]string{first, second}, func(_ *testing.T, w *holdWorld, _ *pgx.Conn) {
			snap := *w.gate.Snapshot()
			snap.Policy = &deletes{access.Approvers{Rule: "others", Groups: []string{"dba"}, Quorum: 1, Within: time.Minute}}
			w.gate.SetSnapshot(&snap)
		}, func(c *pgx.Conn) error { return simple(c, first) }, "statement 1 is held by another rule now"},
		"another list": {[]string{first, second}, nil,
			func(c *pgx.Conn) error { return simple(c, `SET gatebook.request = '{"list":["`+second+`"]}'`) }, "the agent sent something else than statement 1"},
	} {
		t.Run(name, func(t *testing.T) {
			w := startHold(t, access.Approvers{})
			fill(t, "72")
			fill(t, "73")
			c := w.connect("agents")
			w.listed(t, c, tt.list...)
			if tt.between != nil {
				tt.between(t, w, c)
			}
			w.heldAgain(t, func() error { return tt.then(c) })
			w.heldAgain(t, func() error { return simple(c, second) })
			if n := count(t, "id = 73"); n != "1" {
				t.Errorf("%s rows", n)
			}
			var ends []string
			for _, e := range w.rec.Entries() {
				if e.Kind == evidence.KindTicketEnd && strings.Contains(string(e.Meta), "list-ended") {
					ends = append(ends, string(e.Meta))
				}
			}
			if len(ends) != 1 || !strings.Contains(ends[0], tt.cause) {
				t.Errorf("the book says of its end: %q, want %q", ends, tt.cause)
			}
		})
	}
}

// TestListDeniedLater: a statement of an approved list that is refused when its turn comes does not run, and ends the list.
func TestListDeniedLater(t *testing.T) {
	w := startHold(t, access.Approvers{})
	fill(t, "74")
	c := w.connect("agents")
	w.listed(t, c, "DELETE FROM public.waits WHERE id = 74", "SELECT 1")
	snap := *w.gate.Snapshot()
	allowed := snap.Policy
	snap.Policy = nil
	w.gate.SetSnapshot(&snap)
	if err := simple(c, "DELETE FROM public.waits WHERE id = 74"); err == nil || !strings.Contains(err.Error(), "there is no policy") {
		t.Errorf("%v", err)
	}
	snap.Policy = allowed
	w.gate.SetSnapshot(&snap)
	w.heldAgain(t, func() error { return simple(c, "DELETE FROM public.waits WHERE id = 74") })
}

// TestListExpires: what is due when the ticket's time is over is judged by itself.
func TestListExpires(t *testing.T) {
	w := startHold(t, access.Approvers{Rule: "deletes", Groups: []string{"dba"}, Quorum: 1, Within: 700 * time.Millisecond})
	fill(t, "75")
	c := w.connect("agents")
	w.listed(t, c, "DELETE FROM public.waits WHERE id = 75")
	time.Sleep(700 * time.Millisecond)
	w.heldAgain(t, func() error { return simple(c, "DELETE FROM public.waits WHERE id = 75") })
}

// TestListPipelined: statements of a list that are sent at once wait for each other: one that fails ends the list for those behind it.
func TestListPipelined(t *testing.T) {
	w := startHold(t, access.Approvers{})
	fill(t, "76")
	raw := dialRaw(t, w.addr, "default", "agents", "orders")
	raw.send(query(`SET gatebook.request = '{"list":["SELECT pg_sleep(0.2)/0","DELETE FROM public.waits WHERE id = 76"]}'`))
	w.rule(t, w.waiting(t), true)
	raw.send(append(query("SELECT pg_sleep(0.2)/0"), query("DELETE FROM public.waits WHERE id = 76")...))
	tk := w.waiting(t)
	if b := boundOf(t, tk); len(b.List) != 0 || b.Text != "DELETE FROM public.waits WHERE id = 76" {
		t.Errorf("%+v", b)
	}
	w.rule(t, tk, false)
	if n := count(t, "id = 76"); n != "1" {
		t.Errorf("%s rows", n)
	}
}

// TestListRefused: a list that cannot be asked for opens no ticket and says why, by the statement's number.
func TestListRefused(t *testing.T) {
	w := startHold(t, access.Approvers{})
	c := w.connect("agents")
	ask := func(list string) string { return "SET gatebook.request = '{\"list\":[" + list + "]}'" }
	for name, tt := range map[string]struct{ text, want string }{
		"denied":         {ask(`"DELETE FROM public.waits","SELECT deny"`), "statement 2 of the list: a rule forbids this"},
		"token":          {ask(`"SELECT 1","SET \u0067atebook.token = x"`), "statement 2 of the list holds a token"},
		"pinned setting": {ask(`"SET client_encoding = latin1"`), "statement 1 of the list"},
		"a list in it":   {ask(`"SET gatebook.request = x"`), "statement 1 of the list asks for a list"},
		"form":           {"SET gatebook.request = 1", "send exactly"},
		"empty":          {ask(``), "the list is empty"},
	} {
		if err := simple(c, tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := extended(c, ask(`"DELETE FROM public.waits"`)); err == nil || !strings.Contains(err.Error(), "by a simple query") {
		t.Errorf("extended protocol: %v", err)
	}
	if _, err := c.PgConn().Exec(t.Context(), "BEGIN").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if err := simple(c, ask(`"SELECT 1","DELETE FROM public.waits"`)); err == nil || !strings.Contains(err.Error(), "statement 2 of the list: Deleting needs a person.; it cannot wait inside of a transaction") {
		t.Errorf("in a transaction: %v", err)
	}
	if n := len(w.desk.List()); n != 0 {
		t.Errorf("%d tickets", n)
	}
	for _, e := range w.rec.Entries() {
		if e.Kind == evidence.KindIntent && strings.Contains(string(e.Meta), "u0067atebook") {
			t.Error("a text that hides a token is recorded")
		}
	}
}
