#!/usr/bin/env bash
# Makes a log, lets the Go code accept it, then changes it in one place at a time and expects a refusal each time.
# Prints one line per check and exits 1 if any comes out the other way.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOCACHE=$work/cache ASSAY_GO_VERIFY=$work/verify
cd "$root"
vkey=$(npx --no-install tsx --conditions=assay-source "$here/make-log.ts" "$work/log" "${1:-70000}")
failures=0
expect() { # expect NAME accept|refuse LOGDIR VKEY
  local got=refuse
  "$here/run.sh" "$3" "$4" >"$work/out" 2>&1 && grep -qx ok "$work/out" && got=accept
  if [ "$got" = "$2" ]; then echo "pass: $1"; else echo "FAIL: $1: $(cat "$work/out")"; failures=$((failures + 1)); fi
}
flip() { # flip FILE OFFSET: the byte at OFFSET, or from the end when negative, changes its lowest bit
  node -e 'const fs=require("fs");const b=fs.readFileSync(process.argv[1]);const i=Number(process.argv[2]);const at=i<0?b.length+i:i;b[at]^=1;fs.writeFileSync(process.argv[1],b)' "$1" "$2"
}
changed() { # changed NAME FILE OFFSET
  cp -r "$work/log" "$work/changed"
  flip "$work/changed/$2" "$3"
  expect "a flipped bit in $1 is refused" refuse "$work/changed" "$vkey"
  rm -rf "$work/changed"
}
expect "an untouched log is accepted" accept "$work/log" "$vkey"
changed "the checkpoint's size" checkpoint 16
changed "the checkpoint's root" checkpoint 30
changed "the older checkpoint's root" checkpoint.older 30
changed "the first leaf's hash" tile/0/000 0
changed "a hash in the middle of the tree" tile/1/000 4000
changed "the tile at the top" "$(cd "$work/log" && find tile/2 -type f | sort | tail -n 1)" 5
changed "the last leaf's hash" "$(cd "$work/log" && find tile/0 -path '*.p/*' -type f | sort | tail -n 1)" -1
changed "the first entry" tile/entries/000 3
changed "the last entry" "$(cd "$work/log" && find tile/entries -path '*.p/*' -type f | sort | tail -n 1)" -1
other=$(printf '%s' "$vkey" | sed 's/log.example\/go/log.example\/no/')
expect "another key is refused" refuse "$work/log" "$other"
exit $((failures > 0))
