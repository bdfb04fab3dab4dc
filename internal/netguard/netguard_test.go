package netguard

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

// TestCheck: loopback and private addresses pass where they are allowed, and what nobody means never does, in any dress.
func TestCheck(t *testing.T) {
	t.Parallel()
	public, private, loopback := Allow{}, Allow{Private: true}, Allow{Loopback: true}
	for _, tt := range []struct {
		address string
		allow   []Allow // with which it passes
	}{
		{"203.0.113.5", []Allow{public, private, loopback}},
		{"2001:db8::1", []Allow{public, private, loopback}},
		{"10.1.2.3", []Allow{private}},
		{"172.16.0.1", []Allow{private}},
		{"192.168.1.1", []Allow{private}},
		{"fd12::1", []Allow{private}},
		{"::ffff:10.1.2.3", []Allow{private}},
		{"64:ff9b::a01:203", []Allow{private}}, // 10.1.2.3 by NAT64
		{"127.0.0.1", []Allow{loopback}},
		{"::1", []Allow{loopback}},
		{"64:ff9b::7f00:1", nil},
		{"169.254.169.254", nil},
		{"fe80::1", nil},
		{"0.0.0.0", nil},
		{"224.0.0.1", nil},
		{"100.100.100.200", nil},
		{"fd00:ec2::254", nil},
	} {
		for _, allow := range []Allow{public, private, loopback} {
			want := false
			for _, a := range tt.allow {
				want = want || a == allow
			}
			if err := Check(netip.MustParseAddr(tt.address), allow); (err == nil) != want || err != nil && !errors.Is(err, ErrAddress) {
				t.Errorf("%s with %+v: %v", tt.address, allow, err)
			}
		}
	}
}

// TestDialer looks at what a name resolves to.
func TestDialer(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Dialer(Allow{Private: true}).DialContext(t.Context(), "tcp", "localhost:"+port); !errors.Is(err, ErrAddress) {
		t.Errorf("%v, %v", c, err)
	}
	c, err := Dialer(Allow{Loopback: true}).DialContext(t.Context(), "tcp4", "localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
