package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/internal/app"
	"github.com/gatebook/gatebook/internal/vfs"
)

func (e *env) serveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Long: `Runs the gateway until SIGTERM or SIGINT, which drain: no new connections, running requests may end, then sessions end and
the book is closed. A second signal ends the draining, never the closing of the book. SIGHUP reads the configuration again.

Logs are JSON on standard error and never hold payloads. If the book cannot be written any more the gate closes and the
process ends with code 1: start it again, and it recovers.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := e.logger()
			if err != nil {
				return err
			}
			cfg, err := e.load()
			if err != nil {
				return err
			}
			a, err := app.New(cmd.Context(), cfg, vfs.OS(), Version(), log)
			if err != nil {
				return err
			}
			for _, b := range a.Addresses() {
				log.Info("listening", "protocol", string(b.Protocol), "address", b.Address)
			}
			if addr := a.OpsAddress(); addr != "" {
				log.Info("listening", "protocol", "ops", "address", addr)
			}
			if url := a.ConsoleURL(); url != "" {
				log.Info("listening", "protocol", "console", "address", a.ConsoleAddress(), "url", url)
			}
			hard, stop := context.WithCancelCause(context.WithoutCancel(cmd.Context()))
			defer stop(nil)
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
			defer signal.Stop(signals)
			done := make(chan struct{})
			go func() {
				ends := 0
				for {
					select {
					case <-done:
						return
					case s := <-signals:
						if s == syscall.SIGHUP {
							if err := a.Reload(hard); err != nil {
								log.Error("reload", "err", err)
							}
							continue
						}
						if ends++; ends > 1 {
							stop(errors.New("a second signal"))
						}
					}
				}
			}()
			err = a.Run(cmd.Context(), hard)
			close(done)
			return err
		},
	}
}
