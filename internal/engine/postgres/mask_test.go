package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/detect"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/lineage"
	"github.com/gatebook/gatebook/internal/mask"
)

// maskedWorld is a gateway before a database with values that must not be seen: each holds a canary.
type maskedWorld struct {
	*harness
	masks *fixedMasks
	wire  *tap
}

// fixedMasks are the same for everybody.
type fixedMasks struct {
	mu  sync.Mutex
	set *mask.Set
}

func (m *fixedMasks) For(*access.Request) *mask.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.set
}

// Named implements enforce.Masks.
func (m *fixedMasks) Named(string) *mask.Set { return m.For(nil) }

func detectors(t testing.TB) *detect.Set {
	t.Helper()
	find, err := detect.New(detect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return find
}

const maskedSchema = `
CREATE TABLE customers (id int PRIMARY KEY, name text, email text UNIQUE, ssn int CHECK (ssn <> 13), phone varchar(40), born date, seen timestamptz, balance numeric, doc jsonb, file bytea, uid uuid);
INSERT INTO customers SELECT n, 'name' || n, 'canary' || n || '@example.test', 900000 + n, '+15551canary' || n, '2000-05-17'::date + n, '2020-05-17 10:11:12+00', 1234.56,
 jsonb_build_object('email', 'canary' || n), ('canary' || n)::bytea, ('00000000-0000-0000-0000-00000000000' || n)::uuid FROM generate_series(1, 5) n;
CREATE TABLE notes (id int, note text); INSERT INTO notes VALUES (1, 'note');
CREATE VIEW people AS SELECT id, email AS mail FROM customers;
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'email is %', (SELECT max(email) FROM customers); PERFORM pg_notify('news', (SELECT max(email) FROM customers));
 IF NEW.note = 'fail' THEN RAISE EXCEPTION 'cannot: %', (SELECT max(email) FROM customers) USING DETAIL = 'canary detail', HINT = 'canary hint', ERRCODE = '42501'; END IF; RETURN NEW; END $$;
CREATE TRIGGER shout BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION shout();
CREATE FUNCTION leak() RETURNS text LANGUAGE sql AS 'SELECT max(email) FROM customers';
ANALYZE; GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC;`

func rule(t testing.TB, r mask.Rule) *mask.Rule {
	t.Helper()
	if r.Inference == "" {
		r.Inference = mask.Refuse
	}
	r.Key = bytes.Repeat([]byte("k"), 32)
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	return &r
}

func startMasked(t *testing.T, database string, rules ...*mask.Rule) *maskedWorld {
	t.Helper()
	psql(t, "DROP DATABASE IF EXISTS "+database+" WITH (FORCE)")
	psql(t, "CREATE DATABASE "+database)
	if out, err := server.PSQL(database, maskedSchema); err != nil {
		t.Fatal(err, out)
	}
	w := &maskedWorld{harness: startGate(t, &enforce.Options{}), masks: &fixedMasks{set: mask.NewSet(rules, nil, detectors(t))}, wire: &tap{}}
	w.driver.unresolved = false
	snap := *w.gate.Snapshot()
	snap.Masks = w.masks
	w.gate.SetSnapshot(&snap)
	return w
}

// tap keeps what an agent received besides answers.
type tap struct {
	mu  sync.Mutex
	got bytes.Buffer
}

// agent connects as one whose notices and notifications are kept.
func (w *maskedWorld) agent(t *testing.T, database string) *pgx.Conn {
	t.Helper()
	c, err := pgx.ParseConfig(w.url("agents", "orders/"+database))
	if err != nil {
		t.Fatal(err)
	}
	c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { w.wire.note(n.Message + n.Detail + n.Hint) }
	c.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { w.wire.note(n.Channel + ":" + n.Payload) }
	conn, err := pgx.ConnectConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func (t *tap) note(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.got.WriteString(s)
}

var canary = regexp.MustCompile(`(?i)canary|63616e617279|90000[1-5]`)

// seen fails if anything with a canary reached the agent.
func (w *maskedWorld) seen(t *testing.T, what, text string) {
	t.Helper()
	if at := canary.FindString(text); at != "" {
		t.Errorf("%s: %q reached the agent in %.300q", what, at, text)
	}
}

// ask runs a text and returns everything that came back, as one string.
func (w *maskedWorld) ask(t *testing.T, c *pgx.Conn, text string, how string) string {
	t.Helper()
	var out strings.Builder
	failed := func(err error) {
		if err != nil {
			out.WriteString(fmt.Sprintf("%+v", err))
			if e, ok := err.(*pgconn.PgError); ok { //nolint:errorlint // its own
				out.WriteString(fmt.Sprintf("%+v", *e))
			}
		}
	}
	if how == "simple" {
		results, err := c.PgConn().Exec(t.Context(), text).ReadAll()
		failed(err)
		for _, r := range results {
			for _, row := range r.Rows {
				out.WriteString(fmt.Sprintf("%q", row))
			}
		}
		return out.String()
	}
	formats := []int16{0}
	if how == "binary" {
		formats[0] = 1
	}
	r := c.PgConn().ExecParams(t.Context(), text, nil, nil, nil, formats).Read()
	failed(r.Err)
	for _, row := range r.Rows {
		out.WriteString(fmt.Sprintf("%q", row))
	}
	return out.String()
}

// TestPM11MaskedByType: values of all types are masked in text and in binary format, and stay of their type.
func TestPM11MaskedByType(t *testing.T) {
	w := startMasked(t, "masked_types",
		rule(t, mask.Rule{Name: "mails", Columns: []string{"public.customers.email"}, Method: mask.Partial, KeepFirst: 0, KeepDomain: true}),
		rule(t, mask.Rule{Name: "phones", Columns: []string{"public.customers.phone"}, Method: mask.Redact}),
		rule(t, mask.Rule{Name: "ssns", Columns: []string{"*.*.ssn", "*.*.uid"}, Method: mask.Tokenize}),
		rule(t, mask.Rule{Name: "dates", Columns: []string{"*.*.born", "*.*.seen"}, Method: mask.Generalise, Unit: "month"}),
		rule(t, mask.Rule{Name: "money", Columns: []string{"*.*.balance"}, Method: mask.Generalise, Step: 1000}),
		rule(t, mask.Rule{Name: "rest", Columns: []string{"*.*.doc", "*.*.file"}, Method: mask.Redact}),
	)
	c := w.agent(t, "masked_types")
	for _, how := range []string{"simple", "text", "binary"} {
		got := w.ask(t, c, "SELECT * FROM customers", how)
		w.seen(t, how, got)
		if !strings.Contains(got, "***@example.test") || !strings.Contains(got, "[masked]") || !strings.Contains(got, "name3") {
			t.Errorf("%s: %s", how, got)
		}
	}
	var id, ssn int
	var name, email, phone string
	rows, err := c.Query(t.Context(), "SELECT id, name, email, ssn, phone, born::text IS NULL, to_char(now(), 'x') FROM customers WHERE id = $1", 2)
	if err != nil {
		t.Fatal(err)
	}
	var null bool
	var x string
	if !rows.Next() || rows.Scan(&id, &name, &email, &ssn, &phone, &null, &x) != nil {
		t.Fatal(rows.Err())
	}
	rows.Close()
	if id != 2 || name != "name2" || email != "***@example.test" || ssn < 0 || ssn == 900002 || phone != "[masked]" || null {
		t.Errorf("%d %s %s %d %s %v", id, name, email, ssn, phone, null)
	}
	out := w.ask(t, c, "SELECT born, seen, balance FROM customers WHERE id = 1", "simple")
	if out != `["2000-05-01" "2020-05-01 00:00:00+00" "1000"]` {
		t.Error(out)
	}
	all := w.agents()
	last := string(all[len(all)-1].outcome.Detail)
	if !strings.Contains(last, `"masked":[{"at":0,"mask":"dates","column":"public.customers.born","seen":1,"masked":1,"nulled":0,"null":0}`) {
		t.Errorf("the outcome says %s", last)
	}
}

// TestPM08Errors: what goes wrong says nothing of masked values: errors with their details, notices, notifications.
func TestPM08Errors(t *testing.T) {
	w := startMasked(t, "masked_errors", rule(t, mask.Rule{Name: "all", Columns: []string{"public.customers.email", "public.customers.ssn"}, Method: mask.Redact}))
	c := w.agent(t, "masked_errors")
	if out := w.ask(t, c, "LISTEN news", "simple"); out != "" {
		t.Fatal(out)
	}
	for _, tt := range []struct{ text, code string }{
		{"INSERT INTO customers (id, email) VALUES (1, 'x')", "23505"},
		{"INSERT INTO customers (id, email) VALUES (9, 'canary1@example.test')", "23505"},
		{"INSERT INTO customers (id, ssn) VALUES (9, 13)", "23514"},
		{"UPDATE customers SET ssn = 13 WHERE id = 1", "23514"},
		{"INSERT INTO notes VALUES (2, 'x')", ""},
		{"INSERT INTO notes VALUES (2, 'fail')", "42501"},
		{"SELECT 1/0 FROM customers", "22012"},
		{"SELECT nothing FROM customers", "42501"},
		{"SELECT name::int FROM customers", "22P02"},
	} {
		for range 2 {
			_, err := c.PgConn().Exec(t.Context(), tt.text).ReadAll()
			got := ""
			var said *pgconn.PgError
			switch {
			case errors.As(err, &said):
				got = said.Code
				w.seen(t, tt.text, strings.ReplaceAll(fmt.Sprintf("%+v", *said), tt.text, ""))
			case err != nil:
				t.Fatal(tt.text, err)
			}
			if got != tt.code {
				t.Errorf("%s: %q, want %q", tt.text, got, tt.code)
			}
		}
	}
	w.wire.mu.Lock()
	defer w.wire.mu.Unlock()
	heard := w.wire.got.String()
	w.seen(t, "notices", heard)
	if !strings.Contains(heard, "withheld") || !strings.Contains(heard, "news:") {
		t.Errorf("neither a notice nor a notification came: %q", heard)
	}
}

// TestPM01WaysRound: no way of asking gives a value, whatever is sent.
func TestPM01WaysRound(t *testing.T) {
	w := startMasked(t, "masked_ways", rule(t, mask.Rule{Name: "all", Columns: []string{"public.customers.email", "public.customers.ssn", "public.customers.phone", "public.customers.doc", "public.customers.file"}, Method: mask.Redact}))
	c := w.agent(t, "masked_ways")
	for _, text := range []string{
		"SELECT * FROM customers", "SELECT c FROM customers c", "SELECT c.* FROM customers AS c (a, b, d, e, f)", "SELECT d, e, f FROM customers AS c (a, b, d, e, f)", "TABLE customers", "SELECT email || '' FROM customers",
		"SELECT reverse(email) FROM customers", "SELECT md5(email) FROM customers", "SELECT encode(email::bytea, 'hex') FROM customers", "SELECT convert_to(email, 'UTF8') FROM customers",
		"SELECT format('%s', email) FROM customers", "SELECT ssn + 0 FROM customers", "SELECT ssn::text FROM customers", "SELECT -ssn FROM customers", "SELECT to_jsonb(c) FROM customers c",
		"SELECT row_to_json(c) FROM customers c", "SELECT xmlforest(email) FROM customers", "SELECT string_agg(email, ',') FROM customers", "SELECT array_agg(c) FROM customers c", "SELECT * FROM people", "SELECT people FROM people",
		"WITH x AS (SELECT email FROM customers) SELECT * FROM x", "SELECT (SELECT email FROM customers LIMIT 1)", "VALUES ((SELECT max(email) FROM customers))", "SELECT * FROM (SELECT email FROM customers) s (id)",
		"SELECT 'x' UNION ALL SELECT email FROM customers", "SELECT leak()", "SELECT * FROM leak()", "SELECT query_to_xml('select email from customers', true, true, '')", "SELECT * FROM dblink('', '')",
		"SELECT table_to_xml('customers', true, true, '')", "SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers'", "SELECT * FROM pg_stats", "SELECT histogram_bounds::text FROM pg_stats", "SELECT stavalues1 FROM pg_statistic",
		"SELECT query FROM pg_stat_activity", "COPY customers TO STDOUT", "COPY (SELECT email FROM customers) TO STDOUT", "COPY customers (email) TO STDOUT (FORMAT binary)", "DECLARE c CURSOR WITH HOLD FOR SELECT email FROM customers",
		"PREPARE p AS SELECT email FROM customers", "EXECUTE p", "DO $$ BEGIN RAISE NOTICE '%', (SELECT max(email) FROM customers); END $$", "CREATE TABLE t1 AS SELECT email FROM customers", "SELECT email INTO t2 FROM customers",
		"INSERT INTO notes SELECT id, email FROM customers RETURNING *", "UPDATE notes SET note = (SELECT max(email) FROM customers) RETURNING *", "UPDATE customers SET name = email RETURNING name", "UPDATE customers SET id = id RETURNING *",
		"DELETE FROM customers WHERE id = 5 RETURNING customers", "INSERT INTO customers (id, name) VALUES (77, 'x') ON CONFLICT DO NOTHING RETURNING email", "ALTER TABLE customers RENAME email TO harmless", "ALTER TABLE customers RENAME TO other",
		"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT max(email) FROM customers'", "CREATE VIEW v AS SELECT email AS x FROM customers; SELECT * FROM v", "BEGIN; CREATE VIEW v2 AS SELECT email AS x FROM customers; SELECT * FROM v2; COMMIT",
		"CREATE RULE r AS ON SELECT TO notes DO INSTEAD SELECT id, email FROM customers", "SELECT set_config('a.b', email, false) FROM customers; SELECT current_setting('a.b')", "SELECT pg_notify('news', email) FROM customers",
		"SELECT CASE WHEN email LIKE 'c%' THEN 'canary' END FROM customers", "SELECT email FROM customers ORDER BY email", "SELECT DISTINCT email FROM customers", "EXPLAIN (ANALYZE, VERBOSE) SELECT email FROM customers",
		"EXPLAIN (ANALYZE) SELECT * FROM customers WHERE email = (SELECT max(email) FROM customers)", "SELECT 1/(ssn - 900001) FROM customers", "SELECT email::int FROM customers", "SELECT doc->>'email' FROM customers", "SELECT doc FROM customers",
		"SELECT file FROM customers", "SELECT encode(file, 'escape') FROM customers", "SELECT phone::varchar(3) FROM customers", "SELECT lo_from_bytea(0, file) FROM customers", "SELECT jsonb_path_query(doc, '$.email') FROM customers",
		"SELECT * FROM jsonb_each((SELECT doc FROM customers LIMIT 1))", "SELECT unnest(ARRAY[email]) FROM customers", "SELECT (ARRAY[email])[1] FROM customers", "SELECT (ROW(email)).f1 FROM customers", "SELECT (c).email FROM customers c",
		"SELECT (c.*)::text FROM customers c", "SELECT c::text::name FROM customers c", "SELECT coalesce(NULL, email) FROM customers", "SELECT greatest(email, '') FROM customers", "SELECT lag(email) OVER (ORDER BY id) FROM customers",
		"SELECT max(email) FROM customers", "SELECT min(ssn) FROM customers", "SELECT * FROM customers NATURAL JOIN people", "SELECT p.mail, email FROM customers JOIN people p USING (id)", "SELECT x.* FROM customers, LATERAL (SELECT email) x",
		"SELECT ts_headline(email, 'x') FROM customers", "SELECT to_tsvector(email) FROM customers", "SELECT (SELECT array_agg(email) FROM customers)::text", "FETCH ALL FROM nothing", "WITH RECURSIVE r AS (SELECT email FROM customers UNION ALL SELECT email FROM r WHERE false) SELECT * FROM r",
		"MERGE INTO notes n USING customers c ON n.id = c.id WHEN MATCHED THEN UPDATE SET note = c.email", "SELECT pg_get_viewdef('people')", "SELECT * FROM customers FOR UPDATE", "SELECT email FROM customers TABLESAMPLE system (100)",
		"SELECT email AS \"?column?\" FROM customers", "SELECT U&\"\\0065mail\" FROM customers", "SELECT \"email\" FROM \"customers\"", "SELECT public.customers.email FROM public.customers", "SELECT masked_ways.public.customers.email FROM masked_ways.public.customers",
		"SELECT email, email, email FROM customers", "SELECT json_object_agg(id, email) FROM customers", "SELECT json_agg(c.email) FILTER (WHERE true) FROM customers c", "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY email) FROM customers",
	} {
		for _, how := range []string{"simple", "text", "binary"} {
			got := w.ask(t, c, text, how)
			w.seen(t, how+" "+text, strings.ReplaceAll(got, text, ""))
			if c.IsClosed() {
				t.Errorf("%s %s: the connection ended: %s", how, text, got)
				c = w.agent(t, "masked_ways")
			} else if tx := c.PgConn().TxStatus(); tx != 'I' {
				_ = w.ask(t, c, "ROLLBACK", "simple")
			}
		}
	}
	w.wire.mu.Lock()
	defer w.wire.mu.Unlock()
	w.seen(t, "notices", w.wire.got.String())
}

// TestPM13Renamed: a column that is masked stays so when somebody else renames it or swaps its table: at once, by what the target says of its
// answer, and later, by the number that it had.
func TestPM13Renamed(t *testing.T) {
	w := startMasked(t, "masked_renamed", rule(t, mask.Rule{
		Name: "all", Method: mask.Redact,
		Columns: []string{"public.customers.email", "public.customers.ssn", "public.customers.phone", "public.customers.doc", "public.customers.file"},
	}))
	c := w.agent(t, "masked_renamed")
	if out := w.ask(t, c, "SELECT name, email FROM customers WHERE id = 1", "simple"); out != `["name1" "[masked]"]` {
		t.Fatal(out)
	}
	if out, err := server.PSQL("masked_renamed", "BEGIN; ALTER TABLE customers RENAME email TO e; ALTER TABLE customers RENAME name TO email; ALTER TABLE customers RENAME e TO name; COMMIT"); err != nil {
		t.Fatal(err, out)
	}
	var copied bytes.Buffer
	if _, err := c.PgConn().CopyTo(t.Context(), &copied, "COPY (SELECT name FROM customers) TO STDOUT"); err != nil {
		t.Fatal(err)
	}
	w.seen(t, "COPY right after the renaming", copied.String())
	if out, err := server.PSQL("masked_renamed", "BEGIN; ALTER TABLE customers RENAME email TO e; ALTER TABLE customers RENAME name TO email; ALTER TABLE customers RENAME e TO name; COMMIT; SELECT pg_sleep(3)"); err != nil {
		t.Fatal(err, out)
	}
	if out := w.ask(t, c, "SELECT name, email FROM customers WHERE id = 1", "simple"); out != `["name1" "[masked]"]` {
		c = w.agent(t, "masked_renamed")
		w.seen(t, "back", out)
	}
	if out, err := server.PSQL("masked_renamed", "BEGIN; ALTER TABLE customers RENAME email TO e; ALTER TABLE customers RENAME name TO email; ALTER TABLE customers RENAME e TO name; COMMIT"); err != nil {
		t.Fatal(err, out)
	}
	withheld := false
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		out := w.ask(t, c, "SELECT name FROM customers WHERE id = 1", "simple")
		w.seen(t, "right after the renaming", out)
		if out == `[""]` { // by a rule that nobody named for it: NULL
			break
		}
		if !strings.Contains(out, "withheld") {
			t.Fatalf("%s", out)
		}
		withheld = true
		c = w.agent(t, "masked_renamed")
	}
	if !withheld {
		t.Error("the first answer was not withheld")
	}
	if out, err := server.PSQL("masked_renamed", "BEGIN; ALTER TABLE customers RENAME TO old; CREATE TABLE customers (id int, name text, email text); INSERT INTO customers VALUES (1, 'a', 'b'); GRANT ALL ON customers TO PUBLIC; COMMIT"); err != nil {
		t.Fatal(err, out)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		for _, text := range []string{"SELECT name FROM old WHERE id = 1", "SELECT * FROM old WHERE id = 1", "SELECT name, email FROM customers", "TABLE customers"} {
			out := w.ask(t, c, text, "simple")
			w.seen(t, text, out)
			if c.IsClosed() {
				c = w.agent(t, "masked_renamed")
			}
			if text == "SELECT name, email FROM customers" && out == `["a" "[masked]"]` {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatal("the new table is not masked")
		}
	}
}

// TestPM12Copy: COPY in every format, with any delimiter, quote and NULL, gives masked columns masked and all others as they are: what it
// gives can be loaded again with the same options.
func TestPM12Copy(t *testing.T) {
	w := startMasked(t, "masked_copy", rule(t, mask.Rule{Name: "mails", Columns: []string{"public.odd.email"}, Method: mask.Partial, KeepDomain: true}), rule(t, mask.Rule{Name: "numbers", Columns: []string{"public.odd.n"}, Method: mask.Generalise, Step: 1000}))
	own, err := pgx.Connect(t.Context(), server.URL("masked_copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = own.Close(context.WithoutCancel(t.Context())) }()
	if _, err := own.Exec(t.Context(), `CREATE TABLE odd (id int, note text, email text, n int, tail text); GRANT ALL ON odd TO PUBLIC;
		INSERT INTO odd SELECT n, v, CASE WHEN n % 4 = 0 THEN NULL ELSE 'canary' || v || '@example.test' END, 900001, v FROM unnest(ARRAY['plain', E'a\tb', E'a\nb', 'a,b', 'a"b', '"', '\', '\N', 'NULL', '', E'\r', 'a;b|c', 'ü', '\.', E'a\\\nb', NULL, 'x''y', E'\x08\f\v']) WITH ORDINALITY x (v, n);
		CREATE TABLE back (id int, note text, email text, n int, tail text)`); err != nil {
		t.Fatal(err)
	}
	want := w.rowsOf(t, own, `SELECT id, note, CASE WHEN email IS NULL THEN NULL ELSE '***@example.test' END, 900000, tail FROM odd ORDER BY id`)
	c := w.agent(t, "masked_copy")
	for _, options := range []string{
		"", "(FORMAT text)", "(DELIMITER '|')", "(DELIMITER ',', NULL 'nothing')", "(FORMAT csv)", "(FORMAT csv, HEADER)", "(FORMAT csv, DELIMITER ';', NULL '\\N', QUOTE '''')", "(FORMAT csv, QUOTE '*', ESCAPE '\\')", "(FORMAT csv, FORCE_QUOTE *)",
		"(FORMAT csv, NULL '***@example.test')", "(FORMAT binary)", "CSV HEADER DELIMITER '|'", "(HEADER, NULL 'a')", "(FORMAT csv, DELIMITER '@')", "(DELIMITER '@')",
	} {
		var out bytes.Buffer
		if _, err := c.PgConn().CopyTo(t.Context(), &out, "COPY odd TO STDOUT "+options); err != nil {
			t.Fatalf("%s: %v", options, err)
		}
		w.seen(t, options, out.String())
		if _, err := own.Exec(t.Context(), "TRUNCATE back"); err != nil {
			t.Fatal(err)
		}
		in := strings.ReplaceAll(options, ", FORCE_QUOTE *", "")
		if _, err := own.PgConn().CopyFrom(t.Context(), &out, "COPY back FROM STDIN "+in); err != nil {
			t.Fatalf("%s: %v", options, err)
		}
		if got := w.rowsOf(t, own, "SELECT * FROM back ORDER BY id"); got != want {
			t.Errorf("%s\n%s\nwant\n%s", options, got, want)
		}
	}
	var out bytes.Buffer
	if _, err := c.PgConn().CopyTo(t.Context(), &out, "COPY (SELECT email, id, upper(email), n::text FROM odd WHERE id = 1) TO STDOUT"); err != nil || out.String() != "***@example.test\t1\t\\N\t\\N\n" {
		t.Errorf("of a query: %q, %v", out.String(), err)
	}
}

func (w *maskedWorld) rowsOf(t *testing.T, c *pgx.Conn, text string) string {
	t.Helper()
	results, err := c.PgConn().Exec(t.Context(), text).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, row := range results[0].Rows {
		for _, v := range row {
			if v == nil {
				out.WriteString("NULL ")
				continue
			}
			fmt.Fprintf(&out, "%q ", v)
		}
		out.WriteString("\n")
	}
	return out.String()
}

// FuzzCopyMask: whatever the data is and in whatever pieces it comes, no masked value passes, and the pieces make no difference.
func FuzzCopyMask(f *testing.F) {
	all, err := rules()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"1\tcanary\n", "1,\"can\"\"ary\"\n", "1,canary\r\n2,\\N\n", "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x011\x00\x00\x00\x06canary\xff\xff", "a\\\tb\tcanary\\\n\n"} {
		for format := range 3 {
			f.Add([]byte(s), uint8(format), uint8(3)) //nolint:gosec // small
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, format, piece uint8) {
		run := func(size int) ([]byte, error) {
			m := &masking{cells: []cell{{}, {rule: all, column: "c", plain: true, typ: 25}}}
			c := &copyMask{ex: &exch{formats: []int{0}}, m: m, f: lineage.CopyFormat{Delimiter: '\t', Null: `\N`}}
			switch format % 3 {
			case 1:
				c.f = lineage.CopyFormat{CSV: true, Delimiter: ',', Quote: '"', Escape: '"'}
			case 2:
				c.f.Binary, c.ex.formats[0] = true, 1
			}
			var out []byte
			for from := 0; from < len(data); from += size {
				var err error
				if out, err = c.takes(out, data[from:min(from+size, len(data))]); err != nil {
					return nil, err
				}
			}
			return out, nil
		}
		whole, err1 := run(len(data) + 1)
		parts, err2 := run(int(piece) + 1)
		if (err1 == nil) != (err2 == nil) || !bytes.Equal(whole, parts) {
			t.Errorf("%q, %v\n%q, %v", whole, err1, parts, err2)
		}
	})
}

func rules() (*mask.Rule, error) {
	r := &mask.Rule{Name: "all", Columns: []string{"*.*.*"}, Method: mask.Redact, Inference: mask.Refuse}
	return r, r.Check()
}

// TestMaskedTools: psql's own commands and pg_dump work for somebody who has masks, and a dump holds masked values alone.
func TestMaskedTools(t *testing.T) {
	w := startMasked(t, "masked_tools", rule(t, mask.Rule{
		Name: "all", Method: mask.Redact,
		Columns: []string{"public.customers.email", "public.customers.ssn", "public.customers.phone", "public.customers.doc", "public.customers.file"},
	}))
	url := w.url("agents", "orders/masked_tools")
	refused := 0
	commands := strings.Fields(`\l \l+ \dn \dn+ \dt \dt+ \dv \dv+ \di \di+ \ds \df \df+ \du \dg \db \dx \dp \dT \dT+ \do \dC \dD \dc \dO \dF \dRp \dRs \des \dew \dy \dL \dAc \ddp \drds \dm \dE \dP \conninfo \encoding`)
	commands = append(commands, `\d customers`, `\d+ customers`, `\d people`, `\d+ people`, `\dt public.*`, `\sf leak`, `\sv people`, `\dp customers`)
	for _, command := range commands {
		out, err := w.run("psql", "-X", "-v", "ON_ERROR_STOP=1", "-c", command, url)
		if command != `\df+` { // which shows what functions are, with the word in it
			w.seen(t, command, out)
		}
		if err != nil {
			t.Logf("%s: %s", command, out)
			refused++
		}
	}
	if refused*20 > len(commands) {
		t.Errorf("%d of %d commands are refused", refused, len(commands))
	}
	out, err := w.run("pg_dump", "--dbname", url, "--data-only", "--table", "public.customers")
	w.seen(t, "pg_dump", out)
	if err != nil || !strings.Contains(out, "[masked]") {
		t.Errorf("pg_dump: %v\n%s", err, out)
	}
}

// TestAP12MaskStays: what people have approved is masked like everything else: by what is in force when it runs, alone and in a list.
func TestAP12MaskStays(t *testing.T) {
	psql(t, `DROP SCHEMA IF EXISTS ap12 CASCADE; CREATE SCHEMA ap12; CREATE TABLE ap12.people (id int, email text); GRANT USAGE ON SCHEMA ap12 TO agent; GRANT ALL ON ap12.people TO agent;
		INSERT INTO ap12.people SELECT n, 'canary' || n FROM generate_series(1, 9) n`)
	w := startHold(t, access.Approvers{})
	w.driver.unresolved = false
	masked := func(on bool) { // another set each time, under the same digest
		snap := *w.gate.Snapshot()
		snap.Masks = &fixedMasks{}
		if on {
			snap.Masks = &fixedMasks{set: mask.NewSet([]*mask.Rule{rule(t, mask.Rule{Name: "all", Columns: []string{"ap12.people.email"}, Method: mask.Redact})}, nil, nil)}
		}
		w.gate.SetSnapshot(&snap)
	}
	masked(true)
	c := w.connect("agents")
	approved := func(run func() (string, error)) {
		t.Helper()
		type answer struct {
			text string
			err  error
		}
		done := make(chan answer, 1)
		go func() {
			text, err := run()
			done <- answer{text, err}
		}()
		tk := w.waiting(t)
		if strings.Contains(tk.Bound, "canary") {
			t.Errorf("the ticket has %s", tk.Bound)
		}
		masked(true) // what was masked when it was asked for does not count
		w.rule(t, tk, true)
		if got := <-done; got.err != nil || got.text != "[masked]" {
			t.Errorf("%q, %v", got.text, got.err)
		}
	}
	first := func(results []*pgconn.Result, err error) (string, error) {
		if err != nil || len(results) == 0 || len(results[0].Rows) != 1 {
			return "", errors.Join(err, errors.New("no row"))
		}
		return string(results[0].Rows[0][0]), nil
	}
	approved(func() (string, error) {
		return first(c.PgConn().Exec(t.Context(), "DELETE FROM ap12.people WHERE id = 1 RETURNING email").ReadAll())
	})
	approved(func() (string, error) {
		r := c.PgConn().ExecParams(t.Context(), "DELETE FROM ap12.people WHERE id = 2 RETURNING email", nil, nil, nil, []int16{1}).Read()
		return first([]*pgconn.Result{r}, r.Err)
	})
	masked(false)
	approved(func() (string, error) {
		return first(c.PgConn().Exec(t.Context(), "DELETE FROM ap12.people WHERE id = 3 RETURNING email").ReadAll())
	})
	w.listed(t, c, "DELETE FROM ap12.people WHERE id = 4 RETURNING email")
	if got, err := first(c.PgConn().Exec(t.Context(), "DELETE FROM ap12.people WHERE id = 4 RETURNING email").ReadAll()); err != nil || got != "[masked]" {
		t.Errorf("in a list: %q, %v", got, err)
	}
}
