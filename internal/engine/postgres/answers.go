package postgres

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

const (
	// outSize is how many bytes of answers are put together before they are
	// released even if more is already here.
	outSize = 64 << 10
	// maxHeld is how many frames may come before what is due is released even if more is already here.
	maxHeld = 4096
	// maxFrame is the largest frame that is taken whole; only rows and COPY
	// data may be longer, and go through in pieces.
	maxFrame = 16 << 20
	// maxUnasked is the largest entry of what came without a request.
	maxUnasked = 128 << 10
)

// answers is the answer pump: it reads the target's frames, pairs them with
// what was forwarded, records them, and releases them. Used by one goroutine.
type answers struct {
	r    *relay
	in   *pgwire.Reader
	out  []byte
	wait enforce.Receipt // what must be durable before out goes
	also enforce.Receipt // the same, of exchanges that the request pump ended
	read enforce.Receipt // the same, of a read that was forwarded before its intent was durable
	// barrier is where a frame of a Query begins that may close it, and must
	// wait for the outcome; -1 if there is none.
	barrier int
	// partial: the agent has got the beginning of a frame, but not its end.
	partial bool
	// gone says why the agent takes no more answers. What runs still gets its
	// outcome, but no more of its answer is recorded.
	gone    error
	scratch []byte   // for rows that are masked
	busy    int      // recent flushes that were large
	until   deadline // of writes to the agent
}

func (p *answers) init(r *relay) {
	p.r, p.in, p.barrier = r, r.up.in, -1
}

// run pumps until the target's connection ends or something is wrong.
func (p *answers) run() error {
	for n := 1; ; n++ {
		// Frames that release nothing may come without a pause: what stands
		// before them must not wait for their end.
		if !p.in.Buffered() || len(p.out) >= outSize || n%maxHeld == 0 {
			if err := p.flush(); err != nil {
				return err
			}
		}
		typ, n, err := p.in.Peek()
		if err != nil {
			return errors.Join(p.settleLast(), p.flush(), upstreamGone(err))
		}
		if err := p.frame(typ, n); err != nil {
			// What was recorded may still go; what was not may not.
			return errors.Join(err, p.settleLast(), p.flush())
		}
	}
}

func upstreamGone(err error) error {
	if errors.Is(err, io.EOF) {
		err = errors.New("the target closed the connection")
	}
	return err
}

// flush releases what may be released: everything before the barrier, once
// the entries it depends on are durable.
func (p *answers) flush() error {
	end := len(p.out)
	if p.barrier >= 0 {
		end = p.barrier
	}
	if end == 0 {
		return nil
	}
	for _, receipt := range []*enforce.Receipt{&p.read, &p.wait, &p.also} {
		if *receipt == nil {
			continue
		}
		if err := (*receipt).Wait(p.r.ctx); err != nil {
			p.out, p.barrier = p.out[:0], -1
			return err
		}
		*receipt = nil
	}
	p.write(p.out[:end])
	p.out = p.out[:copy(p.out, p.out[end:])]
	if p.barrier >= 0 {
		p.barrier = 0
	}
	if end >= outSize/4 {
		p.busy = 16
	} else if p.busy--; p.busy < 0 && cap(p.out) > outSize/4 && len(p.out) == 0 {
		p.out = nil // idle sessions hold little memory
	}
	return nil
}

// write sends bytes to the agent. An agent that does not take them is gone.
func (p *answers) write(b []byte) {
	if p.gone != nil {
		return
	}
	r := p.r
	if at, due := p.until.next(r.d.limits.Stall); due {
		_ = r.a.conn.SetWriteDeadline(at)
	}
	if r.s.Context().Err() != nil { // looked at after the deadline was set, which the session's end sets too
		_ = r.a.conn.SetWriteDeadline(time.Now().Add(time.Second))
	}
	if _, err := r.a.conn.Write(b); err != nil {
		p.gone = fmt.Errorf("the agent does not take its answer: %w", err)
		_ = r.a.conn.SetReadDeadline(past) // the request pump ends
	}
}

func unexpected(typ byte) error {
	return fmt.Errorf("%w: the target sent %q where it is not due", pgwire.ErrMalformed, typ)
}

// frame handles the next frame.
func (p *answers) frame(typ byte, n int) error {
	switch typ {
	case 'D', 'd':
		it, err := p.due(typ)
		if err != nil {
			return err
		}
		return p.bulk(it.ex, typ, n)
	}
	if n > maxFrame {
		return fmt.Errorf("%w: frame %q of %d bytes from the target", pgwire.ErrMalformed, typ, n)
	}
	frame, err := p.in.Next()
	if err != nil {
		return err
	}
	if !pgwire.WellFormed(typ, frame[pgwire.FrameHeader:]) {
		return fmt.Errorf("%w: frame %q of %d bytes from the target", pgwire.ErrMalformed, typ, n)
	}
	switch typ {
	case 'Z':
		return p.ready(frame)
	case 'E':
		return p.failed(frame)
	case 'S':
		return p.status(frame)
	case 'A':
		return p.unasked(p.hides(frame, nil))
	case 'N':
		return p.notice(frame)
	}
	it, err := p.due(typ)
	if err != nil {
		return err
	}
	return p.answer(it, typ, frame)
}

// due returns the message that a frame of this type answers. It is an error if
// no such frame is due, so that nothing passes that was not asked for.
func (p *answers) due(typ byte) (item, error) {
	r := p.r
	r.mu.Lock()
	defer r.mu.Unlock()
	it, skipped, ok := r.queue.head()
	if !ok || r.skipping || it.kind == itemSync || it.ex.own != nil || it.ex.ended || !it.ex.step(it.kind, typ) {
		return item{}, unexpected(typ)
	}
	if skipped > 0 {
		r.queue.pop(skipped) // the target read these Syncs in copy-in mode
	}
	return it, nil
}

// notice records a notice with the exchange that is being answered.
func (p *answers) notice(frame []byte) error {
	r := p.r
	r.mu.Lock()
	it, _, ok := r.queue.head()
	own := !ok || it.ex == nil || it.ex.own != nil || it.ex.ended || r.skipping
	r.mu.Unlock()
	if own {
		return p.unasked(p.hides(frame, nil))
	}
	return p.record(it.ex, p.hides(frame, it.ex))
}

// unasked records and releases frames that belong to no request. What the
// agent got before them is recorded before them.
func (p *answers) unasked(frames []byte) error {
	if p.gone != nil {
		return nil //nolint:nilerr // the agent has gone: nothing is released to it any more
	}
	r := p.r
	r.mu.Lock()
	it, _, ok := r.queue.head()
	r.mu.Unlock()
	if ok && it.ex != nil && !it.ex.ended && it.ex.own == nil {
		if err := it.ex.x.Flush(); err != nil {
			return err
		}
	}
	for rest := frames; len(rest) > 0; {
		n := min(len(rest), maxUnasked)
		receipt, err := r.s.Unasked(rest[:n])
		if err != nil {
			return err
		}
		p.wait = receipt
		rest = rest[n:]
	}
	p.out = append(p.out, frames...)
	return nil
}

// record records frames of an exchange's answer and puts them into the output,
// unless the exchange is the gateway's own.
func (p *answers) record(ex *exch, frames []byte) error {
	if p.gone == nil || ex.silent {
		if len(ex.commitments) > 0 {
			ex.x.Commit(ex.commitments)
			ex.commitments = ex.commitments[:0]
		}
		if err := ex.x.Answer(p.r.ctx, frames); err != nil {
			return err
		}
	}
	if !ex.silent {
		if early := ex.x.Early(); early != nil {
			p.read = early
		}
		p.out = append(p.out, frames...)
	}
	return nil
}

// hold records a frame of a Query that may be the closing one and puts the
// barrier before it: it is released when the next frame shows that it was not,
// or with the outcome.
func (p *answers) hold(ex *exch, frame []byte) error {
	at := len(p.out)
	if err := p.record(ex, frame); err != nil {
		return err
	}
	ex.closing = true
	if !ex.silent {
		p.barrier = at
	}
	return nil
}

// unhold is called when a frame shows that the held one did not close its Query.
func (p *answers) unhold(ex *exch) {
	if ex.closing {
		ex.closing = false
		p.barrier = -1
	}
}

// end records an exchange's outcome. closing is the rest of its answer; it is
// in the output already.
func (p *answers) end(ex *exch, closing []byte) error {
	if p.gone != nil && !ex.silent {
		closing = nil
		ex.undelivered = true
	}
	receipt, err := ex.finish(closing)
	if err != nil {
		return err
	}
	p.barrier = -1
	p.wait, p.read = receipt, nil // it covers what was recorded before it
	return nil
}

// close ends an exchange with its closing frame.
func (p *answers) close(ex *exch, frame []byte) error {
	if !ex.silent {
		p.barrier = len(p.out)
		p.out = append(p.out, frame...)
	}
	return p.end(ex, frame)
}

// answer handles a frame that belongs to the message at the head.
func (p *answers) answer(it item, typ byte, frame []byte) error {
	ex := it.ex
	p.unhold(ex)
	switch typ {
	case 'T':
		ex.fields = int(frame[pgwire.FrameHeader])<<8 | int(frame[pgwire.FrameHeader+1])
		if err := ex.described(frame); err != nil {
			return err
		}
		if it.kind == itemQuery {
			return p.record(ex, frame)
		}
	case 'H':
		if err := ex.copies(frame); err != nil {
			return err
		}
		return p.record(ex, frame)
	case 'c':
		if ex.copy != nil {
			if err := ex.copy.done(); err != nil {
				return err
			}
			ex.copy = nil
		}
		return p.record(ex, frame)
	case 't':
		return p.record(ex, frame)
	case 'G':
		p.copyIn(ex)
		return p.record(ex, frame)
	case 'V':
		ex.outcome.Status = access.StatusOK
		return p.hold(ex, frame)
	case 'C', 'I', 's':
		ex.tag(typ, frame)
		p.copyEnds(ex)
		if it.kind == itemQuery {
			return p.hold(ex, frame)
		}
	}
	return p.complete(it, frame)
}

// complete handles the frame that completes the answer of a message.
func (p *answers) complete(it item, frame []byte) error {
	switch {
	case it.own: // the agent did not ask for it
	case it.last:
		if it.ex.outcome.Status == "" {
			it.ex.outcome.Status = access.StatusOK
		}
		if err := p.close(it.ex, frame); err != nil {
			return err
		}
	default:
		if err := p.record(it.ex, frame); err != nil {
			return err
		}
	}
	r := p.r
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.cond.Broadcast()
	r.queue.pop(1)
	return r.settle(it, true)
}

// bulk handles rows and COPY data, which may be long or many.
func (p *answers) bulk(ex *exch, typ byte, n int) error {
	p.unhold(ex)
	if ex.looks() && (typ == 'D' && n <= maxFrame || ex.plan.looks(ex.current())) {
		if typ != 'D' {
			return p.maskedCopy(ex, n)
		}
		return p.maskedRows(ex, n)
	}
	if p.in.Buffered() {
		frames, count := p.in.Run()
		if typ == 'D' {
			var ok bool
			if ex.fields, ok = pgwire.CheckRows(frames, ex.fields); !ok {
				return fmt.Errorf("%w: DataRow from the target", pgwire.ErrMalformed)
			}
		}
		ex.rows += uint64(count)
		return p.record(ex, frames)
	}
	ex.rows++
	var row pgwire.Row
	for first := true; ; first = false {
		piece, more, err := p.in.Piece()
		if err != nil {
			return err
		}
		if typ == 'D' {
			body := piece
			if first {
				body = piece[pgwire.FrameHeader:]
			}
			if n := row.Write(body, ex.fields); n >= 0 {
				ex.fields = n
			}
			if row.Bad() || !more && !row.End() {
				return fmt.Errorf("%w: DataRow from the target", pgwire.ErrMalformed)
			}
		}
		if err := p.record(ex, piece); err != nil {
			return err
		}
		p.partial = p.partial || more
		if len(p.out) >= outSize {
			if err := p.flush(); err != nil {
				return err
			}
		}
		if !more {
			p.partial = false
			return nil
		}
	}
}

// copyIn opens copy-in mode for an exchange.
func (p *answers) copyIn(ex *exch) {
	r := p.r
	r.mu.Lock()
	defer r.mu.Unlock()
	r.copying = ex
	// Syncs that were forwarded behind it are read by the target in copy-in
	// mode, where it ignores them, unless it fails first.
	for all, i := r.queue.all(), 1; i < len(all) && all[i].kind == itemSync; i++ {
		all[i].maybe = true
	}
	r.cond.Broadcast()
}

// copyEnds closes copy-in mode when the target has ended it.
func (p *answers) copyEnds(ex *exch) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.r.copying == ex {
		p.r.copying = nil
	}
}

// failed handles an ErrorResponse.
func (p *answers) failed(frame []byte) error {
	r := p.r
	r.mu.Lock()
	it, skipped, ok := r.queue.head()
	own := !ok || it.kind == itemSync || r.skipping || it.ex.ended
	if !own && skipped > 0 {
		r.queue.pop(skipped)
	}
	r.mu.Unlock()
	switch {
	case own:
		frame = p.hides(frame, nil)
	case it.ex.own == nil:
		frame = p.hides(frame, it.ex)
	}
	e, _ := pgwire.ParseFields(frame[pgwire.FrameHeader:])
	if e.Fatal() {
		r.mu.Lock()
		r.fatal = true
		r.mu.Unlock()
	}
	if own {
		// Nothing of the agent's runs: the target ends the connection, or the
		// commit that a Sync makes has failed.
		if _, err := r.s.Note("error without a request", e.Code); err != nil {
			return err
		}
		return p.unasked(frame)
	}
	ex := it.ex
	p.copyEnds(ex)
	p.unhold(ex)
	if ex.own != nil {
		if e.Fatal() {
			return p.unasked(frame)
		}
		return p.refuse(it, &e, frame)
	}
	ex.outcome.Status, ex.outcome.Code, ex.outcome.Message = access.StatusError, e.Code, e.Message
	if it.kind == itemQuery {
		ex.statements = append(ex.statements, statementOutcome{Code: e.Code, Rows: ex.rows})
		ex.phase = phaseOver
		return p.hold(ex, frame)
	}
	if it.kind == itemCall {
		ex.phase = phaseOver
		return p.hold(ex, frame)
	}
	if err := p.close(ex, frame); err != nil {
		return err
	}
	p.skip(it)
	return nil
}

// skip notes that the target skips everything up to the next Sync.
func (p *answers) skip(it item) {
	r := p.r
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skipping = true
	if it.kind == itemParse && it.st != nil && it.st.name == "" {
		// The unnamed statement falls away even if what was to replace it fails.
		r.hold(r.statements.confirmed[""], -1)
		delete(r.statements.confirmed, "")
	}
	r.cond.Broadcast()
}

// refuse puts the gateway's refusal in the place of the error that the target
// gave to the statement standing in for the refused request.
func (p *answers) refuse(it item, e *pgwire.Fields, frame []byte) error {
	ex := it.ex
	own := access.Outcome{Status: access.StatusError, Code: e.Code, Message: e.Message}
	if _, err := ex.own.End(&own, frame); err != nil {
		return err
	}
	ours := appendError(nil, "ERROR", ex.deny, refusalDetail(p.r.s.ID().String(), ex))
	ex.outcome.Status, ex.outcome.Code, ex.outcome.Message = access.StatusDenied, sqlState[ex.deny.Code], ex.deny.Reason
	if err := p.close(ex, ours); err != nil {
		return err
	}
	if it.kind != itemQuery {
		p.skip(it)
	}
	return nil
}

// settleLast records a Query's closing frame when the connection ends before
// its ReadyForQuery came.
func (p *answers) settleLast() error {
	p.r.mu.Lock()
	it, _, ok := p.r.queue.head()
	p.r.mu.Unlock()
	if !ok || it.ex == nil || !it.ex.closing || it.ex.ended {
		return nil
	}
	return p.end(it.ex, nil)
}

// ready handles a ReadyForQuery: every exchange before it gets its outcome.
func (p *answers) ready(frame []byte) error {
	r := p.r
	silent := false
	for done := false; !done; {
		r.mu.Lock()
		if it, ok := r.queue.takeSync(); ok {
			r.mu.Unlock()
			silent = it.silent
			break
		}
		all := r.queue.all()
		skipping := r.skipping
		r.mu.Unlock()
		if len(all) == 0 {
			return unexpected('Z')
		}
		it := all[0]
		done = !skipping && (it.kind == itemQuery || it.kind == itemCall)
		if !done && !skipping || done && !it.ex.ended && !it.ex.closing {
			return unexpected('Z')
		}
		silent = it.ex.silent
		if err := p.readyFor(it, done); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.skipping = false
	r.tx = frame[pgwire.FrameHeader]
	if r.tx == 'I' {
		r.endPortals() // with their transaction
	}
	p.also, r.skipped = r.skipped, nil
	r.cond.Broadcast()
	r.mu.Unlock()
	if !silent {
		p.out = append(p.out, frame...)
	}
	return nil
}

// readyFor gives the exchange at the head its outcome, if it has none: a Query
// or FunctionCall that is done, or what the target skipped after an error.
func (p *answers) readyFor(it item, done bool) error {
	ex := it.ex
	if !ex.ended {
		if !done {
			ex.outcome.Status = access.StatusNotRun
		}
		if err := p.end(ex, nil); err != nil {
			return err
		}
	}
	r := p.r
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue.pop(1)
	return r.settle(it, done)
}
