package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gatebook/gatebook/internal/secret"
)

var (
	targetName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	roleName   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,62}$`)
)

// validate checks everything that can be checked without touching the world.
func (ld *loader) validate() {
	c := &ld.l.Config
	root := source{ld.main, ""}
	if c.Version != 1 {
		ld.problem(root, "version", "must be 1")
	}
	if c.Data == "" {
		ld.problem(root, "data", "must name the directory of the book")
	}
	ld.oneOf(root, "sync", c.Sync, "", "always", SyncRelease, "insecure_interval")
	ld.oneOf(root, "reload", c.Reload, "", "change", ReloadOnSignal)
	ld.oneOf(root, "index.text", c.Index.Text, "", "on", "off")
	for name, ref := range map[string]string{"kek": c.Keys.KEK, "log": c.Keys.Log, "package": c.Keys.Package, "ssh": c.Keys.SSH} {
		ld.ref(root, "keys."+name, ref)
	}
	if c.Ops.Address != "" {
		ld.address(root, "ops.address", c.Ops.Address)
	}
	if len(c.Listeners) == 0 {
		ld.problem(root, "listeners", "there must be at least one")
	}
	for i := range c.Listeners {
		ld.listener(source{ld.main, fmt.Sprintf("listeners[%d]", i)}, &c.Listeners[i])
	}
	if !slices.ContainsFunc(c.Issuers, func(is Issuer) bool { return is.For != "people" }) {
		ld.problem(root, "issuers", "there must be at least one for agents")
	}
	for i := range c.Issuers {
		ld.issuer(ld.issuers[i], &c.Issuers[i], i)
	}
	for i := range c.Targets {
		ld.target(ld.targets[i], &c.Targets[i], i)
	}
	ld.signers()
	ld.people()
	ld.webhooks()
	ld.console()
	ld.policy()
	ld.maskRules()
}

func (ld *loader) oneOf(at source, field, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	words := slices.DeleteFunc(slices.Clone(allowed), func(s string) bool { return s == "" })
	ld.problem(at, field, "%q is not one of %s%s", value, strings.Join(words, ", "), suggest(value, words))
}

// suggest names the allowed word that is nearest to a mistyped one.
func suggest(value string, words []string) string {
	for _, w := range words {
		if strings.EqualFold(w, strings.TrimSpace(value)) || len(value) > 2 && strings.HasPrefix(w, value[:2]) {
			return fmt.Sprintf(" (did you mean %q?)", w)
		}
	}
	return ""
}

func (ld *loader) ref(at source, field, text string) {
	if text == "" {
		return
	}
	if _, err := secret.ParseRef(text, ld.l.Dir); err != nil {
		ld.problem(at, field, "%v", err)
	}
}

func (ld *loader) file(at source, field, text string) {
	if text == "" {
		return
	}
	if _, err := secret.ParseFile(text, ld.l.Dir); err != nil {
		ld.problem(at, field, "%v", err)
	}
}

// address checks host:port and returns the host.
func (ld *loader) address(at source, field, text string) string {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		ld.problem(at, field, "%q is not host:port", text)
		return ""
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 && field != "address" && field != "ops.address" {
		ld.problem(at, field, "%q has no valid port", text)
	}
	return host
}

// IsLoopback reports whether a listener's host is reachable from this machine alone.
func IsLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func (ld *loader) listener(at source, l *Listener) {
	ld.oneOf(at, "protocol", l.Protocol, "postgres")
	host := ld.address(at, "address", l.Address)
	ld.oneOf(at, "auth", l.Auth, "", "password", "oauthbearer")
	loopback := IsLoopback(host)
	if l.InsecurePlaintext && !loopback {
		ld.problem(at, "insecure_plaintext", "only on loopback: a token sent in clear text is anybody's")
	}
	if (l.TLS.Cert == "") != (l.TLS.Key == "") {
		ld.problem(at, "tls", "cert and key go together")
	}
	if l.TLS.Cert == "" && !loopback {
		ld.problem(at, "tls", "a listener that is not on loopback needs a certificate (tls: {cert: file:…, key: file:…})")
	}
	if l.OAuthDiscovery != "" && l.Auth != "oauthbearer" {
		ld.problem(at, "oauth_discovery", "only with auth: oauthbearer")
	}
	ld.file(at, "tls.cert", l.TLS.Cert)
	ld.ref(at, "tls.key", l.TLS.Key)
}

func (ld *loader) issuer(at source, is *Issuer, i int) {
	for _, other := range ld.l.Issuers[:i] {
		if other.Name == is.Name {
			ld.problem(at, "name", "%q is taken by another issuer", is.Name)
		}
	}
	ld.oneOf(at, "for", is.For, "agents", "people")
	if is.Development {
		for _, l := range ld.l.Listeners {
			if host, _, err := net.SplitHostPort(l.Address); err == nil && !IsLoopback(host) {
				ld.problem(at, "development", "a development issuer needs loopback listeners only, %s is not", l.Address)
			}
		}
	}
	ld.file(at, "ca", is.CA)
	ld.file(at, "jwks", is.JWKS)
	ld.ref(at, "request_token", is.RequestToken)
}

// access checks what of a target decides who may use it.
func (ld *loader) access(at source, t *Target, i int) {
	if !targetName.MatchString(t.Name) {
		ld.problem(at, "name", "%q is not a name of a-z, 0-9 and -", t.Name)
	}
	for _, other := range ld.l.Targets[:i] {
		if other.Name == t.Name {
			ld.problem(at, "name", "%q is taken by another target", t.Name)
		}
	}
	ld.oneOf(at, "protocol", t.Protocol, "postgres")
	if len(t.Roles) == 0 {
		ld.problem(at, "roles", "there must be at least one, such as roles: {default: {user: …, password: file:…}}")
	}
	for name, r := range t.Roles {
		field := "roles." + name
		if !roleName.MatchString(name) {
			ld.problem(at, field, "%q is not a role name of letters, digits, _ . @ and -", name)
		}
		for _, g := range r.Allow {
			if !slices.Contains(t.Allow, g) {
				ld.problem(at, field+".allow", "group %q is not in the target's allow, so this would allow nobody", g)
			}
		}
	}
}

func (ld *loader) target(at source, t *Target, i int) {
	ld.access(at, t, i)
	ld.address(at, "address", t.Address)
	ld.oneOf(at, "tls.mode", t.TLS.Mode, "", "verify-full", "require", "disable")
	ld.file(at, "tls.ca", t.TLS.CA)
	ld.file(at, "tls.cert", t.TLS.Cert)
	ld.ref(at, "tls.key", t.TLS.Key)
	for _, m := range t.InsecureAuth {
		ld.oneOf(at, "insecure_auth", m, "cleartext", "md5")
	}
	for name, r := range t.Roles {
		if r.User == "" {
			ld.problem(at, "roles."+name+".user", "must be the user name at the target")
		}
		ld.ref(at, "roles."+name+".password", r.Password)
	}
	if t.Limits.Sessions < 0 {
		ld.problem(at, "limits.sessions", "must not be negative")
	}
}
