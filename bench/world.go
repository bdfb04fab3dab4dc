package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gatebook/gatebook/internal/testkit/pgserver"
)

// system is one way to the database.
type system struct {
	name     string
	pid      int // of the proxy; 0 for the direct way
	port     int
	database string
	user     string
	ca       string
	password func() (string, error)
	metrics  string // address of the gateway's metrics; empty for others
}

// login returns what a client connects with.
func (s *system) login() (conninfo, password string, err error) {
	password, err = s.password()
	// The relay ends TLS, so that a log-in must not be bound to the channel.
	return fmt.Sprintf("host=127.0.0.1 port=%d dbname=%s user=%s sslmode=verify-full sslrootcert=%s channel_binding=disable",
		s.port, s.database, s.user, s.ca), password, err
}

// world is everything that runs while we measure.
type world struct {
	dir     string
	binary  string
	pg      *pgserver.Server
	issuer  string
	direct  *system
	bouncer *system
	relay   *system
	always  *system
	release *system
	every   *system // insecure_interval
	masked  *system // always, with a mask on one column
	detect  *system // always, with detectors on all texts
	procs   []*exec.Cmd
	once    sync.Once

	postmaster int // the server's first process
}

const dbName, dbUser = "bench", "bench"

func newWorld(o *options) (*world, error) {
	w := &world{}
	var err error
	if w.binary, err = filepath.Abs(o.binary); err != nil {
		return w, err
	}
	if w.dir, err = os.MkdirTemp("", "gatebook-bench"); err != nil {
		return w, err
	}
	if err := os.Chmod(w.dir, 0o755); err != nil { //nolint:gosec // pgbouncer runs as another user
		return w, err
	}
	if w.pg, err = pgserver.Start("max_connections=1200", "shared_buffers=256MB", "synchronous_commit=off", "max_wal_size=4GB"); err != nil {
		return w, err
	}
	pid, err := os.ReadFile(filepath.Join(w.pg.Dir, "data", "postmaster.pid"))
	if err != nil {
		return w, err
	}
	first, _, _ := strings.Cut(string(pid), "\n")
	if w.postmaster, err = strconv.Atoi(first); err != nil {
		return w, err
	}
	password := random()
	if _, err := w.pg.PSQL("postgres", "CREATE ROLE "+dbUser+" LOGIN PASSWORD '"+password+"'; CREATE DATABASE "+dbName+" OWNER "+dbUser); err != nil {
		return w, err
	}
	w.direct = &system{
		name: "direct", port: w.pg.Port, database: dbName, user: dbUser, ca: w.pg.CA,
		password: func() (string, error) { return password, nil },
	}
	if out, err := w.tool("pgbench", w.direct, "-i", "-q", "-s", "10"); err != nil {
		return w, fmt.Errorf("pgbench -i: %w: %s", err, out)
	}
	if _, err := w.pg.PSQL(dbName, "CREATE TABLE sink (LIKE pgbench_accounts); ALTER TABLE sink OWNER TO "+dbUser+"; CREATE TABLE held (id int); ALTER TABLE held OWNER TO "+dbUser+"; VACUUM ANALYZE pgbench_accounts"); err != nil {
		return w, err
	}
	if _, err := w.pg.PSQL(dbName, fmt.Sprintf(people, o.bulk, dbUser)); err != nil {
		return w, err
	}
	if err := w.startBouncer(password); err != nil {
		return w, err
	}
	if err := w.startRelay(); err != nil {
		return w, err
	}
	if err := w.startIssuer(); err != nil {
		return w, err
	}
	for _, g := range []struct {
		at         **system
		name, mode string
		masks      string
	}{
		{&w.always, "always", "always", ""}, {&w.release, "release", "release", ""}, {&w.every, "interval", "insecure_interval", ""},
		{&w.masked, "masked", "always", "mask_key: file:secrets/mask\nmasks: [{name: mails, columns: [public.people.email], method: partial, keep_domain: true}]\n"},
		{&w.detect, "detect", "always", "masks: [{name: found, kinds: ['*']}]\n"},
	} {
		if *g.at, err = w.startGate(g.name, g.mode, g.masks, password); err != nil {
			return w, err
		}
	}
	return w, nil
}

// stop ends what was started, by process, and removes the directory.
func (w *world) stop() {
	w.once.Do(func() {
		for _, c := range w.procs {
			_ = c.Process.Signal(syscall.SIGTERM)
		}
		for _, c := range w.procs {
			done := make(chan struct{})
			go func() { _ = c.Wait(); close(done) }()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				_ = c.Process.Kill()
			}
		}
		if w.pg != nil {
			_ = w.pg.Stop()
		}
		if w.dir != "" {
			_ = os.RemoveAll(w.dir)
		}
	})
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// start runs a program until the world ends and returns when ready says so.
func (w *world) start(c *exec.Cmd, log string, ready func(text string) bool) error {
	f, err := os.Create(filepath.Join(w.dir, log))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		return err
	}
	w.procs = append(w.procs, c)
	for range 300 {
		text, err := os.ReadFile(f.Name())
		if err == nil && ready(string(text)) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(f.Name())
	return fmt.Errorf("%s did not start: %s", c.Path, text)
}

// startBouncer runs PgBouncer with session pooling, TLS on both sides and the
// server's certificate as its own.
func (w *world) startBouncer(password string) error {
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer" // not in every PATH
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	dir := filepath.Join(w.dir, "bouncer")
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // it runs as another user
		return err
	}
	ini := fmt.Sprintf(`[databases]
%[1]s = host=127.0.0.1 port=%[2]d dbname=%[1]s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[3]d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %[4]s/users.txt
pool_mode = session
max_client_conn = 2000
default_pool_size = 1000
client_tls_sslmode = require
client_tls_cert_file = %[4]s/server.crt
client_tls_key_file = %[4]s/server.key
server_tls_sslmode = verify-full
server_tls_ca_file = %[4]s/ca.crt
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits
`, dbName, w.pg.Port, port, dir)
	files := map[string][]byte{"bouncer.ini": []byte(ini), "users.txt": fmt.Appendf(nil, "%q %q\n", dbUser, password)}
	for _, name := range []string{"server.crt", "server.key", "ca.crt"} {
		if files[name], err = os.ReadFile(filepath.Join(w.pg.Dir, name)); err != nil {
			return err
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	args := []string{path, filepath.Join(dir, "bouncer.ini")}
	if os.Geteuid() == 0 { // it refuses to run as root
		if err := give(dir, "postgres"); err != nil {
			return err
		}
		args = append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"}, args...)
	}
	c := exec.Command(args[0], args[1:]...) //nolint:gosec // fixed programs
	c.Dir = dir
	if err := w.start(c, "bouncer.log", func(text string) bool { return strings.Contains(text, "process up") }); err != nil {
		return err
	}
	w.bouncer = &system{
		name: "pgbouncer", pid: c.Process.Pid, port: port, database: dbName, user: dbUser, ca: w.pg.CA, password: w.direct.password,
	}
	return nil
}

// startRelay runs this program again, as a relay that only passes bytes on.
func (w *world) startRelay() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	c := exec.Command(self, "relay", fmt.Sprintf("127.0.0.1:%d", port), w.pg.Address(), w.pg.Dir)
	if err := w.start(c, "relay.log", func(text string) bool { return strings.Contains(text, "is up") }); err != nil {
		return err
	}
	w.relay = &system{name: "relay", pid: c.Process.Pid, port: port, database: dbName, user: dbUser, ca: w.pg.CA, password: w.direct.password}
	return nil
}

// give hands a directory and its files to a system user.
func give(dir, name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Chown(filepath.Join(dir, e.Name()), uid, gid); err != nil {
			return err
		}
	}
	return os.Chown(dir, uid, gid)
}

func (w *world) startIssuer() error {
	c := exec.Command(w.binary, "dev", "issuer", "--address", "127.0.0.1:0", "--lifetime", "4h", "--client", "bench:agents")
	return w.start(c, "issuer.log", func(text string) bool {
		s := bufio.NewScanner(strings.NewReader(text))
		for s.Scan() {
			if url, ok := strings.CutPrefix(s.Text(), "issuer "); ok {
				w.issuer = url
				return true
			}
		}
		return false
	})
}

// token asks the issuer for a token, as an agent would at each log-in.
func (w *world) token() (string, error) {
	out, err := exec.Command(w.binary, "dev", "token", "bench", "--issuer", w.issuer).Output()
	return string(bytes.TrimSpace(out)), err
}

// people is a table with texts as people write them, no value of which any detector finds but the addresses.
const people = `CREATE TABLE people AS SELECT n AS id, 'Person ' || n AS name, 'person' || n || '@example.com' AS email,
 'asked about order ' || n || ' of ' || (n %% 28 + 1) || ' May and was told that it is on its way' AS note FROM generate_series(1, %d) n;
ALTER TABLE people ADD PRIMARY KEY (id); ALTER TABLE people OWNER TO %s; VACUUM ANALYZE people;
CREATE TABLE texts AS SELECT id, name, note FROM people; ALTER TABLE texts OWNER TO %[2]s; VACUUM ANALYZE texts`

// startGate makes a gateway with an empty book and runs it.
func (w *world) startGate(name, mode, masks, password string) (*system, error) {
	dir := filepath.Join(w.dir, "gate-"+name)
	if out, err := exec.Command(w.binary, "init", "--origin", "gate.bench/"+name, dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("gatebook init: %w: %s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	ops, err := freePort()
	if err != nil {
		return nil, err
	}
	ruler, err := w.rulerKey()
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`version: 1
data: ./data
sync: %s
issuers:
  - {name: dev, for: agents, url: %q, audience: gatebook, development: true, allow_loopback: true, insecure_http: true}
listeners:
  - {protocol: postgres, address: "127.0.0.1:%d"}
ops: {address: "127.0.0.1:%d"}
targets:
  - name: bench
    protocol: postgres
    address: %s
    database: %s
    tls: {mode: verify-full, ca: file:%s}
    roles: {default: {user: %s, password: file:secrets/bench}}
    allow: [agents]
packs: [no-schema-changes, no-unfiltered-writes, no-server-side-code-and-files, no-opaque]
rules:
  - {name: reads, when: 'action.effects.all(e, e in ["read", "transaction", "session"])', then: allow}
  - {name: writes, when: '"agents" in principal.groups && action.effects.all(e, e in ["read", "write", "transaction", "session"])', then: allow}
  - {name: secrets, when: 'action.relations.exists(r, r == "public.secrets") && !("auditors" in principal.groups)', then: deny}
  - {name: production, when: 'target.labels.?env.orValue("") == "prod" && "write" in action.effects', then: hold}
  - {name: held, when: '"DELETE" in action.verbs && "public.held" in action.relations', then: hold, approvers: {groups: [dba], within: 1m}}
`+masks+holdPeople, mode, w.issuer, port, ops, w.pg.Address(), dbName, w.pg.CA, dbUser, ruler)
	file := filepath.Join(dir, "gatebook.yaml")
	err = errors.Join(os.WriteFile(filepath.Join(dir, "secrets", "mask"), []byte(random()), 0o600), os.WriteFile(file, []byte(conf), 0o600), os.WriteFile(filepath.Join(dir, "secrets", "bench"), []byte(password), 0o600))
	if err != nil {
		return nil, err
	}
	c := exec.Command(w.binary, "-c", file, "serve")
	if err := w.start(c, name+".log", func(text string) bool { return strings.Contains(text, `"msg":"serving"`) }); err != nil {
		return nil, err
	}
	ca, _ := filepath.Glob(filepath.Join(dir, "*", "ca.crt"))
	if len(ca) != 1 {
		return nil, fmt.Errorf("gatebook init left no certificate in %s", dir)
	}
	return &system{
		name: "gatebook-" + name, pid: c.Process.Pid, port: port, database: "bench", user: "default",
		ca: ca[0], password: w.token, metrics: fmt.Sprintf("http://127.0.0.1:%d/metrics", ops),
	}, nil
}

// tool runs a PostgreSQL client program against a system.
func (w *world) tool(name string, s *system, args ...string) (string, error) {
	bin, err := pgserver.Bin()
	if err != nil {
		return "", err
	}
	conninfo, password, err := s.login()
	if err != nil {
		return "", err
	}
	c := exec.Command(filepath.Join(bin, name), append(args, conninfo)...) //nolint:gosec // pgbench
	c.Env = append(os.Environ(), "PGPASSWORD="+password)
	out, err := c.CombinedOutput()
	return string(out), err
}
