package console

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/identity"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

// person returns who is signed in by the configuration in force, nil for nobody.
func (c *Console) person(v *visit) *approval.Person {
	who := v.name()
	if who == "" {
		return nil
	}
	return c.o.PersonOf(who)
}

func (c *Console) personName(v *visit) string {
	if p := c.person(v); p != nil {
		return p.Name
	}
	return ""
}

// signed returns who is signed in; for nobody it shows the page that asks for it.
func (c *Console) signed(w http.ResponseWriter, r *http.Request) (*visit, *approval.Person) {
	v := c.visit(r)
	if p := c.person(v); p != nil {
		return v, p
	}
	c.render(w, http.StatusOK, "welcome.html", &page{Title: "Sign in", Body: local(r.URL.Path)})
	return nil, nil
}

// ticketView is a ticket as the page shows it.
type ticketView struct {
	*admin.Ticket

	Covers  evidence.TicketBound
	Action  evidence.Action
	Effect  string
	Request string // the agent's text, with what cannot be seen shown as escapes
	Params  string
	List    []listedView // the statements of a list, in their order
	Reason  string       // the agent's
	Same    int          // further tickets of the same request that wait
	Open    bool
	MayRule bool
	// MayBreak: the person may break the glass.
	MayBreak bool
}

// maxShown is the longest text that the page shows, in bytes. What is longer cannot be ruled on from it.
const maxShown = 256 << 10

func viewOf(t *admin.Ticket) (*ticketView, error) {
	v := &ticketView{Ticket: t, Open: t.State == string(approval.Open)}
	var err error
	if v.Covers, err = t.Covers(); err != nil {
		return nil, err
	}
	if len(v.Covers.Action) > 0 {
		if err := json.Unmarshal(v.Covers.Action, &v.Action); err != nil {
			return nil, err
		}
	}
	v.Covers = v.Covers.Shown()
	v.Effect = admin.EffectText(v.Covers.Effect)
	v.Request, v.Params = evidence.Plain(v.Covers.Text), evidence.Plain(string(v.Covers.Detail))
	for _, l := range v.Covers.List {
		v.List = append(v.List, listedView{evidence.Plain(l.Text)})
	}
	if len(v.List) > 0 {
		v.Request = evidence.Plain(v.Covers.Line())
	}
	v.Reason = evidence.Plain(v.Covers.Reason)
	return v, nil
}

// listedView is one statement of a list.
type listedView struct{ Request string }

// Whole reports whether the page shows all of the request. A list that may be asked for fits.
func (t *ticketView) Whole() bool {
	return len(t.Request)+len(t.Params)+len(t.Reason) <= maxShown+sqlscan.MaxList*8
}

// Line is the request's beginning on one line.
func (t *ticketView) Line() string {
	line := strings.Join(strings.Fields(t.Request), " ")
	if utf8.RuneCountInString(line) > 120 {
		line = string([]rune(line)[:119]) + "…"
	}
	return line
}

// list shows the tickets: those that wait first, the same request once, and then the latest that ended.
func (c *Console) list(w http.ResponseWriter, r *http.Request) {
	v, p := c.signed(w, r)
	if p == nil {
		return
	}
	all, err := c.o.Admin.Tickets(r.Context(), callerOf(p))
	if err != nil {
		c.refused(w, v, err)
		return
	}
	var body struct{ Open, Ended []*ticketView }
	seen := map[string]*ticketView{}
	for _, t := range all {
		view, err := viewOf(t)
		if err != nil {
			c.refused(w, v, err)
			return
		}
		request := view.Ticket.Request(&view.Covers)
		switch first := seen[request]; {
		case !view.Open:
			body.Ended = append(body.Ended, view)
		case first != nil:
			first.Same++
		default:
			seen[request] = view
			body.Open = append(body.Open, view)
		}
	}
	slices.Reverse(body.Ended)
	body.Ended = body.Ended[:min(len(body.Ended), 50)]
	title := "Nothing waits"
	if n := len(body.Open); n > 0 {
		title = fmt.Sprintf("%d waiting", n)
	}
	c.render(w, http.StatusOK, "tickets.html", &page{Title: title, Person: p.Name, CSRF: v.token(), Body: body})
}

// find returns a ticket that the visit's person may see.
func (c *Console) find(ctx context.Context, v *visit, id string) (*ticketView, error) {
	p := c.person(v)
	if p == nil {
		return nil, errors.New("you are not signed in any more")
	}
	t, err := c.o.Admin.Ticket(ctx, callerOf(p), id)
	if err != nil {
		return nil, err
	}
	view, err := viewOf(t)
	if err != nil {
		return nil, err
	}
	view.MayRule, view.MayBreak = t.MayRule(p), t.MayBreak(p)
	return view, nil
}

func (c *Console) ticket(w http.ResponseWriter, r *http.Request) {
	v, p := c.signed(w, r)
	if p == nil {
		return
	}
	t, err := c.find(r.Context(), v, r.PathValue("id"))
	if err != nil {
		c.refused(w, v, err)
		return
	}
	c.render(w, http.StatusOK, "ticket.html", &page{Title: "Ticket " + t.ID, Person: p.Name, CSRF: v.token(), Body: t})
}

// rule begins a ruling: its words are fixed, and the browser goes to the issuer for a token that is made for exactly them.
func (c *Console) rule(w http.ResponseWriter, r *http.Request) {
	v := c.visit(r)
	if c.person(v) == nil || !v.holds(r) {
		c.fail(w, http.StatusForbidden, "You are not signed in any more. Open the ticket again.")
		return
	}
	t, err := c.find(r.Context(), v, r.PathValue("id"))
	if err != nil {
		c.refused(w, v, err)
		return
	}
	verdict, ok := approval.ParseVerdict(r.PostFormValue("verdict"))
	reason := strings.TrimSpace(r.PostFormValue("reason"))
	switch {
	case !ok:
		c.fail(w, http.StatusBadRequest, "A ruling is to approve, to deny or to break the glass.")
		return
	case r.PostFormValue("digest") != t.Digest: // what is ruled on is what was shown
		c.fail(w, http.StatusConflict, "The ticket is another one than the page showed. Open it again.")
		return
	case !t.Whole():
		c.fail(w, http.StatusUnprocessableEntity, "This request is too long for the page. Rule with gatebook ticket show and approve.")
		return
	case !t.Open:
		c.refused(w, v, fmt.Errorf("%w: it is %s", approval.ErrFinal, t.State))
		return
	}
	random := rand.Text()
	statement := approval.Statement(t.ID, t.Digest, verdict, reason)
	if _, err := approval.ParseStatement(statement); err != nil {
		c.refused(w, v, err)
		return
	}
	nonce, err := approval.Nonce(statement, random)
	if err != nil {
		c.refused(w, v, err)
		return
	}
	f := &flow{
		back:    "/tickets/" + t.ID,
		request: identity.Request{Nonce: nonce},
		ruling:  &ruling{ticket: t.ID, verdict: verdict, request: admin.RuleRequest{Statement: statement, Random: random}},
	}
	f.request.ACR, f.request.MaxAge = t.SignIn()
	c.leave(w, r, v, f)
}

// keepAlive is how often a stream says that it is there.
const keepAlive = 20 * time.Second

// events tells the page's script that something has changed (server-sent events). It carries no more than that.
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	p := c.person(c.visit(r))
	if p == nil {
		http.Error(w, "not signed in", http.StatusUnauthorized)
		return
	}
	flush := http.NewResponseController(w)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	say := func(text string) error {
		if err := flush.SetWriteDeadline(time.Now().Add(2 * keepAlive)); err != nil {
			return err
		}
		if _, err := fmt.Fprint(w, text); err != nil {
			return err
		}
		return flush.Flush()
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if say(": here\n\n") != nil {
		return
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer cancel()
		_ = c.o.Admin.WatchTickets(ctx, callerOf(p), func(*admin.Ticket) error {
			select {
			case changed <- struct{}{}:
			default: // the page looks once for all of them
			}
			return nil
		})
	}()
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		text := ": here\n\n"
		select {
		case <-ctx.Done():
			return
		case <-changed:
			text = "data: changed\n\n"
		case <-alive.C:
			if c.person(c.visit(r)) == nil {
				return
			}
		}
		if say(text) != nil {
			return
		}
	}
}

// api is the interface for programs that bring a person's ID token as bearer.
func (c *Console) api() http.Handler {
	inner := c.o.Admin.PersonHandler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		deny := func(why string) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="gatebook"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": why})
		}
		if !strings.EqualFold(scheme, "bearer") || text == "" {
			deny("an ID token of an issuer for people is required (Authorization: Bearer …)")
			return
		}
		p, err := c.bearer(r.Context(), text)
		if err != nil {
			c.o.Log.Warn("console: bearer refused", "err", err)
			deny("the token was not accepted: it must be an ID token of an issuer for people, of somebody the configuration names")
			return
		}
		if r.URL.Path == "/v1/watch/tickets" { // it lasts
			_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
		}
		inner.ServeHTTP(w, r.WithContext(admin.WithCaller(r.Context(), callerOf(p))))
	})
}

// bearer returns whose an ID token is.
func (c *Console) bearer(ctx context.Context, text string) (*approval.Person, error) {
	in, err := c.o.Issuer.VerifyPerson(ctx, secret.New(text), "")
	if err != nil {
		return nil, err
	}
	if in.Nonce != "" { // those that prove rulings are in evidence packages, and must open nothing there
		return nil, errors.New("the token was made for one sign-in or ruling (it has a nonce)")
	}
	if p := c.o.PersonOf(in.Identity()); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%s %w", in.Identity(), admin.ErrNoPerson)
}

// pieces marks a request's text for the eye.
func pieces(text string) []sqlscan.Piece { return sqlscan.Pieces(text) }

// left says how long there is.
func left(t time.Time) string {
	d := time.Until(t)
	switch {
	case d <= 0:
		return "none"
	case d < 2*time.Minute:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }
