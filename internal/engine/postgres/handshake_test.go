package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

func plaintext(_ *enforce.Target, l *engine.Listener, _ *engine.Limits) { l.InsecurePlaintext = true }

func quickStart(_ *enforce.Target, _ *engine.Listener, l *engine.Limits) {
	l.Startup = 300 * time.Millisecond
}

// refusedEntries counts the entries about refusals, by what is refused.
func (h *harness) refusedEntries() (n int) {
	for _, e := range h.rec.Entries() {
		if e.Kind == evidence.KindRefused {
			n++
		}
	}
	return n
}

// say sends bytes on a new connection and returns what comes back until the
// gateway closes it.
func (h *harness) say(b ...[]byte) string {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write(bytes.Join(b, nil))
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	got, err := io.ReadAll(conn)
	var timeout net.Error
	if err, ok := err.(net.Error); ok && err.Timeout() { //nolint:errorlint // straight from the connection
		h.t.Errorf("the connection stays open: %v", timeout)
	}
	return string(got)
}

func startupBody(version uint32, body string) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(out, version), body...)
}

func TestOpenings(t *testing.T) {
	t.Parallel()
	const v3 = 3 << 16
	ssl := pgwire.AppendRequest(nil, pgwire.SSLRequestCode)
	gss := pgwire.AppendRequest(nil, pgwire.GSSENCRequestCode)
	word := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	tests := []struct {
		name    string
		secure  bool // a listener that takes tokens over TLS only
		send    []byte
		want    string // in what comes back
		entries int
	}{
		{"PG-01 bytes with SSLRequest", true, append(bytes.Clone(ssl), pgwire.AppendStartup(nil, 0, "user", "default")...), "S", 1},
		{"PG-04 plaintext", true, pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders"), "28P01", 1},
		{"PG-05 odd strings", false, startupBody(v3, "user\x00default\x00database\x00\x00"), "malformed start-up", 1},
		{"PG-05 no terminator", false, startupBody(v3, "user\x00default\x00"), "malformed start-up", 1},
		{"PG-05 same key twice", false, startupBody(v3, "user\x00a\x00user\x00b\x00\x00"), "malformed start-up", 1},
		{"PG-05 bytes behind", false, startupBody(v3, "user\x00a\x00\x00x"), "malformed start-up", 1},
		{"PG-05 not UTF-8", false, startupBody(v3, "user\x00\xff\x00\x00"), "malformed start-up", 1},
		{"PG-06 role in options", false, pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders", "options", "-c role=postgres"), "0A000", 1},
		{"PG-06 search_path", false, pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders", "search_path", "x"), "0A000", 1},
		{"PG-06 session_authorization", false, pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders", "options", "--session-authorization=x"), "0A000", 1},
		{"PG-06 escaped", false, pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders", "options", `-c\ role=x`), "0A000", 1},
		{"PG-07 replication", false, pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders", "replication", "database"), "0A000", 1},
		{"PG-08 no database", false, pgwire.AppendStartup(nil, 0, "user", "Default"), "42501", 1},
		{"PG-08 no user", false, pgwire.AppendStartup(nil, 0, "database", "orders"), "08P01", 1},
		{"PG-09 URL characters", false, pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders?host=evil"), "42501", 1},
		{"PG-09 conninfo", false, pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders host=evil"), "42501", 1},
		{"PG-10 protocol 2.0", false, startupBody(2<<16, strings.Repeat("\x00", 288)), "", 1},
		{"PG-10 protocol 4.0", false, startupBody(4<<16, "user\x00default\x00\x00"), "0A000", 1},
		{"PG-11 length 0", false, word(0), "malformed start-up", 1},
		{"PG-11 length 7", false, word(7), "malformed start-up", 1},
		{"PG-11 negative", false, word(0xffffffff), "malformed start-up", 1},
		{"PG-11 above the cap", false, word(10001), "malformed start-up", 1},
		{"SSLRequest twice is TLS and fails", true, append(bytes.Clone(ssl), ssl...), "S", 1},
		{"GSSENCRequest again and again", false, bytes.Repeat(gss, 8), "08P01", 1},
		{"HTTP", false, []byte("GET / HTTP/1.1\r\n\r\n"), "08P01", 1},
		{"pinned encoding", false, pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders", "client_encoding", "LATIN1"), "0A000", 1},
		{"message before the password", false, append(pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders"), query("SELECT 1")...), "08P01", 1},
		{"password too long", false, append(pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders"), 'p', 0, 1, 0, 0), "08P01", 1},
		{"no password", false, append(pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders"), 'p', 0, 0, 0, 5, 0), "28P01", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			opts := []option{quickStart}
			if !tt.secure {
				opts = append(opts, plaintext)
			}
			h := start(t, opts...)
			got := h.say(tt.send)
			if !strings.Contains(got, tt.want) || tt.want == "S" && len(got) > 8 && strings.Contains(got, "E\x00") {
				t.Errorf("got %q, want %s", got, tt.want)
			}
			if n := h.refusedEntries(); n != tt.entries {
				t.Errorf("%d entries about refusals, want %d", n, tt.entries)
			}
		})
	}
}

// TestPortScan leaves no entry.
func TestPortScan(t *testing.T) {
	t.Parallel()
	h := start(t)
	for i := range 6 {
		conn, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		if i > 1 {
			_, _ = conn.Write(pgwire.AppendRequest(nil, pgwire.SSLRequestCode))
			_, _ = conn.Read(make([]byte, 1))
		}
		if i%2 == 1 {
			_ = conn.(*net.TCPConn).SetLinger(0)
		}
		_ = conn.Close()
	}
	time.Sleep(100 * time.Millisecond)
	if n := h.refusedEntries(); n != 0 {
		t.Errorf("%d entries", n)
	}
}

// TestPG12HalfOpen is PG-12 on a small scale: memory and time are bounded.
func TestPG12HalfOpen(t *testing.T) {
	t.Parallel()
	h := start(t, plaintext, quickStart)
	began := time.Now()
	conns := make([]net.Conn, 300)
	for i := range conns {
		conn, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
		_, _ = conn.Write([]byte{0, 0, 0x27, 0x10, 0})
	}
	for _, conn := range conns {
		_ = conn.SetReadDeadline(began.Add(5 * time.Second))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	if n := h.refusedEntries(); n > 20 {
		t.Errorf("%d entries: a flood must not fill the disk", n)
	}
}

// TestPG10Versions negotiates minor versions and options (PG-10).
func TestPG10Versions(t *testing.T) {
	t.Parallel()
	h := start(t, plaintext)
	for version, want := range map[uint32]string{3 << 16: "", 3<<16 | 1: "", 3<<16 | 2: "", 3<<16 | 9999: "\x00\x03\x00\x02\x00\x00\x00\x00"} {
		for _, option := range []string{"", "_pq_.strange\x00x\x00"} {
			conn, err := net.Dial("tcp", h.addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = conn.Write(startupBody(version, "user\x00default\x00database\x00orders\x00"+option+"\x00"))
			_, _ = conn.Write(frame('p', "agents\x00"))
			c := &raw{t: t, conn: conn, in: pgwire.NewReader(conn, 1<<20)}
			negotiated, key := "", 0
			for _, f := range c.until('Z') {
				switch f[0] {
				case 'v':
					negotiated = string(f[5:])
				case 'K':
					key = len(f) - 9
				}
			}
			switch {
			case option != "" && !strings.HasSuffix(negotiated, "\x00\x00\x00\x01_pq_.strange\x00"):
				t.Errorf("version %x: option answered with %q", version, negotiated)
			case option == "" && negotiated != want:
				t.Errorf("version %x answered with %q", version, negotiated)
			}
			if want := 4; version&0xffff >= 2 {
				if want = 32; key != want {
					t.Errorf("version %x: key of %d bytes", version, key)
				}
			} else if key != want {
				t.Errorf("version %x: key of %d bytes", version, key)
			}
			_ = conn.Close()
		}
	}
}

func TestDirectTLS(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, protos := range [][]string{{"postgresql"}, {"h2"}, nil} {
		conn, err := tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: protos}) //nolint:gosec // a test's agent
		ok := err == nil
		if ok {
			_, _ = conn.Write(pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders"))
			var b [1]byte
			_, err = io.ReadFull(conn, b[:])
			ok = err == nil && b[0] == 'R'
			_ = conn.Close()
		}
		if want := len(protos) == 1 && protos[0] == "postgresql"; ok != want {
			t.Errorf("ALPN %v: %v %v", protos, ok, err)
		}
	}
	for _, extra := range []string{" sslnegotiation=direct", ""} {
		c, err := pgconn.Connect(t.Context(), h.url("agents", "orders")+extra)
		if err != nil {
			t.Errorf("pgx%s: %v", extra, err)
			continue
		}
		_ = c.Close(t.Context())
	}
}

func bearerListener(_ *enforce.Target, l *engine.Listener, _ *engine.Limits) {
	l.Auth, l.InsecurePlaintext, l.OAuthDiscovery = "oauthbearer", true, "https://issuer.test/.well-known/openid-configuration"
}

// TestPG17Bearer is PG-17.
func TestPG17Bearer(t *testing.T) {
	t.Parallel()
	h := start(t, bearerListener)
	startup := pgwire.AppendStartup(nil, 0, "user", "default", "database", "orders")
	initial := func(response string) []byte {
		body := append([]byte("OAUTHBEARER\x00"), binary.BigEndian.AppendUint32(nil, uint32(len(response)))...)
		return pgwire.AppendFrame(nil, 'p', append(body, response...))
	}
	for name, tt := range map[string]struct {
		send []byte
		want string
	}{
		"wrong scheme":                {initial("n,,\x01auth=Basic abc\x01\x01"), "08P01"},
		"channel binding":             {initial("p=tls-server-end-point,,\x01auth=Bearer agents\x01\x01"), "08P01"},
		"another identity":            {initial("n,a=root,\x01auth=Bearer agents\x01\x01"), "08P01"},
		"no auth":                     {initial("n,,\x01host=x\x01\x01"), "08P01"},
		"auth twice":                  {initial("n,,\x01auth=Bearer agents\x01auth=Bearer others\x01\x01"), "08P01"},
		"no end":                      {initial("n,,\x01auth=Bearer agents"), "08P01"},
		"bad character":               {initial("n,,\x01auth=Bearer ag ents\x01\x01"), "08P01"},
		"other mechanism":             {frame('p', "PLAIN\x00\x00\x00\x00\x00"), "08P01"},
		"other mechanism, good token": {frame('p', "PLAIN\x00\x00\x00\x00\x18n,,\x01auth=Bearer agents\x01\x01"), "08P01"},
		"bad token":                   {initial("n,,\x01auth=Bearer nonsense\x01\x01"), "28P01"},
		"good token":                  {append(initial("n,,\x01host=x\x01auth=bearer agents\x01\x01"), 'X', 0, 0, 0, 4), "Z\x00\x00\x00\x05I"},
		"empty first": {bytes.Join([][]byte{frame('p', "OAUTHBEARER\x00\xff\xff\xff\xff"), frame('p', "n,,\x01auth=Bearer agents\x01\x01"),
			{'X', 0, 0, 0, 4}}, nil), "Z\x00\x00\x00\x05I"},
		"discovery": {append(initial("n,,\x01auth=\x01\x01"), frame('p', "\x01")...), "28P01"},
	} {
		got := h.say(startup, tt.send)
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q", name, got)
		}
		if name == "discovery" {
			at := strings.Index(got, "{")
			var status map[string]string
			if at < 0 || json.NewDecoder(strings.NewReader(got[at:])).Decode(&status) != nil ||
				status["status"] != "invalid_token" || len(status) != 3 ||
				status["openid-configuration"] != "https://issuer.test/.well-known/openid-configuration" {
				t.Errorf("status %v in %q", status, got)
			}
		}
	}
	config, err := pgconn.ParseConfig("host=127.0.0.1 port=" + h.addr[strings.LastIndexByte(h.addr, ':')+1:] +
		" user=default dbname=orders sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.OAuthTokenProvider = func(context.Context) (string, error) { return "agents", nil }
	c, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close(t.Context())
}

// TestPG19TargetRefuses is PG-19: a target that does not let the gateway in.
func TestPG19TargetRefuses(t *testing.T) {
	t.Parallel()
	if _, err := server.PSQL("postgres", "CREATE ROLE gone NOLOGIN PASSWORD 'upstream-secret'; CREATE ROLE stale LOGIN PASSWORD 'upstream-secret' VALID UNTIL '2001-01-01'"); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"gone", "stale", "nobody"} {
		h := start(t, func(t *enforce.Target, _ *engine.Listener, _ *engine.Limits) {
			r := t.Roles["default"]
			r.User = user
			t.Roles = map[string]enforce.Role{"default": r}
		})
		_, err := loginRaw(h.addr, "default", "agents", "orders")
		if err == nil || !strings.Contains(err.Error(), "08001") || strings.Contains(err.Error(), user) {
			t.Errorf("%s: %v", user, err)
		}
		h.closed()
	}
	h := start(t)
	if _, err := loginRaw(h.addr, "default", "agents", "orders/nosuch"); err == nil || !strings.Contains(err.Error(), "no such database") {
		t.Errorf("%v", err)
	}
	for _, token := range []string{"others", "nonsense"} {
		if _, err := loginRaw(h.addr, "default", token, "orders"); err == nil {
			t.Errorf("token %q was let in", token)
		}
	}
	a, errA := loginRaw(h.addr, "default", "others", "orders")
	b, errB := loginRaw(h.addr, "default", "others", "nothere")
	if a != nil || b != nil || strings.ReplaceAll(errA.Error(), "orders", "nothere") != strings.ReplaceAll(errB.Error(), "orders", "nothere") {
		// The lengths of the frames differ by nothing but the name.
		t.Logf("%v\n%v", errA, errB)
	}
}
