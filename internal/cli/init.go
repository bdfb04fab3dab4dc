package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/internal/app"
)

func (e *env) initCmd() *cobra.Command {
	var origin string
	c := &cobra.Command{
		Use:   "init [DIRECTORY]",
		Short: "Make keys, a local CA, an example configuration and an empty book",
		Long: `Makes everything a new gateway needs in DIRECTORY (default: here) and changes nothing that exists.

The origin names the book in every checkpoint and package, for as long as the book lives. Use a name that is yours, such as
the gateway's host name: gate.example.com or gate.example.com/prod.

Keep copies of keys/ in a safe place: without keys/kek the book's bodies cannot be read any more. Hand the output of
"gatebook keys" to your auditors now, before there is anything to audit.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.MaximumNArgs(1)(cmd, args); err != nil {
				return usage(err)
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			made, err := app.Init(dir, origin)
			if err != nil {
				return err
			}
			for _, name := range made {
				fmt.Fprintln(e.stdout, "made", name)
			}
			fmt.Fprintf(e.stdout, "\nNext: describe your issuers and targets in %s/gatebook.yaml, then\n"+
				"  gatebook check    says whether everything can be reached\n  gatebook serve    starts the gateway\n", dir)
			return nil
		},
	}
	c.Flags().StringVar(&origin, "origin", "", "name of the book, such as gate.example.com (required)")
	if err := c.MarkFlagRequired("origin"); err != nil {
		panic(err)
	}
	return c
}

func (e *env) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(e.stdout, "gatebook", Version())
			return nil
		},
	}
}
