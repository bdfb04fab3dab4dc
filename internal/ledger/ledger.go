// Package ledger is the book: it turns events into sealed entries, keeps their
// order in the journal, and makes the RFC 6962 tree and the signed checkpoints over their headers.
//
// A journal payload is
//
//	length of the header line (2 bytes, little endian) ‖ header line ‖ sealed body
//
// and its number in the journal is the entry's index and the leaf's. Next to
// the journal stand the key store, the checkpoints (one JSON line each, synced),
// and the tree's hashes, which are derived and made again when they do not fit.
//
// A Ledger is safe for concurrent use.
package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/seal"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/vfs"
)

// Names of the book's files in its directory.
const (
	bookFile       = "book.json"
	keysFile       = "keys.store"
	checkpointFile = "checkpoints.jsonl"
	treeFile       = "tree.hashes"
	journalDir     = "journal"
)

// DefaultHeartbeat is the longest time without an entry.
const DefaultHeartbeat = 30 * time.Second

// Options are what Open needs.
type Options struct {
	KEK    secret.String
	Signer note.Signer // signs checkpoints; its name is the book's origin
	// PublicKeys is recorded at each start.
	PublicKeys evidence.Key
	Version    string
	BinarySHA  string
	// Purpose says why the book is opened when it is not to serve, such as
	// "offline export".
	Purpose string
	// Release is noted in the record: the door forwards proven reads before their intents are durable. The book itself is the same.
	Release   bool
	Journal   journal.Options
	Heartbeat time.Duration // 0: DefaultHeartbeat
	// Counters is asked for each heartbeat; nil gives zeros.
	Counters func() enforce.Counters
}

// Book is the content of book.json.
type Book struct {
	Format  int       `json:"format"`
	Origin  string    `json:"origin"`
	Created time.Time `json:"created"`
}

// Ledger is an open book.
type Ledger struct {
	fs     vfs.FS
	dir    string
	book   Book
	opt    Options
	log    *journal.Log
	keys   *seal.Store
	boot   evidence.ID
	key    *seal.Key // of this boot's control entries
	epoch  []byte
	cpMu   sync.Mutex // one checkpoint at a time; taken before mu
	tree   *tree
	cps    *checkpoints
	sealed buffers

	mu       sync.Mutex
	leaves   []tlog.Hash // of entries from index first on that are not in the tree yet
	first    uint64
	lastTime time.Time
	line     [1 + evidence.MaxHeader]byte
	sessions map[evidence.ID]span // sessions whose end is not in a checkpoint yet
	// configs are the indices of configuration entries that no checkpoint covers yet.
	configs []uint64
	seen    map[evidence.Pseudonym]bool
}

// span is where a session's entries begin and end.
type span struct {
	first uint64
	end   uint64 // 0 while it is open
}

// Create makes a new, empty book in dir, which must exist.
func Create(fsys vfs.FS, dir, origin string, kek secret.String) error {
	if _, err := fsys.Open(path.Join(dir, bookFile)); err == nil {
		return fmt.Errorf("%s holds a book already", dir)
	}
	if err := seal.CreateStore(fsys, path.Join(dir, keysFile), kek); err != nil {
		return fmt.Errorf("make key store: %w", err)
	}
	if err := journal.Create(fsys, path.Join(dir, journalDir)); err != nil {
		return fmt.Errorf("make journal: %w", err)
	}
	for _, name := range []string{checkpointFile, treeFile} {
		f, err := fsys.Create(path.Join(dir, name))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	text, err := json.Marshal(Book{Format: 1, Origin: origin, Created: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	// book.json comes last: a book without it was never finished.
	f, err := fsys.Create(path.Join(dir, bookFile))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(append(text, '\n'), 0)
	return errors.Join(err, f.Sync(), f.Close(), fsys.SyncDir(dir))
}

func readBook(fsys vfs.FS, dir string) (Book, error) {
	var b Book
	f, err := fsys.Open(path.Join(dir, bookFile))
	if err != nil {
		return b, fmt.Errorf("no book in %s (make one with gatebook init): %w", dir, err)
	}
	defer func() { _ = f.Close() }()
	text, err := readAll(f)
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return b, fmt.Errorf("%s: %w", bookFile, err)
	}
	if b.Format != 1 {
		return b, fmt.Errorf("%s: format %d, this program knows 1", bookFile, b.Format)
	}
	return b, nil
}

func readAll(f vfs.File) ([]byte, error) {
	size, err := f.Size()
	if err != nil || size == 0 {
		return nil, err
	}
	text := make([]byte, size)
	_, err = f.ReadAt(text, 0)
	return text, err
}

// Open opens a book, mends what a crash left behind, and records the start.
// The caller holds the directory's lock.
func Open(ctx context.Context, fsys vfs.FS, dir string, o Options) (*Ledger, error) {
	if o.Heartbeat == 0 {
		o.Heartbeat = DefaultHeartbeat
	}
	book, err := readBook(fsys, dir)
	if err != nil {
		return nil, err
	}
	if o.Signer.Name() != book.Origin {
		return nil, fmt.Errorf("the log key is of %q, the book of %q", o.Signer.Name(), book.Origin)
	}
	l := &Ledger{
		fs: fsys, dir: dir, book: book, opt: o, boot: evidence.NewID(),
		sessions: make(map[evidence.ID]span), seen: make(map[evidence.Pseudonym]bool),
	}
	if l.epoch, err = seal.Derive(o.KEK, "pseudonyms of "+book.Origin); err != nil {
		return nil, err
	}
	if l.keys, err = seal.OpenStore(fsys, path.Join(dir, keysFile), o.KEK); err != nil {
		return nil, err
	}
	if err := l.recover(ctx); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return l, nil
}

// release closes what Open opened.
func (l *Ledger) release() error {
	var errs []error
	if l.log != nil {
		errs = append(errs, l.log.Close())
	}
	if l.tree != nil {
		errs = append(errs, l.tree.close())
	}
	if l.cps != nil {
		errs = append(errs, l.cps.close())
	}
	return errors.Join(append(errs, l.keys.Close())...)
}

// Close records the stop, makes a last checkpoint, and closes the files.
func (l *Ledger) Close(ctx context.Context, cause string) error {
	e := audit.NewClosing(evidence.KindStop, &evidence.Stop{BootID: l.boot.String(), Cause: cause})
	receipt, err := l.Control(e)
	if err == nil {
		err = receipt.Wait(ctx)
	}
	if err == nil {
		_, err = l.Checkpoint(ctx)
	}
	return errors.Join(err, l.release())
}

// BootID implements enforce.Recorder.
func (l *Ledger) BootID() evidence.ID { return l.boot }

// Origin names the book.
func (l *Ledger) Origin() string { return l.book.Origin }

// Err implements enforce.Recorder. A key store that stopped closes the gate as
// a journal does: nobody could be let in, and only a start can tell what it holds.
func (l *Ledger) Err() error {
	if err := l.log.Err(); err != nil {
		return err
	}
	return l.keys.Err()
}

// Stats returns the journal's figures.
func (l *Ledger) Stats() journal.Stats { return l.log.Stats() }

// SyncMode returns the name of the mode in force.
func (l *Ledger) SyncMode() string {
	switch {
	case l.opt.Journal.Mode == journal.SyncInsecureInterval:
		return "insecure_interval"
	case l.opt.Release:
		return "release"
	}
	return "always"
}

// Control implements enforce.Recorder.
func (l *Ledger) Control(e *audit.Event) (enforce.Receipt, error) {
	return l.append(l.key, &evidence.Header{}, e)
}

// append seals an event and gives it its place in the order.
func (l *Ledger) append(key *seal.Key, h *evidence.Header, e *audit.Event) (enforce.Receipt, error) {
	if len(e.Meta)+len(e.Raw) >= seal.MaxBody {
		// It could be written where it compresses well, and never be opened.
		return nil, fmt.Errorf("%s entry of %d bytes: %w", e.Kind, len(e.Meta)+len(e.Raw), journal.ErrTooLarge)
	}
	buf := l.sealed.get()
	defer l.sealed.put(buf)
	sealed, commit, n := key.Seal((*buf)[:0], e.Meta, e.Raw)
	*buf = sealed
	h.Kind, h.Exchange, h.Decision, h.Commit, h.BodyLen = e.Kind, e.Exchange, e.Decision, commit, n
	class := journal.Ordinary
	if e.Closing {
		class = journal.Closing
	}
	ticket, err := l.log.Append(class, func(dst []byte, seq journal.Seq) []byte {
		return l.place(dst, uint64(seq), h, sealed)
	})
	if err != nil {
		l.takeBack(h)
		return nil, err
	}
	return ticket, nil
}

// takeBack forgets what place noted of a session's begin or end that the
// journal then refused.
func (l *Ledger) takeBack(h *evidence.Header) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch h.Kind {
	case evidence.KindSession:
		delete(l.sessions, h.Session)
	case evidence.KindSessionEnd:
		if s, known := l.sessions[h.Session]; known {
			s.end = 0
			l.sessions[h.Session] = s
		}
	case evidence.KindConfig:
		if n := len(l.configs); n > 0 && l.configs[n-1] == h.Index {
			l.configs = l.configs[:n-1]
		}
	}
}

// place writes an entry as the journal's payload number index and notes its
// leaf. It is called with the journal's queue lock held.
func (l *Ledger) place(dst []byte, index uint64, h *evidence.Header, sealed []byte) []byte {
	h.Index = index
	h.Time = time.Now()
	l.mu.Lock()
	if h.Time.Before(l.lastTime) {
		h.Time = l.lastTime // time never runs backwards within a book
	}
	l.lastTime = h.Time
	line := evidence.AppendHeader(l.line[:1], h)
	// An append can still be refused after this, and its index is then used
	// again: the leaf takes the index's place, whatever stood there.
	l.leaves = append(l.leaves[:index-l.first], leafHash(line))
	switch h.Kind {
	case evidence.KindSession:
		if _, open := l.sessions[h.Session]; !open {
			l.sessions[h.Session] = span{first: index}
		}
	case evidence.KindSessionEnd:
		// It counts as open until a checkpoint covers its end: a crash may
		// lose the end, and the next start must then find the session.
		if s, known := l.sessions[h.Session]; known {
			s.end = index
			l.sessions[h.Session] = s
		}
	case evidence.KindConfig:
		l.configs = append(l.configs, index)
	}
	line = line[1:]
	dst = append(dst, byte(len(line)), byte(len(line)>>8))
	dst = append(dst, line...)
	l.mu.Unlock()
	return append(dst, sealed...)
}

// OpenSession implements enforce.Recorder.
func (l *Ledger) OpenSession(p *access.Principal, t *access.Target) (enforce.SessionRecorder, error) {
	id := evidence.NewID()
	key, err := l.keys.New(id)
	if err != nil {
		return nil, err
	}
	s := &session{l: l, id: id, key: key}
	s.actor = l.pseudonym("actor", p.ID())
	s.target = l.pseudonym("target", t.Name)
	if err := l.bind(s.actor, evidence.KindPrincipal, &evidence.Principal{
		ActorID: s.actor.String(), Issuer: p.Issuer, IssuerURL: p.IssuerURL, Subject: p.Subject, Name: p.Name,
		Groups: p.Groups, Actor: p.Actor, Owner: p.Owner,
	}); err != nil {
		return nil, err
	}
	if err := l.bind(s.target, evidence.KindTarget, &evidence.Target{
		TargetID: s.target.String(), Name: t.Name, Protocol: string(t.Protocol), Address: t.Address, Labels: t.Labels,
	}); err != nil {
		return nil, err
	}
	return s, nil
}

// bind writes the entry that says what a pseudonym stands for, once a start.
func (l *Ledger) bind(p evidence.Pseudonym, kind evidence.Kind, body any) error {
	l.mu.Lock()
	known := l.seen[p]
	l.seen[p] = true
	l.mu.Unlock()
	if known {
		return nil
	}
	h := evidence.Header{}
	if kind == evidence.KindPrincipal {
		h.Actor = p
	} else {
		h.Target = p
	}
	_, err := l.append(l.key, &h, audit.New(kind, body))
	if err != nil {
		l.mu.Lock()
		delete(l.seen, p)
		l.mu.Unlock()
	}
	return err
}

// session implements enforce.SessionRecorder.
type session struct {
	l      *Ledger
	id     evidence.ID
	key    *seal.Key
	actor  evidence.Pseudonym
	target evidence.Pseudonym
}

func (s *session) ID() evidence.ID              { return s.id }
func (s *session) ActorID() evidence.Pseudonym  { return s.actor }
func (s *session) TargetID() evidence.Pseudonym { return s.target }
func (s *session) Close()                       {}

func (s *session) Append(e *audit.Event) (enforce.Receipt, error) {
	return s.l.append(s.key, &evidence.Header{Session: s.id, Actor: s.actor, Target: s.target}, e)
}

// Entries returns the number of durable entries.
func (l *Ledger) Entries() uint64 { return uint64(l.log.Durable()) }
