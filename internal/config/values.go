package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// scalar returns the text of a value, "" for lists and maps.
func scalar(n ast.Node) string {
	if _, ok := n.(ast.ScalarNode); !ok {
		return ""
	}
	return n.GetToken().Value
}

// Duration is a time span such as "90s", "15m" or "8h".
type Duration time.Duration

// UnmarshalYAML implements the decoder's interface.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	s := scalar(n)
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return &yaml.SyntaxError{Message: fmt.Sprintf("%q is not a duration such as 90s, 15m or 8h", s), Token: n.GetToken()}
	}
	*d = Duration(v)
	return nil
}

// Or returns the duration, or def if it is zero.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

// Size is a number of bytes such as "64MiB", "512KiB" or "1048576".
type Size int64

// UnmarshalYAML implements the decoder's interface.
func (z *Size) UnmarshalYAML(n ast.Node) error {
	s := scalar(n)
	number, shift := strings.TrimSpace(s), 0
	for suffix, by := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, shift = strings.TrimSpace(rest), by
			break
		}
	}
	v, err := strconv.ParseInt(number, 10, 64)
	if err != nil || v < 0 || v > 1<<62>>shift {
		return &yaml.SyntaxError{Message: fmt.Sprintf("%q is not a size such as 64MiB, 512KiB or 1048576", s), Token: n.GetToken()}
	}
	*z = Size(v << shift)
	return nil
}

// Strings is one string, or a list of them.
type Strings []string

// UnmarshalYAML implements the decoder's interface.
func (l *Strings) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if unmarshal(&one) == nil {
		*l = Strings{one}
		return nil
	}
	var many []string
	if err := unmarshal(&many); err != nil {
		return err
	}
	*l = many
	return nil
}
