package postgres

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// The rows of docs/attacks.md about the connection phase that are not in
// TestOpenings, TestHostileLogin or a file of their own.

// bodies returns the bodies of all entries of a kind.
func bodies[T any](h *harness, kind evidence.Kind) []T {
	h.t.Helper()
	var list []T
	for _, e := range h.rec.Entries() {
		if e.Kind != kind {
			continue
		}
		var b T
		if err := evidence.DecodeBody(e.Meta, &b); err != nil {
			h.t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

// wholeLogin is everything that an agent says without waiting.
func wholeLogin(params ...string) []byte {
	return bytes.Join([][]byte{
		pgwire.AppendStartup(nil, 0, params...), frame('p', "agents\x00"), query("SELECT 'let '||'in'"), {'X', 0, 0, 0, 4},
	}, nil)
}

// TestPG01SmuggledLogin sends a whole log-in in the packet of the SSLRequest,
// to a listener that would take it without TLS: nothing of it is read.
func TestPG01SmuggledLogin(t *testing.T) {
	t.Parallel()
	h := start(t, plaintext)
	login := wholeLogin("user", "default", "database", "orders")
	if got := h.say(login); !strings.Contains(got, "let in") {
		t.Fatalf("without the SSLRequest: %q", got)
	}
	got := h.say(pgwire.AppendRequest(nil, pgwire.SSLRequestCode), login)
	if strings.Contains(got, "let in") || got != "" && got[0] != 'S' {
		t.Errorf("with it: %q", got)
	}
	if n := len(bodies[evidence.Session](h, evidence.KindSession)); n != 1 || h.refusedEntries() != 1 {
		t.Errorf("%d sessions, %d refusals", n, h.refusedEntries())
	}
}

// TestPG02BytesBeforeTLSOfTheTarget puts somebody between gateway and target who
// adds bytes to the target's answer to the SSLRequest and leaves TLS itself alone.
func TestPG02BytesBeforeTLSOfTheTarget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, added string }{{"PG-02 nothing added", ""}, {"PG-02 eight bytes added", "E\x00\x00\x00\x07SX\x00"}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
			wg.Go(func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					wg.Go(func() { between(conn, tt.added) })
				}
			})
			h := start(t, func(target *enforce.Target, _ *engine.Listener, _ *engine.Limits) {
				target.Address = ln.Addr().String()
			})
			c, err := loginRaw(h.addr, "default", "agents", "orders")
			if (err == nil) != (tt.added == "") {
				t.Errorf("log-in: %v", err)
			}
			if err == nil {
				_ = c.conn.Close()
			} else if !strings.Contains(err.Error(), "08001") {
				t.Errorf("the agent hears %v", err)
			}
			h.closed()
		})
	}
}

func between(gateway net.Conn, added string) {
	defer func() { _ = gateway.Close() }()
	target, err := net.Dial("tcp", server.Address())
	if err != nil {
		return
	}
	defer func() { _ = target.Close() }()
	b := make([]byte, 8)
	if _, err := io.ReadFull(gateway, b); err != nil {
		return
	}
	_, _ = target.Write(b)
	if _, err := io.ReadFull(target, b[:1]); err != nil {
		return
	}
	_, _ = gateway.Write(append(b[:1:1], added...))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(target, gateway)
		_ = target.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(gateway, target)
	_ = gateway.Close()
	<-done
}

// TestPG04NoPasswordIsAsked: without TLS the first thing that the agent hears
// is the refusal.
func TestPG04NoPasswordIsAsked(t *testing.T) {
	t.Parallel()
	h := start(t)
	got := h.say(wholeLogin("user", "default", "database", "orders"))
	if !strings.HasPrefix(got, "E") || !strings.Contains(got, "28P01") || strings.Contains(got, "let in") {
		t.Errorf("%q", got)
	}
}

// TestPG08ResolvedDatabase: who names no database means the one named like the
// user, and is judged by that name.
func TestPG08ResolvedDatabase(t *testing.T) {
	t.Parallel()
	roles := func(allow ...string) option {
		return func(target *enforce.Target, _ *engine.Listener, _ *engine.Limits) {
			r := target.Roles["default"]
			r.Allow = allow
			target.Roles = map[string]enforce.Role{"default": target.Roles["default"], "orders": r}
		}
	}
	open, narrow := start(t, plaintext, roles("agents")), start(t, plaintext, roles("admins"))
	for _, database := range []string{"absent", ""} {
		params := func(user string) []string {
			if database == "absent" {
				return []string{"user", user}
			}
			return []string{"user", user, "database", database}
		}
		if got := open.say(wholeLogin(params("orders")...)); !strings.Contains(got, "let in") {
			t.Errorf("database %s: %q", database, got)
		}
		for name, got := range map[string]string{
			"a role for others":  narrow.say(wholeLogin(params("orders")...)),
			"no target of it":    open.say(wholeLogin(params("default")...)),
			"a target elsewhere": open.say(wholeLogin("user", "default", "database", "default")),
		} {
			if !strings.Contains(got, "42501") || strings.Contains(got, "let in") {
				t.Errorf("database %s, %s: %q", database, name, got)
			}
		}
	}
	for _, s := range bodies[evidence.Session](open, evidence.KindSession) {
		if s.Target.Name != "orders" || s.Role != "orders" {
			t.Errorf("recorded as target %q, role %q", s.Target.Name, s.Role)
		}
	}
}

// TestPG09NamesStayNames: characters of URLs and conninfo strings in the names
// reach the target as a database's name, and nothing else.
func TestPG09NamesStayNames(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, database := range []string{
		"orders/postgres host=evil", "orders/postgres?host=evil", "orders/postgres'", "orders/../postgres", `orders/postgres\`, "orders/a/b", "orders/%70ostgres",
	} {
		if _, err := loginRaw(h.addr, "default", "agents", database); err == nil || !strings.Contains(err.Error(), "no such database") {
			t.Errorf("%q: %v", database, err)
		}
	}
	for user, database := range map[string]string{
		"default host=evil": "orders", "default'": "orders", "default@evil": "orders", "default/postgres": "orders", "DEFAULT": "orders",
	} {
		if _, err := loginRaw(h.addr, user, "agents", database); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%q: %v", user, err)
		}
	}
	for _, database := range []string{"orders@evil", "orders host=evil", "ORDERS", "orders//postgres@evil:1", "//evil/orders", "orders/" + strings.Repeat("x", 64)} {
		if _, err := loginRaw(h.addr, "default", "agents", database); err == nil {
			t.Errorf("%q was let in", database)
		}
	}
	for _, u := range bodies[evidence.Upstream](h, evidence.KindUpstream) {
		t.Errorf("a target was reached: %+v", u)
	}
}

// TestPG11FrameLengths sends lengths that lie once the agent is in.
func TestPG11FrameLengths(t *testing.T) {
	t.Parallel()
	header := func(typ byte, n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{typ}, n) }
	tests := map[string][]byte{
		"PG-11 zero":                          header('Q', 0),
		"PG-11 three":                         header('Q', 3),
		"PG-11 negative":                      header('Q', 0xffffffff),
		"PG-11 sign bit":                      header('P', 0x80000000),
		"PG-11 wrap":                          header('B', 0x80000003),
		"PG-11 COPY data negative":            header('d', 0xfffffffe),
		"PG-11 small message that is not":     header('S', 1<<20),
		"PG-11 Execute that is not small":     header('E', 1<<20),
		"PG-11 value longer than its message": frame('B', "\x00\x00\x00\x00\x00\x01\x7f\xff\xff\xff\x00\x00"),
		"PG-11 value of length -2":            frame('B', "\x00\x00\x00\x00\x00\x01\xff\xff\xff\xfe\x00\x00"),
		"PG-11 more values than bytes":        frame('B', "\x00\x00\x00\x00\xff\xff\x00\x00"),
		"PG-11 more formats than bytes":       frame('B', "\x00\x00\xff\xff\x00\x00\x00\x00"),
		"PG-11 formats and values differ":     frame('B', "\x00\x00\x00\x02\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"),
		"PG-11 more types than bytes":         frame('P', "\x00SELECT 1\x00\xff\xff"),
		"PG-11 bytes behind a Parse":          frame('P', "\x00SELECT 1\x00\x00\x00x"),
		"PG-11 bytes behind a Query":          frame('Q', "SELECT 1\x00SELECT 2\x00"),
		"PG-11 Query without an end":          frame('Q', "SELECT 1"),
		"PG-11 bytes behind an Execute":       frame('E', "\x00\x00\x00\x00\x00x"),
		"PG-11 Describe of nothing":           frame('D', ""),
		"PG-11 Describe of another kind":      frame('D', "Q\x00"),
		"PG-11 Close of another kind":         frame('C', "X\x00"),
		"PG-11 FunctionCall cut":              frame('F', "\x00\x00\x05"),
		"PG-11 FunctionCall value too long":   frame('F', "\x00\x00\x05\x25\x00\x00\x00\x01\x7f\xff\xff\xff\x00\x00"),
		"PG-11 bytes behind a FunctionCall":   frame('F', "\x00\x00\x05\x25\x00\x00\x00\x00\x00\x00x"),
	}
	for name, message := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, echo)
			h := start(t, f.target)
			c := dialRaw(t, h.addr, "default", "agents", "orders")
			_ = c.conn.SetDeadline(time.Now().Add(5 * time.Second))
			c.send(message, syncFrame)
			if got := c.rest(); !strings.Contains(got, "08P01") {
				t.Errorf("the agent hears %s", got)
			}
			h.closed()
			if seen := f.saw(); strings.Trim(seen, "X\x00\x04") != "" {
				t.Errorf("the target saw %q", seen)
			}
			for _, x := range h.agents() {
				t.Errorf("recorded as %q", x.intent.Op)
			}
		})
	}
}

// TestPG12Dribble: bytes that come one at a time do not prolong the time that a
// start-up may take.
func TestPG12Dribble(t *testing.T) {
	t.Parallel()
	h := start(t, plaintext, quickStart)
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	began := time.Now()
	ended := make(chan time.Duration, 1)
	go func() {
		_, _ = io.Copy(io.Discard, conn)
		ended <- time.Since(began)
	}()
	_, _ = conn.Write([]byte{0, 0, 0x27, 0x10, 0, 3, 0, 0})
	for {
		select {
		case took := <-ended:
			if took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			return
		case <-time.After(20 * time.Millisecond):
			_, _ = conn.Write([]byte{'a'})
		}
		if time.Since(began) > 3*time.Second {
			t.Fatal("the connection stays open")
		}
	}
}

// TestPG16NameIsNotIdentity: whatever an agent calls itself, the record has
// the identity of its token.
func TestPG16NameIsNotIdentity(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, name := range []string{"others", "gb:aaaaaaaaaaaaaaaa others", "postgres"} {
		c := dialRaw(t, h.addr, "default", "agents", "orders", "application_name", name)
		c.send(query("SET application_name = 'others'; SELECT 1"))
		c.until('Z')
		_ = c.conn.Close()
	}
	h.closed()
	list := bodies[evidence.Session](h, evidence.KindSession)
	if len(list) != 3 {
		t.Fatalf("%d sessions", len(list))
	}
	for _, s := range list {
		if s.Principal.Name != "agents" || s.Principal.Subject != "agents" {
			t.Errorf("recorded as %+v", s.Principal)
		}
	}
}

// TestID18SourceIsThePeer: neither the PROXY protocol nor anything in the
// start-up packet says where an agent comes from.
func TestID18SourceIsThePeer(t *testing.T) {
	t.Parallel()
	h := start(t, plaintext)
	login := wholeLogin("user", "default", "database", "orders")
	for name, head := range map[string]string{
		"version 1": "PROXY TCP4 192.0.2.7 192.0.2.8 4711 5432\r\n",
		"version 2": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x08\x12\x67\x15\x38",
	} {
		if got := h.say([]byte(head), login); !strings.Contains(got, "08P01") || strings.Contains(got, "let in") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := h.say(wholeLogin("user", "default", "database", "orders", "client_addr", "192.0.2.7")); !strings.Contains(got, "0A000") {
		t.Errorf("a parameter: %q", got)
	}
	if got := h.say(login); !strings.Contains(got, "let in") {
		t.Errorf("%q", got)
	}
	var sources []string
	for _, r := range bodies[evidence.Refused](h, evidence.KindRefused) {
		sources = append(sources, r.Source)
	}
	for _, s := range bodies[evidence.Session](h, evidence.KindSession) {
		sources = append(sources, s.Source)
	}
	if len(sources) != 4 {
		t.Errorf("sources %q", sources)
	}
	for _, s := range sources {
		if !strings.HasPrefix(s, "127.0.0.1:") {
			t.Errorf("source %q", s)
		}
	}
}

// TestID19TwoAgents: two agents on one target share no connection to it, and
// each record has its own agent.
func TestID19TwoAgents(t *testing.T) {
	t.Parallel()
	h := start(t)
	a, b := dialRaw(t, h.addr, "default", "agents", "orders"), dialRaw(t, h.addr, "default", "short", "orders")
	if h.backend(a) == h.backend(b) {
		t.Error("one backend for both")
	}
	for range 3 {
		a.send(query("SELECT 'of agents'"))
		b.send(query("SELECT 'of short'"))
		a.until('Z')
		b.until('Z')
	}
	names := make(map[evidence.ID]string)
	texts := make(map[string]int)
	for _, e := range h.rec.Entries() {
		switch e.Kind {
		case evidence.KindSession:
			var s evidence.Session
			if err := evidence.DecodeBody(e.Meta, &s); err != nil {
				t.Fatal(err)
			}
			names[e.Session] = s.Principal.Name
		case evidence.KindIntent:
			var i evidence.Intent
			if err := evidence.DecodeBody(e.Meta, &i); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(i.Text, "SELECT 'of ") {
				texts[names[e.Session]+": "+i.Text]++
			}
		}
	}
	if len(texts) != 2 || texts["agents: SELECT 'of agents'"] != 3 || texts["short: SELECT 'of short'"] != 3 {
		t.Errorf("recorded %v", texts)
	}
}

// TestPG14CertificateOfAnother: a target with a certificate that the operator
// does not trust, or for another host, gets nothing.
func TestPG14CertificateOfAnother(t *testing.T) {
	t.Parallel()
	cert, pool, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	f := startFake(t, func(f *fakeConn) {
		f.startup()
		f.write([]byte{'S'})
		f.conn = tls.Server(f.conn, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
		f.in = pgwire.NewReader(f.conn, 1<<20)
		if f.login() {
			f.next()
		}
	})
	for name, tt := range map[string]struct {
		roots *x509.CertPool
		host  string
		ok    bool
	}{
		"PG-14 trusted": {pool, "127.0.0.1", true}, "PG-14 unknown": {x509.NewCertPool(), "127.0.0.1", false}, "PG-14 another host": {pool, "db.test", false},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, f.target, func(target *enforce.Target, _ *engine.Listener, _ *engine.Limits) {
				target.TLS = enforce.TargetTLS{Mode: "verify-full", Config: func() (*tls.Config, error) {
					return &tls.Config{RootCAs: tt.roots, ServerName: tt.host, MinVersion: tls.VersionTLS12}, nil
				}}
			})
			c, err := loginRaw(h.addr, "default", "agents", "orders")
			if (err == nil) != tt.ok {
				t.Errorf("log-in: %v", err)
			}
			if err == nil {
				_ = c.conn.Close()
			}
			h.closed()
		})
	}
}
