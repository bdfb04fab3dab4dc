package config

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/gatebook/gatebook/internal/sshsig"
)

// SignatureNamespace is what signatures of a configuration are made for, as given to ssh-keygen -Y sign -n.
const SignatureNamespace = "gatebook-config"

// manifestHeader is the first line of a manifest: its format and version.
const manifestHeader = "gatebook-config-manifest 1"

const (
	defaultSignatures = "signatures"
	signatureSuffix   = ".sig"
	// maxSignatures bounds how many files of signatures are read. Beyond, none counts: to choose some would let
	// whoever adds files choose.
	maxSignatures = 256
	maxSignerKeys = 256
	// maxReasons bounds how many files that do not count are named in one error.
	maxReasons = 20
)

// personName is also what a principal of ssh-keygen's allowed_signers may be without a pattern in it.
var personName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$`)

// signers checks the block signers.
func (ld *loader) signers() {
	s, root := ld.l.Signers, source{ld.main, ""}
	if s == nil {
		if ld.main.line("signers") > 0 {
			ld.problem(root, "signers", "it is empty: list quorum and keys, or take the key out")
		}
		return
	}
	if len(s.Keys) > maxSignerKeys {
		ld.problem(root, "signers.keys", "%d keys, at most %d", len(s.Keys), maxSignerKeys)
		return
	}
	seen := make(map[string]string)    // person by key
	written := make(map[string]string) // person by name without case
	for i, k := range s.Keys {
		at := source{ld.main, fmt.Sprintf("signers.keys[%d]", i)}
		if !personName.MatchString(k.Person) {
			ld.problem(at, "person", "%q is not a name of letters, digits, . _ @ + and -", k.Person)
		}
		// Two spellings of one name would let one person make up a quorum.
		if other, ok := written[strings.ToLower(k.Person)]; ok && other != k.Person {
			ld.problem(at, "person", "%q and %q differ in case alone: write one person's name in one way", k.Person, other)
		}
		written[strings.ToLower(k.Person)] = k.Person
		key, err := sshsig.ParseKey(k.Key)
		if err != nil {
			ld.problem(at, "key", "%v", err)
			continue
		}
		if other, ok := seen[key.String()]; ok && other != k.Person {
			ld.problem(at, "key", "it is listed under %s too: a key belongs to one person", other)
		} else if ok {
			ld.problem(at, "key", "it is listed twice: take one out")
		}
		seen[key.String()] = k.Person
	}
	if n := len(s.persons()); s.Quorum < 1 || s.Quorum > n {
		ld.problem(root, "signers.quorum", "%d: it must be at least 1 and at most the number of persons with a key, which is %d", s.Quorum, n)
	}
	if strings.ContainsRune(s.Directory, 0) {
		ld.problem(root, "signers.directory", "it has a zero byte")
	}
}

// persons returns who may sign, each once, in order.
func (s *Signers) persons() []string {
	set := make(map[string]bool)
	for _, k := range s.Keys {
		set[k.Person] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// Fingerprint returns "SHA256:…", "" for what is no key.
func (k SignerKey) Fingerprint() string {
	key, err := sshsig.ParseKey(k.Key)
	if err != nil {
		return ""
	}
	return key.Fingerprint()
}

func (s *Signers) directory() string { return cmp.Or(s.Directory, defaultSignatures) }

// Validate returns what is wrong with signers that were kept outside of a
// configuration file, by the rules for a file.
func (s *Signers) Validate() error {
	ld := &loader{l: &Loaded{Config: Config{Signers: s}}, main: &file{name: "signers"}}
	ld.signers()
	if len(ld.problems) > 0 {
		return ld.problems
	}
	return nil
}

// Same reports whether two sets of signers ask the same of the same keys; nil is nobody.
func (s *Signers) Same(other *Signers) bool {
	if s == nil || other == nil {
		return s == nil && other == nil
	}
	return s.Quorum == other.Quorum && s.directory() == other.directory() && slices.Equal(s.Keys, other.Keys)
}

// Manifest returns the text that people sign: a digest of every file that was
// read, over the bytes that were parsed. It depends on nothing else.
//
//	gatebook-config-manifest 1
//	SHA256  NAME
//
// in order of the names as they are written here. In a name every byte is written %XX
// but for visible ASCII other than %, so that no name can make up a line.
func (c *Loaded) Manifest() string {
	lines := make([]string, 0, len(c.Files))
	for name, text := range c.Files {
		lines = append(lines, fmt.Sprintf("%s %x\n", escapeName(name), sha256.Sum256([]byte(text))))
	}
	slices.Sort(lines) // no name holds a space, so that this is the order of the names
	var b strings.Builder
	b.WriteString(manifestHeader + "\n")
	for _, l := range lines {
		name, digest, _ := strings.Cut(strings.TrimSuffix(l, "\n"), " ")
		b.WriteString(digest + "  " + name + "\n")
	}
	return b.String()
}

func escapeName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; c > ' ' && c < 0x7f && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Signature is a signature that counts.
type Signature struct {
	Person      string
	Fingerprint string // of the key
	File        string
	Text        string // armoured
}

// Ignored is a file of signatures that does not count.
type Ignored struct {
	File string
	Why  string
}

// Approval says who signed a configuration.
type Approval struct {
	// Demanded says that somebody must sign. Where nobody must, no file is read.
	Demanded   bool
	Manifest   string
	Signatures []Signature // one for each person and set of signers, in order of files
	Ignored    []Ignored
}

// SignedBy returns the persons whose signatures count, each once, in order.
func (a *Approval) SignedBy() []string {
	set := make(map[string]bool)
	for _, s := range a.Signatures {
		set[s.Person] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// ErrNotSigned is in the error of Approve.
var ErrNotSigned = errors.New("the configuration is not signed as it must be")

// signatureFile is a file of the directory of signatures, as it was read.
type signatureFile struct {
	name string
	text []byte
	err  error
}

// demand is one set of signers and who of them signed.
type demand struct {
	which  string
	s      *Signers
	person map[string]string // by key
	signed map[string]bool
}

func newDemand(which string, s *Signers) *demand {
	d := &demand{which, s, make(map[string]string), make(map[string]bool)}
	for _, k := range s.Keys {
		if key, err := sshsig.ParseKey(k.Key); err == nil { // validated before
			d.person[key.String()] = k.Person
		}
	}
	return d
}

// Approve reads the signatures and says whether the configuration may come into force: enough of the signers in
// force must have signed it (nil if there are none), and enough of its own. Signatures are verified over the bytes that
// were parsed; no file of the configuration is read again. The approval is there in any case. The error matches ErrNotSigned and says
// which files do not count and why, who is missing, and how to sign.
func (c *Loaded) Approve(inForce *Signers) (*Approval, error) {
	var demands []*demand
	if inForce != nil {
		demands = append(demands, newDemand("the signers in force", inForce))
	}
	if c.Signers != nil && !c.Signers.Same(inForce) {
		demands = append(demands, newDemand("its own signers", c.Signers))
	}
	if len(demands) == 0 {
		return &Approval{}, nil
	}
	a := &Approval{Demanded: true, Manifest: c.Manifest()}
	var unread []error
	var dirs []string
	for _, d := range demands {
		if dir := d.s.directory(); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		files, err := c.readSignatures(dir)
		if err != nil {
			unread = append(unread, err)
		}
		for _, f := range files {
			if why := a.count(&f, demands); why != nil {
				a.Ignored = append(a.Ignored, Ignored{f.name, why.Error()})
			}
		}
	}
	return a, c.verdict(a, demands, unread)
}

// count takes one file's signature, or says why it does not count.
func (a *Approval) count(f *signatureFile, demands []*demand) error {
	if f.err != nil {
		return f.err
	}
	sig, err := sshsig.Parse(f.text)
	if err != nil {
		return err
	}
	persons := make([]string, len(demands))
	known := false
	for i, d := range demands {
		persons[i] = d.person[sig.Key.String()]
		known = known || persons[i] != ""
	}
	if !known {
		return fmt.Errorf("the key %s is not listed in signers.keys: sign with a listed key", sig.Key.Fingerprint())
	}
	if err := sig.Verify(SignatureNamespace, []byte(a.Manifest)); err != nil {
		return err
	}
	var already []string
	used := false
	for i, d := range demands {
		switch person := persons[i]; {
		case person == "":
		case d.signed[person]:
			already = append(already, person)
		default:
			d.signed[person], used = true, true
			s := Signature{person, sig.Key.Fingerprint(), f.name, string(f.text)}
			if !slices.Contains(a.Signatures, s) {
				a.Signatures = append(a.Signatures, s)
			}
		}
	}
	if !used {
		return fmt.Errorf("%s signed already: a person counts once", already[0])
	}
	return nil
}

// verdict returns nil if every demand is met.
func (c *Loaded) verdict(a *Approval, demands []*demand, unread []error) error {
	var b strings.Builder
	dir := ""
	for _, d := range demands {
		signed := slices.Sorted(maps.Keys(d.signed))
		// A quorum below one would be met by nobody: what is kept outside of the file is not believed blindly.
		if len(signed) >= max(d.s.Quorum, 1) {
			continue
		}
		dir = cmp.Or(dir, d.s.directory())
		missing := slices.DeleteFunc(d.s.persons(), func(p string) bool { return d.signed[p] })
		fmt.Fprintf(&b, "\n  of %s, %d must sign and %d did%s; missing: %s", d.which, d.s.Quorum, len(signed), listed(signed), strings.Join(missing, ", "))
	}
	if b.Len() == 0 {
		return nil
	}
	for _, err := range unread {
		fmt.Fprintf(&b, "\n  %v", err)
	}
	for i, f := range a.Ignored {
		if i == maxReasons {
			fmt.Fprintf(&b, "\n  and %d more files that do not count", len(a.Ignored)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %s does not count: %s", shown(f.File), f.Why)
	}
	fmt.Fprintf(&b, "\nEach person who agrees signs, in %s, into a file of their own:\n"+
		"  gatebook -c %s policy manifest | ssh-keygen -Y sign -n %s -f ~/.ssh/id_ed25519 > %s", shown(c.Dir), shown(filepath.Base(c.Path)),
		SignatureNamespace, shown(filepath.Join(dir, "NAME"+signatureSuffix)))
	return fmt.Errorf("%w:%s", ErrNotSigned, b.String())
}

func listed(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// plainName is a name that a shell and a terminal take as it is.
var plainName = regexp.MustCompile(`^[A-Za-z0-9._/@+=:,-]+$`)

// shown returns a name as it can stand in an error and in a command.
func shown(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return strconv.QuoteToASCII(name)
}

// readSignatures reads the files of signatures in a directory, in order of their names.
// What cannot be read is in the list with its reason. An error says that none can count.
func (c *Loaded) readSignatures(dir string) ([]signatureFile, error) {
	full := dir
	if !filepath.IsAbs(full) {
		full = filepath.Join(c.Dir, dir)
	}
	names, err := signatureNames(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no directory %s: make it, and put signatures (*%s) into it", shown(dir), signatureSuffix)
	}
	if err != nil {
		return nil, fmt.Errorf("the directory of signatures %s: %w", shown(dir), cause(err))
	}
	files := make([]signatureFile, len(names))
	for i, name := range names {
		text, err := readSmall(filepath.Join(full, name), sshsig.MaxArmoured)
		files[i] = signatureFile{filepath.Join(dir, name), text, err}
	}
	return files, nil
}

// signatureNames lists a directory piece by piece: it may hold any number of names.
func signatureNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	var names []string
	for {
		entries, err := d.ReadDir(maxSignatures)
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), signatureSuffix) {
				names = append(names, e.Name())
			}
		}
		if len(names) > maxSignatures {
			return nil, fmt.Errorf("more than %d files *%s: take out those that are not of this configuration", maxSignatures, signatureSuffix)
		}
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// cause returns an error without the path in it, which may hold anything that a
// file's name can.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// readSmall reads a regular file of at most limit bytes; a link to one will do, as
// Kubernetes mounts files. Neither a pipe nor a device can hold it up: the kind is looked at before the open, since
// to open some devices does something, and again on the open file, which is opened without waiting.
func readSmall(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file: take it out of the directory")
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", cause(err))
	}
	defer func() { _ = f.Close() }()
	if info, err = f.Stat(); err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file: take it out of the directory")
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", cause(err))
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("it is larger than %d bytes and no SSH signature: take it out of the directory", limit)
	}
	return text, nil
}
