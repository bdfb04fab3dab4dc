package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

const (
	// maxToken bounds a compact token. Real ones are 1 to 8 KiB.
	maxToken = 16 << 10
	// maxNesting bounds the depth of header and claims.
	maxNesting = 16
	// maxKeyID bounds the "kid" header.
	maxKeyID = 512
)

// token is a parsed compact token; nothing in it is verified.
type token struct {
	compact string
	alg     string
	kid     string
	hasKid  bool
	typ     string
	payload []byte
	claims  map[string]any
}

// parseToken reads the compact serialization of RFC 7515 section 7.1 and
// nothing else. It is stricter than the RFC where leniency would let two
// readers see two tokens: duplicate member names, padding, white space, loose
// final bits of base64, text after the JSON and invalid UTF-8 are refused.
func parseToken(s string) (*token, error) {
	if s == "" {
		return nil, errors.New("the token is empty")
	}
	if len(s) > maxToken {
		return nil, fmt.Errorf("the token is %d bytes long, the limit is %d", len(s), maxToken)
	}
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("the token has %d parts, want 3", len(parts))
	}
	t := &token{compact: s}
	head, err := decodePart(parts[0])
	if err != nil {
		return nil, fmt.Errorf("token header: %w", err)
	}
	if t.payload, err = decodePart(parts[1]); err != nil {
		return nil, fmt.Errorf("token payload: %w", err)
	}
	if _, err := decodePart(parts[2]); err != nil {
		return nil, fmt.Errorf("token signature: %w", err)
	}
	header, err := decodeObject(head)
	if err != nil {
		return nil, fmt.Errorf("token header: %w", err)
	}
	if err := t.readHeader(header); err != nil {
		return nil, fmt.Errorf("token header: %w", err)
	}
	if t.claims, err = decodeObject(t.payload); err != nil {
		return nil, fmt.Errorf("token payload: %w", err)
	}
	return t, nil
}

// readHeader takes what verification needs. Members that name or carry keys
// (jku, x5u, jwk, x5c, x5t) are not read at all: keys come from the issuer.
func (t *token) readHeader(h map[string]any) error {
	for _, name := range []string{"crit", "b64", "zip", "enc"} {
		if _, ok := h[name]; ok {
			return fmt.Errorf("member %q is not supported", name)
		}
	}
	var ok bool
	if t.alg, ok = h["alg"].(string); !ok || t.alg == "" {
		return errors.New(`member "alg" is missing or not a string`)
	}
	for name, dst := range map[string]*string{"kid": &t.kid, "typ": &t.typ} {
		v, present := h[name]
		if !present {
			continue
		}
		if *dst, ok = v.(string); !ok || *dst == "" {
			return fmt.Errorf("member %q is not a text", name)
		}
	}
	_, t.hasKid = h["kid"]
	if len(t.kid) > maxKeyID {
		return fmt.Errorf(`member "kid" is longer than %d bytes`, maxKeyID)
	}
	if c, present := h["cty"]; present {
		if s, ok := c.(string); !ok || !strings.EqualFold(s, "json") {
			return errors.New("nested tokens are not supported")
		}
	}
	return nil
}

func decodePart(s string) ([]byte, error) {
	if s == "" {
		return nil, errors.New("empty")
	}
	if strings.ContainsAny(s, "\r\n") { // which encoding/base64 skips
		return nil, errors.New("line break in base64url")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64url without padding")
	}
	return b, nil
}

// decodeObject reads one JSON object whose members are unique in every depth,
// with exact names: encoding/json into a struct would take "ISS" for "iss" and
// the last of two "sub". Integers stay exact.
func decodeObject(b []byte) (map[string]any, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("invalid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := decodeValue(d, 0)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the JSON object")
	}
	return m, nil
}

var errJSON = errors.New("malformed JSON") // encoding/json's own texts quote the input

func decodeValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("JSON nested deeper than %d", maxNesting)
	}
	tok, err := d.Token()
	if err != nil {
		return nil, errJSON
	}
	switch v := tok.(type) {
	case json.Delim:
		if v == '{' {
			return decodeMembers(d, depth)
		}
		return decodeElements(d, depth)
	case json.Number:
		return number(v)
	}
	return tok, nil // string, bool or nil
}

func decodeMembers(d *json.Decoder, depth int) (any, error) {
	m := map[string]any{}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return nil, errJSON
		}
		name, ok := k.(string)
		if !ok {
			return nil, errJSON
		}
		if _, dup := m[name]; dup {
			return nil, fmt.Errorf("member %s occurs twice", quote(name))
		}
		if m[name], err = decodeValue(d, depth+1); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errJSON
	}
	return m, nil
}

func decodeElements(d *json.Decoder, depth int) (any, error) {
	l := []any{}
	for d.More() {
		v, err := decodeValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		l = append(l, v)
	}
	if _, err := d.Token(); err != nil {
		return nil, errJSON
	}
	return l, nil
}

// number keeps integers exact: two ids must not become one float. An integer
// past 64 bits is refused for the same reason.
func number(n json.Number) (any, error) {
	if i, err := n.Int64(); err == nil {
		return i, nil
	}
	f, err := n.Float64()
	if err != nil || math.IsInf(f, 0) || !strings.ContainsAny(n.String(), ".eE") {
		return nil, errors.New("number out of range")
	}
	return f, nil
}
