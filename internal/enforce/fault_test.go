package enforce_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
)

// TestWaits holds durability back: whatever promises a durable record may not
// return before there is one, and must fail when the recorder does.
func TestWaits(t *testing.T) {
	t.Parallel()
	chunk := make([]byte, 128<<10)
	begin := func(t *testing.T, s *enforce.Session) *enforce.Exchange {
		t.Helper()
		x := s.Begin(&access.Action{Op: "query"})
		if err := x.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		return x
	}
	type call = func(t *testing.T, g *enforce.Gate, s *enforce.Session, x *enforce.Exchange) error
	for _, c := range []struct {
		name string
		call call
	}{
		{"open", func(t *testing.T, g *enforce.Gate, _ *enforce.Session, _ *enforce.Exchange) error {
			o := opening("b/1h")
			_, err := g.Open(t.Context(), o)
			return err
		}},
		{"renew", func(t *testing.T, _ *enforce.Gate, s *enforce.Session, _ *enforce.Exchange) error {
			return s.Renew(t.Context(), secret.New("a/2h"))
		}},
		{"refusal", func(t *testing.T, g *enforce.Gate, _ *enforce.Session, _ *enforce.Exchange) error {
			if _, err := g.Open(t.Context(), opening("nobody")); code(err) == access.CodeIdentity {
				return nil
			} else if err == nil {
				t.Error("nobody was let in")
			}
			return errors.New("refused for another reason")
		}},
		{"request done", func(t *testing.T, _ *enforce.Gate, _ *enforce.Session, x *enforce.Exchange) error {
			if err := x.Request(t.Context(), []byte("data")); err != nil {
				t.Errorf("the first bytes: %v", err)
			}
			return x.RequestDone(t.Context())
		}},
		{"request of three chunks", func(t *testing.T, _ *enforce.Gate, _ *enforce.Session, x *enforce.Exchange) error {
			return errors.Join(x.Request(t.Context(), chunk), x.Request(t.Context(), chunk), x.Request(t.Context(), chunk))
		}},
		{"answer of three chunks", func(t *testing.T, _ *enforce.Gate, _ *enforce.Session, x *enforce.Exchange) error {
			return errors.Join(x.Answer(t.Context(), chunk), x.Answer(t.Context(), chunk), x.Answer(t.Context(), chunk))
		}},
		{"end", func(t *testing.T, _ *enforce.Gate, _ *enforce.Session, x *enforce.Exchange) error {
			r, err := x.End(&access.Outcome{Status: access.StatusOK}, []byte("done"))
			if err != nil {
				return err
			}
			return r.Wait(t.Context())
		}},
		{"close", func(_ *testing.T, _ *enforce.Gate, s *enforce.Session, _ *enforce.Exchange) error {
			return s.Close(nil)
		}},
	} {
		for _, fails := range []bool{false, true} {
			name := c.name
			if fails {
				name += ", and the recorder fails"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rec := memrec.New()
					g := gate(rec, nil)
					s := open(t, g, "a/1h")
					x := begin(t, s)
					rec.Hold()
					done := make(chan error, 1)
					go func() { done <- c.call(t, g, s, x) }()
					synctest.Wait()
					select {
					case err := <-done:
						t.Fatalf("returned %v before the record was durable", err)
					default:
					}
					if fails {
						rec.Fail(errors.New("the disk is gone"))
					} else {
						rec.Release()
					}
					err := <-done
					if c.name != "refusal" && (err != nil) != fails {
						t.Errorf("%v", err)
					}
					_ = s.Close(nil)
				})
			})
		}
	}
}
