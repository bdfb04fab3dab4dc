package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/vfs"
)

// Stored is one line of the checkpoints file.
type Stored struct {
	Size uint64    `json:"size"`
	Time time.Time `json:"time"` // when it was signed; a claim of this clock, not part of the signature
	// OpenFrom is the index from which a start must look for sessions that
	// had no end when the checkpoint was made.
	OpenFrom uint64 `json:"open_from"`
	// Config is the index of the last configuration entry before Size, plus one; 0 if it is not known.
	Config uint64 `json:"config,omitempty"`
	Note   string `json:"note"` // the signed note
}

// checkpoints is the append-only file of signed checkpoints.
type checkpoints struct {
	f    vfs.File
	size int64
	list []Stored
	err  error // of a sync that failed: what reached the disk is not known
}

// openCheckpoints reads the file; an unfinished last line is cut.
func openCheckpoints(f vfs.File, verifier note.Verifier, origin string) (*checkpoints, error) {
	text, err := readAll(f)
	if err != nil {
		return nil, err
	}
	c := &checkpoints{f: f}
	for len(text) > 0 {
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			break
		}
		var s Stored
		if err := json.Unmarshal(text[:i], &s); err != nil {
			break
		}
		if err := s.check(origin, verifier); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", checkpointFile, len(c.list)+1, err)
		}
		c.list = append(c.list, s)
		c.size += int64(i) + 1
		text = text[i+1:]
	}
	// Each line is synced before the next is written, so that only the last
	// one can be torn, in any of its parts. If a good one follows, this is no tear.
	_, behind, _ := bytes.Cut(text, []byte("\n"))
	for line := range bytes.Lines(behind) {
		var s Stored
		if json.Unmarshal(line, &s) == nil && s.check(origin, verifier) == nil {
			return nil, fmt.Errorf("%s, line %d: damaged", checkpointFile, len(c.list)+1)
		}
	}
	if len(text) > 0 {
		if err := f.Truncate(c.size); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// check verifies the signature, and that the line says what was signed.
func (s *Stored) check(origin string, verifier note.Verifier) error {
	cp, err := evidence.OpenCheckpoint([]byte(s.Note), origin, verifier)
	if err == nil && cp.Size != s.Size {
		err = fmt.Errorf("it is of %d entries, the line says %d", cp.Size, s.Size)
	}
	return err
}

func (c *checkpoints) close() error { return c.f.Close() }

func (c *checkpoints) last() (Stored, bool) {
	if len(c.list) == 0 {
		return Stored{}, false
	}
	return c.list[len(c.list)-1], true
}

func (c *checkpoints) add(s Stored) error {
	if c.err != nil {
		return c.err
	}
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if _, err := c.f.WriteAt(line, c.size); err != nil {
		return err
	}
	if err := c.f.Sync(); err != nil {
		c.err = err
		return err
	}
	c.size += int64(len(line))
	c.list = append(c.list, s)
	return nil
}

// Checkpoint signs the tree of all entries known synced, if there are new ones,
// and returns the latest checkpoint.
func (l *Ledger) Checkpoint(ctx context.Context) (Stored, error) {
	if l.opt.Journal.Mode == journal.SyncInsecureInterval {
		if err := l.log.Sync(ctx); err != nil {
			return Stored{}, err
		}
	}
	l.cpMu.Lock()
	defer l.cpMu.Unlock()
	last, _ := l.cps.last()
	n := uint64(l.log.Synced())
	if n <= last.Size {
		return last, nil
	}
	l.mu.Lock()
	// What is synced does not move any more, so it may be read without the
	// lock. An attempt that failed may have added some of it already.
	leaves := l.leaves[uint64(l.tree.n)-l.first : n-l.first]
	from := n
	var over []evidence.ID
	for id, s := range l.sessions {
		if s.end != 0 && s.end < n {
			over = append(over, id)
			continue
		}
		from = min(from, s.first)
	}
	config := last.Config
	for len(l.configs) > 0 && l.configs[0] < n {
		config, l.configs = l.configs[0]+1, l.configs[1:]
	}
	l.mu.Unlock()
	if err := l.tree.add(leaves); err != nil {
		return Stored{}, fmt.Errorf("tree: %w", err)
	}
	root, err := l.tree.root(int64(n))
	if err != nil {
		return Stored{}, fmt.Errorf("tree: %w", err)
	}
	signed, err := evidence.SignCheckpoint(evidence.Checkpoint{Origin: l.book.Origin, Size: n, Root: root}, l.opt.Signer)
	if err != nil {
		return Stored{}, err
	}
	s := Stored{Size: n, Time: time.Now().UTC().Truncate(time.Millisecond), OpenFrom: from, Config: config, Note: string(signed)}
	if s.Time.Before(last.Time) {
		s.Time = last.Time // exports search by time
	}
	if err := l.tree.flush(); err != nil {
		return Stored{}, fmt.Errorf("tree: %w", err)
	}
	if err := l.cps.add(s); err != nil {
		return Stored{}, fmt.Errorf("checkpoint: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaves = append([]tlog.Hash(nil), l.leaves[n-l.first:]...)
	l.first = n
	for _, id := range over {
		delete(l.sessions, id)
	}
	return s, nil
}

// Checkpoints returns the checkpoints made so far, oldest first.
func (l *Ledger) Checkpoints() []Stored {
	l.cpMu.Lock()
	defer l.cpMu.Unlock()
	return l.cps.list[:len(l.cps.list):len(l.cps.list)]
}

// ConsistencyProof proves that the tree of the first m entries is a prefix of
// the tree of the first n (RFC 6962 section 2.1.2).
func (l *Ledger) ConsistencyProof(m, n uint64) ([]tlog.Hash, error) {
	l.cpMu.Lock()
	defer l.cpMu.Unlock()
	if m == 0 || m >= n || int64(n) > l.tree.n {
		return nil, nil
	}
	return tlog.ProveTree(int64(n), int64(m), l.tree)
}

// inclusionProof proves that entry i stands in the tree of the first n (RFC 6962 section 2.1.1).
func (l *Ledger) inclusionProof(i, n uint64) ([]tlog.Hash, error) {
	l.cpMu.Lock()
	defer l.cpMu.Unlock()
	if i >= n || int64(n) > l.tree.n {
		return nil, fmt.Errorf("entry %d is not in the tree of %d entries", i, n)
	}
	return tlog.ProveRecord(int64(n), int64(i), l.tree)
}

// Root returns the root of the tree of the first n entries.
func (l *Ledger) Root(n uint64) (tlog.Hash, error) {
	l.cpMu.Lock()
	defer l.cpMu.Unlock()
	if int64(n) > l.tree.n {
		return tlog.Hash{}, fmt.Errorf("the tree has %d entries, not %d", l.tree.n, n)
	}
	return l.tree.root(int64(n))
}

// Frontier returns the roots of the perfect subtrees that make up the tree of
// the first n entries, largest first.
func (l *Ledger) Frontier(n uint64) ([]tlog.Hash, error) {
	l.cpMu.Lock()
	defer l.cpMu.Unlock()
	if int64(n) > l.tree.n {
		return nil, fmt.Errorf("the tree has %d entries, not %d", l.tree.n, n)
	}
	var indexes []int64
	at := int64(0)
	for level := 62; level >= 0; level-- {
		if size := int64(1) << level; int64(n)-at >= size {
			indexes = append(indexes, tlog.StoredHashIndex(level, at>>level))
			at += size
		}
	}
	return l.tree.ReadHashes(indexes)
}

// Run makes checkpoints while there are new entries, about one a second, and a
// heartbeat when nothing else was written, until ctx ends. It returns an error
// only if checkpoints cannot be made any more; the gate should then close.
func (l *Ledger) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := l.beat(); err != nil && l.log.Err() == nil {
			continue // no room for a heartbeat: the gap will show
		}
		if _, err := l.Checkpoint(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// beat writes a heartbeat if the last entry is old enough.
func (l *Ledger) beat() error {
	l.mu.Lock()
	due := time.Since(l.lastTime) >= l.opt.Heartbeat-time.Second
	l.mu.Unlock()
	if !due {
		return nil
	}
	_, err := l.heartbeat()
	return err
}

// Beat writes a heartbeat now and waits until it is durable.
func (l *Ledger) Beat(ctx context.Context) error {
	r, err := l.heartbeat()
	if err != nil {
		return err
	}
	return r.Wait(ctx)
}

func (l *Ledger) heartbeat() (enforce.Receipt, error) {
	body := evidence.Heartbeat{BootID: l.boot.String(), FreeBytes: uint64(max(l.log.Stats().Free, 0))}
	if l.opt.Counters != nil {
		c := l.opt.Counters()
		body.OpenSessions, body.OpenExchanges = c.OpenSessions, c.OpenExchanges
		body.Exchanges, body.Refused = c.Exchanges, c.Refused
	}
	e := audit.NewClosing(evidence.KindHeartbeat, &body)
	return l.Control(e)
}
