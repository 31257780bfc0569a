#!/usr/bin/env bash
# The benchmark, with a real Collector for the parts that send all signals to one. Needs root, and a release build.
# bench.sh LAB [ARGS...]
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

export LAB=$1
shift
# What the Collector takes it drops: its own cost is none of the agent's.
# shellcheck disable=SC2016
exec "$ROOT/scripts/with-collector.sh" "$ROOT/otel-collector/pipelines/bench.yaml" \
    bash -c 'exec "$LAB" bench --collector "$SYNSPAN_OTLP_GRPC" "$@"' bench "$@"
