package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"
)

// A Judge decides recorded requests again, by the policy text that the log
// holds. Package evidence has none of its own: it does not know the language.
type Judge interface {
	// Policy reads the policy of a configuration that was in force.
	Policy(c *Config) (Policy, error)
}

// A Policy decides on recorded requests of one configuration.
type Policy interface {
	// Decide returns what the policy says of a request. An error says that the record does not hold what it takes.
	Decide(r *Request) (Decided, error)
	// Ticket returns why a ticket does not ask for what the rules that hold ask for, nil if it does.
	Ticket(t *Ticket, bound *TicketBound) error
	// Ruling returns why a ruling, recorded at that time, is not its person's own word by the configuration's people, nil if it is.
	Ruling(t *Ticket, r *Ruling, at time.Time) error
}

// Request is a recorded request with all that its decision depends on. It is
// valid during the call that it is given to.
type Request struct {
	Header *Header
	// Session is the body of its session's begin, Principal the identity in force when it came.
	Session   *Session
	Principal *Principal
	Intent    *Intent
	// Action is what it does, as it was decided on; nil if the entry does not say.
	Action *Action
}

// Decided is a decision as an intent records it.
type Decided struct {
	Decision string // "allow", "hold" or "deny", as in headers
	Rule     string
	Code     string // of a denial
	// Privileged by the published definition.
	Privileged bool
	// Requires is what the rules that hold ask for, all of them.
	Requires []Approvers
}

// Codes of denials that a policy's rule is behind; all others are the gateway's own.
const (
	codePolicy   = "policy"
	codeApproval = "approval"
)

const (
	renewalRule = "gateway.token"
	renewalText = "SET gatebook.token = '[token]'"
	closeRule   = "protocol.close"
)

// Unjudged reports whether a request passed without a rule being asked, as it should: it prolongs its session and never
// reaches the target, or it ends a name that its session gave to a statement or a portal.
func Unjudged(in *Intent) bool {
	return in.Rule == renewalRule && in.Text == renewalText || in.Rule == closeRule && in.Op == "close" && in.Text == ""
}

// ownText are the statements that the gateway makes in agents' sessions: in the place of a refused one, to set its name
// back, to end what an ended session runs, and to know its backend.
var ownText = regexp.MustCompile(`^(gatebook refused request [0-9]+ of session [a-z2-7]{16}|SET (LOCAL )?application_name TO '(''|[^'])*'|` +
	`SELECT pg_catalog\.pg_terminate_backend\(-?[0-9]+\)|SELECT pg_catalog\.to_char\(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS\.US"Z"'\)\n FROM pg_catalog\.pg_stat_activity WHERE pid = pg_catalog\.pg_backend_pid\(\))$`)

// requestTracker follows sessions and gives each request with what it depends on.
type requestTracker struct {
	sessions map[ID]*trackedSession
}

type trackedSession struct {
	body Session
	// principal in force; nil where the range withholds the entry that says it.
	principal *Principal
	begun     bool // the identity entry of its log-in was there
}

// Why a request cannot be given with all that its decision depends on.
const (
	missingSession  = "the begin of their session is not disclosed"
	missingIdentity = "the identity in force is withheld, since its token has not expired"
	missingBody     = "they are not disclosed"
	missingAction   = "they were recorded by a version that did not say what a decision depends on"
	// What follows is more than what a scope leaves out.
	missingPolicy    = "the configuration that was in force is not in the package"
	unreadablePolicy = "the policy that was in force cannot be read"
)

// entry takes the next entry of a session; body is nil where it is not disclosed. It returns a request for an
// agent's intent, or says what of it is missing; for all other entries it returns nil.
func (t *requestTracker) entry(h *Header, body []byte) (r *Request, missing string, err error) {
	s := t.sessions[h.Session]
	switch h.Kind {
	case KindSession:
		if body == nil {
			return nil, "", nil
		}
		s = &trackedSession{}
		s.principal = &s.body.Principal
		if t.sessions == nil {
			t.sessions = make(map[ID]*trackedSession)
		}
		t.sessions[h.Session] = s
		return nil, "", DecodeBody(body, &s.body)
	case KindIdentity:
		if s == nil {
			return nil, "", nil
		}
		login := !s.begun
		s.begun = true
		switch {
		case login: // the session's own body says the same
		case body == nil:
			s.principal = nil
		default:
			var v Identity
			err = DecodeBody(body, &v)
			v.Token, v.KeySet = "", nil
			s.principal = &v.Principal
		}
	case KindSessionEnd:
		delete(t.sessions, h.Session)
	case KindIntent:
		return s.intent(h, body)
	}
	return nil, "", err
}

func (s *trackedSession) intent(h *Header, body []byte) (r *Request, missing string, err error) {
	switch {
	case body == nil && s == nil:
		return nil, "", nil // of a session that the scope leaves out, or of one that is erased
	case body == nil:
		return nil, missingBody, nil
	}
	r = &Request{Header: h, Intent: &Intent{}}
	if err := DecodeBody(body, r.Intent); err != nil {
		return nil, "", err
	}
	switch {
	case r.Intent.Origin != "" && s != nil && s.body.Origin == "" && !ownText.MatchString(r.Intent.Text):
		return nil, "", errors.New("it says that it is the gateway's own, and is none of the statements that the gateway makes in an agent's session")
	case r.Intent.Origin != "":
		return nil, "", nil // the gateway's own
	case s == nil:
		return nil, missingSession, nil
	case s.principal == nil:
		return nil, missingIdentity, nil
	}
	r.Session, r.Principal = &s.body, s.principal
	if len(r.Intent.Action) > 0 {
		r.Action = &Action{}
		err = json.Unmarshal(r.Intent.Action, r.Action)
	}
	return r, "", err
}

// decisions decides again on what a range holds.
type decisions struct {
	judge    Judge
	tracker  requestTracker
	policies map[string]*knownPolicy // by the digest's digits that intents name
	latest   *knownPolicy
	tickets  map[ID]*knownTicket     // the latest of each session
	standing map[string]*knownTicket // those that may stand without a session
	held     map[ID][]Approvers      // what holds the latest request of each session, where that is held
	rulings  uint64                  // whose proofs hold
	again    uint64                  // decided again, with the same result
	own      uint64                  // the gateway's own refusals, such as limits
	left     map[string]uint64
}

type knownPolicy struct {
	Policy
	digest string
	// until is when another configuration came into force, zero for the latest.
	until time.Time
	next  uint64 // index of that entry
}

// knownTicket is a ticket with the policy that it was opened under.
type knownTicket struct {
	body   Ticket
	policy *knownPolicy
}

// digestPrefix is how many digits of a configuration's digest an intent names.
const digestPrefix = 16

const (
	// replacedSlack is how long after its entry a configuration comes into force on a slow disk.
	replacedSlack = 5 * time.Second
	// staleAfter is how long after its decision a request is recorded on a machine that was stopped meanwhile.
	staleAfter = time.Minute
)

// config takes a configuration that comes into force.
func (d *decisions) config(h *Header, body []byte) error {
	var c Config
	if err := DecodeBody(body, &c); err != nil {
		return err
	}
	if len(c.SHA256) < digestPrefix {
		return errors.New("the configuration has no digest")
	}
	p := &knownPolicy{digest: c.SHA256}
	if d.latest != nil && d.latest.digest != c.SHA256 {
		d.latest.until, d.latest.next = h.Time, h.Index
	}
	if d.policies == nil {
		d.policies = make(map[string]*knownPolicy)
	}
	d.policies[c.SHA256[:digestPrefix]], d.latest = p, p
	var err error
	if p.Policy, err = d.judge.Policy(&c); err != nil {
		return fmt.Errorf("the policy of this configuration cannot be read: %w", err)
	}
	return nil
}

// session takes an entry of a session and returns what is wrong with its decision, "" if nothing is.
func (d *decisions) session(h *Header, body []byte) (wrong, odd string, err error) {
	switch h.Kind {
	case KindTicket, KindRuling, KindRelease:
		if body == nil {
			return "", "", nil
		}
		return "", "", d.ticket(h, body)
	case KindSessionEnd:
		delete(d.tickets, h.Session)
		delete(d.held, h.Session)
	case KindIntent:
		delete(d.held, h.Session)
	}
	r, missing, err := d.tracker.entry(h, body)
	switch {
	case err != nil:
		return "", "", err
	case missing != "":
		d.skip(missing)
		return "", "", nil
	case r == nil:
		return "", "", nil
	}
	in := r.Intent
	if h.Decision == "deny" && in.Code != codePolicy && in.Code != codeApproval {
		d.own++
		return "", "", nil
	}
	if h.Decision == "allow" && Unjudged(in) {
		d.own++
		return "", "", nil
	}
	if r.Action == nil || in.Decided.IsZero() {
		d.skip(missingAction)
		return "", "", nil
	}
	p := d.policies[in.Config]
	switch {
	case p == nil:
		d.skip(missingPolicy)
		return "", "", nil
	case p.Policy == nil:
		d.skip(unreadablePolicy)
		return "", "", nil
	}
	got, err := p.Decide(r)
	if err != nil {
		return "", "", fmt.Errorf("it cannot be decided again: %w", err)
	}
	switch {
	case got.Decision != h.Decision || got.Rule != in.Rule || got.Code != in.Code:
		return fmt.Sprintf("it was recorded as %s, and by the policy in force it is %s",
			decided(h.Decision, in.Rule, in.Code), decided(got.Decision, got.Rule, got.Code)), "", nil
	case got.Privileged != (r.Action.Privileged != ""):
		return fmt.Sprintf("privileged is recorded as %v, by what it does it is %v", r.Action.Privileged != "", got.Privileged), "", nil
	}
	if h.Decision == "hold" {
		if d.held == nil {
			d.held = make(map[ID][]Approvers)
		}
		d.held[h.Session] = got.Requires
	}
	d.again++
	switch late := h.Time.Sub(in.Decided); {
	case !p.until.IsZero() && in.Decided.After(p.until.Add(replacedSlack)):
		odd = fmt.Sprintf("it was decided by a configuration that entry %d had replaced", p.next)
	case late < -clockSlack || late > staleAfter:
		odd = fmt.Sprintf("it was decided at %s by its own word, and recorded at %s", in.Decided.Format(time.RFC3339), h.Time.Format(time.RFC3339))
	}
	return "", odd, nil
}

// ticket checks what a ticket asks for, and the proofs of rulings on it.
func (d *decisions) ticket(h *Header, body []byte) error {
	if h.Kind == KindTicket {
		t := &knownTicket{}
		if err := DecodeBody(body, &t.body); err != nil {
			return err
		}
		var bound TicketBound
		if err := json.Unmarshal([]byte(t.body.Bound), &bound); err != nil {
			return fmt.Errorf("what the ticket covers cannot be read: %w", err)
		}
		if len(bound.Config) >= digestPrefix {
			t.policy = d.policies[bound.Config[:digestPrefix]]
		}
		if d.tickets == nil {
			d.tickets = make(map[ID]*knownTicket)
		}
		d.tickets[h.Session] = t
		d.mayStand(t)
		if t.policy == nil || t.policy.Policy == nil {
			d.skip(missingPolicy)
			return nil
		}
		if err := t.policy.Ticket(&t.body, &bound); err != nil {
			return err
		}
		if q, missing := beyond(d.held[h.Session], t.body.Requires); missing {
			return fmt.Errorf("the ticket does not ask for what rule %s asks for, which holds the request", q)
		}
		return nil
	}
	if h.Kind == KindRelease {
		return d.release(h, body)
	}
	var r Ruling
	if err := DecodeBody(body, &r); err != nil {
		return err
	}
	t, when := d.tickets[h.Session], h.Time
	if h.Session.IsZero() {
		t = d.standing[r.Ticket]
	}
	if t == nil || t.policy == nil || t.policy.Policy == nil {
		d.skip(missingPolicy)
		return nil
	}
	repeated := t.body.Resubmitted && !r.At.IsZero()
	if repeated {
		when = r.At
	}
	err := t.policy.Ruling(&t.body, &r, when)
	if err != nil && d.latest != nil && d.latest != t.policy && d.latest.Policy != nil {
		err = d.latest.Ruling(&t.body, &r, when) // people may have been named since the ticket was opened
	}
	if err != nil {
		return fmt.Errorf("the ruling by %s: %w", r.Person, err)
	}
	if !repeated {
		d.rulings++
	}
	return nil
}

// release checks that a statement of a list is let through by what holds it.
func (d *decisions) release(h *Header, body []byte) error {
	var r Release
	if err := DecodeBody(body, &r); err != nil {
		return err
	}
	t := d.tickets[h.Session]
	if r.Position == 0 || t == nil {
		return nil
	}
	if q, missing := beyond(d.held[h.Session], t.body.Requires); missing {
		return fmt.Errorf("statement %d is held by rule %s too, which nobody was asked for", r.Position, q)
	}
	return nil
}

// beyond returns a rule that holds a request and that a ticket does not ask for.
func beyond(holds, asked []Approvers) (rule string, missing bool) {
	for _, q := range holds {
		if !slices.ContainsFunc(asked, func(a Approvers) bool { return a.Rule == q.Rule }) {
			return q.Rule, true
		}
	}
	return "", false
}

func decided(decision, rule, code string) string {
	s := decision + " by rule " + rule
	if code == codeApproval {
		s = "held by rule " + rule
	}
	return s
}

func (d *decisions) skip(why string) {
	if d.left == nil {
		d.left = make(map[string]uint64)
	}
	d.left[why]++
}

// EachRequest gives every request of agents that a package discloses, in order, without verifying anything. It ends at
// fn's first error. Limits are as in Options.
func EachRequest(r io.ReaderAt, size int64, l Limits, fn func(*Request) error) (left map[string]uint64, err error) {
	c, err := openContainer(r, size, l.withDefaults())
	if err != nil {
		return nil, err
	}
	v := &verifier{c: c}
	headers, err := c.lines(fileHeaders)
	if err != nil {
		return nil, err
	}
	defer headers.close()
	bodies, err := v.bodyLines()
	if err != nil {
		return nil, err
	}
	defer bodies.lines.close()
	d := decisions{}
	for {
		line, err := headers.next()
		if errors.Is(err, io.EOF) {
			return d.left, nil
		}
		if err != nil {
			return nil, err
		}
		h, err := ParseHeader(line)
		if err != nil {
			return nil, err
		}
		body, err := bodies.at(h.Index)
		if err != nil {
			return nil, err
		}
		if h.Session.IsZero() {
			continue
		}
		var text []byte
		if body != nil {
			text = body.Body
		}
		q, missing, err := d.tracker.entry(&h, text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("entry %d: %w", h.Index, err)
		case missing != "":
			d.skip(missing)
		case q != nil:
			if err := fn(q); err != nil {
				return nil, err
			}
		}
	}
}
