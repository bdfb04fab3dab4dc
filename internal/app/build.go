package app

import (
	"context"
	"fmt"
	"time"

	"github.com/gatebook/gatebook/internal/access"
	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/enforce"
	"github.com/gatebook/gatebook/internal/engine"
	"github.com/gatebook/gatebook/internal/identity"
	"github.com/gatebook/gatebook/internal/journal"
	"github.com/gatebook/gatebook/internal/secret"
)

// snapshot turns the configuration's targets into what the door decides on.
func snapshot(c *config.Loaded) (*enforce.Snapshot, error) {
	s := &enforce.Snapshot{
		SHA256: c.SHA256, Targets: make(map[string]*enforce.Target), PrincipalSessions: c.Limits.PrincipalSessions,
		PrincipalExchanges: c.Limits.PrincipalExchanges, PrincipalBytes: int64(c.Limits.PrincipalBytes),
		ExpiryDrain: c.Limits.ExpiryDrain.Or(config.DefaultExpiryDrain), Policy: rules{c.Policy},
	}
	var err error
	s.Detect = c.Detect
	if s.Masks, err = newMasks(c); err != nil {
		return nil, err
	}
	for i := range c.Targets {
		t := &c.Targets[i]
		built, err := target(t, c.Dir)
		if err != nil {
			return nil, fmt.Errorf("target %s: %w", t.Name, err)
		}
		s.Targets[t.Name] = built
	}
	return s, nil
}

// plainTarget is the target as policy and records see it.
func plainTarget(t *config.Target) access.Target {
	return access.Target{Name: t.Name, Protocol: access.Protocol(t.Protocol), Address: t.Address, Labels: t.Labels}
}

func target(t *config.Target, dir string) (*enforce.Target, error) {
	tls, err := targetTLS(t, dir)
	if err != nil {
		return nil, err
	}
	out := &enforce.Target{
		Target: plainTarget(t),
		Allow:  t.Allow, Roles: make(map[string]enforce.Role), Database: t.Database, TLS: tls, InsecureAuth: t.InsecureAuth,
		Sessions: t.Limits.Sessions, QueueTimeout: t.Limits.Queue.Or(config.DefaultQueue), IdleTimeout: t.Limits.IdleTimeout.Or(0),
	}
	for name, r := range t.Roles {
		role := enforce.Role{User: r.User, Allow: r.Allow}
		if r.Password != "" {
			ref, err := secret.ParseRef(r.Password, dir)
			if err != nil {
				return nil, err
			}
			role.Password = ref.Load
		}
		out.Roles[name] = role
	}
	return out, nil
}

// verifier builds the identity verifier.
func verifier(ctx context.Context, c *config.Loaded) (*identity.Verifier, error) {
	var o identity.Options
	for i := range c.Issuers {
		is, err := identity.FromConfig(&c.Issuers[i], c.Dir)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", c.Issuers[i].Name, err)
		}
		o.Issuers = append(o.Issuers, is)
	}
	return identity.New(ctx, o)
}

func limits(c *config.Loaded) engine.Limits {
	return engine.Limits{
		Message: int(c.Limits.Message), Memory: int64(c.Limits.Memory), Startup: time.Duration(c.Limits.Startup),
		Stall: time.Duration(c.Limits.Stall), Orphan: time.Duration(c.Limits.Orphan),
	}
}

// spoolKeep is what an export leaves of the disk: well above the limit below which requests are refused.
func spoolKeep(c *config.Loaded) int64 {
	low := int64(c.Limits.LowDisk)
	if low == 0 {
		low = journal.DefaultLowWater
	}
	return 4 * low
}

func journalOptions(c *config.Loaded) journal.Options {
	o := journal.Options{LowWater: int64(c.Limits.LowDisk), SegmentBytes: int64(c.Limits.Segment)}
	if o.SegmentBytes > 0 {
		o.Reserve = min(o.SegmentBytes/4, 16<<20) // small files, small reserve
	}
	if c.Sync == "insecure_interval" {
		o.Mode = journal.SyncInsecureInterval
	}
	return o
}
