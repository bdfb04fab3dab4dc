package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/sqlscan"
)

func (e *env) requestCmd() *cobra.Command {
	var file, role, reason string
	c := &cobra.Command{
		Use:   "request TARGET[/DATABASE] --file F.sql",
		Short: "Ask people once for an ordered list of statements, and run it",
		Long: `For agents: sends the statements of a file to the gateway as one list, waits until people have ruled on all of it, and runs the
statements in that order, each once. It ends at the first that fails. If no rule holds any of them, nobody is asked.

The token is taken from PGPASSWORD or a passfile, as psql does. In place of a target's name a connection URI can stand, so that no
configuration is needed; what it leaves out comes from the PG* variables ("postgres://" alone takes all from there).

Comments between statements may fall away. A list has at most 100 statements and 256 KiB, and is asked for outside of a transaction.`,
		Example: "  PGPASSWORD=$TOKEN gatebook request orders --file cleanup.sql --reason \"ticket OPS-17\"",
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			statements, err := sqlscan.Split(string(text))
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			list := &sqlscan.List{Statements: statements, Reason: reason}
			ask, err := list.Text()
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			conn, err := e.agent(cmd.Context(), args[0], role)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close(context.WithoutCancel(cmd.Context())) }()
			if err := conn.Exec(cmd.Context(), ask).Close(); err != nil {
				return fmt.Errorf("the list is refused, and nothing of it ran: %w", told(err))
			}
			return e.runList(cmd.Context(), conn, statements)
		},
	}
	c.Flags().StringVar(&file, "file", "", "the statements, in the order in which they are to run")
	c.Flags().StringVar(&role, "role", "", "role at the target (default: its only one, or \"default\")")
	c.Flags().StringVar(&reason, "reason", "", "why, for those who rule")
	if err := c.MarkFlagRequired("file"); err != nil {
		panic(err)
	}
	return c
}

// agent connects to a target as an agent does. Notices go to standard error.
func (e *env) agent(ctx context.Context, target, role string) (*pgconn.PgConn, error) {
	uri := target
	if !strings.Contains(target, "://") {
		cfg, err := e.load()
		if err != nil {
			return nil, err
		}
		s, err := settings(cfg, target, role)
		if err != nil {
			return nil, err
		}
		uri = s["uri"]
	}
	c, err := pgconn.ParseConfig(uri)
	if err != nil {
		return nil, usage(err)
	}
	if c.Password == "" {
		return nil, usage(errors.New("there is no token: put it into PGPASSWORD or a passfile"))
	}
	c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		fmt.Fprintln(e.stderr, n.Severity+":", printable(n.Message))
		for _, more := range []string{n.Detail, n.Hint} {
			if more != "" {
				fmt.Fprintln(e.stderr, "  "+printable(more))
			}
		}
	}
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, told(err)
	}
	return conn, nil
}

// runList sends an approved list's statements one by one.
func (e *env) runList(ctx context.Context, conn *pgconn.PgConn, statements []string) error {
	for i, text := range statements {
		if err := e.runOne(conn.Exec(ctx, evidence.TrimStatement(text))); err != nil {
			rest := "it was the last"
			if n := len(statements) - i - 1; n > 0 {
				rest = "not run: " + plural(n, "statement") + " after it"
			}
			return fmt.Errorf("statement %d failed (%s); %s: %w", i+1, oneLine(text, 60), rest, told(err))
		}
	}
	if conn.TxStatus() != 'I' {
		return errors.New("the list ends inside of a transaction, which is rolled back: end it with COMMIT")
	}
	return nil
}

// runOne prints what a statement returns: its rows, separated by tabs below their names, and its tag.
func (e *env) runOne(results *pgconn.MultiResultReader) error {
	for results.NextResult() {
		r := results.ResultReader()
		for i, f := range r.FieldDescriptions() {
			if i > 0 {
				fmt.Fprint(e.stdout, "\t")
			}
			fmt.Fprint(e.stdout, printable(f.Name))
		}
		if len(r.FieldDescriptions()) > 0 {
			fmt.Fprintln(e.stdout)
		}
		for r.NextRow() {
			for i, v := range r.Values() {
				if i > 0 {
					fmt.Fprint(e.stdout, "\t")
				}
				fmt.Fprint(e.stdout, printable(string(v)))
			}
			fmt.Fprintln(e.stdout)
		}
		tag, err := r.Close()
		if err != nil {
			return errors.Join(err, results.Close())
		}
		fmt.Fprintln(e.stdout, tag)
	}
	return results.Close()
}

// told is an error as its reader needs it: of a server's, what it says, and where to look for more.
func told(err error) error {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return err
	}
	text := printable(said.Message) + " (SQLSTATE " + said.Code + ")"
	for _, more := range []string{said.Detail, said.Hint} {
		if more != "" {
			text += "\n  " + printable(more)
		}
	}
	return errors.New(text)
}
