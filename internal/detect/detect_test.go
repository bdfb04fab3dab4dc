package detect

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func all(t testing.TB) *Set {
	t.Helper()
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// found returns the hits of a text as "kind=value".
func found(s *Set, text string) (list []string) {
	for _, h := range s.Scan(nil, []byte(text)) {
		list = append(list, h.Kind+"="+text[h.Start:h.End])
	}
	return list
}

func TestFound(t *testing.T) {
	s := all(t)
	b64 := func(n int) string { return strings.Repeat("aB3dE6gH9j", n/10+1)[:n] }
	pem := "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEpAIBAAKCAQEA0Z3\nVS5JJcds3xfn/ygWyF\n-----END RSA PRIVATE KEY-----"
	token := "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
	for text, want := range map[string][]string{
		"write to jane.doe+x@mail.example.com, please": {"email=jane.doe+x@mail.example.com"},
		`{"mail":"o'brien@example.co.uk"}`:             {"email=o'brien@example.co.uk"},
		`INSERT INTO t VALUES ('jane@example.com')`:    {"email=jane@example.com"},
		`"a\njane@example.com\tb"`:                     {"email=jane@example.com"},
		"jörg@müller.example":                          {"email=jörg@müller.example"},
		"联系jane@example.com。":                          {"email=jane@example.com"},
		"Mail me at jane@example.com.":                 {"email=jane@example.com"},
		"a@b":                                          nil, "@Override": nil, "icon@2x.png": nil,
		"lodash@4.17.21":                              nil,
		"git@github.com:org/repo.git":                 nil,
		"card 4111 1111 1111 1111 12/27":              {"card=4111 1111 1111 1111"},
		"4111-1111-1111-1111;378282246310005":         {"card=4111-1111-1111-1111", "card=378282246310005"},
		"3782 822463 10005":                           {"card=3782 822463 10005"},
		"1,4111111111111111,2":                        {"card=4111111111111111"},
		"4111111111111112":                            nil,
		"x4111111111111111":                           nil,
		"4111111111111111.00":                         nil,
		"IBAN DE89 3704 0044 0532 0130 00.":           {"iban=DE89 3704 0044 0532 0130 00"},
		"GB82WEST12345698765432":                      {"iban=GB82WEST12345698765432"},
		"DE89370400440532013001":                      nil,
		"ssn 078-05-1120":                             {"us-ssn=078-05-1120"},
		"25 078 05 1120 26 2275":                      nil,
		"SSN: 078051120":                              {"us-ssn=078051120"},
		"666-05-1120 000-12-3456 900-12-3456":         nil,
		"078051120":                                   nil,
		"call +49 30 901820 now":                      {"phone=+49 30 901820"},
		"+1 (415) 555-0132":                           {"phone=+1 (415) 555-0132"},
		"(415) 555-0132 or 415-555-0133":              {"phone=(415) 555-0132", "phone=415-555-0133"},
		"+442079460958":                               {"phone=+442079460958"},
		"+33 1 23 45 67 89, 2024-01-01":               {"phone=+33 1 23 45 67 89"},
		"+14155550132 2024":                           {"phone=+14155550132"},
		"ext. +12":                                    nil,
		"from 192.168.0.17:5432 to 10.0.0.1/8":        {"ip=192.168.0.17", "ip=10.0.0.1"},
		"1.2.3.4.5 256.1.1.1 v1.2.3.4":                nil,
		"::1 fe80::1ff:fe23:4567:890a":                {"ip=::1", "ip=fe80::1ff:fe23:4567:890a"},
		"2001:db8:0:0:0:0:2:1 ::ffff:192.0.2.1":       {"ip=2001:db8:0:0:0:0:2:1", "ip=::ffff:192.0.2.1"},
		"a::b std::string 12:34:56 00:1a:2b:3c:4d:5e": nil,
		"x::int4, '1'::text, date '2024-01-01'::date": nil,
		"DNI 12345678Z, NIE X1234567L":                {"es-dni=12345678Z", "es-dni=X1234567L"},
		"12345678-Z 12.345.678-Z":                     {"es-dni=12345678-Z", "es-dni=12.345.678-Z"},
		"12345678A":                                   nil,
		"NIR 255081416802538":                         {"fr-nir=255081416802538"},
		"2 55 08 14 168 025 38":                       {"fr-nir=2 55 08 14 168 025 38"},
		"RSSMRA85T10A562S":                            {"it-cf=RSSMRA85T10A562S"},
		"RSSMRA85T10A562T":                            nil,
		"44051401359":                                 {"pl-pesel=44051401359"},
		"44051401358":                                 nil,
		"529.982.247-25":                              {"br-cpf=529.982.247-25"},
		"CPF 52998224725":                             {"br-cpf=52998224725"},
		"52998224725":                                 nil,
		"811218-9876 19811218-9876":                   {"se-pin=811218-9876", "se-pin=19811218-9876"},
		"811218-9877":                                 nil,
		"AKIAIOSFODNN7EXAMPLE":                        {"aws-key=AKIAIOSFODNN7EXAMPLE"},
		"AKIAIOSFO":                                   nil,
		"ghp_" + b64(36):                              {"github-token=ghp_" + b64(36)},
		"ghp_" + b64(10):                              nil,
		"glpat-" + b64(20) + ".":                      {"gitlab-token=glpat-" + b64(20)},
		"xoxb-123456789012-123456789012-" + b64(24):   {"slack-token=xoxb-123456789012-123456789012-" + b64(24)},
		"sk_live_" + b64(24):                          {"stripe-key=sk_live_" + b64(24)},
		"key=AIza" + b64(35):                          {"google-key=AIza" + b64(35)},
		"sk-" + b64(48) + " sk-proj-" + b64(60):       {"openai-key=sk-" + b64(48), "openai-key=sk-proj-" + b64(60)},
		"npm_" + b64(36):                              {"npm-token=npm_" + b64(36)},
		"pypi-AgEIcHlwaS5vcmc" + b64(100):             {"pypi-token=pypi-AgEIcHlwaS5vcmc" + b64(100)},
		"a " + pem + " b":                             {"private-key=" + pem},
		"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----": nil,
		"bearer " + token:                        {"jwt=" + token},
		"aaa.bbb.ccc":                            nil,
		"postgres://app:s3cr@t@db.example.com/x": {"url-password=s3cr@t"},
		"https://user@host.example.com/":         nil,
		"https://example.com:8080/x/a-b":         nil,
		"postgres://app:${PASSWORD}@db/x":        nil,
		"550e8400-e29b-41d4-a716-446655440000":   nil,
		"":                                       nil,
	} {
		if got := found(s, text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestKindsChosen(t *testing.T) {
	s, err := New(Options{Kinds: []string{"email"}, Custom: []Custom{{Name: "order", Pattern: `order (\d{16})`, Validator: "luhn", Confidence: 0.5}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := found(s, "4111111111111111 a@b.example order 4111111111111111 order 4111111111111112"), []string{"email=a@b.example", "order=4111111111111111"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := s.Names(), []string{"email", "order"}; !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
	for name, o := range map[string]Options{
		"unknown": {Kinds: []string{"emial"}}, "empty": {Custom: []Custom{{Name: "x", Pattern: "a*"}}}, "bad": {Custom: []Custom{{Name: "x", Pattern: "("}}},
		"taken": {Custom: []Custom{{Name: "email", Pattern: "a"}}}, "validator": {Custom: []Custom{{Name: "x", Pattern: "a", Validator: "sum"}}},
		"long": {Custom: []Custom{{Name: "x", Pattern: strings.Repeat("a", maxPattern+1)}}}, "twice": {Custom: []Custom{{Name: "x", Pattern: "a"}, {Name: "x", Pattern: "b"}}},
		"confidence": {Custom: []Custom{{Name: "x", Pattern: "a", Confidence: 2}}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestKindsAreNamed(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if k.Name == "" || k.What == "" || k.Method == "" || k.Confidence <= 0 || k.Confidence > 1 || seen[k.Name] {
			t.Errorf("%+v", k)
		}
		seen[k.Name] = true
	}
}

// clean are texts without hits.
func clean() map[string][]byte {
	return map[string][]byte{
		"prose": bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog; nobody knows why, and it was never asked. "), 800),
		"log":   bytes.Repeat([]byte("2024-05-17T12:34:56.789Z INFO worker[4711]: job 8812731 done in 153 ms (queue=default, tries=1)\n"), 700),
		"csv":   bytes.Repeat([]byte("10482,Smith,Anna,Berlin,1838281.22,2024-05-17,active,7\n"), 1200),
		"json":  bytes.Repeat([]byte(`{"id":8812731,"name":"Anna","tags":["a","b"],"price":12.50,"ok":true,"at":"2024-05-17T12:34:56Z"},`), 700),
	}
}

func TestCleanTextsAllocateNothing(t *testing.T) {
	s := all(t)
	for name, text := range clean() {
		if hits := s.Scan(nil, text); len(hits) > 0 {
			t.Errorf("%s: %v", name, hits[0])
		}
		if n := testing.AllocsPerRun(10, func() { s.Scan(nil, text) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestLinear: 16 times the text takes no more than 16 times as long, with much room.
func TestLinear(t *testing.T) {
	s := all(t)
	for _, unit := range []string{
		"a", "1", "@", ".", "a@", "a.a@", "a@a.", "1.", "1-", "1 ", "+1", "+", "(", "(415) ", ":", "::", "a:", "1:", "://", "x://a:", "x://a:b@", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----",
		"-----BEGIN PRIVATE KEY-----\nabcd", "-", "eyJ", "eyJ.", "eyJa-", "eyJhbGciOiJIUzI1NiJ9.", "AKIA", "ghp_", "sk-", "sk-proj-", "xoxb-", "xoxb-1-", "pypi-", "DE89 ", "DE89", "4111 ", "4111-", "\\n", "\\u0041", "é", "aé", "DE", "x1", "{", "ssn 07",
		"4111111111111111 ", "jane@example.com ", "fe80::1 ", "1 84 12 ",
	} {
		took := func(size int) time.Duration {
			text := bytes.Repeat([]byte(unit), size/len(unit))
			best := time.Hour
			var hits []Hit
			for range 3 {
				began := time.Now()
				hits = s.Scan(hits[:0], text)
				best = min(best, time.Since(began))
			}
			return best
		}
		if small, large := took(64<<10), took(1<<20); large > 16*8*max(small, 50*time.Microsecond) {
			t.Errorf("%q: %v for 64 KiB, %v for 1 MiB", unit, small, large)
		}
	}
}

func FuzzScan(f *testing.F) {
	s := all(f)
	for _, text := range []string{"jane@example.com +49 30 901820 4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00\\n1.2.3.4 ::1", "x://a:b@c -----BEGIN PRIVATE KEY-----\nabcdefghijklmnopqrstuvwxyz", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "\\u@a.bc \\n@a.bc"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		end := 0
		for _, h := range s.Scan(nil, text) {
			if h.Start < end || h.End <= h.Start || h.End > len(text) {
				t.Fatalf("%+v in %q, after %d", h, text, end)
			}
			end = h.End
			alone := append(append([]byte(" "), text[h.Start:h.End]...), ' ')
			again := s.Scan(nil, alone)
			switch h.Kind {
			case "us-ssn", "br-cpf", "url-password": // by what stands around them
			default:
				if len(again) == 0 {
					t.Fatalf("%+v of %q is not found alone", h, text)
				}
			}
		}
		if !bytes.Equal(before, text) {
			t.Fatal("the text was changed")
		}
	})
}

func BenchmarkScan(b *testing.B) {
	s := all(b)
	for name, text := range clean() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if hits := s.Scan(nil, text); len(hits) > 0 {
					b.Fatal(hits)
				}
			}
		})
	}
}

func ExampleSet_Scan() {
	s, err := New(Options{Kinds: []string{"email", "card"}})
	if err != nil {
		panic(err)
	}
	text := "jane@example.com pays with 4111 1111 1111 1111"
	for _, h := range s.Scan(nil, []byte(text)) {
		fmt.Println(h.Kind, text[h.Start:h.End])
	}
	// Output:
	// email jane@example.com
	// card 4111 1111 1111 1111
}
