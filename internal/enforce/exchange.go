package enforce

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/detect"
)

// chunkSize is the most that one request or answer entry holds of a stream, in
// bytes. One chunk may be under way to the disk while the next one fills, so
// that at most twice this much is released ahead of the durable record (256 KiB, design section 3).
const chunkSize = 128 << 10

// Exchange is one request with its answer. The request side (Ready, Request,
// RequestDone) and the answer side (Answer, End) may be used by two
// goroutines; each side by one at a time.
type Exchange struct {
	s     *Session
	n     uint64
	began time.Time
	deny  *access.DenyError
	// unrecorded: the intent could not be appended, so there is nothing to pair.
	unrecorded bool
	early      bool             // it is forwarded before its intent is durable
	hold       *access.Decision // it waits for people: Await
	due        *list            // it is the next statement of this list: Await
	listed     *list            // it was let through as one of this list
	position   int              // in that list, from 1
	config     string           // digest of the configuration that it was judged by
	intent     Receipt

	mu        sync.Mutex
	ended     bool
	forwarded bool
	readyUS   int64
	in        stream
	out       stream
	personal  map[string]uint64 // what was found in the request
	find      *detect.Set       // looks into what is sent with it, nil for not
	tail      []byte            // end of what was looked into, up to counted
	counted   int
}

// scratch is what an entry is made of before the recorder copies it.
type scratch struct {
	event audit.Event
	sum   [sha256.Size]byte
	buf   [1024]byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// release takes it back, without what it points to.
func (s *scratch) release() {
	s.event = audit.Event{}
	scratches.Put(s)
}

// stream is one direction of recorded bytes.
type stream struct {
	pending  []byte
	small    *[smallAnswer]byte // what pending begins as, from smalls
	chunks   uint64
	bytes    uint64
	cells    []byte    // commitments to masked cells in pending
	digest   hash.Hash // nil until the first chunk was written
	previous Receipt   // of the last chunk
}

// smallAnswer is the size that holds most answers whole, in bytes.
const smallAnswer = 512

var smalls = sync.Pool{New: func() any { return new([smallAnswer]byte) }}

// grow makes room for n bytes in an empty stream.
func (st *stream) grow(n int) {
	if n > smallAnswer {
		st.pending = make([]byte, 0, n)
		return
	}
	st.small = smalls.Get().(*[smallAnswer]byte)
	st.pending = st.small[:0]
}

// release gives back the room. Nothing is written to the stream any more.
func (st *stream) release() {
	if st.small != nil {
		smalls.Put(st.small)
	}
	st.pending, st.small = nil, nil
}

// Begin decides on an action and appends the intent, without waiting for the
// disk. It always returns an exchange: Denied says what was decided, and Ready
// when the decision counts.
func (s *Session) Begin(a *access.Action) *Exchange {
	x := &Exchange{s: s, began: time.Now()}
	s.active.Store(x.began.UnixNano())
	in := evidence.Intent{
		Op: a.Op, Origin: a.Origin, Opaque: !a.Understood, Text: a.Text, Detail: a.Detail, Action: a.Account, Decided: moment(x.began),
	}
	snap := s.gate.snap.Load() // of now: a new policy counts for running sessions, from their next request on
	x.config = snap.SHA256
	if len(snap.SHA256) >= 16 {
		in.Config = snap.SHA256[:16]
	}
	var used access.Usage
	if a.Origin == "" {
		used = s.budget.recent.begin(x.began)
		if snap.Policy != nil && snap.Policy.Reads().Usage {
			in.Usage = usageBody(&used)
		}
	}
	s.find(a, snap)
	in.Sensitive, in.Infers = sensitiveOf(a), a.Infers
	x.personal = found(a)
	if a.Origin == "" {
		x.find = snap.Detect
	}
	for _, l := range a.List {
		in.List = append(in.List, listedOf(l))
	}
	for {
		p := s.Principal()
		in.Rule, x.deny, x.hold = s.decide(a, p, snap.Policy, x.began, in.Decided, &used)
		s.mu.Lock()
		if s.principal == p {
			break
		}
		s.mu.Unlock() // renewed meanwhile: the record must say of whom the decision was
	}
	defer s.mu.Unlock()
	ended := s.follow(x, a)
	x.early = s.gate.release && a.ProvenRead && x.deny == nil && x.hold == nil && x.due == nil && a.Origin == "" && a.Own == ""
	in.Early = x.early
	if x.deny != nil && a.Origin == "" {
		s.budget.recent.takeBack(x.began)
	}
	decision := access.Allow
	switch {
	case x.deny != nil:
		decision = access.Denied
		in.Rule, in.Reason, in.Code = x.deny.Rule, x.deny.Reason, string(x.deny.Code)
	case x.hold != nil:
		decision, in.Reason = access.Hold, x.hold.Reason
	case a.Origin != "":
		in.Opaque = false
	}
	if in.Action == nil && a.Origin == "" {
		in.Action = audit.Account(a)
	}

	if s.closed {
		x.unrecorded = true
		x.deny = s.over()
		return x
	}
	x.n = s.last + 1
	var err error
	sc := scratches.Get().(*scratch)
	defer sc.release()
	sc.event = audit.Event{
		Kind: evidence.KindIntent, Exchange: x.n, Decision: decision.String(), Meta: audit.AppendIntent(sc.buf[:0], &in),
	}
	x.intent, err = s.rec.Append(&sc.event)
	if err != nil {
		x.unrecorded = true
		x.deny = errClosed(err)
		return x
	}
	s.last++
	s.open[x.n] = x
	x.recordEnd(ended)
	s.budget.add(x.began, 1, len(a.Text)+len(a.Detail))
	s.gate.exchanges.Add(1)
	s.gate.openExchanges.Add(1)
	return x
}

// moment is a time as entries can say it, so that whoever decides again does so by the same.
func moment(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// decide returns the refusal, the rule by which the request passes, or the decision that holds it. Whatever prevents a decision refuses.
func (s *Session) decide(a *access.Action, p *access.Principal, policy Policy, now, at time.Time, used *access.Usage) (rule string, deny *access.DenyError, hold *access.Decision) {
	if deny := s.check(a, now); deny != nil {
		return "", deny, nil
	}
	switch {
	case a.Origin != "":
		return "gateway", nil, nil
	case a.List != nil:
		return s.decideList(a.List, p, policy, now, at, used)
	case a.Own != "":
		return a.Own, nil, nil
	case policy == nil:
		return "", &access.DenyError{Code: access.CodePolicy, Rule: "default", Reason: "there is no policy, so that nothing is allowed"}, nil
	}
	d := s.decisions.of(policy, p, a, func() access.Decision {
		return policy.Decide(&access.Request{
			Principal: p, Target: &s.target.Target, Action: a, Time: at,
			Session: access.SessionInfo{Role: s.roleKey, Database: s.database, Address: s.source, Began: moment(s.began)},
			Usage:   *used,
		})
	})
	switch d.Verdict {
	case access.Allow:
		if len(a.Infers) > 0 && (a.Op != "prepare" || !a.Understood) {
			return "", &access.DenyError{
				Code: access.CodeMask, Rule: a.Infers[0], Reason: "it uses a masked column otherwise than by putting it out, for which the mask asks a person, and no rule of the policy holds it",
				Hint: `A rule with "size(action.infers) > 0" and then: hold lets people rule on such statements.`,
			}, nil
		}
		return d.Rule, nil, nil
	case access.Hold:
		if s.gate.desk == nil || len(d.Approvers) == 0 {
			return "", &access.DenyError{
				Code: access.CodeApproval, Rule: d.Rule, Hint: d.Hint,
				Reason: orElse(d.Reason, "a person must approve this") + "; the rule names nobody who may",
			}, nil
		}
		if a.Op == "prepare" && a.Understood {
			return d.Rule, nil, nil // nothing runs; what executes it is held
		}
		return d.Rule, nil, &d
	}
	return "", &access.DenyError{
		Code: access.CodePolicy, Rule: d.Rule, Reason: orElse(d.Reason, "a rule forbids this"), Hint: orElse(d.Hint, does(a)),
	}, nil
}

// usageBody is what an intent says of a principal's usage.
func usageBody(u *access.Usage) *evidence.Usage {
	counts := func(c access.Counts) evidence.Counts {
		return evidence.Counts{Requests: c.Requests, Rows: c.Rows, Bytes: c.Bytes}
	}
	return &evidence.Usage{Minute: counts(u.Minute), Hour: counts(u.Hour), Day: counts(u.Day)}
}

// does tells an agent what its request was taken for.
func does(a *access.Action) string {
	s := "What the request does: " + orElse(a.Effects.String(), "nothing known")
	if !a.Understood {
		s += "; it is not understood: " + orElse(shorten(a.Why, 200), "no reason known")
	}
	return s + "."
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// check returns what refuses a request before any rule is asked, or nil.
func (s *Session) check(a *access.Action, now time.Time) *access.DenyError {
	if a.Origin != "" {
		// The gateway's own statements also end what an ended session runs;
		// they need nothing but a book.
		if err := s.gate.rec.Err(); err != nil {
			return errClosed(err)
		}
		return nil
	}
	if err := s.gate.Err(); err != nil {
		var deny *access.DenyError
		if errors.As(err, &deny) {
			return deny
		}
		return errClosed(err)
	}
	if s.ctx.Err() != nil {
		return s.over()
	}
	s.mu.Lock()
	expired := s.expired || (!s.principal.SessionEnd.IsZero() && !now.Before(s.principal.SessionEnd))
	s.mu.Unlock()
	if expired {
		return errExpired()
	}
	if deny := s.budget.check(now, s.gate.snap.Load()); deny != nil {
		return deny
	}
	return a.Refuse
}

// over says why the session has ended.
func (s *Session) over() *access.DenyError {
	var deny *access.DenyError
	if errors.As(context.Cause(s.ctx), &deny) {
		return deny
	}
	return &access.DenyError{Code: access.CodeEnded, Rule: "session", Reason: "the session is over"}
}

// Number returns the exchange's number in the session, from 1; 0 if it could
// not be recorded.
func (x *Exchange) Number() uint64 { return x.n }

// Denied returns the refusal, or nil if the request may go on once Ready says so.
func (x *Exchange) Denied() *access.DenyError { return x.deny }

// Fatal reports whether the refusal ends the session too: nothing more can be
// recorded or the session is over.
func (x *Exchange) Fatal() bool {
	if x.deny == nil {
		return false
	}
	switch x.deny.Code {
	case access.CodeClosed, access.CodeExpired, access.CodeEnded, access.CodeShutdown, access.CodeBudget:
		return true
	}
	return false
}

// Ready blocks until the intent is durable, unless the exchange is one that need not wait (Early). A nil error means: forward now.
// Otherwise it is the *access.DenyError of the refusal, durable too, or that
// of a gate that cannot record.
func (x *Exchange) Ready(ctx context.Context) error {
	if x.unrecorded {
		return x.deny
	}
	if x.Held() {
		return errHeld // nobody awaited it
	}
	if !x.early {
		if err := x.intent.Wait(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return errClosed(err)
		}
	}
	if x.deny != nil {
		return x.deny
	}
	x.mu.Lock()
	x.forwarded = true
	x.readyUS = time.Since(x.began).Microseconds()
	x.mu.Unlock()
	return nil
}

// Early returns the receipt that nothing of the answer may be released before, where the request is forwarded before its
// intent is durable: a proven read in the sync mode "release". It returns nil for all others.
func (x *Exchange) Early() Receipt {
	if !x.early || x.unrecorded {
		return nil
	}
	return x.intent
}

// errOver is what Request and Answer return once the exchange has its outcome.
var errOver = errors.New("enforce: the exchange has ended")

// Request records bytes of the request that come after its intent (COPY data),
// in wire order. They may be forwarded when it returns nil, the frame that
// completes the request only after RequestDone.
func (x *Exchange) Request(ctx context.Context, frames []byte) error {
	return x.write(ctx, &x.in, evidence.KindRequest, frames)
}

// RequestDone blocks until everything given to Request is durable.
func (x *Exchange) RequestDone(ctx context.Context) error {
	x.mu.Lock()
	if x.ended || x.unrecorded {
		x.mu.Unlock()
		return errOver
	}
	err := x.flush(&x.in, evidence.KindRequest)
	last := x.in.previous
	x.mu.Unlock()
	if err == nil && last != nil {
		err = last.Wait(ctx)
	}
	return err
}

// Answer records frames of the answer, in wire order, all but the closing one.
// When it returns nil they may be released, those of an Early exchange once that receipt has resolved too.
func (x *Exchange) Answer(ctx context.Context, frames []byte) error {
	return x.write(ctx, &x.out, evidence.KindAnswer, frames)
}

// Commit records commitments to masked cells of the frames that Answer is given next.
func (x *Exchange) Commit(cells []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.out.cells = append(x.out.cells, cells...)
}

// write appends to a stream, chunk by chunk, and waits for a chunk once the
// next one is full.
func (x *Exchange) write(ctx context.Context, st *stream, kind evidence.Kind, frames []byte) error {
	if x.unrecorded {
		return x.deny
	}
	for len(frames) > 0 {
		x.mu.Lock()
		if x.ended {
			x.mu.Unlock()
			return errOver
		}
		n := min(len(frames), chunkSize-len(st.pending))
		if st.pending == nil {
			st.grow(n)
		}
		st.pending = append(st.pending, frames[:n]...)
		frames = frames[n:]
		if len(st.pending) < chunkSize {
			x.mu.Unlock()
			return nil
		}
		earlier := st.previous
		err := x.flush(st, kind)
		x.mu.Unlock()
		if err == nil && earlier != nil {
			err = earlier.Wait(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// flush writes the pending bytes as one chunk. Callers hold x.mu.
func (x *Exchange) flush(st *stream, kind evidence.Kind) error {
	if len(st.pending) == 0 {
		return nil
	}
	st.chunks++
	var found map[string]uint64
	if kind == evidence.KindRequest {
		found = x.look(st.pending, len(st.pending) < chunkSize)
	}
	var meta [256]byte
	r, err := x.s.rec.Append(&audit.Event{
		Kind: kind, Exchange: x.n, Meta: audit.AppendChunk(meta[:0], st.chunks, found, st.cells), Raw: st.pending,
	})
	if err != nil {
		return errClosed(err)
	}
	if st.digest == nil {
		st.digest = sha256.New()
	}
	st.digest.Write(st.pending)
	st.bytes += uint64(len(st.pending))
	now := time.Now()
	x.s.budget.add(now, 0, len(st.pending))
	if kind == evidence.KindAnswer {
		x.s.budget.recent.add(now, access.Counts{Bytes: uint64(len(st.pending))})
	}
	st.pending, st.cells = st.pending[:0], st.cells[:0]
	st.previous = r
	return nil
}

// Flush records what Answer was given so far, so that what is recorded next in
// the session stands behind it in the book. It does not wait for the disk.
func (x *Exchange) Flush() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended || x.unrecorded {
		return nil
	}
	return x.flush(&x.out, evidence.KindAnswer)
}

// End records what came of the exchange, with the closing frame as the last
// bytes of its answer, and returns the receipt after which that frame may be
// released. It must be called once for every exchange that was begun.
func (x *Exchange) End(o *access.Outcome, closing []byte) (Receipt, error) {
	return x.end(o, closing, "")
}

// abandon gives an exchange its outcome when its session ends before its answer did.
func (x *Exchange) abandon(cause string) {
	x.mu.Lock()
	status := access.StatusNotRun
	switch {
	case x.deny != nil, x.Held():
		status = access.StatusDenied
	case x.forwarded:
		status = access.StatusUnknown
	}
	x.mu.Unlock()
	_, _ = x.end(&access.Outcome{Status: status}, nil, cause)
}

func (x *Exchange) end(o *access.Outcome, closing []byte, cause string) (Receipt, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.unrecorded {
		return nil, x.deny
	}
	if x.ended {
		return nil, errOver
	}
	x.ended = true
	if x.listed != nil && o.Status != access.StatusOK {
		x.recordEnd(x.listed.end(fmt.Sprintf("statement %d did not succeed", x.position)))
	}
	err := x.flush(&x.in, evidence.KindRequest)
	if x.out.pending == nil && len(closing) > 0 {
		x.out.grow(len(closing))
	}
	x.out.pending = append(x.out.pending, closing...)
	sc := scratches.Get().(*scratch)
	defer sc.release()
	if x.out.digest == nil {
		sc.sum = sha256.Sum256(x.out.pending)
	} else {
		x.out.digest.Write(x.out.pending)
		x.out.digest.Sum(sc.sum[:0])
	}
	x.out.bytes += uint64(len(x.out.pending))
	now := time.Now()
	x.s.budget.add(now, 0, len(x.out.pending))
	x.s.budget.recent.add(now, access.Counts{Rows: o.Rows, Bytes: uint64(len(x.out.pending))})
	body := evidence.Outcome{
		Status: string(o.Status), Tag: o.Tag, Code: o.Code, Message: o.Message, Rows: o.Rows, Bytes: x.out.bytes,
		Chunks: x.out.chunks, Request: x.in.chunks, ReadyUS: x.readyUS, TotalUS: now.Sub(x.began).Microseconds(),
		Cause: cause, Detail: o.Detail, PersonalData: x.personal, Cells: x.out.cells,
	}
	sc.event = audit.Event{
		Kind: evidence.KindOutcome, Exchange: x.n, Closing: true,
		Meta: audit.AppendOutcome(sc.buf[:0], &body, &sc.sum), Raw: x.out.pending,
	}
	receipt, appendErr := x.s.rec.Append(&sc.event)
	x.in.release()
	x.out.release()
	x.s.done(x, now)
	if err = errors.Join(err, appendErr); err != nil {
		return nil, errClosed(err)
	}
	return receipt, nil
}

// done takes an exchange off its session's list and ends a session whose
// identity expired while the exchange ran.
func (s *Session) done(x *Exchange, now time.Time) {
	s.active.Store(now.UnixNano())
	s.gate.openExchanges.Add(-1)
	s.mu.Lock()
	delete(s.open, x.n)
	s.bytes += x.out.bytes
	over := s.expired && len(s.open) == 0 && !s.closed
	s.mu.Unlock()
	if over {
		s.cancel(errExpired())
	}
}

// Ended reports whether the exchange has its outcome.
func (x *Exchange) Ended() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ended
}
