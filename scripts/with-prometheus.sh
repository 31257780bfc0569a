#!/usr/bin/env bash
# with-prometheus.sh COMMAND...: starts a Prometheus on this machine's loopback that takes OTLP and keeps exemplars,
# with the configuration and the alerts that the project ships, runs the command, and ends Prometheus. The command
# finds in its environment:
#   SYNSPAN_PROMETHEUS       its URL
#   SYNSPAN_PROMETHEUS_DIR   the folder with prometheus and promtool
# SYNSPAN_PROMETHEUS_CONFIG is another configuration, SYNSPAN_PROMETHEUS_PORT a port of your own choice,
# SYNSPAN_PROMETHEUS_FLAGS are further flags, separated by blanks. Its messages go to standard output, or to the file
# SYNSPAN_PROMETHEUS_LOG.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
. "$ROOT/scripts/components.sh"

[ $# -gt 0 ] || die "no command given: with-prometheus.sh COMMAND..."
programs=$("$ROOT/scripts/prometheus.sh")
config=${SYNSPAN_PROMETHEUS_CONFIG:-$ROOT/otel-collector/prometheus/prometheus.yaml}
port=${SYNSPAN_PROMETHEUS_PORT:-$(free_ports 1)}
read -r -a flags <<<"${SYNSPAN_PROMETHEUS_FLAGS:-}"
export SYNSPAN_PROMETHEUS=http://127.0.0.1:$port SYNSPAN_PROMETHEUS_DIR=$programs

dir=$(mktemp -d "${TMPDIR:-/tmp}/synspan-prometheus.XXXXXX")
pid=
# shellcheck disable=SC2317
finish() {
    [ -z "$pid" ] || { kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; }
    rm -rf "$dir"
    rm -f "$LOG"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
exec 3>&1
[ -z "${SYNSPAN_PROMETHEUS_LOG:-}" ] || exec 3>"$SYNSPAN_PROMETHEUS_LOG"
"$programs/prometheus" --config.file="$config" --storage.tsdb.path="$dir" --web.listen-address="127.0.0.1:$port" \
    --web.enable-otlp-receiver --enable-feature=exemplar-storage --log.level=warn "${flags[@]}" </dev/null >&3 2>&3 3>&- &
pid=$!
exec 3>&-
await_ok Prometheus "$pid" "$port" /-/ready 30
code=0
"$@" || code=$?
exit "$code"
