package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/app"
)

func (e *env) queryCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "query SQL",
		Short: "Ask the book with SQL",
		Long: `Runs one read-only SQL statement (SQLite's dialect) over documented views of the book: sessions, exchanges, identities,
principals, targets, refusals, admin, continuity and more; see docs/query.md. The statement itself is recorded first.`,
		Example: `  gatebook query "SELECT time, principal, target, status, text FROM exchanges ORDER BY time DESC LIMIT 20"`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.with(cmd.Context(), "gatebook query", func(c *admin.Client) error {
				w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
				err := c.Lines(cmd.Context(), http.MethodPost, "/v1/query", map[string]string{"SQL": args[0]}, func(raw json.RawMessage) error {
					if e.json {
						_, err := fmt.Fprintln(e.stdout, string(raw))
						return err
					}
					var line struct {
						Columns []string
						Row     []any
					}
					if err := json.Unmarshal(raw, &line); err != nil {
						return err
					}
					cells := make([]string, 0, len(line.Columns)+len(line.Row))
					for _, name := range line.Columns {
						cells = append(cells, printable(name))
					}
					for _, v := range line.Row {
						if v == nil {
							v = ""
						}
						cells = append(cells, printable(fmt.Sprint(v)))
					}
					_, err := fmt.Fprintln(w, strings.Join(cells, "\t"))
					return err
				})
				if err != nil {
					return err
				}
				return w.Flush()
			})
		},
	}
	e.jsonFlag(c)
	return c
}

func (e *env) indexCmd() *cobra.Command {
	rebuild := &cobra.Command{
		Use: "rebuild", Short: "Make the query tables anew from the book", Args: exactly(0),
		Long: "The query tables are derived: they can be deleted and made anew at any time, from the book alone.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.with(cmd.Context(), "gatebook index rebuild", func(c *admin.Client) error {
				var last uint64
				err := c.Lines(cmd.Context(), http.MethodPost, "/v1/index/rebuild", nil, func(raw json.RawMessage) error {
					var p struct{ Done uint64 }
					if err := json.Unmarshal(raw, &p); err != nil {
						return err
					}
					last = p.Done
					fmt.Fprintf(e.stderr, "\r%d entries", last)
					return nil
				})
				fmt.Fprintln(e.stderr)
				if err != nil {
					return err
				}
				fmt.Fprintln(e.stdout, "rebuilt")
				return nil
			})
		},
	}
	return group("index", "The query tables", rebuild)
}

func (e *env) keysCmd() *cobra.Command {
	return &cobra.Command{
		Use: "keys", Short: "Print the trust file: the public keys that verify this gateway's evidence", Args: exactly(0),
		Long: `Prints the trust file that "gatebook evidence verify" and verify.sh need. Hand it to auditors by another way than packages, best
before there is anything to audit, and let them confirm its digest with you.`,
		Example: "  gatebook keys > trust.txt",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := e.load()
			if err != nil {
				return err
			}
			keys, err := app.LoadKeys(cfg)
			if err != nil {
				return err
			}
			fmt.Fprint(e.stdout, keys.TrustFile())
			return nil
		},
	}
}
