package evidence

import (
	"strings"
	"testing"
)

// TestEV01BodiesOfAnotherStory: the honest headers and checkpoints, with bodies
// of the same lengths and tables that fit them.
func TestEV01BodiesOfAnotherStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	recs, other := w.story(t), w.story(t)
	other[6].body = replace("SELECT n FROM t", "SELECT m FROM t")(other[6].body)
	honest, m := w.data(t, recs, Scope{}, nil, 0), w.data(t, other, Scope{}, nil, 0)
	for _, name := range []string{fileHeaders, fileCheckpoint, fileCheckpoints, fileProofs} {
		m[name] = honest[name]
	}
	r := w.verify(t, w.pack(t, m), w.trust, nil)
	if !strings.Contains(said(r), "entry 6: the body of this intent entry is not the one that its header commits to") {
		t.Errorf("failed %q:\n%s", failed(r), said(r))
	}
}
