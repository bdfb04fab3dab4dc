package postgres

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// fake is a scripted target without TLS.
type fake struct {
	t    testing.TB
	ln   net.Listener
	wg   sync.WaitGroup
	mu   sync.Mutex
	seen []byte // everything that came after the log-in
	// serve is called for each connection.
	serve func(f *fakeConn)
}

type fakeConn struct {
	*fake
	conn net.Conn
	in   *pgwire.Reader
}

func startFake(t testing.TB, serve func(*fakeConn)) *fake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, ln: ln, serve: serve}
	f.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() {
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
				f.serve(&fakeConn{fake: f, conn: conn, in: pgwire.NewReader(conn, 1<<30)})
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		f.wg.Wait()
	})
	return f
}

// target makes the harness use the fake.
func (f *fake) target(t *enforce.Target, _ *engine.Listener, _ *engine.Limits) {
	t.Address = f.ln.Addr().String()
	t.TLS = enforce.TargetTLS{Mode: "disable"}
}

func frame(typ byte, body string) []byte { return pgwire.AppendFrame(nil, typ, []byte(body)) }

var (
	authOKFrame = frame('R', "\x00\x00\x00\x00")
	readyFrame  = frame('Z', "I")
	greeting    = bytes.Join([][]byte{
		authOKFrame, frame('S', "client_encoding\x00UTF8\x00"), frame('S', "standard_conforming_strings\x00on\x00"),
		frame('S', "server_version\x0015.1\x00"), frame('K', "\x00\x00\x00\x07keyk"), readyFrame,
	}, nil)
)

func (f *fakeConn) write(b ...[]byte) {
	_, _ = f.conn.Write(bytes.Join(b, nil))
}

// startup reads the StartupMessage; false for a CancelRequest.
func (f *fakeConn) startup() bool {
	var word [4]byte
	if _, err := f.conn.Read(word[:]); err != nil {
		return false
	}
	body := make([]byte, binary.BigEndian.Uint32(word[:])-4)
	if _, err := f.conn.Read(body); err != nil {
		return false
	}
	return binary.BigEndian.Uint32(body) != pgwire.CancelRequestCode
}

// next reads one message; nil at the end.
func (f *fakeConn) next() []byte {
	b, err := f.in.Next()
	if err != nil {
		return nil
	}
	f.mu.Lock()
	f.seen = append(f.seen, b...)
	f.mu.Unlock()
	return b
}

func (f *fake) saw() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return string(f.seen)
}

func rowOf(values ...string) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(values)))
	for _, v := range values {
		body = binary.BigEndian.AppendUint32(body, uint32(len(v)))
		body = append(body, v...)
	}
	return pgwire.AppendFrame(nil, 'D', body)
}

func description(names ...string) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(names)))
	for _, n := range names {
		body = append(body, n...)
		body = append(body, 0)
		body = append(body, make([]byte, 18)...)
	}
	return pgwire.AppendFrame(nil, 'T', body)
}

func oneRow(v string) []byte {
	return bytes.Join([][]byte{description("c"), rowOf(v), frame('C', "SELECT 1\x00"), readyFrame}, nil)
}

// login greets and answers the gateway's own first statement.
func (f *fakeConn) login() bool {
	if !f.startup() {
		return false
	}
	f.write(greeting)
	if f.next() == nil {
		return false
	}
	f.mu.Lock()
	f.seen = nil // before the answer, after which the agent may send
	f.mu.Unlock()
	f.write(oneRow("2026-01-01T00:00:00Z"))
	return true
}

// letIn answers the gateway's first statement, for a gateway that lets itself
// be fooled up to there.
func (f *fakeConn) letIn() {
	if f.next() != nil {
		f.write(oneRow("2026-01-01T00:00:00Z"))
		f.next()
	}
}

// TestHostileTarget sends what no honest target sends in the place of an
// answer: nothing of it may reach the agent, and the session ends.
func TestHostileTarget(t *testing.T) {
	t.Parallel()
	const canary = "CANARY"
	big := bytes.Repeat([]byte("x"), 100<<10)
	extended := bytes.Join([][]byte{parse("", "SELECT 1"), bind("", "", 0, 0), execute("", 0), syncFrame}, nil)
	tests := []struct {
		name   string
		send   []byte // by the agent; a Query if nil
		answer []byte
	}{
		{name: "unknown type", answer: frame('?', canary)},
		{name: "PG-34 copy both", answer: frame('W', "\x00\x00\x00"+canary)},
		{name: "row without description", answer: rowOf(canary)},
		{name: "PG-33 more fields than described", answer: append(description("a"), rowOf("1", canary)...)},
		{name: "fewer fields than described", answer: append(description("a", "b"), rowOf(canary)...)},
		{name: "row longer than its fields", answer: append(description("a"), frame('D', "\x00\x01\x00\x00\x00\x01x"+canary)...)},
		{name: "field longer than its row", answer: append(description("a"), frame('D', "\x00\x01\x00\x00\x00\xffx"+canary)...)},
		{name: "negative field", answer: append(description("a"), frame('D', "\x00\x01\xff\xff\xff\xf0"+canary)...)},
		{name: "large malformed row", answer: bytes.Join([][]byte{
			description("a"), pgwire.AppendFrame(nil, 'D', append([]byte("\x00\x02\x00\x00\x00\x01xCANARY"), big...)),
		}, nil)},
		{name: "length below four", answer: append([]byte{'C', 0, 0, 0, 3}, canary...)},
		{name: "negative length", answer: append([]byte{'D', 0xff, 0xff, 0xff, 0xff}, canary...)},
		{name: "oversized", answer: append([]byte{'C', 0x7f, 0xff, 0xff, 0xff}, canary...)},
		{name: "malformed error", answer: frame('E', "Mx"+canary)},
		{name: "malformed notice", answer: frame('N', canary)},
		{name: "malformed tag", answer: frame('C', canary)},
		{name: "malformed description", answer: frame('T', "\x00\x02"+canary+"\x00")},
		{name: "malformed parameter status", answer: frame('S', canary+"\x00")},
		{name: "ready early", answer: append(bytes.Clone(readyFrame), oneRow(canary)...)},
		{name: "ready with a status of its own", answer: append(frame('C', "SELECT 1\x00"), frame('Z', "X"+canary)...)},
		{name: "copy data without copy", answer: frame('d', canary)},
		{name: "copy done without copy", answer: append(frame('c', ""), frame('d', canary)...)},
		{name: "rows in copy", answer: append(frame('H', "\x00\x00\x00"), rowOf(canary)...)},
		{name: "answer to Parse for a Query", answer: append(frame('1', ""), oneRow(canary)...)},
		{name: "authentication", answer: append(frame('R', "\x00\x00\x00\x03"), canary...)},
		{name: "a second key", answer: frame('K', "\x00\x00\x00\x01"+canary)},
		{name: "PG-24 encoding changed", answer: append(frame('S', "client_encoding\x00SJIS\x00"), oneRow(canary)...)},
		{name: "PG-24 strings changed", answer: append(frame('S', "standard_conforming_strings\x00off\x00"), oneRow(canary)...)},
		{name: "function result for a Query", answer: frame('V', "\x00\x00\x00\x06"+canary)},
		{name: "out of order", send: extended, answer: append(frame('2', ""), rowOf(canary)...)},
		{name: "rows before Bind", send: extended, answer: append(frame('1', ""), rowOf(canary)...)},
		{name: "description for Execute", send: extended, answer: bytes.Join([][]byte{
			frame('1', ""), frame('2', ""), description(canary),
		}, nil)},
		{name: "answers after an error", send: extended, answer: bytes.Join([][]byte{
			frame('E', "SERROR\x00C42601\x00Mx\x00\x00"), frame('1', ""), frame('2', ""), rowOf(canary),
		}, nil)},
		{name: "garbage", answer: []byte("HTTP/1.1 400 " + canary)},
		{name: "half a frame", answer: []byte{'C', 0, 0, 0, 100, 'x'}},
		{name: "nothing", answer: nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, func(f *fakeConn) {
				if !f.login() || f.next() == nil {
					return
				}
				f.write(tt.answer)
			})
			h := start(t, f.target)
			c := dialRaw(t, h.addr, "default", "agents", "orders")
			send := tt.send
			if send == nil {
				send = query("SELECT 1")
			}
			c.send(send)
			list, err := c.read(func([]byte) bool { return false })
			if err == nil || bytes.Contains(c.got, []byte(canary)) {
				t.Errorf("the agent got %s", show(list))
			}
			h.closed()
			for _, x := range h.agents() {
				if x.outcome == nil {
					t.Errorf("exchange %d has no outcome", x.n)
				}
			}
		})
	}
}

// TestUnaskedAnswer sends an answer when nothing was asked.
func TestUnaskedAnswer(t *testing.T) {
	t.Parallel()
	f := startFake(t, func(f *fakeConn) {
		if f.login() {
			f.write(oneRow("CANARY"))
			f.next()
		}
	})
	h := start(t, f.target)
	c, err := loginRaw(h.addr, "default", "agents", "orders")
	if err != nil {
		return // it came before the log-in was over
	}
	defer func() { _ = c.conn.Close() }()
	if list, _ := c.read(func([]byte) bool { return false }); bytes.Contains(c.got, []byte("CANARY")) {
		t.Errorf("the agent got %s", show(list))
	}
}

// TestHostileLogin has targets that misbehave before the session is ready; no
// credential may go out.
func TestHostileLogin(t *testing.T) {
	t.Parallel()
	tls12 := func(t *enforce.Target, _ *engine.Listener, _ *engine.Limits) {
		t.TLS = enforce.TargetTLS{Mode: "verify-full", Config: func() (*tls.Config, error) {
			return &tls.Config{ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}, nil
		}}
	}
	quick := func(_ *enforce.Target, _ *engine.Listener, l *engine.Limits) { l.Startup = 500 * time.Millisecond }
	sasl := frame('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00")
	tests := []struct {
		name  string
		opts  []option
		serve func(f *fakeConn)
	}{
		{name: "PG-14 clear text", serve: func(f *fakeConn) { f.startup(); f.write(frame('R', "\x00\x00\x00\x03")); f.next() }},
		{name: "PG-14 md5", serve: func(f *fakeConn) { f.startup(); f.write(frame('R', "\x00\x00\x00\x05salt")); f.next() }},
		{name: "PG-14 kerberos", serve: func(f *fakeConn) { f.startup(); f.write(frame('R', "\x00\x00\x00\x07")); f.next() }},
		{name: "PG-14 unknown mechanism", serve: func(f *fakeConn) { f.startup(); f.write(frame('R', "\x00\x00\x00\x0aPLAIN\x00\x00")); f.next() }},
		{name: "PG-14 SCRAM with a wrong nonce", serve: func(f *fakeConn) {
			f.startup()
			f.write(sasl)
			f.next()
			f.write(frame('R', "\x00\x00\x00\x0br=wrong,s=c2FsdHNhbHQ=,i=4096"))
			f.next()
		}},
		{name: "PG-14 SCRAM with a wrong signature", serve: func(f *fakeConn) {
			f.startup()
			f.write(sasl)
			first := f.next()
			_, nonce, _ := strings.Cut(string(first), "r=")
			f.write(frame('R', "\x00\x00\x00\x0br="+nonce+"x,s=c2FsdHNhbHQ=,i=4096"))
			f.next()
			f.write(frame('R', "\x00\x00\x00\x0cv=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), greeting)
			f.letIn()
		}},
		{name: "PG-14 SCRAM cut short", serve: func(f *fakeConn) {
			f.startup()
			f.write(sasl)
			f.next()
			f.write(greeting)
			f.letIn()
		}},
		{name: "endless authentication", serve: func(f *fakeConn) {
			f.startup()
			for range 100 {
				f.write(sasl)
			}
			f.next()
		}},
		{name: "PG-14 TLS refused", opts: []option{tls12}, serve: func(f *fakeConn) {
			f.startup()
			f.write([]byte{'N'})
			if f.login() { // whoever goes on without TLS is let in
				f.next()
			}
		}},
		{name: "PG-02 bytes before TLS", opts: []option{tls12}, serve: func(f *fakeConn) {
			f.startup()
			f.write([]byte{'S'}, greeting)
			_, _ = f.conn.Read(make([]byte, 1000))
		}},
		{name: "no answer", opts: []option{quick}, serve: func(f *fakeConn) { f.startup(); f.next() }},
		{name: "no answer to the first statement", opts: []option{quick}, serve: func(f *fakeConn) { f.startup(); f.write(greeting); f.next(); f.next() }},
		{name: "no pinned encoding", serve: func(f *fakeConn) { f.startup(); f.write(authOKFrame, readyFrame); f.letIn() }},
		{name: "endless notices", serve: func(f *fakeConn) {
			f.startup()
			f.write(authOKFrame)
			for range 2000 {
				f.write(frame('N', "SNOTICE\x00C00000\x00Mx\x00\x00"))
			}
			f.next()
		}},
		{name: "oversized frame", serve: func(f *fakeConn) { f.startup(); f.write([]byte{'R', 0x10, 0, 0, 0}); f.next() }},
		{name: "error", serve: func(f *fakeConn) {
			f.startup()
			f.write(frame('E', "SFATAL\x00C28P01\x00Mpassword upstream-secret\x00\x00"))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, tt.serve)
			h := start(t, append([]option{f.target}, tt.opts...)...)
			began := time.Now()
			_, err := loginRaw(h.addr, "default", "agents", "orders")
			if err == nil || !strings.Contains(err.Error(), "refused: ") {
				t.Errorf("log-in: %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), f.ln.Addr().String())) {
				t.Errorf("the refusal says too much: %v", err)
			}
			if time.Since(began) > 10*time.Second {
				t.Errorf("it took %v", time.Since(began))
			}
			if strings.Contains(f.saw(), "upstream-secret") || strings.Contains(f.saw(), "md5") {
				t.Errorf("the target saw %q", f.saw())
			}
			h.closed()
		})
	}
}

// TestInsecureAuth sends weak passwords where the operator allows it.
func TestInsecureAuth(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{"\x03": "upstream-secret\x00", "\x05salt": "md5"} {
		f := startFake(t, func(f *fakeConn) {
			if !f.startup() {
				return
			}
			f.write(frame('R', "\x00\x00\x00"+code))
			if f.next() == nil {
				return
			}
			if !strings.Contains(f.saw(), want) {
				f.t.Errorf("password message %q", f.saw())
			}
			f.write(greeting)
			f.next()
			f.write(oneRow("x"))
			f.next()
		})
		h := start(t, f.target, func(t *enforce.Target, _ *engine.Listener, _ *engine.Limits) {
			t.InsecureAuth = []string{"cleartext", "md5"}
		})
		dialRaw(t, h.addr, "default", "agents", "orders").conn.Close() //nolint:errcheck // a test's agent
	}
}

// closed waits until no session is open.
func (h *harness) closed() {
	h.t.Helper()
	for end := time.Now().Add(15 * time.Second); h.gate.Counters().OpenSessions > 0; {
		if time.Now().After(end) {
			h.t.Fatal("sessions stay open")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// TestRefusalCodes holds every code against the table of the documentation.
func TestRefusalCodes(t *testing.T) {
	t.Parallel()
	for _, code := range []access.Code{
		access.CodeIdentity, access.CodeExpired, access.CodeForbidden, access.CodePolicy, access.CodeApproval, access.CodeUnsupported,
		access.CodeProtocol, access.CodeTooLarge, access.CodeLimit, access.CodeBudget, access.CodeClosed, access.CodeEnded,
		access.CodeShutdown, access.CodeUpstream,
	} {
		if len(sqlState[code]) != 5 {
			t.Errorf("code %s has SQLSTATE %q", code, sqlState[code])
		}
	}
}
