package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatebook/gatebook/internal/ledger"
	"github.com/gatebook/gatebook/internal/seal"
	"github.com/gatebook/gatebook/internal/vfs"
)

// validOrigin is what a book may be called: it stands in checkpoints, package
// names and keys.
var validOrigin = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[a-z0-9._-]+)*$`)

// ErrOrigin refuses a book's name.
var ErrOrigin = errors.New("the origin must look like a host name with an optional path, such as gate.example.com/prod")

// exampleConfig is the configuration that Init writes.
const exampleConfig = `# Gatebook. Every key is described in docs/config.md; "gatebook check" says what is wrong.
version: 1
data: ./data

issuers:
  # Whose tokens are accepted. Presets: github-actions, gitlab-ci, kubernetes, spiffe.
  - name: dev
    for: agents
    url: http://127.0.0.1:8099
    audience: gatebook
    development: true
    allow_loopback: true
    insecure_http: true

listeners:
  - {protocol: postgres, address: "127.0.0.1:6432"}

# Targets may stand in files of their own, such as targets.d/orders.yaml:
#
#   targets:
#     - name: orders
#       protocol: postgres
#       address: db.internal:5432
#       database: orders
#       tls: {mode: verify-full, ca: file:db-ca.crt}
#       roles: {default: {user: agent_rw, password: file:secrets/orders}}
#       allow: [agents]
include: [targets.d/*.yaml, policy.yaml]
`

// examplePolicy is the policy that Init writes: reading alone.
const examplePolicy = `# What agents may do. The guide is docs/policy.md; "gatebook check" says what is wrong.
# The order of rules does not matter: deny beats hold beats allow, and what no rule allows is refused.
rules:
  - name: reads
    when: 'action.effects.all(e, e in ["read", "transaction", "session"])'
    then: allow
#
#  - name: writes
#    when: '"writers" in principal.groups && action.effects.all(e, e in ["read", "write", "transaction", "session"])'
#    then: allow
packs: [no-unfiltered-writes]
`

// Init makes everything a new gateway needs in dir: keys, a local CA, an
// example configuration and an empty book. It changes nothing that exists: a
// directory that holds any of it is refused. It returns what it made.
//
// When it returns, all of it is durable: a book outlives a loss of power only
// together with the keys that open it.
func Init(dir, origin string) ([]string, error) {
	names, err := initOn(vfs.OS(), dir, origin)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "keys/") {
			continue
		}
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil { //nolint:gosec // nothing in it is secret
			return nil, err
		}
	}
	return append(names, "data/ (an empty book)"), nil
}

func initOn(fsys vfs.FS, dir, origin string) ([]string, error) {
	if !validOrigin.MatchString(origin) || len(origin) > 200 {
		return nil, fmt.Errorf("%w, not %q", ErrOrigin, origin)
	}
	for _, name := range []string{"gatebook.yaml", "keys", "tls", "data"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return nil, fmt.Errorf("%s exists already; init changes nothing that exists", filepath.Join(dir, name))
		}
	}
	kek := seal.NewKEK()
	keys, err := newKeys(origin, kek)
	if err != nil {
		return nil, err
	}
	files, err := newCA(origin, time.Now())
	if err != nil {
		return nil, err
	}
	for name, text := range keys {
		files["keys/"+name] = text
	}
	subs := []string{"keys", "tls", "data", "targets.d", "secrets"}
	changed := append([]string{""}, subs...)
	if _, err := os.Lstat(dir); err != nil {
		changed = append(changed, "..")
	}
	for _, sub := range subs {
		if err := fsys.MkdirAll(filepath.Join(dir, sub)); err != nil {
			return nil, err
		}
	}
	if err := ledger.Create(fsys, filepath.Join(dir, "data"), origin, kek); err != nil {
		return nil, err
	}
	files["gatebook.yaml"], files["policy.yaml"] = exampleConfig, examplePolicy
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := writeNew(fsys, filepath.Join(dir, name), files[name]); err != nil {
			return nil, err
		}
	}
	for _, sub := range changed {
		if err := fsys.SyncDir(filepath.Join(dir, sub)); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func writeNew(fsys vfs.FS, name, text string) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), 0)
	return errors.Join(err, f.Sync(), f.Close())
}
