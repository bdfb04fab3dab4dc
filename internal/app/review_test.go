package app

import (
	"errors"
	"io"
	"testing"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
)

// TestReviewerJudgesAsTheDoor takes the configuration that a start recorded, and asks who is admitted.
func TestReviewerJudgesAsTheDoor(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	var recorded *evidence.Config
	sc := g.book.Ledger.Scan(0)
	defer func() { _ = sc.Close() }()
	for {
		e, err := sc.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Header.Kind != evidence.KindConfig {
			continue
		}
		_, body, err := sc.Body(&e)
		if err != nil {
			t.Fatal(err)
		}
		recorded = &evidence.Config{}
		if err := evidence.DecodeBody(body, recorded); err != nil {
			t.Fatal(err)
		}
	}
	if recorded == nil || recorded.Main != "gatebook.yaml" {
		t.Fatalf("recorded: %+v", recorded)
	}
	r, err := newReviewer(recorded)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		who   access.Principal
		admit bool
	}{
		{"in the group", access.Principal{Issuer: "ci", Name: "a", Groups: []string{"agents"}}, true},
		{"in another group", access.Principal{Issuer: "ci", Name: "a", Groups: []string{"others"}}, false},
		{"of an issuer that is not configured", access.Principal{Issuer: "gone", Name: "a", Groups: []string{"agents"}}, false},
	} {
		list := r.Review(&tt.who)
		if len(list) != 1 || list[0].Admitted != tt.admit || (len(list[0].Effects) > 0) != tt.admit {
			t.Errorf("%s: %+v", tt.name, list)
		}
	}
	if _, err := newReviewer(&evidence.Config{Files: map[string]string{"gatebook.yaml": "version: ["}}); err == nil {
		t.Error("a configuration that cannot be read is judged")
	}
}
