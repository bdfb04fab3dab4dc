package admin

import (
	"context"
	"errors"
	"time"

	"github.com/gatebook/gatebook/internal/enforce"
)

// Suspensions keeps principals out, also after a restart.
type Suspensions interface {
	// Suspend ends what the principal has open, and returns how many sessions that were. When it returns nil, the suspension
	// is durable; after an error it counts until the gateway stops.
	Suspend(s enforce.Suspension) (ended int, err error)
	// Resume lets it in again, once that is durable. It is an error if it is not suspended.
	Resume(principal string) error
	// Suspended lists those that are kept out.
	Suspended() []enforce.Suspension
}

// SuspendRequest names a principal, "issuer|name".
type SuspendRequest struct {
	Principal string `json:"principal"`
	Reason    string `json:"reason,omitempty"`
}

// SuspendAnswer says what came of a suspension.
type SuspendAnswer struct {
	Ended int `json:"sessions_ended"`
}

// maxSuspendReason bounds a reason, in bytes.
const maxSuspendReason = 500

// Suspend stops a principal: its sessions end with what they run, what waits for people is withdrawn, and it is not let in again
// until Resume.
func (s *Service) Suspend(ctx context.Context, c Caller, r SuspendRequest) (*SuspendAnswer, error) {
	switch {
	case s.Suspensions == nil:
		return nil, ErrNotRunning
	case r.Reason == "":
		return nil, errors.New("a reason is needed: --reason TEXT")
	case len(r.Reason) > maxSuspendReason:
		return nil, errors.New("the reason is too long")
	}
	if err := s.note(ctx, c, "principal-suspend", r); err != nil {
		return nil, err
	}
	n, err := s.Suspensions.Suspend(enforce.Suspension{Principal: r.Principal, Reason: r.Reason, By: c.Who, At: time.Now().UTC()})
	if err != nil {
		return nil, err
	}
	return &SuspendAnswer{n}, nil
}

// ResumePrincipal lets a suspended principal in again.
func (s *Service) ResumePrincipal(ctx context.Context, c Caller, r SuspendRequest) error {
	if s.Suspensions == nil {
		return ErrNotRunning
	}
	if err := s.note(ctx, c, "principal-resume", r); err != nil {
		return err
	}
	return s.Suspensions.Resume(r.Principal)
}

// Suspended lists the principals that are kept out.
func (s *Service) Suspended(ctx context.Context, c Caller) ([]enforce.Suspension, error) {
	if s.Suspensions == nil {
		return nil, ErrNotRunning
	}
	if err := s.note(ctx, c, "principal-list", nil); err != nil {
		return nil, err
	}
	return s.Suspensions.Suspended(), nil
}
