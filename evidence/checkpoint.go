package evidence

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is the signed state of a book (C2SP tlog-checkpoint): its first
// Size entries have this root.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   tlog.Hash
}

// ErrCheckpoint is matched by every refusal of a checkpoint.
var ErrCheckpoint = errors.New("checkpoint not accepted")

// SignCheckpoint returns the checkpoint as a signed note (C2SP signed-note).
func SignCheckpoint(c Checkpoint, signers ...note.Signer) ([]byte, error) {
	text := c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
	return note.Sign(&note.Note{Text: text}, signers...)
}

// OpenCheckpoint verifies a signed note against verifier keys that the caller
// trusts, of which one must have signed, and returns the checkpoint in it.
// Extension lines are refused.
func OpenCheckpoint(signed []byte, origin string, verifiers ...note.Verifier) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(verifiers...))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return c, err
	}
	if c.Origin != origin {
		return c, fmt.Errorf("%w: origin %q, want %q", ErrCheckpoint, c.Origin, origin)
	}
	return c, nil
}

func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] == "" {
		return Checkpoint{}, fmt.Errorf("%w: want the three lines origin, size and root", ErrCheckpoint)
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("%w: size %q", ErrCheckpoint, lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return Checkpoint{}, fmt.Errorf("%w: root %q", ErrCheckpoint, lines[2])
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: tlog.Hash(root)}, nil
}
