package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/testkit/sshkey"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
)

// people sign configurations of a place.
type people map[string]sshkey.Key

func newPeople(t *testing.T, names ...string) people {
	t.Helper()
	p := make(people)
	for _, name := range names {
		p[name] = sshkey.New(t, "-t", "ed25519")
	}
	return p
}

// block returns the block signers.
func (k people) block(quorum int, names ...string) string {
	b := fmt.Sprintf("signers:\n  quorum: %d\n  keys:\n", quorum)
	for _, name := range names {
		b += fmt.Sprintf("    - {person: %s, key: %q}\n", name, k[name].Public)
	}
	return b
}

// sign puts signatures of what is there now in place of those that were there.
func (k people) sign(t *testing.T, p *place, names ...string) {
	t.Helper()
	dir := filepath.Join(p.dir, "signatures")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		p.write(t, "signatures/"+name+".sig", k[name].Sign(t, config.SignatureNamespace, p.config(t).Manifest()))
	}
}

// tryStart starts a gateway that must be refused, and returns the error.
func (p *place) tryStart(t *testing.T) error {
	t.Helper()
	a, err := New(t.Context(), p.config(t), vfs.OS(), "test", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	t.Error("the gateway started")
	return errors.Join(a.server.Stop(), a.book.Close(context.Background(), "test"))
}

// rows asks the book.
func (g *gateway) rows(t *testing.T, sql string) []string {
	t.Helper()
	var rows []string
	err := g.client(t).Lines(t.Context(), http.MethodPost, "/v1/query", map[string]string{"SQL": sql}, func(raw json.RawMessage) error {
		rows = append(rows, string(raw))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:] // the first names the columns
}

const (
	readsOnly = "rules: [{name: reads, when: 'action.effects.all(e, e in [\"read\", \"session\", \"transaction\"])', then: allow}]\n"
	allowAll  = "rules: [{name: anything, when: \"true\", then: allow}]\n"
)

// TestSG06Reload: what is not signed does not come into force in a running gateway, and the book says that it was tried.
func TestSG06Reload(t *testing.T) {
	k := newPeople(t, "ana", "ben", "cid")
	p := newPlace(t, k.block(2, "ana", "ben", "cid"))
	p.write(t, "policy.yaml", readsOnly)
	k.sign(t, p, "ana", "ben")
	g := p.start(t)
	first := g.cfg.SHA256
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "worker", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	const text = "SELECT pg_sleep(0)" // runs code: not a read
	still := func(what string) {
		t.Helper()
		_, err := c.Exec(t.Context(), text)
		refusal(t, what, err)
		if _, err := c.Exec(t.Context(), "SELECT 1"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused := func(what string, words ...string) {
		t.Helper()
		err := g.Reload(t.Context())
		if !errors.Is(err, config.ErrNotSigned) || !strings.Contains(err.Error(), "stays as it was") {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: the error does not say %q: %v", what, w, err)
			}
		}
		still(what)
	}
	still("at first")
	p.write(t, "policy.yaml", allowAll)
	refused("unsigned", "signatures/ana.sig does not count", "missing: ana, ben, cid")
	k.sign(t, p, "cid")
	refused("one signature", "1 did (cid)")
	main, err := os.ReadFile(filepath.Join(p.dir, "gatebook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	without, _, _ := strings.Cut(string(main), "signers:")
	p.write(t, "gatebook.yaml", without)
	refused("without the block", "of the signers in force, 2 must sign")
	p.write(t, "gatebook.yaml", without+k.block(1, "cid"))
	k.sign(t, p, "cid")
	refused("a quorum of one's own", "of the signers in force, 2 must sign and 1 did (cid)")
	var findings []admin.Finding
	if err := g.client(t).Call(t.Context(), http.MethodPost, "/v1/check", nil, &findings); err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(findings, func(f admin.Finding) bool { return f.What == "signatures" }); i < 0 || findings[i].OK ||
		!strings.Contains(findings[i].Detail, "missing: ana, ben") {
		t.Errorf("check says %+v", findings)
	}
	if !slices.ContainsFunc(findings, func(f admin.Finding) bool { return f.What == "target orders, role default" && f.OK }) {
		t.Errorf("check does not look at what is in force: %+v", findings)
	}
	rows := g.rows(t, "SELECT event, detail FROM continuity WHERE event = 'config-refused'")
	if len(rows) != 4 || !strings.Contains(rows[0], "is not signed") || !strings.Contains(rows[0], "sha256 "+p.configWith(t, string(main)).SHA256) {
		t.Errorf("the book says %q", rows)
	}
	p.write(t, "gatebook.yaml", string(main))
	k.sign(t, p, "ana", "cid")
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), text); err != nil {
		t.Errorf("the signed policy is not in force: %v", err)
	}
	_ = c.Close(t.Context())
	if rows := g.rows(t, "SELECT DISTINCT sha256, cause FROM configs ORDER BY first_entry"); len(rows) != 2 || !strings.Contains(rows[0], first) {
		t.Errorf("configurations in force: %q", rows)
	}
	report, pkg := export(t, g.client(t), g.book.Keys, admin.ExportRequest{})
	n := 0
	for _, x := range report.Exceptions {
		if x.Code == "gate-config-refused" {
			n++
		}
	}
	if n != 4 {
		t.Errorf("%d refusals in the package: %+v", n, report.Exceptions)
	}
	checkByHand(t, unpack(t, pkg), "ana", "cid")
	g.end(t)
}

// configWith returns the configuration as it would be with another main file.
func (p *place) configWith(t *testing.T, main string) *config.Loaded {
	t.Helper()
	path := filepath.Join(p.dir, "gatebook.yaml")
	now, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.write(t, "gatebook.yaml", string(now))
	p.write(t, "gatebook.yaml", main)
	return p.config(t)
}

// checkByHand does what an auditor would: takes the last configuration's entry from
// a package, and checks digests and signatures with ssh-keygen.
func checkByHand(t *testing.T, pkg string, by ...string) {
	t.Helper()
	var last *evidence.Config
	for line := range strings.Lines(pkg) { // data/log/bodies.jsonl
		var e struct {
			Index *uint64 `json:"i"`
			Body  []byte  `json:"body"`
		}
		var c evidence.Config
		if json.Unmarshal([]byte(line), &e) == nil && e.Index != nil && evidence.DecodeBody(e.Body, &c) == nil && c.Files != nil {
			last = &c
		}
	}
	if last == nil {
		t.Fatal("no configuration in the package")
	}
	if !slices.Equal(last.SignedBy, by) || last.Signers == nil || last.Signers.Quorum != 2 || len(last.Signers.Keys) != 3 || len(last.Signatures) != len(by) {
		t.Fatalf("the entry says %+v", last)
	}
	if (&config.Loaded{Files: last.Files}).Manifest() != last.Manifest {
		t.Error("the manifest is not of the files in the entry")
	}
	dir := t.TempDir()
	put := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	var allowed strings.Builder
	for _, key := range last.Signers.Keys {
		fmt.Fprintf(&allowed, "%s %s\n", key.Person, key.Key)
	}
	file := put("allowed_signers", allowed.String())
	for i, s := range last.Signatures {
		out := sshkey.Run(t, last.Manifest, "-Y", "verify", "-f", file, "-I", s.Person, "-n", "gatebook-config", "-s", put(fmt.Sprint(i), s.Signature))
		if !strings.Contains(out, s.Fingerprint) {
			t.Errorf("ssh-keygen says %q, the entry %s", out, s.Fingerprint)
		}
	}
}

// TestSG07Start: the signers last in force decide about a start, whatever became of the block.
func TestSG07Start(t *testing.T) {
	k := newPeople(t, "ana", "ben", "cid", "dora")
	p := newPlace(t, k.block(2, "ana", "ben", "cid"))
	notSigned := func(what string, words ...string) {
		t.Helper()
		err := p.tryStart(t)
		if !errors.Is(err, config.ErrNotSigned) {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: the error does not say %q: %v", what, w, err)
			}
		}
	}
	notSigned("the first start", "its own signers, 2 must sign and 0 did", "policy manifest | ssh-keygen -Y sign -n gatebook-config")
	if _, err := os.Lstat(filepath.Join(p.dir, "data", signersName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("signers of a configuration that was refused are kept: %v", err)
	}
	main, err := os.ReadFile(filepath.Join(p.dir, "gatebook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	without, _, _ := strings.Cut(string(main), "signers:")
	k.sign(t, p, "ana", "cid")
	p.start(t).end(t)
	info, err := os.Stat(filepath.Join(p.dir, "data", signersName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	p.write(t, "policy.yaml", readsOnly)
	notSigned("one file changed", "signatures/ana.sig does not count")
	p.write(t, "policy.yaml", allowAll)
	p.write(t, "gatebook.yaml", without)
	notSigned("the block is taken out", "of the signers in force, 2 must sign and 0 did")
	p.write(t, "gatebook.yaml", without+k.block(1, "dora"))
	k.sign(t, p, "dora")
	notSigned("another block", "of the signers in force, 2 must sign and 0 did")

	// Offline, check says so, and asks no target.
	book, err := OpenBook(t.Context(), p.config(t), vfs.OS(), "test", "check", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	findings := Check(t.Context(), p.config(t), book, slog.New(slog.DiscardHandler))
	if err := book.Close(t.Context(), "test"); err != nil {
		t.Error(err)
	}
	for _, f := range findings {
		if strings.HasPrefix(f.What, "target ") || f.What == "signatures" && f.OK {
			t.Errorf("check of an unsigned configuration: %+v", f)
		}
	}
	if !slices.ContainsFunc(findings, func(f admin.Finding) bool { return f.What == "signatures" && strings.Contains(f.Detail, "missing") }) {
		t.Errorf("check says %+v", findings)
	}

	// Those in force hand over to dora; then she alone decides.
	k.sign(t, p, "ana", "ben", "dora")
	p.start(t).end(t)
	p.write(t, "gatebook.yaml", string(main))
	k.sign(t, p, "ana", "ben")
	notSigned("the old ones come back", "of the signers in force, 1 must sign and 0 did; missing: dora")
	p.write(t, "gatebook.yaml", without)
	k.sign(t, p, "dora")
	p.start(t).end(t)
	p.write(t, "policy.yaml", readsOnly)
	g := p.start(t) // nobody must sign any more
	if rows := g.rows(t, "SELECT detail FROM continuity WHERE event = 'config-refused'"); len(rows) != 5 {
		t.Errorf("the book says %q", rows)
	}
	g.end(t)
}

// TestSG07Damaged: signers in force that cannot be read do not mean that nobody must sign.
func TestSG07Damaged(t *testing.T) {
	k := newPeople(t, "ana")
	p := newPlace(t, "")
	good := fmt.Sprintf(`{"format":1,"signers":{"quorum":1,"keys":[{"person":"ana","key":%q}]}}`, k["ana"].Public)
	for _, text := range []string{
		"", "{", "null", `{"format":2}`, strings.Replace(good, `"quorum":1`, `"quorum":0`, 1), strings.Replace(good, "ssh-ed25519", "ssh-ed25518", 1),
		strings.Replace(good, `"keys"`, `"kyes"`, 1), strings.Replace(good, `"signers"`, `"sigers"`, 1),
	} {
		p.write(t, "data/"+signersName, text)
		if err := p.tryStart(t); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
			t.Errorf("%s: %v", text, err)
		}
	}
	p.write(t, "data/"+signersName, good)
	if err := p.tryStart(t); !errors.Is(err, config.ErrNotSigned) {
		t.Errorf("good: %v", err)
	}
	k.sign(t, p, "ana")
	p.start(t).end(t)
}

// TestSignersSurvive: after a crash or a fault at any point the signers in force are the
// old or the new ones; the new ones for certain once that was said.
func TestSignersSurvive(t *testing.T) {
	set := func(quorum int) *config.Signers {
		s := &config.Signers{Quorum: quorum}
		for i := range 3 {
			s.Keys = append(s.Keys, config.SignerKey{Person: fmt.Sprintf("p%d", i), Key: survivors[i]})
		}
		return s
	}
	one, two := set(1), set(2)
	const dir = "/data"
	for seed := range uint64(300) {
		disk := crashfs.New(nil, seed)
		if err := errors.Join(disk.MkdirAll(dir), disk.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		if err := writeSigners(disk, dir, one); err != nil {
			t.Fatal(err)
		}
		disk = disk.Crash(seed)
		if s, err := readSigners(disk, dir); err != nil || !s.Same(one) {
			t.Fatalf("seed %d: %+v, %v", seed, s, err)
		}
		faulty := faultfs.New(disk)
		fault := faultfs.Kinds()[seed%4]
		at := int(seed/4) % 12 // beyond the last operation nothing fails
		faulty.FailAt(at, fault)
		err := writeSigners(faulty, dir, two)
		disk = disk.Crash(seed + 1)
		s, readErr := readSigners(disk, dir)
		if readErr != nil || !s.Same(two) && (err == nil || !s.Same(one)) {
			t.Fatalf("seed %d, %v at %d, %v: %+v, %v", seed, fault, at, err, s, readErr)
		}
		if err := writeSigners(disk, dir, nil); err != nil {
			t.Fatalf("seed %d: after a crash: %v", seed, err)
		}
		if s, err := readSigners(disk.Crash(seed+2), dir); err != nil || s != nil {
			t.Fatalf("seed %d: %+v, %v", seed, s, err)
		}
	}
}

// survivors are public keys that nobody has the private part of.
var survivors = []string{
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC",
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD",
}

// TestSignersKeptFirst: signers that cannot be kept do not come into force, and neither does their configuration.
func TestSignersKeptFirst(t *testing.T) {
	k := newPeople(t, "ana")
	p := newPlace(t, "")
	disk := faultfs.New(vfs.OS())
	a, err := New(t.Context(), p.config(t), disk, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	before := a.cfg
	main, err := os.ReadFile(filepath.Join(p.dir, "gatebook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "gatebook.yaml", string(main)+k.block(1, "ana"))
	k.sign(t, p, "ana")
	disk.FailOp(faultfs.OpSync, faultfs.EIO, func(name string) bool { return strings.HasSuffix(name, signersName+".new") })
	if err := a.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be kept") || a.cfg != before {
		t.Errorf("%v", err)
	}
	disk.Plan(nil)
	if err := a.Reload(t.Context()); err != nil || a.cfg == before {
		t.Errorf("%v", err)
	}
	if err := errors.Join(a.server.Stop(), a.book.Close(context.Background(), "test")); err != nil {
		t.Error(err)
	}
}

// TestRefusedConfigurationIsRecorded: who hears of a refusal hears, too, if the book may not have it.
func TestRefusedConfigurationIsRecorded(t *testing.T) {
	k := newPeople(t, "ana")
	p := newPlace(t, k.block(1, "ana"))
	disk := faultfs.New(vfs.OS())
	book, err := OpenBook(t.Context(), p.config(t), disk, "test", "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a := &App{book: book, log: slog.New(slog.DiscardHandler)}
	if _, err := a.approve(t.Context(), p.config(t)); !errors.Is(err, config.ErrNotSigned) || errors.Is(err, journal.ErrStopped) {
		t.Errorf("%v", err)
	}
	disk.FailOp(faultfs.OpSync, faultfs.EIO, nil)
	if _, err := a.approve(t.Context(), p.config(t)); !errors.Is(err, config.ErrNotSigned) || !errors.Is(err, journal.ErrStopped) {
		t.Errorf("a refusal that is not durable: %v", err)
	}
	if err := book.Close(context.Background(), "test"); err == nil {
		t.Error("the book closed as if nothing had happened")
	}
}
