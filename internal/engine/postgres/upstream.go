package postgres

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // the protocol's own method, used only where the operator allows it by name
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/xdg-go/scram"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// upstream is a connection to a target, logged in.
type upstream struct {
	conn    net.Conn
	in      *pgwire.Reader
	address string
	tlsInfo string
	pid     uint32
	key     []byte
	params  []param // in the order they came
	tx      byte
	started string // the backend's start, as the target says
}

type param struct{ name, value string }

func (u *upstream) param(name string) string {
	for i := len(u.params) - 1; i >= 0; i-- {
		if u.params[i].name == name {
			return u.params[i].value
		}
	}
	return ""
}

// login dials the session's target and logs in with its credential. database
// "" means the target's configured one, else the protocol's default. The pinned
// settings are added to params, which must not be nil.
func login(ctx context.Context, s *enforce.Session, database string, params map[string]string, limit int) (*upstream, error) {
	if database == "" {
		database = s.Target().Database
	}
	up, err := s.Dial(ctx)
	if err != nil {
		return nil, err
	}
	u := &upstream{conn: up.Conn, address: up.Address}
	stop := context.AfterFunc(ctx, func() { _ = up.Conn.SetDeadline(past) })
	defer stop()
	if deadline, ok := ctx.Deadline(); ok {
		_ = up.Conn.SetDeadline(deadline)
	}
	if err := u.open(ctx, up, database, params, limit); err != nil {
		_ = u.conn.Close()
		var deny *access.DenyError
		if errors.As(err, &deny) {
			return nil, err
		}
		return nil, &access.DenyError{
			Code: access.CodeUpstream, Rule: "target", Cause: err,
			Reason: "the target cannot be reached or refused the gateway's log-in",
			Hint:   "Tell the operator: gatebook check says what is wrong.",
		}
	}
	if !stop() && ctx.Err() != nil {
		_ = u.conn.Close()
		return nil, context.Cause(ctx)
	}
	_ = u.conn.SetDeadline(time.Time{})
	return u, nil
}

func (u *upstream) open(ctx context.Context, up *enforce.Upstream, database string, params map[string]string, limit int) error {
	if err := u.secure(ctx, up); err != nil {
		return err
	}
	words := []string{"user", up.User}
	if database != "" {
		words = append(words, "database", database)
	}
	params = maps.Clone(params)
	maps.Copy(params, pinned)
	for _, k := range slices.Sorted(maps.Keys(params)) {
		words = append(words, k, params[k])
	}
	if _, err := u.conn.Write(pgwire.AppendStartup(nil, 0, words...)); err != nil {
		return err
	}
	u.in = pgwire.NewReader(u.conn, limit)
	if err := u.authenticate(up); err != nil {
		return err
	}
	return u.untilReady()
}

// secure negotiates TLS as the target's mode asks.
func (u *upstream) secure(ctx context.Context, up *enforce.Upstream) error {
	if up.TLS.Mode == "disable" {
		return nil
	}
	if _, err := u.conn.Write(pgwire.AppendRequest(nil, pgwire.SSLRequestCode)); err != nil {
		return err
	}
	// Exactly one byte is read: what a man in the middle sends with it is
	// taken for the TLS handshake and fails there (CVE-2021-23222).
	var answer [1]byte
	if _, err := io.ReadFull(u.conn, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return fmt.Errorf("the target does not offer TLS (it answered %q), tls.mode is %s", answer[0], up.TLS.Mode)
	}
	config, err := up.TLS.Config()
	if err != nil {
		return err
	}
	conn := tls.Client(u.conn, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	state := conn.ConnectionState()
	u.conn = conn
	u.tlsInfo = tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
	return nil
}

// maxLogin is the largest frame taken from a target before the session is ready.
const maxLogin = 1 << 20

// next reads one whole frame of the log-in.
func (u *upstream) next() (typ byte, body []byte, err error) {
	typ, n, err := u.in.Peek()
	if err != nil {
		return 0, nil, err
	}
	if n > maxLogin {
		return 0, nil, fmt.Errorf("%w: frame %q of %d bytes during the log-in", pgwire.ErrMalformed, typ, n)
	}
	frame, err := u.in.Next()
	if err != nil {
		return 0, nil, err
	}
	if typ == 'E' {
		return 0, nil, upstreamError(frame)
	}
	return typ, frame[pgwire.FrameHeader:], nil
}

// upstreamError makes a target's refusal readable for the operator and, where
// it concerns what the agent asked for, for the agent.
func upstreamError(frame []byte) error {
	e := decodeError(frame)
	cause := fmt.Errorf("the target says %s: %s", e.Code, e.Message)
	deny := &access.DenyError{Code: access.CodeUpstream, Rule: "target", Cause: cause}
	switch e.Code {
	case "3D000":
		deny.Reason = "the target has no such database"
	case "53300":
		deny.Code, deny.Reason = access.CodeLimit, "the target has no free connection"
	case "57P03":
		deny.Reason = "the target is starting up or shutting down"
	default:
		deny.Reason = "the target refused the gateway's log-in"
		deny.Hint = "Tell the operator: gatebook check says what is wrong."
	}
	return deny
}

// Authentication requests.
const (
	authOK        = 0
	authCleartext = 3
	authMD5       = 5
	authSASL      = 10
	authContinue  = 11
	authFinal     = 12
)

func (u *upstream) authenticate(up *enforce.Upstream) error {
	for rounds := 0; rounds < 4; rounds++ {
		code, data, err := u.authRequest()
		if err != nil {
			return err
		}
		password := up.Password.Reveal()
		switch code {
		case authOK:
			return nil
		case authCleartext:
			if !slices.Contains(up.InsecureAuth, "cleartext") {
				return errors.New("the target asks for a clear-text password; insecure_auth does not list cleartext")
			}
			err = u.sendPassword(append([]byte(password), 0))
		case authMD5:
			if !slices.Contains(up.InsecureAuth, "md5") {
				return errors.New("the target asks for an MD5 password; insecure_auth does not list md5")
			}
			inner := md5.Sum([]byte(password + up.User)) //nolint:gosec // see the import
			outer := md5.Sum(append([]byte(hex.EncodeToString(inner[:])), data...))
			err = u.sendPassword(append([]byte("md5"+hex.EncodeToString(outer[:])), 0))
		case authSASL:
			err = u.scram(data, password)
		default:
			return fmt.Errorf("the target asks for authentication method %d, which is not supported", code)
		}
		if err != nil {
			return err
		}
	}
	return errors.New("the target's authentication does not end")
}

func (u *upstream) authRequest() (code uint32, data []byte, err error) {
	typ, body, err := u.next()
	if err != nil {
		return 0, nil, err
	}
	if typ != 'R' || len(body) < 4 {
		return 0, nil, fmt.Errorf("%w: %q where an authentication request is due", pgwire.ErrMalformed, typ)
	}
	return binary.BigEndian.Uint32(body), bytes.Clone(body[4:]), nil
}

func (u *upstream) sendPassword(body []byte) error {
	_, err := u.conn.Write(pgwire.AppendFrame(nil, 'p', body))
	return err
}

// scram speaks SCRAM-SHA-256 (RFC 5802, RFC 7677), with the binding
// tls-server-end-point (RFC 5929) where the target offers it.
func (u *upstream) scram(offer []byte, password string) error {
	const plain, plus = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
	mechanisms := strings.Split(strings.TrimRight(string(offer), "\x00"), "\x00")
	client, err := scram.SHA256.NewClientUnprepped("", password, "")
	if err != nil {
		return err
	}
	conn, secure := u.conn.(*tls.Conn)
	mechanism, conversation := plain, client.NewConversation()
	switch {
	case secure && slices.Contains(mechanisms, plus):
		state := conn.ConnectionState()
		binding, err := scram.NewTLSServerEndpointBinding(&state)
		if err != nil {
			return fmt.Errorf("channel binding: %w", err)
		}
		mechanism, conversation = plus, client.NewConversationWithChannelBinding(binding)
	case !slices.Contains(mechanisms, plain):
		return fmt.Errorf("the target offers none of the known SASL mechanisms (%q)", mechanisms)
	case secure:
		// Says that we would have bound: a target that offered it and does
		// not see it in our list knows that the offer was stripped.
		conversation = client.NewConversationAdvertisingChannelBinding()
	}
	first, err := conversation.Step("")
	if err != nil {
		return err
	}
	body := append([]byte(mechanism), 0)
	body = binary.BigEndian.AppendUint32(body, uint32(len(first)))
	if err := u.sendPassword(append(body, first...)); err != nil {
		return err
	}
	for _, want := range []uint32{authContinue, authFinal} {
		code, data, err := u.authRequest()
		if err != nil {
			return err
		}
		if code != want {
			return fmt.Errorf("%w: authentication request %d where %d is due", pgwire.ErrMalformed, code, want)
		}
		reply, err := conversation.Step(string(data))
		if err != nil {
			return fmt.Errorf("SCRAM: %w", err)
		}
		if want == authContinue {
			if err := u.sendPassword([]byte(reply)); err != nil {
				return err
			}
		}
	}
	if !conversation.Valid() {
		return errors.New("SCRAM: the target did not prove that it knows the password")
	}
	return nil
}

// untilReady takes the target's parameters and cancel key until it is ready.
func (u *upstream) untilReady() error {
	for frames := 0; frames < 1000; frames++ {
		typ, body, err := u.next()
		if err != nil {
			return err
		}
		c := pgwire.NewCursor(body)
		switch typ {
		case 'S':
			name, value := string(c.String()), string(c.String())
			if !c.End() {
				return fmt.Errorf("%w: ParameterStatus", pgwire.ErrMalformed)
			}
			u.params = append(u.params, param{name, value})
		case 'K':
			u.pid = uint32(c.Int32())
			u.key = bytes.Clone(c.Bytes(c.Left()))
			if c.Bad() || len(u.key) < 4 {
				return fmt.Errorf("%w: BackendKeyData", pgwire.ErrMalformed)
			}
		case 'N':
			// A notice of the log-in is for the operator's log at the target.
		case 'Z':
			if len(body) != 1 {
				return fmt.Errorf("%w: ReadyForQuery", pgwire.ErrMalformed)
			}
			u.tx = body[0]
			return u.checkPinned()
		default:
			return fmt.Errorf("%w: %q during the log-in", pgwire.ErrMalformed, typ)
		}
	}
	return errors.New("the target's log-in does not end")
}

func (u *upstream) checkPinned() error {
	for name, want := range pinned {
		if got := u.param(name); got != want {
			return fmt.Errorf("the target has %s = %q where %q was asked for", name, got, want)
		}
	}
	return nil
}

// own runs one of the gateway's own statements, a fixed template, recorded
// like an agent's with origin "gateway". It returns the rows' texts.
func (u *upstream) own(ctx context.Context, s *enforce.Session, text string) ([][]string, error) {
	return u.ownRows(ctx, s, text, maxLogin)
}

// ownRows is own for answers of at most limit bytes.
func (u *upstream) ownRows(ctx context.Context, s *enforce.Session, text string, limit int) ([][]string, error) {
	return u.exchange(ctx, s, text, pgwire.AppendQuery(nil, text), limit)
}

// exchange sends the frames of one of the gateway's own statements and reads its answer to the end.
func (u *upstream) exchange(ctx context.Context, s *enforce.Session, text string, frames []byte, limit int) ([][]string, error) {
	x := s.Begin(&access.Action{Op: "query", Origin: "gateway", Text: text})
	if err := x.Ready(ctx); err != nil {
		return nil, err
	}
	if _, err := u.conn.Write(frames); err != nil {
		return nil, err
	}
	o := access.Outcome{Status: access.StatusOK}
	var rows [][]string
	var answer []byte
	for {
		typ, n, err := u.in.Peek()
		if err != nil {
			return nil, err
		}
		if n > limit || len(answer) > limit {
			return nil, fmt.Errorf("%w: the target's answer to the gateway is too large", pgwire.ErrMalformed)
		}
		frame, err := u.in.Next()
		if err != nil {
			return nil, err
		}
		if typ == 'Z' {
			break
		}
		answer = append(answer, frame...)
		c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
		switch typ {
		case 'D':
			row := make([]string, 0, 4)
			for range c.Int16() {
				v, _ := c.Value()
				row = append(row, string(v))
			}
			if !c.End() {
				return nil, fmt.Errorf("%w: DataRow", pgwire.ErrMalformed)
			}
			rows = append(rows, row)
			o.Rows++
		case 'C':
			o.Tag = string(c.String())
		case 'E':
			e := decodeError(frame)
			o.Status, o.Code, o.Message = access.StatusError, e.Code, e.Message
		}
	}
	if _, err := x.End(&o, answer); err != nil {
		return nil, err
	}
	if o.Status == access.StatusError {
		return nil, fmt.Errorf("the target says %s: %s", o.Code, o.Message)
	}
	return rows, nil
}

const textBackendStart = `SELECT pg_catalog.to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
 FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()`

// reached records what reconciliation with the target's own log joins on.
func (u *upstream) reached(ctx context.Context, s *enforce.Session) error {
	rows, err := u.own(ctx, s, textBackendStart)
	if err != nil {
		return err
	}
	if len(rows) == 1 && len(rows[0]) == 1 {
		u.started = rows[0][0]
	}
	detail, err := json.Marshal(map[string]any{
		"pid": u.pid, "backend_start": u.started, "tls": u.tlsInfo, "server_version": u.param("server_version"),
		"application_name": u.param("application_name"),
	})
	if err != nil {
		return err
	}
	receipt, err := s.Reached(&enforce.Upstream{Conn: u.conn, User: u.param("session_authorization")}, detail)
	if err != nil {
		return err
	}
	return receipt.Wait(ctx)
}
