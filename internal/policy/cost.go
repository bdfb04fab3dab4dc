package policy

import (
	"strings"

	"cel.dev/cel-go/common/types"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/expr"
)

// What one rule may cost for one request is bounded twice. For requests up to
// a size for which the estimate of a rule stays within maxEstimated, nothing
// is counted: that is fast, and takes ten milliseconds at most. For larger ones
// the cost is counted, and ends at maxCounted; counting takes
// time with the square of the steps in loops, so that this is ten milliseconds too.
const (
	maxEstimated = 200_000
	maxCounted   = 10_000
)

// A tier is a size of requests: characters of the text, elements of each list.
type tier struct{ text, list int }

// tiers of requests, the smallest first. Rules cannot read the text or a list
// that fits in none.
var tiers = [...]tier{{16 << 10, 64}, {64 << 10, 1024}, {256 << 10, 4096}, {1 << 20, 16384}}

var largest = tiers[len(tiers)-1]

var (
	errLongText  = types.NewErr("the text has more than %d bytes, which is too large for a rule", largest.text)
	errLongList  = types.NewErr("the list has more than %d elements, which is too large for a rule", largest.list)
	errLongValue = types.NewErr("a parameter has more than %d bytes, which is too large for a rule", largest.text)
)

// tierOf returns the place of the first tier that an action fits in, len(tiers) if it fits in none.
func tierOf(a *access.Action) int {
	if a == nil {
		return 0
	}
	objects, columns := 0, 0
	for i := range a.Statements {
		objects += len(a.Statements[i].Objects)
		columns += len(a.Statements[i].Columns)
	}
	most := max(len(a.Statements), len(a.Parameters), objects, columns)
	for i, t := range tiers {
		if len(a.Text) <= t.text && most <= t.list {
			return i
		}
	}
	return len(tiers)
}

// sizes are what the variables of requests of a tier can have. Names and
// values of parameters have no bound, nor what stands in claims.
func (t tier) sizes(path []string) (uint64, bool) {
	switch path[len(path)-1] {
	case "action.text":
		return uint64(t.text), true
	case "action.verbs", "action.statements", "action.objects", "action.relations", "action.functions", "action.columns", "action.parameters":
		return uint64(t.list), true
	case "objects", "columns":
		if path[0] == "action.statements" {
			return uint64(t.list), true
		}
	}
	return anySizes(path)
}

// anySizes are those of requests of any size.
func anySizes(path []string) (uint64, bool) {
	switch name := path[len(path)-1]; {
	case name == "action.effects", len(path) > 1 && name == "effects" && strings.HasPrefix(path[0], "action."):
		return uint64(len(effectNames)), true
	case name == "principal.groups", name == "principal.actor":
		return 1024, true // identity takes no more
	case name == "action.personal_data", name == "action.infers":
		return 256, true // kinds
	}
	return 0, false
}

// free returns up to which tier a condition need not be counted: -1 for none,
// len(tiers) for requests of any size.
func free(p *expr.Program[bool]) int {
	if p.Worst(anySizes) <= maxEstimated {
		return len(tiers)
	}
	for i := len(tiers) - 1; i >= 0; i-- {
		if p.Worst(tiers[i].sizes) <= maxEstimated {
			return i
		}
	}
	return -1
}
