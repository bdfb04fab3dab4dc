package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDocument: the document in docs is what the routes say of themselves, and stands on its own.
func TestDocument(t *testing.T) {
	t.Parallel()
	want, err := document()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/openapi.json is another one: make gen")
	}
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]struct{ Summary, OperationID string }
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(want, &doc); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if op.Summary == "" || op.OperationID == "" || seen[op.OperationID] {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			seen[op.OperationID] = true
		}
	}
	if len(seen) < 15 || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("%d operations of version %s", len(seen), doc.OpenAPI)
	}
	// Every reference leads somewhere.
	const head = `"$ref": "#/components/schemas/`
	for rest := string(want); ; {
		_, after, ok := strings.Cut(rest, head)
		if !ok {
			break
		}
		name, tail, _ := strings.Cut(after, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("nothing is called %s", name)
		}
		rest = tail
	}
}
