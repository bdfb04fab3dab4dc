package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
)

// deletes holds every text that begins with DELETE, and those with "deny" are denied.
type deletes struct{ approvers access.Approvers }

func (d *deletes) Decide(r *access.Request) access.Decision {
	switch {
	case strings.Contains(r.Action.Text, "deny"):
		return access.Decision{Rule: "never"}
	case strings.HasPrefix(r.Action.Text, "DELETE"):
		return access.Decision{Verdict: access.Hold, Rule: "deletes", Reason: "Deleting needs a person.", Approvers: []access.Approvers{d.approvers}}
	}
	return access.Decision{Verdict: access.Allow, Rule: "all"}
}

func (*deletes) Reads() enforce.Reads { return enforce.Reads{} }

// owners says that ana stands behind every principal.
type owners struct{}

func (owners) Behind(*access.Principal) (string, []string) { return "ana", nil }

type holdWorld struct {
	*harness
	desk *approval.Desk
}

func startHold(t *testing.T, a access.Approvers) *holdWorld {
	t.Helper()
	if out, err := server.PSQL("postgres", "CREATE TABLE IF NOT EXISTS public.waits (id int); GRANT ALL ON public.waits TO agent"); err != nil {
		t.Fatal(err, out)
	}
	if a.Groups == nil {
		a = access.Approvers{Rule: "deletes", Groups: []string{"dba"}, Quorum: 1, Within: time.Minute, InTransaction: a.InTransaction}
	}
	w := &holdWorld{desk: approval.NewDesk(slog.New(slog.DiscardHandler))}
	w.harness = startGate(t, &enforce.Options{Desk: w.desk, People: owners{}})
	snap := *w.gate.Snapshot()
	snap.Policy = &deletes{a}
	w.gate.SetSnapshot(&snap)
	return w
}

// waiting returns the one open ticket.
func (w *holdWorld) waiting(t *testing.T) *approval.Ticket {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
		for _, tk := range w.desk.List() {
			if s, _ := tk.State(); s == approval.Open {
				return tk
			}
		}
	}
	t.Fatal("no request waits")
	return nil
}

func (w *holdWorld) rule(t *testing.T, tk *approval.Ticket, approve bool) {
	t.Helper()
	verdict := approval.Deny
	if approve {
		verdict = approval.Approve
	}
	_, err := w.desk.Rule(t.Context(), tk.ID, tk.Digest, approval.Ruling{
		Person: approval.Person{Name: "ben", Groups: []string{"dba"}, Identity: "corp|ben"}, Verdict: verdict, Reason: "not today",
	})
	if err != nil {
		t.Fatal(err)
	}
}

// count returns how many rows there are.
func count(t *testing.T, where string) string {
	t.Helper()
	out, err := server.PSQL("postgres", "SELECT count(*) FROM public.waits WHERE "+where)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func fill(t *testing.T, id string) {
	t.Helper()
	if out, err := server.PSQL("postgres", "DELETE FROM public.waits WHERE id = "+id+"; INSERT INTO public.waits VALUES ("+id+")"); err != nil {
		t.Fatal(err, out)
	}
}

// kinds returns the kinds of one exchange's entries in order, with decisions and states.
func (w *holdWorld) kinds(text string) (list []string) {
	var exchange uint64
	var session evidence.ID
	for _, e := range w.rec.Entries() {
		if e.Kind == evidence.KindIntent && strings.Contains(string(e.Meta), text) {
			exchange, session, list = e.Exchange, e.Session, nil
		}
		if exchange == 0 || e.Exchange != exchange || e.Session != session {
			continue
		}
		var body struct {
			State   string `json:"state"`
			Status  string `json:"status"`
			Verdict string `json:"verdict"`
		}
		_ = json.Unmarshal(e.Meta, &body)
		list = append(list, strings.TrimSpace(string(e.Kind)+" "+e.Decision+body.State+body.Status+body.Verdict))
	}
	return list
}

// TestHeldAndReleased: a held request waits on its own connection, runs once it is approved, and not before; the agent hears of it,
// and the book has everything in order. In every way of sending it.
func TestHeldAndReleased(t *testing.T) {
	w := startHold(t, access.Approvers{InTransaction: time.Minute})
	for name, run := range map[string]func(*pgx.Conn) error{
		"simple": func(c *pgx.Conn) error {
			_, err := c.PgConn().Exec(t.Context(), "DELETE FROM public.waits WHERE id = 1").ReadAll()
			return err
		},
		"prepared": func(c *pgx.Conn) error {
			_, err := c.Exec(t.Context(), "DELETE FROM public.waits WHERE id = $1", 1)
			return err
		},
		"pipeline": func(c *pgx.Conn) error {
			b := &pgx.Batch{}
			b.Queue("SELECT 1")
			b.Queue("DELETE FROM public.waits WHERE id = $1", 1)
			b.Queue("SELECT 2")
			return c.SendBatch(t.Context(), b).Close()
		},
		"transaction": func(c *pgx.Conn) error {
			tx, err := c.Begin(t.Context())
			if err != nil {
				return err
			}
			if _, err := tx.Exec(t.Context(), "DELETE FROM public.waits WHERE id = 1", pgx.QueryExecModeSimpleProtocol); err != nil {
				return errors.Join(err, tx.Rollback(t.Context()))
			}
			return tx.Commit(t.Context())
		},
	} {
		for _, approve := range []bool{true, false} {
			fill(t, "1")
			cfg, err := pgx.ParseConfig(w.url("agents", "orders"))
			if err != nil {
				t.Fatal(err)
			}
			notices := make(chan *pgconn.Notice, 10)
			cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices <- n }
			c, err := pgx.ConnectConfig(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- run(c) }()
			tk := w.waiting(t)
			time.Sleep(20 * time.Millisecond)
			if n := count(t, "id = 1"); n != "1" {
				t.Fatalf("%s: %s rows while it waits", name, n)
			}
			w.rule(t, tk, approve)
			err = <-done
			var refused *pgconn.PgError
			if approve && err != nil || !approve && (!errors.As(err, &refused) || !strings.Contains(refused.Message, "a person refused this: not today") || !strings.Contains(refused.Detail, "rule deletes")) {
				t.Errorf("%s, approved %v: %v", name, approve, err)
			}
			if n := count(t, "id = 1"); n != map[bool]string{true: "0", false: "1"}[approve] {
				t.Errorf("%s, approved %v: %s rows", name, approve, n)
			}
			select {
			case n := <-notices:
				if !strings.Contains(n.Message, "waits for a person (rule deletes)") || n.Detail != "Deleting needs a person." {
					t.Errorf("%s: notice %+v", name, n)
				}
			default:
				t.Errorf("%s: the agent did not hear that it waits", name)
			}
			if err := c.Ping(t.Context()); err != nil {
				t.Errorf("%s: the session is of no use afterwards: %v", name, err)
			}
			_ = c.Close(t.Context())
			want := "intent hold,ticket,ruling approve,release,outcome ok"
			if !approve {
				want = "intent hold,ticket,ruling deny,ticket-end denied,outcome denied"
			}
			got := strings.Join(w.kinds("DELETE FROM public.waits"), ",")
			if got != want {
				t.Errorf("%s: the book has %s, want %s", name, got, want)
			}
		}
	}
}

// TestHeldWithdrawn: when the agent leaves or cancels, its session ends or the time is over, the ticket ends, and a ruling that
// comes later runs nothing.
func TestHeldWithdrawn(t *testing.T) {
	w := startHold(t, access.Approvers{})
	late := func(tk *approval.Ticket, want approval.State) {
		t.Helper()
		for until := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			if s, _ := tk.State(); s != approval.Open {
				break
			}
			if time.Now().After(until) {
				t.Fatal("the ticket stays open")
			}
		}
		if s, cause := tk.State(); s != want {
			t.Errorf("%s (%s), want %s", s, cause, want)
		}
		_, err := w.desk.Rule(t.Context(), tk.ID, tk.Digest, approval.Ruling{Person: approval.Person{Name: "ben", Groups: []string{"dba"}, Identity: "x"}, Verdict: approval.Approve})
		if !errors.Is(err, approval.ErrFinal) {
			t.Errorf("a late ruling: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
		if n := count(t, "id = 2"); n != "1" {
			t.Errorf("%s rows: a late ruling ran something", n)
		}
	}
	send := func() (*pgx.Conn, chan error) {
		fill(t, "2")
		c := w.connect("agents")
		done := make(chan error, 1)
		go func() {
			_, err := c.PgConn().Exec(context.Background(), "DELETE FROM public.waits WHERE id = 2").ReadAll()
			done <- err
		}()
		return c, done
	}
	// A driver sends a cancel when its connection breaks; this one only leaves.
	fill(t, "2")
	leaver := dialRaw(t, w.addr, "default", "agents", "orders")
	leaver.send(query("DELETE FROM public.waits WHERE id = 2"))
	tk := w.waiting(t)
	_ = leaver.conn.Close()
	late(tk, approval.Withdrawn)

	c, done := send()
	tk = w.waiting(t)
	if err := c.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "withdrawn") {
		t.Errorf("cancelled: %v", err)
	}
	late(tk, approval.Withdrawn)
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("after a cancel: %v", err)
	}

	_, done = send()
	tk = w.waiting(t)
	id, err := evidence.ParseID(boundOf(t, tk).Session)
	if err != nil {
		t.Fatal(err)
	}
	w.gate.EndSession(id, "an operator ended the session")
	if err := <-done; err == nil {
		t.Error("an ended session went on")
	}
	late(tk, approval.Withdrawn)
}

func boundOf(t *testing.T, tk *approval.Ticket) (b evidence.TicketBound) {
	t.Helper()
	if err := json.Unmarshal([]byte(tk.Bound), &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHeldInTransaction: inside of a transaction, explicit or implicit, a request is refused at once unless the rule lets it wait
// there; outside it waits.
func TestHeldInTransaction(t *testing.T) {
	w := startHold(t, access.Approvers{})
	fill(t, "3")
	c := w.connect("agents")
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(t.Context(), "DELETE FROM public.waits WHERE id = 3", pgx.QueryExecModeSimpleProtocol)
	if err == nil || !strings.Contains(err.Error(), "cannot wait inside of a transaction") {
		t.Errorf("in a transaction: %v", err)
	}
	_ = tx.Rollback(t.Context())
	p := c.PgConn().StartPipeline(t.Context()) // an implicit transaction: one Sync for both
	p.SendQueryParams("INSERT INTO public.waits VALUES (30)", nil, nil, nil, nil)
	p.SendQueryParams("DELETE FROM public.waits WHERE id = 3", nil, nil, nil, nil)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err == nil || !strings.Contains(err.Error(), "cannot wait inside of a transaction") {
		t.Errorf("in an implicit transaction: %v", err)
	}
	if len(w.desk.List()) != 0 {
		t.Error("a ticket was opened")
	}
	if n := count(t, "id IN (3, 30)"); n != "1" {
		t.Errorf("%s rows", n)
	}
}

// TestHeldExpires: nobody rules in time.
func TestHeldExpires(t *testing.T) {
	w := startHold(t, access.Approvers{Rule: "deletes", Groups: []string{"dba"}, Quorum: 1, Within: 300 * time.Millisecond})
	c := w.connect("agents")
	_, err := c.PgConn().Exec(t.Context(), "DELETE FROM public.waits WHERE id = 4").ReadAll()
	if err == nil || !strings.Contains(err.Error(), "nobody ruled on this in time") {
		t.Errorf("%v", err)
	}
	if got := strings.Join(w.kinds("id = 4"), ","); got != "intent hold,ticket,ticket-end expired,outcome denied" {
		t.Errorf("the book has %s", got)
	}
}

// TestHeldJudgedAgain: a policy that has changed while a request waited voids its approval.
func TestHeldJudgedAgain(t *testing.T) {
	for name, change := range map[string]func(*enforce.Snapshot){
		"another configuration": func(s *enforce.Snapshot) { s.SHA256 = strings.Repeat("cd", 32) },
		"denied now":            func(s *enforce.Snapshot) { s.Policy = nil },
	} {
		w := startHold(t, access.Approvers{})
		fill(t, "5")
		c := w.connect("agents")
		done := make(chan error, 1)
		go func() {
			_, err := c.PgConn().Exec(context.Background(), "DELETE FROM public.waits WHERE id = 5").ReadAll()
			done <- err
		}()
		tk := w.waiting(t)
		snap := *w.gate.Snapshot()
		change(&snap)
		w.gate.SetSnapshot(&snap)
		w.rule(t, tk, true)
		if err := <-done; err == nil {
			t.Errorf("%s: it ran", name)
		}
		if n := count(t, "id = 5"); n != "1" {
			t.Errorf("%s: %s rows", name, n)
		}
		if got := strings.Join(w.kinds("id = 5"), ","); got != "intent hold,ticket,ruling approve,ticket-end void,outcome denied" {
			t.Errorf("%s: the book has %s", name, got)
		}
	}
}

// TestReleaseIsRecordedFirst: an approved request does not run before its release is durable, and never if that fails.
func TestReleaseIsRecordedFirst(t *testing.T) {
	w := startHold(t, access.Approvers{})
	fill(t, "6")
	c := w.connect("agents")
	done := make(chan error, 1)
	go func() {
		_, err := c.PgConn().Exec(context.Background(), "DELETE FROM public.waits WHERE id = 6").ReadAll()
		done <- err
	}()
	tk := w.waiting(t)
	w.rec.Hold()
	ruled := make(chan error, 1)
	go func() {
		_, err := w.desk.Rule(context.Background(), tk.ID, tk.Digest, approval.Ruling{Person: approval.Person{Name: "ben", Groups: []string{"dba"}, Identity: "x"}, Verdict: approval.Approve})
		ruled <- err
	}()
	w.await(func(list []memrec.Entry) bool { return list[len(list)-1].Kind == evidence.KindRuling })
	time.Sleep(50 * time.Millisecond)
	if s, _ := tk.State(); s != approval.Open {
		t.Errorf("%s before the ruling is durable", s)
	}
	w.rec.Fail(errors.New("the disk is gone"))
	if err := <-ruled; err == nil {
		t.Error("a ruling that is not durable counts")
	}
	_ = c.PgConn().Conn().Close()
	<-done
	if n := count(t, "id = 6"); n != "1" {
		t.Errorf("%s rows", n)
	}
}

// TestPG47WaitingIsHeard: who waits hears of it again before a proxy on the way, or a person, believes the connection dead; time limits of the
// database do not count while nothing runs there.
func TestPG47WaitingIsHeard(t *testing.T) {
	t.Parallel()
	w := startHold(t, access.Approvers{Rule: "deletes", Groups: []string{"dba"}, Quorum: 1, Within: 5 * time.Minute})
	fill(t, "47")
	var heard []string
	cfg, err := pgx.ParseConfig(w.url("agents", "orders"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { heard = append(heard, n.Message) }
	c, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	if _, err := c.Exec(t.Context(), "SET statement_timeout = '2s'"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(t.Context(), "DELETE FROM public.waits WHERE id = 47")
		done <- err
	}()
	tk := w.waiting(t)
	time.Sleep(noticeEvery + 2*time.Second)
	w.rule(t, tk, true)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(heard) != 2 || !strings.Contains(heard[0], "waits for a person") || !strings.Contains(heard[1], "still waiting, ticket "+tk.ID.String()) {
		t.Errorf("%q", heard)
	}
	if count(t, "id = 47") != "0" {
		t.Error("it did not run")
	}
}

// noticeEvery is how often the agent hears of it; enforce has the interval.
const noticeEvery = 15 * time.Second
