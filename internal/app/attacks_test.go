package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gatebook/gatebook/evidence"
	"github.com/gatebook/gatebook/internal/admin"
	"github.com/gatebook/gatebook/internal/testkit/idp"
	"github.com/gatebook/gatebook/internal/vfs"
)

// bearer logs in by SASL OAUTHBEARER.
func bearer(ctx context.Context, address, token string) (*pgx.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	c, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s user=default dbname=orders sslmode=require", host, port))
	if err != nil {
		return nil, err
	}
	c.OAuthTokenProvider = func(context.Context) (string, error) { return token, nil }
	return pgx.ConnectConfig(ctx, c)
}

// edit changes the configuration's text.
func (p *place) edit(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "gatebook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		t.Fatalf("the configuration has no %q", from)
	}
	p.write(t, "gatebook.yaml", strings.Replace(string(text), from, to, 1))
}

// TestID09SameVerdict brings every kind of bad token to every place that takes
// one: a password, OAUTHBEARER, a session's own renewal, and an operator's.
func TestID09SameVerdict(t *testing.T) {
	p, other := newPlace(t, ""), idp.Start(t)
	p.edit(t, `  - {protocol: postgres, address: "127.0.0.1:0"}`, `  - {protocol: postgres, address: "127.0.0.1:0"}
  - {protocol: postgres, address: "127.0.0.1:0", auth: oauthbearer, oauth_discovery: "https://issuer.test/.well-known/openid-configuration"}`)
	g := p.start(t)
	s := p.issuer
	now := time.Now().Unix()
	agent := s.Agent("assistant", "agents")
	good := s.Token(t, "assistant", "agents")
	later := s.Sign(t, idp.With(agent, idp.Claims{"exp": now + 7200}), nil)
	with := func(c idp.Claims) string { return s.Sign(t, idp.With(agent, c), nil) }
	bad := map[string]string{
		"no signature": s.Unsigned(t, agent, "none", nil), "a public key as a secret": s.HMAC(t, agent, "HS256", s.PublicPEM(t)),
		"another issuer": other.Token(t, "assistant", "agents"), "a cut signature": good[:len(good)-4], "expired": with(idp.Claims{"exp": now - 1}),
		"not yet valid": with(idp.Claims{"nbf": now + 3600}), "for ever": with(idp.Claims{"exp": now + 100*24*3600}),
		"another audience": with(idp.Claims{"aud": "other"}), "an ID token": with(idp.Claims{"nonce": "n"}), "a refresh token": with(idp.Claims{"typ": "Refresh"}),
		"bound to a key": with(idp.Claims{"cnf": map[string]any{"jkt": "x"}}), "no subject": with(idp.Claims{"sub": nil}),
		"a logout token": s.Sign(t, agent, map[string]any{"typ": "logout+jwt"}), "no token": "nonsense",
	}
	c, err := connect(t.Context(), g.Addresses()[0].Address, good)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := bearer(t.Context(), g.Addresses()[1].Address, good); err != nil {
		t.Errorf("a good bearer token: %v", err)
	} else {
		_ = b.Close(t.Context())
	}
	for until := time.Now().Add(5 * time.Second); len(g.gate.Sessions()) > 1 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	id := g.gate.Sessions()[0].ID.String()
	entries := map[string]func(string) error{
		"password": func(token string) error {
			c, err := connect(t.Context(), g.Addresses()[0].Address, token)
			if err == nil {
				_ = c.Close(t.Context())
			}
			return err
		},
		"bearer": func(token string) error {
			c, err := bearer(t.Context(), g.Addresses()[1].Address, token)
			if err == nil {
				_ = c.Close(t.Context())
			}
			return err
		},
		"renewal": func(token string) error {
			_, err := c.PgConn().Exec(t.Context(), "SET gatebook.token = '"+token+"'").ReadAll()
			return err
		},
		"operator": func(token string) error {
			return g.client(t).Call(t.Context(), http.MethodPost, "/v1/sessions/"+id+"/renew", map[string]string{"Token": token}, &struct{}{})
		},
	}
	end := g.gate.Sessions()[0].End
	for name, token := range bad {
		for entry, try := range entries {
			err := try(token)
			var pg *pgconn.PgError
			if err == nil || entry != "operator" && (!errors.As(err, &pg) || pg.Code != "28P01") {
				t.Errorf("%s by %s: %v", name, entry, err)
			}
			if err != nil && len(token) > 20 && strings.Contains(err.Error(), token[len(token)-20:]) {
				t.Errorf("%s by %s: the token is in %v", name, entry, err)
			}
		}
	}
	if now := g.gate.Sessions()[0].End; !now.Equal(end) {
		t.Errorf("a bad token moved the session's end from %v to %v", end, now)
	}
	for _, entry := range []string{"renewal", "operator"} {
		if err := entries[entry](later); err != nil && entry == "renewal" {
			t.Errorf("a good token by %s: %v", entry, err)
		}
	}
	if now := g.gate.Sessions()[0].End; !now.After(end) {
		t.Error("a good token did not move the session's end")
	}
	_ = c.Close(t.Context())
}

// TestID11GroupsAreJudgedAgain: a group that was taken away at the issuer
// counts when the session is renewed, one that was taken away here at once for the next log-in.
func TestID11GroupsAreJudgedAgain(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "assistant", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	end := g.gate.Sessions()[0].End
	longer := func(groups ...string) string {
		return p.issuer.Sign(t, idp.With(p.issuer.Agent("assistant", groups...), idp.Claims{"exp": time.Now().Unix() + 7200}), nil)
	}
	for _, groups := range [][]string{{"others"}, nil} {
		_, err = c.PgConn().Exec(t.Context(), "SET gatebook.token = '"+longer(groups...)+"'").ReadAll()
		if err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("renewed with groups %v: %v", groups, err)
		}
	}
	if !g.gate.Sessions()[0].End.Equal(end) {
		t.Error("the session was prolonged")
	}
	p.write(t, "targets.d/orders.yaml", p.target("others"))
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err = c.PgConn().Exec(t.Context(), "SET gatebook.token = '"+longer("agents")+"'").ReadAll(); err == nil {
		t.Error("renewed although the group may not use the target any more")
	}
	_ = c.Close(t.Context())
}

// TestEV06KeysMissingOrWrong: without its keys, or with others, nothing starts.
func TestEV06KeysMissingOrWrong(t *testing.T) {
	p, other := newPlace(t, ""), newPlace(t, "")
	p.start(t).end(t) // so that there is something signed
	for _, key := range []string{"kek", "log", "package", "ssh"} {
		name := filepath.Join(p.dir, "keys", key)
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := os.ReadFile(filepath.Join(other.dir, "keys", key))
		if err != nil {
			t.Fatal(err)
		}
		tries := map[string]func() error{
			"missing":   func() error { return os.Remove(name) },
			"empty":     func() error { return os.WriteFile(name, nil, 0o600) },
			"zeros":     func() error { return os.WriteFile(name, make([]byte, len(good)), 0o600) },
			"cut":       func() error { return os.WriteFile(name, good[:len(good)/2], 0o600) },
			"a word":    func() error { return os.WriteFile(name, []byte("password\n"), 0o600) },
			"open":      func() error { return errors.Join(os.WriteFile(name, good, 0o600), os.Chmod(name, 0o644)) },
			"of others": func() error { return os.WriteFile(name, foreign, 0o600) },
		}
		for what, spoil := range tries {
			if what == "of others" && (key == "package" || key == "ssh") {
				continue // an operator may give out new ones with a new trust file
			}
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			a, err := New(t.Context(), p.config(t), vfs.OS(), "test", slog.New(slog.DiscardHandler))
			if err == nil {
				_ = a.book.Ledger.Close(context.WithoutCancel(t.Context()), "test")
				t.Errorf("started with keys/%s %s", key, what)
			} else if what != "of others" && !strings.Contains(strings.ReplaceAll(err.Error(), "key-encryption key", "kek"), key) {
				t.Errorf("keys/%s %s: the error does not name it: %v", key, what, err)
			}
			if err := errors.Join(os.WriteFile(name, good, 0o600), os.Chmod(name, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.start(t).end(t)
}

// TestEV10LargeRecords: 100 KB, 1 MB and 10 MB, as a statement, as parameters
// and as an answer, are in the package byte for byte.
func TestEV10LargeRecords(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "assistant", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	var marks []string
	for _, size := range []int{100 << 10, 10 << 20} {
		for i, run := range []func(mark string) error{
			func(mark string) error {
				_, err := c.PgConn().Exec(t.Context(), "SELECT length('"+strings.Repeat("s", size)+mark+"')").ReadAll()
				return err
			},
			func(mark string) error {
				size := min(size, 1<<20)
				_, err := c.Exec(t.Context(), "SELECT length($1)", strings.Repeat("p", size)+mark)
				return err
			},
			func(mark string) error {
				_, err := c.PgConn().Exec(t.Context(), fmt.Sprintf("SELECT repeat('r', %d) || 'end' || reverse('%s')", size, mark)).ReadAll()
				return err
			},
		} {
			mark := fmt.Sprintf("mark%d%d", size, i)
			if err := run(mark); err != nil {
				t.Fatalf("%d bytes, %d: %v", size, i, err)
			}
			switch i {
			case 0:
				marks = append(marks, strings.Repeat("s", size)+mark)
			case 1:
				marks = append(marks, strings.Repeat("p", min(size, 1<<20))+mark)
			case 2:
				b := []byte(mark)
				slices.Reverse(b)
				marks = append(marks, strings.Repeat("r", size)+"end"+string(b))
			}
		}
	}
	_ = c.Close(t.Context())
	_, pkg := export(t, g.client(t), g.book.Keys, admin.ExportRequest{})
	// The bodies in the package, and the bytes of the answers joined.
	var metas, raws strings.Builder
	for line := range strings.Lines(unpack(t, pkg)) {
		var l struct{ Body, Salt []byte }
		if json.Unmarshal([]byte(line), &l) == nil && len(l.Salt) > 0 {
			meta, raw := evidence.SplitBody(l.Body)
			metas.Write(meta)
			raws.Write(raw)
		}
	}
	for _, mark := range marks {
		if !strings.Contains(metas.String(), mark) && !strings.Contains(raws.String(), mark) {
			t.Errorf("%.1s of %d bytes is not whole in the package", mark, len(mark))
		}
	}
}

// TestEV13SessionWithoutEnd: a session that runs while the package is made, and
// one that a kill cut off, are listed as what they are.
func TestEV13SessionWithoutEnd(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "assistant", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	_, pkg := export(t, g.client(t), g.book.Keys, admin.ExportRequest{})
	// The agent's, and the gateway's own that reads the target's definitions.
	if n := strings.Count(unpack(t, pkg), "still open when the range was closed"); n != 2 {
		t.Errorf("%d sessions are listed as open", n)
	}
	// The directory as a kill leaves it.
	copied := newPlace(t, "")
	for _, dir := range []string{"data", "keys", "tls"} {
		if err := os.RemoveAll(filepath.Join(copied.dir, dir)); err != nil {
			t.Fatal(err)
		}
		copyTree(t, filepath.Join(p.dir, dir), filepath.Join(copied.dir, dir))
	}
	after := copied.start(t)
	report, _ := export(t, after.client(t), after.book.Keys, admin.ExportRequest{})
	codes := ""
	for _, x := range report.Exceptions {
		codes += x.Code + " "
	}
	if !strings.Contains(codes, "crash") || !strings.Contains(codes, "session-recovered") {
		t.Errorf("after a kill: %s", codes)
	}
	_ = c.Close(t.Context())
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular() || d.Name() == "lock":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEV14ReadsAreRecorded: whatever an operator reads, the book says so, and
// without the book nothing is shown.
func TestEV14ReadsAreRecorded(t *testing.T) {
	p := newPlace(t, "")
	g := p.start(t)
	c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "assistant", "agents"))
	if err != nil {
		t.Fatal(err)
	}
	socket := g.client(t)
	var list []admin.OpenSession
	if err := socket.Call(t.Context(), http.MethodGet, "/v1/sessions", nil, &list); err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	drop := func(json.RawMessage) error { return nil }
	if err := socket.Lines(t.Context(), http.MethodGet, "/v1/sessions/"+list[0].ID, nil, drop); err != nil {
		t.Fatal(err)
	}
	if err := socket.Lines(t.Context(), http.MethodPost, "/v1/query", map[string]string{"SQL": "SELECT 1"}, drop); err != nil {
		t.Fatal(err)
	}
	if err := socket.Lines(t.Context(), http.MethodPost, "/v1/access", admin.AccessRequest{}, drop); err != nil {
		t.Fatal(err)
	}
	_ = c.Close(t.Context())
	_, _ = export(t, socket, g.book.Keys, admin.ExportRequest{})
	want := []string{"session-list", "session-show", "query", "access-list", "export"}
	var got []string
	sc := g.book.Ledger.Scan(0)
	for {
		e, err := sc.Next()
		if err != nil {
			break
		}
		if e.Header.Kind != evidence.KindAdmin {
			continue
		}
		_, body, err := sc.Body(&e)
		if err != nil {
			t.Fatal(err)
		}
		var a evidence.Admin
		if err := evidence.DecodeBody(bytes.Clone(body), &a); err != nil {
			t.Fatal(err)
		}
		got = append(got, a.Action)
		if a.UID != os.Getuid() || a.How != "socket" {
			t.Errorf("%s by %+v", a.Action, a)
		}
	}
	_ = sc.Close()
	for _, action := range want {
		if !slices.Contains(got, action) {
			t.Errorf("%s is not on record, %q is", action, got)
		}
	}
}

// TestEV29OldJournalBesideNewCheckpoints puts last night's journal back, whole
// as it was, beside the checkpoints that were signed since.
func TestEV29OldJournalBesideNewCheckpoints(t *testing.T) {
	p := newPlace(t, "")
	work := func() {
		g := p.start(t)
		c, err := connect(t.Context(), g.Addresses()[0].Address, p.issuer.Token(t, "assistant", "agents"))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close(t.Context())
		g.end(t)
	}
	work()
	journal, backup := filepath.Join(p.dir, "data", "journal"), filepath.Join(t.TempDir(), "journal")
	copyTree(t, journal, backup)
	work()
	if err := os.RemoveAll(journal); err != nil {
		t.Fatal(err)
	}
	copyTree(t, backup, journal)
	if a, err := New(t.Context(), p.config(t), vfs.OS(), "test", slog.New(slog.DiscardHandler)); err == nil {
		_ = a.book.Ledger.Close(context.WithoutCancel(t.Context()), "test")
		t.Error("a rolled-back journal was opened")
	}
}
