package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/testkit/bookcheck"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
)

// TestCrash takes the power away from a gateway under mixed load, hundreds of
// times, on a file layer that loses, tears and reorders what was not synced:
// half of the times at a moment that nobody chose, half in the midst of a chosen
// change to a file, which may lie in the start or in a recovery. Each time the files that are
// left are read by a second reader, which shares no code with the gateway, and
// compared with what the clients were answered and with what the database
// did: no answered request without intent and outcome, nothing done without its
// intent, nothing twice. Recovered, the book begins with what was left, every intent is
// paired, and its package verifies.
//
// GATEBOOK_CRASH_SEED repeats the seed of a failure: the same load, kinds and
// moments of crashes, and choices of the file layer, as far as the scheduler allows.
func TestCrash(t *testing.T) {
	rounds := 15
	if n, err := strconv.Atoi(os.Getenv("GATEBOOK_CRASHES")); err == nil {
		rounds = n
	}
	if testing.Short() {
		rounds = 5
	}
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("GATEBOOK_CRASH_SEED"), 10, 64); err == nil {
		seed = n
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	if _, err := database.PSQL("postgres", "DROP TABLE IF EXISTS crash; CREATE TABLE crash (id bigint PRIMARY KEY, note text); GRANT ALL ON crash TO agent"); err != nil {
		t.Fatal(err)
	}
	total := &load{table: "crash", answered: make(map[int64]answer), kinds: make(map[string]int)}
	var p *place
	for round := range rounds {
		if round%15 == 0 { // a book of its own: all of it is read after each crash
			p = newPlace(t, "")
			total.begin(t, p)
		}
		total.round(t, p, rng)
		last := round%15 == 14 || round == rounds-1
		if !t.Failed() && last {
			total.recovered(t, p)
		}
		if t.Failed() {
			t.Fatalf("round %d of GATEBOOK_CRASH_SEED=%d; the files are in %s", round, seed, keep(t, p.dir))
		}
	}
	t.Logf("seed %d: %d crashes, of them %d while starting; %d requests answered: %v", seed, rounds, total.early, total.all, total.kinds)
	if total.all < 3*rounds || total.early > rounds/2 {
		t.Errorf("%d requests were answered, %d of %d crashes came before any: there was no load", total.all, total.early, rounds)
	}
	for _, kind := range mix {
		if rounds >= 15 && total.kinds[kind] == 0 {
			t.Errorf("no request of the kind %q was answered", kind)
		}
	}
}

// keep moves a directory out of the test's own, which are removed.
func keep(t *testing.T, dir string) string {
	t.Helper()
	kept, err := os.MkdirTemp("", "gatebook-crash") //nolint:usetesting // it must outlive the test
	_ = os.Remove(dir + "/data/gatebook.sock")
	if err == nil {
		err = os.CopyFS(kept, os.DirFS(dir))
	}
	if err != nil {
		t.Log(err)
	}
	return kept
}

// mix is what clients do.
var mix = []string{"simple", "prepared", "pipeline", "copy in", "copy out", "long answer", "transaction", "error", "leave"}

// answer is what a client was told of a request.
type answer struct{ status, tag string }

// load is what the clients know, apart from the gateway.
type load struct {
	table  string
	token  string
	kek    string
	logKey string
	keys   *Keys
	from   int64 // first request to the present book
	left   *bookcheck.Book
	early  int // crashes before the gateway served

	mu       sync.Mutex
	next     int64
	all      int
	answered map[int64]answer // requests to the present book
	must     map[int64]bool   // those whose row must be there if they were answered
	kinds    map[string]int
}

// begin turns to a fresh book.
func (l *load) begin(t *testing.T, p *place) {
	t.Helper()
	keys, err := LoadKeys(p.config(t))
	if err != nil {
		t.Fatal(err)
	}
	kek, err := os.ReadFile(p.dir + "/keys/kek")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(keys.TrustFile()) {
		if key, ok := strings.CutPrefix(line, "log "); ok {
			l.logKey = strings.TrimSpace(key)
		}
	}
	l.keys, l.kek, l.token = keys, string(kek), p.issuer.Token(t, "crasher", "agents")
	l.answered, l.must, l.from, l.left = make(map[int64]answer), make(map[int64]bool), l.next, &bookcheck.Book{}
}

func (l *load) id() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	return l.next
}

func (l *load) got(kind string, id int64, a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered[id] = a
	l.must[id] = kind == "simple" || kind == "prepared" || kind == "copy in"
	l.kinds[kind]++
	l.all++
}

// round starts a gateway, puts load on it, takes its power away, and compares
// what is left.
func (l *load) round(t *testing.T, p *place, rng *rand.Rand) {
	t.Helper()
	cut := 0
	if rng.IntN(2) == 0 {
		cut = 1 + rng.IntN(1<<(5+rng.IntN(9)))
	}
	after := time.Duration(rng.IntN(500)+20) * time.Millisecond
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("GATEBOOK_TEST_CHILD=%d", rng.Uint64()), fmt.Sprintf("GATEBOOK_TEST_CUT=%d", cut),
		"GATEBOOK_TEST_CONFIG="+p.dir+"/gatebook.yaml")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var clients sync.WaitGroup
		for range 6 {
			r := rand.New(rand.NewPCG(rng.Uint64(), 2))
			clients.Go(func() { l.client(ctx, t, strings.TrimSpace(address), r) })
		}
		gone := make(chan struct{})
		go func() { _ = cmd.Wait(); close(gone) }()
		if cut > 0 {
			after = 5 * time.Second
		}
		select {
		case <-gone:
		case <-time.After(after):
			_ = cmd.Process.Kill()
			<-gone
		}
		cancel()
		clients.Wait()
	} else {
		_ = cmd.Wait()
		l.early++
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || stderr.Len() > 0 {
		t.Errorf("the gateway ended by itself (%v) and said: %s", cmd.ProcessState, stderr.String())
		return
	}
	l.compare(t, p, false)
}

// client sends requests of all kinds until the connection breaks.
func (l *load) client(ctx context.Context, t *testing.T, address string, rng *rand.Rand) {
	long := 0
	for {
		c, err := connect(ctx, address, l.token)
		if err != nil {
			return
		}
		for {
			kind := mix[rng.IntN(len(mix))]
			if kind == "long answer" {
				if long++; long > 2 {
					continue // they are slow to check
				}
			}
			err = l.request(ctx, c, kind)
			if err != nil || kind == "leave" {
				break
			}
		}
		_ = c.PgConn().Conn().Close() // without a word
		if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
			t.Errorf("a request failed: %v", err)
		}
		if err != nil {
			return
		}
	}
}

// request sends one request, or a pipeline of some, and notes the answers.
func (l *load) request(ctx context.Context, c *pgx.Conn, kind string) error {
	id := l.id()
	got := func(tag pgconn.CommandTag, err error) error {
		if err == nil {
			l.got(kind, id, answer{"ok", tag.String()})
		}
		return err
	}
	simple := func(sql string) error {
		r := c.PgConn().Exec(ctx, sql)
		var tags []string
		for r.NextResult() {
			tag, _ := r.ResultReader().Close()
			tags = append(tags, tag.String())
		}
		return got(pgconn.NewCommandTag(strings.Join(tags, "; ")), r.Close())
	}
	switch kind {
	case "simple":
		return simple(fmt.Sprintf("INSERT INTO crash VALUES (%d, 'simple') /* %d */", id, id))
	case "prepared":
		return got(c.Exec(ctx, "INSERT INTO crash VALUES ($1, 'prepared')", id))
	case "pipeline":
		b := &pgx.Batch{}
		ids := []int64{id, l.id(), l.id(), l.id()}
		for _, id := range ids {
			b.Queue("INSERT INTO crash VALUES ($1, 'pipelined')", id)
		}
		r := c.SendBatch(ctx, b)
		for _, id = range ids {
			if err := got(r.Exec()); err != nil {
				return err
			}
		}
		return r.Close()
	case "copy in":
		return got(c.PgConn().CopyFrom(ctx, strings.NewReader(fmt.Sprintf("%d\tcopy\n", id)), fmt.Sprintf("COPY crash FROM STDIN /* %d */", id)))
	case "copy out":
		return got(c.PgConn().CopyTo(ctx, io.Discard, fmt.Sprintf("COPY (SELECT repeat('c', 2000) FROM generate_series(1, 20)) TO STDOUT /* %d */", id)))
	case "long answer":
		return simple(fmt.Sprintf("SELECT repeat('x', 3000) FROM generate_series(1, 100) /* %d */", id))
	case "transaction":
		return simple(fmt.Sprintf("BEGIN; INSERT INTO crash VALUES (%d, 'block'); COMMIT /* %d */", id, id))
	case "leave":
		return simple(fmt.Sprintf("SELECT 1 /* %d */", id))
	default: // "error"
		err := simple(fmt.Sprintf("SELECT 1/0 /* %d */", id))
		if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "22012" {
			l.got(kind, id, answer{"error", ""})
			return nil
		}
		return err
	}
}

// compare reads the files as they lie there and compares the book with the
// clients and the database.
func (l *load) compare(t *testing.T, p *place, closed bool) {
	t.Helper()
	book, err := bookcheck.Read(bookcheck.OS{}, p.dir+"/data", l.kek, l.logKey)
	if err != nil {
		t.Errorf("the second reader: %v", err)
		return
	}
	if err := book.Continues(l.left); err != nil {
		t.Errorf("since the last crash: %v", err)
	}
	l.left = book
	exchanges, err := book.Exchanges(closed)
	if err != nil {
		t.Errorf("the second reader: %v", err)
	}
	asked := make(map[int64]*bookcheck.Exchange)
	for _, x := range exchanges {
		id, ok := requestID(x.Intent)
		if !ok {
			continue
		}
		if asked[id] != nil {
			t.Errorf("request %d was sent once and has two intents", id)
		}
		asked[id] = x
	}
	rows, err := database.PSQL("postgres", fmt.Sprintf("SELECT id FROM %s WHERE id > %d AND id <= %d", l.table, l.from, l.next))
	if err != nil {
		t.Fatal(err)
	}
	done := make(map[int64]bool)
	for line := range strings.Lines(rows) {
		id, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		done[id] = true
		if asked[id] == nil {
			t.Errorf("row %d is in the database, and nothing in the book asked for it", id)
		}
	}
	for id, a := range l.answered {
		switch x := asked[id]; {
		case x == nil:
			t.Errorf("request %d was answered and has no intent in the book", id)
		case x.Outcome == nil:
			t.Errorf("request %d was answered and has no outcome in the book", id)
		case x.Outcome.Text("status") != a.status || x.Outcome.Text("tag") != a.tag:
			t.Errorf("request %d was answered with %v, the book says %v", id, a, x.Outcome.Body)
		case l.must[id] && !done[id]:
			t.Errorf("request %d was answered, and its row is not in the database", id)
		}
	}
}

// recovered opens the book, exports and verifies it, and closes it in order.
func (l *load) recovered(t *testing.T, p *place) {
	t.Helper()
	book, err := OpenBook(t.Context(), p.config(t), vfs.OS(), "test", "check", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Errorf("the book does not open after the crash: %v", err)
		return
	}
	report, _ := export(t, admin.Local(book.Admin, admin.Self()), l.keys, admin.ExportRequest{})
	if err := book.Close(context.Background(), "checked"); err != nil {
		t.Error(err)
	}
	for _, x := range report.Exceptions {
		switch x.Code {
		case "crash", "outcome-unknown", "session-recovered", "gap":
		default:
			t.Errorf("exception %s: %s", x.Code, x.What)
		}
	}
	l.compare(t, p, true)
}

// requestID finds the id that the clients put into each request: in a comment,
// or as the first parameter.
func requestID(intent *bookcheck.Entry) (int64, bool) {
	if _, rest, ok := strings.Cut(intent.Text("text"), "/* "); ok {
		text, _, _ := strings.Cut(rest, " */")
		id, err := strconv.ParseInt(text, 10, 64)
		return id, err == nil
	}
	detail, _ := intent.Body["detail"].(map[string]any)
	for _, holder := range []map[string]any{intent.Body, detail} {
		params, _ := holder["params"].([]any)
		if len(params) == 0 {
			continue
		}
		first, _ := params[0].(map[string]any)
		encoded, _ := first["b64"].(string)
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err == nil && len(raw) == 8 {
			return int64(binary.BigEndian.Uint64(raw)), true
		}
	}
	return 0, false
}

// TestInitSurvives takes the power away right after gatebook init: the keys are there
// as surely as the book that they open.
func TestInitSurvives(t *testing.T) {
	t.Parallel()
	disk := crashfs.New(nil, 1)
	if err := errors.Join(disk.MkdirAll("/srv"), disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	names, err := initOn(disk, "/srv/gate", "gate.test/book")
	if err != nil {
		t.Fatal(err)
	}
	before := bookcheck.On(disk)
	for seed := range uint64(100) {
		after := disk.Crash(seed)
		for _, name := range append(names, "data/book.json", "data/keys.store", "data/checkpoints.jsonl") {
			want, err := before.Read("/srv/gate/" + name)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := bookcheck.On(after).Read("/srv/gate/" + name); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("seed %d: %s has %d bytes of %d: %v", seed, name, len(got), len(want), err)
			}
		}
		for _, sub := range []string{"targets.d", "secrets"} {
			if _, err := after.List("/srv/gate/" + sub); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}

// TestConfigIsRecordedFirst: a configuration comes into force once its record is
// durable. Where the sync fails it does not.
func TestConfigIsRecordedFirst(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	disk := faultfs.New(vfs.OS())
	book, err := OpenBook(t.Context(), p.config(t), disk, "test", "check", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a := &App{cfg: p.config(t), book: book}
	if err := a.recordConfig(t.Context(), a.cfg, &config.Approval{}, "start"); err != nil {
		t.Fatal(err)
	}
	disk.FailOp(faultfs.OpSync, faultfs.EIO, nil)
	if err := a.recordConfig(t.Context(), a.cfg, &config.Approval{}, "reload"); !errors.Is(err, journal.ErrStopped) {
		t.Errorf("a configuration whose record is not durable: %v", err)
	}
	if err := book.Close(context.Background(), "test"); err == nil {
		t.Error("the book closed as if nothing had happened")
	}
}
