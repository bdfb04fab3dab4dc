package index

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/audit"
)

const testOrigin = "gatebook.test/book"

// canary stands in everything that must not get into an index.
const canary = "canary7f3a"

// book is a book in memory, as a Source sees it.
type book struct {
	entries []bookEntry
	now     time.Time
	erased  map[evidence.ID]bool
	rnd     *rand.Rand
}

type bookEntry struct {
	h    evidence.Header
	body []byte
}

func newBook(seed uint64) *book {
	b := &book{
		now: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC), erased: make(map[evidence.ID]bool), rnd: rand.New(rand.NewPCG(seed, 1)),
	}
	b.add(evidence.Header{Kind: evidence.KindBoot}, &evidence.Boot{BootID: "boot", Version: "1", Origin: testOrigin, Sync: "always", HeartbeatS: 30})
	b.add(evidence.Header{Kind: evidence.KindKey}, &evidence.Key{Log: "log"})
	b.add(evidence.Header{Kind: evidence.KindConfig}, &evidence.Config{
		SHA256: "abc", Cause: "start", Files: map[string]string{"gatebook.yaml": "version: 1\n", "policy.yaml": "rules: []\n"},
	})
	return b
}

func (b *book) add(h evidence.Header, body any) {
	text, ok := body.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(body); err != nil {
			panic(err)
		}
	}
	b.now = b.now.Add(time.Duration(b.rnd.IntN(2000)) * time.Microsecond)
	h.Index, h.Time, h.BodyLen = uint64(len(b.entries)), b.now, uint64(len(text))
	h.Commit[0] = byte(b.rnd.Uint32())
	b.entries = append(b.entries, bookEntry{h, text})
}

func pseudonym(s string) (p evidence.Pseudonym) {
	copy(p[:], s)
	return p
}

type testSession struct {
	b *book
	h evidence.Header
	n uint64
}

// session opens a session of a principal on a target.
func (b *book) session(name, target string) *testSession {
	id := evidence.ID{}
	for i := range id {
		id[i] = byte(b.rnd.Uint32()) | 1
	}
	s := &testSession{b: b, h: evidence.Header{Session: id, Actor: pseudonym("a-" + name), Target: pseudonym("t-" + target)}}
	p := evidence.Principal{
		ActorID: s.h.Actor.String(), Issuer: "ci", IssuerURL: "https://ci", Subject: "repo:" + name, Name: name,
		Groups: []string{"agents", "build"}, Owner: "ana", Claims: json.RawMessage(`{"x":"` + canary + `"}`),
	}
	t := evidence.Target{TargetID: s.h.Target.String(), Name: target, Protocol: "postgres", Address: "db:5432", Labels: map[string]string{"env": "prod"}}
	b.add(evidence.Header{Kind: evidence.KindPrincipal, Actor: s.h.Actor}, &p)
	b.add(evidence.Header{Kind: evidence.KindTarget, Target: s.h.Target}, &t)
	s.add(evidence.KindSession, 0, &evidence.Session{
		BootID: "boot", Principal: p, TokenSHA256: "ff00", TokenID: "jti", TokenExpiry: b.now.Add(time.Hour), SessionEnd: b.now.Add(time.Hour),
		LifetimeRule: "token-expiry", Target: t, Role: "default", Database: "shop", Rule: "target.allow", ConfigSHA256: "abc",
		Listener: "127.0.0.1:6432", Source: "10.0.0.7:5000", Detail: json.RawMessage(`{"parameters":{"application_name":"psql","options":"` + canary + `"}}`),
	})
	s.add(evidence.KindIdentity, 0, &evidence.Identity{
		Issuer: "ci", TokenSHA256: "ff00", TokenExpiry: b.now.Add(time.Hour), Token: canary, KeySet: json.RawMessage(`{"k":"` + canary + `"}`),
		Principal: p, SessionEnd: b.now.Add(time.Hour), LifetimeRule: "token-expiry",
	})
	s.add(evidence.KindUpstream, 0, &evidence.Upstream{Address: "10.1.0.1:5432", LocalAddress: "10.1.0.2:9", User: "agent_rw"})
	return s
}

func (s *testSession) add(k evidence.Kind, x uint64, body any) {
	h := s.h
	h.Kind, h.Exchange = k, x
	s.b.add(h, body)
}

// intent begins an exchange.
func (s *testSession) intent(text, decision string) uint64 {
	s.n++
	in := evidence.Intent{
		Op: "execute", Rule: "target.allow", Opaque: true, Text: text, Config: "abc",
		Detail: json.RawMessage(`{"messages":"PBE","params":["` + canary + `",null,{"b64":"` + canary + `,"}]}`),
	}
	if decision == "deny" {
		in.Rule, in.Reason, in.Code = "postgres.unsupported", "not supported", "unsupported"
	}
	h := s.h
	h.Kind, h.Exchange, h.Decision = evidence.KindIntent, s.n, decision
	s.b.add(h, audit.AppendIntent(nil, &in))
	return s.n
}

// outcome ends one.
func (s *testSession) outcome(x uint64, o evidence.Outcome) {
	var d [32]byte
	h := s.h
	h.Kind, h.Exchange = evidence.KindOutcome, x
	s.b.add(h, append(append(audit.AppendOutcome(nil, &o, &d), '\n'), "answer "+canary+"\n"...))
}

func (s *testSession) chunk(k evidence.Kind, x uint64) {
	s.add(k, x, append(audit.AppendChunk(nil, 1, nil, nil), "\nrow "+canary...))
}

func (s *testSession) end() {
	s.add(evidence.KindSessionEnd, 0, &evidence.SessionEnd{Cause: "agent closed the connection", Exchanges: s.n, Seconds: 2})
}

var testTables = []string{"customers", "orders", "payments", "invoices", "stock"}

func (b *book) statement() string {
	t := testTables[b.rnd.IntN(len(testTables))]
	switch b.rnd.IntN(4) {
	case 0:
		return fmt.Sprintf("SELECT id, email FROM public.%s WHERE id = %d", t, b.rnd.IntN(1e6))
	case 1:
		return fmt.Sprintf("UPDATE %s SET total = total + %d WHERE customer_id = $1", t, b.rnd.IntN(100))
	case 2:
		return fmt.Sprintf("INSERT INTO %s (a, b) VALUES ($1, $2), (%d, 'späße')", t, b.rnd.IntN(1e6))
	}
	return fmt.Sprintf("DELETE FROM %s WHERE created < now() - interval '%d days'", t, b.rnd.IntN(365))
}

// grow adds random, well-formed traffic until the book has n entries.
func (b *book) grow(n int) {
	var open []*testSession
	running := make(map[*testSession][]uint64)
	names := []string{"bot-a", "bot-b", "nightly"}
	for len(b.entries) < n {
		if len(open) == 0 || b.rnd.IntN(60) == 0 {
			open = append(open, b.session(names[b.rnd.IntN(3)], []string{"orders", "billing"}[b.rnd.IntN(2)]))
		}
		i := b.rnd.IntN(len(open))
		s := open[i]
		switch r := b.rnd.IntN(100); {
		case r < 45:
			decision := "allow"
			if b.rnd.IntN(10) == 0 {
				decision = "deny"
			}
			running[s] = append(running[s], s.intent(b.statement(), decision))
		case r < 88 && len(running[s]) > 0:
			x := running[s][0]
			running[s] = running[s][1:]
			o := evidence.Outcome{Status: "ok", Tag: "SELECT 3", Rows: 3, Bytes: 120, ReadyUS: 90, TotalUS: 800}
			if b.rnd.IntN(8) == 0 {
				o = evidence.Outcome{Status: "error", Code: "23505", Message: "duplicate key: " + canary}
			}
			s.outcome(x, o)
		case r < 92 && len(running[s]) > 0:
			s.chunk(evidence.KindAnswer, running[s][len(running[s])-1])
		case r == 93:
			s.add(evidence.KindNote, 0, &evidence.Note{What: "token-refused", Detail: "expired"})
		case r == 94:
			s.add(evidence.KindCancel, 0, &evidence.Cancel{By: "agent", Source: "10.0.0.7", Effect: "forwarded"})
		case r == 95:
			b.control()
		case r == 96:
			for _, x := range running[s] {
				s.outcome(x, evidence.Outcome{Status: "unknown", Cause: "agent closed the connection"})
			}
			delete(running, s)
			s.end()
			open = append(open[:i], open[i+1:]...)
		case r == 97:
			s.chunk(evidence.KindAnswer, 0)
		case r >= 98 && len(running[s]) > 0:
			x := running[s][len(running[s])-1]
			s.add(evidence.KindTicket, x, &evidence.Ticket{
				Ticket: "t1", Digest: "d1", Bound: `{"rules":["deletes"],"expires":"2026-03-01T08:30:00Z","text":"` + canary + `"}`, Requester: "ana",
				Requires: []evidence.Approvers{{Rule: "deletes", Groups: []string{"dba"}, Quorum: 1}},
			})
			s.add(evidence.KindRuling, x, &evidence.Ruling{Ticket: "t1", Person: "ben", Identity: "corp|ben", Groups: []string{"dba"}, Verdict: "approve", Proof: evidence.RulingProof{Kind: "oidc", Token: canary}})
			if r == 98 {
				s.add(evidence.KindRelease, x, &evidence.Release{Ticket: "t1", Persons: []string{"ben"}})
			} else {
				s.add(evidence.KindTicketEnd, x, &evidence.TicketEnd{Ticket: "t1", State: "void", Cause: "changed"})
			}
		}
	}
}

func (b *book) control() {
	switch b.rnd.IntN(6) {
	case 0:
		b.now = b.now.Add(time.Duration(b.rnd.IntN(120)) * time.Second)
		b.add(evidence.Header{Kind: evidence.KindHeartbeat}, &evidence.Heartbeat{BootID: "boot", OpenSessions: 1, Exchanges: 9, FreeBytes: 1 << 40})
	case 1:
		b.add(evidence.Header{Kind: evidence.KindRefused}, &evidence.Refused{
			Count: 3, What: "login", Code: "identity", Detail: "expired", Source: "10.0.0.9:1", Target: "orders", Actor: "ci|bot-a",
		})
	case 2:
		b.add(evidence.Header{Kind: evidence.KindAdmin}, &evidence.Admin{Action: "query", Who: "ana", How: "socket", UID: 1000, Detail: map[string]any{"sql": "SELECT 1"}})
	case 3:
		b.add(evidence.Header{Kind: evidence.KindGate}, &evidence.Gate{Event: "low-disk", Detail: "1 GiB left"})
	case 4:
		b.add(evidence.Header{Kind: evidence.KindStop}, &evidence.Stop{BootID: "boot", Cause: "terminated"})
		b.now = b.now.Add(time.Hour)
		b.add(evidence.Header{Kind: evidence.KindBoot}, &evidence.Boot{BootID: "boot2", Version: "1", Origin: testOrigin, Sync: "always", HeartbeatS: 30})
	case 5:
		b.add(evidence.Header{Kind: evidence.KindBoot}, &evidence.Boot{
			BootID: "boot3", Origin: testOrigin, Sync: "always", HeartbeatS: 30, Recovered: &evidence.Recovered{CutBytes: 3, OpenIntents: 1},
		})
	}
}

// from returns a source that begins with entry n and ends before entry until
// (0: at the end of the book).
func (b *book) from(n, until uint64) *bookSource {
	if end := uint64(len(b.entries)); until == 0 || until > end {
		until = end
	}
	return &bookSource{b: b, next: n, until: until}
}

func (b *book) open(n uint64) (Source, error) { return b.from(n, 0), nil }

type bookSource struct {
	b           *book
	next, until uint64
	fail        error // returned at the end instead of io.EOF
}

func (s *bookSource) Next() (evidence.Header, []byte, bool, error) {
	if s.next >= s.until {
		if s.fail != nil {
			return evidence.Header{}, nil, false, s.fail
		}
		return evidence.Header{}, nil, false, io.EOF
	}
	e := s.b.entries[s.next]
	s.next++
	if s.b.erased[e.h.Session] {
		return e.h, nil, true, nil
	}
	return e.h, e.body, false, nil
}

func (s *bookSource) Close() error { return nil }

func testOptions(t testing.TB) Options {
	return Options{Path: filepath.Join(t.TempDir(), "index", "index.db"), Origin: testOrigin, Text: true}
}

func openIndex(t testing.TB, o Options) *Index {
	t.Helper()
	x, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

// indexed returns an index of the whole book.
func indexed(t testing.TB, b *book, o Options) *Index {
	t.Helper()
	x := openIndex(t, o)
	if _, err := x.CatchUp(t.Context(), b.from(0, 0)); err != nil {
		t.Fatal(err)
	}
	return x
}
