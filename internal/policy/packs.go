package policy

import (
	"fmt"
	"strings"

	"github.com/gatebook/gatebook/internal/access"
)

// Pack is a named set of ready rules. They are ordinary rules: whoever wants
// them otherwise copies them.
type Pack struct {
	// Name, and Description in one line.
	Name, Description string
	// Rules are named "pack/rule".
	Rules []Rule
}

// Packs returns the ready packs, in the order in which documents list them.
func Packs() []Pack {
	list := []Pack{
		{"read-only", "Allows reading, transactions and settings of the own session, and nothing else.", []Rule{
			{
				Name: "read",
				When: `!action.opaque && action.effects != [] && action.effects.all(e, e in ["read", "transaction", "session"])`,
				Then: access.Allow,
			},
			{
				Name: "empty", // drivers ask so whether a session lives
				When: `!action.opaque && action.effects == [] && action.statements == []`,
				Then: access.Allow,
			},
		}},
		{"no-schema-changes", "Denies changes of definitions: CREATE, ALTER, DROP and what does the same.", []Rule{{
			Name:   "schema",
			When:   `"schema" in action.effects`,
			Reason: "Changes of definitions are not allowed here.",
			Hint:   "Definitions change through migrations.",
		}}},
		{"no-unfiltered-writes", "Denies changes of rows that no condition selects, such as UPDATE or DELETE without WHERE, and TRUNCATE.", []Rule{{
			Name: "filter",
			When: `"write" in action.effects && !action.has_filter &&
(action.statements.exists(s, "write" in s.effects && !s.has_filter) || !action.statements.exists(s, "write" in s.effects))`,
			Reason: "This would change rows that no condition selects.",
			Hint:   "Add a WHERE that depends on the row, such as id = 1.",
		}}},
		{"writes-need-a-person", "Holds every change of data until a person rules on it.", []Rule{{
			Name:   "write",
			When:   `"write" in action.effects`,
			Then:   access.Hold,
			Reason: "A person must approve changes of data.",
		}}},
		{"no-server-side-code-and-files", "Denies unknown code, files, networks, administration and changes of access.", []Rule{{
			Name:   "server",
			When:   `action.effects.exists(e, e in ["execute", "file", "network", "admin", "access"])`,
			Reason: "Code whose effects are not known, files, other hosts, administration and changes of access are not allowed here.",
		}}},
		{"office-hours", "Denies changes of data and definitions outside Monday to Friday, 08:00 to 18:00 UTC; copy it to name another zone.", []Rule{{
			Name: "closed",
			When: `action.effects.exists(e, e in ["write", "schema"]) &&
(time.getDayOfWeek("UTC") in [0, 6] || time.getHours("UTC") < 8 || time.getHours("UTC") >= 18)`,
			Reason: "Changes are allowed from Monday to Friday, 08:00 to 18:00 UTC.",
		}}},
		{"rate-limits", "Denies what is more than 600 requests a minute, 100,000 rows an hour or 1 GiB a day of one principal; copy it to change the figures.", []Rule{
			{Name: "requests", When: `usage.requests_minute >= 600`, Reason: "More than 600 requests in a minute.", Hint: "Wait a minute."},
			{Name: "rows", When: `usage.rows_hour >= 100000`, Reason: "More than 100,000 rows in an hour.", Hint: "Ask for fewer rows, or wait for the hour to pass."},
			{Name: "bytes", When: `usage.bytes_day >= 1073741824`, Reason: "More than 1 GiB of answers in a day.", Hint: "Ask for less, or wait for the day to pass."},
		}},
		{"no-opaque", "Denies what is not understood completely.", []Rule{{
			Name:   "opaque",
			When:   `action.opaque`,
			Reason: "The gateway does not understand all that this request does.",
			Hint:   "Write it with plain statements and the target's own functions.",
		}}},
	}
	for i := range list {
		for j := range list[i].Rules {
			r := &list[i].Rules[j]
			r.Name = list[i].Name + "/" + r.Name
			r.File = "pack " + list[i].Name
		}
	}
	return list
}

// FindPack returns a pack by its name. Its error is a Problems, with what was probably meant.
func FindPack(name string) (Pack, error) {
	for _, p := range Packs() {
		if p.Name == name {
			return p, nil
		}
	}
	return Pack{}, Problems{{Message: fmt.Sprintf("no pack is named %q", clip(name, 100)), Suggestion: Nearest(name, packNames())}}
}

func packNames() (names []string) {
	for _, p := range Packs() {
		names = append(names, p.Name)
	}
	return names
}

func isPackRule(name string) bool {
	for _, p := range Packs() {
		for _, r := range p.Rules {
			if r.Name == name {
				return true
			}
		}
	}
	return false
}

// YAML returns the rules of the pack as a configuration has them, with names
// that a copy may have.
func (p Pack) YAML() string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for _, r := range p.Rules {
		fmt.Fprintf(&b, "  - name: %s\n    when: |-\n", strings.ReplaceAll(r.Name, "/", "-"))
		for line := range strings.SplitSeq(r.When, "\n") {
			fmt.Fprintf(&b, "      %s\n", line)
		}
		fmt.Fprintf(&b, "    then: %s\n", r.Then)
		for _, words := range [][2]string{{"reason", r.Reason}, {"hint", r.Hint}} {
			if words[1] != "" {
				fmt.Fprintf(&b, "    %s: '%s'\n", words[0], strings.ReplaceAll(words[1], "'", "''"))
			}
		}
	}
	return b.String()
}
