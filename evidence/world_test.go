package evidence

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const testOrigin = "gate.test/book"

// world holds every key there is: what root on a gateway and the issuer have.
type world struct {
	log    note.Signer
	keys   Signer
	issuer *ecdsa.PrivateKey
	trust  string
	jwks   json.RawMessage
	pin    string
	tokens map[string]string // by agent: a signature is never made twice alike
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{}
	skey, vkey, err := note.GenerateKey(rand.Reader, testOrigin)
	fatal(t, err)
	w.log, err = note.NewSigner(skey)
	fatal(t, err)
	w.keys.ECDSA, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	fatal(t, err)
	w.keys.SSH = priv
	der, err := x509.MarshalPKIXPublicKey(w.keys.ECDSA.Public())
	fatal(t, err)
	w.trust = "log " + vkey + "\npackage " + base64.StdEncoding.EncodeToString(der) + "\nssh " + SSHAuthorizedKey(pub) + "\n"
	w.issuer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	k := jwkOf(t, w.issuer)
	w.jwks, err = json.Marshal(map[string]any{"keys": []jwk{k}})
	fatal(t, err)
	w.pin, w.tokens = k.thumbprint(), make(map[string]string)
	for _, a := range []agent{ana, bob} {
		w.tokens[a.name] = signES256(t, w.issuer, `{"alg":"ES256","kid":"k1"}`, a.claims())
	}
	return w
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func jwkOf(t testing.TB, key *ecdsa.PrivateKey) jwk {
	t.Helper()
	raw, err := key.PublicKey.Bytes()
	fatal(t, err)
	return jwk{Kty: "EC", Kid: "k1", Alg: "ES256", Crv: "P-256",
		X: base64.RawURLEncoding.EncodeToString(raw[1:33]), Y: base64.RawURLEncoding.EncodeToString(raw[33:])}
}

func signES256(t testing.TB, key *ecdsa.PrivateKey, header, payload string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	d := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, d[:])
	fatal(t, err)
	sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// entryRec is an entry before it has its place.
type entryRec struct {
	h      Header
	body   []byte
	at     time.Duration // since the story's begin; 0: a second after the one before
	reason string        // why the body is withheld
	index  int64         // written into the header instead of its place, if >= 0
}

var storyBegin = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

func meta(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	fatal(t, err)
	return b
}

func frame(typ byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(body)+4)), body...)
}

type agent struct {
	name    string
	id      ID
	actor   Pseudonym
	expires time.Duration
}

func (a agent) claims() string {
	return fmt.Sprintf(`{"iss":"https://issuer.test","sub":%q,"exp":%d,"groups":["agents"]}`, a.name, storyBegin.Add(a.expires).Unix())
}

var (
	ana = agent{name: "ana", id: ID{1}, actor: Pseudonym{0xa}, expires: 20 * time.Second}
	bob = agent{name: "bob", id: ID{2}, actor: Pseudonym{0xb}, expires: time.Hour}
	db  = Pseudonym{0xd}
)

func (w *world) session(t testing.TB, a agent) []entryRec {
	t.Helper()
	exp := storyBegin.Add(a.expires)
	claims := a.claims()
	token := w.tokens[a.name]
	p := Principal{ActorID: a.actor.String(), Issuer: "ci", IssuerURL: "https://issuer.test", Subject: a.name, Name: a.name,
		Groups: []string{"agents"}, Claims: json.RawMessage(claims)}
	target := Target{TargetID: db.String(), Name: "orders", Protocol: "postgres", Address: "db:5432"}
	h := func(k Kind, x uint64, decision string) Header {
		return Header{Kind: k, Session: a.id, Actor: a.actor, Target: db, Exchange: x, Decision: decision}
	}
	answer := slices.Concat(frame('T', "\x00\x01n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		frame('D', "\x00\x01\x00\x00\x00\x0242"), frame('C', "SELECT 1\x00"))
	half := len(answer) / 2
	outcome := func(bytes, chunks uint64, digest string) []byte {
		return meta(t, &Outcome{Status: "ok", Tag: "SELECT 1", Rows: 1, Bytes: bytes, Chunks: chunks, SHA256: digest})
	}
	withRaw := func(m, raw []byte) []byte { return append(append(m, '\n'), raw...) }
	bound := p
	bound.Claims = nil
	list := []entryRec{
		{h: Header{Kind: KindPrincipal, Actor: a.actor}, body: meta(t, &bound)},
		{h: h(KindSession, 0, ""), body: meta(t, &Session{Principal: p, TokenSHA256: sum([]byte(token)), TokenExpiry: exp, SessionEnd: exp,
			Target: target, Role: "default", Rule: "target.allow", Source: "10.0.0.1:9"})},
		{h: h(KindIdentity, 0, ""), body: meta(t, &Identity{Issuer: "ci", TokenSHA256: sum([]byte(token)), TokenExpiry: exp, Token: token,
			KeySet: w.jwks, Principal: p, SessionEnd: exp})},
		{h: h(KindIntent, 1, "allow"), body: meta(t, &Intent{Op: "query", Rule: "r", Text: "SELECT n FROM t /* " + a.name + " */"})},
		{h: h(KindAnswer, 1, ""), body: withRaw(meta(t, &Chunk{Seq: 1}), answer[:half])},
		{h: h(KindOutcome, 1, ""), body: withRaw(outcome(uint64(len(answer)), 1, sum(answer)), answer[half:])},
		{h: h(KindIntent, 2, "deny"), body: meta(t, &Intent{Op: "query", Rule: "r", Text: "DROP TABLE t"})},
		{h: h(KindOutcome, 2, ""), body: meta(t, &Outcome{Status: "denied", SHA256: sum(nil)})},
		{h: h(KindSessionEnd, 0, ""), body: meta(t, &SessionEnd{Cause: "closed", Exchanges: 2})},
	}
	for i := range list {
		list[i].index = -1
	}
	if a.expires > time.Minute {
		list[2].reason = WithheldToken
	}
	return list
}

// story is a book from its first start to a stop, with two sessions. Entries:
// 0 boot, 1 key, 2 target, 3 to 11 ana (3 principal, 4 session, 5 identity,
// 6 intent, 7 answer, 8 outcome, 9 intent, 10 outcome, 11 end), 12 heartbeat,
// 13 to 21 bob likewise, 22 admin, 23 refused, 24 stop.
func (w *world) story(t testing.TB) []entryRec {
	t.Helper()
	control := func(k Kind, v any) entryRec { return entryRec{h: Header{Kind: k}, body: meta(t, v), index: -1} }
	target := control(KindTarget, &Target{TargetID: db.String(), Name: "orders", Protocol: "postgres"})
	target.h.Target = db
	return slices.Concat(
		[]entryRec{
			control(KindBoot, &Boot{BootID: "b1", Version: "test", Origin: testOrigin, Sync: "always", HeartbeatS: 30}),
			control(KindKey, &Key{Log: "k"}), target,
		},
		w.session(t, ana), []entryRec{control(KindHeartbeat, &Heartbeat{BootID: "b1"})}, w.session(t, bob),
		[]entryRec{
			control(KindAdmin, &Admin{Action: "query", Who: "op", How: "socket"}),
			control(KindRefused, &Refused{Count: 1, What: "login", Code: "identity", Source: "10.0.0.9:1"}),
			control(KindStop, &Stop{BootID: "b1", Cause: "test"}),
		},
	)
}

// memory is a sink and a source.
type memory map[string][]byte

func (m memory) Append(name string, piece []byte) error {
	m[name] = append(m[name], piece...)
	return nil
}
func (m memory) Names() []string { return slices.Collect(maps.Keys(m)) }
func (m memory) Open(name string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m[name])), nil
}

// book is the tree of a story, entry by entry.
type book struct {
	lines  [][]byte
	heads  []Header
	hashes []tlog.Hash
}

// ReadHashes implements tlog.HashReader.
func (b *book) ReadHashes(ix []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(ix))
	for i, x := range ix {
		out[i] = b.hashes[x]
	}
	return out, nil
}

func newBook(t testing.TB, recs []entryRec) *book {
	t.Helper()
	b := &book{}
	now := time.Duration(0)
	for i := range recs {
		r := &recs[i]
		if now += time.Second; r.at != 0 {
			now = r.at
		}
		h := r.h
		h.Index, h.Time = uint64(i), storyBegin.Add(now)
		if r.index >= 0 {
			h.Index = uint64(r.index)
		}
		h.Commit, h.BodyLen = Commitment(&[SaltSize]byte{byte(i), byte(i >> 8)}, r.body), uint64(len(r.body))
		line := AppendHeader(nil, &h)
		more, err := tlog.StoredHashesForRecordHash(int64(i), LeafHash(line), b)
		fatal(t, err)
		b.hashes = append(b.hashes, more...)
		b.lines, b.heads = append(b.lines, line), append(b.heads, h)
	}
	return b
}

func (w *world) sign(t testing.TB, b *book, n int) []byte {
	t.Helper()
	root, err := tlog.TreeHash(int64(n), b)
	fatal(t, err)
	cp, err := SignCheckpoint(Checkpoint{Origin: testOrigin, Size: uint64(n), Root: root}, w.log)
	fatal(t, err)
	return cp
}

func (w *world) proof(t testing.TB, b *book, m, n int) []string {
	t.Helper()
	if m == n {
		return nil
	}
	p, err := tlog.ProveTree(int64(n), int64(m), b)
	fatal(t, err)
	var out []string
	for _, h := range p {
		out = append(out, base64.StdEncoding.EncodeToString(h[:]))
	}
	return out
}

// data makes everything under data/ for a story.
func (w *world) data(t testing.TB, recs []entryRec, scope Scope, previous []byte, previousSize int) memory {
	t.Helper()
	b := newBook(t, recs)
	scope.Format, scope.Origin = PackageFormat, testOrigin
	if scope.Size == 0 {
		scope.Size = uint64(len(recs))
	}
	first, size := int(scope.First), int(scope.Size)
	proofs := &Proofs{Frontier: []string{}}
	at := int64(0)
	for level := 62; level >= 0; level-- {
		if n := int64(1) << level; int64(first)-at >= n {
			h := b.hashes[tlog.StoredHashIndex(level, at>>level)]
			proofs.Frontier = append(proofs.Frontier, base64.StdEncoding.EncodeToString(h[:]))
			at += n
		}
	}
	if first > 0 {
		proofs.Opening, proofs.Consistency = string(w.sign(t, b, first)), w.proof(t, b, first, size)
	}
	if previous != nil {
		proofs.Previous, proofs.PreviousConsistency = string(previous), w.proof(t, b, previousSize, size)
	}
	var between [][]byte
	for n := first + 1; n <= size; n++ {
		if n%8 == 0 || n == size {
			between = append(between, w.sign(t, b, n))
		}
	}
	m := make(memory)
	fatal(t, Facts(&scope, w.sign(t, b, size), between, proofs, m))
	builder := NewBuilder(scope, m)
	fatal(t, builder.Begin())
	var firstTime time.Time
	for i := first; i < size; i++ {
		if i == first {
			firstTime = b.heads[i].Time
		}
		var d *Disclosed
		reason := ""
		if scope.Discloses(&b.heads[i]) {
			if reason = recs[i].reason; reason == "" {
				d = &Disclosed{Salt: [SaltSize]byte{byte(i), byte(i >> 8)}, Body: recs[i].body}
			}
		}
		fatal(t, builder.Entry(b.lines[i], &b.heads[i], d, reason))
	}
	_, err := builder.Finish(firstTime)
	fatal(t, err)
	return m
}

func (w *world) pack(t testing.TB, m memory) []byte {
	t.Helper()
	var out bytes.Buffer
	fatal(t, Pack(&out, m, Custody{Exported: storyBegin, Who: "test"}, testOrigin, w.keys))
	return out.Bytes()
}

// zipFile is a file of a package that is put together by hand.
type zipFile struct {
	name string
	text []byte
	mode func(*zip.FileHeader)
}

func unzip(t testing.TB, pkg []byte) []zipFile {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	fatal(t, err)
	var list []zipFile
	for _, f := range z.File {
		r, err := f.Open()
		fatal(t, err)
		text, err := io.ReadAll(r)
		fatal(t, err)
		list = append(list, zipFile{name: f.Name, text: text})
	}
	return list
}

func rezip(t testing.TB, list []zipFile) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range list {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate}
		h.SetMode(fs.FileMode(mode(f.name)))
		if f.mode != nil {
			f.mode(h)
		}
		fw, err := z.CreateHeader(h)
		fatal(t, err)
		if len(f.text) > 0 {
			_, err = fw.Write(f.text)
		}
		fatal(t, err)
	}
	fatal(t, z.Close())
	return out.Bytes()
}

func (w *world) verify(t testing.TB, pkg []byte, trust string, previous []byte) *Report {
	t.Helper()
	tr, err := ParseTrust([]byte(trust))
	fatal(t, err)
	r, err := Verify(bytes.NewReader(pkg), int64(len(pkg)), Options{Trust: tr, Previous: previous})
	fatal(t, err)
	return r
}

// failed names the aspects that failed.
func failed(r *Report) string {
	seen := map[string]bool{}
	for _, p := range r.Problems {
		seen[string(p.Aspect)] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
}

func codes(r *Report) string {
	seen := map[string]bool{}
	for _, x := range r.Exceptions {
		seen[x.Code] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
}

// said is all that a report says, for a search.
func said(r *Report) string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "[%s] %s: %s\n", p.Aspect, p.Where, p.What)
	}
	for _, x := range r.Exceptions {
		fmt.Fprintf(&b, "(%s) entry %d: %s\n", x.Code, x.Index, x.What)
	}
	return b.String()
}
