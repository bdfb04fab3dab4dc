package access

// Protocol names a wire protocol, as in the configuration.
type Protocol string

// Postgres is the PostgreSQL frontend/backend protocol.
const Postgres Protocol = "postgres"

// Target is a named backend, as policy and records see it. Credentials are
// not part of it.
type Target struct {
	Name     string
	Protocol Protocol
	Address  string
	Labels   map[string]string
}

// Effect is what a request does, protocol-neutral.
type Effect string

// Action describes one request. The zero Action is opaque: only full
// understanding raises it.
type Action struct {
	// Op is the protocol's way of asking: "query", "execute", "prepare",
	// "bind", "close", "call" on PostgreSQL; "gateway" for the gateway's own.
	Op string
	// Text is the exact text of the request, valid UTF-8.
	Text string
	// Detail is a JSON object with the protocol's own particulars
	// (parameters, formats, names), or nil. The door stores it as it is.
	Detail []byte
	// Origin is "" for the agent's requests and "gateway" for the gateway's own.
	Origin string
	// Refuse is set by an engine that must refuse the request by name
	// (a protocol feature, a pinned setting, a limit). The door records it as a denial.
	Refuse *DenyError
}

// Verdict is the answer of a decision.
type Verdict uint8

// Verdicts; the zero value denies.
const (
	Denied Verdict = iota
	Allow
)

// String returns "deny" or "allow".
func (v Verdict) String() string {
	if v == Allow {
		return "allow"
	}
	return "deny"
}

// Status says what came of an exchange.
type Status string

// Statuses of an outcome.
const (
	// StatusOK: the target answered with success.
	StatusOK Status = "ok"
	// StatusError: the target answered with an error.
	StatusError Status = "error"
	// StatusDenied: the gateway refused; the target did not get the request.
	StatusDenied Status = "denied"
	// StatusNotRun: the request was allowed but the target skipped it or never got it.
	StatusNotRun Status = "not-run"
	// StatusUnknown: the request went to the target and no closing answer was
	// recorded; it may have run.
	StatusUnknown Status = "unknown"
)

// Outcome is what came of one exchange.
type Outcome struct {
	Status Status
	// Tag is the protocol's completion text (PostgreSQL command tags, joined by "; ").
	Tag string
	// Code is the protocol's error code (SQLSTATE), Message the error's text.
	Code    string
	Message string
	Rows    uint64
	// Detail is a JSON object with the protocol's own particulars, or nil.
	Detail []byte
}
