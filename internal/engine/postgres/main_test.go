package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
	"github.com/gatebook/gatebook/internal/testkit/pgserver"
)

// server is the real PostgreSQL that the tests of this package share.
var server *pgserver.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = pgserver.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, err = server.PSQL("postgres", `CREATE ROLE agent LOGIN PASSWORD 'upstream-secret'; GRANT CREATE ON DATABASE postgres TO agent;
		CREATE DATABASE bench OWNER agent; ALTER DATABASE postgres OWNER TO agent;`)
	code := 1
	if err == nil {
		code = m.Run()
	}
	if stopErr := server.Stop(); err == nil {
		err = stopErr
	}
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// signedToken is a token of the form that real ones have.
const signedToken = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.QW55IHNpZ25hdHVyZSBvZiB0aGUgbGVuZ3RoIHRoYXQgRVMyNTYgc2lnbmF0dXJlcyBoYXZlLCBuYW1lbHkgNjQ"

// tokens is a verifier that knows its tokens by heart: "agents" and signedToken are in group
// agents, "others" in none, "short" expires soon.
type tokens struct {
	mu  sync.Mutex
	ttl time.Duration
}

func (v *tokens) Verify(_ context.Context, t secret.String) (*enforce.Verified, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := access.Principal{
		Issuer: "test", IssuerURL: "https://issuer.test", Subject: t.Reveal(), Name: t.Reveal(),
		TokenExpiry: time.Now().Add(time.Hour), LifetimeRule: access.LifetimeToken,
	}
	switch t.Reveal() {
	case "agents":
		p.Groups = []string{"agents"}
	case signedToken:
		p.Groups = []string{"agents"}
		p.Name, p.Subject = "signed", "signed"
	case "others":
	case "short", "short2":
		p.Groups = []string{"agents"}
		p.Name, p.Subject = "short", "short"
		p.TokenExpiry = time.Now().Add(v.ttl)
	default:
		return nil, access.Deny(access.CodeIdentity, "the token was not accepted")
	}
	p.SessionEnd = p.TokenExpiry
	return &enforce.Verified{Principal: p, Token: t, KeySet: []byte(`{"keys":[]}`)}, nil
}

func (v *tokens) Renew(ctx context.Context, old *access.Principal, t secret.String) (*enforce.Verified, error) {
	got, err := v.Verify(ctx, t)
	if err == nil && got.Principal.Subject != old.Subject {
		return nil, access.Deny(access.CodeIdentity, "another identity")
	}
	return got, err
}

// harness is a gate with an engine in front of the real server.
type harness struct {
	t      testing.TB
	rec    *memrec.Recorder
	gate   *enforce.Gate
	driver *Driver
	addr   string
	ca     *x509.CertPool
	tokens *tokens
}

type option func(*enforce.Target, *engine.Listener, *engine.Limits)

func start(t *testing.T, opts ...option) *harness {
	t.Helper()
	return startTB(t, opts...)
}

func startTB(t testing.TB, opts ...option) *harness {
	t.Helper()
	return startGate(t, &enforce.Options{}, opts...)
}

// startGate is start with some of the gate's options given.
func startGate(t testing.TB, o *enforce.Options, opts ...option) *harness {
	t.Helper()
	cert, pool, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, rec: memrec.New(), ca: pool, tokens: &tokens{ttl: time.Second}}
	serverCA, err := os.ReadFile(server.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(serverCA)
	target := &enforce.Target{
		Target: access.Target{Name: "orders", Protocol: access.Postgres, Address: server.Address()},
		Allow:  []string{"agents"}, Database: "postgres",
		Roles: map[string]enforce.Role{"default": {User: "agent", Password: func() (secret.String, error) {
			return secret.New("upstream-secret"), nil
		}}},
		TLS: enforce.TargetTLS{Mode: "verify-full", Config: func() (*tls.Config, error) {
			return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}, nil
		}},
	}
	l := &engine.Listener{Auth: "password", TLS: func() (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
	}}
	limits := engine.Limits{}
	for _, o := range opts {
		o(target, l, &limits)
	}
	o.Verifier, o.Recorder, o.Dialer = h.tokens, h.rec, &net.Dialer{}
	o.Snapshot = &enforce.Snapshot{
		SHA256: strings.Repeat("ab", 32), Targets: map[string]*enforce.Target{"orders": target}, ExpiryDrain: 2 * time.Second, Policy: anything{},
	}
	h.gate = enforce.New(*o)
	h.driver = New(engine.Config{Gate: h.gate, Limits: limits, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	h.driver.unresolved = true
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr, l.Address = ln.Addr().String(), ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				err := h.driver.ServeConn(ctx, nc, l)
				_ = nc.Close()
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Logf("connection: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		cancel()
		wg.Wait()
	})
	return h
}

// url returns a connection string through the gateway.
func (h *harness) url(token, database string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%s user=default password=%s dbname=%s sslmode=require",
		h.addr[strings.LastIndexByte(h.addr, ':')+1:], token, database)
}

func (h *harness) connect(token string) *pgx.Conn {
	h.t.Helper()
	ctx, stop := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer stop()
	c, err := pgx.Connect(ctx, h.url(token, "orders"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close(context.WithoutCancel(ctx)) })
	return c
}

// exchange is what the book says of one exchange of the agent's.
type exchange struct {
	n       uint64
	intent  evidence.Intent
	deny    bool
	outcome *evidence.Outcome
	answer  []byte
	request []byte
}

// book returns the exchanges recorded so far, in order, and checks pairing:
// every outcome has its intent before it, and at most one.
func (h *harness) book() []*exchange {
	h.t.Helper()
	var all []*exchange
	byKey := make(map[string]*exchange)
	for _, e := range h.rec.Entries() {
		key := fmt.Sprint(e.Session, e.Exchange)
		x := byKey[key]
		switch e.Kind {
		case evidence.KindIntent:
			if x != nil {
				h.t.Errorf("two intents for exchange %s", key)
			}
			x = &exchange{n: e.Exchange, deny: e.Decision == "deny"}
			if err := evidence.DecodeBody(e.Meta, &x.intent); err != nil {
				h.t.Fatalf("intent %s: %v in %s", key, err, e.Meta)
			}
			byKey[key] = x
			all = append(all, x)
		case evidence.KindOutcome:
			if x == nil || x.outcome != nil {
				h.t.Fatalf("outcome without intent, or second outcome, for exchange %s", key)
			}
			x.outcome = new(evidence.Outcome)
			if err := evidence.DecodeBody(e.Meta, x.outcome); err != nil {
				h.t.Fatal(err)
			}
			x.answer = append(x.answer, e.Raw...)
		case evidence.KindAnswer:
			if e.Exchange != 0 {
				x.answer = append(x.answer, e.Raw...)
			}
		case evidence.KindRequest:
			x.request = append(x.request, e.Raw...)
		}
	}
	return all
}

// agents returns the exchanges that are not the gateway's own.
func (h *harness) agents() []*exchange {
	h.t.Helper()
	var list []*exchange
	for _, x := range h.book() {
		if x.intent.Origin == "" {
			list = append(list, x)
		}
	}
	return list
}

// anything is a policy that allows everything.
type anything struct{}

func (anything) Decide(*access.Request) access.Decision {
	return access.Decision{Verdict: access.Allow, Rule: "anything"}
}

func (anything) Reads() enforce.Reads { return enforce.Reads{} }
