#!/usr/bin/env bash
# Builds the Prometheus that the tests ask, with its promtool, and prints the folder that holds the two programs. It is
# kept in a cache outside the work tree, under the hash of what it is built from, so that it is built once for each
# change.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
. "$ROOT/scripts/components.sh"

src=$ROOT/otel-collector/prometheus/build
# The module's v0.316.0 is Prometheus 3.16.0, which says "unknown" of itself without the stamp.
version=$(sed -n 's/^\tgithub\.com\/prometheus\/prometheus v0\.\([0-9]\)0*\([0-9][0-9]*\.[0-9]*\).*/\1.\2/p' "$src/go.mod")
flags="-s -w -X github.com/prometheus/common/version.Version=$version"
# Without service discovery, which would be most of the build; the tests push and scrape nothing.
tags=netgo,remove_all_sd

key=$({ cat "$src/go.mod" "$src/go.sum" && echo "$flags $tags"; } | sha256sum | cut -c 1-16)
out=$CACHE/prometheus-$key
programs=(prometheus promtool)
complete() { for p in "${programs[@]}"; do [ -x "$out/$p" ] || return 1; done; }
if complete; then
    echo "$out"
    exit 0
fi

say "building Prometheus $version and promtool, about two minutes on two cores (later runs take them from the cache)"
mkdir -p "$out"
# Written beside their place and moved there, so that a build that was cut short is not taken for one that is done.
tmp=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$tmp" "$LOG"' EXIT
go_build Prometheus "$src" -tags "$tags" -ldflags="$flags" -o "$tmp/" tool
for p in "${programs[@]}"; do mv "$tmp/$p" "$out/$p"; done
echo "$out"
