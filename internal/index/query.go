package index

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Limits bound one query. Zero fields take the defaults.
type Limits struct {
	Rows int           // default DefaultRows; more rows end the query with ErrLimit
	Time time.Duration // default DefaultTime
	// TempBytes is how much the disk's free space may shrink while the query
	// runs, before it is taken for the query's doing; default DefaultTempBytes.
	TempBytes uint64
}

// Defaults of Limits.
const (
	DefaultRows      = 10_000
	DefaultTime      = 10 * time.Second
	DefaultTempBytes = 512 << 20
)

// maxQueries is how many queries run at a time; others wait for their turn.
const maxQueries = 4

var (
	// ErrQuery is matched when a query was refused or is wrong.
	ErrQuery = errors.New("query refused")
	// ErrLimit is matched when a query was stopped by one of its limits.
	ErrLimit = errors.New("query stopped")
)

// RowFunc gets a query's rows. The slices are valid until it returns; values
// are nil, int64, float64, string or []byte. Its error ends the query and is
// returned. It is called with no row (nil) when the query found none, so that
// the columns are known.
type RowFunc func(columns []string, row []any) error

// Query runs one SELECT of an auditor. The text is not trusted: it gets a
// connection of its own that can only read, names the views, the search table
// and a list of functions, and is bounded in time, rows, memory and temporary
// space. It does not wait for Follow, nor Follow for it.
func (x *Index) Query(ctx context.Context, sql string, l Limits, each RowFunc) error {
	sql, err := single(sql)
	if err != nil {
		return err
	}
	return x.read(ctx, sql, nil, l, each)
}

// single returns the one statement of a text, without what surrounds it.
func single(sql string) (string, error) {
	if strings.IndexByte(sql, 0) >= 0 {
		return "", fmt.Errorf("%w: the text holds a NUL character", ErrQuery)
	}
	start, end, more := statementBounds(sql)
	if more {
		return "", fmt.Errorf("%w: more than one statement", ErrQuery)
	}
	sql = sql[start:end]
	word := sql
	if i := strings.IndexFunc(sql, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' }); i >= 0 {
		word = sql[:i]
	}
	switch strings.ToUpper(word) {
	case "SELECT", "WITH", "VALUES":
		return sql, nil
	case "":
		return "", fmt.Errorf("%w: no statement", ErrQuery)
	}
	return "", fmt.Errorf("%w: %.20q: only SELECT, WITH … SELECT and VALUES can be used here", ErrQuery, strings.ToUpper(word))
}

// statementBounds finds the first statement, as SQLite's tokenizer sees it
// (https://www.sqlite.org/lang.html), and whether another follows its semicolon.
// A mistake here would not let anything through: each statement is authorized.
func statementBounds(sql string) (start, end int, more bool) {
	start = -1
	done := false
	for i := 0; i < len(sql); {
		c := sql[i]
		n := 1
		switch {
		case strings.IndexByte(" \t\r\n\f", c) >= 0:
			i++
			continue
		case strings.HasPrefix(sql[i:], "--"):
			if n = strings.IndexByte(sql[i:], '\n'); n < 0 {
				n = len(sql) - i
			}
			i += n
			continue
		case strings.HasPrefix(sql[i:], "/*"):
			if n = strings.Index(sql[i+2:], "*/"); n < 0 {
				return max(start, 0), end, false
			}
			i += n + 4
			continue
		case c == ';':
			done = done || start >= 0
			i++
			continue
		case c == '\'' || c == '"' || c == '`' || c == '[':
			closing := c
			if c == '[' {
				closing = ']'
			}
			// A doubled quote ends one token here and begins the next.
			if n = strings.IndexByte(sql[i+1:], closing); n < 0 {
				n = len(sql) - i
			} else {
				n += 2
			}
		}
		if done {
			return start, end, true
		}
		if start < 0 {
			start = i
		}
		i += n
		end = i
	}
	return max(start, 0), end, false
}

// sink is where the rows of a running query go.
type sink struct {
	columns []string
	each    RowFunc
	limit   int
	rows    int
	err     error // why the query was ended from here
}

// sinkFunc is the name of the function that takes rows. It is registered on
// every connection, and authorized for the statement that read puts around a query only.
const sinkFunc = "gatebook_row"

// take gets one row from SQLite: the sink's number and the values.
func (x *Index) take(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
	id, _ := args[0].(int64)
	v, ok := x.sinks.Load(id)
	if !ok {
		return nil, errors.New("no such sink")
	}
	s := v.(*sink)
	if s.rows == s.limit {
		s.err = fmt.Errorf("%w: more than %d rows", ErrLimit, s.limit)
		return nil, s.err
	}
	s.rows++
	row := make([]any, len(args)-1)
	for i, a := range args[1:] {
		if b, ok := a.([]byte); ok {
			a = slices.Clone(b)
		}
		row[i] = a
	}
	if s.err = s.each(s.columns, row); s.err != nil {
		return nil, s.err
	}
	return nil, nil
}

// read runs a query on a fresh connection. The driver can interrupt only what
// one call does, not the steps after a query's first row; so the query is
// wrapped in a statement that hands its rows to a function, which is one call.
func (x *Index) read(ctx context.Context, sql string, args []any, l Limits, each RowFunc) error {
	if l.Rows <= 0 {
		l.Rows = DefaultRows
	}
	if l.Time <= 0 {
		l.Time = DefaultTime
	}
	if l.TempBytes == 0 {
		l.TempBytes = DefaultTempBytes
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.Time, fmt.Errorf("%w: longer than %v", ErrLimit, l.Time))
	defer cancel()
	select {
	case x.slots <- struct{}{}:
		defer func() { <-x.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	x.mu.Lock()
	closed := x.closed
	x.sinkN++
	id := x.sinkN
	x.mu.Unlock()
	if closed {
		return ErrClosed
	}
	ctx, stop := x.guardSpace(ctx, l.TempBytes)
	defer stop()

	c, g, err := x.connectGuarded(ctx)
	if err != nil {
		return queryError(ctx, nil, nil, err)
	}
	defer func() { _ = c.Close() }()
	info, err := c.c.ColumnInfo(sql)
	if err != nil {
		return queryError(ctx, g, nil, err)
	}
	s := &sink{each: each, limit: l.Rows}
	names := make([]string, len(info))
	for i, column := range info {
		s.columns = append(s.columns, column.Name)
		names[i] = "c" + strconv.Itoa(i)
	}
	list := strings.Join(names, ", ")
	x.sinks.Store(id, s)
	defer x.sinks.Delete(id)
	g.wrapped = true
	// MATERIALIZED keeps SQLite from calling the function before it sorts; the
	// inner LIMIT keeps it from materializing more than is wanted.
	err = c.exec(ctx, fmt.Sprintf("WITH q (%s) AS MATERIALIZED (SELECT * FROM (%s\n) LIMIT %d) SELECT %s(%d, %s) FROM q",
		list, sql, l.Rows+1, sinkFunc, id, list), args...)
	if err != nil {
		return queryError(ctx, g, s, err)
	}
	if s.rows == 0 {
		return each(s.columns, nil)
	}
	return nil
}

// queryError says why a query failed, in words for the person who wrote it.
func queryError(ctx context.Context, g *guard, s *sink, err error) error {
	switch {
	case s != nil && s.err != nil:
		return s.err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case g != nil && g.denied != "":
		return fmt.Errorf("%w: %s", ErrQuery, g.denied)
	}
	if err := asRebuild(err); errors.Is(err, ErrRebuild) {
		return err
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return fmt.Errorf("%w: %s", ErrQuery, strings.TrimPrefix(e.Error(), "SQL logic error: "))
	case sqlite3.SQLITE_TOOBIG:
		return fmt.Errorf("%w: a value of more than %d bytes", ErrLimit, maxValue)
	case sqlite3.SQLITE_NOMEM:
		return fmt.Errorf("%w: not enough memory", ErrLimit)
	}
	return err
}

// guardSpace ends the returned context when the disk's free space shrinks by
// more than limit: sorts and joins spill to temporary files, whose size
// SQLite does not bound.
func (x *Index) guardSpace(ctx context.Context, limit uint64) (context.Context, func()) {
	dir := filepath.Dir(x.o.Path)
	before, err := x.fs.FreeBytes(dir)
	if err != nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now, err := x.fs.FreeBytes(dir)
			before = max(before, now) // what others free must not hide what this takes
			if err == nil && before-now > limit {
				cancel(fmt.Errorf("%w: more than %d MiB of temporary space", ErrLimit, limit>>20))
				return
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}
