package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/gatebook/gatebook/evidence"
)

// CellKeyRequest asks for the key of one masked cell.
type CellKeyRequest struct {
	Exchange uint64 `json:"exchange"`
	Cell     uint64 `json:"cell"`
	Reason   string `json:"reason"`
}

// CellKey is the key of one masked cell, in hexadecimal.
type CellKey struct {
	Key string `json:"key"`
}

// ErrNoCellKey refuses where there is no master key.
var ErrNoCellKey = errors.New("the configuration has no mask_key, so there are no keys of cells")

// ReleaseCellKey records that the key of a masked cell is released, and returns it.
func (s *Service) ReleaseCellKey(ctx context.Context, c Caller, session string, r CellKeyRequest) (CellKey, error) {
	if _, err := evidence.ParseID(session); err != nil {
		return CellKey{}, err
	}
	if s.CellKey == nil {
		return CellKey{}, ErrNotRunning
	}
	if strings.TrimSpace(r.Reason) == "" {
		return CellKey{}, errors.New("a reason is needed")
	}
	key, ok := s.CellKey(session, r.Exchange, r.Cell)
	if !ok {
		return CellKey{}, ErrNoCellKey
	}
	if err := s.note(ctx, c, "cell-key", map[string]any{"session": session, "exchange": r.Exchange, "cell": r.Cell, "reason": r.Reason}); err != nil {
		return CellKey{}, err
	}
	return CellKey{hex.EncodeToString(key)}, nil
}
