package enforce

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/secret"
)

// Opening is what an engine learned from an agent's opening handshake.
type Opening struct {
	Token    secret.String
	Target   string
	Role     string
	Database string // "" means the target's own default
	Source   string // the agent's address
	Listener string // the listener's address
	// Detail is a JSON object with the protocol's own particulars, or nil.
	Detail []byte
}

// Session is one authenticated downstream connection. Its entries are in the
// book from before the target is dialled until after the last frame.
type Session struct {
	gate    *Gate
	rec     SessionRecorder
	snap    *Snapshot
	target  *Target
	role    Role
	source  string
	roleKey string
	// database is what the agent named, or the target's own default.
	database string
	origin   string // "gateway" for the gateway's own sessions
	purpose  string // of those
	// principalID is "issuer|name", the same for as long as the session lives.
	principalID string
	began       time.Time
	ctx         context.Context // the session's lifetime; its cause says why it ended
	cancel      context.CancelCauseFunc
	giveUp      []func()               // places to give back
	budget      *budget                // of the principal, shared by its sessions
	token       atomic.Pointer[[]byte] // the signature part of the token in force

	active atomic.Int64 // unix nanoseconds of the last begin or end of an exchange

	decisions decisions
	masks     atomic.Pointer[maskSet]

	mu        sync.Mutex
	principal *access.Principal
	open      map[uint64]*Exchange
	last      uint64 // exchange numbers given
	bytes     uint64
	expired   bool
	waiting   bool  // a request is held
	list      *list // approved and not over
	expiry    *time.Timer
	idle      *time.Timer
	closed    bool
}

// errForbidden is one and the same for targets that do not exist and targets
// that this identity may not use.
func errForbidden(target, role string, cause error) *access.DenyError {
	return &access.DenyError{
		Code: access.CodeForbidden, Rule: "target.allow", Cause: cause,
		Reason: fmt.Sprintf("target %q with role %q is unknown or not allowed for this identity",
			shorten(target, 64), shorten(role, 64)),
		Hint: "Ask the operator which targets and roles your groups may use.",
	}
}

// Open admits a session: it verifies the token, decides whether the principal
// may use the target in that role, waits for a place, and makes the session's
// entries durable. A refusal is an *access.DenyError and already recorded. The
// session lives until ctx ends, the identity expires, an operator ends it, or Close.
func (g *Gate) Open(ctx context.Context, o Opening) (*Session, error) {
	s, err := g.open(ctx, &o)
	if err == nil {
		return s, nil
	}
	var deny *access.DenyError
	if !errors.As(err, &deny) {
		deny = errClosed(err)
	}
	return nil, deny
}

func (g *Gate) open(ctx context.Context, o *Opening) (*Session, error) {
	refused := evidence.Refused{
		What: "login", Source: o.Source, Listener: o.Listener,
		Target: shorten(o.Target, 64), Role: shorten(o.Role, 64),
	}
	refuse := func(err error) (*Session, error) {
		g.Refuse(ctx, refused, err)
		return nil, err
	}
	if err := g.Err(); err != nil {
		var deny *access.DenyError
		if errors.As(err, &deny) {
			return refuse(deny)
		}
		return refuse(errClosed(err))
	}
	v, err := g.verifier.Verify(ctx, o.Token)
	if err != nil {
		return refuse(err)
	}
	refused.Actor = v.Principal.ID()
	g.mu.Lock()
	kept := g.suspension(refused.Actor)
	g.mu.Unlock()
	if kept != nil {
		return refuse(kept)
	}
	snap := g.snap.Load()
	t, role, err := snap.Admit(&v.Principal, o.Target, o.Role)
	if err != nil {
		return refuse(err)
	}
	s := &Session{
		gate: g, snap: snap, target: t, role: role, roleKey: o.Role, source: o.Source, database: orElse(o.Database, t.Database),
		principalID: v.Principal.ID(), began: time.Now(), principal: &v.Principal, open: make(map[uint64]*Exchange), budget: g.budgets.of(v.Principal.ID()),
	}
	s.keepToken(v.Token)
	if deny := s.budget.check(time.Now(), snap); deny != nil {
		return refuse(deny)
	}
	if err := s.takePlaces(ctx); err != nil {
		return refuse(err)
	}
	if err := s.record(ctx, v, o); err != nil {
		s.giveBack()
		return refuse(errClosed(err))
	}
	if err := s.start(ctx); err != nil {
		s.giveBack()
		return refuse(err)
	}
	return s, nil
}

// System opens a session of the gateway's own to a target, for a purpose such
// as "probe". Its statements are recorded like an agent's, with origin "gateway".
func (g *Gate) System(ctx context.Context, target, role, purpose string) (*Session, error) {
	snap := g.snap.Load()
	t := snap.Targets[target]
	if t == nil {
		return nil, fmt.Errorf("no target named %q in the configuration", target)
	}
	r, ok := t.Roles[role]
	if !ok {
		return nil, fmt.Errorf("target %q has no role named %q", target, role)
	}
	s := &Session{
		gate: g, snap: snap, target: t, role: r, roleKey: role, origin: "gateway", purpose: purpose,
		began: time.Now(), open: make(map[uint64]*Exchange), budget: g.budgets.of("gateway|gateway"),
		principal: &access.Principal{Issuer: "gateway", Name: "gateway", Subject: "gateway"},
	}
	if err := s.record(ctx, &Verified{Principal: *s.principal}, &Opening{}); err != nil {
		return nil, errClosed(err)
	}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Admit finds the target and role if the principal may use them. All refusals look alike.
func (s *Snapshot) Admit(p *access.Principal, target, role string) (*Target, Role, error) {
	t := s.Targets[target]
	if t == nil {
		return nil, Role{}, errForbidden(target, role, errors.New("no such target"))
	}
	r, ok := t.Roles[role]
	if !ok {
		return nil, Role{}, errForbidden(target, role, errors.New("no such role"))
	}
	if !p.InAny(t.Allow) || (r.Allow != nil && !p.InAny(r.Allow)) {
		return nil, Role{}, errForbidden(target, role, fmt.Errorf("%s is in none of the allowed groups", p.ID()))
	}
	return t, r, nil
}

func (s *Session) takePlaces(ctx context.Context) error {
	patience := s.target.QueueTimeout
	give, err := s.gate.places.take(ctx, "target "+s.target.Name, s.target.Sessions, patience)
	if err != nil {
		return err
	}
	s.giveUp = append(s.giveUp, give)
	give, err = s.gate.places.take(ctx, "principal "+s.principal.ID(), s.snap.PrincipalSessions, patience)
	if err != nil {
		s.giveBack()
		return err
	}
	s.giveUp = append(s.giveUp, give)
	return nil
}

func (s *Session) giveBack() {
	for _, give := range s.giveUp {
		give()
	}
	s.giveUp = nil
}

// record opens the session in the book and waits until its entries are durable.
func (s *Session) record(ctx context.Context, v *Verified, o *Opening) error {
	rec, err := s.gate.rec.OpenSession(&v.Principal, &s.target.Target)
	if err != nil {
		return err
	}
	s.rec = rec
	p := &v.Principal
	body := evidence.Session{
		BootID: s.gate.rec.BootID().String(), Principal: s.principalBody(p),
		TokenID: p.TokenID, TokenExpiry: p.TokenExpiry, SessionEnd: p.SessionEnd, LifetimeRule: p.LifetimeRule,
		Target: evidence.Target{
			TargetID: rec.TargetID().String(), Name: s.target.Name, Protocol: string(s.target.Protocol),
			Address: s.target.Address, Labels: s.target.Labels,
		},
		Role: s.roleKey, Database: s.database, Rule: "target.allow", ConfigSHA256: s.snap.SHA256,
		Listener: o.Listener, Source: o.Source, Began: moment(s.began), Origin: s.origin, Detail: o.Detail,
	}
	if s.origin != "" {
		body.Rule, body.Purpose = "gateway", s.purpose
	} else {
		body.TokenSHA256 = tokenDigest(v.Token)
	}
	receipt, err := rec.Append(audit.New(evidence.KindSession, &body))
	if err == nil && s.origin == "" {
		receipt, err = rec.Append(audit.New(evidence.KindIdentity, s.identityBody(v, false)))
	}
	if err == nil {
		err = receipt.Wait(ctx)
	}
	if err != nil {
		rec.Close()
	}
	return err
}

// HoldsToken reports whether bytes of a request hold the session's own token,
// which belongs neither into the record nor to the target. It does not block.
func (s *Session) HoldsToken(b []byte) bool {
	sig := s.token.Load()
	return sig != nil && bytes.Contains(b, *sig)
}

// keepToken remembers what HoldsToken looks for: the signature alone, which no
// other text has by chance.
func (s *Session) keepToken(t secret.String) {
	text := t.Reveal()
	if i := strings.LastIndexByte(text, '.'); i >= 0 && len(text)-i > 16 {
		sig := []byte(text[i+1:])
		s.token.Store(&sig)
	}
}

func tokenDigest(t secret.String) string {
	d := sha256.Sum256([]byte(t.Reveal()))
	return hex.EncodeToString(d[:])
}

func (s *Session) principalBody(p *access.Principal) evidence.Principal {
	return evidence.Principal{
		ActorID: s.rec.ActorID().String(), Issuer: p.Issuer, IssuerURL: p.IssuerURL, Subject: p.Subject,
		Name: p.Name, Groups: p.Groups, Actor: p.Actor, Owner: p.Owner, Claims: p.Claims,
	}
}

func (s *Session) identityBody(v *Verified, renewal bool) *evidence.Identity {
	p := &v.Principal
	keys := json.RawMessage(v.KeySet)
	if !json.Valid(keys) {
		keys = json.RawMessage("null")
	}
	return &evidence.Identity{
		Issuer: p.Issuer, TokenSHA256: tokenDigest(v.Token), TokenExpiry: p.TokenExpiry,
		Token: v.Token.Reveal(), KeySet: keys, Renewal: renewal, Principal: s.principalBody(p),
		SessionEnd: p.SessionEnd, LifetimeRule: p.LifetimeRule,
	}
}

// start registers the session and arms its clocks.
func (s *Session) start(ctx context.Context) error {
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	g := s.gate
	g.mu.Lock()
	why := g.closing.Load()
	if why == nil {
		why = g.suspension(s.principalID) // in this moment
	}
	if why != nil {
		g.mu.Unlock()
		s.cancel(why)
		_ = s.end(why)
		return why
	}
	g.sessions[s.rec.ID()] = s
	g.mu.Unlock()
	s.active.Store(time.Now().UnixNano())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armExpiry()
	if d := s.target.IdleTimeout; d > 0 {
		s.idle = time.AfterFunc(d, s.checkIdle)
	}
	return nil
}

// armExpiry sets the clock to the identity's end. Callers hold s.mu.
func (s *Session) armExpiry() {
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.expired = false
	if s.principal.SessionEnd.IsZero() {
		return
	}
	s.expiry = time.AfterFunc(time.Until(s.principal.SessionEnd), s.expire)
}

func errExpired() *access.DenyError {
	return &access.DenyError{
		Code: access.CodeExpired, Rule: "expiry", Reason: "the identity of this session has expired",
		Hint: "Connect again with a fresh token.",
	}
}

// expire ends the session now if nothing runs, else after the drain time.
func (s *Session) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if time.Until(s.principal.SessionEnd) > 0 {
		// Renewed in the same moment, or the wall clock was set back.
		s.armExpiry()
		return
	}
	s.expired = true
	if len(s.open) == 0 {
		s.cancel(errExpired())
		return
	}
	if s.waiting {
		// What waits for a person has not begun.
		s.cancel(errExpired())
		return
	}
	if len(s.open) > 1 {
		// What is queued at the target behind the running exchange would begin
		// there after the expiry: the engine ends it all.
		s.cancel(errExpired())
		return
	}
	s.expiry = time.AfterFunc(s.snap.ExpiryDrain, func() {
		s.mu.Lock()
		over := s.expired
		s.mu.Unlock()
		if over {
			s.cancel(errExpired())
		}
	})
}

func (s *Session) checkIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	limit := s.target.IdleTimeout
	left := limit - time.Since(time.Unix(0, s.active.Load()))
	if len(s.open) > 0 {
		left = limit
	}
	if left <= 0 {
		s.cancel(&access.DenyError{
			Code: access.CodeEnded, Rule: "limits.idle_timeout", Reason: "the session was idle for too long",
		})
		return
	}
	s.idle.Reset(left)
}

// Context is the session's lifetime. Its cause is an *access.DenyError when
// the gateway ended the session (expiry, operator, shutdown).
func (s *Session) Context() context.Context { return s.ctx }

// ID returns the session's name in the book.
func (s *Session) ID() evidence.ID { return s.rec.ID() }

// Principal returns the identity in force.
func (s *Session) Principal() *access.Principal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.principal
}

// Role returns the name of the target's role that the session uses.
func (s *Session) Role() string { return s.roleKey }

// Target returns the target; its fields must not be changed.
func (s *Session) Target() *Target { return s.target }

// Renew prolongs the session with a fresh token of the same identity. The
// entry is durable when Renew returns nil. A refused token leaves the session as it was.
func (s *Session) Renew(ctx context.Context, token secret.String) error {
	old := s.Principal()
	v, err := s.gate.verifier.Renew(ctx, old, token)
	if err != nil {
		_, _ = s.Note("token-refused", "")
		return err
	}
	if !v.Principal.SessionEnd.After(old.SessionEnd) {
		return access.Deny(access.CodeIdentity, "the token does not outlive the one in force")
	}
	if _, _, err := s.gate.snap.Load().Admit(&v.Principal, s.target.Name, s.roleKey); err != nil {
		return err
	}
	// Its place in the book is where it begins to count. What is recorded behind it becomes durable after it.
	s.mu.Lock()
	receipt, err := s.rec.Append(audit.New(evidence.KindIdentity, s.identityBody(v, true)))
	if err == nil {
		s.principal = &v.Principal
		s.keepToken(token)
		if !s.closed {
			s.armExpiry()
		}
	}
	s.mu.Unlock()
	if err == nil {
		err = receipt.Wait(ctx)
	}
	if err != nil {
		return errClosed(err)
	}
	return nil
}

// Upstream is a fresh connection to the session's target and what is needed to
// log in there. The engine closes Conn.
type Upstream struct {
	Conn         net.Conn
	Address      string
	User         string
	Password     secret.String
	TLS          TargetTLS
	InsecureAuth []string
}

// Dial connects to the target. The credential is read anew.
func (s *Session) Dial(ctx context.Context) (*Upstream, error) {
	u := &Upstream{Address: s.target.Address, User: s.role.User, TLS: s.target.TLS, InsecureAuth: s.target.InsecureAuth}
	if s.role.Password != nil {
		var err error
		if u.Password, err = s.role.Password(); err != nil {
			return nil, errUpstream(err)
		}
	}
	conn, err := s.gate.dialer.DialContext(ctx, "tcp", s.target.Address)
	if err != nil {
		return nil, errUpstream(err)
	}
	u.Conn = conn
	return u, nil
}

// Cancel connects to the target for a request that does nothing but cancel
// what runs; it hands out no credential.
func (s *Session) Cancel(ctx context.Context) (*Upstream, error) {
	conn, err := s.gate.dialer.DialContext(ctx, "tcp", s.target.Address)
	if err != nil {
		return nil, errUpstream(err)
	}
	return &Upstream{Conn: conn, Address: s.target.Address, TLS: s.target.TLS}, nil
}

func errUpstream(cause error) *access.DenyError {
	return &access.DenyError{
		Code: access.CodeUpstream, Rule: "target", Cause: cause, Reason: "the target cannot be reached",
		Hint: "Tell the operator: gatebook check says what is wrong.",
	}
}

// Reached records that the session is connected to its target.
func (s *Session) Reached(u *Upstream, detail []byte) (Receipt, error) {
	body := evidence.Upstream{
		Address: u.Conn.RemoteAddr().String(), LocalAddress: u.Conn.LocalAddr().String(), User: u.User, Detail: detail,
	}
	return s.append(audit.New(evidence.KindUpstream, &body))
}

// Note records something the gateway did or saw in the session.
func (s *Session) Note(what, detail string) (Receipt, error) {
	return s.append(audit.New(evidence.KindNote, &evidence.Note{What: what, Detail: detail}))
}

// Cancelled records a cancel of what runs.
func (s *Session) Cancelled(by, source, effect string) (Receipt, error) {
	return s.append(audit.New(evidence.KindCancel, &evidence.Cancel{By: by, Source: source, Effect: effect}))
}

// Unasked records frames that the target sent without a request (notices,
// parameter changes, notifications), under exchange 0. They may be released
// once the receipt has resolved. At most 128 KiB at a time.
func (s *Session) Unasked(frames []byte) (Receipt, error) {
	var meta [32]byte
	return s.append(&audit.Event{Kind: evidence.KindAnswer, Meta: audit.AppendChunk(meta[:0], 0, nil, nil), Raw: frames})
}

func (s *Session) append(e *audit.Event) (Receipt, error) {
	r, err := s.rec.Append(e)
	if err != nil {
		return nil, errClosed(err)
	}
	return r, nil
}

func (s *Session) info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Info{
		ID: s.rec.ID(), Principal: s.principal.ID(), Target: s.target.Name, Role: s.roleKey, Source: s.source,
		Began: s.began, Exchanges: s.last, Running: len(s.open), End: s.principal.SessionEnd,
	}
}

// Close ends the session in the book: every open exchange gets its outcome,
// and the session its end. cause nil means that the agent left in order. The
// engine calls it once, after both pumps ended; it waits until the entries are
// durable, at most a few seconds.
func (s *Session) Close(cause error) error {
	s.cancel(cause)
	defer s.giveBack()
	err := s.end(cause)
	// Only now: a shutdown closes the book when no session is left.
	s.gate.mu.Lock()
	delete(s.gate.sessions, s.rec.ID())
	s.gate.mu.Unlock()
	return err
}

func (s *Session) end(cause error) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for _, t := range []*time.Timer{s.expiry, s.idle} {
		if t != nil {
			t.Stop()
		}
	}
	left := make([]*Exchange, 0, len(s.open))
	for n := uint64(1); n <= s.last && len(left) < len(s.open); n++ {
		if x := s.open[n]; x != nil {
			left = append(left, x)
		}
	}
	s.mu.Unlock()

	why := "agent closed the connection"
	if cause != nil {
		why = shorten(cause.Error(), 500)
	}
	for _, x := range left {
		x.abandon(why)
	}
	s.mu.Lock()
	body := evidence.SessionEnd{
		Cause: why, Exchanges: s.last, Bytes: s.bytes, Seconds: int64(time.Since(s.began).Seconds()),
	}
	s.mu.Unlock()
	e := audit.NewClosing(evidence.KindSessionEnd, &body)
	receipt, err := s.append(e)
	if err == nil {
		// The connection's own context may be over; the book's entry still counts.
		ctx, stop := context.WithTimeout(context.WithoutCancel(s.ctx), 5*time.Second)
		defer stop()
		err = receipt.Wait(ctx)
	}
	s.rec.Close()
	return err
}
