package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/judge"
)

func (e *env) policyReplayCmd() *cobra.Command {
	var pkg, from, until string
	var r admin.ExportRequest
	c := &cobra.Command{
		Use:   "replay FILE",
		Short: "Show what a new policy would have decided for recorded requests",
		Long: `Decides every recorded request of a period again by the policy in FILE, which is a whole configuration or a file with rules and
packs alone, and shows what would have been decided otherwise, grouped, the newly allowed first. Nothing is run and nothing
changes. Each request is taken as it was: its effects and objects by the definitions of its time, its identity, target,
session and moment. What the gateway itself refused (limits, protocol, identity) stays refused and is counted.

Without --package the book is read, which is recorded like an export. A package is read as it is: verify it first.

Exit code 0: no verdict would change. 2: some would. 1: the policy has problems, or the record could not be read.`,
		Example: "  gatebook policy replay new-policy.yaml --from 2026-11-01\n" +
			"  gatebook policy replay new/gatebook.yaml --package q4.zip --json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(fmt.Errorf("want one file with the new policy; see %s --help", cmd.CommandPath()))
			}
			if pkg != "" && (from != "" || until != "" || r.Principal != "" || r.Target != "") {
				return usage(errors.New("--from, --until, --principal and --target are about the book; a package is replayed whole"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := config.LoadPolicy(args[0])
			if err != nil {
				return err
			}
			if r.From, err = parseTime(from); err != nil {
				return err
			}
			if r.Until, err = parseTime(until); err != nil {
				return err
			}
			f, err := e.recorded(cmd, pkg, r)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			replay, err := replayed(cmd, f, judge.NewReplay(p), r)
			if err != nil {
				return err
			}
			groups := replay.Groups()
			if e.json {
				err = e.printJSON(struct {
					*judge.Replay
					Changed []*judge.Group `json:"changed"`
				}{replay, groups})
			} else {
				printReplay(e.stdout, replay, groups)
			}
			if err == nil && len(groups) > 0 {
				err = &exitError{code: exitExceptions}
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&pkg, "package", "", "replay an evidence package instead of the book")
	f.StringVar(&from, "from", "", "begin of the period (default: the book's begin)")
	f.StringVar(&until, "until", "", "end of the period (default: now)")
	f.StringVar(&r.Principal, "principal", "", "only this principal, as ISSUER|NAME")
	f.StringVar(&r.Target, "target", "", "only this target")
	e.jsonFlag(c)
	return c
}

// recorded opens a package, or makes one of the book that has no name.
func (e *env) recorded(cmd *cobra.Command, pkg string, r admin.ExportRequest) (*os.File, error) {
	if pkg != "" {
		return os.Open(pkg)
	}
	f, err := os.CreateTemp("", "gatebook-replay-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		err = e.with(cmd.Context(), "gatebook policy replay", func(c *admin.Client) error {
			return c.Export(cmd.Context(), r, func(uint64, uint64) {}, f)
		})
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// replayed decides on every request of a package.
func replayed(cmd *cobra.Command, f *os.File, r *judge.Replay, period admin.ExportRequest) (*judge.Replay, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	left, err := evidence.EachRequest(&stopping{cmd.Context(), f}, info.Size(), evidence.Limits{}, func(q *evidence.Request) error {
		// A package holds whole sessions, and ends with a checkpoint: more than the period.
		if at := q.Header.Time; at.Before(period.From) || !period.Until.IsZero() && !at.Before(period.Until) {
			return nil
		}
		return r.Add(q)
	})
	for why, n := range left {
		r.Left[why] += n
	}
	return r, err
}

func printReplay(out io.Writer, r *judge.Replay, groups []*judge.Group) {
	var changed uint64
	for _, g := range groups {
		changed += g.Requests
		fmt.Fprintf(out, "%s by %s  ->  %s by %s: %s\n", g.Before.Verdict, printable(g.Before.Rule), g.After.Verdict, printable(g.After.Rule), plural(int(g.Requests), "request"))
		fmt.Fprintf(out, "  principals: %s\n  targets:    %s\n  %s of statement", counted(g.Principals), counted(g.Targets), plural(g.Shapes, "kind"))
		if g.Shapes > len(g.Examples) {
			fmt.Fprintf(out, ", the first %d", len(g.Examples))
		}
		fmt.Fprintln(out, ":")
		for _, x := range g.Examples {
			fmt.Fprintf(out, "    entry %d: %s\n", x.Index, oneLine(x.Text, 120))
		}
	}
	if len(groups) > 0 {
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%s decided again: %d as before, %d with the same verdict by another rule, %d otherwise\n",
		plural(int(r.Requests), "request"), r.Same, r.Renamed, changed)
	if r.Own > 0 {
		fmt.Fprintf(out, "%d answered by the gateway's own limits and checks, which no policy changes\n", r.Own)
	}
	for _, why := range slices.Sorted(maps.Keys(r.Left)) {
		fmt.Fprintf(out, "%d left out: %s\n", r.Left[why], why)
	}
}

// counted lists names with their numbers, the largest first, and shortens a long list.
func counted(m map[string]uint64) string {
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			if m[a] > m[b] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	const most = 5
	var parts []string
	for i, name := range names {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(names)-most))
			break
		}
		parts = append(parts, fmt.Sprintf("%s (%d)", printable(name), m[name]))
	}
	return strings.Join(parts, ", ")
}
