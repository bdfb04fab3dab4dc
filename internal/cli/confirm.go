package cli

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
)

func (e *env) confirmCmd() *cobra.Command {
	var trustFile, key, value, raw string
	var null bool
	claim := evidence.CellClaim{Statement: 1, Row: 1, Column: 1}
	c := &cobra.Command{
		Use:   "confirm PACKAGE --trust FILE --session ID --exchange N --row N --column N [--key KEY (--value TEXT | --base64 BYTES | --null)]",
		Short: "Prove what was masked in one cell",
		Long: `Verifies a package, and says whether a value that you know is the one that was masked in a cell of an answer.

Without --key it says which number the cell has. The gateway's operator releases the cell's key by that number with
"gatebook session cell-key", which is an entry in the book; a key tells nothing of any other cell.

Exit code 0: it is the value, or the cell was found. 1: it is not, or the package must not be believed.`,
		Example: "  gatebook evidence confirm p.zip --trust trust.txt --session h5…a --exchange 3 --row 1 --column 2\n" +
			"  gatebook evidence confirm p.zip --trust trust.txt --session h5…a --exchange 3 --row 1 --column 2 --key 6f…12 --value anna@example.com",
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := cmd.Flags()
			ways := 0
			for _, name := range []string{"value", "base64", "null"} {
				if f.Changed(name) {
					ways++
				}
			}
			if (key != "") != (ways == 1) || ways > 1 {
				return usage(errors.New("give --key with one of --value, --base64 and --null, or none of them to ask for the cell's number"))
			}
			var err error
			if claim.Key, err = hex.DecodeString(key); err != nil {
				return usage(fmt.Errorf("--key is not hexadecimal: %w", err))
			}
			claim.Value, claim.Null = []byte(value), null
			if raw != "" {
				if claim.Value, err = base64.StdEncoding.DecodeString(raw); err != nil {
					return usage(fmt.Errorf("--base64: %w", err))
				}
			}
			if claim.Statement < 1 || claim.Column < 1 {
				return usage(errors.New("--statement and --column count from 1"))
			}
			claim.Statement, claim.Column = claim.Statement-1, claim.Column-1
			report, err := verify(cmd.Context(), args[0], trustFile, "", evidence.Options{Cell: &claim})
			if err != nil {
				return err
			}
			return e.printCell(args[0], report, &claim)
		},
	}
	f := c.Flags()
	f.StringVar(&trustFile, "trust", "", "trust file (required)")
	f.StringVar(&claim.Session, "session", "", "session of the answer (required)")
	f.Uint64Var(&claim.Exchange, "exchange", 0, "number of the request in the session (required)")
	f.IntVar(&claim.Statement, "statement", 1, "which statement of the request")
	f.Uint64Var(&claim.Row, "row", 1, "row of the answer, from 1")
	f.IntVar(&claim.Column, "column", 1, "column of the answer, from 1")
	f.StringVar(&key, "key", "", "the cell's key, in hexadecimal")
	f.StringVar(&value, "value", "", "the value, as the target sent it")
	f.StringVar(&raw, "base64", "", "the value, in base64")
	f.BoolVar(&null, "null", false, "the value was NULL")
	for _, name := range []string{"trust", "session", "exchange"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	e.jsonFlag(c)
	return c
}

func (e *env) printCell(path string, report *evidence.Report, claim *evidence.CellClaim) error {
	if report.Failed() {
		e.printReport(path, report)
		return &exitError{code: report.ExitCode()}
	}
	a := report.Cell
	if a == nil {
		return fmt.Errorf("the package has no answer of exchange %d of session %s", claim.Exchange, claim.Session)
	}
	if e.json {
		if err := e.printJSON(a); err != nil {
			return err
		}
	}
	switch {
	case a.Problem != "":
		return errors.New(a.Problem)
	case e.json:
	case len(claim.Key) == 0:
		fmt.Fprintf(e.stdout, "cell %d, masked by %s (%s)\nits key: gatebook session cell-key %s %d %d --reason WHY\n", a.Cell, a.Mask, a.Column, claim.Session, claim.Exchange, a.Cell)
	case a.Confirmed:
		fmt.Fprintf(e.stdout, "confirmed: this value was masked by %s (%s) in cell %d\n", a.Mask, a.Column, a.Cell)
	default:
		fmt.Fprintf(e.stdout, "not confirmed: another value, or the key of another cell (cell %d, %s)\n", a.Cell, a.Column)
	}
	if len(claim.Key) > 0 && !a.Confirmed {
		return &exitError{code: exitFailed}
	}
	return nil
}

func (e *env) cellKeyCmd() *cobra.Command {
	var r admin.CellKeyRequest
	c := &cobra.Command{
		Use:   "cell-key SESSION EXCHANGE CELL --reason WHY",
		Short: "Release the key of one masked cell",
		Long: `Prints the key with which "gatebook evidence confirm" proves what was masked in one cell. Releasing it is an entry in the book. The
key tells nothing of any other cell. CELL is the number that "gatebook evidence confirm" says.`,
		Args: exactly(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			for i, n := range []*uint64{&r.Exchange, &r.Cell} {
				if _, err := fmt.Sscanf(args[i+1], "%d", n); err != nil {
					return usage(fmt.Errorf("%q is not a number", args[i+1]))
				}
			}
			return e.with(cmd.Context(), "gatebook session cell-key", func(c *admin.Client) error {
				var out admin.CellKey
				if err := c.Call(cmd.Context(), http.MethodPost, "/v1/sessions/"+args[0]+"/cell-key", &r, &out); err != nil {
					return err
				}
				fmt.Fprintln(e.stdout, out.Key)
				return nil
			})
		},
	}
	c.Flags().StringVar(&r.Reason, "reason", "", "why it is released (required)")
	if err := c.MarkFlagRequired("reason"); err != nil {
		panic(err)
	}
	return c
}
