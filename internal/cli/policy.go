package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/policy"
)

func (e *env) policyCmd() *cobra.Command {
	c := group("policy", "Check, test and explain what agents may do",
		e.policyCheckCmd(), e.policyPacksCmd(), e.policyTestCmd(), e.policyExplainCmd(), e.policyReplayCmd(), e.policyManifestCmd())
	c.Long = `What the rules of the configuration say, tried out: these commands read the configuration and touch no target. Only replay reads
the book, or an evidence package. The guide is docs/policy.md.`
	return c
}

// ruleLine is a rule as the commands print it.
type ruleLine struct {
	Name string `json:"name"`
	Then string `json:"then"`
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
}

func lineOf(r *policy.Rule) ruleLine { return ruleLine{r.Name, r.Then.String(), r.File, r.Line} }

// place returns "FILE:LINE", or the file alone.
func (r ruleLine) place() string {
	if r.Line == 0 {
		return printable(r.File)
	}
	return fmt.Sprintf("%s:%d", printable(r.File), r.Line)
}

// problemLine is a problem of a file as the commands print it with --json.
type problemLine struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	Path string `json:"path,omitempty"`
	What string `json:"what"`
}

// checked is what policy check has to say.
type checked struct {
	OK       bool          `json:"ok"`
	Problems []problemLine `json:"problems,omitempty"`
	Files    []string      `json:"files,omitempty"`
	Rules    []ruleLine    `json:"rules,omitempty"`
	Packs    []string      `json:"packs,omitempty"`
	Targets  []string      `json:"targets,omitempty"`
	Signed   *signedLine   `json:"signatures,omitempty"`
	Notes    []string      `json:"notes,omitempty"`
}

// signedLine says who signed a configuration that asks for signatures.
type signedLine struct {
	Quorum   int           `json:"quorum"`
	SignedBy []string      `json:"signed_by"`
	Ignored  []ignoredLine `json:"not_counted,omitempty"`
	Error    string        `json:"error,omitempty"`
}

type ignoredLine struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

func (e *env) policyCheckCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the policy and print the rules in force",
		Long: `Reads the configuration with its rules and packs, and prints the rules in force, or everything that is wrong with its file and
line. It reads files only; "gatebook check" also tries secrets, issuers and targets.

Where the configuration has signers, it says who signed it. It does not know whom a gateway asked before: "gatebook check" does.

Exit code 0: the gateway would take this configuration. 1: there are problems.`,
		Example: "  gatebook policy check\n  gatebook -c new/gatebook.yaml policy check --json",
		Args:    exactly(0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := e.load()
			var problems config.Problems
			if e.json && errors.As(err, &problems) {
				if err := e.printJSON(checked{Problems: problemLines(problems)}); err != nil {
					return err
				}
				return &exitError{code: exitFailed}
			}
			if err != nil {
				return err
			}
			found := check(cfg)
			unsigned := found.signatures(cfg)
			if e.json {
				if err := e.printJSON(found); err != nil {
					return err
				}
				if unsigned != nil {
					return &exitError{code: exitFailed}
				}
				return nil
			}
			return errors.Join(found.print(e.stdout), unsigned)
		},
	}
	e.jsonFlag(c)
	return c
}

func problemLines(list config.Problems) []problemLine {
	lines := make([]problemLine, len(list))
	for i, p := range list {
		lines[i] = problemLine(p)
	}
	return lines
}

// check says what is in force, and what a newcomer may not have meant.
func check(cfg *config.Loaded) *checked {
	found := &checked{OK: true, Packs: cfg.Packs}
	for name := range cfg.Files {
		found.Files = append(found.Files, name)
	}
	slices.Sort(found.Files)
	allows := 0
	rules := cfg.Policy.Rules()
	for i := range rules {
		found.Rules = append(found.Rules, lineOf(&rules[i]))
		if rules[i].Then == access.Allow {
			allows++
		}
	}
	for i := range cfg.Targets {
		t := &cfg.Targets[i]
		found.Targets = append(found.Targets, t.Name)
		if len(t.Allow) == 0 {
			found.Notes = append(found.Notes, fmt.Sprintf("allow of target %s is empty, so nobody may use it", t.Name))
		}
	}
	if len(cfg.Targets) == 0 {
		found.Notes = append(found.Notes, "there are no targets")
	}
	if allows == 0 {
		found.Notes = append(found.Notes, "no rule allows anything, so every request is refused")
	}
	return found
}

// signatures adds who signed, and returns an error if that is not enough.
func (c *checked) signatures(cfg *config.Loaded) error {
	approval, err := cfg.Approve(nil)
	if !approval.Demanded {
		return err
	}
	c.OK = err == nil
	c.Signed = &signedLine{Quorum: cfg.Signers.Quorum, SignedBy: approval.SignedBy()}
	if c.Signed.SignedBy == nil {
		c.Signed.SignedBy = []string{}
	}
	for _, f := range approval.Ignored {
		c.Signed.Ignored = append(c.Signed.Ignored, ignoredLine(f))
		if err == nil { // else the error names it
			c.Notes = append(c.Notes, fmt.Sprintf("%s does not count: %s", printable(f.File), printable(f.Why)))
		}
	}
	if err != nil {
		c.Signed.Error = err.Error()
	}
	return err
}

func (c *checked) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	verdicts := map[string]int{}
	for _, r := range c.Rules {
		verdicts[r.Then]++
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.Then, r.Name, r.place())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(c.Rules) > 0 {
		fmt.Fprintln(out)
	}
	for _, n := range c.Notes {
		fmt.Fprintln(out, "note:", n)
	}
	if s := c.Signed; s != nil {
		fmt.Fprintf(out, "signed by %s; %d must sign\n", orNone(s.SignedBy), s.Quorum)
	}
	state := "ok: "
	if !c.OK {
		state = "NOT SIGNED: "
	}
	fmt.Fprint(out, state, plural(len(c.Rules), "rule"))
	if len(c.Rules) > 0 {
		fmt.Fprintf(out, " (%d allow, %d deny, %d hold)", verdicts["allow"], verdicts["deny"], verdicts["hold"])
	}
	fmt.Fprintf(out, ", %s%s, %s%s\n", plural(len(c.Packs), "pack"), listed(c.Packs), plural(len(c.Targets), "target"), listed(c.Targets))
	return nil
}

// listed returns " (a, b)", "" for an empty list.
func listed(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// didYouMean names the nearest of the words that are known, or all of them.
func didYouMean(word string, known []string) string {
	if near := policy.Nearest(word, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	if len(known) == 0 {
		return "; there are none"
	}
	known = slices.Sorted(slices.Values(known))
	return "; known are: " + strings.Join(known, ", ")
}

func (e *env) policyManifestCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "manifest",
		Short: "Print the text that people sign to approve the configuration",
		Long: `Prints a digest of every file of the configuration: the main file and those that it includes. The same files give the same
text on every machine. Who signs it approves these files, byte for byte; look at them first, in a copy of your own.

The block "signers" of the configuration says who must sign. Make as many signatures as it asks for, each into a file of its own.`,
		Example: "  gatebook policy manifest | ssh-keygen -Y sign -n " + config.SignatureNamespace + " -f ~/.ssh/id_ed25519 > signatures/ana.sig",
		Args:    exactly(0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := e.load()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(e.stdout, cfg.Manifest())
			return err
		},
	}
}

func (e *env) policyPacksCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "packs [NAME]",
		Short: "List the ready packs, or print the rules of one",
		Long: `Lists the sets of ready rules that "packs: [NAME]" in the configuration adds. With NAME, prints the rules of one as YAML: to have
them otherwise, put a copy among your own rules and leave the pack out.`,
		Example: "  gatebook policy packs\n  gatebook policy packs office-hours > office-hours.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.MaximumNArgs(1)(cmd, args); err != nil {
				return usage(fmt.Errorf("%w; see %s --help", err, cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return printPacks(e.stdout)
			}
			p, err := policy.FindPack(args[0])
			if err != nil {
				return fmt.Errorf("%w (gatebook policy packs lists them)", err)
			}
			fmt.Fprintf(e.stdout, "# %s: %s\n%s", p.Name, p.Description, p.YAML())
			return nil
		},
	}
	return c
}

func printPacks(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, p := range policy.Packs() {
		fmt.Fprintf(w, "%s\t%s\n", p.Name, p.Description)
	}
	return w.Flush()
}
