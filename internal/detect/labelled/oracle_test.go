package labelled

import (
	"slices"
	"strings"
	"testing"
)

// Numbers that are printed as examples by those who give them out.
func TestCheckDigitsAgreeWithPublishedExamples(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		ok        func(string) bool
		valid     []string
		alphabet  string // what may stand in place of the character changed
		changedAt int
	}{
		{"Luhn", luhnOK, []string{"4111111111111111", "378282246310005", "5555555555554444", "30569309025904", "6011111111111117"}, digits, 7},
		{"IBAN", ibanOK, []string{"GB82WEST12345698765432", "DE89370400440532013000", "FR1420041010050500013M02606", "NO9386011117947", "MT84MALT011000012345MTLCAST001S"}, digits, 3},
		{"DNI", dniOK, []string{"12345678Z", "X1234567L", "Y1234567X", "Z1234567R"}, digits, 7},
		{"NIR", nirOK, []string{"255081416802538", "269054958815780"}, digits, 9},
		{"codice fiscale", cfOK, []string{"RSSMRA85T10A562S", "MRTMTT25D09F205Z"}, digits, 13},
		{"PESEL", peselOK, []string{"44051401359", "02070803628"}, digits, 9},
		{"CPF", cpfOK, []string{"52998224725", "11144477735"}, digits, 4},
		{"personnummer", func(s string) bool { return personnummerOK(s[:6], s[6:]) }, []string{"8112189876", "6408233234"}, digits, 8},
	} {
		for _, v := range c.valid {
			if !c.ok(v) {
				t.Errorf("%s: %s is refused", c.name, v)
			}
			for _, d := range c.alphabet {
				if wrong := v[:c.changedAt] + string(d) + v[c.changedAt+1:]; wrong != v && c.ok(wrong) {
					t.Errorf("%s: %s passes", c.name, wrong)
				}
			}
		}
	}
}

func TestWhatIsAndWhatIsNoValue(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"pay 4111 1111 1111 1111 now":  "card 4111 1111 1111 1111",
		"x4111111111111111y":           "",
		"1111 1111 1111 1117":          "",
		"SSN: 123456789":               "us-ssn 123456789",
		"no 123456789":                 "",
		"666-12-3456":                  "",
		"cpf=52998224725":              "br-cpf 52998224725",
		"order 52998224725":            "",
		"call (415) 555-0132!":         "phone (415) 555-0132",
		"+46701740605":                 "phone +46701740605",
		"at +48.856614":                "",
		"2001:db8::1 and":              "ip 2001:db8::1",
		"1.2.3.4.5":                    "",
		"a::b":                         "",
		"Anna@Example.com.":            "email Anna@Example.com",
		"icon@2x.png":                  "",
		"ssh://git@host.example.com/x": "",
		"postgres://app:hunter2@db.example.com/x":    "url-password hunter2",
		"postgres://app@db:5432/x":                   "",
		"a " + "AKIA" + strings.Repeat("A", 16):      "aws-key " + "AKIA" + strings.Repeat("A", 16),
		"a " + "AKIA" + strings.Repeat("A", 17):      "",
		part(`{"alg":"HS256"}`) + ".YWFhYQ.YWFhYWFh": "jwt " + part(`{"alg":"HS256"}`) + ".YWFhYQ.YWFhYWFh",
		part(`{"typ":"JWT"}`) + ".YWFhYQ.YWFhYWFh":   "",
	} {
		var found []string
		for _, v := range valuesIn(text) {
			found = append(found, v.Kind+" "+text[v.Start:v.End])
		}
		if want == "" && len(found) > 0 || want != "" && !slices.Contains(found, want) {
			t.Errorf("%q holds %q, want %q", text, found, want)
		}
	}
}
