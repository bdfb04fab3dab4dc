package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/gatebook/gatebook/internal/detect"
	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/policy"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 4 << 20

// Problem is something wrong in the configuration, with its place.
type Problem struct {
	File string
	Line int    // 0 where there is none
	Path string // such as targets[0].name
	What string
}

// String returns "FILE:LINE: PATH: WHAT".
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d", p.Line)
	}
	if p.Path != "" {
		s += ": " + p.Path
	}
	return s + ": " + p.What
}

// Problems is the error of Load: everything that is wrong, at once.
type Problems []Problem

// Error implements error, one problem a line.
func (l Problems) Error() string {
	lines := make([]string, len(l))
	for i, p := range l {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Loaded is a configuration with where it came from.
type Loaded struct {
	Config
	// Path is the main file's absolute path, Dir its directory.
	Path string
	Dir  string
	// Files holds the text of every file that was read, by name relative to
	// Dir; SHA256 is a digest over all of them in order of their names.
	Files  map[string]string
	SHA256 string
	// Policy is what the rules and packs say, compiled.
	Policy *policy.Policy
	// MaskRules are the masks, without their key. MaskWhen says of a principal at a target which of them apply: its Decide matches the rules of
	// their names. Both are empty without masks.
	MaskRules []mask.Rule
	MaskWhen  *policy.Policy
	// Detect finds values: by what is built in and by the configuration's own.
	Detect *detect.Set
}

// source says which file and which element of it a list element came from.
type source struct {
	file *file
	path string
}

type file struct {
	name string
	text []byte
	tree *ast.File
}

// line returns the line of a YAML path, or of its nearest parent that exists.
func (f *file) line(path string) int {
	for path != "" && f.tree != nil {
		if p, err := yaml.PathString("$." + path); err == nil {
			if node, err := p.FilterFile(f.tree); err == nil && node != nil && node.GetToken() != nil {
				return node.GetToken().Position.Line
			}
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return 0
		}
		path = path[:cut]
	}
	return 0
}

type loader struct {
	l *Loaded
	// open returns the text of a file by its full path, glob the full paths that match a pattern.
	open     func(path string) ([]byte, error)
	glob     func(pattern string) ([]string, error)
	problems Problems
	// ready are the recorded rules of packs, nil for those of this version.
	ready   []policy.Rule
	main    *file
	issuers []source
	targets []source
	rules   []source
	packs   []source
	masks   []source
	labels  []source
}

// included is what an included file may hold.
type included struct {
	Issuers []Issuer `yaml:"issuers"`
	Targets []Target `yaml:"targets"`
	Rules   []Rule   `yaml:"rules"`
	Packs   []string `yaml:"packs"`
	Masks   []Mask   `yaml:"masks"`
	Labels  []Label  `yaml:"labels"`
}

// Load reads and validates a configuration. Its error is a Problems, or says
// that the file could not be read.
func Load(path string) (*Loaded, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	ld := &loader{l: &Loaded{Path: abs, Dir: filepath.Dir(abs), Files: make(map[string]string)}, open: openFile, glob: filepath.Glob}
	if ld.main, err = ld.read(abs); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no configuration at %s (gatebook init makes one)", path)
		}
		return nil, err
	}
	ld.decode(ld.main, &ld.l.Config)
	ld.include()
	if len(ld.problems) == 0 {
		ld.validate()
	}
	if err := ld.failed(); err != nil {
		return nil, err
	}
	ld.l.SHA256 = Digest(ld.l.Files)
	return ld.l, nil
}

// failed returns the problems in order of their places, nil if there are none.
func (ld *loader) failed() error {
	if len(ld.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(ld.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path))
	})
	return ld.problems
}

// Digest returns the digest over the texts of a configuration, as Loaded.SHA256 has it.
func Digest(files map[string]string) string {
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	h := sha256.New()
	for _, n := range names {
		fmt.Fprintf(h, "%d %s %d %s", len(n), n, len(files[n]), files[n])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func openFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path) // a pipe or device would be read for ever
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are read", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}

// read reads a file once: what is parsed is what Files holds and what people
// signed, also where two patterns name one file that changes in between.
func (ld *loader) read(path string) (*file, error) {
	name, err := filepath.Rel(ld.l.Dir, path)
	if err != nil {
		name = path
	}
	if text, ok := ld.l.Files[name]; ok {
		return &file{name: name, text: []byte(text)}, nil
	}
	text, err := ld.open(path)
	if err != nil {
		return nil, err
	}
	ld.l.Files[name] = string(text)
	return &file{name: name, text: text}, nil
}

// decode reads a file strictly and keeps its tree for line numbers.
func (ld *loader) decode(f *file, into any) {
	err := parse(f, into)
	if err == nil {
		return
	}
	p := Problem{File: f.name, What: err.Error()}
	var located yaml.Error
	if errors.As(err, &located) {
		p.What = located.GetMessage()
		if tok := located.GetToken(); tok != nil && tok.Position != nil {
			p.Line = tok.Position.Line
		}
	}
	ld.problems = append(ld.problems, p)
}

// parse reads YAML into a value and keeps the tree. The library panics on some
// malformed files (a tag before nothing, where a list is due); a gateway that is told to reload one must go on.
func parse(f *file, into any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("the file cannot be read as YAML: look for a tag (!name) or an anchor without a value")
		}
	}()
	tree, err := parser.ParseBytes(f.text, 0)
	if err != nil {
		return err
	}
	f.tree = tree
	return yaml.UnmarshalWithOptions(f.text, into, yaml.Strict(), yaml.DisallowUnknownField())
}

// include reads the included files; all lists become one.
func (ld *loader) include() {
	c := &ld.l.Config
	ld.found(ld.main, &included{c.Issuers, c.Targets, c.Rules, c.Packs, c.Masks, c.Labels})
	for i, pattern := range c.Include {
		where := fmt.Sprintf("include[%d]", i)
		paths, err := ld.glob(fullPattern(ld.l.Dir, pattern))
		if err != nil {
			ld.problem(source{ld.main, where}, "", "malformed pattern %q", pattern)
			continue
		}
		if len(paths) == 0 && isLiteral(pattern) {
			ld.problem(source{ld.main, where}, "", "no file %s", pattern)
		}
		slices.Sort(paths)
		for _, p := range paths {
			ld.includeFile(p, where)
		}
	}
}

// fullPattern returns a pattern of a configuration in dir as an absolute one.
func fullPattern(dir, pattern string) string {
	if filepath.IsAbs(pattern) {
		return pattern
	}
	return filepath.Join(dir, pattern)
}

// isLiteral reports whether a pattern names one file, which must exist then.
func isLiteral(pattern string) bool { return !strings.ContainsAny(pattern, "*?[") }

func (ld *loader) includeFile(path, where string) {
	f, err := ld.read(path)
	if err != nil {
		ld.problem(source{ld.main, where}, "", "%v", err)
		return
	}
	var in included
	before := len(ld.problems)
	ld.decode(f, &in)
	if len(ld.problems) == before && in.Issuers == nil && in.Targets == nil && in.Rules == nil && in.Packs == nil && in.Masks == nil && in.Labels == nil {
		// A file that was cut off looks like this, and what it denied would be allowed.
		ld.problem(source{f, ""}, "", "the file says nothing: it was cut off, or it should not be included (an empty list, rules: [], says so)")
	}
	ld.found(f, &in)
	ld.l.Issuers = append(ld.l.Issuers, in.Issuers...)
	ld.l.Targets = append(ld.l.Targets, in.Targets...)
	ld.l.Rules = append(ld.l.Rules, in.Rules...)
	ld.l.Packs = append(ld.l.Packs, in.Packs...)
	ld.l.Masks = append(ld.l.Masks, in.Masks...)
	ld.l.Labels = append(ld.l.Labels, in.Labels...)
}

// found notes where the elements of a file's lists stand.
func (ld *loader) found(f *file, in *included) {
	places := func(list *[]source, name string, n int) {
		for i := range n {
			*list = append(*list, source{f, fmt.Sprintf("%s[%d]", name, i)})
		}
	}
	places(&ld.issuers, "issuers", len(in.Issuers))
	places(&ld.targets, "targets", len(in.Targets))
	places(&ld.rules, "rules", len(in.Rules))
	places(&ld.packs, "packs", len(in.Packs))
	places(&ld.masks, "masks", len(in.Masks))
	places(&ld.labels, "labels", len(in.Labels))
}

// problem notes something wrong at a field of an element.
func (ld *loader) problem(at source, field, format string, args ...any) {
	path := at.path
	if field != "" {
		path = strings.TrimPrefix(path+"."+field, ".")
	}
	ld.problems = append(ld.problems, Problem{
		File: at.file.name, Line: at.file.line(path), Path: path, What: fmt.Sprintf(format, args...),
	})
}
