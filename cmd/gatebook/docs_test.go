package main_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/testkit/pgserver"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestGettingStarted runs every command of docs/getting-started.md in order,
// in one shell, as a newcomer would: nothing but the program, a PostgreSQL
// and what the page names.
func TestGettingStarted(t *testing.T) {
	page, err := os.ReadFile("../../docs/getting-started.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := shellBlock.FindAllSubmatch(page, -1)
	if len(blocks) < 10 {
		t.Fatalf("the page has %d command blocks", len(blocks))
	}
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	for i, b := range blocks {
		fmt.Fprintf(&script, "echo '== block %d'\n%s", i+1, b[1])
	}
	server, err := pgserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	const password = "canary-5f3c-database"
	if _, err := server.PSQL("postgres", "CREATE ROLE agent_rw LOGIN PASSWORD '"+password+"'"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.PSQL("postgres", "CREATE DATABASE orders OWNER agent_rw"); err != nil {
		t.Fatal(err)
	}
	bin, home, dir := t.TempDir(), t.TempDir(), t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, "gatebook"), ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C.UTF-8",
		"DB_HOST=127.0.0.1", fmt.Sprintf("DB_PORT=%d", server.Port), "DB_NAME=orders", "DB_USER=agent_rw", "DB_PASSWORD=" + password,
		"DB_CA=" + server.CA, "GATE_PORT=" + freePort(t), "ISSUER_PORT=" + freePort(t),
	}
	// The page starts programs in the background: they end with their group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "gate", "serve.log"))
		t.Fatalf("%v\n%s\nserve.log:\n%s", err, out, log)
	}
	for _, want := range []string{
		"target orders, role default  PostgreSQL", "who_the_database_sees", "agent_rw", "the database's own error came through",
		"gatebook: the token was not accepted", "identity:      8 asserted, 2 gateway", "rule no-unfiltered-writes/filter", "rule migrations", "d..a", "anchoring:     L1", "\nverified\n", "root: ok",
		"FAILED:",
	} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the session does not print %q", want)
		}
	}
	if n := bytes.Count(out, []byte("refused, as it must be")); n != 5 {
		t.Errorf("%d of 5 attempts were refused", n)
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
	onlyInSecret(t, dir, password)
}

var (
	markdownLink = regexp.MustCompile(`\[([^\]]*)\]\(([^)\s]+)\)`)
	testName     = regexp.MustCompile("^`((?:Test|Fuzz)[A-Za-z0-9_]+)`$")
	heading      = regexp.MustCompile("(?m)^#+ (.*)$")
)

// TestLinks follows every relative link of the documents: the file is there,
// the heading is there, and a link whose text is a test's name leads to that test.
func TestLinks(t *testing.T) {
	root := filepath.Join("..", "..")
	var pages []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "deploy/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	links := 0
	for _, page := range pages {
		for _, m := range markdownLink.FindAllStringSubmatch(read(t, page), -1) {
			path, anchor, _ := strings.Cut(m[2], "#")
			if strings.Contains(path, "://") {
				continue
			}
			links++
			to := page
			if path != "" {
				to = filepath.Join(filepath.Dir(page), path)
			}
			info, err := os.Stat(to)
			if err != nil {
				t.Errorf("%s: %s: %v", page, m[2], err)
				continue
			}
			if anchor != "" && (info.IsDir() || !hasAnchor(read(t, to), anchor)) {
				t.Errorf("%s: %s: no such heading", page, m[2])
			}
			if name := testName.FindStringSubmatch(m[1]); name != nil && !strings.Contains(read(t, to), "func "+name[1]+"(") {
				t.Errorf("%s: %s is not in %s", page, name[1], path)
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links", links)
	}
}

// TestOperationsNamesMetrics looks for every metric in the operator's page.
func TestOperationsNamesMetrics(t *testing.T) {
	page := read(t, "../../docs/operations.md")
	found := regexp.MustCompile(`desc\("(gatebook_[a-z_]+)"`).FindAllStringSubmatch(read(t, "../../internal/app/ops.go"), -1)
	if len(found) < 10 {
		t.Errorf("only %d metrics found", len(found))
	}
	for _, m := range found {
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("the page does not name %s", m[1])
		}
	}
}

// TestDependenciesHaveReasons looks for every module that the program imports
// in the decision record about dependencies.
func TestDependenciesHaveReasons(t *testing.T) {
	record := read(t, "../../docs/adr/0002-dependencies.md")
	list := func(args ...string) string {
		out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	imports := list("-f", `{{join .Imports "\n"}}`, "../../...")
	seen := make(map[string]bool)
	for line := range strings.Lines(list("-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", ".")) {
		module := strings.TrimSpace(line)
		if module == "" || seen[module] || !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(module)+`(/.*)?$`).MatchString(imports) {
			continue
		}
		seen[module] = true
		if !strings.Contains(record, "`"+module+"`") {
			t.Errorf("%s is linked, and the record does not say what for", module)
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d modules found", len(seen))
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// hasAnchor reports whether a page has a heading with this anchor, made as
// repository hosts make it.
func hasAnchor(page, anchor string) bool {
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		made := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
				return r
			}
			return -1
		}, strings.ToLower(m[1]))
		if made == anchor {
			return true
		}
	}
	return false
}

// onlyInSecret checks that the target's password is in its secret file and nowhere else.
func onlyInSecret(t *testing.T, dir, password string) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if filepath.Base(filepath.Dir(path)) == "secrets" {
			seen++
		} else if bytes.Contains(text, []byte(password)) {
			t.Errorf("%s holds the target's password", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen != 1 {
		t.Errorf("%d secret files", seen)
	}
}

// freePort returns a port that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
