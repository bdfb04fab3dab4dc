package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

const (
	// catalogAge is how old a catalog may be before a log-in asks for changes.
	catalogAge = 2 * time.Second
	// catalogIdle is how long the connection for it stays open without sessions.
	catalogIdle = 30 * time.Second
	// catalogWait bounds one reading.
	catalogWait = 30 * time.Second
)

// textCatalogVersion changes when a definition that the catalog holds changes: rows come, go, or are written by another
// transaction. Each row counts: the transaction that commits last need not be the one that began last.
var textCatalogVersion = func() string {
	const of = `SELECT '%[1]s' || count(*) || ':' || coalesce(sum(hashint8extended(xmin::text::bigint, %[2]s::bigint)), 0) AS v FROM %[1]s`
	keys := map[string]string{
		"pg_index": "indexrelid", "pg_inherits": "inhrelid", "pg_partitioned_table": "partrelid", "pg_range": "rngtypid",
		"pg_attribute": "(attrelid::bigint << 16 | attnum)",
	}
	var parts []string
	for _, table := range strings.Fields(`pg_class pg_proc pg_operator pg_type pg_cast pg_rewrite pg_trigger pg_policy pg_constraint pg_attrdef pg_namespace
		pg_extension pg_opclass pg_statistic_ext pg_index pg_inherits pg_partitioned_table pg_range pg_attribute`) {
		parts = append(parts, fmt.Sprintf(of, table, cmp.Or(keys[table], "oid")))
	}
	return "SELECT string_agg(v, ',') FROM (" + strings.Join(parts, " UNION ALL ") + ") x"
}()

// databases are the databases of the targets that sessions are connected to.
type databases struct {
	gate  *enforce.Gate
	limit int
	// scans are shared by all: what a text says does not depend on a database.
	scans *sqlscan.Cache[*sqlscan.Scan]
	// written are texts with names as they are written, for targets without a catalog.
	written *sqlscan.Cache[*understood]
	// unknown are texts at a target whose definitions cannot be read.
	unknown *sqlscan.Cache[*understood]

	mu  sync.Mutex
	all map[databaseKey]*database
}

type databaseKey struct{ target, role, name string }

// database is one database as a role of a target sees it, and what the gateway knows of its definitions.
type database struct {
	of  *databases
	key databaseKey
	// known is what its names stand for; nil while that is not known.
	known   atomic.Pointer[definitions]
	looked  atomic.Int64 // unix nanoseconds of the last refresh that was begun
	checked atomic.Int64 // unix nanoseconds of the begin of the last one that succeeded
	pins    pins

	mu    sync.Mutex // held while the catalog is read
	users int        // guarded by databases.mu
	read  time.Time  // when known was found to be true
	s     *enforce.Session
	u     *upstream
	idle  *time.Timer
}

// definitions is a catalog with what texts do by it. It is immutable but for its caches.
type definitions struct {
	version string
	catalog *sqlscan.Catalog
	texts   *sqlscan.Cache[*understood]
	pins    *pins // of the database

	mu    sync.Mutex
	plans map[*mask.Set]*plans // guarded by mu
}

func newDatabases(gate *enforce.Gate, limit int) *databases {
	l := &databases{
		gate: gate, limit: limit, all: map[databaseKey]*database{},
		scans: &sqlscan.Cache[*sqlscan.Scan]{Bytes: 8 << 20, Make: sqlscan.Analyse},
	}
	l.written = &sqlscan.Cache[*understood]{Bytes: 1 << 20, Make: func(text string) *understood { return understand(text, l.scans.Get(text)) }}
	l.unknown = &sqlscan.Cache[*understood]{Bytes: 1 << 20, Make: func(text string) *understood { return blind(text, l.scans.Get(text)) }}
	return l
}

// join returns a session's database with its definitions read. leave must be called for it.
func (l *databases) join(ctx context.Context, s *enforce.Session, role, name string) (*database, error) {
	key := databaseKey{s.Target().Name, role, name}
	l.mu.Lock()
	db := l.all[key]
	if db == nil {
		db = &database{of: l, key: key}
		l.all[key] = db
	}
	db.users++
	l.mu.Unlock()
	if err := db.refresh(ctx, catalogAge); err != nil {
		db.leave()
		return nil, err
	}
	return db, nil
}

// leave ends a session's use. The connection is closed when nobody has used the database for a while.
func (db *database) leave() {
	db.of.mu.Lock()
	db.users--
	last := db.users == 0
	db.of.mu.Unlock()
	if last {
		db.mu.Lock()
		defer db.mu.Unlock()
		if db.idle != nil {
			db.idle.Stop()
		}
		db.idle = time.AfterFunc(catalogIdle, db.forget)
	}
}

// forget closes the connection of a database that nobody uses.
func (db *database) forget() {
	db.of.mu.Lock()
	used := db.users > 0
	if !used {
		delete(db.of.all, db.key)
	}
	db.of.mu.Unlock()
	if !used {
		db.mu.Lock()
		defer db.mu.Unlock()
		db.hangUp(nil)
	}
}

// refresh makes sure that the definitions are not older than age. On failure they are not known any more.
func (db *database) refresh(ctx context.Context, age time.Duration) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.known.Load() != nil && age > 0 && time.Since(db.read) < age {
		return nil
	}
	// Others wait for the same reading: it goes on when the agent whose log-in began it leaves.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), catalogWait)
	defer stop()
	reused := db.u != nil
	err := db.readLocked(ctx)
	if err != nil && reused && ctx.Err() == nil {
		err = db.readLocked(ctx) // the old connection was broken
	}
	if err != nil {
		db.known.Store(nil)
		return fmt.Errorf("the target's definitions cannot be read: %w", err)
	}
	return nil
}

func (db *database) readLocked(ctx context.Context) (err error) {
	began := time.Now()
	defer func() {
		if err != nil {
			db.hangUp(err)
		}
	}()
	if err := db.dial(ctx); err != nil {
		return err
	}
	unstop := context.AfterFunc(ctx, func() { _ = db.u.conn.SetDeadline(past) })
	defer unstop()
	rows, err := db.u.own(ctx, db.s, textCatalogVersion)
	if err != nil {
		return err
	}
	if len(rows) != 1 || len(rows[0]) != 1 || rows[0][0] == "" {
		return errors.New("the target does not say which definitions it has")
	}
	version := rows[0][0]
	if known := db.known.Load(); known == nil || known.version != version {
		catalog, err := readCatalog(ctx, db.s, db.u)
		if err != nil {
			return err
		}
		db.known.Store(newDefinitions(version, catalog, db.of.scans, &db.pins))
	}
	db.read = began
	db.checked.Store(began.UnixNano())
	db.looked.Store(began.UnixNano())
	return nil
}

// age is how long ago the definitions were known to be true.
func (db *database) age() time.Duration {
	return time.Duration(time.Now().UnixNano() - db.checked.Load())
}

// stale reports whether the definitions have not been looked at for longer than age, and notes that they will be now.
func (db *database) stale(age time.Duration) bool {
	last := db.looked.Load()
	now := time.Now().UnixNano()
	return now-last > int64(age) && db.looked.CompareAndSwap(last, now)
}

func newDefinitions(version string, catalog *sqlscan.Catalog, scans *sqlscan.Cache[*sqlscan.Scan], p *pins) *definitions {
	d := &definitions{version: version, catalog: catalog, pins: p}
	d.texts = &sqlscan.Cache[*understood]{Bytes: 4 << 20, Make: func(text string) *understood {
		return understand(text, catalog.Resolve(scans.Get(text), nil))
	}}
	return d
}

// dial opens the gateway's own session at the target, if there is none.
func (db *database) dial(ctx context.Context) error {
	if db.s != nil && db.s.Context().Err() != nil {
		db.hangUp(nil)
	}
	if db.u != nil {
		return nil
	}
	s, err := db.of.gate.System(context.WithoutCancel(ctx), db.key.target, db.key.role, "catalog")
	if err != nil {
		return err
	}
	u, err := login(ctx, s, db.key.name, map[string]string{"application_name": "gatebook catalog", "search_path": ""}, db.of.limit)
	if err != nil {
		_ = s.Close(err)
		return err
	}
	db.s, db.u = s, u
	// A shutdown waits for every session's end.
	context.AfterFunc(s.Context(), func() {
		db.mu.Lock()
		defer db.mu.Unlock()
		if db.s == s {
			db.hangUp(context.Cause(s.Context()))
		}
	})
	return u.reached(ctx, s)
}

// hangUp closes the connection. Callers hold db.mu.
func (db *database) hangUp(cause error) {
	if db.u != nil {
		_ = db.u.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = db.u.conn.Write([]byte{'X', 0, 0, 0, 4})
		_ = db.u.conn.Close()
		db.u = nil
	}
	if s := db.s; s != nil {
		db.s = nil
		_ = s.Close(cause)
	}
}
