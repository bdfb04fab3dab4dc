package config

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const good = `version: 1
data: ./data
issuers:
  - {name: ci, for: agents, url: https://login.example.com, audience: gatebook}
listeners:
  - {protocol: postgres, address: "127.0.0.1:0"}
include: [targets.d/*.yaml]
`

const goodTarget = `targets:
  - name: orders
    protocol: postgres
    address: db.internal:5432
    roles: {default: {user: app, password: file:secret}}
    allow: [agents]
    limits: {sessions: 5, queue: 3s}
`

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "gatebook.yaml")
}

func TestLoad(t *testing.T) {
	path := write(t, map[string]string{"gatebook.yaml": good, "targets.d/orders.yaml": goodTarget})
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Targets) != 1 || c.Targets[0].Name != "orders" || c.Targets[0].Limits.Sessions != 5 {
		t.Errorf("targets %+v", c.Targets)
	}
	if len(c.Files) != 2 || c.Files["targets.d/orders.yaml"] != goodTarget || len(c.SHA256) != 64 {
		t.Errorf("files %v, digest %q", c.Files, c.SHA256)
	}
}

func TestProblemsNameTheirPlace(t *testing.T) {
	tests := []struct {
		name, main, target string
		want               []string // each must be in the error
	}{
		{"tag without a value", good, "targets:\n  - name: orders\n    allow: !x\n", []string{"targets.d/orders.yaml", "cannot be read"}},
		{"unknown key", strings.Replace(good, "data:", "dataa:", 1), goodTarget, []string{"gatebook.yaml:2", "dataa"}},
		{"all at once", strings.NewReplacer("version: 1", "version: 2", "for: agents", "for: agent").Replace(good),
			strings.NewReplacer("name: orders", "name: Orders!", "user: app, ", "").Replace(goodTarget),
			[]string{"version", "gatebook.yaml:4", `did you mean "agents"?`, "orders.yaml:2", "Orders!", "roles.default.user"}},
		{"people", strings.Replace(good, "for: agents", "for: people", 1), goodTarget, []string{"at least one for agents"}},
		{"open listener without certificate", strings.Replace(good, "127.0.0.1:0", "0.0.0.0:6432", 1), goodTarget,
			[]string{"listeners[0].tls", "needs a certificate"}},
		{"plaintext beyond loopback", strings.Replace(good, `"127.0.0.1:0"}`, `"0.0.0.0:6432", insecure_plaintext: true}`, 1), goodTarget,
			[]string{"insecure_plaintext"}},
		{"development issuer beyond loopback", strings.NewReplacer("audience: gatebook", "audience: gatebook, development: true",
			"127.0.0.1:0", "0.0.0.0:6432").Replace(good), goodTarget, []string{"development", "loopback"}},
		{"secret given as value", good, strings.Replace(goodTarget, "file:secret", "hunter2", 1), []string{"roles.default.password", "file:"}},
		{"role allows nobody", good, strings.Replace(goodTarget, "file:secret}", "file:secret, allow: [dba]}", 1), []string{"dba"}},
		{"duration", strings.Replace(good, "data: ./data", "data: ./data\nheartbeat: soon", 1), goodTarget, []string{"gatebook.yaml:3", "soon"}},
		{"no file", "", goodTarget, []string{"version"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(write(t, map[string]string{"gatebook.yaml": tt.main, "targets.d/orders.yaml": tt.target}))
			if err == nil {
				t.Fatal("loaded")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error does not say %q:\n%v", w, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestDocumentIsGenerated(t *testing.T) {
	cmd := exec.Command("go", "run", "./internal/config/gen")
	cmd.Dir = filepath.Join("..", "..")
	got, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("..", "..", "docs", "config.md"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("docs/config.md is not what the types say: run make gen")
	}
}

// TestEmptyIncludeIsRefused: an included file that says nothing was cut off; what it denied would be allowed.
func TestEmptyIncludeIsRefused(t *testing.T) {
	for text, ok := range map[string]bool{"": false, "# nothing\n": false, "rules:\n": false, "rules: []\n": true, "packs: [no-opaque]\n": true} {
		path := write(t, map[string]string{"gatebook.yaml": strings.Replace(good, "include:", "include: [more.yaml] #", 1), "more.yaml": text})
		if _, err := Load(path); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "more.yaml: the file says nothing") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestLabels: a mask is about the columns of its labels, wherever these are given; a label that nobody gives is said to be wrong.
func TestLabels(t *testing.T) {
	t.Parallel()
	load := func(t *testing.T, masks, labels string) (*Loaded, error) {
		t.Helper()
		dir := t.TempDir()
		for name, text := range map[string]string{
			"gatebook.yaml": "version: 1\ndata: ./data\nissuers:\n  - {name: ci, for: agents, url: \"https://issuer.example.com\", audience: gatebook}\nlisteners:\n  - {protocol: postgres, address: \"127.0.0.1:0\"}\ninclude: [labels.yaml]\n" + masks,
			"labels.yaml":   labels,
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return Load(filepath.Join(dir, "gatebook.yaml"))
	}
	l, err := load(t, "masks: [{name: a, columns: [a.b.c], labels: [pii]}]\n", "labels: [{name: pii, columns: [d.e.f]}, {name: other, columns: [x.y.z]}, {name: pii, columns: [g.h.*]}]\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(l.MaskRules[0].Columns, " "); got != "a.b.c d.e.f g.h.*" {
		t.Error(got)
	}
	for want, texts := range map[string][2]string{
		`there is no label "pi"`: {"masks: [{name: a, labels: [pi]}]\n", "labels: [{name: pii, columns: [d.e.f]}]\n"}, "names no columns": {"masks: [{name: a, labels: [pii]}]\n", "labels: [{name: pii}]\n"},
		`"d.e" is not schema`: {"masks: [{name: a, labels: [pii]}]\n", "labels: [{name: pii, columns: [d.e]}]\n"},
	} {
		if _, err := load(t, texts[0], texts[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
