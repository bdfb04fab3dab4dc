package postgres

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
)

// definitionsOf is a schema in which things do more than their names say.
const definitionsOf = `
CREATE SCHEMA IF NOT EXISTS cat;
CREATE TABLE cat.plain (id int PRIMARY KEY, v text);
CREATE TABLE cat.secret (id int, v text);
CREATE VIEW cat.window AS SELECT id, v FROM cat.secret;
CREATE VIEW cat.outer_window AS SELECT id FROM cat.window;
CREATE FUNCTION cat.wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM cat.secret; SELECT 1';
CREATE FUNCTION cat.liar(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE VIEW cat.trap AS SELECT cat.wipe() AS x;
CREATE VIEW cat.files AS SELECT pg_catalog.pg_read_file('x') AS x;
CREATE MATERIALIZED VIEW cat.stored AS SELECT cat.liar(1) AS x;
CREATE FUNCTION cat.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM cat.secret; RETURN NEW; END';
CREATE TABLE cat.triggered (id int);
CREATE TRIGGER t AFTER INSERT ON cat.triggered FOR EACH ROW EXECUTE FUNCTION cat.fires();
CREATE TABLE cat.ruled (id int);
CREATE RULE r AS ON INSERT TO cat.ruled DO ALSO DELETE FROM cat.secret;
CREATE TABLE cat.defaulted (id int DEFAULT cat.wipe(), n serial);
CREATE TABLE cat.checked (id int CHECK (cat.liar(id) = 1));
CREATE TABLE cat.indexed (id int);
CREATE INDEX ON cat.indexed (cat.liar(id));
CREATE TABLE cat.guarded (id int);
ALTER TABLE cat.guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON cat.guarded USING (cat.liar(id) = 1);
CREATE VIEW cat.over_guarded AS SELECT id FROM cat.guarded;
CREATE TABLE cat.parent (id int) PARTITION BY RANGE (id);
CREATE TABLE cat.child PARTITION OF cat.parent FOR VALUES FROM (0) TO (9);
CREATE TRIGGER t AFTER INSERT ON cat.child FOR EACH ROW EXECUTE FUNCTION cat.fires();
CREATE TABLE cat.cascading (id int REFERENCES cat.plain ON DELETE CASCADE);
CREATE TYPE cat.mood AS ENUM ('good', 'bad');
CREATE DOMAIN cat.positive AS int CHECK (VALUE > 0);
CREATE DOMAIN cat.evil AS int CHECK (cat.liar(VALUE) = 1);
CREATE DOMAIN cat.before AS int CHECK (cat.liar(VALUE) = 1);
CREATE DOMAIN cat.over AS cat.before;
ALTER DOMAIN cat.before RENAME TO renamed;
CREATE DOMAIN cat.list AS cat.evil[];
CREATE DOMAIN cat.date AS pg_catalog.date CHECK (cat.liar(1) = 1);
CREATE TYPE cat.span AS RANGE (subtype = cat.evil);
CREATE TYPE cat.pair AS (a int, b cat.evil);
CREATE TYPE cat.plain_pair AS (a int, b text);
CREATE TABLE cat.pairs (p cat.pair[]);
CREATE TABLE cat.moods (m cat.mood);
CREATE TABLE cat.evils (m cat.evil);
CREATE FUNCTION cat.lower(cat.mood) RETURNS text LANGUAGE sql AS 'SELECT ''x''';
CREATE FUNCTION cat.plus(cat.mood, cat.mood) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE OPERATOR cat.@+@ (LEFTARG = cat.mood, RIGHTARG = cat.mood, FUNCTION = cat.plus);
CREATE FUNCTION cat.whole(cat.plain) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE cat.partly (id int);
CREATE INDEX ON cat.partly (id) WHERE cat.liar(1) = 1;
CREATE TABLE cat.measured (id int);
CREATE STATISTICS cat.measures ON (cat.liar(id)), id FROM cat.measured;
CREATE FUNCTION cat.half(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
CREATE TABLE cat.split (id int) PARTITION BY RANGE (cat.half(id));
CREATE FUNCTION cat.order_moods(cat.mood, cat.mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0';
CREATE FUNCTION cat.order_ints(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0';
CREATE OPERATOR CLASS cat.odd FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 cat.order_ints(int, int);
CREATE TABLE cat.ordered (id int);
CREATE INDEX ON cat.ordered (id cat.odd);
CREATE TABLE cat.cut (id int) PARTITION BY RANGE (id cat.odd);
CREATE TYPE cat.sorted AS (n int);
CREATE FUNCTION cat.order_sorted(cat.sorted, cat.sorted) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0';
CREATE FUNCTION cat.less_sorted(cat.sorted, cat.sorted) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false';
CREATE OPERATOR cat.<<<< (LEFTARG = cat.sorted, RIGHTARG = cat.sorted, FUNCTION = cat.less_sorted);
CREATE OPERATOR CLASS cat.sorts DEFAULT FOR TYPE cat.sorted USING btree AS OPERATOR 1 cat.<<<<, FUNCTION 1 cat.order_sorted(cat.sorted, cat.sorted);
CREATE TABLE cat.sorting (s cat.sorted);
CREATE FUNCTION cat.json_object() RETURNS json LANGUAGE sql AS 'SELECT NULL::json';
GRANT USAGE, CREATE ON SCHEMA cat TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA cat TO PUBLIC;
`

// TestCatalog resolves statements with the definitions of a real database: what
// stands behind a name counts.
func TestCatalog(t *testing.T) {
	t.Parallel()
	setup, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = setup.Close(context.Background()) }()
	if _, err := setup.Exec(t.Context(), "CREATE DATABASE definitions"); err != nil {
		t.Fatal(err)
	}
	own, err := pgx.Connect(t.Context(), server.URL("definitions"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close(context.Background()) }()
	if _, err := own.Exec(t.Context(), definitionsOf); err != nil {
		t.Fatal(err)
	}
	h := start(t)
	h.driver.unresolved = false
	c := dialRaw(t, h.addr, "default", "agents", "orders/definitions")
	var db *database
	for _, d := range h.driver.databases.all {
		db = d
	}
	if db == nil || db.known.Load() == nil {
		t.Fatal("the definitions were not read")
	}
	for _, c := range []struct{ text, want, objects string }{
		{"SELECT v FROM cat.plain WHERE id = 1", "read", "cat.plain"},
		{"SELECT v FROM plain", "read", "cat.plain"},
		{"SELECT * FROM cat.window", "read", "cat.window cat.secret"},
		{"SELECT * FROM cat.outer_window", "read", "cat.outer_window cat.window cat.secret"},
		{"SELECT * FROM cat.trap", "read,execute", "cat.trap cat.wipe"},
		{"SELECT * FROM trap", "read,execute", "cat.trap cat.wipe"},
		{"SELECT * FROM cat.files", "read,file", "cat.files"},
		{"SELECT * FROM cat.stored", "read", "cat.stored"},
		{"SELECT cat.liar(1)", "read,execute", "cat.liar"},
		{"SELECT liar(1)", "read,execute", "cat.liar"},
		{"SELECT lower('X')", "read,execute", "cat.lower"},
		{"SELECT upper('X')", "read", "upper"},
		{"SELECT p.whole FROM cat.plain p", "read,execute", "cat.whole"},
		{"SELECT p.v FROM cat.plain p", "read", "cat.plain"},
		{"SELECT 'good'::cat.mood @+@ 'bad'", "read,execute", "cat.@+@"},
		{"SELECT 'good'::cat.mood", "read", "cat.mood"},
		{"SELECT 'good'::mood", "read", "cat.mood"},
		{"SELECT 1::cat.positive", "read", "cat.positive"},
		{"SELECT 1::cat.evil", "read,execute", "cat.evil"},
		{"SELECT '{1}'::cat.evil[]", "read,execute", "cat.evil"},
		{"SELECT '{1}'::cat._evil", "read,execute", "cat._evil"},
		{"SELECT '{good}'::cat._mood", "read", "cat._mood"},
		{"SELECT 1::cat.over", "read,execute", "cat.over"},
		{"SELECT '{1}'::cat.list", "read,execute", "cat.list"},
		{"SELECT '[1,2]'::cat.span", "read,execute", "cat.span"},
		{"SELECT '{[1,2]}'::cat.spanmultirange", "read,execute", "cat.spanmultirange"},
		{"SELECT '(1,2)'::cat.pair", "read,execute", "cat.pair"},
		{"SELECT '(1,2)'::cat.plain_pair", "read", "cat.plain_pair"},
		{"SELECT '(1)'::cat.evils", "read,execute", "cat.evils"},
		{"SELECT '{(1)}'::cat.evils[]", "read,execute", "cat.evils"},
		{"SELECT ROW(1)::evils", "read,execute", "cat.evils"},
		{"SELECT json_populate_record(NULL::cat.pairs, '{}')", "read,execute", "cat.pairs"},
		{"SELECT '(good)'::cat.moods", "read", "cat.moods"},
		{"SELECT '2020-01-01'::date", "read,execute", "cat.date"},
		{"SELECT date '2020-01-01'", "read,execute", "cat.date"},
		{"SELECT date('2020-01-01')", "read,execute", "cat.date"},
		{"SELECT '2020-01-01'::pg_catalog.date", "read", ""},
		{"SELECT pg_catalog.date('2020-01-01')", "read", "pg_catalog.date"},
		{"SELECT * FROM cat.moods", "read", "cat.moods"},
		{"SELECT * FROM cat.evils", "read,execute", "cat.evils"},
		{"SELECT * FROM cat.guarded", "read,execute", "cat.guarded"},
		{"SELECT * FROM cat.over_guarded", "read,execute", "cat.over_guarded cat.guarded"},
		// Planning runs code that indexes, constraints, statistics and partition keys have, and sorting that of operator classes.
		{"SELECT * FROM cat.checked", "read,execute", "cat.checked"},
		{"SELECT * FROM cat.indexed", "read,execute", "cat.indexed"},
		{"SELECT * FROM cat.partly", "read,execute", "cat.partly"},
		{"SELECT * FROM cat.measured", "read,execute", "cat.measured"},
		{"SELECT * FROM cat.split", "read,execute", "cat.split"},
		{"SELECT * FROM cat.ordered", "read,execute", "cat.ordered"},
		{"SELECT * FROM cat.cut", "read,execute", "cat.cut"},
		{"SELECT * FROM cat.sorting", "read,execute", "cat.sorting"},
		{"SELECT '(1)'::cat.sorted", "read,execute", "cat.sorted"},
		// Syntax that an older server takes for a function's call.
		{"SELECT json_object()", "read,execute", "cat.json_object"},
		{"SELECT json_object('{a,b}')", "read,execute", "cat.json_object"},
		{"SELECT json_array()", "read", "json_array"},
		{"SELECT txid_current(), pg_current_xact_id()", "read,transaction", ""},
		{"SELECT fmgr_c_validator(1)", "read,execute", ""},
		{"INSERT INTO cat.plain VALUES (1, 'x')", "write", "cat.plain"},
		{"INSERT INTO cat.triggered VALUES (1)", "write,execute", "cat.fires"},
		{"SELECT * FROM cat.triggered", "read", "cat.triggered"},
		{"INSERT INTO cat.ruled VALUES (1)", "write,execute", "cat.ruled"},
		{"INSERT INTO cat.defaulted DEFAULT VALUES", "write,execute", "cat.defaulted"},
		{"INSERT INTO cat.checked VALUES (1)", "write,execute", "cat.checked"},
		{"INSERT INTO cat.indexed VALUES (1)", "write,execute", "cat.indexed"},
		{"INSERT INTO cat.parent VALUES (1)", "write,execute", "cat.parent"},
		{"DELETE FROM cat.plain WHERE id = 1", "write", "cat.plain cat.cascading"},
		{"INSERT INTO cat.window VALUES (1, 'x')", "write", "cat.window cat.secret"},
		{"SELECT * FROM cat.no_such_table", "read,execute", "cat.no_such_table"},
		{"SELECT relname FROM pg_class WHERE relname = 'x'", "read", "pg_catalog.pg_class"},
		{"SELECT * FROM information_schema.tables", "read", "information_schema.tables"},
		{"COPY cat.trap TO STDOUT", "read,execute", "cat.trap cat.wipe"},
		{"EXPLAIN SELECT * FROM cat.trap", "read,execute", "cat.trap"},
	} {
		a := &db.known.Load().texts.Get(c.text).action
		if a.Effects.String() != c.want || !a.Understood {
			t.Errorf("%s\n  does %s (%s), want %s", c.text, a.Effects, a.Why, c.want)
		}
		var names []string
		for _, o := range a.Statements[0].Objects {
			names = append(names, strings.TrimPrefix(o.Schema+"."+o.Name, "."))
		}
		for _, want := range strings.Fields(c.objects) {
			if !slices.Contains(names, want) {
				t.Errorf("%s\n  names %v, want %s", c.text, names, want)
			}
		}
	}

	// A session sees its own changes at once, in its transaction and after it.
	does := func(text, want string) {
		t.Helper()
		c.send(query(text))
		c.until('Z')
		x := h.agents()
		last := x[len(x)-1].intent
		if got := strings.Join(effectsOf(t, last.Action), ","); got != want {
			t.Errorf("%s\n  does %s, want %s", text, got, want)
		}
	}
	does("SELECT initcap('a')", "read")
	does("BEGIN", "transaction")
	does("CREATE TABLE cat.fresh (id int)", "schema")
	does("INSERT INTO cat.fresh VALUES (1)", "write")
	does("CREATE FUNCTION cat.initcap(text) RETURNS text LANGUAGE sql AS 'SELECT 1::text'", "schema")
	does("SELECT initcap('a')", "read,execute")
	does("SELECT 1", "read,execute") // anything, until the transaction is over
	does("COMMIT", "execute,transaction")
	does("SELECT initcap('a')", "read,execute")
	does("SELECT 1", "read")
	does("CREATE TEMP TABLE scratch (id int)", "schema")
	does("INSERT INTO pg_temp.scratch VALUES (1)", "write")
	does("CREATE TRIGGER t BEFORE INSERT ON pg_temp.scratch FOR EACH ROW EXECUTE FUNCTION cat.fires()", "schema")
	does("INSERT INTO scratch VALUES (1)", "write,execute")
	does("INSERT INTO pg_temp.scratch VALUES (1)", "write,execute")
	does("DROP FUNCTION cat.initcap(text)", "schema")
	does("SELECT initcap('a')", "read")

	// Another's changes count within a few seconds.
	if _, err := own.Exec(t.Context(), "CREATE FUNCTION cat.upper(cat.mood) RETURNS text LANGUAGE sql AS 'SELECT 1::text'"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(4 * catalogStale); ; time.Sleep(100 * time.Millisecond) {
		c.send(query("SELECT upper('a')"))
		c.until('Z')
		x := h.agents()
		if strings.Join(effectsOf(t, x[len(x)-1].intent.Action), ",") == "read,execute" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a function that another session made is not seen")
		}
	}

	// When the definitions cannot be read, every name may stand for unknown code, and nobody logs in.
	db.known.Store(nil)
	does("SELECT * FROM cat.plain", "read,execute")
	does("SELECT upper('a')", "read,execute")
	does("SELECT 1", "read")
}

// TestCatalogOldTransaction: a transaction that began before others and ends after them changes definitions too.
func TestCatalogOldTransaction(t *testing.T) {
	t.Parallel()
	dial := func(name string) *pgx.Conn {
		c, err := pgx.Connect(t.Context(), server.URL(name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	do := func(c *pgx.Conn, text string) {
		t.Helper()
		if _, err := c.Exec(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	do(dial("postgres"), "CREATE DATABASE overtaken")
	old, other := dial("overtaken"), dial("overtaken")
	do(other, `CREATE FUNCTION acts(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW a AS SELECT 1 AS x; CREATE VIEW b AS SELECT 1 AS x`)
	do(old, "BEGIN; SELECT txid_current()")
	do(other, "CREATE OR REPLACE VIEW b AS SELECT 2 AS x")
	h := start(t)
	h.driver.unresolved = false
	dialRaw(t, h.addr, "default", "agents", "orders/overtaken")
	var db *database
	for _, d := range h.driver.databases.all {
		db = d
	}
	does := func(want string) {
		t.Helper()
		if got := db.known.Load().texts.Get("SELECT * FROM a").action.Effects.String(); got != want {
			t.Errorf("the view does %s, want %s", got, want)
		}
	}
	does("read")
	do(old, "CREATE OR REPLACE VIEW a AS SELECT acts(1) AS x; COMMIT")
	if err := db.refresh(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	does("read,execute")
}

func effectsOf(t *testing.T, action json.RawMessage) []string {
	t.Helper()
	var a evidence.Action
	if err := json.Unmarshal(action, &a); err != nil {
		t.Fatalf("%v in %s", err, action)
	}
	if a.Why != "" && !slices.Contains(a.Effects, access.EffectExecute.String()) {
		t.Errorf("opaque (%s) without the effect of unknown code", a.Why)
	}
	return a.Effects
}
