#!/usr/bin/env bash
# Builds the OpenTelemetry Collector that the tests send to, and prints the program's path. It is kept in a cache
# outside the work tree, under the hash of what it is built from, so that it is built once for each change.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
. "$ROOT/scripts/components.sh"

src=$ROOT/otel-collector/build
key=$(cd "$src" && cat ./*.go go.mod go.sum | sha256sum | cut -c 1-16)
out=$CACHE/collector-$key/otelcol
if [ -x "$out" ]; then
    echo "$out"
    exit 0
fi

say "building the Collector, one to two minutes on two cores (later runs take it from the cache)"
dir=$(dirname "$out")
mkdir -p "$dir"
# Written beside its place and moved there, so that a build that was cut short is not taken for one that is done.
tmp=$(mktemp -d "$dir/build.XXXXXX")
trap 'rm -rf "$tmp" "$LOG"' EXIT
go_build "the Collector" "$src" -ldflags='-s -w' -o "$tmp/otelcol" .
mv "$tmp/otelcol" "$out"
echo "$out"
