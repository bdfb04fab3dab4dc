package postgres

import (
	"slices"
	"strings"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

// shown says which parts of a text, and which parameters, are not shown where requests are read in clear: those that meet values of
// columns that are masked for anybody. A text that is not understood is hidden whole.
func (q *requests) shown(a *access.Action, text string) {
	named := q.r.s.Named()
	if !named.Columns() || q.r.db == nil || text == "" {
		return
	}
	known := q.r.db.known.Load()
	if known == nil {
		a.HiddenText = []access.HiddenPart{{From: 0, To: len(a.Text), What: "masks"}}
		return
	}
	h := known.masking(named).hidden.Get(text)
	if a.Text == text {
		a.HiddenText = slices.Clone(h.text)
	}
	a.HiddenParams = slices.Clone(h.params)
}

// hidden is what is not shown of a text.
type hidden struct {
	text   []access.HiddenPart
	params []access.HiddenParam
}

func (p *plans) hides(text string) *hidden {
	out := &hidden{}
	answers, ok := p.schema.Text(text, nil)
	ends, scanned := sqlscan.Constants(text)
	if !ok || !scanned {
		out.text = []access.HiddenPart{{From: 0, To: len(text), What: "masks"}}
		return out
	}
	for i := range answers {
		for _, l := range answers[i].Literals {
			if end, ok := ends[l.At]; ok {
				out.text = append(out.text, access.HiddenPart{From: l.At, To: end, What: p.maskName(l.Of.String())})
			}
		}
		for _, l := range answers[i].Params {
			out.params = append(out.params, access.HiddenParam{N: l.At, What: p.maskName(l.Of.String())})
		}
	}
	return out
}

func (p *plans) maskName(column string) string {
	if r := p.set.Rule(column); r != nil {
		return r.Name
	}
	return "masks"
}

// writtenBack refuses a request that compares a masked column with a masked value, or puts one into it: what stands there looks like a
// value and is none.
func (p *plan) writtenBack(a *access.Action, text string) *access.DenyError {
	if p == nil || !p.set.Columns() {
		return nil
	}
	var ends map[int]int
	var values []any
	for i := range p.answers {
		m := &p.answers[i]
		if len(m.Literals) > 0 && ends == nil {
			ends, _ = sqlscan.Constants(text)
		}
		for _, l := range m.Literals {
			if end, ok := ends[l.At]; ok && p.made(l.Of.String(), strings.Trim(text[l.At:end], "'$")) {
				return denyWrittenBack(l.Of.String())
			}
		}
		if len(m.Params) > 0 && values == nil {
			values, _ = a.Bound()
		}
		for _, l := range m.Params {
			if l.At < 1 || l.At > len(values) {
				continue
			}
			if v := values[l.At-1]; p.made(l.Of.String(), textOf(v)) {
				return denyWrittenBack(l.Of.String())
			}
		}
	}
	return nil
}

func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

func (p *plan) made(column, text string) bool {
	r := p.set.Rule(column)
	return r != nil && r.Made(text)
}

func denyWrittenBack(column string) *access.DenyError {
	return &access.DenyError{
		Code: access.CodeMask, Rule: "masks", Reason: "a value for " + column + " is one that a mask has made, and stands for another",
		Hint: "Masked values cannot be written or looked for: choose rows by other columns.",
	}
}
