package cli

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/internal/app"
	"github.com/gatebook/gatebook/internal/config"
)

func (e *env) connectCmd() *cobra.Command {
	var role, format string
	c := &cobra.Command{
		Use:   "connect TARGET[/DATABASE]",
		Short: "Print ready settings for an agent",
		Long: `Prints what an agent needs to reach a target through this gateway, with the gateway's certificate verified. The token is not
part of it: it goes into PGPASSWORD, a passfile, or the driver's password callback.

Formats: psql, uri, jdbc, env, passfile.`,
		Example: "  gatebook connect orders\n  eval \"$(gatebook connect orders --format env)\" && PGPASSWORD=$TOKEN psql",
		Args:    exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := e.load()
			if err != nil {
				return err
			}
			s, err := settings(cfg, args[0], role)
			if err != nil {
				return err
			}
			if format == "" {
				for _, f := range []string{"psql", "uri", "jdbc", "env", "passfile"} {
					fmt.Fprintf(e.stdout, "# %s\n%s\n\n", f, s[f])
				}
				return nil
			}
			if s[format] == "" {
				return usage(fmt.Errorf("unknown format %q; known are psql, uri, jdbc, env, passfile", format))
			}
			fmt.Fprintln(e.stdout, s[format])
			return nil
		},
	}
	c.Flags().StringVar(&role, "role", "", "role at the target (default: its only one, or \"default\")")
	c.Flags().StringVar(&format, "format", "", "print this format only")
	return c
}

// settings returns ready settings by format.
func settings(cfg *config.Loaded, database, role string) (map[string]string, error) {
	name, _, _ := strings.Cut(database, "/")
	target, err := findTarget(cfg, name)
	if err != nil {
		return nil, err
	}
	role, err = pickRole(target, role)
	if err != nil {
		return nil, err
	}
	var l *config.Listener
	for i := range cfg.Listeners {
		if cfg.Listeners[i].Protocol == target.Protocol {
			l = &cfg.Listeners[i]
			break
		}
	}
	if l == nil {
		return nil, fmt.Errorf("no listener speaks %s", target.Protocol)
	}
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return nil, err
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "GATEWAY-HOST"
	}
	root := app.CAFile(cfg)
	if l.TLS.Cert != "" {
		root = "system"
	} else if root, err = filepath.Abs(root); err != nil {
		return nil, err
	}
	mode := "verify-full"
	uri := url.URL{
		Scheme: "postgresql", User: url.User(role), Host: net.JoinHostPort(host, port), Path: "/" + database,
		RawQuery: url.Values{"sslmode": {mode}, "sslrootcert": {root}}.Encode(),
	}
	// A slash in the database is part of its name.
	uriText := strings.Replace(uri.String(), "/"+database, "/"+url.PathEscape(database), 1)
	q := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	return map[string]string{
		"psql": fmt.Sprintf("PGPASSWORD=\"$TOKEN\" psql %s",
			q(fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=%s sslrootcert='%s'", host, port, role, database, mode, root))),
		"uri": uriText,
		"jdbc": fmt.Sprintf("jdbc:postgresql://%s/%s?user=%s&sslmode=%s&sslrootcert=%s",
			net.JoinHostPort(host, port), url.PathEscape(database), url.QueryEscape(role), mode, url.QueryEscape(root)),
		"env": fmt.Sprintf("export PGHOST=%s PGPORT=%s PGUSER=%s PGDATABASE=%s PGSSLMODE=%s PGSSLROOTCERT=%s",
			q(host), q(port), q(role), q(database), mode, q(root)),
		"passfile": fmt.Sprintf("%s:%s:%s:%s:TOKEN", host, port, database, role),
	}, nil
}

// findTarget returns a target of the configuration by its name.
func findTarget(cfg *config.Loaded, name string) (*config.Target, error) {
	known := make([]string, len(cfg.Targets))
	for i := range cfg.Targets {
		if known[i] = cfg.Targets[i].Name; known[i] == name {
			return &cfg.Targets[i], nil
		}
	}
	return nil, fmt.Errorf("no target named %q in the configuration%s", name, didYouMean(name, known))
}

func pickRole(t *config.Target, role string) (string, error) {
	names := make([]string, 0, len(t.Roles))
	for n := range t.Roles {
		names = append(names, n)
	}
	sort.Strings(names)
	if role == "" {
		if _, ok := t.Roles["default"]; ok {
			return "default", nil
		}
		if len(names) == 1 {
			return names[0], nil
		}
		return "", fmt.Errorf("target %s has the roles %s: choose with --role", t.Name, strings.Join(names, ", "))
	}
	if _, ok := t.Roles[role]; !ok {
		return "", fmt.Errorf("target %s has no role %q; it has %s", t.Name, role, strings.Join(names, ", "))
	}
	return role, nil
}
