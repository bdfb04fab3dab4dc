package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Serve serves the service over a Unix socket that only this user can reach,
// until ctx ends. A socket file left behind by a crash is replaced: the caller holds the book's lock.
func (s *Service) Serve(ctx context.Context, path string, log *slog.Logger) (wait func() error, err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var lc net.ListenConfig
	old := unix.Umask(0o177)
	ln, err := lc.Listen(ctx, "unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			peer, err := peerOf(c)
			if err != nil {
				log.Error("peer of the admin socket", "err", err)
				return ctx // handlers refuse what has no caller
			}
			return WithCaller(ctx, peer)
		},
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
	})
	return func() error {
		err := <-done
		<-stopped
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}, nil
}

// peerOf asks the kernel who is at the other end.
func peerOf(c net.Conn) (Caller, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Caller{}, errors.New("not a Unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Caller{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return Caller{}, err
	}
	if credErr != nil {
		return Caller{}, credErr
	}
	return Caller{Who: userName(int(cred.Uid)), How: "socket", UID: int(cred.Uid), PID: int(cred.Pid)}, nil
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(uid)
}

// Self is the caller for work in this process.
func Self() Caller {
	return Caller{Who: userName(os.Getuid()), How: "offline", UID: os.Getuid(), PID: os.Getpid()}
}
