package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/gatebook/gatebook/internal/access"
)

// do returns an understood action of statements.
func do(s ...access.Statement) *access.Action {
	a := &access.Action{Op: "query", Understood: true, HasFilter: true, Statements: s}
	for _, st := range s {
		a.Effects |= st.Effects
		a.HasFilter = a.HasFilter && st.HasFilter
		a.Understood = a.Understood && st.Understood
	}
	return a
}

func stmt(e access.Effects, filter bool) access.Statement {
	return access.Statement{Verb: "X", Effects: e, HasFilter: filter, Understood: true}
}

func TestPacks(t *testing.T) {
	t.Parallel()
	monday := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	read, write := stmt(access.EffectRead, true), stmt(access.EffectWrite, true)
	opaque := &access.Action{Effects: access.EffectExecute}
	tests := []struct {
		pack, name string
		a          *access.Action
		at         time.Time
		used       access.Usage
		want       string // rule of the pack that matches, "" if none does
	}{
		{"read-only", "read", do(read), monday, access.Usage{}, "read"},
		{"read-only", "read of everything", do(stmt(access.EffectRead, false)), monday, access.Usage{}, "read"},
		{"read-only", "transaction", do(stmt(access.EffectTransaction, true)), monday, access.Usage{}, "read"},
		{"read-only", "setting", do(stmt(access.EffectSession, true)), monday, access.Usage{}, "read"},
		{"read-only", "begin, read, commit", do(stmt(access.EffectTransaction, true), read, stmt(access.EffectTransaction, true)), monday, access.Usage{}, "read"},
		{"read-only", "empty text", do(), monday, access.Usage{}, "empty"},
		{"read-only", "no effect known", do(stmt(0, true)), monday, access.Usage{}, ""},
		{"read-only", "write", do(write), monday, access.Usage{}, ""},
		{"read-only", "read and write", do(read, write), monday, access.Usage{}, ""},
		{"read-only", "setting of access", do(stmt(access.EffectSession|access.EffectAccess, true)), monday, access.Usage{}, ""},
		{"read-only", "lock", do(stmt(access.EffectRead|access.EffectLock, true)), monday, access.Usage{}, ""},
		{"read-only", "notify", do(stmt(access.EffectNotify, true)), monday, access.Usage{}, ""},
		{"read-only", "code", do(stmt(access.EffectRead|access.EffectExecute, true)), monday, access.Usage{}, ""},
		{"read-only", "schema", do(stmt(access.EffectSchema, true)), monday, access.Usage{}, ""},
		{"read-only", "opaque", opaque, monday, access.Usage{}, ""},
		{"read-only", "opaque, said to read", &access.Action{Effects: access.EffectRead}, monday, access.Usage{}, ""},
		{"read-only", "zero", &access.Action{}, monday, access.Usage{}, ""},

		{"no-schema-changes", "schema", do(stmt(access.EffectSchema, true)), monday, access.Usage{}, "schema"},
		{"no-schema-changes", "schema with a read", do(read, stmt(access.EffectSchema|access.EffectRead, true)), monday, access.Usage{}, "schema"},
		{"no-schema-changes", "write", do(write), monday, access.Usage{}, ""},

		{"no-unfiltered-writes", "with", do(write), monday, access.Usage{}, ""},
		{"no-unfiltered-writes", "without", do(stmt(access.EffectWrite, false)), monday, access.Usage{}, "filter"},
		{"no-unfiltered-writes", "second without", do(write, stmt(access.EffectWrite, false)), monday, access.Usage{}, "filter"},
		{"no-unfiltered-writes", "insert beside a read of everything", do(stmt(access.EffectRead, false), write), monday, access.Usage{}, ""},
		{"no-unfiltered-writes", "read of everything", do(stmt(access.EffectRead, false)), monday, access.Usage{}, ""},
		{"no-unfiltered-writes", "without parts", &access.Action{Understood: true, Effects: access.EffectWrite}, monday, access.Usage{}, "filter"},
		{"no-unfiltered-writes", "opaque write", &access.Action{Effects: access.EffectWrite, Statements: []access.Statement{{Effects: access.EffectWrite}}}, monday, access.Usage{}, "filter"},

		{"writes-need-a-person", "write", do(write), monday, access.Usage{}, "write"},
		{"writes-need-a-person", "read", do(read), monday, access.Usage{}, ""},

		{"no-server-side-code-and-files", "execute", do(stmt(access.EffectExecute, true)), monday, access.Usage{}, "server"},
		{"no-server-side-code-and-files", "file", do(stmt(access.EffectFile, true)), monday, access.Usage{}, "server"},
		{"no-server-side-code-and-files", "network", do(stmt(access.EffectNetwork, true)), monday, access.Usage{}, "server"},
		{"no-server-side-code-and-files", "admin", do(stmt(access.EffectAdmin, true)), monday, access.Usage{}, "server"},
		{"no-server-side-code-and-files", "access", do(stmt(access.EffectAccess, true)), monday, access.Usage{}, "server"},
		{"no-server-side-code-and-files", "schema", do(stmt(access.EffectSchema, true)), monday, access.Usage{}, ""},
		{"no-server-side-code-and-files", "opaque text", opaque, monday, access.Usage{}, "server"},

		{"office-hours", "Monday morning", do(write), monday, access.Usage{}, ""},
		{"office-hours", "first minute", do(write), monday.Add(-2 * time.Hour), access.Usage{}, ""},
		{"office-hours", "too early", do(write), monday.Add(-2*time.Hour - time.Second), access.Usage{}, "closed"},
		{"office-hours", "last second", do(write), monday.Add(8*time.Hour - time.Second), access.Usage{}, ""},
		{"office-hours", "too late", do(write), monday.Add(8 * time.Hour), access.Usage{}, "closed"},
		{"office-hours", "Friday", do(write), monday.AddDate(0, 0, 4), access.Usage{}, ""},
		{"office-hours", "Saturday", do(write), monday.AddDate(0, 0, 5), access.Usage{}, "closed"},
		{"office-hours", "Sunday", do(write), monday.AddDate(0, 0, -1), access.Usage{}, "closed"},
		{"office-hours", "another zone's Monday", do(write), monday.AddDate(0, 0, -1).In(time.FixedZone("", 20*3600)), access.Usage{}, "closed"},
		{"office-hours", "definitions on Sunday", do(stmt(access.EffectSchema, true)), monday.AddDate(0, 0, -1), access.Usage{}, "closed"},
		{"office-hours", "read on Sunday", do(read), monday.AddDate(0, 0, -1), access.Usage{}, ""},
		{"office-hours", "no time given", do(write), time.Time{}, access.Usage{}, "closed"},

		{"no-opaque", "opaque", opaque, monday, access.Usage{}, "opaque"},
		{"no-opaque", "zero", &access.Action{}, monday, access.Usage{}, "opaque"},
		{"no-opaque", "understood", do(read, write), monday, access.Usage{}, ""},

		{"rate-limits", "last request", do(read), monday, access.Usage{Minute: access.Counts{Requests: 599}}, ""},
		{"rate-limits", "one more", do(read), monday, access.Usage{Minute: access.Counts{Requests: 600}}, "requests"},
		{"rate-limits", "rows", do(read), monday, access.Usage{Hour: access.Counts{Rows: 100000}}, "rows"},
		{"rate-limits", "last row", do(read), monday, access.Usage{Hour: access.Counts{Rows: 99999}}, ""},
		{"rate-limits", "bytes", do(read), monday, access.Usage{Day: access.Counts{Bytes: 1 << 30}}, "bytes"},
		{"rate-limits", "last byte", do(read), monday, access.Usage{Day: access.Counts{Bytes: 1<<30 - 1}}, ""},
	}
	tested := map[string]bool{}
	for _, tt := range tests {
		tested[tt.pack] = true
		t.Run(tt.pack+"/"+tt.name, func(t *testing.T) {
			t.Parallel()
			got := mustCompile(t, []string{tt.pack}).Decide(&Input{Action: tt.a, Time: tt.at, Usage: tt.used})
			want := DefaultRule
			if tt.want != "" {
				want = tt.pack + "/" + tt.want
			}
			if got.Rule != want || len(got.Matched) > 1 {
				t.Errorf("got %+v, want rule %s", got, want)
			}
		})
	}
	for _, p := range Packs() {
		if !tested[p.Name] {
			t.Errorf("the pack %s is not tested", p.Name)
		}
	}
}

// TestPacksAreWhatUsersCanWrite: the YAML of a pack, read as a configuration
// is, compiles and has the same rules.
func TestPacksAreWhatUsersCanWrite(t *testing.T) {
	t.Parallel()
	for _, p := range Packs() {
		if p.Description == "" || strings.Contains(p.Description, "\n") {
			t.Errorf("%s: description %q", p.Name, p.Description)
		}
		var file struct {
			Rules []struct {
				Name, When, Then, Reason, Hint string
			}
		}
		if err := yaml.UnmarshalWithOptions([]byte(p.YAML()), &file, yaml.Strict()); err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		verdicts := map[string]access.Verdict{"deny": access.Denied, "hold": access.Hold, "allow": access.Allow}
		var rules []Rule
		for i, r := range file.Rules {
			got := Rule{Name: r.Name, When: r.When, Then: verdicts[r.Then], Reason: r.Reason, Hint: r.Hint}
			want := p.Rules[i]
			want.Name, want.File = strings.ReplaceAll(want.Name, "/", "-"), ""
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s: %s", p.Name, d)
			}
			rules = append(rules, got)
		}
		mustCompile(t, []string{p.Name}, rules...)
	}
	mustCompile(t, packNames())
}

// TestOwnRulesSpeakBeforePacks: where both deny, the reason is the user's own.
func TestOwnRulesSpeakBeforePacks(t *testing.T) {
	t.Parallel()
	p := mustCompile(t, []string{"no-opaque", "read-only"}, Rule{Name: "mine", When: "action.opaque", Reason: "mine"})
	if d := p.Decide(&Input{}); d.Rule != "mine" || fmt.Sprint(d.Matched) != "[mine no-opaque/opaque]" {
		t.Errorf("got %+v", d)
	}
}
