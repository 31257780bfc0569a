#!/usr/bin/env bash
# tool.sh CRATE VERSION [ARGS]: builds a program of the public registry, once, into the cache, and prints its path. ARGS
# are further ones of cargo install. It changes nothing that is installed already.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

crate=$1 version=$2
shift 2
out=$CACHE/$crate-$version/bin/$crate
if [ ! -x "$out" ]; then
    "$ROOT/scripts/setup.sh" --build
    "$ROOT/scripts/quietly.sh" "building $crate $version, some minutes (later runs take it from the cache)" \
        "$ROOT/scripts/cargo.sh" install "$crate" --version "=$version" --locked --root "$CACHE/$crate-$version" "$@"
fi
echo "$out"
