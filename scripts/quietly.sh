#!/usr/bin/env bash
# quietly.sh MESSAGE COMMAND...: runs the command with its output on the terminal only if it fails. The message is
# shown if the command takes longer than a second.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

message=$1
shift
"$@" >"$LOG" 2>&1 </dev/null &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; rm -f "$LOG"' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
if kill -0 "$pid" 2>/dev/null; then say "$message"; fi
if ! wait "$pid"; then
    cat "$LOG" >&2
    die "failed: $*"
fi
