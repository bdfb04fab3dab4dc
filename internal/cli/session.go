package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
)

func (e *env) sessionCmd() *cobra.Command {
	return group("session", "List, show, follow, end and prolong sessions",
		e.sessionList(), e.sessionShow(false), e.sessionShow(true), e.sessionEnd(), e.sessionRenew(), e.cellKeyCmd())
}

func (e *env) sessionList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the open sessions", Args: exactly(0),
		Long: "Lists the sessions that are open now. Past ones: gatebook query \"SELECT * FROM sessions\".",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []admin.OpenSession
			err := e.with(cmd.Context(), "gatebook session list", func(c *admin.Client) error {
				return c.Call(cmd.Context(), http.MethodGet, "/v1/sessions", nil, &list)
			})
			if err != nil {
				return err
			}
			if e.json {
				return e.printJSON(list)
			}
			w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "SESSION\tPRINCIPAL\tTARGET\tROLE\tSINCE\tREQUESTS\tRUNNING\tIDENTITY EXPIRES")
			for _, s := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", s.ID, printable(s.Principal), s.Target, printable(s.Role),
					s.Began.Format(time.DateTime), s.Exchanges, s.Running, s.End.Format(time.DateTime))
			}
			return w.Flush()
		},
	}
	e.jsonFlag(c)
	return c
}

func (e *env) sessionShow(follow bool) *cobra.Command {
	use, short, path := "show ID", "Show what happened in a session", ""
	if follow {
		use, short, path = "tail ID", "Follow a session until it ends", "?follow=1"
	}
	c := &cobra.Command{
		Use: use, Short: short, Args: exactly(1),
		Long: short + ". The reading is an entry in the book. With --json each line is one entry; answers stand in evidence packages.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := evidence.ParseID(args[0]); err != nil || args[0] == "" {
				return usage(fmt.Errorf("%q is not a session id; gatebook session list shows those that are open", args[0]))
			}
			return e.with(cmd.Context(), "gatebook session show", func(c *admin.Client) error {
				return c.Lines(cmd.Context(), http.MethodGet, "/v1/sessions/"+args[0]+path, nil, func(raw json.RawMessage) error {
					if e.json {
						_, err := fmt.Fprintln(e.stdout, string(raw))
						return err
					}
					var ev admin.Event
					if err := json.Unmarshal(raw, &ev); err != nil {
						return err
					}
					printEvent(e.stdout, &ev)
					return nil
				})
			})
		},
	}
	e.jsonFlag(c)
	return c
}

// printEvent writes one entry for a person, one line but for statements.
func printEvent(w io.Writer, ev *admin.Event) {
	head := fmt.Sprintf("%s %6d %-11s", ev.Time.Format("15:04:05.000"), ev.Index, ev.Kind)
	if ev.Missing != "" {
		fmt.Fprintln(w, head, printable(ev.Missing))
		return
	}
	switch ev.Kind {
	case evidence.KindSession:
		var b evidence.Session
		_ = json.Unmarshal(ev.Body, &b)
		fmt.Fprintf(w, "%s %s|%s to %s as %s from %s\n", head,
			b.Principal.Issuer, printable(b.Principal.Name), b.Target.Name, printable(b.Role), printable(b.Source))
	case evidence.KindIntent:
		var b evidence.Intent
		_ = json.Unmarshal(ev.Body, &b)
		who := ""
		if b.Origin != "" {
			who = " (the gateway's own)"
		}
		fmt.Fprintf(w, "%s #%d %s %s by %s%s: %s\n", head, ev.Exchange, ev.Decision, printable(b.Op), printable(b.Rule), who, printable(b.Shown().Text))
	case evidence.KindOutcome:
		var b evidence.Outcome
		_ = json.Unmarshal(ev.Body, &b)
		fmt.Fprintf(w, "%s #%d %s %s%s %s, %d rows, %d bytes, %.1f ms\n", head, ev.Exchange, printable(b.Status), printable(b.Tag), printable(b.Code),
			printable(b.Message), b.Rows, b.Bytes, float64(b.TotalUS)/1000)
	case evidence.KindRequest, evidence.KindAnswer:
		fmt.Fprintf(w, "%s #%d %d bytes\n", head, ev.Exchange, ev.Bytes)
	default:
		fmt.Fprintln(w, head, printable(string(ev.Body)))
	}
}

// printable keeps agent-written text from moving the cursor or lying about
// lines: what a terminal would act on is shown as escapes.
func printable(s string) string {
	if len(s) > 2000 {
		s = s[:2000] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		return r
	}, evidence.Plain(s))
}

func (e *env) sessionEnd() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "end ID", Short: "End an open session and cancel what it runs", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.with(cmd.Context(), "gatebook session end", func(c *admin.Client) error {
				in := map[string]string{"Reason": reason}
				if err := c.Call(cmd.Context(), http.MethodPost, "/v1/sessions/"+args[0]+"/end", in, &struct{}{}); err != nil {
					return err
				}
				fmt.Fprintln(e.stdout, "ended", args[0])
				return nil
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "what the agent is told")
	return c
}

func (e *env) sessionRenew() *cobra.Command {
	return &cobra.Command{
		Use: "renew ID", Short: "Prolong an open session with a fresh token from standard input", Args: exactly(1),
		Long: `Reads a fresh token of the session's own issuer and subject from standard input and prolongs the session with it. Agents can
do the same in band: SET gatebook.token = 'TOKEN'.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := io.ReadAll(io.LimitReader(e.stdin, 64<<10))
			if err != nil {
				return err
			}
			return e.with(cmd.Context(), "gatebook session renew", func(c *admin.Client) error {
				in := map[string]string{"Token": strings.TrimSpace(string(token))}
				if err := c.Call(cmd.Context(), http.MethodPost, "/v1/sessions/"+args[0]+"/renew", in, &struct{}{}); err != nil {
					return err
				}
				fmt.Fprintln(e.stdout, "prolonged", args[0])
				return nil
			})
		},
	}
}
