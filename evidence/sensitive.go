package evidence

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Sensitive says what of a request is personal or secret: what detectors found in it, and what is not shown where requests are read in
// clear. The exact request stands beside it in the sealed body.
type Sensitive struct {
	// Found are values that detectors found, by kind, in the text and in what is bound to it.
	Found map[string]uint64 `json:"found,omitempty"`
	// Text are the parts of the text that are not shown, in order.
	Text []SensitivePart `json:"text,omitempty"`
	// Params are the bound values that are not shown.
	Params []SensitiveParam `json:"params,omitempty"`
}

// SensitivePart are the bytes [From, To) of a text.
type SensitivePart struct {
	From int    `json:"from"`
	To   int    `json:"to"`
	What string `json:"what"` // a kind, or the mask whose column it is for
}

// SensitiveParam is a bound value, by its place from 1.
type SensitiveParam struct {
	N    int    `json:"n"`
	What string `json:"what"`
}

// Kinds returns what was found, "KIND N" each, sorted.
func (s *Sensitive) Kinds() (list []string) {
	if s == nil {
		return nil
	}
	for k, n := range s.Found {
		list = append(list, k+" "+strconv.FormatUint(n, 10))
	}
	slices.Sort(list)
	return list
}

// Shown returns a request's text as it is shown: what is not stands as [what]. Parts that are not of the text hide all of it.
func (s *Sensitive) Shown(text string) string {
	if s == nil || len(s.Text) == 0 {
		return text
	}
	var out strings.Builder
	at := 0
	for _, p := range s.Text {
		if p.From < at || p.To < p.From || p.To > len(text) {
			return "[not shown]"
		}
		out.WriteString(text[at:p.From])
		out.WriteString("[" + p.What + "]")
		at = p.To
	}
	out.WriteString(text[at:])
	return out.String()
}

// ShownDetail returns the particulars of a request as they are shown.
func (s *Sensitive) ShownDetail(detail json.RawMessage) json.RawMessage {
	if s == nil || len(s.Params) == 0 || len(detail) == 0 {
		return detail
	}
	hidden := json.RawMessage(`{"not_shown":true}`)
	var fields map[string]json.RawMessage
	if json.Unmarshal(detail, &fields) != nil {
		return hidden
	}
	for _, name := range []string{"params", "args"} {
		if fields[name] == nil {
			continue
		}
		var list []json.RawMessage
		if json.Unmarshal(fields[name], &list) != nil {
			return hidden
		}
		for _, p := range s.Params {
			if p.N < 1 || p.N > len(list) {
				return hidden
			}
			list[p.N-1] = appendJSON(nil, "["+p.What+"]")
		}
		shown, err := json.Marshal(list)
		if err != nil {
			return hidden
		}
		fields[name] = shown
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return hidden
	}
	return out
}

// Shown returns an intent's body as it is shown.
func (in *Intent) Shown() *Intent {
	if in.Sensitive == nil && !slices.ContainsFunc(in.List, func(l Listed) bool { return l.Sensitive != nil }) {
		return in
	}
	out := *in
	out.Text, out.Detail = in.Sensitive.Shown(in.Text), in.Sensitive.ShownDetail(in.Detail)
	out.List = shownList(in.List)
	return &out
}

func shownList(list []Listed) []Listed {
	out := slices.Clone(list)
	for i := range out {
		out[i].Text = out[i].Sensitive.Shown(out[i].Text)
	}
	return out
}

// Shown returns what a ticket covers as people see it.
func (b *TicketBound) Shown() TicketBound {
	out := *b
	out.Text, out.Detail, out.List = b.Sensitive.Shown(b.Text), b.Sensitive.ShownDetail(b.Detail), shownList(b.List)
	return out
}

// shownBody returns the JSON of a body as readable views have it.
func shownBody(kind Kind, meta []byte) []byte {
	if kind != KindIntent && kind != KindTicket || !bytes.Contains(meta, []byte(`"sensitive`)) {
		return meta
	}
	if kind == KindIntent {
		var in Intent
		if json.Unmarshal(meta, &in) != nil {
			return []byte("null")
		}
		return orNull(json.Marshal(in.Shown()))
	}
	var t Ticket
	var bound TicketBound
	if json.Unmarshal(meta, &t) != nil || json.Unmarshal([]byte(t.Bound), &bound) != nil {
		return []byte("null")
	}
	t.Bound = string(orNull(json.Marshal(bound.Shown())))
	return orNull(json.Marshal(&t))
}

func orNull(b []byte, err error) []byte {
	if err != nil {
		return []byte("null")
	}
	return b
}
