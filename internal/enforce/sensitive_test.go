package enforce_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/audit"
	"github.com/gatebook/gatebook/internal/detect"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/mask"
	"github.com/gatebook/gatebook/internal/testkit/memrec"
)

// TestInfersNeedsAHold: what uses a masked column whose mask asks a person does not pass by a rule that allows it; only preparing it does.
func TestInfersNeedsAHold(t *testing.T) {
	t.Parallel()
	s := open(t, gate(memrec.New(), nil), "a/1h")
	for op, want := range map[string]access.Code{"query": access.CodeMask, "execute": access.CodeMask, "prepare": ""} {
		x := s.Begin(&access.Action{Op: op, Text: "SELECT 1", Understood: true, Infers: []string{"mails"}})
		if got := x.Denied(); want == "" && got != nil || want != "" && (got == nil || got.Code != want || got.Rule != "mails") {
			t.Errorf("%s: %v", op, got)
		}
		if _, err := x.End(&access.Outcome{Status: access.StatusDenied}, nil); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(nil); err != nil {
		t.Error(err)
	}
}

// named masks one kind for nobody.
type named struct{ set *mask.Set }

func (named) For(*access.Request) *mask.Set { return nil }
func (n named) Named(string) *mask.Set      { return n.set }

// TestSentOn: what detectors find in a request is counted, in its text, in what is bound to it and in what is sent with it in pieces; what
// is masked for anybody is not shown, and the rest is.
func TestSentOn(t *testing.T) {
	t.Parallel()
	find, err := detect.New(detect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &mask.Rule{Name: "found", Kinds: []string{"email"}, Method: mask.Redact, Inference: mask.Refuse}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	rec := memrec.New()
	s := open(t, gate(rec, func(_ *enforce.Target, snap *enforce.Snapshot) {
		snap.Detect, snap.Masks = find, named{mask.NewSet([]*mask.Rule{r}, nil, find)}
	}), "a/1h")
	x := s.Begin(&access.Action{
		Op: "query", Text: "SELECT 'a@b.example', '4111 1111 1111 1111', 'c@d.example'",
		Detail: []byte(`{"params":["x","e@f.example",{"b64":"Z0BoLmV4YW1wbGU="},"\u0069\u0040j.example",null,"4111111111111111"]}`),
	})
	if x.Denied() != nil {
		t.Fatal(x.Denied())
	}
	if err := x.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A value that two chunks share, one that ends with a chunk, and one far behind.
	data := strings.Repeat("row\n", 128<<8-2) + "kk@l.example\n"
	data += strings.Repeat("r", 256<<10-11-len(data)) + " oo@p.examp" + "\n" + strings.Repeat("row\n", 128<<8) + "m@n.example\n"
	if data[256<<10-1] != 'p' {
		t.Fatal(data[256<<10-20 : 256<<10])
	}
	if err := x.Request(t.Context(), []byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := x.RequestDone(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := x.End(&access.Outcome{Status: access.StatusOK}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	var in evidence.Intent
	var o evidence.Outcome
	found := 0
	for _, e := range rec.Entries() {
		switch e.Kind {
		case evidence.KindIntent:
			decode(t, &e.Event, &in)
		case evidence.KindOutcome:
			decode(t, &e.Event, &o)
		case evidence.KindRequest:
			var c evidence.Chunk
			decode(t, &e.Event, &c)
			found += int(c.Found["email"]) //nolint:gosec // a few
		}
	}
	if in.Sensitive == nil || fmt.Sprint(in.Sensitive.Found) != "map[card:2 email:5]" {
		t.Errorf("found in the request: %+v", in.Sensitive)
	}
	if got, want := in.Shown().Text, "SELECT '[email]', '4111 1111 1111 1111', '[email]'"; got != want {
		t.Errorf("shown as %s", got)
	}
	if got := string(in.Shown().Detail); got != `{"params":["x","[email]","[email]","[email]",null,"4111111111111111"]}` {
		t.Errorf("parameters shown as %s", got)
	}
	if found != 3 || fmt.Sprint(o.PersonalData) != "map[card:2 email:8]" {
		t.Errorf("%d in what was sent; in all %v", found, o.PersonalData)
	}
}

func decode(t *testing.T, e *audit.Event, into any) {
	t.Helper()
	if err := json.Unmarshal(e.Meta, into); err != nil {
		t.Fatal(err, string(e.Meta))
	}
}

// TestReceivedSentOn: values that a principal got unmasked are recognised when it sends them on: in a constant, as a parameter, in data; others are not.
func TestReceivedSentOn(t *testing.T) {
	t.Parallel()
	find, err := detect.New(detect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rec := memrec.New()
	g := gate(rec, func(_ *enforce.Target, snap *enforce.Snapshot) { snap.Detect = find })
	a, b := open(t, g, "a/1h"), open(t, g, "b/1h")
	a.Received("names", []byte("Anna O'Neill"))
	a.Received("names", []byte("Bo"))
	found := func(s *enforce.Session, text, detail, data string) string {
		action := &access.Action{Op: "query", Text: text}
		if detail != "" {
			action.Detail = []byte(detail)
		}
		x := s.Begin(action)
		if x.Denied() != nil {
			t.Fatal(x.Denied())
		}
		if err := x.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := x.Request(t.Context(), []byte(data)); err != nil {
			t.Fatal(err)
		}
		if _, err := x.End(&access.Outcome{Status: access.StatusOK}, nil); err != nil {
			t.Fatal(err)
		}
		var o evidence.Outcome
		var in evidence.Intent
		for _, e := range rec.Entries() {
			switch e.Kind {
			case evidence.KindIntent:
				in = evidence.Intent{}
				decode(t, &e.Event, &in)
			case evidence.KindOutcome:
				o = evidence.Outcome{}
				decode(t, &e.Event, &o)
			}
		}
		return fmt.Sprint(o.PersonalData, " ", in.Shown().Text, string(in.Shown().Detail))
	}
	for _, test := range []struct {
		s                        *enforce.Session
		text, detail, data, want string
	}{
		{a, "INSERT INTO t VALUES ('x', 'Anna O''Neill')", "", "", "map[received:names:1] INSERT INTO t VALUES ('x', [names])"},
		{a, "SELECT $1", `{"params":["Anna O'Neill"]}`, "", `map[received:names:1] SELECT $1{"params":["[names]"]}`},
		{a, "COPY t FROM STDIN", "", "1\tAnna O'Neill\n2\tother\n3\t\"Anna O'Neill\"\n", "map[received:names:2] COPY t FROM STDIN"},
		{a, "SELECT 'Bo', 'Anna', 'unended", "", "", "map[] SELECT 'Bo', 'Anna', 'unended"},
		{b, "SELECT 'Anna O''Neill'", "", "", "map[] SELECT 'Anna O''Neill'"},
	} {
		if got := found(test.s, test.text, test.detail, test.data); got != test.want {
			t.Errorf("%s: %s", test.text, got)
		}
	}
	for n := range 1 << 17 { // the oldest are forgotten
		a.Received("names", fmt.Appendf(nil, "value %d", n))
	}
	if got := found(a, "SELECT 'Anna O''Neill', 'value 131071', 'value 1'", "", ""); got != "map[received:names:1] SELECT 'Anna O''Neill', [names], 'value 1'" {
		t.Error(got)
	}
	for _, s := range []*enforce.Session{a, b} {
		if err := s.Close(nil); err != nil {
			t.Error(err)
		}
	}
}
