package mask

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// path is a way into JSON: names of members, * for any member or element. Elements of arrays are gone through without a name.
type path []string

func parsePath(s string) (path, error) {
	p := path(strings.Split(s, "."))
	for _, part := range p {
		if part == "" {
			return nil, fmt.Errorf("%q is not a path such as contact.email or items.*.name", s)
		}
	}
	return p, nil
}

// inJSON masks the values at the rule's paths in a JSON text, all below a path if it ends at an object or an array. null: it is no JSON.
func (r *Rule) inJSON(text []byte) (out []byte, null bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil || d.More() {
		return nil, true
	}
	for _, p := range r.paths {
		v = r.at(v, p)
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return nil, true
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), false
}

func (r *Rule) at(v any, p path) any {
	switch v := v.(type) {
	case []any:
		if len(p) > 0 && p[0] == "*" {
			p = p[1:]
		}
		for i := range v {
			v[i] = r.at(v[i], p)
		}
		return v
	case map[string]any:
		for name := range v {
			switch {
			case len(p) == 0:
				v[name] = r.at(v[name], p)
			case p[0] == "*" || p[0] == name:
				v[name] = r.at(v[name], p[1:])
			}
		}
		return v
	}
	if len(p) > 0 {
		return v // a value where the path goes on
	}
	return r.leaf(v)
}

// leaf masks a string, and puts one in the place of everything else but null.
func (r *Rule) leaf(v any) any {
	text := ""
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		text = v
	default:
		text = fmt.Sprint(v)
	}
	if r.Method == Generalise {
		return nil
	}
	out, null := r.Apply([]byte(text), typeText, false, true)
	if null {
		return nil
	}
	return string(out)
}
