// Package secret holds values that must not be printed, marshalled or logged,
// and the loaders that read them from references in the configuration
// ("file:PATH", "env:NAME").
package secret

import (
	"crypto/subtle"
	"log/slog"
)

const redacted = "[secret]"

// String is a secret text. Every way of printing it gives "[secret]"; Reveal
// is the only way to the value and is easy to find in a review.
type String struct{ v string }

// New wraps a value.
func New(v string) String { return String{v} }

// Reveal returns the value.
func (s String) Reveal() string { return s.v }

// IsZero reports whether the secret is empty.
func (s String) IsZero() bool { return s.v == "" }

// Equal compares in time independent of the contents.
func (s String) Equal(o String) bool {
	return subtle.ConstantTimeCompare([]byte(s.v), []byte(o.v)) == 1
}

// String implements fmt.Stringer with a fixed text.
func (String) String() string { return redacted }

// GoString implements fmt.GoStringer with a fixed text.
func (String) GoString() string { return redacted }

// MarshalText implements encoding.TextMarshaler with a fixed text.
func (String) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer with a fixed text.
func (String) LogValue() slog.Value { return slog.StringValue(redacted) }
