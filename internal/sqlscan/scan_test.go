package sqlscan

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/access"
)

// one analyses a text of one statement.
func one(t *testing.T, text string) Statement {
	t.Helper()
	s := Analyse(text)
	if s.Opaque != "" || len(s.Statements) != 1 {
		t.Fatalf("%s: %d statements, opaque: %q", text, len(s.Statements), s.Opaque)
	}
	return s.Statements[0]
}

func objectWords(list []Object) []string {
	out := []string{}
	for _, o := range list {
		out = append(out, o.Kind+" "+o.Name.String()+" "+o.Effect.String())
	}
	return out
}

func TestVerbsAndEffects(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, verb, effects string }{
		{"SELECT 1", "SELECT", "read"},
		{"VALUES (1)", "SELECT", "read"},
		{"SELECT * INTO x FROM t", "SELECT INTO", "read,write,schema"},
		{"INSERT INTO t VALUES (1)", "INSERT", "write"},
		{"INSERT INTO t VALUES (1) RETURNING a", "INSERT", "read,write"},
		{"INSERT INTO t SELECT * FROM u", "INSERT", "read,write"},
		{"UPDATE t SET a = 1 WHERE id = 5", "UPDATE", "write"},
		{"DELETE FROM t WHERE id = 5 RETURNING *", "DELETE", "read,write"},
		{"MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE", "MERGE", "read,write"},
		{"TRUNCATE t", "TRUNCATE TABLE", "write"},
		{"COPY t TO STDOUT", "COPY", "read"},
		{"COPY t FROM STDIN", "COPY", "write"},
		{"COPY t FROM '/x'", "COPY", "write,file"},
		{"COPY t FROM PROGRAM 'id'", "COPY", "write,execute,file,admin"},
		{"BEGIN", "BEGIN", "transaction"},
		{"SET TRANSACTION READ WRITE", "SET", "transaction"},
		{"SET work_mem = '1MB'", "SET", "session"},
		{"SET ROLE x", "SET", "access,session"},
		{"SHOW work_mem", "SHOW", "read"},
		{"LOCK TABLE t", "LOCK TABLE", "lock"},
		{"LISTEN c", "LISTEN", "notify"},
		{"SELECT * FROM t FOR UPDATE", "SELECT", "read,lock"},
		{"DO 'x'", "DO", "execute"},
		{"CREATE TABLE t (a int)", "CREATE TABLE", "schema"},
		{"CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE MATERIALIZED VIEW", "read,write,schema"},
		{"DROP VIEW v", "DROP VIEW", "schema"},
		{"GRANT SELECT ON t TO r", "GRANT", "access"},
		{"VACUUM t", "VACUUM", "admin"},
		{"CREATE SERVER s FOREIGN DATA WRAPPER w", "CREATE SERVER", "schema,network"},
		{"UPDATE pg_class SET relowner = 1 WHERE oid = 5", "UPDATE", "write,schema,access"},
		{"UPDATE pg_settings SET setting = 'x' WHERE name = 'y'", "UPDATE", "write,access,admin,session"},
		{"SELECT * FROM pg_hba_file_rules", "SELECT", "read,file"},
		{"SELECT dblink_exec('x')", "SELECT", "read,execute,network"},
	}
	for _, tt := range tests {
		st := one(t, tt.text)
		if st.Verb != tt.verb || st.Effects.String() != tt.effects {
			t.Errorf("%s: %s %s, want %s %s", tt.text, st.Verb, st.Effects, tt.verb, tt.effects)
		}
	}
}

func TestTextEffects(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]access.Effects{
		"":                          0,
		"-- nothing":                0,
		"BEGIN; SELECT 1; LISTEN x": access.EffectTransaction | access.EffectRead | access.EffectNotify,
		"SELECT 1; SELECT f()":      access.EffectRead | access.EffectExecute,
		"SELEC 1":                   access.EffectExecute,
		"SELECT 1; DROP":            access.EffectExecute,
		strings.Repeat("(", 2000):   access.EffectExecute,
		strings.Repeat(" ", 1<<20):  access.EffectExecute,
	} {
		if got := Analyse(text).Effects(); got != want {
			t.Errorf("%.40q: %s, want %s", text, got, want)
		}
	}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want []string
	}{
		{"SELECT lower(a) FROM t", []string{"relation t read", "function lower "}},
		{"SELECT * FROM s.t, t, s.t x", []string{"relation s.t read", "relation t read"}},
		{"SELECT * FROM d.s.t", []string{"relation s.t read"}},
		{"INSERT INTO t SELECT f() FROM u", []string{"relation u read", "function f execute", "relation t write"}},
		{"DELETE FROM t USING t u WHERE t.a = u.a", []string{"relation t write", "relation t read"}},
		{"SELECT nextval('s')", []string{"function nextval write"}},
		{"SELECT ('x'::text).pg_read_file", []string{"function pg_read_file file"}},
		{"SELECT x.pg_sleep FROM unnest($1) x", []string{"function unnest ", "function pg_sleep lock"}},
		{"SELECT 'x'::s.e, 1 OPERATOR(s.+) 2, a <=> b", []string{"type s.e execute", "operator s.+ execute", "operator <=> execute"}},
		{"SELECT set_config('ROLE', 'x', true)", []string{"function set_config session", "setting role access"}},
		{"SELECT * FROM t TABLESAMPLE bernoulli (1)", []string{"relation t read", "function bernoulli "}},
		{"SELECT json_value(a, '$'), json_scalar(b) FROM t", []string{"relation t read", "function json_value ", "function json_scalar "}},
		{"CREATE TEMP TABLE x AS SELECT * FROM t", []string{"relation t read", "relation pg_temp.x schema"}},
		{"ALTER TABLE s.t RENAME TO u", []string{"relation s.t schema"}},
		{"DROP TABLE s.t, u", []string{"relation s.t schema", "relation u schema"}},
		{"DROP TRIGGER g ON s.t", []string{"relation s.t schema"}},
		{"GRANT SELECT ON t TO r", []string{"relation t access", "role r access"}},
		{"CREATE EXTENSION e", []string{"extension e schema"}},
		{"COPY t TO '/x'", []string{"relation t read", "file /x file"}},
		{"DECLARE c CURSOR FOR SELECT * FROM t", []string{"relation t read", "cursor c session"}},
	}
	for _, tt := range tests {
		if got := objectWords(one(t, tt.text).Objects); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n%q, want\n%q", tt.text, got, tt.want)
		}
	}
}

func TestOperatorsAndAttributes(t *testing.T) {
	t.Parallel()
	st := one(t, "SELECT t.a, (t.b).c, d + e, f IN (1), g BETWEEN 1 AND 2, h OPERATOR(pg_catalog.-) 1 FROM t JOIN u USING (i)")
	ops := []string{}
	for _, o := range st.Operators {
		ops = append(ops, o.String())
	}
	slices.Sort(ops)
	if want := []string{"+", "<", "<=", "=", ">", ">="}; !slices.Equal(ops, want) {
		t.Errorf("operators %q, want %q", ops, want)
	}
	slices.Sort(st.Attributes)
	if want := []string{"a", "b", "c"}; !slices.Equal(st.Attributes, want) {
		t.Errorf("attributes %q, want %q", st.Attributes, want)
	}
}

func TestColumns(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want []string
	}{
		{"SELECT a FROM t", []string{"t.a"}},
		{"SELECT a FROM s.t", []string{"s.t.a"}},
		{"SELECT x.a, s.t.b FROM s.t x", []string{"s.t.a", "s.t.b"}},
		{"SELECT a FROM t, u", []string{".a"}},
		{"SELECT * FROM t, s.u", []string{"t.*", "s.u.*"}},
		{"SELECT *, * FROM t", []string{"t.*"}},
		{"SELECT t.* FROM t", []string{"t.*"}},
		{"SELECT t FROM t", []string{"t.*", "t.t"}},
		{"SELECT a FROM (SELECT b FROM t) x", []string{"t.b", ".a"}},
		{"WITH t AS (SELECT a FROM u) SELECT t.b FROM t", []string{"u.a", ".b"}},
		{"SELECT 1 FROM t WHERE a = 5 ORDER BY b", []string{"t.b", "t.a"}},
		{"SELECT 1 FROM t JOIN u USING (a)", []string{".a"}},
		{"COPY t (a, b) TO STDOUT", []string{"t.a", "t.b"}},
		{"COPY t TO STDOUT", []string{"t.*"}},
		{"DELETE FROM t x WHERE x.a = 1 RETURNING *", []string{"t.a", "t.*"}},
		{"SELECT (SELECT t.a FROM u) FROM t", []string{"t.a"}},
	}
	for _, tt := range tests {
		got := []string{}
		for _, c := range one(t, tt.text).Columns {
			got = append(got, c.Relation.String()+"."+c.Name)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.text, got, tt.want)
		}
	}
}

// TestScopes: a name is that of a WITH query only where it can be seen, and never with a schema, nor where rows are changed.
func TestScopes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want []string
	}{
		{"WITH t AS (SELECT 1) SELECT * FROM t", []string{}},
		{"WITH t AS (SELECT 1) SELECT * FROM public.t", []string{"relation public.t read"}},
		{"WITH t AS (SELECT * FROM t) SELECT * FROM t", []string{"relation t read"}},
		{"WITH RECURSIVE t AS (SELECT * FROM t) SELECT * FROM t", []string{}},
		{"WITH a AS (SELECT * FROM b), b AS (SELECT * FROM a) SELECT * FROM b", []string{"relation b read"}},
		{"WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", []string{}},
		{"SELECT * FROM (WITH t AS (SELECT 1) SELECT * FROM t) x, t", []string{"relation t read"}},
		{"WITH t AS (SELECT 1) SELECT (SELECT 1 FROM t)", []string{}},
		{"WITH t AS (SELECT 1) DELETE FROM t WHERE id = 5", []string{"relation t write"}},
		{"WITH t AS (SELECT 1) INSERT INTO t SELECT * FROM t", []string{"relation t write"}},
		{`WITH "T" AS (SELECT 1) SELECT * FROM t`, []string{"relation t read"}},
		{"(WITH t AS (SELECT 1) SELECT * FROM t) UNION SELECT * FROM t", []string{"relation t read"}},
		{"WITH t AS (SELECT 1) SELECT * FROM t UNION SELECT * FROM t", []string{}},
	}
	for _, tt := range tests {
		if got := objectWords(one(t, tt.text).Objects); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"EXPLAIN DELETE FROM t":                           "read",
		"EXPLAIN (ANALYZE off) DELETE FROM t":             "read",
		"EXPLAIN (ANALYZE) DELETE FROM t":                 "read,write",
		"EXPLAIN (ANALYZE off, ANALYZE) DELETE FROM t":    "read,write",
		"EXPLAIN (ANALYZE sometimes) DELETE FROM t":       "read,write", // the target refuses it
		"EXPLAIN SELECT nextval('s') FROM t FOR UPDATE":   "read",
		"EXPLAIN SELECT f()":                              "read,execute",
		"EXPLAIN CREATE TABLE x AS SELECT 1":              "read",
		"EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1":      "read,write,schema",
		"EXPLAIN ANALYZE SELECT pg_read_file('x') FROM t": "read,file",
	} {
		st := one(t, text)
		if st.Verb != "EXPLAIN" || st.Effects.String() != want {
			t.Errorf("%s: %s %s, want %s", text, st.Verb, st.Effects, want)
		}
	}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	st := one(t, "PREPARE p (int) AS DELETE FROM t WHERE id = $1")
	if st.Prepares != "p" || st.Runs != "" || st.Effects != access.EffectWrite|access.EffectSession || !st.HasFilter || st.Parameters != 1 {
		t.Errorf("PREPARE: %+v", st)
	}
	st = one(t, "EXECUTE p (5)")
	if st.Runs != "p" || st.Prepares != "" || st.Opaque == "" || !st.Effects.Has(access.EffectExecute) || st.HasFilter || !slices.Equal(st.Literals, []string{"5"}) {
		t.Errorf("EXECUTE: %+v", st)
	}
	if st = one(t, "DEALLOCATE p"); st.Effects != access.EffectSession {
		t.Errorf("DEALLOCATE: %+v", st)
	}
}

func TestLiteralsAndParameters(t *testing.T) {
	t.Parallel()
	st := one(t, `SELECT 'it''s', E'a\n', $$b$$, 5, -6, 1.5, B'1', NULL, true, $3, $1 FROM t WHERE a LIKE 'x%' LIMIT 7`)
	if want := []string{"it's", "a\n", "b", "5", "-6", "1.5", "b1", "x%", "7"}; !slices.Equal(st.Literals, want) {
		t.Errorf("literals %q, want %q", st.Literals, want)
	}
	if st.Parameters != 3 {
		t.Errorf("%d parameters", st.Parameters)
	}
}

func TestHasFilter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"SELECT 1":                                                         true, // from nothing
		"SELECT * FROM t":                                                  false,
		"SELECT * FROM t WHERE id = 5":                                     true,
		"SELECT * FROM t WHERE true":                                       false,
		"SELECT * FROM t WHERE 1 = 2 OR id = 5":                            false, // 1 = 2 is not computed
		"SELECT * FROM (SELECT * FROM t) x":                                false,
		"SELECT * FROM t, (SELECT 1 FROM u) x":                             false,
		"SELECT (SELECT 1 FROM t)":                                         true,
		"SELECT 1 FROM t UNION SELECT 2 FROM u":                            false,
		"SELECT 1 FROM t WHERE a = 1 UNION TABLE u":                        false,
		"SELECT 1 FROM t WHERE a = 1 UNION SELECT 1 FROM u WHERE b = 2":    true,
		"COPY t TO STDOUT":                                                 false,
		"COPY t FROM STDIN":                                                true,
		"INSERT INTO t SELECT * FROM u":                                    true,
		"WITH i AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM i": true,
		"WITH i AS (INSERT INTO t VALUES (1) RETURNING a), d AS (DELETE FROM u) SELECT * FROM i": false,
		"DELETE FROM t WHERE id = 5": true,
		"DELETE FROM t WHERE false":  true,
		"DELETE FROM t":              false,
		"TRUNCATE t":                 false,
		"DO 'x'":                     false,
		"DELETE FROM t USING u WHERE t.id = u.id":                                                     true,
		"DELETE FROM t USING u WHERE t_id = u.id":                                                     true,
		"DELETE FROM t USING u WHERE t_id = u_id":                                                     true,
		"DELETE FROM t USING u WHERE name = 'x'":                                                      false, // it may be u's
		"DELETE FROM t WHERE EXISTS (SELECT 1 FROM u WHERE t_id = id)":                                false, // both may be u's
		"DELETE FROM t WHERE EXISTS (SELECT 1 FROM t WHERE t.id = 5)":                                 false, // the inner t
		"UPDATE t SET a = 1 WHERE CASE WHEN $1 THEN true ELSE id = 5 END":                             false,
		"UPDATE t SET a = 1 WHERE CASE id WHEN 1 THEN true ELSE false END":                            true,
		"UPDATE t SET a = 1 WHERE coalesce(NULL, true)":                                               false,
		"MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE":                                true,
		"MERGE INTO t USING s ON t.id = s.id WHEN NOT MATCHED BY SOURCE THEN DELETE":                  false,
		"MERGE INTO t USING s ON t.id = s.id WHEN NOT MATCHED BY SOURCE AND t.tenant = 5 THEN DELETE": true,
		"DELETE FROM t WHERE EXISTS (SELECT 1 FROM s.t x WHERE x.id = t.id)":                          false,
		"DELETE FROM r.t WHERE EXISTS (SELECT 1 FROM s.t x WHERE x.id = t.id)":                        true,
		"DELETE FROM t WHERE id IN (SELECT x.id FROM t x LIMIT 1)":                                    true,
		"DELETE FROM t WHERE id IN (SELECT a FROM t)":                                                 true,
		"DELETE FROM t WHERE id NOT IN (SELECT id FROM t)":                                            true, // none
		"DELETE FROM t WHERE a = '' OR a <> ''":                                                       false,
		"DELETE FROM t WHERE 5 < a OR NOT (a > 5)":                                                    false,
		"DELETE FROM t WHERE a < 5 OR a > 5":                                                          true,
		"DELETE FROM t WHERE NOT (a = 1 AND a <> 1)":                                                  false,
		"DELETE FROM t WHERE length(a) >= 0":                                                          true, // a known hole: what functions give is not known
		"DELETE FROM t WHERE id = coalesce($1, id)":                                                   true, // a known hole: parameters are not known
	} {
		if got := one(t, text).HasFilter; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

// TestResolveOperators: an operator that is not PostgreSQL's own is what the catalog says of it.
func TestResolveOperators(t *testing.T) {
	t.Parallel()
	c := &Catalog{
		Relations: map[string][]*Relation{"t": {{Name: Name{"public", "t"}}}},
		Operators: map[string][]Routine{
			"<=>": {{Name: Name{"public", "<=>"}}},
			"+":   {{Name: Name{"evil", "+"}, Effect: access.EffectExecute}},
		},
	}
	for text, want := range map[string]string{
		"SELECT a <=> b FROM t":                    "read",
		"SELECT a OPERATOR(public.<=>) b FROM t":   "read",
		"SELECT a OPERATOR(other.<=>) b FROM t":    "read,execute",
		"SELECT a <#> b FROM t":                    "read,execute",
		"SELECT a + b FROM t":                      "read,execute",
		"SELECT a OPERATOR(pg_catalog.+) b FROM t": "read",
		"SELECT a - b FROM t WHERE c IN (1)":       "read",
	} {
		if got := c.Resolve(Analyse(text), nil).Effects().String(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// TestLargeTexts: the largest texts take little time and memory, whatever is repeated in them.
func TestLargeTexts(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long with the race detector")
	}
	repeat := func(before, piece, after string) string {
		return before + strings.Repeat(piece, (maxText-len(before)-len(after))/len(piece)) + after
	}
	nest := func(before, open, middle, shut string, n int) string {
		return before + strings.Repeat(open, n) + middle + strings.Repeat(shut, n)
	}
	numbered := func(before, piece string) string {
		var b strings.Builder
		b.WriteString(before)
		for i := 0; b.Len() < maxText-20; i++ {
			b.WriteString(piece)
			b.WriteString(strings.Repeat("a", i%7+1))
			b.WriteByte(byte('a' + i%26))
			b.WriteByte(byte('a' + i/26%26))
			b.WriteByte(byte('a' + i/676%26))
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"plus":             repeat("SELECT 1", "+1", ""),
		"not":              repeat("SELECT ", "NOT ", "true"),
		"minus":            repeat("SELECT ", "- ", "1"),
		"tilde":            repeat("SELECT ", "~ ", "1"),
		"minus in filter":  repeat("DELETE FROM t WHERE a = ", "- ", "1"),
		"plus in filter":   repeat("DELETE FROM t WHERE a = 1", "+1", ""),
		"not in filter":    repeat("DELETE FROM t WHERE ", "NOT ", "a"),
		"union":            repeat("SELECT 1", " UNION SELECT 1", ""),
		"union of columns": repeat("SELECT a FROM t", " UNION ALL SELECT a,b,c,d,e,f FROM t", ""),
		"join":             repeat("SELECT * FROM a", " JOIN b USING (c)", ""),
		"join to right":    "SELECT * FROM a" + strings.Repeat(" JOIN b", 20000) + strings.Repeat(" ON c", 20000),
		"casts":            repeat("SELECT 1", "::int", ""),
		"or":               repeat("DELETE FROM t WHERE a=1", " OR a=1", ""),
		"and":              repeat("DELETE FROM t WHERE a=1", " AND a=1", ""),
		"in":               repeat("DELETE FROM t WHERE a IN (1", ",1", ")"),
		"or in and":        nest("DELETE FROM t WHERE ", "(a AND (b OR ", "c", "))", 499),
		"exists":           nest("DELETE FROM t WHERE EXISTS ", "(SELECT 1 FROM t WHERE t.id=t.id AND a IN (1,2,3,4,5,6,7,8,9) AND EXISTS ", "(SELECT 1)", ")", 190),
		"columns outside":  nest("SELECT 1 WHERE 1 IN ", "(SELECT a FROM t WHERE b IN ", "(SELECT 1"+strings.Repeat(",u.z", 60000)+")", ")", 190),
		"array":            nest("SELECT ", "ARRAY[", "1", "]", 999),
		"deeper array":     nest("SELECT ", "ARRAY[", "1", "]", 30000),
		"queries":          nest("SELECT 1 WHERE 1 IN ", "(SELECT a FROM t WHERE b IN ", "(SELECT 1)", ")", 990),
		"case":             repeat("SELECT ", "CASE WHEN a THEN 1 ELSE ", ""),
		"stars":            numbered("SELECT *"+strings.Repeat(",*", 60000)+" FROM t", ",t"),
		"relations":        numbered("SELECT * FROM t", ",t"),
		"columns":          numbered("SELECT a", ","),
		"with":             repeat("WITH a AS (SELECT 1)", ",b AS (SELECT 1)", " SELECT 1"),
		"values":           repeat("INSERT INTO t VALUES (1)", ",(1)", ""),
		"statements":       repeat("", "SELECT 1;", ""),
		"nothing":          repeat("", ";", ""),
		"comments":         nest("SELECT 1", "/*", "", "*/", 65000),
		"identifier":       repeat("SELECT ", "a", ""),
		"quote":            repeat("SELECT ", "'", ""),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		s := Analyse(text)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if took > time.Minute { // once more: the machine may have been busy
			began = time.Now()
			Analyse(text)
			took = time.Since(began)
		}
		// The bounds are far above what it takes (under a second), and far below what
		// quadratic work would, even with the race detector.
		if took > time.Minute || after.TotalAlloc-before.TotalAlloc > 512<<20 || after.StackSys > 1<<30 {
			t.Errorf("%s: %s, %d MiB", name, took, (after.TotalAlloc-before.TotalAlloc)>>20)
		}
		for _, st := range s.Statements {
			if st.Opaque != "" && !st.Effects.Has(access.EffectExecute) {
				t.Errorf("%s: opaque (%s) without the effect", name, st.Opaque)
			}
		}
	}
}

// TestManyAreOrdinary: long lists are no reason to be opaque.
func TestManyAreOrdinary(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"union":  "SELECT 1, 'a'" + strings.Repeat(" UNION ALL SELECT 2, 'b'", 3000),
		"in":     "SELECT * FROM t WHERE id IN (1" + strings.Repeat(", 2", 50000) + ")",
		"or":     "DELETE FROM t WHERE id = 1" + strings.Repeat(" OR id = 2", 5000),
		"values": "INSERT INTO t VALUES (1)" + strings.Repeat(", (2)", 20000),
		"data":   "INSERT INTO t VALUES ('in case :( it is said')" + strings.Repeat(", ('in case :( it is said')", 3000),
		"cases":  strings.Repeat("UPDATE t SET a = CASE WHEN b THEN 1 END WHERE id = 5;", 1500),
		"concat": "SELECT a" + strings.Repeat(" || 'x'", 1000),
	} {
		s := Analyse(text)
		if s.Opaque != "" {
			t.Errorf("%s: opaque %q", name, s.Opaque)
		}
		for _, st := range s.Statements {
			if st.Opaque != "" || !st.HasFilter {
				t.Errorf("%s: filter %v, opaque %q", name, st.HasFilter, st.Opaque)
				break
			}
		}
	}
}

func FuzzAnalyse(f *testing.F) {
	for _, c := range corpus(f) {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		began := time.Now()
		s := Analyse(text)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		if s.Opaque != "" && (s.Effects() != access.EffectExecute || len(s.Statements) > 0) {
			t.Errorf("opaque (%s), with effects %s and %d statements", s.Opaque, s.Effects(), len(s.Statements))
		}
		var all access.Effects
		for i := range s.Statements {
			st := &s.Statements[i]
			all |= st.Effects
			if st.Opaque != "" && (!st.Effects.Has(access.EffectExecute) || st.HasFilter) {
				t.Errorf("opaque (%s): effects %s, filter %v", st.Opaque, st.Effects, st.HasFilter)
			}
			if st.Effects == 0 {
				t.Errorf("%s has no effect", st.Verb)
			}
			if st.Verb == "" && st.Opaque == "" {
				t.Error("a statement without a verb")
			}
		}
		if s.Opaque == "" && all != s.Effects() {
			t.Errorf("effects %s are not those of the statements, %s", s.Effects(), all)
		}
		(&Catalog{}).Resolve(s, nil)
	})
}

func BenchmarkAnalyse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Analyse(`SELECT "users"."id", "users"."email", "users"."name" FROM "users" WHERE "users"."id" = $1 LIMIT 1`)
	}
}
