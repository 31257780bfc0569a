#!/usr/bin/env bash
# The demo, with an OpenTelemetry Collector that prints what it received.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
trap - EXIT

lab=${CARGO_TARGET_DIR:-$ROOT/target}/debug/lab
export lab
# shellcheck disable=SC2016
exec "$ROOT/scripts/with-collector.sh" "$ROOT/otel-collector/pipelines/demo.yaml" \
    bash -c '"$lab" run reuse-never-closed --family 4 --forward "$SYNSPAN_OTLP_GRPC"'
