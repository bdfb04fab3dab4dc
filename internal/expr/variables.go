package expr

import "strings"

// Variables are the names that the expression may read: declared variables,
// types, and those of its own macros.
func (p *Program[T]) Variables() map[string]bool {
	found := map[string]bool{}
	for _, r := range p.tree.NativeRep().ReferenceMap() {
		if r.Name != "" && r.Value == nil && len(r.OverloadIDs) == 0 {
			found[strings.TrimPrefix(r.Name, ".")] = true
		}
	}
	return found
}
