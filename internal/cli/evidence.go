package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/detect"
	"github.com/gatebook/gatebook/internal/judge"
)

func (e *env) evidenceCmd() *cobra.Command {
	return group("evidence", "Export and verify evidence packages", e.exportCmd(), e.verifyCmd(), e.confirmCmd(), e.checkpointCmd())
}

// parseTime reads a point in time as people write it, in UTC unless it says otherwise.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, usage(fmt.Errorf("%q is not a time such as 2026-11-23, 2026-11-23T15:04:05 or 2026-11-23T15:04:05+01:00", s))
}

func (e *env) exportCmd() *cobra.Command {
	var out, from, until, previous string
	var r admin.ExportRequest
	c := &cobra.Command{
		Use:   "export -o FILE",
		Short: "Write an evidence package",
		Long: `Writes one file that holds the headers of every entry of a period and, of the sessions asked for, everything: identities,
requests, answers. It verifies offline and is the same for the same period, filter and closing checkpoint, whoever exports.

The export is itself an entry in the book. Give the auditor the package and, by another way, the trust file of "gatebook keys".`,
		Example: "  gatebook evidence export -o q4.zip --from 2026-10-01 --until 2027-01-01\n" +
			"  gatebook evidence export -o run.zip --principal 'ci|repo:acme/orders'",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if r.From, err = parseTime(from); err != nil {
				return err
			}
			if r.Until, err = parseTime(until); err != nil {
				return err
			}
			if previous != "" {
				text, err := os.ReadFile(previous)
				if err != nil {
					return err
				}
				r.Previous = string(text)
			}
			return e.export(cmd, out, r)
		},
	}
	f := c.Flags()
	f.StringVarP(&out, "output", "o", "", "file to write; must not exist (required)")
	f.StringVar(&from, "from", "", "begin of the period (default: the book's begin)")
	f.StringVar(&until, "until", "", "end of the period (default: now)")
	f.StringVar(&r.Principal, "principal", "", "only this principal, as ISSUER|NAME")
	f.StringVar(&r.Target, "target", "", "only this target")
	f.StringVar(&r.Session, "session", "", "only this session")
	f.StringVar(&previous, "previous", "", "file with an earlier checkpoint that somebody kept; the package gets a proof for it")
	if err := c.MarkFlagRequired("output"); err != nil {
		panic(err)
	}
	return c
}

// export writes beside the file and renames at the end, so that there is never
// half a package under the name.
func (e *env) export(cmd *cobra.Command, out string, r admin.ExportRequest) (err error) {
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("%s exists already", out)
	}
	tmp, err := os.CreateTemp(filepath.Dir(out), ".gatebook-package-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	shown := false
	progress := func(done, total uint64) {
		if total > 1<<15 {
			shown = true
			fmt.Fprintf(e.stderr, "\r%d of %d entries", done, total)
		}
	}
	err = e.with(cmd.Context(), "gatebook evidence export", func(c *admin.Client) error {
		return c.Export(cmd.Context(), r, progress, tmp)
	})
	if shown {
		fmt.Fprintln(e.stderr)
	}
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err = os.Link(tmp.Name(), out); err != nil { // unlike a rename, this replaces nothing
		return err
	}
	_ = os.Remove(tmp.Name())
	fmt.Fprintln(e.stdout, "wrote", out)
	return nil
}

func (e *env) verifyCmd() *cobra.Command {
	var trustFile, previous string
	var scan bool
	c := &cobra.Command{
		Use:   "verify PACKAGE --trust FILE",
		Short: "Verify an evidence package offline",
		Long: `Checks a package from its bytes and the trust file alone: no network, no configuration, no book. The trust file must have come
to you apart from the package; "gatebook keys" prints it at the gateway.

Every request is decided again by the policy text that the log says was in force, and must get the recorded decision.

--previous takes a checkpoint that you kept from earlier (gatebook evidence checkpoint): the one check that even somebody
with root and all keys on the gateway cannot get around.

--scan also looks with the detectors for personal and secret values in everything that agents got, and lists what was not masked.

Exit code 0: verified. 1: must not be believed; the problems say where. 2: verified, with exceptions to look at.`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var o evidence.Options
			if scan {
				var err error
				if o.Scan, err = scanner(); err != nil {
					return err
				}
			}
			report, err := verify(cmd.Context(), args[0], trustFile, previous, o)
			if err != nil {
				return err
			}
			if e.json {
				err = e.printJSON(report)
			} else {
				e.printReport(args[0], report)
			}
			if err != nil {
				return err
			}
			if code := report.ExitCode(); code != exitOK {
				return &exitError{code: code}
			}
			return nil
		},
	}
	c.Flags().StringVar(&trustFile, "trust", "", "trust file (required)")
	c.Flags().StringVar(&previous, "previous", "", "file with an earlier checkpoint that you kept")
	c.Flags().BoolVar(&scan, "scan", false, "list personal and secret values that agents got unmasked")
	if err := c.MarkFlagRequired("trust"); err != nil {
		panic(err)
	}
	e.jsonFlag(c)
	return c
}

func verify(ctx context.Context, path, trustFile, previous string, o evidence.Options) (*evidence.Report, error) {
	text, err := os.ReadFile(trustFile)
	if err != nil {
		return nil, err
	}
	o.Judge = judge.Judge{}
	if o.Trust, err = evidence.ParseTrust(text); err != nil {
		return nil, err
	}
	if previous != "" {
		if o.Previous, err = os.ReadFile(previous); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	report, err := evidence.Verify(&stopping{ctx, f}, info.Size(), o)
	if ctx.Err() != nil {
		return nil, errors.New("stopped before the package was verified")
	}
	return report, err
}

// scanner returns what finds the kinds that are built in.
func scanner() (func([]byte) []string, error) {
	find, err := detect.New(detect.Options{})
	if err != nil {
		return nil, err
	}
	var hits []detect.Hit
	return func(text []byte) (kinds []string) {
		hits = find.Scan(hits[:0], text)
		for _, h := range hits {
			kinds = append(kinds, h.Kind)
		}
		return kinds
	}, nil
}

// stopping reads no further once its context has ended.
type stopping struct {
	ctx context.Context
	r   io.ReaderAt
}

// ReadAt implements io.ReaderAt.
func (s *stopping) ReadAt(p []byte, off int64) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.ReadAt(p, off)
}

func (e *env) printReport(name string, r *evidence.Report) {
	p := func(format string, args ...any) { fmt.Fprintf(e.stdout, format+"\n", args...) }
	p("container:     %s", r.Container)
	p("signer:        %s", r.Signer)
	p("integrity:     %s", r.Integrity)
	p("completeness:  %s", r.Completeness)
	p("identity:      %s", r.Identity)
	p("decisions:     %s", r.Decisions)
	p("anchoring:     %s", r.Anchoring)
	if s := r.Summary; s != nil {
		p("entries:       %d (from %d, up to and without %d) of %s, %d bodies disclosed",
			s.Stats.Entries, s.Scope.First, s.Scope.Size, printable(s.Scope.Origin), s.Stats.Disclosed)
		p("sessions:      %d; requests: %d allowed, %d held and released, %d refused; refused log-ins: %d",
			s.Stats.Sessions, s.Stats.Allowed, s.Stats.Released, s.Stats.Denied, s.Stats.Refused)
		p("sync modes:    %s", printable(strings.Join(s.Sync, ", ")))
	}
	for _, x := range r.Problems {
		p("PROBLEM        [%s] %s: %s", x.Aspect, printable(x.Where), printable(x.What))
	}
	for _, x := range r.Exceptions {
		p("exception      [%s] entry %d: %s", x.Code, x.Index, printable(x.What))
	}
	if r.Scanned {
		p("scan:          %s with values that were not masked", plural(len(r.Residual), "answer"))
	}
	for _, x := range r.Residual {
		p("unmasked       [%s] session %s, exchange %d (entry %d): %d", printable(x.Kind), x.Session, x.Exchange, x.Index, x.Values)
	}
	switch {
	case r.Failed():
		p("FAILED: %s must not be believed", name)
	case len(r.Exceptions) > 0:
		p("verified, with %s to look at", plural(len(r.Exceptions), "exception"))
	default:
		p("verified")
	}
}

func (e *env) checkpointCmd() *cobra.Command {
	return &cobra.Command{
		Use: "checkpoint", Short: "Print the latest signed checkpoint, to be kept outside of the gateway", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.with(cmd.Context(), "gatebook evidence checkpoint", func(c *admin.Client) error {
				var out struct{ Checkpoint string }
				if err := c.Call(cmd.Context(), http.MethodPost, "/v1/checkpoint", nil, &out); err != nil {
					return err
				}
				fmt.Fprint(e.stdout, out.Checkpoint)
				return nil
			})
		},
	}
}
