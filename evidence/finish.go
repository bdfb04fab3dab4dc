package evidence

import (
	"encoding/json"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Summary is the content of data/summary.json.
type Summary struct {
	Scope      Scope             `json:"scope"`
	FirstTime  time.Time         `json:"first_entry,omitzero"`
	LastTime   time.Time         `json:"last_entry,omitzero"`
	Sync       []string          `json:"sync_modes"`
	Boots      int               `json:"boots"`
	Stats      Stats             `json:"totals"`
	Kinds      map[Kind]uint64   `json:"entries_by_kind"`
	Withheld   map[string]uint64 `json:"withheld"`
	Others     map[string]uint64 `json:"entries_of_others,omitempty"` // by pseudonym, outside of the filter
	IssuerKeys map[string]uint64 `json:"issuer_keys"`                 // sessions by issuer URL and key thumbprint
	Exceptions []Exception       `json:"exceptions"`
	// Populations that are in the package, and those that are not, with the reason.
	Populations []string          `json:"populations"`
	Absent      map[string]string `json:"absent"`
}

// absent names the populations that this version has no source for.
var absent = map[string]string{
	"P3 decisions":       "decisions are columns of P2",
	"P6 entitlements":    "changes show as configuration entries in P9",
	"P7 policy":          "the policy text stands in the configuration entries, whose changes P9 lists",
	"P12 exceptions":     "a broken glass is an exception, and stands in P4 with its ticket",
	"P13 alerts":         "alerts are exceptions of this package, and entries of the book; who looked at them is not recorded",
	"P14 erasures":       "there is no erasure in this version",
	"P15 reconciliation": "reconciliation with the target's log is not part of this version",
	"P16 clock checks":   "there are no clock checks in this version",
}

// Finish ends the range: it writes what is still open, the identities, the
// summary and the page for people. It returns the summary.
func (b *Builder) Finish(first time.Time) (*Summary, error) {
	b.tokens()
	b.filtered()
	b.ends()
	left := slices.Collect(maps.Values(b.open))
	sort.Slice(left, func(i, j int) bool { return left[i].first < left[j].first })
	for _, s := range left {
		for _, n := range slices.Sorted(maps.Keys(s.intents)) {
			b.exception(s.intents[n].index, "open-intent", "session %s, exchange %d was running when the range was closed", s.id, n)
		}
		if err := b.sessionDone(s, nil, nil); err != nil {
			return nil, err
		}
	}
	if err := b.standingOver(stateStanding); err != nil {
		return nil, err
	}
	if err := b.identities(); err != nil {
		return nil, err
	}
	sum := &Summary{
		Scope: b.scope, FirstTime: first, LastTime: b.last, Sync: slices.Sorted(maps.Keys(b.sync)), Boots: b.boots,
		Stats: b.stats, Kinds: b.counts, Withheld: b.withheld, Others: b.others, IssuerKeys: b.issuerKeys,
		Exceptions: b.issues, Absent: absent,
	}
	if sum.Exceptions == nil {
		sum.Exceptions = []Exception{}
	}
	for _, p := range populations {
		sum.Populations = append(sum.Populations, strings.TrimSuffix(strings.TrimPrefix(p.file, "data/populations/"), ".csv"))
	}
	text, err := json.MarshalIndent(sum, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := b.sink.Append(fileSummary, append(text, '\n')); err != nil {
		return nil, err
	}
	page, err := renderReadme(sum)
	if err != nil {
		return nil, err
	}
	return sum, b.sink.Append(fileReadme, page)
}

// identities writes the population of principals.
func (b *Builder) identities() error {
	for _, id := range slices.Sorted(maps.Keys(b.people)) {
		p := b.people[id]
		count := func(level string) string { return strconv.FormatUint(p.levels[level], 10) }
		err := b.row(&popIdentities, p.first, p.first, p.leaf, p.time,
			id, p.body.Issuer, p.body.IssuerURL, p.body.Subject, p.body.Issuer+"|"+p.body.Name, strings.Join(p.body.Groups, " "),
			p.body.Owner, strconv.FormatUint(p.sessions, 10), count("issuer-signed"), count("asserted"))
		if err != nil {
			return err
		}
	}
	return nil
}
