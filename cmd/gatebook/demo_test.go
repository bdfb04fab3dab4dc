package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program builds the binary once for the tests of this package.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gatebook")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return path
}

// TestDemo runs the demo, and runs it broken: with a verifier that believes
// everything, a recorder that refuses, and tokens for somebody else. A demo that
// cannot fail proves nothing.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("the demo waits for tokens to expire")
	}
	gatebook := program(t)
	tests := []struct {
		name, env string
		ok        bool
		want      string // in the output
	}{
		{"as it is", "", true, "the recorded claims are not those that the issuer signed"},
		{"a verifier that believes everything", "GATEBOOK_VERIFY=true", false, "a flipped byte was not noticed"},
		{"a recorder that refuses", "GATEBOOK_DEMO_BREAK=recorder", false, "FATAL:  gatebook: the gate is closed because requests cannot be recorded"},
		{"the wrong audience", "GATEBOOK_DEMO_BREAK=audience", false, "FATAL:  gatebook: the token was not accepted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// PostgreSQL runs as another user if this is root, and must get in.
			dir, err := os.MkdirTemp("", "gbdemo") //nolint:usetesting // t.TempDir makes directories that no other user may enter
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(filepath.Join("..", "..", "demo", "demo.sh"))
			cmd.Env = append(os.Environ(), "GATEBOOK="+gatebook, "TMPDIR="+dir, "GATEBOOK_DEMO_LIFETIME=8", tt.env)
			out, err := cmd.CombinedOutput()
			if (err == nil) != tt.ok {
				t.Errorf("the demo ended with: %v\n%s", err, tail(string(out)))
			}
			if !strings.Contains(string(out), tt.want) {
				t.Errorf("the demo does not say %q:\n%s", tt.want, tail(string(out)))
			}
		})
	}
}

func tail(s string) string {
	if len(s) > 3000 {
		return "…" + s[len(s)-3000:]
	}
	return s
}
