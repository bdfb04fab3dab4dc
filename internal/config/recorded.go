package config

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gatebook/gatebook/internal/policy"
)

// Recorded is what decides who may do what, read from the texts of a configuration that the book has.
type Recorded struct {
	// Policy is what the rules and packs say, compiled.
	Policy *policy.Policy
	// Config holds all lists, those of included files too. What only a start needs (secrets, certificates, addresses) is not checked.
	Config Config
}

// unknownDir stands for a directory whose name the record does not have. No
// file can be named so, and no pattern can mean it.
const unknownDir = "\x00"

// LoadRecorded reads a configuration from its texts alone, by their names relative
// to the main file's directory, as Loaded.Files and the book's configuration
// entries have them. Rules, packs, issuers and targets stand in the order in which Load had
// them. main names the main file; where it is empty, it is the one file with
// "version" at its top level, since included files have none.
//
// packs are the rules that its packs stood for then, named "pack/rule"; where there are none, packs are those of this version.
//
// The disk is not touched and secrets are not looked at. Texts of a version with other keys are an error: to
// leave out what is not understood could say too much or too little. Its error is a Problems, or says what of the
// record is missing.
func LoadRecorded(files map[string]string, main string, packs []policy.Rule) (*Recorded, error) {
	if main == "" {
		var err error
		if main, err = findMain(files); err != nil {
			return nil, err
		}
	}
	if _, ok := files[main]; !ok {
		return nil, fmt.Errorf("the recorded configuration lacks its main file %s", main)
	}
	ld := &loader{l: &Loaded{Dir: "/", Files: make(map[string]string)}, ready: packs}
	ld.main = &file{name: main, text: []byte(files[main])}
	ld.decode(ld.main, &ld.l.Config)
	if err := ld.failed(); err != nil {
		return nil, err
	}
	if err := ld.place(files, main); err != nil {
		return nil, err
	}
	ld.include()
	if len(ld.problems) == 0 {
		for i := range ld.l.Targets {
			ld.access(ld.targets[i], &ld.l.Targets[i], i)
		}
		ld.policy()
		ld.maskRules()
	}
	if err := ld.failed(); err != nil {
		return nil, err
	}
	return &Recorded{Policy: ld.l.Policy, Config: ld.l.Config}, nil
}

var policyName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*$`)

// LoadPolicy reads a policy to try out: a whole configuration, or a file that one includes for its rules and packs. Its errors are as Load's.
func LoadPolicy(path string) (*policy.Policy, error) {
	text, err := openFile(path)
	if err != nil {
		return nil, err
	}
	var top map[string]any
	if err := parse(&file{text: text}, &top); err == nil && top["version"] != nil {
		c, err := Load(path)
		if err != nil {
			return nil, err
		}
		return c.Policy, nil
	}
	const main = "gatebook.yaml"
	name := filepath.Base(path) // for problems; it must not be a pattern
	if !policyName.MatchString(name) || name == main {
		name = "policy.yaml"
	}
	recorded, err := LoadRecorded(map[string]string{main: fmt.Sprintf("version: 1\ninclude: [%s]\n", name), name: string(text)}, main, nil)
	if err != nil {
		return nil, err
	}
	return recorded.Policy, nil
}

// findMain finds the main file of a record that does not name it.
func findMain(files map[string]string) (string, error) {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := &file{name: name, text: []byte(files[name])}
		var top map[string]any
		if err := parse(f, &top); err == nil && top["version"] != nil {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("the recorded configuration does not say which of its files is the main one, and %d have \"version\" at the top", len(found))
	}
	return found[0], nil
}

// place finds a directory for the main file from which the includes reach
// every recorded file, and lets the loader read there. The record has names relative to that
// directory but not its path, which matters to absolute includes alone.
func (ld *loader) place(files map[string]string, main string) error {
	for _, dir := range ld.places(files) {
		texts := make(map[string]string, len(files))
		for name, text := range files {
			texts[filepath.Join(dir, name)] = text
		}
		ld.l.Dir = dir
		ld.open = func(path string) ([]byte, error) {
			text, ok := texts[path]
			if !ok {
				return nil, fs.ErrNotExist
			}
			return []byte(text), nil
		}
		ld.glob = func(pattern string) (paths []string, err error) {
			pattern = filepath.Clean(pattern)
			for path := range texts {
				ok, err := filepath.Match(pattern, path)
				if err != nil {
					return nil, err
				}
				if ok {
					paths = append(paths, path)
				}
			}
			return paths, nil
		}
		if ld.reaches(texts, filepath.Join(dir, main)) {
			return nil
		}
	}
	return fmt.Errorf("the includes of the recorded %s do not lead to the files that were recorded with it", main)
}

// reaches reports whether the includes lead to all texts.
func (ld *loader) reaches(texts map[string]string, main string) bool {
	reached := map[string]bool{main: true}
	for _, pattern := range ld.l.Include {
		paths, err := ld.glob(fullPattern(ld.l.Dir, pattern))
		if err != nil || len(paths) == 0 && isLiteral(pattern) {
			return false
		}
		for _, p := range paths {
			if p == main { // Load had refused a main file that includes itself
				return false
			}
			reached[p] = true
		}
	}
	return len(reached) == len(texts)
}

// places lists directories in which the main file may have stood: above or at what an absolute include names, and below that
// as many directories of unknown names as recorded names climb.
func (ld *loader) places(files map[string]string) (dirs []string) {
	climb := 0
	for _, name := range append(slices.Collect(maps.Keys(files)), ld.l.Include...) {
		climb = max(climb, strings.Count(filepath.Clean(name), ".."))
	}
	add := func(base string) {
		for range climb + 1 {
			dirs = append(dirs, base)
			base = filepath.Join(base, unknownDir)
		}
	}
	for _, pattern := range ld.l.Include {
		if !filepath.IsAbs(pattern) {
			continue
		}
		for dir := filepath.Dir(filepath.Clean(pattern)); ; dir = filepath.Dir(dir) {
			if isLiteral(dir) {
				add(dir)
			}
			if dir == "/" {
				break
			}
		}
	}
	// Without absolute includes any directory deep enough is as good as the real one.
	return append(dirs, "/"+strings.Repeat(unknownDir+"/", climb+1)+unknownDir)
}
