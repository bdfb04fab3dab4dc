#!/bin/bash
# The main job of Gatebook on real input: two agents work on a real PostgreSQL
# through the gateway with stock psql, and the book proves what they did.
#
#   KEEP=1                      leave everything running at the end
#   GATEBOOK=PATH               the program (default bin/gatebook)
#   GATEBOOK_VERIFY=COMMAND     the verifier (default "$GATEBOOK evidence verify")
#   GATEBOOK_DEMO_BREAK=WHAT    recorder | audience: break something; the demo must then fail
#
# Each line that states a result is printed by psql, by gatebook, or by the
# verifier; the demo only says what is being done, and fails if a result is not what it must be.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
gatebook=${GATEBOOK:-$root/bin/gatebook}
verify=${GATEBOOK_VERIFY:-$gatebook evidence verify}
broken=${GATEBOOK_DEMO_BREAK:-}
lifetime=${GATEBOOK_DEMO_LIFETIME:-15} # of tokens, seconds
work=$(mktemp -d "${TMPDIR:-/tmp}/gatebook-demo.XXXXXX")
out=${GATEBOOK_DEMO_OUT:-$work/package.zip}
pids=()
pgdata=

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# as_server runs a server program, not as root, which PostgreSQL refuses.
as_server() {
  if [ "$(id -u)" -eq 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

finish() {
  code=$?
  trap - EXIT
  if [ "$code" -eq 0 ] && [ -n "${KEEP:-}" ]; then exit 0; fi
  for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2> /dev/null || true; done
  if [ -n "$pgdata" ]; then as_server "$pgbin/pg_ctl" -D "$pgdata" -m immediate stop > /dev/null 2>&1 || true; fi
  if [ "$code" -eq 0 ]; then
    find "$work" -mindepth 1 -maxdepth 1 ! -name package.zip ! -name trust.txt -exec rm -rf {} +
  else
    echo "demo: failed; logs are in $work" >&2
  fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# wait_for runs a command until it succeeds, at most 20 seconds.
wait_for() {
  for _ in $(seq 200); do
    if "$@" > /dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  return 1
}

say "Start a real PostgreSQL with a sample database of customers and payments"
pgbin=${GATEBOOK_PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2> /dev/null | sort -V | tail -n 1)}
[ -n "$pgbin" ] || pgbin=$(dirname "$(command -v initdb || echo /nowhere/initdb)")
[ -x "$pgbin/initdb" ] || fail "no PostgreSQL server found; run: make setup"
chmod 755 "$work"
mkdir "$work/pg"
if [ "$(id -u)" -eq 0 ]; then chown postgres "$work/pg"; fi
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1,DNS:localhost \
  -keyout "$work/db.key" -out "$work/db.crt" 2> /dev/null
install -m 600 "$work/db.key" "$work/pg/server.key"
install -m 644 "$work/db.crt" "$work/pg/server.crt"
if [ "$(id -u)" -eq 0 ]; then chown postgres "$work/pg/server.key" "$work/pg/server.crt"; fi
rm "$work/db.key"
admin_password=$(openssl rand -hex 16)
db_password=$(openssl rand -hex 16)
printf '%s' "$admin_password" > "$work/pg/pw"
if [ "$(id -u)" -eq 0 ]; then chown postgres "$work/pg/pw"; fi
as_server "$pgbin/initdb" -D "$work/pg/data" -U postgres -A scram-sha-256 --pwfile "$work/pg/pw" -E UTF8 --locale=C.UTF-8 --no-sync > "$work/initdb.log"
pgdata=$work/pg/data
free_port() { python3 - 2> /dev/null << 'PY' || shuf -i 20000-50000 -n 1
import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])
PY
}
pgport=$(free_port)
as_server "$pgbin/pg_ctl" -D "$pgdata" -w -t 60 -l "$work/pg/log" start -o "-p $pgport -c listen_addresses=127.0.0.1 \
  -c unix_socket_directories='' -c fsync=off -c ssl=on -c ssl_cert_file=$work/pg/server.crt -c ssl_key_file=$work/pg/server.key" > /dev/null
direct() { PGPASSWORD=$admin_password psql -X -v ON_ERROR_STOP=1 -qAt "host=127.0.0.1 port=$pgport user=postgres sslmode=verify-full sslrootcert=$work/db.crt dbname=$1"; }
echo "CREATE DATABASE shop" | direct postgres
direct shop < "$root/demo/sample.sql"
echo "ALTER ROLE app_rw PASSWORD '$db_password'" | direct shop
echo "SELECT count(*) || ' customers, ' || (SELECT count(*) FROM payments) || ' payments' FROM customers" | direct shop

say "Start the development identity provider: a CI pipeline and an AI assistant get tokens from it"
"$gatebook" dev issuer --address 127.0.0.1:0 --lifetime "${lifetime}s" --audience gatebook --audience elsewhere \
  --client ci-pipeline:agents --client assistant:agents,support --client stranger:visitors --person ana --person ben > "$work/issuer.out" 2> "$work/issuer.log" &
pids+=($!)
wait_for grep -q '^issuer ' "$work/issuer.out" || fail "the issuer did not start: $(cat "$work/issuer.log")"
issuer=$(sed -n 's/^issuer //p' "$work/issuer.out")

say "Make a gateway: keys, a local CA and an empty book; only the gateway knows the database's password"
gate=$work/gate
"$gatebook" init --origin gate.demo/shop "$gate" > "$work/init.out"
printf '%s' "$db_password" > "$gate/secrets/shop"
chmod 600 "$gate/secrets/shop"
cp "$work/db.crt" "$gate/db-ca.crt"
printf development > "$gate/secrets/console"
chmod 600 "$gate/secrets/console"
for person in ana ben; do ssh-keygen -q -t ed25519 -N '' -C "$person" -f "$work/$person"; done
port=$(free_port)
page=$(free_port)
low_disk=1MiB
if [ "$broken" = recorder ]; then low_disk=1000000GiB; fi # the disk counts as full: nothing can be recorded
openssl rand -base64 32 > "$gate/secrets/mask"
chmod 600 "$gate/secrets/mask"
cat > "$gate/gatebook.yaml" << YAML
version: 1
data: ./data
mask_key: file:secrets/mask
issuers:
  - {name: dev, for: agents, url: "$issuer", audience: gatebook, development: true, allow_loopback: true, insecure_http: true}
  - {name: people, for: people, url: "$issuer", audience: gatebook-console, development: true, allow_loopback: true, insecure_http: true}
listeners:
  - {protocol: postgres, address: "127.0.0.1:$port"}
limits: {low_disk: $low_disk}
console: {address: "127.0.0.1:$page", issuer: people, client_secret: file:secrets/console, insecure_plaintext: true}
owners: [{principal: "dev|ci-pipeline", person: ana}]
people:
  - {person: ana, groups: [dba], identities: ["people|ana"], keys: ["$(cat "$work/ana.pub")"]}
  - {person: ben, groups: [dba], identities: ["people|ben"], keys: ["$(cat "$work/ben.pub")"]}
targets:
  - name: shop
    protocol: postgres
    address: 127.0.0.1:$pgport
    database: shop
    labels: {env: demo, data: personal}
    tls: {mode: verify-full, ca: file:db-ca.crt}
    roles: {default: {user: app_rw, password: file:secrets/shop}}
    allow: [agents]
rules:
  - {name: no-cards, when: '"card" in action.personal_data', then: deny, reason: Card numbers stay where they are.}
  - {name: reads, when: 'action.effects.all(e, e in ["read", "transaction", "session"])', then: allow}
  - name: pipeline-writes
    when: 'principal.name == "ci-pipeline" && action.effects.all(e, e in ["read", "write", "transaction", "session"])'
    then: allow
  - name: deletions
    when: '"DELETE" in action.verbs'
    then: hold
    reason: Deleting needs a second person.
    approvers: {groups: [dba], within: 2m}
  - {name: migrations, when: '"schema" in action.effects', then: deny, reason: Schema changes go through migrations.}
packs: [no-unfiltered-writes]
masks:
  - {name: mails, columns: [public.customers.email], when: 'principal.name == "assistant"', method: partial, keep_domain: true}
  - {name: found, kinds: ['*'], when: 'principal.name == "assistant"'}
YAML
g() { "$gatebook" -c "$gate/gatebook.yaml" "$@"; }
g check || [ "$broken" = recorder ] || fail "the check failed"
g keys > "$work/trust.txt"
"$gatebook" -c "$gate/gatebook.yaml" serve 2> "$work/gate.log" &
pids+=($!)
gate_pid=$!
wait_for grep -q '"msg":"serving"' "$work/gate.log" || fail "the gateway did not start: $(cat "$work/gate.log")"

audience=gatebook
if [ "$broken" = audience ]; then audience=elsewhere; fi
token() { "$gatebook" dev token "$1" --issuer "$issuer" --audience "$audience"; }
eval "$(g connect shop --format env)"

say "The CI pipeline works with stock psql; its password is its OIDC token"
PGPASSWORD=$(token ci-pipeline) psql -X -v ON_ERROR_STOP=1 -P pager=off << 'SQL'
SELECT state, count(*), sum(amount) FROM payments GROUP BY state ORDER BY state;
BEGIN;
UPDATE payments SET state = 'settled' WHERE state = 'pending' AND made < '2026-01-15';
COMMIT;
\copy (SELECT id, amount FROM payments ORDER BY id LIMIT 3) TO STDOUT WITH CSV HEADER
SQL

say "The AI assistant looks up customers: it does not see their addresses"
PGPASSWORD=$(token assistant) psql -X -v ON_ERROR_STOP=1 -P pager=off << 'SQL' | tee "$work/masked.out"
SELECT name, email, country FROM customers WHERE country = 'JP' ORDER BY id LIMIT 3;
SELECT c AS "a whole row", upper(email) AS country FROM customers c WHERE country = 'JP' LIMIT 1;
SELECT current_user AS "who the database sees";
SQL
grep -q '\*\*\*@' "$work/masked.out" || fail "no address was masked"
say "It tries to find one out"
for round in "SELECT id FROM customers WHERE email LIKE 'a%'" "SELECT reverse(email)::bytea FROM customers" "SELECT name FROM customers ORDER BY email LIMIT 1" "CREATE TEMP TABLE mine AS SELECT email FROM customers"; do
  if PGPASSWORD=$(token assistant) psql -X -v ON_ERROR_STOP=1 -P pager=off -c "$round" > "$work/round.out" 2>&1; then fail "it ran: $round"; fi
  grep '^ERROR' "$work/round.out"
  grep -q 'gatebook' "$work/round.out" || fail "it was not the gateway that refused: $round"
done

say "What nobody named a column for is found by what it is, and what agents send is looked into as well"
PGPASSWORD=$(token assistant) psql -X -v ON_ERROR_STOP=1 -P pager=off -c "SELECT id, body FROM notes ORDER BY id" | tee "$work/found.out"
grep -q '\[email\].*\[phone\]' "$work/found.out" || fail "nothing was found in the notes"
if PGPASSWORD=$(token ci-pipeline) psql -X -v ON_ERROR_STOP=1 -c "UPDATE notes SET body = 'paid with 4111 1111 1111 1111' WHERE id = 1" > "$work/card.out" 2>&1; then fail "a card number was sent on"; fi
grep '^ERROR' "$work/card.out"

say "It makes a mistake, and gets the database's own error"
PGPASSWORD=$(token assistant) psql -X -P pager=off -c 'SELECT 1/0' && fail "a division by zero succeeded"

say "The policy judges what a statement does, not the words in it"
refused() { # the statement must be refused by the gateway, not by the database
  if PGPASSWORD=$(token ci-pipeline) psql -X -v ON_ERROR_STOP=1 -P pager=off -c "$1" > "$work/refused.out" 2>&1; then fail "it ran: $1"; fi
  cat "$work/refused.out"
  grep -q 'gatebook' "$work/refused.out" || fail "it was not the gateway that refused: $1"
}
refused "DROP TABLE payments"
refused "DELETE FROM payments"
refused "DO \$\$ BEGIN DELETE FROM payments; END \$\$"
refused "WITH gone AS (DELETE FROM payments RETURNING id) SELECT count(*) FROM gone"
refused "PREPARE away AS DELETE FROM payments"
refused "COPY (DELETE FROM payments RETURNING id) TO STDOUT"
echo "SELECT count(*) || ' payments are still there' FROM payments" | direct shop

say "A deletion waits, on the pipeline's own connection, until a second person rules on it"
hold() { # the deletion of one payment, in the background; sets psql_pid and ticket
  : > "$work/held.out"
  PGPASSWORD=$(token ci-pipeline) psql -X -v ON_ERROR_STOP=1 -P pager=off -c "DELETE FROM payments WHERE id = $1" >> "$work/held.out" 2>&1 &
  psql_pid=$!
  wait_for grep -q 'waits for a person' "$work/held.out" || fail "it did not wait: $(cat "$work/held.out")"
  ticket=$(sed -n 's/.*ticket \([a-z2-7]*\),.*/\1/p' "$work/held.out" | head -n 1)
}
rows() { echo "SELECT count(*) FROM payments WHERE id = $1" | direct shop; }
hold 1
cat "$work/held.out"
[ "$(rows 1)" = 1 ] || fail "it ran while it waited"
g ticket show "$ticket"
say "Ana answers for the pipeline: she cannot approve what it asks for"
if g ticket approve "$ticket" --key "$work/ana" > "$work/ana.out" 2>&1; then fail "ana approved her own request"; fi
tail -n 1 "$work/ana.out"
say "Ben can, with a signature that the gateway cannot make: it runs, once"
g ticket approve "$ticket" --key "$work/ben" --reason "a duplicate of 2" 2> /dev/null
wait "$psql_pid" || fail "the approved deletion failed: $(cat "$work/held.out")"
tail -n 1 "$work/held.out"
[ "$(rows 1)" = 0 ] || fail "it did not run"
say "Another one: the pipeline gives up, and an approval that comes late runs nothing"
hold 2
kill "$psql_pid"
wait "$psql_pid" || true
wait_for sh -c "'$gatebook' -c '$gate/gatebook.yaml' ticket list --all | grep -q withdrawn" || fail "it was not withdrawn"
if g ticket approve "$ticket" --key "$work/ben" > "$work/late.out" 2>&1; then fail "a late approval was taken"; fi
tail -n 1 "$work/late.out"
[ "$(rows 2)" = 1 ] || fail "a late approval ran something"

say "An identity that may not use the target, and a token that was tampered with, do not get in"
if PGPASSWORD=$(token stranger) psql -X -c 'SELECT 1'; then fail "the stranger got in"; fi
bad=$(token ci-pipeline)
if PGPASSWORD=${bad%?????}AAAAA psql -X -c 'SELECT 1'; then fail "a tampered token got in"; fi

say "What the book says"
g query "SELECT principal, target, role, exchanges, denied FROM sessions WHERE origin IS NULL ORDER BY first_entry"
echo
g query "SELECT principal, effects, decision, rule, status, sqlstate, text FROM exchanges WHERE origin IS NULL ORDER BY first_entry"
echo
g query "SELECT code, source, principal, count FROM refusals ORDER BY first_entry"

say "Wait until the tokens have expired: only then may they leave the book, for the auditor to check the issuer's signature"
sleep $((lifetime + 1))
say "Export the evidence package, and verify it offline with the trust file alone"
g evidence export -o "$work/package.zip"
$verify "$work/package.zip" --trust "$work/trust.txt" | tee "$work/verify.out" || fail "the package does not verify"

echo
unzip -p "$work/package.zip" data/populations/P4-approvals.csv

say "What was masked, by column; which requests carried personal data; and the answers as the assistant saw them"
unzip -p "$work/package.zip" data/populations/P10-masking.csv | cut -d, -f6-
unzip -p "$work/package.zip" data/populations/P17-personal-data-sent.csv | cut -d, -f6-
unzip -p "$work/package.zip" 'data/sessions/*/snapshot.csv' | grep -A 3 ',name,email,country' > "$work/snapshot.out"
cat "$work/snapshot.out"
grep -q '\*\*\*@' "$work/snapshot.out" || fail "the snapshot is not masked"

say "The auditor is told an address that was masked in the first row, and gets the key of that one cell: it is confirmed"
session=$(g query "SELECT session FROM exchanges WHERE text LIKE 'SELECT name, email, country%'" | grep -o '[a-z2-7]\{16\}')
exchange=$(g query "SELECT exchange FROM exchanges WHERE text LIKE 'SELECT name, email, country%'" | grep -o '[0-9]\{1,\}' | head -n 1)
key=$(g session cell-key "$session" "$exchange" 0 --reason "audit of the demonstration")
address=$(echo "SELECT email FROM customers WHERE country = 'JP' ORDER BY id LIMIT 1" | direct shop)
"$gatebook" evidence confirm "$work/package.zip" --trust "$work/trust.txt" --session "$session" --exchange "$exchange" --row 1 --column 2 --key "$key" --value "$address" || fail "the address is not confirmed"
if "$gatebook" evidence confirm "$work/package.zip" --trust "$work/trust.txt" --session "$session" --exchange "$exchange" --row 1 --column 2 --key "$key" --value "another@example.com"; then fail "another address is confirmed"; fi

say "The same core with sha256sum, openssl and ssh-keygen"
mkdir "$work/unpacked"
unzip -q "$work/package.zip" -d "$work/unpacked"
sh "$work/unpacked/verify/verify.sh" "$work/unpacked" "$work/trust.txt" root || fail "the shell script does not verify the package"

say "Flip one byte in a copy: the verifier refuses it and says where"
(cd "$root" && go run ./demo/tamper flip "$work/package.zip" "$work/flipped.zip")
if $verify "$work/flipped.zip" --trust "$work/trust.txt"; then fail "a flipped byte was not noticed"; fi
grep -q '^decisions: *[1-9][0-9]* decided again with the same result' "$work/verify.out" || fail "nothing was decided again"
grep -q '1 held and released' "$work/verify.out" || fail "the package has no release"
grep -q '1 ruling signed by its person' "$work/verify.out" || fail "the package has no ruling"

say "Edit the claims and re-sign everything with the gateway's own keys: the issuer's signature does not hold"
(cd "$root" && go run ./demo/tamper claims "$work/package.zip" "$work/forged.zip" "$gate/keys")
if $verify "$work/forged.zip" --trust "$work/trust.txt"; then fail "forged claims were not noticed"; fi

say "Say of the pipeline's changes that they had passed as reads, and re-sign everything: by the policy text in the log that cannot be"
(cd "$root" && go run ./demo/tamper decision "$work/package.zip" "$work/forged2.zip" "$gate/keys")
if $verify "$work/forged2.zip" --trust "$work/trust.txt" | tee "$work/forged2.out"; then fail "forged decisions were not noticed"; fi
grep -q 'PROBLEM.*\[decisions\].*by the policy in force it is allow by rule pipeline-writes' "$work/forged2.out" || fail "the verifier did not decide again"

if [ "$out" != "$work/package.zip" ]; then cp "$work/package.zip" "$out"; fi
if [ -n "${KEEP:-}" ]; then
  say "Left running; to try it yourself"
  cat << HELP
  cd $gate
  eval "\$($gatebook connect shop --format env)"
  PGPASSWORD=\$($gatebook dev token assistant --issuer $issuer) psql
  $gatebook session list
  $gatebook query "SELECT * FROM exchanges ORDER BY first_entry DESC LIMIT 5"
  $gatebook evidence export -o /tmp/mine.zip
  The page where people rule: http://127.0.0.1:$page (sign in as ben)
  To end it: kill ${pids[*]}; PostgreSQL: $pgbin/pg_ctl -D $pgdata stop (as its user)
HELP
else
  kill -TERM "$gate_pid"
  wait "$gate_pid" || fail "the gateway did not stop in order: $(tail -n 3 "$work/gate.log")"
fi
say "Done. The package: $out"
