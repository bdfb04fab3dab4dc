package access

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"
)

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

// Action describes one request. The zero Action is opaque: only full
// understanding raises it.
type Action struct {
	// Op is the protocol's way of asking: "query", "execute", "prepare",
	// "bind", "close", "call" on PostgreSQL; "gateway" for the gateway's own.
	Op string
	// Text is the exact text of the request, valid UTF-8.
	Text string
	// Detail is a JSON object with the protocol's own particulars
	// (parameters, formats, names), or nil. The door stores it as it is. Values bound to the request are the list
	// "params" or "args": a string, null, or {"b64": …} for bytes that are no text.
	Detail []byte
	// Origin is "" for the agent's requests and "gateway" for the gateway's own.
	Origin string
	// Understood: all that the request does stands below. What is not understood may do anything.
	Understood bool
	// Why says why it is not understood, in a few words without data.
	Why string
	// Effects of the whole request, Statements its parts in order (one for a
	// protocol that has no texts of several statements).
	Effects    Effects
	Statements []Statement
	// HasFilter: every part that changes or removes rows has a condition that depends on the row; where nothing does, every
	// part that reads rows.
	HasFilter bool
	// ProvenRead: it only reads rows of plain tables, which is certain and not only likely (design: sync mode "release").
	ProvenRead bool
	// Fingerprint names requests that differ in their constants alone, with the version of the grammar before it; "" if there is none.
	Fingerprint string
	// Parameters are the values bound to the request: string, []byte or nil. Where it is nil they are those of Detail (Bound).
	Parameters []any
	// Account is the JSON of an evidence.Action that says all this, made once for each text; nil lets the door make it.
	Account []byte
	// Common is the same for actions that differ in Detail, Parameters and Op alone, so that a decision that does not depend on
	// these can be kept; nil where there is no such. What it points to does not change.
	Common *Action
	// List are the requests that this one asks for at once, in the order in which they are to come; it does nothing by itself.
	// Asked is what the agent says of why. Nil for all other requests.
	List  []*Action
	Asked string
	// Found are values that detectors found in the text and in what is bound to it, by kind.
	Found map[string]uint64
	// HiddenText are parts of the text, in order, and HiddenParams bound values, that are not shown where requests are read in clear.
	HiddenText   []HiddenPart
	HiddenParams []HiddenParam
	// Infers names the masks whose columns it filters, sorts, groups, joins, compares or computes by, where these masks let it pass only
	// once a person has approved it.
	Infers []string
	// Own names the rule by which the request passes without being decided on, since it concerns the gateway alone; "" otherwise.
	Own string
	// Refuse is set by an engine that must refuse the request by name
	// (a protocol feature, a pinned setting, a limit). The door records it as a denial.
	Refuse *DenyError
}

// HiddenPart are the bytes [From, To) of a text, with the kind of value or the mask for which they are hidden.
type HiddenPart struct {
	From, To int
	What     string
}

// HiddenParam is a bound value, by its place from 1.
type HiddenParam struct {
	N    int
	What string
}

// Redefines reports whether the request may change what the names in later ones stand for.
func (a *Action) Redefines() bool {
	return !a.Understood || a.Effects&(EffectSchema|EffectAccess|EffectExecute|EffectAdmin) != 0
}

// Bound returns the values bound to the request: Parameters, or what Detail has. The error says that they are not known.
func (a *Action) Bound() ([]any, error) {
	if a.Parameters != nil || len(a.Detail) == 0 {
		return a.Parameters, nil
	}
	var detail struct {
		Params  json.RawMessage `json:"params"`
		Args    json.RawMessage `json:"args"`
		BoundIn uint64          `json:"bound_in"`
	}
	if err := json.Unmarshal(a.Detail, &detail); err != nil {
		return nil, errors.New("the parameters are not recorded as JSON")
	}
	list := detail.Params
	switch {
	case list == nil && detail.BoundIn != 0:
		return nil, errors.New("the parameters were bound in an earlier request")
	case list == nil:
		list = detail.Args
	}
	if list == nil {
		return nil, nil
	}
	var values []any
	if err := json.Unmarshal(list, &values); err != nil {
		return nil, errors.New("the parameters are withheld")
	}
	for i, v := range values {
		switch v := v.(type) {
		case nil, string:
		case map[string]any:
			text, ok := v["b64"].(string)
			raw, err := base64.StdEncoding.DecodeString(text)
			if !ok || err != nil || len(v) != 1 {
				return nil, errors.New("a parameter is not recorded as a value")
			}
			values[i] = raw
		default:
			return nil, errors.New("a parameter is not recorded as a value")
		}
	}
	return values, nil
}

// Statement is one part of a request.
type Statement struct {
	// Verb is the command, such as "SELECT" or "DROP TABLE".
	Verb string
	// Inner are the commands that change rows within it, such as "DELETE" in WITH.
	Inner   []string
	Effects Effects
	// Objects that it names, with what is done to each.
	Objects []Object
	// Columns that it refers to, "schema.relation.column" as far as it is known, "*" for all.
	Columns    []string
	HasFilter  bool
	Understood bool
}

// Object is something that a request names.
type Object struct {
	// Kind is "relation", "function", "type", "role", "setting", "file" or another of the target's own words.
	Kind string
	// Schema is "" where the object has none or it is not known.
	Schema string
	Name   string
	// Effects is what is done to it.
	Effects Effects
}

// Verdict is the answer of a decision.
type Verdict uint8

// Verdicts; the zero value denies.
const (
	Denied Verdict = iota
	Hold
	Allow
)

// String returns "deny", "hold" or "allow".
func (v Verdict) String() string {
	switch v {
	case Allow:
		return "allow"
	case Hold:
		return "hold"
	}
	return "deny"
}

// ParseVerdict returns the verdict of a name.
func ParseVerdict(name string) (Verdict, bool) {
	for _, v := range []Verdict{Denied, Hold, Allow} {
		if v.String() == name {
			return v, true
		}
	}
	return Denied, false
}

// SessionInfo is what policy sees of a session.
type SessionInfo struct {
	Role     string
	Database string
	// Address is the agent's, host:port.
	Address string
	Began   time.Time
}

// Counts are requests that were allowed, rows and bytes of answers.
type Counts struct {
	Requests, Rows, Bytes uint64
}

// Usage is what a principal has done over all its sessions, in windows that slide.
type Usage struct {
	Minute, Hour, Day Counts
}

// Request is everything that a decision may depend on.
type Request struct {
	Principal *Principal
	Target    *Target
	Session   SessionInfo
	Action    *Action
	Time      time.Time
	// Usage of the principal before this request.
	Usage Usage
}

// Approvers says who may release what a rule holds.
type Approvers struct {
	// Rule is the name of the rule that asks for it.
	Rule string
	// Groups of people; one of them is enough for a person. Quorum is how many distinct people must approve.
	Groups []string
	Quorum int
	// Within is how long the request may wait; InTransaction how long inside of a transaction, 0 for not at all.
	Within, InTransaction time.Duration
	// Resubmit is how long after the request people can rule on it although its agent could not wait, 0 for not at all: it runs once
	// the agent sends it again.
	Resubmit time.Duration
	// UnknownOwner: it can be released although nobody knows the person behind the request.
	UnknownOwner bool
	// BreakGlass are groups of people one of whom can release it in an emergency, without the quorum; nil for nobody.
	BreakGlass []string
	// BeforeImage: the rows that it changes must be the same at the release as when people were asked.
	BeforeImage bool
	// ACR, AMR and MaxAuthAge are what the sign-in behind a ruling must be: of one of these classes, by all of these methods,
	// and at most so long ago. Empty and zero ask for nothing.
	ACR, AMR   []string
	MaxAuthAge time.Duration
}

// Decision is what a policy says of one request.
type Decision struct {
	Verdict Verdict
	// Rule is the name of the rule that decided, "default" where none matched.
	Rule string
	// Reason and Hint may be shown to the agent; they are the operator's words.
	Reason string
	Hint   string
	// Matched are the names of all rules that matched, in the order of the policy.
	Matched []string
	// Approvers are what the rules that hold ask for, all of them; for the verdict Hold.
	Approvers []Approvers
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
