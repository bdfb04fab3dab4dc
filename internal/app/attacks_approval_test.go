package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/testkit/browser"
	"github.com/gatebook/gatebook/internal/testkit/forge"
	"github.com/gatebook/gatebook/internal/testkit/idp"
)

const consoleConfig = `
console: {address: "127.0.0.1:0", issuer: corp, client_secret: "file:secrets/console", insecure_plaintext: true}
owners: [{principal: "ci|worker", person: ana}]
people:
  - {person: ana, groups: [dba], identities: ["corp|ana"]}
  - {person: ben, groups: [dba], identities: ["corp|ben", "ci|ben"]}
  - {person: cleo, groups: [dev], identities: ["corp|cleo"]}
  - {person: dora, groups: [dba], identities: ["corp|dora"]}
  - {person: weak, groups: [dba], identities: ["corp|weak"]}
  - {person: late, groups: [dba], identities: ["corp|late"]}
`

const holdPolicy = `rules:
  - {name: all, when: 'true', then: allow}
  - name: deletes
    when: '"DELETE" in action.verbs'
    then: hold
    reason: Deleting needs a second person.
    approvers: {groups: [dba], within: 2m, in_transaction: 1m%s}
`

// corp is the issuer at which people sign in.
func corp(p *place) string {
	return fmt.Sprintf("issuers: [{name: corp, for: people, url: %q, audience: %s, development: true, allow_loopback: true, insecure_http: true}]\n", p.issuer.URL(), idp.Console)
}

// desk is a gateway with a page, a table, and an agent whose requests wait.
type desk struct {
	*gateway
	t     *testing.T
	place *place
	table string
	agent *pgx.Conn
}

func newDesk(t *testing.T, approvers string) *desk {
	t.Helper()
	d := &desk{t: t, place: newPlace(t, consoleConfig), table: fmt.Sprintf("held%d", time.Now().UnixNano())}
	d.place.write(t, "secrets/console", idp.ConsoleSecret)
	d.place.write(t, "targets.d/corp.yaml", corp(d.place))
	d.place.write(t, "policy.yaml", fmt.Sprintf(holdPolicy, approvers))
	if _, err := database.PSQL("postgres", fmt.Sprintf("CREATE TABLE %[1]s (id int, note text); GRANT ALL ON %[1]s TO agent; INSERT INTO %[1]s SELECT n, 'note' FROM generate_series(1, 9) n", d.table)); err != nil {
		t.Fatal(err)
	}
	d.gateway = d.place.start(t)
	d.agent = d.connect("worker")
	return d
}

func (d *desk) connect(name string) *pgx.Conn {
	d.t.Helper()
	c, err := connect(d.t.Context(), d.Addresses()[0].Address, d.place.issuer.Token(d.t, name, "agents"))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// hold asks for a deletion and returns the ticket and what will come of it.
func (d *desk) hold(c *pgx.Conn, id int) (*admin.Ticket, chan error) {
	d.t.Helper()
	known := map[string]bool{}
	for _, t := range d.tickets() {
		known[t.ID] = true
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.Background(), fmt.Sprintf("DELETE FROM %s WHERE id = $1", d.table), id)
		done <- err
	}()
	for until := time.Now().Add(15 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		for _, t := range d.tickets() {
			if !known[t.ID] {
				return t, done
			}
		}
	}
	d.t.Fatal("nothing waits")
	return nil, nil
}

func (d *desk) tickets() (list []*admin.Ticket) {
	d.t.Helper()
	if err := d.client(d.t).Call(d.t.Context(), http.MethodGet, "/v1/tickets", nil, &list); err != nil {
		d.t.Fatal(err)
	}
	return list
}

func (d *desk) ticket(id string) *admin.Ticket {
	d.t.Helper()
	var t admin.Ticket
	if err := d.client(d.t).Call(d.t.Context(), http.MethodGet, "/v1/tickets/"+id, nil, &t); err != nil {
		d.t.Fatal(err)
	}
	return &t
}

func (d *desk) state(id, want string) {
	d.t.Helper()
	if t := d.ticket(id); t.State != want {
		d.t.Errorf("ticket %s is %s (%s), want %s", id, t.State, t.Cause, want)
	}
}

func (d *desk) count(want int, where string) {
	d.t.Helper()
	out, err := database.PSQL("postgres", "SELECT count(*) FROM "+d.table+" WHERE "+where)
	if err != nil || strings.TrimSpace(out) != fmt.Sprint(want) {
		d.t.Errorf("%s rows where %s, want %d; %v", strings.TrimSpace(out), where, want, err)
	}
}

func (d *desk) page(id string) string { return d.ConsoleURL() + "/tickets/" + id }

// signedIn returns a person's browser.
func (d *desk) signedIn(person string) *browser.Browser {
	d.t.Helper()
	b := browser.New()
	if err := b.SignIn(d.ConsoleURL()+"/tickets", person); err != nil {
		d.t.Fatal(err)
	}
	if b.Status != http.StatusOK || b.URL.Path != "/tickets" {
		d.t.Fatalf("%s is not signed in: %d\n%s", person, b.Status, b.Page)
	}
	return b
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// TestRuleFromThePage: a person rules in a browser, and the token of that sign-in proves it in the package.
func TestRuleFromThePage(t *testing.T) {
	d := newDesk(t, ", acr: ['urn:example:mfa'], amr: [otp], max_auth_age: 5m")
	ticket, done := d.hold(d.agent, 1)
	// Who signed in too weakly, or too long ago, is told so and changes nothing.
	for person, why := range map[string]string{"weak": "asks for a sign-in of the class", "late": "asks for a sign-in of the last 5m0s"} {
		b := d.signedIn(person)
		d.must(b.Rule(d.page(ticket.ID), person, "approve", ""))
		if b.Status != http.StatusUnprocessableEntity || !strings.Contains(b.Page, why) {
			t.Errorf("%s: %d\n%s", person, b.Status, b.Page)
		}
		d.state(ticket.ID, "open")
	}
	ben := d.signedIn("ben")
	d.must(ben.Rule(d.page(ticket.ID), "ben", "approve", "a <i>duplicate</i>"))
	if ben.Status != http.StatusOK || !strings.Contains(ben.Page, "a &lt;i&gt;duplicate") {
		t.Errorf("%d\n%s", ben.Status, ben.Page)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	d.count(0, "id = 1")
	keys, err := LoadKeys(d.place.config(t))
	d.must(err)
	_, pkg := export(t, d.client(t), keys, admin.ExportRequest{})
	if got := verifyAgain(t, pkg, keys); got.Failed() || !strings.Contains(got.Decisions, "1 ruling") {
		t.Errorf("decisions %q, problems %v", got.Decisions, got.Problems)
	}
	if body := d.shown(ticket); strings.Contains(body, "eyJ") || !strings.Contains(body, "[withheld]") {
		t.Errorf("a token leaves the book: %s", body)
	}
	d.end(t)
	// A token of another ruling, of another person, or a weaker one, is noticed although everything is signed anew.
	for name, edit := range map[string]forge.Edit{
		"another's name": replaced(evidence.KindRuling, `"person":"ben","identity":"corp|ben"`, `"person":"dora","identity":"corp|dora"`),
		"another random": replaced(evidence.KindRuling, `"random":"`, `"random":"A`),
		"weaker rule":    replaced(evidence.KindTicket, `"max_auth_age":300`, `"max_auth_age":900`),
	} {
		forged, n, err := forge.Forge(pkg, filepath.Join(d.place.dir, "keys"), edit)
		d.must(err)
		if got := verifyAgain(t, forged, keys); n == 0 || !got.Failed() {
			t.Errorf("%s: %d bodies changed, not noticed", name, n)
		}
	}
}

// shown returns what an operator reads of a ticket's session.
func (d *desk) shown(ticket *admin.Ticket) string {
	d.t.Helper()
	covers, err := ticket.Covers()
	d.must(err)
	var all strings.Builder
	d.must(d.client(d.t).Lines(d.t.Context(), http.MethodGet, "/v1/sessions/"+covers.Session, nil, func(raw json.RawMessage) error {
		all.Write(raw)
		return nil
	}))
	return all.String()
}

// TestAP07Persons: the person behind the agent does not rule, whatever the form says; nor does a person of another group, nor one who signs in as another for the ruling.
func TestAP07Persons(t *testing.T) {
	d := newDesk(t, "")
	ticket, done := d.hold(d.agent, 1)
	for _, person := range []string{"ana", "cleo"} {
		b := d.signedIn(person)
		d.must(b.Open(d.page(ticket.ID)))
		switch person {
		case "ana": // it is her own: she sees it, without a form
			if b.Status != http.StatusOK || strings.Contains(b.Page, "/rule") {
				t.Errorf("ana sees %d\n%s", b.Status, b.Page)
			}
		case "cleo": // it is none of hers
			if b.Status != http.StatusNotFound {
				t.Errorf("cleo sees %d\n%s", b.Status, b.Page)
			}
		}
		csrf, _, err := b.Form("/sign-out")
		d.must(err)
		if err := b.Post(d.page(ticket.ID)+"/rule", url.Values{"csrf": csrf["csrf"], "digest": {ticket.Digest}, "verdict": {"approve"}}); err == nil && b.Status == http.StatusOK {
			if err := b.At(person); err == nil {
				_ = b.Submit("/callback", nil)
			}
		}
		d.state(ticket.ID, "open")
	}
	// ben's page, and ana says at the issuer who rules.
	b := d.signedIn("ben")
	d.must(b.Rule(d.page(ticket.ID), "ana", "approve", ""))
	if b.Status == http.StatusOK || !strings.Contains(b.Page, "as another") {
		t.Errorf("%d\n%s", b.Status, b.Page)
	}
	d.must(b.Rule(d.page(ticket.ID), "stranger", "approve", ""))
	if b.Status == http.StatusOK || !strings.Contains(b.Page, "nobody of the configuration") {
		t.Errorf("%d\n%s", b.Status, b.Page)
	}
	d.state(ticket.ID, "open")
	d.must(b.Rule(d.page(ticket.ID), "ben", "deny", "no"))
	d.state(ticket.ID, "denied")
	<-done
	d.count(1, "id = 1")
}

// TestAP08AgentsNeverRule: tokens of agents open nothing, also one whose name a person's list has.
func TestAP08AgentsNeverRule(t *testing.T) {
	d := newDesk(t, "")
	ticket, done := d.hold(d.agent, 1)
	statement := approval.Statement(ticket.ID, ticket.Digest, approval.Approve, "")
	nonce, err := approval.Nonce(statement, strings.Repeat("a", 26))
	d.must(err)
	agent := func(claims idp.Claims) string {
		return d.place.issuer.Sign(t, idp.With(d.place.issuer.Agent("ben", "agents", "dba"), claims), nil)
	}
	for name, token := range map[string]string{
		"an agent's":                 d.place.issuer.Token(t, "worker", "agents", "dba"),
		"one named as a person":      agent(nil),
		"with a nonce":               agent(idp.Claims{"nonce": nonce, "auth_time": time.Now().Unix()}),
		"for both":                   agent(idp.Claims{"aud": []string{idp.Audience, idp.Console}, "azp": idp.Audience, "nonce": nonce}),
		"no token":                   "",
		"a person's for another use": d.place.issuer.Sign(t, idp.With(d.place.issuer.Agent("ben"), idp.Claims{"aud": idp.Console, "events": idp.Claims{}}), nil),
	} {
		for _, r := range []struct{ method, path, body string }{
			{"GET", "/v1/tickets", ""}, {"GET", "/v1/tickets/" + ticket.ID, ""}, {"GET", "/v1/watch/tickets", ""}, {"GET", "/v1/sessions", ""},
			{"POST", "/v1/tickets/" + ticket.ID + "/rule", `{"statement":` + quoted(statement) + `,"token":` + quoted(token) + `,"random":"` + strings.Repeat("a", 26) + `"}`},
		} {
			if status, body := d.http(r.method, r.path, token, r.body); status != http.StatusUnauthorized {
				t.Errorf("%s: %s %s: %d %s", name, r.method, r.path, status, body)
			}
		}
		// The same in the hands of an operator, who may carry a ruling and not make one.
		err := d.client(t).Call(t.Context(), http.MethodPost, "/v1/tickets/"+ticket.ID+"/rule", admin.RuleRequest{Statement: statement, Token: token, Random: strings.Repeat("a", 26)}, &admin.Ticket{})
		if err == nil {
			t.Errorf("%s: it rules", name)
		}
	}
	d.state(ticket.ID, "open")
	// A person's own token reads what concerns the person, and no more than tickets.
	bens := d.place.issuer.Sign(t, idp.With(d.place.issuer.Agent("ben"), idp.Claims{"aud": idp.Console}), nil)
	if status, body := d.http("GET", "/v1/tickets/"+ticket.ID, bens, ""); status != http.StatusOK || !strings.Contains(body, ticket.Digest) {
		t.Errorf("ben's token: %d %s", status, body)
	}
	for _, path := range []string{"/v1/sessions", "/v1/status", "/v1/query", "/v1/export", "/v1/checkpoint"} {
		if status, _ := d.http("GET", path, bens, ""); status == http.StatusOK {
			t.Errorf("a person reaches %s", path)
		}
	}
	cleos := d.place.issuer.Sign(t, idp.With(d.place.issuer.Agent("cleo"), idp.Claims{"aud": idp.Console}), nil)
	if status, _ := d.http("GET", "/v1/tickets/"+ticket.ID, cleos, ""); status != http.StatusNotFound {
		t.Errorf("cleo sees a ticket that is none of hers: %d", status)
	}
	// One that was made for reading proves no ruling.
	if status, body := d.http("POST", "/v1/tickets/"+ticket.ID+"/rule", bens, `{"statement":`+quoted(statement)+`,"token":`+quoted(bens)+`,"random":"`+strings.Repeat("a", 26)+`"}`); status == http.StatusOK {
		t.Errorf("a token without a nonce rules: %s", body)
	}
	d.state(ticket.ID, "open")
	d.agent.Close(t.Context())
	<-done
}

func quoted(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// http asks the page's address as a program does.
func (d *desk) http(method, path, token, body string) (int, string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, d.ConsoleURL()+path, strings.NewReader(body))
	d.must(err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	d.must(err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	d.must(err)
	return resp.StatusCode, string(text)
}

// TestAP13NoGETChanges: whatever is fetched, also the whole way of a ruling up to its last button, decides nothing.
func TestAP13NoGETChanges(t *testing.T) {
	d := newDesk(t, "")
	ticket, done := d.hold(d.agent, 1)
	b := d.signedIn("ben")
	d.must(b.Open(d.page(ticket.ID)))
	form, _, err := b.Form("/tickets/" + ticket.ID + "/rule")
	d.must(err)
	form.Set("verdict", "approve")
	for _, path := range []string{"/tickets/" + ticket.ID + "/rule?" + form.Encode(), "/sign-out?" + form.Encode(), "/v1/tickets/" + ticket.ID + "/rule"} {
		d.must(b.Open(d.ConsoleURL() + path))
		if b.Status != http.StatusMethodNotAllowed && b.Status != http.StatusUnauthorized {
			t.Errorf("GET %s: %d", path, b.Status)
		}
	}
	d.must(b.Open(d.page(ticket.ID)))
	d.must(b.Submit("/tickets/"+ticket.ID+"/rule", url.Values{"verdict": {"approve"}}))
	d.must(b.At("ben"))
	back := b.URL.String() // with code and state
	for range 3 {
		d.must(b.Open(back))
		d.state(ticket.ID, "open")
	}
	// Another browser with the same link has nothing.
	other := d.signedIn("dora")
	d.must(other.Open(back))
	if other.Status != http.StatusBadRequest {
		t.Errorf("another browser: %d\n%s", other.Status, other.Page)
	}
	d.must(b.Submit("/callback", nil))
	if err := <-done; err != nil {
		t.Error(err)
	}
	// The state was good for one answer.
	d.must(b.Open(back))
	if b.Status != http.StatusBadRequest {
		t.Errorf("again: %d", b.Status)
	}
}

// TestAP15OtherSites: a page of another site can neither send a form nor frame the page, nor use another name for it.
func TestAP15OtherSites(t *testing.T) {
	d := newDesk(t, "")
	ticket, done := d.hold(d.agent, 1)
	b := d.signedIn("ben")
	d.must(b.Open(d.page(ticket.ID)))
	for header, want := range map[string]string{
		"X-Frame-Options": "DENY", "Content-Security-Policy": "frame-ancestors 'none'", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
	} {
		if got := b.Header.Get(header); !strings.Contains(got, want) {
			t.Errorf("%s: %q", header, got)
		}
	}
	for _, c := range b.Client.Jar.Cookies(b.URL) {
		if c.Name == "gatebook" && len(c.Value) < 20 {
			t.Errorf("cookie %q", c.Value)
		}
	}
	form, to, err := b.Form("/tickets/" + ticket.ID + "/rule")
	d.must(err)
	form.Set("verdict", "approve")
	evil, err := url.Parse("https://evil.example/")
	d.must(err)
	// From another site, with everything that the page knows: browsers say where it comes from.
	b.URL = evil
	d.must(b.Post(to.String(), form))
	if b.Status != http.StatusForbidden {
		t.Errorf("from another site: %d", b.Status)
	}
	// Without the page's own token, as a browser that says nothing of where it comes from.
	for name, change := range map[string]func(url.Values){
		"no token":       func(v url.Values) { v.Del("csrf") },
		"another token":  func(v url.Values) { v.Set("csrf", strings.Repeat("A", 26)) },
		"another digest": func(v url.Values) { v.Set("digest", strings.Repeat("0", 64)) },
	} {
		values := url.Values{}
		for k, v := range form {
			values[k] = v
		}
		change(values)
		b.URL = nil
		d.must(b.Post(to.String(), values))
		if b.Status != http.StatusForbidden && b.Status != http.StatusConflict {
			t.Errorf("%s: %d", name, b.Status)
		}
	}
	// A name of somebody else's that resolves here.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.ConsoleURL()+"/tickets", nil)
	d.must(err)
	r.Host = "evil.example"
	resp, err := b.Client.Do(r)
	d.must(err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another name: %d", resp.StatusCode)
	}
	// A stolen callback: the attacker's own code put into ben's browser.
	dora := d.signedIn("dora")
	d.must(dora.Open(d.page(ticket.ID)))
	d.must(dora.Submit("/tickets/"+ticket.ID+"/rule", url.Values{"verdict": {"approve"}}))
	d.must(dora.At("dora"))
	b = d.signedIn("ben")
	d.must(b.Open(dora.URL.String()))
	if b.Status != http.StatusBadRequest {
		t.Errorf("another's callback: %d", b.Status)
	}
	d.state(ticket.ID, "open")
	d.agent.Close(t.Context())
	<-done
}

// TestAP17QuotedData: what the agent wrote is shown as it is, and is nothing but text.
func TestAP17QuotedData(t *testing.T) {
	d := newDesk(t, "")
	text := "DELETE FROM " + d.table + " WHERE note = '<script>alert(1)</script>' -- \u202e APPROVED BY ben \u2066 </pre><form action=/evil>{{.}} [click](javascript:1)"
	done := make(chan error, 1)
	go func() {
		_, err := d.agent.PgConn().Exec(context.Background(), text).ReadAll()
		done <- err
	}()
	var list []*admin.Ticket
	for until := time.Now().Add(10 * time.Second); len(list) == 0 && time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		list = d.tickets()
	}
	if len(list) != 1 {
		t.Fatalf("%d tickets", len(list))
	}
	b := d.signedIn("ben")
	for _, page := range []string{d.ConsoleURL() + "/tickets", d.page(list[0].ID)} {
		d.must(b.Open(page))
		for _, bad := range []string{"<script>alert", "\u202e", "\u2066", "<form action=/evil", "</pre><form"} {
			if strings.Contains(b.Page, bad) {
				t.Errorf("%s has %q", page, bad)
			}
		}
	}
	for _, want := range []string{"&lt;script&gt;alert(1)", `\u202e`, `\u2066`, "The request, as the agent wrote it"} {
		if !strings.Contains(b.Page, want) {
			t.Errorf("%q is not shown", want)
		}
	}
	d.agent.Close(t.Context())
	<-done
}

// TestHeldAndTheTokenExpires: a request whose agent's token expires while it waits is withdrawn, and a later ruling runs nothing; one whose
// session is prolonged meanwhile waits on. GATEBOOK_HOLD is the token's lifetime, and the ruling comes after twice of it.
func TestHeldAndTheTokenExpires(t *testing.T) {
	life := 3 * time.Second
	if d, err := time.ParseDuration(os.Getenv("GATEBOOK_HOLD")); err == nil {
		life = d
	}
	d := newDesk(t, "")
	d.place.write(t, "policy.yaml", strings.Replace(fmt.Sprintf(holdPolicy, ""), "within: 2m", "within: 1h", 1))
	d.must(d.Reload(t.Context()))
	login := func(name string, id int) (*admin.Ticket, chan error) {
		token := d.place.issuer.Sign(t, idp.With(d.place.issuer.Agent(name, "agents"), idp.Claims{"exp": time.Now().Add(life).Unix()}), nil)
		c, err := connect(t.Context(), d.Addresses()[0].Address, token)
		d.must(err)
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return d.hold(c, id)
	}
	began := time.Now()
	left, leftDone := login("worker", 1)
	kept, keptDone := login("worker", 2)
	covers, err := kept.Covers()
	d.must(err)
	fresh := d.place.issuer.Sign(t, idp.With(d.place.issuer.Agent("worker", "agents"), idp.Claims{"exp": time.Now().Add(4 * life).Unix()}), nil)
	d.must(d.client(t).Call(t.Context(), http.MethodPost, "/v1/sessions/"+covers.Session+"/renew", admin.Renewal{Token: fresh}, &struct{}{}))
	if err := <-leftDone; err == nil {
		t.Error("it ran")
	}
	if after := time.Since(began); after < life-2*time.Second || after > life+5*time.Second {
		t.Errorf("it waited %s of %s", after, life)
	}
	d.state(left.ID, "withdrawn")
	time.Sleep(time.Until(began.Add(2 * life)))
	ben := d.signedIn("ben")
	if err := ben.Rule(d.page(left.ID), "ben", "approve", ""); err == nil && ben.Status == http.StatusOK {
		t.Errorf("a late ruling is taken:\n%s", ben.Page)
	}
	d.state(left.ID, "withdrawn")
	d.must(ben.Rule(d.page(kept.ID), "ben", "approve", ""))
	if err := <-keptDone; err != nil {
		t.Error(err)
	}
	d.state(kept.ID, "released")
	d.count(1, "id = 1")
	d.count(0, "id = 2")
}

// TestAP11EveryWay: no way of sending a deletion goes past the rule that holds it; nothing of it runs while it waits.
func TestAP11EveryWay(t *testing.T) {
	d := newDesk(t, "")
	for name, run := range map[string]func(context.Context, *pgx.Conn) error{
		"simple": func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.PgConn().Exec(ctx, "DELETE FROM "+d.table).ReadAll()
			return err
		},
		"after another": func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.PgConn().Exec(ctx, "SELECT 1; DELETE FROM "+d.table).ReadAll()
			return err
		},
		"unprepared": func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.Exec(ctx, "DELETE FROM "+d.table+" WHERE id > $1", pgx.QueryExecModeExec, 0)
			return err
		},
		"prepared": func(ctx context.Context, c *pgx.Conn) error {
			if _, err := c.Prepare(ctx, "p", "DELETE FROM "+d.table+" WHERE id > $1"); err != nil {
				return err
			}
			_, err := c.Exec(ctx, "p", 0)
			return err
		},
		"by rows": func(ctx context.Context, c *pgx.Conn) error {
			rows, err := c.Query(ctx, "DELETE FROM "+d.table+" RETURNING id")
			if err != nil {
				return err
			}
			rows.Close()
			return rows.Err()
		},
		"in a batch": func(ctx context.Context, c *pgx.Conn) error {
			b := &pgx.Batch{}
			b.Queue("DELETE FROM " + d.table)
			return c.SendBatch(ctx, b).Close()
		},
		"in a transaction": func(ctx context.Context, c *pgx.Conn) error {
			tx, err := c.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "DELETE FROM "+d.table); err != nil {
				return err
			}
			return tx.Commit(ctx)
		},
		"as a copy": func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.PgConn().CopyTo(ctx, io.Discard, "COPY (DELETE FROM "+d.table+" RETURNING id) TO STDOUT")
			return err
		},
		"explained": func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.PgConn().Exec(ctx, "EXPLAIN ANALYZE DELETE FROM "+d.table).ReadAll()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := *d
			d.t = t
			c := d.connect("worker")
			known := len(d.tickets())
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- run(ctx, c) }()
			var ticket *admin.Ticket
			for ticket == nil && ctx.Err() == nil {
				select {
				case err := <-done: // refused is as good as held
					if err == nil {
						t.Error("it ran without a ruling")
					}
					d.count(9, "true")
					return
				default:
				}
				if list := d.tickets(); len(list) > known {
					ticket = list[len(list)-1]
				}
				time.Sleep(5 * time.Millisecond)
			}
			d.count(9, "true")
			ben := d.signedIn("ben")
			d.must(ben.Rule(d.page(ticket.ID), "ben", "deny", "no"))
			if err := <-done; err == nil {
				t.Error("it ran though it was refused")
			}
			d.count(9, "true")
		})
	}
}

// TestAP22OneRulingOneRun: a ruling is for one request. The same text again, in the same session, is held again.
func TestAP22OneRulingOneRun(t *testing.T) {
	d := newDesk(t, "")
	ben := d.signedIn("ben")
	first, done := d.hold(d.agent, 1)
	d.must(ben.Rule(d.page(first.ID), "ben", "approve", "the next 30 days"))
	d.must(<-done)
	second, done := d.hold(d.agent, 1)
	if second.ID == first.ID || second.Digest == first.Digest || second.State != "open" || len(second.Rulings) > 0 {
		t.Errorf("the same request again: %+v", second)
	}
	d.must(ben.Rule(d.page(second.ID), "ben", "deny", ""))
	if err := <-done; err == nil {
		t.Error("the first ruling counts for the second request")
	}
}
