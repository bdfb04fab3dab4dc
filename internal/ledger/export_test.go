package ledger

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatebook/gatebook/evidence"
)

func packKeys(t *testing.T) (evidence.Signer, string) {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return evidence.Signer{ECDSA: ec, SSH: priv},
		"package " + base64.StdEncoding.EncodeToString(der) + "\nssh " + evidence.SSHAuthorizedKey(pub) + "\n"
}

func pack(t *testing.T, l *Ledger, q Query, keys evidence.Signer) []byte {
	t.Helper()
	pkg, err := tryPack(t, l, q, keys)
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

// tryPack is pack for books whose export may fail.
func tryPack(t *testing.T, l *Ledger, q Query, keys evidence.Signer) ([]byte, error) {
	t.Helper()
	scope, closing, err := l.Plan(q)
	if err != nil {
		return nil, err
	}
	spool, err := NewSpool(filepath.Join(t.TempDir(), "x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := spool.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := l.Export(t.Context(), scope, closing, q, spool); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = evidence.Pack(&out, spool, evidence.Custody{Exported: time.Now(), Who: "test"}, origin, keys)
	return out.Bytes(), err
}

func verify(t *testing.T, pkg []byte, trust string, previous []byte) *evidence.Report {
	t.Helper()
	tr, err := evidence.ParseTrust([]byte(trust))
	if err != nil {
		t.Fatal(err)
	}
	r, err := evidence.Verify(bytes.NewReader(pkg), int64(len(pkg)), evidence.Options{Trust: tr, Previous: previous})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestExportVerifies(t *testing.T) {
	f := newFixture(t)
	keys, trust := packKeys(t)
	trust += "log " + f.opts.PublicKeys.Log + "\n"
	l := f.open(t)
	var marks []Stored
	for range 3 {
		exchange(t, l, 4)
		cp, err := l.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		marks = append(marks, cp)
	}
	for _, q := range []Query{
		{}, {From: marks[0].Time.Add(time.Millisecond)}, {Principal: "ci|ana"}, {Principal: "ci|bob"}, {Target: "orders"},
		{Previous: []byte(marks[0].Note)},
	} {
		r := verify(t, pack(t, l, q, keys), trust, nil)
		for _, p := range r.Problems {
			t.Errorf("principal %q, target %q: %s: %s: %s", q.Principal, q.Target, p.Aspect, p.Where, p.What)
		}
	}
	r := verify(t, pack(t, l, Query{}, keys), trust, []byte(marks[1].Note))
	if r.Anchoring == "failed" || r.Anchoring[:2] != "L1" {
		t.Errorf("anchoring %q with a bookmark in the range", r.Anchoring)
	}
	if err := l.Close(context.Background(), "test"); err != nil {
		t.Fatal(err)
	}
}

// TestSpoolLeavesRoom: an export stops before it takes the room that the book needs.
func TestSpoolLeavesRoom(t *testing.T) {
	t.Parallel()
	s, err := NewSpool(filepath.Join(t.TempDir(), "x"), 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, spoolAhead/2)
	for i := range 3 {
		if err := s.Append("data/x", piece); (err != nil) != (i == 2) || err != nil && !errors.Is(err, ErrSpool) {
			t.Errorf("piece %d: %v", i, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
