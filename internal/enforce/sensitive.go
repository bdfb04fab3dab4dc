package enforce

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/detect"
)

// find looks for personal and secret values in a request of the agent's: it fills in what was found, and hides the kinds that are
// masked at the target for anybody. What its text says of masked columns is hidden already.
func (s *Session) find(a *access.Action, snap *Snapshot) {
	if snap.Detect == nil || a.Origin != "" {
		return
	}
	for _, l := range a.List {
		s.find(l, snap)
	}
	var buf [8]detect.Hit
	hits := snap.Detect.Scan(buf[:0], []byte(a.Text))
	hides := func(string) bool { return false }
	if snap.Masks != nil {
		if v := snap.Masks.Named(s.target.Name).Values(); v != nil {
			hides = func(kind string) bool { return v.Rule(kind) != nil }
		}
	}
	for _, h := range hits {
		note(a, h.Kind)
		if hides(h.Kind) {
			a.HiddenText = append(a.HiddenText, access.HiddenPart{From: h.Start, To: h.End, What: h.Kind})
		}
	}
	s.findReceived(a)
	if len(a.HiddenText) > 1 {
		a.HiddenText = ordered(a.HiddenText)
	}
	findBound(a, snap.Detect, hides)
}

// findBound looks into what is bound to a request.
func findBound(a *access.Action, find *detect.Set, hides func(kind string) bool) {
	if len(a.Detail) == 0 {
		return
	}
	var buf [8]detect.Hit
	if hits := find.Scan(buf[:0], a.Detail); len(hits) == 0 && !bytes.Contains(a.Detail, []byte(`"b64"`)) && !bytes.Contains(a.Detail, []byte(`\u`)) {
		return
	}
	values, err := a.Bound()
	if err != nil {
		return // they are not recorded either
	}
	for i, v := range values {
		var raw []byte
		switch v := v.(type) {
		case string:
			raw = []byte(v)
		case []byte:
			raw = v
		}
		hidden := slices.ContainsFunc(a.HiddenParams, func(p access.HiddenParam) bool { return p.N == i+1 })
		for _, h := range find.Scan(buf[:0], raw) {
			note(a, h.Kind)
			if !hidden && hides(h.Kind) {
				a.HiddenParams = append(a.HiddenParams, access.HiddenParam{N: i + 1, What: h.Kind})
				hidden = true
			}
		}
	}
}

// ordered puts parts in order, and makes one of those that overlap.
func ordered(parts []access.HiddenPart) []access.HiddenPart {
	slices.SortStableFunc(parts, func(a, b access.HiddenPart) int { return cmp.Compare(a.From, b.From) })
	out := parts[:1]
	for _, p := range parts[1:] {
		if last := &out[len(out)-1]; p.From < last.To {
			last.To = max(last.To, p.To)
			continue
		}
		out = append(out, p)
	}
	return out
}

// sensitiveOf is what records say of it.
func sensitiveOf(a *access.Action) *evidence.Sensitive {
	if len(a.Found) == 0 && len(a.HiddenText) == 0 && len(a.HiddenParams) == 0 {
		return nil
	}
	out := &evidence.Sensitive{Found: a.Found}
	for _, p := range a.HiddenText {
		out.Text = append(out.Text, evidence.SensitivePart(p))
	}
	for _, p := range a.HiddenParams {
		out.Params = append(out.Params, evidence.SensitiveParam(p))
	}
	return out
}

func note(a *access.Action, kind string) {
	if a.Found == nil {
		a.Found = map[string]uint64{}
	}
	a.Found[kind]++
}

// found is what was found in a request, those of its list included.
func found(a *access.Action) map[string]uint64 {
	all := maps.Clone(a.Found)
	for _, l := range a.List {
		for k, n := range l.Found {
			if all == nil {
				all = map[string]uint64{}
			}
			all[k] += n
		}
	}
	return all
}

// Bounds of what is looked at again with the next chunk, so that a value that two chunks share is found, in bytes: always, and where a
// value may go on.
const (
	overlap    = 256
	maxOverlap = 64 << 10
)

// look looks for personal and secret values in a chunk of what the agent sends with a request; last says that no other follows. Callers
// hold x.mu.
func (x *Exchange) look(chunk []byte, last bool) (found map[string]uint64) {
	if x.find == nil {
		return nil
	}
	counted := x.counted // hits that end here or before are
	text := append(x.tail, chunk...)
	keep, next := max(0, len(text)-overlap), len(text)
	for _, h := range x.find.Scan(nil, text) {
		switch {
		case h.End <= counted:
			continue
		case h.End == len(text) && !last && len(text)-h.Start <= maxOverlap: // it may go on: counted with the next one
			keep, next = min(keep, h.Start), h.Start
			continue
		}
		for _, counts := range []*map[string]uint64{&found, &x.personal} {
			if *counts == nil {
				*counts = map[string]uint64{}
			}
			(*counts)[h.Kind]++
		}
	}
	x.s.budget.received.receivedIn(chunk, func(kind string) {
		for _, counts := range []*map[string]uint64{&found, &x.personal} {
			if *counts == nil {
				*counts = map[string]uint64{}
			}
			(*counts)[kind]++
		}
	})
	x.tail, x.counted = append([]byte(nil), text[keep:]...), next-keep
	return found
}
