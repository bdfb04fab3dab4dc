package app

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/vfs"
)

// signersName is the file of the signers in force in the data directory. They are kept there and not
// beside the configuration, because whoever writes the configuration could else
// take out the block that says who must sign it.
const signersName = "signers.json"

// maxKeptSigners bounds the file, in bytes.
const maxKeptSigners = 4 << 20

// keptSigners is the content of the file. Signers is nil when people signed that nobody must sign any more.
type keptSigners struct {
	Format  int             `json:"format"`
	Signers *config.Signers `json:"signers"`
}

// readSigners returns the signers last in force, nil if there never were any.
// What cannot be understood is an error: to go on without would be to ask nobody.
func readSigners(fsys vfs.FS, dir string) (*config.Signers, error) {
	damaged := func(err error) error {
		return fmt.Errorf("%s says whose signatures the configuration needs and cannot be read: restore it from a backup of the data directory: %w",
			filepath.Join(dir, signersName), err)
	}
	var k keptSigners
	switch found, err := readKept(fsys, dir, signersName, maxKeptSigners, &k); {
	case err != nil:
		return nil, damaged(err)
	case !found:
		return nil, nil
	}
	if k.Format != 1 {
		return nil, damaged(fmt.Errorf("format %d, this program knows 1", k.Format))
	}
	if k.Signers == nil {
		return nil, nil
	}
	if err := k.Signers.Validate(); err != nil {
		return nil, damaged(err)
	}
	return k.Signers, nil
}

// writeSigners replaces the file. When it returns nil the new signers are
// durable; after an error or a crash it holds the old or the new ones.
func writeSigners(fsys vfs.FS, dir string, s *config.Signers) error {
	return writeKept(fsys, dir, signersName, keptSigners{Format: 1, Signers: s})
}

// inForce returns whose signatures a configuration needs; nil if nobody's.
func (b *Book) inForce() *config.Signers {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.signers
}

// approve says whether c may come into force. A refusal is recorded: somebody tried.
func (a *App) approve(ctx context.Context, c *config.Loaded) (*config.Approval, error) {
	approval, err := c.Approve(a.book.inForce())
	if err == nil {
		return approval, nil
	}
	a.log.Warn("gate", "event", "config-refused", "sha256", c.SHA256, "err", err)
	r, recordErr := a.book.Ledger.Control(audit.NewClosing(evidence.KindGate, &evidence.Gate{
		Event: "config-refused", Detail: "configuration sha256 " + c.SHA256 + ": " + err.Error(),
	}))
	if recordErr == nil {
		recordErr = r.Wait(ctx)
	}
	if recordErr != nil {
		err = fmt.Errorf("%w (and the refusal is not recorded: %w)", err, recordErr)
	}
	return approval, err
}

// keep makes the signers of c those in force. It comes before c is recorded
// and in force: after a crash in between, the next start asks the signers of c as well as c does.
func (a *App) keep(c *config.Loaded) error {
	if c.Signers.Same(a.book.inForce()) {
		return nil
	}
	if err := writeSigners(a.book.fs, DataDir(a.book.cfg), c.Signers); err != nil {
		return fmt.Errorf("the signers in force cannot be kept in the data directory: %w", err)
	}
	a.book.mu.Lock()
	defer a.book.mu.Unlock()
	a.book.signers = c.Signers
	return nil
}

// configEntry is what the book says of a configuration that comes into force.
func configEntry(c *config.Loaded, approval *config.Approval, cause string) *evidence.Config {
	e := &evidence.Config{SHA256: c.SHA256, Main: filepath.Base(c.Path), Files: c.Files, Cause: cause, SignedBy: approval.SignedBy(), Manifest: approval.Manifest}
	for _, r := range config.PackRules(c.Packs) {
		e.Packs = append(e.Packs, evidence.ConfigRule{Name: r.Name, When: r.When, Then: r.Then.String(), Reason: r.Reason, Hint: r.Hint})
	}
	if c.Signers != nil {
		e.Signers = &evidence.ConfigSigners{Quorum: c.Signers.Quorum}
		for _, k := range c.Signers.Keys {
			e.Signers.Keys = append(e.Signers.Keys, evidence.ConfigSigner{Person: k.Person, Key: k.Key, Fingerprint: k.Fingerprint()})
		}
	}
	for _, s := range approval.Signatures {
		e.Signatures = append(e.Signatures, evidence.ConfigSignature{Person: s.Person, Fingerprint: s.Fingerprint, Signature: s.Text})
	}
	return e
}
