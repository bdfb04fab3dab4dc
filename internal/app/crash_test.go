package app

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/csv"
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

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/vfs"
)

// TestCrash kills a gateway under load at random moments, on a file layer that
// loses what was not synced, and compares the book with what the clients were
// answered and with what the database did: no answered request without its
// record, nothing done without its intent, every intent paired, and the export verifies.
func TestCrash(t *testing.T) {
	rounds := 50
	if n, err := strconv.Atoi(os.Getenv("GATEBOOK_CRASHES")); err == nil {
		rounds = n
	}
	if testing.Short() {
		rounds = 5
	}
	p := newPlace(t, "")
	if _, err := database.PSQL("postgres", "DROP TABLE IF EXISTS crash; CREATE TABLE crash (id bigint PRIMARY KEY, note text); GRANT ALL ON crash TO agent"); err != nil {
		t.Fatal(err)
	}
	keys, err := LoadKeys(p.config(t))
	if err != nil {
		t.Fatal(err)
	}
	token := p.issuer.Token(t, "crasher", "agents")
	l := &load{token: token, answered: make(map[int64]bool)}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for round := range rounds {
		l.round(t, p, rng.Uint64(), time.Duration(rng.IntN(250)+20)*time.Millisecond)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
		if round%10 == 9 || round == rounds-1 {
			l.check(t, p, keys)
		}
	}
	t.Logf("%d requests answered in %d rounds", len(l.answered), rounds)
	if len(l.answered) < rounds {
		t.Errorf("only %d requests were answered in %d rounds: there was no load", len(l.answered), rounds)
	}
}

// load is what the clients know, apart from the gateway.
type load struct {
	token string

	mu       sync.Mutex
	next     int64
	answered map[int64]bool // statements whose answer arrived
}

func (l *load) id() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	return l.next
}

func (l *load) got(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered[id] = true
}

// round starts a gateway, puts load on it, and kills it after a while.
func (l *load) round(t *testing.T, p *place, seed uint64, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GATEBOOK_TEST_CHILD="+strconv.FormatUint(seed, 10), "GATEBOOK_TEST_CONFIG="+p.dir+"/gatebook.yaml")
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
	if err != nil {
		_ = cmd.Wait()
		t.Errorf("the gateway did not start: %v: %s", err, stderr.String())
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	var clients sync.WaitGroup
	for kind := range 4 {
		clients.Go(func() { l.client(ctx, strings.TrimSpace(address), kind) })
	}
	time.Sleep(after) // the crash comes at a moment that nobody chose
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	cancel()
	clients.Wait()
	if s := stderr.String(); s != "" {
		t.Errorf("the gateway said: %s", s)
	}
}

// client sends statements of one kind until the connection breaks.
func (l *load) client(ctx context.Context, address string, kind int) {
	c, err := connect(ctx, address, l.token)
	if err != nil {
		return
	}
	defer func() { _ = c.Close(context.Background()) }()
	for n := 0; ; n++ {
		if kind == 3 && n == 5 {
			kind = 0 // large answers are slow to check, and a few a round will do
		}
		id := l.id()
		switch kind {
		case 0: // simple
			_, err = c.PgConn().Exec(ctx, fmt.Sprintf("INSERT INTO crash VALUES (%d, 'simple') /* %d */", id, id)).ReadAll()
		case 1: // prepared
			_, err = c.Exec(ctx, "INSERT INTO crash VALUES ($1, 'prepared')", id)
		case 2: // COPY
			_, err = c.PgConn().CopyFrom(ctx, strings.NewReader(fmt.Sprintf("%d\tcopy\n", id)), fmt.Sprintf("COPY crash FROM STDIN /* %d */", id))
		default: // an answer of many chunks
			_, err = c.PgConn().Exec(ctx, fmt.Sprintf("SELECT repeat('x', 3000) FROM generate_series(1, 100) /* %d */", id)).ReadAll()
		}
		if err != nil {
			return
		}
		l.got(id)
	}
}

// check recovers the book, exports it, and compares.
func (l *load) check(t *testing.T, p *place, keys *Keys) {
	t.Helper()
	book, err := OpenBook(t.Context(), p.config(t), vfs.OS(), "test", "check", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("the book does not open after the crash: %v", err)
	}
	report, pkg := export(t, admin.Local(book.Admin, admin.Self()), keys, admin.ExportRequest{})
	if err := book.Close(context.Background(), "checked"); err != nil {
		t.Fatal(err)
	}
	for _, x := range report.Exceptions {
		switch x.Code {
		case "crash", "outcome-unknown", "session-recovered", "gap":
		default:
			t.Errorf("exception %s: %s", x.Code, x.What)
		}
	}
	asked, done := actions(t, pkg)
	for id := range l.answered {
		if !done[id] {
			t.Errorf("request %d was answered and has no outcome in the book", id)
		}
	}
	rows, err := database.PSQL("postgres", "SELECT id FROM crash")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(rows) {
		id, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if !asked[id] {
			t.Errorf("row %d is in the database, and nothing in the book asked for it", id)
		}
	}
}

// actions reads the ids of the requests in a package: those with an intent,
// and those with an outcome that says what happened. It shares no code with the writer.
func actions(t *testing.T, pkg []byte) (asked, done map[int64]bool) {
	t.Helper()
	asked, done = make(map[int64]bool), make(map[int64]bool)
	z, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		t.Fatal(err)
	}
	status := make(map[string]string)
	f, err := z.Open("data/populations/P2-actions.csv")
	if err != nil {
		t.Fatal(err)
	}
	table, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := make(map[string]int)
	for i, name := range table[0] {
		column[name] = i
	}
	for _, row := range table[1:] {
		status[row[column["first_index"]]] = row[column["status"]]
	}
	if f, err = z.Open("data/log/bodies.jsonl"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		index := strings.TrimPrefix(firstField(line, ","), `{"i":`)
		_, encoded, _ := strings.Cut(line, `"body":"`)
		body, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(strings.TrimSpace(encoded), `"}`))
		if err != nil {
			t.Fatal(err)
		}
		id, ok := requestID(string(body))
		if !ok {
			continue
		}
		asked[id] = true
		done[id] = done[id] || status[index] == "ok" || status[index] == "error"
	}
	return asked, done
}

func firstField(s, sep string) string { head, _, _ := strings.Cut(s, sep); return head }

// requestID finds the id that the clients put into each request.
func requestID(body string) (int64, bool) {
	if !strings.HasPrefix(body, `{"op":`) {
		return 0, false
	}
	text := ""
	if _, rest, ok := strings.Cut(body, "/* "); ok {
		text = firstField(rest, " */")
	} else if _, rest, ok := strings.Cut(body, `"params":[{"b64":"`); ok {
		raw, err := base64.StdEncoding.DecodeString(firstField(rest, `"`))
		if err != nil || len(raw) != 8 {
			return 0, false
		}
		var n int64
		for _, b := range raw {
			n = n<<8 | int64(b)
		}
		return n, true
	}
	id, err := strconv.ParseInt(text, 10, 64)
	return id, err == nil
}
