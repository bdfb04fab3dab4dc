package postgres

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"sort"
	"strings"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// past is a deadline that makes a blocked read or write return.
var past = time.Unix(1, 0)

// maxToken is the largest password or SASL message taken before the agent is
// known, in bytes.
const maxToken = 32 << 10

// agent is the downstream side of one connection.
type agent struct {
	d      *Driver
	raw    net.Conn // as accepted
	conn   net.Conn // raw, or TLS over it
	l      *engine.Listener
	source string

	secure    bool
	begun     bool // a StartupMessage was read
	mute      bool // a TLS handshake was begun and is not over: no other bytes may go out
	tlsInfo   string
	minor     uint16            // protocol 3.minor
	given     map[string]string // the start-up packet's parameters
	params    map[string]string // those that go on to the target
	target    string
	database  string
	defaulted bool // the database name was not given, or is the user name: the client's own default
}

// opening reads one opening packet: its code or version word and what follows.
func (a *agent) opening() (code uint32, body []byte, err error) {
	var word [4]byte
	if _, err := io.ReadFull(a.conn, word[:]); err != nil {
		return 0, nil, err
	}
	return a.openingAfter(word)
}

func (a *agent) openingAfter(word [4]byte) (code uint32, body []byte, err error) {
	n, err := pgwire.OpeningLength(word)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(a.conn, body); err != nil {
		return 0, nil, err
	}
	return binary.BigEndian.Uint32(body), body, nil
}

// handshake speaks with the agent until its token is known. A nil opening
// without an error means that the connection has served its purpose (a cancel).
func (a *agent) handshake(ctx context.Context) (*enforce.Opening, error) {
	if err := a.conn.SetDeadline(time.Now().Add(a.d.limits.Startup)); err != nil {
		return nil, err
	}
	body, err := a.negotiate(ctx)
	if err != nil || body == nil {
		return nil, a.refused(ctx, err)
	}
	a.begun = true
	o, err := a.startup(body)
	if err != nil {
		return nil, a.refused(ctx, err)
	}
	o.Token, err = a.token()
	if err == nil && a.givesAway(o.Token) {
		err = &access.DenyError{
			Code: access.CodeProtocol, Rule: "startup.token", Reason: "a start-up parameter holds the token",
			Hint: "Give the token as the password only.",
		}
	}
	if err != nil {
		return nil, a.refused(ctx, err)
	}
	// The answer to the log-in may take longer than the log-in: a place in the
	// queue, the issuer, the target.
	if err := a.conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return o, nil
}

// refused tells the agent, and the book, that the handshake led nowhere. A
// connection that was closed before it asked for anything (a port scan, a
// health check), or in order when asked for the token, is not worth an entry.
func (a *agent) refused(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, io.EOF) || !a.begun && agentLeft(err) {
		return err
	}
	var deny *access.DenyError
	if !errors.As(err, &deny) {
		deny = &access.DenyError{Code: access.CodeProtocol, Rule: "protocol", Reason: "malformed start-up", Cause: err}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			deny.Reason = "the start-up took too long"
		}
	}
	a.d.gate.Refuse(ctx, evidence.Refused{
		What: "login", Source: a.source, Listener: a.l.Address, Target: a.target,
	}, deny)
	a.fatal(deny)
	return err
}

// fatal tells the agent why the connection ends.
func (a *agent) fatal(deny *access.DenyError) {
	if a.mute {
		return
	}
	_ = a.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, _ = a.conn.Write(appendError(nil, "FATAL", deny, ""))
}

// negotiate handles everything before the StartupMessage and returns its body,
// nil after a CancelRequest.
func (a *agent) negotiate(ctx context.Context) ([]byte, error) {
	var first [4]byte
	if _, err := io.ReadFull(a.conn, first[:1]); err != nil {
		return nil, err
	}
	if first[0] == 0x16 { // a TLS record of type handshake: direct TLS
		if err := a.handshakeTLS(ctx, &prefixConn{Conn: a.raw, prefix: []byte{0x16}}, true); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(a.conn, first[:1]); err != nil {
			return nil, err
		}
	}
	if _, err := io.ReadFull(a.conn, first[1:]); err != nil {
		return nil, err
	}
	code, body, err := a.openingAfter(first)
	for asked := 0; err == nil; asked++ {
		if asked > 2 {
			return nil, fmt.Errorf("%w: too many opening packets", pgwire.ErrMalformed)
		}
		switch code {
		case pgwire.SSLRequestCode:
			if a.secure || len(body) != 4 {
				return nil, fmt.Errorf("%w: TLS asked for twice", pgwire.ErrMalformed)
			}
			if _, err := a.conn.Write([]byte{'S'}); err != nil {
				return nil, err
			}
			// Nothing was read beyond the request: bytes sent with it are
			// taken for the TLS handshake and fail there (CVE-2021-3935).
			err = a.handshakeTLS(ctx, a.raw, false)
		case pgwire.GSSENCRequestCode:
			_, err = a.conn.Write([]byte{'N'})
		case pgwire.CancelRequestCode:
			return nil, a.d.cancelRequest(ctx, a, body[4:])
		default:
			return body, nil
		}
		if err == nil {
			code, body, err = a.opening()
		}
	}
	return nil, err
}

// prefixConn gives back bytes that were read to see what comes.
type prefixConn struct {
	net.Conn
	prefix []byte
}

func (c *prefixConn) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// alpn is the protocol name that direct TLS must negotiate.
const alpn = "postgresql"

func (a *agent) handshakeTLS(ctx context.Context, under net.Conn, direct bool) error {
	config, err := a.l.TLS()
	if err != nil {
		return &access.DenyError{
			Code: access.CodeClosed, Rule: "listener.tls", Reason: "the gateway has no usable certificate", Cause: err,
		}
	}
	config = config.Clone()
	config.NextProtos = []string{alpn}
	conn := tls.Server(under, config)
	a.mute = true
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	state := conn.ConnectionState()
	if direct && state.NegotiatedProtocol != alpn {
		_ = conn.Close()
		return errors.New("direct TLS without ALPN postgresql")
	}
	a.conn, a.secure, a.mute = conn, true, false
	a.tlsInfo = tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
	return nil
}

// startup checks a StartupMessage and says what it asks for.
func (a *agent) startup(body []byte) (*enforce.Opening, error) {
	m, err := pgwire.ParseStartup(body)
	if err != nil {
		return nil, err
	}
	if m.Major != 3 {
		return nil, access.Deny(access.CodeUnsupported, "protocol version %d.%d is not supported, 3.0 to 3.2 are", m.Major, m.Minor)
	}
	if !a.secure && !a.l.InsecurePlaintext {
		return nil, &access.DenyError{
			Code: access.CodeIdentity, Rule: "listener.tls", Reason: "this listener takes tokens over TLS only",
			Hint: "Set sslmode=verify-full (gatebook connect prints ready settings).",
		}
	}
	a.minor = m.Minor
	if m.Minor > 2 || len(m.Unknown) > 0 {
		if err := a.negotiateVersion(m); err != nil {
			return nil, err
		}
	}
	a.given = m.Params
	params, err := checkParams(m.Params)
	if err != nil {
		return nil, err
	}
	a.params = params
	target, database, err := splitDatabase(m.Params)
	if err != nil {
		return nil, err
	}
	a.target, a.database = target, database
	a.defaulted = m.Params["database"] == "" || m.Params["database"] == m.Params["user"]
	if m.Params["user"] == "" {
		return nil, access.Deny(access.CodeProtocol, "no user name in the start-up packet; the user name is the role")
	}
	detail, err := json.Marshal(struct {
		Protocol string            `json:"protocol"`
		TLS      string            `json:"tls,omitempty"`
		Auth     string            `json:"auth"`
		Params   map[string]string `json:"parameters"`
	}{fmt.Sprintf("3.%d", a.minor), a.tlsInfo, a.l.Auth, m.Params})
	if err != nil {
		return nil, err
	}
	return &enforce.Opening{
		Target: target, Role: m.Params["user"], Database: database, Source: a.source, Listener: a.l.Address, Detail: detail,
	}, nil
}

// givesAway reports whether what came before the token, and is recorded and
// forwarded, holds it.
func (a *agent) givesAway(token secret.String) bool {
	text := token.Reveal()
	if i := strings.LastIndexByte(text, '.'); len(text)-i > 16 {
		text = text[i+1:] // the signature, without which a token is worth nothing
	}
	if len(text) < 16 {
		return false
	}
	for _, params := range []map[string]string{a.given, a.params} {
		for name, value := range params {
			if strings.Contains(name, text) || strings.Contains(value, text) {
				return true
			}
		}
	}
	return false
}

// negotiateVersion answers a newer minor version or unknown protocol options.
func (a *agent) negotiateVersion(m *pgwire.Startup) error {
	a.minor = min(a.minor, 2)
	out, at := pgwire.BeginFrame(nil, 'v')
	out = binary.BigEndian.AppendUint32(out, 3<<16|uint32(a.minor))
	out = binary.BigEndian.AppendUint32(out, uint32(len(m.Unknown)))
	for _, name := range m.Unknown {
		out = append(out, name...)
		out = append(out, 0)
	}
	_, err := a.conn.Write(pgwire.EndFrame(out, at))
	return err
}

var targetName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// hintForm is the form in which agents name target, database and role.
const hintForm = "Use dbname=TARGET or dbname=TARGET/DATABASE and user=ROLE, such as \"dbname=orders user=default\"; " +
	"target names are of a-z, 0-9 and -."

// splitDatabase reads "target" or "target/database" from the start-up packet.
func splitDatabase(params map[string]string) (target, database string, err error) {
	name := params["database"]
	if name == "" {
		name = params["user"] // the protocol's own default
	}
	target, database, given := strings.Cut(name, "/")
	if !targetName.MatchString(target) || (given && database == "") || len(database) > 63 {
		return "", "", &access.DenyError{
			Code: access.CodeForbidden, Rule: "target.name", Reason: "the database name does not name a target",
			Hint: hintForm,
		}
	}
	return target, database, nil
}

// startupParams are the parameters that go on to the target, in lower case.
// Everything that changes who acts, where names resolve, or how text is read is not among them.
var startupParams = map[string]bool{
	"application_name": true, "client_encoding": true, "standard_conforming_strings": true, "datestyle": true,
	"timezone": true, "intervalstyle": true, "extra_float_digits": true, "bytea_output": true,
	"statement_timeout": true, "lock_timeout": true, "idle_in_transaction_session_timeout": true,
	"idle_session_timeout": true, "client_min_messages": true, "geqo": true, "compute_query_id": true,
}

// checkParams returns the allowed start-up parameters by lower-case name.
func checkParams(all map[string]string) (map[string]string, error) {
	given := make(map[string]string)
	for name, value := range all {
		switch {
		case name == "user" || name == "database" || strings.HasPrefix(name, "_pq_."):
		case name == "replication":
			if v := strings.ToLower(value); v != "false" && v != "off" && v != "no" && v != "0" {
				return nil, access.Deny(access.CodeUnsupported, "replication connections are refused")
			}
		case name == "options":
			if err := parseOptions(value, given); err != nil {
				return nil, err
			}
		default:
			if err := addParam(given, name, value); err != nil {
				return nil, err
			}
		}
	}
	return given, nil
}

func addParam(given map[string]string, name, value string) error {
	lower := strings.ToLower(name)
	if !startupParams[lower] {
		names := make([]string, 0, len(startupParams))
		for n := range startupParams {
			names = append(names, n)
		}
		sort.Strings(names)
		return &access.DenyError{
			Code: access.CodeUnsupported, Rule: "startup", Reason: fmt.Sprintf("start-up parameter %.32q is not allowed", name),
			Hint: "Allowed are " + strings.Join(names, ", ") + ".",
		}
	}
	if old, twice := given[lower]; twice && old != value {
		return access.Deny(access.CodeProtocol, "start-up parameter %q is given twice", lower)
	}
	if deny := checkPinned(lower, value); deny != nil {
		return deny
	}
	given[lower] = value
	return nil
}

// parseOptions reads the "options" parameter: words "-c name=value", "-cname=value" or
// "--name=value", a backslash quoting the next character (as the server's pg_split_opts).
func parseOptions(text string, given map[string]string) error {
	words, err := splitOptions(text)
	if err != nil {
		return err
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "-c" && i+1 < len(words):
			i++
			w = words[i]
		case strings.HasPrefix(w, "--"):
			w = w[2:]
		case strings.HasPrefix(w, "-c") && len(w) > 2:
			w = w[2:]
		default:
			return access.Deny(access.CodeUnsupported, "only \"-c name=value\" is allowed in options")
		}
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			return access.Deny(access.CodeUnsupported, "only \"-c name=value\" is allowed in options")
		}
		if err := addParam(given, strings.ReplaceAll(name, "-", "_"), value); err != nil {
			return err
		}
	}
	return nil
}

func splitOptions(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	inside := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
			if i == len(text) {
				return nil, access.Deny(access.CodeProtocol, "options end with a backslash")
			}
			word.WriteByte(text[i])
			inside = true
		case c == ' ' || c >= '\t' && c <= '\r':
			if inside {
				words = append(words, word.String())
				word.Reset()
				inside = false
			}
		default:
			word.WriteByte(c)
			inside = true
		}
	}
	if inside {
		words = append(words, word.String())
	}
	return words, nil
}

// token asks for the agent's token in the listener's way.
func (a *agent) token() (secret.String, error) {
	if a.l.Auth == "oauthbearer" {
		return a.tokenSASL()
	}
	if _, err := a.conn.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}); err != nil { // AuthenticationCleartextPassword
		return secret.String{}, err
	}
	body, err := a.passwordMessage()
	if err != nil {
		return secret.String{}, err
	}
	c := pgwire.NewCursor(body)
	password := string(c.String())
	if !c.End() {
		return secret.String{}, fmt.Errorf("%w: password message", pgwire.ErrMalformed)
	}
	if password == "" {
		return secret.String{}, &access.DenyError{
			Code: access.CodeIdentity, Rule: "token", Reason: "no token was given",
			Hint: "Give the OIDC token as the password (PGPASSWORD or a passfile).",
		}
	}
	return secret.New(password), nil
}

// passwordMessage reads one frame of type 'p'.
func (a *agent) passwordMessage() ([]byte, error) {
	var header [pgwire.FrameHeader]byte
	if _, err := io.ReadFull(a.conn, header[:]); err != nil {
		return nil, err
	}
	if header[0] != 'p' {
		return nil, fmt.Errorf("%w: %q where a password message is due", pgwire.ErrMalformed, header[0])
	}
	n, err := pgwire.BodyLength(header[:], maxToken)
	if err != nil {
		return nil, err
	}
	body := make([]byte, n)
	_, err = io.ReadFull(a.conn, body)
	return body, err
}
