package index

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// maxValue is the largest text or blob that a query can make, in bytes. Some
// functions take time in the square of it and cannot be interrupted.
const maxValue = 256 << 10

// limits bound what a query can make SQLite allocate and plan
// (https://www.sqlite.org/security.html).
var limits = [...]struct {
	id, value int
}{
	{sqlite3.SQLITE_LIMIT_LENGTH, maxValue},
	{sqlite3.SQLITE_LIMIT_SQL_LENGTH, 64 << 10},
	{sqlite3.SQLITE_LIMIT_COLUMN, 120},
	{sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100},
	{sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 20},
	{sqlite3.SQLITE_LIMIT_VDBE_OP, 25_000},
	{sqlite3.SQLITE_LIMIT_FUNCTION_ARG, 127},
	{sqlite3.SQLITE_LIMIT_ATTACHED, 0},
	{sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200},
	{sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 20},
	{sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1},
	{sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0},
}

// functions are what a query may call. Left out: what loads code, makes
// files, or takes time in the square of its input without a replacement (replaced ones
// are in newDriver).
const functions = `abs avg bm25 ceil ceiling char coalesce concat concat_ws count cume_dist current_date current_time
	current_timestamp date datetime dense_rank exp first_value floor format glob group_concat hex highlight ifnull iif if
	instr json json_array json_array_length json_each json_error_position json_extract json_group_array json_group_object
	json_object json_quote json_tree json_type json_valid julianday lag last_value lead length like ln log log10 log2 lower
	ltrim match max median min mod ntile nth_value nullif octet_length percent_rank percentile percentile_cont percentile_disc
	pow power printf quote random rank replace round row_number rtrim sign snippet sqrt strftime string_agg substr substring
	sum time timediff total trim trunc typeof unicode unixepoch upper -> ->>`

// guard is the authorizer of one connection. SQLite calls it while it
// compiles a statement, also for those that the search table runs itself.
type guard struct {
	wrapped bool   // the statement is the one that read made
	denied  string // what was refused first
	tables  map[string]bool
	calls   map[string]bool
}

func newGuard() *guard {
	g := &guard{tables: make(map[string]bool), calls: make(map[string]bool)}
	for _, name := range strings.Fields(functions) {
		g.calls[name] = true
	}
	for _, name := range objects() {
		g.tables[name] = true
	}
	// The search table's own tables, and what lists tables and takes JSON apart.
	for _, name := range []string{
		"search_data", "search_idx", "search_docsize", "search_config", "sqlite_master", "sqlite_schema", "json_each", "json_tree",
	} {
		g.tables[name] = true
	}
	return g
}

func (g *guard) authorize(action sqlite.AuthorizerActionCode, arg1, arg2, _, _ string) sqlite.AuthorizerReturnCode {
	var what string
	switch action {
	case sqlite.AuthSelect, sqlite.AuthRecursive:
		return sqlite.AuthorizerOK
	case sqlite.AuthRead:
		// Without a column it is a name in FROM of which no column is used, which
		// may be that of a common table expression; only its rows can be counted.
		if arg2 == "" || g.tables[strings.ToLower(arg1)] {
			return sqlite.AuthorizerOK
		}
		what = "the table " + arg1 + " cannot be read here"
	case sqlite.AuthFunction:
		name := strings.ToLower(arg2)
		if g.calls[name] || (g.wrapped && name == sinkFunc) {
			return sqlite.AuthorizerOK
		}
		what = "the function " + name + " cannot be used here"
	case sqlite.AuthPragma:
		// The search table asks for this one to see whether it changed.
		if strings.EqualFold(arg1, "data_version") && arg2 == "" {
			return sqlite.AuthorizerOK
		}
		what = "PRAGMA " + arg1 + " cannot be used here"
	default:
		what = "only reading is possible here"
	}
	if g.denied == "" {
		g.denied = what
	}
	return sqlite.AuthorizerDeny
}

// connectGuarded opens a connection for one query.
func (x *Index) connectGuarded(ctx context.Context) (*conn, *guard, error) {
	c, err := x.connect(ctx, x.o.Path, "ro")
	if err != nil {
		return nil, nil, err
	}
	g := newGuard()
	if err := x.guarded(ctx, c, g); err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return c, g, nil
}

func (x *Index) guarded(ctx context.Context, c *conn, g *guard) error {
	dir := filepath.Dir(x.o.Path)
	// The directory is the process's, and deprecated, but the only way to keep
	// plain text out of /tmp; another index in this process would set its own,
	// which is as private.
	if !strings.Contains(dir, "'") {
		if err := c.exec(ctx, "PRAGMA temp_store_directory='"+dir+"'"); err != nil {
			return err
		}
	}
	for _, pragma := range []string{
		"trusted_schema=OFF", "query_only=ON", "cell_size_check=ON", "temp_store=FILE", "cache_size=-8000", "mmap_size=0", "busy_timeout=2000",
	} {
		if err := c.exec(ctx, "PRAGMA "+pragma); err != nil {
			return err
		}
	}
	// Opening the search table now is not yet subject to the limits.
	if err := c.exec(ctx, "SELECT rowid FROM search LIMIT 0"); err != nil {
		return err
	}
	if err := c.limit(ctx, x.driver); err != nil {
		return err
	}
	return c.c.RegisterAuthorizer(g.authorize)
}

// newDriver returns a driver whose connections have our functions: the row
// sink, and linear replacements of functions that take time in the square of their input.
func (x *Index) newDriver() (*sqlite.Driver, error) {
	d := &sqlite.Driver{}
	pure := map[string]*sqlite.FunctionImpl{
		"instr":   {NArgs: 2, Deterministic: true, Scalar: instr},
		"replace": {NArgs: 3, Deterministic: true, Scalar: replace},
		"trim":    {NArgs: 2, Deterministic: true, Scalar: trimmer(strings.Trim)},
		"ltrim":   {NArgs: 2, Deterministic: true, Scalar: trimmer(strings.TrimLeft)},
		"rtrim":   {NArgs: 2, Deterministic: true, Scalar: trimmer(strings.TrimRight)},
		sinkFunc:  {NArgs: -1, Scalar: x.take},
	}
	for _, name := range slices.Sorted(maps.Keys(pure)) {
		if err := d.RegisterFunction(name, pure[name]); err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
	}
	return d, nil
}

// asText is SQLite's conversion of a value to text.
func asText(v driver.Value) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", false
	case string:
		return v, true
	case []byte:
		return string(v), true
	}
	return fmt.Sprint(v), true
}

func texts(args []driver.Value) ([]string, bool) {
	out := make([]string, len(args))
	for i, a := range args {
		var ok bool
		if out[i], ok = asText(a); !ok {
			return nil, false
		}
	}
	return out, true
}

func instr(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
	s, ok := texts(args)
	if !ok {
		return nil, nil
	}
	i := strings.Index(s[0], s[1])
	if i < 0 {
		return int64(0), nil
	}
	return int64(len([]rune(s[0][:i])) + 1), nil
}

func replace(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
	s, ok := texts(args)
	if !ok {
		return nil, nil
	}
	if s[1] == "" {
		return s[0], nil
	}
	if grown := len(s[0]) + strings.Count(s[0], s[1])*(len(s[2])-len(s[1])); grown > maxValue {
		return nil, errors.New("string or blob too big")
	}
	return strings.ReplaceAll(s[0], s[1], s[2]), nil
}

func trimmer(trim func(s, set string) string) func(*sqlite.FunctionContext, []driver.Value) (driver.Value, error) {
	return func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		s, ok := texts(args)
		if !ok {
			return nil, nil
		}
		if len(s[1]) > 256 {
			return nil, errors.New("more than 256 bytes to trim")
		}
		return trim(s[0], s[1]), nil
	}
}
