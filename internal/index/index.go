// Package index keeps query tables in an embedded SQLite database, derived
// from the book's entries: what the console lists, what the command line shows
// and what auditors ask in SQL.
//
// The database is a plaintext cache. It never holds a token, a byte of an
// answer, an error text of a target or a statement's parameters, and with
// Options.Text off no statement text either. It lies in a directory of its own
// (0700, files 0600, with a CACHEDIR.TAG so that backups leave it out) and
// overwrites what it deletes. Everything in it can be made again from the
// journal, so its writes are not synced one by one, and whatever is wrong with
// its files is answered by ErrRebuild. The gate never waits for it.
//
// The views are a stable interface and are described in docs/query.md; the
// tables under them are not.
//
// An Index is safe for concurrent use. One process at a time may follow.
package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/gatebook/gatebook/internal/vfs"
)

// ErrRebuild is matched when the index cannot be used as it is: its files are
// damaged, were made by another version or with other options, or belong to
// another book or to entries that the book does not hold any more.
var ErrRebuild = errors.New("the index must be made again: run gatebook index rebuild")

// ErrClosed is returned by an index that was closed.
var ErrClosed = errors.New("index: closed")

// rebuild wraps a reason so that it matches ErrRebuild.
func rebuild(format string, args ...any) error {
	return fmt.Errorf("%w (%w)", ErrRebuild, fmt.Errorf(format, args...))
}

// Options are what Open and Rebuild need.
type Options struct {
	// Path is the database file. Its directory must be the index's own: it is
	// tagged as a cache, which backup programs leave out.
	Path string
	// Origin names the book. An index of another book is refused. Empty: not compared.
	Origin string
	// Text keeps statement text in the index. Changing it asks for a rebuild.
	Text bool
	// MaxBytes bounds the database file; 0 is no bound. An index that is full
	// stops following.
	MaxBytes int64
	// Share, if not nil, is asked before each batch which part of the time
	// Follow may work, above 0 and at most 1; between batches it rests for the
	// other part, at most until its wake says otherwise.
	Share func() float64
	// Log gets what the index has to say besides errors; nil is silent.
	Log *slog.Logger
}

// Names of the files in the index's directory, after the database's own.
const (
	cacheTag  = "CACHEDIR.TAG"
	newSuffix = ".new" // a rebuild that is under way
)

// cacheTagText begins with the signature of the Cache Directory Tagging
// Specification (https://bford.info/cachedir/).
const cacheTagText = "Signature: 8a477f597d28d172789f06886806bc55\n" +
	"# This directory holds an index that is made from the book by: gatebook index rebuild\n"

// quickCheckBytes is the largest database that Open reads through. A larger
// one would hold up the start; damage in it shows when it is met.
const quickCheckBytes = 16 << 20

// Index is an open index.
type Index struct {
	o      Options
	fs     vfs.FS
	driver *sqlite.Driver
	sinks  sync.Map // int64 to *sink: running queries
	slots  chan struct{}

	follow sync.Mutex // held while entries are taken in; taken before mu

	mu     sync.Mutex
	w      *conn // nil once closed
	st     state
	closed bool
	sinkN  int64
}

// Book says which entries an index stands for.
type Book struct {
	Origin string // of the book; "" while nothing was indexed and none was given
	Next   uint64 // index of the first entry that is not in
	// Digest is the leaf hash of the header of entry Next-1, in hexadecimal;
	// "" when Next is 0.
	Digest string
}

// Open opens an index, or makes an empty one where there is none. The error
// matches ErrRebuild when there is one that cannot be used.
func Open(ctx context.Context, o Options) (*Index, error) {
	if err := prepareDir(vfs.OS(), o.Path); err != nil {
		return nil, err
	}
	return open(ctx, o)
}

// open is Open in a directory that is prepared.
func open(ctx context.Context, o Options) (*Index, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	fsys := vfs.OS()
	size, err := prepareFile(fsys, o.Path)
	if err != nil {
		return nil, err
	}
	x := &Index{o: o, fs: fsys, slots: make(chan struct{}, maxQueries)}
	if x.driver, err = x.newDriver(); err != nil {
		return nil, err
	}
	if x.w, err = x.openWriter(ctx, size); err != nil {
		return nil, err
	}
	return x, nil
}

// prepareDir makes the index's directory and its tag.
func prepareDir(fsys vfs.FS, path string) error {
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("make the index's directory: %w", err)
	}
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("read the index's directory: %w", err)
	}
	tagged := false
	for _, name := range names {
		switch {
		case name == cacheTag:
			tagged = true
		case strings.HasPrefix(name, base) || strings.HasPrefix(name, "etilqs_"):
		default:
			// The tag would take that file out of backups too.
			return fmt.Errorf("the index's directory %s holds %s: it must be a directory of its own", dir, name)
		}
	}
	if tagged {
		return nil
	}
	f, err := fsys.Create(filepath.Join(dir, cacheTag))
	if err != nil {
		return fmt.Errorf("tag the index's directory: %w", err)
	}
	_, err = f.WriteAt([]byte(cacheTagText), 0)
	return errors.Join(err, f.Close())
}

// prepareFile makes the database file, empty, where there is none, and returns
// its size. SQLite gives its other files the mode of this one.
func prepareFile(fsys vfs.FS, path string) (int64, error) {
	f, err := fsys.Open(path)
	if err != nil {
		// A log without its database belongs to one that is gone.
		for _, suffix := range []string{"-wal", "-shm", "-journal"} {
			_ = fsys.Remove(path + suffix)
		}
		if f, err = fsys.Create(path); err != nil {
			return 0, fmt.Errorf("make the index: %w", err)
		}
	}
	size, err := f.Size()
	return size, errors.Join(err, f.Close())
}

// openWriter opens the connection that writes, and makes or checks the schema.
func (x *Index) openWriter(ctx context.Context, size int64) (*conn, error) {
	w, err := x.connect(ctx, x.o.Path, "rw")
	if err != nil {
		return nil, asRebuild(err)
	}
	err = x.setUp(ctx, w, size)
	if err == nil {
		return w, nil
	}
	return nil, asRebuild(errors.Join(err, w.Close()))
}

func (x *Index) setUp(ctx context.Context, w *conn, size int64) error {
	for _, pragma := range []string{
		"busy_timeout=5000", "trusted_schema=OFF", "secure_delete=ON", "cell_size_check=ON",
		"temp_store=MEMORY", "cache_size=-32000",
	} {
		if err := w.exec(ctx, "PRAGMA "+pragma); err != nil {
			return err
		}
	}
	if size == 0 {
		if err := x.create(ctx, w); err != nil {
			return err
		}
	}
	if err := x.check(ctx, w, size); err != nil {
		return err
	}
	// NORMAL is enough for a file that is derived, and unlike OFF it leaves a
	// file that a loss of power cannot damage.
	for _, pragma := range []string{"journal_mode=WAL", "synchronous=NORMAL", "journal_size_limit=67108864"} {
		if err := w.exec(ctx, "PRAGMA "+pragma); err != nil {
			return err
		}
	}
	if x.o.MaxBytes > 0 {
		page, err := w.int(ctx, "PRAGMA page_size")
		if err != nil {
			return err
		}
		return w.exec(ctx, fmt.Sprintf("PRAGMA max_page_count=%d", max(x.o.MaxBytes/page, 1)))
	}
	return nil
}

// create makes the schema in one transaction, so that a file holds all of it or nothing.
func (x *Index) create(ctx context.Context, w *conn) error {
	for _, sql := range append([]string{"PRAGMA page_size=8192", "BEGIN IMMEDIATE"}, schema()...) {
		if err := w.exec(ctx, sql); err != nil {
			return err
		}
	}
	if err := w.exec(ctx, `INSERT INTO state (id, origin, text, next, digest, last_us, last_kind, heartbeat_s)
		VALUES (1, ?, ?, 0, '', 0, '', 0)`, x.o.Origin, flag(x.o.Text)); err != nil {
		return err
	}
	return w.exec(ctx, "COMMIT")
}

// check compares what the file says of itself with what this program makes.
func (x *Index) check(ctx context.Context, w *conn, size int64) error {
	id, err := w.int(ctx, "PRAGMA application_id")
	if err != nil {
		return err
	}
	version, err := w.int(ctx, "PRAGMA user_version")
	if err != nil {
		return err
	}
	if id != applicationID || version != schemaVersion {
		return rebuild("it is of version %d, this program makes %d", version, schemaVersion)
	}
	have, err := w.text(ctx, "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_schema WHERE name IN "+
		"(SELECT value FROM json_each(?)) ORDER BY name)", schemaNames())
	if err != nil {
		return err
	}
	if have != schemaFingerprint() {
		return rebuild("its tables are not the ones this program makes")
	}
	if size > 0 && size <= quickCheckBytes {
		found, err := w.text(ctx, "PRAGMA quick_check(1)")
		if err != nil {
			return err
		}
		if found != "ok" {
			return rebuild("damaged: %s", found)
		}
	}
	if x.st, err = readState(ctx, w); err != nil {
		return err
	}
	switch {
	case x.o.Origin != "" && x.st.Origin != "" && x.st.Origin != x.o.Origin:
		return rebuild("it is of the book %q, this one is %q", x.st.Origin, x.o.Origin)
	case x.st.Text != x.o.Text:
		return rebuild("it was made with statement text %s", map[bool]string{true: "on", false: "off"}[x.st.Text])
	}
	if x.st.Origin == "" {
		x.st.Origin = x.o.Origin
	}
	return nil
}

// asRebuild makes SQLite's reports of damage match ErrRebuild.
func asRebuild(err error) error {
	var e *sqlite.Error
	if err == nil || errors.Is(err, ErrRebuild) || !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_SCHEMA:
		return rebuild("%w", err)
	}
	return err
}

// Book returns which entries are in.
func (x *Index) Book() Book {
	x.mu.Lock()
	defer x.mu.Unlock()
	return Book{Origin: x.st.Origin, Next: x.st.Next, Digest: x.st.Digest}
}

// Next returns the index of the first entry that is not in.
func (x *Index) Next() uint64 { return x.Book().Next }

// Check reads the whole database through and returns an error that matches
// ErrRebuild if it is damaged.
func (x *Index) Check(ctx context.Context) error {
	r, err := x.connect(ctx, x.o.Path, "ro")
	if err != nil {
		return asRebuild(err)
	}
	defer func() { _ = r.Close() }()
	found, err := r.text(ctx, "PRAGMA integrity_check(1)")
	if err == nil && found != "ok" {
		err = rebuild("damaged: %s", found)
	}
	return asRebuild(err)
}

// Close waits for a batch that is being written and closes the files. Follow
// and CatchUp end with ErrClosed.
func (x *Index) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil
	}
	x.closed = true
	return x.w.Close()
}
