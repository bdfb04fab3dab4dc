package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gatebook/gatebook/internal/testkit/pgserver"
)

// signedConfiguration is what people and a pipeline do, with the program and stock OpenSSH. Each
// "must" says what is checked; the first that does not hold ends it.
const signedConfiguration = `
set -euo pipefail
must() { echo "== $1"; shift; "$@" || { echo "FAILED"; exit 1; }; }
refused() { if "$@" > out.txt 2>&1; then echo "was not refused"; cat out.txt; return 1; fi; }
says() { grep -qF -- "$1" out.txt || { echo "does not say: $1"; cat out.txt; return 1; }; }

mkdir keys && cd keys
ssh-keygen -q -N "" -t ed25519 -f ana
ssh-keygen -q -N "" -t rsa -b 3072 -f ana-office
ssh-keygen -q -N "" -t ecdsa -b 521 -f ben
ssh-keygen -q -N "" -t ed25519 -f ben-new
ssh-keygen -q -N "" -t rsa -b 2048 -f cid
cd ..
gatebook init --origin gate.example.com gate > /dev/null && cd gate
(umask 077 && printf '%s' "$DB_PASSWORD" > secrets/orders)
cp "$DB_CA" db-ca.crt
cat > targets.d/orders.yaml << YAML
targets:
  - name: orders
    protocol: postgres
    address: 127.0.0.1:$DB_PORT
    database: postgres
    tls: {mode: verify-full, ca: file:db-ca.crt}
    roles: {default: {user: agent_rw, password: file:secrets/orders}}
    allow: [agents]
YAML
strict='rules: [{name: reads, when: "action.effects == [\"read\"]", then: allow}]'
loose='rules: [{name: anything, when: "true", then: allow}]'
echo "$strict" > policy.yaml
sed -i "s/127.0.0.1:6432/127.0.0.1:$GATE_PORT/; s/127.0.0.1:8099/127.0.0.1:$ISSUER_PORT/" gatebook.yaml
cp gatebook.yaml ../plain.yaml
block() { # NAME KEYFILE ...
  cat ../plain.yaml; printf 'signers:\n  quorum: 2\n  keys:\n'
  while [ $# -gt 0 ]; do printf '    - {person: %s, key: "%s"}\n' "$1" "$(cat "../keys/$2.pub")"; shift 2; done
}
block ana ana ana ana-office ben ben cid cid > gatebook.yaml
gatebook dev issuer --address "127.0.0.1:$ISSUER_PORT" --client worker:agents > issuer.log 2>&1 &
issuer_pid=$! gate_pid=
trap 'kill $issuer_pid $gate_pid 2> /dev/null || true' EXIT
timeout 20 sh -c 'until grep -q "^issuer " issuer.log; do sleep 0.1; done'

sign() { mkdir -p signatures; for k in "$@"; do gatebook policy manifest | ssh-keygen -q -Y sign -n gatebook-config -f "../keys/$k" > "signatures/$k.sig"; done; }
unsign() { rm -rf signatures; }
start() {
  gatebook --data data serve 2> serve.log & gate_pid=$!
  timeout 20 sh -c 'until grep -q "\"msg\":\"serving\"" serve.log; do sleep 0.1; done'
}
stop() { kill "$gate_pid"; wait "$gate_pid"; gate_pid=; }
reload() { # PATTERN: what the log must say after it
  n=$(grep -c "$1" serve.log || true)
  kill -HUP "$gate_pid"
  N=$n P=$1 timeout 20 bash -c 'until [ "$(grep -c "$P" serve.log)" -gt "$N" ]; do sleep 0.1; done'
}
eval "$(gatebook connect orders --format env)"
PGPASSWORD=$(gatebook dev token worker --issuer "http://127.0.0.1:$ISSUER_PORT") && export PGPASSWORD
ask() { psql -X -At -c "$1"; }
recorded() { [ "$(gatebook query "SELECT count(*) FROM continuity WHERE event = 'config-refused'" | tail -n 1)" = "$1" ]; }

must "an unsigned first start is refused" refused gatebook serve
must "and says how to sign" says "gatebook -c gatebook.yaml policy manifest | ssh-keygen -Y sign -n gatebook-config"
must "policy check says so too" refused gatebook policy check
must "by name" says "missing: ana, ben, cid"
sign ana ana-office
must "two signatures of one person are refused" refused gatebook serve
must "because a person counts once" says "ana signed already: a person counts once"
unsign; sign ana ben
gatebook policy check > out.txt
must "policy check names the signers" says "signed by ana, ben; 2 must sign"
gatebook policy check --json > out.txt
must "with --json too" says '"signed_by"'
gatebook check > out.txt
must "check names the signers" says "signed by ana, ben"
start
must "the strict policy is in force" refused ask "CREATE TEMP TABLE t ()"
[ "$(ask "SELECT 1")" = 1 ]

echo "$loose" > policy.yaml
reload "stays as it was"
must "an unsigned reload leaves the old policy in force" refused ask "CREATE TEMP TABLE t ()"
must "check fails" refused gatebook check
must "check says what a reload would find" says "signatures/ana.sig does not count"
must "two refused starts and the reload are in the book" recorded 3
cp ../plain.yaml gatebook.yaml
reload "stays as it was"
must "without the block, too" refused ask "CREATE TEMP TABLE t ()"
stop
must "a start without the block is refused" refused gatebook serve
must "by the signers in force" says "of the signers in force, 2 must sign"
gatebook init --origin other.example.com ../other > /dev/null
sed "s#^data: .*#data: ../other/data#; s#^issuers:#keys: {kek: file:../other/keys/kek, log: file:../other/keys/log}\n&#" ../plain.yaml > gatebook.yaml
must "neither helps a book where nobody was asked" refused gatebook --data data serve
must "since the data directory is pinned" says "write data: "
cp ../plain.yaml gatebook.yaml
must "check asks no target" refused gatebook check
must "because it is not signed" says "not asked, because the configuration is not signed"

block ana ana ben ben-new cid cid > gatebook.yaml
unsign; sign ana ben-new
must "a new key cannot bring itself in" refused gatebook serve
sign ben
start
must "the new policy is in force" ask "CREATE TEMP TABLE t ()"
unsign; echo "$strict" > policy.yaml; sign ben cid
reload "stays as it was"
must "the old key counts no more" ask "CREATE TEMP TABLE t ()"
sign ben-new
reload "configuration reloaded"
must "the new key counts" refused ask "CREATE TEMP TABLE t ()"

mkdir signatures/x.sig; mkfifo signatures/pipe.sig; ln -s /dev/zero signatures/zero.sig; head -c 1000000 /dev/zero > signatures/huge.sig
reload "configuration reloaded"
gatebook policy manifest | ssh-keygen -q -Y sign -n file -f ../keys/cid > signatures/cid.sig
reload "stays as it was"
must "another namespace does not count" refused gatebook policy check
must "and is named" says 'signed for the namespace "file"'
sign cid; rm targets.d/orders.yaml
reload "stays as it was"
must "a removed file is noticed: the target is still there" ask "SELECT 1"
stop

cp ../plain.yaml gatebook.yaml; unsign; sign ana cid
start
gatebook query "SELECT file, cause FROM configs ORDER BY first_entry DESC LIMIT 2" > out.txt
must "the signers of before may ask that nobody must sign" says gatebook.yaml
echo "$loose" > policy.yaml
reload "configuration reloaded"
gatebook keys > trust.txt
gatebook evidence export -o package.zip > /dev/null
code=0; gatebook evidence verify package.zip --trust trust.txt > out.txt || code=$?
must "the package verifies, with exceptions" [ "$code" = 2 ]
must "the refusals are exceptions" says gate-config-refused
unzip -p package.zip data/populations/P9-continuity.csv > out.txt
must "the package says who signed" says "signed by ana, cid"
stop
echo "== done"
`

// TestSignedConfiguration runs the built program with real keys of ssh-keygen and a
// real PostgreSQL: what is signed by enough people is in force, and nothing else.
func TestSignedConfiguration(t *testing.T) {
	server, err := pgserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	if _, err := server.PSQL("postgres", "CREATE ROLE agent_rw LOGIN PASSWORD 'known'"); err != nil {
		t.Fatal(err)
	}
	bin, dir := t.TempDir(), t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, "gatebook"), ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", signedConfiguration)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8", "DB_PASSWORD=known",
		fmt.Sprintf("DB_PORT=%d", server.Port), "DB_CA=" + server.CA, "GATE_PORT=" + freePort(t), "ISSUER_PORT=" + freePort(t),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it starts in the background ends with its group
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "gate", "serve.log"))
		t.Fatalf("%v\n%s\nserve.log:\n%s", err, out, log)
	}
}
