// Package pgwire has the parts of the PostgreSQL frontend/backend protocol
// (PostgreSQL documentation, chapter "Frontend/Backend Protocol") that a relay
// needs and pgproto3 does not give: the opening packets of any version, and
// frames as they stand on the wire.
//
// Everything here works on bytes: no sockets, no clocks, no policy. Every
// length is checked against a limit before memory is taken.
package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Request codes in the place of a protocol version.
const (
	CancelRequestCode = 80877102
	SSLRequestCode    = 80877103
	GSSENCRequestCode = 80877104
)

// MaxStartup is the largest opening packet in bytes, the server's own limit.
const MaxStartup = 10000

// ErrMalformed is matched by every refusal of malformed bytes.
var ErrMalformed = errors.New("malformed packet")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// OpeningLength checks the length word of an opening packet and returns the
// bytes that follow the word.
func OpeningLength(word [4]byte) (int, error) {
	n := binary.BigEndian.Uint32(word[:])
	if n < 8 || n > MaxStartup {
		return 0, malformed("opening packet of %d bytes, want 8 to %d", n, MaxStartup)
	}
	return int(n) - 4, nil
}

// Startup is a StartupMessage.
type Startup struct {
	Major, Minor uint16
	Params       map[string]string
	// Unknown lists the parameters beginning with "_pq_." in order: protocol
	// options, all unknown to us.
	Unknown []string
}

// ParseStartup reads the body of a StartupMessage, after the length word. A
// parameter given twice, an empty name, bytes after the terminator, invalid
// UTF-8 and missing zeros are refused: what two readers could read differently does not pass.
func ParseStartup(body []byte) (*Startup, error) {
	if len(body) < 4 {
		return nil, malformed("start-up packet without a version")
	}
	s := &Startup{
		Major: binary.BigEndian.Uint16(body), Minor: binary.BigEndian.Uint16(body[2:]), Params: make(map[string]string),
	}
	rest := body[4:]
	for {
		name, r, ok := cutString(rest)
		if !ok {
			return nil, malformed("start-up packet without its terminator")
		}
		if name == "" {
			if len(r) != 0 {
				return nil, malformed("%d bytes after the start-up packet's terminator", len(r))
			}
			return s, nil
		}
		value, r, ok := cutString(r)
		if !ok {
			return nil, malformed("start-up parameter without a value")
		}
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, malformed("start-up parameter is not valid UTF-8")
		}
		if _, twice := s.Params[name]; twice {
			return nil, malformed("start-up parameter given twice")
		}
		s.Params[name] = value
		if len(name) >= 5 && name[:5] == "_pq_." {
			s.Unknown = append(s.Unknown, name)
		}
		rest = r
	}
}

func cutString(b []byte) (s string, rest []byte, ok bool) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:], true
		}
	}
	return "", nil, false
}

// AppendStartup appends a whole StartupMessage of protocol 3.minor; params are
// names and values in turn.
func AppendStartup(dst []byte, minor uint16, params ...string) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 3)
	dst = binary.BigEndian.AppendUint16(dst, minor)
	for _, p := range params {
		dst = append(dst, p...)
		dst = append(dst, 0)
	}
	dst = append(dst, 0)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

// AppendRequest appends an opening packet of 8 bytes such as SSLRequest.
func AppendRequest(dst []byte, code uint32) []byte {
	dst = binary.BigEndian.AppendUint32(dst, 8)
	return binary.BigEndian.AppendUint32(dst, code)
}

// AppendCancel appends a CancelRequest. The key has 4 bytes up to protocol 3.1
// and up to 256 from 3.2 on.
func AppendCancel(dst []byte, pid uint32, key []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(12+len(key)))
	dst = binary.BigEndian.AppendUint32(dst, CancelRequestCode)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return append(dst, key...)
}

// ParseCancel reads the body of a CancelRequest after the request code.
func ParseCancel(body []byte) (pid uint32, key []byte, err error) {
	if len(body) < 8 || len(body) > 4+256 {
		return 0, nil, malformed("cancel request with %d bytes of key", len(body)-4)
	}
	return binary.BigEndian.Uint32(body), body[4:], nil
}

// FrameHeader is the size of a frame's type byte and length word.
const FrameHeader = 5

// BodyLength checks the length word of a frame and returns the length of its
// body. The largest body any frame may have is max.
func BodyLength(header []byte, limit int) (int, error) {
	n := binary.BigEndian.Uint32(header[1:5])
	if n < 4 {
		return 0, malformed("frame %q with length %d", header[0], n)
	}
	if uint64(n)-4 > uint64(limit) {
		return 0, malformed("frame %q of %d bytes, at most %d", header[0], n, limit)
	}
	return int(n - 4), nil
}

// BeginFrame appends a frame's type and room for its length; EndFrame fills it
// in. at is where the frame begins.
func BeginFrame(dst []byte, typ byte) (out []byte, at int) {
	return append(dst, typ, 0, 0, 0, 0), len(dst)
}

// EndFrame fills in the length of the frame that begins at at.
func EndFrame(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-1))
	return dst
}

// AppendFrame appends a whole frame.
func AppendFrame(dst []byte, typ byte, body []byte) []byte {
	dst, at := BeginFrame(dst, typ)
	dst = append(dst, body...)
	return EndFrame(dst, at)
}

// AppendQuery appends a Query frame.
func AppendQuery(dst []byte, text string) []byte {
	dst, at := BeginFrame(dst, 'Q')
	dst = append(dst, text...)
	dst = append(dst, 0)
	return EndFrame(dst, at)
}

// AppendParse appends a Parse frame without parameter types.
func AppendParse(dst []byte, name, text string) []byte {
	dst, at := BeginFrame(dst, 'P')
	dst = append(dst, name...)
	dst = append(dst, 0)
	dst = append(dst, text...)
	dst = append(dst, 0, 0, 0)
	return EndFrame(dst, at)
}

// Cursor reads the fields of a frame's body in order; after the first field
// that does not fit, Bad stays true and every further read gives zero values.
type Cursor struct {
	b   []byte
	bad bool
}

// NewCursor returns a cursor over body; results alias it.
func NewCursor(body []byte) Cursor { return Cursor{b: body} }

// Byte reads one byte.
func (c *Cursor) Byte() byte {
	if len(c.b) < 1 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

// Int16 reads an unsigned 16-bit number, as counts are.
func (c *Cursor) Int16() int {
	if len(c.b) < 2 {
		c.bad = true
		c.b = nil
		return 0
	}
	v := int(binary.BigEndian.Uint16(c.b))
	c.b = c.b[2:]
	return v
}

// Int32 reads a signed 32-bit number.
func (c *Cursor) Int32() int32 {
	if len(c.b) < 4 {
		c.bad = true
		c.b = nil
		return 0
	}
	v := int32(binary.BigEndian.Uint32(c.b))
	c.b = c.b[4:]
	return v
}

// String reads up to and over the next zero byte.
func (c *Cursor) String() []byte {
	for i, ch := range c.b {
		if ch == 0 {
			s := c.b[:i]
			c.b = c.b[i+1:]
			return s
		}
	}
	c.bad = true
	c.b = nil
	return nil
}

// Bytes reads n bytes.
func (c *Cursor) Bytes(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad = true
		c.b = nil
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

// Value reads a length-prefixed value; null is true for length -1.
func (c *Cursor) Value() (v []byte, null bool) {
	n := c.Int32()
	if n == -1 && !c.bad {
		return nil, true
	}
	return c.Bytes(int(n)), false
}

// Left returns how many bytes are left.
func (c *Cursor) Left() int { return len(c.b) }

// End reports whether all fields fitted and no byte is left.
func (c *Cursor) End() bool { return !c.bad && len(c.b) == 0 }

// Bad reports whether a field did not fit.
func (c *Cursor) Bad() bool { return c.bad }
