package ledger

import (
	"bufio"
	"container/list"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/gatebook/gatebook/internal/vfs"
)

// openFiles bounds the files a Spool keeps open at a time.
const openFiles = 128

// Spool keeps the files of a package in a temporary directory while they
// grow. It implements evidence.Sink and evidence.Source. Used by one goroutine.
type Spool struct {
	dir   string
	names map[string]bool
	open  map[string]*list.Element
	order *list.List // most recently used first

	// keep is how many bytes of the disk the spool leaves free; ahead is what it may write before it looks again.
	keep, ahead int64
}

// spoolAhead is how many bytes a spool writes between two looks at the disk.
const spoolAhead = 64 << 20

// ErrSpool says that a package would take room that the book needs.
var ErrSpool = errors.New("the package would fill the disk that the book needs: choose a shorter period, a session or a principal, or make room")

type spooled struct {
	name string
	f    *os.File
	w    *bufio.Writer
}

// NewSpool makes a spool in a new directory beside path, so that a package
// and its parts share a file system. It fails with ErrSpool rather than leave
// less than keep bytes of that free: an export must not close the gate. A package of less than spoolAhead is
// made in any case, so that there is one of a gate that has closed.
func NewSpool(path string, keep int64) (*Spool, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".gatebook-export-")
	if err != nil {
		return nil, err
	}
	return &Spool{dir: dir, names: make(map[string]bool), open: make(map[string]*list.Element), order: list.New(), keep: keep, ahead: spoolAhead}, nil
}

// Close removes everything.
func (s *Spool) Close() error {
	err := s.flush()
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Append implements evidence.Sink.
func (s *Spool) Append(name string, piece []byte) error {
	if s.ahead -= int64(len(piece)); s.ahead < 0 {
		free, err := vfs.OS().FreeBytes(s.dir)
		if err != nil {
			return err
		}
		if s.keep > 0 && free < uint64(s.keep) {
			return ErrSpool
		}
		s.ahead = spoolAhead
	}
	if e := s.open[name]; e != nil {
		s.order.MoveToFront(e)
		_, err := e.Value.(*spooled).w.Write(piece)
		return err
	}
	if len(s.open) >= openFiles {
		oldest := s.order.Remove(s.order.Back()).(*spooled)
		delete(s.open, oldest.name)
		if err := errors.Join(oldest.w.Flush(), oldest.f.Close()); err != nil {
			return err
		}
	}
	path := filepath.Join(s.dir, filepath.FromSlash(name))
	if !s.names[name] {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		s.names[name] = true
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sp := &spooled{name: name, f: f, w: bufio.NewWriterSize(f, 32<<10)}
	s.open[name] = s.order.PushFront(sp)
	_, err = sp.w.Write(piece)
	return err
}

func (s *Spool) flush() error {
	var errs []error
	for _, e := range s.open {
		sp := e.Value.(*spooled)
		errs = append(errs, sp.w.Flush(), sp.f.Close())
	}
	clear(s.open)
	s.order.Init()
	return errors.Join(errs...)
}

// Names implements evidence.Source.
func (s *Spool) Names() []string {
	names := make([]string, 0, len(s.names))
	for n := range s.names {
		names = append(names, n)
	}
	return names
}

// Open implements evidence.Source.
func (s *Spool) Open(name string) (io.ReadCloser, error) {
	if err := s.flush(); err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(s.dir, filepath.FromSlash(name)))
}
