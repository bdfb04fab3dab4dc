package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// query returns all rows as text.
func query(t testing.TB, x *Index, sql string, l Limits) ([]string, error) {
	t.Helper()
	var out []string
	err := x.Query(t.Context(), sql, l, func(columns []string, row []any) error {
		if row != nil {
			out = append(out, strings.TrimSuffix(fmt.Sprintln(row...), "\n"))
		}
		return nil
	})
	return out, err
}

var short = Limits{Time: 2 * time.Second}

// TestHostileQueries runs what an auditor's SQL must not do. Each must end
// soon, with the right kind of error, and change nothing.
func TestHostileQueries(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	b.grow(2000)
	o := testOptions(t)
	x := indexed(t, b, o)
	before := dump(t, x)
	outside := filepath.Join(t.TempDir(), "out.db")
	long := strings.Repeat("x", 70<<10)
	tests := []struct {
		name, sql string
		want      error
	}{
		{"attach", "ATTACH '" + outside + "' AS o", ErrQuery},
		{"attach after", "SELECT 1; ATTACH '" + outside + "' AS o", ErrQuery},
		{"attach after comment", "SELECT 1 /* ; */ ; -- x\n ATTACH '" + outside + "' AS o", ErrQuery},
		{"two selects", "SELECT 1; SELECT 2", ErrQuery},
		{"two after quote", "SELECT ';'';' AS \";\"; SELECT 2", ErrQuery},
		{"vacuum into", "VACUUM INTO '" + outside + "'", ErrQuery},
		{"pragma", "PRAGMA query_only=OFF", ErrQuery},
		{"pragma read", "PRAGMA table_info(session_row)", ErrQuery},
		{"pragma function", "SELECT * FROM pragma_database_list", ErrQuery},
		{"pragma function write", "SELECT * FROM pragma_query_only('OFF')", ErrQuery},
		{"insert", "INSERT INTO note_row VALUES (1, '', 1, 1, 1, '', '', '')", ErrQuery},
		{"insert through cte", "WITH a AS (SELECT 1) INSERT INTO notes SELECT * FROM a", ErrQuery},
		{"delete through cte", "WITH a AS (SELECT 1) DELETE FROM session_row", ErrQuery},
		{"update view", "UPDATE sessions SET principal = 'x'", ErrQuery},
		{"update through cte", "WITH a AS (SELECT 1) UPDATE session_row SET principal = 'x' RETURNING *", ErrQuery},
		{"drop", "DROP TABLE session_row", ErrQuery},
		{"temp table", "CREATE TEMP TABLE x AS SELECT 1", ErrQuery},
		{"temp view", "CREATE TEMP VIEW sessions AS SELECT 1", ErrQuery},
		{"virtual table", "CREATE VIRTUAL TABLE temp.x USING fts5(a)", ErrQuery},
		{"search command", "WITH a AS (SELECT 1) INSERT INTO search(search) VALUES ('delete-all')", ErrQuery},
		{"begin", "BEGIN EXCLUSIVE", ErrQuery},
		{"savepoint", "SAVEPOINT x", ErrQuery},
		{"analyze", "ANALYZE", ErrQuery},
		{"reindex", "REINDEX", ErrQuery},
		{"explain", "EXPLAIN DELETE FROM session_row", ErrQuery},
		{"load extension", "SELECT load_extension('/tmp/x.so')", ErrQuery},
		{"read file", "SELECT readfile('/etc/passwd')", ErrQuery},
		{"write file", "SELECT writefile('/tmp/x', 'y')", ErrQuery},
		{"fts tokenizer", "SELECT fts3_tokenizer('x', x'00')", ErrQuery},
		{"raw pages", "SELECT * FROM sqlite_dbpage", ErrQuery},
		{"statistics", "SELECT * FROM dbstat", ErrQuery},
		{"temp schema", "SELECT * FROM sqlite_temp_master", ErrQuery},
		{"sink", "SELECT gatebook_row(1, 2)", ErrQuery},
		{"sink in use", "SELECT gatebook_row(value, 2) FROM json_each('[1,2,3,4,5]')", ErrQuery},
		{"close the bracket", "SELECT 1) LIMIT 1) SELECT gatebook_row(1, 2) FROM q --", ErrQuery},
		{"open comment", "SELECT 1 /* ", nil},
		{"line comment", "SELECT 1 -- x", nil},
		{"semicolons", ";; SELECT 1 ;; -- end\n;", nil},
		{"comment first", "/* a */ -- b\n SELECT 1", nil},
		{"empty", " ; -- nothing", ErrQuery},
		{"nul", "SELECT 1\x00; DROP TABLE session_row", ErrQuery},
		{"parameter", "SELECT ?30", ErrQuery},
		{"wrong", "SELECT FROM WHERE", ErrQuery},
		{"no such column", "SELECT nothing FROM sessions", ErrQuery},
		{"quoted text", `SELECT "nothing" FROM sessions`, ErrQuery},
		{"long", "SELECT '" + long + "'", ErrLimit},
		{"many columns", "SELECT " + strings.Repeat("1,", 200) + "1", ErrQuery},
		{"deep", "SELECT " + strings.Repeat("1+(", 2000) + "1" + strings.Repeat(")", 2000), ErrQuery},
		{"many unions", "SELECT 1" + strings.Repeat(" UNION ALL SELECT 1", 400), ErrQuery},

		{"recursion", "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c", ErrLimit},
		{"recursion after a row", "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT 1 UNION ALL SELECT count(*) FROM c", ErrLimit},
		{"recursion of rows", "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c", ErrLimit},
		{"recursion kept", "WITH RECURSIVE c(n) AS (SELECT 1 UNION SELECT n + 1 FROM c) SELECT n FROM c ORDER BY n DESC", ErrLimit},
		{"exponential", "WITH RECURSIVE c(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM c) SELECT max(length(s)) FROM c", ErrLimit},
		{"cross join", "SELECT count(*) FROM exchanges a, exchanges b, exchanges c, exchanges d", ErrLimit},
		{"sorted cross join", "SELECT a.text || b.text FROM exchanges a, exchanges b, exchanges c ORDER BY 1", ErrLimit},
		{"random blob", "SELECT randomblob(1000000000)", ErrQuery},
		{"zero blob", "SELECT zeroblob(1000000000)", ErrQuery},
		{"printf", "SELECT printf('%.*c', 1000000000, 'x')", ErrLimit},
		{"printf width", "SELECT length(printf('%1000000000d', 1))", ErrLimit},
		{"hex", "SELECT hex(hex(hex(hex(hex(printf('%.*c', 20000, 'x'))))))", ErrLimit},
		{"group_concat", "SELECT length(group_concat(a.text)) FROM exchanges a, exchanges b", ErrLimit},
		{"json array", "SELECT length(json_group_array(a.text)) FROM exchanges a, exchanges b", ErrLimit},
		{"replace grows", "SELECT length(replace(printf('%.*c', 200000, 'x'), 'x', printf('%.*c', 200000, 'y')))", ErrQuery},
		{"instr of repeats", "SELECT instr(printf('%.*c', 250000, 'a'), printf('%.*c', 125000, 'a') || 'b')", nil},
		{"replace of repeats", "SELECT length(replace(printf('%.*c', 250000, 'a'), printf('%.*c', 125000, 'a') || 'b', ''))", nil},
		{"trim of repeats", "SELECT length(trim(printf('%.*c', 250000, 'a'), printf('%.*c', 125000, 'b') || 'a'))", ErrQuery},
		{"like of repeats", "SELECT printf('%.*c', 250000, 'a') LIKE '" + strings.Repeat("%a", 50) + "b'", nil},
		{"like too long", "SELECT 'x' LIKE '" + strings.Repeat("%a", 500) + "'", ErrQuery},
		{"match", `SELECT * FROM search('"')`, ErrQuery},
	}
	for _, tt := range tests {
		began := time.Now()
		_, err := query(t, x, tt.sql, short)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("%s took %v", tt.name, took)
		}
		if errors.Is(err, ErrRebuild) {
			t.Errorf("%s: reported as damage: %v", tt.name, err)
		}
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("a query made a file")
	}
	sameDump(t, dump(t, x), before)
}

// TestQuery checks what legitimate queries return.
func TestQuery(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	b.grow(2000)
	x := indexed(t, b, testOptions(t))
	for sql, want := range map[string]string{
		"SELECT count(*) FROM exchanges":                           "",
		"SELECT 1, NULL, 2.5, 'x'":                                 "[1 <nil> 2.5 x]",
		"VALUES (1), (2)":                                          "[1 2]",
		"SELECT 3 WHERE 0":                                         "[]",
		"SELECT value FROM json_each('[3,1,2]') ORDER BY value":    "[1 2 3]",
		"SELECT value FROM json_each('[3,1,2]') ORDER BY 1 DESC":   "[3 2 1]",
		"SELECT instr('späße', 'ß'), replace('abc', 'b', 'xx')":    "[4 axxc]",
		"SELECT trim('  a '), trim('xxaxx', 'x'), ltrim('xa','x')": "[a a a]",
		"SELECT instr(NULL, 'a'), replace('a', NULL, 'b')":         "[<nil> <nil>]",
	} {
		got, err := query(t, x, sql, Limits{})
		if err != nil || (want != "" && fmt.Sprint(got) != want) {
			t.Errorf("%s: got %v, %v, want %s", sql, got, err, want)
		}
	}
	rows, err := query(t, x, "SELECT first_entry FROM exchanges ORDER BY text, first_entry", Limits{})
	if err != nil || len(rows) < 500 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	sorted, err := query(t, x, "SELECT group_concat(first_entry, ' ') FROM (SELECT first_entry FROM exchanges ORDER BY text, first_entry)", Limits{})
	if err != nil || strings.Join(rows, " ") != sorted[0] {
		t.Errorf("rows came in another order than asked for: %v", err)
	}
	if _, err := query(t, x, "SELECT first_entry FROM exchanges", Limits{Rows: 10}); !errors.Is(err, ErrLimit) {
		t.Errorf("got %v, want ErrLimit", err)
	}
	if got, err := query(t, x, "SELECT first_entry FROM exchanges LIMIT 10", Limits{Rows: 10}); err != nil || len(got) != 10 {
		t.Errorf("%d rows, %v", len(got), err)
	}
	stop := errors.New("enough")
	err = x.Query(t.Context(), "SELECT 1", Limits{}, func([]string, []any) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want the callback's error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	err = x.Query(ctx, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c", Limits{}, func([]string, []any) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}

// TestQueryTempSpace bounds what a query may spill.
func TestQueryTempSpace(t *testing.T) {
	// Not parallel: it watches the disk's free space.
	b := newBook(1)
	b.grow(6000)
	x := indexed(t, b, testOptions(t))
	_, err := query(t, x, "SELECT count(*) FROM (SELECT DISTINCT a.text || b.text || a.first_entry FROM exchanges a, exchanges b)", Limits{Time: time.Minute, TempBytes: 16 << 20})
	if !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "temporary") {
		t.Errorf("got %v, want ErrLimit for temporary space", err)
	}
}

// TestQueriesWhileFollowing reads while entries are taken in.
func TestQueriesWhileFollowing(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	b.grow(6000)
	x := openIndex(t, testOptions(t))
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 6 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				// The rows and the position are of one moment.
				got, err := query(t, x, "SELECT (SELECT count(*) FROM exchanges WHERE first_entry >= (SELECT coalesce(max(last_entry), 0) + 1 FROM sessions))", Limits{})
				if err != nil || got[0] != "0" {
					t.Errorf("%v, %v", got, err)
					return
				}
			}
		})
	}
	for x.Next() < uint64(len(b.entries)) {
		if _, err := x.CatchUp(t.Context(), b.from(x.Next(), min(x.Next()+100, uint64(len(b.entries))))); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
}
