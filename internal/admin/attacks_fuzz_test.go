package admin

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzDecode: a request's body is one JSON value of known fields, or refused.
func FuzzDecode(f *testing.F) {
	f.Add(`{"SQL":"SELECT 1"}`)
	f.Add(`{"SQL":"a"}{"SQL":"b"}`)
	f.Add(`{"Principal":"ci|ana","From":"2026-03-01T08:00:00Z","Previous":"eA=="}`)
	f.Add(`[[[[`)
	f.Fuzz(func(t *testing.T, body string) {
		var query struct{ SQL string }
		if decode(httptest.NewRequest("POST", "/", strings.NewReader(body)), &query) == nil && !strings.HasPrefix(strings.TrimLeft(body, " \t\r\n"), "{") &&
			strings.TrimSpace(body) != "null" {
			t.Errorf("%q was taken", body)
		}
		var export ExportRequest
		_ = decode(httptest.NewRequest("POST", "/", strings.NewReader(body)), &export)
	})
}
