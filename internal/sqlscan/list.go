package sqlscan

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	pgquery "github.com/sqlc-dev/oliphant"
)

// Limits of an ordered list of statements that is asked for at once.
const (
	MaxList       = 100       // statements
	MaxListBytes  = 256 << 10 // of all its texts together
	maxListReason = 2000      // bytes
)

// List is an ordered list of statements that a session asks for at once.
type List struct {
	// Statements in the order in which they are to run.
	Statements []string `json:"list"`
	// Reason is the agent's own word for why.
	Reason string `json:"reason,omitempty"`
}

// listText is the one form in which a list is asked for. Its literal has no escapes but doubled quotes.
var (
	listText  = regexp.MustCompile(`(?is)^\s*SET\s+(?:SESSION\s+)?gatebook\.request\s*(?:=|\s+TO\s)\s*'((?:[^']|'')*)'\s*;?\s*$`)
	listBegin = regexp.MustCompile(`(?is)^\s*SET\s+(?:SESSION\s+|LOCAL\s+)?gatebook\.request\b`)
)

// AsksForList reports whether a text is meant to ask for a list of statements, whatever ParseList says of it.
func AsksForList(text string) bool { return listBegin.MatchString(text) }

// ParseList reads a text that asks for a list: SET gatebook.request = '{"list": [TEXT, …], "reason": TEXT}'.
// The error says what is wrong with it, for the agent.
func ParseList(text string) (*List, error) {
	m := listText.FindStringSubmatch(text)
	if m == nil {
		return nil, errors.New(`send exactly: SET gatebook.request = '{"list": ["statement", ...], "reason": "text"}', with quotes doubled`)
	}
	l := &List{}
	d := json.NewDecoder(strings.NewReader(strings.ReplaceAll(m[1], "''", "'")))
	d.DisallowUnknownFields()
	if err := d.Decode(l); err != nil || d.More() {
		return nil, errors.New(`the list is not JSON of the form {"list": ["statement", ...], "reason": "text"}`)
	}
	return l, l.check()
}

// check holds the list to its limits.
func (l *List) check() error {
	switch n := len(l.Statements); {
	case n == 0:
		return errors.New("the list is empty")
	case n > MaxList:
		return fmt.Errorf("the list has %d statements, at most %d", n, MaxList)
	case len(l.Reason) > maxListReason:
		return fmt.Errorf("the reason has %d bytes, at most %d", len(l.Reason), maxListReason)
	}
	size := 0
	for i, text := range l.Statements {
		size += len(text)
		switch {
		case strings.Trim(text, " \t\n\r\f\v;") == "":
			return fmt.Errorf("statement %d of the list is empty", i+1)
		case strings.ContainsRune(text, 0) || strings.ContainsRune(text, utf8.RuneError):
			return fmt.Errorf("statement %d of the list has characters that no text can have", i+1)
		}
	}
	if size > MaxListBytes {
		return fmt.Errorf("the list has %d bytes, at most %d", size, MaxListBytes)
	}
	return nil
}

// Text returns the text that asks for the list.
func (l *List) Text() (string, error) {
	if err := l.check(); err != nil {
		return "", err
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		return "", err
	}
	return "SET gatebook.request = '" + strings.ReplaceAll(strings.TrimSpace(b.String()), "'", "''") + "'", nil
}

// Split returns the statements of a text, without the semicolons between them. Comments between them may fall away. The error says that the
// text is not what PostgreSQL's grammar reads.
func Split(text string) ([]string, error) {
	switch {
	case len(text) > maxText:
		return nil, fmt.Errorf("the text has more than %d bytes", maxText)
	case depth(text) > maxDepth:
		return nil, fmt.Errorf("the text is nested deeper than %d", maxDepth)
	}
	tree, err := pgquery.Parse(text)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, raw := range tree.Stmts {
		from, n := int(raw.StmtLocation), int(raw.StmtLen)
		if n == 0 { // the last one, to the end
			n = len(text) - from
		}
		if from < 0 || n < 0 || from+n > len(text) {
			return nil, errors.New("the grammar does not say where the statements are")
		}
		list = append(list, strings.TrimSpace(text[from:from+n]))
	}
	return list, nil
}
