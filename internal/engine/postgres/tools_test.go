package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatebook/gatebook/internal/testkit/pgserver"
)

func (h *harness) run(name string, args ...string) (string, error) {
	ctx, stop := context.WithTimeout(h.t.Context(), 60*time.Second)
	defer stop()
	bin, err := pgserver.Bin()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, name), args...).CombinedOutput() //nolint:gosec // a test's tool
	return string(out), err
}

// TestPsqlScript compares what psql prints with what it prints without us.
func TestPsqlScript(t *testing.T) {
	t.Parallel()
	h := start(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "script.sql")
	text := `\set VERBOSITY verbose
CREATE TABLE psql_t (id int PRIMARY KEY, v text, b bytea);
\copy psql_t (id, v) FROM PSTDIN_FILE
INSERT INTO psql_t VALUES (10, 'é', '\x00ff'), (11, NULL, NULL) RETURNING *;
SELECT 1 AS a \; SELECT 2 AS b \; SELECT 1/0 \; SELECT 3;
SELECT id, v FROM psql_t ORDER BY id \gdesc
\copy (SELECT * FROM psql_t ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)
BEGIN; INSERT INTO psql_t VALUES (10); SELECT 'not reached'; ROLLBACK;
DO $$ BEGIN RAISE NOTICE 'hello'; RAISE WARNING 'careful'; END $$;

LISTEN c; NOTIFY c, 'payload'; SELECT 1;
\d psql_t
COPY psql_t (id) FROM STDIN;
not a number
\.
SELECT count(*) FROM psql_t;
DECLARE x CURSOR WITH HOLD FOR SELECT generate_series(1,5); FETCH 3 FROM x; CLOSE x;
SELECT current_user, current_database();
\encoding
DROP TABLE psql_t;
`
	data := filepath.Join(dir, "data")
	if err := os.WriteFile(data, []byte("1\tone\n2\ttwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, "PSTDIN_FILE", "'"+data+"'")
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.PSQL("postgres", "CREATE DATABASE psql_db OWNER agent"); err != nil {
		t.Fatal(err)
	}
	direct, err1 := h.run("psql", "-X", "-a", "-f", script, directURL("psql_db"))
	relayed, err2 := h.run("psql", "-X", "-a", "-f", script, h.url("agents", "orders/psql_db"))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2, relayed)
	}
	mask := func(s string) string { return backendPID.ReplaceAllString(s, "PID") }
	if mask(direct) != mask(relayed) {
		t.Errorf("direct:\n%s\nrelayed:\n%s", direct, relayed)
	}
}

func directURL(database string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=agent password=upstream-secret dbname=%s sslmode=require", server.Port, database)
}

func TestPgbench(t *testing.T) {
	t.Parallel()
	h := start(t)
	if out, err := h.run("pgbench", "-i", "-q", "-s", "1", h.url("agents", "orders/bench")); err != nil {
		t.Fatal(out)
	}
	for _, mode := range []string{"simple", "extended", "prepared"} {
		out, err := h.run("pgbench", "-n", "-M", mode, "-c", "8", "-j", "2", "-t", "25", h.url("agents", "orders/bench"))
		if err != nil || !strings.Contains(out, "number of transactions actually processed: 200/200") {
			t.Errorf("%s: %v %s", mode, err, out)
		}
	}
	h.closed()
	for _, x := range h.agents() {
		if x.outcome == nil || x.outcome.Status != "ok" && x.outcome.Status != "error" {
			t.Errorf("%q: %+v", x.intent.Text, x.outcome)
		}
	}
}

func TestDumpAndRestore(t *testing.T) {
	t.Parallel()
	h := start(t)
	if _, err := server.PSQL("postgres", "CREATE DATABASE dump_a OWNER agent; CREATE DATABASE dump_b OWNER agent"); err != nil {
		t.Fatal(err)
	}
	if out, err := h.run("psql", "-X", "-v", "ON_ERROR_STOP=1", directURL("dump_a"), "-c", `CREATE TABLE a (id serial PRIMARY KEY, v text, b bytea, f float8);
		INSERT INTO a (v, b, f) SELECT repeat('ü'||i, 20), sha256(i::text::bytea), random() FROM generate_series(1, 5000) i;
		CREATE VIEW av AS SELECT * FROM a; CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
		CREATE INDEX ON a (v); COMMENT ON TABLE a IS 'sample'`); err != nil {
		t.Fatal(out)
	}
	direct, err1 := h.run("pg_dump", "-d", directURL("dump_a"))
	relayed, err2 := h.run("pg_dump", "-d", h.url("agents", "orders/dump_a"))
	if err1 != nil || err2 != nil || unkeyed(direct) != unkeyed(relayed) {
		t.Fatalf("%v %v: dumps of %d and %d bytes differ: %.500s", err1, err2, len(direct), len(relayed), relayed)
	}
	file := filepath.Join(t.TempDir(), "dump")
	if out, err := h.run("pg_dump", "-Fc", "-f", file, "-d", h.url("agents", "orders/dump_a")); err != nil {
		t.Fatal(out)
	}
	if out, err := h.run("pg_restore", "--no-comments", "-d", h.url("agents", "orders/dump_b"), file); err != nil {
		t.Fatal(out)
	}
	a, err1 := h.run("psql", "-XAt", directURL("dump_a"), "-c", "TABLE a")
	b, err2 := h.run("psql", "-XAt", directURL("dump_b"), "-c", "TABLE a")
	if err1 != nil || err2 != nil || a != b || len(a) < 100000 {
		t.Errorf("%v %v: %d and %d bytes", err1, err2, len(a), len(b))
	}
}

// unkeyed drops the random key that newer pg_dump versions put around a script.
func unkeyed(s string) string { return restrictKey.ReplaceAllString(s, "") }

func TestPgxFeatures(t *testing.T) {
	t.Parallel()
	h := start(t)
	c := h.connect("agents")
	ctx := t.Context()
	must := func(_ pgconn.CommandTag, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Exec(ctx, "CREATE TEMP TABLE x (id int, v text)"))
	var b pgx.Batch
	for i := range 200 {
		b.Queue("INSERT INTO x VALUES ($1, $2)", i, fmt.Sprint("v", i))
	}
	b.Queue("SELECT count(*) FROM x").QueryRow(func(row pgx.Row) error {
		var n int
		if err := row.Scan(&n); err != nil || n != 200 {
			t.Errorf("%d %v", n, err)
		}
		return nil
	})
	if err := c.SendBatch(ctx, &b).Close(); err != nil {
		t.Fatal(err)
	}
	var bad pgx.Batch
	bad.Queue("INSERT INTO x VALUES (1000, 'lost')")
	bad.Queue("SELECT 1/$1::int", 0)
	bad.Queue("INSERT INTO x VALUES (1001, 'lost')")
	var pgErr *pgconn.PgError
	if err := c.SendBatch(ctx, &bad).Close(); !errors.As(err, &pgErr) || pgErr.Code != "22012" {
		t.Errorf("batch: %v", err)
	}
	rows := [][]any{{2000, "copied"}, {2001, nil}}
	if n, err := c.CopyFrom(ctx, pgx.Identifier{"x"}, []string{"id", "v"}, pgx.CopyFromRows(rows)); err != nil || n != 2 {
		t.Errorf("CopyFrom: %d %v", n, err)
	}
	if n, err := c.CopyFrom(ctx, pgx.Identifier{"x"}, []string{"id", "nosuch"}, pgx.CopyFromRows(rows)); err == nil {
		t.Errorf("CopyFrom: %d", n)
	}
	var out bytes.Buffer
	must(c.PgConn().CopyTo(ctx, &out, "COPY (SELECT * FROM x WHERE id >= 1000 ORDER BY id) TO STDOUT"))
	if out.String() != "2000\tcopied\n2001\t\\N\n" {
		t.Errorf("CopyTo: %q", out.String())
	}
	must(c.Exec(ctx, "LISTEN news"))
	other := h.connect("agents")
	must(other.Exec(ctx, "NOTIFY news, 'idle'"))
	if n, err := c.WaitForNotification(ctx); err != nil || n.Payload != "idle" {
		t.Errorf("%+v %v", n, err)
	}
	slow, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	if _, err := other.Exec(slow, "SELECT pg_sleep(30) /* ctx */"); err == nil {
		t.Error("the cancelled statement ended well")
	}
	columns := make([]string, 1600)
	for i := range columns {
		columns[i] = fmt.Sprintf("%d AS c%d", i, i)
	}
	r, err := c.Query(ctx, "SELECT "+strings.Join(columns, ","))
	if err != nil {
		t.Fatal(err)
	}
	for r.Next() {
		if v, err := r.Values(); err != nil || len(v) != 1600 || v[1599] != int32(1599) {
			t.Errorf("%d columns, %v", len(v), err)
		}
	}
	if r.Err() != nil {
		t.Error(r.Err())
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "SELECT nonsense"); err == nil {
		t.Error("no error")
	}
	if err := tx.Commit(ctx); !errors.Is(err, pgx.ErrTxCommitRollback) {
		t.Errorf("commit: %v", err)
	}
}

var (
	backendPID  = regexp.MustCompile(`PID [0-9]+|pg_temp_[0-9]+`)
	restrictKey = regexp.MustCompile(`(?m)^\\(un)?restrict .*$`)
)
