package postgres

import (
	"errors"
	"slices"
	"strings"
)

// statement is what a prepared statement's name stands for.
type statement struct {
	text string
	oids []uint32
	// unresolved: the gateway has not seen the Parse (SQL's PREPARE made it, or nothing did).
	unresolved bool
	// doubtful: running it may change what other names stand for.
	doubtful bool
	// doubt is requests.doubt when it was parsed.
	doubt uint64
}

// portal is what a portal's name stands for.
type portal struct {
	st    *statement
	name  string // of the statement
	bound uint64 // the exchange that recorded the Bind with its parameters
	doubt uint64 // requests.doubt when it was bound
}

// BUG(postgres): SQL that the gateway cannot read (PREPARE or DEALLOCATE inside
// a function) can change what a name stands for. The exchange then records the
// text that was parsed under that name over the protocol, without the mark "uncertain".

// names maps statement or portal names to what the target has under them.
// Changes that were forwarded but not yet answered stand in pending, in order;
// they count for what is forwarded behind them, and fall away if the target
// skips them after an error. Guarded by relay.mu.
type names[T any] struct {
	confirmed map[string]T
	pending   []*change[T]
}

type change[T any] struct {
	name    string
	value   T
	gone    bool   // closed
	segment uint64 // of the pipeline (what lies between two Syncs)
}

// find returns what name stands for behind everything forwarded so far. sure is false
// when that depends on a change of an earlier segment whose answer is not in yet.
func (n *names[T]) find(name string, segment uint64) (value T, ok, sure bool) {
	for i := len(n.pending) - 1; i >= 0; i-- {
		if c := n.pending[i]; c.name == name {
			return c.value, !c.gone, c.segment == segment
		}
	}
	value, ok = n.confirmed[name]
	return value, ok, true
}

func (n *names[T]) add(c *change[T]) *change[T] {
	n.pending = append(n.pending, c)
	return c
}

// settle resolves a pending change: the oldest one if it was done, any if the
// target skipped it.
func (n *names[T]) settle(c *change[T], done bool) error {
	i := slices.Index(n.pending, c)
	if i < 0 || done && i > 0 {
		return errOutOfStep
	}
	if i == 0 {
		n.pending[0] = nil
		n.pending = n.pending[1:]
	} else {
		n.pending = slices.Delete(n.pending, i, i+1)
	}
	if len(n.pending) == 0 {
		n.pending = nil
	}
	if !done {
		return nil
	}
	if c.gone {
		delete(n.confirmed, c.name)
		return nil
	}
	if n.confirmed == nil {
		n.confirmed = make(map[string]T)
	}
	n.confirmed[c.name] = c.value
	return nil
}

// errOutOfStep ends a session whose bookkeeping of names cannot be trusted any more.
var errOutOfStep = errors.New("answers and pending names are out of step")

// settle resolves the changes of names that an answered or skipped message
// made. Callers hold r.mu.
func (r *relay) settle(it item, done bool) error {
	var err error
	if it.st != nil {
		err = r.statements.settle(it.st, done)
	}
	if it.po != nil && err == nil {
		err = r.portals.settle(it.po, done)
	}
	return err
}

// doubtful reports whether a text may change what the names of statements and
// portals stand for, in a way that the protocol does not show.
func doubtful(text string) bool {
	for i := 0; i+len("close") <= len(text); i++ {
		for _, word := range doubtfulWords {
			if text[i]|0x20 == word[0] && i+len(word) <= len(text) && strings.EqualFold(text[i:i+len(word)], word) {
				return true
			}
		}
	}
	return false
}

var doubtfulWords = [...]string{"prepare", "deallocate", "discard", "execute", "declare", "close"}
