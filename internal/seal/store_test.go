package seal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
)

const storeName = "/keys.store"

func newStore(t *testing.T, fsys vfs.FS, kek secret.String) {
	t.Helper()
	if err := CreateStore(fsys, storeName, kek); err != nil {
		t.Fatal(err)
	}
	if err := fsys.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
}

func openStore(t *testing.T, fsys vfs.FS, kek secret.String) *Store {
	t.Helper()
	s, err := OpenStore(fsys, storeName, kek)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKeysSurviveCrashes takes the power away again and again while keys are
// made from several places: a key that was given out always comes back.
func TestKeysSurviveCrashes(t *testing.T) {
	t.Parallel()
	seeds := 40
	if n, err := strconv.Atoi(os.Getenv("GATEBOOK_CRASHES")); err == nil {
		seeds = n
	}
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 1))
		kek := NewKEK()
		var disk vfs.FS = crashfs.New(nil, seed)
		newStore(t, disk, kek)
		var mu sync.Mutex
		given := make(map[evidence.ID][]byte) // key ID to a body it sealed
		for range 10 {
			s := openStore(t, disk, kek)
			for id, sealed := range given {
				k, err := s.Key(id)
				if err != nil {
					t.Fatalf("seed %d: a key that was given out: %v", seed, err)
				}
				if _, body, err := k.Open(sealed); err != nil || string(body) != "{}" {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			var wg sync.WaitGroup
			for range 1 + rng.IntN(4) {
				n := rng.IntN(5)
				wg.Go(func() {
					for range n {
						id := evidence.NewID()
						k, err := s.New(id)
						if err != nil {
							t.Error(err)
							return
						}
						sealed, _, _ := k.Seal(nil, []byte("{}"), nil)
						mu.Lock()
						given[id] = sealed
						mu.Unlock()
					}
				})
			}
			if rng.IntN(2) == 0 {
				wg.Wait()
			}
			mu.Lock()
			promised := make(map[evidence.ID][]byte, len(given))
			for id, sealed := range given {
				promised[id] = sealed
			}
			mu.Unlock()
			after := disk.(*crashfs.FS).Crash(rng.Uint64())
			wg.Wait()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			disk, given = after, promised
		}
	}
}

// TestStoreFaults fails every operation in turn: an error is told, and what
// was given out before and after comes back.
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	kek := NewKEK()
	for _, kind := range faultfs.Kinds() {
		for at := range 30 {
			disk := crashfs.New(nil, 1)
			newStore(t, disk, kek)
			faulty := faultfs.New(disk)
			faulty.FailAt(at, kind)
			s, err := OpenStore(faulty, storeName, kek)
			if err != nil {
				continue
			}
			var given []evidence.ID
			for range 3 {
				id := evidence.NewID()
				if _, err := s.New(id); err == nil {
					given = append(given, id)
				}
			}
			_ = s.Close()
			again := openStore(t, disk.Crash(uint64(at)), kek)
			for _, id := range given {
				if _, err := again.Key(id); err != nil {
					t.Errorf("%v at %d: a key that was given out: %v", kind, at, err)
				}
			}
		}
	}
}

func TestFailedSyncStopsTheStore(t *testing.T) {
	t.Parallel()
	kek := NewKEK()
	disk := crashfs.New(nil, 1)
	newStore(t, disk, kek)
	faulty := faultfs.New(disk)
	s := openStore(t, faulty, kek)
	faulty.FailOp(faultfs.OpSync, faultfs.EIO, nil)
	if _, err := s.New(evidence.ID{1}); err == nil {
		t.Error("a key was given out whose sync had failed")
	}
	faulty.Plan(nil)
	if _, err := s.New(evidence.ID{2}); err == nil {
		t.Error("the store goes on after a failed sync")
	}
}

// TestFullDiskEnds: a write for which there was no room promises nothing, and
// the store goes on when there is room again.
func TestFullDiskEnds(t *testing.T) {
	t.Parallel()
	for _, kind := range []faultfs.Kind{faultfs.NoSpace, faultfs.Short} {
		kek := NewKEK()
		disk := crashfs.New(nil, 1)
		newStore(t, disk, kek)
		faulty := faultfs.New(disk)
		s := openStore(t, faulty, kek)
		faulty.FailOp(faultfs.OpWriteAt, kind, nil)
		if _, err := s.New(evidence.ID{1}); err == nil {
			t.Error("a key was given out without room for it")
		}
		if _, err := s.Key(evidence.ID{1}); !errors.Is(err, ErrNoKey) {
			t.Errorf("a key that was not stored: %v", err)
		}
		faulty.Plan(nil)
		for _, id := range []evidence.ID{{1}, {2}} {
			if _, err := s.New(id); err != nil {
				t.Errorf("with room again: %v", err)
			}
		}
		again := openStore(t, disk.Crash(7), kek)
		for _, id := range []evidence.ID{{1}, {2}} {
			if _, err := again.Key(id); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestStoreDamage(t *testing.T) {
	t.Parallel()
	kek := NewKEK()
	disk := crashfs.New(nil, 1)
	newStore(t, disk, kek)
	s := openStore(t, disk, kek)
	for i := range byte(3) {
		if _, err := s.New(evidence.ID{i + 1}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.New(evidence.ID{1}); err == nil {
		t.Error("one id has two keys")
	}
	if _, err := OpenStore(disk, storeName, NewKEK()); !errors.Is(err, ErrWrongKEK) {
		t.Errorf("another key-encryption key: %v", err)
	}
	for _, bad := range []string{"", "c2hvcnQ=", "!"} {
		if _, err := OpenStore(disk, storeName, secret.New(bad)); err == nil || errors.Is(err, ErrWrongKEK) {
			t.Errorf("key-encryption key %q: %v", bad, err)
		}
	}
	f, err := disk.OpenFile(storeName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff}, 2*recordSize+40); err != nil { // within the second key
		t.Fatal(err)
	}
	if _, err := s.Key(evidence.ID{2}); !errors.Is(err, ErrNoKey) {
		t.Errorf("a damaged record: %v", err)
	}
	again := openStore(t, disk, kek)
	for i, want := range []error{nil, ErrNoKey, nil} {
		if _, err := again.Key(evidence.ID{byte(i) + 1}); !errors.Is(err, want) {
			t.Errorf("key %d: %v, want %v", i+1, err, want)
		}
	}
	// A cut in the midst of a record: the next key stands behind it.
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size - 10); err != nil {
		t.Fatal(err)
	}
	again = openStore(t, disk, kek)
	if _, err := again.New(evidence.ID{4}); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(t, disk, kek).Key(evidence.ID{4}); err != nil {
		t.Error(err)
	}
	if _, err := f.WriteAt([]byte{0xff}, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(disk, storeName, kek); err == nil || errors.Is(err, ErrWrongKEK) {
		t.Errorf("a damaged header: %v", err)
	}
}

func TestDerive(t *testing.T) {
	t.Parallel()
	kek := NewKEK()
	a, err := Derive(kek, "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Derive(kek, "b")
	if err != nil || bytes.Equal(a, b) || len(a) != 32 {
		t.Errorf("%x and %x, %v", a, b, err)
	}
}
