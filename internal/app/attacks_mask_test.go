package app

import (
	"archive/zip"
	"bytes"
	"crypto/md5"  //nolint:gosec // what an agent could compute
	"crypto/sha1" //nolint:gosec // the same
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/testkit/maskways"
)

// TestPM20NowhereInClear: after every way of asking for masked values, and after others have written them, none stands in a file of the data
// directory without its keys, in a log, or in the package of the one who asked, plain or in disguise.
func TestPM20NowhereInClear(t *testing.T) {
	p := newPlace(t, "mask_key: file:secrets/mask")
	p.write(t, "secrets/mask", strings.Repeat("k", 32))
	p.write(t, "targets.d/orders.yaml", strings.Replace(p.target("agents"), "database: postgres", "database: masked_disk", 1))
	p.write(t, "policy.yaml", "rules: [{name: anything, when: \"true\", then: allow}]\nmasks:\n  - {name: mails, columns: [public.customers.email], when: 'principal.name == \"worker\"', method: partial, keep_domain: true}\n  - {name: found, kinds: ['*'], when: 'principal.name == \"worker\"'}\n")
	for _, text := range []string{"DROP DATABASE IF EXISTS masked_disk WITH (FORCE)", "CREATE DATABASE masked_disk"} {
		if out, err := database.PSQL("postgres", text); err != nil {
			t.Fatal(err, out)
		}
	}
	if out, err := database.PSQL("masked_disk", "CREATE TABLE customers (id int PRIMARY KEY, email text, note text); INSERT INTO customers SELECT n, 'canary' || n || '@example.test', 'mail canary' || n || '@example.test' FROM generate_series(1, 5) n; GRANT ALL ON customers TO PUBLIC; ANALYZE"); err != nil {
		t.Fatal(err, out)
	}
	g := p.start(t)
	owner, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "owner", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{
		"INSERT INTO customers (id, email) VALUES (6, 'canary6')", "UPDATE customers SET email = 'canary7' WHERE email = 'canary6'", "SELECT id FROM customers WHERE email IN ('canary1', 'canary2@example.test') OR lower(email) LIKE 'canary%'",
		"MERGE INTO customers c USING (VALUES (8)) v(id) ON c.id = v.id WHEN NOT MATCHED THEN INSERT (id, email) VALUES (v.id, 'canary8')", "INSERT INTO customers (id, note) VALUES (9, 'canary9@example.test')", "SELECT FROM customers WHERE WHERE email = 'canary'",
	} {
		if _, err := owner.Exec(t.Context(), text); (err == nil) != (i < 5) {
			t.Fatalf("%s: %v", text, err)
		}
	}
	for _, args := range [][]any{{"INSERT INTO customers (id, email) VALUES (11, $1)", "canary11"}, {"SELECT id FROM customers WHERE email = $1", "canary1@example.test"}, {"UPDATE customers SET note = $1 WHERE id = 1", "canary12@example.test"}} {
		if _, err := owner.Exec(t.Context(), args[0].(string), args[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := owner.PgConn().CopyFrom(t.Context(), strings.NewReader("20\tcanary20@example.test\n21\tcanary21@example.test\n"), "COPY customers (id, email) FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	agent, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "worker", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	for _, column := range []string{"email", "note"} {
		for i, text := range maskways.Statements(column) {
			if column == "note" && i%10 > 0 { // found by what it is: only as it stands
				continue
			}
			_, _ = agent.PgConn().Exec(t.Context(), text).ReadAll()
			if column == "email" {
				_, _ = agent.PgConn().CopyTo(t.Context(), io.Discard, "COPY ("+text+") TO STDOUT")
			}
			if agent.IsClosed() {
				t.Fatalf("%s: the session has ended", text)
			}
		}
	}
	_ = agent.Close(t.Context())
	_ = owner.Close(t.Context())
	_, pkg := export(t, g.client(t), g.book.Keys, admin.ExportRequest{Principal: "ci|worker"})
	_, all := export(t, g.client(t), g.book.Keys, admin.ExportRequest{})
	g.end(t)

	needles := maskways.Needles(weak, "canary")
	for n := range 5 {
		needles = append(needles, maskways.Needles(weak, fmt.Sprintf("canary%d@example.test", n+1))...)
	}
	look := func(where string, text []byte) {
		t.Helper()
		for _, n := range needles {
			if at := bytes.Index(text, n); at >= 0 {
				t.Errorf("%s: %q in %.120q", where, n, text[max(0, at-40):])
				return
			}
		}
	}
	files := 0
	err = filepath.WalkDir(filepath.Join(p.dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // of the test
		files++
		look(path, text)
		return err
	})
	if err != nil || files < 5 {
		t.Fatalf("%d files: %v", files, err)
	}
	look("the log", g.log.Bytes())
	look("the package of the worker", pkg)
	for name, text := range unpacked(t, pkg) {
		look("the package of the worker: "+name, text)
	}
	for name, text := range unpacked(t, all) {
		if name != "data/log/bodies.jsonl" { // it has the exact requests of the owner
			look("the package of all: "+name, text)
		}
	}
}

func unpacked(t *testing.T, pkg []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if out[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
	}
	return out
}

// weak are digests that an agent could compute.
var weak = []func([]byte) []byte{
	func(b []byte) []byte { d := md5.Sum(b); return d[:] },  //nolint:gosec // not ours
	func(b []byte) []byte { d := sha1.Sum(b); return d[:] }, //nolint:gosec // not ours
}
