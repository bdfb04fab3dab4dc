package enforce_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
)

// TestSuspend: a suspended principal has no session left and gets none, and the refusal is recorded; others are not touched.
func TestSuspend(t *testing.T) {
	t.Parallel()
	rec := memrec.New()
	g := gate(rec, nil)
	a, b := open(t, g, "a/1h"), open(t, g, "b/1h")
	if n := g.Suspend(enforce.Suspension{Principal: "test|a", Reason: "amok", At: time.Now()}); n != 1 {
		t.Errorf("%d sessions ended", n)
	}
	if err := context.Cause(a.Context()); code(err) != access.CodeEnded || !strings.Contains(err.Error(), "suspended: amok") {
		t.Errorf("its session: %v", err)
	}
	if err := b.Context().Err(); err != nil {
		t.Errorf("another's session: %v", err)
	}
	if _, err := g.Open(t.Context(), opening("a/1h")); code(err) != access.CodeEnded || !strings.Contains(err.Error(), "amok") {
		t.Errorf("a log-in: %v", err)
	}
	recorded := false
	for _, e := range rec.Entries() {
		recorded = recorded || e.Kind == evidence.KindRefused && strings.Contains(string(e.Meta), "amok") && strings.Contains(string(e.Meta), "test|a")
	}
	if !recorded {
		t.Error("the refused log-in is not recorded")
	}
	if list := g.Suspended(); len(list) != 1 || list[0].Reason != "amok" {
		t.Errorf("%+v", list)
	}
	g.Resume("test|a")
	again := open(t, g, "a/1h")
	for _, s := range []*enforce.Session{a, b, again} {
		if err := s.Close(nil); err != nil {
			t.Error(err)
		}
	}
}

// TestSuspendWhileOpening: no session slips in between.
func TestSuspendWhileOpening(t *testing.T) {
	t.Parallel()
	for range 50 {
		g := gate(memrec.New(), nil)
		var group sync.WaitGroup
		var mu sync.Mutex
		var in []*enforce.Session
		for range 20 {
			group.Go(func() {
				if s, err := g.Open(context.Background(), opening("a/1h")); err == nil {
					mu.Lock()
					defer mu.Unlock()
					in = append(in, s)
				}
			})
		}
		g.Suspend(enforce.Suspension{Principal: "test|a", Reason: "amok"})
		group.Wait()
		for _, s := range in {
			if s.Context().Err() == nil {
				t.Fatal("a session of a suspended principal is open")
			}
			_ = s.Close(nil)
		}
	}
}
