package seal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/evidence"
)

func testKey(t testing.TB, id byte) *Key {
	t.Helper()
	k, err := newKey(evidence.ID{id}, bytes.Repeat([]byte{id}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestRoundTrip seals bodies of all sizes around the one from which they are
// compressed, alone and behind other bytes.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	k := testKey(t, 1)
	rng := rand.New(rand.NewPCG(1, 1))
	random := make([]byte, 2*compressFrom)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	same := bytes.Repeat([]byte("row "), compressFrom/2)
	sizes := []int{0, 1, 2, 31, 32, 100, 1000}
	for n := compressFrom - 3; n <= compressFrom+3; n++ {
		sizes = append(sizes, n)
	}
	sizes = append(sizes, 2*compressFrom)
	for _, n := range sizes {
		for _, raw := range [][]byte{nil, {}, random[:n], same[:n]} {
			body := []byte(`{"a":1}`)
			if raw != nil {
				body = append(append(body, '\n'), raw...)
			}
			for _, before := range [][]byte{nil, []byte("before"), make([]byte, 6, 100)} {
				sealed, commit, size := k.Seal(before, []byte(`{"a":1}`), raw)
				if !bytes.Equal(sealed[:len(before)], before) || size != uint64(len(body)) {
					t.Fatalf("%d bytes: size %d", n, size)
				}
				sealed = sealed[len(before):]
				salt, got, err := k.Open(sealed)
				if err != nil || !bytes.Equal(got, body) || evidence.Commitment(&salt, got) != commit {
					t.Fatalf("%d bytes do not come back: %v", n, err)
				}
				if bytes.Contains(sealed, []byte(`{"a"`)) {
					t.Fatal("the body can be read")
				}
			}
		}
	}
	if sealed, _, _ := k.Seal(nil, same, nil); len(sealed) > len(same)/2 {
		t.Errorf("%d bytes that repeat seal to %d", len(same), len(sealed))
	}
	a, _, _ := k.Seal(nil, []byte("{}"), nil)
	b, _, _ := k.Seal(nil, []byte("{}"), nil)
	if bytes.Equal(a, b) {
		t.Error("one body seals to the same bytes twice")
	}
}

// TestDoesNotOpen: another key, any flipped bit, any cut.
func TestDoesNotOpen(t *testing.T) {
	t.Parallel()
	k := testKey(t, 1)
	for _, body := range [][]byte{[]byte("{}"), bytes.Repeat([]byte("row "), compressFrom)} {
		sealed, _, _ := k.Seal(nil, body, nil)
		same, err := newKey(k.id, bytes.Repeat([]byte{9}, 32))
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []*Key{testKey(t, 2), same} {
			if _, _, err := other.Open(sealed); !errors.Is(err, ErrSealed) {
				t.Errorf("another key: %v", err)
			}
		}
		for bit := range 8 * len(sealed) {
			b := bytes.Clone(sealed)
			b[bit/8] ^= 1 << (bit % 8)
			if _, _, err := k.Open(b); !errors.Is(err, ErrSealed) {
				t.Fatalf("bit %d: %v", bit, err)
			}
		}
		for n := range sealed {
			if _, _, err := k.Open(sealed[:n]); !errors.Is(err, ErrSealed) {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
		if _, _, err := k.Open(append(slices.Clone(sealed), 0)); !errors.Is(err, ErrSealed) {
			t.Errorf("one byte more: %v", err)
		}
	}
}

// TestSealAllocations: with room at the destination a small body costs one
// allocation at most.
func TestSealAllocations(t *testing.T) {
	k := testKey(t, 1)
	dst, meta := make([]byte, 0, 4096), []byte(strings.Repeat("x", 500))
	if n := testing.AllocsPerRun(1000, func() { k.Seal(dst, meta, nil) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzOpen(f *testing.F) {
	k := testKey(f, 1)
	for _, body := range [][]byte{[]byte("{}"), bytes.Repeat([]byte("row "), compressFrom)} {
		sealed, _, _ := k.Seal(nil, body, nil)
		f.Add(sealed, []byte("{}"))
	}
	f.Fuzz(func(t *testing.T, sealed, body []byte) {
		if _, _, err := k.Open(sealed); err != nil && !errors.Is(err, ErrSealed) {
			t.Errorf("error %v", err)
		}
		again, commit, _ := k.Seal(nil, body, sealed)
		salt, got, err := k.Open(again)
		if err != nil || evidence.Commitment(&salt, got) != commit {
			t.Errorf("%q and %q do not come back: %v", body, sealed, err)
		}
	})
}
