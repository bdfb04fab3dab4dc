package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
)

const readsOf = `
DROP SCHEMA IF EXISTS rel CASCADE;
CREATE SCHEMA rel;
CREATE TABLE rel.plain (id int PRIMARY KEY, v text);
INSERT INTO rel.plain SELECT i, repeat('x', 1000) FROM generate_series(1, 5000) i;
CREATE TABLE rel.parts (id int) PARTITION BY RANGE (id);
CREATE TABLE rel.part PARTITION OF rel.parts FOR VALUES FROM (0) TO (9);
CREATE VIEW rel.window AS SELECT id FROM rel.plain;
CREATE MATERIALIZED VIEW rel.stored AS SELECT 1 AS x;
CREATE TABLE rel.guarded (id int);
ALTER TABLE rel.guarded ENABLE ROW LEVEL SECURITY;
CREATE TABLE rel.mixed (id int) PARTITION BY RANGE (id);
CREATE TABLE rel.mixed1 PARTITION OF rel.mixed FOR VALUES FROM (0) TO (9);
ALTER TABLE rel.mixed1 ENABLE ROW LEVEL SECURITY;
CREATE TABLE rel.ruled (id int);
CREATE RULE r AS ON INSERT TO rel.ruled DO ALSO DELETE FROM rel.plain;
CREATE FUNCTION rel.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION rel.mine(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION rel.plus(point, point) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE OPERATOR rel.@+@ (LEFTARG = point, RIGHTARG = point, FUNCTION = rel.plus);
CREATE TYPE rel.mood AS ENUM ('good', 'bad');
CREATE SEQUENCE rel.counter;
CREATE TABLE rel.twice (id int);
CREATE SCHEMA IF NOT EXISTS rel2; DROP VIEW IF EXISTS rel2.twice; CREATE VIEW rel2.twice AS SELECT 1 AS id;
GRANT USAGE, CREATE ON SCHEMA rel, rel2 TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA rel, rel2 TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA rel TO PUBLIC;
`

// TestProvenReads: what is forwarded before its record is durable, in the mode "release", is a read of plain tables with
// PostgreSQL's own functions, and nothing else.
func TestProvenReads(t *testing.T) {
	t.Parallel()
	if out, err := server.PSQL("postgres", readsOf); err != nil {
		t.Fatal(err, out)
	}
	h := startGate(t, &enforce.Options{Release: true})
	h.driver.unresolved = false
	c := h.connect("agents")
	cases := []struct {
		text  string
		early bool
	}{
		{"SELECT 1", true},
		{"SELECT id, v FROM rel.plain WHERE id = 7", true},
		{"SELECT count(*), max(upper(v)) FROM rel.plain GROUP BY id % 3 HAVING count(*) > 1 ORDER BY 1 LIMIT 2", true},
		{"SELECT p.id FROM rel.plain p JOIN rel.plain q USING (id) WHERE q.v LIKE 'x%' AND p.id IN (1, 2)", true},
		{"WITH a AS (SELECT id FROM rel.plain) SELECT sum(id) FROM a", true},
		{"SELECT id::text, '2020-01-01'::date FROM rel.plain LIMIT 1", true},
		{"SELECT relname FROM pg_catalog.pg_class LIMIT 1", true},
		{"SELECT * FROM rel.parts", true},

		{"SELECT * FROM rel.window", false},
		{"SELECT * FROM rel.stored", false},
		{"SELECT * FROM rel.guarded", false},
		{"SELECT * FROM rel.mixed", false},
		{"SELECT * FROM rel.ruled", false},
		{"SELECT * FROM twice", false},
		{"SELECT rel.mine(1)", false},
		{"SELECT lower(v) FROM rel.plain LIMIT 1", false}, // there is another function of that name
		{"SELECT '(1,1)'::point OPERATOR(rel.@+@) '(1,1)'::point", false},
		{"SELECT 'good'::rel.mood", false},
		{"SELECT (p).id FROM rel.plain p LIMIT 1", true},
		{"SELECT (p).mine FROM (SELECT 1 AS mine) p", false},
		{"SELECT id FROM rel.plain WHERE id = 1 FOR UPDATE", false},
		{"SELECT id FROM rel.plain WHERE id = 1 FOR SHARE", false},
		{"SELECT nextval('rel.counter')", false},
		{"SELECT pg_sleep(0)", false},
		{"SELECT set_config('application_name', 'x', false)", false},
		{"SELECT pg_notify('x', 'y')", false},
		{"SELECT pg_advisory_xact_lock(1)", false},
		{"SELECT pg_database_size('postgres') > 0", false},
		{"SELECT count(*) FROM pg_stat_activity", false},
		{"SELECT * FROM generate_series(1, 2); SELECT 1", false},
		{"SELECT 1; SELECT 2", false},
		{"EXPLAIN SELECT 1", false},
		{"SHOW server_version", false},
		{"COPY (SELECT 1) TO STDOUT", false},
		{"COMMIT", false},
		{"PREPARE proven AS SELECT 1", false},
		{"EXECUTE proven", false},
		{"INSERT INTO rel.plain VALUES (0, 'y')", false},
		{"DELETE FROM rel.plain WHERE id = 0", false},
		{"WITH gone AS (DELETE FROM rel.plain WHERE id = 0 RETURNING 1) SELECT * FROM gone", false},
		{"SELECT * INTO TEMP copied FROM rel.plain LIMIT 1", false},
		{"SELECT id FROM copied", true},
		{"LISTEN x", false},
		{"SELECT query_to_xml('SELECT 1', true, true, '')", false},
	}
	early := map[string]bool{}
	for _, test := range cases {
		text := test.text
		early[text] = test.early
		if _, err := c.PgConn().Exec(t.Context(), text).ReadAll(); err != nil && !strings.Contains(text, "twice") && !strings.Contains(text, "copied") &&
			!strings.Contains(text, "EXECUTE") {
			t.Errorf("%s: %v", text, err)
		}
	}
	// The extended protocol; what only prepares waits.
	for _, text := range []string{"SELECT id FROM rel.plain WHERE id = $1"} {
		for range 2 {
			if _, err := c.Exec(t.Context(), text, 7); err != nil {
				t.Error(err)
			}
		}
	}
	// Types of others may run code when a value is made of their text.
	if r := c.PgConn().ExecParams(t.Context(), "SELECT $1", [][]byte{[]byte("good")}, []uint32{typeOf(t, c, "rel.mood")}, nil, nil).Read(); r.Err != nil {
		t.Error(r.Err)
	}
	// Definitions that the session changes are not in the catalog yet.
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"CREATE TABLE rel.fresh (id int)", "SELECT id AS changed FROM rel.plain LIMIT 1"} {
		if _, err := tx.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Error(err)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := c.PgConn().Exec(t.Context(), "SELECT 'again', id FROM rel.plain LIMIT 1").ReadAll(); err != nil {
		t.Error(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}

	seen := map[string]int{}
	for _, e := range h.rec.Entries() {
		if e.Kind != evidence.KindIntent {
			continue
		}
		var in evidence.Intent
		if err := json.Unmarshal(e.Meta, &in); err != nil {
			t.Fatal(err)
		}
		if in.Origin != "" {
			if in.Early {
				t.Errorf("the gateway's own %s did not wait", in.Text)
			}
			continue
		}
		want, listed := early[in.Text]
		switch {
		case listed:
		case in.Text == "SELECT id FROM rel.plain WHERE id = $1":
			want = in.Op == "execute"
		case strings.HasPrefix(in.Text, "SELECT 'again'"), strings.Contains(in.Text, "regtype"):
			want = true
		}
		seen[in.Text]++
		if in.Early != want {
			t.Errorf("%s (%s): forwarded early %v, want %v: %s", in.Text, in.Op, in.Early, want, in.Action)
		}
	}
	for text := range early {
		if seen[text] == 0 {
			t.Errorf("%s is not recorded", text)
		}
	}
}

func typeOf(t *testing.T, c *pgx.Conn, name string) (oid uint32) {
	t.Helper()
	if err := c.QueryRow(t.Context(), "SELECT $1::text::regtype::oid", pgx.QueryExecModeSimpleProtocol, name).Scan(&oid); err != nil {
		t.Fatal(err)
	}
	return oid
}

// ran reports whether the target has begun a statement, by asking it directly.
func ran(t *testing.T, text string) bool {
	t.Helper()
	out, err := server.PSQL("postgres", "SELECT count(*) FROM pg_stat_activity WHERE query = '"+text+"' AND pid <> pg_backend_pid()")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out) != "0"
}

// TestReleaseWaitsForTheRecord: in the mode "release" a proven read runs before its record is durable, and nothing of its answer,
// short or long, reaches the agent before; a change does not run before; and a read whose record fails is never answered.
func TestReleaseWaitsForTheRecord(t *testing.T) {
	if out, err := server.PSQL("postgres", readsOf); err != nil {
		t.Fatal(err, out)
	}
	h := startGate(t, &enforce.Options{Release: true})
	h.driver.unresolved = false
	for name, text := range map[string]string{"short": "SELECT v FROM rel.plain WHERE id = 3", "long": "SELECT v FROM rel.plain WHERE id > 0"} {
		c := h.connect("agents")
		if _, err := c.PgConn().Exec(t.Context(), "SELECT 1").ReadAll(); err != nil {
			t.Fatal(err)
		}
		h.rec.Hold()
		if _, err := c.PgConn().Conn().Write(simpleQuery(text)); err != nil {
			t.Fatal(err)
		}
		for until := time.Now().Add(10 * time.Second); !ran(t, text); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("%s: it does not run before its record is durable", name)
			}
		}
		_ = c.PgConn().Conn().SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		var buf [1]byte
		if k, err := c.PgConn().Conn().Read(buf[:]); k != 0 || err == nil {
			t.Errorf("%s: the agent got %q before the record was durable", name, buf[:k])
		}
		_ = c.PgConn().Conn().SetReadDeadline(time.Now().Add(10 * time.Second))
		h.rec.Release()
		if k, err := c.PgConn().Conn().Read(buf[:]); k != 1 || err != nil || buf[0] != 'T' {
			t.Errorf("%s: then the agent got %q, %v", name, buf[:k], err)
		}
		_ = c.PgConn().Conn().Close()
	}

	c := h.connect("agents")
	h.rec.Hold()
	const change = "UPDATE rel.plain SET v = 1 WHERE id = 4"
	n := len(h.rec.Entries())
	if _, err := c.PgConn().Conn().Write(simpleQuery(change)); err != nil {
		t.Fatal(err)
	}
	h.await(func(list []memrec.Entry) bool { return len(list) > n })
	time.Sleep(200 * time.Millisecond)
	if ran(t, change) {
		t.Error("a change ran before its record was durable")
	}
	h.rec.Release()
	_ = c.PgConn().Conn().Close()

	c = h.connect("agents")
	h.rec.Hold()
	const lost = "SELECT v FROM rel.plain WHERE id = 5"
	if _, err := c.PgConn().Conn().Write(simpleQuery(lost)); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(10 * time.Second); !ran(t, lost) && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
	h.rec.Fail(errors.New("the disk is gone"))
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	deadline, _ := ctx.Deadline()
	_ = c.PgConn().Conn().SetReadDeadline(deadline)
	var all []byte
	for buf := make([]byte, 4096); ; {
		k, err := c.PgConn().Conn().Read(buf)
		all = append(all, buf[:k]...)
		if err != nil {
			break
		}
	}
	if ctx.Err() != nil || strings.Contains(string(all), "xxxx") {
		t.Errorf("the agent got %q", all)
	}
}

func simpleQuery(text string) []byte {
	out := []byte{'Q', 0, 0, 0, byte(len(text) + 5)}
	return append(append(out, text...), 0)
}
