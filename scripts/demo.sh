#!/usr/bin/env bash
# demo.sh LAB [ARGS]: the case, live in the lab; where eBPF cannot run, replayed from a capture, which it says.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

lab=$1
shift
synspan=$(dirname "$lab")/synspan
why=
if [ "$(uname -s)" != Linux ]; then
    why="eBPF is Linux's, and this is $(uname -s)"
elif [ "$(id -u)" != 0 ]; then
    why="live capture and the lab need root"
elif ! make --no-print-directory -C "$ROOT" build; then
    why="the agent with live capture could not be built here (see above)"
elif ! "$synspan" doctor >/dev/null; then
    why="eBPF cannot run here ('$synspan doctor' says what is missing)"
fi
[ -n "$why" ] || exec "$lab" demo "$@"

say "$why: replaying a capture of the case instead"
if [ ! -x "$synspan" ]; then
    synspan=$ROOT/target/replay/debug/synspan
    "$ROOT/scripts/quietly.sh" "building synspan without live capture (the first time about a minute)" \
        "$ROOT/scripts/cargo.sh" build --locked --package synspan --no-default-features --bin synspan \
        --manifest-path "$ROOT/Cargo.toml" --target-dir "$ROOT/target/replay"
fi
exec "$synspan" replay "$ROOT/tests/captures/reuse-never-closed.pcapng"
