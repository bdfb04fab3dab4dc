package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gatebook/gatebook/internal/cli"
	"github.com/gatebook/gatebook/internal/testkit/browser"
	"github.com/gatebook/gatebook/internal/testkit/idp"
	"github.com/gatebook/gatebook/internal/testkit/pgserver"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"gatebook": func() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the scripts in testdata/script: the whole program with a real
// PostgreSQL and stock psql. Besides testscript's own commands there are
//
//	gate start|stop|reload   the gateway of $WORK/gate; ! gate start and ! gate reload want a refusal, whose text is stderr
//	psql NAME[:GROUP,...] ARG...   psql as an agent with a token of these groups
//	decides VERDICT RULE SQL   psql gets this verdict, a refusal names the rule, and policy explain says the same of the same SQL
//	g ARG...   gatebook with that gateway's configuration
//	until PATTERN ARG...   repeats g until its output matches, at most 15 s
//	psql& NAME[:GROUP,...] ARG...   the same in the background; psql-wait waits for its end and has its output, psql-kill ends it
//	people NAME...   adds persons with the SSH keys NAME.pub to the configuration: ben is a dba, dora is on call, ana is both and answers for worker and helper
//	ticket COMMAND ARG...   gatebook ticket with the newest ticket's ID
//	count N TABLE CONDITION   looks into the database past the gateway
//	hook start   a server that takes messages of the gateway, which is told of it; hook got PATTERN waits for a message with it, signed as it must be
//	bridge   adds a bridge of a chat; deliver ID FILE SIGNATURE [wrong|old] brings a ruling by it, with the secret of another one or a message of an hour ago; prints the answer
//	halt session|principal ARG...   gatebook session end with the open session's ID, or gatebook principal suspend; then the psql in
//	the background must have ended, all within 2 s
//	console   adds a page on which people sign in, at the issuer corp
//	page NAME COMMAND ARG...   NAME's browser: open [PATH], approve|deny [REASON] the newest ticket; prints the page that it ends on, and fails unless that is a good one
//	terminal NAME approve|deny   gatebook ticket approve|deny --sign-in on the newest ticket, with NAME's browser
//	edit FILE OLD NEW   replaces a text in a file; \n in NEW is a line end
//
// and the conditions [office] (Monday to Friday, 08:00 to 18:00 UTC) and [closing] (that is about to change).
//
// A gateway has the files of the script beside its configuration: gate/gatebook.yaml is made when the script has none.
func TestScripts(t *testing.T) {
	server, err := pgserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	if _, err := server.PSQL("postgres", "CREATE ROLE agent_rw LOGIN PASSWORD 'canary-9d1f-database'"); err != nil {
		t.Fatal(err)
	}
	issuer := idp.Start(t)
	var databases struct {
		sync.Mutex
		n int
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: os.Getenv("UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			databases.Lock()
			defer databases.Unlock()
			databases.n++
			name := fmt.Sprintf("script%d", databases.n)
			if _, err := server.PSQL("postgres", "CREATE DATABASE "+name+" OWNER agent_rw"); err != nil {
				return err
			}
			if schema, err := os.ReadFile(filepath.Join(e.WorkDir, "schema.sql")); err == nil {
				if _, err := server.PSQL(name, "SET ROLE agent_rw;"+string(schema)); err != nil {
					return err
				}
			}
			g := &scriptGate{server: server, issuer: issuer, database: name, dir: filepath.Join(e.WorkDir, "gate")}
			e.Values[gateKey{}] = g
			e.Setenv("DATABASE", name)
			e.Defer(func() {
				_ = g.stop()
				if g.hook != nil {
					g.hook.Close()
				}
			})
			return g.prepare()
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"gate":      scriptGateCmd,
			"g":         scriptG,
			"psql":      func(ts *testscript.TestScript, neg bool, args []string) { scriptPSQL(t, ts, neg, args) },
			"decides":   func(ts *testscript.TestScript, neg bool, args []string) { scriptDecides(t, ts, neg, args) },
			"psql&":     func(ts *testscript.TestScript, neg bool, args []string) { scriptBackground(t, ts, neg, args) },
			"request&":  func(ts *testscript.TestScript, neg bool, args []string) { scriptRequest(t, ts, neg, args) },
			"psql-wait": scriptPSQLWait,
			"psql-kill": scriptPSQLKill,

			"request-wait": scriptPSQLWait,
			"request-kill": scriptPSQLKill,

			"people":   scriptPeople,
			"ticket":   scriptTicket,
			"count":    scriptCount,
			"until":    scriptUntil,
			"edit":     scriptEdit,
			"hook":     scriptHook,
			"bridge":   scriptBridge,
			"deliver":  scriptDeliver,
			"halt":     scriptStop,
			"console":  scriptConsole,
			"page":     scriptPage,
			"terminal": scriptTerminal,
		},
		Condition: func(name string) (bool, error) {
			now := time.Now().UTC()
			switch name {
			case "office":
				return office(now), nil
			case "closing":
				return office(now) != office(now.Add(time.Minute)), nil
			}
			return false, fmt.Errorf("unknown condition %q; known are office, closing", name)
		},
	})
}

type gateKey struct{}

// scriptGate is the gateway of one script.
type scriptGate struct {
	server   *pgserver.Server
	issuer   *idp.Server
	database string
	dir      string

	cmd     *exec.Cmd
	behind  *exec.Cmd // psql in the background
	out     [2]bytes.Buffer
	log     *logLines
	address string
	done    chan error
	hook    *hookServer

	browsers map[string]*browser.Browser
}

// prepare makes a book and a configuration, where the script has not brought one.
func (g *scriptGate) prepare() error {
	brought := filepath.Join(g.dir + ".brought")
	if err := os.Rename(g.dir, brought); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if out, err := exec.Command("gatebook", "init", g.dir, "--origin", "gate.test/script").CombinedOutput(); err != nil {
		return fmt.Errorf("init: %w\n%s", err, out)
	}
	ca, err := os.ReadFile(g.server.CA)
	if err != nil {
		return err
	}
	files := map[string]string{
		"db-ca.crt": string(ca), "secrets/db": "canary-9d1f-database", "policy.yaml": "rules: [{name: all, when: 'true', then: allow}]\n",
		"extra.yaml": "packs: []\n",
		"gatebook.yaml": fmt.Sprintf(`version: 1
data: ./data
limits: {low_disk: 1MiB, shutdown_drain: 2s, segment: 4MiB}
issuers:
  - {name: ci, for: agents, url: %q, audience: %s, development: true, allow_loopback: true, insecure_http: true}
listeners:
  - {protocol: postgres, address: "127.0.0.1:0"}
targets:
  - name: db
    protocol: postgres
    address: %s
    database: %s
    labels: {env: test}
    tls: {mode: verify-full, ca: file:db-ca.crt}
    roles: {default: {user: agent_rw, password: file:secrets/db}}
    allow: [agents]
include: [policy.yaml, extra.yaml]
`, g.issuer.URL(), idp.Audience, g.server.Address(), g.database),
	}
	for name, text := range files {
		path := filepath.Join(g.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	list, err := os.ReadDir(brought)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range list {
		if err := os.Rename(filepath.Join(brought, f.Name()), filepath.Join(g.dir, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// logLines collects what a program writes.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) read(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		l.mu.Lock()
		l.text.WriteString(s.Text() + "\n")
		l.mu.Unlock()
	}
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

var listening = regexp.MustCompile(`"msg":"listening","protocol":"postgres","address":"([^"]+)"`)

func (g *scriptGate) start() error {
	if g.cmd != nil {
		return errors.New("the gateway runs already")
	}
	g.cmd = exec.Command("gatebook", "-c", filepath.Join(g.dir, "gatebook.yaml"), "serve")
	g.log, g.done = &logLines{}, make(chan error, 1)
	pipe, err := g.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := g.cmd.Start(); err != nil {
		return err
	}
	go func(cmd *exec.Cmd) {
		g.log.read(pipe)
		g.done <- cmd.Wait()
	}(g.cmd)
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if m := listening.FindStringSubmatch(g.log.String()); m != nil && strings.Contains(g.log.String(), `"msg":"serving"`) {
			g.address = m[1]
			return nil
		}
		select {
		case err := <-g.done:
			g.cmd = nil
			return fmt.Errorf("the gateway did not start: %w\n%s", errors.Join(err, errors.New("ended")), g.log)
		default:
		}
	}
	return fmt.Errorf("the gateway does not serve:\n%s", g.log)
}

func (g *scriptGate) stop() error {
	if g.cmd == nil {
		return nil
	}
	cmd := g.cmd
	g.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-g.done:
		return err
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		return errors.New("the gateway did not stop")
	}
}

// reload sends the signal and waits for what came of it.
func (g *scriptGate) reload() error {
	const good, bad = `"msg":"configuration reloaded"`, `"msg":"reload"`
	count := func() (int, int) { s := g.log.String(); return strings.Count(s, good), strings.Count(s, bad) }
	goods, bads := count()
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	for until := time.Now().Add(15 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		switch nowGood, nowBad := count(); {
		case nowGood > goods:
			return nil
		case nowBad > bads:
			s := g.log.String()
			return fmt.Errorf("refused: %s", s[strings.LastIndex(s, bad):])
		}
	}
	return errors.New("nothing came of the signal")
}

func gateOf(ts *testscript.TestScript) *scriptGate { return ts.Value(gateKey{}).(*scriptGate) }

func scriptGateCmd(ts *testscript.TestScript, neg bool, args []string) {
	g := gateOf(ts)
	var err error
	switch strings.Join(args, " ") {
	case "start":
		err = g.start()
	case "stop":
		err = g.stop()
	case "reload":
		err = g.reload()
	default:
		ts.Fatalf("usage: gate start|stop|reload")
	}
	if neg {
		if err == nil {
			ts.Fatalf("gate %v succeeded", args)
		}
		ts.Check(os.WriteFile(ts.MkAbs("refusal"), []byte(err.Error()+"\n"), 0o600))
		return
	}
	ts.Check(err)
}

func scriptPSQL(t *testing.T, ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: psql NAME[:GROUP,...] ARG...")
	}
	g := gateOf(ts)
	name, groups, named := strings.Cut(args[0], ":")
	list := []string{"agents"}
	if named {
		list = strings.Split(groups, ",")
	}
	for k, v := range g.client(g.issuer.Token(t, name, list...)) {
		ts.Setenv(k, v)
	}
	err := ts.Exec("psql", append(slices.Clone(psqlArgs), args[1:]...)...)
	if neg == (err == nil) {
		ts.Fatalf("psql %v: %v", args, err)
	}
}

func office(at time.Time) bool {
	return at.Weekday() != time.Saturday && at.Weekday() != time.Sunday && at.Hour() >= 8 && at.Hour() < 18
}

func scriptDecides(t *testing.T, ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: decides VERDICT RULE SQL")
	}
	verdict, rule, sql := args[0], args[1], args[2]
	scriptPSQL(t, ts, verdict != "allow", []string{"worker", "-c", sql})
	refusal := ts.ReadFile("stderr")
	if verdict != "allow" && !strings.Contains(refusal, ", rule "+rule+"\n") {
		ts.Fatalf("the refusal does not name %s: %s", rule, refusal)
	}
	scriptG(ts, false, []string{"policy", "explain", "--target", "db", "--principal", "worker", "--group", "agents", "--", sql})
	if got := ts.ReadFile("stdout"); !regexp.MustCompile(`Decision: ` + verdict + ` by ` + regexp.QuoteMeta(rule) + `[,\n]`).MatchString(got) {
		ts.Fatalf("explain does not say %s by %s: %s", verdict, rule, got)
	}
	ts.Check(os.WriteFile(ts.MkAbs("refusal"), []byte(refusal), 0o600))
}

var psqlArgs = []string{"-X", "-A", "-t", "-q", "-v", "VERBOSITY=verbose", "-v", "ON_ERROR_STOP=1"}

// client is the environment of psql.
func (g *scriptGate) client(token string) map[string]string {
	host, port, _ := strings.Cut(g.address, ":")
	return map[string]string{
		"PGHOST": host, "PGPORT": port, "PGUSER": "default", "PGDATABASE": "db", "PGSSLMODE": "require", "PGPASSWORD": token, "LC_ALL": "C.UTF-8",
	}
}

func scriptBackground(t *testing.T, ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: psql& NAME ARG..., one at a time")
	}
	behind(t, ts, args[0], "psql", append(slices.Clone(psqlArgs), args[1:]...))
}

func scriptRequest(t *testing.T, ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: request& NAME ARG..., one at a time")
	}
	behind(t, ts, args[0], "gatebook", append([]string{"request", "postgres://"}, args[1:]...))
}

// behind starts a program as an agent's, in the background.
func behind(t *testing.T, ts *testscript.TestScript, name, program string, args []string) {
	g := gateOf(ts)
	if g.behind != nil {
		ts.Fatalf("one program at a time")
	}
	name, _, _ = strings.Cut(name, ":")
	g.behind = exec.Command(program, args...)
	g.behind.Dir = ts.MkAbs(".")
	g.behind.Env = os.Environ()
	for k, v := range g.client(g.issuer.Token(t, name, "agents")) {
		g.behind.Env = append(g.behind.Env, k+"="+v)
	}
	g.out[0].Reset()
	g.out[1].Reset()
	g.behind.Stdout, g.behind.Stderr = &g.out[0], &g.out[1]
	ts.Check(g.behind.Start())
}

func scriptPSQLWait(ts *testscript.TestScript, neg bool, _ []string) {
	g := gateOf(ts)
	err := g.behind.Wait()
	g.behind = nil
	fmt.Fprint(ts.Stdout(), g.out[0].String())
	fmt.Fprint(ts.Stderr(), g.out[1].String())
	if neg == (err == nil) {
		ts.Fatalf("psql: %v\n%s", err, g.out[1].String())
	}
}

func scriptPSQLKill(ts *testscript.TestScript, _ bool, _ []string) {
	g := gateOf(ts)
	ts.Check(g.behind.Process.Kill())
	_ = g.behind.Wait()
	g.behind = nil
}

func scriptPeople(ts *testscript.TestScript, _ bool, args []string) {
	g := gateOf(ts)
	groups := map[string]string{"ana": "dba, oncall", "ben": "dba", "dora": "oncall", "eve": "dba"}
	var b strings.Builder
	b.WriteString("owners: [{principal: 'ci|worker', person: ana}, {principal: 'ci|helper', person: ana}]\npeople:\n")
	for _, name := range args {
		fmt.Fprintf(&b, "  - {person: %s, groups: [%s], keys: [%q], identities: ['corp|%s']}\n", name, groups[name], strings.TrimSpace(ts.ReadFile(name+".pub")), name)
	}
	path := filepath.Join(g.dir, "gatebook.yaml")
	text, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(os.WriteFile(path, append(text, b.String()...), 0o600))
}

func scriptConsole(ts *testscript.TestScript, _ bool, _ []string) {
	g := gateOf(ts)
	for name, text := range map[string]string{
		"extra.yaml":      fmt.Sprintf("issuers:\n  - {name: corp, for: people, url: %q, audience: %s, development: true, allow_loopback: true, insecure_http: true}\n", g.issuer.URL(), idp.Console),
		"gatebook.yaml":   "console: {address: '127.0.0.1:0', issuer: corp, client_secret: 'file:secrets/console', insecure_plaintext: true}\n",
		"secrets/console": idp.ConsoleSecret,
	} {
		g.appended(ts, name, text)
	}
}

var pageURL = regexp.MustCompile(`"protocol":"console","address":"[^"]+","url":"([^"]+)"`)

func scriptPage(ts *testscript.TestScript, neg bool, args []string) {
	g := gateOf(ts)
	m := pageURL.FindStringSubmatch(g.log.String())
	if len(args) < 2 || m == nil {
		ts.Fatalf("usage: page NAME open|approve|deny ..., of a gateway with a console")
	}
	name := args[0]
	b := g.browsers[name]
	if b == nil {
		b = browser.New()
		if g.browsers == nil {
			g.browsers = map[string]*browser.Browser{}
		}
		g.browsers[name] = b
		ts.Check(b.SignIn(m[1]+"/tickets", name))
	}
	var err error
	switch args[1] {
	case "open":
		err = b.Open(m[1] + strings.Join(append([]string{"/tickets"}, args[2:]...), "/"))
	case "approve", "deny":
		err = b.Rule(m[1]+"/tickets/"+newestTicket(ts), name, args[1], strings.Join(args[2:], " "))
	default:
		ts.Fatalf("page cannot %s", args[1])
	}
	fmt.Fprint(ts.Stdout(), b.Page)
	if neg == (err == nil && b.Status == http.StatusOK) {
		ts.Fatalf("page %v: %d, %v\n%s", args, b.Status, err, b.Page)
	}
}

func scriptTerminal(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: terminal NAME approve|deny")
	}
	cmd := exec.Command("gatebook", "-c", filepath.Join(gateOf(ts).dir, "gatebook.yaml"), "ticket", args[1], newestTicket(ts), "--sign-in", "--reason", "from a terminal")
	lines := &logLines{}
	pipe, err := cmd.StderrPipe()
	ts.Check(err)
	var out bytes.Buffer
	cmd.Stdout = &out
	ts.Check(cmd.Start())
	read := make(chan struct{})
	go func() { lines.read(pipe); close(read) }()
	address := regexp.MustCompile(`(?m)^  (http://\S+)$`)
	for until := time.Now().Add(15 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if m := address.FindStringSubmatch(lines.String()); m != nil {
			b := browser.New()
			ts.Check(b.Open(m[1]))
			ts.Check(b.Post(m[1], url.Values{"person": {args[0]}}))
			break
		}
	}
	<-read
	err = cmd.Wait()
	fmt.Fprint(ts.Stdout(), out.String())
	fmt.Fprint(ts.Stderr(), lines.String())
	if neg == (err == nil) {
		ts.Fatalf("ticket %s --sign-in: %v\n%s", args[1], err, lines)
	}
}

// newestTicket returns its ID.
func newestTicket(ts *testscript.TestScript) string {
	out, err := exec.Command("gatebook", "-c", filepath.Join(gateOf(ts).dir, "gatebook.yaml"), "ticket", "list", "--all", "--json").Output()
	ts.Check(err)
	var list []struct{ ID string }
	ts.Check(json.Unmarshal(out, &list))
	if len(list) == 0 {
		ts.Fatalf("there is no ticket")
	}
	return list[len(list)-1].ID
}

func scriptTicket(ts *testscript.TestScript, neg bool, args []string) {
	g := gateOf(ts)
	all := []string{"-c", filepath.Join(g.dir, "gatebook.yaml"), "ticket", args[0]}
	if args[0] != "submit" {
		all = append(all, newestTicket(ts))
	}
	err := ts.Exec("gatebook", append(all, args[1:]...)...)
	if neg == (err == nil) {
		ts.Fatalf("gatebook ticket %v: %v", args, err)
	}
}

func scriptCount(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: count N TABLE CONDITION")
	}
	g := gateOf(ts)
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) { // the target may be a moment behind
		out, err := g.server.PSQL(g.database, "SELECT count(*) FROM "+args[1]+" WHERE "+args[2])
		ts.Check(err)
		got := strings.TrimSpace(out)
		if got == args[0] {
			return
		}
		if time.Now().After(until) {
			ts.Fatalf("%s rows, want %s", got, args[0])
		}
	}
}

func scriptG(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("gatebook", append([]string{"-c", filepath.Join(gateOf(ts).dir, "gatebook.yaml")}, args...)...)
	if neg == (err == nil) {
		ts.Fatalf("gatebook %v: %v", args, err)
	}
}

func scriptUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN ARG...")
	}
	want := regexp.MustCompile(args[0])
	var out []byte
	for until := time.Now().Add(15 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		cmd := exec.Command("gatebook", append([]string{"-c", filepath.Join(gateOf(ts).dir, "gatebook.yaml")}, args[1:]...)...)
		cmd.Dir = ts.MkAbs(".")
		out, _ = cmd.CombinedOutput()
		if want.Match(out) {
			return
		}
	}
	ts.Fatalf("%v does not print %s:\n%s", args[1:], want, out)
}

func scriptEdit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	text, from, to := ts.ReadFile(args[0]), args[1], strings.ReplaceAll(args[2], `\n`, "\n")
	if !strings.Contains(text, from) {
		ts.Fatalf("%s does not contain %q", args[0], from)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(text, from, to, 1)), 0o600))
}
