package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
)

// inode is one file, whatever its name. All fields are guarded by fs.mu.
type inode struct {
	fs      *FS
	live    []byte             // what reads see
	synced  []byte             // what the last Sync made durable
	dirty   map[int64][][]byte // by sector, its content after each write since
	sizes   []int64            // sizes set since
	backing string             // name of the real file, if it has one
	named   bool               // it was synced once, so that a synced name holds on to it
}

// crash returns what may be left of the file's content.
func (n *inode) crash(rng *rand.Rand) []byte {
	data := slices.Clone(n.synced)
	sectors := slices.Sorted(maps.Keys(n.dirty))
	keep := pickSubset(rng)
	size := int64(len(data))
	if len(n.sizes) > 0 && rng.IntN(2) == 0 {
		size = n.sizes[rng.IntN(len(n.sizes))]
		data = resize(data, size)
	}
	for _, s := range sectors {
		if !keep() || s*sectorSize >= size {
			continue
		}
		versions := n.dirty[s]
		pick := versions[len(versions)-1]
		if rng.IntN(4) == 0 {
			pick = versions[rng.IntN(len(versions))]
		}
		copy(data[s*sectorSize:], pick)
	}
	return data
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func (n *inode) setSize(size int64) {
	old := int64(len(n.live))
	if size == old {
		return
	}
	n.live = resize(n.live, size)
	n.sizes = append(n.sizes, size)
	if size < old {
		for s := range n.dirty {
			if s*sectorSize >= size {
				delete(n.dirty, s)
			}
		}
		if size%sectorSize != 0 {
			n.touch(size/sectorSize, size/sectorSize)
		}
	}
}

// touch records the present content of the sectors first to last.
func (n *inode) touch(first, last int64) {
	if n.dirty == nil {
		n.dirty = map[int64][][]byte{}
	}
	for s := first; s <= last; s++ {
		end := min((s+1)*sectorSize, int64(len(n.live)))
		n.dirty[s] = append(n.dirty[s], slices.Clone(n.live[s*sectorSize:end]))
	}
}

// sync makes everything durable, in inner too.
func (n *inode) sync() error {
	sectors := slices.Sorted(maps.Keys(n.dirty))
	if n.backing != "" && (len(sectors) > 0 || len(n.sizes) > 0) {
		if err := n.writeBack(sectors, int64(len(n.live))); err != nil {
			return err
		}
	}
	n.synced = resize(n.synced, int64(len(n.live)))
	for _, s := range sectors {
		end := min((s+1)*sectorSize, int64(len(n.live)))
		copy(n.synced[s*sectorSize:end], n.live[s*sectorSize:end])
	}
	clear(n.dirty)
	n.sizes = n.sizes[:0]
	n.named = true
	return nil
}

// writeBack writes sectors to the real file. Unlike a real disk it needs no
// sync there: only the process will be killed, not the kernel.
func (n *inode) writeBack(sectors []int64, size int64) error {
	dst, err := n.fs.inner.OpenFile(n.backing)
	if err != nil {
		return err
	}
	err = dst.Truncate(size)
	for i := 0; i < len(sectors) && err == nil; {
		j := i + 1
		for j < len(sectors) && sectors[j] == sectors[j-1]+1 {
			j++
		}
		from, to := sectors[i]*sectorSize, min((sectors[j-1]+1)*sectorSize, size)
		if from < to {
			_, err = dst.WriteAt(n.live[from:to], from)
		}
		i = j
	}
	return errors.Join(err, dst.Close())
}

// early lets a few unsynced sectors reach the real file, as writeback does.
func (n *inode) early() error {
	if n.backing == "" || n.fs.rng.IntN(4) > 0 {
		return nil
	}
	keep := pickSubset(n.fs.rng)
	size := int64(len(n.synced))
	if n.fs.rng.IntN(2) == 0 {
		size = int64(len(n.live)) // a size may come before what fills it
	}
	var sectors []int64
	for _, s := range slices.Sorted(maps.Keys(n.dirty)) {
		if keep() && s*sectorSize < size {
			sectors = append(sectors, s)
		}
	}
	return n.writeBack(sectors, size)
}

// file is an open handle.
type file struct {
	node     *inode
	owner    *FS
	name     string
	writable bool
	closed   bool // guarded by owner.mu
}

func (f *file) lock(write bool) error {
	f.owner.mu.Lock()
	switch {
	case f.closed:
		return pathErr("use", f.name, fs.ErrClosed)
	case write && !f.writable:
		return pathErr("write", f.name, fs.ErrPermission)
	}
	return nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	err := f.lock(false)
	defer f.owner.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathErr("read", f.name, fs.ErrInvalid)
	}
	if off >= int64(len(f.node.live)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.live[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	err := f.lock(true)
	defer f.owner.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathErr("write", f.name, fs.ErrInvalid)
	}
	if len(p) == 0 {
		return 0, nil
	}
	end := off + int64(len(p))
	f.node.setSize(max(end, int64(len(f.node.live))))
	copy(f.node.live[off:], p)
	f.node.touch(off/sectorSize, (end-1)/sectorSize)
	f.owner.changed()
	return len(p), f.node.early()
}

func (f *file) Sync() error {
	err := f.lock(false)
	defer f.owner.mu.Unlock()
	if err != nil {
		return err
	}
	f.owner.changed()
	return f.node.sync()
}

// LoseUnsynced implements faultfs.Loser: the content stays readable but no
// later Sync will make it durable.
func (f *file) LoseUnsynced() {
	f.owner.mu.Lock()
	defer f.owner.mu.Unlock()
	clear(f.node.dirty)
}

func (f *file) Preallocate(size int64) error {
	err := f.lock(true)
	defer f.owner.mu.Unlock()
	if err != nil {
		return err
	}
	f.node.setSize(max(size, int64(len(f.node.live))))
	f.owner.changed()
	return nil
}

func (f *file) Truncate(size int64) error {
	err := f.lock(true)
	defer f.owner.mu.Unlock()
	if err != nil {
		return err
	}
	if size < 0 {
		return pathErr("truncate", f.name, fs.ErrInvalid)
	}
	f.node.setSize(size)
	f.owner.changed()
	return nil
}

func (f *file) Size() (int64, error) {
	err := f.lock(false)
	defer f.owner.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return int64(len(f.node.live)), nil
}

func (f *file) Close() error {
	err := f.lock(false)
	defer f.owner.mu.Unlock()
	if err != nil {
		return err
	}
	f.closed = true
	return nil
}
