package cli

import (
	"errors"
	"fmt"
	"net/http"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/internal/admin"
)

func (e *env) checkCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, its secrets, issuers and targets",
		Long: `Reads the configuration, resolves every secret, asks every issuer for its keys, and logs in to every target with every role.
What it asks of targets is recorded in the book like everything else. It changes nothing.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []admin.Finding
			err := e.with(cmd.Context(), "gatebook check", func(c *admin.Client) error {
				return c.Call(cmd.Context(), http.MethodPost, "/v1/check", nil, &list)
			})
			if err != nil {
				return err
			}
			bad := 0
			for _, f := range list {
				if !f.OK {
					bad++
				}
			}
			if e.json {
				if err := e.printJSON(list); err != nil {
					return err
				}
			} else {
				w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
				for _, f := range list {
					state := "ok"
					if !f.OK {
						state = "FAILED"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\n", state, printable(f.What), printable(f.Detail))
				}
				if err := w.Flush(); err != nil {
					return err
				}
			}
			if bad > 0 {
				return errors.New(plural(bad, "check") + " failed")
			}
			return nil
		},
	}
	e.jsonFlag(c)
	return c
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
