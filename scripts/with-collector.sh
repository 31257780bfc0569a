#!/usr/bin/env bash
# with-collector.sh PIPELINES COMMAND...: runs the Collector with the pipelines in the file, then the command, then
# ends the Collector, which writes out what it has. The command finds in its environment:
#   SYNSPAN_OTLP_GRPC   where the Collector takes OTLP/gRPC
#   SYNSPAN_OTLP_HTTP   where it takes OTLP/HTTP
# The folder for what it writes is SYNSPAN_OUT, and must exist; its own messages go to standard output, or to
# the file SYNSPAN_COLLECTOR_LOG.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
. "$ROOT/scripts/components.sh"

config=$1
shift
otelcol=$("$ROOT/scripts/collector.sh")
SYNSPAN_OUT=${SYNSPAN_OUT:-${TMPDIR:-/tmp}}

read -r -d '' grpc http health < <(free_ports 3) || true
export SYNSPAN_OTLP_GRPC=127.0.0.1:$grpc SYNSPAN_OTLP_HTTP=127.0.0.1:$http SYNSPAN_HEALTH=127.0.0.1:$health SYNSPAN_OUT

exec 3>&1
[ -z "${SYNSPAN_COLLECTOR_LOG:-}" ] || exec 3>"$SYNSPAN_COLLECTOR_LOG"
"$otelcol" --config "$config" </dev/null >&3 2>&3 3>&- &
pid=$!
exec 3>&-
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -f "$LOG"' EXIT
await_ok "the Collector" "$pid" "$health" / 10
code=0
"$@" || code=$?
# What came last is written within the exporters' interval, and the service graph within its own.
sleep 1
exit "$code"
