package access

import "fmt"

// Together returns what the requests of a list do, all of them: an action with these as its List. It is understood if all are.
func Together(list []*Action) Action {
	all := Action{List: list, Understood: true, HasFilter: true}
	for i, a := range list {
		if !a.Understood && all.Understood {
			all.Understood, all.Why = false, fmt.Sprintf("statement %d of the list: %s", i+1, a.Why)
		}
		all.Effects |= a.Effects
		all.HasFilter = all.HasFilter && a.HasFilter
		all.Statements = append(all.Statements, a.Statements...)
	}
	return all
}
