package identity

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatebook/gatebook/internal/testkit/idp"
)

func TestID21ActorChain(t *testing.T) {
	t.Parallel()
	nest := func(n int) map[string]any {
		act := map[string]any{"sub": "s0"}
		for i := 1; i < n; i++ {
			act = map[string]any{"sub": "s" + strconv.Itoa(i), "act": act}
		}
		return act
	}
	s := idp.Start(t)
	v := newVerifier(t, local(s, nil))
	tests := []struct {
		name string
		act  any
		want []string
		ok   bool
	}{
		{"absent", nil, nil, true},
		{"one", map[string]any{"sub": "agent"}, []string{"agent"}, true},
		{"outermost first", map[string]any{"sub": "current", "act": map[string]any{"sub": "before"}}, []string{"current", "before"}, true},
		{"with issuer", map[string]any{"sub": "x", "iss": "https://i"}, []string{"https://i|x"}, true},
		{"no sub", map[string]any{"client_id": "x"}, nil, false},
		{"no sub further in", map[string]any{"sub": "x", "act": map[string]any{}}, nil, false},
		{"text", "agent", nil, false},
		{"list", []any{map[string]any{"sub": "x"}}, nil, false},
		{"control character", map[string]any{"sub": "a\tb"}, nil, false},
		{"issuer number", map[string]any{"sub": "x", "iss": 1}, nil, false},
		{"at the limit", nest(maxActors), []string{"s7", "s6", "s5", "s4", "s3", "s2", "s1", "s0"}, true},
		{"over the limit", nest(maxActors + 1), nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, deny := verify(t, v, s.Sign(t, idp.With(s.Agent("ana"), idp.Claims{"act": tt.act}), nil))
			if tt.ok != (deny == nil) {
				t.Fatalf("got %v, want accepted = %t", deny, tt.ok)
			}
			if tt.ok {
				if d := cmp.Diff(tt.want, got.Principal.Actor); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func TestMappings(t *testing.T) {
	t.Parallel()
	s := idp.Start(t)
	sign := func(c idp.Claims) string { return s.Sign(t, idp.With(s.Agent("a"), c), nil) }
	run := func(name string, change func(*Issuer), tests ...attack) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runAttacks(t, newVerifier(t, local(s, change)), tests)
		})
	}
	run("email", func(o *Issuer) { o.Principal = "claims.email" },
		attack{name: "verified", tok: sign(idp.Claims{"email": "a@x", "email_verified": true}), ok: true},
		attack{name: "not said", tok: sign(idp.Claims{"email": "a@x"}), ok: true},
		attack{name: "not verified", tok: sign(idp.Claims{"email": "root@x", "email_verified": false}), want: hintClaims},
		attack{name: "not verified, text", tok: sign(idp.Claims{"email": "root@x", "email_verified": "false"}), want: hintClaims},
		attack{name: "absent", tok: sign(nil), want: hintClaims},
		attack{name: "list", tok: sign(idp.Claims{"email": []string{"a@x"}}), want: hintClaims},
		attack{name: "empty", tok: sign(idp.Claims{"email": ""}), want: hintClaims})
	run("email elsewhere", nil,
		attack{name: "not verified and not used", tok: sign(idp.Claims{"email": "a@x", "email_verified": false}), ok: true})
	long := make([]string, maxGroups+1)
	for i := range long {
		long[i] = "g" + strconv.Itoa(i)
	}
	run("groups", nil,
		attack{name: "absent", tok: sign(nil), ok: true},
		attack{name: "text", tok: sign(idp.Claims{"groups": "admin"}), want: hintClaims},
		attack{name: "null", tok: s.SignRaw(t, nullGroups(t, s), nil), want: hintClaims},
		attack{name: "numbers", tok: sign(idp.Claims{"groups": []int{1}}), want: hintClaims},
		attack{name: "empty name", tok: sign(idp.Claims{"groups": []string{""}}), want: hintClaims},
		attack{name: "newline", tok: sign(idp.Claims{"groups": []string{"a\nb"}}), want: hintClaims},
		attack{name: "long name", tok: sign(idp.Claims{"groups": []string{strings.Repeat("x", maxGroupLen+1)}}), want: hintClaims},
		attack{name: "too many", tok: sign(idp.Claims{"groups": long}), want: hintClaims},
		attack{name: "left out by the issuer", tok: sign(idp.Claims{"_claim_names": map[string]any{"groups": "src1"}}), want: hintClaims},
		attack{name: "another claim left out", tok: sign(idp.Claims{"_claim_names": map[string]any{"photo": "src1"}}), ok: true})
	run("bindings", func(o *Issuer) { o.Bindings = []string{`claims.team == "core"`, `claims.env in ["prod", "test"]`} },
		attack{name: "both hold", tok: sign(idp.Claims{"team": "core", "env": "prod"}), ok: true},
		attack{name: "one fails", tok: sign(idp.Claims{"team": "core", "env": "dev"}), want: hintClaims},
		attack{name: "one absent", tok: sign(idp.Claims{"team": "core"}), want: hintClaims})
	run("actor and owner", func(o *Issuer) { o.Actor, o.Owner = "[claims.agent]", "claims.?person.orValue('')" },
		attack{name: "both", tok: sign(idp.Claims{"agent": "x", "person": "ana"}), ok: true},
		attack{name: "owner unknown", tok: sign(idp.Claims{"agent": "x"}), ok: true},
		attack{name: "owner with a trailing space", tok: sign(idp.Claims{"agent": "x", "person": "ana "}), want: hintClaims},
		attack{name: "actor absent", tok: sign(idp.Claims{"person": "ana"}), want: hintClaims})
}

func nullGroups(t *testing.T, s *idp.Server) []byte {
	t.Helper()
	return []byte(`{"iss":"` + s.URL() + `","sub":"a","aud":"gatebook","exp":` + strconv.FormatInt(s.Agent("a")["exp"].(int64), 10) + `,"groups":null}`)
}
