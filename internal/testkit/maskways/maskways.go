// Package maskways has ways of getting at a masked column, and what a value looks like in disguise.
package maskways

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// ways are what an agent may write for a masked column, %s being its name: by other names, in other forms, as an error, as a bit.
var ways = []string{
	"%s", "%s::text", "%s || ''", "'x' || %s", "reverse(%s::text)", "upper(%s::text)", "substring(%s::text, 1, 3)", "left(%s::text, 1)", "md5(%s::text)", "encode(%s::text::bytea, 'base64')",
	"encode(sha256(%s::text::bytea), 'hex')", "convert_to(%s::text, 'UTF8')", "format('%%s', %s)", "concat(%s, 1)", "regexp_replace(%s::text, 'x', 'y')", "translate(%s::text, 'c', 'd')", "split_part(%s::text, '@', 1)",
	"ascii(%s::text)", "length(%s::text)", "to_json(%s)", "to_jsonb(%s)", "json_build_object('a', %s)", "ARRAY[%s]", "ROW(%s)", "(ARRAY[%s])[1]", "coalesce(%s, NULL)", "nullif(%s::text, 'x')", "greatest(%s::text, '')",
	"CASE WHEN %s IS NULL THEN NULL ELSE %[1]s END", "CASE WHEN %s::text < 'd' THEN 1 ELSE 0 END", "(SELECT %s)", "(VALUES (%s))", "quote_literal(%s::text)", "%s::text::varchar(9)", "%s::text COLLATE \"C\"", "string_to_array(%s::text, '@')",
	"xmlelement(name a, %s)", "to_tsvector('simple', %s::text)", "%s::text::json", "%s::text::int", "1 / (length(%s::text) - 20)", "lpad(%s::text, 3)", "overlay(%s::text placing 'x' from 1 for 1)", "hashtext(%s::text)", "strpos(%s::text, 'can')",
	"chr(ascii(%s::text) + 1)", "array_to_string(ARRAY[%s], ',')", "starts_with(%s::text, 'c')", "%s::text LIKE 'c%%'", "%s IS DISTINCT FROM NULL",
}

// places are where it may stand.
var places = []string{
	"SELECT %s FROM customers", "SELECT %s AS id FROM customers LIMIT 1", "SELECT x FROM (SELECT %s AS x FROM customers) s", "WITH w AS (SELECT %s AS x FROM customers) SELECT x, x FROM w", "SELECT l.x FROM customers, LATERAL (SELECT %s AS x) l",
	"SELECT 'a' WHERE false UNION ALL SELECT (%s)::text FROM customers", "SELECT array_agg(%s) FROM customers", "SELECT json_agg(%s) FROM customers", "SELECT max((%s)::text) FROM customers", "SELECT string_agg((%s)::text, ',') FROM customers",
	"SELECT s FROM (SELECT %s AS x FROM customers) s", "SELECT row_to_json(s) FROM (SELECT %s AS x FROM customers) s", "SELECT id FROM customers ORDER BY %s", "SELECT count(*) FROM customers GROUP BY %s", "SELECT id FROM customers WHERE (%s)::text > 'c'",
	"UPDATE customers SET id = id RETURNING %s", "SELECT first_value(%s) OVER () FROM customers", "SELECT DISTINCT %s FROM customers",
}

// Statements are all ways in all places, over the columns id and column of a table customers.
func Statements(column string) (list []string) {
	for _, place := range places {
		for _, way := range ways {
			list = append(list, fmt.Sprintf(place, fmt.Sprintf(way, column)))
		}
	}
	return list
}

// Needles are what words look like in disguise: plain, backwards, in hexadecimal digits, base64 at each alignment, UTF-16, and by SHA-256 and
// other digests.
func Needles(digests []func([]byte) []byte, words ...string) (needles [][]byte) {
	for _, w := range words {
		b := []byte(w)
		back := slices.Clone(b)
		slices.Reverse(back)
		needles = append(needles, b, bytes.ToUpper(b), back, []byte(hex.EncodeToString(b)), []byte(strings.ToUpper(hex.EncodeToString(b))))
		for shift := range 3 {
			enc := base64.StdEncoding.EncodeToString(append(make([]byte, shift), b...))
			from := (shift*8 + 5) / 6 // the first character that is of the word alone
			to := (shift*8 + len(b)*8) / 6
			needles = append(needles, []byte(enc[from:to]))
		}
		little, big := []byte{}, []byte{}
		for _, u := range utf16.Encode([]rune(w)) {
			little, big = binary.LittleEndian.AppendUint16(little, u), binary.BigEndian.AppendUint16(big, u)
		}
		h := sha256.Sum256(b)
		sums := [][]byte{h[:]}
		for _, d := range digests {
			sums = append(sums, d(b))
		}
		needles = append(needles, little, big)
		for _, sum := range sums {
			needles = append(needles, sum, []byte(hex.EncodeToString(sum)), []byte(base64.StdEncoding.EncodeToString(sum)))
		}
	}
	return needles
}
