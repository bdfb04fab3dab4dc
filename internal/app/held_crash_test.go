package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/testkit/forge"
	"github.com/gatebook/gatebook/internal/testkit/idp"
	"github.com/gatebook/gatebook/internal/vfs"
)

// TestHeldCrash (AP-19, AP-21) takes the power away from a gateway while requests wait, are ruled on, released and run, in the
// midst of a change to a file that chance picks. Whatever is left: what ran was released, by a person's ruling, in the book; it ran once; what was refused did not run; and
// nothing that waited runs after the restart.
func TestHeldCrash(t *testing.T) {
	rounds := 5
	if n, err := strconv.Atoi(os.Getenv("GATEBOOK_CRASHES")); err == nil {
		rounds = max(n/5, 1)
	}
	if testing.Short() {
		rounds = 3
	}
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("GATEBOOK_CRASH_SEED"), 10, 64); err == nil {
		seed = n
	}
	rng := rand.New(rand.NewPCG(seed, 7))
	if _, err := database.PSQL("postgres", `DROP TABLE IF EXISTS held_crash, held_ran; CREATE TABLE held_crash (id bigint PRIMARY KEY); CREATE TABLE held_ran (id bigint);
		INSERT INTO held_crash SELECT generate_series(1, 5000); GRANT ALL ON held_crash, held_ran TO agent`); err != nil {
		t.Fatal(err)
	}
	h := &heldLoad{denied: map[int64]bool{}, answered: map[int64]bool{}}
	var states map[string]int
	released := false
	// Cuts are early as well as late: on a slow machine there is a round more, until something was released.
	for round := 0; round < rounds || !released && round < rounds+15; round++ {
		if round%10 == 0 {
			h.begin(t)
			states = map[string]int{}
		}
		h.round(t, rng)
		h.compare(t, states)
		released = released || states["released"] > 0 && len(h.answered) > 0
		if t.Failed() {
			t.Fatalf("round %d of GATEBOOK_CRASH_SEED=%d; the files are in %s", round, seed, keep(t, h.place.dir))
		}
	}
	t.Logf("seed %d: at least %d rounds, %d answered, the last book has %v", seed, rounds, len(h.answered), states)
	if !released {
		t.Error("nothing was released: there was no load")
	}
}

// heldLoad is what those outside of the gateway know.
type heldLoad struct {
	place *place
	keys  *Keys
	next  int64
	from  int64 // the first request to the present book

	mu       sync.Mutex
	denied   map[int64]bool // somebody has tried to refuse it, and nobody to approve it
	answered map[int64]bool // the agent was told that it ran
}

func (h *heldLoad) begin(t *testing.T) {
	t.Helper()
	h.place = newPlace(t, consoleConfig)
	h.place.write(t, "secrets/console", idp.ConsoleSecret)
	h.place.write(t, "targets.d/corp.yaml", corp(h.place))
	h.place.write(t, "policy.yaml", fmt.Sprintf(holdPolicy, ""))
	var err error
	if h.keys, err = LoadKeys(h.place.config(t)); err != nil {
		t.Fatal(err)
	}
	h.from = h.next
}

func (h *heldLoad) round(t *testing.T, rng *rand.Rand) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("GATEBOOK_TEST_CHILD=%d", rng.Uint64()), fmt.Sprintf("GATEBOOK_TEST_CUT=%d", 100+rng.IntN(1<<(7+rng.IntN(5)))),
		"GATEBOOK_TEST_CONFIG="+h.place.dir+"/gatebook.yaml")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	address, err := bufio.NewReader(out).ReadString('\n')
	go func() { _ = cmd.Wait(); close(gone) }()
	if err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { h.agent(ctx, t, strings.TrimSpace(address)) })
		}
		r := rand.New(rand.NewPCG(rng.Uint64(), 8))
		all.Go(func() { h.person(ctx, t, r) })
		select {
		case <-gone:
		case <-ctx.Done():
			_ = cmd.Process.Kill()
			<-gone
		}
		cancel() // who rules has nothing to wait for
		all.Wait()
	}
	<-gone
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || stderr.Len() > 0 {
		t.Errorf("the gateway ended by itself (%v) and said: %s", cmd.ProcessState, stderr.String())
	}
}

// agent asks for one deletion after the other until the connection breaks. Each also notes that it ran, so that a second run shows.
func (h *heldLoad) agent(ctx context.Context, t *testing.T, address string) {
	c, err := connect(ctx, address, h.place.issuer.Token(t, "worker", "agents"))
	if err != nil {
		return
	}
	defer func() { _ = c.PgConn().Conn().Close() }()
	for {
		h.mu.Lock()
		h.next++
		id := h.next
		h.mu.Unlock()
		_, err := c.PgConn().Exec(ctx, fmt.Sprintf("INSERT INTO held_ran VALUES (%d); DELETE FROM held_crash WHERE id = %d /* %d */", id, id, id)).ReadAll()
		if err == nil {
			h.mu.Lock()
			h.answered[id] = true
			h.mu.Unlock()
		}
		if err != nil && c.IsClosed() {
			return
		}
	}
}

// person rules on whatever waits, with a token of the issuer's made for each ruling.
func (h *heldLoad) person(ctx context.Context, t *testing.T, rng *rand.Rand) {
	ruled := map[string]bool{}
	for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
		var list []*admin.Ticket
		c, err := admin.Dial(ctx, filepath.Join(h.place.dir, "data", socketName))
		if err != nil || c.Call(ctx, http.MethodGet, "/v1/tickets", nil, &list) != nil {
			continue // not there yet, or not any more
		}
		for _, ticket := range list {
			if ticket.State != string(approval.Open) || ruled[ticket.ID] {
				continue
			}
			ruled[ticket.ID] = true
			verdict := approval.Approve
			if rng.IntN(3) == 0 {
				verdict = approval.Deny
			}
			if covers, err := ticket.Covers(); err == nil && verdict == approval.Deny {
				h.mu.Lock()
				h.denied[commentID(covers.Text)] = true
				h.mu.Unlock()
			}
			statement := approval.Statement(ticket.ID, ticket.Digest, verdict, "")
			random := strings.Repeat("r", 26)
			nonce, err := approval.Nonce(statement, random)
			if err != nil {
				t.Error(err)
				return
			}
			token := h.place.issuer.Sign(t, idp.With(h.place.issuer.Agent("ben"), idp.Claims{"aud": idp.Console, "nonce": nonce, "exp": time.Now().Unix() + 3}), nil)
			_ = c.Call(ctx, http.MethodPost, "/v1/tickets/"+ticket.ID+"/rule", admin.RuleRequest{Statement: statement, Token: token, Random: random}, &admin.Ticket{})
		}
	}
}

func commentID(text string) int64 {
	_, rest, _ := strings.Cut(text, "/* ")
	number, _, _ := strings.Cut(rest, " */")
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return -1
	}
	return id
}

// compare recovers the book, verifies it with all its decisions, and holds it against what the database did.
func (h *heldLoad) compare(t *testing.T, states map[string]int) {
	t.Helper()
	book, err := OpenBook(t.Context(), h.place.config(t), vfs.OS(), "test", "check", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Errorf("the book does not open after the crash: %v", err)
		return
	}
	_, pkg := export(t, admin.Local(book.Admin, admin.Self()), h.keys, admin.ExportRequest{})
	if err := book.Close(context.Background(), "checked"); err != nil {
		t.Error(err)
	}
	for _, p := range verifyAgain(t, pkg, h.keys).Problems {
		t.Errorf("package: %+v", p)
	}
	clear(states)
	released := map[int64]bool{}
	for _, row := range approvals(t, pkg) {
		states[row["state"]]++
		id := commentID(row["text"])
		if row["state"] == "released" {
			if released[id] || row["approved_by"] != "ben" {
				t.Errorf("request %d was released twice, or by %q", id, row["approved_by"])
			}
			released[id] = true
		}
	}
	out, err := database.PSQL("postgres", fmt.Sprintf("SELECT id || ' ' || count(*) FROM held_ran WHERE id > %d GROUP BY id", h.from))
	if err != nil {
		t.Fatal(err)
	}
	ran := map[int64]bool{}
	for line := range strings.Lines(out) {
		left, right, _ := strings.Cut(strings.TrimSpace(line), " ")
		id, err := strconv.ParseInt(left, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ran[id] = true
		switch {
		case right != "1":
			t.Errorf("request %d ran %s times", id, right)
		case !released[id]:
			t.Errorf("request %d ran, and the book has no release of it", id)
		case h.denied[id]:
			t.Errorf("request %d ran, and the one person who ruled on it said no", id)
		}
	}
	for id := range h.answered {
		if id > h.from && !ran[id] {
			t.Errorf("request %d was answered and did not run", id)
		}
	}
}

// approvals reads a package's table of tickets.
func approvals(t *testing.T, pkg []byte) (rows []map[string]string) {
	t.Helper()
	files, _, err := forge.Read(pkg)
	if err != nil {
		t.Fatal(err)
	}
	text, ok := files["data/populations/P4-approvals.csv"]
	if !ok {
		return nil
	}
	all, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, cells := range all[1:] {
		row := map[string]string{}
		for i, name := range all[0] {
			row[name] = cells[i]
		}
		rows = append(rows, row)
	}
	return rows
}
