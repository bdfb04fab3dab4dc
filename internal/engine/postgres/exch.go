package postgres

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/detect"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// exch is what the engine keeps of an exchange until its outcome is recorded.
// Once pushed it belongs to the answer pump, but for x.Request and x.RequestDone.
type exch struct {
	x *enforce.Exchange
	// own is the gateway's statement that stands in for a refused request;
	// deny is the refusal.
	own  *enforce.Exchange
	deny *access.DenyError
	// silent: the gateway's own exchange, whose answer the agent does not see.
	silent bool

	outcome     access.Outcome
	statements  []statementOutcome // of a Query
	rows        uint64             // of the statement that is being answered
	fields      int                // of its rows, -1 if not known
	phase       phase
	simple      bool
	closing     bool // the last recorded frame may be the closing one
	undelivered bool // the agent left before the closing frame
	ended       bool

	// plan is what is masked of the answer, nil for nothing; st the statement of the extended protocol, formats those of its
	// results. statement counts those of a Query; columns are those of its answer; masking says of those that are through
	// what was masked.
	plan      *plan
	st        *statement
	formats   []int
	statement int
	columns   []column
	receives  bool // values of them are remembered
	masking   evidence.Masking
	copy      *copyMask
	// cells commits to masked cells; commitments are those that are not recorded yet. session is whose exchange it is.
	cells       *mask.Cells
	commitments []byte
	session     *enforce.Session
	hits        []detect.Hit // in use while a value is looked at
}

type statementOutcome struct {
	Tag  string `json:"tag,omitempty"`
	Code string `json:"code,omitempty"`
	Rows uint64 `json:"rows"`
}

// phase says how far the answer to one statement is.
type phase uint8

const (
	phaseBegin phase = iota
	phaseRows
	phaseCopyIn
	phaseCopyOut
	phaseCopyDone
	phaseOver // nothing but ReadyForQuery is due
)

// step reports whether a frame of this type is due from the target for a
// message of this kind, and goes on to what is due behind it.
func (ex *exch) step(kind itemKind, typ byte) bool {
	switch kind {
	case itemParse:
		return typ == '1'
	case itemBind:
		return typ == '2'
	case itemClose:
		return typ == '3'
	case itemDescribeStatement:
		// ParameterDescription first, then the rows' description or none.
		if ex.phase == phaseBegin {
			ex.phase = phaseRows
			return typ == 't'
		}
		ex.phase = phaseBegin
		return typ == 'T' || typ == 'n'
	case itemDescribePortal:
		return typ == 'T' || typ == 'n'
	case itemCall:
		ok := ex.phase == phaseBegin && typ == 'V'
		ex.phase = phaseOver
		return ok
	}
	return ex.stepStatement(kind == itemQuery, typ)
}

// stepStatement is step for the answers of Query and Execute.
func (ex *exch) stepStatement(query bool, typ byte) bool {
	switch typ {
	case 'T':
		ok := query && ex.phase == phaseBegin
		ex.phase = phaseRows
		return ok
	case 'D':
		ok := ex.phase == phaseRows || !query && ex.phase == phaseBegin
		ex.phase = phaseRows
		return ok
	case 'G', 'H':
		ok := ex.phase == phaseBegin
		ex.phase = phaseCopyOut
		if typ == 'G' {
			ex.phase = phaseCopyIn
		}
		return ok
	case 'd':
		return ex.phase == phaseCopyOut
	case 'c':
		ok := ex.phase == phaseCopyOut
		ex.phase = phaseCopyDone
		return ok
	case 'C', 'I', 's':
		ok := ex.phase != phaseCopyOut && ex.phase != phaseOver
		switch typ {
		case 'I':
			ok = ex.phase == phaseBegin
		case 's':
			ok = !query && ex.phase <= phaseRows
		}
		ex.phase = phaseBegin
		return ok
	}
	return false
}

// tag takes down what a statement's completion says.
func (ex *exch) tag(typ byte, frame []byte) {
	tag := ""
	switch typ {
	case 'C':
		c := pgwire.NewCursor(frame[pgwire.FrameHeader:])
		tag = string(c.String())
	case 's':
		tag = "(suspended)"
	}
	rows := ex.rows
	if i := strings.LastIndexByte(tag, ' '); i >= 0 {
		// The target's own count: COPY sends more frames than rows.
		if n, err := strconv.ParseUint(tag[i+1:], 10, 64); err == nil {
			rows = n
		}
	}
	ex.settle()
	ex.rows, ex.fields = 0, -1
	if ex.simple {
		ex.statement++
	}
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

// finish records the exchange's outcome. closing is the rest of its answer.
func (ex *exch) finish(closing []byte) (enforce.Receipt, error) {
	ex.ended = true
	if ex.own != nil && !ex.own.Ended() {
		// The target never saw the statement that stands in.
		if _, err := ex.own.End(&access.Outcome{Status: access.StatusNotRun}, nil); err != nil {
			return nil, err
		}
		ex.outcome.Status, ex.outcome.Code, ex.outcome.Message = access.StatusDenied, sqlState[ex.deny.Code], ex.deny.Reason
	}
	ex.settle()
	if len(ex.statements) > 1 || ex.undelivered || len(ex.masking.Masked) > 0 || len(ex.masking.Bare) > 0 {
		detail := struct {
			Statements  []statementOutcome `json:"statements,omitempty"`
			Undelivered bool               `json:"undelivered,omitempty"`
			evidence.Masking
		}{ex.statements, ex.undelivered, ex.masking}
		if len(ex.statements) < 2 {
			detail.Statements = nil
		}
		var err error
		if ex.outcome.Detail, err = json.Marshal(detail); err != nil {
			return nil, err
		}
	}
	return ex.x.End(&ex.outcome, closing)
}
