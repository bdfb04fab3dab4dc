package evidence

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestUntouched: packages that nobody changed verify without a remark.
func TestUntouched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	recs := w.story(t)
	b := newBook(t, recs)
	scopes := map[string]Scope{
		"all": {}, "principal": {Filter: Filter{Principal: "ci|ana", ActorID: ana.actor.String()}},
		"target":  {Filter: Filter{Target: "orders", TargetID: db.String()}},
		"session": {Filter: Filter{Session: ana.id.String()}}, "shorter": {Size: 17},
		"period": {First: 12, From: storyBegin.Add(14 * time.Second)},
	}
	for name, s := range scopes {
		r := w.verify(t, w.pack(t, w.data(t, recs, s, nil, 0)), w.trust, nil)
		if want := map[bool]int{false: 0, true: 2}[name == "shorter"]; r.ExitCode() != want || r.Failed() {
			t.Errorf("%s: exit code %d, want %d:\n%s", name, r.ExitCode(), want, said(r))
		}
	}
	all := w.pack(t, w.data(t, recs, Scope{}, nil, 0))
	for _, n := range []int{1, 5, 8, 24, 25} {
		if r := w.verify(t, all, w.trust, w.sign(t, b, n)); r.ExitCode() != 0 || !strings.HasPrefix(r.Anchoring, "L1") {
			t.Errorf("bookmark of %d entries: %s\n%s", n, r.Anchoring, said(r))
		}
	}
	if r := w.verify(t, all, w.trust, nil); r.Identity == "" || !strings.HasPrefix(r.Identity, "1 asserted, 1 issuer-signed; 1 issuer keys as recorded") {
		t.Errorf("identity: %s", r.Identity)
	}
	pinned := w.trust + "issuer https://issuer.test " + w.pin + "\n"
	if r := w.verify(t, all, pinned, nil); r.ExitCode() != 0 || r.Identity != "1 asserted, 1 issuer-signed" {
		t.Errorf("with a pinned issuer: %s\n%s", r.Identity, said(r))
	}
}

// TestEV01FlippedBits changes one bit in each class of files, as somebody without
// keys, and as the exporter, who makes manifests and signatures anew.
func TestEV01FlippedBits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pkg := w.pack(t, w.data(t, w.story(t), Scope{}, nil, 0))
	classes := make(map[string]bool)
	inID := regexp.MustCompile(`[a-z2-7]{16}(-\d+)?`)
	for i, f := range unzip(t, pkg) {
		class := inID.ReplaceAllString(f.name, "ID")
		if classes[class] || len(f.text) == 0 {
			continue
		}
		classes[class] = true
		for _, at := range []int{0, len(f.text) / 2, len(f.text) - 1} {
			list := unzip(t, pkg)
			list[i].text[at] ^= 1
			r := w.verify(t, rezip(t, list), w.trust, nil)
			want := "container"
			if strings.HasPrefix(f.name, "signatures/") {
				want = "signer"
			}
			if !r.Failed() || !strings.Contains(failed(r), want) {
				t.Errorf("outsider: bit in byte %d of %s: failed %q, want %s\n%s", at, f.name, failed(r), want, said(r))
			}
			if !strings.HasPrefix(f.name, "data/") {
				continue
			}
			m := make(memory)
			for _, g := range list {
				if strings.HasPrefix(g.name, "data/") {
					m[g.name] = g.text
				}
			}
			if r := w.verify(t, w.pack(t, m), w.trust, nil); !r.Failed() {
				t.Errorf("exporter: bit in byte %d of %s was not noticed", at, f.name)
			}
		}
	}
	if len(classes) < 22 {
		t.Errorf("only %d classes of files", len(classes))
	}
}

// lines edits a JSON Lines file.
func lineEdit(f func(l [][]byte) [][]byte) func([]byte) []byte {
	return func(text []byte) []byte {
		l := bytes.SplitAfter(bytes.Clone(text), []byte("\n"))
		return bytes.Join(f(l[:len(l)-1]), nil)
	}
}

func replace(from, to string) func([]byte) []byte {
	return func(text []byte) []byte {
		if !bytes.Contains(text, []byte(from)) {
			panic("nothing to change: " + from)
		}
		return bytes.Replace(text, []byte(from), []byte(to), 1)
	}
}

// TestExporterAlters: somebody with the package keys, and without the log key,
// changes files and signs the package anew.
func TestExporterAlters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	recs := w.story(t)
	other := newWorld(t)
	b := newBook(t, recs)
	tests := []struct {
		name   string
		file   string
		edit   func([]byte) []byte
		scope  Scope
		failed string // aspects
		says   string
	}{
		{name: "EV-01 header dropped", file: fileHeaders, edit: lineEdit(func(l [][]byte) [][]byte { return slices.Delete(l, 6, 7) }), failed: "completeness integrity", says: "entry 7"},
		{name: "EV-01 header added", file: fileHeaders, edit: lineEdit(func(l [][]byte) [][]byte {
			h, _ := ParseHeader(bytes.TrimSpace(l[12]))
			h.Index = 25
			return append(l, append(AppendHeader(nil, &h), '\n'))
		}), failed: "completeness integrity", says: "ends at entry 26, the checkpoint at 25"},
		{name: "EV-01 header doubled", file: fileHeaders, edit: lineEdit(func(l [][]byte) [][]byte { return slices.Insert(l, 6, l[5]) }), failed: "completeness integrity", says: "index 5 where 6 is due"},
		{name: "EV-01 headers reordered", file: fileHeaders, edit: lineEdit(func(l [][]byte) [][]byte { l[22], l[23] = l[23], l[22]; return l }), failed: "completeness integrity", says: "index 23 where 22 is due"},
		{name: "EV-01 headers renumbered", file: fileHeaders, edit: lineEdit(func(l [][]byte) [][]byte {
			l[22], l[23] = bytes.Replace(l[23], []byte(`"i":23`), []byte(`"i":22`), 1), bytes.Replace(l[22], []byte(`"i":22`), []byte(`"i":23`), 1)
			return l
		}), failed: "integrity", says: "do not give the signed root"},
		{name: "header not canonical", file: fileHeaders, edit: replace(`"v":1,`, `"v": 1,`), failed: "completeness integrity", says: "not in canonical form"},
		{name: "header of a later version", file: fileHeaders, edit: replace(`"v":1,`, `"v":2,`), failed: "completeness integrity", says: "version 2"},
		{name: "EV-02 tail cut", file: fileHeaders, edit: lineEdit(func(l [][]byte) [][]byte { return l[:24] }), failed: "completeness integrity", says: "ends at entry 24, the checkpoint at 25"},
		{name: "EV-02 tail cut at a checkpoint", file: fileHeaders, edit: lineEdit(func(l [][]byte) [][]byte { return l[:16] }), failed: "completeness integrity", says: "beyond the headers"},
		{name: "last line not finished", file: fileHeaders, edit: func(b []byte) []byte { return b[:len(b)-1] }, failed: "container", says: "not finished"},
		{name: "EV-01 body dropped", file: fileBodies, edit: lineEdit(func(l [][]byte) [][]byte { return slices.Delete(l, 6, 7) }), failed: "completeness integrity", says: "entry 6: the body of this intent entry is missing"},
		{name: "EV-01 bodies swapped", file: fileBodies, edit: lineEdit(func(l [][]byte) [][]byte {
			x, y := bytes.SplitN(l[6], []byte(","), 2), bytes.SplitN(l[9], []byte(","), 2)
			l[6], l[9] = bytes.Join([][]byte{x[0], y[1]}, []byte(",")), bytes.Join([][]byte{y[0], x[1]}, []byte(","))
			return l
		}), failed: "integrity", says: "entry 6: the body of this intent entry is not the one"},
		{name: "body for an entry out of range", file: fileBodies, edit: lineEdit(func(l [][]byte) [][]byte {
			return append(l, bytes.Replace(l[0], []byte(`"i":0`), []byte(`"i":99`), 1))
		}), failed: "integrity", says: "not in the range"},
		{name: "body line malformed", file: fileBodies, edit: replace(`"salt":`, `"Salt":`), failed: "container", says: "malformed line"},
		{name: "withheld as erased, forged", file: fileWithheld, edit: func([]byte) []byte { return []byte("{\"i\":6,\"reason\":\"erased\"}\n") }, failed: "completeness integrity", says: "disclosed and listed as withheld"},
		{name: "withheld for another index", file: fileWithheld, edit: replace(`"i":15`, `"i":99`), failed: "completeness integrity", says: "entry 15: the body of this identity entry is missing"},
		{name: "withheld for an unknown reason", file: fileWithheld, edit: replace("token-not-expired", "too-large"), failed: "container", says: "malformed line"},
		{name: "filter narrowed", file: fileScope, edit: replace(`"size": 25`, "\"size\": 25,\n  \"filter\": {\n    \"session\": \""+ana.id.String()+"\"\n  }"), failed: "integrity", says: "the filter leaves it out"},
		{name: "EV-15 unknown field in the scope", file: fileScope, edit: replace(`"size": 25`, `"size": 25, "note": 1`), failed: "container", says: "unknown field"},
		{name: "scope in another form", file: fileScope, edit: replace(`"size"`, `"Size"`), failed: "container", says: "canonical form"},
		{name: "something behind the scope", file: fileScope, edit: func(b []byte) []byte { return append(b, "{}"...) }, failed: "container", says: "follows"},
		{name: "range longer than the log", file: fileScope, edit: replace(`"size": 25`, `"size": 26`), failed: "integrity", says: "the range ends at 26"},
		{name: "EV-19 table edited", file: "data/populations/P2-actions.csv", edit: replace("deny", "allow"), failed: "integrity", says: "P2-actions.csv: is not what the entries give"},
		{name: "page edited", file: fileReadme, edit: replace("<h2>", "<h3>"), failed: "integrity", says: "README.html: is not what"},
		{name: "summary edited", file: fileSummary, edit: replace(`"denied": 2`, `"denied": 0`), failed: "integrity", says: "summary.json: is not what"},
		{name: "rows edited", file: "data/sessions/" + ana.id.String() + "/rows.jsonl", edit: replace(`"42"`, `"43"`), failed: "integrity", says: "rows.jsonl: is not what"},
		{name: "token edited", file: "data/identities/" + ana.id.String() + "-5.json", edit: replace("agents", "admins"), failed: "integrity", says: "is not what the entries give"},
		{name: "EV-19 table added", file: "data/populations/P12-exceptions.csv", edit: func([]byte) []byte { return []byte("all,fine\r\n") }, failed: "integrity", says: "does not follow"},
		{name: "EV-19 table left out", file: "data/populations/P2-actions.csv", edit: nil, failed: "completeness", says: "P2-actions.csv: is missing"},
		{name: "checkpoint of another origin", file: fileCheckpoint, edit: func([]byte) []byte {
			cp, _ := SignCheckpoint(Checkpoint{Origin: "other.test", Size: 25}, w.log)
			return cp
		}, failed: "integrity", says: "origin"},
		{name: "EV-06 checkpoint by another key", file: fileCheckpoint, edit: func([]byte) []byte { return other.sign(t, b, 25) }, failed: "integrity", says: "checkpoint not accepted"},
		{name: "checkpoint of another size", file: fileCheckpoint, edit: func([]byte) []byte { return w.sign(t, b, 24) }, failed: "completeness integrity", says: "it is of 24 entries, the range ends at 25"},
		{name: "checkpoint with an extension", file: fileCheckpoint, edit: replace("\n\n", "\nmore\n\n"), failed: "integrity", says: "not accepted"},
		{name: "checkpoints out of order", file: fileCheckpoints, edit: lineEdit(func(l [][]byte) [][]byte { l[0], l[1] = l[1], l[0]; return l }), failed: "integrity", says: "out of place"},
		{name: "checkpoint in the range damaged", file: fileCheckpoints, edit: replace("8", "9"), failed: "integrity", says: "line 1"},
		{name: "opening checkpoint forged", file: fileProofs, scope: Scope{First: 12, From: storyBegin.Add(14 * time.Second)}, edit: func(text []byte) []byte {
			var p Proofs
			_ = json.Unmarshal(text, &p)
			p.Opening = string(other.sign(t, b, 12))
			return encode(&p)
		}, failed: "integrity", says: "opening checkpoint"},
		{name: "EV-04 consistency forged", file: fileProofs, scope: Scope{First: 12, From: storyBegin.Add(14 * time.Second)}, edit: func(text []byte) []byte {
			var p Proofs
			_ = json.Unmarshal(text, &p)
			p.Consistency[0], p.Consistency[1] = p.Consistency[1], p.Consistency[0]
			return encode(&p)
		}, failed: "integrity", says: "the log was forked"},
		{name: "frontier forged", file: fileProofs, scope: Scope{First: 12, From: storyBegin.Add(14 * time.Second)}, edit: func(text []byte) []byte {
			var p Proofs
			_ = json.Unmarshal(text, &p)
			slices.Reverse(p.Frontier)
			return encode(&p)
		}, failed: "integrity", says: "do not give the signed root"},
		{name: "frontier too short", file: fileProofs, scope: Scope{First: 12, From: storyBegin.Add(14 * time.Second)}, edit: func([]byte) []byte { return encode(&Proofs{}) }, failed: "integrity", says: "perfect subtrees"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := w.data(t, recs, test.scope, nil, 0)
			if test.edit == nil {
				delete(m, test.file)
			} else {
				m[test.file] = test.edit(m[test.file])
			}
			r := w.verify(t, w.pack(t, m), w.trust, nil)
			if got := failed(r); got != test.failed || r.ExitCode() != 1 || !strings.Contains(said(r), test.says) {
				t.Errorf("failed %q, want %q saying %q; report:\n%s", got, test.failed, test.says, said(r))
			}
		})
	}
}

// TestExporterNarrows: whoever exports makes a package that is right in
// itself and says less than it claims.
func TestExporterNarrows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	recs := w.story(t)
	for _, test := range []struct {
		name   string
		scope  Scope
		failed string
		codes  string
	}{
		{"another's pseudonym under a name", Scope{Filter: Filter{Principal: "ci|ana", ActorID: bob.actor.String()}}, "completeness", ""},
		{"a pseudonym of nobody", Scope{Filter: Filter{Principal: "ci|ana", ActorID: Pseudonym{9}.String()}}, "", "filter-unproven"},
		{"a target's pseudonym of nothing", Scope{Filter: Filter{Target: "orders", TargetID: Pseudonym{9}.String()}}, "", "filter-unproven"},
		{"another target's name", Scope{Filter: Filter{Target: "billing", TargetID: db.String()}}, "completeness", ""},
		{"a begin that was not asked for", Scope{First: 13}, "completeness", ""},
		{"a begin after the one asked for", Scope{First: 13, From: storyBegin.Add(2 * time.Second)}, "completeness", ""},
		{"an end before the one asked for", Scope{Size: 17, Until: storyBegin.Add(time.Hour)}, "", "ends-early open-intent token-disclosed"},
		{"a session cut at the begin", Scope{First: 6, From: storyBegin.Add(7 * time.Second)}, "completeness", ""},
	} {
		r := w.verify(t, w.pack(t, w.data(t, recs, test.scope, nil, 0)), w.trust, nil)
		if failed(r) != test.failed || test.codes != "" && codes(r) != test.codes {
			t.Errorf("%s: failed %q, want %q; exceptions %q, want %q\n%s", test.name, failed(r), test.failed, codes(r), test.codes, said(r))
		}
	}
}

// TestEV15Containers: files that are no package, or more than one.
func TestEV15Containers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pkg := w.pack(t, w.data(t, w.story(t), Scope{}, nil, 0))
	add := func(name string, mode func(*zip.FileHeader)) func([]zipFile) []zipFile {
		return func(l []zipFile) []zipFile { return append(l, zipFile{name: name, text: []byte("x"), mode: mode}) }
	}
	for name, edit := range map[string]func([]zipFile) []zipFile{
		"is not part of the format": add("data/extra.txt", nil),
		"../evil":                   add("../evil", nil),
		"/etc/passwd":               add("/etc/passwd", nil),
		`data\\log`:                 add(`data\log\headers.jsonl`, nil),
		"is there twice":            func(l []zipFile) []zipFile { return append(l, l[0]) },
		"differs from another only": func(l []zipFile) []zipFile {
			return append(l, zipFile{name: "data/populations/p2-Actions.csv", text: []byte("x")})
		},
		"not a regular file": func(l []zipFile) []zipFile {
			l[0].mode = func(h *zip.FileHeader) { h.SetMode(fs.ModeSymlink | 0o777) }
			return l
		},
		`"data/log/" is not part`: func(l []zipFile) []zipFile { return append(l, zipFile{name: "data/log/"}) },
		"is in the manifest and missing": func(l []zipFile) []zipFile {
			return slices.DeleteFunc(l, func(f zipFile) bool { return f.name == fileSummary })
		},
		"is in no manifest": add("data/sessions/zz"+bob.id.String()[2:]+"/rows.jsonl", nil),
		"no trusted package k": func(l []zipFile) []zipFile {
			return slices.DeleteFunc(l, func(f zipFile) bool { return f.name == "signatures/"+fileManifest+".ecdsa" })
		},
		"no trusted SSH key signed tag": func(l []zipFile) []zipFile { // signatures swapped between files
			at := func(name string) int { return slices.IndexFunc(l, func(f zipFile) bool { return f.name == name }) }
			a, b := at("signatures/"+fileManifest+".sshsig"), at("signatures/"+fileTagManifest+".sshsig")
			l[a].text, l[b].text = l[b].text, l[a].text
			return l
		},
	} {
		r := w.verify(t, rezip(t, edit(unzip(t, pkg))), w.trust, nil)
		if r.ExitCode() != 1 || !strings.Contains(said(r), name) {
			t.Errorf("want a problem that says %q, got:\n%s", name, said(r))
		}
	}
	for name, altered := range map[string][]byte{
		"not a ZIP file":                      []byte("PK\x05\x06"),
		"something before":                    append([]byte("#!/bin/sh\n"), pkg...),
		"there is something behind":           append(bytes.Clone(pkg), "garbage"...),
		"not a ZIP file: zip: not a valid":    pkg[:len(pkg)-1],
		"has another name beside its content": bytes.Replace(pkg, []byte("data/README.html"), []byte("data/README.htmx"), 1),
	} {
		r := w.verify(t, altered, w.trust, nil)
		if r.ExitCode() != 1 || r.Summary != nil || !strings.Contains(said(r), name) {
			t.Errorf("want a problem that says %q, got:\n%s", name, said(r))
		}
	}
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	fatal(t, z.SetComment("hello"))
	fatal(t, z.Close())
	if r := w.verify(t, out.Bytes(), w.trust, nil); !strings.Contains(said(r), "comment") {
		t.Errorf("a ZIP comment: %s", said(r))
	}
}

// TestEV15Bombs: what unpacks to a mountain is refused before it is unpacked.
func TestEV15Bombs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pkg := w.pack(t, w.data(t, w.story(t), Scope{}, nil, 0))
	list := unzip(t, pkg)
	big := slices.IndexFunc(list, func(f zipFile) bool { return f.name == fileSummary })
	list[big].text = make([]byte, 40<<20)
	bomb := rezip(t, list)
	tr, err := ParseTrust([]byte(w.trust))
	fatal(t, err)
	check := func(l Limits, trust *Trust, says string) {
		t.Helper()
		begin := time.Now()
		r, err := Verify(bytes.NewReader(bomb), int64(len(bomb)), Options{Trust: trust, Limits: l})
		fatal(t, err)
		if !strings.Contains(said(r), says) || time.Since(begin) > 5*time.Second {
			t.Errorf("%+v: want %q after %v, got\n%s", l, says, time.Since(begin), said(r))
		}
	}
	check(Limits{Bytes: 1 << 20}, tr, "more than 1048576 bytes")
	check(Limits{Files: 10}, tr, "at most 10 are read")
	stranger, err := ParseTrust([]byte(newWorld(t).trust))
	fatal(t, err)
	check(Limits{Unsigned: 1 << 20}, stranger, "no trusted key signed them")
	// A large scope is not read whole, whoever signed it.
	m := w.data(t, w.story(t), Scope{}, nil, 0)
	m[fileScope] = append(m[fileScope], make([]byte, 40<<20)...)
	bomb = w.pack(t, m)
	check(Limits{}, tr, "read data/scope.json: more than")
	// A line without an end.
	m = w.data(t, w.story(t), Scope{}, nil, 0)
	m[fileBodies] = append(bytes.Repeat([]byte("x"), 40<<20), m[fileBodies]...)
	bomb = w.pack(t, m)
	check(Limits{Line: 1 << 20}, tr, "a line of more than")
	// Deep nesting in a body.
	recs := w.story(t)
	recs[22].body = []byte(strings.Repeat("[", 1<<20))
	bomb = w.pack(t, w.data(t, recs, Scope{}, nil, 0))
	check(Limits{}, tr, "entry 22")
}

// TestEV06Keys: who is not in the trust file is not believed.
func TestEV06Keys(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	pkg := w.pack(t, w.data(t, w.story(t), Scope{}, nil, 0))
	line := func(world *world, word string) string {
		for l := range strings.Lines(world.trust) {
			if strings.HasPrefix(l, word) {
				return l
			}
		}
		panic(word)
	}
	for _, test := range []struct {
		name, trust, failed, codes string
	}{
		{"another log key", line(other, "log") + line(w, "package") + line(w, "ssh"), "integrity", ""},
		{"another package key", line(w, "log") + line(other, "package") + line(w, "ssh"), "signer", ""},
		{"another SSH key", line(w, "log") + line(w, "package") + line(other, "ssh"), "signer", ""},
		{"no package key", line(w, "log"), "", "signer-unknown"},
		{"EV-28 a second log key of the origin", line(other, "log") + w.trust, "", ""},
		{"another issuer key", w.trust + "issuer https://issuer.test AAAA\n", "identity", ""},
	} {
		r := w.verify(t, pkg, test.trust, nil)
		if failed(r) != test.failed || codes(r) != test.codes {
			t.Errorf("%s: failed %q, want %q; exceptions %q\n%s", test.name, failed(r), test.failed, codes(r), said(r))
		}
	}
}

// TestEV02And04Bookmarks compares packages with checkpoints that somebody kept.
func TestEV02And04Bookmarks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	recs := w.story(t)
	b := newBook(t, recs)
	fork := w.story(t)
	fork[4].body = bytes.Replace(fork[4].body, []byte(`"role":"default"`), []byte(`"role":"admin"`), 1)
	forked := newBook(t, fork)
	late := Scope{First: 12, From: storyBegin.Add(14 * time.Second)}
	for _, test := range []struct {
		name     string
		scope    Scope
		previous []byte // bookmark
		carried  []byte // the one the package has a proof for
		size     int
		failed   string
		codes    string
		anchor   string
	}{
		{"in the range", Scope{}, w.sign(t, b, 10), nil, 0, "", "", "L1"},
		{"of a fork, in the range", Scope{}, w.sign(t, forked, 10), nil, 0, "anchoring", "", "failed"},
		{"of a fork, before its begin", Scope{}, w.sign(t, forked, 4), nil, 0, "", "", "L1"},
		{"newer than the package", Scope{Size: 12}, w.sign(t, b, 20), nil, 0, "anchoring", "token-disclosed", "failed"},
		{"before the range, without a proof", late, w.sign(t, b, 7), nil, 0, "", "previous-not-comparable", "L0: the previous checkpoint was not compared"},
		{"before the range, with a proof", late, w.sign(t, b, 7), w.sign(t, b, 7), 7, "", "", "L1"},
		{"of a fork, before the range, with a proof", late, w.sign(t, forked, 7), w.sign(t, forked, 7), 7, "anchoring", "", "failed"},
		{"the range's begin", late, w.sign(t, b, 12), nil, 0, "", "", "L1"},
		{"the range's begin, of a fork", late, w.sign(t, forked, 12), nil, 0, "anchoring", "", "failed"},
		{"by another key", Scope{}, newWorld(t).sign(t, b, 10), nil, 0, "anchoring", "", "failed"},
		{"no checkpoint at all", Scope{}, []byte("hello"), nil, 0, "anchoring", "", "failed"},
	} {
		r := w.verify(t, w.pack(t, w.data(t, recs, test.scope, test.carried, test.size)), w.trust, test.previous)
		if failed(r) != test.failed || codes(r) != test.codes || !strings.HasPrefix(r.Anchoring, test.anchor) {
			t.Errorf("%s: failed %q, want %q; exceptions %q, want %q; %s\n%s", test.name, failed(r), test.failed, codes(r), test.codes, r.Anchoring, said(r))
		}
	}
}

// TestEV03Alterations makes each alteration of a book at three strengths. The
// columns of the table were written before the verifier ran.
//
//   - An outsider without keys builds the altered package whole, with manifests and
//     signatures by keys of their own: the signatures fail, and the log's too, whatever else is right.
//   - Whoever exports has the package's keys and not the log's: the tree's head stays that of the honest
//     book, so that whatever changes an entry breaks the log's integrity beside what root's version
//     shows. Only what the export withholds (withholds) is theirs to choose: there the verdict is root's.
//   - Root has every key of the gateway and signs all of it anew. Rows with no failed aspect and no
//     exception are what nobody can notice from the package alone; bookmark says
//     whether a checkpoint of 24 entries, kept from before, gives it away.
//
// docs/threat-model.md has the rows, and is compared.
func TestEV03Alterations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mallory := newWorld(t)
	honest := newBook(t, w.story(t))
	body := func(i int, from, to string) func([]entryRec) []entryRec {
		return func(l []entryRec) []entryRec {
			l[i].body = replace(from, to)(bytes.Clone(l[i].body))
			return l
		}
	}
	drop := func(i, j int) func([]entryRec) []entryRec {
		return func(l []entryRec) []entryRec { return slices.Delete(l, i, j) }
	}
	both := func(fs ...func([]entryRec) []entryRec) func([]entryRec) []entryRec {
		return func(l []entryRec) []entryRec {
			for _, f := range fs {
				l = f(l)
			}
			return l
		}
	}
	swap := func(i, j int) func([]entryRec) []entryRec {
		return func(l []entryRec) []entryRec { l[i], l[j] = l[j], l[i]; return l }
	}
	again := func(i int) func([]entryRec) []entryRec {
		return func(l []entryRec) []entryRec { return slices.Insert(l, i, l[i]) }
	}
	forgedSession := func(a agent) []entryRec { // under an issuer's key of root's own
		l := mallory.session(t, a)
		return l
	}
	boot := entryRec{h: Header{Kind: KindBoot}, body: meta(t, &Boot{BootID: "b2", Sync: "insecure_interval", HeartbeatS: 30}), index: -1}
	tests := []struct {
		name     string
		edit     func([]entryRec) []entryRec
		failed   string
		codes    string
		bookmark bool // the kept checkpoint notices
	}{
		{"EV-19 intent without outcome", drop(8, 9), "completeness", "", true},
		{"two outcomes", again(8), "completeness", "", true},
		{"outcome before intent", swap(9, 10), "completeness", "", true},
		{"EV-19 exchange numbers with a gap", drop(6, 9), "completeness", "", true},
		{"session entry missing", drop(4, 5), "integrity", "", true},
		{"session begins twice", again(4), "integrity", "", true},
		{"session end counts wrongly", body(11, `"exchanges":2`, `"exchanges":3`), "completeness", "", true},
		{"answer's chunk dropped", drop(7, 8), "completeness integrity", "", true},
		{"answer's rows edited", body(8, "42", "43"), "integrity", "", true},
		{"token edited", body(5, `"token":"e`, `"token":"f`), "identity", "", true},
		{"token of another digest", body(5, `"token_sha256":"`, `"token_sha256":"0`), "identity", "", true},
		{"key set edited", body(5, `"x":"`, `"x":"A`), "identity", "", true},
		{"claims edited in the session", body(4, `"groups":["agents"]`, `"groups":["dba"]`), "identity", "", true},
		{"claims edited everywhere but in the token", both(
			body(4, `"exp"`, `"admin":1,"exp"`), body(5, `"exp"`, `"admin":1,"exp"`)), "identity", "", true},
		{"groups edited in the session, claims left", body(4, `"groups":["agents"],"claims"`, `"groups":["dba"],"claims"`), "identity", "", true},
		{"groups edited in session and identity, claims left", both(
			body(4, `"groups":["agents"],"claims"`, `"groups":["dba"],"claims"`),
			body(5, `"groups":["agents"],"claims"`, `"groups":["dba"],"claims"`)), "", "", true},
		{"identity posing as a renewal", both(body(4, `"groups":["agents"]}}`, `"groups":["dba"]}}`),
			body(5, `"principal"`, `"renewal":true,"principal"`)), "identity", "", true},
		{"another principal's name", body(4, `"name":"ana"`, `"name":"bob"`), "identity integrity", "", true},
		{"expiry prolonged", both(body(4, `"token_expiry":"2026-03-01T08:00:20Z"`, `"token_expiry":"2026-03-01T09:00:20Z"`)), "identity", "", true},
		{"token withheld though it had expired", func(l []entryRec) []entryRec { l[5].reason = WithheldToken; return l }, "completeness", "", false},
		{"intent withheld for a token", func(l []entryRec) []entryRec { l[6].reason = WithheldToken; return l }, "completeness", "", false},
		{"intent withheld as erased", func(l []entryRec) []entryRec { l[6].reason = WithheldErased; return l }, "", "erased", false},
		{"live token disclosed", func(l []entryRec) []entryRec { l[15].reason = ""; return l }, "", "token-disclosed", false},
		{"request put under another principal", func(l []entryRec) []entryRec { l[9].h.Actor = bob.actor; return l }, "integrity", "", true},
		{"header's pseudonym is not the session's", func(l []entryRec) []entryRec {
			for i := 4; i <= 11; i++ {
				l[i].h.Actor = bob.actor
			}
			return l
		}, "identity integrity", "", true},
		{"time backwards", func(l []entryRec) []entryRec { l[12].at = 5 * time.Second; return l }, "integrity", "", true},
		{"identity entry dropped", drop(5, 6), "completeness", "", true},
		{"EV-19 silent hour", func(l []entryRec) []entryRec { l[12].at = time.Hour; return l }, "completeness", "gap", true},
		{"EV-13 start without a stop", func(l []entryRec) []entryRec { return slices.Insert(l, 22, boot) }, "", "crash", true},
		{"EV-19 indices with a gap", func(l []entryRec) []entryRec { l[23].index = 24; return l }, "completeness", "", true},
		{"body is no JSON", func(l []entryRec) []entryRec { l[22].body = []byte("{"); return l }, "integrity", "", true},
		// What follows is right in itself: only a bookmark, a receipt, the
		// target's own log or a pinned issuer key tells.
		{"whole session dropped", drop(3, 12), "", "", true},
		{"request dropped and renumbered", both(drop(9, 11), body(9, `"exchanges":2`, `"exchanges":1`)), "", "", true},
		{"statement's text edited", body(6, "SELECT n FROM t", "SELECT 1      "), "", "", true},
		{"refusal made an allowance", func(l []entryRec) []entryRec { l[9].h.Decision = "allow"; return l }, "", "", true},
		{"all back-dated by a day", func(l []entryRec) []entryRec { l[0].at = -24 * time.Hour; return l[:1:1] }, "", "", true},
		{"session made under a key of root's own", func(l []entryRec) []entryRec { return slices.Concat(l[:3], forgedSession(ana), l[12:]) }, "", "", true},
		{"EV-02 tail cut", func(l []entryRec) []entryRec { return l[:22] }, "", "", true},
		{"refused log-in dropped", drop(23, 24), "", "", true},
	}
	var rows []string
	story := w.data(t, w.story(t), Scope{}, nil, 0)
	outsider := newWorld(t)
	for _, test := range tests {
		withholds := !test.bookmark
		rows = append(rows, row(test.name, test.failed, test.codes, withholds, test.bookmark))
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data := func() memory { return w.data(t, test.edit(w.story(t)), Scope{}, nil, 0) }
			honestHead := data()
			for _, name := range []string{fileCheckpoint, fileCheckpoints, fileProofs} {
				honestHead[name] = story[name]
			}
			r := w.verify(t, outsider.pack(t, honestHead), w.trust, nil)
			if got := failed(r); !strings.Contains(got, "signer") || !withholds && !strings.Contains(got, "integrity") {
				t.Errorf("outsider: failed %q, want signer and what the exporter's version fails\n%s", got, said(r))
			}
			want := map[string]bool{}
			for _, aspect := range strings.Fields(test.failed) {
				want[aspect] = true
			}
			if !withholds {
				want[string(Integrity)] = true
			}
			r = w.verify(t, w.pack(t, honestHead), w.trust, nil)
			for aspect := range want {
				if !strings.Contains(failed(r), aspect) {
					t.Errorf("exporter: failed %q, want %s among it\n%s", failed(r), aspect, said(r))
				}
			}
			if withholds && (failed(r) != test.failed || codes(r) != test.codes) {
				t.Errorf("exporter: failed %q, want %q; exceptions %q, want %q\n%s", failed(r), test.failed, codes(r), test.codes, said(r))
			}

			pkg := w.pack(t, data())
			r = w.verify(t, pkg, w.trust, nil)
			if got := failed(r); got != test.failed || test.codes != "" && !strings.Contains(codes(r), test.codes) ||
				test.failed == "" && test.codes == "" && r.ExitCode() != 0 {
				t.Errorf("root: failed %q, want %q; exceptions %q, want %q\n%s", got, test.failed, codes(r), test.codes, said(r))
			}
			r = w.verify(t, pkg, w.trust, w.sign(t, honest, 24))
			if got := strings.Contains(failed(r), "anchoring"); got != test.bookmark {
				t.Errorf("root: the bookmark noticed it: %v, want %v\n%s", got, test.bookmark, said(r))
			}
		})
	}
	compareDocument(t, rows)
	// A pinned issuer key tells a session that root made up.
	pkg := w.pack(t, w.data(t, slices.Concat(w.story(t)[:3], forgedSession(ana), w.story(t)[12:]), Scope{}, nil, 0))
	if r := w.verify(t, pkg, w.trust+"issuer https://issuer.test "+w.pin+"\n", nil); failed(r) != "identity" {
		t.Errorf("a session under another issuer key: %s", said(r))
	}
}

// row is an alteration's line of the table in docs/threat-model.md.
func row(name, failed, codes string, withholds, bookmark bool) string {
	name = strings.TrimSpace(regexp.MustCompile(`EV-\d+`).ReplaceAllString(name, ""))
	root := failed
	if codes != "" {
		root = strings.TrimSpace(failed + " exception: " + codes)
	}
	exporter := root
	if !withholds {
		exporter = strings.TrimSpace("integrity " + strings.ReplaceAll(failed, "integrity", ""))
		exporter = strings.Join(strings.Fields(exporter), " ")
	}
	mark := "**yes**"
	switch {
	case !bookmark:
		mark = "the log is as it was"
	case root != "":
		mark = "yes"
	}
	if root == "" {
		root = "**nothing**"
	}
	return "| " + name + " | " + exporter + " | " + root + " | " + mark + " |"
}

// compareDocument holds the table in docs/threat-model.md to the rows.
func compareDocument(t *testing.T, rows []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/threat-model.md")
	fatal(t, err)
	table := "| Alteration | exporter: fails | root: fails | bookmark notices |\n|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n"
	if !bytes.Contains(text, []byte(table)) {
		t.Errorf("docs/threat-model.md does not have this table:\n%s", table)
	}
}

// TestForgedScript: the signer of a package can put any script into it for the
// auditor to run; the verifier says that it is not its own.
func TestForgedScript(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list := unzip(t, w.pack(t, w.data(t, w.story(t), Scope{}, nil, 0)))
	forged := []byte("#!/bin/sh\necho ok\n")
	var tags []byte
	for i := range list {
		switch list[i].name {
		case fileVerifySH:
			list[i].text = forged
		case fileTagManifest:
			list[i].text = bytes.Replace(list[i].text, []byte(sum(verifySH)), []byte(sum(forged)), 1)
			tags = list[i].text
		}
	}
	digest := sha256.Sum256(tags)
	sig, err := ecdsa.SignASN1(rand.Reader, w.keys.ECDSA, digest[:])
	fatal(t, err)
	for i := range list {
		switch list[i].name {
		case "signatures/" + fileTagManifest + ".ecdsa":
			list[i].text = sig
		case "signatures/" + fileTagManifest + ".sshsig":
			list[i].text = SignSSH(w.keys.SSH, tags)
		}
	}
	r := w.verify(t, rezip(t, list), w.trust, nil)
	if r.Failed() || !strings.Contains(codes(r), "means-differ") || r.ExitCode() != 2 {
		t.Errorf("exit %d:\n%s", r.ExitCode(), said(r))
	}
}
