package webhook

import (
	"encoding/json"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

// Types of messages.
const (
	TicketOpened  = "dev.gatebook.ticket.opened"
	TicketDecided = "dev.gatebook.ticket.decided"
	TicketEnded   = "dev.gatebook.ticket.ended"
	Alerted       = "dev.gatebook.alert"
)

// Ticket is the data of a message about a request that waits. It has no text, parameter or reason that an agent wrote.
type Ticket struct {
	Ticket    string    `json:"ticket"`
	State     string    `json:"state"`
	Principal string    `json:"principal"` // "issuer|name"
	Target    string    `json:"target"`
	Rules     []string  `json:"rules"`               // that hold it
	Requester string    `json:"requester,omitempty"` // the person behind it
	Expires   time.Time `json:"expires"`
	Link      string    `json:"link,omitempty"` // to the page on which people look at it
}

// event is a CloudEvents 1.0 envelope.
type event struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Data        any       `json:"data"`
}

// message is what is delivered to one hook or more. Its ID is the same at each attempt, so that a receiver can tell.
type message struct {
	id    string
	what  string // its type
	body  []byte
	at    time.Time
	alert *evidence.Alert // nil if it is about a ticket
}

func newMessage(source, what string, data any, now time.Time) (*message, error) {
	m := &message{id: evidence.NewID().String(), what: what, at: now}
	var err error
	m.body, err = json.Marshal(event{
		SpecVersion: "1.0", ID: m.id, Source: source, Type: what, Time: now.UTC().Truncate(time.Millisecond), ContentType: "application/json", Data: data,
	})
	return m, err
}
