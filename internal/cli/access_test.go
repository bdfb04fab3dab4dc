package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/app"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/testkit/idp"
	"github.com/gatebook/gatebook/internal/testkit/pgserver"
	"github.com/gatebook/gatebook/internal/vfs"
)

const accessPolicy = `rules:
  - {name: reads, when: 'action.effects.all(e, e in ["read", "transaction", "session"])', then: allow}
  - {name: writes, when: '"writers" in principal.groups && action.effects.all(e, e in ["read", "write"])', then: allow}
  - {name: team, when: 'principal.claims.?team.orValue("") == "ops" && target.labels.?env.orValue("") == "prod" && "admin" in action.effects', then: allow}
`

// accessGate is a running gateway with a database behind it.
type accessGate struct {
	*app.App
	dir, config string
	issuer      *idp.Server
	stop        func()
}

func newAccessGate(t *testing.T) *accessGate {
	t.Helper()
	database, err := pgserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = database.Stop() })
	if _, err := database.PSQL("postgres", "CREATE ROLE agent LOGIN PASSWORD 'canary-upstream'"); err != nil {
		t.Fatal(err)
	}
	g := &accessGate{dir: filepath.Join(t.TempDir(), "gate"), issuer: idp.Start(t)}
	g.config = filepath.Join(g.dir, "gatebook.yaml")
	if _, err := app.Init(g.dir, "gate.test/book"); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(database.CA)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"secrets/orders": "canary-upstream", "db-ca.crt": string(ca), "policy.yaml": accessPolicy,
		"gatebook.yaml": fmt.Sprintf(`version: 1
data: ./data
limits: {low_disk: 1MiB, shutdown_drain: 2s, segment: 4MiB}
issuers:
  - {name: ci, for: agents, url: %q, audience: %s, development: true, allow_loopback: true, insecure_http: true}
listeners:
  - {protocol: postgres, address: "127.0.0.1:0"}
include: [targets.d/*.yaml, policy.yaml]
`, g.issuer.URL(), idp.Audience),
		"targets.d/orders.yaml": fmt.Sprintf(`targets:
  - name: orders
    protocol: postgres
    address: %s
    database: postgres
    labels: {env: prod}
    tls: {mode: verify-full, ca: file:db-ca.crt}
    roles: {default: {user: agent, password: file:secrets/orders}, owner: {user: agent, password: file:secrets/orders, allow: [writers]}}
    allow: [agents, writers]
`, database.Address()),
	} {
		g.write(t, name, text)
	}
	g.start(t)
	return g
}

func (g *accessGate) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start runs the gateway; stop ends it.
func (g *accessGate) start(t *testing.T) {
	t.Helper()
	cfg, err := config.Load(g.config)
	if err != nil {
		t.Fatal(err)
	}
	if g.App, err = app.New(t.Context(), cfg, vfs.OS(), "test", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx, context.Background()) }()
	g.stop = func() {
		if ctx.Err() == nil {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("the gateway ended with %v", err)
			}
		}
	}
	t.Cleanup(g.stop)
	for range 1000 { // Run makes the socket a moment after it was called
		if _, err := admin.Dial(t.Context(), app.SocketPath(cfg)); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the gateway has no socket")
}

// visit opens a session and closes it.
func (g *accessGate) visit(t *testing.T, token string) {
	t.Helper()
	if err := g.open(t, token).Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (g *accessGate) open(t *testing.T, token string) *pgx.Conn {
	t.Helper()
	host, port, err := net.SplitHostPort(g.Addresses()[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%s user=default password=%s dbname=orders sslmode=require", host, port, token))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// list runs gatebook access list with --json and returns what it prints.
func (g *accessGate) list(t *testing.T, args ...string) accessReport {
	t.Helper()
	code, out, errs := run(append([]string{"-c", g.config, "access", "list", "--json"}, args...)...)
	var r accessReport
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil {
		t.Fatalf("%q: exit code %d, %v\n%s%s", args, code, err, out, errs)
	}
	return r
}

// verdicts returns the ranges of a principal in a role by effect, nil if it has no line.
func (r *accessReport) verdicts(principal, role string) map[string]string {
	for i := range r.Access {
		a := &r.Access[i]
		if a.Principal != principal || a.Role != role || !a.Admitted {
			continue
		}
		m := make(map[string]string)
		for j := range a.Effects {
			m[a.Effects[j].Effect] = verdictRange(&a.Effects[j].VerdictRange, false)
		}
		m["opaque"] = verdictRange(a.Opaque, false)
		return m
	}
	return nil
}

// moment returns a time between what was recorded before the call and what is recorded after it.
func moment() time.Time {
	time.Sleep(5 * time.Millisecond)
	at := time.Now()
	time.Sleep(5 * time.Millisecond)
	return at
}

// TestAccessList asks a running gateway who may do what, now and at earlier times.
func TestAccessList(t *testing.T) {
	begin := time.Now().Add(-time.Hour)
	g := newAccessGate(t)
	nobody := moment()
	g.visit(t, g.issuer.Token(t, "reader", "agents"))
	g.visit(t, g.issuer.Token(t, "writer", "agents", "writers"))

	now := g.list(t)
	if got := now.verdicts("ci|reader", "default"); got["read"] != "deny..allow" || got["write"] != "deny" || got["admin"] != "deny" || got["opaque"] != "deny..allow" || len(got) != len(accessColumns()) {
		t.Errorf("reader: %v", got)
	}
	if got := now.verdicts("ci|writer", "owner"); got["write"] != "deny..allow" || got["schema"] != "deny" {
		t.Errorf("writer: %v", got)
	}
	if now.verdicts("ci|reader", "owner") != nil || len(now.Access) != 3 || now.Principals != 2 {
		t.Errorf("%d lines of %d principals: %+v", len(now.Access), now.Principals, now.Access)
	}
	for _, x := range now.Access[0].Effects {
		if x.Effect == "read" && (!slices.Equal(x.Mildest.Rules, []string{"reads"}) || !slices.Equal(x.Strictest.Rules, []string{"default"})) {
			t.Errorf("rules: %+v", x)
		}
	}
	if all := g.list(t, "--all"); len(all.Access) != 4 || all.verdicts("ci|reader", "owner") != nil {
		t.Errorf("--all: %+v", all.Access)
	}
	if one := g.list(t, "--principal", "ci|writer", "--target", "orders"); len(one.Access) != 2 || one.Principals != 1 {
		t.Errorf("one principal: %+v", one.Access)
	}
	if before := g.list(t, "--at", nobody.Format(time.RFC3339Nano)); len(before.Access) != 0 || before.Principals != 0 {
		t.Errorf("before anybody came: %+v", before)
	}

	// The policy changes, and the reader comes with other groups and claims.
	before := moment()
	g.write(t, "policy.yaml", accessPolicy+"packs: [writes-need-a-person]\n")
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	changed := moment()
	g.visit(t, g.issuer.Sign(t, idp.With(g.issuer.Agent("reader", "writers"), idp.Claims{"team": "ops"}), nil))
	for _, tt := range []struct {
		at                        string
		reader, admin, writer, in string
	}{
		{"", "hold", "hold..allow", "hold", "writers"},
		{changed.Format(time.RFC3339Nano), "hold", "deny..hold", "hold", "agents"},
		{before.Format(time.RFC3339Nano), "deny", "deny", "deny..allow", "agents"},
	} {
		var args []string
		if tt.at != "" {
			args = []string{"--at", tt.at}
		}
		r := g.list(t, args...)
		reader := r.verdicts("ci|reader", "default")
		if writer := r.verdicts("ci|writer", "default")["write"]; reader["write"] != tt.reader || reader["admin"] != tt.admin || writer != tt.writer || !slices.Equal(r.Access[0].Groups, []string{tt.in}) {
			t.Errorf("at %q: reader %v in %v, writer writes %s", tt.at, reader, r.Access[0].Groups, writer)
		}
	}

	// A restart leaves the past as it was.
	g.stop()
	if code, out, errs := run("-c", g.config, "access", "list"); code != 1 || out != "" || !strings.Contains(errs, "no gateway is running") {
		t.Errorf("without a gateway: exit code %d\n%s%s", code, out, errs)
	}
	g.start(t)
	if r := g.list(t, "--at", before.Format(time.RFC3339Nano)); r.verdicts("ci|writer", "default")["write"] != "deny..allow" {
		t.Errorf("after a restart: %+v", r)
	}

	for _, tt := range []struct {
		code int
		args []string
		says string
	}{
		{1, []string{"--at", begin.Format(time.RFC3339)}, "begins later"},
		{1, []string{"--at", time.Now().Add(time.Hour).Format(time.RFC3339)}, "in the future"},
		{1, []string{"--target", "order"}, "there were: orders"},
		{1, []string{"--principal", "ci|nobody' OR '1'='1"}, "had opened no session"},
		{3, []string{"--at", "yesterday"}, "is not a time"}, {3, []string{"--json", "--csv"}, "exclude each other"}, {3, []string{"x"}, "accepts 0 arg"},
	} {
		code, out, errs := run(append([]string{"-c", g.config, "access", "list"}, tt.args...)...)
		if code != tt.code || out != "" || !strings.Contains(errs, tt.says) {
			t.Errorf("%q: exit code %d, want %d saying %q:\n%s%s", tt.args, code, tt.code, tt.says, out, errs)
		}
	}
	g.prints(t)
	if _, out, _ := run("-c", g.config, "query", "SELECT action, detail FROM admin WHERE action = 'access-list' AND detail LIKE '%ci|writer%'"); !strings.Contains(out, "access-list") {
		t.Errorf("the reading is not in the book: %s", out)
	}
	if _, out, _ := run("-c", g.config, "query", "SELECT count(*) FROM admin WHERE action = 'access-list'"); !strings.Contains(out, "\n1") {
		t.Errorf("readings: %s", out)
	}
}

// TestAccessOfOpenSessions: a session that began before goes on with its admission and its target's labels.
func TestAccessOfOpenSessions(t *testing.T) {
	g := newAccessGate(t)
	conns := []*pgx.Conn{g.open(t, g.issuer.Token(t, "writer", "writers")), g.open(t, g.issuer.Token(t, "writer", "writers"))}
	if r := g.list(t); len(r.Access) != 2 || r.Access[0].Session != "" {
		t.Errorf("a session like any other: %+v", r.Access)
	}
	targets := filepath.Join(g.dir, "targets.d", "orders.yaml")
	text, err := os.ReadFile(targets)
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, "targets.d/orders.yaml", strings.NewReplacer("allow: [writers]", "allow: [agents]", "allow: [agents, writers]", "allow: [agents]").Replace(string(text)))
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	while := moment()
	r := g.list(t)
	if len(r.Access) != 2 || r.Access[0].Session == "" || r.Access[0].Session == r.Access[1].Session || r.Access[0].Admitted || r.Access[0].Effects[1].Mildest.Verdict != "allow" {
		t.Errorf("not admitted any more: %+v", r.Access)
	}
	if _, table, _ := run("-c", g.config, "access", "list"); !strings.Contains(table, "default, session "+r.Access[0].Session) {
		t.Error(table)
	}
	for _, c := range conns {
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 500 { // the end is recorded a moment after the agent left
		if r = g.list(t); len(r.Access) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(r.Access) != 0 {
		t.Errorf("the session has ended: %+v", r.Access)
	}
	if r := g.list(t, "--at", while.Format(time.RFC3339Nano)); len(r.Access) != 2 || r.Access[0].Session == "" {
		t.Errorf("while it was open: %+v", r.Access)
	}
}

// prints looks at the table and at the CSV.
func (g *accessGate) prints(t *testing.T) {
	t.Helper()
	code, table, errs := run("-c", g.config, "access", "list", "--all")
	if code != 0 {
		t.Fatal(errs)
	}
	lines := strings.Split(table, "\n")
	if !strings.HasPrefix(lines[0], "PRINCIPAL") || !strings.HasSuffix(lines[0], "OPAQUE") || !strings.Contains(lines[1], "d..a") || !strings.Contains(table, "d..a, d..h") {
		t.Error(table)
	}
	again, _, _ := strings.Cut(table, "\nAt ")
	if _, second, _ := run("-c", g.config, "access", "list", "--all"); !strings.HasPrefix(second, again) {
		t.Errorf("the table is not stable:\n%s\n%s", again, second)
	}
	_, text, _ := run("-c", g.config, "access", "list", "--csv")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) != 5 || len(rows[1]) != 10+len(accessColumns()) || rows[1][2] != "ci|reader" || rows[1][10] != "deny..allow" {
		t.Errorf("%v: %q", err, rows)
	}
}

func TestGroupsText(t *testing.T) {
	for want, groups := range map[string][]string{
		"": nil, "agents writers": {"agents", "writers"}, strings.Repeat("x", 50): {strings.Repeat("x", 50)},
		strings.Repeat("x", 39) + " +2": {strings.Repeat("x", 39), "yy", "zz"}, `a\u001b`: {"a\x1b"},
	} {
		if got := groupsText(groups); got != want {
			t.Errorf("%q: got %q, want %q", groups, got, want)
		}
	}
}
