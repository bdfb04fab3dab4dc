package ledger

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sort"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/seal"
)

// Query says what an export is about. Zero values mean all.
type Query struct {
	From      time.Time
	Until     time.Time // the closing checkpoint is the first one made at or after it
	Principal string    // "issuer|name"
	Target    string
	Session   string
	// Previous is a signed checkpoint that somebody kept, for which the
	// package should hold a consistency proof.
	Previous []byte
	// Progress is called now and then with the entries done and to do; nil is fine.
	Progress func(done, total uint64)
}

// ErrNothing says that the book has no checkpoint yet, or none in the period.
var ErrNothing = errors.New("nothing to export")

// Plan resolves a query against the checkpoints: which entries, closed by
// which checkpoint. The same query gives the same plan while no new checkpoint
// is made, and always when Until is set and past.
func (l *Ledger) Plan(q Query) (evidence.Scope, Stored, error) {
	cps := l.Checkpoints()
	if len(cps) == 0 {
		return evidence.Scope{}, Stored{}, fmt.Errorf("%w: the book has no checkpoint", ErrNothing)
	}
	closing := cps[len(cps)-1]
	if !q.Until.IsZero() {
		i := sort.Search(len(cps), func(i int) bool { return !cps[i].Time.Before(q.Until) })
		if i < len(cps) {
			closing = cps[i]
		}
	}
	s := evidence.Scope{
		Format: evidence.PackageFormat, Origin: l.book.Origin, Size: closing.Size, From: q.From.UTC(), Until: q.Until.UTC(),
		Filter: evidence.Filter{Principal: q.Principal, Target: q.Target, Session: q.Session},
	}
	if !q.From.IsZero() {
		if i := sort.Search(len(cps), func(i int) bool { return !cps[i].Time.Before(q.From) }); i > 0 {
			// Early enough to hold every session that was open at From.
			// One more entry shows the verifier that no time is left out.
			s.First = cps[i-1].OpenFrom - min(cps[i-1].OpenFrom, 1)
		}
	}
	if q.Principal != "" {
		s.Filter.ActorID = l.pseudonym("actor", q.Principal).String()
	}
	if q.Target != "" {
		s.Filter.TargetID = l.pseudonym("target", q.Target).String()
	}
	if _, err := evidence.ParseID(q.Session); err != nil {
		return s, closing, err
	}
	if s.First >= s.Size {
		return s, closing, fmt.Errorf("%w: the period has no entries", ErrNothing)
	}
	return s, closing, nil
}

// Export writes everything under data/ for a planned scope to a sink, in one
// pass over the journal and in bounded memory. It returns the summary.
func (l *Ledger) Export(ctx context.Context, s evidence.Scope, closing Stored, q Query, sink evidence.Sink) (*evidence.Summary, error) {
	end, err := l.timeAt(s.Size - 1)
	if err != nil {
		return nil, err
	}
	proofs, between, err := l.proofs(&s, q)
	if err != nil {
		return nil, err
	}
	if err := evidence.Facts(&s, []byte(closing.Note), between, proofs, sink); err != nil {
		return nil, err
	}
	b := evidence.NewBuilder(s, sink)
	if err := b.Begin(); err != nil {
		return nil, err
	}
	first, err := l.feed(ctx, &s, end, q.Progress, b)
	if err != nil {
		return nil, err
	}
	return b.Finish(first)
}

// timeAt returns the time of an entry.
func (l *Ledger) timeAt(index uint64) (time.Time, error) {
	sc := l.Scan(index)
	defer func() { _ = sc.Close() }()
	e, err := sc.Next()
	if err != nil {
		return time.Time{}, fmt.Errorf("entry %d: %w", index, err)
	}
	return e.Header.Time, nil
}

// proofs ties the range to what came before it.
func (l *Ledger) proofs(s *evidence.Scope, q Query) (*evidence.Proofs, [][]byte, error) {
	p := &evidence.Proofs{Frontier: []string{}}
	frontier, err := l.Frontier(s.First)
	if err != nil {
		return nil, nil, err
	}
	p.Frontier = encodeHashes(frontier)
	var between [][]byte
	var opening Stored
	for _, cp := range l.Checkpoints() {
		switch {
		case cp.Size <= s.First:
			opening = cp
		case cp.Size <= s.Size:
			between = append(between, []byte(cp.Note))
		}
	}
	if opening.Size > 0 {
		proof, err := l.ConsistencyProof(opening.Size, s.Size)
		if err != nil {
			return nil, nil, err
		}
		p.Opening, p.Consistency = opening.Note, encodeHashes(proof)
	}
	if p.Configuration, err = l.configBefore(opening, s); err != nil {
		return nil, nil, err
	}
	if q.Previous == nil {
		return p, between, nil
	}
	verifier, err := note.NewVerifier(l.opt.PublicKeys.Log)
	if err != nil {
		return nil, nil, err
	}
	cp, err := evidence.OpenCheckpoint(q.Previous, l.book.Origin, verifier)
	if err != nil {
		return nil, nil, fmt.Errorf("previous checkpoint: %w", err)
	}
	if cp.Size > s.Size {
		return nil, nil, fmt.Errorf("previous checkpoint: it has %d entries, this export ends at %d", cp.Size, s.Size)
	}
	proof, err := l.ConsistencyProof(cp.Size, s.Size)
	if err != nil {
		return nil, nil, err
	}
	p.Previous, p.PreviousConsistency = string(q.Previous), encodeHashes(proof)
	return p, between, nil
}

// configBefore returns the last configuration entry before the range, nil if none is known.
func (l *Ledger) configBefore(opening Stored, s *evidence.Scope) (*evidence.Carried, error) {
	at := opening.Config
	sc := l.Scan(opening.Size)
	defer func() { _ = sc.Close() }()
	for index := opening.Size; index < s.First; index++ {
		e, err := sc.Next()
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", index, err)
		}
		if e.Header.Kind == evidence.KindConfig {
			at = index + 1
		}
	}
	if at == 0 {
		return nil, nil
	}
	return l.carry(at-1, s.Size)
}

// carry returns an entry of before the range with its proof.
func (l *Ledger) carry(index, size uint64) (*evidence.Carried, error) {
	sc := l.Scan(index)
	defer func() { _ = sc.Close() }()
	e, err := sc.Next()
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", index, err)
	}
	salt, body, err := sc.Body(&e)
	if errors.Is(err, seal.ErrNoKey) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	proof, err := l.inclusionProof(index, size)
	if err != nil {
		return nil, err
	}
	return &evidence.Carried{Header: string(e.Line), Salt: salt[:], Body: body, Proof: encodeHashes(proof)}, nil
}

func encodeHashes(list []tlog.Hash) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = base64.StdEncoding.EncodeToString(list[i][:])
	}
	return out
}

// feed gives every entry of the range to the builder, with its body where the
// scope discloses it.
func (l *Ledger) feed(ctx context.Context, s *evidence.Scope, end time.Time, progress func(uint64, uint64), b *evidence.Builder) (time.Time, error) {
	var first time.Time
	sc := l.Scan(s.First)
	defer func() { _ = sc.Close() }()
	for index := s.First; index < s.Size; index++ {
		if index&1023 == 0 {
			if ctx.Err() != nil {
				return first, context.Cause(ctx)
			}
			if progress != nil {
				progress(index-s.First, s.Size-s.First)
			}
		}
		e, err := sc.Next()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return first, fmt.Errorf("entry %d: %w", index, err)
		}
		if index == s.First {
			first = e.Header.Time
		}
		d, reason, err := disclose(s, sc, &e, end)
		if err != nil {
			return first, err
		}
		if err := b.Entry(e.Line, &e.Header, d, reason); err != nil {
			return first, err
		}
	}
	if progress != nil {
		progress(s.Size-s.First, s.Size-s.First)
	}
	return first, nil
}

// disclose opens an entry's body, or says why it stays out. A token leaves the
// book only once it had expired when the range was closed.
func disclose(s *evidence.Scope, sc *Scanner, e *Entry, end time.Time) (*evidence.Disclosed, string, error) {
	if !s.Discloses(&e.Header) {
		return nil, "", nil
	}
	salt, body, err := sc.Body(e)
	if errors.Is(err, seal.ErrNoKey) {
		return nil, evidence.WithheldErased, nil
	}
	if err != nil {
		return nil, "", err
	}
	if e.Header.Kind == evidence.KindIdentity {
		var v evidence.Identity
		if err := evidence.DecodeBody(body, &v); err != nil {
			return nil, "", fmt.Errorf("entry %d: %w", e.Header.Index, err)
		}
		if !v.TokenExpiry.Before(end) {
			return nil, evidence.WithheldToken, nil
		}
	}
	return &evidence.Disclosed{Salt: salt, Body: body}, "", nil
}
