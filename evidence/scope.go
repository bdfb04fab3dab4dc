package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// PackageFormat is the version of the package layout that this program writes
// and reads.
const PackageFormat = 1

// Files of a package. Everything under data/ is the same for the same scope
// and closing checkpoint, whoever exports.
const (
	fileBagit       = "bagit.txt"
	fileBagInfo     = "bag-info.txt"
	fileManifest    = "manifest-sha256.txt"
	fileTagManifest = "tagmanifest-sha256.txt"
	fileCustody     = "custody/export.json"
	fileVerifyMD    = "verify/VERIFY.md"
	fileVerifySH    = "verify/verify.sh"

	fileScope       = "data/scope.json"
	fileSummary     = "data/summary.json"
	fileReadme      = "data/README.html"
	fileHeaders     = "data/log/headers.jsonl"
	fileBodies      = "data/log/bodies.jsonl"
	fileWithheld    = "data/log/withheld.jsonl"
	fileCheckpoint  = "data/log/checkpoint"
	fileCheckpoints = "data/log/checkpoints.jsonl"
	fileProofs      = "data/log/proofs.json"
)

// Filter narrows the sessions whose bodies a package discloses. Zero values
// mean all. Pseudonyms are as in headers.
type Filter struct {
	Principal string `json:"principal,omitempty"` // as asked for, "issuer|name"
	Target    string `json:"target,omitempty"`
	Session   string `json:"session,omitempty"`
	ActorID   string `json:"actor_id,omitempty"`
	TargetID  string `json:"target_id,omitempty"`
}

// Empty reports whether nothing is filtered.
func (f *Filter) Empty() bool { return *f == Filter{} }

// Scope says what a package is about: the content of data/scope.json.
type Scope struct {
	Format int    `json:"format"`
	Origin string `json:"origin"`
	// First is the index of the first header; Size the closing checkpoint's
	// size, so that the headers are First to Size-1.
	First uint64 `json:"first"`
	Size  uint64 `json:"size"`
	// From and Until are the period asked for; zero values mean open ends.
	// The range begins early enough to hold every session that was open at From.
	From   time.Time `json:"from,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	Filter Filter    `json:"filter,omitzero"`
}

func (s *Scope) encode() []byte { return encode(s) }

// encode gives the one form in which a scope and its proofs are written.
func encode(v any) []byte {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("evidence: a scope does not marshal: " + err.Error())
	}
	return append(text, '\n')
}

// strict decodes what encode wrote and nothing else: encoding/json alone would
// take a name twice, and in any case.
func strict(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	if !bytes.Equal(encode(into), text) {
		return errors.New("not in canonical form")
	}
	return nil
}

func parseScope(text []byte) (*Scope, error) {
	var s Scope
	if err := strict(text, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", fileScope, err)
	}
	if s.Format != PackageFormat {
		return nil, fmt.Errorf("%s: format %d, this program reads %d", fileScope, s.Format, PackageFormat)
	}
	if s.First > s.Size || s.Origin == "" {
		return nil, fmt.Errorf("%s: range %d to %d of %q", fileScope, s.First, s.Size, s.Origin)
	}
	f := &s.Filter
	if (f.Principal == "") != (f.ActorID == "") || (f.Target == "") != (f.TargetID == "") {
		return nil, fmt.Errorf("%s: a filter's name and its pseudonym belong together", fileScope)
	}
	return &s, nil
}

// Reasons why a body in scope is not in a package.
const (
	// WithheldToken: an identity entry whose token had not expired when the
	// range was closed.
	WithheldToken = "token-not-expired"
	// WithheldErased: the data key was destroyed.
	WithheldErased = "erased"
)

// Discloses reports whether a package of this scope must hold the body of an
// entry, or list a reason. Entries of the book itself that say nothing about other
// sessions are always disclosed.
func (s *Scope) Discloses(h *Header) bool {
	f := &s.Filter
	if f.Empty() {
		return true
	}
	if h.Session.IsZero() {
		switch h.Kind {
		case KindPrincipal:
			return f.ActorID != "" && h.Actor.String() == f.ActorID
		case KindTarget:
			return f.TargetID != "" && h.Target.String() == f.TargetID
		case KindRefused, KindAdmin:
			return false
		}
		return true
	}
	return (f.Session == "" || h.Session.String() == f.Session) &&
		(f.ActorID == "" || h.Actor.String() == f.ActorID) &&
		(f.TargetID == "" || h.Target.String() == f.TargetID)
}

// Proofs is the content of data/log/proofs.json: what ties the range to what
// came before it.
type Proofs struct {
	// Frontier holds the roots of the perfect subtrees of the first Scope.First
	// entries, largest first, in base64.
	Frontier []string `json:"frontier"`
	// Opening is an earlier checkpoint, and Consistency proves that the closing
	// one continues it (RFC 6962 section 2.1.2). Nil for a range from index 0.
	Opening     string   `json:"opening_checkpoint,omitempty"`
	Consistency []string `json:"consistency,omitempty"`
	// Previous is the checkpoint that somebody brought to the export, with its proof.
	Previous            string   `json:"previous_checkpoint,omitempty"`
	PreviousConsistency []string `json:"previous_consistency,omitempty"`
	// Configuration is the configuration entry in force when the range begins, nil where the range has it itself or nothing is known.
	Configuration *Carried `json:"configuration,omitempty"`
}

// Carried is an entry of before the range.
type Carried struct {
	Header string   `json:"header"` // its line
	Salt   []byte   `json:"salt"`
	Body   []byte   `json:"body"`
	Proof  []string `json:"inclusion"` // in the closing checkpoint's tree (RFC 6962 section 2.1.1), in base64
}
