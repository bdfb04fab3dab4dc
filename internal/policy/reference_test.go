package policy

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/gatebook/gatebook/internal/access"
)

var update = flag.Bool("update", false, "write the generated part of docs/policy.md anew")

const (
	guide      = "../../docs/policy.md"
	guideBegin = "<!-- reference: made by \"go test ./internal/policy -run TestGuide -update\" -->\n"
	guideEnd   = "<!-- end of the reference -->\n"
)

// TestGuide holds the reference in the guide against the declarations, and
// compiles the guide's own rules.
func TestGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), guideBegin)
	old, after, ok2 := strings.Cut(rest, guideEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the reference", guide)
	}
	if want := Reference() + "\n"; old != want {
		if !*update {
			t.Errorf("the reference in %s is not that of the declarations (-update writes it)", guide)
		} else if err := os.WriteFile(guide, []byte(before+guideBegin+want+guideEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	guideRules(t, before+after)
}

func TestReferenceIsComplete(t *testing.T) {
	t.Parallel()
	text := Reference()
	for _, v := range variables {
		if v.doc == "" || !strings.Contains(text, "`"+v.name+"`") {
			t.Errorf("%s is not documented", v.name)
		}
	}
	for _, e := range access.EffectNames() {
		if effectDocs[e] == "" {
			t.Errorf("effect %s is not documented", e)
		}
	}
	if len(effectDocs) != len(access.EffectNames()) || !slices.Equal(effectNames, access.EffectNames()) {
		t.Error("effects are documented that do not exist")
	}
	for _, p := range Packs() {
		if !strings.Contains(text, "#### "+p.Name+"\n") {
			t.Errorf("pack %s is not documented", p.Name)
		}
	}
}

// guideRules compiles the rules of the guide, and decides its cases by the
// first of them.
func guideRules(t *testing.T, text string) {
	t.Helper()
	type file struct {
		Packs []string
		Rules []struct{ Name, When, Then, Reason, Hint string }
		Cases []Case
	}
	verdicts := map[string]access.Verdict{"deny": access.Denied, "hold": access.Hold, "allow": access.Allow}
	var policy *Policy
	cases := 0
	for i, block := range strings.Split(text, "```yaml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		var f file
		if err := yaml.UnmarshalWithOptions([]byte(block), &f, yaml.Strict()); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		src := Source{Packs: f.Packs}
		for _, r := range f.Rules {
			then, ok := verdicts[r.Then]
			if !ok {
				t.Errorf("rule %s: then %q", r.Name, r.Then)
			}
			src.Rules = append(src.Rules, Rule{Name: r.Name, When: r.When, Then: then, Reason: r.Reason, Hint: r.Hint})
		}
		p := mustCompile(t, src.Packs, src.Rules...)
		if policy == nil {
			policy = p
		}
		cases += len(f.Cases)
		for _, failure := range policy.Test(f.Cases, func(string) *access.Action { return do(stmt(access.EffectRead, true)) }) {
			t.Error(failure)
		}
	}
	if cases == 0 {
		t.Error("the guide has no cases")
	}
}
