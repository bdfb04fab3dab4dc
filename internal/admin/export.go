package admin

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/ledger"
)

// ExportRequest says what an evidence package is about.
type ExportRequest struct {
	From      time.Time `json:"from,omitzero"`
	Until     time.Time `json:"until,omitzero"`
	Principal string    `json:"principal,omitempty"`
	Target    string    `json:"target,omitempty"`
	Session   string    `json:"session,omitempty"`
	Previous  string    `json:"previous,omitempty"` // a signed checkpoint
}

// Export writes an evidence package to w. The range ends with a checkpoint
// made before the export's own entry, which is therefore the first entry after the package.
func (s *Service) Export(ctx context.Context, c Caller, r ExportRequest, progress func(done, total uint64), w io.Writer) (err error) {
	if r.Until.IsZero() {
		// The range is to end now, and not with whatever was recorded last.
		if err := s.Book.Beat(ctx); err != nil {
			return err
		}
	}
	if _, err := s.Book.Checkpoint(ctx); err != nil {
		return err
	}
	q := ledger.Query{
		From: r.From, Until: r.Until, Principal: r.Principal, Target: r.Target, Session: r.Session, Progress: progress,
	}
	if r.Previous != "" {
		q.Previous = []byte(r.Previous)
	}
	scope, closing, err := s.Book.Plan(q)
	if err != nil {
		return err
	}
	detail := map[string]any{"request": r, "first": scope.First, "size": scope.Size}
	if err := s.note(ctx, c, "export", detail); err != nil {
		return err
	}
	spool, err := ledger.NewSpool(filepath.Join(s.SpoolIn, "export"), s.SpoolKeep)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	if _, err := s.Book.Export(ctx, scope, closing, q, spool); err != nil {
		return err
	}
	custody := evidence.Custody{Exported: time.Now().UTC().Truncate(time.Second), Who: c.Who, How: c.How, Program: s.Program}
	return evidence.Pack(w, spool, custody, s.Book.Origin(), s.Signer)
}
