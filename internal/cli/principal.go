package cli

import (
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/enforce"
)

func (e *env) principalCmd() *cobra.Command {
	c := group("principal", "Stop a principal, let it in again, and list those that are stopped", e.principalSuspend(), e.principalResume(), e.principalList())
	c.Long = `Suspending a principal ends all its sessions at once, with what they run at the target, withdraws what waits for people, and refuses
its log-ins until it is resumed, also after a restart. A principal is named "issuer|name", as "gatebook session list" prints it.`
	return c
}

func (e *env) principalSuspend() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "suspend NAME --reason TEXT", Short: "End everything that a principal has open, and keep it out",
		Long:    "Ends everything that a principal has open, and keeps it out until \"gatebook principal resume\". The reason is recorded, and its agent reads it.",
		Example: `  gatebook principal suspend "ci|repo:acme/orders:ref:refs/heads/main" --reason "runs amok"`,
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var out admin.SuspendAnswer
			err := e.with(cmd.Context(), "gatebook principal suspend", func(c *admin.Client) error {
				return c.Call(cmd.Context(), http.MethodPost, "/v1/principals/suspend", admin.SuspendRequest{Principal: args[0], Reason: reason}, &out)
			})
			if err != nil {
				return err
			}
			if e.json {
				return e.printJSON(out)
			}
			fmt.Fprintf(e.stdout, "suspended %s; sessions ended: %d\n", printable(args[0]), out.Ended)
			return nil
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why (required)")
	if err := c.MarkFlagRequired("reason"); err != nil {
		panic(err)
	}
	e.jsonFlag(c)
	return c
}

func (e *env) principalResume() *cobra.Command {
	return &cobra.Command{
		Use: "resume NAME", Short: "Let a suspended principal in again", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.with(cmd.Context(), "gatebook principal resume", func(c *admin.Client) error {
				err := c.Call(cmd.Context(), http.MethodPost, "/v1/principals/resume", admin.SuspendRequest{Principal: args[0]}, &struct{}{})
				if err == nil {
					fmt.Fprintln(e.stdout, "resumed", printable(args[0]))
				}
				return err
			})
		},
	}
}

func (e *env) principalList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the principals that are suspended", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []enforce.Suspension
			err := e.with(cmd.Context(), "gatebook principal list", func(c *admin.Client) error {
				return c.Call(cmd.Context(), http.MethodGet, "/v1/principals/suspended", nil, &list)
			})
			if err != nil {
				return err
			}
			if e.json {
				return e.printJSON(list)
			}
			w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "PRINCIPAL\tSINCE\tBY\tREASON")
			for _, s := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", printable(s.Principal), s.At.Format(time.DateTime), printable(s.By), oneLine(s.Reason, 100))
			}
			return w.Flush()
		},
	}
	e.jsonFlag(c)
	return c
}
