// Package app is the composition root: it turns the configuration into
// running parts, starts them in order, reloads, and stops them in order.
package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
	"github.com/gatebook/gatebook/internal/engine/postgres"
	"github.com/gatebook/gatebook/internal/identity"
	"github.com/gatebook/gatebook/internal/ledger"
	"github.com/gatebook/gatebook/internal/server"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/webhook"
)

// Names in the data directory that belong to app.
const (
	lockName   = "lock"
	socketName = "gatebook.sock"
	spoolName  = "spool"
)

// SocketPath returns where a running gateway's admin socket is.
func SocketPath(c *config.Loaded) string { return filepath.Join(DataDir(c), socketName) }

// DataDir returns the absolute path of the data directory.
func DataDir(c *config.Loaded) string {
	if filepath.IsAbs(c.Data) {
		return filepath.Clean(c.Data)
	}
	return filepath.Join(c.Dir, c.Data)
}

// Book is an opened book with what belongs to it, without a gateway.
type Book struct {
	Ledger *ledger.Ledger
	Keys   *Keys
	Admin  *admin.Service

	cfg   *config.Loaded
	fs    vfs.FS
	lock  io.Closer
	index *follower

	mu      sync.Mutex      // guards what follows
	gate    *enforce.Gate   // set before counters are asked for; nil if there is no gateway
	signers *config.Signers // those in force; nil if nobody must sign
}

// OpenBook takes the data directory's lock and opens the book. purpose is ""
// to serve, else what a command wants. FS is the real file system unless a test says otherwise.
func OpenBook(ctx context.Context, c *config.Loaded, fsys vfs.FS, version, purpose string, log *slog.Logger) (*Book, error) {
	keys, err := LoadKeys(c)
	if err != nil {
		return nil, err
	}
	dir := DataDir(c)
	lock, err := vfs.OS().Lock(filepath.Join(dir, lockName))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%s is in use by another gatebook process", dir)
	}
	if err != nil {
		return nil, err
	}
	b := &Book{Keys: keys, cfg: c, fs: fsys, lock: lock}
	if b.signers, err = readSigners(fsys, dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	jo := journalOptions(c)
	jo.OnFailure = func(err error) { log.Error("the journal has stopped; the gate is closed", "err", err) }
	b.Ledger, err = ledger.Open(ctx, fsys, dir, ledger.Options{
		KEK: keys.KEK, Signer: keys.Log, PublicKeys: keys.Public, Version: version, BinarySHA: binarySHA(), Purpose: purpose,
		Release: c.Sync == config.SyncRelease, Journal: jo, Heartbeat: time.Duration(c.Heartbeat), Counters: b.counters,
	})
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	err = errors.Join(os.RemoveAll(filepath.Join(dir, spoolName)), os.MkdirAll(filepath.Join(dir, spoolName), 0o700))
	if err == nil {
		b.index, err = openIndex(ctx, b.Ledger, dir, c.Index.Text != "off", log)
	}
	if err != nil {
		return nil, errors.Join(err, b.Ledger.Close(ctx, "start failed"), lock.Close())
	}
	b.Admin = &admin.Service{
		Book: b.Ledger, Index: b.index, Signer: keys.Package, Program: "gatebook " + version,
		SpoolIn: filepath.Join(dir, spoolName), SpoolKeep: spoolKeep(c),
	}
	b.Admin.Check = func(ctx context.Context) []admin.Finding { return Check(ctx, c, b, log) }
	return b, nil
}

func (b *Book) counters() enforce.Counters {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gate == nil {
		return enforce.Counters{}
	}
	return b.gate.Counters()
}

// Close records the stop and gives the directory back.
func (b *Book) Close(ctx context.Context, cause string) error {
	err := b.index.close()
	return errors.Join(err, b.Ledger.Close(ctx, cause), b.lock.Close())
}

// binarySHA returns the digest of the running program, "" if it cannot be read.
func binarySHA() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// App is a gateway.
type App struct {
	book     *Book
	log      *slog.Logger
	verifier *identity.Verifier
	gate     *enforce.Gate
	server   *server.Server
	drivers  map[string]engine.Driver
	ops      *ops
	herald   *herald
	inbound  *webhook.Receiver
	page     *page

	mu  sync.Mutex // guards cfg and the reload
	cfg *config.Loaded
}

// New opens the book and binds every address; nothing is accepted yet.
func New(ctx context.Context, c *config.Loaded, fsys vfs.FS, version string, log *slog.Logger) (*App, error) {
	book, err := OpenBook(ctx, c, fsys, version, "", log)
	if err != nil {
		return nil, err
	}
	a := &App{book: book, log: log, cfg: c}
	if err := a.build(ctx); err != nil {
		return nil, errors.Join(err, book.Close(ctx, "start failed: "+err.Error()))
	}
	return a, nil
}

func (a *App) build(ctx context.Context) error {
	signed, err := a.approve(ctx, a.cfg)
	if err != nil {
		return err
	}
	snap, err := snapshot(a.cfg)
	if err != nil {
		return err
	}
	if a.verifier, err = verifier(ctx, a.cfg); err != nil {
		return err
	}
	kept, err := readSuspended(a.book.fs, DataDir(a.cfg))
	if err != nil {
		return err
	}
	if a.herald, err = newHerald(a); err != nil {
		return err
	}
	if a.inbound, err = newReceiver(a); err != nil {
		return err
	}
	desk := approval.NewDesk(a.log)
	desk.Listen(a.herald)
	desk.Book(bookEntries{a.book})
	a.gate = enforce.New(enforce.Options{
		TicketURL: a.ticketURL, Desk: desk, People: persons{a},
		Verifier: a.verifier, Recorder: a.book.Ledger, Snapshot: snap, Release: a.cfg.Sync == config.SyncRelease, Log: a.log,
		Dialer: &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second},
	})
	for _, s := range kept {
		a.gate.Suspend(s)
	}
	a.book.mu.Lock()
	a.book.gate = a.gate
	a.book.mu.Unlock()
	a.book.Admin.Gate = a.gate
	a.book.Admin.CellKey = cellKey(a.gate)
	a.book.Admin.Check = func(ctx context.Context) []admin.Finding { return Check(ctx, a.config(), a.book, a.log) }
	a.book.Admin.Reload = a.Reload
	a.book.Admin.Desk, a.book.Admin.PersonOf, a.book.Admin.SignedIn = desk, persons{a}.of, a.signedIn
	a.book.Admin.NewReviewer = newReviewer
	a.book.Admin.Suspensions = &suspensions{gate: a.gate, fs: a.book.fs, dir: DataDir(a.cfg), config: a.config}
	conns := a.cfg.Limits.Connections
	if conns == 0 {
		conns = config.DefaultConnections
	}
	a.server = server.New(server.Options{Connections: conns, Log: a.log})
	a.drivers = map[string]engine.Driver{
		"postgres": postgres.New(engine.Config{Gate: a.gate, Limits: limits(a.cfg), Log: a.log}),
	}
	for i := range a.cfg.Listeners {
		if err := a.listen(&a.cfg.Listeners[i]); err != nil {
			return errors.Join(err, a.server.Stop())
		}
	}
	if a.ops, err = newOps(a); err != nil {
		return errors.Join(err, a.server.Stop())
	}
	if a.page, err = newPage(a); err != nil {
		return errors.Join(err, a.server.Stop())
	}
	if err := a.keep(a.cfg); err != nil {
		return errors.Join(err, a.server.Stop())
	}
	return a.recordConfig(ctx, a.cfg, signed, "start")
}

func (a *App) listen(l *config.Listener) error {
	cert, err := newCertificate(l.TLS, a.cfg.Dir)
	if err != nil {
		return fmt.Errorf("listener %s: certificate: %w", l.Address, err)
	}
	auth := l.Auth
	if auth == "" {
		auth = "password"
	}
	return a.server.Listen(a.drivers[l.Protocol], &engine.Listener{
		Address: l.Address, TLS: cert.config, Auth: auth, InsecurePlaintext: l.InsecurePlaintext,
		OAuthDiscovery: l.OAuthDiscovery,
	})
}

func (a *App) recordConfig(ctx context.Context, c *config.Loaded, approval *config.Approval, cause string) error {
	r, err := a.book.Ledger.Control(audit.NewClosing(evidence.KindConfig, configEntry(c, approval, cause)))
	if err != nil {
		return err
	}
	return r.Wait(ctx)
}

// Addresses returns what the gateway listens on.
func (a *App) Addresses() []server.Bound { return a.server.Addresses() }

// Run serves until ctx ends, then stops in order: no new connections, no new
// exchanges, running ones drained, sessions ended, the book closed. hard ends the draining.
func (a *App) Run(ctx, hard context.Context) error {
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	var group sync.WaitGroup
	// Webhooks hear of the last alerts, too: they end when nothing else runs.
	tell, endTelling := context.WithCancel(context.WithoutCancel(ctx))
	defer endTelling()
	told := make(chan struct{})
	go func() {
		defer close(told)
		a.herald.sender.Run(tell)
	}()
	join := func() {
		group.Wait()
		endTelling()
		<-told
	}
	failed := make(chan error, 4)
	back := func(f func(context.Context) error) {
		group.Go(func() {
			if err := f(life); err != nil {
				failed <- err
			}
		})
	}
	back(a.book.Ledger.Run)
	back(func(ctx context.Context) error { a.gate.Run(ctx); return nil })
	back(a.book.index.run)
	back(a.watch)
	back(a.watchFiles)
	wait, err := a.book.Admin.Serve(life, filepath.Join(DataDir(a.cfg), socketName), a.log)
	if err != nil {
		end(err)
		join()
		return errors.Join(err, a.server.Stop(), a.book.Close(life, "start failed"))
	}
	back(func(context.Context) error { return wait() })
	if a.ops != nil {
		back(a.ops.run)
	}
	if a.page != nil {
		back(a.page.run)
	}
	conns, cut := context.WithCancelCause(life)
	defer cut(nil)
	a.server.Serve(conns)
	a.log.Info("serving", "origin", a.book.Ledger.Origin(), "sync", a.book.Ledger.SyncMode())

	cause := "told to stop"
	var fatal error
	select {
	case <-ctx.Done():
	case fatal = <-failed:
		cause = fatal.Error()
	}
	a.log.Info("stopping", "cause", cause)
	return errors.Join(fatal, a.stop(hard, cut, end, join, cause))
}

// watch looks after the book: it records when the disk is low and when that
// is over, and fails once the journal has stopped for good, so that the process ends and a
// restart recovers the book.
func (a *App) watch(ctx context.Context) error {
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	low := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := a.book.Ledger.Err(); err != nil {
			return err
		}
		s := a.book.Ledger.Stats()
		if s.Full == low {
			continue
		}
		low = s.Full
		event := evidence.Gate{Event: "reopened", Detail: fmt.Sprintf("%d bytes are free again", s.Free)}
		if low {
			event = evidence.Gate{Event: "low-disk", Detail: fmt.Sprintf("new requests are refused: %d bytes are free", s.Free)}
		}
		a.log.Warn("gate", "event", event.Event, "detail", event.Detail)
		if _, err := a.book.Ledger.Control(audit.NewClosing(evidence.KindGate, &event)); err != nil {
			a.log.Error("the gate's state is not recorded", "err", err)
		}
	}
}

func (a *App) stop(hard context.Context, cut, end context.CancelCauseFunc, join func(), cause string) error {
	errs := []error{a.server.Stop()}
	drain, stop := context.WithTimeout(hard, a.cfg.Limits.ShutdownDrain.Or(config.DefaultShutdownDrain))
	defer stop()
	last, stopLast := context.WithTimeout(context.WithoutCancel(hard), 15*time.Second+a.cfg.Limits.ShutdownDrain.Or(config.DefaultShutdownDrain))
	defer stopLast()
	errs = append(errs, a.gate.Shutdown(drain, last))
	cut(&access.DenyError{Code: access.CodeShutdown, Rule: "gate", Reason: "the gateway is shutting down"})
	a.server.Wait()
	a.verifier.Close()
	end(nil)
	join()
	final, stopFinal := context.WithTimeout(context.WithoutCancel(hard), 15*time.Second)
	defer stopFinal()
	return errors.Join(append(errs, a.book.Close(final, cause))...)
}

// Reload reads the configuration again, if enough of the signers in force, and of its own, signed it. Targets and
// limits of sessions take effect for new sessions; what needs a restart is refused by name and nothing changes.
func (a *App) Reload(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, err := config.Load(a.cfg.Path)
	if err != nil {
		return fmt.Errorf("the configuration stays as it was: %w", err)
	}
	approval, err := a.approve(ctx, c)
	if err != nil {
		return fmt.Errorf("the configuration stays as it was: %w", err)
	}
	if what := needsRestart(&a.cfg.Config, &c.Config); what != "" {
		return fmt.Errorf("the configuration stays as it was: a change of %s needs a restart", what)
	}
	snap, err := snapshot(c)
	if err != nil {
		return fmt.Errorf("the configuration stays as it was: %w", err)
	}
	if err := a.keep(c); err != nil {
		return fmt.Errorf("the configuration stays as it was: %w", err)
	}
	if err := a.recordConfig(ctx, c, approval, "reload"); err != nil {
		return fmt.Errorf("the configuration stays as it was: %w", err)
	}
	a.cfg = c
	a.gate.SetSnapshot(snap)
	a.log.Info("configuration reloaded", "sha256", c.SHA256)
	return nil
}
