package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/admin"
)

func (e *env) accessCmd() *cobra.Command {
	return group("access", "Who may do what on the targets", e.accessList())
}

// accessReport is a list of access with what it follows from.
type accessReport struct {
	admin.AccessBasis
	Access []admin.Access `json:"access"`
}

func (e *env) accessList() *cobra.Command {
	var r admin.AccessRequest
	var at string
	var asCSV bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List who could do what on which target",
		Long: `Lists, for each principal that has opened a session and each target and role that it is admitted to, what its requests get for each
effect: allow, hold or deny for certain, or from which to which, depending on what else a request does. The column opaque is about requests that
the gateway does not understand: they may have every effect.

The answer follows from the book: the configuration in force at the time and the newest identity of each principal by then. Of a principal
that has never come nothing is known. A date stands for its first moment. The reading is an entry in the book. docs/policy.md says how to read the table.`,
		Example: "  gatebook access list --target orders\n  gatebook access list --at 2026-03-03T12:00:00Z --csv > access.csv",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if e.json && asCSV {
				return usage(errors.New("--json and --csv exclude each other; give one"))
			}
			var err error
			if r.At, err = parseTime(at); err != nil {
				return err
			}
			report := accessReport{Access: []admin.Access{}}
			err = e.with(cmd.Context(), "gatebook access list", func(c *admin.Client) error {
				return c.Lines(cmd.Context(), http.MethodPost, "/v1/access", r, report.add)
			})
			switch {
			case err != nil:
				return err
			case e.json:
				return e.printJSON(report)
			case asCSV:
				return e.printAccessCSV(&report)
			}
			return e.printAccess(&report)
		},
	}
	f := c.Flags()
	f.StringVar(&at, "at", "", "time to list for, such as 2026-03-03T12:00:00Z (default: now)")
	f.StringVar(&r.Principal, "principal", "", "only this principal, as ISSUER|NAME")
	f.StringVar(&r.Target, "target", "", "only this target")
	f.BoolVar(&r.All, "all", false, "also the targets and roles that a principal is not admitted to")
	f.BoolVar(&asCSV, "csv", false, "print CSV")
	e.jsonFlag(c)
	return c
}

// add takes in a line of the answer.
func (r *accessReport) add(raw json.RawMessage) error {
	var line struct {
		Basis  *admin.AccessBasis
		Access *admin.Access
	}
	if err := json.Unmarshal(raw, &line); err != nil {
		return err
	}
	switch {
	case line.Basis != nil:
		r.AccessBasis = *line.Basis
	case line.Access != nil:
		r.Access = append(r.Access, *line.Access)
	}
	return nil
}

// verdictRange writes a range of verdicts; short uses letters where the ends differ.
func verdictRange(x *admin.VerdictRange, short bool) string {
	from, to := x.Strictest.Verdict, x.Mildest.Verdict
	switch {
	case from == to:
		return from
	case short:
		return from[:1] + ".." + to[:1]
	}
	return from + ".." + to
}

// accessColumns are the columns of verdicts, and the cells of a line in them; none where the principal is not admitted.
func accessColumns() []string { return append(access.EffectNames(), "opaque") }

func accessCells(a *admin.Access, short bool) (cells []string) {
	for i := range a.Effects {
		cells = append(cells, verdictRange(&a.Effects[i].VerdictRange, short))
	}
	if a.Opaque != nil {
		cells = append(cells, verdictRange(a.Opaque, short))
	}
	return cells
}

// groupsText joins groups, and says how many are left out of a list that would fill the line.
func groupsText(groups []string) string {
	const most = 40
	var b strings.Builder
	for i, g := range groups {
		if i > 0 && b.Len()+len(g) > most {
			fmt.Fprintf(&b, " +%d", len(groups)-i)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(printable(g))
	}
	return b.String()
}

func (e *env) printAccess(r *accessReport) error {
	w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprint(w, "PRINCIPAL\tGROUPS\tTARGET\tROLE")
	for _, name := range accessColumns() {
		fmt.Fprint(w, "\t", strings.ToUpper(name))
	}
	fmt.Fprintln(w)
	for i := range r.Access {
		a := &r.Access[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s", printable(a.Principal), groupsText(a.Groups), printable(a.Target), printable(a.Role))
		if a.Session != "" {
			fmt.Fprint(w, ", session ", a.Session)
		}
		if !a.Admitted && a.Session == "" {
			fmt.Fprint(w, "\tnot admitted")
		}
		for _, cell := range accessCells(a, true) {
			fmt.Fprint(w, "\t", cell)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(e.stdout, `
At %s, by the configuration in force since %s (entry %d), for %s.
allow, hold, deny: what every request with that effect gets. d..a, d..h, h..a: from the first to the second (deny, hold, allow), depending on
what else the request does. OPAQUE: requests that the gateway does not understand, which may have every effect. "session": one that was
open and goes on with what it began with. --json names the rules.
`, r.At.Format(time.RFC3339), r.Since.Format(time.RFC3339), r.Entry, plural(r.Principals, "principal"))
	return err
}

func (e *env) printAccessCSV(r *accessReport) error {
	line := func(fields ...string) error {
		var b []byte
		for i, f := range fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = evidence.AppendCSV(b, f)
		}
		_, err := e.stdout.Write(append(b, '\r', '\n'))
		return err
	}
	columns := accessColumns()
	if err := line(append([]string{"at", "configuration", "principal", "groups", "owner", "seen", "target", "role", "session", "admitted"}, columns...)...); err != nil {
		return err
	}
	for i := range r.Access {
		a := &r.Access[i]
		fields := []string{
			r.At.Format(time.RFC3339Nano), r.SHA256, a.Principal, strings.Join(a.Groups, " "), a.Owner, a.Seen.Format(time.RFC3339Nano), a.Target, a.Role, a.Session,
			strconv.FormatBool(a.Admitted),
		}
		cells := accessCells(a, false)
		cells = append(cells, make([]string, len(columns)-len(cells))...)
		if err := line(append(fields, cells...)...); err != nil {
			return err
		}
	}
	return nil
}
