package postgres

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/enforce"
)

// marked holds everything that says "hold".
type marked struct{ approvers access.Approvers }

func (d *marked) Decide(r *access.Request) access.Decision {
	if strings.Contains(r.Action.Text, "/* hold */") {
		return access.Decision{Verdict: access.Hold, Rule: "hold", Approvers: []access.Approvers{d.approvers}}
	}
	return access.Decision{Verdict: access.Allow, Rule: "all"}
}

func (*marked) Reads() enforce.Reads { return enforce.Reads{} }

func startPreview(t *testing.T, a access.Approvers) *holdWorld {
	t.Helper()
	w := startHold(t, access.Approvers{})
	w.driver.unresolved = false
	a.Rule, a.Groups, a.Quorum, a.Within = "hold", []string{"dba"}, 1, time.Minute
	a.InTransaction = time.Minute
	snap := *w.gate.Snapshot()
	snap.Policy = &marked{a}
	w.gate.SetSnapshot(&snap)
	return w
}

// ask holds a text and returns its ticket, and what will come of it.
func (w *holdWorld) ask(t *testing.T, c *pgx.Conn, text string, args ...any) (*approval.Ticket, chan error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		var err error
		if len(args) == 0 {
			_, err = c.PgConn().Exec(t.Context(), text+" /* hold */").ReadAll()
		} else {
			_, err = c.Exec(t.Context(), text+" /* hold */", args...)
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("%s is not held: %v", text, err)
	case <-time.After(20 * time.Millisecond):
	}
	return w.waiting(t), done
}

// TestAP26TrueCountBesideTheEstimate: what a held statement would change is counted, by its own condition, parameters and names, and
// the planner's estimate stands apart from it.
func TestAP26TrueCountBesideTheEstimate(t *testing.T) {
	psql(t, `DROP SCHEMA IF EXISTS looked CASCADE; CREATE SCHEMA looked; CREATE TABLE looked.notes (id int PRIMARY KEY, note text, "At" timestamptz, b bytea);
		INSERT INTO looked.notes SELECT n, CASE WHEN n % 10 = 0 THEN NULL ELSE 'note ' || n % 3 END, '2026-01-01 00:00+00', '\x01' FROM generate_series(1, 100) n;
		CREATE TABLE looked."Mixed" (id int); INSERT INTO looked."Mixed" VALUES (1), (2);
		CREATE TABLE looked.parent (id int); CREATE TABLE looked.child () INHERITS (looked.parent); INSERT INTO looked.parent VALUES (1); INSERT INTO looked.child VALUES (2);
		GRANT USAGE ON SCHEMA looked TO agent; GRANT ALL ON ALL TABLES IN SCHEMA looked TO agent; ANALYZE looked.notes`)
	w := startPreview(t, access.Approvers{})
	c := w.connect("agents")
	for _, tt := range []struct {
		text string
		args []any
		want int64
	}{
		{"DELETE FROM looked.notes", nil, 100},
		{"DELETE FROM looked.notes WHERE id <= 7", nil, 7},
		{"DELETE FROM looked.notes AS n WHERE n.id > 90 AND n.note IS NULL", nil, 1},
		{"UPDATE looked.notes SET note = 'x' WHERE note = 'note 1'", nil, 33 - 3},
		{"UPDATE looked.notes SET note = upper(note) WHERE id IN (1, 2, 500)", nil, 2},
		{`UPDATE looked."Mixed" SET id = id + 1 WHERE id = 2`, nil, 1},
		{`DELETE FROM looked.notes WHERE "At" < '2026-01-01 00:00+00'`, nil, 0},
		{"DELETE FROM looked.notes WHERE id = $1", []any{5}, 1},
		{"DELETE FROM looked.notes WHERE id = ANY ($1)", []any{[]int32{1, 2, 3}}, 3},
		{"UPDATE looked.notes SET note = $1 WHERE id < $2 AND note <> $3", []any{"x", 10, "note 1"}, 6},
		{"DELETE FROM looked.notes WHERE note = $1", []any{nil}, 0},
		{"DELETE FROM looked.notes WHERE b = $1", []any{[]byte{1}}, 100},
		{"DELETE FROM ONLY looked.parent", nil, 1},
	} {
		tk, done := w.ask(t, c, tt.text, tt.args...)
		e := tk.Asked.Bound.Effect
		if e == nil || !e.Computed || e.Count == nil || *e.Count != tt.want || e.Estimate == nil || len(e.Fingerprint) != 64 {
			t.Errorf("%s: %s, want %d rows", tt.text, shown(e), tt.want)
		}
		w.rule(t, tk, false)
		<-done
	}
	// A SELECT and an INSERT have an estimate alone, and say so.
	for _, text := range []string{"SELECT * FROM looked.notes", "INSERT INTO looked.\"Mixed\" SELECT id FROM looked.notes"} {
		tk, done := w.ask(t, c, text)
		if e := tk.Asked.Bound.Effect; e == nil || e.Count != nil || e.Estimate == nil || *e.Estimate != 100 || e.Reason == "" {
			t.Errorf("%s: %s", text, shown(e))
		}
		w.rule(t, tk, false)
		<-done
	}
}

func shown(e *evidence.Effect) string {
	if e == nil {
		return "no effect"
	}
	out := fmt.Sprintf("%+v", *e)
	if e.Count != nil {
		out += fmt.Sprintf(" count %d", *e.Count)
	}
	if e.Estimate != nil {
		out += fmt.Sprintf(" estimate %d", *e.Estimate)
	}
	return out
}

// TestAP26SettingsOfTheSession: rows are counted as the agent's own session would find them, or not at all.
func TestAP26SettingsOfTheSession(t *testing.T) {
	psql(t, `DROP SCHEMA IF EXISTS set_looked CASCADE; CREATE SCHEMA set_looked; CREATE TABLE set_looked.t (id int PRIMARY KEY, v text); INSERT INTO set_looked.t SELECT n, '' FROM generate_series(1, 9) n;
		GRANT USAGE ON SCHEMA set_looked TO agent; GRANT ALL ON ALL TABLES IN SCHEMA set_looked TO agent`)
	w := startPreview(t, access.Approvers{})
	for _, tt := range []struct {
		first, condition string
		want             int64 // -1 for not counted
	}{
		{"SET datestyle = 'iso, dmy'", "'01/02/2026'::date = date '2026-02-01'", 9},
		{"SET datestyle = 'iso, mdy'", "'01/02/2026'::date = date '2026-02-01'", 0},
		{"SET timezone = 'Asia/Tokyo'", "'2026-01-01 00:00'::timestamptz = '2026-01-01 00:00+09'", 9},
		{"BEGIN; SET LOCAL timezone = 'Asia/Tokyo'; COMMIT", "'2026-01-01 00:00'::timestamptz = '2026-01-01 00:00+09'", 0},
		{"SELECT set_config('TimeZone', 'Asia/Tokyo', false)", "'2026-01-01 00:00'::timestamptz = '2026-01-01 00:00+09'", 9},
		{"SET extra_float_digits = -15", "1.1::float8::text = '1'", -1},
		{"SET my.tenant = 'x'", "current_setting('my.tenant', true) = 'x'", -1},
		{"SET bytea_output = escape", "id > 0", -1},
		{"SET statement_timeout = '5min'", "id > 3", 6},
	} {
		c := w.connect("agents")
		if _, err := c.PgConn().Exec(t.Context(), tt.first).ReadAll(); err != nil {
			t.Fatal(tt.first, err)
		}
		tk, done := w.ask(t, c, "UPDATE set_looked.t SET v = 'x' WHERE "+tt.condition)
		e := tk.Asked.Bound.Effect
		if tt.want < 0 && (e == nil || e.Computed || e.Count != nil || !strings.Contains(e.Reason, "has changed")) || tt.want >= 0 && (e == nil || e.Count == nil || *e.Count != tt.want) {
			t.Errorf("%s; %s: %s, want %d", tt.first, tt.condition, shown(e), tt.want)
		}
		if strings.Contains(tt.first, "extra_float") && tk.Asked.Bound.Altered != "extra_float_digits" || strings.HasPrefix(tt.first, "SET timezone") && tk.Asked.Bound.Settings["TimeZone"] != "Asia/Tokyo" {
			t.Errorf("%s: the ticket says %v and %q", tt.first, tk.Asked.Bound.Settings, tk.Asked.Bound.Altered)
		}
		w.rule(t, tk, false)
		<-done
		_ = c.Close(t.Context())
	}
}

// TestAP26InATransaction: rows that nobody else sees are not counted: those of a transaction that has changed some, or that sees those
// of another moment. A transaction that has only begun, or read, is counted as any other.
func TestAP26InATransaction(t *testing.T) {
	psql(t, `DROP SCHEMA IF EXISTS tx_looked CASCADE; CREATE SCHEMA tx_looked; CREATE TABLE tx_looked.t (id int PRIMARY KEY, v text); INSERT INTO tx_looked.t SELECT n, '' FROM generate_series(1, 9) n;
		GRANT USAGE ON SCHEMA tx_looked TO agent; GRANT ALL ON ALL TABLES IN SCHEMA tx_looked TO agent`)
	w := startPreview(t, access.Approvers{InTransaction: time.Minute})
	for first, counted := range map[string]bool{
		"BEGIN": true, "BEGIN; SELECT * FROM tx_looked.t": true, "BEGIN; INSERT INTO tx_looked.t VALUES (100, '')": false, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1": false,
		"BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE": false, "INSERT INTO tx_looked.t VALUES (200, '') ON CONFLICT DO NOTHING": true, "BEGIN; INSERT INTO tx_looked.t VALUES (300, ''); ROLLBACK": true,
	} {
		c := w.connect("agents")
		if _, err := c.PgConn().Exec(t.Context(), first).ReadAll(); err != nil {
			t.Fatal(first, err)
		}
		tk, done := w.ask(t, c, "UPDATE tx_looked.t SET v = 'x' WHERE id < 5")
		e := tk.Asked.Bound.Effect
		if counted && (e == nil || e.Count == nil || *e.Count != 4) || !counted && (e == nil || e.Count != nil || !strings.Contains(e.Reason, "in a transaction")) {
			t.Errorf("%s: %s", first, shown(e))
		}
		w.rule(t, tk, false)
		<-done
		_ = c.Close(t.Context())
	}
}

// TestPreviewRunsNothing is the attack suite of previews: whatever an agent has made, and wherever it has hidden it, none of it runs
// before somebody rules. Each hostile object leaves a mark in the server's log when it runs, which also a transaction leaves that can only read and is rolled back.
func TestPreviewRunsNothing(t *testing.T) {
	psql(t, `DROP SCHEMA IF EXISTS trap CASCADE; CREATE SCHEMA trap AUTHORIZATION agent`)
	if out, err := server.PSQL("postgres", `SET ROLE agent; SET search_path = trap, public;
		CREATE SEQUENCE ran;
		CREATE FUNCTION mark(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE LOG ''trap ran''; RETURN true; END';
		CREATE FUNCTION markt(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE LOG ''trap ran''; RETURN $1; END';
		CREATE FUNCTION lower(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE LOG ''trap ran''; RETURN $1; END';
		CREATE FUNCTION marki(int, int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE LOG ''trap ran''; RETURN true; END';
		CREATE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE LOG ''trap ran''; RETURN OLD; END';
		CREATE TABLE plain (id int, note text); INSERT INTO plain SELECT n, 'x' FROM generate_series(1, 50) n;
		CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = marki);
		CREATE TABLE indexed (id int, note text); INSERT INTO indexed VALUES (1, 'x'); CREATE INDEX ON indexed (markt(note));
		CREATE TABLE partial (id int); INSERT INTO partial VALUES (1); CREATE INDEX ON partial (id) WHERE mark(id);
		CREATE TABLE checked (id int); INSERT INTO checked VALUES (1); ALTER TABLE checked ADD CHECK (mark(id)) NOT VALID;
		CREATE TABLE stats (id int, note text); INSERT INTO stats SELECT n, 'x' FROM generate_series(1, 50) n; CREATE STATISTICS st ON (markt(note)) FROM stats;
		CREATE VIEW seen AS SELECT * FROM plain WHERE mark(id);
		CREATE TABLE ruled (id int); INSERT INTO ruled VALUES (1); CREATE RULE r AS ON DELETE TO ruled DO INSTEAD SELECT mark(1);
		CREATE TABLE secured (id int); INSERT INTO secured VALUES (1); ALTER TABLE secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON secured USING (mark(id));
		CREATE TABLE triggered (id int); INSERT INTO triggered VALUES (1); CREATE TRIGGER tr BEFORE DELETE OR UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION trig();
		CREATE DOMAIN odd AS int CHECK (mark(VALUE)); CREATE TABLE domained (id odd, n int);
		CREATE TYPE own AS ENUM ('a'); CREATE FUNCTION owncast(own) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE LOG ''trap ran''; RETURN 1; END'; CREATE CAST (own AS int) WITH FUNCTION owncast(own) AS IMPLICIT;
		CREATE TABLE typed (o own); INSERT INTO typed VALUES ('a');
		CREATE TABLE parts (id int) PARTITION BY RANGE (id); CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (0) TO (100); ALTER TABLE part1 ADD CHECK (mark(id)) NOT VALID; INSERT INTO parts VALUES (1);
		SELECT setval('ran', 1)`); err != nil {
		t.Fatal(err, out)
	}
	marks := func() int {
		text, err := os.ReadFile(server.Log)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(text, []byte("LOG:  trap ran"))
	}
	before := marks()
	if _, err := server.PSQL("postgres", "BEGIN READ ONLY; SELECT trap.mark(1)"); err != nil || marks() != before+1 {
		t.Fatalf("the mark does not show: %v", err)
	}
	w := startPreview(t, access.Approvers{})
	c := w.connect("agents")
	if _, err := c.PgConn().Exec(t.Context(), "SET search_path = trap, pg_catalog, public").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PgConn().Exec(t.Context(), "CREATE FUNCTION pg_temp.upper(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE LOG ''trap ran''; RETURN $1; END'").ReadAll(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"DELETE FROM plain WHERE mark(id)",
		"DELETE FROM plain WHERE mark(1)", // folded when it is planned
		"DELETE FROM plain WHERE note = lower('X')",
		"DELETE FROM plain WHERE note = trap.lower(note)",
		"DELETE FROM plain WHERE note = pg_temp.upper(note)",
		"DELETE FROM plain WHERE id === 1",
		"DELETE FROM plain WHERE id OPERATOR(trap.===) 1",
		"UPDATE plain SET note = markt(note)",
		"UPDATE plain SET note = markt('x') WHERE id = 1",
		"DELETE FROM plain WHERE id IN (SELECT id FROM seen)",
		"DELETE FROM indexed WHERE note = 'x'",
		"DELETE FROM partial WHERE id = 1",
		"DELETE FROM checked WHERE id = 1",
		"SELECT note FROM stats GROUP BY markt(note), note",
		"DELETE FROM stats WHERE note = 'x'",
		"DELETE FROM seen",
		"DELETE FROM ruled",
		"DELETE FROM secured WHERE id = 1",
		"DELETE FROM triggered WHERE id = 1",
		"UPDATE triggered SET id = 2",
		"UPDATE domained SET id = 5",
		"DELETE FROM plain WHERE id = 5::odd",
		"DELETE FROM plain WHERE id = odd '5'",
		"DELETE FROM typed WHERE o = 1",
		"DELETE FROM parts WHERE id = 1",
		"DELETE FROM plain WHERE nextval('ran') > 0",
		"DELETE FROM plain WHERE EXISTS (SELECT nextval('trap.ran'))",
		"SELECT mark(1)",
		"DO $$ BEGIN PERFORM nextval('trap.ran'); END $$",
		"CALL something()",
		"EXPLAIN ANALYZE DELETE FROM plain WHERE mark(id)",
		"CREATE TABLE made AS SELECT mark(1)",
		"DELETE FROM plain WHERE id = 1; SELECT mark(1)",
		"WITH x AS (SELECT mark(1)) DELETE FROM plain USING x",
	} {
		before := marks()
		tk, done := w.ask(t, c, text)
		if now := marks(); now != before {
			t.Errorf("%s: code of the agent's ran before anybody ruled (%s)", text, shown(tk.Asked.Bound.Effect))
		}
		e := tk.Asked.Bound.Effect
		if e == nil || e.Fingerprint != "" && !strings.Contains(text, "plain") || !e.Computed && e.Reason == "" {
			t.Errorf("%s: %s", text, shown(e))
		}
		w.rule(t, tk, false)
		<-done
	}
	// By plain means the same table is looked at.
	tk, done := w.ask(t, c, "DELETE FROM trap.plain WHERE id = 1")
	if e := tk.Asked.Bound.Effect; e == nil || e.Count == nil || *e.Count != 1 {
		t.Errorf("a plain statement: %s", shown(e))
	}
	w.rule(t, tk, false)
	<-done
}

// TestPreviewGivesUp: what cannot be looked at in time does not keep people from being asked.
func TestPreviewGivesUp(t *testing.T) {
	psql(t, "DROP TABLE IF EXISTS locked; CREATE TABLE locked (id int); GRANT ALL ON locked TO agent")
	w := startPreview(t, access.Approvers{})
	c := w.connect("agents")
	other, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close(t.Context()) }()
	if _, err := other.Exec(t.Context(), "BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	tk, done := w.ask(t, c, "DELETE FROM locked")
	if e := tk.Asked.Bound.Effect; e == nil || e.Computed || e.Reason == "" || time.Since(began) > 4*time.Second {
		t.Errorf("after %s: %s", time.Since(began), shown(e))
	}
	w.rule(t, tk, false)
	<-done
}

// TestAP03RowsHaveChanged: where a rule compares the rows, an approval is void once one of them is another; and a statement whose rows cannot
// be compared is refused at once.
func TestAP03RowsHaveChanged(t *testing.T) {
	psql(t, "DROP TABLE IF EXISTS compared; CREATE TABLE compared (id int, note text); INSERT INTO compared VALUES (1, 'a'), (2, 'b'); GRANT ALL ON compared TO agent")
	w := startPreview(t, access.Approvers{BeforeImage: true})
	c := w.connect("agents")
	for _, tt := range []struct {
		name, between string
		runs          bool
	}{
		{"another row", "UPDATE compared SET note = 'c' WHERE id = 2", true},
		{"one more row", "INSERT INTO compared VALUES (1, 'more')", false},
		{"the row is another", "UPDATE compared SET note = note WHERE id = 1", false},
		{"the row is gone", "DELETE FROM compared WHERE id = 1", false},
	} {
		psql(t, "TRUNCATE compared; INSERT INTO compared VALUES (1, 'a'), (2, 'b')")
		tk, done := w.ask(t, c, "DELETE FROM compared WHERE id = 1")
		psql(t, tt.between)
		w.rule(t, tk, true)
		err := <-done
		state, cause := tk.State()
		if (err == nil) != tt.runs || (state == approval.Released) != tt.runs || !tt.runs && !strings.Contains(cause, "rows have changed") {
			t.Errorf("%s: %v, %s, %s", tt.name, err, state, cause)
		}
	}
	for _, text := range []string{"INSERT INTO compared VALUES (3, 'c')", "DELETE FROM compared USING waits", "DELETE FROM compared WHERE random() < 0.5", "TRUNCATE compared"} {
		_, err := c.PgConn().Exec(t.Context(), text+" /* hold */").ReadAll()
		if err == nil || !strings.Contains(err.Error(), "compares the rows") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestAP02DefinitionsHaveChanged: an approval is void once what the request stands for at the target is something else.
func TestAP02DefinitionsHaveChanged(t *testing.T) {
	psql(t, `DROP SCHEMA IF EXISTS meant CASCADE; CREATE SCHEMA meant; CREATE TABLE meant.a (id int); CREATE TABLE meant.b (id int); INSERT INTO meant.a VALUES (1);
		CREATE FUNCTION meant.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW meant.v AS SELECT id FROM meant.a;
		GRANT ALL ON SCHEMA meant TO agent; GRANT ALL ON ALL TABLES IN SCHEMA meant TO agent`)
	w := startPreview(t, access.Approvers{})
	c := w.connect("agents")
	for _, tt := range []struct {
		name, text, between string
		runs                bool
	}{
		{"a function's body", "SELECT meant.f()", "CREATE OR REPLACE FUNCTION meant.f() RETURNS int LANGUAGE sql AS 'SELECT 2'", false},
		{"a view", "UPDATE meant.v SET id = 2", "CREATE OR REPLACE VIEW meant.v AS SELECT id FROM meant.b", false},
		{"a trigger", "DELETE FROM meant.a", "CREATE FUNCTION meant.t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER t BEFORE DELETE ON meant.a FOR EACH ROW EXECUTE FUNCTION meant.t()", false},
		{"a table that became a view", "INSERT INTO meant.b VALUES (1)", "DROP VIEW meant.v; ALTER TABLE meant.b RENAME TO c; CREATE VIEW meant.b AS SELECT id FROM meant.a", false},
		{"another table", "INSERT INTO meant.c VALUES (1)", "CREATE TABLE meant.other (id int)", true},
	} {
		tk, done := w.ask(t, c, tt.text)
		if tk.Asked.Bound.Meaning == "" {
			t.Errorf("%s: the meaning is not bound", tt.name)
		}
		psql(t, tt.between)
		w.rule(t, tk, true)
		err := <-done
		state, cause := tk.State()
		if (err == nil) != tt.runs || (state == approval.Released) != tt.runs || !tt.runs && !strings.Contains(cause, "stands for") {
			t.Errorf("%s: %v, %s, %s", tt.name, err, state, cause)
		}
	}
}

// TestAP02DefinitionsInAList: each statement of an approved list stands for what it stood for when people were asked, unless an
// earlier one of the list itself may have changed that.
func TestAP02DefinitionsInAList(t *testing.T) {
	psql(t, `DROP SCHEMA IF EXISTS meanslist CASCADE; CREATE SCHEMA meanslist; CREATE TABLE meanslist.a (id int); CREATE TABLE meanslist.b (id int);
		CREATE VIEW meanslist.v AS SELECT id FROM meanslist.a; GRANT ALL ON SCHEMA meanslist TO agent; GRANT ALL ON ALL TABLES IN SCHEMA meanslist TO agent`)
	w := startPreview(t, access.Approvers{})
	c := w.connect("agents")
	const swap = "CREATE OR REPLACE VIEW meanslist.v AS SELECT id FROM meanslist."
	list := []string{"INSERT INTO meanslist.a VALUES (1)", "INSERT INTO meanslist.v VALUES (2) /* hold */"}
	w.listed(t, c, list...)
	if err := simple(c, list[0]); err != nil {
		t.Fatal(err)
	}
	psql(t, swap+"b")
	w.heldAgain(t, func() error { return simple(c, list[1]) })
	psql(t, swap+"a")

	list = []string{"CREATE TABLE meanslist.c (id int)", "INSERT INTO meanslist.c VALUES (3) /* hold */"}
	w.listed(t, c, list...)
	for _, text := range list {
		if err := simple(c, text); err != nil {
			t.Fatal(err)
		}
	}
}
