package approval

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/gatebook/gatebook/internal/sshsig"
)

// SSHNamespace is the namespace of SSH signatures of rulings (ssh-keygen -Y sign -n).
const SSHNamespace = "gatebook-ruling"

// maxReason bounds a ruling's reason, in bytes. Breaking the glass needs one of minGlassReason characters.
const (
	maxReason      = 2000
	minGlassReason = 10
)

// statementHead is the first line of what a person signs.
const statementHead = "gatebook-ruling 1"

// Statement returns the exact text that a person signs to rule on a ticket:
//
//	gatebook-ruling 1
//	ticket ID
//	digest HEX
//	approve
//	"REASON"
//
// The fourth line is the verdict; the fifth is a JSON string.
func Statement(ticket, digest string, v Verdict, reason string) string {
	quoted, err := json.Marshal(reason)
	if err != nil { // a string always marshals
		quoted = []byte(`""`)
	}
	return fmt.Sprintf("%s\nticket %s\ndigest %s\n%s\n%s\n", statementHead, ticket, digest, v, quoted)
}

// Stated is what a statement says.
type Stated struct {
	Ticket, Digest string
	Verdict        Verdict
	Reason         string
}

// ParseStatement reads a statement in its one form.
func ParseStatement(text string) (Stated, error) {
	bad := errors.New("not a ruling as gatebook ticket statement prints it")
	lines := strings.Split(text, "\n")
	if len(lines) != 6 || lines[0] != statementHead || lines[5] != "" {
		return Stated{}, bad
	}
	var s Stated
	var ok1, ok2, ok3 bool
	s.Ticket, ok1 = strings.CutPrefix(lines[1], "ticket ")
	s.Digest, ok2 = strings.CutPrefix(lines[2], "digest ")
	s.Verdict, ok3 = ParseVerdict(lines[3])
	if !ok1 || !ok2 || !ok3 || json.Unmarshal([]byte(lines[4]), &s.Reason) != nil || Statement(s.Ticket, s.Digest, s.Verdict, s.Reason) != text {
		return Stated{}, bad
	}
	if len(s.Reason) > maxReason {
		return Stated{}, fmt.Errorf("a reason of %d bytes, at most %d", len(s.Reason), maxReason)
	}
	return s, nil
}

// Limits of the random part of a nonce, in bytes.
const minRandom, maxRandom = 22, 128

// Nonce returns the nonce of an ID token that proves a ruling: the issuer signs it, so that the token says who ruled, on what and
// how. random is the caller's, fresh for each sign-in, of letters and digits.
func Nonce(statement, random string) (string, error) {
	other := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}
	if len(random) < minRandom || len(random) > maxRandom || strings.ContainsFunc(random, other) {
		return "", fmt.Errorf("the random part of a ruling's nonce must have %d to %d letters and digits", minRandom, maxRandom)
	}
	d := sha256.Sum256([]byte("gatebook-ruling-nonce 1\n" + random + "\n" + statement))
	return base64.RawURLEncoding.EncodeToString(d[:]), nil
}

// VerifySSH checks a person's signature of a statement and returns the key's fingerprint and its line as in authorized_keys.
func VerifySSH(statement, signature string) (fingerprint, key string, err error) {
	s, err := sshsig.Parse([]byte(signature))
	if err != nil {
		return "", "", err
	}
	if err := s.Verify(SSHNamespace, []byte(statement)); err != nil {
		return "", "", err
	}
	return s.Key.Fingerprint(), s.Key.String(), nil
}
