package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/gatebook/gatebook/internal/vfs"
)

// readKept reads a file of the data directory that must be understood or stop the start. It reports whether there is one.
func readKept(fsys vfs.FS, dir, name string, limit int64, into any) (found bool, err error) {
	f, err := fsys.Open(path.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return true, err
	}
	if size > limit {
		return true, fmt.Errorf("%d bytes, at most %d", size, limit)
	}
	text := make([]byte, size)
	if _, err := f.ReadAt(text, 0); err != nil {
		return true, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return true, d.Decode(into)
}

// writeKept replaces such a file. When it returns nil the new content is durable; after an error or a crash the file has the
// old content or the new.
func writeKept(fsys vfs.FS, dir, name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	temp := path.Join(dir, name+".new")
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a crash
		return err
	}
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(append(text, '\n'), 0)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, path.Join(dir, name)); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}
