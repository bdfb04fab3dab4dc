package identity

import (
	"time"

	"github.com/gatebook/gatebook/internal/config"
	"github.com/gatebook/gatebook/internal/secret"
)

// FromConfig returns the options of an issuer as it is configured. dir is the directory that relative paths are relative to; no file is read.
func FromConfig(in *config.Issuer, dir string) (Issuer, error) {
	out := Issuer{
		Name: in.Name, For: Side(in.For), Preset: in.Preset, URL: in.URL, TrustDomain: in.TrustDomain,
		Audiences: in.Audience, AuthorizedParties: in.AuthorizedParties, Algorithms: in.Algorithms, Use: TokenUse(in.TokenUse),
		Proxy: in.Proxy, KeyRefresh: time.Duration(in.KeyRefresh), KeyMaxAge: time.Duration(in.KeyMaxAge),
		AllowLoopback: in.AllowLoopback, InsecureHTTP: in.InsecureHTTP,
		Principal: in.Principal, Groups: in.Groups, Actor: in.Actor, Owner: in.Owner, Bindings: in.Bindings,
		SessionLifetime: time.Duration(in.SessionLifetime), MaxTokenAge: time.Duration(in.MaxTokenAge),
		MaxTokenLifetime: time.Duration(in.MaxTokenLifetime), Skew: time.Duration(in.Skew),
		InsecureIgnoreConfirmation: in.InsecureIgnoreConfirmation,
	}
	var err error
	if in.CA != "" {
		if out.CA, err = secret.ParseFile(in.CA, dir); err != nil {
			return out, err
		}
	}
	if in.JWKS != "" {
		if out.Keys, err = secret.ParseFile(in.JWKS, dir); err != nil {
			return out, err
		}
	}
	if in.RequestToken != "" {
		out.RequestToken, err = secret.ParseRef(in.RequestToken, dir)
	}
	return out, err
}
