package postgres

import (
	_ "embed"
	"fmt"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/internal/mask"
)

//go:embed testdata/benign.sql
var benign string

const benignSchema = `
CREATE TABLE orders (id int PRIMARY KEY, customer_id int REFERENCES customers, total numeric(10, 2), status text, placed timestamptz DEFAULT now());
INSERT INTO orders SELECT n, 1 + n % 5, n, CASE WHEN n % 2 = 0 THEN 'open' ELSE 'paid' END, now() - n * interval '1 day' FROM generate_series(1, 20) n;
CREATE SEQUENCE counter; CREATE EXTENSION IF NOT EXISTS pgcrypto; ANALYZE;
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC; GRANT ALL ON SEQUENCE counter TO PUBLIC; GRANT TEMP ON DATABASE masked_benign TO PUBLIC;`

// TestBenign: ordinary statements of an ORM, a BI tool, drivers and tools work for somebody who has masks; at most one in twenty is refused,
// and then for a use of the masked column itself.
func TestBenign(t *testing.T) {
	w := startMasked(t, "masked_benign", rule(t, mask.Rule{Name: "mails", Columns: []string{"public.customers.email"}, Method: mask.Partial, KeepDomain: true}),
		rule(t, mask.Rule{Name: "rest", Columns: []string{"*.customers.ssn", "*.customers.phone", "*.customers.doc", "*.customers.file"}, Method: mask.Redact}), rule(t, mask.Rule{Name: "found", Kinds: []string{"*"}, Method: mask.Redact}))
	if out, err := server.PSQL("masked_benign", benignSchema); err != nil {
		t.Fatal(err, out)
	}
	c := w.agent(t, "masked_benign")
	var refused, broken []string
	statements := 0
	for text := range strings.Lines(benign) {
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "--") {
			continue
		}
		statements++
		var got string
		if strings.HasPrefix(text, "COPY") {
			var out strings.Builder
			_, err := c.PgConn().CopyTo(t.Context(), &out, text)
			if got = out.String(); err != nil {
				got += err.Error()
			}
		} else {
			got = w.ask(t, c, text, "simple")
		}
		w.seen(t, text, got)
		switch {
		case strings.Contains(got, "gatebook:"):
			refused = append(refused, fmt.Sprintf("%s: %.200s", text, got))
		case strings.Contains(got, "SQLSTATE"):
			broken = append(broken, fmt.Sprintf("%s: %.300s", text, got))
		}
		if c.IsClosed() {
			t.Fatalf("%s: the session has ended: %s", text, got)
		}
	}
	t.Logf("%d statements, %d refused:\n%s", statements, len(refused), strings.Join(refused, "\n"))
	if len(broken) > 0 {
		t.Errorf("%d do not work:\n%s", len(broken), strings.Join(broken, "\n"))
	}
	if statements < 300 || len(refused)*20 > statements {
		t.Errorf("%d of %d refused", len(refused), statements)
	}
}
