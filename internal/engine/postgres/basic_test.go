package postgres

import (
	"os/exec"
	"strings"
	"testing"
)

func TestStockPsql(t *testing.T) {
	h := start(t)
	cmd := exec.Command("psql", "-X", "-At", h.url("agents", "orders"), "-c", "SELECT 1+1", "-c", "SELECT current_user")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
	if got, want := string(out), "2\nagent\n"; got != want {
		t.Errorf("psql printed %q, want %q", got, want)
	}
	var texts []string
	for _, x := range h.agents() {
		texts = append(texts, x.intent.Text)
		if x.outcome == nil || x.outcome.Status != "ok" || x.outcome.Tag != "SELECT 1" {
			t.Errorf("exchange %d: outcome %+v", x.n, x.outcome)
		}
	}
	if got := strings.Join(texts, "|"); got != "SELECT 1+1|SELECT current_user" {
		t.Errorf("recorded texts %q", got)
	}
}

func TestPgx(t *testing.T) {
	h := start(t)
	c := h.connect("agents")
	var n int
	var s string
	for range 3 {
		if err := c.QueryRow(t.Context(), "SELECT $1::int * 2, $2::text", 21, "x'y\"z").Scan(&n, &s); err != nil {
			t.Fatal(err)
		}
		if n != 42 || s != "x'y\"z" {
			t.Errorf("got %d %q", n, s)
		}
	}
	for _, x := range h.agents() {
		t.Logf("%d %s %s %s %s", x.n, x.intent.Op, x.intent.Text, x.intent.Detail, x.outcome.Status)
	}
}

// TestDefaultDatabase: a client that was not told a target hears how to name
// one; one that named a target hears nothing about which there are.
func TestDefaultDatabase(t *testing.T) {
	h := start(t)
	port := h.addr[strings.LastIndexByte(h.addr, ':')+1:]
	for conninfo, form := range map[string]bool{"user=root": true, "user=root dbname=root": true, "user=root dbname=other": false} {
		out, err := exec.Command("psql", "-X", "host=127.0.0.1 port="+port+" password=agents sslmode=require "+conninfo, "-c", "SELECT 1").CombinedOutput()
		if err == nil {
			t.Fatalf("%s got in", conninfo)
		}
		if got := strings.Contains(string(out), "dbname=TARGET"); got != form {
			t.Errorf("%s: %s", conninfo, out)
		}
	}
}
