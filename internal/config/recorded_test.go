package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// rule returns a file with one rule that allows nothing real.
func rule(name string) string {
	return "rules: [{name: " + name + ", when: 'action.opaque', then: deny}]\n"
}

// TestRecordedIsWhatWasLoaded loads configurations from a directory and again from
// the texts that loading them kept.
func TestRecordedIsWhatWasLoaded(t *testing.T) {
	including := func(patterns string) string { return strings.Replace(good, "targets.d/*.yaml", patterns, 1) }
	tests := []struct {
		name  string
		files map[string]string // DIR stands for the directory's path
	}{
		{"one file", map[string]string{"gate/gatebook.yaml": strings.Replace(good, "include: [targets.d/*.yaml]\n", rule("only")+"packs: [read-only]\n", 1)}},
		{"patterns in their order", map[string]string{
			"gate/gatebook.yaml": including("z.yaml, d/*.yaml, a.yaml") + rule("main"),
			"gate/a.yaml":        rule("a") + "packs: [no-opaque]\n", "gate/z.yaml": rule("z"),
			"gate/d/2.yaml": rule("two"), "gate/d/10.yaml": rule("ten") + "packs: [read-only]\n", "gate/d/1.yaml": goodTarget,
			"gate/d/ignored.yml": "not: included\n", "gate/ignored.yaml": "not: included\n",
		}},
		{"classes and unclean patterns", map[string]string{
			"gate/gatebook.yaml": including("'./d//[ab]?.yaml', '*/../c.yaml'"),
			"gate/d/a1.yaml":     rule("a1"), "gate/d/b1.yaml": rule("b1"), "gate/d/c1.yaml": "not: included\n", "gate/c.yaml": rule("c"),
		}},
		{"beside the directory", map[string]string{
			"gate/gatebook.yaml": including("../shared/*.yaml, local.yaml"),
			"shared/b.yaml":      rule("b"), "shared/a.yaml": rule("a"), "gate/local.yaml": rule("local"),
		}},
		{"absolute within", map[string]string{
			"gate/gatebook.yaml": including("DIR/gate/b/*.yaml, a/*.yaml"),
			"gate/a/1.yaml":      rule("a1"), "gate/b/1.yaml": rule("b1"),
		}},
		{"absolute beside", map[string]string{
			"gate/gatebook.yaml": including("DIR/shared/*.yaml, DIR/one.yaml, own.yaml"),
			"shared/1.yaml":      rule("shared"), "one.yaml": rule("one"), "gate/own.yaml": rule("own"),
		}},
		{"a pattern that matches nothing", map[string]string{"gate/gatebook.yaml": including("none/*.yaml") + rule("main")}},
		{"another name", map[string]string{"gate/prod.yaml": including("gatebook.yaml"), "gate/gatebook.yaml": rule("included")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			main := filepath.Join(dir, "gate", "gatebook.yaml")
			for name, text := range tt.files {
				if strings.HasPrefix(text, "version") {
					main = filepath.Join(dir, name)
				}
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := Load(main)
			if err != nil {
				t.Fatal(err)
			}
			kept := maps.Clone(want.Files)
			if err := os.RemoveAll(dir); err != nil { // nothing may be read
				t.Fatal(err)
			}
			for _, name := range []string{filepath.Base(main), ""} {
				got, err := LoadRecorded(kept, name, nil)
				if err != nil {
					t.Fatalf("main file %q: %v", name, err)
				}
				if !reflect.DeepEqual(got.Policy.Rules(), want.Policy.Rules()) {
					t.Errorf("main file %q: rules\n%v\nwant\n%v", name, got.Policy.Rules(), want.Policy.Rules())
				}
				if !reflect.DeepEqual(got.Config, want.Config) {
					t.Errorf("main file %q: configuration\n%+v\nwant\n%+v", name, got.Config, want.Config)
				}
			}
			if !reflect.DeepEqual(kept, want.Files) {
				t.Error("the texts were changed")
			}
		})
	}
}

func TestRecordedRefuses(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		main  string
		want  string
	}{
		{"no main file", map[string]string{"a.yaml": goodTarget}, "", "main one"},
		{"two main files", map[string]string{"a.yaml": good, "b.yaml": good}, "", "main one"},
		{"main file not recorded", map[string]string{"a.yaml": good}, "gatebook.yaml", "lacks"},
		{"a file that nothing includes", map[string]string{"gatebook.yaml": good, "rules.yaml": rule("r")}, "", "do not lead"},
		{"an included file is missing", map[string]string{"gatebook.yaml": strings.Replace(good, "targets.d/*", "a", 1)}, "", "do not lead"},
		{"unknown key", map[string]string{"gatebook.yaml": good + "surprise: 1\n"}, "", "surprise"},
		{"unknown key in an included file", map[string]string{"gatebook.yaml": good, "targets.d/a.yaml": "rulez: []\n"}, "", "rulez"},
		{"a rule that does not compile", map[string]string{"gatebook.yaml": good + strings.Replace(rule("r"), "opaque", "opaq", 1)}, "", "opaq"},
		{"a verdict that is none", map[string]string{"gatebook.yaml": good + strings.Replace(rule("r"), "deny", "dny", 1)}, "", "dny"},
		{"a target twice", map[string]string{"gatebook.yaml": good, "targets.d/a.yaml": goodTarget, "targets.d/b.yaml": goodTarget}, "", "taken"},
		{"malformed pattern", map[string]string{"gatebook.yaml": strings.Replace(good, "targets.d/*.yaml", "'['", 1)}, "gatebook.yaml", "do not lead"},
		{"not YAML", map[string]string{"gatebook.yaml": "version: [\n"}, "gatebook.yaml", "gatebook.yaml"},
		{"nothing", nil, "", "main one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := LoadRecorded(tt.files, tt.main, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v, %v: want an error that says %q", got, err, tt.want)
			}
		})
	}
}
