package approval

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

// approvedList returns the released ticket of a list of three statements.
func approvedList(t *testing.T, rec *tape) *Ticket {
	t.Helper()
	a := asked(rec, dba(1))
	a.Bound.List = []evidence.Listed{{Text: "A"}, {Text: "B"}, {Text: "C"}}
	tk := open(t, NewDesk(slog.New(slog.DiscardHandler)), a)
	if err := tk.ReleaseListed(t.Context(), rec, 1, "c"); !errors.Is(err, ErrListOver) {
		t.Errorf("before anybody has ruled: %v", err)
	}
	if _, err := tk.desk.Rule(t.Context(), tk.ID, tk.Digest, Ruling{Person: person("ben", "dba"), Verdict: Approve}); err != nil {
		t.Fatal(err)
	}
	if err := tk.ReleaseListed(t.Context(), rec, 1, "c"); !errors.Is(err, ErrListOver) {
		t.Errorf("before it is released: %v", err)
	}
	if err := tk.Release(t.Context(), "c", ""); err != nil {
		t.Fatal(err)
	}
	return tk
}

// TestAP05ListOnce: each statement of a list is let through once and in order, whatever comes at once.
func TestAP05ListOnce(t *testing.T) {
	t.Parallel()
	rec := &tape{}
	tk := approvedList(t, rec)
	for position := 1; position <= 4; position++ {
		var good atomic.Int32
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				switch err := tk.ReleaseListed(t.Context(), rec, position, "c"); {
				case err == nil:
					good.Add(1)
				case !errors.Is(err, ErrListOver):
					t.Error(err)
				}
				_ = tk.ReleaseListed(t.Context(), rec, position+2, "c")
				_ = tk.ReleaseListed(t.Context(), rec, 0, "c")
			})
		}
		all.Wait()
		if want := int32(min(1, 4-position)); good.Load() != want {
			t.Errorf("statement %d was let through %d times, want %d", position, good.Load(), want)
		}
	}
	if got := rec.list(); !slices.Equal(got, []string{"ticket", "ruling ben approve", "release", "release", "release", "release"}) {
		t.Errorf("entries: %v", got)
	}
	if end := tk.EndList("late"); end != nil {
		t.Errorf("a list that is done ends again: %+v", end)
	}
}

// TestAP05ListEnds: after its end, or its time, nothing of a list is let through; the end is said once.
func TestAP05ListEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := &tape{}
		tk := approvedList(t, rec)
		if err := tk.ReleaseListed(t.Context(), rec, 1, "c"); err != nil {
			t.Fatal(err)
		}
		if end := tk.EndList("why"); end == nil || end.State != StateListEnded || end.Cause != "why" || end.Digest != tk.Digest {
			t.Errorf("%+v", end)
		}
		if end := tk.EndList("again"); end != nil {
			t.Errorf("it ends twice: %+v", end)
		}
		if err := tk.ReleaseListed(t.Context(), rec, 2, "c"); !errors.Is(err, ErrListOver) {
			t.Errorf("after its end: %v", err)
		}
		tk = approvedList(t, rec)
		time.Sleep(time.Minute)
		if err := tk.ReleaseListed(t.Context(), rec, 1, "c"); !errors.Is(err, ErrListOver) {
			t.Errorf("after its time: %v", err)
		}
	})
}
