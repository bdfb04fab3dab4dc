package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Stamp tells two states of the configuration's files apart without reading
// them: which there are, and of each its size, inode and times. A file that
// appears under a pattern of include counts, and so do signatures. It says nothing about what the files hold.
func (l *Loaded) Stamp() string {
	paths := []string{l.Path}
	for _, pattern := range l.Include {
		found, err := filepath.Glob(fullPattern(l.Dir, pattern))
		if err != nil {
			continue // Load has taken the pattern
		}
		paths = append(paths, found...)
	}
	if l.Signers != nil { // what was refused may be signed by now
		found, err := filepath.Glob(filepath.Join(fullPattern(l.Dir, l.Signers.directory()), "*.sig"))
		if err == nil {
			paths = append(paths, found...)
		}
	}
	slices.Sort(paths)
	var b strings.Builder
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", path, err)
			continue
		}
		fmt.Fprintf(&b, "%s: %d %d", path, info.Size(), info.ModTime().UnixNano())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			fmt.Fprintf(&b, " %d %d.%d", st.Ino, st.Ctim.Sec, st.Ctim.Nsec)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
