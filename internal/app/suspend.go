package app

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/vfs"
)

// suspendedName is the file of suspended principals in the data directory.
const suspendedName = "suspended.json"

// maxSuspended bounds the principals that are kept out at a time, maxKeptSuspended their file in bytes.
const (
	maxSuspended     = 10_000
	maxKeptSuspended = 32 << 20
)

// keptSuspended is the content of the file.
type keptSuspended struct {
	Format    int                  `json:"format"`
	Suspended []enforce.Suspension `json:"suspended"`
}

// readSuspended returns who is kept out. What cannot be understood is an error: to go on without would let them in.
func readSuspended(fsys vfs.FS, dir string) ([]enforce.Suspension, error) {
	var k keptSuspended
	found, err := readKept(fsys, dir, suspendedName, maxKeptSuspended, &k)
	if err == nil && found && k.Format != 1 {
		err = fmt.Errorf("format %d, this program knows 1", k.Format)
	}
	if err != nil {
		return nil, fmt.Errorf("%s says which principals are suspended and cannot be read: restore it from a backup of the data directory: %w",
			filepath.Join(dir, suspendedName), err)
	}
	return k.Suspended, nil
}

// suspensions keeps principals out. It implements admin.Suspensions; safe for concurrent use.
type suspensions struct {
	gate   *enforce.Gate
	fs     vfs.FS
	dir    string
	config func() *config.Loaded

	mu sync.Mutex // one change at a time
}

// Suspend implements admin.Suspensions. The principal is stopped first, and the file written then: that may take a while, or fail.
func (s *suspensions) Suspend(who enforce.Suspension) (ended int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.known(who.Principal); err != nil {
		return 0, err
	}
	if len(s.gate.Suspended()) >= maxSuspended {
		return 0, fmt.Errorf("%d principals are suspended, and that is the most: take them off what admits them at their issuer", maxSuspended)
	}
	ended = s.gate.Suspend(who)
	if err := s.write(s.gate.Suspended()); err != nil {
		return ended, fmt.Errorf("%s is suspended until the gateway stops and not longer, since that cannot be kept: %w", who.Principal, err)
	}
	return ended, nil
}

// Resume implements admin.Suspensions.
func (s *suspensions) Resume(principal string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.gate.Suspended()
	left := slices.DeleteFunc(slices.Clone(all), func(x enforce.Suspension) bool { return x.Principal == principal })
	if len(left) == len(all) {
		return fmt.Errorf("%s is not suspended; gatebook principal list says who is", principal)
	}
	if err := s.write(left); err != nil {
		return fmt.Errorf("%s stays suspended: %w", principal, err)
	}
	s.gate.Resume(principal)
	return nil
}

// Suspended implements admin.Suspensions.
func (s *suspensions) Suspended() []enforce.Suspension { return s.gate.Suspended() }

func (s *suspensions) write(list []enforce.Suspension) error {
	return writeKept(s.fs, s.dir, suspendedName, keptSuspended{Format: 1, Suspended: list})
}

// known refuses a name that no principal can have: a mistyped one would stop nobody.
func (s *suspensions) known(principal string) error {
	issuer, name, ok := strings.Cut(principal, "|")
	if !ok || name == "" {
		return fmt.Errorf("%q is not a principal's name, \"issuer|name\" as gatebook session list prints it", principal)
	}
	var names []string
	for _, is := range s.config().Issuers {
		names = append(names, is.Name)
	}
	if !slices.Contains(names, issuer) {
		return fmt.Errorf("no issuer is named %q; there are: %s", issuer, strings.Join(names, ", "))
	}
	return nil
}
