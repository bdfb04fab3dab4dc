package app

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/testkit/idp"
	"github.com/gatebook/gatebook/internal/testkit/pgserver"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
)

// database is the real PostgreSQL that the tests of this package share.
var database *pgserver.Server

const upstreamPassword = "canary-upstream-secret"

func TestMain(m *testing.M) {
	if seed := os.Getenv("GATEBOOK_TEST_CHILD"); seed != "" {
		os.Exit(child(seed, os.Getenv("GATEBOOK_TEST_CONFIG")))
	}
	var err error
	if database, err = pgserver.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := 1
	_, err = database.PSQL("postgres", `CREATE ROLE agent LOGIN PASSWORD '`+upstreamPassword+`'; ALTER DATABASE postgres OWNER TO agent;`)
	if err == nil {
		code = m.Run()
	}
	if stopErr := database.Stop(); stopErr != nil || err != nil {
		fmt.Fprintln(os.Stderr, err, stopErr)
		code = 1
	}
	os.Exit(code)
}

// child is a gateway on a file layer that loses what was not synced. The
// parent kills it, or it kills itself at a chosen change to a file.
func child(seed, path string) int {
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return 2
	}
	cfg, err := config.Load(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	disk := crashfs.New(vfs.OS(), n)
	if cut, err := strconv.Atoi(os.Getenv("GATEBOOK_TEST_CUT")); err == nil && cut > 0 {
		disk.CutAt(cut, func() {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal comes at once, and no other file may change
		})
	}
	a, err := New(context.Background(), cfg, disk, "test", log)
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 2
	}
	fmt.Println(a.Addresses()[0].Address)
	if err := a.Run(context.Background(), context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 2
	}
	return 0
}

// place is a directory with a configuration, an empty book and an issuer.
type place struct {
	dir    string
	issuer *idp.Server
}

func newPlace(t *testing.T, extra string) *place {
	t.Helper()
	p := &place{dir: t.TempDir(), issuer: idp.Start(t)}
	if err := os.Remove(p.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(p.dir, "gate.test/book"); err != nil {
		t.Fatal(err)
	}
	p.write(t, "secrets/orders", upstreamPassword)
	ca, err := os.ReadFile(database.CA)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "db-ca.crt", string(ca))
	p.write(t, "gatebook.yaml", fmt.Sprintf(`version: 1
data: ./data
limits: {low_disk: 1MiB, shutdown_drain: 2s, segment: 4MiB}
issuers:
  - {name: ci, for: agents, url: %q, audience: %s, development: true, allow_loopback: true, insecure_http: true}
listeners:
  - {protocol: postgres, address: "127.0.0.1:0"}
ops: {address: "127.0.0.1:0"}
include: [targets.d/*.yaml, policy.yaml]
%s
`, p.issuer.URL(), idp.Audience, extra))
	p.write(t, "targets.d/orders.yaml", p.target("agents"))
	p.write(t, "policy.yaml", "rules: [{name: anything, when: \"true\", then: allow}]\n")
	return p
}

func (p *place) target(group string) string {
	return fmt.Sprintf(`targets:
  - name: orders
    protocol: postgres
    address: %s
    database: postgres
    tls: {mode: verify-full, ca: file:db-ca.crt}
    roles: {default: {user: agent, password: file:secrets/orders}}
    allow: [%s]
`, database.Address(), group)
}

func (p *place) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *place) config(t *testing.T) *config.Loaded {
	t.Helper()
	c, err := config.Load(filepath.Join(p.dir, "gatebook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// connect logs in as an agent.
func connect(ctx context.Context, address, token string) (*pgx.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return pgx.Connect(ctx, fmt.Sprintf("host=%s port=%s user=default password=%s dbname=orders sslmode=require", host, port, token))
}

// gateway is an App that runs in this process.
type gateway struct {
	*App
	log  *bytes.Buffer
	stop context.CancelFunc
	done chan error
}

func (p *place) start(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{log: &bytes.Buffer{}, done: make(chan error, 1)}
	a, err := New(t.Context(), p.config(t), vfs.OS(), "test", slog.New(slog.NewJSONHandler(g.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	g.App = a
	ctx, cancel := context.WithCancel(context.Background())
	g.stop = cancel
	go func() { g.done <- a.Run(ctx, context.Background()) }()
	t.Cleanup(func() { g.end(t) })
	return g
}

// end stops the gateway in order; a second call does nothing.
func (g *gateway) end(t *testing.T) {
	t.Helper()
	if g.stop == nil {
		return
	}
	g.stop()
	g.stop = nil
	select {
	case err := <-g.done:
		if err != nil {
			t.Errorf("the gateway ended with: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the gateway did not stop")
	}
}

// export makes a package of the book through a client and verifies it.
func export(t *testing.T, c *admin.Client, keys *Keys, r admin.ExportRequest) (*evidence.Report, []byte) {
	t.Helper()
	var pkg bytes.Buffer
	if err := c.Export(t.Context(), r, func(uint64, uint64) {}, &pkg); err != nil {
		t.Fatal(err)
	}
	trust, err := evidence.ParseTrust([]byte(keys.TrustFile()))
	if err != nil {
		t.Fatal(err)
	}
	report, err := evidence.Verify(bytes.NewReader(pkg.Bytes()), int64(pkg.Len()), evidence.Options{Trust: trust})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Errorf("package: [%s] %s: %s", p.Aspect, p.Where, p.What)
	}
	return report, pkg.Bytes()
}
