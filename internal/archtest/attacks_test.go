package archtest

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// TestEV18VerifierReachesNothing: what verifies a package imports nothing that
// could reach a network, another program, or files other than those it is given.
func TestEV18VerifierReachesNothing(t *testing.T) {
	seen := 0
	for _, s := range sources(t) {
		if s.pkg != "evidence" || strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		seen++
		for _, i := range imports(s.file) {
			if i == "net" || strings.HasPrefix(i, "net/") || i == "os" || strings.HasPrefix(i, "os/") || i == "syscall" || i == "plugin" || i == "unsafe" {
				t.Errorf("%s imports %s", s.path, i)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d files", seen)
	}
}

// TestEV27NoWeakDigest: no program code uses MD5 or SHA-1, but for the target's
// own log-in where an operator allows it by name.
func TestEV27NoWeakDigest(t *testing.T) {
	allowed := []string{"internal/engine/postgres/upstream.go"}
	found := 0
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		for _, i := range imports(s.file) {
			if i != "crypto/md5" && i != "crypto/sha1" && !strings.HasSuffix(i, "/md4") {
				continue
			}
			found++
			if name := s.pkg + "/" + path.Base(s.path); !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s", s.path, i)
			}
		}
	}
	if found < len(allowed) {
		t.Error("nothing was found, not even what is allowed")
	}
}
