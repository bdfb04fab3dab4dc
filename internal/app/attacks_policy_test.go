package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/gatebook/gatebook/internal/sqlscan"
)

// The two policies that attacks are tried under: a reader, and who may do everything that the packs do not deny.
const (
	readers = `rules: [{name: reads, when: 'action.effects.all(e, e in ["read", "transaction", "session"])', then: allow}]
`
	packed = `rules: [{name: anything, when: 'true', then: allow}]
packs: [no-opaque, no-server-side-code-and-files, no-schema-changes, no-unfiltered-writes]
`
)

// attack is an agent at a target where its role is a superuser, so that whatever the gateway lets pass has its effect there.
type attack struct {
	p     *place
	g     *gateway
	agent *pgx.Conn
	// direct is the operator's own connection to the target.
	direct *pgx.Conn
	// probe asks the target for what must not change.
	probe string
}

// stage makes a database and an agent that is connected to it through a gateway with a policy.
func stage(t *testing.T, name, policy, schema, probe string) *attack {
	t.Helper()
	_, err := database.PSQL("postgres", `DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mighty') THEN
		CREATE ROLE mighty LOGIN SUPERUSER PASSWORD '`+upstreamPassword+`'; CREATE ROLE other; END IF; END $$`)
	if err == nil {
		_, err = database.PSQL("postgres", "CREATE DATABASE "+name)
	}
	if err != nil {
		t.Fatal(err)
	}
	a := &attack{p: newPlace(t, ""), probe: probe}
	if a.direct, err = pgx.Connect(t.Context(), database.URL(name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.direct.Close(context.Background()) })
	if _, err := a.direct.Exec(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	target := strings.NewReplacer("database: postgres", "database: "+name, "user: agent", "user: mighty").Replace(a.p.target("agents"))
	a.p.write(t, "targets.d/orders.yaml", target)
	a.p.write(t, "policy.yaml", policy)
	a.g = a.p.start(t)
	a.agent = a.connect(t, "worker")
	return a
}

func (a *attack) connect(t *testing.T, name string) *pgx.Conn {
	t.Helper()
	c, err := connect(t.Context(), a.g.Addresses()[0].Address, a.p.issuer.Token(t, name, "agents"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// under puts another policy into force.
func (a *attack) under(t *testing.T, policy string) {
	t.Helper()
	a.p.write(t, "policy.yaml", policy)
	if err := a.g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// state is what the operator sees at the target.
func (a *attack) state(t *testing.T) string {
	t.Helper()
	var s string
	if err := a.direct.QueryRow(t.Context(), "SELECT row_to_json(x)::text FROM ("+a.probe+") x").Scan(&s); err != nil {
		t.Fatalf("probe: %v", err)
	}
	return s
}

// forms are the ways in which a client sends a text.
var forms = []struct {
	name string
	send func(ctx context.Context, c *pgx.Conn, text string) (string, error)
}{
	{"simple", func(ctx context.Context, c *pgx.Conn, text string) (string, error) {
		list, err := c.PgConn().Exec(ctx, text).ReadAll()
		if err != nil || len(list) == 0 {
			return "", err
		}
		return first(list[len(list)-1]), nil
	}},
	{"extended", func(ctx context.Context, c *pgx.Conn, text string) (string, error) {
		r := c.PgConn().ExecParams(ctx, text, nil, nil, nil, nil).Read()
		return first(r), r.Err
	}},
	{"named", func(ctx context.Context, c *pgx.Conn, text string) (string, error) {
		if _, err := c.PgConn().Prepare(ctx, "named", text, nil); err != nil {
			return "", err
		}
		r := c.PgConn().ExecPrepared(ctx, "named", nil, nil, nil).Read()
		return first(r), errors.Join(r.Err, c.PgConn().Deallocate(ctx, "named"))
	}},
}

func first(r *pgconn.Result) string {
	if len(r.Rows) == 0 || len(r.Rows[0]) == 0 {
		return ""
	}
	return string(r.Rows[0][0])
}

// refused sends texts in every form. The gateway refuses each, and nothing changes at the target.
func (a *attack) refused(t *testing.T, texts ...string) {
	t.Helper()
	before := a.state(t)
	for _, text := range texts {
		for _, f := range forms {
			_, err := f.send(t.Context(), a.agent, text)
			refusal(t, f.name+": "+text, err)
			if a.agent.IsClosed() {
				t.Fatalf("%s: the session is over: %v", text, err)
			}
			if after := a.state(t); after != before {
				t.Errorf("%s: %s\n  had an effect: %s, before %s", f.name, text, after, before)
				before = after
			}
		}
	}
}

// allowed sends texts, each with the first value of its answer, in every form.
func (a *attack) allowed(t *testing.T, texts ...[2]string) {
	t.Helper()
	for _, text := range texts {
		for _, f := range forms {
			if got, err := f.send(t.Context(), a.agent, text[0]); err != nil || got != text[1] {
				t.Errorf("%s: %s\n  gives %q, %v; want %q", f.name, text[0], got, err, text[1])
			}
		}
	}
}

// happens runs a text at the target itself: the probe must see its effect, or nothing above means anything.
func (a *attack) happens(t *testing.T, text string) {
	t.Helper()
	before := a.state(t)
	if _, err := a.direct.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if a.state(t) == before {
		t.Errorf("the probe does not see %s", text)
	}
}

const (
	heldRows = "SELECT count(*), md5(string_agg(v, ',' ORDER BY id)) FROM held"
	held     = `CREATE TABLE held (id int PRIMARY KEY, v text); INSERT INTO held SELECT i, 'x' || i FROM generate_series(1, 9) i;
		CREATE FUNCTION clear_held() RETURNS bool LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.held; RETURN true; END';
	`
)

// TestPG22OutOfAReadOnlyTransaction: no transaction that an agent opens or ends by itself stands between it and the rules.
func TestPG22OutOfAReadOnlyTransaction(t *testing.T) {
	a := stage(t, "pg22", readers, held, "SELECT (SELECT count(*) FROM held), to_regclass('away')")
	texts := []string{
		"COMMIT; DROP TABLE held",
		"commit work; drop table if exists held cascade",
		"END; DELETE FROM held",
		"ABORT; TRUNCATE held",
		"ROLLBACK; DELETE FROM held",
		"COMMIT AND CHAIN; DELETE FROM held",
		"/* read only */ COMMIT; BEGIN READ WRITE; DELETE FROM held; COMMIT",
		"BEGIN READ ONLY; COMMIT; DELETE FROM held; BEGIN",
		"BEGIN READ WRITE; DELETE FROM held; COMMIT",
		"START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE; DELETE FROM held; COMMIT",
		"SET TRANSACTION READ WRITE; DELETE FROM held",
		"SET transaction_read_only = off; DELETE FROM held",
		"SET LOCAL transaction_read_only TO 0; DELETE FROM held",
		"SET default_transaction_read_only = off; CREATE TABLE away (id int)",
		"SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; SELECT * INTO away FROM held",
		"SELECT set_config('transaction_read_only', 'off', false); DELETE FROM held",
		"SAVEPOINT s; DELETE FROM held; RELEASE s; COMMIT",
		"ROLLBACK TO s; COMMIT; DELETE FROM held",
		"PREPARE TRANSACTION 'x'; DELETE FROM held",
		"COMMIT PREPARED 'x'",
		"DELETE FROM held; ROLLBACK",
	}
	a.refused(t, texts...)
	// The same from within a transaction. Each part is sent alone too, as a tool does that splits texts.
	for _, begin := range []string{"BEGIN READ ONLY", "BEGIN; SELECT 1", "START TRANSACTION READ ONLY, DEFERRABLE"} {
		for _, text := range texts {
			if _, err := forms[0].send(t.Context(), a.agent, begin); err != nil {
				t.Fatal(err)
			}
			a.refused(t, text)
			if a.agent.PgConn().TxStatus() != 'E' {
				t.Fatalf("%s: transaction status %c", text, a.agent.PgConn().TxStatus())
			}
			for _, part := range strings.Split(text, "; ") {
				_, _ = forms[0].send(t.Context(), a.agent, part)
			}
			if _, err := forms[0].send(t.Context(), a.agent, "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			_, _ = forms[0].send(t.Context(), a.agent, "SELECT 1")
		}
	}
	a.allowed(t, [2]string{"SELECT count(*) FROM held", "9"})
	a.happens(t, "BEGIN READ ONLY; COMMIT; DELETE FROM held")
}

// TestPG23ReadLikeTheServer: what is data to the server is data to the gateway, and what is a statement is one.
func TestPG23ReadLikeTheServer(t *testing.T) {
	a := stage(t, "pg23", readers, held, heldRows)
	// The server takes the DELETE in each for a statement.
	statements := []string{
		`SELECT '\'; DELETE FROM held; --'`,
		`SELECT N'\'; DELETE FROM held; --'`,
		`SELECT E'\\'; DELETE FROM held; --'`,
		`SELECT e'it''s \'quoted\''; DELETE FROM held`,
		`SELECT U&'\\'; DELETE FROM held; --'`,
		`SELECT U&'!'  UESCAPE '+'; DELETE FROM held; --'`,
		`SELECT U&"x" FROM (SELECT 1 AS x) a; DELETE FROM held --"`,
		`SELECT 1 AS "a""b"; DELETE FROM held; --"`,
		`SELECT /* /* */ 1 */ 1; DELETE FROM held`,
		`SELECT 1 /* -- */; DELETE FROM held`,
		"SELECT 1 -- '\n; DELETE FROM held --'",
		"SELECT 1 -- /*\r; DELETE FROM held -- */",
		`SELECT $a$ $b$ $a$; DELETE FROM held -- $b$`,
		`SELECT $$'$$; DELETE FROM held --'`,
		`SELECT x$a$ FROM (SELECT 1 AS x$a$) q; DELETE FROM held -- $a$`,
		`SELECT $é$ $$ $é$; DELETE FROM held -- $$`,
		`SELECT 1 */**/ 1; DELETE FROM held`,
		"SELECT 1 *-- x\n 1; DELETE FROM held",
		`SELECT 1 --1 */` + "\n" + `; DELETE FROM held`,
		`SELECT b'01'; DELETE FROM held; --'`,
		`;; DELETE FROM held`,
		"\f\tDELETE\rFROM\nheld",
		`U&"d" ; DELETE FROM held`,
		`DELETE FROM U&"\0068eld"`,
		`DELETE FROM U&"!0068eld" UESCAPE '!'`,
		`DELETE FROM "held"`,
		`dElEtE fRoM HELD`,
		`DELETE/**/FROM/**/held`,
		`DELETE FROM held WHERE v <> $$;$$ OR true`,
		`SELECT clear_held/* */()`,
		`SELECT "clear_held"()`,
		`SELECT U&"clear\005fheld"()`,
		`SELECT public . clear_held ( )`,
	}
	a.refused(t, statements...)
	a.under(t, packed)
	a.refused(t, statements...)
	a.under(t, readers)
	// The server takes it for data.
	a.allowed(t,
		[2]string{`SELECT '; DELETE FROM held'`, "; DELETE FROM held"},
		[2]string{`SELECT E'\'; DELETE FROM held; --'`, "'; DELETE FROM held; --"},
		[2]string{`SELECT '''; DELETE FROM held; --'`, "'; DELETE FROM held; --"},
		[2]string{`SELECT $$; DELETE FROM held$$`, "; DELETE FROM held"},
		[2]string{`SELECT $a$$b$; DELETE FROM held; $b$$a$`, "$b$; DELETE FROM held; $b$"},
		[2]string{"SELECT 'a'\n'; DELETE FROM held'", "a; DELETE FROM held"},
		[2]string{`SELECT /* /* */ ; DELETE FROM held */ 5`, "5"},
		[2]string{"SELECT 5 -- ; DELETE FROM held", "5"},
		[2]string{`SELECT 5 AS "; DELETE FROM held"`, "5"},
		[2]string{`SELECT U&'d\0065lete'`, "delete"},
		[2]string{`SELECT U&'d!0065lete' UESCAPE '!'`, "delete"},
		[2]string{"SELECT 5 -- x\r + 1", "6"},
		[2]string{"SELECT 5 -- x\\n + 1", "5"},
	)
	// Settings that would change how bytes are read stay as they are, by whatever name.
	for _, text := range []string{
		"SET standard_conforming_strings = off", `SET "standard_conforming_strings" TO 'off'`, "SET LOCAL standard_conforming_strings = 0",
		"SELECT set_config('standard_conforming_strings', 'off', false)", "SET client_encoding = 'SJIS'", "SET NAMES 'GBK'",
		"SELECT set_config('client_encoding'::text, 'BIG5', false)", "SELECT set_config('client_encodings'::varchar(15), 'SJIS', false)",
		"SELECT set_config('standard_conforming_strings '::bpchar, 'off', false)", "SELECT set_config('client_' || 'encoding', 'SJIS', false)",
	} {
		for _, f := range forms {
			_, err := f.send(t.Context(), a.agent, text)
			if err == nil || !strings.Contains(err.Error(), "gatebook: ") || a.agent.IsClosed() {
				t.Fatalf("%s: %s: %v", f.name, text, err)
			}
		}
	}
	a.allowed(t, [2]string{"SHOW standard_conforming_strings", "on"}, [2]string{"SHOW client_encoding", "UTF8"})
	a.happens(t, statements[0])
}

// TestPG23RandomTexts puts texts together at random from all that quotes and comments. Where the analyser understands one
// that the server runs, they agree on its statements and constants.
func TestPG23RandomTexts(t *testing.T) {
	c, err := pgx.Connect(t.Context(), database.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	pieces := strings.Split("'|'|\"|E'|e'|U&'|N'|U&\"|$$|$$|$a$|$b$|$é$|--|/*|*/|/*|*/|\n|\r|\t|\f|\v| | |;|; SELECT |, |5|7|a|x$a$|\\|\\'|\\\\|''|\\x41|\\u0041|\\0041|!0041| UESCAPE '!'|é|\u00a0|(|)", "|")
	r, agreed := rand.New(rand.NewPCG(1, 2)), 0 //nolint:gosec // the same texts each time
	for range 4000 {
		text := "SELECT "
		for range 1 + r.IntN(10) {
			text += pieces[r.IntN(len(pieces))]
		}
		results, err := c.PgConn().Exec(t.Context(), text).ReadAll()
		scan := sqlscan.Analyse(text)
		if err != nil || scan.Opaque != "" {
			continue // it does not run, or is not understood
		}
		var server, gateway []string
		for _, res := range results {
			for _, v := range res.Rows[0] {
				server = append(server, string(v))
			}
		}
		for i := range scan.Statements {
			gateway = append(gateway, scan.Statements[i].Literals...)
		}
		if len(results) != len(scan.Statements) || !slices.Equal(server, gateway) {
			t.Errorf("%q\n  the server has %d statements with %q, the gateway %d with %q", text, len(results), server, len(scan.Statements), gateway)
		}
		if len(server) > 0 {
			agreed++
		}
	}
	if agreed < 100 {
		t.Errorf("only %d texts were run by the server and understood by the gateway", agreed)
	}
}

// TestPG35LargeObjects: large objects are data, and files of the server are files.
func TestPG35LargeObjects(t *testing.T) {
	out := filepath.Join(database.Dir, "pg35.out")
	a := stage(t, "pg35", readers, held+`SELECT lo_from_bytea(424242, 'kept'); SELECT lo_from_bytea(424243, 'too')`,
		`SELECT (SELECT string_agg(oid || lo_get(oid)::text, ',' ORDER BY oid) FROM pg_largeobject_metadata) AS objects, pg_stat_file('`+out+`', true) AS file`)
	server := []string{ // what reaches files
		"SELECT lo_import('/etc/passwd')",
		"SELECT lo_import('/etc/passwd', 99)",
		"SELECT lo_get(lo_import('/etc/passwd'))",
		"SELECT ('/etc/passwd'::text).lo_import",
		"SELECT * FROM pg_catalog.lo_import('/etc/passwd')",
		"SELECT 1 WHERE lo_import('/etc/passwd') > 0",
		"SELECT lo_export(424242, '" + out + "')",
		"SELECT oid, lo_export(oid, '" + out + "') FROM pg_largeobject_metadata WHERE oid = 424242",
		"COPY (SELECT lo_get(424242)) TO '" + out + "'",
		"COPY (SELECT lo_export(424242, '" + out + "')) TO STDOUT",
		"DECLARE c CURSOR WITH HOLD FOR SELECT lo_export(424242, '" + out + "')",
		"EXPLAIN ANALYZE SELECT lo_export(424242, '" + out + "')",
		"UPDATE held SET v = lo_import('/etc/passwd')::text WHERE id = 1",
	}
	all := []string{ // what changes objects that no condition selects
		"SELECT lo_unlink(oid) FROM pg_largeobject_metadata",
		"SELECT (SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata)",
		"SELECT (SELECT lo_unlink(m.oid)) FROM pg_largeobject_metadata m",
		"SELECT 1 WHERE EXISTS (SELECT lo_unlink(oid) FROM pg_largeobject_metadata)",
		"SELECT m.oid.lo_unlink FROM pg_largeobject_metadata m",
		"INSERT INTO held SELECT 100 + lo_unlink(oid), 'x' FROM pg_largeobject_metadata LIMIT 1",
		"SELECT lo_put(oid, 0, 'gone') FROM pg_largeobject_metadata",
		"DELETE FROM pg_largeobject",
		"TRUNCATE pg_largeobject",
	}
	a.refused(t, server...)
	a.refused(t, all...)
	a.refused(t, "SELECT lo_unlink(424242)", "SELECT lo_put(424242, 0, 'gone')", "SELECT lo_from_bytea(0, 'new')", "SELECT lo_create(0)", "SELECT lo_creat(-1)",
		"SELECT lowrite(lo_open(424242, 131072), 'gone')", "SELECT lo_truncate(lo_open(424242, 131072), 0)", "SELECT lo_truncate64(lo_open(424242, 131072), 0)",
		"ALTER LARGE OBJECT 424242 OWNER TO other", "GRANT ALL ON LARGE OBJECT 424242 TO PUBLIC", "COMMENT ON LARGE OBJECT 424242 IS 'x'")
	a.allowed(t, [2]string{"SELECT lo_get(424242) = 'kept'", "t"}, [2]string{"SELECT loread(lo_open(424242, 262144), 9) = 'kept'", "t"})
	// By the protocol's own way of calling functions, by their numbers.
	before := a.state(t)
	for _, number := range []uint32{964, 957, 764, 765} { // lo_unlink, lo_creat, lo_import, lo_export
		err := call(t, a.agent, number, "424242")
		if err == nil || !strings.HasPrefix(err.Message, "gatebook: ") || err.Code != "42501" {
			t.Errorf("function %d: %+v", number, err)
		}
	}
	if after := a.state(t); after != before {
		t.Errorf("FunctionCall had an effect: %s, before %s", after, before)
	}
	a.under(t, packed)
	a.refused(t, server...)
	a.refused(t, all...)
	a.allowed(t, [2]string{"SELECT lo_put(424243, 0, 'one')", ""})
	a.happens(t, "SELECT lo_export(424242, '"+out+"')")
	a.happens(t, all[1])
}

// call sends a FunctionCall with one argument.
func call(t *testing.T, c *pgx.Conn, number uint32, argument string) (refused *pgproto3.ErrorResponse) {
	t.Helper()
	c.PgConn().Frontend().Send(&pgproto3.FunctionCall{Function: number, Arguments: [][]byte{[]byte(argument)}})
	if err := c.PgConn().Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := c.PgConn().ReceiveMessage(t.Context())
		var e *pgconn.PgError
		switch {
		case errors.As(err, &e):
			refused = &pgproto3.ErrorResponse{Code: e.Code, Message: e.Message}
			continue
		case err != nil:
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			e := *m
			refused = &e
		case *pgproto3.ReadyForQuery:
			return refused
		}
	}
}

// TestPG36ServerAndOthers: files, programs, libraries, extensions, other hosts and the server's own settings.
func TestPG36ServerAndOthers(t *testing.T) {
	out := filepath.Join(database.Dir, "pg36.out")
	a := stage(t, "pg36", readers, held, `SELECT (SELECT count(*) FROM held), (SELECT string_agg(extname, ',') FROM pg_extension) AS extensions,
		(SELECT count(*) FROM pg_language) AS languages, (SELECT count(*) FROM pg_foreign_server) AS servers, (SELECT count(*) FROM pg_subscription) AS subscriptions,
		pg_read_file('postgresql.auto.conf') AS settings, pg_conf_load_time() AS loaded, pg_stat_file('`+out+`', true) AS file,
		(SELECT count(*) FROM pg_db_role_setting) AS roles`)
	texts := []string{
		"SELECT pg_read_file('/etc/passwd')",
		"SELECT pg_read_file('/etc/passwd', 0, 10)",
		"SELECT ('/etc/passwd'::text).pg_read_file",
		"SELECT x.f.pg_read_file FROM (SELECT '/etc/passwd'::text AS f) x",
		"SELECT * FROM ROWS FROM (pg_read_file('/etc/passwd'), generate_series(1, 2))",
		"SELECT encode(pg_read_binary_file('/etc/passwd'), 'escape')",
		"SELECT * FROM pg_ls_dir('.') ORDER BY 1",
		"SELECT pg_ls_logdir()",
		"SELECT (pg_stat_file('/etc/passwd')).size",
		"SELECT * FROM pg_hba_file_rules",
		"TABLE pg_catalog.pg_file_settings",
		"EXPLAIN ANALYZE SELECT pg_read_file('/etc/passwd')",
		"COPY held FROM '/etc/passwd'",
		"COPY held TO '" + out + "'",
		"COPY (SELECT 1) TO PROGRAM 'touch " + out + "'",
		"COPY held FROM PROGRAM 'touch " + out + "; echo 1'",
		"CREATE EXTENSION dblink",
		"CREATE EXTENSION IF NOT EXISTS postgres_fdw CASCADE",
		"ALTER EXTENSION plpgsql UPDATE",
		"DROP EXTENSION plpgsql",
		"CREATE LANGUAGE plperlu",
		"CREATE FOREIGN DATA WRAPPER w",
		"CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'x')",
		"CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (password 'x')",
		"CREATE FOREIGN TABLE f (id int) SERVER s",
		"IMPORT FOREIGN SCHEMA public FROM SERVER s INTO public",
		"CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p WITH (connect = false)",
		"CREATE PUBLICATION p FOR ALL TABLES",
		"SELECT dblink('dbname=pg36', 'SELECT 1')",
		"SELECT * FROM dblink_exec('dbname=pg36', 'DELETE FROM held')",
		"LOAD 'auto_explain'",
		"CREATE FUNCTION system(cstring) RETURNS int LANGUAGE c AS '/lib/x86_64-linux-gnu/libc.so.6', 'system'",
		"ALTER SYSTEM SET log_statement = 'none'",
		"ALTER SYSTEM RESET ALL",
		"SELECT pg_reload_conf()",
		"SELECT 1 FROM (SELECT pg_catalog.pg_reload_conf()) x",
		"SELECT pg_rotate_logfile()",
		"CREATE TABLESPACE x LOCATION '" + database.Dir + "'",
		"ALTER DATABASE pg36 SET log_statement = 'none'",
		"ALTER ROLE mighty SET log_statement = 'none'",
		"ALTER ROLE ALL IN DATABASE pg36 SET log_statement = 'none'",
		"SET log_statement = 'none'",
		"SET SESSION pgaudit.log = 'none'",
		"SELECT set_config('session_replication_role', 'replica', false)",
		"SET dynamic_library_path = '/tmp'",
		"CHECKPOINT",
		"SELECT pg_switch_wal()",
		"SELECT pg_create_physical_replication_slot('x')",
		"SELECT pg_logical_emit_message(false, 'x', 'y')",
	}
	a.refused(t, texts...)
	a.under(t, packed)
	a.refused(t, texts...)
	a.allowed(t, [2]string{"SELECT 'SELECT pg_read_file(''/etc/passwd'')'", "SELECT pg_read_file('/etc/passwd')"}, [2]string{"SHOW log_statement", "none"})
	for _, text := range []string{
		"ALTER SYSTEM SET log_statement = 'none'", "COPY held TO '" + out + "'", "CREATE LANGUAGE other HANDLER plpgsql_call_handler",
		"ALTER ROLE mighty SET log_statement = 'none'",
	} {
		a.happens(t, text)
	}
}

// TestPG37TextsThatRun: what runs a text that is a value of another statement counts as unknown code.
func TestPG37TextsThatRun(t *testing.T) {
	a := stage(t, "pg37", readers, held+`CREATE SCHEMA traps; CREATE VIEW traps.trap AS SELECT clear_held() AS x;
		CREATE FUNCTION run(text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS 'BEGIN EXECUTE $1; END'`, heldRows)
	const text = "SELECT clear_held()"
	quoted := "'" + text + "'"
	texts := []string{
		"SELECT query_to_xml(" + quoted + ", true, true, '')",
		"SELECT pg_catalog.query_to_xml(query => " + quoted + ", nulls => true, tableforest => true, targetns => '')",
		"SELECT xmlelement(name a, query_to_xml($$" + text + "$$, true, true, ''))",
		"SELECT query_to_xml(E'SELECT clear\\x5fheld()', true, true, '')",
		"SELECT query_to_xml(q, true, true, '') FROM (VALUES (" + quoted + ")) v(q)",
		"SELECT query_to_xmlschema(" + quoted + ", true, true, '')",
		"SELECT query_to_xml_and_xmlschema(" + quoted + ", true, true, '')",
		"SELECT table_to_xml('traps.trap', true, true, '')",
		"SELECT table_to_xml_and_xmlschema('traps.trap'::regclass, true, true, '')",
		"SELECT schema_to_xml('traps', true, true, '')",
		"SELECT schema_to_xml_and_xmlschema('traps', true, true, '')",
		"SELECT database_to_xml(true, true, '')",
		"DECLARE c CURSOR FOR SELECT 1; SELECT cursor_to_xml('c', 1, true, true, '')",
		"SELECT * FROM ts_stat('SELECT to_tsvector(clear_held()::text)')",
		"SELECT (ts_stat('SELECT to_tsvector(clear_held()::text)', 'a')).word",
		"SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, clear_held()::text::tsquery')",
		"DO $$ BEGIN EXECUTE 'DELETE FROM held'; END $$",
		"DO LANGUAGE plpgsql 'BEGIN EXECUTE ''DELETE FROM held''; END'",
		"SELECT run('SELECT clear_held()')",
		"EXPLAIN SELECT run('SELECT clear_held()')",
		"PREPARE p AS SELECT run('SELECT clear_held()')",
		"SELECT traps.trap.x FROM traps.trap",
		"EXPLAIN ANALYZE TABLE traps.trap",
		"COPY (TABLE traps.trap) TO STDOUT",
		"EXECUTE p",
	}
	a.refused(t, texts...)
	a.under(t, packed)
	a.refused(t, texts...)
	a.allowed(t, [2]string{"SELECT ts_rewrite('a'::tsquery, 'a'::tsquery, 'b'::tsquery)", "'b'"}, [2]string{"SELECT xmlforest('DELETE FROM held' AS a)", "<a>DELETE FROM held</a>"})
	for _, text := range []string{texts[0], texts[13], texts[19]} {
		a.happens(t, text)
		if _, err := a.direct.Exec(t.Context(), "INSERT INTO held SELECT i, 'x' FROM generate_series(1, 9) i"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPG38OtherSessions: an agent does not end, stop or lock out others.
func TestPG38OtherSessions(t *testing.T) {
	a := stage(t, "pg38", readers, held, "")
	victim, err := pgx.Connect(t.Context(), database.URL("pg38"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = victim.Close(context.Background()) }()
	pid := victim.PgConn().PID()
	a.probe = fmt.Sprintf(`SELECT (SELECT count(*) FROM pg_stat_activity WHERE pid = %d) AS victim, pg_relation_filenode('held') AS file,
		(SELECT string_agg(locktype || mode, ',') FROM pg_locks WHERE locktype = 'advisory' OR relation = 'held'::regclass AND mode <> 'AccessShareLock') AS locks,
		(SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep') AS sleep`, pid)
	texts := []string{
		fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid),
		fmt.Sprintf("SELECT pg_catalog.pg_terminate_backend(%d, 100)", pid),
		fmt.Sprintf("SELECT (%d).pg_terminate_backend", pid),
		"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
		"SELECT x.pid.pg_terminate_backend FROM pg_stat_activity x WHERE x.pid <> pg_backend_pid()",
		fmt.Sprintf("SELECT pg_cancel_backend(%d)", pid),
		"SELECT pg_cancel_backend(pid) FROM pg_locks",
		"DROP DATABASE pg22 WITH (FORCE)",
		"VACUUM FULL held",
		"VACUUM (FULL, ANALYZE) held",
		"CLUSTER held USING held_pkey",
		"REINDEX TABLE CONCURRENTLY held",
		"LOCK TABLE held",
		"LOCK held IN ACCESS SHARE MODE NOWAIT",
		"LOCK TABLE ONLY held IN EXCLUSIVE MODE",
		"SELECT 1 FROM held FOR UPDATE",
		"SELECT 1 FROM held FOR KEY SHARE SKIP LOCKED",
		"WITH l AS (SELECT 1 FROM held FOR SHARE) SELECT 1",
		"TABLE held FOR NO KEY UPDATE",
		"DECLARE c CURSOR FOR SELECT 1 FROM held FOR UPDATE",
		"SELECT pg_advisory_lock(38)",
		"SELECT pg_advisory_lock_shared(3, 8)",
		"SELECT pg_try_advisory_lock(38)",
		"SELECT 1 WHERE pg_try_advisory_xact_lock(38)",
		"SELECT id, pg_advisory_xact_lock(id) FROM held",
		"SELECT (38::bigint).pg_advisory_lock",
		"SELECT pg_sleep(0.2)",
		"SELECT pg_sleep_for('0.2 seconds')",
		"SELECT pg_sleep_until(now() + '0.2 seconds')",
		"SELECT (0.2::float8).pg_sleep",
		"SELECT * FROM generate_series(1, 2) x, LATERAL pg_sleep(x * 0.1)",
		"SELECT pg_notify('all', 'x')",
		"NOTIFY everybody, 'x'",
		"SELECT pg_stat_reset()",
		fmt.Sprintf("SELECT pg_log_backend_memory_contexts(%d)", pid),
	}
	for _, policy := range []string{readers, readers + "packs: [no-opaque, no-server-side-code-and-files]\n"} {
		a.under(t, policy)
		a.refused(t, texts...)
		for _, text := range texts { // a lock lasts as long as the transaction
			for _, send := range forms[:2] {
				if _, err := a.agent.PgConn().Exec(t.Context(), "BEGIN").ReadAll(); err != nil {
					t.Fatal(err)
				}
				before := a.state(t)
				_, err := send.send(t.Context(), a.agent, text)
				refusal(t, "in a transaction: "+text, err)
				if after := a.state(t); after != before {
					t.Errorf("%s had an effect: %s", text, after)
				}
				if _, err := a.agent.PgConn().Exec(t.Context(), "ROLLBACK").ReadAll(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// What gives back what is the session's own hurts nobody; pools of connections do it after each use.
	if _, err := a.agent.PgConn().Exec(t.Context(), "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL").ReadAll(); err != nil {
		t.Errorf("a pool cannot clear its session: %v", err)
	}
	if err := victim.Ping(t.Context()); err != nil {
		t.Errorf("the other session: %v", err)
	}
	a.happens(t, texts[20])
	a.happens(t, texts[8])
	a.happens(t, fmt.Sprintf("SELECT pg_terminate_backend(%d, 10000)", pid))
}

// TestPG39RolesStay: the agent acts as the role that the operator gave it, by whatever words it asks for another.
func TestPG39RolesStay(t *testing.T) {
	a := stage(t, "pg39", readers, held+`CREATE FUNCTION definer() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM held RETURNING v'`,
		`SELECT (SELECT count(*) FROM held), (SELECT count(*) FROM pg_auth_members) AS members, (SELECT count(*) FROM pg_roles) AS roles,
		(SELECT count(*) FROM pg_db_role_setting WHERE setconfig::text LIKE '%role%') AS settings,
		(SELECT string_agg(rolname || rolsuper || rolcanlogin, ',' ORDER BY oid) FROM pg_roles) AS rights`)
	texts := []string{
		"SET ROLE other", "SET LOCAL ROLE other", "SET SESSION ROLE 'other'", "SET role TO other", `SET "role" = 'other'`, `SET U&"r\006fle" = other`, "SET ROLE NONE",
		"SET SESSION AUTHORIZATION other", "SET LOCAL SESSION AUTHORIZATION 'other'", "SET session_authorization = other", "SET SESSION AUTHORIZATION DEFAULT",
		"RESET ROLE", "RESET SESSION AUTHORIZATION", "RESET session_authorization",
		"SELECT set_config('role', 'other', false)",
		"SELECT set_config('ROLE', 'other', true)",
		"SELECT set_config('rolex'::varchar(4), 'other', false)",
		"SELECT set_config('role of others'::char(4), 'other', false)",
		"SELECT set_config('role  '::bpchar, 'other', false)",
		"SELECT set_config('ro' || 'le', 'other', false)",
		"SELECT set_config(lower('ROLE'), 'other', false)",
		"SELECT set_config(n, 'other', false) FROM (VALUES ('role')) v(n)",
		"SELECT set_config(CASE WHEN true THEN 'role' ELSE 'work_mem' END, 'other', false)",
		"SELECT pg_catalog.set_config('session_authorization', 'other', false)",
		"SELECT 1 ORDER BY set_config('role', 'other', false)",
		"UPDATE pg_settings SET setting = 'other' WHERE name = 'role'",
		"UPDATE pg_catalog.pg_settings s SET setting = 'other' FROM held WHERE s.name = 'role' AND held.id = 1",
		"BEGIN; SET LOCAL ROLE other; COMMIT",
		"SELECT definer()", "SELECT * FROM public.definer()",
		"ALTER ROLE mighty SET role = 'other'", "ALTER USER mighty IN DATABASE pg39 SET role = 'other'", "ALTER DATABASE pg39 SET role = 'other'",
		"GRANT mighty TO other", "REVOKE mighty FROM other", "ALTER ROLE other SUPERUSER LOGIN PASSWORD 'x'", "ALTER GROUP mighty ADD USER other",
		"CREATE ROLE mine SUPERUSER", "CREATE USER mine IN ROLE mighty", "DROP ROLE IF EXISTS other", "REASSIGN OWNED BY mighty TO other", "DROP OWNED BY other",
		"UPDATE pg_authid SET rolsuper = true WHERE rolname = 'other'", "INSERT INTO pg_auth_members (roleid, member) VALUES (10, 11)",
		"SECURITY LABEL ON ROLE other IS 'x'", "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO other", "ALTER TABLE held OWNER TO other",
	}
	who := func() {
		t.Helper()
		if got, err := forms[0].send(t.Context(), a.agent, "SELECT current_user || ' ' || session_user"); err != nil || got != "mighty mighty" {
			t.Errorf("the agent acts as %s, %v", got, err)
		}
	}
	for _, policy := range []string{readers, packed} {
		a.under(t, policy)
		for _, text := range texts {
			a.refused(t, text)
			who()
		}
		a.allowed(t, [2]string{"SET work_mem = '1MB'", ""}, [2]string{"SELECT set_config('work_mem', '2MB', false)", "2MB"}, [2]string{"RESET ALL", ""})
		if _, err := forms[0].send(t.Context(), a.agent, "DISCARD ALL"); err != nil { // as a pool does after each use
			t.Error(err)
		}
		who()
	}
	a.happens(t, "SELECT definer()")
	a.happens(t, "GRANT mighty TO other")
}

// TestPG41ResolvedByCatalog: a name counts for all that it may stand for, wherever the search path finds it.
func TestPG41ResolvedByCatalog(t *testing.T) {
	a := stage(t, "pg41", readers, held+`CREATE SCHEMA own;
		CREATE DOMAIN evil AS text CHECK (clear_held());
		CREATE DOMAIN base AS text CHECK (clear_held());
		CREATE DOMAIN over AS base;
		ALTER DOMAIN base RENAME TO renamed;
		CREATE TYPE span AS RANGE (subtype = evil);
		CREATE TYPE pair AS (a int, b evil);
		CREATE TABLE typed (a int, b evil);
		CREATE TABLE plain (a int, b text[]);
		CREATE TYPE mine AS ENUM ('a');
		CREATE FUNCTION made(mine) RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM held; RETURN 1; END';
		CREATE CAST (mine AS int) WITH FUNCTION made(mine) AS IMPLICIT;
		CREATE DOMAIN own.text AS pg_catalog.text CHECK (public.clear_held());
		CREATE TABLE own.date (a int, b public.evil);
		CREATE VIEW own.pg_class AS SELECT public.clear_held() AS relname;
		CREATE VIEW own.held AS SELECT 1 AS id, 'x'::pg_catalog.text AS v WHERE public.clear_held();
		CREATE FUNCTION own.lower(pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.held; RETURN $1; END';
		CREATE FUNCTION own.count(pg_catalog.int4) RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.held; RETURN 1; END';
		CREATE FUNCTION own.plus(int, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.held; RETURN 1; END';
		CREATE FUNCTION own.equals(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.held; RETURN true; END';
		CREATE OPERATOR own.+ (LEFTARG = int, RIGHTARG = int, FUNCTION = own.plus);
		CREATE OPERATOR own.= (LEFTARG = int, RIGHTARG = int, FUNCTION = own.equals)`,
		"SELECT count(*) FROM public.held")
	// The last ones of these take the names of what is used elsewhere.
	types := []string{
		"SELECT 'x'::evil", "SELECT CAST('x' AS public.evil)", "SELECT evil 'x'", "SELECT evil('x')", "SELECT 'x'::over", "SELECT '{x}'::evil[]", "SELECT '{x}'::_evil",
		"SELECT '[a,b]'::span", "SELECT span('a', 'b')", "SELECT '{[a,b]}'::spanmultirange", "SELECT '(1,x)'::pair", "SELECT ROW(1, 'x')::pair",
		"SELECT '(1,x)'::typed", "SELECT ROW(1, 'x')::public.typed", "SELECT '{\"(1,x)\"}'::typed[]", "SELECT '{\"(1,x)\"}'::_typed",
		"SELECT jsonb_populate_record(NULL::typed, '{\"b\": \"x\"}')", "SELECT * FROM json_populate_recordset(NULL::typed, '[{\"b\": \"x\"}]')",
		"SELECT * FROM jsonb_to_record('{\"b\": \"x\"}') AS x(a int, b evil)", "SELECT * FROM json_to_recordset('[{\"b\": \"x\"}]') AS x(b _evil)",
		"SELECT * FROM xmltable('/a' PASSING '<a/>' COLUMNS b evil PATH '.')", "SELECT xmlserialize(CONTENT '<a/>' AS evil)",
		"SELECT 1 + 'a'::mine", "SELECT 'a'::mine::int", "SELECT array_in('{x}', 'evil'::regtype, -1)", "SELECT domain_in('x', 'evil'::regtype, -1)",
		"SELECT record_in('(1,x)', 'typed'::regtype, -1)",
	}
	names := []string{
		"SELECT 'x'::text", "SELECT text 'x'", "SELECT text('x')", "SELECT CAST(1 AS text)", "SELECT ARRAY['x']::text[]", "SELECT '(1,x)'::date", "SELECT id::text FROM public.held",
		"SELECT relname FROM pg_class", "SELECT * FROM held", "TABLE held", "SELECT lower('x')", "SELECT held.v.lower FROM public.held", "SELECT count(1)",
		"SELECT 1 + 1", "SELECT 1 OPERATOR(own.+) 1", "SELECT 1 = 1", "SELECT 1 IN (1, 2)", "SELECT NULLIF(1, 2)", "SELECT CASE 1 WHEN 1 THEN 2 END",
		"SELECT 1 IS DISTINCT FROM 2", "SELECT 1 WHERE 1 = ANY ('{1}'::int[])", "SELECT (1, 2) = (3, 4)", "SELECT * FROM public.held a JOIN public.held b USING (id)",
		"EXPLAIN ANALYZE SELECT lower('x')", "COPY (SELECT lower('x')) TO STDOUT", "PREPARE p AS SELECT lower('x')",
	}
	for _, policy := range []string{readers, packed} {
		a.under(t, policy)
		if _, err := forms[0].send(t.Context(), a.agent, "SET search_path = own, pg_catalog, public"); err != nil {
			t.Fatal(err)
		}
		a.refused(t, names...)
		a.refused(t, types...)
		if _, err := forms[0].send(t.Context(), a.agent, "SELECT set_config('search_path', 'pg_catalog,public', false)"); err != nil {
			t.Fatal(err)
		}
		a.refused(t, types...)
		a.allowed(t, [2]string{"SELECT pg_catalog.lower('X')", "x"}, [2]string{"SELECT 'x'::pg_catalog.text", "x"}, [2]string{"SELECT '(1,{x})'::plain", "(1,{x})"},
			[2]string{"SELECT 2 OPERATOR(pg_catalog.+) 3", "5"}, [2]string{"SELECT relname FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) 'pg_proc'::regclass", "pg_proc"})
	}
	refill := func() {
		if _, err := a.direct.PgConn().Exec(t.Context(), "INSERT INTO public.held SELECT i, 'x' FROM generate_series(1, 9) i").ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{types[0], types[7], types[15], types[16], types[22]} {
		a.happens(t, text)
		refill()
	}
	for _, text := range []string{names[0], names[2], names[5], names[7], names[10], names[13], names[16]} {
		a.happens(t, "BEGIN; SET LOCAL search_path = own, pg_catalog, public; "+text+"; COMMIT")
		refill()
	}
}

// TestPG42DecisionsCarryNothingOver: what one session has made, named or set counts in no other's decisions.
func TestPG42DecisionsCarryNothingOver(t *testing.T) {
	policy := `rules:
  - {name: makes, when: 'principal.name == "maker" && !("execute" in action.effects)', then: allow}
` + strings.TrimPrefix(readers, "rules: [") // the reader's rule, as a further element
	policy = strings.Replace(strings.TrimSuffix(strings.TrimSpace(policy), "]"), "\n{name: reads", "\n  - {name: reads", 1) + "\n"
	a := stage(t, "pg42", policy, held+`CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM held; RETURN NEW; END';
		CREATE SCHEMA own; CREATE FUNCTION own.lower(text) RETURNS text LANGUAGE sql AS 'SELECT public.clear_held()::text'`, heldRows)
	maker := a.connect(t, "maker")
	do := func(c *pgx.Conn, text string) error {
		_, err := c.PgConn().Exec(t.Context(), text).ReadAll()
		return err
	}
	must := func(text string) {
		t.Helper()
		if err := do(maker, text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	before := a.state(t)

	// A name that one session has made and not committed is known to nobody else.
	must("BEGIN")
	must("CREATE TABLE fresh (id int)")
	must("SELECT * FROM fresh")
	a.refused(t, "SELECT * FROM fresh", "SELECT * FROM public.fresh")
	must("ROLLBACK")
	if err := do(maker, "SELECT * FROM fresh"); err == nil {
		t.Error("a table that was rolled back is still there")
	}

	// A temporary table is no word for one without code: what hangs on it runs.
	must("CREATE TEMP TABLE scratch (id int)")
	must("INSERT INTO pg_temp.scratch VALUES (1)")
	must("CREATE TRIGGER t BEFORE INSERT ON scratch FOR EACH ROW EXECUTE FUNCTION fires()")
	for _, text := range []string{"INSERT INTO scratch VALUES (2)", "INSERT INTO pg_temp.scratch VALUES (2)", "COPY pg_temp.scratch FROM STDIN"} {
		refusal(t, text, do(maker, text))
	}
	a.refused(t, "INSERT INTO pg_temp.scratch VALUES (3)")
	if do(a.agent, "SELECT * FROM pg_temp.scratch") == nil {
		t.Error("another session's temporary table can be read")
	}

	// Prepared statements, cursors and the search path are a session's own.
	must("SET search_path = own, pg_catalog, public")
	must("PREPARE theirs AS SELECT pg_catalog.upper('x')")
	must("BEGIN; DECLARE theirs CURSOR FOR SELECT 1")
	a.refused(t, "EXECUTE theirs")
	if err := do(a.agent, "FETCH theirs"); err == nil || strings.Contains(err.Error(), "gatebook") {
		t.Errorf("another session's cursor: %v", err)
	}
	a.allowed(t, [2]string{"SHOW search_path", `"$user", public`}, [2]string{"SELECT count(*) FROM held", "9"})
	_ = maker.Close(t.Context())

	// Nor does the next session have what the one before had.
	next := a.connect(t, "maker")
	for end := time.Now().Add(10 * time.Second); do(next, "INSERT INTO pg_temp.scratch VALUES (2)") == nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a temporary table outlived its session")
		}
	}
	refusal(t, "next", do(next, "EXECUTE theirs"))
	if after := a.state(t); after != before {
		t.Errorf("the rows are %s, before %s", after, before)
	}
}
