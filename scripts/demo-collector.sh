#!/usr/bin/env bash
# The demo with a real OpenTelemetry Collector: the case, and from the Collector's own file what it received.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

lab=${CARGO_TARGET_DIR:-$ROOT/target}/debug/lab
export lab
out=$(mktemp -d)
trap 'rm -rf "$out" "$LOG"' EXIT
# shellcheck disable=SC2016
SYNSPAN_OUT="$out" "$ROOT/scripts/with-collector.sh" "$ROOT/otel-collector/pipelines/test.yaml" \
    bash -c '"$lab" run reuse-never-closed --family 4 --forward "$SYNSPAN_OTLP_GRPC" >/dev/null'
[ -s "$out/traces.jsonl" ] || die "the Collector wrote no traces"
echo "What the Collector wrote, span by span:"
jq -r -s '
    def attributes: [.attributes[]? | {key, value: (.value | to_entries[0].value)}] | from_entries;
    def shown: if type == "object" then [.values[]? | to_entries[0].value] | join(", ") else tostring end;
    .[].resourceSpans[] | (.resource | attributes) as $of | .scopeSpans[].spans[]
    | "", "\(.name)   of \($of["service.name"])\(if $of["k8s.pod.name"] then ", pod " + $of["k8s.pod.name"] else "" end)",
      "  trace \(.traceId)  span \(.spanId)\(if (.parentSpanId // "") != "" then "  parent " + .parentSpanId else "" end)",
      (.links[]? | "  link to trace \(.traceId) span \(.spanId): \(attributes["synspan.link.type"])"),
      (attributes | to_entries[] | "    \(.key) = \(.value | shown)"),
      (.events[]? | "    event \(.name)  \(attributes | to_entries | map("\(.key)=\(.value | shown)") | join(" "))")' \
    "$out/traces.jsonl"
echo
echo "The log records, each by its line:"
jq -r -s '
    def attributes: [.attributes[]? | {key, value: (.value | to_entries[0].value)}] | from_entries;
    .[].resourceLogs[] | (.resource | attributes) as $of | .scopeLogs[].logRecords[] | select((.eventName // "") != "")
    | "  \(.severityText)  \(.eventName)  \($of["service.name"])  trace \(.traceId)", "    \(.body.stringValue)"' \
    "$out/logs.jsonl"
echo
echo "And of the metrics the last values of those that count attempts and reuses:"
jq -r -s '
    def attributes: [.attributes[]? | {key, value: (.value | to_entries[0].value)}] | from_entries;
    [.[].resourceMetrics[] | (.resource | attributes) as $of | .scopeMetrics[].metrics[]
        | select(.name | IN("synspan.connect.attempts", "synspan.connect.failures", "synspan.port_reuses")) | .name as $name
        | .sum.dataPoints[] | {name: $name, of: $of["service.name"], labels: attributes, value: .asInt}]
    | group_by([.name, .of, .labels])[] | last
    | "  \(.name) = \(.value)   \(.of)   \(.labels | to_entries | map("\(.key)=\(.value)") | join(" "))"' \
    "$out/metrics.jsonl"
