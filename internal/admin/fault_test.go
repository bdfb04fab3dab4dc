package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/ledger"
	"github.com/gatebook/gatebook/internal/seal"
	"github.com/gatebook/gatebook/internal/vfs"
	"github.com/gatebook/gatebook/internal/vfs/faultfs"
)

// TestUnrecordedReadIsRefused: an action is allowed once its record is
// durable. Where the sync fails it is refused, and so is what comes after.
func TestUnrecordedReadIsRefused(t *testing.T) {
	t.Parallel()
	dir, kek := t.TempDir(), seal.NewKEK()
	skey, vkey, err := note.GenerateKey(rand.Reader, "gate.test")
	if err != nil {
		t.Fatal(err)
	}
	o := ledger.Options{KEK: kek, PublicKeys: evidence.Key{Log: vkey}, Journal: journal.Options{LowWater: -1, Reserve: -1, SegmentBytes: 1 << 20}}
	if o.Signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if err := ledger.Create(vfs.OS(), dir, "gate.test", kek); err != nil {
		t.Fatal(err)
	}
	disk := faultfs.New(vfs.OS())
	l, err := ledger.Open(t.Context(), disk, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{Book: l, Index: &fakeIndex{}}
	if err := s.note(t.Context(), Caller{Who: "ana"}, "query", nil); err != nil {
		t.Fatal(err)
	}
	disk.FailOp(faultfs.OpSync, faultfs.EIO, nil)
	for range 2 {
		if err := s.note(t.Context(), Caller{Who: "ana"}, "query", nil); !errors.Is(err, journal.ErrStopped) {
			t.Errorf("a read whose record is not durable: %v", err)
		}
	}
	if err := l.Close(context.Background(), "test"); err == nil {
		t.Error("the book closed as if nothing had happened")
	}
}
