// Package secret holds values that must not be printed, marshalled or logged,
// and the loaders that read them from references in the configuration
// ("file:PATH", "env:NAME"). It never keeps a value longer than its caller
// does: a reference is read again at each use, so that a rotated file counts
// without a restart. All types are immutable and safe for concurrent use.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[secret]"

// String is a secret text. Every way of printing it gives "[secret]"; Reveal
// is the only way to the value and is easy to find in a review.
//
// The text sits in a closure on purpose. Package fmt cannot call the methods
// below on a String in an unexported field of another struct and prints such a
// field by reflection, and diff and dump tools follow pointers; none of them
// can look into a function. It also makes "==" on secrets, which is not
// constant in time, a compile error: use Equal.
type String struct{ v func() string }

// New wraps a value.
func New(v string) String {
	if v == "" {
		return String{}
	}
	return String{func() string { return v }}
}

// Reveal returns the value.
func (s String) Reveal() string {
	if s.v == nil {
		return ""
	}
	return s.v()
}

// IsZero reports whether the secret is empty.
func (s String) IsZero() bool { return s.v == nil }

// Equal compares in time independent of the contents.
func (s String) Equal(o String) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(o.Reveal())) == 1
}

// String implements fmt.Stringer with a fixed text.
func (String) String() string { return redacted }

// GoString implements fmt.GoStringer with a fixed text.
func (String) GoString() string { return redacted }

// Format implements fmt.Formatter with a fixed text, whatever the verb: fmt
// asks a Stringer for some verbs only and prints by reflection for the rest.
func (String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText implements encoding.TextMarshaler with a fixed text.
func (String) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer with a fixed text.
func (String) LogValue() slog.Value { return slog.StringValue(redacted) }
