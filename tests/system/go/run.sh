#!/usr/bin/env bash
# Checks a log directory with Go's checksum-database code from Debian's packages golang-go and
# golang-golang-x-mod-dev. Prints ok, or the reason for refusal and exits 1. Usage: run.sh LOGDIR VKEY
set -euo pipefail
if [ $# -ne 2 ]; then
  echo "usage: run.sh LOGDIR VKEY" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
go=$(command -v go || ls /usr/lib/go-*/bin/go 2>/dev/null | tail -n 1 || true)
if [ -z "$go" ] || [ ! -d /usr/share/gocode/src/golang.org/x/mod/sumdb/tlog ]; then
  echo "install golang-go and golang-golang-x-mod-dev first" >&2
  exit 3
fi
# Debian lays its libraries out as a GOPATH; nothing is fetched.
export GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= GOTOOLCHAIN=local
export GOCACHE=${GOCACHE:-$(mktemp -d)}
# Built once per directory of run files and source, so that repeated checks are quick.
binary=${ASSAY_GO_VERIFY:-}
if [ -z "$binary" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  binary=$work/verify
fi
if [ ! -x "$binary" ]; then (cd "$here" && "$go" build -o "$binary" verify.go); fi
"$binary" "$1" "$2"
