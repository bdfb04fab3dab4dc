package postgres

import (
	"errors"
	"slices"
)

// statement is what a prepared statement's name stands for.
type statement struct {
	text string
	oids []uint32
	// does is what the text does; nil for an unresolved one.
	does *understood
	// unresolved: the gateway has not seen the Parse (SQL's PREPARE made it, or nothing did).
	unresolved bool
	// doubt is requests.doubt when it was parsed.
	doubt uint64
	// charged is what the text takes of the memory budget, given back when no
	// name holds the statement any more.
	charged int
	holders int
	// columns are those of its result, once the target has described them. The answer pump's own.
	columns  []column
	receives bool // some of them are named by masks that are not for the principal
}

// maxUncharged is the longest text that the memory budget does not count.
const maxUncharged = 4 << 10

// charge takes a statement's text from the memory budget and reports whether it was free.
func (r *relay) charge(st *statement) bool {
	n := len(st.text)
	if n <= maxUncharged {
		return true
	}
	if !r.d.budget.Take(n) {
		return false
	}
	r.mu.Lock()
	st.charged = n
	r.charged += n
	r.mu.Unlock()
	return true
}

// hold counts a name, or a change of one, that holds the statement. Callers hold r.mu.
func (r *relay) hold(st *statement, n int) {
	if st == nil || st.charged == 0 {
		return
	}
	if st.holders += n; st.holders <= 0 {
		r.d.budget.Give(st.charged)
		r.charged -= st.charged
		st.charged = 0
	}
}

// holdItem counts the changes that a message makes. Callers hold r.mu.
func (r *relay) holdItem(it *item, n int) {
	if it.st != nil {
		r.hold(it.st.value, n)
	}
	if it.po != nil && it.po.value != nil {
		r.hold(it.po.value.st, n)
	}
}

// endPortals forgets the portals of a transaction that is over. Callers hold r.mu.
func (r *relay) endPortals() {
	for _, po := range r.portals.confirmed {
		r.hold(po.st, -1)
	}
	clear(r.portals.confirmed)
}

// uncharge gives back what the texts of an ended session still hold.
func (r *relay) uncharge() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.d.budget.Give(r.charged)
	r.charged = 0
}

// portal is what a portal's name stands for.
type portal struct {
	st    *statement
	name  string // of the statement
	bound uint64 // the exchange that recorded the Bind with its parameters
	// params is the JSON of those parameters, for an Execute in an exchange of its own; nil if they are long, or no such Execute makes sense.
	params []byte
	doubt  uint64 // requests.doubt when it was bound
	// formats are those of its results.
	formats []int
}

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
	if !done {
		r.holdItem(&it, -1)
	}
	var err error
	if it.st != nil {
		if done {
			r.hold(r.statements.confirmed[it.st.name], -1) // what is replaced or closed
		}
		err = r.statements.settle(it.st, done)
	}
	if it.po != nil && err == nil {
		if po := r.portals.confirmed[it.po.name]; done && po != nil {
			r.hold(po.st, -1)
		}
		err = r.portals.settle(it.po, done)
	}
	return err
}

// mayRename reports whether running the statement may change what names stand for.
func (st *statement) mayRename() bool { return st.unresolved || st.does != nil && st.does.doubtful }
