#!/bin/bash
# Finds what the demo and the tests need besides Go, and installs what is missing
# with the system's package manager. "setup.sh race" adds what the race detector needs, "setup.sh bench" what the benchmark does.
set -euo pipefail

missing=()
has_server() { [ -n "${GATEBOOK_PG_BIN:-}" ] || ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || command -v initdb > /dev/null; }
has_server || missing+=(postgresql)
command -v psql > /dev/null || missing+=(postgresql-client)
# pgbench comes with the server's package on Debian.
command -v pgbench > /dev/null || ls /usr/lib/postgresql/*/bin/pgbench > /dev/null 2>&1 || missing+=(postgresql-contrib)
command -v openssl > /dev/null || missing+=(openssl)
command -v ssh-keygen > /dev/null || missing+=(openssh-client)
command -v unzip > /dev/null || missing+=(unzip)
command -v xxd > /dev/null || missing+=(xxd)
# Only `make bench` needs PgBouncer, to compare with; it lies outside of some PATHs.
if [ "${1:-}" = bench ] && ! command -v pgbouncer > /dev/null && [ ! -x /usr/sbin/pgbouncer ]; then missing+=(pgbouncer); fi
if [ "${1:-}" = race ] && ! command -v "${CC:-gcc}" > /dev/null; then missing+=(gcc libc6-dev); fi # the race detector needs cgo
[ "${#missing[@]}" -eq 0 ] && exit 0

echo "setup: missing: ${missing[*]}"
if ! command -v apt-get > /dev/null; then
  echo "setup: cannot install them: this is no Debian system. Install a PostgreSQL server (initdb, pg_ctl, psql, pgbench), openssl," >&2
  echo "setup: ssh-keygen, unzip and xxd with your package manager; GATEBOOK_PG_BIN=DIRECTORY names a server that is not in PATH." >&2
  exit 1
fi
run=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo > /dev/null || { echo "setup: run as root, or install: apt-get install ${missing[*]}" >&2; exit 1; }
  run=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
# The package would start a server of its own; nothing here needs that.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
  "${run[@]}" mkdir -p /etc/postgresql-common
  echo "create_main_cluster = false" | "${run[@]}" tee /etc/postgresql-common/createcluster.conf > /dev/null
fi
"${run[@]}" apt-get update -q > /dev/null || { echo "setup: apt-get update failed; is the network there?" >&2; exit 1; }
"${run[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}" > /dev/null ||
  { echo "setup: apt-get install ${missing[*]} failed" >&2; exit 1; }
echo "setup: installed ${missing[*]}"
