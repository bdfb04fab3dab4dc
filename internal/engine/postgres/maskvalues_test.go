package postgres

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/mask"
)

const valuesSchema = `
CREATE TYPE pair AS (a text, b int); CREATE DOMAIN address AS text;
CREATE TABLE found (id int, note text, short varchar(60), fixed char(40), doc jsonb, raw json, list text[], numbers int[], p pair, file bytea, num bigint, net inet, addr address, x xml);
INSERT INTO found VALUES (1, 'write to canary@example.test, or pay with 4111 1111 1111 1111', 'canary@example.test', 'canary@example.test', '{"mail": "canary@example.test", "n": 1}',
 '{"mail":"canary\u0040example.test"}', '{plain,canary@example.test}', '{1,2}', ROW('canary@example.test', 1), 'canary@example.test', 4111111111111111, '192.0.2.7', 'canary@example.test', '<a>canary@example.test</a>'),
 (2, 'nothing here', 'nothing', 'nothing', '{"n": 4111111111111111}', '{"a":1}', '{plain}', '{1}', ROW('plain', 1), 'plain', 1, NULL, 'plain', '<a/>'), (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'canary@example.test'; PERFORM pg_notify('news', 'canary@example.test');
 PERFORM set_config('application_name', 'canary@example.test', false); IF NEW.id = 9 THEN RAISE EXCEPTION 'no canary@example.test' USING DETAIL = 'canary@example.test', HINT = 'ask canary@example.test'; END IF; RETURN NEW; END $$;
CREATE TRIGGER tell BEFORE UPDATE ON found FOR EACH ROW EXECUTE FUNCTION tell();
GRANT ALL ON found TO PUBLIC;`

// TestPM15FoundValues: what detectors find is masked in every carrier, in text and binary format, and the count says so; nothing else is changed.
func TestPM15FoundValues(t *testing.T) {
	w := startMasked(t, "masked_values", rule(t, mask.Rule{Name: "found", Kinds: []string{"*"}, Method: mask.Redact}))
	if out, err := server.PSQL("masked_values", valuesSchema); err != nil {
		t.Fatal(err, out)
	}
	c := w.agent(t, "masked_values")
	for _, how := range []string{"simple", "text", "binary"} {
		for _, text := range []string{
			"SELECT * FROM found ORDER BY id", "SELECT f FROM found f ORDER BY id", "SELECT to_jsonb(f) FROM found f ORDER BY id", "SELECT array_agg(note) FROM found", "SELECT string_agg(note, ',') FROM found",
			"SELECT f::text FROM found f ORDER BY id", "SELECT xmlagg(x) FROM found", "SELECT note FROM found WHERE note LIKE 'write%'", "UPDATE found SET id = id RETURNING note", "SELECT note::bytea, short::name FROM found",
			"UPDATE found SET id = 9 WHERE id = 2", "LISTEN news", "UPDATE found SET id = 3 WHERE id = 3", "SELECT current_setting('application_name')", "SHOW application_name", "EXPLAIN SELECT * FROM found WHERE note = 'canary@example.test'",
			"SELECT 1/length(note) FROM found WHERE note = 'nothing here'", "SELECT note::int FROM found WHERE id = 1",
		} {
			got := w.ask(t, c, text, how)
			w.seen(t, how+": "+text, got)
			if c.IsClosed() {
				t.Fatalf("%s: %s: the session has ended: %s", how, text, got)
			}
		}
		got := w.ask(t, c, "SELECT note, short, num, numbers FROM found ORDER BY id", how)
		if !strings.Contains(got, "write to [email], or pay with [card]") || !strings.Contains(got, "nothing here") {
			t.Errorf("%s: %s", how, got)
		}
	}
	w.seen(t, "notices and notifications", w.wire.got.String())
	for _, text := range []string{"COPY found TO STDOUT", "COPY found TO STDOUT (FORMAT csv, HEADER)", "COPY found TO STDOUT (FORMAT csv, DELIMITER ';', QUOTE '''', NULL 'x')", "COPY (SELECT note, doc FROM found) TO STDOUT", "COPY found TO STDOUT (FORMAT binary)"} {
		var out strings.Builder
		if _, err := c.PgConn().CopyTo(t.Context(), &out, text); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		w.seen(t, text, out.String())
		if !strings.Contains(out.String(), "nothing here") {
			t.Errorf("%s: %s", text, out.String())
		}
	}
	for _, text := range []string{"COPY found TO STDOUT (FORMAT csv, ENCODING 'LATIN1')", "COPY found TO STDOUT (FORMAT csv, FORCE_QUOTE *)"} {
		var out strings.Builder
		_, err := c.PgConn().CopyTo(t.Context(), &out, text)
		w.seen(t, text, out.String())
		if c.IsClosed() {
			t.Fatalf("%s: the session has ended: %v", text, err)
		}
	}
	if got := w.ask(t, c, "SELECT id, note, num, net FROM found ORDER BY id", "simple"); got != `["1" "write to [email], or pay with [card]" "4111111111111111" ""]["2" "nothing here" "1" ""]["3" "" "" ""]` {
		t.Error(got)
	}
	all := w.agents()
	var m evidence.Masking
	if err := json.Unmarshal(all[len(all)-1].outcome.Detail, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Masked) != 2 || m.Masked[0].At != 1 || m.Masked[0].Kinds["email"] != 1 || m.Masked[0].Kinds["card"] != 1 || m.Masked[0].Seen != 3 || m.Masked[0].Masked != 1 || m.Masked[0].Null != 1 ||
		m.Masked[1].Nulled != 1 || len(m.Bare) != 1 || m.Bare[0].Columns != 2 || m.Bare[0].Cells != 6 {
		t.Errorf("%+v", m)
	}
}

// TestFoundBesideColumns: a mask by a column goes before what detectors find in it, and masks by columns do not keep detectors from the others.
func TestFoundBesideColumns(t *testing.T) {
	w := startMasked(t, "masked_both", rule(t, mask.Rule{Name: "mails", Columns: []string{"public.customers.email"}, Method: mask.Partial, KeepDomain: true}),
		rule(t, mask.Rule{Name: "found", Kinds: []string{"email"}, Method: mask.Null}))
	c := w.agent(t, "masked_both")
	if got := w.ask(t, c, "SELECT email, 'a ' || 'b@example.test', 'c', '4111111111111111' FROM customers WHERE id = 1", "text"); got != `["***@example.test" "" "c" "4111111111111111"]` {
		t.Error(got)
	}
	if got := w.ask(t, c, "SELECT id FROM customers WHERE email = 'x'", "text"); !strings.Contains(got, "42501") {
		t.Error(got)
	}
}

// TestBareByWhom: columns that a mask names, but not for this principal, are counted as bare with the mask's name; nothing is refused.
func TestBareByWhom(t *testing.T) {
	w := startMasked(t, "masked_bare")
	mails := rule(t, mask.Rule{Name: "mails", Columns: []string{"public.customers.email"}, Method: mask.Redact})
	w.masks.mu.Lock()
	w.masks.set = mask.NewSet(nil, []*mask.Rule{mails}, detectors(t))
	w.masks.mu.Unlock()
	snap := *w.gate.Snapshot()
	snap.Masks = w.masks
	w.gate.SetSnapshot(&snap)
	c := w.agent(t, "masked_bare")
	for _, how := range []string{"simple", "text"} {
		if got := w.ask(t, c, "SELECT id, email FROM customers WHERE email LIKE 'canary1%'", how); got != `["1" "canary1@example.test"]` {
			t.Error(got)
		}
		all := w.agents()
		var m evidence.Masking
		if err := json.Unmarshal(all[len(all)-1].outcome.Detail, &m); err != nil {
			t.Fatal(err)
		}
		if len(m.Masked) != 0 || len(m.Bare) != 2 || m.Bare[0].By != "no mask" || m.Bare[1].By != "mails: not for this principal" || m.Bare[1].Cells != 1 {
			t.Errorf("%s: %+v", how, m)
		}
	}
}

// TestPM20ShownTexts: what a statement says of masked columns is not shown, whoever says it; all else is.
func TestPM20ShownTexts(t *testing.T) {
	w := startMasked(t, "masked_shown", rule(t, mask.Rule{Name: "mails", Columns: []string{"public.customers.email"}, Method: mask.Redact, Inference: mask.Allow}))
	snap := *w.gate.Snapshot()
	snap.Masks = &namedMasks{w.masks}
	w.gate.SetSnapshot(&snap)
	c := w.agent(t, "masked_shown")
	for text, want := range map[string]string{
		"SELECT id FROM customers WHERE email = 'anna' AND name = 'bert'":                                    "SELECT id FROM customers WHERE email = [mails] AND name = 'bert'",
		"UPDATE customers SET email = 'anna' || 'x', name = 'y' WHERE id = 77":                               "UPDATE customers SET email = [mails] || [mails], name = 'y' WHERE id = 77",
		"INSERT INTO customers (id, name, email) VALUES (71, 'n', 'anna'), (72, 'm', $$bert$$)":              "INSERT INTO customers (id, name, email) VALUES (71, 'n', [mails]), (72, 'm', [mails])",
		"INSERT INTO customers SELECT 73, 'n', 'anna'":                                                       "INSERT INTO customers SELECT 73, 'n', [mails]",
		"SELECT 1 FROM customers WHERE email IN ('a', 'b') OR starts_with(email, 'c') OR lower(email) < 'd'": "SELECT 1 FROM customers WHERE email IN ([mails], [mails]) OR starts_with(email, [mails]) OR lower(email) < [mails]",
		"SELECT 1 FROM (SELECT email AS e FROM customers) x WHERE e BETWEEN 'a' AND 'b'":                     "SELECT 1 FROM (SELECT email AS e FROM customers) x WHERE e BETWEEN [mails] AND [mails]",
		"SELECT 'anna' FROM customers WHERE id = 5":                                                          "SELECT 'anna' FROM customers WHERE id = 5",
		"SELECT FROM WHERE email = 'anna'":                                                                   "[masks]",
	} {
		w.ask(t, c, text, "simple")
		all := w.agents()
		in := all[len(all)-1].intent
		if in.Text != text || in.Shown().Text != want {
			t.Errorf("%s\n is shown as %s\n want %s", text, in.Shown().Text, want)
		}
	}
	if _, err := c.Exec(t.Context(), "UPDATE customers SET email = $1 WHERE id = $2", "zoe", 5); err != nil {
		t.Fatal(err)
	}
	all := w.agents()
	in := all[len(all)-1].intent
	if shown := string(in.Shown().Detail); !strings.Contains(shown, `"params":["[mails]",`) || strings.Contains(shown, "zoe") || !strings.Contains(string(in.Detail), "zoe") {
		t.Errorf("parameters are shown as %s, of %s", shown, in.Detail)
	}
}

// namedMasks are for nobody who asks, and named all the same.
type namedMasks struct{ *fixedMasks }

// For implements enforce.Masks.
func (*namedMasks) For(*access.Request) *mask.Set { return nil }

// TestReceived: who gets a column unmasked that a mask names is known by it when it sends a value of it on, in whatever format it came.
func TestReceived(t *testing.T) {
	w := startMasked(t, "masked_received")
	names := rule(t, mask.Rule{Name: "names", Columns: []string{"public.customers.name"}, Method: mask.Redact})
	w.masks.mu.Lock()
	w.masks.set = mask.NewSet(nil, []*mask.Rule{names}, detectors(t))
	w.masks.mu.Unlock()
	snap := *w.gate.Snapshot()
	snap.Masks, snap.Detect = w.masks, detectors(t)
	w.gate.SetSnapshot(&snap)
	for n, how := range map[int]string{1: "simple", 2: "text", 3: "binary"} {
		c := w.agent(t, "masked_received")
		sent := fmt.Sprintf("INSERT INTO notes VALUES (%d, 'name%d')", n, n)
		w.ask(t, c, sent, "simple")
		w.ask(t, c, fmt.Sprintf("SELECT id, name FROM customers WHERE id = %d", n), how)
		w.ask(t, c, sent, "text")
		all := w.agents()
		if before, after := all[len(all)-3].intent, all[len(all)-1].intent; before.Sensitive != nil || after.Sensitive == nil || after.Sensitive.Found["received:names"] != 1 {
			t.Errorf("%s: before %+v, after %+v", how, before.Sensitive, after.Sensitive)
		}
	}
}
