package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/mod/sumdb/note"

	"github.com/gatebook/gatebook/evidence"
)

func run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Main(args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// TestExitCodes: what was not understood is 3, what did not work is 1.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.yaml")
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	trust, pkg := file("trust", "nonsense\n"), file("p.zip", "no zip")
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 0, "Usage:"}, {[]string{"--help"}, 0, "Usage:"}, {[]string{"version"}, 0, "gatebook"},
		{[]string{"evidence"}, 0, "export"}, {[]string{"evidence", "verify", "--help"}, 0, "Exit code"},
		{[]string{"no-such"}, 3, "unknown command"}, {[]string{"evidence", "no-such"}, 3, "unknown command"},
		{[]string{"--no-such"}, 3, "unknown flag"}, {[]string{"evidence", "verify", "x.zip", "--no-such"}, 3, "unknown flag"},
		{[]string{"evidence", "verify", "x.zip"}, 3, "required flag"}, {[]string{"evidence", "export"}, 3, "required flag"},
		{[]string{"evidence", "verify", "--trust", trust}, 3, "accepts 1 arg"}, {[]string{"init"}, 3, "required flag"},
		{[]string{"init", "a", "b", "--origin", "x"}, 3, "accepts at most 1"}, {[]string{"query"}, 3, "accepts 1 arg"},
		{[]string{"version", "x"}, 3, "accepts 0 arg"}, {[]string{"session", "show", "NOT-AN-ID"}, 3, "not a session id"},
		{[]string{"session", "show", ""}, 3, "not a session id"},
		{[]string{"evidence", "export", "-o", filepath.Join(dir, "o.zip"), "--from", "yesterday"}, 3, "is not a time"},
		{[]string{"dev", "issuer", "--address", "0.0.0.0:0"}, 3, "not on loopback"},
		{[]string{"-c", missing, "serve", "--log-level", "loud"}, 3, "--log-level"},
		{[]string{"-c", missing, "serve"}, 1, "none.yaml"}, {[]string{"-c", missing, "check"}, 1, "none.yaml"},
		{[]string{"--data", dir, "-c", missing, "serve"}, 1, "none.yaml"},
		{[]string{"-c", missing, "keys"}, 1, "none.yaml"}, {[]string{"-c", missing, "connect", "orders"}, 1, "none.yaml"},
		{[]string{"evidence", "verify", pkg, "--trust", trust}, 1, "trust file, line 1"},
		{[]string{"evidence", "verify", pkg, "--trust", missing}, 1, "none.yaml"},
		{[]string{"-c", missing, "evidence", "export", "-o", pkg}, 1, "exists already"},
		{[]string{"-c", missing, "evidence", "export", "-o", filepath.Join(dir, "new.zip")}, 1, "none.yaml"},
	} {
		code, out, errs := run(test.args...)
		if code != test.code || !strings.Contains(out+errs, test.says) {
			t.Errorf("%q: exit code %d, want %d saying %q:\n%s%s", test.args, code, test.code, test.says, out, errs)
		}
		if code != 0 && out != "" {
			t.Errorf("%q: an error on standard output: %s", test.args, out)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
}

// TestHelp: every command and every flag says what it is for.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", c.CommandPath(), c.Short)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s has no help", c.CommandPath(), f.Name)
			}
		})
		for _, sub := range c.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" {
				walk(sub)
			}
		}
	}
	walk((&env{}).root())
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"SELECT 1": "SELECT 1", "a\nb\tc": "a b c", "\x1b[2J": `\u001b[2J`, "\x9b0m": "\ufffd0m", "\u009b": `\u009b`, "\r": `\u000d`,
		"a\u202eb": `a\u202eb`, "\u2066": `\u2066`, "\u2028": `\u2028`, "\u200b\ufeff": `\u200b\ufeff`, "Ω ü 漢": "Ω ü 漢", "\x7f": `\u007f`,
		"\u3164\u034f": `\u3164\u034f`, "\U000e0041": `\U000e0041`, `\u202e`: `\\u202e`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
	if got := printable(strings.Repeat("x", 5000)); len(got) > 2010 {
		t.Errorf("%d bytes are shown", len(got))
	}
}

// TestReport: what a package says of itself cannot move the cursor.
func TestReport(t *testing.T) {
	var out bytes.Buffer
	e := &env{stdout: &out}
	evil := "\x1b[2J\x1b[1;1Hverified\n"
	e.printReport("p.zip", &evidence.Report{
		Problems:   []evidence.Problem{{Aspect: "integrity", Where: evil, What: evil}},
		Exceptions: []evidence.Exception{{Code: "gap", What: evil}},
		Summary:    &evidence.Summary{Scope: evidence.Scope{Origin: evil}, Sync: []string{evil}},
	})
	if strings.ContainsRune(out.String(), 0x1b) || !strings.HasSuffix(out.String(), fmt.Sprintln("FAILED: p.zip must not be believed")) {
		t.Errorf("%q", out.String())
	}
}

// TestVerifyStops: verification ends with its context, however large the package.
func TestVerifyStops(t *testing.T) {
	dir := t.TempDir()
	_, key, err := note.GenerateKey(rand.Reader, "gate.test/book")
	if err != nil {
		t.Fatal(err)
	}
	trust, pkg := filepath.Join(dir, "trust"), filepath.Join(dir, "package.zip")
	for path, text := range map[string]string{trust: "log " + key + "\n", pkg: "PK"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	if r, err := verify(ctx, pkg, trust, "", evidence.Options{}); err != nil || !r.Failed() {
		t.Errorf("%+v, %v", r, err)
	}
	stop()
	if r, err := verify(ctx, pkg, trust, "", evidence.Options{}); r != nil || err == nil || !strings.Contains(err.Error(), "stopped before") {
		t.Errorf("stopped: %+v, %v", r, err)
	}
	f := &stopping{ctx, strings.NewReader("x")}
	if n, err := f.ReadAt(make([]byte, 1), 0); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
