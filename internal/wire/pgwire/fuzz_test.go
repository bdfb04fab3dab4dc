package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func FuzzParseStartup(f *testing.F) {
	f.Add(AppendStartup(nil, 0, "user", "a", "database", "b", "_pq_.x", "y")[4:])
	f.Add([]byte{0, 3, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := ParseStartup(body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%v", err)
			}
			return
		}
		n := 0
		for name, value := range s.Params {
			n += len(name) + len(value) + 2
		}
		if n+5 != len(body) {
			t.Errorf("%d of %d bytes were understood", n+5, len(body))
		}
	})
}

// FuzzReader splits a stream in every way and expects the same frames; no
// frame takes more memory than the limit.
func FuzzReader(f *testing.F) {
	f.Add([]byte("D\x00\x00\x00\x06\x00\x00C\x00\x00\x00\x04"), uint8(3))
	f.Fuzz(func(t *testing.T, stream []byte, how uint8) {
		const limit = 1 << 16
		read := func(r io.Reader, how uint8) (out []byte) {
			in := NewReader(r, limit)
			for i := 0; ; i++ {
				typ, n, err := in.Peek()
				if err != nil {
					return out
				}
				switch {
				case in.Buffered() && how%3 == 1:
					frames, count := in.Run()
					if count < 1 || frames[0] != typ {
						t.Fatalf("Run gave %d frames", count)
					}
					out = append(out, frames...)
				case how%3 == 2:
					for more := true; more; {
						var piece []byte
						if piece, more, err = in.Piece(); err != nil {
							return out
						}
						out = append(out, piece...)
					}
				default:
					frame, err := in.Next()
					if err != nil {
						return out
					}
					if len(frame) != FrameHeader+n {
						t.Fatalf("frame of %d bytes, announced %d", len(frame), n)
					}
					out = append(out, frame...)
				}
				if len(in.buf) > limit+FrameHeader {
					t.Fatalf("buffer of %d bytes", len(in.buf))
				}
			}
		}
		a, b := read(bytes.NewReader(stream), 0), read(iotest.OneByteReader(bytes.NewReader(stream)), how)
		if how%3 != 2 && !bytes.Equal(a, b) || !bytes.HasPrefix(stream, a) || !bytes.HasPrefix(stream, b) {
			t.Errorf("%q and %q of %q", a, b, stream)
		}
	})
}

func FuzzWellFormed(f *testing.F) {
	f.Add(byte('T'), []byte("\x00\x01a\x00123456789012345678"))
	f.Add(byte('E'), []byte("SERROR\x00C42601\x00\x00"))
	f.Add(byte('D'), []byte("\x00\x02\x00\x00\x00\x01x\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		WellFormed(typ, body)
		ParseFields(body)
		_, _, _ = ParseCancel(body)
		frame := AppendFrame(nil, 'D', body)
		n, whole := CheckRows(frame, -1)
		// The two ways to check a row agree, however it is split.
		for size := 1; size < 8; size++ {
			var row Row
			fields := -1
			for rest := body; len(rest) > 0; {
				k := min(size, len(rest))
				if got := row.Write(rest[:k], -1); got >= 0 {
					fields = got
				}
				rest = rest[k:]
			}
			if row.End() != whole || whole && fields != n {
				t.Fatalf("%q in pieces of %d: %v %d, whole %v %d", body, size, row.End(), fields, whole, n)
			}
		}
	})
}

func TestReaderShrinks(t *testing.T) {
	t.Parallel()
	large := AppendFrame(nil, 'D', make([]byte, 1<<20))
	small := bytes.Repeat(AppendFrame(nil, 'C', []byte("x")), 100)
	in := NewReader(iotest.OneByteReader(bytes.NewReader(append(large, small...))), 1<<21)
	if _, err := in.Next(); err != nil {
		t.Fatal(err)
	}
	in.Shrink()
	for range 100 {
		if _, err := in.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if len(in.buf) > minRead {
		t.Errorf("an idle reader keeps %d bytes", len(in.buf))
	}
}

func TestCursor(t *testing.T) {
	t.Parallel()
	body := append([]byte{7, 0, 2}, "ab\x00"...)
	body = binary.BigEndian.AppendUint32(body, 0xffffffff)
	body = append(body, 0, 0, 0, 1, 'v')
	c := NewCursor(body)
	b, n, s := c.Byte(), c.Int16(), string(c.String())
	_, null := c.Value()
	v, _ := c.Value()
	if b != 7 || n != 2 || s != "ab" || !null || string(v) != "v" || !c.End() {
		t.Errorf("%d %d %q %v %q", b, n, s, null, v)
	}
	for i := range body {
		c := NewCursor(body[:i])
		c.Byte()
		c.Int16()
		c.String()
		c.Value()
		c.Value()
		if c.End() {
			t.Errorf("cut at %d it still fits", i)
		}
	}
}
