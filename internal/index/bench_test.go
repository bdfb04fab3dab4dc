package index

import (
	"testing"
	"time"
)

// BenchmarkFollow reports how many entries a second are taken in.
func BenchmarkFollow(b *testing.B) {
	book := newBook(1)
	book.grow(100_000)
	for b.Loop() {
		b.StopTimer()
		x := openIndex(b, testOptions(b))
		b.StartTimer()
		if _, err := x.CatchUp(b.Context(), book.from(0, 0)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(book.entries))/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkQuery asks an index of 100,000 exchanges.
func BenchmarkQuery(b *testing.B) {
	book := newBook(1)
	book.grow(225_000)
	x := indexed(b, book, testOptions(b))
	n, err := query(b, x, "SELECT count(*) FROM exchanges", Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.Log(n, "exchanges")
	for name, sql := range map[string]string{
		"one":      "SELECT 1",
		"match":    "SELECT first_entry, text FROM exchanges WHERE first_entry IN (SELECT rowid FROM search('customers AND delete')) ORDER BY first_entry DESC LIMIT 100",
		"matchAll": "SELECT count(*) FROM exchanges WHERE first_entry IN (SELECT rowid FROM search('customers'))",
		"like":     "SELECT count(*) FROM exchanges WHERE text LIKE '%total + 7 %'",
		"denied":   "SELECT principal, count(*) FROM exchanges WHERE decision = 'deny' GROUP BY 1",
		"day":      "SELECT count(*) FROM exchanges WHERE time >= '2026-03-01T08' AND time < '2026-03-01T09' AND status = 'error'",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := query(b, x, sql, Limits{Time: time.Minute}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			if _, err := x.Exchanges(b.Context(), Filter{Principal: "ci|bot-a", Text: "customers delete"}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
