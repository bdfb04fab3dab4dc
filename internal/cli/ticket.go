package cli

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/app"
	"github.com/gatebook/gatebook/internal/approval"
	"github.com/gatebook/gatebook/internal/identity"
)

func (e *env) ticketCmd() *cobra.Command {
	c := group("ticket", "Requests that wait for people: list, show and rule",
		e.ticketList(), e.ticketShow(), e.ticketWatch(), e.ticketRule(approval.Approve), e.ticketRule(approval.Deny), e.ticketRule(approval.BreakGlass),
		e.ticketStatement(), e.ticketSubmit())
	c.Long = `A rule that holds lets a request wait on its agent's own connection until people have ruled on exactly that request. A ruling is
proven by the person, with an SSH key or a sign-in that "people" in the configuration names: the gateway cannot make one. The guide is docs/approvals.md.`
	return c
}

func (e *env) tickets(cmd *cobra.Command) (list []*admin.Ticket, err error) {
	err = e.with(cmd.Context(), "gatebook ticket", func(c *admin.Client) error {
		return c.Call(cmd.Context(), http.MethodGet, "/v1/tickets", nil, &list)
	})
	return list, err
}

func (e *env) ticketList() *cobra.Command {
	all := false
	c := &cobra.Command{
		Use: "list", Short: "List the requests that wait", Args: exactly(0),
		Long: "Lists the requests that wait now; with --all also those of the last hours that ended. Older ones: evidence packages, table P4.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := e.tickets(cmd)
			if err != nil {
				return err
			}
			shown := []*admin.Ticket{}
			for _, t := range list {
				if all || t.State == string(approval.Open) {
					shown = append(shown, t)
				}
			}
			if e.json {
				return e.printJSON(shown)
			}
			w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "TICKET\tSTATE\tLEFT\tPRINCIPAL\tTARGET\tRULES\tREQUEST")
			type line struct {
				*admin.Ticket
				covers evidence.TicketBound
				same   int
			}
			var lines []*line
			seen := map[string]*line{}
			for _, t := range shown {
				b, err := covers(t)
				if err != nil {
					return err
				}
				if first := seen[t.Request(&b)]; first != nil && t.State == string(approval.Open) {
					first.same++
					continue
				}
				l := &line{Ticket: t, covers: b}
				seen[t.Request(&b)] = l
				lines = append(lines, l)
			}
			for _, t := range lines {
				b := &t.covers
				text := oneLine(b.Line(), 80)
				if t.same > 0 {
					text += fmt.Sprintf(" (and %d more of the same request)", t.same)
				}
				left := "-"
				if t.State == string(approval.Open) {
					left = time.Until(t.Expires).Round(time.Second).String()
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, stateOf(t.Ticket), left, printable(b.Principal), printable(b.Target), strings.Join(b.Rules, " "), text)
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&all, "all", false, "also those that ended")
	e.jsonFlag(c)
	return c
}

// stateOf returns a ticket's state, and whether somebody broke the glass.
func stateOf(t *admin.Ticket) string {
	if slices.ContainsFunc(t.Rulings, func(r admin.TicketRuling) bool { return r.Verdict == string(approval.BreakGlass) }) {
		return t.State + " (break-glass)"
	}
	if t.Standing {
		return t.State + " (its agent does not wait)"
	}
	return t.State
}

// covers reads what a ruling covers, and checks that the digest is that of it: what is shown is what is signed.
func covers(t *admin.Ticket) (evidence.TicketBound, error) {
	d := sha256.Sum256([]byte(t.Bound))
	if hex.EncodeToString(d[:]) != t.Digest {
		return evidence.TicketBound{}, fmt.Errorf("ticket %s: its digest is not that of what it covers; do not rule on it", t.ID)
	}
	b, err := t.Covers()
	if err != nil {
		return b, err
	}
	return b.Shown(), nil
}

// oneLine shortens a text to a line.
func oneLine(text string, n int) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > n {
		text = string(runes[:n-1]) + "…"
	}
	return printable(text)
}

func (e *env) ticket(cmd *cobra.Command, id string) (*admin.Ticket, evidence.TicketBound, error) {
	if _, err := evidence.ParseID(id); err != nil || id == "" {
		return nil, evidence.TicketBound{}, usage(fmt.Errorf("%q is not a ticket's ID; gatebook ticket list prints them", id))
	}
	var t admin.Ticket
	err := e.with(cmd.Context(), "gatebook ticket show", func(c *admin.Client) error {
		return c.Call(cmd.Context(), http.MethodGet, "/v1/tickets/"+id, nil, &t)
	})
	if err != nil {
		return nil, evidence.TicketBound{}, err
	}
	b, err := covers(&t)
	return &t, b, err
}

func (e *env) ticketShow() *cobra.Command {
	c := &cobra.Command{
		Use: "show ID", Short: "Show one request: who wants what, on which target, with which effect", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, b, err := e.ticket(cmd, args[0])
			if err != nil {
				return err
			}
			if e.json {
				return e.printJSON(t)
			}
			showTicket(e.stdout, t, &b)
			return nil
		},
	}
	e.jsonFlag(c)
	return c
}

// showTicket prints a ticket. What the agent wrote is quoted line by line, so that it cannot look like words of the gateway.
func showTicket(out io.Writer, t *admin.Ticket, b *evidence.TicketBound) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", key, printable(value))
		}
	}
	line("ticket", t.ID)
	state := stateOf(t)
	if t.Cause != "" {
		state += ", " + t.Cause
	}
	line("state", state)
	line("expires", t.Expires.Format(time.RFC3339))
	line("principal", b.Principal)
	line("acts for it", strings.Join(b.Actor, " < "))
	if t.Requester == "" {
		line("person behind it", "not known")
	} else {
		line("person behind it", t.Requester)
	}
	line("target", b.Target+" at "+b.Address)
	line("role", b.Role)
	line("database", b.Database)
	for _, name := range slices.Sorted(maps.Keys(b.Settings)) {
		line("setting", name+" = "+b.Settings[name])
	}
	if b.Altered != "" {
		line("changed", "the session has also changed "+b.Altered+", to a value that is not known")
	}
	var a evidence.Action
	if json.Unmarshal(b.Action, &a) == nil {
		line("effects", strings.Join(a.Effects, ", "))
		if a.Why != "" {
			line("not understood", a.Why)
		}
		line("privileged", a.Privileged)
		for _, s := range a.Statements {
			var names []string
			for _, o := range s.Objects {
				names = append(names, strings.TrimSpace(o.Kind+" "+strings.TrimPrefix(o.Schema+"."+o.Name, ".")+" "+strings.Join(o.Effects, "+")))
			}
			line("statement", s.Verb+": "+strings.Join(names, ", "))
		}
	}
	line("effect", admin.EffectText(b.Effect))
	line("definitions", b.Unbound())
	for _, r := range t.Requires {
		line("needs", fmt.Sprintf("%d of %s (rule %s)", r.Quorum, strings.Join(r.Groups, " or "), r.Rule))
		if len(r.BreakGlass) > 0 {
			line("in an emergency", fmt.Sprintf("break-glass by one of %s (rule %s)", strings.Join(r.BreakGlass, " or "), r.Rule))
		}
	}
	for _, r := range t.Rulings {
		text := r.Verdict + " by " + r.Person + " at " + r.Time.Format(time.RFC3339)
		if r.Reason != "" {
			text += ": " + r.Reason
		}
		line("ruling", text)
	}
	line("digest", t.Digest)
	_ = w.Flush()
	if b.Reason != "" {
		fmt.Fprintln(out, "why, as the agent says:\n  |", printable(b.Reason))
	}
	if len(b.List) > 0 {
		fmt.Fprintln(out, "statements that are to run in this order, as the agent wrote them:")
	} else {
		fmt.Fprintln(out, "request, as the agent wrote it:")
		quote(out, "  |", b.Text)
	}
	for i, l := range b.List {
		quote(out, fmt.Sprintf("%3d |", i+1), l.Text)
	}
	if len(b.Detail) > 0 {
		fmt.Fprintln(out, "parameters and particulars:\n  |", printable(string(b.Detail)))
	}
}

// quote prints an agent's text line by line, each behind a mark.
func quote(out io.Writer, mark, text string) {
	for l := range strings.Lines(text) {
		fmt.Fprintln(out, mark, printable(strings.TrimRight(l, "\n")))
	}
}

func (e *env) ticketWatch() *cobra.Command {
	c := &cobra.Command{
		Use: "watch", Short: "Print requests as they begin to wait and as they are decided", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.with(cmd.Context(), "gatebook ticket watch", func(c *admin.Client) error {
				return c.Lines(cmd.Context(), http.MethodGet, "/v1/watch/tickets", nil, func(raw json.RawMessage) error {
					if e.json {
						fmt.Fprintf(e.stdout, "%s\n", raw)
						return nil
					}
					var t admin.Ticket
					if err := json.Unmarshal(raw, &t); err != nil {
						return err
					}
					b, err := covers(&t)
					if err != nil {
						return err
					}
					fmt.Fprintf(e.stdout, "%s %s %s on %s: %s\n", t.ID, stateOf(&t), printable(b.Principal), printable(b.Target), oneLine(b.Line(), 100))
					return nil
				})
			})
		},
	}
	e.jsonFlag(c)
	return c
}

// ruleVerb says what a verdict does.
func ruleVerb(v approval.Verdict) string {
	switch v {
	case approval.Approve:
		return "Let through"
	case approval.BreakGlass:
		return "Let through in an emergency, without the quorum and with an alert,"
	}
	return "Refuse"
}

func (e *env) ticketRule(verdict approval.Verdict) *cobra.Command {
	verb := ruleVerb(verdict)
	var key, reason string
	var signIn bool
	c := &cobra.Command{
		Use:   string(verdict) + " ID --key FILE|--sign-in",
		Short: verb + " one request",
		Long: verb + ` exactly the request that "gatebook ticket show" prints, once. The ruling is signed with the SSH key in FILE by ssh-keygen, which
asks for its passphrase or touch; FILE may be a public key whose private half is in the SSH agent. With --sign-in it is proven
by an ID token that the issuer of the console makes for exactly this ruling: open the address that is printed in a browser on
this machine. The reason is recorded, and the agent reads it where the request is refused.`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if signIn == (key != "") {
				return usage(errors.New("want --key FILE or --sign-in"))
			}
			t, b, err := e.ticket(cmd, args[0])
			if err != nil {
				return err
			}
			showTicket(e.stderr, t, &b)
			statement := approval.Statement(t.ID, t.Digest, verdict, reason)
			if signIn {
				return e.ruleSigningIn(cmd, t, statement)
			}
			sign := exec.CommandContext(cmd.Context(), "ssh-keygen", "-Y", "sign", "-n", approval.SSHNamespace, "-f", key)
			var signature bytes.Buffer
			sign.Stdin, sign.Stdout, sign.Stderr = strings.NewReader(statement), &signature, e.stderr
			if err := sign.Run(); err != nil {
				return fmt.Errorf("ssh-keygen did not sign: %w", err)
			}
			return e.submit(cmd, t.ID, admin.RuleRequest{Statement: statement, Signature: signature.String()})
		},
	}
	c.Flags().StringVar(&key, "key", "", "SSH key to sign with")
	c.Flags().BoolVar(&signIn, "sign-in", false, "sign in at your issuer instead")
	c.Flags().StringVar(&reason, "reason", "", "why")
	if verdict == approval.BreakGlass {
		if err := c.MarkFlagRequired("reason"); err != nil {
			panic(err)
		}
	}
	e.jsonFlag(c)
	return c
}

// ruleSigningIn rules with an ID token that is made for the statement.
func (e *env) ruleSigningIn(cmd *cobra.Command, t *admin.Ticket, statement string) error {
	cfg, err := e.load()
	if err != nil {
		return err
	}
	random := rand.Text()
	nonce, err := approval.Nonce(statement, random)
	if err != nil {
		return err
	}
	r := identity.Request{Nonce: nonce}
	r.ACR, r.MaxAge = t.SignIn()
	token, err := app.SignIn(cmd.Context(), cfg, r, func(address string) {
		fmt.Fprintf(e.stderr, "To rule, open this in a browser on this machine and sign in:\n\n  %s\n\n", address)
	})
	if err != nil {
		return err
	}
	return e.submit(cmd, t.ID, admin.RuleRequest{Statement: statement, Token: token.Reveal(), Random: random})
}

func (e *env) submit(cmd *cobra.Command, id string, ruling admin.RuleRequest) error {
	var t admin.Ticket
	err := e.with(cmd.Context(), "gatebook ticket rule", func(c *admin.Client) error {
		return c.Call(cmd.Context(), http.MethodPost, "/v1/tickets/"+id+"/rule", ruling, &t)
	})
	if err != nil {
		return err
	}
	if e.json {
		return e.printJSON(t)
	}
	fmt.Fprintf(e.stdout, "ruled on %s: it is %s\n", t.ID, t.State)
	return nil
}

func (e *env) ticketStatement() *cobra.Command {
	verdicts := map[approval.Verdict]*bool{approval.Approve: new(bool), approval.Deny: new(bool), approval.BreakGlass: new(bool)}
	var reason string
	c := &cobra.Command{
		Use:   "statement ID --approve|--deny|--break-glass",
		Short: "Print what a person signs to rule, for a key on another machine",
		Example: "  gatebook ticket statement ID --approve > ruling\n" +
			"  ssh-keygen -Y sign -n gatebook-ruling -f ~/.ssh/id_ed25519 ruling    # anywhere\n" +
			"  gatebook ticket submit ruling ruling.sig",
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var chosen []approval.Verdict
			for v, set := range verdicts {
				if *set {
					chosen = append(chosen, v)
				}
			}
			if len(chosen) != 1 {
				return usage(errors.New("want one of --approve, --deny and --break-glass"))
			}
			t, b, err := e.ticket(cmd, args[0])
			if err != nil {
				return err
			}
			showTicket(e.stderr, t, &b)
			fmt.Fprint(e.stdout, approval.Statement(t.ID, t.Digest, chosen[0], reason))
			return nil
		},
	}
	c.Flags().BoolVar(verdicts[approval.Approve], "approve", false, "let the request through")
	c.Flags().BoolVar(verdicts[approval.Deny], "deny", false, "refuse it")
	c.Flags().BoolVar(verdicts[approval.BreakGlass], "break-glass", false, "let it through in an emergency, which is alarmed")
	c.Flags().StringVar(&reason, "reason", "", "why")
	return c
}

func (e *env) ticketSubmit() *cobra.Command {
	c := &cobra.Command{
		Use: "submit STATEMENT SIGNATURE", Short: "Hand in a ruling that was signed elsewhere", Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var texts [2]string
			for i, name := range args {
				text, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				texts[i] = string(text)
			}
			said, err := approval.ParseStatement(texts[0])
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return e.submit(cmd, said.Ticket, admin.RuleRequest{Statement: texts[0], Signature: texts[1]})
		},
	}
	e.jsonFlag(c)
	return c
}
