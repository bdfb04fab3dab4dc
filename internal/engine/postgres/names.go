package postgres

// statement is what a prepared statement's name stands for.
type statement struct {
	text string
	oids []uint32
	// unresolved: the gateway has not seen the Parse (SQL's PREPARE made it, or nothing did).
	unresolved bool
}

// portal is what a portal's name stands for.
type portal struct {
	st    *statement
	name  string // of the statement
	bound uint64 // the exchange that recorded the Bind with its parameters
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

// settle resolves the oldest pending change, which must be c.
func (n *names[T]) settle(c *change[T], done bool) {
	if len(n.pending) == 0 || n.pending[0] != c {
		panic("postgres: answers and pending names are out of step")
	}
	n.pending = n.pending[1:]
	if !done {
		return
	}
	if c.gone {
		delete(n.confirmed, c.name)
		return
	}
	if n.confirmed == nil {
		n.confirmed = make(map[string]T)
	}
	n.confirmed[c.name] = c.value
}
