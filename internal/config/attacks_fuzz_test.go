package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// FuzzLoad: whatever stands in the files, loading them ends with a
// configuration or with what is wrong, and one that loads has what a start needs.
func FuzzLoad(f *testing.F) {
	f.Add(good, goodTarget)
	f.Add("version: 1\nissuers: &a [*a]\n", "targets: [{name: x, <<: {roles: {}}}]")
	f.Add("version: 1\ndata: [\n", "")
	f.Add(good+"signers: {quorum: 1, keys: [{person: a, key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB}]}\n", goodTarget)
	f.Add("version: 2\nlisteners: [{protocol: postgres, address: 1}]\ninclude: ['*', 'targets.d']\n", "a: b: c")
	f.Add(good, "targets:\n  - name: x\n    allow: !x\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, main, target string) {
		rest := main
		for _, ours := range []string{"./data", "targets.d/*.yaml", "https://login.example.com"} {
			rest = strings.ReplaceAll(rest, ours, "")
		}
		if strings.ContainsAny(rest, `/\`) {
			t.Skip() // a pattern could lead to files of this machine
		}
		at := filepath.Join(dir, "gatebook.yaml")
		for name, text := range map[string]string{at: main, filepath.Join(dir, "targets.d", "orders.yaml"): target} {
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, err := Load(at)
		if err != nil {
			return
		}
		if s := c.Signers; s != nil && (s.Quorum < 1 || s.Quorum > len(s.persons())) {
			t.Errorf("loaded signers that anybody or nobody can meet: %+v", s)
		}
		if c.Version != 1 || len(c.Issuers) == 0 || len(c.SHA256) != 64 {
			t.Errorf("loaded: %+v", c.Config)
		}
		for _, i := range c.Issuers {
			if len(i.Audience) == 0 || i.For == "" || i.Name == "" {
				t.Errorf("loaded an issuer without its fields: %+v", i)
			}
		}
		for _, x := range c.Targets {
			if x.Name == "" || x.Address == "" || len(x.Roles) == 0 {
				t.Errorf("loaded a target without its fields: %+v", x)
			}
		}
	})
}

// TestIncludeOfAPipe: what is no regular file is a problem, not something to wait for.
func TestIncludeOfAPipe(t *testing.T) {
	path := write(t, map[string]string{"gatebook.yaml": good, "targets.d/orders.yaml": goodTarget})
	pipe := filepath.Join(filepath.Dir(path), "targets.d", "pipe.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("%v", err)
	}
}
