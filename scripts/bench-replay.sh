#!/usr/bin/env bash
# Replay of a large capture beside tshark on the same file in the same run: time and memory of both.
# BYTES sets the size (1 GiB without); CAPTURE takes a file that is there.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

for tool in tshark time; do
    type -P "$tool" >/dev/null || die "this comparison needs $tool: apt install tshark time"
done
"$ROOT/scripts/cargo.sh" build --release --locked --package synspan --no-default-features \
    --bin synspan --example capture_file
target=${CARGO_TARGET_DIR:-$ROOT/target}/release
if [ -z "${CAPTURE:-}" ]; then
    CAPTURE=$(mktemp --suffix .pcap)
    trap 'rm -f "$CAPTURE"' EXIT
    "$target/examples/capture_file" "$CAPTURE" "${BYTES:-1073741824}"
fi
echo "$(stat -c %s "$CAPTURE") bytes"
# Both find it in the page cache.
cat "$CAPTURE" >/dev/null
measure() {
    local name=$1
    shift
    command time --format "$name: %e s elapsed, %U s user, %S s system, %M KiB at most" "$@" >/dev/null
}
measure 'synspan replay' "$target/synspan" replay "$CAPTURE"
measure 'tshark -q -z conv,tcp' tshark -r "$CAPTURE" -q -z conv,tcp
