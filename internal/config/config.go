// Package config reads Gatebook's configuration: one YAML file and the files
// it includes, decoded strictly, with every problem reported at once with its
// place. It validates without side effects: nothing is dialled, no secret is read.
//
// The comments of the types are the reference in docs/config.md (make gen).
package config

import (
	"time"
)

// Config is the whole configuration.
type Config struct {
	// Version of the format; 1.
	Version int `yaml:"version"`
	// Data is the directory of the book, made by gatebook init. Relative
	// paths are relative to the configuration file, here and everywhere.
	Data string `yaml:"data"`
	// Sync says when a record counts as durable: "always" (synced before
	// anything is forwarded or released), "release" (as always, but a proven read is forwarded while its record is being
	// synced, and its answer waits for that) or "insecure_interval" (written before, synced every few
	// milliseconds: safe from a crash of the process, not from a loss of power). Default always.
	Sync string `yaml:"sync"`
	// Heartbeat is the longest time without an entry in the book. Default 30s.
	Heartbeat Duration `yaml:"heartbeat"`
	// Keys are the gateway's own keys, made by gatebook init.
	Keys Keys `yaml:"keys"`
	// Issuers are the OIDC issuers whose tokens are accepted.
	Issuers []Issuer `yaml:"issuers"`
	// Listeners are the addresses that agents connect to.
	Listeners []Listener `yaml:"listeners"`
	// Targets are the backends.
	Targets []Target `yaml:"targets"`
	// Rules decide on every request of an agent. Their order does not matter: deny beats hold beats allow, and what no rule
	// allows is refused.
	Rules []Rule `yaml:"rules"`
	// Packs are named sets of ready rules that are added to the rules ("gatebook policy packs" lists them).
	Packs []string `yaml:"packs"`
	// Masks hide values of columns from those to whom they apply; of several that are about a column, the first counts.
	// docs/masking.md is the guide.
	Masks []Mask `yaml:"masks"`
	// Labels give columns names by what they hold, for masks; they may stand in a file of their own that is included.
	Labels []Label `yaml:"labels"`
	// Detectors find values of your own kinds by regular expressions, for masks by kinds.
	Detectors []Detector `yaml:"detectors"`
	// MaskKey is the secret of hashed and tokenised values ("file:PATH" or "env:NAME"), 32 bytes or more. Another key makes others.
	MaskKey string `yaml:"mask_key"`
	// Signers are the people who must sign the configuration before it comes into force. Default nobody. docs/policy.md says how to sign.
	Signers *Signers `yaml:"signers"`
	// Approvers are those of rules that hold and name none, also of packs.
	Approvers *Approvers `yaml:"approvers"`
	// People may rule on requests that wait.
	People []Person `yaml:"people"`
	// Owners say who answers for agents whose token does not say it. The first one that fits counts.
	Owners []Owner `yaml:"owners"`
	// Webhooks are told of requests that wait and of alerts. docs/webhooks.md says what they get.
	Webhooks []Webhook `yaml:"webhooks"`
	// Inbound are bridges (of a chat, for example) that may deliver rulings which people have signed, and make none.
	Inbound []Inbound `yaml:"inbound"`
	// Console is the page on which people sign in and rule.
	Console *Console `yaml:"console"`
	// Include lists files or patterns whose targets, issuers, rules, masks and packs are added to this file's.
	Include []string `yaml:"include"`
	// Reload says when the configuration is read again: "change" (when one of its files has changed, and on the signal
	// HUP) or "signal". What cannot be loaded, or needs a restart, leaves everything as it was. Default change.
	Reload string `yaml:"reload"`
	// Limits bound what the gateway takes.
	Limits Limits `yaml:"limits"`
	// Index configures the query tables.
	Index Index `yaml:"index"`
	// Ops is the HTTP address for health checks and metrics.
	Ops Ops `yaml:"ops"`
}

// SyncRelease is the value of Config.Sync that forwards proven reads before their records are synced.
const SyncRelease = "release"

// ReloadOnSignal is the value of Config.Reload that leaves files alone until a signal comes.
const ReloadOnSignal = "signal"

// Keys are references to the gateway's own keys ("file:PATH" or "env:NAME").
type Keys struct {
	// KEK is the key-encryption key of the book's bodies: 32 bytes in base64. Default file:keys/kek.
	KEK string `yaml:"kek"`
	// Log signs the book's checkpoints: a signed-note key. Default file:keys/log.
	Log string `yaml:"log"`
	// Package signs evidence packages: an ECDSA P-256 key, PKCS #8 PEM. Default file:keys/package.
	Package string `yaml:"package"`
	// SSH signs evidence packages too: an Ed25519 key, PKCS #8 PEM. Default file:keys/ssh.
	SSH string `yaml:"ssh"`
}

// Issuer is an OIDC issuer.
type Issuer struct {
	// Name of the issuer, part of every principal's name.
	Name string `yaml:"name"`
	// For says whom it vouches for: "agents", who open sessions, or "people", who sign in to rule on requests that wait.
	For string `yaml:"for"`
	// Preset fills in URL and mappings: github-actions, gitlab-ci, kubernetes or spiffe.
	Preset string `yaml:"preset"`
	// URL is the issuer, exactly as in the claim "iss".
	URL string `yaml:"url"`
	// TrustDomain is the SPIFFE trust domain, with the preset spiffe.
	TrustDomain string `yaml:"trust_domain"`
	// Audience is the accepted "aud", or a list of them.
	Audience Strings `yaml:"audience"`
	// AuthorizedParties, when set, are the accepted values of "azp" (or "client_id").
	AuthorizedParties []string `yaml:"authorized_parties"`
	// Algorithms are the accepted signature algorithms. Default RS256, ES256, PS256, EdDSA.
	Algorithms []string `yaml:"algorithms"`
	// TokenUse is "access" (only RFC 9068 access tokens), "id" (ID tokens too) or empty (what is not recognisably something else).
	TokenUse string `yaml:"token_use"`
	// CA is a PEM file ("file:PATH") that replaces the system's roots for requests to the issuer.
	CA string `yaml:"ca"`
	// JWKS is an offline key set ("file:PATH"); the issuer is then never asked.
	JWKS string `yaml:"jwks"`
	// Proxy is the outbound proxy for requests to the issuer.
	Proxy string `yaml:"proxy"`
	// RequestToken ("file:PATH") is sent as bearer token with requests to the issuer, for clusters that ask for one.
	RequestToken string `yaml:"request_token"`
	// KeyRefresh is the age at which keys are fetched again. Default 15m.
	KeyRefresh Duration `yaml:"key_refresh"`
	// KeyMaxAge is the age past which keys are not used any more. Default 1h.
	KeyMaxAge Duration `yaml:"key_max_age"`
	// AllowLoopback lets requests to this issuer reach loopback addresses.
	AllowLoopback bool `yaml:"allow_loopback"`
	// InsecureHTTP lets requests to this issuer use plain HTTP, on loopback only.
	InsecureHTTP bool `yaml:"insecure_http"`
	// Development marks an issuer of gatebook dev: it needs loopback listeners only.
	Development bool `yaml:"development"`
	// Principal is the CEL expression of the principal's name. Default claims.sub.
	Principal string `yaml:"principal"`
	// Groups is the CEL expression of the groups. Default the claim "groups".
	Groups string `yaml:"groups"`
	// Actor is the CEL expression of who acts on behalf of whom. Default the chain of "act" claims.
	Actor string `yaml:"actor"`
	// Owner is the CEL expression of the person behind the agent. Default unknown.
	Owner string `yaml:"owner"`
	// Bindings are CEL conditions over claims that must all hold.
	Bindings []string `yaml:"bindings"`
	// SessionLifetime, when set, bounds sessions from their log-in on, in place of the token's expiry.
	SessionLifetime Duration `yaml:"session_lifetime"`
	// MaxTokenAge, when set, is the age past which a token is not accepted.
	MaxTokenAge Duration `yaml:"max_token_age"`
	// MaxTokenLifetime bounds the time from "iat" to "exp". Default 24h.
	MaxTokenLifetime Duration `yaml:"max_token_lifetime"`
	// Skew is how far ahead "nbf" and "iat" may be. Default 30s.
	Skew Duration `yaml:"skew"`
	// InsecureIgnoreConfirmation accepts tokens bound to a key ("cnf") without checking the binding.
	InsecureIgnoreConfirmation bool `yaml:"insecure_ignore_confirmation"`
}

// Listener is an address that speaks one protocol to agents.
type Listener struct {
	// Protocol that the listener speaks: postgres.
	Protocol string `yaml:"protocol"`
	// Address to listen on, host:port. Port 0 lets the kernel pick one.
	Address string `yaml:"address"`
	// Auth is how the token arrives: "password" or "oauthbearer". Default password.
	Auth string `yaml:"auth"`
	// OAuthDiscovery is the discovery URL told to clients that ask where to get a token, with auth oauthbearer.
	OAuthDiscovery string `yaml:"oauth_discovery"`
	// InsecurePlaintext lets agents in without TLS; only on loopback.
	InsecurePlaintext bool `yaml:"insecure_plaintext"`
	// TLS is the listener's certificate. Without one the local CA of gatebook init is used, on loopback only.
	TLS ServerTLS `yaml:"tls"`
}

// ServerTLS is a certificate with its key; both files are read again when they change.
type ServerTLS struct {
	// Cert is the PEM certificate chain ("file:PATH").
	Cert string `yaml:"cert"`
	// Key is the PEM private key ("file:PATH").
	Key string `yaml:"key"`
}

// Target is a named backend.
type Target struct {
	// Name that agents give: a-z, 0-9 and -.
	Name string `yaml:"name"`
	// Protocol that the target speaks: postgres.
	Protocol string `yaml:"protocol"`
	// Address is host:port.
	Address string `yaml:"address"`
	// Database is what sessions use that name none. Default the protocol's own (the role's user name).
	Database string `yaml:"database"`
	// Labels are words for people and for rules.
	Labels map[string]string `yaml:"labels"`
	// TLS protects the connection to the target.
	TLS TargetTLS `yaml:"tls"`
	// Roles are the credentials; agents name one as their user name.
	Roles map[string]Role `yaml:"roles"`
	// Allow lists the groups whose members may use the target. Default nobody.
	Allow []string `yaml:"allow"`
	// InsecureAuth lists weak authentication methods that may be used towards the target: cleartext, md5.
	InsecureAuth []string `yaml:"insecure_auth"`
	// Limits bound the target's sessions.
	Limits TargetLimits `yaml:"limits"`
}

// TargetTLS says how a connection to a target is protected.
type TargetTLS struct {
	// Mode is "verify-full", "require" (encrypted, the target's name is not checked) or "disable". Default verify-full.
	Mode string `yaml:"mode"`
	// CA is a PEM file ("file:PATH") that replaces the system's roots.
	CA string `yaml:"ca"`
	// ServerName is checked in place of the address's host.
	ServerName string `yaml:"server_name"`
	// Cert and Key are a client certificate ("file:PATH").
	Cert string `yaml:"cert"`
	// Key of the client certificate ("file:PATH").
	Key string `yaml:"key"`
}

// Role is a credential of a target.
type Role struct {
	// User name at the target.
	User string `yaml:"user"`
	// Password reference ("file:PATH" or "env:NAME"), read again at each log-in.
	Password string `yaml:"password"`
	// Allow narrows the target's groups for this role.
	Allow []string `yaml:"allow"`
}

// Rule decides on requests. docs/policy.md is the guide.
type Rule struct {
	// Name of the rule, as records and refusals have it: a-z, 0-9 and -.
	Name string `yaml:"name"`
	// When is the CEL condition under which the rule applies.
	When string `yaml:"when"`
	// Then is "allow", "deny" or "hold".
	Then string `yaml:"then"`
	// Reason of a refusal; the agent may read it.
	Reason string `yaml:"reason"`
	// Hint says what the agent can do instead.
	Hint string `yaml:"hint"`
	// Approvers says who may release what the rule holds. Default the approvers of the configuration.
	Approvers *Approvers `yaml:"approvers"`
}

// Label names columns by what they hold.
type Label struct {
	// Name of the label: a-z, 0-9 and -. The same name may come several times.
	Name string `yaml:"name"`
	// Columns are "schema.table.column"; * stands for any text within a part.
	Columns []string `yaml:"columns"`
}

// Detector finds values of an operator's own kind.
type Detector struct {
	// Name of the kind: a-z, 0-9 and -.
	Name string `yaml:"name"`
	// Pattern is a regular expression (RE2); its first group is the value, if it has one. Each pattern costs a pass over all texts.
	Pattern string `yaml:"pattern"`
	// Validator checks what matches: "luhn" or "mod97". Default none.
	Validator string `yaml:"validator"`
}

// Mask hides values of columns. docs/masking.md is the guide.
type Mask struct {
	// Name of the mask, as records and refusals have it: a-z, 0-9 and -.
	Name string `yaml:"name"`
	// Columns are "schema.table.column"; * stands for any text within a part.
	Columns []string `yaml:"columns"`
	// Labels are names of labels: the mask is about their columns too.
	Labels []string `yaml:"labels"`
	// Kinds are kinds of values that detectors find wherever no mask by columns is about them, such as email; * for all. A mask has columns or kinds.
	Kinds []string `yaml:"kinds"`
	// JSON are paths into columns of json and jsonb, such as contact.email or items.*.name, with * for any member or element: only what stands
	// there is masked of a column that is selected as it is. Default whole columns.
	JSON []string `yaml:"json"`
	// Targets are the names of targets. Default all.
	Targets []string `yaml:"targets"`
	// When is the CEL condition under which it applies, over principal, target and session. Default to everybody.
	When string `yaml:"when"`
	// Method is "redact", "null", "partial", "hash", "tokenize" or "generalise". Default redact.
	Method string `yaml:"method"`
	// KeepFirst is how many first characters partial keeps.
	KeepFirst int `yaml:"keep_first"`
	// KeepLast is how many last characters partial keeps.
	KeepLast int `yaml:"keep_last"`
	// KeepDomain keeps the part behind the @ with partial.
	KeepDomain bool `yaml:"keep_domain"`
	// Unit is what generalise makes of dates: "month" or "year".
	Unit string `yaml:"unit"`
	// Step is the width of the ranges that generalise makes of numbers.
	Step int `yaml:"step"`
	// Scope is within which the same value has the same token. Default the mask's name.
	Scope string `yaml:"scope"`
	// Inference says what becomes of statements that filter, sort, group, join or compute by the column: "refuse", "hold" (a rule of the policy must hold it) or "allow".
	// Default refuse.
	Inference string `yaml:"inference"`
}

// Approvers says who may release what a rule holds.
type Approvers struct {
	// Groups of people; one of them is enough for a person.
	Groups []string `yaml:"groups"`
	// Quorum is how many distinct people must approve. Default 1.
	Quorum int `yaml:"quorum"`
	// Within is how long a request waits. Default 30m.
	Within Duration `yaml:"within"`
	// InTransaction is how long a request waits inside of a transaction, whose locks it keeps meanwhile. Default not at all.
	InTransaction Duration `yaml:"in_transaction"`
	// Resubmit is how long people can rule on a request after it came although its agent could not wait for them: approved, it runs
	// when the agent sends it again, once. Default not at all.
	Resubmit Duration `yaml:"resubmit"`
	// Owner is "unknown-ok" where a request may be released although nobody knows the person behind it.
	Owner string `yaml:"owner"`
	// BreakGlass are groups of people one of whom may release it in an emergency, without the quorum. It needs a webhook that
	// takes alerts. Default nobody.
	BreakGlass []string `yaml:"break_glass"`
	// BeforeImage compares the rows that an UPDATE or DELETE of one table changes: the request is refused where they cannot be looked
	// at safely, and an approval is void once one of them has changed.
	BeforeImage bool `yaml:"before_image"`
	// ACR lists classes of sign-ins (the claim "acr") of which a ruling's must be one. With any of acr, amr and max_auth_age,
	// people rule by signing in at their issuer; SSH signatures do not count for the rule.
	ACR []string `yaml:"acr"`
	// AMR lists methods (the claim "amr") by all of which the person must have authenticated.
	AMR []string `yaml:"amr"`
	// MaxAuthAge is how long ago the person may have authenticated (the claim "auth_time").
	MaxAuthAge Duration `yaml:"max_auth_age"`
}

// Person is somebody who may rule on requests.
type Person struct {
	// Person is the name, the same for all identities.
	Person string `yaml:"person"`
	// Identities of the person at issuers, "issuer|name". Requests by them are the person's own.
	Identities []string `yaml:"identities"`
	// Groups of the person, for approvers.
	Groups []string `yaml:"groups"`
	// Keys are SSH public keys whose signatures are the person's, as in a .pub file.
	Keys []string `yaml:"keys"`
}

// Console is the page on which people sign in, look at the requests that wait, and rule.
type Console struct {
	// Address to listen on, host:port.
	Address string `yaml:"address"`
	// URL is the page's address in browsers and links, without a path. Default made of the address.
	URL string `yaml:"url"`
	// Issuer is the name of the issuer for people at which they sign in. Its redirect URI is URL/callback.
	Issuer string `yaml:"issuer"`
	// ClientID of the page at the issuer, one of the issuer's audiences. Default the first of them.
	ClientID string `yaml:"client_id"`
	// ClientSecret ("file:PATH" or "env:NAME"), where the issuer gave one.
	ClientSecret string `yaml:"client_secret"`
	// InsecurePlaintext serves the page without TLS; only on loopback.
	InsecurePlaintext bool `yaml:"insecure_plaintext"`
	// TLS is the page's certificate. Without one the local CA of gatebook init is used, on loopback only.
	TLS ServerTLS `yaml:"tls"`
}

// Owner says who answers for agents whose token does not say it.
type Owner struct {
	// Principal is "issuer|name"; * stands for any text.
	Principal string `yaml:"principal"`
	// Person who answers for it.
	Person string `yaml:"person"`
}

// Webhook is a server that is told what happens. A message says which request of whom, on which target, and never what it is.
type Webhook struct {
	// Name of a-z, 0-9 and -, for logs and metrics.
	Name string `yaml:"name"`
	// URL that messages are posted to.
	URL string `yaml:"url"`
	// Secret with which messages are signed, "whsec_" and the base64 of 24 to 64 random bytes, as a reference.
	Secret string `yaml:"secret"`
	// Events that it gets: "ticket" (requests that wait, and what becomes of them) and "alert". Default both.
	Events []string `yaml:"events"`
	// CA is a file of certificates that the server's must lead to. Default the system's.
	CA string `yaml:"ca"`
	// AllowLoopback permits a URL on this machine.
	AllowLoopback bool `yaml:"allow_loopback"`
	// AllowPrivate permits a URL in a private range of addresses, such as 10.0.0.0/8.
	AllowPrivate bool `yaml:"allow_private"`
	// InsecureHTTP permits a URL without TLS.
	InsecureHTTP bool `yaml:"insecure_http"`
}

// Inbound is a bridge that delivers rulings.
type Inbound struct {
	// Name of a-z, 0-9 and -, in the path /v1/hooks/NAME.
	Name string `yaml:"name"`
	// Secret with which it signs what it delivers, "whsec_" and the base64 of 24 to 64 random bytes, as a reference.
	Secret string `yaml:"secret"`
}

// Signers are people of whom some must sign every configuration. Whom a gateway once asked, it asks until they sign that
// others, or nobody, shall be asked.
type Signers struct {
	// Quorum is how many persons must have signed; a person counts once.
	Quorum int `yaml:"quorum" json:"quorum"`
	// Directory of the signatures, files *.sig as ssh-keygen -Y sign writes them. Default signatures.
	Directory string `yaml:"directory" json:"directory,omitempty"`
	// Keys are the SSH public keys whose signatures count.
	Keys []SignerKey `yaml:"keys" json:"keys"`
}

// SignerKey is a key of a person. A person may have several.
type SignerKey struct {
	// Person who holds the key: letters, digits, . _ @ + and -.
	Person string `yaml:"person" json:"person"`
	// Key is the public key as in a .pub file: ssh-ed25519, ecdsa-sha2-nistp256, -384 or -521, ssh-rsa of 2048 bits or more, sk-ssh-ed25519@openssh.com or sk-ecdsa-sha2-nistp256@openssh.com.
	Key string `yaml:"key" json:"key"`
}

// TargetLimits bound a target's sessions.
type TargetLimits struct {
	// Sessions that may be open at a time. Default no bound.
	Sessions int `yaml:"sessions"`
	// Queue is how long a log-in waits for a place. Default 10s.
	Queue Duration `yaml:"queue"`
	// IdleTimeout ends sessions that ask for nothing. Default none.
	IdleTimeout Duration `yaml:"idle_timeout"`
}

// Limits bound what the gateway takes.
type Limits struct {
	// Connections that may be open at a time, of all listeners. Default 10000.
	Connections int `yaml:"connections"`
	// PrincipalSessions that one principal may have open. Default no bound.
	PrincipalSessions int `yaml:"principal_sessions"`
	// PrincipalExchanges that one principal may begin in an hour; beyond, its sessions end and its log-ins are refused (SQLSTATE 53400). Default no bound.
	PrincipalExchanges int `yaml:"principal_exchanges"`
	// PrincipalBytes of requests and answers that one principal may cause to be recorded in an hour. Default no bound.
	PrincipalBytes Size `yaml:"principal_bytes"`
	// Message is the largest request that is judged whole. Default 64MiB.
	Message Size `yaml:"message"`
	// Memory that all sessions together may hold in large requests and in the texts of open statements. Default 512MiB.
	Memory Size `yaml:"memory"`
	// Startup is how long an opening handshake may take. Default 30s.
	Startup Duration `yaml:"startup"`
	// Stall is how long an agent or a target may stop reading. Default 5m.
	Stall Duration `yaml:"stall"`
	// Orphan is how long a statement runs on after its agent left. Default 1m.
	Orphan Duration `yaml:"orphan"`
	// ExpiryDrain is how long a running request may go on after the identity expired. Default 60s.
	ExpiryDrain Duration `yaml:"expiry_drain"`
	// ShutdownDrain is how long running requests may go on after SIGTERM. Default 30s.
	ShutdownDrain Duration `yaml:"shutdown_drain"`
	// LowDisk is the free space of the data directory below which new requests are refused. Default 256MiB.
	LowDisk Size `yaml:"low_disk"`
	// Segment is the size of the book's files. Default 64MiB.
	Segment Size `yaml:"segment"`
}

// Index configures the query tables, a plaintext cache of the book.
type Index struct {
	// Text "off" keeps statement texts out of it. Default on.
	Text string `yaml:"text"`
}

// Ops is where health and metrics are served.
type Ops struct {
	// Address for /livez, /readyz and /metrics, host:port. Default none.
	Address string `yaml:"address"`
}

// Defaults of durations and sizes that app uses.
const (
	DefaultQueue         = 10 * time.Second
	DefaultExpiryDrain   = 60 * time.Second
	DefaultShutdownDrain = 30 * time.Second
	DefaultConnections   = 10000
)
