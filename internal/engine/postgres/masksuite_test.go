package postgres

import (
	"bytes"
	"context"
	"crypto/md5"  //nolint:gosec // what an agent could compute
	"crypto/sha1" //nolint:gosec // the same
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/testkit/maskways"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// TestPM01Suite: each way of writing in each place, sent in each of four ways, gives the agent no byte of a masked value, plain or in disguise.
func TestPM01Suite(t *testing.T) {
	w := startMasked(t, "masked_suite", rule(t, mask.Rule{Name: "all", Columns: []string{"public.customers.email", "public.customers.ssn"}, Method: mask.Redact}))
	cfg, err := pgx.ParseConfig(w.url("agents", "orders/masked_suite"))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	cfg.BuildFrontend = func(r io.Reader, out io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(io.TeeReader(r, &got), out)
	}
	connect := func() *pgx.Conn {
		c, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
		return c
	}
	c := connect()
	var values []string
	for n := range 5 {
		values = append(values, fmt.Sprintf("canary%d@example.test", n+1))
	}
	needles := maskways.Needles(weak, append(values, "canary", "anary")...)
	statements, refused, masked := 0, 0, 0
	for _, text := range maskways.Statements("email") {
		statements++
		for _, how := range []string{"simple", "text", "binary", "copy"} {
			got.Reset()
			var answer string
			if how == "copy" {
				var out strings.Builder
				_, err := c.PgConn().CopyTo(t.Context(), &out, "COPY ("+text+") TO STDOUT")
				answer = out.String() + fmt.Sprint(err)
			} else {
				answer = w.ask(t, c, text, how)
			}
			for _, needle := range needles {
				if bytes.Contains(got.Bytes(), needle) {
					t.Fatalf("%s: %s: %q is among what the agent got: %q", how, text, needle, answer)
				}
			}
			switch {
			case strings.Contains(answer, "42501"):
				refused++
			case strings.Contains(answer, "[masked]"):
				masked++
			}
			if c.IsClosed() {
				t.Fatalf("%s: %s: the session has ended: %s", how, text, answer)
			}
		}
	}
	t.Logf("%d statements, each in four ways: %d refused, %d answered masked", statements, refused, masked)
	if statements < 500 || masked < 100 {
		t.Errorf("%d statements, %d answered", statements, masked)
	}
}

// TestNeedles: what the suite looks for is found where it is.
func TestNeedles(t *testing.T) {
	t.Parallel()
	value := []byte("xx canary1@example.test yy")
	for _, hidden := range [][]byte{
		value, []byte(hex.EncodeToString(value)), []byte(base64.StdEncoding.EncodeToString(value)), []byte(base64.StdEncoding.EncodeToString(value[1:])), []byte(base64.StdEncoding.EncodeToString(value[2:])),
	} {
		if !slices.ContainsFunc(maskways.Needles(weak, "canary1@example.test"), func(n []byte) bool { return bytes.Contains(hidden, n) }) {
			t.Errorf("%q is not recognised", hidden)
		}
	}
}

// TestPM02WholeRows: a row as a whole holds its masked columns, in whatever form.
func TestPM02WholeRows(t *testing.T) {
	w := startMasked(t, "masked_rows", rule(t, mask.Rule{Name: "all", Columns: []string{"public.customers.email", "public.customers.ssn", "public.customers.phone", "public.customers.doc", "public.customers.file"}, Method: mask.Redact}))
	c := w.agent(t, "masked_rows")
	for _, text := range []string{
		"SELECT c FROM customers c", "SELECT customers FROM customers", "SELECT c::text FROM customers c", "SELECT (c.*)::text FROM customers c", "SELECT row_to_json(c) FROM customers c", "SELECT to_jsonb(c) FROM customers c", "SELECT to_json(c.*) FROM customers c",
		"SELECT array_agg(c) FROM customers c", "SELECT string_agg(c::text, ',') FROM customers c", "SELECT json_agg(c) FROM customers c", "SELECT jsonb_agg(to_jsonb(c)) FROM customers c", "SELECT xmlagg(xmlforest(c)) FROM customers c", "SELECT xmlelement(name a, c) FROM customers c",
		"SELECT hstore(c) FROM customers c", "SELECT (SELECT c) FROM customers c", "SELECT ROW(c) FROM customers c", "SELECT ARRAY[c] FROM customers c", "SELECT coalesce(c, c) FROM customers c", "SELECT max(c::text) FROM customers c", "SELECT x FROM (SELECT * FROM customers) x", "SELECT p FROM people p",
		"SELECT json_populate_record(c, '{}') FROM customers c", "SELECT jsonb_each(to_jsonb(c)) FROM customers c", "SELECT * FROM customers c, jsonb_each(to_jsonb(c))", "SELECT format('%s', c) FROM customers c", "SELECT c IS NULL, c FROM customers c", "SELECT quote_literal(c) FROM customers c",
	} {
		for _, how := range []string{"simple", "text", "binary"} {
			got := w.ask(t, c, text, how)
			w.seen(t, how+" "+text, got)
			if c.IsClosed() {
				t.Fatalf("%s: %s: the session has ended: %s", how, text, got)
			}
		}
	}
	if got := w.ask(t, c, "SELECT c FROM customers c WHERE id = 1", "simple"); got != `[""]` && !strings.Contains(got, "[masked]") {
		t.Errorf("%s", got)
	}
}

// TestPM04Returning: what changed rows return is masked, by whatever command and name.
func TestPM04Returning(t *testing.T) {
	w := startMasked(t, "masked_returning", rule(t, mask.Rule{Name: "all", Columns: []string{"public.customers.email", "public.customers.ssn", "public.customers.phone", "public.customers.doc", "public.customers.file"}, Method: mask.Redact}))
	c := w.agent(t, "masked_returning")
	answered := 0
	for _, text := range []string{
		"UPDATE customers SET id = id RETURNING email", "UPDATE customers SET id = id RETURNING *", "UPDATE customers c SET id = c.id RETURNING c", "UPDATE customers SET id = id RETURNING email || 'x', reverse(email)", "UPDATE customers AS x SET id = x.id RETURNING x.email AS id",
		"UPDATE customers SET id = id RETURNING old.email, new.email", "UPDATE customers SET id = id RETURNING WITH (OLD AS o, NEW AS n) o.email, n.*", "UPDATE customers SET id = c.id FROM customers c WHERE c.id = customers.id RETURNING c.email", "WITH u AS (UPDATE customers SET id = id RETURNING *) SELECT email FROM u",
		"INSERT INTO customers (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING email", "INSERT INTO customers (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y' RETURNING customers", "DELETE FROM customers WHERE id = 5 RETURNING *", "DELETE FROM customers WHERE id = 4 RETURNING to_jsonb(customers)",
		"MERGE INTO customers c USING (VALUES (1)) v(id) ON c.id = v.id WHEN MATCHED THEN UPDATE SET name = 'm' RETURNING c.email", "MERGE INTO customers c USING (VALUES (1)) v(id) ON c.id = v.id WHEN MATCHED THEN UPDATE SET name = 'm' RETURNING merge_action(), *",
		"UPDATE people SET id = id RETURNING mail", "UPDATE notes SET id = id RETURNING (SELECT max(email) FROM customers)",
	} {
		for _, how := range []string{"simple", "text", "binary"} {
			got := w.ask(t, c, text, how)
			w.seen(t, how+" "+text, got)
			if c.IsClosed() {
				t.Fatalf("%s: %s: the session has ended: %s", how, text, got)
			}
			if strings.Contains(got, "[masked]") {
				answered++
			}
		}
	}
	if answered < 25 {
		t.Errorf("only %d answers", answered)
	}
}

// TestPM16NoLineage: where nothing is proven of an answer it is withheld: a text that is not understood, definitions that are not known,
// rows of another form than the statement's.
func TestPM16NoLineage(t *testing.T) {
	w := startMasked(t, "masked_unproven", rule(t, mask.Rule{Name: "all", Columns: []string{"public.customers.email"}, Method: mask.Redact}))
	c := w.agent(t, "masked_unproven")
	for _, text := range []string{"SELECT FROM", "SELECT email FROM customers;;; nonsense", "SELECT * FROM customers JOIN LATERAL leak() ON true", "SELECT (leak()).x"} {
		if got := w.ask(t, c, text, "simple"); !strings.Contains(got, "42501") && !strings.Contains(got, "42601") {
			t.Errorf("%s: %s", text, got)
		}
	}
	ex := &exch{plan: &plan{set: w.masks.For(nil), answers: []masking{{cells: []cell{{rule: w.masks.For(nil).Rule("public.customers.email")}}}}}}
	row := func(values ...string) []byte {
		body := binary.BigEndian.AppendUint16(nil, uint16(len(values))) //nolint:gosec // a few
		for _, v := range values {
			body = append(binary.BigEndian.AppendUint32(body, uint32(len(v))), v...) //nolint:gosec // short
		}
		return pgwire.AppendFrame(nil, 'D', body)
	}
	if out, err := ex.mask(nil, row("a", "b")); err == nil || len(out) > 0 && bytes.Contains(out, []byte("b")) {
		t.Errorf("two values for one column: %q, %v", out, err)
	}
}

// TestPM17WrittenBack: a value that a mask has made is refused where it comes back, however it is sent; another is not.
func TestPM17WrittenBack(t *testing.T) {
	w := startMasked(t, "masked_back", rule(t, mask.Rule{Name: "mails", Columns: []string{"public.customers.email"}, Method: mask.Partial, KeepDomain: true, Inference: mask.Allow}),
		rule(t, mask.Rule{Name: "names", Columns: []string{"public.customers.name"}, Method: mask.Tokenize, Inference: mask.Allow}), rule(t, mask.Rule{Name: "phones", Columns: []string{"public.customers.phone"}, Method: mask.Hash}),
		rule(t, mask.Rule{Name: "docs", Columns: []string{"public.customers.doc"}, Method: mask.Redact}))
	c := w.agent(t, "masked_back")
	var mail, token, phone string
	if err := c.QueryRow(t.Context(), "SELECT email, name, phone FROM customers WHERE id = 1").Scan(&mail, &token, &phone); err != nil {
		t.Fatal(err)
	}
	for text, values := range map[string][]any{
		"UPDATE customers SET email = '" + mail + "' WHERE id = 2": nil, "UPDATE customers SET email = $1 WHERE id = 2": {mail}, "UPDATE customers SET name = $1 WHERE id = 2": {token}, "INSERT INTO customers (id, phone) VALUES (50, $1)": {phone},
		"INSERT INTO customers (id, name) VALUES (51, '" + token + "')": nil, "SELECT id FROM customers WHERE email = $1": {mail}, "INSERT INTO customers (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET email = '[masked]'": nil,
		"MERGE INTO customers c USING (VALUES (1)) v(id) ON c.id = v.id WHEN MATCHED THEN UPDATE SET phone = '" + phone + "'": nil,
	} {
		if _, err := c.Exec(t.Context(), text, values...); err == nil || !strings.Contains(err.Error(), "42501") || !strings.Contains(err.Error(), "one that a mask has made") {
			t.Errorf("%s %v: %v", text, values, err)
		}
	}
	for text, values := range map[string][]any{
		"UPDATE customers SET email = $1 WHERE id = 2": {"new@example.test"}, "UPDATE customers SET name = 'tok' WHERE id = 2": nil, "UPDATE notes SET note = $1": {mail}, "SELECT id FROM customers WHERE email = 'x@example.test'": nil,
	} {
		if _, err := c.Exec(t.Context(), text, values...); err != nil {
			t.Errorf("%s %v: %v", text, values, err)
		}
	}
}

// weak are digests that an agent could compute.
var weak = []func([]byte) []byte{
	func(b []byte) []byte { d := md5.Sum(b); return d[:] },  //nolint:gosec // not ours
	func(b []byte) []byte { d := sha1.Sum(b); return d[:] }, //nolint:gosec // not ours
}
