package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Options of Verify.
type Options struct {
	// Trust says whom to believe; required.
	Trust *Trust
	// Previous is a checkpoint that the caller kept from earlier, as signed;
	// nil if there is none.
	Previous []byte
	// Judge decides every request again; nil leaves that out, and the report says so.
	Judge  Judge
	Limits Limits
	// Cell asks about one masked cell; the report has the answer.
	Cell *CellClaim
	// Scan returns the kinds of values that it finds in a text, one for each; nil looks for none. It is asked about each value of
	// each disclosed answer, and about each error, notice and piece of COPY data.
	Scan func(text []byte) (kinds []string)
}

// Report is what verification found. Each aspect is "ok", "failed", or a
// statement of what could be concluded.
type Report struct {
	Container    string `json:"container"`
	Signer       string `json:"signer"`
	Integrity    string `json:"integrity"`
	Completeness string `json:"completeness"`
	Identity     string `json:"identity"`
	Decisions    string `json:"decisions"`
	Anchoring    string `json:"anchoring"`

	Problems   []Problem   `json:"problems"`
	Exceptions []Exception `json:"exceptions"`
	Summary    *Summary    `json:"summary,omitempty"`
	// Cell answers Options.Cell.
	Cell *CellAnswer `json:"cell,omitempty"`
	// Residual is what Options.Scan found in answers, as agents got them.
	Residual []Residual `json:"residual,omitempty"`
	Scanned  bool       `json:"scanned,omitempty"` // Options.Scan was asked
}

// Residual are values of a kind that an answer holds.
type Residual struct {
	Index    uint64 `json:"index"` // of the entry that ends the exchange
	Session  string `json:"session"`
	Exchange uint64 `json:"exchange"`
	Kind     string `json:"kind"`
	Values   uint64 `json:"values"`
}

// Failed reports whether the package must not be believed.
func (r *Report) Failed() bool { return len(r.Problems) > 0 }

// ExitCode returns 0 for a clean package, 1 for one that failed, and 2 for a
// clean one with listed exceptions.
func (r *Report) ExitCode() int {
	switch {
	case r.Failed():
		return 1
	case len(r.Exceptions) > 0:
		return 2
	}
	return 0
}

// Verify checks a package offline, from its bytes and the given trust alone.
// The error says that it could not be read at all; everything else is in the
// report. Memory is bounded: by the limits, by what a session or a principal
// that is open takes (1 GiB at most), and by a few hundred bytes for each file.
func Verify(r io.ReaderAt, size int64, o Options) (*Report, error) {
	if o.Trust == nil {
		return nil, errors.New("verify: no trust given")
	}
	v := &verifier{o: o, report: &Report{Problems: []Problem{}, Exceptions: []Exception{}}}
	if o.Judge != nil {
		v.decisions = &decisions{judge: o.Judge}
	}
	c, err := openContainer(r, size, o.Limits.withDefaults())
	if err != nil {
		v.problem(Container, "package", "%v", err)
		v.conclude()
		return v.report, nil
	}
	v.c = c
	if err := v.run(); err != nil {
		v.problem(Container, "package", "%v", err)
	}
	v.conclude()
	return v.report, nil
}

type verifier struct {
	o      Options
	c      *container
	report *Report

	scope   *Scope
	log     []note.Verifier
	closing Checkpoint
	proofs  Proofs
	due     dueReader // checkpoints within the range, by size
	// previousAt is the bookmark's checkpoint if its root can be compared in
	// the range; previousDone says how the comparison ended.
	previousAt   *Checkpoint
	previousDone string
	decisions    *decisions // nil: not asked for
	signer       string
	unpinned     int // issuers' keys that signed tokens and that the trust file does not name
}

func (v *verifier) problem(a Aspect, where, format string, args ...any) {
	if len(v.report.Problems) < maxListed {
		v.report.Problems = append(v.report.Problems, Problem{Aspect: a, Where: where, What: fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) exception(code, format string, args ...any) {
	if len(v.report.Exceptions) < maxListed {
		v.report.Exceptions = append(v.report.Exceptions, Exception{Code: code, What: fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) run() error {
	if err := v.signatures(); err != nil {
		return err
	}
	if v.signer != "ok" || len(v.report.Problems) > 0 {
		// Only who is trusted may make this program unpack a mountain.
		if err := v.c.modest(); err != nil {
			return err
		}
	}
	manifest, good, err := v.c.check(func(where, what string) { v.problem(Container, where, "%s", what) })
	if err != nil || !good {
		return err // what nobody signed is not read
	}
	if err := v.means(); err != nil {
		return err
	}
	if err := v.facts(); err != nil {
		return err
	}
	if len(v.log) == 0 {
		return nil // nothing of the log can be believed
	}
	if err := v.carried(); err != nil {
		v.problem(Integrity, fileProofs, "configuration: %v", err)
	}
	start, err := v.frontier()
	if err != nil {
		v.problem(Integrity, fileProofs, "%v", err)
		return nil
	}
	if err := v.bookmark(start); err != nil {
		return err
	}
	return v.entries(start, manifest)
}

// means compares the means to verify that are in the package with this
// program's own: whoever packs can put anything there, and people run it.
func (v *verifier) means() error {
	for name, own := range map[string][]byte{fileVerifyMD: verifyMD, fileVerifySH: verifySH} {
		text, err := v.c.read(name)
		if err != nil {
			return err
		}
		if !bytes.Equal(text, own) {
			v.exception("means-differ", "%s is not the one of this program: made by another version, or by somebody who wants you to run it", name)
		}
	}
	return nil
}

// signatures checks who signed the manifests.
func (v *verifier) signatures() error {
	t := v.o.Trust
	if len(t.Package) == 0 && len(t.SSH) == 0 {
		v.signer = "not checked: the trust file names no package key"
		v.exception("signer-unknown", "the trust file has no package or ssh line: who packed this was not checked")
		return nil
	}
	v.signer = "ok"
	for _, name := range []string{fileManifest, fileTagManifest} {
		text, err := v.c.read(name)
		if err != nil {
			return err
		}
		if len(t.Package) > 0 {
			sig, err := v.c.small("signatures/" + name + ".ecdsa")
			digest := sha256.Sum256(text)
			if err != nil || !slices.ContainsFunc(t.Package, func(k *ecdsa.PublicKey) bool { return ecdsa.VerifyASN1(k, digest[:], sig) }) {
				v.problem(SignerTrust, "signatures/"+name+".ecdsa", "no trusted package key signed %s", name)
			}
		}
		if len(t.SSH) > 0 {
			sig, err := v.c.small("signatures/" + name + ".sshsig")
			good := false
			for _, k := range t.SSH {
				good = good || err == nil && verifySSH(k, text, sig) == nil
			}
			if !good {
				v.problem(SignerTrust, "signatures/"+name+".sshsig", "no trusted SSH key signed %s", name)
			}
		}
	}
	return nil
}

// facts reads the scope, the checkpoints and the proofs.
func (v *verifier) facts() error {
	text, err := v.c.small(fileScope)
	if err != nil {
		return err
	}
	if v.scope, err = parseScope(text); err != nil {
		return err
	}
	if v.log = v.o.Trust.logFor(v.scope.Origin); len(v.log) == 0 {
		v.problem(SignerTrust, fileCheckpoint, "the trust file has no log key of %q", v.scope.Origin)
		return nil
	}
	signed, err := v.c.small(fileCheckpoint)
	if err != nil {
		return err
	}
	if v.closing, err = OpenCheckpoint(signed, v.scope.Origin, v.log...); err != nil {
		v.problem(Integrity, fileCheckpoint, "%v", err)
		v.log = nil
		return nil
	}
	if v.closing.Size != v.scope.Size {
		v.problem(Integrity, fileCheckpoint, "it is of %d entries, the range ends at %d", v.closing.Size, v.scope.Size)
	}
	if text, err = v.c.whole(fileProofs, maxProofs); err != nil {
		return err
	}
	if err := strict(text, &v.proofs); err != nil {
		return fmt.Errorf("%s: %w", fileProofs, err)
	}
	return nil
}

// dueReader gives the checkpoints of checkpoints.jsonl one after the other.
type dueReader struct {
	lines *lines
	n     int
	last  uint64      // size of the one before
	next  *Checkpoint // nil at the end
}

// advance reads the next checkpoint that can be believed.
func (v *verifier) advance() error {
	r := &v.due
	for r.next = nil; ; {
		if len(v.report.Problems) >= maxListed {
			return errors.New("more problems than are listed")
		}
		line, err := r.lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r.n++
		where := fileCheckpoints + ", line " + strconv.Itoa(r.n)
		var signed string
		if err := json.Unmarshal(line, &signed); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		cp, err := OpenCheckpoint([]byte(signed), v.scope.Origin, v.log...)
		if err != nil {
			v.problem(Integrity, where, "%v", err)
			continue
		}
		if cp.Size < v.scope.First || cp.Size > v.scope.Size || r.n > 1 && cp.Size <= r.last {
			v.problem(Integrity, where, "a checkpoint of %d entries is out of place", cp.Size)
			continue
		}
		r.last, r.next = cp.Size, &cp
		return nil
	}
}

func decodeHashes(list []string) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(list))
	for i, s := range list {
		raw, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(raw) != tlog.HashSize {
			return nil, fmt.Errorf("%q is not a hash", shortName(s))
		}
		hashes[i] = tlog.Hash(raw)
	}
	return hashes, nil
}

// frontier starts the tree where the range begins, and checks that the closing
// checkpoint continues the opening one.
func (v *verifier) frontier() (*Range, error) {
	hashes, err := decodeHashes(v.proofs.Frontier)
	if err != nil {
		return nil, err
	}
	start, err := NewRange(v.scope.First, hashes)
	if err != nil {
		return nil, err
	}
	if v.proofs.Opening == "" {
		return start, nil
	}
	if err := v.continues([]byte(v.proofs.Opening), v.proofs.Consistency); err != nil {
		v.problem(Integrity, fileProofs, "opening checkpoint: %v", err)
	}
	return start, nil
}

// belongsTo reports whether a body is the one that a header commits to.
func (d *Disclosed) belongsTo(h *Header) bool {
	return Commitment(&d.Salt, d.Body) == h.Commit && uint64(len(d.Body)) == h.BodyLen
}

// carried checks the configuration entry of before the range.
func (v *verifier) carried() error {
	c := v.proofs.Configuration
	if c == nil {
		return nil
	}
	h, err := ParseHeader([]byte(c.Header))
	if err != nil {
		return err
	}
	if h.Kind != KindConfig || h.Index >= v.scope.First || len(c.Salt) != SaltSize {
		return fmt.Errorf("entry %d is no configuration entry of before the range", h.Index)
	}
	hashes, err := decodeHashes(c.Proof)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(hashes, int64(v.closing.Size), v.closing.Root, int64(h.Index), LeafHash([]byte(c.Header))); err != nil {
		return fmt.Errorf("entry %d is not in the log: %w", h.Index, err)
	}
	d := Disclosed{Salt: [SaltSize]byte(c.Salt), Body: c.Body}
	if !d.belongsTo(&h) {
		return fmt.Errorf("the body of entry %d is not the one that its header commits to", h.Index)
	}
	if v.decisions != nil {
		v.decide(&h, &d)
	}
	return nil
}

// continues checks a consistency proof from an earlier checkpoint to the
// closing one.
func (v *verifier) continues(signed []byte, proof []string) error {
	cp, err := OpenCheckpoint(signed, v.scope.Origin, v.log...)
	if err != nil {
		return err
	}
	return v.consistent(cp, proof)
}

func (v *verifier) consistent(cp Checkpoint, proof []string) error {
	hashes, err := decodeHashes(proof)
	if err != nil {
		return err
	}
	switch {
	case cp.Size > v.closing.Size:
		return fmt.Errorf("it is of %d entries, more than the closing checkpoint's %d", cp.Size, v.closing.Size)
	case cp.Size == 0:
		return nil
	case cp.Size == v.closing.Size:
		if cp.Root != v.closing.Root {
			return fmt.Errorf("two different roots at %d entries: the log was forked", cp.Size)
		}
		return nil
	}
	if err := tlog.CheckTree(hashes, int64(v.closing.Size), v.closing.Root, int64(cp.Size), cp.Root); err != nil {
		return fmt.Errorf("the log was forked: the closing checkpoint does not continue the one of %d entries: %w", cp.Size, err)
	}
	return nil
}

// bookmark compares with the checkpoint that the caller kept.
func (v *verifier) bookmark(start *Range) error {
	if v.o.Previous == nil {
		return nil
	}
	cp, err := OpenCheckpoint(v.o.Previous, v.scope.Origin, v.log...)
	if err != nil {
		v.problem(Anchoring, "previous checkpoint", "%v", err)
		return nil
	}
	switch {
	case cp.Size > v.scope.Size:
		v.problem(Anchoring, "previous checkpoint", "it has seen %d entries, this package ends at %d: the log was rolled back, or the "+
			"package was exported for an earlier end; ask for one that ends later", cp.Size, v.scope.Size)
	case cp.Size > start.Size() || cp.Size == start.Size() && cp.Size > 0:
		v.previousAt = &cp
	case v.proofs.Previous != "" && bytes.Equal([]byte(v.proofs.Previous), v.o.Previous):
		v.compared(cp, v.consistent(cp, v.proofs.PreviousConsistency))
	case v.proofs.Opening != "" && bytes.Equal([]byte(v.proofs.Opening), v.o.Previous):
		v.compared(cp, v.consistent(cp, v.proofs.Consistency))
	case cp.Size == 0:
		v.previousDone = "the previous checkpoint is of an empty log"
	default:
		v.exception("previous-not-comparable", "the previous checkpoint (%d entries) lies before the range (from %d) and the package has "+
			"no proof for it: ask for an export with --previous", cp.Size, v.scope.First)
	}
	return nil
}

func (v *verifier) compared(cp Checkpoint, err error) {
	if err != nil {
		v.problem(Anchoring, "previous checkpoint", "%v", err)
		return
	}
	v.previousDone = fmt.Sprintf("continues the previous checkpoint of %d entries", cp.Size)
}

// hashSink keeps the digest of every file that a Builder makes.
type hashSink map[string]hash.Hash

// Append implements Sink.
func (s hashSink) Append(name string, piece []byte) error {
	h := s[name]
	if h == nil {
		h = sha256.New()
		s[name] = h
	}
	_, err := h.Write(piece)
	return err
}

// entries goes through all entries once: tree, commitments, pairing, identity;
// and makes every derived file again to compare it.
func (v *verifier) entries(tree *Range, manifest map[string]string) error {
	again := make(hashSink)
	b := NewBuilder(*v.scope, again)
	b.claim, b.scan = v.o.Cell, v.o.Scan
	defer func() { v.report.Cell, v.report.Residual, v.report.Scanned = b.answer, b.residual, b.scan != nil }()
	if err := b.Begin(); err != nil {
		return err
	}
	first, err := v.stream(tree, b)
	if err != nil {
		return err
	}
	if tree.Size() != v.closing.Size {
		v.problem(Completeness, fileHeaders, "it ends at entry %d, the checkpoint at %d", tree.Size(), v.closing.Size)
	} else if tree.Root() != v.closing.Root {
		v.problem(Integrity, fileHeaders, "the headers do not give the signed root: an entry was changed, removed, added or moved")
	}
	sum, err := b.Finish(first)
	if err != nil {
		return err
	}
	v.report.Summary = sum
	v.report.Problems = append(v.report.Problems, b.problems...)
	v.report.Exceptions = append(v.report.Exceptions, b.issues...)
	if len(b.issues) == maxListed {
		v.exception("more", "there are more exceptions than the %d that are listed", maxListed)
	}
	v.issuers(sum)
	v.derived(again, manifest)
	return nil
}

// derived compares the files made again with those in the package.
func (v *verifier) derived(again hashSink, manifest map[string]string) {
	facts := []string{fileScope, fileCheckpoint, fileCheckpoints, fileProofs}
	for _, name := range slices.Sorted(maps.Keys(manifest)) {
		h, ok := again[name]
		switch {
		case slices.Contains(facts, name):
		case !ok:
			v.problem(Integrity, name, "does not follow from the entries")
		case hex.EncodeToString(h.Sum(nil)) != manifest[name]:
			v.problem(Integrity, name, "is not what the entries give")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(again)) {
		if manifest[name] == "" {
			v.problem(Completeness, name, "is missing")
		}
	}
}

// issuers compares the keys that signed tokens with those the caller trusts.
func (v *verifier) issuers(sum *Summary) {
	for _, key := range slices.Sorted(maps.Keys(sum.IssuerKeys)) {
		url, print := key, ""
		if i := strings.LastIndexByte(key, ' '); i >= 0 {
			url, print = key[:i], key[i+1:] // a thumbprint has no blank
		}
		known := v.o.Trust.Issuers[url]
		if known == nil {
			v.unpinned++
			continue
		}
		if !slices.Contains(known, print) {
			v.problem(IdentityProof, "issuer "+url, "%d sessions have tokens signed by key %s, which the trust file does not name",
				sum.IssuerKeys[key], print)
		}
	}
}

// stream feeds headers, bodies and withheld reasons, merged by index, to the
// tree and the builder.
func (v *verifier) stream(tree *Range, b *Builder) (first time.Time, err error) {
	headers, err := v.c.lines(fileHeaders)
	if err != nil {
		return first, err
	}
	defer headers.close()
	bodies, err := v.bodyLines()
	if err != nil {
		return first, err
	}
	defer bodies.lines.close()
	withheld, err := v.withheldLines()
	if err != nil {
		return first, err
	}
	defer withheld.lines.close()
	if v.due.lines, err = v.c.lines(fileCheckpoints); err != nil {
		return first, err
	}
	defer v.due.lines.close()
	if err := v.advance(); err != nil {
		return first, err
	}
	if err := v.rootsAt(tree); err != nil {
		return first, err
	}
	for n := 1; ; n++ {
		line, err := headers.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return first, err
		}
		h, err := ParseHeader(line)
		if err != nil {
			v.problem(Integrity, fileHeaders+", line "+strconv.Itoa(n), "%v", err)
			return first, nil
		}
		if n == 1 {
			first = h.Time
		}
		if err := v.entry(line, &h, bodies, withheld, b); err != nil {
			return first, err
		}
		tree.Add(LeafHash(line))
		if err := v.rootsAt(tree); err != nil {
			return first, err
		}
	}
	if bodies.left() {
		v.problem(Integrity, fileBodies, "it has bodies of entries that are not in the range")
	}
	if withheld.left() {
		v.problem(Integrity, fileWithheld, "it names entries that are not in the range")
	}
	if v.due.next != nil {
		v.problem(Completeness, fileCheckpoints, "a checkpoint of %d entries is beyond the headers", v.due.next.Size)
	}
	return first, nil
}

// rootsAt compares the tree with every checkpoint of its present size.
func (v *verifier) rootsAt(tree *Range) error {
	if v.due.next != nil && v.due.next.Size == tree.Size() {
		if v.due.next.Root != tree.Root() {
			v.problem(Integrity, fileCheckpoints, "the checkpoint of %d entries has another root than the headers: the log was forked", tree.Size())
		}
		if err := v.advance(); err != nil {
			return err
		}
	}
	if p := v.previousAt; p != nil && p.Size == tree.Size() {
		var err error
		if p.Root != tree.Root() {
			err = fmt.Errorf("its root of %d entries is not the one of this log: the log was forked or rewritten", p.Size)
		}
		v.compared(*p, err)
		v.previousAt = nil
	}
	return nil
}

// entry checks one entry against its body.
func (v *verifier) entry(line []byte, h *Header, bodies *bodyReader, withheld *withheldReader, b *Builder) error {
	d, err := bodies.at(h.Index)
	if err != nil {
		return err
	}
	reason, err := withheld.at(h.Index)
	if err != nil {
		return err
	}
	due := v.scope.Discloses(h)
	switch {
	case d != nil && reason != "":
		v.problem(Integrity, at(h.Index), "it is disclosed and listed as withheld")
	case d != nil && !due:
		v.problem(Integrity, at(h.Index), "it is disclosed although the filter leaves it out")
	case d != nil && !d.belongsTo(h):
		v.problem(Integrity, at(h.Index), "the body of this %s entry is not the one that its header commits to", h.Kind)
	case d == nil && due && reason == "":
		v.problem(Completeness, at(h.Index), "the body of this %s entry is missing without a reason", h.Kind)
	case reason == WithheldToken && h.Kind != KindIdentity:
		v.problem(Completeness, at(h.Index), "a %s entry cannot be withheld for its token", h.Kind)
	}
	if v.decisions != nil {
		v.decide(h, d)
	}
	return b.Entry(line, h, d, reason)
}

// decide decides again on the request of an entry, if it is one.
func (v *verifier) decide(h *Header, body *Disclosed) {
	var text []byte
	if body != nil {
		text = body.Body
	}
	var wrong, odd string
	var err error
	switch {
	case !h.Session.IsZero():
		wrong, odd, err = v.decisions.session(h, text)
	case h.Kind == KindRuling && text != nil:
		err = v.decisions.ticket(h, text)
	case h.Kind == KindConfig && text != nil:
		err = v.decisions.config(h, text)
	}
	switch {
	case err != nil:
		v.problem(Decisions, at(h.Index), "%v", err)
	case wrong != "":
		v.problem(Decisions, at(h.Index), "%s", wrong)
	case odd != "":
		if len(v.report.Exceptions) < maxListed {
			v.report.Exceptions = append(v.report.Exceptions, Exception{Index: h.Index, Code: "decision", What: odd})
		}
	}
}

// decided says what became of deciding again.
func (v *verifier) decided() string {
	d := v.decisions
	if d == nil {
		return "not decided again: no judge was given"
	}
	s := fmt.Sprintf("%d decided again with the same result", d.again)
	if d.own > 0 {
		s += fmt.Sprintf(", %d by the gateway's own limits and checks", d.own)
	}
	if d.rulings > 0 {
		if d.rulings == 1 {
			s += ", 1 ruling signed by its person"
		} else {
			s += fmt.Sprintf(", %d rulings signed by their persons", d.rulings)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(d.left)) {
		if why == missingPolicy || why == unreadablePolicy || why == missingAction {
			v.exception("not-decided-again", "%d requests were not decided again: %s", d.left[why], why)
		}
		s += fmt.Sprintf("; %d not: %s", d.left[why], why)
	}
	return s
}

// conclude turns problems into a statement for each aspect.
func (v *verifier) conclude() {
	r := v.report
	state := map[Aspect]string{}
	for _, p := range r.Problems {
		state[p.Aspect] = "failed"
	}
	say := func(a Aspect, good string) string {
		if state[a] != "" {
			return state[a]
		}
		if r.Summary == nil {
			return "not reached"
		}
		return good
	}
	r.Container = say(Container, "ok")
	r.Signer = say(SignerTrust, v.signer)
	r.Integrity = say(Integrity, "ok")
	r.Completeness = say(Completeness, "ok")
	identity := "no session"
	if r.Summary != nil {
		var parts []string
		for _, level := range slices.Sorted(maps.Keys(r.Summary.Stats.Identity)) {
			parts = append(parts, fmt.Sprintf("%d %s", r.Summary.Stats.Identity[level], level))
		}
		if len(parts) > 0 {
			identity = strings.Join(parts, ", ")
		}
		if v.unpinned > 0 {
			identity += "; " + strconv.Itoa(v.unpinned) + " issuer keys as recorded by the gateway: the trust file has no issuer line for them"
		}
	}
	r.Identity = say(IdentityProof, identity)
	r.Decisions = say(Decisions, v.decided())
	anchoring := "L0: local only, no outside copy of a checkpoint was given"
	switch {
	case v.previousDone != "":
		anchoring = "L1: " + v.previousDone
	case v.o.Previous != nil:
		anchoring = "L0: the previous checkpoint was not compared"
	}
	r.Anchoring = say(Anchoring, anchoring)
}
