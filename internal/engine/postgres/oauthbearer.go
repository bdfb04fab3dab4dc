package postgres

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// tokenSASL takes the token by SASL OAUTHBEARER (RFC 7628; PostgreSQL
// documentation, "SASL Authentication").
func (a *agent) tokenSASL() (secret.String, error) {
	out, at := pgwire.BeginFrame(nil, 'R')
	out = append(out, 0, 0, 0, 10) // AuthenticationSASL
	out = append(out, "OAUTHBEARER\x00\x00"...)
	if _, err := a.conn.Write(pgwire.EndFrame(out, at)); err != nil {
		return secret.String{}, err
	}
	body, err := a.passwordMessage()
	if err != nil {
		return secret.String{}, err
	}
	c := pgwire.NewCursor(body)
	mechanism := string(c.String())
	response, null := c.Value()
	if !c.End() || mechanism != "OAUTHBEARER" {
		return secret.String{}, fmt.Errorf("%w: SASL initial response", pgwire.ErrMalformed)
	}
	if null {
		// An empty initial response: the client waits for an empty challenge.
		if _, err := a.conn.Write(pgwire.AppendFrame(nil, 'R', []byte{0, 0, 0, 11})); err != nil {
			return secret.String{}, err
		}
		if response, err = a.passwordMessage(); err != nil {
			return secret.String{}, err
		}
	}
	token, err := parseBearer(response)
	if err != nil {
		return secret.String{}, err
	}
	if token == "" {
		return secret.String{}, a.refuseBearer()
	}
	return secret.New(token), nil
}

// parseBearer reads the client's first message (RFC 7628 section 3.1). An
// empty token is the client's question where to get one (section 4.3).
func parseBearer(message []byte) (token string, err error) {
	bad := func(what string) (string, error) {
		return "", fmt.Errorf("%w: OAUTHBEARER: %s", pgwire.ErrMalformed, what)
	}
	fields := strings.Split(string(message), "\x01")
	if len(fields) < 3 || fields[len(fields)-1] != "" || fields[len(fields)-2] != "" {
		return bad("not ended by two 0x01")
	}
	// The gs2 header: channel binding is not part of this mechanism, and an
	// authorisation identity would be a second name beside the token's.
	if fields[0] != "n,," && fields[0] != "y,," {
		return bad("gs2 header must be \"n,,\"")
	}
	seen := make(map[string]bool)
	auth := ""
	for _, field := range fields[1 : len(fields)-2] {
		key, value, ok := strings.Cut(field, "=")
		if !ok || key == "" || seen[key] {
			return bad("malformed or repeated field")
		}
		seen[key] = true
		if key == "auth" {
			auth = value
		}
	}
	if !seen["auth"] {
		return bad("no auth field")
	}
	if auth == "" {
		return "", nil
	}
	scheme, value, ok := strings.Cut(auth, " ")
	value = strings.TrimLeft(value, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || value == "" {
		return bad("auth field is not a bearer token")
	}
	for _, ch := range []byte(value) {
		// b64token of RFC 6750 section 2.1.
		if ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9' || strings.IndexByte("-._~+/=", ch) >= 0 {
			continue
		}
		return bad("bearer token has a character that no token has")
	}
	return value, nil
}

// refuseBearer answers the question where to get a token: an error status, the
// client's dummy response, and the end of the exchange (RFC 7628 section 3.2.3).
func (a *agent) refuseBearer() error {
	status, err := json.Marshal(struct {
		Status    string `json:"status"`
		Scope     string `json:"scope"`
		Discovery string `json:"openid-configuration,omitempty"`
	}{"invalid_token", "openid", a.l.OAuthDiscovery})
	if err != nil {
		return err
	}
	body := append([]byte{0, 0, 0, 11}, status...)
	if _, err := a.conn.Write(pgwire.AppendFrame(nil, 'R', body)); err != nil {
		return err
	}
	dummy, err := a.passwordMessage()
	if err != nil {
		return err
	}
	if string(dummy) != "\x01" {
		return fmt.Errorf("%w: OAUTHBEARER: 0x01 was due", pgwire.ErrMalformed)
	}
	return &access.DenyError{
		Code: access.CodeIdentity, Rule: "token", Reason: "no token was given",
		Hint: "Configure the client with a bearer token; this gateway does not start a device flow.",
	}
}
