package postgres

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// States of a TCP connection as the kernel numbers them: the peer has closed
// its side, or the connection is over.
const (
	tcpClose     = 7
	tcpCloseWait = 8
	tcpLastAck   = 9
)

// departed reports whether the peer of a TCP connection has closed it, also
// when bytes that it sent before are still unread. It consumes nothing.
func departed(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	_ = rc.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		gone = err == nil && (info.State == tcpClose || info.State == tcpCloseWait || info.State == tcpLastAck)
	})
	return gone
}
