package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
)

// TestQueuedStatementsEndWithTheSession: what waits at the target behind a
// running statement must not begin there after the session's end, whoever ends it. PostgreSQL reads on
// in what it has received, so that a cancel alone would only let the next one begin.
func TestQueuedStatementsEndWithTheSession(t *testing.T) {
	for _, how := range []string{"an operator", "the expiry"} {
		t.Run(how, func(t *testing.T) {
			h := start(t)
			token := "agents"
			if how == "the expiry" {
				token = "short"
			}
			table := "queued_" + strings.ReplaceAll(how, " ", "_")
			if _, err := server.PSQL("postgres", "DROP TABLE IF EXISTS "+table+"; CREATE TABLE "+table+" (n int); GRANT ALL ON "+table+" TO agent"); err != nil {
				t.Fatal(err)
			}
			c := dialRaw(t, h.addr, "default", token, "orders")
			var all []byte
			for _, text := range []string{"SELECT pg_sleep(3)", "INSERT INTO " + table + " VALUES (1)", "SELECT pg_sleep(1)", "INSERT INTO " + table + " VALUES (2)"} {
				all = append(all, query(text)...)
			}
			c.send(all)
			h.await(func(list []memrec.Entry) bool {
				n := 0
				for _, e := range list {
					if e.Kind == evidence.KindIntent {
						n++
					}
				}
				return n >= 5
			})
			time.Sleep(100 * time.Millisecond) // so that all of it is at the target
			if how == "an operator" {
				h.gate.EndSession(h.gate.Sessions()[0].ID, "enough")
			}
			ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
			defer stop()
			if err := h.rec.Await(ctx, func(list []memrec.Entry) bool { return list[len(list)-1].Kind == evidence.KindSessionEnd }); err != nil {
				t.Fatal(err)
			}
			time.Sleep(4 * time.Second) // longer than everything queued would take
			if out, err := server.PSQL("postgres", "SELECT count(*) FROM "+table); err != nil || strings.TrimSpace(out) != "0" {
				t.Errorf("%s queued inserts ran after the session had ended (%v)", strings.TrimSpace(out), err)
			}
			for _, x := range h.book() {
				if x.outcome == nil {
					t.Errorf("exchange %d has no outcome", x.n)
				}
			}
		})
	}
}

// TestID22TokenBySpelling: however gatebook.token is spelled, and wherever the
// session's own token stands, it reaches neither the target nor the record.
func TestID22TokenBySpelling(t *testing.T) {
	h := start(t)
	c := h.connect("agents")
	const jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLW9mLXRoaXMtdG9rZW4"
	for _, text := range []string{
		`SET "gatebook"."token" = '` + jwt + `'`, `SET gatebook . token = '` + jwt + `'`, `set/**/gatebook/**/./**/token='` + jwt + `'`,
		`SET SESSION "gatebook".token TO '` + jwt + `'`, `SET U&"g\0061tebook".token='` + jwt + `'`, `SET gatebook."token"='` + jwt + `'`,
		`select set_config('gatebook'||'.token','` + jwt + `',false)`, `SET LOCAL gatebook."token" = '` + jwt + `'`,
	} {
		if _, err := c.PgConn().Exec(t.Context(), text).ReadAll(); err == nil || !strings.Contains(err.Error(), "0A000") {
			t.Errorf("%s: %v", text, err)
		}
	}
	var shown string
	if err := c.QueryRow(t.Context(), "SELECT coalesce(current_setting('gatebook' || '.token', true), '')").Scan(&shown); err != nil || shown != "" {
		t.Errorf("the target has the token: %q, %v", shown, err)
	}
	for _, e := range h.rec.Entries() {
		if strings.Contains(string(e.Meta), "c2lnbmF0dXJl") {
			t.Errorf("a %s entry has the token: %s", e.Kind, e.Meta)
		}
	}
	// A token-like value elsewhere is data like any other.
	if err := c.QueryRow(t.Context(), "SELECT '"+jwt+"'").Scan(&shown); err != nil || shown != jwt {
		t.Errorf("%q, %v", shown, err)
	}
}
