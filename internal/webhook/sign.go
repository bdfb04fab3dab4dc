// Package webhook tells other servers what happens, and takes rulings that a
// bridge delivers.
//
// Both ways messages are signed as the Standard Webhooks specification has it:
// the headers webhook-id, webhook-timestamp (seconds since 1970) and
// webhook-signature, which is "v1," and the base64 of an HMAC-SHA-256 over
// ID.TIMESTAMP.BODY. Messages that go out are CloudEvents 1.0 in JSON. They
// name a request and never say what it is, so that whoever reads along in a chat learns no data; they link,
// and ruling takes a person's own proof.
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gatebook/gatebook/internal/secret"
)

// Names of the headers, in the form of package http.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// Bounds of keys, in bytes, and of what a sender may write.
const (
	minKey, maxKey = 24, 64
	maxID          = 64
	maxSignatures  = 8 // of one message: old and new keys while they are rotated
)

// slack is how far a message's timestamp may be from this clock.
const slack = 5 * time.Minute

// Refusals of messages. They say nothing about the key.
var (
	ErrHeaders   = errors.New("want one each of the headers webhook-id, webhook-timestamp and webhook-signature")
	ErrOld       = fmt.Errorf("the timestamp is more than %v from this clock", slack)
	ErrSignature = errors.New("the signature is not that of this message by this hook's secret")
	ErrReplay    = errors.New("this message was delivered before")
)

// parseKey reads a secret: "whsec_" and the base64 of 24 to 64 bytes.
func parseKey(s secret.String) ([]byte, error) {
	text, ok := strings.CutPrefix(s.Reveal(), "whsec_")
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(key) < minKey || len(key) > maxKey {
		return nil, fmt.Errorf(`the secret must be "whsec_" and the base64 of %d to %d random bytes: (printf whsec_; openssl rand -base64 32)`, minKey, maxKey)
	}
	return key, nil
}

// CheckSecret says why a secret cannot sign messages, nil if it can.
func CheckSecret(ref secret.Ref) error {
	_, err := loadKey(ref)
	return err
}

func loadKey(ref secret.Ref) ([]byte, error) {
	text, err := ref.Load()
	if err != nil {
		return nil, err
	}
	return parseKey(text)
}

// sign returns the signature of a message.
func sign(key []byte, id string, at time.Time, body []byte) string {
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "%s.%d.", id, at.Unix())
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// signed is what the headers of a message say.
type signed struct {
	id         string
	at         time.Time
	signatures []string
}

var (
	idForm        = regexp.MustCompile(`^[A-Za-z0-9_-]{1,` + strconv.Itoa(maxID) + `}$`)
	timestampForm = regexp.MustCompile(`^[1-9][0-9]{0,14}$`)
)

// parseHeaders reads the headers of a message. Each must be there once, in the one form that the specification gives it.
func parseHeaders(h http.Header) (signed, error) {
	var values [3]string
	for i, name := range []string{headerID, headerTimestamp, headerSignature} {
		if len(h[name]) != 1 {
			return signed{}, ErrHeaders
		}
		values[i] = h[name][0]
	}
	signatures := strings.Split(values[2], " ")
	if !idForm.MatchString(values[0]) || !timestampForm.MatchString(values[1]) || len(values[2]) > maxSignatures*64 || len(signatures) > maxSignatures {
		return signed{}, ErrHeaders
	}
	seconds, err := strconv.ParseInt(values[1], 10, 64)
	if err != nil {
		return signed{}, ErrHeaders
	}
	return signed{id: values[0], at: time.Unix(seconds, 0), signatures: signatures}, nil
}

// fresh reports whether the message is of about now.
func (s *signed) fresh(now time.Time) bool { return now.Sub(s.at).Abs() <= slack }

// verify reports whether one of the signatures is that of the body by the key.
func (s *signed) verify(key, body []byte) bool {
	want, good := []byte(sign(key, s.id, s.at, body)), false
	for _, have := range s.signatures {
		good = hmac.Equal([]byte(have), want) || good
	}
	return good
}
