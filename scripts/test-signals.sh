#!/usr/bin/env bash
# The suite of the signals together: attempts of a known mix, and a real OpenTelemetry Collector that writes what it gets.
# Spans, records and totals must each tell all attempts, and agree; over a restart of the agent, with a part of the
# successes, and within budgets. Two agents must keep the same traces, and neither a retry storm nor a flood of SYNs may
# drown anything or go uncounted. Needs root, and the lab built.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
. "$ROOT/scripts/checks.sh"

export LAB=${1:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/lab}

# seen NAME SETTINGS COMMAND ARGS...: has the lab do it with these settings of the agents, and judge what the Collector
# wrote.
seen() {
    export SYNSPAN_OUT=$out/$1 SYNSPAN_LAB_CONFIG=$2
    shift 2
    mkdir -p "$SYNSPAN_OUT"
    # shellcheck disable=SC2016
    "$ROOT/scripts/with-collector.sh" "$ROOT/otel-collector/pipelines/test.yaml" \
        bash -c '"$LAB" "$@" --forward "$SYNSPAN_OTLP_GRPC" --written "$SYNSPAN_OUT"' lab "$@"
}
all='"ceiling": 0, "budget": {"rate": 0}'
check "all attempts are in spans, records and totals, and the three agree, over a restart of the agent" \
    seen all "{\"sampling\": {$all}, \"metrics\": {\"interval\": \"1s\"}}" load --attempts 4000 --restart
check "deltas add up to the same" \
    seen delta "{\"sampling\": {$all}, \"metrics\": {\"interval\": \"1s\", \"temporality\": \"delta\"}}" load --attempts 4000
check "with a tenth of the successes the totals are exact, all failures are there, and so is what links lead to" \
    seen ratio "{\"sampling\": {\"ratio\": 0.1, $all}, \"metrics\": {\"interval\": \"1s\"}}" load --attempts 4000 --sampled 0.1
check "what goes beyond a budget is summed up, and none is missing" \
    seen budget '{"sampling": {"ceiling": 0, "budget": {"rate": 5, "burst": 20}}, "metrics": {"interval": "1s"}}' \
    load --attempts 4000 --refused 1500 --sampled 1
check "two agents with a tenth of the successes keep the same traces, whole, and say by which threshold" \
    seen pair "{\"sampling\": {\"ratio\": 0.1, $all}, \"metrics\": {\"interval\": \"1s\"}}" pair
check "a retry storm stays within its budgets and drowns nobody else's failures, and the sums are exact" \
    seen storm '{"sampling": {}, "metrics": {"interval": "1s"}}' \
    storm --refused 25000 --rate 2500 --dark 4000 --dark-rate 800
check "a storm beyond what the agent can follow stays within them too, and what is missing was counted as lost" \
    seen storm-beyond '{"sampling": {}, "metrics": {"interval": "1s"}}' \
    storm --refused 30000 --rate 0 --dark 5000 --dark-rate 0 --memory-mib 256
check "a flood of SYNs from addresses of nobody is one sum, to the last SYN" \
    seen flood '{"sampling": {}, "metrics": {"interval": "1s"}}' flood --syns 100000 --rate 25000

counted signals
