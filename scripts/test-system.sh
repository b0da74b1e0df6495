#!/usr/bin/env bash
# The checks that need more than npm brings: Debian's PostgreSQL and Go, and Python packages. Installs what is missing
# and fails where it cannot: a check that was not made is not a check that passed.
# ASSAY_COUNTS, when set, names a file that gets one line `stage passed failed` per part.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
chmod 755 "$work"
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/assay-system
counts=${ASSAY_COUNTS:-$work/counts}
: >>"$counts"
postgres_stop=""
trap 'if [ -n "$postgres_stop" ]; then $postgres_stop || true; fi; rm -rf "$work"' EXIT

say() { printf '\n== %s\n' "$*"; }
die() { printf 'test-system: %s\n' "$*" >&2; exit 1; }
count() { printf '%s %s %s\n' "$1" "$2" "$3" >>"$counts"; printf '%s: %s passed, %s failed\n' "$1" "$2" "$3"; }
# A suite that broke off before it could count is one failure.
vitest_count() { read -r passed failed < <(node scripts/vitest-counts.mjs "${@:2}"); count "$1" "$passed" "$failed"; }

say "Debian's packages"
packages=(postgresql golang-go golang-golang-x-mod-dev python3-venv)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then as_root=(); elif sudo -n true 2>/dev/null; then as_root=(sudo -n); else
    die "install these as root first: ${missing[*]}"
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$work/apt.log" 2>&1 ||
    { cat "$work/apt.log" >&2; die "Debian's packages could not be installed: ${missing[*]}"; }
fi
echo "${packages[*]}"

say "Python's packages"
# Prints the folder of an environment that has what the files list; further arguments go to pip.
python_with() {
  local files=$1 key venv list=() file
  key=$(cat $files | sha256sum | cut -c1-16)
  venv=$cache/venv-$key
  if [ ! -x "$venv/bin/python" ] || [ ! -e "$venv/complete" ]; then
    rm -rf "$venv"
    mkdir -p "$cache"
    for file in $files; do list+=(-r "$file"); done
    { /usr/bin/python3 -m venv "$venv" &&
      "$venv/bin/pip" install -q --disable-pip-version-check "${@:2}" "${list[@]}" &&
      touch "$venv/complete"; } >&2 || return 1
  fi
  echo "$venv"
}
venv=$(python_with "sdk-python/requirements.txt tests/system/requirements.txt")
export ASSAY_SYSTEM_PYTHON=$venv/bin/python
# Clients of two families do not agree on what they both need, so each has its own environment.
text_venv=$(python_with tests/system/text-requirements.txt --no-deps)
export ASSAY_TEXT_PYTHON=$text_venv/bin/python
for one in "$venv" "$text_venv"; do
  "$one/bin/pip" freeze --disable-pip-version-check | grep -iE '^(cryptography|tritonclient|open-inference|openai|opengradient)' || true
done

say "What npm brings apart"
# Prints the folder where packages are installed that are too large for everybody's `npm ci`; none of their scripts runs.
apart() {
  local name=$1 folder
  shift
  folder=$cache/$name-$(printf '%s\n' "$@" | sha256sum | cut -c1-16)
  if [ ! -e "$folder/complete" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    printf '{ "private": true }\n' >"$folder/package.json"
    npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error "$@" >&2 || return 1
    touch "$folder/complete"
  fi
  echo "$folder"
}
# llama.cpp's CPU build alone: the packages with graphics binaries are ten times its size.
ASSAY_LLAMA_DIRECTORY=$(apart llama --omit=optional node-llama-cpp@3.22.1 "@node-llama-cpp/linux-$(node -p process.arch)@3.22.1")
# x402's client of the first version: deprecated, and in use.
ASSAY_X402_V1_DIRECTORY=$(apart x402-v1 x402-fetch@1.2.0)
ASSAY_FORGE_DIRECTORY=$(apart forge @foundry-rs/forge@1.7.1)
export ASSAY_LLAMA_DIRECTORY ASSAY_X402_V1_DIRECTORY ASSAY_FORGE_DIRECTORY
du -sh "$ASSAY_LLAMA_DIRECTORY" "$ASSAY_X402_V1_DIRECTORY" "$ASSAY_FORGE_DIRECTORY" | awk '{ print $1 }' | paste -sd' '

say "A throw-away PostgreSQL"
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)
[ -x "$bin/initdb" ] || die "Debian's postgresql package has no initdb under /usr/lib/postgresql"
port=$(node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})')
data=$work/postgres
if [ "$(id -u)" = 0 ]; then
  install -d -o postgres -g postgres -m 700 "$data"
  as_postgres=(runuser -u postgres --)
else
  install -d -m 700 "$data"
  as_postgres=()
fi
(
  cd /
  "${as_postgres[@]}" "$bin/initdb" -D "$data" -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 >/dev/null
  "${as_postgres[@]}" "$bin/pg_ctl" -D "$data" -w -l "$data/log" \
    -o "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=$data" start >/dev/null
)
postgres_stop="${as_postgres[*]} $bin/pg_ctl -D $data -m immediate -w stop -s"
export ASSAY_TEST_DATABASE_URL=postgres://postgres@127.0.0.1:$port/postgres
"$bin/postgres" --version

node scripts/build.mjs --if-stale
status=0

say "The Python verifier's own tests"
python_status=0
(cd sdk-python && "$ASSAY_SYSTEM_PYTHON" -m unittest discover .) >"$work/python.log" 2>&1 || python_status=$?
tail -n 5 "$work/python.log"
ran=$(sed -nE 's/^Ran ([0-9]+) tests? in .*/\1/p' "$work/python.log" | tail -n 1)
# Skipped ones count as failed, as everywhere here: `FAILED (failures=1, errors=2, skipped=3)`.
bad=$({ grep -oE '(failures|errors|skipped|unexpected successes)=[0-9]+' "$work/python.log" || true; } | awk -F= '{ n += $2 } END { print n + 0 }')
if [ -z "$ran" ] || [ "$ran" = 0 ] || { [ "$python_status" != 0 ] && [ "$bad" = 0 ]; }; then ran=1 bad=1; fi
if [ "$bad" != 0 ]; then status=1; cat "$work/python.log"; fi
count python-verifier $((ran - bad)) "$bad"

say "Logs before Go's checksum-database code"
go_status=0
bash tests/system/go/check.sh >"$work/go.log" 2>&1 || go_status=$?
cat "$work/go.log"
passed=$(grep -c '^pass: ' "$work/go.log" || true)
failed=$(grep -c '^FAIL: ' "$work/go.log" || true)
if [ "$passed" = 0 ] || { [ "$go_status" != 0 ] && [ "$failed" = 0 ]; }; then failed=$((failed + 1)); fi
if [ "$failed" != 0 ]; then status=1; fi
count go "$passed" "$failed"

say "Contracts"
# Each of the two comparisons is one check; of forge's tests, those that were skipped count as failed.
passed=0 failed=0
tally() { if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi; }
tally node scripts/contracts.mjs --check
tally node scripts/forge.mjs snapshot >"$work/gas.log" 2>&1
tail -n 5 "$work/gas.log"
forge_status=0
node scripts/forge.mjs test >"$work/forge.log" 2>&1 || forge_status=$?
totals=$(sed -E 's/\x1b\[[0-9;]*m//g' "$work/forge.log" |
  sed -nE 's/^Ran [0-9]+ test suites? in .*: ([0-9]+) tests? passed, ([0-9]+) failed, ([0-9]+) skipped .*/\1 \2 \3/p' | tail -n 1)
read -r ran bad skipped <<<"${totals:-0 0 0}"
passed=$((passed + ran)) failed=$((failed + bad + skipped))
if [ "$ran" = 0 ] || { [ "$forge_status" != 0 ] && [ "$bad" = 0 ]; }; then failed=$((failed + 1)); fi
if [ "$forge_status" != 0 ]; then cat "$work/forge.log"; fi
if [ "$failed" != 0 ]; then status=1; fi
count contracts "$passed" "$failed"

say "The database driver's contract over Debian's PostgreSQL"
npx --no-install vitest run --project service packages/driver-postgres/src/contract.test.ts -t "PostgreSQL by URL" \
  --reporter=default --reporter=json --outputFile.json="$work/contract.json" || status=1
vitest_count postgres-contract "$work/contract.json" --may-skip=driver-postgres/src/contract.test.ts

say "The running program before foreign clients, verifiers and databases"
npx --no-install vitest run --config vitest.system.config.ts \
  --reporter=default --reporter=json --outputFile.json="$work/system.json" || status=1
vitest_count system "$work/system.json"

awk '{ if ($3 > 0) bad = 1 } END { exit bad }' "$counts" || status=1
exit "$status"
