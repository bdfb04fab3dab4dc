package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
	"github.com/gatebook/gatebook/internal/engine/postgres"
	"github.com/gatebook/gatebook/internal/secret"
	"github.com/gatebook/gatebook/internal/webhook"
)

// Check resolves every secret, asks every issuer for its keys, dials every
// target with every role, and reports. What it does at targets is recorded in
// the book, which it opens unless a gateway is running on it.
func Check(ctx context.Context, c *config.Loaded, book *Book, log *slog.Logger) []admin.Finding {
	k := &checker{ctx: ctx, c: c}
	k.keys()
	k.listeners()
	if !k.signatures(book) {
		return k.list
	}
	k.issuers()
	k.webhooks()
	k.targets(book, log)
	return k.list
}

type checker struct {
	ctx  context.Context //nolint:containedctx // lives for one call
	c    *config.Loaded
	list []admin.Finding
}

func (k *checker) add(what string, err error, good string) {
	f := admin.Finding{What: what, OK: err == nil, Detail: good}
	if err != nil {
		f.Detail = err.Error()
	}
	k.list = append(k.list, f)
}

// signatures reports who signed the files as they are now. It returns false if what is to be checked may not come into
// force: nothing is then asked, since whoever wrote an unsigned configuration could have a password sent anywhere.
func (k *checker) signatures(book *Book) bool {
	if book == nil {
		return true
	}
	book.mu.Lock()
	inForce, running := book.signers, book.gate != nil
	book.mu.Unlock()
	c := k.c
	if running { // what is checked is in force; what a reload would read may be another
		var err error
		if c, err = config.Load(k.c.Path); err != nil {
			k.add("signatures", err, "")
			return true
		}
	}
	approval, err := c.Approve(inForce)
	if !approval.Demanded {
		return true
	}
	detail := "signed by " + strings.Join(approval.SignedBy(), ", ")
	for _, f := range approval.Ignored {
		detail += fmt.Sprintf("; note: %s does not count: %s", f.File, f.Why)
	}
	k.add("signatures", err, detail)
	if err != nil && !running {
		k.add("issuers and targets", errors.New("not asked, because the configuration is not signed"), "")
	}
	return err == nil || running
}

func (k *checker) keys() {
	keys, err := LoadKeys(k.c)
	detail := ""
	if err == nil {
		detail = "log key of " + keys.Log.Name()
	}
	k.add("keys", err, detail)
}

func (k *checker) listeners() {
	for _, l := range k.c.Listeners {
		what := "listener " + l.Address
		cert, err := newCertificate(l.TLS, k.c.Dir)
		if err != nil {
			k.add(what, err, "")
			continue
		}
		left := time.Until(cert.loaded.Leaf.NotAfter)
		if left < 0 {
			err = fmt.Errorf("the certificate expired on %s", cert.loaded.Leaf.NotAfter.Format("2006-01-02"))
		}
		k.add(what, err, fmt.Sprintf("%s, certificate for %v until %s", l.Protocol, names(cert), cert.loaded.Leaf.NotAfter.Format("2006-01-02")))
	}
}

func names(c *certificate) []string {
	list := append([]string(nil), c.loaded.Leaf.DNSNames...)
	for _, ip := range c.loaded.Leaf.IPAddresses {
		list = append(list, ip.String())
	}
	return list
}

func (k *checker) issuers() {
	v, err := verifier(k.ctx, k.c)
	if err != nil {
		k.add("issuers", err, "")
		return
	}
	defer v.Close()
	for _, is := range k.c.Issuers {
		ctx, stop := context.WithTimeout(k.ctx, 15*time.Second)
		err := v.Probe(ctx, is.Name)
		stop()
		detail := ""
		for _, s := range v.Status() {
			if s.Name == is.Name {
				detail = fmt.Sprintf("%s, %d keys", s.URL, s.Keys)
			}
		}
		k.add("issuer "+is.Name, err, detail)
	}
}

func (k *checker) targets(book *Book, log *slog.Logger) {
	snap, err := snapshot(k.c)
	if err != nil {
		k.add("targets", err, "")
		return
	}
	var driver engine.Driver
	var gate *enforce.Gate
	if book != nil {
		gate = enforce.New(enforce.Options{
			Recorder: book.Ledger, Snapshot: snap, Log: log, Dialer: &net.Dialer{Timeout: 10 * time.Second},
		})
		driver = postgres.New(engine.Config{Gate: gate, Limits: limits(k.c), Log: log})
	}
	known, complete := map[string][]string{}, true
	for i := range k.c.Targets {
		t := &k.c.Targets[i]
		if len(t.Allow) == 0 {
			k.list = append(k.list, admin.Finding{What: "target " + t.Name, OK: true, Detail: "note: allow is empty, so nobody may use it"})
		}
		roles := make([]string, 0, len(t.Roles))
		for name := range t.Roles {
			roles = append(roles, name)
		}
		sort.Strings(roles)
		for _, role := range roles {
			what := "target " + t.Name + ", role " + role
			if gate == nil {
				k.secretOnly(what, t.Roles[role])
				continue
			}
			detail, columns, err := k.probe(gate, driver, t.Name, role)
			k.add(what, err, detail)
			if err != nil {
				complete = false
			}
			known[t.Name] = append(known[t.Name], columns...)
		}
	}
	if gate != nil && complete {
		k.masks(known)
	}
}

// masks reports columns of masks that no target has, by the columns of each: such a mask hides nothing.
func (k *checker) masks(known map[string][]string) {
	for i := range k.c.MaskRules {
		r := &k.c.MaskRules[i]
		var columns []string
		for target, list := range known {
			if r.Targets == nil || slices.Contains(r.Targets, target) {
				columns = append(columns, list...)
			}
		}
		if missing := r.Unmatched(columns); len(missing) > 0 {
			k.add("mask "+r.Name, fmt.Errorf("no target has a column %s in its default database, so nothing is masked by it", strings.Join(missing, " or ")), "")
		}
	}
}

func (k *checker) secretOnly(what string, r config.Role) {
	if r.Password == "" {
		k.add(what, nil, "no password; not dialled while the gateway runs elsewhere")
		return
	}
	ref, err := secret.ParseRef(r.Password, k.c.Dir)
	if err == nil {
		_, err = ref.Load()
	}
	k.add(what, err, "password can be read")
}

func (k *checker) probe(gate *enforce.Gate, driver engine.Driver, target, role string) (detail string, columns []string, err error) {
	s, err := gate.System(k.ctx, target, role, "probe")
	if err != nil {
		return "", nil, err
	}
	p, err := driver.Probe(k.ctx, s)
	if closeErr := s.Close(err); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", nil, err
	}
	detail = fmt.Sprintf("PostgreSQL %s as %s, ", p.Version, p.User)
	if p.TLS == "" {
		detail += "NO TLS"
	} else {
		detail += p.TLS
	}
	if len(p.Rights) > 0 {
		detail += fmt.Sprintf(", note: rights beyond reading and writing: %v", p.Rights)
	}
	return detail, p.Columns, nil
}

// webhooks reads the secrets with which messages are signed. Nothing is sent.
func (k *checker) webhooks() {
	secrets := make(map[string]string)
	for _, w := range k.c.Webhooks {
		secrets["webhook "+w.Name] = w.Secret
	}
	for _, in := range k.c.Inbound {
		secrets["inbound "+in.Name] = in.Secret
	}
	for _, what := range slices.Sorted(maps.Keys(secrets)) {
		ref, err := secret.ParseRef(secrets[what], k.c.Dir)
		if err == nil {
			err = webhook.CheckSecret(ref)
		}
		k.add(what, err, "its secret can sign")
	}
}
