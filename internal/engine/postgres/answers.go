package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

const (
	// outSize is how many bytes of answers are put together before they are
	// released even if more is already here.
	outSize = 64 << 10
	// maxFrame is the largest frame that is taken whole; only frames of bulk
	// data may be longer, and go through in pieces.
	maxFrame = 16 << 20
)

// answers is the answer pump: it reads the target's frames, pairs them with
// what was forwarded, records them, and releases them. Used by one goroutine.
type answers struct {
	r    *relay
	in   *pgwire.Reader
	out  []byte
	wait enforce.Receipt // what must be durable before out goes
	// barrier is where a frame of a Query begins whose record waits until it
	// is known whether it closes the Query; -1 if there is none.
	barrier  int
	skipping bool // after an error in the extended protocol, up to the Sync
}

func (p *answers) init(r *relay) {
	p.r, p.in, p.barrier = r, r.up.in, -1
}

// run pumps until the target's connection ends or something is wrong.
func (p *answers) run() error {
	for {
		if !p.in.Buffered() || len(p.out) >= outSize {
			if err := p.flush(); err != nil {
				return err
			}
		}
		typ, n, err := p.in.Peek()
		if err != nil {
			return errors.Join(p.settleHeld(), p.flush(), upstreamGone(err))
		}
		if err := p.frame(typ, n); err != nil {
			// What was recorded may still go; what was not may not.
			return errors.Join(err, p.flush())
		}
	}
}

func upstreamGone(err error) error {
	if err == io.EOF {
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
	if p.wait != nil {
		if err := p.wait.Wait(p.r.ctx); err != nil {
			p.out = p.out[:0]
			return err
		}
		p.wait = nil
	}
	if err := p.r.a.conn.SetWriteDeadline(time.Now().Add(p.r.d.limits.Stall)); err != nil {
		return err
	}
	_, err := p.r.a.conn.Write(p.out[:end])
	p.out = p.out[:copy(p.out, p.out[end:])]
	if p.barrier >= 0 {
		p.barrier = 0
	}
	if cap(p.out) > 4*outSize && len(p.out) == 0 {
		p.out = nil
	}
	if err != nil {
		return fmt.Errorf("the agent does not take its answer: %w", err)
	}
	return nil
}

// head returns the message whose answer is due; ok is false if there is none.
func (p *answers) head() (it item, ok bool) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if len(p.r.queue) == 0 {
		return item{}, false
	}
	return p.r.queue[0], true
}

// pop takes the head off the queue.
func (p *answers) pop() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.popLocked()
}

func (p *answers) popLocked() {
	r := p.r
	r.queue[0] = item{}
	r.queue = r.queue[1:]
	if len(r.queue) == 0 {
		r.queue = nil
		r.cond.Broadcast()
	}
}

func unexpected(typ byte) error {
	return fmt.Errorf("%w: the target sent %q where it is not due", pgwire.ErrMalformed, typ)
}

// frame handles the next frame.
func (p *answers) frame(typ byte, n int) error {
	switch typ {
	case 'N', 'S', 'A', 'Z', 'E':
	default:
		it, ok := p.head()
		if !ok || p.skipping || it.kind == itemSync || it.ex.own != nil {
			return unexpected(typ)
		}
		return p.answer(it, typ, n)
	}
	frame, err := p.whole(typ, n)
	if err != nil {
		return err
	}
	switch typ {
	case 'Z':
		return p.ready(frame)
	case 'E':
		return p.failed(frame)
	case 'S':
		return p.status(frame)
	}
	if typ == 'N' {
		if it, ok := p.head(); ok && it.ex != nil && it.ex.own == nil && !it.ex.ended && !p.skipping {
			return p.record(it.ex, frame)
		}
	}
	return p.unasked(frame)
}

func (p *answers) whole(typ byte, n int) ([]byte, error) {
	if n > maxFrame {
		return nil, fmt.Errorf("%w: frame %q of %d bytes from the target", pgwire.ErrMalformed, typ, n)
	}
	return p.in.Next()
}

// unasked records and releases frames that belong to no request.
func (p *answers) unasked(frames []byte) error {
	receipt, err := p.r.s.Unasked(frames)
	if err != nil {
		return err
	}
	p.wait = receipt
	p.out = append(p.out, frames...)
	return nil
}

// record records a frame of an exchange's answer that does not close it, and
// releases it unless the exchange is the gateway's own.
func (p *answers) record(ex *exch, frames []byte) error {
	if err := p.unhold(ex); err != nil {
		return err
	}
	if err := ex.x.Answer(p.r.ctx, frames); err != nil {
		return err
	}
	if !ex.silent {
		p.out = append(p.out, frames...)
	}
	return nil
}

// hold puts a frame of a Query aside that may be the closing one: it is in the
// output behind the barrier, and recorded when the next frame shows what it was.
func (p *answers) hold(ex *exch, frame []byte) error {
	if err := p.unhold(ex); err != nil {
		return err
	}
	ex.held = append(ex.held[:0], frame...)
	if !ex.silent {
		p.barrier = len(p.out)
		p.out = append(p.out, frame...)
	}
	return nil
}

// unhold records a held frame as an ordinary part of the answer.
func (p *answers) unhold(ex *exch) error {
	if len(ex.held) == 0 {
		return nil
	}
	err := ex.x.Answer(p.r.ctx, ex.held)
	ex.held = ex.held[:0]
	p.barrier = -1
	return err
}

// end records an exchange's outcome with its closing frame, which is already
// in the output.
func (p *answers) end(ex *exch, closing []byte) error {
	ex.ended = true
	if len(ex.statements) > 1 {
		detail, err := json.Marshal(map[string]any{"statements": ex.statements})
		if err != nil {
			return err
		}
		ex.outcome.Detail = detail
	}
	p.barrier = -1
	receipt, err := ex.x.End(&ex.outcome, closing)
	if err != nil {
		return err
	}
	p.wait = receipt
	return nil
}

// close ends an exchange of the extended protocol with its closing frame.
func (p *answers) close(ex *exch, frame []byte) error {
	if !ex.silent {
		p.out = append(p.out, frame...)
	}
	return p.end(ex, frame)
}

// answer handles a frame that belongs to the message at the head.
func (p *answers) answer(it item, typ byte, n int) error {
	ex := it.ex
	switch typ {
	case 'D', 'd', 'T':
		if !allowed(it.kind, typ) {
			return unexpected(typ)
		}
		return p.bulk(it, typ, n)
	}
	frame, err := p.whole(typ, n)
	if err != nil {
		return err
	}
	if !allowed(it.kind, typ) {
		return unexpected(typ)
	}
	switch typ {
	case 'G':
		p.copyIn(it)
	case 'C', 'I', 's':
		p.tag(ex, typ, frame)
		if it.kind == itemQuery {
			return p.hold(ex, frame)
		}
	case 'V':
		ex.outcome.Status = access.StatusOK
		return p.hold(ex, frame)
	case 'H', 'c', 't':
		return p.record(ex, frame)
	}
	if typ == 'G' {
		return p.record(ex, frame)
	}
	return p.complete(it, frame)
}

// complete handles the frame that completes the answer of a message.
func (p *answers) complete(it item, frame []byte) error {
	r := p.r
	r.mu.Lock()
	if it.st != nil {
		r.statements.settle(it.st, true)
	}
	if it.po != nil {
		r.portals.settle(it.po, true)
	}
	p.popLocked()
	r.cond.Broadcast()
	r.mu.Unlock()
	if !it.last {
		return p.record(it.ex, frame)
	}
	if it.ex.outcome.Status == "" {
		it.ex.outcome.Status = access.StatusOK
	}
	return p.close(it.ex, frame)
}

// allowed says which frames may answer which message, but for errors.
func allowed(kind itemKind, typ byte) bool {
	var set string
	switch kind {
	case itemParse:
		set = "1"
	case itemBind:
		set = "2"
	case itemClose:
		set = "3"
	case itemDescribeStatement:
		set = "tTn"
	case itemDescribePortal:
		set = "Tn"
	case itemExecute:
		set = "DCIsGHdc"
	case itemQuery:
		set = "TDCIGHdc"
	case itemCall:
		set = "V"
	}
	return strings.IndexByte(set, typ) >= 0
}

// bulk handles frames that may be long or many: rows, COPY data, and row
// descriptions.
func (p *answers) bulk(it item, typ byte, n int) error {
	ex := it.ex
	if typ == 'T' && it.kind != itemQuery {
		frame, err := p.whole(typ, n)
		if err != nil {
			return err
		}
		return p.complete(it, frame)
	}
	if typ == 'D' || typ == 'd' {
		ex.rows++
	}
	if !p.in.Buffered() {
		for {
			piece, more, err := p.in.Piece()
			if err != nil {
				return err
			}
			if err := p.record(ex, piece); err != nil {
				return err
			}
			if len(p.out) >= outSize {
				if err := p.flush(); err != nil {
					return err
				}
			}
			if !more {
				return nil
			}
		}
	}
	frames, count := p.in.Run()
	if typ == 'D' || typ == 'd' {
		ex.rows += uint64(count) - 1
	}
	return p.record(ex, frames)
}

// tag takes down what a statement's completion says.
func (p *answers) tag(ex *exch, typ byte, frame []byte) {
	tag := ""
	switch typ {
	case 'C':
		c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
		tag = string(c.String())
	case 's':
		tag = "(suspended)"
	}
	rows := ex.rows
	if rows == 0 {
		if i := strings.LastIndexByte(tag, ' '); i >= 0 {
			rows, _ = strconv.ParseUint(tag[i+1:], 10, 64)
		}
	}
	ex.rows = 0
	ex.outcome.Rows += rows
	ex.outcome.Status = access.StatusOK
	if ex.outcome.Tag == "" {
		ex.outcome.Tag = tag
	} else if len(ex.outcome.Tag) < 1000 {
		ex.outcome.Tag += "; " + tag
	}
	if ex.simple && len(ex.statements) < 10000 {
		ex.statements = append(ex.statements, statementOutcome{Tag: tag, Rows: rows})
	}
}

// copyIn opens copy-in mode for an exchange.
func (p *answers) copyIn(it item) {
	r := p.r
	r.mu.Lock()
	defer r.mu.Unlock()
	r.copying = it.ex
	if it.kind == itemExecute {
		// Syncs that were forwarded behind the Execute are read by the target
		// in copy-in mode, where it ignores them.
		for len(r.queue) > 1 && r.queue[1].kind == itemSync {
			r.queue = append(r.queue[:1], r.queue[2:]...)
		}
	}
	r.cond.Broadcast()
}

// copyEnds closes copy-in mode after an error of the target.
func (p *answers) copyEnds(ex *exch) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.r.copying == ex {
		p.r.copying = nil
	}
}

// failed handles an ErrorResponse.
func (p *answers) failed(frame []byte) error {
	e := decodeError(frame)
	if s := e.SeverityUnlocalized; s == "FATAL" || s == "PANIC" || s == "" && (e.Severity == "FATAL" || e.Severity == "PANIC") {
		p.r.mu.Lock()
		p.r.fatal = true
		p.r.mu.Unlock()
	}
	it, ok := p.head()
	if !ok || it.kind == itemSync || p.skipping || it.ex.ended {
		// Nothing of the agent's runs: the target ends the connection, or the
		// commit that a Sync makes has failed.
		if _, err := p.r.s.Note("error without a request", e.Code); err != nil {
			return err
		}
		return p.unasked(frame)
	}
	ex := it.ex
	p.copyEnds(ex)
	if ex.own != nil {
		return p.refuse(it, &e.Code, e.Message, frame)
	}
	ex.outcome.Status, ex.outcome.Code, ex.outcome.Message = access.StatusError, e.Code, e.Message
	if it.kind == itemQuery {
		ex.statements = append(ex.statements, statementOutcome{Code: e.Code, Rows: ex.rows})
		return p.hold(ex, frame)
	}
	if it.kind != itemCall {
		p.skipping = true
	}
	return p.close(ex, frame)
}

// refuse puts the gateway's refusal in the place of the error that the target
// gave to the statement standing in for the refused request.
func (p *answers) refuse(it item, code *string, message string, frame []byte) error {
	ex := it.ex
	if _, err := ex.own.End(&access.Outcome{Status: access.StatusError, Code: *code, Message: message}, frame); err != nil {
		return err
	}
	ours := appendError(nil, "ERROR", ex.deny,
		fmt.Sprintf("session %s, exchange %d", p.r.s.ID(), ex.x.Number()))
	ex.outcome.Status, ex.outcome.Code, ex.outcome.Message = access.StatusDenied, sqlState[ex.deny.Code], ex.deny.Reason
	if it.kind != itemQuery {
		p.skipping = true
	}
	return p.close(ex, ours)
}

// settleHeld records a Query's closing frame when the connection ends before
// its ReadyForQuery came.
func (p *answers) settleHeld() error {
	it, ok := p.head()
	if !ok || it.ex == nil || len(it.ex.held) == 0 || it.ex.ended {
		return nil
	}
	return p.end(it.ex, it.ex.held)
}

// ready handles a ReadyForQuery: every exchange before it gets its outcome.
func (p *answers) ready(frame []byte) error {
	if len(frame) != pgwire.FrameHeader+1 {
		return unexpected('Z')
	}
	silent := false
	for {
		it, ok := p.head()
		if !ok {
			return unexpected('Z')
		}
		ends := it.kind == itemSync || !p.skipping && (it.kind == itemQuery || it.kind == itemCall)
		if !ends && !p.skipping {
			return unexpected('Z')
		}
		if ex := it.ex; ex != nil {
			silent = ex.silent
			if err := p.readyFor(it, ends); err != nil {
				return err
			}
		}
		p.pop()
		if ends {
			break
		}
	}
	p.skipping = false
	r := p.r
	r.mu.Lock()
	r.tx = frame[pgwire.FrameHeader]
	if r.tx == 'I' {
		r.portals.confirmed = nil // portals end with their transaction
	}
	r.cond.Broadcast()
	r.mu.Unlock()
	if !silent {
		p.out = append(p.out, frame...)
	}
	return nil
}

// readyFor gives the exchange at the head its outcome, if it has none: a Query
// that is done, or what the target skipped after an error.
func (p *answers) readyFor(it item, ends bool) error {
	ex := it.ex
	if !ends {
		p.r.mu.Lock()
		if it.st != nil {
			p.r.statements.settle(it.st, false)
		}
		if it.po != nil {
			p.r.portals.settle(it.po, false)
		}
		p.r.mu.Unlock()
	}
	if ex.ended {
		return nil
	}
	if ends {
		if ex.own != nil || len(ex.held) == 0 {
			return unexpected('Z')
		}
		return p.end(ex, ex.held)
	}
	if ex.own != nil {
		if _, err := ex.own.End(&access.Outcome{Status: access.StatusNotRun}, nil); err != nil {
			return err
		}
		ex.outcome.Status = access.StatusDenied
	} else {
		ex.outcome.Status = access.StatusNotRun
	}
	return p.end(ex, nil)
}

// status handles a ParameterStatus: what is pinned may not change, and the
// agent sees the application_name that it chose.
func (p *answers) status(frame []byte) error {
	c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
	name, value := string(c.String()), string(c.String())
	if !c.End() {
		return unexpected('S')
	}
	if want, ok := pinned[name]; ok && value != want {
		return &access.DenyError{
			Code: access.CodeUnsupported, Rule: "pinned." + name,
			Reason: name + " was changed; it is pinned to " + want,
			Hint:   "The session ends because gateway and target would read the same bytes differently.",
		}
	}
	if name != "application_name" {
		return p.unasked(frame)
	}
	return p.nameChanged(value)
}

func (p *answers) nameChanged(value string) error {
	r := p.r
	prefix := "gb:" + r.s.ID().String()
	r.mu.Lock()
	ours := strings.HasPrefix(value, prefix)
	if !ours {
		r.name, r.setName = value, true
	}
	shown := r.name
	r.mu.Unlock()
	if ours {
		if it, ok := p.head(); ok && it.ex != nil && it.ex.silent {
			return nil // our own setting back
		}
	} else if _, err := r.s.Note("application_name", value); err != nil {
		return err
	}
	return p.unasked(appendStatus(nil, "application_name", shown))
}
