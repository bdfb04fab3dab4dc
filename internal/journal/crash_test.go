package journal_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs/crashfs"
)

// TestRandomCrashes takes the power away again and again, from several
// writers at once, and follows one history through all of it.
func TestRandomCrashes(t *testing.T) {
	t.Parallel()
	runs := 8
	if n, err := strconv.Atoi(os.Getenv("GATEBOOK_CRASHES")); err == nil {
		runs = n
	}
	for _, mode := range []journal.Mode{journal.SyncAlways, journal.SyncInsecureInterval} {
		for run := range runs {
			t.Run(fmt.Sprintf("mode %d, seed %d", mode, run), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(uint64(run), uint64(mode)))
				disk := crashfs.New(nil, uint64(run))
				create(t, disk)
				safe, given := 0, 0
				for range 40 {
					disk, safe, given = crashOnce(t, disk, mode, rng, safe, given)
				}
				recoverAndCheck(t, disk, safe, given)
			})
		}
	}
}

func crashOnce(t *testing.T, disk *crashfs.FS, mode journal.Mode, rng *rand.Rand, safe, given int) (*crashfs.FS, int, int) {
	t.Helper()
	o := small()
	o.Mode, o.Interval = mode, time.Millisecond
	o.SegmentBytes = 1 << (9 + rng.IntN(4))
	l, rec := open(t, disk, o)
	defer func() { _ = l.Close() }()
	if int(rec.Entries) < safe || int(rec.Entries) > given {
		t.Fatalf("recovered %d entries, %d were safe, %d given", rec.Entries, safe, given)
	}
	checkAll(t, all(t, l.Read(0)), int(rec.Entries))
	var wg sync.WaitGroup
	writers, each := 1+rng.IntN(4), rng.IntN(8)
	for range writers {
		wait := rng.IntN(4) > 0
		wg.Go(func() {
			for range each {
				k, err := l.Append(journal.Closing, func(dst []byte, seq journal.Seq) []byte {
					return append(dst, payload(seq)...)
				})
				if err == nil && wait {
					err = k.Wait(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	half := rng.IntN(2) == 0
	if !half {
		wg.Wait()
		if rng.IntN(2) == 0 { // asked for, and not left to the clock: a slow machine may not tick at all
			if err := l.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What is promised before the picture is taken must be in it.
	promised := int(l.Synced())
	after := disk.Crash(rng.Uint64())
	wg.Wait()
	return after, promised, int(l.Next())
}

// TestLostPageCacheAfterRecovery checks that a tail, once served, stays: the
// state right after Open is crashed without any further sync.
func TestLostPageCacheAfterRecovery(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		disk := crashfs.New(nil, seed)
		create(t, disk)
		l, _ := open(t, disk, small())
		for i := range journal.Seq(6) {
			put(t, l, payload(i))
		}
		disk2 := disk.Crash(seed)
		closeLog(t, l)
		l, rec := open(t, disk2, small())
		if rec.Entries != 6 {
			t.Fatalf("seed %d: %d entries, want 6", seed, rec.Entries)
		}
		disk3 := disk2.Crash(seed + 1)
		closeLog(t, l)
		recoverAndCheck(t, disk3, 6, 6)
	}
}

// TestCreateSurvives takes the power away right after Create: the journal and
// the name of its directory are there.
func TestCreateSurvives(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		disk := crashfs.New(nil, seed)
		create(t, disk)
		l, _, err := journal.Open(disk.Crash(seed), dir, small())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		closeLog(t, l)
	}
}

// TestCloseSurvives takes the power away right after Close: the mark that it
// leaves says that everything was durable, so that nothing is copied, and damage of the last
// batch is told from a torn tail.
func TestCloseSurvives(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		disk := crashfs.New(nil, seed)
		create(t, disk)
		l, _ := open(t, disk, small())
		for i := range journal.Seq(3) {
			put(t, l, payload(i))
		}
		closeLog(t, l)
		l, rec := open(t, disk.Crash(seed), small())
		if rec.Known != 3 || rec.Copied != 0 {
			t.Fatalf("seed %d: known %d, copied %d", seed, rec.Known, rec.Copied)
		}
		closeLog(t, l)
	}
}

// TestSyncTakesTheQueue: Sync covers what was appended and not waited for.
func TestSyncTakesTheQueue(t *testing.T) {
	t.Parallel()
	for _, mode := range []journal.Mode{journal.SyncAlways, journal.SyncInsecureInterval} {
		disk := crashfs.New(nil, 1)
		create(t, disk)
		o := small()
		o.Mode, o.Interval = mode, time.Hour
		l, _ := open(t, disk, o)
		for i := range journal.Seq(5) {
			add(t, l, payload(i))
		}
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := disk.Crash(1)
		closeLog(t, l)
		recoverAndCheck(t, after, 5, 5)
	}
}
