package evidence

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
)

// CellClaim asks about one masked cell: which it is, and whether a value was masked in it.
type CellClaim struct {
	Session  string
	Exchange uint64
	// Statement and Column count from 0, Row from 1.
	Statement int
	Row       uint64
	Column    int
	// Key is the cell's key, nil to ask for its number alone. Value is what is claimed to have been masked, or Null.
	Key   []byte
	Value []byte
	Null  bool
}

// CellAnswer is what a package says of a claim.
type CellAnswer struct {
	// Cell is the number under which the gateway releases the cell's key.
	Cell   uint64 `json:"cell"`
	Mask   string `json:"mask"`
	Column string `json:"column"`
	// Committed: there is a commitment to the cell. Confirmed: it is one to the value that is claimed.
	Committed bool `json:"committed"`
	Confirmed bool `json:"confirmed"`
	// Problem says why the cell is not found, "" if it is.
	Problem string `json:"problem,omitempty"`
}

// Cell returns the number of a masked cell in the order of the commitments: those of columns with a mask, row by row, statement by statement.
func (m *Masking) Cell(statement int, row uint64, column int) (n uint64, of *MaskedColumn, err error) {
	var columns []*MaskedColumn
	for i := range m.Masked {
		switch c := &m.Masked[i]; {
		case c.Mask == "":
		case c.Statement < statement:
			n += c.Seen
		case c.Statement == statement:
			columns = append(columns, c)
		}
	}
	slices.SortFunc(columns, func(a, b *MaskedColumn) int { return a.At - b.At })
	at := slices.IndexFunc(columns, func(c *MaskedColumn) bool { return c.At == column })
	if at < 0 {
		return 0, nil, fmt.Errorf("column %d of the answer was not masked by a rule of columns", column+1)
	}
	of = columns[at]
	if row < 1 || row > of.Seen {
		return 0, nil, fmt.Errorf("the answer has %d rows", of.Seen)
	}
	return n + (row-1)*uint64(len(columns)) + uint64(at), of, nil
}

// claimed answers the claim once the outcome of its exchange is there.
func (b *Builder) claimed(in *openIntent, v *Outcome, m *Masking) {
	c := b.claim
	a := &CellAnswer{}
	b.answer = a
	n, of, err := m.Cell(c.Statement, c.Row, c.Column)
	if err != nil {
		a.Problem = err.Error()
		return
	}
	a.Cell, a.Mask, a.Column = n, of.Mask, of.Column
	all := append(in.kept, v.Cells...)
	if n >= uint64(len(all))/commitmentSize {
		a.Problem = "there is no commitment to the cell: the gateway had no mask_key, or the agent did not get the row"
		return
	}
	a.Committed = true
	want := all[n*commitmentSize : (n+1)*commitmentSize]
	a.Confirmed = len(c.Key) > 0 && subtle.ConstantTimeCompare(commitment(c), want) == 1
}

// commitment is the first 16 bytes of SHA-256 over the cell's key, 0 for NULL or 1 for a value, and the value.
func commitment(c *CellClaim) []byte {
	text := append([]byte(nil), c.Key...)
	if c.Null {
		text = append(text, 0)
	} else {
		text = append(append(text, 1), c.Value...)
	}
	sum := sha256.Sum256(text)
	return sum[:commitmentSize]
}

// asks reports whether an exchange is the one that the claim is about.
func (b *Builder) asks(s *openSession, exchange uint64) bool {
	return b.claim != nil && b.claim.Session == s.id.String() && b.claim.Exchange == exchange
}
