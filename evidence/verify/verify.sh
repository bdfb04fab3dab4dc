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

# 1. Files: as listed, none missing, none added. No list names the signatures and the tag manifest.
for m in manifest-sha256.txt tagmanifest-sha256.txt; do
  sha256sum --quiet --strict -c "$m" || fail "a file is not the one that $m lists"
done
find . -type f | sed 's#^\./##' | sort > "$tmp/have"
{
  sed 's/^[0-9a-f]*  //' manifest-sha256.txt; sed 's/^[0-9a-f]*  //' tagmanifest-sha256.txt; echo tagmanifest-sha256.txt
  for m in manifest-sha256.txt tagmanifest-sha256.txt; do echo "signatures/$m.ecdsa"; echo "signatures/$m.sshsig"; done
} | sort > "$tmp/listed"
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

# The headers, one a line, each at its place. All tools must see the same lines: no line without an end, no bytes that a shell drops.
first=$(sed -n 's/^  "first": \([0-9]*\),*$/\1/p' data/scope.json)
case $first in 0 | [1-9]*) ;; *) fail "the scope has no first entry";; esac
for f in headers bodies; do
  [ -z "$(tr -d '\n\040-\176' < "data/log/$f.jsonl" | head -c 1 | xxd -p)" ] || fail "data/log/$f.jsonl has bytes that are no text"
  [ ! -s "data/log/$f.jsonl" ] || [ "$(tail -c 1 "data/log/$f.jsonl" | xxd -p)" = 0a ] || fail "the last line of data/log/$f.jsonl is not finished"
done
end=$((first + $(wc -l < data/log/headers.jsonl)))
[ "$end" -eq "$size" ] || fail "the headers end at $end, the checkpoint at $size"

hash() { sha256sum | cut -c 1-64; }
node() { printf '01%s%s' "$1" "$2" | xxd -r -p | hash; }

case ${3-} in
root)
  # 4. The root over all headers, as a stack of perfect subtrees.
  n=$first
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
  case $i in 0 | [1-9]*) ;; *) fail "$i is not the number of an entry";; esac
  case $i in *[!0-9]*) fail "$i is not the number of an entry";; esac
  { [ "$i" -ge "$first" ] && [ "$i" -lt "$size" ]; } || fail "entry $i is not in the range"
  header=$(sed -n "$((i - first + 1))p" data/log/headers.jsonl)
  case $header in "{\"v\":1,\"i\":$i,"*) ;; *) fail "the header at the place of entry $i is of another";; esac
  want=$(printf '%s\n' "$header" | sed -n 's/.*"c":"\([0-9a-f]*\)"}$/\1/p')
  [ -n "$want" ] || fail "no header $i"
  line=$(grep "^{\"i\":$i," data/log/bodies.jsonl) || fail "the body of entry $i is not in the package"
  [ "$(printf '%s\n' "$line" | wc -l)" -eq 1 ] || fail "the package has more than one body of entry $i"
  salt=${line#*'"salt":"'}; salt=${salt%%'"'*}; body=${line#*'"body":"'}; body=${body%%'"'*}
  [ "$(printf '%s' "$salt" | base64 -d | wc -c)" -eq 32 ] || fail "the salt of entry $i has another length"
  got=$( { printf '%s' "$salt" | base64 -d; printf '%s' "$body" | base64 -d; } | hash)
  [ "$got" = "$want" ] || fail "the body of entry $i is not the one its header commits to"
  printf '%s' "$body" | base64 -d | head -c 2000 | tr -d '\000-\010\013-\037\177'; echo
  echo "entry $i: ok (what its header commits to; the step root says whether the book has that header)"
  ;;
"") ;;
*) fail "unknown step $3" ;;
esac
