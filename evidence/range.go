package evidence

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Range computes the root of an RFC 6962 tree leaf by leaf, from the start or
// from the frontier of an earlier state, in memory that grows with the tree's height.
type Range struct {
	size  uint64
	roots []tlog.Hash // of the perfect subtrees, largest first
}

// NewRange returns the state after size leaves whose perfect subtrees have
// these roots, largest first.
func NewRange(size uint64, frontier []tlog.Hash) (*Range, error) {
	if len(frontier) != bits.OnesCount64(size) {
		return nil, fmt.Errorf("a tree of %d leaves has %d perfect subtrees, not %d", size, bits.OnesCount64(size), len(frontier))
	}
	return &Range{size: size, roots: append([]tlog.Hash(nil), frontier...)}, nil
}

// Add appends a leaf by its hash.
func (r *Range) Add(leaf tlog.Hash) {
	r.roots = append(r.roots, leaf)
	for n := r.size; n&1 == 1; n >>= 1 {
		k := len(r.roots) - 2
		r.roots[k] = tlog.NodeHash(r.roots[k], r.roots[k+1])
		r.roots = r.roots[:k+1]
	}
	r.size++
}

// Size returns the number of leaves.
func (r *Range) Size() uint64 { return r.size }

// Root returns the root of all leaves so far.
func (r *Range) Root() tlog.Hash {
	if r.size == 0 {
		h, err := tlog.TreeHash(0, nil)
		if err != nil {
			panic("evidence: the empty tree has a root")
		}
		return h
	}
	h := r.roots[len(r.roots)-1]
	for i := len(r.roots) - 2; i >= 0; i-- {
		h = tlog.NodeHash(r.roots[i], h)
	}
	return h
}
