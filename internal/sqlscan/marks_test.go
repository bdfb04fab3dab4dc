package sqlscan

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPieces(t *testing.T) {
	t.Parallel()
	var marked []string
	for _, p := range Pieces(`DELETE FROM "select" WHERE name = 'x -- y' AND n > $1 -- all <b>`) {
		if p.Class != Other {
			marked = append(marked, string(p.Class)+":"+p.Text)
		}
	}
	want := `keyword:DELETE keyword:FROM keyword:WHERE constant:'x -- y' keyword:AND constant:$1 comment:-- all <b>`
	if got := strings.Join(marked, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// Together the pieces are the text, whatever it is.
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"SELECT 'open", "/* open", "\x00", "SELECT 'é' ü 世", "$$ x", `U&"d\0061t"`})).Draw(t, "text")
		var all strings.Builder
		for _, p := range Pieces(text) {
			all.WriteString(p.Text)
		}
		if all.String() != text {
			t.Fatalf("%q became %q", text, all.String())
		}
	})
}
