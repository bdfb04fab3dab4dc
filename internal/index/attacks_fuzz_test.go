package index

import (
	"slices"
	"testing"
	"time"
)

// FuzzQuery: whatever an auditor asks, it ends soon and changes nothing.
func FuzzQuery(f *testing.F) {
	f.Add("SELECT * FROM sessions")
	f.Add("WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM a) SELECT count(*) FROM a")
	f.Add("SELECT 1; PRAGMA query_only=OFF")
	f.Add("SELECT replace(hex(zeroblob(1000)), '0', 'xx') FROM exchanges, exchanges b")
	f.Add("INSERT INTO session_row DEFAULT VALUES -- \x00")
	f.Add("SELECT json_extract(text, '$[#-1]') FROM exchanges WHERE text MATCH 'x' ORDER BY rank")
	f.Add("EXPLAIN SELECT * FROM search('a')")
	b := newBook(3)
	b.grow(20)
	x := indexed(f, b, testOptions(f))
	before := dump(f, x)
	n := 0
	f.Fuzz(func(t *testing.T, sql string) {
		began := time.Now()
		_, _ = query(t, x, sql, Limits{Time: 200 * time.Millisecond})
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		if n++; n%100 == 0 {
			if !slices.Equal(dump(t, x), before) {
				t.Error("the tables were changed")
			}
		}
	})
}
