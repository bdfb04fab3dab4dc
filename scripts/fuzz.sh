#!/bin/bash
# Runs every fuzz target in turn for the given time.
set -euo pipefail
time=${1:-10s}
cd "$(dirname "$0")/.."
grep -rlE '^func Fuzz[A-Za-z0-9_]+\(' --include='*_test.go' . | sort | while read -r file; do
  for name in $(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' "$file"); do
    echo "== $(dirname "$file") $name"
    go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "./$(dirname "$file")" < /dev/null
  done
done
