package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/sqlscan"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// batchSize is how many bytes of requests are put together before they are
// forwarded even if more is already here.
const batchSize = 64 << 10

// requests is the request pump: it reads the agent's messages, groups them
// into exchanges, and forwards them in batches, each after one wait for the
// durability of its intents. Used by one goroutine.
type requests struct {
	r       *relay
	in      *pgwire.Reader
	g       *group // messages whose exchange is not complete
	spare   *group // its buffers, for the next one
	detail  []byte // for the JSON of a group
	segment uint64 // counts what ends with a Sync, a Query or a FunctionCall
	// apart: what the transaction sees of rows may be seen by nobody else. seenSegment is the segment of the last request.
	apart       bool
	seenSegment uint64

	// The batch: bytes to forward, what answers are due, and whose intents
	// must be durable first.
	out     []byte
	items   []item
	exchs   []*exch
	charged int      // of the memory budget
	busy    int      // recent batches that were large
	until   deadline // of writes to the target

	// dirty: messages of the extended protocol were forwarded and no Sync after them.
	dirty bool
	// executed: something was executed since the last Sync, so that an implicit transaction is open.
	executed bool
	// doubt counts the texts that may change what a name stands for behind our back.
	doubt uint64

	// changed: the session has changed definitions since the catalog was read; renamed: in a way that lets names stand for
	// code; made: tables without code that it has made.
	changed, renamed bool
	made             map[sqlscan.Name]bool

	// next is what is kept for the answer of the exchange that begins next.
	next expected
	// maskedPortals are names of portals whose answers are or were masked. asked, lastMasks: the masks that were last asked for;
	// otherMasks: they have changed in the session.
	maskedPortals     map[string]bool
	asked, otherMasks bool
	lastMasks         *mask.Set
}

// expected is what the masking of an answer takes.
type expected struct {
	plan    *plan
	st      *statement // of the extended protocol
	formats []int      // of the portal's results
}

func (q *requests) init(r *relay) {
	q.r = r
	q.in = pgwire.NewReader(r.a.conn, r.d.limits.Value)
}

// release gives back what an ended session still holds.
func (q *requests) release() {
	q.r.d.budget.Give(q.charged)
	q.charged = 0
}

// run pumps until the agent leaves, the session ends, or something is wrong.
func (q *requests) run(ctx context.Context) error {
	for {
		if !q.in.Buffered() || len(q.out) >= batchSize {
			if err := q.commit(ctx); err != nil {
				return err
			}
		}
		typ, n, err := q.in.Peek()
		if err != nil {
			return err
		}
		if err := q.message(ctx, typ, n); err != nil {
			return err
		}
	}
}

// message handles the next message.
func (q *requests) message(ctx context.Context, typ byte, n int) error {
	if n != 0 && (typ == 'S' || typ == 'H' || typ == 'c' || typ == 'X') {
		return fmt.Errorf("%w: message %q with a body", pgwire.ErrMalformed, typ)
	}
	switch typ {
	case 'd', 'c', 'f':
		return q.copyData(ctx, typ, n)
	case 'Q', 'P', 'B', 'F':
	case 'D', 'C', 'E', 'S', 'H', 'X':
		if n > batchSize {
			return fmt.Errorf("%w: message %q of %d bytes", pgwire.ErrMalformed, typ, n)
		}
	default:
		return access.Deny(access.CodeProtocol, "message type %q is not part of the protocol", string(rune(typ)))
	}
	if q.r.nameDue.Load() && typ != 'X' {
		if err := q.setNameBack(ctx); err != nil {
			return err
		}
	}
	if n > q.r.d.limits.Message {
		return q.refuseLarge(ctx, typ, n)
	}
	if n > batchSize {
		if !q.r.d.budget.Take(n) {
			return q.refuseLarge(ctx, typ, n)
		}
		q.charged += n
	}
	frame, err := q.in.Next()
	if err != nil {
		return err
	}
	body := frame[pgwire.FrameHeader:]
	switch typ {
	case 'Q':
		return q.query(ctx, frame, body)
	case 'P':
		return q.parse(ctx, frame, body)
	case 'B':
		return q.bind(ctx, frame, body)
	case 'D':
		return q.describe(ctx, frame, body)
	case 'C':
		return q.close(ctx, frame, body)
	case 'E':
		return q.execute(ctx, frame, body)
	case 'F':
		return q.call(ctx, frame, body)
	case 'S':
		return q.sync(ctx, frame)
	case 'H':
		if err := q.closeGroup(ctx); err != nil {
			return err
		}
		q.out = append(q.out, frame...)
		return q.commit(ctx)
	default: // 'X'
		// Parse and Bind messages without Execute fall away with the connection.
		q.g = nil
		if err := q.commit(ctx); err != nil {
			return err
		}
		return errTerminate
	}
}

// refuseLarge refuses a message that cannot be judged whole, without taking
// memory for it.
func (q *requests) refuseLarge(ctx context.Context, typ byte, n int) error {
	if err := q.closeGroup(ctx); err != nil {
		return err
	}
	if err := q.in.Skip(); err != nil {
		return err
	}
	deny := &access.DenyError{
		Code: access.CodeTooLarge, Rule: "limits.message",
		Reason: fmt.Sprintf("a message of %d bytes is more than the gateway takes now", n),
		Hint:   "Send large values with COPY, or ask the operator for a higher limit.",
	}
	a := &access.Action{Op: "execute", Refuse: deny}
	unclear(a, "the message was not read")
	switch typ {
	case 'Q':
		a.Op = "query"
		return q.begin(ctx, a, nil, []item{{kind: itemQuery}})
	case 'F':
		a.Op = "call"
		return q.begin(ctx, a, nil, []item{{kind: itemCall}})
	}
	return q.begin(ctx, a, nil, []item{{kind: itemParse}})
}

// begin decides on an exchange and puts it into the batch: its bytes, or, if
// it is refused, a statement of our own that makes the target fail there.
func (q *requests) begin(ctx context.Context, a *access.Action, raw []byte, items []item) error {
	x := q.r.s.Begin(a)
	next := q.next
	q.next = expected{}
	if x.Held() {
		raw = bytes.Clone(raw) // the buffer that it stands in goes on
		if err := q.hold(ctx, x, a, raw); err != nil {
			return err
		}
		if x.Denied() == nil && a.List == nil {
			var deny *access.DenyError
			if next.plan, deny = q.replan(ctx, a, next.plan); deny != nil {
				return q.endSession(ctx, &exch{x: x}, deny)
			}
		}
	} else if a.List != nil && x.Denied() == nil {
		if err := q.notAsked(ctx); err != nil {
			return err
		}
	}
	if x.Denied() == nil {
		q.notes(a)
	}
	ex := &exch{x: x, silent: a.Origin != "", fields: -1, plan: next.plan, st: next.st, formats: next.formats, session: q.r.s}
	if deny := x.Denied(); deny != nil {
		if x.Fatal() {
			return q.endSession(ctx, ex, deny)
		}
		ex.deny = deny
		text := fmt.Sprintf("gatebook refused request %d of session %s", x.Number(), q.r.s.ID())
		simple := items[0].kind == itemQuery || items[0].kind == itemCall
		q.r.mu.Lock()
		for i := range items {
			if c := items[i].st; c != nil && c.value != nil {
				q.r.hold(c.value, 0) // never forwarded
			}
		}
		q.r.mu.Unlock()
		own := &access.Action{Op: "prepare", Origin: "gateway", Text: text}
		if simple {
			own.Op = "query"
			raw, items = pgwire.AppendQuery(nil, text), []item{{kind: itemQuery}}
		} else {
			raw, items = pgwire.AppendParse(nil, "gatebook_refused", text), []item{{kind: itemParse}}
		}
		ex.own = q.r.s.Begin(own)
		if deny := ex.own.Denied(); deny != nil {
			return q.endSession(ctx, ex, deny)
		}
	}
	if ex.deny == nil && a.List == nil {
		q.note(a)
	}
	ex.simple = items[0].kind == itemQuery
	for i := range items {
		items[i].ex = ex
	}
	items[len(items)-1].last = true
	q.exchs = append(q.exchs, ex)
	q.items = append(q.items, items...)
	q.out = append(q.out, raw...)
	if k := items[len(items)-1].kind; k == itemQuery || k == itemCall {
		q.segment++
		q.executed = false
	} else {
		q.dirty = true
		q.executed = q.executed || k == itemExecute
	}
	q.r.mu.Lock()
	for i := range items {
		q.r.holdItem(&items[i], 1)
		if c := items[i].st; c != nil {
			q.r.statements.add(c)
		}
		if c := items[i].po; c != nil {
			q.r.portals.add(c)
		}
	}
	q.r.mu.Unlock()
	return nil
}

// endSession handles a refusal that ends the session: what was begun before
// it is still forwarded and answered.
func (q *requests) endSession(ctx context.Context, ex *exch, deny *access.DenyError) error {
	if err := q.commit(ctx); err == nil {
		q.r.drain(ctx, q.r.d.limits.Orphan)
	}
	_, _ = ex.x.End(&access.Outcome{Status: access.StatusDenied, Code: sqlState[deny.Code]}, appendError(nil, "FATAL", deny, ""))
	return deny
}

// errTargetWrite is matched by the request pump's error when the target did
// not take what was forwarded.
var errTargetWrite = errors.New("the target does not take requests")

// commit waits until the batch's intents are durable and forwards it.
func (q *requests) commit(ctx context.Context) error {
	if len(q.out) == 0 && len(q.items) == 0 {
		return nil
	}
	for i := len(q.exchs) - 1; i >= 0; i-- {
		ex := q.exchs[i]
		if ex.own != nil {
			if err := ex.own.Ready(ctx); err != nil {
				return err
			}
		}
		if err := ex.x.Ready(ctx); err != nil && !(ex.deny != nil && errors.Is(err, ex.deny)) {
			return err
		}
	}
	long, err := q.enqueue(ctx)
	if err != nil {
		return err
	}
	if long {
		q.out = append(q.out, flushFrame...)
	}
	if err := q.send(ctx); err != nil {
		return err
	}
	if long {
		r := q.r
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.waitAgent(ctx, func() bool {
			return len(r.queue.all()) < maxQueue/2 || r.doomed() || r.copying != nil
		})
	}
	return nil
}

// flushFrame is a Flush message: the target sends what it has answered so far.
var flushFrame = []byte{'H', 0, 0, 0, 4}

// doomed reports whether the target skips whatever is forwarded now, up to a
// Sync that has not come yet. Callers hold r.mu.
func (r *relay) doomed() bool { return r.skipping && !r.queue.ends() }

// enqueue hands the batch to the answer pump. long says that too many messages
// wait for their answers.
func (q *requests) enqueue(ctx context.Context) (long bool, err error) {
	r := q.r
	r.mu.Lock()
	defer r.mu.Unlock()
	// A cancel on the way must not hit what is not forwarded yet.
	if err := r.waitAgent(ctx, func() bool { return r.cancelling == 0 }); err != nil {
		return false, err
	}
	for _, it := range q.items {
		if it.kind != itemSync && r.doomed() {
			if err := q.skip(it); err != nil {
				return false, err
			}
			continue
		}
		it.maybe = it.kind == itemSync && r.copying != nil
		r.queue.push(it)
	}
	return len(r.queue.all()) > maxQueue && r.copying == nil, nil
}

// skip gives a message that the target is known to skip its outcome at once,
// so that a long pipeline behind an error takes no memory. Callers hold r.mu.
func (q *requests) skip(it item) error {
	err := q.r.settle(it, false)
	if err == nil && !it.ex.ended {
		it.ex.outcome.Status = access.StatusNotRun
		var receipt enforce.Receipt
		if receipt, err = it.ex.finish(nil); err == nil {
			q.r.skipped = receipt
		}
	}
	return err
}

// send writes the batch to the target.
func (q *requests) send(ctx context.Context) error {
	r := q.r
	if at, due := q.until.next(r.d.limits.Stall); due {
		if err := r.up.conn.SetWriteDeadline(at); err != nil {
			return fmt.Errorf("%w: %w", errTargetWrite, err)
		}
	}
	if ctx.Err() != nil { // looked at after the deadline was set, which the session's end sets too
		return context.Cause(ctx)
	}
	_, err := r.up.conn.Write(q.out)
	clear(q.items)
	clear(q.exchs)
	if len(q.out) >= batchSize/4 {
		q.busy = 16
	} else if q.busy--; q.busy < 0 && cap(q.out) > batchSize/4 {
		q.out = nil // idle sessions hold little memory
	}
	q.out, q.items, q.exchs = q.out[:0], q.items[:0], q.exchs[:0]
	if cap(q.out) > 4*batchSize {
		q.out = nil
	}
	q.in.Shrink()
	q.release()
	if err != nil {
		return fmt.Errorf("%w: %w", errTargetWrite, err)
	}
	return nil
}

// query handles a simple Query.
func (q *requests) query(ctx context.Context, frame, body []byte) error {
	if err := q.closeGroup(ctx); err != nil {
		return err
	}
	c := pgwire.NewCursor(body)
	text := string(c.String())
	if !c.End() {
		return fmt.Errorf("%w: Query", pgwire.ErrMalformed)
	}
	a := &access.Action{Op: "query", Text: text}
	raw := frame
	if replaced, ok := q.judge(ctx, a, body); ok {
		raw = pgwire.AppendQuery(nil, replaced)
	}
	if a.List == nil {
		does := q.understand(ctx, a.Text)
		does.fill(a)
		if does.doubtful {
			q.doubt++
		}
		q.next.plan = q.mask(ctx, a, a.Text, does)
	}
	// A Query ends the unnamed statement and portal.
	return q.begin(ctx, a, raw, []item{{
		kind: itemQuery,
		st:   &change[*statement]{gone: true, segment: q.segment}, po: &change[*portal]{gone: true, segment: q.segment},
	}})
}

// judge looks at a statement's text, which stands in the frame's body: it sets a.Refuse where the text cannot
// pass, and handles the statement that prolongs the session, for which it returns the
// text to forward instead.
func (q *requests) judge(ctx context.Context, a *access.Action, body []byte) (replaced string, ok bool) {
	if !utf8.ValidString(a.Text) {
		a.Text = ""
		a.Refuse = access.Deny(access.CodeProtocol, "the statement is not valid UTF-8")
		return "", false
	}
	if namesToken(a.Text) {
		return q.renew(ctx, a)
	}
	if q.r.s.HoldsToken(body) {
		a.Text = "[withheld: it holds the session's token]"
		a.Refuse = errTokenForm()
		return "", false
	}
	if sqlscan.AsksForList(a.Text) {
		return q.ask(ctx, a)
	}
	a.Refuse = refuseText(a.Text)
	return "", false
}

// renew handles a text that names gatebook.token. The token reaches neither
// the target nor the statement's record.
func (q *requests) renew(ctx context.Context, a *access.Action) (replaced string, ok bool) {
	m := setToken.FindStringSubmatch(a.Text)
	const form = "SET gatebook.token = ''"
	if m == nil {
		a.Text = "[withheld: it names gatebook.token]"
		a.Refuse = errTokenForm()
		return "", false
	}
	a.Text, a.Own = "SET gatebook.token = '[token]'", "gateway.token"
	if err := q.r.s.Renew(ctx, secret.New(m[1])); err != nil {
		a.Refuse = asDeny(err)
		return "", false
	}
	return form, true
}

// sync handles a Sync.
func (q *requests) sync(ctx context.Context, frame []byte) error {
	if err := q.closeGroup(ctx); err != nil {
		return err
	}
	q.out = append(q.out, frame...)
	q.items = append(q.items, item{kind: itemSync})
	q.segment++
	q.dirty, q.executed = false, false
	return nil
}

// call handles a FunctionCall.
func (q *requests) call(ctx context.Context, frame, body []byte) error {
	if err := q.closeGroup(ctx); err != nil {
		return err
	}
	detail, err := appendCall(nil, body)
	if err != nil {
		return err
	}
	a := &access.Action{Op: "call", Detail: detail}
	unclear(a, "a function is called by its number")
	if carriesToken(body) || q.r.s.HoldsToken(body) {
		a.Detail, a.Refuse = nil, errTokenForm()
	} else if set := q.r.s.Masks(); set.Columns() || set.Values() != nil {
		a.Refuse = denyMask("masks", "a function that is called by its number may give anything: use SELECT")
	}
	return q.begin(ctx, a, frame, []item{{kind: itemCall}})
}

// copyData forwards one message of copy-in mode, recording it first. Outside
// of copy-in mode the message is dropped, as the target would.
func (q *requests) copyData(ctx context.Context, typ byte, n int) error {
	ex, err := q.copyTarget(ctx)
	if err != nil {
		return err
	}
	if ex == nil {
		return q.in.Skip()
	}
	if typ == 'd' {
		return q.copyPieces(ctx, ex)
	}
	if n > batchSize {
		return fmt.Errorf("%w: message %q of %d bytes", pgwire.ErrMalformed, typ, n)
	}
	frame, err := q.in.Next()
	if err != nil {
		return err
	}
	if q.r.s.HoldsToken(frame) {
		frame = copyWithheld
	}
	return q.copyEnd(ctx, ex, frame)
}

// copyWithheld is the CopyFail that takes the place of one, or of data, that
// holds the session's token.
var copyWithheld = pgwire.AppendFrame(nil, 'f', []byte("[withheld: it holds the session's token]\x00"))

// copyEnd forwards the frame that ends copy-in mode.
func (q *requests) copyEnd(ctx context.Context, ex *exch, frame []byte) error {
	q.r.mu.Lock()
	if q.r.copying == ex {
		q.r.copying = nil
	}
	q.r.mu.Unlock()
	// The frame that completes the request goes only after everything before
	// it, and itself, is durable.
	if err := ex.x.Request(ctx, frame); err != nil {
		return q.unlessOver(ex, err)
	}
	if err := ex.x.RequestDone(ctx); err != nil {
		return q.unlessOver(ex, err)
	}
	q.out = append(q.out, frame...)
	return q.commit(ctx)
}

// copyTarget returns the exchange that takes COPY data, waiting for answers
// that may still open one. nil means that the target drops the data.
func (q *requests) copyTarget(ctx context.Context) (*exch, error) {
	r := q.r
	r.mu.Lock()
	ex := r.copying
	r.mu.Unlock()
	if ex != nil {
		return ex, nil
	}
	if err := q.closeGroup(ctx); err != nil {
		return nil, err
	}
	// Answers to the extended protocol come at a Flush or Sync; in copy-in
	// mode the target ignores a Flush.
	if q.dirty {
		q.out = append(q.out, flushFrame...)
	}
	if err := q.commit(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.waitAgent(ctx, func() bool { return r.copying != nil || !r.queue.mayCopy(r.skipping) })
	return r.copying, err
}

// copyPieces forwards one CopyData message. One that holds the token in a piece
// ends the COPY with a CopyFail.
func (q *requests) copyPieces(ctx context.Context, ex *exch) error {
	withheld, begun := false, false
	for first := true; ; first = false {
		piece, more, err := q.in.Piece()
		if err != nil {
			return err
		}
		withheld = withheld || q.r.s.HoldsToken(piece)
		if withheld {
			if !begun {
				if more {
					continue
				}
				return q.copyEnd(ctx, ex, copyWithheld)
			}
			clear(piece) // the frame must be completed, with bytes that say nothing
		}
		begun = true
		if err := ex.x.Request(ctx, piece); err != nil {
			if q.unlessOver(ex, err) != nil {
				return err
			}
			// The target has ended the COPY and drops what follows.
			if first {
				if more {
					return q.in.Skip()
				}
				return nil
			}
			clear(piece) // a frame that was begun must still be completed, with bytes that say nothing
		}
		q.out = append(q.out, piece...)
		if len(q.out) >= batchSize {
			if err := q.commit(ctx); err != nil {
				return err
			}
		}
		if !more {
			if withheld {
				return q.copyEnd(ctx, ex, copyWithheld)
			}
			return nil
		}
	}
}

// unlessOver returns nil if the exchange has its outcome already: the target
// ended the COPY with an error and drops what follows.
func (q *requests) unlessOver(ex *exch, err error) error {
	if ex.x.Ended() {
		return nil
	}
	return err
}

// setNameBack restores our application_name at the target after the agent
// changed it, at a moment when nothing is under way.
func (q *requests) setNameBack(ctx context.Context) error {
	r := q.r
	r.mu.Lock()
	due := r.nameDue.Load() && r.queue.idle() && r.copying == nil && (r.tx == 'I' || r.tx == 'T') &&
		q.g == nil && len(q.items) == 0 && !q.dirty
	if due {
		r.nameDue.Store(false)
	}
	// In a transaction for its rest only: at its end counts what the agent set.
	text := "SET application_name TO " + quoteLiteral(r.prefixed(r.name))
	if r.tx == 'T' {
		text = "SET LOCAL application_name TO " + quoteLiteral(r.prefixed(r.name))
	}
	r.mu.Unlock()
	if !due {
		return nil
	}
	// A Query would end the agent's unnamed statement and portal.
	const own = "gatebook_name"
	raw := pgwire.AppendParse(nil, own, text)
	raw = pgwire.AppendFrame(raw, 'B', []byte(own+"\x00"+own+"\x00\x00\x00\x00\x00\x00\x00"))
	raw = pgwire.AppendFrame(raw, 'E', []byte(own+"\x00\x00\x00\x00\x00"))
	raw = pgwire.AppendFrame(raw, 'C', []byte("P"+own+"\x00"))
	raw = pgwire.AppendFrame(raw, 'C', []byte("S"+own+"\x00"))
	err := q.begin(ctx, &access.Action{Op: "execute", Origin: "gateway", Text: text}, raw, []item{
		{kind: itemParse}, {kind: itemBind}, {kind: itemExecute}, {kind: itemClose}, {kind: itemClose},
	})
	if err != nil {
		return err
	}
	q.out = append(q.out, syncFrame...)
	q.items = append(q.items, item{kind: itemSync, silent: true})
	q.dirty = false
	return q.commit(ctx)
}

// syncFrame is a Sync message.
var syncFrame = []byte{'S', 0, 0, 0, 4}

func quoteLiteral(s string) string {
	out := []byte{'\''}
	for i := 0; i < len(s); i++ {
		if s[i] == '\'' {
			out = append(out, '\'')
		}
		out = append(out, s[i])
	}
	return string(append(out, '\''))
}
