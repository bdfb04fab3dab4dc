package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatebook/gatebook/internal/testkit/pgserver"
)

// Ceilings of a soak. An agent that stops reading, or a value of 1 GB, may
// cost a session's buffers and no more.
const (
	memoryBase       = 256 << 20
	memoryPerSession = 256 << 10
	goroutinesBase   = 60
	goroutinesEach   = 3 // of a connection that is open
)

// TestSoak drives the program with many sessions of mixed work and with
// agents that misbehave, and asserts throughout that memory and goroutines
// stay below a ceiling and the gate stays open; and at the end that goroutines are back where
// they began, every intent has its outcome, every answered request is in the book, and the package verifies.
//
// It is short unless `make soak` sets GATEBOOK_SOAK (how long) and
// GATEBOOK_SESSIONS (how many); only then are there values of 1 GB.
func TestSoak(t *testing.T) {
	long := os.Getenv("GATEBOOK_SOAK") != ""
	lasts, sessions := 3*time.Second, 25
	if long {
		var err error
		if lasts, err = time.ParseDuration(os.Getenv("GATEBOOK_SOAK")); err != nil {
			t.Fatal(err)
		}
		if sessions, err = strconv.Atoi(os.Getenv("GATEBOOK_SESSIONS")); err != nil {
			t.Fatal(err)
		}
	}
	s := startSoak(t, sessions, long)
	base := s.figures(t)
	t.Logf("at the start: %.0f goroutines, %.0f MiB", base.goroutines, base.memory/(1<<20))
	watching, stopWatching := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() { s.watch(watching, t) })

	began := time.Now()
	ctx, stop := context.WithTimeout(t.Context(), lasts)
	defer stop()
	var agents sync.WaitGroup
	for i := range sessions {
		agents.Go(func() { s.worker(ctx, t, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	for range max(2, sessions/50) {
		agents.Go(func() { s.repeat(ctx, t, "stop reading", s.stopReading) })
		agents.Go(func() { s.repeat(ctx, t, "half open", s.halfOpen) })
		agents.Go(func() { s.repeat(ctx, t, "failed log-in", s.failedLogin) })
	}
	agents.Go(func() { s.repeat(ctx, t, "long pipeline", s.longPipeline) })
	agents.Go(func() { s.repeat(ctx, t, "too large", s.tooLarge) })
	if long {
		agents.Go(func() {
			for _, c := range []struct {
				name string
				call func(context.Context) error
			}{{"1 GB answer", s.bigAnswer}, {"1 GB COPY out", s.bigCopyOut}, {"1 GB COPY in", s.bigCopyIn}} {
				began := time.Now()
				if err := c.call(t.Context()); err != nil {
					t.Errorf("%s: %v", c.name, err)
					continue
				}
				s.count(c.name)
				t.Logf("%s: %v", c.name, time.Since(began).Round(100*time.Millisecond))
			}
		})
	}
	agents.Wait()
	took := time.Since(began)
	lastMinute := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)

	end := s.settle(t, base)
	t.Logf("after %v: %.0f goroutines, %.0f MiB", took.Round(time.Second), end.goroutines, end.memory/(1<<20))
	s.checkBook(t, lastMinute)
	stopWatching()
	watcher.Wait()
	t.Logf("ceilings: %d goroutines and %d a connection, %d MiB; highest seen: %.0f goroutines, %.0f MiB, %.0f open sessions, %.0f open connections",
		goroutinesBase, goroutinesEach, s.maxMemory()>>20, s.peak.goroutines, s.peak.memory/(1<<20), s.peak.sessions, s.peak.connections)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Logf("done: %v", s.done)
	for _, kind := range append([]string{"stop reading", "half open", "failed log-in", "long pipeline", "too large"}, soakMix...) {
		if s.done[kind] == 0 && (long || kind != "half open" && kind != "stop reading") {
			t.Errorf("nothing of the kind %q was done", kind)
		}
	}
}

// soak is a running gateway with its database and issuer.
type soak struct {
	sessions int
	long     bool
	startup  time.Duration
	stall    time.Duration
	dir      string // of the gateway
	program  string
	address  string
	ops      string
	token    string
	bulk     string // token of whoever asks for what is large
	database *pgserver.Server
	serve    *exec.Cmd
	log      string

	ids      atomic.Int64
	answered atomic.Int64 // requests whose end a worker saw
	failed   atomic.Int64 // of them with an error that was asked for

	mu   sync.Mutex
	done map[string]int
	peak figures
}

func (s *soak) count(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[kind]++
}

func (s *soak) maxMemory() int { return memoryBase + memoryPerSession*s.sessions }

func startSoak(t *testing.T, sessions int, long bool) *soak {
	t.Helper()
	s := &soak{sessions: sessions, long: long, startup: 3 * time.Second, stall: 2 * time.Second, done: make(map[string]int), program: os.Getenv("GATEBOOK")}
	if s.program == "" {
		s.program = filepath.Join(t.TempDir(), "gatebook")
		if out, err := exec.Command("go", "build", "-trimpath", "-o", s.program, ".").CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	if long {
		s.startup, s.stall = 10*time.Second, 10*time.Second
	}
	var err error
	if s.database, err = pgserver.Start(fmt.Sprintf("max_connections=%d", 2*sessions+100)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.database.Stop(); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.database.PSQL("postgres", `CREATE ROLE agent LOGIN PASSWORD 'soak'; CREATE TABLE work (id bigint, note text);
		CREATE INDEX ON work (id);
		GRANT ALL ON work TO agent; ALTER DATABASE postgres OWNER TO agent`); err != nil {
		t.Fatal(err)
	}
	s.dir = filepath.Join(t.TempDir(), "gate")
	s.run(t, "init", "--origin", "gate.soak/book", s.dir)
	issuer := exec.Command(s.program, "dev", "issuer", "--address", "127.0.0.1:0", "--lifetime", "4h", "--client", "worker:agents", "--client", "bulk:agents")
	out, err := issuer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := issuer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = issuer.Process.Kill(); _ = issuer.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSpace(strings.TrimPrefix(line, "issuer "))
	s.address, s.ops, s.log = "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t), filepath.Join(s.dir, "serve.log")
	ca, err := os.ReadFile(s.database.CA)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"secrets/orders": "soak", "db-ca.crt": string(ca),
		"gatebook.yaml": fmt.Sprintf(`version: 1
data: ./data
limits: {startup: %v, stall: %v, shutdown_drain: 5s, low_disk: 1GiB}
issuers:
  - {name: ci, for: agents, url: %q, audience: gatebook, development: true, allow_loopback: true, insecure_http: true}
listeners:
  - {protocol: postgres, address: %q}
ops: {address: %q}
targets:
  - name: orders
    protocol: postgres
    address: %s
    database: postgres
    tls: {mode: verify-full, ca: file:db-ca.crt}
    roles: {default: {user: agent, password: file:secrets/orders}}
    allow: [agents]
rules: [{name: anything, when: "true", then: allow}]
`, s.startup, s.stall, url, s.address, s.ops, s.database.Address())} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.token = strings.TrimSpace(s.run(t, "dev", "token", "worker", "--issuer", url))
	s.bulk = strings.TrimSpace(s.run(t, "dev", "token", "bulk", "--issuer", url))
	logFile, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = logFile.Close() }()
	s.serve = exec.Command(s.program, "-c", filepath.Join(s.dir, "gatebook.yaml"), "serve")
	s.serve.Stderr = logFile
	if err := s.serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.serve.Process.Signal(syscall.SIGTERM)
		if err := s.serve.Wait(); err != nil {
			text, _ := os.ReadFile(s.log)
			t.Errorf("the gateway ended with %v: %s", err, text[max(0, len(text)-2000):])
		}
	})
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := s.read(); err == nil {
			break
		} else if time.Now().After(until) {
			t.Fatalf("the gateway did not start: %v", err)
		}
	}
	return s
}

// run runs the program and returns what it prints.
func (s *soak) run(t *testing.T, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(s.program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("gatebook %s: %v: %s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// figures are what the gateway tells of itself.
type figures struct{ goroutines, memory, sessions, connections, ready float64 }

var metricLine = regexp.MustCompile(`(?m)^([a-z_]+) (\S+)$`)

func (s *soak) read() (figures, error) {
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + s.ops + "/metrics")
	if err != nil {
		return figures{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return figures{}, err
	}
	values := make(map[string]float64)
	for _, m := range metricLine.FindAllStringSubmatch(string(text), -1) {
		if values[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			return figures{}, err
		}
	}
	return figures{
		values["go_goroutines"], values["process_resident_memory_bytes"], values["gatebook_sessions_open"],
		values["gatebook_connections_open"], values["gatebook_ready"],
	}, nil
}

func (s *soak) figures(t *testing.T) figures {
	t.Helper()
	f, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// watch holds the figures against the ceilings until ctx ends.
func (s *soak) watch(ctx context.Context, t *testing.T) {
	broken := 0
	for ; ctx.Err() == nil && broken < 5; time.Sleep(250 * time.Millisecond) {
		f, err := s.read()
		switch {
		case err != nil:
			t.Errorf("metrics: %v", err)
		case f.ready != 1:
			t.Error("the gate is closed")
		case f.goroutines > goroutinesBase+goroutinesEach*f.connections:
			t.Errorf("%.0f goroutines with %.0f connections", f.goroutines, f.connections)
		case f.memory > float64(s.maxMemory()):
			t.Errorf("%.0f MiB resident with %.0f connections, the ceiling is %d", f.memory/(1<<20), f.connections, s.maxMemory()>>20)
		default:
			broken--
		}
		broken = max(broken+1, 0)
		s.mu.Lock()
		s.peak = figures{
			max(s.peak.goroutines, f.goroutines), max(s.peak.memory, f.memory), max(s.peak.sessions, f.sessions), max(s.peak.connections, f.connections), 1,
		}
		s.mu.Unlock()
	}
}

// settle waits until the gateway is as it was before the load.
func (s *soak) settle(t *testing.T, base figures) figures {
	t.Helper()
	for until := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		f := s.figures(t)
		if f.sessions == 0 && f.connections == 0 && f.goroutines <= base.goroutines+5 {
			return f
		}
		if time.Now().After(until) {
			t.Errorf("after the load: %+v, at the start: %+v", f, base)
			return f
		}
	}
}

func (s *soak) connect(ctx context.Context, token string) (*pgx.Conn, error) {
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return nil, err
	}
	c, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s user=default dbname=orders sslmode=require", host, port))
	if err != nil {
		return nil, err
	}
	c.Password = token
	return pgx.ConnectConfig(ctx, c)
}

var soakMix = []string{"simple", "prepared", "pipeline", "copy in", "copy out", "transaction", "error", "answer of 500 kB", "notify", "log-in"}

// worker does mixed work at about two requests a second until ctx ends.
func (s *soak) worker(ctx context.Context, t *testing.T, rng *rand.Rand) {
	for ctx.Err() == nil {
		c, err := s.connect(t.Context(), s.token)
		if err != nil {
			t.Errorf("log-in: %v", err)
			return
		}
		s.count("log-in")
		for n := rng.IntN(200) + 20; n > 0 && ctx.Err() == nil; n-- {
			kind := soakMix[rng.IntN(len(soakMix)-1)]
			if err := s.request(t.Context(), c, kind); err != nil {
				t.Errorf("%s: %v", kind, err)
				break
			}
			s.count(kind)
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(rng.IntN(1000)) * time.Millisecond):
			}
		}
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func (s *soak) request(ctx context.Context, c *pgx.Conn, kind string) error {
	id := s.ids.Add(1)
	s.answered.Add(1)
	var err error
	switch kind {
	case "simple":
		_, err = c.PgConn().Exec(ctx, fmt.Sprintf("SELECT %d", id)).ReadAll()
	case "prepared":
		_, err = c.Exec(ctx, "INSERT INTO work VALUES ($1, 'prepared')", id)
	case "pipeline":
		b := &pgx.Batch{}
		for range 10 {
			b.Queue("INSERT INTO work VALUES ($1, 'pipelined')", id)
		}
		s.answered.Add(9)
		err = c.SendBatch(ctx, b).Close()
	case "copy in":
		_, err = c.PgConn().CopyFrom(ctx, strings.NewReader(strings.Repeat(fmt.Sprintf("%d\tcopy\n", id), 500)), "COPY work FROM STDIN")
	case "copy out":
		_, err = c.PgConn().CopyTo(ctx, io.Discard, "COPY (SELECT * FROM generate_series(1, 5000)) TO STDOUT")
	case "transaction":
		s.answered.Add(2)
		var tx pgx.Tx
		if tx, err = c.Begin(ctx); err == nil {
			_, err = tx.Exec(ctx, "UPDATE work SET note = 'moved' WHERE id = $1", id)
			err = errors.Join(err, tx.Rollback(ctx))
		}
	case "error":
		s.failed.Add(1)
		_, err = c.Exec(ctx, "SELECT 1/0")
		if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code == "22012" {
			err = nil
		}
	case "answer of 500 kB":
		_, err = c.PgConn().Exec(ctx, "SELECT md5(n::text) || repeat('x', 468) FROM generate_series(1, 1000) n").ReadAll()
	case "notify":
		s.answered.Add(1)
		// A channel of its own: whoever listens is told, and each telling is recorded.
		if _, err = c.Exec(ctx, fmt.Sprintf("LISTEN ping%d", id)); err == nil {
			_, err = c.Exec(ctx, fmt.Sprintf("NOTIFY ping%d", id))
		}
	}
	return err
}

// repeat does one kind of misbehaviour until ctx ends; what is under way then comes to its end.
func (s *soak) repeat(ctx context.Context, t *testing.T, kind string, call func(context.Context) error) {
	for ctx.Err() == nil {
		if err := call(ctx); err != nil {
			t.Errorf("%s: %v", kind, err)
			return
		}
		s.count(kind)
		select {
		case <-ctx.Done():
		case <-time.After(s.stall / 20):
		}
	}
}

// raw logs in and hands the connection out.
func (s *soak) raw() (net.Conn, error) {
	c, err := s.connect(context.Background(), s.bulk)
	if err != nil {
		return nil, err
	}
	h, err := c.PgConn().Hijack()
	if err != nil {
		return nil, err
	}
	return h.Conn, h.Conn.SetDeadline(time.Now().Add(30 * time.Minute))
}

func message(typ byte, parts ...string) []byte {
	body := strings.Join(parts, "")
	return append(binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(body)+4)), body...)
}

// answers reads to the ReadyForQuery and returns the number of frames of each
// type and the bytes of all.
func answers(r io.Reader) (frames map[byte]int, size int64, err error) {
	b := bufio.NewReaderSize(r, 1<<16)
	frames = make(map[byte]int)
	for {
		var head [5]byte
		if _, err := io.ReadFull(b, head[:]); err != nil {
			return frames, size, err
		}
		n, err := io.CopyN(io.Discard, b, int64(binary.BigEndian.Uint32(head[1:])-4))
		if err != nil {
			return frames, size, err
		}
		frames[head[0]]++
		if size += n; head[0] == 'Z' {
			return frames, size, nil
		}
	}
}

// stopReading asks for 64 MB and reads none of it: the gateway ends the session.
func (s *soak) stopReading(context.Context) error {
	c, err := s.raw()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(message('Q', "SELECT md5(n::text) || repeat('y', 1000) FROM generate_series(1, 64000) n\x00")); err != nil {
		return err
	}
	time.Sleep(2 * s.stall)
	if _, size, err := answers(c); err == nil {
		return fmt.Errorf("all %d bytes came after the agent had not read for twice limits.stall", size)
	}
	return nil
}

// halfOpen sends the opening byte by byte: the gateway ends it after limits.startup.
func (s *soak) halfOpen(context.Context) error {
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for _, b := range []byte{0, 0, 0, 8, 4, 210, 22} {
		if _, err := c.Write([]byte{b}); err != nil {
			return nil // it is closed
		}
		_ = c.SetReadDeadline(time.Now().Add(s.startup / 4))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil // it is closed, or the agent is told why it will be
		}
	}
	return errors.New("a log-in that took too long was not ended")
}

func (s *soak) failedLogin(ctx context.Context) error {
	c, err := s.connect(context.WithoutCancel(ctx), s.token[:len(s.token)-9]+"AAAAAAAAA")
	if err == nil {
		_ = c.Close(context.WithoutCancel(ctx))
		return errors.New("a token that was tampered with was accepted")
	}
	if pg := (*pgconn.PgError)(nil); !errors.As(err, &pg) || pg.Code != "28000" && pg.Code != "28P01" && pg.Code != "53300" {
		return fmt.Errorf("refused with: %w", err)
	}
	return nil
}

// longPipeline sends 10,000 messages at once.
func (s *soak) longPipeline(ctx context.Context) error {
	c, err := s.raw()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	const n = 3333
	all := message('P', "\x00SELECT 1\x00\x00\x00")
	for range n {
		all = append(all, message('B', "\x00\x00\x00\x00\x00\x00\x00\x00")...)
		all = append(all, message('D', "P\x00")...)
		all = append(all, message('E', "\x00\x00\x00\x00\x00")...)
	}
	all = append(all, message('S')...)
	s.answered.Add(n)
	sent := make(chan error, 1)
	go func() { _, err := c.Write(all); sent <- err }()
	frames, _, err := answers(c)
	if err != nil || frames['C'] != n || frames['E'] != 0 {
		return fmt.Errorf("of %d statements: %v, %w", n, frames, err)
	}
	if _, err := c.Write(message('X')); err != nil {
		return err
	}
	s.pause(ctx)
	return <-sent
}

// pause keeps what is costly rare.
func (s *soak) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(s.stall):
	}
}

// tooLarge sends a statement above limits.message: it is refused, the session
// goes on, and it costs no memory.
func (s *soak) tooLarge(ctx context.Context) error {
	c, err := s.raw()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	size := 80 << 20
	if s.long {
		size = big
	}
	if _, err := c.Write(binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(size+4))); err != nil {
		return err
	}
	if _, err := io.CopyN(c, &zeros{left: int64(size)}, int64(size)); err != nil {
		return err
	}
	if frames, _, err := answers(c); err != nil || frames['E'] != 1 || frames['C'] != 0 {
		return fmt.Errorf("a statement of %d bytes: %v, %w", size, frames, err)
	}
	if _, err := c.Write(message('Q', "SELECT 1\x00")); err != nil {
		return err
	}
	if frames, _, err := answers(c); err != nil || frames['C'] != 1 {
		return fmt.Errorf("after a statement of %d bytes: %v, %w", size, frames, err)
	}
	s.answered.Add(1)
	if _, err := c.Write(message('X')); err != nil {
		return err
	}
	s.pause(ctx)
	return nil
}

const big = 1_000_000_000

func (s *soak) bigStatement(ctx context.Context, sql string, want int64) error {
	c, err := s.raw()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer func() { _ = c.Close() }()
	s.answered.Add(1)
	if _, err := c.Write(message('Q', sql, "\x00")); err != nil {
		return err
	}
	frames, size, err := answers(c)
	if err != nil || frames['E'] > 0 || size < want {
		return fmt.Errorf("%d bytes, %v, %w", size, frames, err)
	}
	_, err = c.Write(message('X'))
	return err
}

func (s *soak) bigAnswer(ctx context.Context) error {
	return s.bigStatement(ctx, fmt.Sprintf("SELECT repeat('0123456789', %d)", big/10), big)
}

func (s *soak) bigCopyOut(ctx context.Context) error {
	return s.bigStatement(ctx, fmt.Sprintf("COPY (SELECT repeat('0123456789', %d)) TO STDOUT", big/10), big)
}

// zeros reads as so many digits and a newline.
type zeros struct{ left int64 }

func (z *zeros) Read(b []byte) (int, error) {
	if z.left < 0 {
		return 0, io.EOF
	}
	if z.left == 0 {
		z.left, b[0] = -1, '\n'
		return 1, nil
	}
	n := int(min(int64(len(b)), z.left))
	for i := range b[:n] {
		b[i] = '0'
	}
	z.left -= int64(n)
	return n, nil
}

func (s *soak) bigCopyIn(ctx context.Context) error {
	c, err := s.connect(ctx, s.bulk)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(ctx) }()
	if _, err := c.Exec(ctx, "CREATE TEMP TABLE big (v text)"); err != nil {
		return err
	}
	if _, err := c.PgConn().CopyFrom(ctx, &zeros{left: big}, "COPY big FROM STDIN"); err != nil {
		return err
	}
	n := 0
	err = c.QueryRow(ctx, "SELECT length(v) FROM big").Scan(&n)
	s.answered.Add(3)
	if err == nil && n != big {
		err = fmt.Errorf("%d bytes arrived", n)
	}
	return err
}

var lastNumber = regexp.MustCompile(`(\d+)\D*$`)

// checkBook asks the book for its totals, and exports and verifies what it has from a time on.
func (s *soak) checkBook(t *testing.T, from string) {
	t.Helper()
	config := filepath.Join(s.dir, "gatebook.yaml")
	ask := func(sql string) int64 {
		t.Helper()
		out := s.run(t, "-c", config, "query", "--json", sql)
		m := lastNumber.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("%s: %s", sql, out)
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := ask("SELECT count(*) FROM exchanges WHERE status IS NULL"); n != 0 {
		t.Errorf("%d intents have no outcome", n)
	}
	want, failed := s.answered.Load(), s.failed.Load()
	all, ok, errs := ask("SELECT count(*) FROM exchanges WHERE origin IS NULL"),
		ask("SELECT count(*) FROM exchanges WHERE origin IS NULL AND status = 'ok'"), ask("SELECT count(*) FROM exchanges WHERE origin IS NULL AND status = 'error'")
	if ok < want-failed || errs < failed {
		t.Errorf("the agents were answered %d times, %d of them with an error; the book has %d exchanges, %d ok, %d error", want, failed, all, ok, errs)
	}
	t.Logf("the agents were answered %d times; the book has %d exchanges, %d ok, %d error, %d refused log-ins",
		want, all, ok, errs, ask("SELECT coalesce(sum(count), 0) FROM refusals"))
	pkg, trust := filepath.Join(s.dir, "package.zip"), filepath.Join(s.dir, "trust.txt")
	if err := os.WriteFile(trust, []byte(s.run(t, "-c", config, "keys")), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	// The last minute of the load without the large requests: an export spools what
	// it discloses in plain, and all of it needs more disk than a test should take.
	s.run(t, "-c", config, "evidence", "export", "--principal", "ci|worker", "--from", from, "-o", pkg)
	exported := time.Since(began)
	info, err := os.Stat(pkg)
	if err != nil {
		t.Fatal(err)
	}
	recent := ask("SELECT count(*) FROM exchanges WHERE principal = 'ci|worker' AND time >= '" + from + "'")
	if recent == 0 || info.Size() < 200*recent {
		t.Errorf("a package of %d bytes for %d exchanges: it holds no bodies", info.Size(), recent)
	}
	began = time.Now()
	out, err := exec.Command(s.program, "evidence", "verify", pkg, "--trust", trust).CombinedOutput()
	// Sessions that the gateway ended in the midst of an answer are exceptions: code 2.
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 2) || !bytes.Contains(out, []byte("\nverified")) {
		t.Errorf("verify: %v\n%s", err, out)
	}
	t.Logf("package of %d MiB with %d exchanges, exported in %v, verified in %v", info.Size()>>20, recent, exported.Round(100*time.Millisecond), time.Since(began).Round(100*time.Millisecond))
}
