package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// FuzzStartup: whatever a start-up packet says, what goes on to the target is
// of the allowed names, and the target's name is one that a configuration may have.
func FuzzStartup(f *testing.F) {
	f.Add([]byte("\x00\x03\x00\x00user\x00default\x00database\x00orders/db\x00options\x00-c geqo=off --timezone=UTC\x00\x00"))
	f.Add([]byte("\x00\x03\x00\x02user\x00a\x00_pq_.x\x00\x00replication\x00off\x00Application_Name\x00x\x00\x00"))
	f.Add([]byte("\x00\x03\x00\x00user\x00a\x00options\x00-c\\ role=x\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := pgwire.ParseStartup(body)
		if err != nil {
			return
		}
		if params, err := checkParams(m.Params); err == nil {
			for name, value := range params {
				if !startupParams[name] || strings.ContainsRune(value, 0) {
					t.Errorf("%q=%q goes on to the target", name, value)
				}
				if deny := checkPinned(name, value); deny != nil {
					t.Errorf("%q=%q goes on to the target: %v", name, value, deny)
				}
			}
		}
		if target, database, err := splitDatabase(m.Params); err == nil && (!targetName.MatchString(target) || strings.ContainsRune(database, 0)) {
			t.Errorf("target %q, database %q", target, database)
		}
	})
}

// FuzzParameters: what is recorded of a Bind or FunctionCall is JSON that says
// as many values as were sent.
func FuzzParameters(f *testing.F) {
	f.Add([]byte("p\x00s\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x01v\xff\xff\xff\xff\x00\x01\x00\x01"))
	f.Add([]byte("\x00\x00\x00\x02\x00\x00\x00\x01\x00\x02\x00\x00\x00\x02\xff\xfe\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x00\x05\x25\x00\x01\x00\x01\x00\x01\x00\x00\x00\x03abc\x00\x01"))
	f.Fuzz(func(t *testing.T, body []byte) {
		c := pgwire.NewCursor(body)
		c.String()
		c.String()
		values := c
		for range values.Int16() {
			values.Int16()
		}
		n := values.Int16()
		if out, _, err := appendParams(nil, &c); err == nil {
			var doc struct{ Params []json.RawMessage }
			if err := json.Unmarshal([]byte("{"+string(out)+"}"), &doc); err != nil || len(doc.Params) != n || !utf8.Valid(out) {
				t.Errorf("%q gave %s: %v", body, out, err)
			}
		}
		if out, err := appendCall(nil, body); err == nil {
			var doc struct {
				Function uint32
				Args     []json.RawMessage
			}
			if err := json.Unmarshal(out, &doc); err != nil || doc.Function != binary.BigEndian.Uint32(body) || !utf8.Valid(out) {
				t.Errorf("%q gave %s: %v", body, out, err)
			}
		}
	})
}

// FuzzTag: a completion never counts what the target did not say, and a
// Query's list of outcomes stays bounded.
func FuzzTag(f *testing.F) {
	f.Add("INSERT 0 5", uint64(3))
	f.Add("SELECT 18446744073709551615", uint64(1))
	f.Add("COPY -1", uint64(7))
	f.Fuzz(func(t *testing.T, tag string, rows uint64) {
		ex := &exch{simple: true, rows: rows}
		body := append([]byte(tag), 0)
		if !pgwire.WellFormed('C', body) {
			return
		}
		ex.tag('C', pgwire.AppendFrame(nil, 'C', body))
		if ex.outcome.Tag != tag || len(ex.statements) != 1 || ex.rows != 0 {
			t.Errorf("%q gave %+v", tag, ex.outcome)
		}
		if !strings.Contains(tag, " ") && ex.outcome.Rows != rows {
			t.Errorf("%q with %d rows gave %d", tag, rows, ex.outcome.Rows)
		}
	})
}

// script is a connection whose other side says what it says, whatever it hears.
type script struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)     { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)    { return s.out.Write(p) }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) Close() error                     { return nil }
func (s *script) said(text string) bool          { return bytes.Contains(s.out.Bytes(), []byte(text)) }
func (*script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// md5Answer is a PasswordMessage with an MD5 digest. SCRAM's random texts may hold "md5", too.
var md5Answer = regexp.MustCompile(`p\x00\x00\x00\x28md5[0-9a-f]{32}\x00`)

// FuzzTargetLogin: whatever a target says during the log-in, it does not get
// the password, and the log-in is over only with everything pinned.
func FuzzTargetLogin(f *testing.F) {
	sasl := frame('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00SCRAM-SHA-256-PLUS\x00\x00")
	f.Add(greeting)
	f.Add(bytes.Join([][]byte{sasl, frame('R', "\x00\x00\x00\x0br=x,s=c2FsdHNhbHQ=,i=4096"), frame('R', "\x00\x00\x00\x0cv=AAAA"), greeting}, nil))
	f.Add(append(frame('R', "\x00\x00\x00\x03"), greeting...))
	f.Add(append(frame('R', "\x00\x00\x00\x05salt"), greeting...))
	f.Add(frame('E', "SFATAL\x00C53300\x00Mx\x00\x00"))
	f.Add([]byte("R\x00\x00\x00*\x00\x00\x00\nSCRAM-SHA-256\x0002000700\x0000100017110R\x00\x00\x00!\x00\x00\x001"))
	f.Add(append(bytes.Clone(authOKFrame), frame('N', "SNOTICE\x00\x00")...))
	f.Fuzz(func(t *testing.T, answers []byte) {
		const password = "upstream-secret"
		s := &script{in: bytes.NewReader(answers)}
		u := &upstream{conn: s}
		up := &enforce.Upstream{Conn: s, User: "agent", Password: secret.New(password), TLS: enforce.TargetTLS{Mode: "disable"}}
		err := u.open(t.Context(), up, "db", map[string]string{"application_name": "x"}, 1<<20)
		if s.said(password) || md5Answer.Match(s.out.Bytes()) {
			t.Errorf("%q got the password", answers)
		}
		if err != nil {
			if strings.Contains(err.Error(), password) {
				t.Errorf("the error has the password: %v", err)
			}
			return
		}
		for name, want := range pinned {
			if u.param(name) != want {
				t.Errorf("%q is in with %s = %q", answers, name, u.param(name))
			}
		}
	})
}

// FuzzTokenMessages: whatever an agent sends in the place of a token, what is
// taken for one is in what it sent.
func FuzzTokenMessages(f *testing.F) {
	f.Add(frame('p', "token\x00"), false)
	f.Add(frame('p', "OAUTHBEARER\x00\x00\x00\x00\x18n,,\x01auth=Bearer abc\x01\x01"), true)
	f.Add(append(frame('p', "OAUTHBEARER\x00\xff\xff\xff\xff"), frame('p', "n,,\x01auth=Bearer abc\x01\x01")...), true)
	f.Add(frame('p', "SCRAM-SHA-256\x00\x00\x00\x00\x00"), true)
	f.Fuzz(func(t *testing.T, sent []byte, sasl bool) {
		s := &script{in: bytes.NewReader(sent)}
		a := &agent{conn: s, l: listenerFor(sasl)}
		token, err := a.token()
		if err == nil && (token.Reveal() == "" || !bytes.Contains(sent, []byte(token.Reveal()))) {
			t.Errorf("%q gave the token %q", sent, token.Reveal())
		}
		if err != nil && len(sent) > 40 && strings.Contains(err.Error(), string(sent[10:40])) {
			t.Errorf("the error repeats what was sent: %v", err)
		}
		if left, _ := io.Copy(io.Discard, s.in); left == int64(len(sent)) && err == nil {
			t.Error("a token out of nothing")
		}
	})
}

func listenerFor(sasl bool) *engine.Listener {
	if sasl {
		return &engine.Listener{Auth: "oauthbearer"}
	}
	return &engine.Listener{Auth: "password"}
}
