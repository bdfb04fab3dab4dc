package index

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"

	"modernc.org/sqlite"
)

// conn is one SQLite connection. It talks to the driver directly, because the
// pool of database/sql would hide which connection a limit or an authorizer is
// set on, and costs more than the insert of a small row. It is used by one
// goroutine at a time, but Close may be called twice.
type conn struct {
	c     sqliteConn
	stmts map[string]*statement
	once  sync.Once
	// pool holds c after limit; closing it closes c.
	pool *sql.DB
}

// sqliteConn is what the driver's connections can do.
type sqliteConn interface {
	driver.Conn
	driver.ExecerContext
	driver.QueryerContext
	driver.ConnPrepareContext
	sqlite.AuthorizerRegisterer
	ColumnInfo(query string) ([]sqlite.ColumnInfo, error)
}

type sqliteStatement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// statement is a prepared statement with room for its arguments.
type statement struct {
	s    sqliteStatement
	args []driver.NamedValue
}

// connect opens the database file. mode is SQLite's: "rw" or "ro"; neither
// makes a file.
func (x *Index) connect(ctx context.Context, path, mode string) (*conn, error) {
	// A URI, because only there SQLite honours the mode.
	name := "file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=" + mode + "&_defensive=1&_dqs=0"
	dc, err := x.driver.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the index: %w", err)
	}
	c, ok := dc.(sqliteConn)
	if !ok {
		return nil, errors.Join(errors.New("open the index: the driver lacks an authorizer"), dc.Close())
	}
	return &conn{c: c, stmts: make(map[string]*statement)}, ctx.Err()
}

func (c *conn) Close() (err error) {
	c.once.Do(func() {
		for _, s := range c.stmts {
			err = errors.Join(err, s.s.Close())
		}
		if c.pool != nil {
			err = errors.Join(err, c.pool.Close())
			return
		}
		err = errors.Join(err, c.c.Close())
	})
	return err
}

// fixed is a connector of one connection that is open already.
type fixed struct {
	c sqliteConn
	d driver.Driver
}

func (f fixed) Connect(context.Context) (driver.Conn, error) { return f.c, nil }
func (f fixed) Driver() driver.Driver                        { return f.d }

// limit sets the limits of a query on the connection. The driver offers that
// through database/sql only.
func (c *conn) limit(ctx context.Context, d driver.Driver) (err error) {
	c.pool = sql.OpenDB(fixed{c.c, d})
	sc, err := c.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sc.Close()) }()
	for _, l := range limits {
		if _, err := sqlite.Limit(sc, l.id, l.value); err != nil {
			return err
		}
	}
	return nil
}

func named(args []any) []driver.NamedValue {
	out := make([]driver.NamedValue, len(args))
	for i, a := range args {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	return out
}

// exec runs a statement that returns no rows, or whose rows do not matter.
func (c *conn) exec(ctx context.Context, query string, args ...any) error {
	_, err := c.c.ExecContext(ctx, query, named(args))
	if err != nil {
		return fmt.Errorf("index: %s: %w", verb(query), err)
	}
	return nil
}

// verb is what an error says of a statement: its first words, no data.
func verb(query string) string {
	words := strings.Fields(query)
	return strings.Join(words[:min(3, len(words))], " ")
}

// prepared returns a statement that stays prepared on this connection, with
// its arguments: nil, int64, string or []byte.
func (c *conn) prepared(ctx context.Context, query string, args []any) (*statement, error) {
	st := c.stmts[query]
	if st == nil {
		s, err := c.c.PrepareContext(ctx, query)
		if err != nil {
			return nil, fmt.Errorf("index: prepare %s: %w", verb(query), err)
		}
		st = &statement{s: s.(sqliteStatement)}
		c.stmts[query] = st
	}
	st.args = st.args[:0]
	for i, a := range args {
		st.args = append(st.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return st, nil
}

// run executes a statement that returns no rows.
func (c *conn) run(ctx context.Context, query string, args ...any) error {
	st, err := c.prepared(ctx, query, args)
	if err != nil {
		return err
	}
	if _, err := st.s.ExecContext(ctx, st.args); err != nil {
		return fmt.Errorf("index: %s: %w", verb(query), err)
	}
	return nil
}

// row reads the first row of a query; nil if there is none.
func (c *conn) row(ctx context.Context, query string, args ...any) (out []driver.Value, err error) {
	st, err := c.prepared(ctx, query, args)
	if err != nil {
		return nil, err
	}
	rows, err := st.s.QueryContext(ctx, st.args)
	if err != nil {
		return nil, fmt.Errorf("index: %s: %w", verb(query), err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = make([]driver.Value, len(rows.Columns()))
	switch err := rows.Next(out); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("index: %s: %w", verb(query), err)
	}
	return out, nil
}

func (c *conn) int(ctx context.Context, query string, args ...any) (int64, error) {
	row, err := c.row(ctx, query, args...)
	if err != nil || row == nil {
		return 0, err
	}
	n, _ := row[0].(int64)
	return n, nil
}

func (c *conn) text(ctx context.Context, query string, args ...any) (string, error) {
	row, err := c.row(ctx, query, args...)
	if err != nil || row == nil {
		return "", err
	}
	s, _ := row[0].(string)
	return s, nil
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
