// Command bench measures Gatebook beside PgBouncer and a direct connection, on
// one machine, in one run, interleaved, with the same TLS on both sides of
// every proxy. `make bench` runs it.
//
// It prints a table and writes results.json (ratios by case) and results.svg.
// Only ratios of the same round are compared: what else the machine does hits
// neighbours alike.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are the command's flags.
type options struct {
	binary  string
	out     string
	only    *regexp.Regexp
	systems *regexp.Regexp
	rounds  int
	period  time.Duration
	bulk    int
	idle    int
	foreign float64
}

func main() {
	if len(os.Args) == 5 && os.Args[1] == "relay" {
		fmt.Fprintln(os.Stderr, "bench:", relay(os.Args[2], os.Args[3], os.Args[4]))
		os.Exit(1)
	}
	var o options
	var only, systems string
	flag.StringVar(&o.binary, "gatebook", "bin/gatebook", "the program to measure")
	flag.StringVar(&o.out, "out", "bench", "directory for results.json and results.svg")
	flag.StringVar(&only, "only", "", "cases to run, a regular expression on their names with clients, such as 'point-prepared/64'")
	flag.StringVar(&systems, "systems", "", "systems to run, a regular expression: direct, pgbouncer, relay, gatebook-always, gatebook-release, gatebook-interval")
	flag.IntVar(&o.rounds, "rounds", 5, "samples of each case")
	flag.DurationVar(&o.period, "time", 8*time.Second, "how long one sample of point reads or connects takes")
	flag.IntVar(&o.bulk, "bulk", 500_000, "rows of a bulk read or COPY, about 100 bytes each")
	flag.IntVar(&o.idle, "idle", 500, "sessions whose memory is measured")
	flag.Float64Var(&o.foreign, "foreign", 0.1, "part of the machine that other programs may take before a round is run again")
	flag.Parse()
	if err := run(&o, only, systems); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o *options, only, systems string) error {
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if o.systems, err = regexp.Compile(systems); err != nil {
		return fmt.Errorf("-systems: %w", err)
	}
	if o.rounds < 1 || o.period < time.Second || o.bulk < 1 || o.idle < 1 {
		return fmt.Errorf("-rounds, -bulk and -idle must be positive and -time at least 1s")
	}
	if _, err := os.Stat(o.binary); err != nil {
		return fmt.Errorf("%w: run make build first", err)
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil { //nolint:gosec // results are for everybody
		return err
	}
	w, err := newWorld(o)
	defer w.stop()
	if err != nil {
		return err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		w.stop()
		os.Exit(130)
	}()
	t := newTable()
	if err := measure(w, o, t); err != nil {
		return err
	}
	return t.write(o.out, os.Stdout)
}
