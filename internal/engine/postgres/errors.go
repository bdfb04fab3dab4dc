package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/wire/pgwire"
)

// sqlState maps refusal codes to SQLSTATE (PostgreSQL documentation, appendix A).
var sqlState = map[access.Code]string{
	access.CodeIdentity:    "28P01",
	access.CodeExpired:     "57P01",
	access.CodeForbidden:   "42501",
	access.CodePolicy:      "42501",
	access.CodeApproval:    "42501",
	access.CodeMask:        "42501",
	access.CodeUnsupported: "0A000",
	access.CodeProtocol:    "08P01",
	access.CodeTooLarge:    "54000",
	access.CodeLimit:       "53300",
	access.CodeBudget:      "53400",
	access.CodeClosed:      "58030",
	access.CodeEnded:       "57P01",
	access.CodeShutdown:    "57P01",
	access.CodeUpstream:    "08001",
}

// asDeny turns any error into a refusal whose reason may be shown.
func asDeny(err error) *access.DenyError {
	var deny *access.DenyError
	if errors.As(err, &deny) {
		return deny
	}
	if errors.Is(err, pgwire.ErrMalformed) {
		return &access.DenyError{Code: access.CodeProtocol, Rule: "protocol", Reason: "malformed message", Cause: err}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &access.DenyError{Code: access.CodeEnded, Rule: "session", Reason: "the session is over", Cause: err}
	}
	return &access.DenyError{Code: access.CodeUpstream, Rule: "session", Reason: "the connection to the target broke", Cause: err}
}

// appendError appends an ErrorResponse frame for a refusal. Severity is
// "ERROR", or "FATAL" where the connection ends.
func appendError(dst []byte, severity string, deny *access.DenyError, detail string) []byte {
	state := sqlState[deny.Code]
	if state == "" {
		state = "XX000"
	}
	dst, at := pgwire.BeginFrame(dst, 'E')
	field := func(typ byte, value string) {
		if value != "" {
			dst = append(dst, typ)
			dst = append(dst, value...)
			dst = append(dst, 0)
		}
	}
	field('S', severity)
	field('V', severity)
	field('C', state)
	field('M', "gatebook: "+deny.Reason)
	field('D', detail)
	field('H', deny.Hint)
	dst = append(dst, 0)
	return pgwire.EndFrame(dst, at)
}

// refusalDetail is what an agent and its operator need to find a refusal in the book and in the policy.
func refusalDetail(session string, ex *exch) string {
	s := fmt.Sprintf("code %s, session %s, exchange %d", ex.deny.Code, session, ex.x.Number())
	if ex.deny.Rule != "" {
		s += ", rule " + ex.deny.Rule
	}
	return s
}

// decodeError reads an ErrorResponse or NoticeResponse frame.
func decodeError(frame []byte) pgproto3.ErrorResponse {
	var e pgproto3.ErrorResponse
	if err := e.Decode(frame[pgwire.FrameHeader:]); err != nil {
		e.Code, e.Message = "08P01", "the target sent an error that cannot be read"
	}
	return e
}
