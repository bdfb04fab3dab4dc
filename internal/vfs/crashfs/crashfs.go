// Package crashfs is a file system that can lose everything that was not
// synced, as a computer does when its power goes.
//
// It keeps for each file what is durable and, apart from it, every version of
// every 512 byte sector written since. Crash makes a new FS in which each
// such sector has any one of its versions, so writes may be lost, torn or
// reordered, and in which any subset of the unsynced directory operations
// happened.
//
// A new directory is lost, with all that is in it, unless the directory that
// holds it was synced. A file that was itself never synced may be missing even
// where its directory was: POSIX promises no more.
//
// With a backing file system (New with inner not nil) the durable state is
// also kept in real files: unsynced writes stay in memory and reach the real
// file at Sync, a random few of them earlier. A process that is killed thus
// really loses what it had not synced, and the next one opens the real files.
// Names become real at SyncDir; hidden files with the prefix ".crashfs-" are
// used on the way. CutAt chooses the moment, and leaves in the real files what
// Crash would have left in memory.
//
// Simplifications: with a backing file system directories are durable at once,
// a rename must stay in one directory to be undone as a whole, and file sizes
// are lost or kept in the order in which they were set. It is for tests only
// and safe for concurrent use; one lock covers everything.
package crashfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/gatebook/gatebook/internal/vfs"
)

const (
	sectorSize   = 512
	hiddenPrefix = ".crashfs-"
)

// FS is the file system. Use New.
type FS struct {
	inner vfs.FS // nil: memory only

	mu      sync.Mutex
	rng     *rand.Rand
	live    map[string]*inode // what the process sees
	durable map[string]*inode // what survives a crash for certain
	dirs    map[string]bool   // to whether the directory survives a crash for certain
	pending []dirOp
	locks   map[string]bool
	hidden  int
	free    uint64
	left    int // changes until cut is called, if it is set
	cut     func()
}

var _ vfs.FS = (*FS)(nil)

// dirOp is a directory operation that is not yet durable. It carries the
// inode, so that any subset of operations makes sense.
type dirOp struct {
	dir      string
	add, del string // a create has only add, a removal only del
	node     *inode // nil for a new directory
}

// New returns an empty file system, or one over the files of inner. The seed
// decides which unsynced sectors reach inner early.
func New(inner vfs.FS, seed uint64) *FS {
	return &FS{
		inner: inner, rng: rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // reproducible on purpose
		live: map[string]*inode{}, durable: map[string]*inode{}, dirs: map[string]bool{"/": true, ".": true},
		locks: map[string]bool{}, free: math.MaxInt64,
	}
}

// Crash returns, in memory, one state in which the disk may be after a power
// failure now. f itself is left as it is and can be crashed again.
func (f *FS) Crash(seed uint64) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := New(nil, seed)
	n.free = f.free
	for d, durable := range f.dirs {
		if durable {
			n.dirs[d] = true
		}
	}
	names := maps.Clone(f.durable)
	keep := pickSubset(n.rng)
	for _, op := range f.pending {
		switch {
		case !keep():
		case op.node == nil:
			n.dirs[op.add] = true
		default:
			op.apply(names)
		}
	}
	copied := map[*inode]*inode{}
	for _, name := range slices.Sorted(maps.Keys(names)) { // map order must not decide what the seed means
		node := names[name]
		if !node.named && n.rng.IntN(2) == 0 || !n.reachable(path.Dir(name)) {
			continue
		}
		if copied[node] == nil {
			data := node.crash(n.rng)
			copied[node] = &inode{fs: n, synced: data, live: slices.Clone(data), named: true}
		}
		n.live[name], n.durable[name] = copied[node], copied[node]
	}
	for d := range n.dirs {
		if !n.reachable(d) {
			delete(n.dirs, d)
		}
	}
	return n
}

// reachable says whether dir and all that it lies in are there.
func (f *FS) reachable(dir string) bool {
	for d := dir; ; d = path.Dir(d) {
		if _, ok := f.dirs[d]; !ok {
			return false
		}
		if d == path.Dir(d) {
			return true
		}
	}
}

// CutAt takes the power away at the n-th change from now: the real files get
// what a crash in its midst may leave, and then cut is called, which ends the
// process and must not return. It is for a file system over another one.
func (f *FS) CutAt(n int, cut func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left, f.cut = n, cut
}

// changed counts a change that was made in memory, or is about to be made in
// inner. f.mu is held.
func (f *FS) changed() {
	if f.cut == nil {
		return
	}
	if f.left--; f.left > 0 {
		return
	}
	if err := f.leave(); err != nil {
		panic(fmt.Sprintf("crashfs: leaving a crash behind: %v", err))
	}
	f.cut()
}

// leave brings to inner what Crash would have kept.
func (f *FS) leave() error {
	keep := pickSubset(f.rng)
	for _, op := range f.pending {
		if !keep() {
			continue
		}
		if err := f.materialise(op); err != nil {
			return err
		}
		op.apply(f.durable)
	}
	done := map[*inode]bool{}
	for _, name := range slices.Sorted(maps.Keys(f.durable)) {
		n := f.durable[name]
		if done[n] || n.backing == "" || len(n.dirty) == 0 && len(n.sizes) == 0 {
			continue
		}
		done[n] = true
		dst, err := f.inner.OpenFile(n.backing)
		if err != nil {
			return err
		}
		data := n.crash(f.rng)
		err = dst.Truncate(int64(len(data)))
		if err == nil && len(data) > 0 {
			_, err = dst.WriteAt(data, 0)
		}
		if err := errors.Join(err, dst.Close()); err != nil {
			return err
		}
	}
	return nil
}

// pickSubset returns a strategy: none, all, a prefix, or each by chance. Pure
// chance alone would hardly ever try the extremes.
func pickSubset(rng *rand.Rand) func() bool {
	switch rng.IntN(4) {
	case 0:
		return func() bool { return false }
	case 1:
		return func() bool { return true }
	case 2:
		alive := true
		return func() bool {
			alive = alive && rng.IntN(4) > 0
			return alive
		}
	default:
		return func() bool { return rng.IntN(2) == 0 }
	}
}

func (op dirOp) apply(names map[string]*inode) {
	if op.del != "" && names[op.del] == op.node {
		delete(names, op.del)
	}
	if op.add != "" {
		names[op.add] = op.node
	}
}

func pathErr(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// lookup finds a live inode, loading it from inner at first sight.
func (f *FS) lookup(op, name string) (*inode, error) {
	if n := f.live[name]; n != nil {
		return n, nil
	}
	if f.inner == nil || f.removed(name) {
		return nil, pathErr(op, name, fs.ErrNotExist)
	}
	src, err := f.inner.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := src.Size()
	data := make([]byte, size)
	if err == nil && size > 0 {
		_, err = src.ReadAt(data, 0)
	}
	if err := errors.Join(err, src.Close()); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	n := &inode{fs: f, synced: data, live: slices.Clone(data), backing: name, named: true}
	f.live[name], f.durable[name] = n, n
	return n, nil
}

// removed says that name was removed or renamed here but not yet in inner.
func (f *FS) removed(name string) bool {
	return slices.ContainsFunc(f.pending, func(op dirOp) bool { return op.del == name })
}

// Create implements vfs.FS.
func (f *FS) Create(name string) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = path.Clean(name)
	if _, err := f.lookup("create", name); err == nil {
		return nil, pathErr("create", name, fs.ErrExist)
	}
	if err := f.needDir(path.Dir(name)); err != nil {
		return nil, err
	}
	n := &inode{fs: f}
	f.live[name] = n
	f.pending = append(f.pending, dirOp{dir: path.Dir(name), add: name, node: n})
	f.changed()
	return &file{node: n, owner: f, name: name, writable: true}, nil
}

func (f *FS) needDir(dir string) error {
	if _, ok := f.dirs[dir]; ok {
		return nil
	}
	if f.inner != nil {
		if _, err := f.inner.List(dir); err == nil {
			f.dirs[dir] = true
			return nil
		}
	}
	return pathErr("open", dir, fs.ErrNotExist)
}

// OpenFile implements vfs.FS.
func (f *FS) OpenFile(name string) (vfs.File, error) { return f.open(name, true) }

// Open implements vfs.FS.
func (f *FS) Open(name string) (vfs.File, error) { return f.open(name, false) }

func (f *FS) open(name string, writable bool) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup("open", path.Clean(name))
	if err != nil {
		return nil, err
	}
	return &file{node: n, owner: f, name: name, writable: writable}, nil
}

// Rename implements vfs.FS.
func (f *FS) Rename(oldName, newName string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	oldName, newName = path.Clean(oldName), path.Clean(newName)
	n, err := f.lookup("rename", oldName)
	if err != nil {
		return err
	}
	if err := f.needDir(path.Dir(newName)); err != nil {
		return err
	}
	delete(f.live, oldName)
	f.live[newName] = n
	f.pending = append(f.pending, dirOp{dir: path.Dir(newName), add: newName, del: oldName, node: n})
	f.changed()
	return nil
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = path.Clean(name)
	n, err := f.lookup("remove", name)
	if err != nil {
		return err
	}
	delete(f.live, name)
	f.pending = append(f.pending, dirOp{dir: path.Dir(name), del: name, node: n})
	f.changed()
	return nil
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inner != nil {
		if err := f.inner.MkdirAll(name); err != nil {
			return err
		}
	}
	for d := path.Clean(name); ; d = path.Dir(d) {
		if _, ok := f.dirs[d]; ok || d == path.Dir(d) {
			return nil
		}
		f.dirs[d] = f.inner != nil
		if f.inner == nil {
			f.pending = append(f.pending, dirOp{dir: path.Dir(d), add: d})
		}
	}
}

// List implements vfs.FS.
func (f *FS) List(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir = path.Clean(dir)
	if err := f.needDir(dir); err != nil {
		return nil, err
	}
	var names []string
	for name := range f.live {
		if path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	if f.inner != nil {
		disk, err := f.inner.List(dir)
		if err != nil {
			return nil, err
		}
		for _, b := range disk {
			name := path.Join(dir, b)
			if f.live[name] == nil && !f.removed(name) && !strings.HasPrefix(b, hiddenPrefix) {
				names = append(names, b)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir = path.Clean(dir)
	if err := f.needDir(dir); err != nil {
		return err
	}
	f.changed()
	var rest []dirOp
	for i, op := range f.pending {
		if op.dir != dir {
			rest = append(rest, op)
			continue
		}
		if op.node == nil {
			f.dirs[op.add] = true
			continue
		}
		if err := f.materialise(op); err != nil {
			f.pending = append(rest, f.pending[i:]...)
			return err
		}
		op.apply(f.durable)
	}
	f.pending = rest
	return nil
}

// materialise carries a directory operation over to the real directory. A new
// file appears there whole: a kill in between must not leave a name whose
// synced content is missing.
func (f *FS) materialise(op dirOp) error {
	switch {
	case f.inner == nil:
		return nil
	case op.add == "":
		if op.node.backing != op.del {
			return nil
		}
		op.node.backing = ""
		return f.inner.Remove(op.del)
	case op.node.backing != "":
		if err := f.replace(op.node.backing, op.add); err != nil {
			return err
		}
		op.node.backing = op.add
		return nil
	}
	f.hidden++
	tmp := path.Join(op.dir, fmt.Sprintf("%s%d", hiddenPrefix, f.hidden))
	_ = f.inner.Remove(tmp) // of a process that was killed
	dst, err := f.inner.Create(tmp)
	if err != nil {
		return err
	}
	_, err = dst.WriteAt(op.node.synced, 0)
	if err := errors.Join(err, dst.Close()); err != nil {
		return err
	}
	if err := f.replace(tmp, op.add); err != nil {
		return err
	}
	op.node.backing = op.add
	return nil
}

// replace renames in inner and cuts the file that had newName off from it:
// its later syncs must not reach the file that now has the name.
func (f *FS) replace(oldName, newName string) error {
	if n := f.durable[newName]; n != nil && n.backing == newName {
		n.backing = ""
	}
	return f.inner.Rename(oldName, newName)
}

// FreeBytes implements vfs.FS.
func (f *FS) FreeBytes(dir string) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.free, f.needDir(path.Clean(dir))
}

// Lock implements vfs.FS.
func (f *FS) Lock(name string) (io.Closer, error) {
	if f.inner != nil {
		return f.inner.Lock(name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locks[name] {
		return nil, fmt.Errorf("lock %s: %w", name, vfs.ErrLocked)
	}
	f.locks[name] = true
	return &lock{fs: f, name: name}, nil
}

type lock struct {
	fs   *FS
	name string
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.name)
	return nil
}
