#!/usr/bin/env bash
# The suite of the signals together: attempts of a known mix, and a real OpenTelemetry Collector that writes what it gets.
# Spans, records and totals must each tell all attempts, and agree; over a restart of the agent, with a part of the
# successes, and within budgets. Needs root, and the lab built.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
. "$ROOT/scripts/checks.sh"

export LAB=${1:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/lab}

# mix NAME SETTINGS ARGS...: makes attempts with these settings of the agent, and judges what the Collector wrote.
mix() {
    export SYNSPAN_OUT=$out/$1 SYNSPAN_LAB_CONFIG=$2
    shift 2
    mkdir -p "$SYNSPAN_OUT"
    # shellcheck disable=SC2016
    "$ROOT/scripts/with-collector.sh" "$ROOT/otel-collector/pipelines/test.yaml" \
        bash -c '"$LAB" load --forward "$SYNSPAN_OTLP_GRPC" --written "$SYNSPAN_OUT" "$@"' mix "$@"
}
all='"ceiling": 0, "budget": {"rate": 0}'
check "all attempts are in spans, records and totals, and the three agree, over a restart of the agent" \
    mix all "{\"sampling\": {$all}, \"metrics\": {\"interval\": \"1s\"}}" --attempts 4000 --restart
check "deltas add up to the same" \
    mix delta "{\"sampling\": {$all}, \"metrics\": {\"interval\": \"1s\", \"temporality\": \"delta\"}}" --attempts 4000
check "with a tenth of the successes the totals are exact, all failures are there, and so is what links lead to" \
    mix ratio "{\"sampling\": {\"ratio\": 0.1, $all}, \"metrics\": {\"interval\": \"1s\"}}" --attempts 4000 --sampled
check "what goes beyond a budget is summed up, and none is missing" \
    mix budget '{"sampling": {"budget": {"rate": 5, "burst": 20}}, "metrics": {"interval": "1s"}}' \
    --attempts 4000 --refused 1500 --sampled

counted signals
