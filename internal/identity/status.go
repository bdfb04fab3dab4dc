package identity

import (
	"context"
	"fmt"
	"time"
)

// Status is what is known of one issuer, for the operator.
type Status struct {
	Name string
	URL  string
	For  Side
	// Offline is set where a key file is configured.
	Offline bool
	// Fetched is when the keys at hand were fetched; zero when there are none.
	Fetched time.Time
	// Keys and Skipped count the usable keys at hand and those that the
	// issuer publishes and that cannot be used.
	Keys, Skipped int
	// Usable says whether tokens can be verified now without a fetch.
	Usable bool
	// Err is the error of the last fetch, nil when it went well or none ran.
	Err error
}

// Status reports on all issuers, in the configured order, without I/O.
func (v *Verifier) Status() []Status {
	out := make([]Status, 0, len(v.list))
	for _, i := range v.list {
		s := Status{Name: i.opts.Name, URL: i.opts.URL, For: i.opts.For, Offline: !i.opts.Keys.IsZero()}
		c := i.keys
		c.mu.Lock()
		s.Err, s.Usable = c.err, c.usable(time.Now())
		if c.set != nil {
			s.Fetched, s.Keys, s.Skipped = c.fetched, len(c.set.keys), c.set.skipped
		}
		c.mu.Unlock()
		out = append(out, s)
	}
	return out
}

// Probe fetches the keys of one issuer now and returns what went wrong. It
// blocks for ten seconds at most, or until ctx ends.
func (v *Verifier) Probe(ctx context.Context, name string) error {
	for _, i := range v.list {
		if i.opts.Name == name {
			return i.keys.probe(ctx)
		}
	}
	return fmt.Errorf("no issuer is named %q", name)
}
