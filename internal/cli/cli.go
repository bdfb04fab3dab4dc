// Package cli is the command line: one file a command. Commands that touch
// the book speak to the running gateway over its socket, or open the book themselves if none runs.
//
// Exit codes: 0 success; 1 failure, or a package that must not be believed; 2
// a verified package with listed exceptions; 3 the command line was not understood.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/app"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/vfs"
)

// Exit codes.
const (
	exitOK         = 0
	exitFailed     = 1
	exitExceptions = 2
	exitUsage      = 3
)

// exitError carries an exit code; its error may be nil when everything was said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// env is what commands share.
type env struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	config string
	data   string
	json   bool
	level  string
}

// Version is the program's version, from the build's own information.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 && version == "devel" {
			version += "-" + s.Value[:12]
		}
	}
	return version
}

// Main runs the command line and returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{stdin: stdin, stdout: stdout, stderr: stderr}
	root := e.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var ex *exitError
	if errors.As(err, &ex) {
		if ex.err != nil {
			fmt.Fprintln(stderr, "gatebook:", ex.err)
		}
		return ex.code
	}
	fmt.Fprintln(stderr, "gatebook:", err)
	// These two come from cobra itself, which has no type for them.
	if text := err.Error(); strings.HasPrefix(text, "required flag(s) ") || strings.HasPrefix(text, "unknown command ") {
		return exitUsage
	}
	return exitFailed
}

// usage marks an error of the command line itself.
func usage(err error) error { return &exitError{exitUsage, err} }

func (e *env) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "gatebook",
		Short: "The gate that keeps the book",
		Long: `Gatebook stands in the data path between autonomous agents and the databases they act on. It verifies the agent's OIDC
token, forwards a stock client's requests with a credential that the agent never sees, and records every request and answer
in a book that cannot be rewritten unnoticed. From the book it exports evidence packages that verify offline.

A new gateway:   gatebook init --origin gate.example.com && gatebook check && gatebook serve
An agent:        gatebook connect TARGET
An auditor:      gatebook evidence export -o package.zip && gatebook evidence verify package.zip --trust trust.txt`,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVarP(&e.config, "config", "c", "gatebook.yaml", "configuration file")
	root.PersistentFlags().StringVar(&e.data, "data", "", "refuse a configuration that names another data directory than this one")
	root.PersistentFlags().StringVar(&e.level, "log-level", "info", "least level of the log on standard error: debug, info, warn, error")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(e.initCmd(), e.serveCmd(), e.checkCmd(), e.connectCmd(), e.requestCmd(), e.sessionCmd(), e.principalCmd(), e.ticketCmd(), e.accessCmd(), e.queryCmd(), e.evidenceCmd(),
		e.policyCmd(), e.keysCmd(), e.indexCmd(), e.devCmd(), e.versionCmd())
	return root
}

// exactly is cobra.ExactArgs with this program's exit code.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return usage(fmt.Errorf("%w; see %s --help", err, cmd.CommandPath()))
		}
		return nil
	}
}

// group makes a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("unknown command %q; see %s --help", args[0], cmd.CommandPath()))
			}
			return cmd.Help()
		},
	}
	c.AddCommand(subs...)
	return c
}

func (e *env) jsonFlag(c *cobra.Command) { c.Flags().BoolVar(&e.json, "json", false, "print JSON") }

// printJSON writes a value as indented JSON.
func (e *env) printJSON(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (e *env) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(e.level)); err != nil {
		return nil, usage(fmt.Errorf("--log-level %q: want debug, info, warn or error", e.level))
	}
	return slog.New(slog.NewJSONHandler(e.stderr, &slog.HandlerOptions{Level: level})), nil
}

// load reads the configuration.
func (e *env) load() (*config.Loaded, error) {
	c, err := config.Load(e.config)
	var problems config.Problems
	if errors.As(err, &problems) {
		return nil, fmt.Errorf("the configuration has %s:\n%w", plural(len(problems), "problem"), err)
	}
	if err == nil {
		err = e.pinned(c)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// pinned refuses a data directory other than that of --data. The signers in force are kept in
// it, so that whoever writes the configuration could else name a directory where nobody must sign. Names
// are compared, not what they lead to: a link could lead elsewhere a moment later.
func (e *env) pinned(c *config.Loaded) error {
	if e.data == "" {
		return nil
	}
	want, err := filepath.Abs(e.data)
	if err != nil {
		return err
	}
	if got := app.DataDir(c); got != want {
		return fmt.Errorf("the configuration names the data directory %q, and --data says %q: write data: %s", got, want, want)
	}
	return nil
}

// client returns a client of the running gateway, or of the book opened here
// for the purpose. done must be called.
func (e *env) client(ctx context.Context, purpose string) (c *admin.Client, done func() error, err error) {
	cfg, err := e.load()
	if err != nil {
		return nil, nil, err
	}
	c, err = admin.Dial(ctx, app.SocketPath(cfg))
	if err == nil {
		return c, func() error { return nil }, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, nil, fmt.Errorf("the gateway's socket is for its own user only: %w", err)
	}
	log := slog.New(slog.NewJSONHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := app.OpenBook(ctx, cfg, vfs.OS(), Version(), purpose, log)
	if err != nil {
		return nil, nil, err
	}
	return admin.Local(b.Admin, admin.Self()), func() error {
		return b.Close(context.WithoutCancel(ctx), purpose+" is done")
	}, nil
}

// with runs f with a client.
func (e *env) with(ctx context.Context, purpose string, f func(*admin.Client) error) error {
	c, done, err := e.client(ctx, purpose)
	if err != nil {
		return err
	}
	return errors.Join(f(c), done())
}
