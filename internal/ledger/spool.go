package ledger

import (
	"bufio"
	"container/list"
	"errors"
	"io"
	"os"
	"path/filepath"
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
}

type spooled struct {
	name string
	f    *os.File
	w    *bufio.Writer
}

// NewSpool makes a spool in a new directory beside path, so that a package
// and its parts share a file system.
func NewSpool(path string) (*Spool, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".gatebook-export-")
	if err != nil {
		return nil, err
	}
	return &Spool{dir: dir, names: make(map[string]bool), open: make(map[string]*list.Element), order: list.New()}, nil
}

// Close removes everything.
func (s *Spool) Close() error {
	err := s.flush()
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Append implements evidence.Sink.
func (s *Spool) Append(name string, piece []byte) error {
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
