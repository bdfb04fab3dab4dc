package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/testkit/idp"
)

// TestAnswersAreAsDocumented: what a running gateway answers is what docs/openapi.json says of it, for every operation that can be asked for here.
func TestAnswersAreAsDocumented(t *testing.T) {
	d := newDesk(t, "")
	ticket, done := d.hold(d.agent, 1)
	covers, err := ticket.Covers()
	d.must(err)
	client := &http.Client{Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) { //nolint:noctx,staticcheck // a Unix socket, at once
		return net.Dial("unix", filepath.Join(d.place.dir, "data", socketName)) //nolint:noctx // as above
	}}}
	fresh := d.place.issuer.Sign(t, idp.With(d.place.issuer.Agent("worker", "agents"), idp.Claims{"exp": time.Now().Add(time.Hour).Unix()}), nil)
	bodies := map[string]string{
		"POST /v1/query": `{"sql":"SELECT principal, target FROM sessions"}`, "POST /v1/access": `{}`, "POST /v1/check": `{}`, "POST /v1/checkpoint": `{}`, "POST /v1/reload": `{}`, "POST /v1/index/rebuild": `{}`,
		"POST /v1/principals/suspend": `{"principal":"ci|nobody","reason":"to see what is answered"}`, "POST /v1/principals/resume": `{"principal":"ci|nobody"}`,
		"POST /v1/sessions/{id}/renew": `{"token":` + quoted(fresh) + `}`, "POST /v1/sessions/{id}/end": `{"reason":"enough"}`,
		"POST /v1/sessions/{id}/cell-key": `{"exchange":1,"cell":0,"reason":"to see what is answered"}`, // refused: there is no mask_key
		"POST /v1/tickets/{id}/rule":      `{"statement":"x","signature":"y"}`,                          // refused: its failure is documented too
	}
	asked := 0
	routes := d.book.Admin.Routes()
	// The session ends last.
	for _, last := range []bool{false, true} {
		for _, r := range routes {
			name := r.Method + " " + r.Path
			if (name == "POST /v1/sessions/{id}/end") != last || name == "GET /v1/watch/tickets" || name == "POST /v1/export" {
				continue
			}
			body, known := bodies[name]
			if r.In != nil && !known {
				t.Errorf("%s is not asked for here", name)
				continue
			}
			id := covers.Session
			if strings.Contains(r.Path, "tickets") {
				id = ticket.ID
			}
			req, err := http.NewRequestWithContext(t.Context(), r.Method, "http://gatebook"+strings.Replace(r.Path, "{id}", id, 1), strings.NewReader(body))
			d.must(err)
			resp, err := client.Do(req)
			d.must(err)
			text, err := io.ReadAll(resp.Body)
			d.must(errors.Join(err, resp.Body.Close()))
			asked++
			checkAnswer(t, name, &r, resp.StatusCode, text)
		}
	}
	if asked < 12 {
		t.Errorf("only %d operations were asked for", asked)
	}
	<-done
}

func checkAnswer(t *testing.T, name string, r *admin.Route, status int, text []byte) {
	t.Helper()
	if status != http.StatusOK {
		var failure map[string]string
		if name != "POST /v1/tickets/{id}/rule" && name != "POST /v1/sessions/{id}/cell-key" || json.Unmarshal(text, &failure) != nil || len(failure) != 1 || failure["error"] == "" {
			t.Errorf("%s: %d %s", name, status, text)
		}
		return
	}
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schema := registry.Schema(r.Out, true, "answer")
	dec := json.NewDecoder(bytes.NewReader(text))
	n := 0
	for ; ; n++ {
		var v any
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Errorf("%s: %v: %s", name, err, text)
			return
		}
		var res huma.ValidateResult
		huma.Validate(registry, schema, huma.NewPathBuffer([]byte{}, 0), huma.ModeReadFromServer, v, &res)
		for _, err := range res.Errors {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !r.Lines && n != 1 || n == 0 && name != "POST /v1/index/rebuild" {
		t.Errorf("%s: %d values: %s", name, n, text)
	}
}
