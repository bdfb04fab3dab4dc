package console

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/identity"
)

// signIn sends a browser to the issuer.
func (c *Console) signIn(w http.ResponseWriter, r *http.Request) {
	v := c.visit(r)
	if v == nil {
		v = c.begin(w, nil, "")
	}
	c.leave(w, r, v, &flow{back: local(r.PostFormValue("back")), request: identity.Request{Nonce: rand.Text()}})
}

// local returns a path of this page, whatever a form says.
func local(path string) string {
	if id, ok := strings.CutPrefix(path, "/tickets/"); ok {
		if _, err := evidence.ParseID(id); err == nil {
			return path
		}
	}
	return "/tickets"
}

// leave shows a page that goes on to the issuer. It is no redirect: browsers hold every hop of one against form-action, and an
// issuer may have more of them.
func (c *Console) leave(w http.ResponseWriter, r *http.Request, v *visit, f *flow) {
	f.at, f.request.State, f.request.Verifier = time.Now(), rand.Text(), identity.NewCodeVerifier()
	to, err := c.o.Issuer.AuthURL(r.Context(), &c.o.Client, &f.request)
	if err != nil {
		c.o.Log.Error("console: sign-in", "err", err)
		c.fail(w, http.StatusBadGateway, "The issuer at which you sign in cannot be reached. Its operator finds the reason in the gateway's log.")
		return
	}
	v.add(f)
	c.render(w, http.StatusOK, "leave.html", &page{Title: "To your sign-in", Person: c.personName(v), CSRF: v.token(), Refresh: to, Body: c.o.Client.Issuer})
}

// signOut ends a visit.
func (c *Console) signOut(w http.ResponseWriter, r *http.Request) {
	if v := c.visit(r); v.holds(r) {
		v.end()
	}
	http.Redirect(w, r, "/tickets", http.StatusSeeOther)
}

// callback is where the issuer sends the browser. It changes nothing: its page has a form that goes on.
func (c *Console) callback(w http.ResponseWriter, r *http.Request) {
	v := c.visit(r)
	q := r.URL.Query()
	f := v.flow(q.Get("state"), false)
	switch iss := q.Get("iss"); {
	case f == nil:
		c.fail(w, http.StatusBadRequest, "This sign-in is not one that this browser has begun here, or it took too long. Begin again from the page.")
		return
	case iss != "" && iss != c.o.Issuer.IssuerURL(c.o.Client.Issuer): // RFC 9207
		c.fail(w, http.StatusBadRequest, "This answer is of another issuer than the one that was asked.")
		return
	case q.Get("error") != "":
		c.fail(w, http.StatusForbidden, "The issuer did not sign you in: "+evidence.Plain(clip(q.Get("error")+" "+q.Get("error_description"), 300)))
		return
	case q.Get("code") == "" || len(q.Get("code")) > 4096:
		c.fail(w, http.StatusBadRequest, "The issuer's answer has no code.")
		return
	}
	body := struct {
		State, Code string
		Ruling      bool
		Verdict     approval.Verdict
		Ticket      *ticketView
	}{State: q.Get("state"), Code: q.Get("code")}
	title := "Signing in"
	if f.ruling != nil {
		title, body.Ruling, body.Verdict = "Confirm", true, f.ruling.verdict
		t, err := c.find(r.Context(), v, f.ruling.ticket)
		if err != nil {
			c.refused(w, v, err)
			return
		}
		body.Ticket = t
	}
	c.render(w, http.StatusOK, "confirm.html", &page{Title: title, Person: c.personName(v), CSRF: v.token(), Body: body})
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// errStranger refuses who is not a person of the configuration.
var errStranger = errors.New("you are signed in at the issuer, and nobody of the configuration has your identity there: somebody must add it to people")

// redeem ends a sign-in: it exchanges the issuer's code for an ID token, which either signs the browser in or proves a ruling.
func (c *Console) redeem(w http.ResponseWriter, r *http.Request) {
	v := c.visit(r)
	f := (*flow)(nil)
	if v.holds(r) {
		f = v.flow(r.PostFormValue("state"), true)
	}
	if f == nil {
		c.fail(w, http.StatusBadRequest, "This sign-in is not one that this browser has begun here, or it is over. Begin again from the page.")
		return
	}
	in, token, err := c.o.Issuer.Redeem(r.Context(), &c.o.Client, &f.request, r.PostFormValue("code"))
	if err != nil {
		c.o.Log.Warn("console: sign-in refused", "err", err)
		c.fail(w, http.StatusForbidden, "The issuer's answer was not accepted. The operator finds the reason in the gateway's log.")
		return
	}
	who := in.Identity()
	person := c.o.PersonOf(who)
	switch {
	case person == nil:
		c.o.Log.Warn("console: sign-in of a stranger", "identity", who)
		c.refused(w, nil, errStranger)
	case f.ruling == nil:
		if err := c.o.Admin.SignIn(r.Context(), callerOf(person)); err != nil {
			c.refused(w, v, err)
			return
		}
		c.begin(w, v, who)
		http.Redirect(w, r, f.back, http.StatusSeeOther)
	case who != v.name():
		c.refused(w, v, errors.New("you signed in as another than who asked for this ruling; it does not count. Sign out first"))
	default:
		req := f.ruling.request
		req.Token = token.Reveal()
		if _, err := c.o.Admin.RuleTicket(r.Context(), callerOf(person), f.ruling.ticket, req); err != nil {
			c.refused(w, v, err)
			return
		}
		http.Redirect(w, r, f.back, http.StatusSeeOther)
	}
}

// callerOf says who uses the service.
func callerOf(p *approval.Person) admin.Caller {
	return admin.Caller{Who: p.Name, How: "console", UID: -1, Person: p}
}
