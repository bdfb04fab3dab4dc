package mask

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

// TestCells: a commitment is one to the value with the cell's key, and to nothing else; keys of cells, exchanges and sessions differ, and all
// hang on the master key.
func TestCells(t *testing.T) {
	t.Parallel()
	master := bytes.Repeat([]byte("m"), 32)
	c := NewCells(master, "session", 3)
	first := c.Append(nil, []byte("anna"), false)
	second := c.Append(nil, []byte("anna"), false)
	null := c.Append(nil, nil, true)
	empty := NewCells(master, "session", 3)
	if none := empty.Append(nil, []byte{}, false); bytes.Equal(none, null) || len(first) != CommitmentSize {
		t.Error("an empty value is NULL")
	}
	if bytes.Equal(first, second) {
		t.Error("equal values show")
	}
	key := NewCells(master, "session", 3).Key(0)
	sum := sha256.Sum256(append(append(key[:], 1), "anna"...))
	if !bytes.Equal(sum[:CommitmentSize], first) {
		t.Error("the commitment is not as documented")
	}
	seen := map[[CellKeySize]byte]string{}
	for _, s := range []string{"session", "other"} {
		for x := range uint64(3) {
			for n := range uint64(100) {
				k := NewCells(master, s, x).Key(n)
				name := fmt.Sprint(s, x, n)
				if have, ok := seen[k]; ok {
					t.Fatalf("%s and %s have the same key", have, name)
				}
				seen[k] = name
			}
		}
	}
	if other := NewCells(bytes.Repeat([]byte("n"), 32), "session", 3).Key(0); other == key {
		t.Error("the key does not hang on the master key")
	}
	if NewCells([]byte("short"), "session", 3) != nil {
		t.Error("a short master key is taken")
	}
}

// TestPM19WhatShows: neither the length nor the order of values shows in what stands in their place, but for what a method keeps; NULL is NULL.
func TestPM19WhatShows(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte("k"), 32)
	for _, r := range []*Rule{
		{Name: "a", Columns: []string{"a.b.c"}, Method: Redact, Inference: Refuse}, {Name: "a", Columns: []string{"a.b.c"}, Method: Partial, KeepDomain: true, Inference: Refuse},
		{Name: "a", Columns: []string{"a.b.c"}, Method: Hash, Key: key, Inference: Refuse}, {Name: "a", Columns: []string{"a.b.c"}, Method: Tokenize, Key: key, Inference: Refuse},
	} {
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		lengths := map[int]bool{}
		up, down := 0, 0
		last := ""
		for n := range 200 {
			v, null := r.Apply([]byte(fmt.Sprintf("%03d", n)+strings.Repeat("x", n)+"@example.test"), typeText, false, true)
			if null {
				t.Fatalf("%s: NULL for a text", r.Method)
			}
			lengths[len(v)] = true
			if string(v) > last {
				up++
			} else if string(v) < last {
				down++
			}
			last = string(v)
		}
		if len(lengths) != 1 || up > 140 || down > 140 {
			t.Errorf("%s: lengths %v, %d times up, %d times down", r.Method, lengths, up, down)
		}
	}
}
