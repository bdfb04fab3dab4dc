package ledger

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/seal"
)

// ErrForked says that the journal is not the one its checkpoints were made
// from: it was rolled back, replaced or changed.
var ErrForked = errors.New("the journal does not agree with its last signed checkpoint")

// recover opens the parts of the book, checks them against each other, closes
// what a crash left open, and records the start.
func (l *Ledger) recover(ctx context.Context) error {
	last, err := l.openCheckpoints()
	if err != nil {
		return err
	}
	jo := l.opt.Journal
	jo.KnownDurable = journal.Seq(last.Size)
	// What the last checkpoint covers is checked by whoever reads it: a start
	// must not take longer the older a book is.
	jo.SkipVerifyBelow = journal.Seq(min(last.OpenFrom, last.Size))
	log, found, err := journal.Open(l.fs, path.Join(l.dir, journalDir), jo)
	if err != nil {
		return err
	}
	l.log = log
	if err := l.openTree(last); err != nil {
		return err
	}
	open, err := l.survey(last)
	if err != nil {
		return err
	}
	if l.boot.IsZero() {
		return errors.New("no boot id")
	}
	if l.key, err = l.keys.New(l.boot); err != nil {
		return err
	}
	return l.start(ctx, last, found, open)
}

func (l *Ledger) openCheckpoints() (Stored, error) {
	verifier, err := note.NewVerifier(l.opt.PublicKeys.Log)
	if err != nil {
		return Stored{}, fmt.Errorf("log key: %w", err)
	}
	f, err := l.fs.OpenFile(path.Join(l.dir, checkpointFile))
	if err != nil {
		return Stored{}, err
	}
	if l.cps, err = openCheckpoints(f, verifier, l.book.Origin); err != nil {
		return Stored{}, errors.Join(err, f.Close())
	}
	last, _ := l.cps.last()
	return last, nil
}

// openTree brings the tree to the last checkpoint's size, from its file if
// that fits, else from the journal.
func (l *Ledger) openTree(last Stored) error {
	f, err := l.fs.OpenFile(path.Join(l.dir, treeFile))
	if err != nil {
		return err
	}
	l.tree = openTree(f)
	want := tlog.Hash{}
	if last.Size > 0 {
		verifier, err := note.NewVerifier(l.opt.PublicKeys.Log)
		if err != nil {
			return err
		}
		cp, err := evidence.OpenCheckpoint([]byte(last.Note), l.book.Origin, verifier)
		if err != nil {
			return err
		}
		want = cp.Root
	}
	if l.tree.resume(int64(last.Size)) == nil {
		if root, err := l.tree.root(int64(last.Size)); err == nil && (last.Size == 0 || root == want) {
			return nil
		}
	}
	return l.rebuildTree(last, want)
}

func (l *Ledger) rebuildTree(last Stored, want tlog.Hash) error {
	if err := l.tree.resume(0); err != nil {
		return err
	}
	done := errors.New("done")
	err := l.each(0, func(_ *Scanner, e *Entry) error {
		if e.Header.Index >= last.Size {
			return done
		}
		return l.tree.add([]tlog.Hash{evidence.LeafHash(e.Line)})
	})
	if err != nil && !errors.Is(err, done) {
		return err
	}
	root, err := l.tree.root(int64(last.Size))
	if err != nil {
		return err
	}
	if root != want {
		return fmt.Errorf("%w: at %d entries the tree's root differs", ErrForked, last.Size)
	}
	return nil
}

// orphan is a session without its end.
type orphan struct {
	header  evidence.Header
	first   uint64
	intents map[uint64]evidence.Header
}

// survey reads what came after the last checkpoint, and whatever was open
// then: it adds the missing leaves and returns the sessions without an end.
func (l *Ledger) survey(last Stored) (map[evidence.ID]*orphan, error) {
	open := make(map[evidence.ID]*orphan)
	// At least the last entry is read: its time bounds those to come.
	from := min(last.OpenFrom, last.Size-min(last.Size, 1))
	l.first = last.Size
	err := l.each(from, func(_ *Scanner, e *Entry) error {
		h := &e.Header
		if h.Index >= last.Size {
			l.leaves = append(l.leaves, evidence.LeafHash(e.Line))
			if h.Kind == evidence.KindConfig {
				l.configs = append(l.configs, h.Index)
			}
		}
		if h.Time.Before(l.lastTime) {
			return fmt.Errorf("%w: entry %d is older than the one before it", ErrForked, h.Index)
		}
		l.lastTime = h.Time
		if h.Session.IsZero() {
			return nil
		}
		o := open[h.Session]
		switch {
		case h.Kind == evidence.KindSession:
			open[h.Session] = &orphan{header: *h, first: h.Index, intents: make(map[uint64]evidence.Header)}
		case o == nil: // of a session that had ended before the last checkpoint
		case h.Kind == evidence.KindIntent:
			o.intents[h.Exchange] = *h
		case h.Kind == evidence.KindRelease: // from here on a held request may have run
			in := o.intents[h.Exchange]
			in.Decision = "allow"
			o.intents[h.Exchange] = in
		case h.Kind == evidence.KindOutcome:
			delete(o.intents, h.Exchange)
		case h.Kind == evidence.KindSessionEnd:
			delete(open, h.Session)
		}
		return nil
	})
	return open, err
}

// start records the boot and closes what was left open.
func (l *Ledger) start(ctx context.Context, last Stored, found *journal.Recovery, open map[evidence.ID]*orphan) error {
	body := evidence.Boot{
		BootID: l.boot.String(), Version: l.opt.Version, BinarySHA: l.opt.BinarySHA, Origin: l.book.Origin,
		Sync: l.SyncMode(), HeartbeatS: int(l.opt.Heartbeat.Seconds()), Head: last.Note,
		Purpose: l.opt.Purpose,
	}
	intents := 0
	orphans := make([]*orphan, 0, len(open))
	for _, o := range open {
		intents += len(o.intents)
		orphans = append(orphans, o)
	}
	slices.SortFunc(orphans, func(a, b *orphan) int { return int(a.first) - int(b.first) })
	if found.CutBytes > 0 || found.Copied > 0 || len(open) > 0 {
		body.Recovered = &evidence.Recovered{
			CutBytes: found.CutBytes, Copied: uint64(found.Copied), OpenIntents: intents, OpenSessions: len(open),
		}
		if found.CutReason != nil {
			body.Recovered.Detail = found.CutReason.Error()
		}
	}
	if _, err := l.Control(audit.NewClosing(evidence.KindBoot, &body)); err != nil {
		return err
	}
	for _, o := range orphans {
		if err := l.closeOrphan(o); err != nil {
			return err
		}
	}
	keys := l.opt.PublicKeys
	receipt, err := l.Control(audit.NewClosing(evidence.KindKey, &keys))
	if err != nil {
		return err
	}
	if err := receipt.Wait(ctx); err != nil {
		return err
	}
	_, err = l.Checkpoint(ctx)
	return err
}

// closeOrphan writes the outcomes and the end that a crash left out. Whether
// an allowed exchange ran cannot be known.
func (l *Ledger) closeOrphan(o *orphan) error {
	const cause = "the gateway stopped without closing this session"
	key, err := l.keys.Key(o.header.Session)
	if errors.Is(err, seal.ErrNoKey) {
		key = l.key
	} else if err != nil {
		return err
	}
	numbers := make([]uint64, 0, len(o.intents))
	for n := range o.intents {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	h := evidence.Header{Session: o.header.Session, Actor: o.header.Actor, Target: o.header.Target}
	for _, n := range numbers {
		status := "unknown"
		if o.intents[n].Decision != "allow" {
			status = "denied"
		}
		out := evidence.Outcome{Status: status, Cause: cause}
		var digest [32]byte
		head := h
		if _, err := l.append(key, &head, &audit.Event{
			Kind: evidence.KindOutcome, Exchange: n, Closing: true, Meta: audit.AppendOutcome(nil, &out, &digest),
		}); err != nil {
			return err
		}
	}
	e := audit.NewClosing(evidence.KindSessionEnd, &evidence.SessionEnd{Cause: cause, Recovered: true})
	_, err = l.append(key, &h, e)
	return err
}
