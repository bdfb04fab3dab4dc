#!/bin/sh
# Checks an unpacked evidence package with standard tools.
# Usage: verify.sh PACKAGE-DIRECTORY TRUST-FILE [root | entry INDEX]
set -eu
LC_ALL=C; export LC_ALL
[ $# -ge 2 ] || { echo "usage: verify.sh PACKAGE-DIRECTORY TRUST-FILE [root | entry INDEX]" >&2; exit 2; }
trust=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
cd "$1"
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

# 1. Files: as listed, none missing, none added.
for m in manifest-sha256.txt tagmanifest-sha256.txt; do
  sha256sum --quiet --strict -c "$m" || fail "a file is not the one that $m lists"
done
find . -type f ! -path './signatures/*' ! -path ./tagmanifest-sha256.txt | sed 's#^\./##' | sort > "$tmp/have"
cat manifest-sha256.txt tagmanifest-sha256.txt | sed 's/^[0-9a-f]*  //' | sort > "$tmp/listed"
cmp -s "$tmp/have" "$tmp/listed" || fail "files are missing from the manifests, or added"
[ -z "$(find . ! -type f ! -type d)" ] || fail "the package has links or special files"
echo "files: ok"

# 2. Who packed it.
sed 's/#.*//' "$trust" > "$tmp/trust"
sed -n 's/^ssh  *//p' "$tmp/trust" | sed 's/^/exporter /' > "$tmp/signers"
for m in manifest-sha256.txt tagmanifest-sha256.txt; do
  good=
  for k in $(sed -n 's/^package  *//p' "$tmp/trust"); do
    { echo '-----BEGIN PUBLIC KEY-----'; printf '%s\n' "$k" | fold -w 64; echo '-----END PUBLIC KEY-----'; } > "$tmp/package.pem"
    if openssl dgst -sha256 -verify "$tmp/package.pem" -signature "signatures/$m.ecdsa" "$m" > /dev/null 2>&1; then good=1; fi
  done
  [ -n "$good" ] || fail "ECDSA signature of $m"
  ssh-keygen -Y verify -f "$tmp/signers" -I exporter -n gatebook-evidence -s "signatures/$m.sshsig" < "$m" > /dev/null || fail "SSH signature of $m"
done
echo "signatures: ok"

# 3. The checkpoint.
origin=$(sed -n 1p data/log/checkpoint); size=$(sed -n 2p data/log/checkpoint); root=$(sed -n 3p data/log/checkpoint)
keys=$(sed -n 's/^log  *//p' "$tmp/trust" | while read -r k; do case $k in "$origin+"*) echo "${k#"$origin"+*+}";; esac; done)
[ -n "$keys" ] || fail "the trust file has no log key of $origin"
[ "$(sed -n 's/^  "size": \([0-9]*\),*$/\1/p' data/scope.json)" = "$size" ] || fail "the checkpoint is not of the range's end"
sed -n 1,3p data/log/checkpoint > "$tmp/text"
sed -n '5s/.* //p' data/log/checkpoint | base64 -d | tail -c +5 > "$tmp/sig"
good=
for key in $keys; do
  { printf '302a300506032b6570032100' | xxd -r -p; printf '%s' "$key" | base64 -d | tail -c +2; } > "$tmp/log.der"
  if openssl pkeyutl -verify -pubin -inkey "$tmp/log.der" -keyform DER -rawin -in "$tmp/text" -sigfile "$tmp/sig" > /dev/null 2>&1; then good=1; fi
done
[ -n "$good" ] || fail "signature of the checkpoint"
echo "checkpoint: ok ($origin, $size entries)"

hash() { sha256sum | cut -c 1-64; }
node() { printf '01%s%s' "$1" "$2" | xxd -r -p | hash; }

case ${3-} in
root)
  # 4. The root over all headers, as a stack of perfect subtrees.
  n=$(sed -n 's/.*"first": *\([0-9]*\).*/\1/p' data/scope.json)
  { tr -d ' \n' < data/log/proofs.json; echo; } | sed 's/.*"frontier":\[\([^]]*\)\].*/\1/' | tr ',' '\n' | tr -d '"' | sed '/^$/d' |
    while read -r h; do printf '%s' "$h" | base64 -d | xxd -p -c 32; done > "$tmp/stack"
  set -- $(cat "$tmp/stack"); stack="$*"
  while IFS= read -r line; do
    h=$( { printf '\000'; printf '%s' "$line"; } | hash)
    m=$n
    while [ $((m % 2)) -eq 1 ]; do
      left=${stack##* }; stack=${stack%"$left"}; stack=${stack% }
      h=$(node "$left" "$h"); m=$((m / 2))
    done
    stack="${stack:+$stack }$h"; n=$((n + 1))
  done < data/log/headers.jsonl
  [ "$n" -eq "$size" ] || fail "the headers end at $n, the checkpoint at $size"
  got=
  for h in $(printf '%s\n' $stack | tac); do
    if [ -z "$got" ]; then got=$h; else got=$(node "$h" "$got"); fi
  done
  [ "$(printf '%s' "$got" | xxd -r -p | base64)" = "$root" ] || fail "the headers do not give the signed root"
  echo "root: ok"
  ;;
entry)
  # 5. One body.
  i=${4:?which entry?}
  want=$(grep "^{\"v\":1,\"i\":$i," data/log/headers.jsonl | sed 's/.*"c":"\([0-9a-f]*\)"}$/\1/')
  [ -n "$want" ] || fail "no header $i"
  line=$(grep "^{\"i\":$i," data/log/bodies.jsonl) || fail "the body of entry $i is not in the package"
  salt=${line#*'"salt":"'}; salt=${salt%%'"'*}; body=${line#*'"body":"'}; body=${body%%'"'*}
  got=$( { printf '%s' "$salt" | base64 -d; printf '%s' "$body" | base64 -d; } | hash)
  [ "$got" = "$want" ] || fail "the body of entry $i is not the one its header commits to"
  printf '%s' "$body" | base64 -d | head -c 2000 | tr -d '\000-\010\013-\037\177'; echo
  echo "entry $i: ok"
  ;;
"") ;;
*) fail "unknown step $3" ;;
esac
