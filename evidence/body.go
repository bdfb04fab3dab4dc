package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// SplitBody separates a body into its JSON object and the exact bytes that
// follow it after a newline (nil if none). The results alias body.
func SplitBody(body []byte) (meta, raw []byte) {
	i := bytes.IndexByte(body, '\n')
	if i < 0 {
		return body, nil
	}
	return body[:i], body[i+1:]
}

// DecodeBody unmarshals the JSON object of a body into one of the body types.
func DecodeBody(body []byte, into any) error {
	meta, _ := SplitBody(body)
	if err := json.Unmarshal(meta, into); err != nil {
		return fmt.Errorf("entry body: %w", err)
	}
	return nil
}

// Boot is the body of a boot entry.
type Boot struct {
	BootID     string `json:"boot_id"`
	Version    string `json:"version"`
	BinarySHA  string `json:"binary_sha256,omitempty"`
	Origin     string `json:"origin"`
	Sync       string `json:"sync"` // "always", "release" or "insecure_interval"
	HeartbeatS int    `json:"heartbeat_seconds"`
	// Head is the last checkpoint before this start, as signed; empty for a new book.
	Head string `json:"previous_head,omitempty"`
	// Recovered says what recovery cut or closed; nil after an orderly stop.
	Recovered *Recovered `json:"recovered,omitempty"`
	// Purpose is set when the book was opened by a command and not to serve.
	Purpose string `json:"purpose,omitempty"`
}

// Recovered is what the start had to mend after a crash.
type Recovered struct {
	CutBytes     int64  `json:"cut_bytes"`
	Copied       uint64 `json:"copied_entries"` // not known durable before, written again
	OpenIntents  int    `json:"open_intents"`
	OpenSessions int    `json:"open_sessions"`
	Detail       string `json:"detail,omitempty"`
}

// Stop is the body of a stop entry.
type Stop struct {
	BootID string `json:"boot_id"`
	Cause  string `json:"cause"`
}

// Heartbeat is the body of a heartbeat entry.
type Heartbeat struct {
	BootID        string `json:"boot_id"`
	OpenSessions  int    `json:"open_sessions"`
	OpenExchanges int    `json:"open_exchanges"`
	Exchanges     uint64 `json:"exchanges"` // begun since the boot
	Refused       uint64 `json:"refused"`   // log-ins refused since the boot
	FreeBytes     uint64 `json:"free_bytes"`
}

// Config is the body of a config entry: the whole text in force, secrets being
// references only.
type Config struct {
	SHA256 string `json:"sha256"`
	// Main is the name of the main file, which says what the others are included for. Empty in the first entries of version 1.
	Main  string            `json:"main,omitempty"`
	Files map[string]string `json:"files"` // name, relative to the main file's directory, to text
	Cause string            `json:"cause"` // "start" or "reload"
	// Packs are the rules of the packs that it names: those of this version of the program.
	Packs []ConfigRule `json:"packs,omitempty"`
	// Signers are the people who must sign the next configuration; nil if nobody must.
	Signers *ConfigSigners `json:"signers,omitempty"`
	// SignedBy names the persons who signed this one, Signatures has their
	// signatures and Manifest the exact text that they signed: digests of the files.
	SignedBy   []string          `json:"signed_by,omitempty"`
	Signatures []ConfigSignature `json:"signatures,omitempty"`
	Manifest   string            `json:"manifest,omitempty"`
}

// ConfigRule is a rule of a pack, with the name "pack/rule".
type ConfigRule struct {
	Name   string `json:"name"`
	When   string `json:"when"`
	Then   string `json:"then"` // "allow", "deny" or "hold"
	Reason string `json:"reason,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// ConfigSigners says how many persons must sign, and with which keys.
type ConfigSigners struct {
	Quorum int            `json:"quorum"`
	Keys   []ConfigSigner `json:"keys"`
}

// ConfigSigner is a key of a person.
type ConfigSigner struct {
	Person      string `json:"person"`
	Key         string `json:"key"`         // as in authorized_keys
	Fingerprint string `json:"fingerprint"` // "SHA256:…"
}

// ConfigSignature is a person's signature of a manifest, namespace gatebook-config.
type ConfigSignature struct {
	Person      string `json:"person"`
	Fingerprint string `json:"fingerprint"`
	Signature   string `json:"signature"` // as ssh-keygen -Y sign wrote it
}

// Key is the body of a key entry: the public keys in force.
type Key struct {
	Log     string `json:"log"`     // signed-note verifier key of checkpoints
	Package string `json:"package"` // public key (ECDSA P-256) of packages, DER in base64
	SSH     string `json:"ssh"`     // Ed25519 public key of packages, in authorized_keys form
}

// Admin is the body of an admin entry.
type Admin struct {
	Action string `json:"action"` // such as "query", "session-show", "export", "session-end"
	Who    string `json:"who"`    // operating-system user, or identity
	How    string `json:"how"`    // "socket", "offline", "webhook" or "console" (a person who signed in; UID is -1)
	PID    int    `json:"pid,omitempty"`
	UID    int    `json:"uid"`
	Detail any    `json:"detail,omitempty"`
}

// Gate is the body of a gate entry.
type Gate struct {
	Event  string `json:"event"` // "low-disk", "reopened", "closed", "config-refused"
	Detail string `json:"detail,omitempty"`
}

// Principal is the body of a principal entry and part of a session's.
type Principal struct {
	ActorID   string          `json:"actor_id,omitempty"` // the pseudonym in headers
	Issuer    string          `json:"issuer"`
	IssuerURL string          `json:"issuer_url"`
	Subject   string          `json:"subject"`
	Name      string          `json:"name"`
	Groups    []string        `json:"groups"`
	Actor     []string        `json:"actor,omitempty"`
	Owner     string          `json:"owner,omitempty"`
	Claims    json.RawMessage `json:"claims,omitempty"`
}

// Target is the body of a target entry.
type Target struct {
	TargetID string            `json:"target_id"`
	Name     string            `json:"name"`
	Protocol string            `json:"protocol"`
	Address  string            `json:"address"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// Refused is the body of a refused entry. Count is above 1 when refusals of
// one source within a minute were put together.
type Refused struct {
	Count    int    `json:"count"`
	What     string `json:"what"` // "login" or "cancel"
	Code     string `json:"code"`
	Detail   string `json:"detail"`
	Source   string `json:"source"`
	Listener string `json:"listener,omitempty"`
	Target   string `json:"target,omitempty"` // as asked for, shortened
	Role     string `json:"role,omitempty"`
	Actor    string `json:"actor,omitempty"` // the principal, where the token was good
}

// Session is the body of a session entry.
type Session struct {
	BootID       string    `json:"boot_id"`
	Principal    Principal `json:"principal"`
	TokenSHA256  string    `json:"token_sha256,omitempty"`
	TokenID      string    `json:"token_id,omitempty"`
	TokenExpiry  time.Time `json:"token_expiry,omitzero"`
	SessionEnd   time.Time `json:"session_end,omitzero"`
	LifetimeRule string    `json:"lifetime_rule,omitempty"`
	Target       Target    `json:"target"`
	Role         string    `json:"role"`
	Database     string    `json:"database,omitempty"`
	Rule         string    `json:"rule"` // what admitted the principal
	ConfigSHA256 string    `json:"config_sha256"`
	Listener     string    `json:"listener"`
	Source       string    `json:"source"`
	// Began is when the session began, for the age that a policy saw.
	Began   time.Time       `json:"began,omitzero"`
	Origin  string          `json:"origin,omitempty"` // "gateway" for the gateway's own
	Purpose string          `json:"purpose,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

// Identity is the body of an identity entry: what lets somebody else check the
// issuer's own signature. It is disclosed only once the token has expired.
type Identity struct {
	Issuer      string          `json:"issuer"`
	TokenSHA256 string          `json:"token_sha256"`
	TokenExpiry time.Time       `json:"token_expiry"`
	Token       string          `json:"token"`
	KeySet      json.RawMessage `json:"key_set"` // RFC 7517
	Renewal     bool            `json:"renewal,omitempty"`
	// What the session's identity is from here on.
	Principal    Principal `json:"principal"`
	SessionEnd   time.Time `json:"session_end"`
	LifetimeRule string    `json:"lifetime_rule"`
}

// Upstream is the body of an upstream entry: what reconciliation with the
// target's own log joins on.
type Upstream struct {
	Address      string          `json:"address"`
	LocalAddress string          `json:"local_address"`
	User         string          `json:"user"`
	Detail       json.RawMessage `json:"detail,omitempty"`
}

// Intent is the body of an intent entry.
type Intent struct {
	Op     string `json:"op"`
	Origin string `json:"origin,omitempty"`
	Rule   string `json:"rule"`
	Reason string `json:"reason,omitempty"` // of a denial
	Code   string `json:"code,omitempty"`
	Config string `json:"config,omitempty"` // first 16 hex digits of the digest in force
	// Usage of the principal before this request, where the policy reads it.
	Usage *Usage `json:"usage,omitempty"`
	// Decided is the moment that the decision is about, in microseconds.
	Decided time.Time `json:"decided,omitzero"`
	Opaque  bool      `json:"opaque"` // what it does is not understood
	// Early: it was forwarded while this entry was being made durable, as the sync mode "release" does with proven reads.
	Early  bool            `json:"early,omitempty"`
	Text   string          `json:"text"`
	Detail json.RawMessage `json:"detail,omitempty"`
	Action json.RawMessage `json:"action,omitempty"` // an Action
	// Sensitive says what of it is personal or secret; nil if nothing was found.
	Sensitive *Sensitive `json:"sensitive,omitempty"`
	// Infers names masks that let it pass only once a person has approved it.
	Infers []string `json:"infers,omitempty"`
	// List are the statements that it asks for at once (op "request").
	List []Listed `json:"list,omitempty"`
}

// Listed is one statement of an ordered list that is asked for at once.
type Listed struct {
	Text   string          `json:"text"`
	Opaque bool            `json:"opaque"`
	Action json.RawMessage `json:"action"` // an Action
	// Sensitive and Infers are as in Intent.
	Sensitive *Sensitive `json:"sensitive,omitempty"`
	Infers    []string   `json:"infers,omitempty"`
}

// Usage is what a principal had done over all its sessions, in windows that slide.
type Usage struct {
	Minute Counts `json:"minute"`
	Hour   Counts `json:"hour"`
	Day    Counts `json:"day"`
}

// Counts are requests that were allowed, and rows and bytes of answers.
type Counts struct {
	Requests uint64 `json:"requests"`
	Rows     uint64 `json:"rows"`
	Bytes    uint64 `json:"bytes"`
}

// Action is what a request does, as it was decided on.
type Action struct {
	Effects     []string          `json:"effects"`
	Privileged  string            `json:"privileged,omitempty"` // why it is, by the published definition; empty if it is not
	Why         string            `json:"why,omitempty"`        // it is not understood
	HasFilter   bool              `json:"has_filter"`
	Fingerprint string            `json:"fingerprint,omitempty"`
	Statements  []ActionStatement `json:"statements,omitempty"`
}

// ActionStatement is one part of a request.
type ActionStatement struct {
	Verb      string         `json:"verb"`
	Inner     []string       `json:"inner,omitempty"` // commands that change rows within it, such as "DELETE" in WITH
	Effects   []string       `json:"effects"`
	Objects   []ActionObject `json:"objects,omitempty"`
	Columns   []string       `json:"columns,omitempty"`
	HasFilter bool           `json:"has_filter"`
	Opaque    bool           `json:"opaque,omitempty"`
}

// ActionObject is something that a request names, with what is done to it.
type ActionObject struct {
	Kind    string   `json:"kind"`
	Schema  string   `json:"schema,omitempty"`
	Name    string   `json:"name"`
	Effects []string `json:"effects,omitempty"`
}

// Chunk is the JSON part of request and answer entries; the bytes follow it.
type Chunk struct {
	Seq uint64 `json:"seq"` // from 1 within the exchange and direction
	// Found are values that detectors found in what the agent sent, by kind.
	Found map[string]uint64 `json:"found,omitempty"`
	// Cells are commitments to masked cells of the answer, 16 bytes each (docs/formats/entry.md).
	Cells []byte `json:"cells,omitempty"`
}

// Outcome is the body of an outcome entry. The bytes of an answer that was not
// recorded in chunks follow it.
type Outcome struct {
	Status  string `json:"status"`
	Tag     string `json:"tag,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	Rows    uint64 `json:"rows"`
	Bytes   uint64 `json:"bytes"`   // of the whole answer
	Chunks  uint64 `json:"chunks"`  // answer entries before this one
	Request uint64 `json:"request"` // request entries of this exchange
	SHA256  string `json:"sha256"`  // of the whole answer's bytes; zeros if unknown
	ReadyUS int64  `json:"ready_us"`
	TotalUS int64  `json:"total_us"`
	Cause   string `json:"cause,omitempty"`
	// PersonalData are values that detectors found in the request: in its text, in what is bound to it and in what was sent with it.
	PersonalData map[string]uint64 `json:"personal_data,omitempty"`
	// Cells are commitments to masked cells that no answer entry has.
	Cells  []byte          `json:"cells,omitempty"`
	Detail json.RawMessage `json:"detail,omitempty"`
}

// Ticket is the body of a ticket entry: a request waits for people.
type Ticket struct {
	Ticket string `json:"ticket"`
	// Digest is the SHA-256 over Bound, the exact text of what a ruling covers: the JSON of a TicketBound.
	Digest string `json:"digest"`
	Bound  string `json:"bound"`
	// Requires must all be met.
	Requires []Approvers `json:"requires"`
	// Requester is the person behind the request, empty if nobody knows; Behind are further persons who act in it.
	Requester string   `json:"requester,omitempty"`
	Behind    []string `json:"behind,omitempty"`
	// Resubmitted: this repeats a ticket that stood since an earlier request of the same, whose session and exchange are those in
	// Bound. The rulings behind it that have a time repeat those until then.
	Resubmitted bool `json:"resubmitted,omitempty"`
}

// Approvers is what one rule asks for: a quorum of distinct people of some groups.
type Approvers struct {
	Rule         string   `json:"rule"`
	Groups       []string `json:"groups"`
	Quorum       int      `json:"quorum"`
	UnknownOwner bool     `json:"unknown_owner,omitempty"`
	// BreakGlass are groups one of whose people can release it in an emergency, without the quorum.
	BreakGlass []string `json:"break_glass,omitempty"`
	// BeforeImage: the rows that it changes must be the same at the release as when people were asked.
	BeforeImage bool `json:"before_image,omitempty"`
	// Resubmit is for how long, in seconds, the ticket stands although its agent could not wait.
	Resubmit int64 `json:"resubmit,omitempty"`
	// ACR, AMR and MaxAuthAge (seconds) are what the sign-in behind a ruling must be: of one of these classes, by all of these
	// methods, and at most so long before.
	ACR        []string `json:"acr,omitempty"`
	AMR        []string `json:"amr,omitempty"`
	MaxAuthAge int64    `json:"max_auth_age,omitempty"`
}

// TicketBound is all that a ruling covers. If anything of it were different, the digest would be.
type TicketBound struct {
	Ticket     string   `json:"ticket"`
	Nonce      string   `json:"nonce"` // random
	Session    string   `json:"session"`
	Exchange   uint64   `json:"exchange"`
	Principal  string   `json:"principal"` // "issuer|name"
	Subject    string   `json:"subject"`
	Actor      []string `json:"actor,omitempty"`
	Target     string   `json:"target"`
	Address    string   `json:"address"`
	Role       string   `json:"role"`
	Database   string   `json:"database,omitempty"`
	SearchPath string   `json:"search_path,omitempty"`
	// Settings are those of the session that it began with or that the target reports, and Altered is one that it has changed besides, whose
	// value is not known.
	Settings  map[string]string `json:"settings,omitempty"`
	Altered   string            `json:"altered,omitempty"`
	Op        string            `json:"op"`
	Text      string            `json:"text"`
	Detail    json.RawMessage   `json:"detail,omitempty"` // with the parameters
	Action    json.RawMessage   `json:"action,omitempty"` // an Action
	Sensitive *Sensitive        `json:"sensitive,omitempty"`
	// List are the statements that are asked for at once, in the order in which they run; Reason is the agent's word for why.
	List   []Listed `json:"list,omitempty"`
	Reason string   `json:"reason,omitempty"`
	Rules  []string `json:"rules"`            // that hold
	Effect *Effect  `json:"effect,omitempty"` // what it would do, as far as that could be seen safely
	// Meaning is a digest of what the request's meaning hangs on at the target, so that other definitions make the ticket void.
	Meaning string `json:"meaning,omitempty"`
	// Meanings are those of the statements of List, up to the first that may itself change definitions.
	Meanings []string  `json:"meanings,omitempty"`
	Config   string    `json:"config"` // digest of the configuration, with policy and masks
	Expires  time.Time `json:"expires"`
}

// Effect is what a held request would do, seen without running any of it.
type Effect struct {
	Computed bool `json:"computed"`
	// Reason says why it, or a part of it, cannot be seen safely.
	Reason string `json:"reason,omitempty"`
	// Estimate is the planner's, which may be far off.
	Estimate *int64 `json:"estimate,omitempty"`
	// Relation is whose rows an UPDATE or DELETE changes, and Count how many it finds now.
	Relation string `json:"relation,omitempty"`
	Count    *int64 `json:"count,omitempty"`
	// Fingerprint is a SHA-256 over table, place and version of each of these rows.
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Ruling is the body of a ruling entry.
type Ruling struct {
	Ticket   string      `json:"ticket"`
	Digest   string      `json:"digest"`
	Person   string      `json:"person"`
	Identity string      `json:"identity"` // "issuer|name", or the fingerprint of a key
	Groups   []string    `json:"groups"`
	Verdict  string      `json:"verdict"` // "approve", "deny" or "break-glass"
	Reason   string      `json:"reason,omitempty"`
	Proof    RulingProof `json:"proof"`
	// At is when it was given, where this repeats a ruling on a ticket that stood.
	At time.Time `json:"at,omitzero"`
}

// RulingProof is what only the person could make.
type RulingProof struct {
	Kind string `json:"kind"` // "ssh" or "oidc"
	// Statement is the exact text that was signed.
	Statement string `json:"statement"`
	// Signature is an armoured SSH signature by Key, in the namespace gatebook-ruling.
	Signature string `json:"signature,omitempty"`
	Key       string `json:"key,omitempty"` // as in authorized_keys
	// Token is an ID token that the person's issuer made for the nonce over Random and Statement: the SHA-256, in base64url
	// without padding, of "gatebook-ruling-nonce 1\n", Random, "\n" and Statement. KeySet is the issuer's (RFC 7517).
	Token  string          `json:"token,omitempty"`
	Random string          `json:"random,omitempty"`
	KeySet json.RawMessage `json:"key_set,omitempty"`
}

// Release is the body of a release entry: a held request is let through.
type Release struct {
	Ticket  string   `json:"ticket"`
	Digest  string   `json:"digest"`
	Persons []string `json:"persons"` // who approved
	Config  string   `json:"config"`  // digest of the configuration by which it was judged again
	// BreakGlass is who let it through in an emergency, without the quorum.
	BreakGlass string `json:"break_glass,omitempty"`
	// Fingerprint is that of the rows then, where a rule compares them.
	Fingerprint string `json:"fingerprint,omitempty"`
	// List is how many statements of a list the session may run now, one after the other.
	List int `json:"list,omitempty"`
	// Position, from 1, is that of the list's statement that this lets through; it names nobody again.
	Position int `json:"position,omitempty"`
}

// TicketEnd is the body of a ticket-end entry: a held request is not let through.
type TicketEnd struct {
	Ticket string `json:"ticket"`
	Digest string `json:"digest"`
	State  string `json:"state"` // "denied", "expired", "withdrawn" or "void"; "list-ended" where no further statement of a list runs
	Cause  string `json:"cause,omitempty"`
}

// What alerts are about.
const (
	AlertBreakGlass    = "break-glass"    // a person let a held request through without the quorum
	AlertWebhookFailed = "webhook-failed" // an alert could not be delivered to a webhook
)

// Alert is the body of an alert entry. It is durable before what it is about goes on.
type Alert struct {
	Alert     string `json:"alert"` // its ID
	What      string `json:"what"`
	Ticket    string `json:"ticket,omitempty"`
	Person    string `json:"person,omitempty"`
	Principal string `json:"principal,omitempty"` // "issuer|name"
	Target    string `json:"target,omitempty"`
	Text      string `json:"text"` // one line, with nothing of what an agent wrote
}

// Cancel is the body of a cancel entry.
type Cancel struct {
	By     string `json:"by"` // "agent" or an administrator
	Source string `json:"source,omitempty"`
	Effect string `json:"effect"` // "forwarded", "nothing-running", "failed"
}

// Note is the body of a note entry.
type Note struct {
	What   string `json:"what"`
	Detail string `json:"detail,omitempty"`
}

// SessionEnd is the body of a session-end entry.
type SessionEnd struct {
	Cause     string `json:"cause"`
	Exchanges uint64 `json:"exchanges"`
	Bytes     uint64 `json:"bytes"` // of all answers
	Seconds   int64  `json:"seconds"`
	// Recovered: the gateway crashed, and the next start wrote this.
	Recovered bool `json:"recovered,omitempty"`
}
