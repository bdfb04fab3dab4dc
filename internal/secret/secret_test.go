package secret

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

const canary = "canary-4b1d-open-sesame"

type holder struct {
	Public  String
	private String
	Ptr     *String
	ptr     *String
	Any     any
	list    []String
	byName  map[string]String
}

func newHolder() holder {
	s := New(canary)
	return holder{s, s, &s, &s, s, []String{s}, map[string]String{"k": s}}
}

// verbs are all that package fmt knows, and one that it does not.
const verbs = "vsqxXdobceEfFgGtTpUOz"

func TestFormatNeverShowsTheValue(t *testing.T) {
	t.Parallel()
	s := New(canary)
	h := newHolder()
	for _, flag := range []string{"", "+", "#", " ", "-40", "0"} {
		for _, verb := range verbs {
			format := "%" + flag + string(verb)
			for _, v := range []any{s, &s, h, &h, []String{s}, struct{ s any }{s}, error(wrapped{s})} {
				if got := fmt.Sprintf(format, v); leaks(got) {
					t.Errorf("%s of %T: %q", format, v, got)
				}
			}
		}
	}
}

type wrapped struct{ s String }

func (w wrapped) Error() string {
	return fmt.Sprintf("dial with %v and %+v", w.s, struct{ s String }{w.s})
}

// leaks also looks for the hexadecimal forms that %x and %d give.
func leaks(s string) bool {
	low := strings.ToLower(s)
	return strings.Contains(s, canary) || strings.Contains(low, fmt.Sprintf("%x", canary)) ||
		strings.Contains(s, strings.Trim(fmt.Sprint([]byte(canary)), "[]"))
}

func TestMarshalNeverShowsTheValue(t *testing.T) {
	t.Parallel()
	type doc struct {
		Password String `json:"password" yaml:"password" xml:"password"`
		Attr     String `json:"attr" yaml:"attr" xml:"attr,attr"`
		hidden   String
	}
	d := doc{New(canary), New(canary), New(canary)}
	_ = d.hidden
	tests := []struct {
		name    string
		marshal func(any) ([]byte, error)
		want    string
	}{
		{"json", json.Marshal, `{"password":"[secret]","attr":"[secret]"}`},
		{"xml", xml.Marshal, `<doc attr="[secret]"><password>[secret]</password></doc>`},
		{"yaml", yaml.Marshal, "password: \"[secret]\"\nattr: \"[secret]\"\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if leaks(string(got)) {
				t.Errorf("got %s", got)
			}
			if !strings.Contains(string(got), redacted) {
				t.Errorf("got %q, want it to say %q", got, redacted)
			}
			if tt.name != "yaml" && string(got) != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if got, _ := tt.marshal(New(canary)); leaks(string(got)) {
				t.Errorf("bare: got %s", got)
			}
			if tt.name == "xml" {
				return // no maps in XML
			}
			if got, _ := tt.marshal(map[string]any{"k": New(canary), "l": []any{&d}}); leaks(string(got)) {
				t.Errorf("in a map: got %s", got)
			}
		})
	}
}

func TestGobRefusesOrHides(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	err := gob.NewEncoder(&buf).Encode(struct {
		Name string
		S    String
	}{"x", New(canary)})
	if err == nil && leaks(buf.String()) {
		t.Errorf("gob shows the value: %q", buf.String())
	}
}

func TestLogNeverShowsTheValue(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&buf, nil), slog.NewJSONHandler(&buf, nil)} {
		l := slog.New(h)
		s := New(canary)
		l.Info("m", "s", s, "p", &s, "h", newHolder(), "g", slog.GroupValue(slog.Any("s", s)), "list", []String{s})
		l.With("s", s).Error("m", "err", fmt.Errorf("x: %w", wrapped{s}))
	}
	if leaks(buf.String()) {
		t.Errorf("log: %s", buf.String())
	}
	if n := strings.Count(buf.String(), redacted); n < 8 {
		t.Errorf("log says %q %d times, want at least 8:\n%s", redacted, n, buf.String())
	}
}

func TestCompareAndDiffNeverShowTheValue(t *testing.T) {
	t.Parallel()
	type box struct{ S String }
	a, b := box{New(canary)}, box{New(canary + "2")}
	if d := cmp.Diff(a, b); d == "" || leaks(d) {
		t.Errorf("diff: %q", d)
	}
	if cmp.Diff(a, box{New(canary)}) != "" {
		t.Error("equal secrets differ")
	}
}

func TestValue(t *testing.T) {
	t.Parallel()
	s := New(canary)
	if s.Reveal() != canary || s.IsZero() {
		t.Error("value lost")
	}
	if !(String{}).IsZero() || !New("").IsZero() || (String{}).Reveal() != "" {
		t.Error("zero value is not empty")
	}
	if !s.Equal(New(canary)) || s.Equal(New("x")) || s.Equal(String{}) || !(String{}).Equal(New("")) {
		t.Error("Equal is wrong")
	}
	if got := errors.Join(fmt.Errorf("%v", s)).Error(); got != redacted {
		t.Errorf("error text %q", got)
	}
}
