package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gatebook/gatebook/internal/secret"
)

// Bounds of what bridges deliver.
const (
	maxBody  = 256 << 10 // bytes
	bodyTime = 5 * time.Second
	// maxSeen is how many messages are remembered, so that none counts twice; beyond it, none is taken.
	maxSeen = 10_000
	// remember is longer than the longest time for which a message is fresh.
	remember = 2*slack + time.Second
)

// Bridge is a server that may deliver rulings.
type Bridge struct {
	Name   string
	Secret secret.Ref // read at each message
}

// Rule takes a ruling that a bridge delivered. Whose it is says the proof in it, and nothing else. Its error may be shown to the bridge.
type Rule func(ctx context.Context, bridge, ticket string, ruling json.RawMessage) error

// Receiver takes messages of bridges: POST /v1/hooks/NAME with {"ticket": ID, "ruling": {…}}. Safe for concurrent use.
type Receiver struct {
	bridges map[string]secret.Ref
	rule    Rule
	mux     *http.ServeMux

	mu   sync.Mutex
	seen map[string]time.Time // "bridge id", and when it came
}

// NewReceiver returns one.
func NewReceiver(bridges []Bridge, rule Rule) *Receiver {
	r := &Receiver{bridges: make(map[string]secret.Ref), rule: rule, mux: http.NewServeMux(), seen: make(map[string]time.Time)}
	for _, b := range bridges {
		r.bridges[b.Name] = b.Secret
	}
	r.mux.HandleFunc("POST /v1/hooks/{name}", r.receive)
	return r
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.mux.ServeHTTP(w, req) }

func (r *Receiver) receive(w http.ResponseWriter, req *http.Request) {
	name := req.PathValue("name")
	// Where the connection cannot be given a time limit, the server has one for whole requests.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		refuse(w, http.StatusRequestEntityTooLarge, errors.New("the message is too large"))
		return
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, errors.New("the message is not complete"))
		return
	}
	if status, err := r.admit(name, req.Header, body, time.Now()); err != nil {
		refuse(w, status, err)
		return
	}
	in, err := parseDelivery(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if err := r.rule(req.Context(), name, in.Ticket, in.Ruling); err != nil {
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// admit says why a message is not taken, nil if it is of that bridge, of now, and new. A bridge that does not exist is
// answered as one with another secret.
func (r *Receiver) admit(name string, h http.Header, body []byte, now time.Time) (status int, err error) {
	said, err := parseHeaders(h)
	if err != nil {
		return http.StatusUnauthorized, err
	}
	ref, known := r.bridges[name]
	if !known {
		return http.StatusUnauthorized, ErrSignature
	}
	key, err := loadKey(ref)
	switch {
	case err != nil:
		return http.StatusInternalServerError, errors.New("the secret of this hook cannot be read; gatebook check says why")
	case !said.verify(key, body):
		return http.StatusUnauthorized, ErrSignature
	case !said.fresh(now):
		return http.StatusUnauthorized, ErrOld
	case !r.first(name+" "+said.id, now):
		return http.StatusConflict, ErrReplay
	}
	return 0, nil
}

// first reports whether a message is new, and remembers it.
func (r *Receiver) first(id string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, twice := r.seen[id]; twice {
		return false
	}
	if len(r.seen) >= maxSeen {
		for old, at := range r.seen {
			if now.Sub(at) > remember {
				delete(r.seen, old)
			}
		}
	}
	if len(r.seen) >= maxSeen {
		return false
	}
	r.seen[id] = now
	return true
}

// delivery is the body of a message.
type delivery struct {
	Ticket string          `json:"ticket"`
	Ruling json.RawMessage `json:"ruling"`
}

func parseDelivery(body []byte) (delivery, error) {
	var in delivery
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil || in.Ticket == "" || len(in.Ruling) == 0 {
		return delivery{}, errors.New(`want {"ticket": "ID", "ruling": {…}}`)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return delivery{}, errors.New("something follows the message")
	}
	return in, nil
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}
