// Detectors measures the value detectors on the labelled set and prints their
// precision and recall by kind as a Markdown table: `go run ./scripts/detectors`.
// The set is made anew, the same at every run, by internal/detect/labelled.
//
//	-misses N    tell the first N missed values and wrong hits of each kind
//	-write FILE  put the table between the markers in FILE
//	-check FILE  fail if the table between the markers in FILE is another
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/gatebook/gatebook/internal/detect/labelled"
)

const (
	opening = "<!-- detectors -->\n"
	closing = "<!-- /detectors -->"
)

func main() {
	o := options{}
	flag.IntVar(&o.misses, "misses", 0, "tell the first `N` missed values and wrong hits of each kind")
	flag.StringVar(&o.check, "check", "", "fail if the table in `FILE` is another")
	flag.StringVar(&o.write, "write", "", "put the table into `FILE`")
	flag.Parse()
	s, err := newScanner()
	if err == nil {
		err = run(s, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "detectors:", err)
		os.Exit(1)
	}
}

type options struct {
	misses       int
	check, write string
}

func run(s Scanner, o options, out io.Writer) error {
	positives, negatives := labelled.Positives(), labelled.Negatives()
	rows := measure(s, slices.Concat(positives, negatives))
	text := table(rows, len(positives), len(negatives))
	if _, err := io.WriteString(out, text+misses(rows, max(o.misses, 0))); err != nil {
		return err
	}
	if o.write != "" {
		if err := write(o.write, text); err != nil {
			return err
		}
	}
	if o.check != "" {
		return check(o.check, text)
	}
	return nil
}

// split cuts a document into what is before the table, the table, and what is
// behind it. The markers stay with their sides.
func split(doc string) (before, table, after string, err error) {
	if strings.Count(doc, opening) != 1 || strings.Count(doc, closing) != 1 {
		return "", "", "", fmt.Errorf("it needs one line %s and, below, one line %s", strings.TrimSpace(opening), closing)
	}
	head, rest, _ := strings.Cut(doc, opening)
	table, tail, below := strings.Cut(rest, closing)
	if !below {
		return "", "", "", errors.New("its markers are in the wrong order: put the one with the stroke below")
	}
	return head + opening, table, closing + tail, nil
}

func write(file, text string) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, _, after, err := split(string(doc))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(before+text+after), 0o644)
}

func check(file, text string) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, table, _, err := split(string(doc))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if table != text {
		return fmt.Errorf("%s: the table is not what was measured now: run `go run ./scripts/detectors -write %s` and read the difference", file, file)
	}
	return nil
}
