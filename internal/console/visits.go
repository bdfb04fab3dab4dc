package console

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/identity"
)

// Limits of visits.
const (
	visitIdle = time.Hour
	visitLife = 8 * time.Hour
	flowLife  = 10 * time.Minute
	maxFlows  = 20   // sign-ins under way of one browser
	maxVisits = 2000 // of browsers that have not signed in, and as many of those that have
)

// visit is one browser. Its cookie's value is kept as a digest alone.
type visit struct {
	all   *visits
	key   [sha256.Size]byte
	began time.Time
	csrf  string

	// Guarded by visits.mu.
	seen     time.Time
	identity string // "issuer|name" of who signed in, "" for nobody
	flows    map[string]*flow
}

// flow is a sign-in under way.
type flow struct {
	at      time.Time
	request identity.Request
	back    string // where to go afterwards, a path of the page
	// ruling is what the sign-in is to prove, nil for none.
	ruling *ruling
}

// ruling is what a person is about to say.
type ruling struct {
	ticket  string
	verdict approval.Verdict
	request admin.RuleRequest // without its token
}

// visits are the browsers. The zero value is empty.
type visits struct {
	mu   sync.Mutex
	list map[[sha256.Size]byte]*visit
}

func (c *Console) cookieName() string {
	if c.secure {
		return "__Host-gatebook" // RFC 6265bis section 4.1.3.2: this host's, over TLS, for every path
	}
	return "gatebook"
}

// visit returns the browser's visit, nil if it has none.
func (c *Console) visit(r *http.Request) *visit {
	cookie, err := r.Cookie(c.cookieName())
	if err != nil {
		return nil
	}
	s := &c.visits
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.list[sha256.Sum256([]byte(cookie.Value))]
	if v == nil {
		return nil
	}
	if now := time.Now(); now.Sub(v.began) > visitLife || now.Sub(v.seen) > visitIdle {
		delete(s.list, v.key)
		return nil
	}
	v.seen = time.Now()
	return v
}

// begin gives the browser a fresh visit in place of the one that it had. It takes over the sign-ins under way.
func (c *Console) begin(w http.ResponseWriter, old *visit, identity string) *visit {
	value := rand.Text()
	now := time.Now()
	s := &c.visits
	v := &visit{all: s, key: sha256.Sum256([]byte(value)), began: now, seen: now, csrf: rand.Text(), identity: identity, flows: map[string]*flow{}}
	s.mu.Lock()
	if s.list == nil {
		s.list = map[[sha256.Size]byte]*visit{}
	}
	if old != nil {
		v.flows = old.flows
		delete(s.list, old.key)
	}
	s.makeRoom(identity != "", now)
	s.list[v.key] = v
	s.mu.Unlock()
	http.SetCookie(w, &http.Cookie{
		Name: c.cookieName(), Value: value, Path: "/", HttpOnly: true, Secure: c.secure,
		SameSite: http.SameSiteLaxMode, // the issuer sends the browser back by a link of another site
	})
	return v
}

// makeRoom forgets visits that are over and, where there are too many of a kind, the one of it that was seen longest ago.
// Strangers cannot crowd out those who have signed in. Callers hold mu.
func (s *visits) makeRoom(signed bool, now time.Time) {
	n := 0
	var oldest *visit
	for key, v := range s.list {
		if now.Sub(v.began) > visitLife || now.Sub(v.seen) > visitIdle {
			delete(s.list, key)
			continue
		}
		if (v.identity != "") != signed {
			continue
		}
		n++
		if oldest == nil || v.seen.Before(oldest.seen) {
			oldest = v
		}
	}
	if n >= maxVisits {
		delete(s.list, oldest.key)
	}
}

// end forgets a visit.
func (v *visit) end() {
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	delete(v.all.list, v.key)
}

// name returns who is signed in, "" for nobody. A nil visit is nobody's.
func (v *visit) name() string {
	if v == nil {
		return ""
	}
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	return v.identity
}

func (v *visit) token() string {
	if v == nil {
		return ""
	}
	return v.csrf
}

// holds reports whether a form is one that this visit was given.
func (v *visit) holds(r *http.Request) bool {
	return v != nil && subtle.ConstantTimeCompare([]byte(r.PostFormValue("csrf")), []byte(v.csrf)) == 1
}

// add keeps a sign-in under way.
func (v *visit) add(f *flow) {
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	var states []string
	for state, old := range v.flows {
		if time.Since(old.at) > flowLife {
			delete(v.flows, state)
			continue
		}
		states = append(states, state)
	}
	if len(states) >= maxFlows {
		slices.SortFunc(states, func(a, b string) int { return v.flows[a].at.Compare(v.flows[b].at) })
		delete(v.flows, states[0])
	}
	v.flows[f.request.State] = f
}

// flow returns a sign-in under way; take ends it: a state is good for one answer.
func (v *visit) flow(state string, take bool) *flow {
	if v == nil {
		return nil
	}
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	f := v.flows[state]
	if f == nil || time.Since(f.at) > flowLife {
		return nil
	}
	if take {
		delete(v.flows, state)
	}
	return f
}
