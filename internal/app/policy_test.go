package app

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const writersPolicy = `rules:
  - {name: reads, when: 'action.effects.all(e, e in ["read", "transaction", "session"])', then: allow}
  - {name: writes, when: 'action.effects.all(e, e in ["read", "write", "transaction", "session"])', then: allow}
  - {name: migrations, when: '"schema" in action.effects', then: deny, reason: Schema changes go through migrations.}
packs: [no-unfiltered-writes]
`

// refusal returns the gateway's error, failing the test if err is none.
func refusal(t *testing.T, text string, err error) *pgconn.PgError {
	t.Helper()
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != "42501" || !strings.HasPrefix(e.Message, "gatebook: ") {
		t.Errorf("%s: not refused by the gateway: %v", text, err)
		return &pgconn.PgError{}
	}
	return e
}

// TestPG20SameVerdictInEveryForm runs the same forbidden change in every form that
// PostgreSQL has for it. None may reach the table.
func TestPG20SameVerdictInEveryForm(t *testing.T) {
	p := newPlace(t, "")
	p.write(t, "policy.yaml", writersPolicy)
	setup, err := pgx.Connect(t.Context(), database.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = setup.Close(context.Background()) }()
	_, err = setup.Exec(t.Context(), `DROP TABLE IF EXISTS held; CREATE TABLE held (id int PRIMARY KEY, v text);
		INSERT INTO held SELECT i, 'x' FROM generate_series(1, 10) i; GRANT ALL ON held TO agent;
		CREATE OR REPLACE FUNCTION clear_held() RETURNS int LANGUAGE sql AS 'DELETE FROM held; SELECT 1';
		CREATE OR REPLACE PROCEDURE clear_held_too() LANGUAGE sql AS 'DELETE FROM held'`)
	if err != nil {
		t.Fatal(err)
	}
	g := p.start(t)
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "worker", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	forms := []string{
		"DELETE FROM held",
		"DELETE FROM held WHERE true OR id = 1",
		"DELETE FROM public.held WHERE id = id",
		"/* SELECT */ delete /* */ from only held",
		"TRUNCATE held",
		"WITH gone AS (DELETE FROM held RETURNING id) SELECT count(*) FROM gone",
		"WITH a AS (WITH b AS (DELETE FROM held RETURNING id) SELECT * FROM b) SELECT * FROM a",
		"SELECT 1; DELETE FROM held",
		"DELETE FROM held; SELECT 1",
		"COMMIT; DELETE FROM held",
		"BEGIN READ WRITE; DELETE FROM held; COMMIT",
		"DO $$ BEGIN DELETE FROM held; END $$",
		"SELECT clear_held()",
		"SELECT * FROM clear_held()",
		"SELECT 1 WHERE clear_held() = 1",
		"SELECT 1 ORDER BY clear_held()",
		"CALL clear_held_too()",
		"PREPARE away AS DELETE FROM held",
		"EXECUTE away",
		"EXPLAIN ANALYZE DELETE FROM held",
		"EXPLAIN (ANALYZE, VERBOSE) DELETE FROM held",
		"COPY (DELETE FROM held RETURNING id) TO STDOUT",
		"COPY held FROM PROGRAM 'true'",
		"COPY held TO '/tmp/held'",
		"DECLARE c CURSOR FOR SELECT clear_held()",
		"CREATE TABLE copied AS SELECT * FROM held",
		"SELECT * INTO copied FROM held",
		"CREATE RULE away AS ON SELECT TO held DO INSTEAD DELETE FROM held",
		"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'DELETE FROM held; SELECT 1'",
		"SELECT query_to_xml('DELETE FROM held', true, true, '')",
		"MERGE INTO held USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
		"UPDATE held SET v = 'y'",
		"INSERT INTO held SELECT clear_held(), 'x'",
		"SET ROLE postgres",
		"SELECT set_config('role', 'postgres', false)",
		"ALTER SYSTEM SET fsync = off",
		"SELECT pg_read_file('/etc/passwd')",
		"SELECT lo_import('/etc/passwd')",
		"SELECT dblink('dbname=postgres', 'DELETE FROM held')",
		"CREATE EXTENSION dblink",
		"LOCK TABLE held",
		"SELECT pg_advisory_lock(1)",
		"SELECT pg_terminate_backend(1)",
		"VACUUM held",
	}
	for _, text := range forms {
		_, err := c.PgConn().Exec(t.Context(), text).ReadAll()
		refusal(t, "simple: "+text, err)
		if strings.Contains(text, ";") && !strings.Contains(text, "AS '") && !strings.HasPrefix(text, "DO") {
			continue // several statements cannot be prepared
		}
		_, err = c.Prepare(t.Context(), "", text)
		refusal(t, "prepared: "+text, err)
		if c.PgConn().TxStatus() != 'I' {
			t.Fatalf("%s: transaction status %c", text, c.PgConn().TxStatus())
		}
	}
	var rows int
	if err := c.QueryRow(t.Context(), "SELECT count(*) FROM held WHERE id > $1", 0).Scan(&rows); err != nil || rows != 10 {
		t.Fatalf("%d rows are left: %v", rows, err)
	}
	if _, err := c.Exec(t.Context(), "DELETE FROM held WHERE id = $1", 3); err != nil {
		t.Fatalf("a change with a filter: %v", err)
	}
	e := refusal(t, "DROP", func() error { _, err := c.Exec(t.Context(), "DROP TABLE held"); return err }())
	if !strings.Contains(e.Message, "migrations") || !strings.Contains(e.Detail, "rule migrations") || !strings.Contains(e.Detail, "code policy") {
		t.Errorf("the refusal says %q, %q", e.Message, e.Detail)
	}
	_ = c.Close(t.Context())
	sql := "SELECT effects, rule, privileged FROM exchanges WHERE text = 'DELETE FROM held' AND decision = 'deny' AND op = 'query'"
	var book []string
	err = g.client(t).Lines(t.Context(), http.MethodPost, "/v1/query", map[string]string{"SQL": sql}, func(raw json.RawMessage) error {
		book = append(book, string(raw))
		return nil
	})
	if err != nil || len(book) != 2 || !strings.Contains(book[1], `"write","no-unfiltered-writes/filter","`) {
		t.Errorf("the book says %v, %v", book, err)
	}
	g.end(t)
}

// TestPolicyReload checks that a new policy counts for the next request of a
// session that runs, and that a broken one never replaces a good one.
func TestPolicyReload(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "worker", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	const text = "SELECT pg_sleep(0)"
	if _, err := c.Exec(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	p.write(t, "policy.yaml", "rules: [{name: broken, when: 'action.efects == []', then: allow}]\n")
	if err := g.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "effects") || !strings.Contains(err.Error(), "policy.yaml:1") {
		t.Errorf("a broken policy: %v", err)
	}
	if _, err := c.Exec(t.Context(), text); err != nil {
		t.Errorf("after a broken policy: %v", err)
	}
	p.write(t, "policy.yaml", writersPolicy)
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = c.Exec(t.Context(), text)
	refusal(t, text, err)
	if _, err := c.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
	_ = c.Close(t.Context())
	g.end(t)
}

// TestNoRulesNothingAllowed: a configuration without rules lets nobody do anything.
func TestNoRulesNothingAllowed(t *testing.T) {
	p := newPlace(t, "")
	p.write(t, "policy.yaml", "rules: []\n")
	g := p.start(t)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	c, err := connect(ctx, g.Addresses()[0].Address, p.issuer.Token(t, "worker", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.PgConn().Exec(ctx, "SELECT 1").ReadAll()
	refusal(t, "SELECT 1", err)
	_ = c.Close(ctx)
	g.end(t)
}
