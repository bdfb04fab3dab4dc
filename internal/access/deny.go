package access

import "fmt"

// Code classes a refusal. Engines map codes to their protocol's errors and
// put nothing else of a refusal on the wire but Reason.
type Code string

// Refusal codes.
const (
	// CodeIdentity: the token was not accepted.
	CodeIdentity Code = "identity"
	// CodeExpired: the session's identity has expired.
	CodeExpired Code = "expired"
	// CodeForbidden: the target is unknown or this principal may not use it;
	// the two are deliberately one.
	CodeForbidden Code = "forbidden"
	// CodePolicy: this request is refused by rule.
	CodePolicy Code = "policy"
	// CodeApproval: a person must approve this request first.
	CodeApproval Code = "approval"
	// CodeMask: it cannot be proven that no masked value would leave, or the masks forbid it.
	CodeMask Code = "mask"
	// CodeUnsupported: the gateway refuses this protocol feature by name.
	CodeUnsupported Code = "unsupported"
	// CodeProtocol: the bytes do not follow the protocol.
	CodeProtocol Code = "protocol"
	// CodeTooLarge: a message exceeds a limit.
	CodeTooLarge Code = "too-large"
	// CodeLimit: sessions, rate or queue limits.
	CodeLimit Code = "limit"
	// CodeBudget: a byte or entry budget of the principal is used up.
	CodeBudget Code = "budget"
	// CodeClosed: the gate is closed because it cannot record.
	CodeClosed Code = "closed"
	// CodeEnded: an administrator ended the session or suspended the principal.
	CodeEnded Code = "ended"
	// CodeShutdown: the gateway is draining.
	CodeShutdown Code = "shutdown"
	// CodeUpstream: the target cannot be reached or refused the gateway.
	CodeUpstream Code = "upstream"
)

// DenyError is the one refusal type. Reason may be shown to the agent: it is
// written by the operator or taken from a fixed list and never contains data
// from answers, other principals' names, internal addresses or credentials. Cause is for
// the operator's log and the book.
type DenyError struct {
	Code   Code
	Rule   string // name of the rule that refused, "" if none
	Reason string
	Hint   string // what to do next, may be shown to the agent, "" if none
	Cause  error
}

// Error returns the operator's view.
func (e *DenyError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Reason, e.Cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Reason)
}

// Unwrap returns the operator's cause.
func (e *DenyError) Unwrap() error { return e.Cause }

// Deny builds a DenyError with a formatted reason.
func Deny(code Code, format string, args ...any) *DenyError {
	return &DenyError{Code: code, Reason: fmt.Sprintf(format, args...)}
}
