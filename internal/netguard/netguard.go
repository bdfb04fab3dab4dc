// Package netguard dials addresses that a configuration or a document names,
// and refuses those that nobody means: of this machine, of its link, and of a
// cloud's metadata service, whatever a name resolves to.
package netguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// metadata are instance-metadata addresses of clouds that no other class
// below covers. They answer anybody on the machine with credentials.
var metadata = [...]string{"fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"}

// nat64 and sixToFour are prefixes that carry an IPv4 address to which a
// router delivers: a refused address must not come back in that dress.
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
	thisNet   = netip.MustParsePrefix("0.0.0.0/8")
)

// ErrAddress is matched by every refusal of an address.
var ErrAddress = errors.New("address refused")

// Allow says which addresses pass besides public ones.
type Allow struct {
	Loopback bool
	// Private ranges, in which a company's own servers live.
	Private bool
}

// Check refuses addresses that are not allowed.
func Check(a netip.Addr, allow Allow) error {
	a = a.WithZone("").Unmap()
	if inner, ok := embedded(a); ok {
		if err := Check(inner, Allow{Private: allow.Private}); err != nil {
			return err
		}
	}
	switch {
	case a.IsLoopback():
		if allow.Loopback {
			return nil
		}
		return fmt.Errorf("%w: %s is a loopback address (allow_loopback permits it)", ErrAddress, a)
	case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast(), thisNet.Contains(a),
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%w: %s is link-local, multicast or unspecified", ErrAddress, a)
	case a.IsPrivate() && !allow.Private:
		return fmt.Errorf("%w: %s is a private address (allow_private permits it)", ErrAddress, a)
	}
	for _, m := range metadata {
		if a == netip.MustParseAddr(m) {
			return fmt.Errorf("%w: %s is a cloud's metadata service", ErrAddress, a)
		}
	}
	return nil
}

// embedded returns the IPv4 address inside a translated or tunnelled one.
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case a.Is4():
		return a, false
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case [12]byte(b[:12]) == [12]byte{} && !a.IsLoopback() && !a.IsUnspecified(): // ::a.b.c.d
		return netip.AddrFrom4([4]byte(b[12:16])), true
	}
	return a, false
}

// Dialer returns one that checks the resolved address at the moment of the connect, for
// each address that a name resolves to: a check of the name beforehand could
// be answered differently.
func Dialer(allow Allow) *net.Dialer {
	return &net.Dialer{
		Timeout: 5 * time.Second,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %s", ErrAddress, address)
			}
			return Check(ap.Addr(), allow)
		},
	}
}
