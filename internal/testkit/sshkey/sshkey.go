// Package sshkey makes keys and signatures with the stock ssh-keygen, for tests.
package sshkey

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Key is a key pair that ssh-keygen made.
type Key struct {
	File   string // of the private key
	Public string // "TYPE BASE64"
}

// New makes a key; args are those of ssh-keygen, such as "-t", "ecdsa".
func New(t testing.TB, args ...string) Key {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	Run(t, "", append([]string{"-q", "-N", "", "-C", "", "-f", file}, args...)...)
	line, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return Key{file, strings.TrimSpace(string(line))}
}

// Sign returns the armoured signature of a text.
func (k Key) Sign(t testing.TB, namespace, text string) string {
	t.Helper()
	return Run(t, text, "-q", "-Y", "sign", "-n", namespace, "-f", k.File)
}

// Run runs ssh-keygen with text as its input and returns its output.
func Run(t testing.TB, text string, args ...string) string {
	t.Helper()
	cmd := exec.Command("ssh-keygen", args...)
	cmd.Stdin = strings.NewReader(text)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ssh-keygen %v: %v (make setup installs it)\n%s", args, err, errs.String())
	}
	return string(out)
}
