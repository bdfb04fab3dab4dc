package evidence

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestPM16MaskMap: a mask map that does not fit the recorded answer fails verification: what it says of cells is counted again.
func TestPM16MaskMap(t *testing.T) {
	t.Parallel()
	answer := slices.Concat(frame('T', "\x00\x02a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		frame('D', "\x00\x02\x00\x00\x00\x03***\x00\x00\x00\x011"), frame('D', "\x00\x02\xff\xff\xff\xff\x00\x00\x00\x012"), frame('D', "\x00\x02\xff\xff\xff\xff\x00\x00\x00\x013"), frame('C', "SELECT 3\x00"))
	cells := strings.Repeat("c", 3*commitmentSize)
	good := Masking{Masked: []MaskedColumn{{At: 0, Mask: "mails", Column: "public.t.a", Seen: 3, Masked: 1, Nulled: 1, Null: 1}}, Bare: []BareCells{{By: "no mask", Columns: 1, Cells: 3}}}
	for name, test := range map[string]struct {
		edit func(m *Masking, o *Outcome)
		says string
	}{
		"":                      {func(*Masking, *Outcome) {}, ""},
		"cut off":               {func(m *Masking, o *Outcome) { o.Status = "unknown"; m.Masked[0].Seen, m.Masked[0].Masked = 99, 97 }, ""},
		"without commitments":   {func(_ *Masking, o *Outcome) { o.Cells = nil }, ""},
		"a cell more":           {func(m *Masking, _ *Outcome) { m.Masked[0].Seen++; m.Masked[0].Masked++ }, "4 cells of a column were seen, and the answer has 3 rows"},
		"a NULL less":           {func(m *Masking, _ *Outcome) { m.Masked[0].Null--; m.Masked[0].Masked++ }, "are NULL, and the answer has 2"},
		"not adding up":         {func(m *Masking, _ *Outcome) { m.Masked[0].Masked-- }, "do not add up"},
		"bare cells hidden":     {func(m *Masking, _ *Outcome) { m.Bare[0].Cells = 1 }, "1 cells were left bare"},
		"a column left out":     {func(m *Masking, _ *Outcome) { m.Bare = nil }, "accounts for 1 columns of an answer that has 2"},
		"another column":        {func(m *Masking, _ *Outcome) { m.Masked[0].At = 1 }, "are NULL, and the answer has 0"},
		"another statement":     {func(m *Masking, _ *Outcome) { m.Masked[0].Statement = 1 }, "and the answer has 0 rows"},
		"a commitment too few":  {func(_ *Masking, o *Outcome) { o.Cells = o.Cells[commitmentSize:] }, "2 commitments to 3 masked cells"},
		"a commitment too many": {func(_ *Masking, o *Outcome) { o.Cells = append(o.Cells, o.Cells...) }, "6 commitments to 3 masked cells"},
	} {
		w := newWorld(t)
		recs := w.story(t)
		var m Masking
		if err := json.Unmarshal(meta(t, &good), &m); err != nil {
			t.Fatal(err)
		}
		o := Outcome{Status: "ok", Tag: "SELECT 3", Rows: 3, Bytes: uint64(len(answer)), SHA256: sum(answer), Cells: []byte(cells)}
		test.edit(&m, &o)
		o.Detail = meta(t, &m)
		recs = slices.Delete(recs, 7, 8) // the answer entry
		recs[7].body = append(append(meta(t, &o), '\n'), answer...)
		r := w.verify(t, w.pack(t, w.data(t, recs, Scope{}, nil, 0)), w.trust, nil)
		if got := said(r); (test.says == "") != (failed(r) == "") || !strings.Contains(got, test.says) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestConfirm: a package says which cell it is, and confirms the value with the cell's own key alone.
func TestConfirm(t *testing.T) {
	t.Parallel()
	row := func(a, b string) []byte {
		return frame('D', "\x00\x02\x00\x00\x00\x03***\x00\x00\x00\x03***") // both are masked
	}
	answer := slices.Concat(row("", ""), row("", ""), frame('C', "SELECT 2\x00"), row("", ""), frame('C', "SELECT 1\x00"))
	key := func(n int) []byte { return slices.Repeat([]byte{byte(n + 1)}, 16) } //nolint:gosec // a few
	values := []string{"a1", "b1", "a2", "b2", "a3", "b3"}
	var cells []byte
	for i, v := range values {
		d := sha256.Sum256(append(append(key(i), 1), v...))
		cells = append(cells, d[:commitmentSize]...)
	}
	column := func(statement, at int, seen uint64) MaskedColumn {
		return MaskedColumn{Statement: statement, At: at, Mask: "m", Column: "public.t.c", Seen: seen, Masked: seen}
	}
	w := newWorld(t)
	recs := w.story(t)
	o := Outcome{
		Status: "ok", Rows: 3, Bytes: uint64(len(answer)), SHA256: sum(answer), Cells: cells[2*commitmentSize:], Chunks: 1,
		Detail: meta(t, &Masking{Masked: []MaskedColumn{column(0, 0, 2), column(0, 1, 2), column(1, 0, 1), column(1, 1, 1)}}),
	}
	recs[7].body = append(append(meta(t, &Chunk{Seq: 1, Cells: cells[:2*commitmentSize]}), '\n'), answer[:20]...)
	recs[8].body = append(append(meta(t, &o), '\n'), answer[20:]...)
	pkg := w.pack(t, w.data(t, recs, Scope{}, nil, 0))
	trust, err := ParseTrust([]byte(w.trust))
	fatal(t, err)
	ask := func(c CellClaim) *CellAnswer {
		t.Helper()
		c.Session, c.Exchange = ana.id.String(), 1
		r, err := Verify(strings.NewReader(string(pkg)), int64(len(pkg)), Options{Trust: trust, Cell: &c})
		fatal(t, err)
		if r.Failed() || r.Cell == nil {
			t.Fatalf("%s", said(r))
		}
		return r.Cell
	}
	for i, v := range values {
		c := CellClaim{Statement: i / 4, Row: uint64(i/2%2 + 1), Column: i % 2}
		if a := ask(c); a.Cell != uint64(i) || !a.Committed || a.Confirmed || a.Problem != "" {
			t.Errorf("cell %d: %+v", i, a)
		}
		for j := range values {
			c.Key, c.Value = key(j), []byte(v)
			if a := ask(c); a.Confirmed != (i == j) {
				t.Errorf("cell %d with the key of cell %d: %+v", i, j, a)
			}
		}
		c.Key, c.Value = key(i), []byte("other")
		if a := ask(c); a.Confirmed {
			t.Errorf("cell %d: another value is confirmed", i)
		}
		c.Value, c.Null = nil, true
		if a := ask(c); a.Confirmed {
			t.Errorf("cell %d: NULL is confirmed", i)
		}
	}
	for _, c := range []CellClaim{{Row: 3, Column: 0}, {Row: 0}, {Row: 1, Column: 2}, {Statement: 2, Row: 1}} {
		if a := ask(c); a.Problem == "" {
			t.Errorf("%+v: %+v", c, a)
		}
	}
}

// TestScan: what is found in answers is listed, by exchange and kind.
func TestScan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pkg := w.pack(t, w.data(t, w.story(t), Scope{}, nil, 0))
	trust, err := ParseTrust([]byte(w.trust))
	fatal(t, err)
	r, err := Verify(strings.NewReader(string(pkg)), int64(len(pkg)), Options{Trust: trust, Scan: func(text []byte) (kinds []string) {
		if string(text) == "42" {
			return []string{"answer"}
		}
		return nil
	}})
	fatal(t, err)
	if r.Failed() || !r.Scanned || len(r.Residual) != 2 || r.Residual[0] != (Residual{8, ana.id.String(), 1, "answer", 1}) || r.Residual[1].Session != bob.id.String() {
		t.Errorf("%+v %s", r.Residual, said(r))
	}
}
