package mask

import (
	"slices"

	"github.com/gatebook/gatebook/internal/detect"
)

// Values masks the values that detectors find in texts. It is immutable and safe for concurrent use.
type Values struct {
	find *detect.Set
	by   map[string]*Rule
	all  bool // of what find finds
}

// newValues returns nil for no rules. Of several rules about a kind the first counts.
func newValues(rules []*Rule, find *detect.Set) *Values {
	v := &Values{find: find, by: map[string]*Rule{}}
	for _, r := range rules {
		for _, name := range find.Names() {
			if _, ok := v.by[name]; !ok && (slices.Contains(r.Kinds, name) || slices.Contains(r.Kinds, AllKinds)) {
				v.by[name] = r
			}
		}
	}
	if len(v.by) == 0 {
		return nil
	}
	v.all = len(v.by) == len(find.Names())
	return v
}

// AllKinds stands for every kind in a rule.
const AllKinds = "*"

// Find appends to dst what of a text is masked.
func (v *Values) Find(dst []detect.Hit, text []byte) []detect.Hit {
	at := len(dst)
	dst = v.find.Scan(dst, text)
	if !v.all && len(dst) > at {
		return append(dst[:at], slices.DeleteFunc(dst[at:], func(h detect.Hit) bool { return v.by[h.Kind] == nil })...)
	}
	return dst
}

// Rule returns the rule for a kind, nil if there is none.
func (v *Values) Rule(kind string) *Rule { return v.by[kind] }

// Replace returns a text with what was found in it masked. null: a rule says that a text that holds such a value is NULL as a whole.
// The result is no part of text.
func (v *Values) Replace(text []byte, hits []detect.Hit) (out []byte, null bool) {
	at := 0
	for _, h := range hits {
		r := v.by[h.Kind]
		out = append(out, text[at:h.Start]...)
		at = h.End
		switch r.Method {
		case Null:
			return nil, true
		case Redact:
			out = append(append(append(out, '['), h.Kind...), ']')
		default:
			value, _ := r.Apply(text[h.Start:h.End], typeText, false, true)
			out = append(out, value...)
		}
	}
	return append(out, text[at:]...), false
}
