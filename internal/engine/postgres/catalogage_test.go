package postgres

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatebook/gatebook/evidence"
)

// effectsOf returns the recorded effects of the last request with a text.
func (h *harness) effectsOf(text string) string {
	found := "not recorded"
	for _, e := range h.rec.Entries() {
		var in evidence.Intent
		if e.Kind != evidence.KindIntent || json.Unmarshal(e.Meta, &in) != nil || in.Text != text {
			continue
		}
		var a evidence.Action
		if err := json.Unmarshal(in.Action, &a); err == nil {
			found = strings.Join(a.Effects, ",")
		}
	}
	return found
}

// TestOldDefinitionsAreReadFirst: a request after a long silence is not judged by what names stood for before it.
func TestOldDefinitionsAreReadFirst(t *testing.T) {
	const schema = `DROP SCHEMA IF EXISTS aged CASCADE; CREATE SCHEMA aged; GRANT USAGE ON SCHEMA aged TO PUBLIC;
		CREATE FUNCTION aged.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW aged.v AS SELECT 1 AS x; GRANT SELECT ON aged.v TO PUBLIC`
	if out, err := server.PSQL("postgres", schema); err != nil {
		t.Fatal(err, out)
	}
	h := start(t)
	h.driver.unresolved = false
	c := h.connect("agents")
	const text = "SELECT x FROM aged.v"
	if _, err := c.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil || h.effectsOf(text) != "read" {
		t.Fatalf("%v, effects %s", err, h.effectsOf(text))
	}
	if out, err := server.PSQL("postgres", "CREATE OR REPLACE VIEW aged.v AS SELECT aged.f() AS x"); err != nil {
		t.Fatal(err, out)
	}
	h.driver.databases.mu.Lock()
	for _, db := range h.driver.databases.all {
		old := time.Now().Add(-2 * catalogStale)
		db.checked.Store(old.UnixNano())
		db.mu.Lock()
		db.read = old
		db.mu.Unlock()
	}
	h.driver.databases.mu.Unlock()
	if _, err := c.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil || h.effectsOf(text) != "read,execute" {
		t.Errorf("%v, effects %s", err, h.effectsOf(text))
	}
}

// TestEachChangedRowCounts: a definition is seen although transactions that began later committed before its own.
func TestEachChangedRowCounts(t *testing.T) {
	const schema = `DROP SCHEMA IF EXISTS aged2 CASCADE; CREATE SCHEMA aged2; GRANT USAGE ON SCHEMA aged2 TO PUBLIC;
		CREATE FUNCTION aged2.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW aged2.v AS SELECT 1 AS x; CREATE VIEW aged2.w AS SELECT 1 AS x;
		CREATE TABLE aged2.t (id int); GRANT SELECT ON ALL TABLES IN SCHEMA aged2 TO PUBLIC`
	if out, err := server.PSQL("postgres", schema); err != nil {
		t.Fatal(err, out)
	}
	first, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close(t.Context()) }()
	if _, err := first.Exec(t.Context(), "BEGIN; SELECT txid_current()", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	if out, err := server.PSQL("postgres", "CREATE OR REPLACE VIEW aged2.w AS SELECT 2 AS x; ALTER TABLE aged2.t ADD COLUMN n int"); err != nil {
		t.Fatal(err, out)
	}
	h := start(t)
	h.driver.unresolved = false
	c := h.connect("agents")
	const text = "SELECT x FROM aged2.v"
	if _, err := c.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil || h.effectsOf(text) != "read" {
		t.Fatalf("%v, effects %s", err, h.effectsOf(text))
	}
	if _, err := first.Exec(t.Context(), "CREATE OR REPLACE VIEW aged2.v AS SELECT aged2.f() AS x; COMMIT", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	h.driver.databases.mu.Lock()
	for _, db := range h.driver.databases.all {
		db.checked.Store(0)
		db.mu.Lock()
		db.read = time.Time{}
		db.mu.Unlock()
	}
	h.driver.databases.mu.Unlock()
	if _, err := c.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil || h.effectsOf(text) != "read,execute" {
		t.Errorf("%v, effects %s", err, h.effectsOf(text))
	}
}
