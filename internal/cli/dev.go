package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/devissuer"
	"github.com/gatebook/gatebook/internal/secret"
)

// devSecret is every development client's secret: the issuer listens on
// loopback only, and whoever reaches it may have any token.
const devSecret = "development"

// devPage is the client that people sign in to.
const devPage = "gatebook-console"

func (e *env) devCmd() *cobra.Command {
	return group("dev", "A small OIDC issuer for development, on loopback only", e.devIssuer(), e.devToken())
}

func (e *env) devIssuer() *cobra.Command {
	var address string
	var clients, audiences, persons, redirects []string
	var lifetime time.Duration
	c := &cobra.Command{
		Use:   "issuer",
		Short: "Run the development issuer",
		Long: `Runs an OIDC issuer with the clients given, until it is ended. Its key is new at each start. It is for trying things out: whoever can
reach it gets any token. A gateway accepts it only with development: true, which allows loopback listeners only.`,
		Example: "  gatebook dev issuer --client ci-pipeline:agents --client assistant:agents,support\n" +
			"  gatebook dev issuer --client ci-pipeline:agents --person ben",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, _, err := net.SplitHostPort(address)
			if err != nil || !config.IsLoopback(host) {
				return usage(fmt.Errorf("--address %q is not on loopback", address))
			}
			var lc net.ListenConfig
			ln, err := lc.Listen(cmd.Context(), "tcp", address)
			if err != nil {
				return err
			}
			o := devissuer.Options{URL: "http://" + ln.Addr().String(), Lifetime: lifetime}
			for _, text := range clients {
				name, groups, _ := strings.Cut(text, ":")
				client := devissuer.Client{ID: name, Secret: secret.New(devSecret), Subject: name, Audiences: audiences}
				if groups != "" {
					client.Groups = strings.Split(groups, ",")
				}
				o.Clients = append(o.Clients, client)
			}
			for _, name := range persons {
				o.People = append(o.People, devissuer.Person{Name: name})
			}
			if len(persons) > 0 {
				o.Clients = append(o.Clients, devissuer.Client{ID: devPage, Secret: secret.New(devSecret), Audiences: []string{devPage}, Redirects: redirects})
			}
			is, err := devissuer.New(o)
			if err != nil {
				return errors.Join(err, ln.Close())
			}
			fmt.Fprintln(e.stdout, "issuer", is.URL())
			srv := &http.Server{Handler: is.Handler(), ReadHeaderTimeout: 10 * time.Second}
			stop := context.AfterFunc(cmd.Context(), func() { _ = srv.Close() })
			defer stop()
			if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	}
	c.Flags().StringVar(&address, "address", "127.0.0.1:8099", "loopback address to listen on; port 0 lets the kernel pick one")
	c.Flags().StringArrayVar(&clients, "client", nil, "a client and its groups, NAME:GROUP,GROUP; may be repeated")
	c.Flags().StringArrayVar(&persons, "person", nil, "somebody who can sign in to the page, as its client "+devPage+"; may be repeated")
	c.Flags().StringArrayVar(&redirects, "redirect", []string{"http://127.0.0.1/callback", "https://127.0.0.1/callback", "https://localhost/callback"},
		"where people may be sent back to; without a port any will do")
	c.Flags().StringArrayVar(&audiences, "audience", []string{"gatebook"}, "audience that clients may ask for; may be repeated")
	c.Flags().DurationVar(&lifetime, "lifetime", devissuer.DefaultLifetime, "lifetime of tokens")
	return c
}

func (e *env) devToken() *cobra.Command {
	var issuer, audience string
	c := &cobra.Command{
		Use: "token CLIENT", Short: "Print a fresh token of a development client", Args: exactly(1),
		Example: "  TOKEN=$(gatebook dev token ci-pipeline)",
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := fetchToken(cmd.Context(), issuer, audience, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(e.stdout, token)
			return nil
		},
	}
	c.Flags().StringVar(&issuer, "issuer", "http://127.0.0.1:8099", "the development issuer's URL")
	c.Flags().StringVar(&audience, "audience", "gatebook", "audience of the token")
	return c
}

// fetchToken asks for a token with the client credentials grant (RFC 6749
// section 4.4).
func fetchToken(ctx context.Context, issuer, audience, client string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "audience": {audience}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(issuer, "/")+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(client), devSecret)
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(r)
	if err != nil {
		return "", fmt.Errorf("no development issuer answers (gatebook dev issuer starts one): %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	var out struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(text, &out); err != nil || out.AccessToken == "" {
		return "", fmt.Errorf("the issuer gave no token: %s %s %s", resp.Status, out.Error, out.Description)
	}
	return out.AccessToken, nil
}
