package postgres

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
)

// refusals are messages that the gateway refuses, with the message that stands
// for them in a direct run: one at which the server fails.
var refusals = []struct {
	name     string
	simple   []byte
	extended []byte
}{
	{"pinned", query("SET client_encoding = 'LATIN1'"), parse("", "SET client_encoding = 'LATIN1'")},
	{"pinned among others", query("INSERT INTO r VALUES (100); SET NAMES 'LATIN1'; INSERT INTO r VALUES (101)"), parse("", "SELECT set_config('standard_conforming_strings', 'off', false)")},
	{"token", query("SELECT current_setting('gatebook.token')"), parse("", "SHOW gatebook.token")},
	{"bad token", query("SET gatebook.token = 'nonsense'"), parse("", "SET gatebook.token = 'nonsense'")},
	{"not UTF-8", query("SELECT '\xff'"), parse("", "SELECT '\xff'")},
	{"name not UTF-8", query("SELECT '\xff'"), parse("\xff", "SELECT 1")},
	{"too large", query("SELECT '" + strings.Repeat("x", 80<<10) + "'"), parse("", "SELECT '"+strings.Repeat("x", 80<<10)+"'")},
	{"bind too large", query("SELECT '" + strings.Repeat("x", 80<<10) + "'"), bind("", "ok", 0, 0, bytes.Repeat([]byte("x"), 80<<10))},
	{"token in a parameter", query("SELECT 'gatebook.token'"), bind("", "ok", 0, 0, []byte("GateBook.Token"))},
}

// TestPG28And29Refusals puts refused messages first, in the middle and last, in and out
// of transactions, and compares frames and table contents with a direct run in
// which the server fails at that place.
func TestPG28And29Refusals(t *testing.T) {
	t.Parallel()
	h := start(t, func(_ *enforce.Target, _ *engine.Listener, l *engine.Limits) { l.Message = 70 << 10 })
	if _, err := server.PSQL("postgres", "CREATE DATABASE refused_a OWNER agent; CREATE DATABASE refused_b OWNER agent"); err != nil {
		t.Fatal(err)
	}
	direct := dialDirect(t, "refused_a")
	relayed := dialRaw(t, h.addr, "default", "agents", "orders/refused_b")
	insert := func(n int) []byte {
		return bytes.Join([][]byte{parse("", fmt.Sprintf("INSERT INTO r VALUES (%d)", n)), bind("", "", 0, 0), execute("", 0)}, nil)
	}
	simpleInsert := func(n int) []byte { return query(fmt.Sprintf("INSERT INTO r VALUES (%d)", n)) }
	failSimple, failExtended := query("nonsense"), parse("", "nonsense")
	for _, r := range refusals {
		shapes := map[string]func(simple, extended []byte) [][]byte{
			"first":  func(_, x []byte) [][]byte { return [][]byte{x, insert(1), syncFrame, insert(2), syncFrame} },
			"middle": func(_, x []byte) [][]byte { return [][]byte{insert(1), x, insert(2), syncFrame, insert(3), syncFrame} },
			"last":   func(_, x []byte) [][]byte { return [][]byte{insert(1), x, syncFrame, insert(3), syncFrame} },
			"query":  func(q, _ []byte) [][]byte { return [][]byte{simpleInsert(1), q, simpleInsert(2)} },
			"query in a pipeline": func(q, _ []byte) [][]byte {
				return [][]byte{insert(1), q, insert(2), syncFrame}
			},
			"transaction": func(q, x []byte) [][]byte {
				return [][]byte{query("BEGIN"), simpleInsert(1), q, simpleInsert(2), x, syncFrame, query("COMMIT"), simpleInsert(3)}
			},
			"transaction pipeline": func(_, x []byte) [][]byte {
				return [][]byte{query("BEGIN"), insert(1), syncFrame, insert(2), x, insert(3), syncFrame, query("COMMIT")}
			},
			"failed transaction": func(q, x []byte) [][]byte {
				return [][]byte{query("BEGIN"), query("SELECT 1/0"), q, x, syncFrame, query("ROLLBACK"), simpleInsert(3)}
			},
			"skipped": func(q, x []byte) [][]byte {
				return [][]byte{parse("", "also nonsense"), x, q, insert(2), syncFrame, insert(3), syncFrame}
			},
			"savepoint": func(q, _ []byte) [][]byte {
				return [][]byte{query("BEGIN"), simpleInsert(1), query("SAVEPOINT s"), q, query("ROLLBACK TO s"), simpleInsert(2), query("COMMIT")}
			},
		}
		for shape, make := range shapes {
			var got [2]string
			for k, c := range []*raw{direct, relayed} {
				q, x := r.simple, r.extended
				if k == 0 {
					q, x = failSimple, failExtended
				}
				setup := query("ROLLBACK; DEALLOCATE ALL; DROP TABLE IF EXISTS r; CREATE TABLE r (i int)")
				c.send(setup, parse("ok", "SELECT $1::text"), syncFrame)
				c.until('Z')
				c.until('Z')
				c.send(append(make(q, x), query("SELECT i, 'marker' FROM r UNION ALL SELECT 0, 'marker' ORDER BY 1"))...)
				marker := false
				list, err := c.read(func(f []byte) bool {
					marker = marker || f[0] == 'D' && bytes.HasSuffix(f, []byte("marker"))
					return marker && f[0] == 'Z'
				})
				if err != nil {
					t.Fatalf("%s %s: %v after %s", r.name, shape, err, show(list))
				}
				for _, f := range list {
					if f[0] == 'E' {
						f = f[:1]
					}
					if f[0] == 'T' {
						f = f[:7]
					}
					got[k] += fmt.Sprintf("%q\n", f)
				}
			}
			if got[0] != got[1] {
				t.Errorf("%s %s: direct\n%s\nrelayed\n%s", r.name, shape, got[0], got[1])
			}
		}
	}
	for _, x := range h.agents() {
		if x.outcome == nil || x.deny != (x.outcome.Status == "denied") {
			t.Errorf("exchange %d %q: denied %v, outcome %+v", x.n, x.intent.Text, x.deny, x.outcome)
		}
		for _, s := range []string{x.intent.Text, string(x.intent.Detail)} {
			if strings.Contains(s, "nonsense'") || strings.Contains(s, "GateBook.Token") {
				t.Errorf("the record names the token: %s", s)
			}
		}
	}
}

// TestPG24Pinned tries every way to change what is pinned: it is refused, or the
// session ends; the next answer never comes in another encoding.
func TestPG24Pinned(t *testing.T) {
	t.Parallel()
	h := start(t)
	if _, err := server.PSQL("postgres", `CREATE OR REPLACE FUNCTION sjis() RETURNS int LANGUAGE plpgsql AS
		$$ BEGIN EXECUTE 'SET client_enc'||'oding = SJIS'; RETURN 1; END $$`); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"SET client_encoding = 'SJIS'", "SET client_encoding TO latin1", "SET LOCAL client_encoding = 'SJIS'", "SET NAMES 'SJIS'",
		"SET SESSION standard_conforming_strings = off", "/* x */ sEt /**/ Names 'SJIS'", "SELECT 1; SET NAMES 'SJIS'",
		"SELECT set_config('client_encoding', 'SJIS', false)", "SELECT pg_catalog.set_config('client_' || 'encoding', 'SJIS', false)",
		"SELECT set_config(n, 'SJIS', false) FROM (VALUES ('client_' || 'encoding')) v(n)",
		"DO $$ BEGIN SET client_encoding = 'SJIS'; END $$", "DO $$ BEGIN EXECUTE 'SET client_enc'||'oding = SJIS'; END $$",
		"SELECT sjis()", "ALTER ROLE agent SET client_encoding = 'SJIS'", "ALTER DATABASE postgres SET client_encoding = 'SJIS'",
		"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET client_encoding = 'SJIS' AS 'SELECT 1'",
		"UPDATE pg_settings SET setting = 'SJIS' WHERE name = 'client_encoding'",
	} {
		for _, extended := range []bool{false, true} {
			c := dialRaw(t, h.addr, "default", "agents", "orders")
			if extended {
				c.send(parse("", text), bind("", "", 0, 0), execute("", 0), syncFrame)
			} else {
				c.send(query(text))
			}
			list, err := c.read(func(f []byte) bool { return f[0] == 'Z' })
			refused := strings.Contains(show(list), "gatebook: ") || strings.Contains(show(list), "42601")
			if !refused {
				t.Errorf("%s: %v %s", text, err, show(list))
			}
			if err == nil {
				c.send(query("SHOW client_encoding; SHOW standard_conforming_strings"))
				if got := show(c.until('Z')); !strings.Contains(got, "UTF8") || !strings.Contains(got, "\x02on") && !strings.Contains(got, `\x02on`) {
					t.Errorf("%s: afterwards %s", text, got)
				}
			}
			_ = c.conn.Close()
		}
	}
	// What changes nothing passes.
	c := h.connect("agents")
	for _, text := range []string{
		"SET client_encoding = 'utf-8'", "SET NAMES 'UTF8'", "RESET client_encoding", "RESET ALL", "DISCARD ALL",
		"SET standard_conforming_strings = on", "SELECT set_config('search_path', '', false)", "SELECT 'names set_config client_encoding'",
	} {
		if _, err := c.Exec(context.WithoutCancel(t.Context()), text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
