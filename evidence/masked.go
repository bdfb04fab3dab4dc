package evidence

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Masking is what an outcome's detail says of the masks of its answer: the mask map.
type Masking struct {
	Masked []MaskedColumn `json:"masked,omitempty"`
	Bare   []BareCells    `json:"bare,omitempty"`
}

// MaskedColumn says what was masked of one column of an answer. Seen are all cells, Masked those with a masked value, Nulled those that
// were masked by NULL, Null those that were NULL. In a column without a rule by columns the others are those in which detectors found
// nothing.
type MaskedColumn struct {
	Statement int `json:"statement,omitempty"` // of a request of several, from 0
	At        int `json:"at"`                  // in the row, from 0
	// Mask and Column are of the rule by columns; Kinds are the values that detectors found.
	Mask   string            `json:"mask,omitempty"`
	Column string            `json:"column,omitempty"`
	Kinds  map[string]uint64 `json:"kinds,omitempty"`
	Seen   uint64            `json:"seen"`
	Masked uint64            `json:"masked"`
	Nulled uint64            `json:"nulled"`
	Null   uint64            `json:"null"`
}

// BareCells says how many cells of an answer were left as they were, and by what.
type BareCells struct {
	Statement int    `json:"statement,omitempty"`
	By        string `json:"by"`
	Columns   int    `json:"columns"`
	Cells     uint64 `json:"cells"`
}

// cells are those of one statement's answer, counted from the recorded bytes.
type cells struct {
	rows  uint64
	nulls []uint64 // by column
	// uncounted: they came by COPY, or in frames that are too large to look into.
	uncounted bool
}

func (c *cells) row(nulls []bool) {
	c.rows++
	for len(c.nulls) < len(nulls) {
		c.nulls = append(c.nulls, 0)
	}
	for i, null := range nulls {
		if null {
			c.nulls[i]++
		}
	}
}

// masking compares what an outcome says of masked cells with the recorded answer, and writes the rows of the population.
func (b *Builder) masking(s *openSession, in *openIntent, h *Header, v *Outcome, view *answerView, leaf string) error {
	var m Masking
	if b.asks(s, h.Exchange) {
		defer func() { b.claimed(in, v, &m) }()
	}
	if len(v.Detail) == 0 || json.Unmarshal(v.Detail, &m) != nil || len(m.Masked) == 0 && len(m.Bare) == 0 {
		return nil
	}
	wrong := ""
	if !undelivered(v) {
		wrong = recount(&m, view)
	}
	if have, want := (in.cells+uint64(len(v.Cells)))/commitmentSize, m.committed(); wrong == "" && have > 0 && have != want && !undelivered(v) {
		wrong = "it has " + strconv.FormatUint(have, 10) + " commitments to " + strconv.FormatUint(want, 10) + " masked cells"
	}
	if wrong != "" {
		b.problem(Integrity, at(h.Index), "session %s, exchange %d: %s", s.id, h.Exchange, wrong)
	}
	if s.body == nil {
		return nil
	}
	row := func(statement int, column, by string, kinds string, n ...uint64) error {
		fields := []string{s.id.String(), strconv.FormatUint(h.Exchange, 10), strconv.Itoa(statement), s.body.Principal.Issuer + "|" + s.body.Principal.Name, s.body.Target.Name, column, by, kinds}
		for _, v := range n {
			fields = append(fields, strconv.FormatUint(v, 10))
		}
		return b.row(&popMasking, in.index, h.Index, leaf, in.time, fields...)
	}
	for i := range m.Masked {
		c := &m.Masked[i]
		column, by := c.Column, c.Mask
		if column == "" {
			column, by = "column "+strconv.Itoa(c.At+1), "detectors"
		}
		kinds := (&Sensitive{Found: c.Kinds}).Kinds()
		if err := row(c.Statement, column, by, strings.Join(kinds, ", "), c.Seen, c.Masked, c.Nulled, c.Null, c.Seen-min(c.Seen, c.Masked+c.Nulled+c.Null)); err != nil {
			return err
		}
	}
	for i := range m.Bare {
		c := &m.Bare[i]
		if err := row(c.Statement, plural(c.Columns, "column"), c.By, "", c.Cells, 0, 0, 0, c.Cells); err != nil {
			return err
		}
	}
	return nil
}

// commitmentSize is the size of a commitment to a masked cell, in bytes.
const commitmentSize = 16

// committed is how many cells there are commitments to: all those of columns with a mask.
func (m *Masking) committed() (n uint64) {
	for i := range m.Masked {
		if c := &m.Masked[i]; c.Mask != "" {
			n += c.Seen
		}
	}
	return n
}

// undelivered reports whether the agent did not get all of an answer, so that less of it was recorded than was masked.
func undelivered(v *Outcome) bool {
	var d struct {
		Undelivered bool `json:"undelivered"`
	}
	return json.Unmarshal(v.Detail, &d) != nil || d.Undelivered || v.Status == "unknown" || v.Status == "not-run"
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// recount says what is wrong with a mask map, "" if nothing is.
func recount(m *Masking, view *answerView) string {
	columns := map[int]int{}
	for i := range m.Masked {
		c := &m.Masked[i]
		columns[c.Statement]++
		of := view.cells(c.Statement)
		if of.uncounted {
			continue
		}
		nulls := uint64(0)
		if c.At >= 0 && c.At < len(of.nulls) {
			nulls = of.nulls[c.At]
		}
		switch {
		case c.Seen != of.rows:
			return "it says that " + strconv.FormatUint(c.Seen, 10) + " cells of a column were seen, and the answer has " + strconv.FormatUint(of.rows, 10) + " rows"
		case c.Nulled+c.Null != nulls:
			return "it says that " + strconv.FormatUint(c.Nulled+c.Null, 10) + " cells of a column are NULL, and the answer has " + strconv.FormatUint(nulls, 10)
		case c.Masked+c.Nulled+c.Null > c.Seen, c.Mask != "" && c.Masked+c.Nulled+c.Null != c.Seen:
			return "the cells of a masked column do not add up"
		}
	}
	for i := range m.Bare {
		c := &m.Bare[i]
		columns[c.Statement] += c.Columns
		if of := view.cells(c.Statement); !of.uncounted && c.Cells != of.rows*uint64(max(c.Columns, 0)) {
			return "it says that " + strconv.FormatUint(c.Cells, 10) + " cells were left bare, and the answer has " + strconv.FormatUint(of.rows, 10) + " rows"
		}
	}
	for i := range view.statements() {
		if of := view.cells(i); !of.uncounted && of.rows > 0 && columns[i] != len(of.nulls) {
			return "it accounts for " + strconv.Itoa(columns[i]) + " columns of an answer that has " + strconv.Itoa(len(of.nulls))
		}
	}
	return ""
}
