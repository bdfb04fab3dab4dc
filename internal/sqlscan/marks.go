package sqlscan

import (
	pgquery "github.com/sqlc-dev/oliphant"
)

// Class is what a piece of a text is, for the eye.
type Class string

// Classes of pieces.
const (
	Keyword  Class = "keyword"
	Constant Class = "constant"
	Comment  Class = "comment"
	Other    Class = ""
)

// Piece is a part of a text.
type Piece struct {
	Text  string
	Class Class
}

// Pieces cuts a text into marked pieces, which together are the text. What the scanner cannot read is one piece.
func Pieces(text string) []Piece {
	whole := []Piece{{Text: text}}
	if len(text) > maxText {
		return whole
	}
	scan, err := pgquery.Scan(text)
	if err != nil {
		return whole
	}
	var list []Piece
	end := 0
	add := func(to int, c Class) {
		if to > end {
			list = append(list, Piece{text[end:to], c})
			end = to
		}
	}
	for _, t := range scan.Tokens {
		from, to := int(t.Start), int(t.End)
		if from < end || to < from || to > len(text) {
			return whole
		}
		add(from, Other)
		add(to, classOf(t))
	}
	add(len(text), Other)
	return list
}

func classOf(t *pgquery.ScanToken) Class {
	switch t.Token.String() {
	case "SCONST", "USCONST", "BCONST", "XCONST", "ICONST", "FCONST", "PARAM":
		return Constant
	case "SQL_COMMENT", "C_COMMENT":
		return Comment
	}
	switch t.KeywordKind.String() {
	case "UNRESERVED_KEYWORD": // most of these are names as well; the commands among them are what the eye looks for
		if commands[t.Token.String()] {
			return Keyword
		}
		return Other
	case "NO_KEYWORD":
		return Other
	}
	return Keyword
}

// commands are tokens that begin a command or a clause and are no reserved words.
var commands = map[string]bool{
	"INSERT": true, "UPDATE": true, "DELETE_P": true, "MERGE": true, "SET": true, "TRUNCATE": true, "DROP": true, "ALTER": true, "COPY": true, "BEGIN_P": true,
	"COMMIT": true, "ROLLBACK": true, "BY": true, "EXECUTE": true, "PREPARE": true, "EXPLAIN": true, "CALL": true, "LOCK_P": true, "REVOKE": true, "CASCADE": true,
}

// Constants returns where each constant of a text ends, by where it begins. ok is false for what the scanner cannot read.
func Constants(text string) (ends map[int]int, ok bool) {
	if len(text) > maxText {
		return nil, false
	}
	scan, err := pgquery.Scan(text)
	if err != nil {
		return nil, false
	}
	ends = map[int]int{}
	for _, t := range scan.Tokens {
		if classOf(t) == Constant && t.Start >= 0 && t.End > t.Start && int(t.End) <= len(text) {
			ends[int(t.Start)] = int(t.End)
		}
	}
	return ends, true
}
