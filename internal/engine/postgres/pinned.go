package postgres

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

// pinned are the settings that decide how gateway and target read the same
// bytes, with the value the target reports. They cannot be changed.
var pinned = map[string]string{
	"client_encoding":             "UTF8",
	"standard_conforming_strings": "on",
}

// checkPinned refuses another value of a pinned setting, by name.
func checkPinned(name, value string) *access.DenyError {
	want, ok := pinned[name]
	if !ok {
		return nil
	}
	v := strings.ToLower(strings.TrimSpace(value))
	switch name {
	case "client_encoding":
		v = plainName(v) // the server ignores case and punctuation in encoding names
		if v == "utf8" || v == "unicode" {
			return nil
		}
	case "standard_conforming_strings":
		if v == "on" || v == "true" || v == "yes" || v == "1" {
			return nil
		}
	}
	return &access.DenyError{
		Code: access.CodeUnsupported, Rule: "pinned." + name,
		Reason: name + " is pinned to " + want,
		Hint:   "Leave the setting alone; data arrives as " + want + ".",
	}
}

// refuseText returns why a statement's text is refused before anything else
// looks at it, or nil.
func refuseText(text string) *access.DenyError {
	for _, s := range sqlscan.Settings(text, pinnedNames) {
		if s.Reset {
			continue // back to the start-up packet's value, which is the pinned one
		}
		if s.DynamicName && !s.DynamicValue && harmless(s.Value) {
			continue // pg_dump sets what may not exist by selecting its name
		}
		if s.DynamicName || s.DynamicValue {
			return &access.DenyError{
				Code: access.CodeUnsupported, Rule: "pinned.set_config", Reason: "set_config needs constant arguments",
				Hint: "Write the setting's name as a literal, or use SET.",
			}
		}
		if deny := checkPinned(s.Name, s.Value); deny != nil {
			return deny
		}
	}
	return nil
}

// harmless reports whether a value fits none of the pinned settings, so that
// setting it under any name cannot change them: it is neither the beginning of
// a boolean nor of the name of an encoding.
func harmless(value string) bool {
	v := plainName(value)
	for _, word := range []string{"true", "false", "yes", "no", "on", "off", "1", "0"} {
		if strings.HasPrefix(word, v) {
			return false
		}
	}
	for _, start := range []string{
		"abc", "alt", "big", "euc", "gb", "iso", "johab", "koi", "latin", "ms", "mule", "shift", "sjis", "sql", "tcvn",
		"uhc", "uni", "utf", "vscii", "win",
	} {
		if strings.HasPrefix(v, start) {
			return false
		}
	}
	return true
}

// plainName drops what the server ignores in names of encodings.
func plainName(v string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(v))
}

var pinnedNames = []string{"client_encoding", "standard_conforming_strings"}

// setToken is the one form in which a session is prolonged in band.
var setToken = regexp.MustCompile(`(?is)^\s*SET\s+(?:SESSION\s+)?gatebook\.token\s*(?:=|\s+TO\s)\s*'([A-Za-z0-9._~+/=-]+)'\s*;?\s*$`)

// namesToken reports whether a text could carry a token to the target under
// the name that is the gateway's own, however that is spelled: quoted, with blanks or
// comments, escaped, or computed. Texts without a token-like word are not parsed.
func namesToken(text string) bool {
	if strings.Contains(strings.ToLower(text), "gatebook.token") {
		return true
	}
	if !strings.Contains(text, "eyJ") { // how the header of every JWT begins
		return false
	}
	for _, s := range sqlscan.SettingsAnyhow(text, []string{"gatebook.token"}) {
		if s.DynamicName || s.Name == "gatebook.token" {
			return true
		}
	}
	return false
}

// carriesToken is namesToken for parameters.
func carriesToken(body []byte) bool {
	const name = "gatebook.token"
	for from := 0; ; {
		i := bytes.IndexByte(body[from:], '.')
		if i < 0 {
			return false
		}
		dot := from + i
		if at := dot - len("gatebook"); at >= 0 && at+len(name) <= len(body) && strings.EqualFold(string(body[at:at+len(name)]), name) {
			return true
		}
		from = dot + 1
	}
}

func errTokenForm() *access.DenyError {
	return &access.DenyError{
		Code: access.CodeUnsupported, Rule: "gatebook.token", Reason: "gatebook.token can only be set, by a statement of its own",
		Hint: "Send exactly: SET gatebook.token = 'TOKEN'",
	}
}
