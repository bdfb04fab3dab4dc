package labelled

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

func allDigits(s string) bool { return s != "" && strings.Trim(s, digits) == "" }

// luhnSum is the Luhn sum of s, a number with its check digit. A valid number
// has a sum that ends in 0.
func luhnSum(s string) int {
	sum := 0
	for i := range len(s) {
		d := int(s[len(s)-1-i] - '0')
		if i%2 == 1 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return sum
}

func luhnOK(s string) bool { return luhnSum(s)%10 == 0 }

// withLuhn appends the check digit to s.
func withLuhn(s string) string {
	return s + strconv.Itoa((10-luhnSum(s+"0")%10)%10)
}

// issued reports whether a number of this beginning and length is given out by
// one of the payment card networks.
func issued(s string) bool {
	prefix := func(n int) int {
		v, _ := strconv.Atoi(s[:n]) // s is all digits
		return v
	}
	if !allDigits(s) || len(s) < 13 || len(s) > 19 {
		return false
	}
	p2, p3, p4 := prefix(2), prefix(3), prefix(4)
	switch n := len(s); {
	case s[0] == '4':
		return n == 13 || n == 16 || n == 19
	case p2 >= 51 && p2 <= 55, p4 >= 2221 && p4 <= 2720:
		return n == 16
	case p2 == 34, p2 == 37:
		return n == 15
	case p3 >= 300 && p3 <= 305, p2 == 36, p2 == 38, p2 == 39, p3 == 309:
		return n >= 14
	case p4 >= 3528 && p4 <= 3589, p4 == 6011, p3 >= 644 && p3 <= 649, p2 == 65, p2 == 62, p2 == 81:
		return n >= 16
	}
	return false
}

// rest97 is the remainder by 97 of an alphanumeric string whose letters stand
// for two digits each (ISO 7064).
func rest97(s string) int {
	rest := 0
	for i := range len(s) {
		if c := s[i]; c >= 'A' {
			rest = (rest*100 + int(c-'A') + 10) % 97
		} else {
			rest = (rest*10 + int(c-'0')) % 97
		}
	}
	return rest
}

func ibanDigits(country, bban string) string {
	return fmt.Sprintf("%02d", 98-rest97(bban+country+"00"))
}

func ibanOK(s string) bool {
	if len(s) < 5 || strings.Trim(s, upper+digits) != "" || !allDigits(s[2:4]) {
		return false
	}
	for _, c := range ibanCountries {
		if c.code == s[:2] {
			return len(s) == 4+len(c.form) && rest97(s[4:]+s[:4]) == 1
		}
	}
	return false
}

const dniLetters = "TRWAGMYFPDXBNJZSQVHLCKE"

// dniLetter is the control letter of eight digits, or of an NIE: X, Y or Z and
// seven digits.
func dniLetter(s string) string {
	n, _ := strconv.Atoi(strings.NewReplacer("X", "0", "Y", "1", "Z", "2").Replace(s))
	return dniLetters[n%23 : n%23+1]
}

func dniOK(s string) bool {
	if len(s) != 9 || !allDigits(s[1:8]) || strings.IndexByte(digits+"XYZ", s[0]) < 0 {
		return false
	}
	return dniLetter(s[:8]) == s[8:]
}

// nirKey is the key of the first 13 characters of a French social security
// number; the departments of Corsica count as 19 and 18.
func nirKey(s string) string {
	n, _ := strconv.ParseInt(s[:5]+strings.NewReplacer("2A", "19", "2B", "18").Replace(s[5:7])+s[7:], 10, 64)
	return fmt.Sprintf("%02d", 97-n%97)
}

func nirOK(s string) bool {
	if len(s) != 15 || strings.IndexByte("123478", s[0]) < 0 || !allDigits(s[:5]) || !allDigits(s[7:]) {
		return false
	}
	return (allDigits(s[5:7]) || s[5:7] == "2A" || s[5:7] == "2B") && nirKey(s[:13]) == s[13:]
}

// cfOdd holds the worth of 0-9 (and A-J) and K-Z at the odd places of a codice fiscale.
var cfOdd = []int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23}

func cfLetter(s string) string {
	sum := 0
	for i := range len(s) {
		n := int(s[i] - '0')
		if s[i] >= 'A' {
			n = int(s[i] - 'A')
		}
		if i%2 == 0 {
			n = cfOdd[n]
		}
		sum += n
	}
	return upper[sum%26 : sum%26+1]
}

const (
	cfMonths = "ABCDEHLMPRST"
	// cfDigits writes digits as letters, for people whose codes would be equal.
	cfDigits = "LMNPQRSTUV"
)

func cfOK(s string) bool {
	s = strings.ToUpper(s)
	if len(s) != 16 {
		return false
	}
	for i := range 15 {
		allowed := upper
		switch i {
		case 6, 7, 9, 10, 12, 13, 14:
			allowed = digits + cfDigits
		case 8:
			allowed = cfMonths
		}
		if strings.IndexByte(allowed, s[i]) < 0 {
			return false
		}
	}
	return cfLetter(s[:15]) == s[15:]
}

func peselDigit(s string) string {
	sum := 0
	for i, w := range []int{1, 3, 7, 9, 1, 3, 7, 9, 1, 3} {
		sum += w * int(s[i]-'0')
	}
	return strconv.Itoa((10 - sum%10) % 10)
}

func peselOK(s string) bool {
	if len(s) != 11 || !allDigits(s) {
		return false
	}
	month, _ := strconv.Atoi(s[2:4])
	century := []string{"19", "20", "21", "22", "18"}[month/20]
	return isDate(century+s[:2], fmt.Sprintf("%02d", month%20), s[4:6]) && peselDigit(s[:10]) == s[10:]
}

func isDate(year, month, day string) bool {
	_, err := time.Parse("20060102", year+month+day)
	return err == nil
}

// cpfDigits are the two check digits of nine digits.
func cpfDigits(s string) string {
	check := func(s string) string {
		sum := 0
		for i := range len(s) {
			sum += int(s[i]-'0') * (len(s) + 1 - i)
		}
		return strconv.Itoa(sum * 10 % 11 % 10)
	}
	first := check(s)
	return first + check(s+first)
}

func cpfOK(s string) bool {
	return len(s) == 11 && allDigits(s) && strings.Trim(s, s[:1]) != "" && cpfDigits(s[:9]) == s[9:]
}

// personnummerOK takes six or eight digits of a date and four digits.
func personnummerOK(date, number string) bool {
	if !allDigits(date) || !allDigits(number) || len(number) != 4 {
		return false
	}
	switch len(date) {
	case 8:
		return isDate(date[:4], date[4:6], date[6:]) && luhnOK(date[2:]+number)
	case 6: // of either century: 29 February of 1900 is none, of 2000 is one
		return isDate("20"+date[:2], date[2:4], date[4:]) && luhnOK(date+number)
	}
	return false
}

func ssnOK(area, group, serial string) bool {
	return area != "000" && area != "666" && area[0] != '9' && group != "00" && serial != "0000"
}
