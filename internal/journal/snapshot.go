package journal

import "github.com/gatebook/gatebook/internal/vfs"

// Snapshot is a journal opened for reading alone, as it was at that moment.
type Snapshot struct {
	cat catalog
	rec Recovery
}

// OpenReadOnly reads a journal without writing anything. The same damage is
// refused as by Open; a torn tail is left out. All segments are read. Beside a
// running writer the last payloads may be such as are not safe yet:
// Recovery().Known says how many surely are.
func OpenReadOnly(fsys vfs.FS, dir string) (*Snapshot, error) {
	ls, err := list(fsys, dir)
	if err != nil {
		return nil, err
	}
	st, err := takeStock(fsys, dir, ls.segments, &Options{})
	if err != nil {
		return nil, err
	}
	s := &Snapshot{rec: st.rec}
	s.cat.fs, s.cat.dir, s.cat.segs, s.cat.safe = fsys, dir, st.catalogue(), st.rec.Entries
	return s, nil
}

// Entries returns the number of payloads.
func (s *Snapshot) Entries() Seq { return s.cat.safe }

// Recovery says what was found; nothing was copied and nothing was cut from a file.
func (s *Snapshot) Recovery() Recovery { return s.rec }

// Read returns a reader whose first payload is from. It must be closed.
func (s *Snapshot) Read(from Seq) *Reader { return s.cat.read(from) }
