// Command openapi prints the OpenAPI document of the admin interface: what the routes themselves say of it.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gatebook/gatebook/internal/admin"
)

func main() {
	text, err := document()
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var parameter = regexp.MustCompile(`\{([a-z]+)\}`)

const about = `The interface of a gateway's administration. Over the owner-only Unix socket in the data directory, operators reach all of it; the kernel says who calls.
At the console's address, people reach the operations marked with the security scheme "person", with an ID token of an issuer for people as bearer, and see what concerns them.
A ruling carries its own proof, whoever hands it in.`

// document returns the document as indented JSON.
func document() ([]byte, error) {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: "Gatebook admin interface", Version: "1", Description: about},
		Components: &huma.Components{
			Schemas: registry,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"person": {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "An ID token of an issuer for people"},
			},
		},
	}
	failure := &huma.Response{
		Description: "It did not work; the member error says why.",
		Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{
			Type: huma.TypeObject, Properties: map[string]*huma.Schema{"error": {Type: huma.TypeString}}, Required: []string{"error"},
		}}},
	}
	for _, r := range (&admin.Service{}).Routes() {
		op := &huma.Operation{
			Method: r.Method, Path: r.Path, Summary: r.Summary, OperationID: operation(&r),
			Responses: map[string]*huma.Response{"200": answer(registry, &r), "default": failure},
		}
		for _, m := range parameter.FindAllStringSubmatch(r.Path, -1) {
			op.Parameters = append(op.Parameters, &huma.Param{Name: m[1], In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
		}
		for _, name := range r.Query {
			op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "query", Schema: &huma.Schema{Type: huma.TypeString}})
		}
		if r.In != nil {
			op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
				"application/json": {Schema: registry.Schema(r.In, true, op.OperationID+"-request")},
			}}
		}
		if r.People {
			op.Security = []map[string][]string{{"person": {}}}
		}
		doc.AddOperation(op)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

var words = regexp.MustCompile(`[^a-z]+`)

func operation(r *admin.Route) string {
	return words.ReplaceAllString(map[string]string{"GET": "get", "POST": "post"}[r.Method]+r.Path[len("/v1"):], "-")
}

func answer(registry huma.Registry, r *admin.Route) *huma.Response {
	switch {
	case r.Out == nil:
		return &huma.Response{Description: "The stream that the summary describes", Content: map[string]*huma.MediaType{"application/octet-stream": {}}}
	case r.Lines:
		return &huma.Response{
			Description: `One JSON object a line; complete if the trailer Gatebook-Complete is "yes". A last line with the member error says what went wrong.`,
			Content:     map[string]*huma.MediaType{"application/jsonl": {Schema: registry.Schema(r.Out, true, operation(r)+"-line")}},
		}
	}
	return &huma.Response{Description: "It worked", Content: map[string]*huma.MediaType{"application/json": {Schema: registry.Schema(r.Out, true, operation(r)+"-answer")}}}
}
