package postgres

// itemKind says which answer a forwarded message waits for.
type itemKind uint8

const (
	itemParse itemKind = iota
	itemBind
	itemClose
	itemDescribeStatement
	itemDescribePortal
	itemExecute
	itemSync
	itemQuery
	itemCall
)

// item is one forwarded message whose answer is not complete.
type item struct {
	kind itemKind
	last bool // the last message of its exchange
	// maybe: a Sync that the target ignores if it read it in copy-in mode, and
	// answers if the COPY had failed before. Which of the two shows later.
	maybe bool
	// silent: a Sync of the gateway's own, whose answer the agent does not see.
	silent bool
	// own: a Describe of the gateway's own in an exchange of the agent's, who does not see its answer.
	own bool
	ex  *exch // nil for Sync
	st  *change[*statement]
	po  *change[*portal]
}

// maxQueue is how many messages may wait for their answers. Beyond it the
// agent is not read until half of them are answered.
const maxQueue = 4096

// queue holds the forwarded messages in order. Guarded by relay.mu.
type queue struct {
	list []item
	at   int // of the first
}

func (q *queue) all() []item { return q.list[q.at:] }

func (q *queue) push(it item) {
	if q.at > 32 && q.at*2 > len(q.list) {
		q.compact()
	}
	q.list = append(q.list, it)
}

// pop takes the first n items off.
func (q *queue) pop(n int) {
	clear(q.list[q.at : q.at+n])
	q.at += n
	if q.at == len(q.list) {
		q.list, q.at = q.list[:0], 0
		if cap(q.list) > 256 {
			q.list = nil
		}
	}
}

// compact gives back the room before the first item.
func (q *queue) compact() {
	n := copy(q.list, q.all())
	clear(q.list[n:])
	q.list, q.at = q.list[:n], 0
}

// takeSync removes the Sync that a ReadyForQuery answers from the Syncs at the
// head: the first that is sure to be answered, else the first. ok is false if there was none.
func (q *queue) takeSync() (it item, ok bool) {
	all := q.all()
	n := 0
	for n < len(all) && all[n].kind == itemSync {
		n++
		if !all[n-1].maybe {
			break
		}
	}
	if n == 0 {
		return item{}, false
	}
	if all[n-1].maybe {
		n = 1
	}
	it = all[n-1]
	copy(all[1:n], all[:n-1])
	q.pop(1)
	return it, true
}

// head returns the first item that is sure to be answered and how many Syncs
// of copy-in mode stand before it; ok is false if there is none.
func (q *queue) head() (it item, skipped int, ok bool) {
	for i, it := range q.all() {
		if !it.maybe {
			return it, i, true
		}
	}
	return item{}, 0, false
}

// idle reports whether nothing is under way.
func (q *queue) idle() bool {
	_, _, ok := q.head()
	return !ok
}

// ends reports whether a Sync that is sure to be read as one is among the items.
func (q *queue) ends() bool {
	for _, it := range q.all() {
		if it.kind == itemSync && !it.maybe {
			return true
		}
	}
	return false
}

// mayCopy reports whether an answer that is still due may open copy-in mode.
// skipping says that the target skips everything up to the next Sync.
func (q *queue) mayCopy(skipping bool) bool {
	for _, it := range q.all() {
		switch {
		case skipping:
			skipping = it.kind != itemSync
		case it.kind == itemExecute || it.kind == itemQuery:
			return true
		}
	}
	return false
}
